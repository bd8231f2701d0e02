"""Folders and albums: one row a photo, resumable, copies of a picture commented once."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pipeline.batch as batch
from common.errors import UserError
from language.memory import opening
from pipeline import PhotoCommenter
from pipeline.duplicates import Album, picture_hash
from pipeline.results import Results
from tests.conftest import PHOTOS

CONTRACT = ["image", "width", "height", "elements", "input", "comment", "comments", "timings_ms", "error"]
MODELS = ("objects", "emotion", "writer")


@pytest.fixture(scope="module")
def loaded():
    return PhotoCommenter(workers=2).load()


@pytest.fixture
def run(monkeypatch, loaded, tmp_path):
    """Runs the command on models loaded once; gives (status, rows)."""
    make = batch.commenter_of

    def lent(args, **more):
        commenter = make(args, **more)
        commenter.__dict__.update({name: getattr(loaded, name) for name in MODELS})
        return commenter

    monkeypatch.setattr(batch, "commenter_of", lent)
    out = tmp_path / "results.jsonl"

    def command(*args):
        status = batch.main([*map(str, args), "--out", str(out), "--workers", "2"])
        return status, rows_of(out)

    command.out = out
    return command


@pytest.fixture
def album(tmp_path):
    """A folder: four photos, a small copy of one."""
    folder = tmp_path / "내 앨범"
    shutil.copytree(PHOTOS, folder)
    with Image.open(PHOTOS / "cat.jpg") as cat:
        cat.resize((225, 150)).save(folder / "later cat.jpg", quality=50)
    return folder


def rows_of(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def untimed(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "timings_ms"} for row in rows]


def names(rows: list[dict]) -> list[str]:
    return [row["image"].rsplit("/", 1)[1] for row in rows]


def test_rows_keep_the_contract_in_input_order(run, album, commenter, capsys):
    status, rows = run(album)
    assert status == 0 and capsys.readouterr().err.strip().endswith("4 ok, 0 failed, 1 duplicates")
    assert [row["image"] for row in rows] == sorted(str(p) for p in album.glob("*.jpg"))
    for row in rows:
        assert list(row) == [*CONTRACT, "duplicate_of", "file"]
        assert row["file"]["bytes"] == Path(row["image"]).stat().st_size and len(row["file"]["hash"]) == 70
    alone = commenter.comment(album / "cat.jpg").to_json()
    assert untimed([{key: rows[1][key] for key in CONTRACT}]) == untimed([alone])


def test_a_copy_gets_the_row_of_the_first_in_its_own_pixels(run, album):
    _, rows = run(album)
    cat, copy = rows[1], rows[3]
    assert names(rows)[1::2] == ["cat.jpg", "later cat.jpg"]
    assert copy["duplicate_of"] == cat["image"] and copy["comments"] == cat["comments"] and copy["timings_ms"] == {}
    assert (copy["width"], copy["height"]) == (225, 150)
    for x, y in zip(copy["elements"][0]["boxes"][0], cat["elements"][0]["boxes"][0], strict=True):
        assert x == pytest.approx(y / 2, abs=0.6)
    assert [row["duplicate_of"] for row in rows if row is not copy] == [None] * 4


def test_copies_can_be_kept(run, album):
    assert all(row["duplicate_of"] is None and row["timings_ms"]["total"] for row in run(album, "--keep-duplicates")[1])


def test_going_on_does_only_what_is_new_or_changed(run, album, monkeypatch):
    first = run(album / "coffee.jpg", album / "rocket.jpg")[1]
    asked = []
    opened = PhotoCommenter.open
    monkeypatch.setattr(PhotoCommenter, "open", lambda self, name: asked.append(name) or opened(self, name))
    _, rows = run(album)
    assert names([{"image": a} for a in asked]) == ["astronaut.jpg", "cat.jpg", "later cat.jpg"]
    assert [row["image"] for row in rows] == sorted(str(p) for p in album.glob("*.jpg"))  # though rocket came before
    assert [row for row in rows if row["image"] in {r["image"] for r in first}] == first
    asked.clear()
    assert run(album) == (0, rows) and not asked
    shutil.copy(PHOTOS / "coffee.jpg", album / "cat.jpg")  # its copy has to be looked at again, too
    _, changed = run(album)
    assert sorted(names([{"image": a} for a in asked])) == ["cat.jpg", "later cat.jpg"]
    assert len(changed) == 5 and changed[1]["duplicate_of"].endswith("coffee.jpg") and not changed[3]["duplicate_of"]


@pytest.mark.parametrize(
    "cut",
    [
        1,  # the line end is missing
        60,  # half a row
    ],
)
def test_a_torn_line_is_cut_off(run, album, cut):
    _, rows = run(album)
    run.out.write_bytes(run.out.read_bytes()[:-cut])
    assert untimed(run(album)[1]) == untimed(rows)


def test_ctrl_c_loses_nothing(run, album, monkeypatch, capsys):
    append = Results.append

    def interrupted(self, row):
        append(self, row)
        if len(self.entries) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    photos = [album / "cat.jpg", album / "rocket.jpg"]
    for number in range(14):
        Image.effect_noise((64, 64), 60 + number).save(album / f"noise{number:02}.png")
    monkeypatch.setattr(Results, "append", interrupted)
    status, rows = run(*photos, album)
    assert status == 130 and 1 <= len(rows) < 16 and "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(Results, "append", append)
    status, rows = run(*photos, album)
    assert status == 0 and len(rows) == len(set(names(rows))) == 19 and names(rows)[:2] == ["cat.jpg", "rocket.jpg"]


def test_failed_photos_are_rows_and_done_again_when_asked(run, album, capsys):
    (album / "bad.jpg").write_bytes(b"no photo")
    os.utime(album / "bad.jpg", (1, 1))
    status, rows = run(album, album / "none.jpg")
    assert status == 1 and [r["error"] and r["error"]["type"] for r in rows[1::5]] == ["not_an_image", "not_found"]
    assert rows[1]["elements"] is None and rows[6]["file"] is None and "--retry-failed" in capsys.readouterr().err
    assert run(album, album / "none.jpg") == (1, rows)
    assert run(album, album / "none.jpg", "--retry-failed")[0] == 1
    shutil.copy(PHOTOS / "rocket.jpg", album / "none.jpg")
    status, again = run(album, album / "none.jpg", "--retry-failed")
    assert status == 1 and again[5]["duplicate_of"].endswith("rocket.jpg") and names(again)[1] == "bad.jpg"


def test_what_breaks_on_a_photo_is_its_failure(run, album, monkeypatch):
    look = PhotoCommenter.look

    def breaking(self, photo):
        if photo.name.endswith("cat.jpg"):
            raise MemoryError("no room")
        return look(self, photo)

    monkeypatch.setattr(PhotoCommenter, "look", breaking)
    status, rows = run(album)
    assert status == 1 and "MemoryError no room" in rows[1]["error"]["message"] and rows[0]["error"] is None
    assert rows[3]["error"] == rows[1]["error"] and rows[3]["duplicate_of"] == rows[1]["image"]
    monkeypatch.setattr(PhotoCommenter, "look", look)
    status, rows = run(album, "--retry-failed")
    assert status == 0 and rows[3]["comment"] == rows[1]["comment"]


def test_output_does_not_depend_on_the_workers(run, album, tmp_path):
    _, rows = run(album)
    for workers in (1, 3):
        batch.main([str(album), "--out", str(tmp_path / f"{workers}.jsonl"), "--workers", str(workers)])
        assert untimed(rows_of(tmp_path / f"{workers}.jsonl")) == untimed(rows)


def test_an_album_with_memory_does_not_repeat_openings(run, tmp_path):
    folder = tmp_path / "cats"
    folder.mkdir()
    with Image.open(PHOTOS / "cat.jpg") as cat:
        for number in range(6):
            cat.crop((0, 0, 451 - 40 * number, 300)).save(folder / f"{number}.jpg")
    _, rows = run(folder, "--memory", tmp_path / "memory.json")
    assert len(rows) == len({opening(row["comment"]) for row in rows if not row["duplicate_of"]}) == 6
    said = json.loads((tmp_path / "memory.json").read_text("utf-8"))["openings"]
    assert said == [opening(row["comment"]) for row in rows]  # in input order


def test_the_contact_sheet_holds_everything(run, album, tmp_path):
    (album / "<b>bad.jpg").write_bytes(b"no photo")
    sheet = tmp_path / "sheet.html"
    _, rows = run(album, "--html", sheet)
    page = sheet.read_text("utf-8")
    assert len(re.findall('<img loading="lazy" alt="[^"<>]*" src="data:image/webp;base64,', page)) == 4
    assert "&lt;b&gt;bad" in page and "<b>" not in page and "later cat.jpg" in page
    assert all(row["comment"] in page for row in rows if row["comment"])
    assert not re.search("https?:|<script|url[(]|@import", page) and 'name="viewport"' in page
    assert len(page) < 40_000 * 5
    for photo in album.glob("*.jpg"):
        photo.unlink()  # the sheet can still be written, without pictures
    from pipeline.sheet import write_sheet

    with Results(run.out, json.loads((tmp_path / "results.jsonl.settings.json").read_text("utf-8"))) as results:
        write_sheet(results, sheet, "en")
    assert sheet.read_text("utf-8").count("file has gone") == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lang", "en"], 'lang "ko", not "en"'),
        (["--seed", "1"], "seed 0, not 1"),
        (["--count", "2"], "count 1, not 2"),
        (["--keep-duplicates"], "keep_duplicates false, not true"),
        (["--memory", "m.json"], 'memory null, not "m.json"'),
    ],
)
def test_other_settings_are_refused(run, album, options, message):
    out = run.out
    out.write_text("", "utf-8")
    run(album / "cat.jpg")
    before = out.read_bytes()
    with pytest.raises(UserError, match=message):
        run(album, *options)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{}/none/r.jsonl"], "does not exist"),  # no folder for the rows
        (["--out", "{}"], "is a folder"),
        (["--out", "{}/r.jsonl", "--html", "{}/none/s.html"], "does not exist"),  # nor for the sheet
        (["--out", "{}/r.jsonl", "--writer", "nobody"], "unknown writer"),
        (["--out", "{}/r.jsonl", "--engine", "ray", "--memory", "{}/m.json"], "--engine local"),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        batch.main([str(PHOTOS), *(a.format(tmp_path) for a in arguments)])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r.jsonl").exists() or not (tmp_path / "r.jsonl").stat().st_size


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--engine", "spark"], []])
def test_options_are_checked(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        batch.main([str(PHOTOS), *arguments])
    assert stop.value.code == 2 and capsys.readouterr().err


def test_a_file_that_is_no_batch_is_left_alone(run, album, tmp_path):
    run.out.write_text('{"my": "data"}\n', "utf-8")
    with pytest.raises(UserError, match="does not tell how it was made"):
        run(album)
    made_with = vars(batch.parser().parse_args([str(album), "--out", str(run.out)]))
    settings = {name: made_with[name] for name in batch.MADE_WITH}
    (tmp_path / "results.jsonl.settings.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(UserError, match="line 1 of"):
        run(album)
    assert run.out.read_text("utf-8") == '{"my": "data"}\n'


def test_one_run_at_a_time(tmp_path):
    with Results(tmp_path / "r.jsonl", {}), pytest.raises(UserError, match="another run is writing"):
        Results(tmp_path / "r.jsonl", {})
    Results(tmp_path / "r.jsonl", {}).__exit__()


def test_missing_libraries_are_named(monkeypatch, album, tmp_path):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(UserError, match="pip install imagehash"):
        batch.main([str(album), "--out", str(tmp_path / "r.jsonl")])
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UserError, match="pip install"):
        batch.main([str(album), "--out", str(tmp_path / "r.jsonl"), "--engine", "ray", "--keep-duplicates"])


def first_of(pictures) -> list:
    found = Album()
    return [found.first(str(n), picture_hash(p), p.size) for n, p in enumerate(pictures)]


def test_the_same_picture_at_other_sizes_and_qualities_is_found(tmp_path):
    for name in ("astronaut", "cat", "coffee", "rocket"):
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            photo = photo.convert("RGB")
        photo.save(tmp_path / "poor.jpg", quality=25)
        copies = [photo.resize((photo.width // k, photo.height // k)) for k in (2, 3)]
        copies += [photo.resize((photo.width * 2, photo.height * 2)), Image.open(tmp_path / "poor.jpg")]
        assert first_of([photo, *copies]) == [None, "0", "0", "0", "0"], name


def test_different_pictures_are_kept_apart():
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (5, 7, 3)).astype(np.uint8)).resize((70, 50)) for _ in range(200)]
    plain = [Image.new("RGB", (64, 64), colour) for colour in ("black", "white", "red", "green", "blue")]
    with Image.open(PHOTOS / "cat.jpg") as cat:
        stretched = [cat.convert("RGB"), cat.convert("RGB").resize((300, 300)), cat.convert("RGB").rotate(180)]
    assert first_of([*noise, *plain, *stretched]) == [None] * 208


def test_duplicates_in_the_reference_photos(shared):
    """Copies that a person finds among them: the dog in the sea is in two collections."""
    one, two = shared / "data/photos/dd_0000024.jpg", shared / "data/flickr_captions/images/1022975728_75515238d8.jpg"
    pictures = [Image.open(p).convert("RGB") for p in (one, two, *sorted((shared / "data/photos").glob("in_*"))[:40])]
    assert first_of(pictures) == [None, "0", *[None] * 40]
