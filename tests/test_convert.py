"""Annotations of every form become one kind of dataset; what cannot be used is said, never dropped in silence."""

import json

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from detection.emotion.annotations import ANNOTATORS, Notes, label_table, read_annotations, read_label, read_text
from detection.emotion.convert import main, picture_index
from detection.labels import EMOTION_IDS
from tests.helpers import run_module
from tests.test_photos import save_oriented


def face(filename, uploader, named, box=(20, 10, 60, 50), spread=0.0):
    """An AI-Hub row; the annotators' boxes lie `spread` pixels apart."""
    row = {"filename": filename, "gender": "여", "age": 30, "isProf": "일반인", "faceExp_uploader": uploader}
    for number, (key, label) in enumerate(zip(ANNOTATORS, named, strict=True)):
        x1, y1, x2, y2 = (v + (number - 1) * spread for v in box)
        row[key] = {"boxes": {"maxX": x2, "maxY": y2, "minX": x1, "minY": y1}, "faceExp": label, "bg": "실내"}
    return row


def publish(folder, rows, name="val_panic.json", encoding="cp949"):
    """Annotations as published and a blank picture for each, 100 x 80."""
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "labels" / name).write_bytes(json.dumps(rows, ensure_ascii=False).encode(encoding))
    for row in rows:
        Image.new("RGB", (100, 80), "gray").save(folder / "pictures" / row["filename"])


def convert(folder, *more):
    args = [
        "--format",
        "aihub",
        "--labels",
        folder / "labels",
        "--images",
        folder / "pictures",
        "--out",
        folder / "out",
    ]
    return main([str(a) for a in (*args, *more)])


def manifest(folder):
    return json.loads((folder / "out/manifest.json").read_text("utf-8"))


def yolo(folder, split="val"):
    rows = {}
    for file in (folder / f"out/labels/{split}").iterdir():
        rows[file.stem] = [(EMOTION_IDS[int(line.split()[0])], *map(float, line.split()[1:])) for line in file.open()]
    return rows


def test_every_korean_label_keeps_its_own_class(tmp_path):
    """The original looked Korean labels up in an English table: every face became class 3, happy."""
    labels = {"분노": "anger", "슬픔": "sad", "당황": "panic", "기쁨": "happy", "중립": "neutral"}
    publish(tmp_path, [face(f"{i}.jpg", label, [label] * 3) for i, label in enumerate(labels)])
    assert convert(tmp_path) == 0
    assert [yolo(tmp_path)[str(i)][0][0] for i in range(5)] == list(labels.values())
    assert manifest(tmp_path)["counts"]["val"] == {"pictures": 5, **dict.fromkeys(labels.values(), 1)}
    assert yolo(tmp_path)["0"][0][1:] == pytest.approx((0.4, 0.375, 0.4, 0.5))


def test_an_unknown_label_is_an_error_before_anything_is_written(tmp_path):
    publish(tmp_path, [face("a.jpg", "당황", ["당황"] * 3), face("b.jpg", "지루함", ["당황"] * 3)])
    with pytest.raises(UserError, match=r"val_panic\.json: unknown label '지루함' \(allowed: 분노, .*happy"):
        convert(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "cp949"])
def test_every_encoding_is_read_and_recorded(tmp_path, encoding):
    publish(tmp_path, [face("a.jpg", "슬픔", ["슬픔"] * 3)], encoding=encoding)
    convert(tmp_path)
    assert manifest(tmp_path)["encodings"] == {"val_panic.json": encoding}
    assert yolo(tmp_path)["a"][0][0] == "sad"


def test_text_in_no_known_encoding_is_one_line(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match="none of the encodings utf-8-sig, utf-8, cp949"):
        read_text(tmp_path / "x.json", Notes())


@pytest.mark.parametrize(
    ("uploader", "named", "label", "agreement"),
    [
        ("당황", ["당황", "당황", "당황"], "panic", "1.00"),
        ("당황", ["슬픔", "슬픔", "당황"], "sad", "0.67"),  # the annotators outvote the uploader
        ("당황", ["슬픔", "분노", "당황"], "panic", "0.33"),  # at odds: the uploader's
        ("당황", ["불안", "상처", "슬픔"], "sad", "0.33"),  # anxious and hurt are no vote
        ("당황", ["불안", "상처", "불안"], "panic", "0.00"),
        ("분노", ["중립", "중립", "분노"], "neutral", "0.67"),
    ],
)
def test_three_annotators_agree_by_a_stated_rule(tmp_path, uploader, named, label, agreement):
    publish(tmp_path, [face("a.jpg", uploader, named, spread=4)])
    convert(tmp_path)
    (row,) = yolo(tmp_path)["a"]
    assert row[0] == label and row[1:] == pytest.approx((0.4, 0.375, 0.4, 0.5))  # the middle box
    assert manifest(tmp_path)["agreement"] == {agreement: 1}
    coco = json.loads((tmp_path / "out/annotations/val.json").read_text())
    assert f"{coco['annotations'][0]['agreement']:.2f}" == agreement
    assert sum(manifest(tmp_path)["no_votes"].values()) == sum(name in ("불안", "상처") for name in named)


