"""The main command as users run it, against the public contract."""

import json
import re
import signal
import subprocess
import sys

import pytest
from PIL import Image

from language.records import ElementList
from language.render import render_input
from language.rules import violations
from tests.conftest import PHOTOS, ROOT
from tests.helpers import run_main, run_module
from tests.test_photos import bad_files, save_oriented

CAT, ASTRONAUT = PHOTOS / "cat.jpg", PHOTOS / "astronaut.jpg"


def test_json_rows_keep_the_contract(capsys):
    done = run_main(capsys, *sorted(PHOTOS.glob("*.jpg")), "--json", "--count", 3)
    assert done.status == 0 and len(done.rows) == 4
    for row in done.rows:
        assert list(row) == [
            "image",
            "width",
            "height",
            "elements",
            "input",
            "comment",
            "comments",
            "timings_ms",
            "error",
        ]
        assert (
            set(row["timings_ms"]) == {"decode", "objects", "emotion", "scenes", "elements", "write", "total"}
            and row["error"] is None
        )
        assert row["input"] == (", ".join(e["name"] for e in row["elements"]) or "사진")
        assert re.search("[가-힣]", row["comment"]) and row["comment"] == row["comments"][0]["text"]
        assert len(row["comments"]) == len({c["text"] for c in row["comments"]}) == 3
        for e in row["elements"]:
            assert 0 <= e["score"] <= 1 and (e["kind"] == "moment" or e["count"] == len(e["boxes"] or [None]))
            for x1, y1, x2, y2 in e["boxes"]:
                assert 0 <= x1 < x2 <= row["width"] and 0 <= y1 < y2 <= row["height"]
        for c in row["comments"]:
            for s in c["evidence"]:
                assert c["text"][s["start"] : s["end"]] == s["text"]
                assert s["element"] in [e["id"] for e in row["elements"]]


def test_output_for_people(capsys):
    done = run_main(capsys, CAT)
    name, elements, comment = done.out.splitlines()
    assert name == str(CAT) and "고양이" in elements and re.search("[가-힣]", comment)


@pytest.mark.parametrize(
    ("options", "lang", "style"),
    [
        (["--lang", "en"], "en", "polite"),
        (["--style", "casual"], "ko", "casual"),
        (["--writer", "gpt2"], "ko", "polite"),
        (["--lang", "en", "--style", "casual", "--writer", "gpt2"], "en", "casual"),
    ],
)
def test_language_style_and_writer(capsys, options, lang, style):
    (row,) = run_main(capsys, ASTRONAUT, *options, "--json").rows
    elements = ElementList.from_ids([e["id"] for e in row["elements"]], lang)
    assert row["input"] == render_input(elements) and violations(row["comment"], elements, style) == []
    assert row["comments"][0]["source"] in ("model", "whole comment")


def test_a_smiling_face_is_happy(capsys):
    (row,) = run_main(capsys, ASTRONAUT, "--json").rows
    assert row["elements"][0]["id"] == "happy"


def test_same_seed_same_output_other_seed_other_output(capsys):
    def comments(seed):
        rows = run_main(capsys, CAT, ASTRONAUT, "--json", "--seed", seed).rows
        return [{k: v for k, v in row.items() if k != "timings_ms"} for row in rows]

    assert comments(3) == comments(3)
    assert any(comments(s) != comments(3) for s in range(4, 8))


def test_bad_photos_are_rows_and_the_rest_goes_on(tmp_path, capsys):
    kinds = bad_files(tmp_path)
    del kinds["folder.jpg"]  # a folder without photos is wrong usage, below
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    paths = [tmp_path / name for name in kinds]
    done = run_main(capsys, *paths, tmp_path / "dot.png", CAT, "--json")
    assert done.status == 1 and "Traceback" not in done.err
    assert [row["image"] for row in done.rows] == [*map(str, paths), str(tmp_path / "dot.png"), str(CAT)]  # input order
    for row, kind in zip(done.rows, kinds.values(), strict=False):
        assert row["error"]["type"] == kind and row["elements"] is None and row["comment"] is None
    dot, cat = done.rows[-2:]
    assert dot["elements"] == [] and dot["comment"] and dot["error"] is None  # nothing found still gets a comment
    assert cat["error"] is None


def test_errors_for_people_are_one_line_on_stderr(tmp_path, capsys):
    done = run_main(capsys, tmp_path / "missing.jpg", CAT)
    assert done.status == 1 and "고양이" in done.out
    assert "missing.jpg" in done.err and "does not exist" in done.err and len(done.err.splitlines()) == 1


def test_every_orientation_gives_the_same_elements(tmp_path, capsys):
    for orientation in range(1, 9):
        save_oriented(Image.open(ASTRONAUT), orientation, tmp_path / f"{orientation}.jpg")
    rows = run_main(capsys, tmp_path, "--json").rows
    assert len(rows) == 8 and {row["input"] for row in rows} == {rows[0]["input"]}
    first = rows[0]["elements"][0]["boxes"][0]
    for row in rows:
        assert (row["width"], row["height"]) == (512, 512)
        assert row["elements"][0]["boxes"][0] == pytest.approx(first, abs=8)


