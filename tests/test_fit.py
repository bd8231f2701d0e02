"""Ultralytics' training runs once, and a finished run is not repeated."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from detection.emotion import classifier, dataset
from detection.emotion.train import train_detector
from detection.labels import EMOTION_IDS


def test_the_detector_trains_once(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(4):
            image = Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8))
            dataset._write(tmp_path / "dataset", split, str(number), image, [(number % 5, (8, 8, 40, 40))])
    settings = SimpleNamespace(run=tmp_path, start=None, epochs=1, patience=5, imgsz=64, batch=4, lr=1e-3, seed=0)
    data = dataset.write_data_yaml(tmp_path / "dataset")
    best = train_detector(settings, classifier.new_detector(), data)
    assert best.exists() and (tmp_path / "train" / "results.csv").exists()
    from ultralytics import YOLO

    assert list(YOLO(best).names.values()) == list(EMOTION_IDS)
    written = best.stat().st_mtime_ns
    assert train_detector(settings, classifier.new_detector(), data).stat().st_mtime_ns == written
