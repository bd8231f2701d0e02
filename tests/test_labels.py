"""The label packs: every class has one good name per language, and old names are still read."""

import copy
import json

import pytest

from detection.labels import EMOTION_IDS, OBJECT_IDS, PACKS, PLAIN_IDS, languages, lint, load_pack, lookup
from tests.helpers import run_module


@pytest.fixture
def korean() -> dict:
    return json.loads((PACKS / "ko.json").read_text("utf-8"))


@pytest.mark.parametrize("language", languages())
def test_shipped_packs_have_no_problem(language):
    assert lint(json.loads((PACKS / f"{language}.json").read_text("utf-8"))) == []


def test_there_are_601_objects_and_five_emotions():
    assert len(OBJECT_IDS) == len(set(OBJECT_IDS)) == 601
    assert [load_pack("ko").name(e) for e in EMOTION_IDS] == ["분노", "슬픔", "당황", "기쁨", "무표정"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["objects"].update({"Tea": p["objects"]["Car"]}), "share the name"),  # the original's 차
        (lambda p: p["objects"].update({"Tea": ""}), "has no name"),
        (lambda p: p["objects"].pop("Tea"), "has no name"),
        (lambda p: p["objects"].update({"Tea": "tea 차"}), "mixes scripts"),
        (lambda p: p["objects"].update({"Spaceship": "우주선"}), "not a known id"),
        (lambda p: p["aliases"].update({"우주선": "Spaceship"}), "not a known id"),
        (lambda p: p["aliases"].update({"모자": "Car"}), "is the name of"),
        (lambda p: p["emotions"].update({"panic": p["emotions"]["sad"]}), "share the name"),
    ],
)
def test_lint_finds_what_is_wrong(korean, change, message):
    broken = copy.deepcopy(korean)
    change(broken)
    assert any(message in problem for problem in lint(broken))


def test_lint_finds_the_nine_collisions_of_the_original_pack(shared, korean):
    seed = json.loads((shared / "data/oiv7_labels_ko_seed.json").read_text("utf-8"))
    original = {**korean, "objects": dict(zip(OBJECT_IDS, seed.values(), strict=True)), "aliases": {}}
    shared_names = {p.split("the name ")[1] for p in lint(original) if "share the name" in p}
    assert len(shared_names) == 9


def test_old_names_are_read_as_the_commoner_class():
    for name, label in {
        "차": "Car",
        "배": "Boat",
        "시계": "Clock",
        "의자": "Chair",
        "옷장": "Wardrobe",
        "주전자": "Kettle",
        "거북이": "Turtle",
        "고슴도치": "Hedgehog",
        "벌집": "Beehive",
        "공포": "panic",
    }.items():
        assert lookup(name) == label, name


def test_every_old_name_is_read(shared):
    seed = json.loads((shared / "data/oiv7_labels_ko_seed.json").read_text("utf-8")).values()
    unread = [name for name in seed if lookup(name) is None]
    assert len(unread) <= 2  # two entries of the original pack are not names at all
    assert all("번역" in name or not name.isascii() and "ش" in name for name in unread), unread


def test_people_and_body_parts_are_plain():
    people = {"Person", "Man", "Woman", "Boy", "Girl", "Clothing", "neutral"}
    assert people <= PLAIN_IDS
    assert {i for i in OBJECT_IDS if i.startswith("Human ")} <= PLAIN_IDS
    assert "Hat" not in PLAIN_IDS


def test_check_command(tmp_path, korean):
    assert run_module("detection.labels", "check", PACKS / "ko.json").status == 0
    korean["objects"]["Tea"] = "모자"
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(korean, ensure_ascii=False), "utf-8")
    done = run_module("detection.labels", "check", bad)
    assert done.status == 1 and "share the name '모자'" in done.out
    done = run_module("detection.labels", "check", tmp_path / "none.json")
    assert done.status == 2 and "Traceback" not in done.err and "none.json" in done.err