def test_the_uploaders_label_and_four_classes_as_the_original_had(tmp_path):
    publish(tmp_path, [face("a.jpg", "당황", ["슬픔"] * 3), face("b.jpg", "중립", ["중립"] * 3)])
    convert(tmp_path, "--label", "uploader", "--classes", "anger,sad,panic,happy")
    assert manifest(tmp_path)["counts"] == {"val": {"pictures": 1, "panic": 1}}
    assert manifest(tmp_path)["left_out"] == {"neutral": 1}
    assert manifest(tmp_path)["skipped"] == [{"picture": "b.jpg", "reason": "no face of the classes asked for"}]
    assert not (tmp_path / "out/images/val/b.jpg").exists()


def test_boxes_that_leave_the_picture_are_clipped_with_a_warning(tmp_path, capsys):
    """Ultralytics dropped two of the original's pictures whole because of negative numbers."""
    publish(
        tmp_path,
        [
            face("a.jpg", "기쁨", ["기쁨"] * 3, box=(-5, -3, 50, 40)),
            face("b.jpg", "기쁨", ["기쁨"] * 3, box=(60, 40, 130, 90)),
            face("c.jpg", "기쁨", ["기쁨"] * 3, box=(120, 10, 150, 40)),
        ],
    )
    convert(tmp_path)
    assert yolo(tmp_path)["a"][0][1:] == pytest.approx((0.25, 0.25, 0.5, 0.5))
    assert yolo(tmp_path)["b"][0][1:] == pytest.approx((0.8, 0.75, 0.4, 0.5))
    assert [row["picture"] for row in manifest(tmp_path)["clipped"]] == ["a.jpg", "b.jpg"]
    assert manifest(tmp_path)["skipped"] == [{"picture": "c.jpg", "reason": "every box lies outside the picture"}]
    assert capsys.readouterr().err.count("leaves the picture and was clipped") == 2


def test_turned_photos_are_stored_upright(tmp_path):
    publish(tmp_path, [face("a.jpg", "기쁨", ["기쁨"] * 3)])
    upright = Image.new("RGB", (80, 100), "gray")
    upright.paste((255, 0, 0), (20, 10, 60, 50))
    save_oriented(upright, 6, tmp_path / "pictures/a.jpg")
    before = (tmp_path / "pictures/a.jpg").read_bytes()
    convert(tmp_path)
    stored = Image.open(tmp_path / "out/images/val/a.jpg")
    assert stored.size == (80, 100) and stored.getexif().get(0x0112, 1) == 1
    assert np.allclose(stored.getpixel((40, 30)), (255, 0, 0), atol=12)
    assert yolo(tmp_path)["a"][0][1:] == pytest.approx((0.5, 0.3, 0.5, 0.4))
    assert (tmp_path / "pictures/a.jpg").read_bytes() == before


def test_pictures_that_cannot_be_used_are_rows_and_the_rest_goes_on(tmp_path):
    rows = [face(f"{n}.jpg", "기쁨", ["기쁨"] * 3) for n in ("good", "gone", "broken", "twin", "good")]
    rows.append(face("novote.jpg", "불안", ["상처"] * 3))
    publish(tmp_path, rows)
    (tmp_path / "pictures/gone.jpg").unlink()
    (tmp_path / "pictures/broken.jpg").write_bytes(b"no picture")
    (tmp_path / "pictures/more").mkdir()
    for folder in ("pictures", "pictures/more"):
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "twin.png")
    (tmp_path / "pictures/twin.jpg").unlink()
    convert(tmp_path)
    reasons = {row["picture"]: row["reason"] for row in manifest(tmp_path)["skipped"]}
    assert reasons.pop("broken.jpg").startswith("not a readable picture")
    assert reasons == {
        "gone.jpg": "no such picture",
        "twin.jpg": "2 pictures of this name",
        "good.jpg": "annotated twice",
        "novote.jpg": "no vote for any emotion",
    }
    assert list(yolo(tmp_path)) == ["good"]


def test_names_are_matched_whole(tmp_path):
    """The original searched `if name in filename`: 1.jpg was found in 11.jpg."""
    for name in ("11.jpg", "1.jpg", "21.jpg"):
        Image.new("RGB", (5, 5)).save(tmp_path / name)
    index = picture_index(tmp_path)
    assert [p.name for p in index["1.jpg"]] == ["1.jpg"] and [p.name for p in index["1"]] == ["1.jpg"]


