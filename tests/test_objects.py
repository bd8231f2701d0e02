"""The joined detector's merging rules, thresholds, evaluation and training, on cases worked out by hand."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from common.errors import UserError
from configs.load import load_settings
from detection.labels import OBJECT_IDS
from detection.objects import ObjectDetector, thresholds
from detection.objects.evaluate import Photo, evaluate, load_yolo, summarise
from detection.objects.join import join
from detection.objects.pseudo_labels import read_mapping
from detection.objects.thresholds import choose, confirmations
from detection.objects.train import ObjectSettings, train
from detection.records import Detection
from detection.runner import Found, OnnxYolo, SecondClass, letterbox
from tests.conftest import PHOTOS, ROOT
from tests.helpers import constant_detector, run_module


def found(*rows):
    classes, scores, boxes = zip(*rows, strict=True) if rows else ((), (), np.zeros((0, 4)))
    return Found(np.array(classes, int), np.array(scores, float), np.array(boxes, float).reshape(-1, 4))


HERE, SHIFTED, THERE = (0, 0, 100, 100), (5, 0, 105, 100), (300, 0, 400, 100)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [(0, 0.4, HERE)], [("Car", 0.4)]),  # only the second head sees it
        ([(1, 0.5, HERE)], [], [("Van", 0.5)]),
        ([(0, 0.5, HERE)], [(0, 0.8, SHIFTED)], [("Car", 0.8)]),  # both say the same: one thing, the higher score
        ([(1, 0.5, HERE)], [(0, 0.8, SHIFTED)], [("Van", 0.8)]),  # the more exact name stays
        ([(1, 0.3, HERE)], [(0, 0.8, SHIFTED)], [("Car", 0.8)]),  # unless it is not half as sure
        ([(1, 0.5, HERE)], [(0, 0.8, THERE)], [("Van", 0.5), ("Car", 0.8)]),  # two things
        ([(2, 0.5, HERE)], [(0, 0.8, SHIFTED)], [("Tree", 0.5), ("Car", 0.8)]),  # a tree is no car
    ],
)
def test_two_heads_name_one_thing_once(tmp_path, first, second, expected):
    runner = OnnxYolo(constant_detector(tmp_path / "d.onnx", np.zeros((1, 7, 1)), ["Car", "Van", "Tree"]))
    runner.second = [SecondClass("Car", ("Van",), 0.15)]
    merged = runner._with_second(found(*first), found(*second))
    assert [(runner.names[c], s) for c, s in zip(merged.classes, merged.scores, strict=True)] == expected


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """An untrained network of each vocabulary."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    folder = tmp_path_factory.mktemp("weights")
    for name, labels in (("open_images", OBJECT_IDS), ("coco", tuple(read_mapping()))):
        torch.manual_seed(0)
        model = YOLO("yolov8n.yaml", verbose=False)
        model.model = DetectionModel("yolov8n.yaml", nc=len(labels), verbose=False)
        model.model.names = dict(enumerate(labels))
        model.save(folder / f"{name}.pt")
    return folder


def test_the_joined_file_answers_as_both_networks_do(checkpoints, tmp_path):
    from ultralytics import YOLO

    chosen = {"first": {"Tree": 0.4}, "second": {"car": 0.2}}
    file = join(checkpoints / "open_images.pt", checkpoints / "coco.pt", tmp_path / "j.onnx", 64, chosen, {"a": "b"})
    assert file.stat().st_size < 8_000_000
    runner = OnnxYolo(file)
    assert runner.names == list(OBJECT_IDS) and runner.side == 64 and len(runner.second) == 80
    assert runner.thresholds[OBJECT_IDS.index("Tree")] == pytest.approx(0.4)
    assert runner.thresholds[OBJECT_IDS.index("Hat")] == pytest.approx(0.25)
    car = runner.second[list(read_mapping()).index("car")]
    assert car.name == "Car" and "Van" in car.same and car.confidence == 0.2
    assert runner.session.get_modelmeta().custom_metadata_map["a"] == "b"
    tensor = letterbox(Image.open(PHOTOS / "cat.jpg").convert("RGB"), 64, False)[0]
    outputs = runner.session.run(None, {"images": tensor})
    for name, output in zip(("open_images", "coco"), outputs, strict=True):
        with torch.no_grad():
            expected = YOLO(checkpoints / f"{name}.pt").model.float().eval()(torch.from_numpy(tensor))[0].numpy()
        assert expected.shape == output.shape and np.allclose(expected[0, 4:], output[0, 4:], atol=5e-3)


