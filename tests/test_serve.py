"""The HTTP service, in this process: its answers, its errors, its bounds."""

import io
import json
import re
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from starlette.testclient import TestClient

from language.memory import opening
from language.records import ElementList
from language.rules import violations
from pipeline.api.app import Serving, create_app
from pipeline.api.bodies import MOST_BYTES, base_name
from pipeline.api.engine import Engine
from tests.conftest import PHOTOS
from tests.helpers import run_module

CAT = (PHOTOS / "cat.jpg").read_bytes()
KEYS = ["image", "width", "height", "elements", "input", "comment", "comments", "timings_ms", "error", "tender"]


@pytest.fixture(scope="module")
def engine(commenter) -> Engine:
    return Engine(commenter)


@pytest.fixture(scope="module")
def client(engine):
    with TestClient(create_app(engine)) as client:
        yield client


def post_photo(client, data: bytes, name: str = "cat.jpg", **fields):
    return client.post("/v1/comments", files={"photo": (name, data)}, data=fields)


def test_a_photo_gets_the_json_of_the_contract(client):
    answer = post_photo(client, CAT, count=3)
    row = answer.json()
    assert answer.status_code == 200 and list(row) == KEYS and row["image"] == "cat.jpg" and row["error"] is None
    assert (row["width"], row["height"]) == Image.open(io.BytesIO(CAT)).size and row["input"].startswith("고양이")
    stages = {"decode", "objects", "emotion", "scenes", "elements", "write", "total"}
    assert set(row["timings_ms"]) == stages
    assert len({c["text"] for c in row["comments"]}) == 3 and row["comment"] == row["comments"][0]["text"]
    for c in row["comments"]:
        assert all(c["text"][s["start"] : s["end"]] == s["text"] for s in c["evidence"])


def test_the_service_says_what_the_command_says(client, commenter):
    row = post_photo(client, CAT, seed=3).json()
    assert row["comment"] == commenter.comment(PHOTOS / "cat.jpg", seed=3).comment


@pytest.mark.parametrize(
    ("elements", "lang", "expected"),
    [
        ("당황, 모자", "ko", "당황, 모자"),  # a text
        (["Hat", "panic"], "en", "startled, hat"),  # ids, in any order
        ([{"id": "Hat", "name": "cap"}, "우주선"], "ko", "모자, 우주선"),  # an id stands, unknown words stay
        ([{"name": "공포"}], "ko", "당황"),  # an old name
        ([], "ko", "사진"),  # nothing
        ("", "en", "photo"),  # nothing, as a text
    ],
)
def test_told_elements_get_comments(client, elements, lang, expected):
    for path in ("/v1/comments", "/v1/comments:rewrite"):
        row = client.post(path, json={"elements": elements, "lang": lang}).json()
        assert row["input"] == expected and row["image"] is row["width"] is row["height"] is None
        assert violations(row["comment"], ElementList.parse(row["input"], lang)) == []


def test_told_elements_in_a_form(client):
    row = client.post("/v1/comments", data={"elements": "모자", "style": "casual"}, files={}).json()
    assert "error" in row  # not multipart
    row = client.post("/v1/comments", files={"elements": (None, "모자"), "style": (None, "casual")}).json()
    assert row["input"] == "모자" and violations(row["comment"], ElementList.parse("모자"), "casual") == []


def test_edited_elements_keep_their_boxes_and_change_the_comment(client):
    seen = post_photo(client, (PHOTOS / "astronaut.jpg").read_bytes(), "a.jpg").json()
    flag = next(e for e in seen["elements"] if e["id"] == "Flag")
    without = [e for e in seen["elements"] if e is not flag]
    row = client.post("/v1/comments:rewrite", json={"elements": without}).json()
    assert row["elements"] == without and "깃발" not in row["comment"]
    renamed = [*without, {**flag, "id": None, "name": "모자"}]
    row = client.post("/v1/comments:rewrite", json={"elements": renamed}).json()
    assert row["elements"][-1] == {**flag, "id": "Hat", "name": "모자"}
    row = client.post("/v1/comments:rewrite", json={"elements": renamed[-1:]}).json()
    assert "모자" in row["comment"]


def test_what_is_named_twice_becomes_one(client):
    boxes = [[0, 0, 5, 5]], [[9, 9, 20, 20]]
    body = {"elements": [{"name": "모자", "boxes": boxes[0], "score": 0.5}, {"name": "Hat", "boxes": boxes[1]}]}
    (hat,) = client.post("/v1/comments:rewrite", json=body).json()["elements"]
    assert hat["count"] == 2 and hat["boxes"] == [*boxes[0], *boxes[1]] and hat["score"] == 1


def test_what_was_said_is_not_said_again(client):
    ask = lambda avoid: client.post("/v1/comments", json={"elements": "모자", "avoid": avoid}).json()["comment"]
    said = [ask([])]
    for _ in range(3):
        said.append(ask(said))
    assert len({opening(text) for text in said}) == 4