def test_modes_animations_and_odd_paths(tmp_path, capsys):
    folder = tmp_path / "내 사진 (1)"
    folder.mkdir()
    cat = Image.open(CAT)
    for mode in ("P", "RGBA", "L", "1"):
        cat.convert(mode).save(folder / f"{mode} 고양이.png")
    cat.convert("CMYK").save(folder / "cmyk.jpg")
    cat.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", cat.size)])
    cat.save(folder / "animated.webp", save_all=True, append_images=[Image.new("RGB", cat.size)])
    done = run_main(capsys, folder, "--json")
    assert done.status == 0 and len(done.rows) == 7
    seen = [row["input"] for row in done.rows if not row["image"].endswith("1 고양이.png")]
    assert all("고양이" in text for text in seen), seen


def test_large_photo_boxes_are_in_its_own_pixels(tmp_path, capsys):
    Image.open(CAT).resize((451 * 8, 300 * 8), Image.BICUBIC).save(tmp_path / "large.jpg", quality=90)
    small, large = run_main(capsys, CAT, tmp_path / "large.jpg", "--json").rows
    assert (large["width"], large["height"]) == (3608, 2400)
    box = {row["width"]: next(e for e in row["elements"] if e["id"] == "Cat")["boxes"][0] for row in (small, large)}
    assert [v / 8 for v in box[3608]] == pytest.approx(box[451], abs=20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lang", "fr"], "--lang"),
        (["--writer", "nobody"], "unknown writer"),
        (["--objects", "yolov9"], "unknown weights 'yolov9'"),
        (["--emotion", "none.onnx"], "none.onnx does not exist"),
        (["--count", "0"], "whole number from 1"),
        (["--count", "two"], "whole number from 1"),
        (["--seed", "x"], "--seed"),
        (["--device", "tpu"], "--device"),
        (["--memory", "no-such-folder/m.json"], "does not exist"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_usage_exits_2_with_one_clear_line(capsys, arguments, message):
    done = run_main(capsys, CAT, *arguments)
    assert done.status == 2 and done.out == "" and "Traceback" not in done.err
    assert message in done.err.splitlines()[-1]


def test_folder_without_photos_and_no_arguments(tmp_path, capsys):
    done = run_main(capsys, tmp_path)
    assert done.status == 2 and "holds no photos" in done.err
    assert run_main(capsys).status == 2


def test_damaged_weights_exit_2(tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(b"\x00" * 100)
    (tmp_path / "bad.pt").write_bytes(b"\x00" * 100)
    for file in ("bad.onnx", "bad.pt"):
        done = run_main(capsys, CAT, "--objects", tmp_path / file)
        assert done.refuses(file)


def test_save_draws_and_never_overwrites(tmp_path, capsys):
    folder = tmp_path / "out"
    for sub in ("a", "b"):
        (tmp_path / sub).mkdir()
        Image.open(ASTRONAUT).save(tmp_path / sub / "same.jpg")
    done = run_main(capsys, tmp_path / "a", tmp_path / "b", "--save", folder)
    assert done.status == 0
    assert sorted(p.name for p in folder.iterdir()) == ["same_annotated-2.jpg", "same_annotated.jpg"]
    drawn = Image.open(folder / "same_annotated.jpg")
    assert drawn.size == (512, 512)
    difference = sum(
        1
        for a, b in zip(drawn.resize((64, 64)).getdata(), Image.open(ASTRONAUT).resize((64, 64)).getdata(), strict=True)
        if sum(abs(x - y) for x, y in zip(a, b, strict=True)) > 60
    )
    assert 20 < difference < 2500  # something is drawn, and the photo is still there


def test_korean_labels_are_in_the_font():
    from PIL import ImageFont

    from detection.labels import load_pack
    from pipeline.draw import FONT

    font = ImageFont.truetype(str(FONT), 20)
    missing = bytes(font.getmask("\U0010fffe"))
    assert FONT.stat().st_size < 500_000
    assert [
        n for n in load_pack("ko").names.values() for c in n if c != " " and bytes(font.getmask(c)) == missing
    ] == []


def test_unwritable_save_is_refused_before_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    done = run_main(capsys, CAT, "--save", tmp_path / "file" / "out")
    assert done.status == 2 and "cannot write there" in done.err and done.out == ""


def test_memory_file_changes_what_is_said(tmp_path, capsys):
    memory = tmp_path / "m.json"
    rows = [run_main(capsys, CAT, "--json", "--memory", memory).rows[0]["comment"] for _ in range(3)]
    assert (
        len({" ".join(r.split()[:2]) for r in rows}) == 3
        and len(json.loads(memory.read_text("utf-8"))["openings"]) == 3
    )


def test_as_a_process_stdout_is_json_only_and_paths_work(tmp_path):
    done = run_module("pipeline.run", PHOTOS, tmp_path / "none.jpg", "--json")
    assert done.status == 1 and len(done.rows) == 5 and "Traceback" not in done.err


def test_ctrl_c_stops_cleanly_with_what_is_done_printed():
    command = [sys.executable, "-m", "pipeline.run", *[str(CAT)] * 400, "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "stopped" in err
    rows = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert 1 <= len(rows) < 400 and all(row["comment"] for row in rows)