def test_a_detector_of_other_classes_is_no_second_head(checkpoints, tmp_path):
    with pytest.raises(UserError, match="are not COCO's"):
        join(checkpoints / "coco.pt", checkpoints / "open_images.pt", tmp_path / "j.onnx", 64)


def test_a_threshold_is_the_lowest_score_from_which_enough_is_confirmed():
    steady = [(0.1 + i / 100, i >= 30) for i in range(60)]  # right from 0.40 on, wrong below
    shaky = [(0.1 + i / 100, False) for i in range(60)]
    chosen = choose({"Cat": steady, "Hat": shaky, "Fox": steady[:5]}, default=0.25, confirmed=0.75)
    assert chosen["Cat"] == pytest.approx(0.3, abs=0.011)  # 30 right of 40
    assert chosen["Hat"] == pytest.approx(0.38, abs=0.011) and "Fox" not in chosen  # too few to tell
    assert choose({"Cat": [(0.25 + i / 1000, True) for i in range(20)]}, 0.25, 0.75) == {}  # as the default


def test_a_detection_is_confirmed_by_most_of_three_looks(tmp_path, monkeypatch):
    """A cat every look sees on the same spot, mirrored ones too; a hat that only one sees."""
    import ultralytics

    class Teacher:
        names = {0: "Cat", 1: "Hat"}

        def predict(self, image, imgsz, conf, verbose):
            red = np.asarray(image)[..., 0].argmax(1)[0]  # where the red stripe stands tells a mirrored picture
            cat = [70.0, 10, 90, 30] if red > 50 else [10.0, 10, 30, 30]
            rows = [cat] + ([[40.0, 40, 60, 60]] if imgsz in (512, 896) else [])
            column = lambda values: torch.tensor(values)
            boxes = type("Boxes", (), {})()
            boxes.cls, boxes.conf, boxes.xyxy = column([0.0, 1.0][: len(rows)]), column([0.6] * len(rows)), column(rows)
            return [type("Result", (), {"boxes": boxes})]

    picture = Image.new("RGB", (100, 80))
    picture.paste((255, 0, 0), (10, 0, 12, 80))
    picture.save(tmp_path / "a.png")
    monkeypatch.setattr(ultralytics, "YOLO", lambda path: Teacher())
    rows = confirmations("teacher.pt", [tmp_path / "a.png"], 512)
    assert rows == {"Cat": [(pytest.approx(0.6), True)], "Hat": [(pytest.approx(0.6), False)]}
    kept = thresholds.write_thresholds(tmp_path / "t.json", {"Cat": 0.3}, {})
    assert json.loads(kept.read_text()) == {"first": {"Cat": 0.3}, "second": {}}


def seen(label, xyxy, score=0.9):
    return Detection(label, "object", score, tuple(map(float, xyxy)))


