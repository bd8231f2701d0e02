"""A label pack in a new language: asked name by name, collisions told, a reviewer's words kept."""

import csv
import json

import pytest

from common.errors import UserError
from configs.load import load_settings
from datagen.jobs import plan, run_job
from datagen.labels import LabelJob, LabelSettings
from detection.labels import KNOWN_IDS, OBJECT_IDS, lint, load_pack
from tests.conftest import ROOT
from tests.helpers import Answers, run_module

CONFIG = ROOT / "configs/datagen/labels.yaml"


def job(tmp_path, **fields) -> LabelJob:
    fields = {"out": tmp_path / "out", "concurrency": 2, "glossary": "null", "rpm": "null", "tpm": "null", **fields}
    return LabelJob(load_settings(CONFIG, LabelSettings, [f"{name}={value}" for name, value in fields.items()]))


def translated(question: str) -> dict:
    """A language where every word begins with n."""
    return {"name": "n " + question.splitlines()[0].partition(": ")[2]}


def review(tmp_path) -> dict[str, dict]:
    with (tmp_path / "out/review.csv").open(encoding="utf-8-sig", newline="") as lines:
        return {row["id"]: row for row in csv.DictReader(lines)}


def write_review(tmp_path, changes: dict[str, str], encoding="utf-8-sig") -> None:
    rows = review(tmp_path)
    for label, name in changes.items():
        rows[label]["reviewed"] = name
    with (tmp_path / "out/review.csv").open("w", encoding=encoding, newline="") as out:
        writer = csv.DictWriter(out, list(rows["Hat"]))
        writer.writeheader()
        writer.writerows(rows.values())


def test_a_whole_pack_is_translated(tmp_path):
    glossary = tmp_path / "glossary.csv"
    glossary.write_text("source,translation\nHat,chapeau\npanic,surpris\nbicycle,vélo\n", "utf-8")
    made = job(tmp_path, glossary=glossary, language="fr", language_name="French")
    provider = Answers(translated)
    assert (
        run_job(made, provider=provider) and provider.asked == len(KNOWN_IDS) - 3
    )  # the glossary's own need not be asked
    pack = json.loads((tmp_path / "out/pack.json").read_text("utf-8"))
    assert lint(pack) == [] and list(pack["objects"]) == list(OBJECT_IDS)
    assert (pack["objects"]["Hat"], pack["emotions"]["panic"], pack["objects"]["Tea"]) == (
        "chapeau",
        "surpris",
        "n tea",
    )
    rows = review(tmp_path)
    assert rows["Hat"]["origin"] == "glossary" and rows["Tea"]["origin"] == "model" and not rows["Tea"]["problems"]
    assert rows["Bicycle wheel"]["problems"] == "the glossary says 'vélo' for 'bicycle'"
    asked = {item.key: item.request.messages[-1]["content"] for item in made.items()}
    assert "Glossary: bicycle = vélo" in asked["Bicycle wheel"] and "ko: 박쥐" in asked["Bat (Animal)"]


def test_a_name_that_is_taken_is_asked_again(tmp_path):
    """Defect 4: the original called car and tea 차; nine such groups stood in its pack."""
    said = {"car": ["차"], "tea": ["차", "마시는 차"], "boat": ["배"], "pear": ["배", "배"]}
    told = []

    def answer(question: str) -> dict:
        if "already" in question:
            told.append(question)
        names = said.get(answer.last) if "already" in question else said.get(translated(question)["name"][2:])
        answer.last = answer.last if "already" in question else translated(question)["name"][2:]
        return {"name": names.pop(0) if names else f"이름 {len(told) + answer.count()}"}

    numbers = iter(range(10000))
    answer.count, answer.last = lambda: next(numbers), ""
    made = job(tmp_path, language="ko", language_name="Korean", concurrency=1)
    assert not run_job(made, provider=Answers(answer))
    assert "'차' is the name of 'Car' already" in told[-1] and len(told) == 2
    rows = review(tmp_path)
    assert rows["Tea"]["translation"] == "마시는 차" and not rows["Car"]["problems"]
    assert rows["Pear"]["origin"] == "failed" and "is the name of 'Boat' already" in rows["Pear"]["problems"]
    assert rows["Boat"]["problems"] == "the name of Pear, too"
    assert not (tmp_path / "out/pack.json").exists()
    again = job(tmp_path, language="ko", language_name="Korean")  # knows the names of the run before
    provider = Answers(lambda _: {"name": "배"})
    assert not run_job(again, retry_failed=True, provider=provider) and provider.asked == 2
    assert review(tmp_path)["Pear"]["origin"] == "failed"
    assert run_job(again, retry_failed=True, provider=Answers(lambda _: {"name": "먹는 배"}))
    assert json.loads((tmp_path / "out/pack.json").read_text("utf-8"))["objects"]["Pear"] == "먹는 배"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