def test_a_second_run_goes_on_and_refuses_other_settings(tmp_path):
    publish(tmp_path, [face("a.jpg", "기쁨", ["기쁨"] * 3, box=(-5, 0, 50, 40))])
    convert(tmp_path)
    first, written = manifest(tmp_path), (tmp_path / "out/labels/val/a.txt").stat().st_mtime_ns
    convert(tmp_path)
    assert manifest(tmp_path) == first and (tmp_path / "out/labels/val/a.txt").stat().st_mtime_ns == written
    publish(tmp_path, [face("b.jpg", "슬픔", ["슬픔"] * 3)], name="train_sad.json")
    convert(tmp_path)
    assert manifest(tmp_path)["counts"] == {
        "train": {"pictures": 1, "sad": 1},
        "val": {"happy": 1, "pictures": 1},
    }
    assert manifest(tmp_path)["hash"] != first["hash"]
    with pytest.raises(UserError, match="other settings"):
        convert(tmp_path, "--label", "uploader")


def test_voc_boxes_count_from_one(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "pictures/a.png")
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a.png</filename><object><name>surprise</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>50</xmax><ymax>40</ymax></bndbox></object><object><name>Angry</name><bndbox><xmin>51</xmin>"
        "<ymin>41</ymin><xmax>100</xmax><ymax>80</ymax></bndbox></object></annotation>"
    )
    args = ["--format", "voc", "--labels", tmp_path / "a.xml", "--images", tmp_path / "pictures"]
    assert main([str(a) for a in (*args, "--out", tmp_path / "out", "--val-share", "0")]) == 0
    rows = yolo(tmp_path, "train")["a"]
    assert [row[0] for row in rows] == ["panic", "anger"]
    assert rows[0][1:] == pytest.approx((0.25, 0.25, 0.5, 0.5)) and rows[1][1:] == pytest.approx((0.75, 0.75, 0.5, 0.5))


def test_coco_comes_in_and_goes_out_the_same(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "pictures/a.jpg")
    coco = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]}],
        "categories": [{"id": 3, "name": "sadness"}, {"id": 5, "name": "disgust"}],
    }
    (tmp_path / "instances_train2017.json").write_text(json.dumps(coco))
    args = ["--format", "coco", "--labels", tmp_path / "instances_train2017.json", "--images", tmp_path / "pictures"]
    main([str(a) for a in (*args, "--out", tmp_path / "out")])
    written = json.loads((tmp_path / "out/annotations/train.json").read_text())
    assert written["annotations"][0]["bbox"] == [10, 20, 30, 40]
    assert {c["id"]: c["name"] for c in written["categories"]}[written["annotations"][0]["category_id"]] == "sad"


def test_class_folders_are_pictures_of_one_face(tmp_path):
    for path, size in (("train/기쁨/a.jpg", (40, 50)), ("test/angry/a.jpg", (30, 30)), ("train/상처/b.jpg", (9, 9))):
        (tmp_path / "faces" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "faces" / path)
    main(["--format", "folders", "--images", str(tmp_path / "faces"), "--out", str(tmp_path / "out")])
    assert yolo(tmp_path, "train") == {"train__기쁨__a": [("happy", 0.5, 0.5, 1.0, 1.0)]}
    assert yolo(tmp_path, "test") == {"test__angry__a": [("anger", 0.5, 0.5, 1.0, 1.0)]}
    assert manifest(tmp_path)["skipped"][0]["reason"] == "no vote for any emotion"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--format", "aihub", "--images", "."], "needs --labels"),
        (["--format", "folders", "--images", "nowhere"], "nowhere is no folder"),
        (["--format", "folders", "--images", ".", "--classes", "joyful"], "unknown joyful (allowed: anger"),
        (["--format", "coco", "--images", ".", "--labels", "nothing.json"], "nothing.json does not exist"),
        (["--format", "voc", "--images", ".", "--labels", "configs"], "no voc annotations there"),
        (["--format", "coco", "--images", ".", "--labels", "pyproject.toml"], "is not JSON"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, args, message):
    done = run_module("detection.emotion.convert", *args, "--out", tmp_path / "out")
    assert done.refuses(message)


def test_damaged_annotations_name_the_file(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels/x.json").write_text('[{"filename": "a.jpg"}]')
    with pytest.raises(UserError, match=r"x\.json: not an AI-Hub annotation, KeyError 'faceExp_uploader'"):
        convert(tmp_path)


def test_the_label_table_is_versioned_and_maps_to_known_emotions():
    table = label_table()
    assert table["version"] == 1 and set(table["labels"].values()) == {*EMOTION_IDS, None}
    notes = Notes()
    assert read_label("  Surprised ", "f", notes) == "panic" and read_label("상처", "f", notes) is None
    assert notes.no_votes == {"상처": 1}


def test_the_published_annotations_are_read_whole(shared):
    notes = Notes()
    rows = read_annotations("aihub", [shared / "data/face_labels"], notes, "majority")
    assert len(rows) == 1200 and {row.split for row in rows} == {"val"}
    assert set(notes.encodings.values()) == {"cp949"}
    assert sum(row.faces[0].agreement == 1 for row in rows if row.faces) > 600
