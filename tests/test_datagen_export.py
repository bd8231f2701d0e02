"""Posts and photos leave as data to train on, every row that does not with its reason."""

import json

import pytest
from PIL import Image

from common.errors import UserError
from configs.load import load_settings
from datagen.export import Export, SftSettings
from tests.conftest import ROOT
from tests.helpers import run_module
from tests.photo_server import captions, download, serve_photos

CONFIGS = ROOT / "configs/datagen"


@pytest.fixture
def server():
    with serve_photos() as running:
        yield running


def posts(tmp_path, numbers=range(6), **changes):
    """An Instagram job's output for photos that are there; `changes` replace a column for photo 1."""
    row = {
        "en_caption": "Nobody tells you how loud joy is. I will keep this one!",
        "en_hashtags": "#one #two #three #four #five",
        "gen_ok": "True",
        **{f"cap{n}": "a cat" if n < 3 else "" for n in range(1, 6)},
    }
    pick = lambda name: lambda n: changes[name] if n == 1 and name in changes else row[name]
    return captions(tmp_path / "i.csv", numbers, server=True, **{name: pick(name) for name in row})


def export(tmp_path, source, **fields) -> dict:
    fields = {"csv": source, "photos": tmp_path / "photos", "out": tmp_path / "sft", **fields}
    overrides = [f"{name}={value}" for name, value in fields.items()]
    return Export(load_settings(CONFIGS / "export_sft.yaml", SftSettings, overrides)).run()


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_what_was_downloaded_is_exported(tmp_path, server):
    """Defect 36: the original downloaded to train2017/ and looked in train/."""
    source = posts(tmp_path)
    assert download(tmp_path, server, csv=source, only_gen_ok="true").run()
    for _ in range(2):  # the second replaces the first
        counts = export(tmp_path, source)
        assert counts == {"kept": {"train": 4, "val": 2}, "skipped": {}}
        for part, count in counts["kept"].items():
            rows = lines(tmp_path / f"sft/{part}.jsonl")
            assert len(rows) == count == len(list((tmp_path / "sft" / part).iterdir()))
            for row in rows:
                assert row["image"].startswith(f"{part}/") and Image.open(tmp_path / "sft" / row["image"]).size == (
                    48,
                    32,
                )
    question, answer = rows[0]["messages"]
    assert [p["type"] for p in question["content"]] == ["image", "text"] and question["content"][0]["image"] == rows[0][
        "image"
    ]
    assert answer["content"][0]["text"].endswith("keep this one!\n\n#one #two #three #four #five")
    text = lines(tmp_path / "sft/val.text.jsonl")[0]["messages"]
    assert text[0]["content"].endswith("describe:\n- a cat\n- a cat") and "#five" in text[1]["content"]
    assert not (tmp_path / "sft.part").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gen_ok": "False"}, "gen_ok is not true"),
        ({"en_caption": " "}, "no caption"),
        ({"en_hashtags": ""}, "no hashtags"),
        ({"en_hashtags": "#one #two"}, "caption or hashtags break the contract"),
    ],
)
def test_rows_left_out_are_counted_by_reason(tmp_path, server, changes, reason):
    assert download(tmp_path, server).run()
    assert export(tmp_path, posts(tmp_path, **changes))["skipped"] == {reason: 1}
    assert json.loads((tmp_path / "sft/export.json").read_text())["kept"] == {"train": 3, "val": 2}


def test_photos_that_lack_are_counted_and_printed(tmp_path, server):
    assert download(tmp_path, server).run()
    (tmp_path / "photos/train2017/000000000001.jpg").unlink()
    (tmp_path / "photos/train2017/000000000002.jpg").write_bytes(b"no")
    source = posts(tmp_path, [*range(6), 3])
    command = ["--config", CONFIGS / "export_sft.yaml", f"csv={source}", f"photos={tmp_path / 'photos'}"]
    done = run_module("datagen.export", "sft", *command, f"out={tmp_path / 'sft'}", "answer=json")
    assert done.status == 0 and done.out.startswith("2 train, 2 val: ")
    for reason in ("no photo in the folder", "the photo is broken", "the photo stands twice"):
        assert f"skipped 1: {reason}" in done.out
    answer = lines(tmp_path / "sft/val.jsonl")[0]["messages"][1]["content"][0]["text"]
    assert json.loads(answer)["hashtags"][0] == "one"
    splits = "splits={train2017: train}"
    done = run_module("datagen.export", "sft", *command, f"out={tmp_path / 'two'}", splits, "formats=[text]")
    assert "skipped 3: split 'val2017' is neither train nor val" in done.out
    assert not list((tmp_path / "two/train").iterdir())  # text needs no photos


def test_an_export_clears_no_other_folder(tmp_path):
    source = posts(tmp_path)
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft/diary.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is no export"):
        export(tmp_path, source)
    assert (tmp_path / "sft/diary.txt").read_text() == "mine"
    source.write_text("split,image_id\n")
    with pytest.raises(UserError, match="lacks the columns file_name, cap1"):
        export(tmp_path, source, out=tmp_path / "other")
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.part").exists()