@pytest.mark.parametrize(
    ("elements", "because"),
    [
        ("슬픔, 모자", ["sad"]),  # a feeling
        ("휠체어, 모자", ["Wheelchair"]),  # a thing
        ("장례식장", ["장례식장"]),  # a word no class stands for
        ("기쁨, 슬픔", None),  # a smile beside
        ("모자", None),
    ],
)
def test_tender_moments_say_why(client, elements, because):
    tender = client.post("/v1/comments", json={"elements": elements}).json()["tender"]
    assert (tender and tender["because"]) == because and (not tender or elements.split(", ")[0] in tender["reason"])


def test_labels(client):
    for lang, name in (("ko", "모자"), ("en", "hat")):
        labels = client.get("/v1/labels", params={"lang": lang}).json()["labels"]
        names = {row["id"]: row["name"] for row in labels}
        assert names["Hat"] == name and "neutral" not in names and "Person" not in names and len(names) > 550


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "request_", "status", "kind"),
    [
        ("/v1/comments", {"files": {"photo": ("a.jpg", b"")}}, 400, "empty_file"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", b"no photo")}}, 415, "not_an_image"),  # type by content
        ("/v1/comments", {"files": {"photo": ("a.svg", b"<svg><script>1</script></svg>")}}, 415, "not_an_image"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT[:9000])}}, 422, "damaged"),
        ("/v1/comments", {"files": {"image": ("a.jpg", CAT)}}, 422, "bad_request"),  # another field's name
        ("/v1/comments", {"files": {"photo": (None, "text")}}, 422, "bad_request"),  # no file
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT)}, "data": {"count": "many"}}, 422, "bad_request"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT)}, "data": {"count": "0"}}, 422, "bad_request"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT)}, "data": {"lang": "fr"}}, 422, "bad_request"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT)}, "data": {"colour": "red"}}, 422, "bad_request"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT)}, "data": {"elements": "모자"}}, 422, "bad_request"),
        ("/v1/comments", {"files": {"photo": ("a.jpg", CAT)}, "data": {"writer": "/etc"}}, 422, "no_such_writer"),
        ("/v1/comments", {"json": {}}, 422, "bad_request"),  # no elements
        ("/v1/comments", {"json": {"elements": "모자", "seed": -1}}, 422, "bad_request"),
        ("/v1/comments", {"json": {"elements": ["a,b"]}}, 422, "bad_request"),  # a comma parts names
        ("/v1/comments", {"json": {"elements": ["x" * 41]}}, 422, "bad_request"),
        ("/v1/comments", {"json": {"elements": [{"name": "모자", "boxes": [[1, 2, 3]]}]}}, 422, "bad_request"),
        ("/v1/comments", {"content": b"{", "headers": JSON}, 422, "bad_request"),  # broken JSON
        ("/v1/comments", {"content": b'{"elements": "\\ud800"}', "headers": JSON}, 422, "bad_request"),  # half a letter
        ("/v1/comments", {"content": b" " * 300_000, "headers": JSON}, 413, "too_large"),
        ("/v1/comments", {"content": CAT, "headers": {"Content-Type": "image/jpeg"}}, 415, "media_type"),
        ("/v1/comments", {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_multipart"),
        ("/v1/comments:rewrite", {"files": {"photo": ("a.jpg", CAT)}}, 415, "media_type"),
        ("/v1/feedback", {"files": {"correction": (None, "{}")}}, 403, "not_saved"),  # off by default
        ("/v1/nothing", {"json": {}}, 405, "method_not_allowed"),
    ],
)
def test_mistakes_are_answered_in_one_shape(client, path, request_, status, kind):
    answer = client.post(path, **request_)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, kind)
    assert set(error) == {"type", "message"} and error["message"] and "Traceback" not in answer.text


