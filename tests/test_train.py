"""The trainers learn, resume and refuse bad data, on tiny data that the tests draw themselves."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from common.errors import UserError
from detection.labels import EMOTION_IDS, OBJECT_IDS
from detection.objects import pseudo_labels
from detection.objects.pseudo_labels import Boxes, merge, read_mapping
from tests.helpers import run_module


def test_teachers_are_merged_by_rule():
    mapping = read_mapping()
    assert len(mapping) == 80 and {row["name"] for row in mapping.values()} <= set(OBJECT_IDS)
    box = lambda *rows: np.array(rows, float).reshape(-1, 4)
    open_images = Boxes(["Van", "Tree"], np.array([0.6, 0.5]), box([0, 0, 100, 100], [200, 0, 300, 100]))
    coco = Boxes(
        ["car", "car", "kite"], np.array([0.9, 0.8, 0.7]), box([0, 0, 98, 100], [400, 0, 500, 80], [200, 0, 300, 100])
    )
    merged = merge(open_images, coco, mapping)
    assert merged.names == ["Van", "Tree", "Car", "Kite"]  # a van is a car already; another car and the kite are new
    assert merge(open_images, Boxes([], np.zeros(0), np.zeros((0, 4))), mapping).names == ["Van", "Tree"]


def test_a_mapping_to_an_unknown_class_is_an_error(tmp_path):
    (tmp_path / "m.yaml").write_text("car: {name: Carr}\n")
    with pytest.raises(UserError, match="Carr"):
        read_mapping(tmp_path / "m.yaml")


def test_pseudo_labels_become_a_yolo_dataset_and_resume(tmp_path, monkeypatch):
    import ultralytics

    (tmp_path / "photos").mkdir()
    photos = []
    for i in range(12):
        photos.append(tmp_path / "photos" / f"{i}.png")
        Image.new("RGB", (200, 100), (i * 20, 0, 0)).save(photos[-1])
    calls = []

    def look(teacher, image, confidence, imgsz):
        calls.append(teacher)
        name = "Hat" if teacher == "oi" else "dog"
        return Boxes(
            [name],
            np.array([0.9]),
            np.array([[20.0 if name == "Hat" else 120.0, 10, 60 if name == "Hat" else 220, 50]]),
        )

    monkeypatch.setattr(ultralytics, "YOLO", lambda path: path)
    monkeypatch.setattr(pseudo_labels, "look", look)
    settings = SimpleNamespace(
        open_images_teacher="oi", coco_teacher="coco", confidence=0.25, teacher_imgsz=64, val_share=0.3, seed=0
    )
    for _ in range(2):
        data = yaml.safe_load(pseudo_labels.build_dataset(photos, settings, tmp_path / "out").read_text())
    assert len(calls) == 24  # the second call found everything done
    assert data["names"][OBJECT_IDS.index("Hat")] == "Hat"
    labels = list((tmp_path / "out/labels").rglob("*.txt"))
    assert len(labels) == 12 and {p.parent.name for p in labels} == {"train", "val"}
    rows = [line.split() for line in labels[0].read_text().splitlines()]
    assert [OBJECT_IDS[int(r[0])] for r in rows] == ["Hat", "Dog"]
    assert [float(v) for v in rows[0][1:]] == pytest.approx([0.2, 0.3, 0.2, 0.4])
    assert float(rows[1][1]) + float(rows[1][3]) / 2 <= 1  # the dog's box left the picture: clipped, not dropped
    assert json.loads((tmp_path / "out/manifest.json").read_text())["boxes"] == {"Hat": 12, "Dog": 12}


def test_distillation_pulls_the_student_to_the_teachers():
    from detection.distillation import loss_of

    torch.manual_seed(0)
    teacher = (torch.randn(1, 64, 50), torch.zeros(1, 601, 50))
    teacher[1][0, 7, :5] = 0.9
    boxes, logits = torch.randn(1, 64, 50, requires_grad=True), torch.full((1, 601, 50), -6.0, requires_grad=True)
    optimizer = torch.optim.Adam([boxes, logits], lr=0.3)
    first = sum(loss_of((boxes, logits), teacher)).item()
    for _ in range(60):
        optimizer.zero_grad()
        sum(loss_of((boxes, logits), teacher)).backward()
        optimizer.step()
    assert sum(loss_of((boxes, logits), teacher)).item() < first / 5
    assert logits[0, 7, :5].sigmoid().min() > 0.6 and logits[0, 7, 10:].sigmoid().max() < 0.1


@pytest.mark.parametrize("end_to_end", [False, True])
def test_export_keeps_answers_and_metadata(tmp_path, end_to_end):
    """A checkpoint and its quarter-size ONNX file see nearly the same."""
    from ultralytics import YOLO

    from detection.emotion.train import new_detector
    from detection.export import export_onnx
    from detection.runner import OnnxYolo, letterbox

    model = new_detector(list(EMOTION_IDS), None)
    detector = YOLO("yolov10n.yaml", verbose=False)
    detector.model = model
    detector.save(tmp_path / "m.pt")
    file = export_onnx(tmp_path / "m.pt", tmp_path / "m.onnx", imgsz=64, confidence=0.11, end_to_end=end_to_end)
    runner = OnnxYolo(file)
    assert runner.names == list(EMOTION_IDS) and runner.side == 64 and runner.confidence == 0.11
    assert runner.end_to_end == end_to_end and file.stat().st_size < 3_500_000
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    tensor = letterbox(photo, 64, False)[0]
    model.end2end = end_to_end
    with torch.no_grad():
        expected = model.float().eval()(torch.from_numpy(tensor))[0].numpy()[0]
    got = runner.session.run(None, {"images": tensor})[0][0]
    assert expected.shape == got.shape
    scores = (expected[:, 4], got[:, 4]) if end_to_end else (expected[4:].max(0), got[4:].max(0))
    assert np.allclose(np.sort(scores[0])[-20:], np.sort(scores[1])[-20:], atol=2e-3)


@pytest.mark.parametrize(
    ("module", "config"),
    [
        ("detection.objects.join", "objects/pocket"),
        ("detection.objects.train", "objects/single"),
        ("detection.emotion.train", "emotion/pocket"),
        ("detection.emotion.train", "emotion/one_pass"),
    ],
)
def test_missing_data_is_one_clear_line(module, config, tmp_path):
    done = run_module(module, "--config", f"configs/{config}.yaml", f"data={tmp_path}")
    assert done.refuses("data=FOLDER")