def test_a_reviewer_has_the_last_word(tmp_path, capsys, encoding):
    bad = lambda question: (
        {"name": "a, b"} if question.startswith("Name: tea\n") or "cannot" in question else translated(question)
    )
    made = job(tmp_path, language="xx")
    assert not run_job(made, provider=Answers(bad))
    assert "1 problems, as Tea; fill the column `reviewed`" in capsys.readouterr().err
    assert review(tmp_path)["Tea"]["problems"].startswith("the name has ',' in it")
    write_review(tmp_path, {"Tea": "茶" if encoding != "cp949" else "홍차", "Hat": "n tea hat"}, encoding)
    provider = Answers(bad)
    assert run_job(job(tmp_path, language="xx"), provider=provider) and provider.asked == 0
    pack = json.loads((tmp_path / "out/pack.json").read_text("utf-8"))
    assert pack["objects"]["Hat"] == "n tea hat" and len(pack["objects"]["Tea"]) < 3
    assert review(tmp_path)["Hat"]["origin"] == "reviewer" and review(tmp_path)["Hat"]["translation"] == "n hat"
    write_review(tmp_path, {"Hat": "n tea; hat", "Car": "n boat"})
    run_job(job(tmp_path, language="xx"), provider=provider)
    rows = review(tmp_path)
    assert "the name has ';'" in rows["Hat"]["problems"] and rows["Boat"]["problems"] == "the name of Car, too"
    assert not (tmp_path / "out/pack.json").exists()


def test_what_a_reviewer_writes_while_it_runs_is_kept(tmp_path):
    run_job(job(tmp_path), limit=3, provider=Answers(translated))

    def answer(question):
        if review(tmp_path)["Hat"]["reviewed"] == "":
            write_review(tmp_path, {"Hat": "n bonnet"})
        return translated(question)

    run_job(job(tmp_path), limit=5, provider=Answers(answer))
    assert review(tmp_path)["Hat"]["reviewed"] == "n bonnet"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ('{"name": ""}', "the name is empty"),
        ('{"name": "가나다라마바사아자차카타파하가나다라마바사아자차카타파하가나다라"}', "write at most 30"),
        ('{"name": "모자 (의류)"}', "has '(' in it"),
        ('{"name": "hat 모자"}', "not written in Korean script"),
        ('{"translation": "모자"}', "name: Field required"),
        ("모자", "not one complete JSON object"),
    ],
)
def test_bad_names_are_told_why(tmp_path, reply, problem):
    made = job(tmp_path, language="ko", language_name="Korean")
    assert problem in " ".join(made.check(reply, {"id": "Hat"})[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source\nhat\n", "lacks the columns translation"),
        ("source,translation\nhat,a\nbycicle,b\n", "no name has 'bycicle' in it"),
        ("source,translation\nhat,\n", "row 2: source or translation is empty"),
        ("source,translation\nhat,a\nHat,b\n", "row 3: 'hat' is both 'a' and 'b'"),
    ],
)
def test_bad_glossaries_are_one_line(tmp_path, content, message):
    (tmp_path / "g.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        job(tmp_path, glossary=tmp_path / "g.csv")


def test_a_spoiled_review_is_one_line_and_stays(tmp_path):
    (tmp_path / "out").mkdir()
    file = tmp_path / "out/review.csv"
    for content, message in (
        ("id,translation,origin,reviewed\nHat,,,x\n", "lacks the columns note"),
        ("id,translation,origin,reviewed,note\nHat,,,x,\nHat,,,y,\n", "stands twice"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            job(tmp_path)
        assert file.read_text() == content


def test_the_shipped_config_plans(tmp_path):
    made = LabelJob(load_settings(CONFIG, LabelSettings, [f"out={tmp_path / 'out'}"]))
    assert f"to ask {len(KNOWN_IDS) - 5:,}" in " ".join(plan(made).split())  # five feelings stand in the glossary
    assert len(load_pack("en").names) == len(KNOWN_IDS)
    done = run_module("datagen.labels", "--config", CONFIG, "langauge=ja")
    assert done.refuses("unknown key langauge (known: ")