@pytest.mark.parametrize("length", [None, "30000000"])
def test_a_large_body_is_refused_with_or_without_its_length(client, length):
    body = (b"\0" * 1_000_000 for _ in range(MOST_BYTES // 1_000_000 + 2))
    headers = {"Content-Type": "multipart/form-data; boundary=x"} | ({"Content-Length": length} if length else {})
    answer = client.post("/v1/comments", content=body, headers=headers)
    assert answer.status_code == 413 and "20 MB" in answer.json()["error"]["message"]


def test_huge_dimensions_are_refused(client):
    bomb = io.BytesIO()
    Image.new("1", (9000, 9000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 20_000
    answer = post_photo(client, bomb.getvalue(), "bomb.png")
    assert answer.status_code == 413 and "50 megapixels" in answer.json()["error"]["message"]


def test_no_photo_touches_a_disk(client, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *a, **k: pytest.fail("an upload was spooled to a file"))
    large = io.BytesIO()
    Image.open(PHOTOS / "cat.jpg").resize((2400, 1600)).save(large, "BMP")
    assert len(large.getvalue()) > 10_000_000
    assert post_photo(client, large.getvalue(), "cat.bmp").json()["width"] == 2400


def test_exif_is_obeyed_and_never_echoed(client):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SECRETCAMERA"  # orientation, maker
    exif.get_ifd(0x8825)[1] = "NSECRETPLACE"  # GPS
    photo = io.BytesIO()
    Image.open(PHOTOS / "cat.jpg").save(photo, "JPEG", exif=exif)
    answer = post_photo(client, photo.getvalue())
    assert answer.json()["width"] == 300 and "SECRET" not in answer.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("/", "photo"),
        ("..", "photo"),
        ("a\x00b\n.jpg", "ab.jpg"),
        ("고양이.jpg", "고양이.jpg"),
        ("x" * 500, "x" * 120),
    ],
)
def test_only_a_base_name_is_told_back(given, told):
    assert base_name(given) == told


class Stub:
    """An engine that waits for an event, or fails."""

    def __init__(self, error: Exception | None = None):
        self.go, self.error, self.begun = threading.Event(), error, threading.Semaphore(0)

    def lang(self, wish):
        return "ko"

    def options(self):
        return {}

    def listed(self, elements, wish):
        self.begun.release()
        if self.error:
            raise self.error
        self.go.wait(20)
        comment = {"text": "좋아요", "score": 0, "source": "model", "evidence": []}
        empty = dict.fromkeys(KEYS) | {"elements": [], "input": "", "comment": "좋아요"}
        return {**empty, "comments": [comment], "timings_ms": {"write": 1.0}}


def test_a_full_queue_sends_away_and_says_when_to_come_back():
    stub = Stub()
    with TestClient(create_app(stub, Serving(workers=1, queue=1))) as client, ThreadPoolExecutor(2) as pool:
        ask = lambda: client.post("/v1/comments", json={"elements": ""})
        inside = [pool.submit(ask), pool.submit(ask)]
        stub.begun.acquire(timeout=10)
        while client.get("/health").json()["inside"] < 2:
            pass
        answer = ask()
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["type"] == "busy"
        stub.go.set()
        assert [job.result().status_code for job in inside] == [200, 200] and ask().status_code == 200
        assert 'status="503"} 1.0' in client.get("/metrics").text and client.get("/health").json()["inside"] == 0


def test_work_past_its_time_is_given_up_but_keeps_its_place():
    stub = Stub()
    with TestClient(create_app(stub, Serving(workers=1, queue=0, timeout=0.3))) as client:
        answer = client.post("/v1/comments", json={"elements": ""})
        assert answer.status_code == 503 and answer.json()["error"]["type"] == "timeout"
        assert client.post("/v1/comments", json={"elements": ""}).json()["error"]["type"] == "busy"
        stub.go.set()
        while client.get("/health").json()["inside"]:
            pass
        assert client.post("/v1/comments", json={"elements": ""}).status_code == 200


def test_an_error_inside_tells_nothing_of_itself():
    app = create_app(Stub(RuntimeError("/secret/path")))
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/v1/comments", json={"elements": ""})
        assert answer.status_code == 500 and answer.json()["error"]["type"] == "internal"
        assert "secret" not in answer.text and client.get("/health").json()["inside"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": "ключ"}, 401),
        ({"Authorization": "Basic right"}, 401),
        ({"X-API-Key": "right"}, 200),
        ({"Authorization": "Bearer right"}, 200),
    ],
)
def test_the_api_key(headers, status):
    stub = Stub()
    stub.go.set()
    headers = {name: value.encode() for name, value in headers.items()}
    with TestClient(create_app(stub, Serving(api_key="right"))) as client:
        assert client.post("/v1/comments", json={"elements": ""}, headers=headers).status_code == status
        assert client.get("/v1/labels", headers=headers).status_code == status
        assert client.get("/health").status_code == client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("cors", "origin", "status", "allowed"),
    [
        (None, "http://testserver", 200, None),  # the page's own
        (None, "https://elsewhere.org", 403, None),
        ("https://elsewhere.org", "https://elsewhere.org", 200, "https://elsewhere.org"),
        ("https://elsewhere.org", "https://third.org", 403, None),
    ],
)
def test_other_origins(cors, origin, status, allowed):
    stub = Stub()
    stub.go.set()
    with TestClient(create_app(stub, Serving(cors=cors))) as client:
        answer = client.post("/v1/comments", json={"elements": ""}, headers={"Origin": origin})
        assert answer.status_code == status and answer.headers.get("access-control-allow-origin") == allowed


def test_figures_and_the_interface_document(client):
    text = client.get("/metrics").text
    assert 'daetgeul_requests_total{path="/v1/comments",status="200"}' in text and "daetgeul_stage_seconds" in text
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/comments"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"} and body["application/json"]["schema"]["examples"]
    assert not re.search(r'"\$ref": ?"#/\$defs', json.dumps(document))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--queue", "-1"], "--queue must be at least 0"),
        (["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["--save-feedback", "no/such/file.jsonl"], "does not exist"),
        (["--host", "192.0.2.1"], "cannot answer on 192.0.2.1:8000"),  # not ours
    ],
)
def test_wrong_usage_is_one_line(args, message):
    assert run_module("pipeline.serve", *args).refuses(message)


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run_module("pipeline.serve", "--port", port).refuses(f"cannot answer on 127.0.0.1:{port}")
