"""The evaluation's figures against cases worked out by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from detection.emotion.evaluate import Seen, load_coco, main, precision_by_class, summarise
from detection.emotion.yolo_coco import DatasetWriter, FaceBox, Item
from detection.labels import EMOTION_IDS
from tests.helpers import constant_detector, run_module

A, B, C = [0, 0, 40, 40], [50, 0, 90, 40], [0, 50, 20, 70]  # two medium faces and a small one


def write_dataset(folder, pictures, split="val"):
    """Pictures given as lists of (label, xyxy, agreement)."""
    writer = DatasetWriter(folder, EMOTION_IDS, {})
    for number, faces in enumerate(pictures):
        Image.new("RGB", (100, 80)).save(writer.picture_path(split, f"{number}.png"))
        boxes = tuple(FaceBox(label, tuple(map(float, xyxy)), agreement) for label, xyxy, agreement in faces)
        writer.add(str(number), Item(split, f"{number}.png", 100, 80, boxes))
    writer.finish()
    return load_coco(folder, split)


def seen(truth, found):
    """Truth as (label, xyxy), detections as (label, xyxy, score)."""
    boxes = lambda rows: np.array([row[1] for row in rows], float).reshape(-1, 4)
    labels = lambda rows: [row[0] for row in rows]
    scores = np.array([row[2] for row in found], float)
    return Seen(labels(truth), boxes(truth), [1.0] * len(truth), labels(found), boxes(found), scores)


def test_every_face_is_chosen_once_by_the_best_score():
    near = [1, 0, 41, 40]
    s = seen([("happy", A), ("sad", B)], [("sad", A, 0.5), ("happy", near, 0.9), ("sad", C, 0.8)])
    assert s.matches() == {1: 0}  # the weaker box on the same face is a false face, C is on none


def test_the_figures_of_a_known_case(tmp_path):
    truth = [[("happy", A), ("sad", B)], [("panic", A), ("happy", C)], []]
    coco = write_dataset(tmp_path, [[(*face, 1.0) for face in faces] for faces in truth])
    found = [
        [("happy", A, 0.9), ("neutral", B, 0.8)],  # right, wrong feeling
        [("panic", A, 0.7)],  # right; the small face is missed
        [("happy", B, 0.6)],  # a false face
    ]
    figures = summarise(coco, [seen(t, f) for t, f in zip(truth, found, strict=True)])
    assert figures["accuracy"] == pytest.approx(2 / 4) and figures["found"] == pytest.approx(3 / 4)
    assert figures["macro_recall"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert figures["false_faces_per_picture"] == pytest.approx(1 / 3)
    assert figures["confusion"]["sad"] == {"anger": 0, "sad": 0, "panic": 0, "happy": 0, "neutral": 1, "missed": 0}
    assert figures["confusion"]["false"]["happy"] == 1 and figures["confusion"]["happy"]["missed"] == 1
    assert figures["by_size"]["small"] == {"faces": 1, "found": 0.0, "named_right": 0.0}
    assert figures["by_size"]["medium"] == {"faces": 3, "found": 1.0, "named_right": pytest.approx(2 / 3, abs=1e-4)}
    errors = [abs(0.9 - 1), 0.8, abs(0.7 - 1), 0.6]
    assert figures["expected_calibration_error"] == pytest.approx(np.mean(errors))
    assert figures["per_class"]["panic"]["AP50"] == pytest.approx(1.0)
    assert figures["per_class"]["sad"]["AP50"] == pytest.approx(0.0)
    said = {row["threshold"]: (row["said"], row["right"]) for row in figures["by_threshold"]}
    assert (
        said[0.85] == (0.25, 1.0) and said[0.65] == (0.75, pytest.approx(2 / 3, abs=1e-4)) and said[0.95] == (0, None)
    )
    # happy: one of two found, before the false one: precision 1 up to recall 0.5, 0 beyond (101 points)
    assert figures["per_class"]["happy"]["AP50"] == pytest.approx(51 / 101)
    assert figures["finding"]["AP50"] == pytest.approx(76 / 101)  # three of four, before the false one


def test_loose_boxes_count_at_50_but_not_at_75(tmp_path):
    coco = write_dataset(tmp_path, [[("happy", [0, 0, 40, 40], None)]])
    row = precision_by_class(coco, [seen([("happy", A)], [("happy", [0, 0, 40, 27], 0.9)])])["happy"]  # IoU 0.675
    assert row["AP50"] == pytest.approx(1.0) and row["AP50-95"] == pytest.approx(0.4)  # of ten thresholds: .5 to .65


def test_faces_nobody_named_count_only_where_faces_are_found(tmp_path):
    coco = write_dataset(tmp_path, [[("happy", A, None)]])
    coco["categories"].append({"id": 9, "name": "face"})
    coco["images"].append(coco["images"][0] | {"id": 99})
    coco["annotations"].append(coco["annotations"][0] | {"id": 99, "image_id": 99, "category_id": 9})
    pictures = [seen([("happy", A)], [("happy", A, 0.9)]), seen([("face", A)], [("sad", A, 0.9)])]
    figures = summarise(coco, pictures)
    assert figures["faces"] == 2 and figures["found"] == 1.0 and figures["accuracy"] == 1.0
    assert "face" not in figures["per_class"] and figures["finding"]["AP50"] == pytest.approx(1.0)


def test_nothing_found_is_a_report_too(tmp_path):
    coco = write_dataset(tmp_path, [[("happy", A, None)]])
    figures = summarise(coco, [seen([("happy", A)], [])])
    assert figures["accuracy"] == 0 and figures["mAP50"] == 0 and figures["reliability"] == []


def test_the_command_writes_report_and_pictures(tmp_path, capsys):
    write_dataset(tmp_path / "faces", [[("happy", [10, 10, 40, 40], 1.0)], [("sad", [10, 10, 40, 40], 0.67)]])
    rows = np.array([[[6.4, 13.6, 25.6, 32.8, 0.8, 0]]])  # 100 x 80 in a 64 px network: scale 0.64, padded above by 6
    rows[0, 0, [1, 3]] = [10 * 0.64 + 6, 40 * 0.64 + 6]
    file = constant_detector(tmp_path / "d.onnx", rows, ["happy", "sad"])
    out = tmp_path / "report"
    assert main(["--data", str(tmp_path / "faces"), "--weights", str(file), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["accuracy"] == 0.5 and report["by_agreement"]["1.00"]["named_right"] == 1.0
    assert report["by_agreement"]["0.67"]["named_right"] == 0.0
    for name in ("confusion", "precision_recall", "reliability"):
        picture = Image.open(out / f"{name}.png").convert("L")
        assert picture.width >= 600 and np.asarray(picture).std() > 5
    text = capsys.readouterr().out
    assert "| accuracy | 0.500 |" in text and "| 0.67 | 1 | 1.000 | 0.000 |" in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "nowhere"], "annotations/val.json does not exist"),
        (["--data", "OUT", "--split", "test"], "there: val"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, args, message):
    write_dataset(tmp_path / "faces", [[("happy", A, None)]])
    args = [str(tmp_path / "faces") if a == "OUT" else a for a in args]
    done = run_module("detection.emotion.evaluate", *args, "--out", tmp_path / "report")
    assert done.refuses(message)


def test_categories_that_are_no_emotions_are_refused(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/val.json").write_text(json.dumps({"categories": [{"id": 1, "name": "nose"}]}))
    with pytest.raises(UserError, match="nose"):
        load_coco(tmp_path, "val")
