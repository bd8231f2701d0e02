"""The page: whole, offline, in two languages; and driven by a real browser."""

import re
import shutil

import pytest
from starlette.testclient import TestClient

from pipeline.api.app import PAGE, create_app
from tests.conftest import PHOTOS
from tests.service import running

FILES = {name: (PAGE / name).read_text("utf-8") for name in ("index.html", "page.css", "page.js")}


def test_the_page_is_served_under_a_strict_policy():
    with TestClient(create_app(None)) as client:
        answer = client.get("/")
        assert answer.status_code == 200 and "page.js" in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "http" not in answer.headers["content-security-policy"]
        for name in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            assert client.get(f"/{name}").status_code == 200, name
        assert client.get("/../app.py").status_code == client.get("/%2e%2e/run.py").status_code == 404


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_elsewhere(name):
    assert not re.search(r"(?:https?:)?//[a-z]|@import|eval\(|innerHTML", FILES[name].replace("// ", ""))
    assert not re.search(r'\sstyle="|\son\w+="', FILES["index.html"])  # the policy would forbid it


def test_both_languages_say_everything():
    ko, en = re.findall(r"^  (?:ko|en): \{\n(.*?)^  \},", FILES["page.js"], re.S | re.M)
    keys = [set(re.findall(r"(\w+): ", re.sub('"[^"]*"|`[^`]*`', "", text))) for text in (ko, en)]
    used = {*re.findall(r'data-(?:word|label|hint)="(\w+)"', FILES["index.html"])}
    used |= {*re.findall(r'word\("(\w+)"\)', FILES["page.js"])}
    assert keys[0] == keys[1] and len(used) > 20 and used <= keys[0]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with sync_api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    with running(folder, "--save-feedback", folder / "corrections.jsonl") as service:
        yield service


@pytest.fixture
def page(browser, service):
    """The page in Korean with the astronaut's comments on it; any error of its scripts fails the test."""
    context = browser.new_context(locale="ko-KR", permissions=["clipboard-read", "clipboard-write"])
    page, problems = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: m.type != "error" or "status of 415" in m.text or problems.append(m.text))
    page.on("request", lambda r: r.url.startswith(service.url) or problems.append(f"asked for {r.url}"))
    page.goto(service.url)
    page.set_input_files("#file", PHOTOS / "astronaut.jpg")
    page.wait_for_selector(".comment")
    yield page
    assert problems == []
    context.close()


def texts(page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def answered(page, act) -> dict:
    """What the service answers to what `act` causes, shown on the page."""
    with page.expect_response(lambda r: "/v1/comments" in r.url) as caught:
        act()
    answer = caught.value.json()
    page.wait_for_function("first => document.querySelector('.comment p').textContent === first", arg=answer["comment"])
    return answer


@pytest.mark.slow
def test_upload_boxes_comments_and_evidence(page):
    assert texts(page, ".chip .name") == texts(page, ".box span") == ["기쁨", "깃발"]
    assert len(set(texts(page, ".comment p"))) == 3
    page.locator("mark").first.focus()  # by keyboard, too
    assert page.locator(".box.on").count() == 1 and texts(page, ".box.on span") == ["깃발"]
    frame, box = page.locator("#canvas").bounding_box(), page.locator(".box").last.bounding_box()
    assert frame["x"] - 1 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1


@pytest.mark.slow
def test_elements_are_removed_renamed_and_added(page):
    before = texts(page, ".comment p")
    answer = answered(page, lambda: page.get_by_role("button", name="깃발: 지우기").click())
    assert [e["id"] for e in answer["elements"]] == ["happy"] and texts(page, ".box span") == ["기쁨"]
    assert texts(page, ".comment p") != before and not any("깃발" in text for text in texts(page, ".comment p"))

    page.locator("#word").fill("헬멧")
    answer = answered(page, lambda: page.locator("#word").press("Enter"))
    assert texts(page, ".chip .name") == ["기쁨", "헬멧"] and "헬멧" in answer["comment"]

    page.get_by_role("button", name="헬멧: 이름 고치기").click()
    page.locator(".chip input").fill("모자")
    answer = answered(page, lambda: page.locator(".chip input").press("Enter"))
    assert answer["elements"][1]["id"] == "Hat" and "모자" in answer["comment"]


@pytest.mark.slow
def test_copy_and_save_a_correction(page, service):
    page.locator(".copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == texts(page, ".comment p")[0]
    assert not (service.folder / "corrections.jsonl").exists()  # off by default
    page.locator("#keep").check()
    with page.expect_response(lambda r: "/v1/feedback" in r.url) as caught:
        page.locator(".copy").first.click()
    assert caught.value.status == 201
    assert "깃발" in (service.folder / "corrections.jsonl").read_text("utf-8")
    assert len(list((service.folder / "corrections_photos").iterdir())) == 1


@pytest.mark.slow
def test_languages_styles_writers_and_looks(page):
    answer = answered(page, lambda: page.locator("#lang input[value=en]").check(force=True))
    assert answer["input"] == "happy, flag" and texts(page, ".chip .name") == ["happy", "flag"]
    answered(page, lambda: page.locator("#style input[value=casual]").check(force=True))
    answered(page, lambda: page.locator("#writer input[value=gpt2]").check(force=True))
    page.locator("#interface").click()
    assert page.locator("#told h2").inner_text() == "What was seen"
    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.slow
def test_a_tender_photo_and_a_broken_one(page):
    page.locator("#word").fill("휠체어")
    answer = answered(page, lambda: page.locator("#word").press("Enter"))
    assert answer["tender"]["because"] == ["Wheelchair"] and "휠체어" in page.locator("#tender").inner_text()
    page.set_input_files("#next", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"no photo"})
    page.wait_for_selector("#problem:visible")
    assert "사진이 아니거나" in page.locator("#problem").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_runs_over_the_edge(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "[...document.querySelectorAll('button, .button')].filter(b => b.offsetParent && b.offsetHeight < 38).length"
    )
    assert small == 0  # large enough for a finger
