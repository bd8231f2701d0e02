"""Corrections become datasets and pairs; nothing private stays in a stored photo."""

import json

import pytest
from PIL import Image
from starlette.testclient import TestClient

from detection.photos import PhotoError
from language.comment.pairs import read_pairs
from pipeline.api.app import Serving, create_app
from pipeline.feedback import convert, photo_folder, read_corrections, save_correction
from tests.conftest import PHOTOS
from tests.helpers import run_module
from tests.test_serve import Stub

CAT = (PHOTOS / "cat.jpg").read_bytes()
CAT_BOX, HAT_BOX, FACE_BOX = [[45.1, 30, 225.5, 150]], [[0, 0, 451, 300]], [[100, 60, 200, 160]]


def element(label: str, boxes: list, kind: str = "object", **more) -> dict:
    return {"id": label, "kind": kind, "name": label, "score": 0.9, "count": len(boxes) or 1, "boxes": boxes, **more}


def correction(kept: list, seen: list | None = None, comment: str = "고양이가 참 다정해 보여요! 😊") -> dict:
    return {"lang": "ko", "style": "polite", "seen": kept if seen is None else seen, "kept": kept, "comment": comment}


@pytest.fixture
def file(tmp_path):
    """Three corrections: a renamed and an added element, a removed one, and one without a photo."""
    file = tmp_path / "corrections.jsonl"
    seen = [element("sad", FACE_BOX, "emotion"), element("Dog", CAT_BOX), element("Hat", HAT_BOX)]
    renamed = {"id": None, "name": "고양이", "boxes": CAT_BOX, "count": 1, "score": 0.9, "kind": None}
    save_correction(file, correction([seen[0], renamed, element("Pillow", [])], seen), CAT)
    save_correction(file, correction([], [seen[2]], "사진이 좋아요! 😊"), (PHOTOS / "coffee.jpg").read_bytes())
    save_correction(file, correction([element("Kite", [])], comment="연이 높이 날아요! 🪁"))
    return file


def test_boxes_become_yolo_labels(file, tmp_path):
    counts = convert(file, tmp_path / "out")
    assert counts == {"corrections": 3, "bad": 0, "objects": 2, "emotion": 1, "pairs": 3}
    objects = tmp_path / "out/objects"
    data = json.loads((objects / "data.yaml").read_text())
    assert data["names"] == {"0": "Cat"}  # the dog was renamed, the hat removed, the pillow has no box
    labels = {p.stem: p.read_text() for p in objects.glob("labels/*/*.txt")}
    assert sorted(labels.values()) == ["", "0 0.300000 0.300000 0.400000 0.400000\n"]
    assert {p.stem for p in objects.glob("images/*/*.jpg")} == set(labels)
    assert len(list(objects.glob("images/val/*"))) == len(list(objects.glob("images/train/*"))) == 1
    (face,) = (tmp_path / "out/emotion").glob("labels/train/*.txt")
    assert face.read_text().startswith("0 0.33") and "sad" in (tmp_path / "out/emotion/data.yaml").read_text()


@pytest.mark.slow
def test_the_trainer_reads_the_dataset(file, tmp_path):
    """Ultralytics' own check of a dataset."""
    from ultralytics.data.utils import check_det_dataset

    convert(file, tmp_path / "out")
    data = check_det_dataset(str(tmp_path / "out/objects/data.yaml"))
    assert data["names"] == {0: "Cat"} and str(data["val"]).startswith(str(tmp_path))


def test_comments_become_pairs(file, tmp_path):
    convert(file, tmp_path / "out")
    pairs = read_pairs(tmp_path / "out/pairs.jsonl")
    assert [p.elements for p in pairs.values()] == ["슬픔, 고양이, 베개", "사진", "연"]
    assert pairs["2"].comment == "연이 높이 날아요! 🪁"


def test_a_photo_corrected_twice_counts_as_it_was_left(file, tmp_path):
    save_correction(file, correction([element("Hat", HAT_BOX)]), CAT)
    convert(file, tmp_path / "out")
    convert(file, tmp_path / "out")  # again into the same folder
    labels = [p.read_text() for p in (tmp_path / "out/objects").glob("labels/*/*.txt")]
    assert sorted(labels) == ["", "0 0.500000 0.500000 1.000000 1.000000\n"]


def test_a_stored_photo_is_upright_and_tells_nothing_of_its_maker(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SECRETCAMERA"
    Image.open(PHOTOS / "cat.jpg").save(tmp_path / "cat.jpg", exif=exif)
    row = save_correction(tmp_path / "c.jsonl", correction([]), (tmp_path / "cat.jpg").read_bytes())
    stored = photo_folder(tmp_path / "c.jsonl") / row["photo"]
    assert Image.open(stored).size == (row["width"], row["height"]) == (300, 451)
    assert not Image.open(stored).getexif() and b"SECRET" not in stored.read_bytes()


def test_an_unreadable_photo_saves_nothing(tmp_path):
    with pytest.raises(PhotoError):
        save_correction(tmp_path / "c.jsonl", correction([]), b"no photo")
    assert list(tmp_path.iterdir()) == []


BAD_ROWS = [
    "{",  # broken
    "[]",  # no object
    json.dumps({"lang": "ko"}),  # keys are missing
    json.dumps({"photo": None, **correction([]), "lang": "fr"}),
    json.dumps({"photo": None, **correction([], comment=" ")}),
    json.dumps({"photo": "gone.jpg", **correction([])}),
    json.dumps({"photo": None, **correction([{"boxes": []}])}),  # neither id nor name
]


@pytest.mark.parametrize("line", BAD_ROWS)
def test_a_bad_row_is_named_and_the_rest_goes_on(file, tmp_path, line, capsys):
    with file.open("a") as out:
        out.write(line + "\n\n")
    assert convert(file, tmp_path / "out")["bad"] == 1
    assert capsys.readouterr().err.startswith(f"{file}, line 4: ")


def test_boxes_outside_the_photo_are_bad_rows(tmp_path):
    file = tmp_path / "c.jsonl"
    save_correction(file, correction([element("Hat", [[0, 0, 9000, 10]])]), CAT)
    assert read_corrections(file)[1].total() == 1


def test_the_command(file, tmp_path):
    done = run_module("pipeline.feedback", file, "--out", tmp_path / "out")
    assert done.status == 0 and done.out.startswith("3 corrections, 0 bad, 2 objects, 1 emotion, 3 pairs")
    assert run_module("pipeline.feedback", tmp_path / "no.jsonl", "--out", tmp_path).refuses("cannot read")
    (tmp_path / "empty.jsonl").touch()
    assert run_module("pipeline.feedback", tmp_path / "empty.jsonl", "--out", tmp_path).refuses("no correction")


def test_the_service_saves_where_it_was_asked_to(tmp_path):
    file = tmp_path / "c.jsonl"
    body = json.dumps(correction([element("Cat", CAT_BOX)]))
    with TestClient(create_app(Stub(), Serving(feedback=file))) as client:
        post = lambda **files: client.post("/v1/feedback", files=files)
        assert client.get("/v1/options").json()["feedback"] is True
        assert post(correction=(None, body), photo=("cat.jpg", CAT)).status_code == 201
        assert post(correction=(None, body)).status_code == 201  # without the photo
        assert post(correction=(None, "{}")).status_code == 422
        assert post(correction=(None, body), photo=("cat.jpg", b"no photo")).json()["error"]["type"] == "not_an_image"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [bool(row["photo"]) for row in rows] == [True, False] and convert(file, tmp_path / "out")["objects"] == 1
