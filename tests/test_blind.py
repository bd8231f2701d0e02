"""Blind reading: the sheet gives nothing away, and a filled-in one is counted right."""

import csv
import json

import pytest
from PIL import Image

from common.errors import UserError
from language.comment import blind
from language.records import Comment, Pair
from tests.helpers import run_module

THEIRS = [
    Pair(f"기쁨, {thing}", f"{thing} 그쪽 {n}")
    for thing in ["모자", "안경", "나무", "자동차", "고양이", "강아지", "피자", "공"]
    for n in range(3)
]


class Ours:
    def write(self, elements, seed=0):
        return [Comment(f"{elements} 우리", -0.1)]


def filled(folder, verdict):
    """Fill the sheet in; returns what it held."""
    with (folder / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["better"] = verdict(row)
    with (folder / "sheet.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, blind.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_reader_who_always_likes_ours_and_one_who_never_does(tmp_path):
    for name, ours, theirs in (("kind", 8, 0), ("harsh", 0, 8)):
        verdict = {"kind": ("A", " b "), "harsh": ("B", "a")}[name]
        blind.make(THEIRS, Ours(), tmp_path / name, count=8, seed=3)
        rows = filled(tmp_path / name, lambda row, v=verdict: v["우리" not in row["A"]])
        assert len({row["elements"] for row in rows}) == 8
        assert {"우리" in row["A"] for row in rows} == {True, False}  # shuffled
        figures = blind.score(tmp_path / name)
        assert (figures["ours"], figures["theirs"], figures["equal"]) == (ours, theirs, 0)
        assert figures["p"] == round(2 / 2**8, 4)


def test_ties_and_empty_sheets(tmp_path):
    blind.make(THEIRS, Ours(), tmp_path, count=4)
    with pytest.raises(UserError, match="A, B or = in rows 1, 2, 3, 4"):
        blind.score(tmp_path)
    filled(tmp_path, lambda row: "=")
    assert blind.score(tmp_path) == {"lists": 4, "ours": 0, "theirs": 0, "equal": 4, "our_share": None, "p": 1.0}
    with pytest.raises(UserError, match="exists already"):
        blind.make(THEIRS, Ours(), tmp_path, count=4)
    with pytest.raises(UserError, match="only 8 different"):
        blind.make(THEIRS, Ours(), tmp_path / "more", count=9)


def results(file, name, said):
    rows = [
        {"image": f"somewhere/{n}.png", "elements": [{"name": "모자"}], "comments": [{"text": f"{said} {n} <b>"}]}
        for n in range(6)
    ]
    rows.append({"image": "somewhere/broken.png", "error": {"type": "unreadable"}})
    (file / name).write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return file / name


def test_photos_are_judged_with_the_picture_in_view(tmp_path):
    for n in range(5):  # of the sixth there is no picture
        Image.new("RGB", (900, 600), (40 * n, 90, 90)).save(tmp_path / f"{n}.png")
    ours, theirs = results(tmp_path, "ours.jsonl", "우리"), results(tmp_path, "theirs.jsonl", "그쪽")
    arguments = ["make", "--photos", tmp_path, "--ours", ours, "--theirs", theirs, "--out", tmp_path / "r", "--lists"]
    done = run_module("language.comment.blind", *arguments, 6)
    assert done.status == 2 and "has only 5 that both files comment on" in done.err
    assert run_module("language.comment.blind", *arguments, 5).status == 0
    page = (tmp_path / "r/photos.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 5 and "&lt;b&gt;" in page and "<b> " not in page.replace("<b>A", "")
    with pytest.raises(UserError, match="y or n is wanted in 1 good_A"):
        blind.score(tmp_path / "r")
    with (tmp_path / "r/sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        mine, other = ("A", "B") if "우리" in row["A"] else ("B", "A")
        row |= {"better": mine, f"good_{mine}": "Y", f"good_{other}": "n"}
        row |= {f"embarrassing_{mine}": "n", f"embarrassing_{other}": "y" if row["number"] == "1" else "n"}
    with (tmp_path / "r/sheet.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    figures = blind.score(tmp_path / "r")
    assert (figures["ours"], figures["theirs"]) == (5, 0)
    assert figures["good"] == {"ours": 1.0, "theirs": 0.0} and figures["embarrassing"] == {"ours": 0.0, "theirs": 0.2}


def test_what_holds_no_results_is_named(tmp_path):
    (tmp_path / "bad.jsonl").write_text("[1]\n", "utf-8")
    arguments = ("make", "--photos", tmp_path, "--ours", tmp_path / "bad.jsonl", "--theirs", tmp_path / "bad.jsonl")
    done = run_module("language.comment.blind", *arguments, "--out", tmp_path / "r")
    assert done.status == 2 and "holds no results" in done.err
    done = run_module("language.comment.blind", "make", "--photos", tmp_path, "--theirs", "x", "--out", tmp_path / "r")
    assert done.status == 2 and "belong together" in done.err


def test_command(tmp_path):
    (tmp_path / "theirs.json").write_text(
        json.dumps({str(i): [p.elements, p.comment] for i, p in enumerate(THEIRS)}), "utf-8"
    )
    arguments = ("make", "--theirs", tmp_path / "theirs.json", "--out", tmp_path / "r", "--lists", 5)
    assert run_module("language.comment.blind", *arguments).status == 0
    assert run_module("language.comment.blind", "score", tmp_path / "r").status == 2  # not filled in
    (tmp_path / "theirs.json").write_text("[1]")
    done = run_module("language.comment.blind", *arguments)
    assert done.status == 2 and "holds no pairs" in done.err