def test_the_figures_of_a_known_case():
    a, b = [0, 0, 40, 40], [50, 0, 90, 40]
    photos = [
        Photo((100, 80), ["Cat", "Dog"], np.array([a, b], float), [seen("Cat", a), seen("Fox", b), seen("Hat", a)]),
        Photo((100, 80), ["Cat"], np.array([a], float), [seen("Cat", b), seen("Dog", a)]),
        Photo((100, 80), [], np.zeros((0, 4)), []),
    ]
    figures = summarise(photos)
    assert figures["recall"] == pytest.approx(2 / 3)  # cat, cat; no dog where the dog is
    assert figures["precision"] == pytest.approx(2 / 3)  # the dog is none; fox and hat are not labelled
    assert figures["classes"]["Cat"]["recall"] == 1 and figures["classes"]["Dog"]["precision"] == 0
    assert figures["most_missed"] == [("Dog", 1), ("Cat", 1)]  # boxes: the second cat was seen elsewhere
    assert sorted(figures["most_confused"]) == [["Cat", "Dog", 1], ["Cat", "Hat", 1], ["Dog", "Fox", 1]]
    assert figures["classes"]["Cat"]["AP50"] == pytest.approx(51 / 101) and figures["classes"]["Dog"]["AP50"] == 0


def yolo_dataset(folder, names=("cat", "zebra crossing")):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(folder / "images" / split / f"{number}.png")
            (folder / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n" if number else "")
    data = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return folder / "data.yaml"


def test_the_command_writes_report_and_pictures(tmp_path):
    data = yolo_dataset(tmp_path / "data")
    rows = np.array([[[16, 16, 48, 48, 0.9, 0]]])
    file = constant_detector(tmp_path / "d.onnx", rows, ["Cat"])
    figures = evaluate(data, "val", str(file), None, tmp_path / "report")
    assert figures["recall"] == 1 and figures["precision"] == pytest.approx(3 / 4) and figures["mAP50"] > 0.7
    report = (tmp_path / "report/report.md").read_text()
    assert "| Cat | 3 | 1.000 | 0.750 |" in report and str(tmp_path) not in report
    for name in ("precision_recall", "classes"):
        assert np.asarray(Image.open(tmp_path / f"report/{name}.png").convert("L")).std() > 5


@pytest.mark.parametrize(
    ("split", "message"), [("test", "has no split 'test' (there: train, val)"), (None, "is not a YOLO dataset file")]
)
def test_a_dataset_that_is_not_there_is_one_line(tmp_path, split, message):
    data = yolo_dataset(tmp_path / "data") if split else tmp_path / "none.yaml"
    done = run_module("detection.objects.evaluate", "--data", data, "--split", split or "val")
    assert done.refuses(message)


def test_names_are_read_in_any_spelling(tmp_path):
    names, pairs = load_yolo(yolo_dataset(tmp_path / "data"), "val")
    assert names == ["Cat", "zebra crossing"] and len(pairs) == 4  # what no pack knows keeps its own name


def test_any_yolo_dataset_trains_in_stages_and_resumes(checkpoints, tmp_path):
    data = yolo_dataset(tmp_path / "data")
    overrides = [f"dataset={data}", f"base={checkpoints}/coco.pt", f"run={tmp_path}/run", "batch=4"]
    overrides += ["stages=[{imgsz: 32, epochs: 1}, {imgsz: 64, epochs: 1}]", f"export={tmp_path}/own.onnx"]
    overrides += ["ultralytics={workers: 0}", "export_imgsz=64"]
    settings = load_settings(ROOT / "configs/objects/lvis.yaml", ObjectSettings, overrides)
    best = train(settings)
    assert best == tmp_path / "run/stage_2/train/weights/best.pt" and (tmp_path / "run/settings.yaml").exists()
    assert (tmp_path / "run/stage_1/train/results.png").exists()
    with pytest.warns(UserWarning, match="zebra crossing"):
        assert ObjectDetector(str(tmp_path / "own.onnx")).labels == ["Cat", "zebra crossing"]
    written = best.stat().st_mtime_ns
    assert train(settings).stat().st_mtime_ns == written  # a finished stage is not repeated


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=null"], "either dataset, or photos"),
        (["stages=[]"], "at least one is needed"),
        (["stages=[{imgsz: 160}]"], "stages.0.epochs: field required"),
        (["dataset=none.yaml"], "none.yaml does not exist"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, overrides, message):
    args = ["--config", "configs/objects/lvis.yaml", f"run={tmp_path}/run", *overrides]
    done = run_module("detection.objects.train", *args)
    assert done.refuses(message)
