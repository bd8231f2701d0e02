"""Thresholds per class, from photos nobody labelled: how sure must a detector be before other looks confirm it?

A wrong element costs more than a missed one. A detection at the default input side counts as confirmed where most of
three other looks (larger, larger still, mirrored) of the same detector see the same class on the same spot. A class's
threshold is the lowest score from which on at least `confirmed` of its detections are.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.files import write_json
from detection.boxes import iou_matrix
from detection.photos import upright

LOOKS = ((640, False), (896, False), (640, True))  # longer side in pixels, mirrored
LOWEST = 0.08
RISE = 1.5  # of the default at most: few photos may make a class quieter, but not silence it
LOOKED_AT = 0.2  # another look confirms from this score on
ENOUGH = 12  # detections; a class with fewer keeps the default


def confirmations(detector: str, photos: Iterable[Path], side: int) -> dict[str, list[tuple[float, bool]]]:
    """Class -> (score, confirmed) of every detection of an Ultralytics checkpoint at `side`."""
    from ultralytics import YOLO

    model, rows = YOLO(detector), defaultdict(list)
    for photo in photos:
        image = upright(Image.open(photo))
        names, scores, xyxy = _look(model, image, side, False, LOWEST)
        others = [_look(model, image, *look, LOOKED_AT) for look in LOOKS]
        votes = sum(_seen(names, xyxy, other) for other in others)
        for name, score, count in zip(names, scores, votes, strict=True):
            rows[name].append((float(score), bool(count >= 2)))
    return rows


def _look(model, image: Image.Image, side: int, mirrored: bool, confidence: float) -> tuple:
    picture = ImageOps.mirror(image) if mirrored else image
    found = model.predict(picture, imgsz=side, conf=confidence, verbose=False)[0].boxes
    xyxy = found.xyxy.numpy().copy()
    if mirrored:
        xyxy[:, [0, 2]] = image.width - xyxy[:, [2, 0]]
    return np.array([model.names[int(c)] for c in found.cls]), found.conf.numpy(), xyxy


def _seen(names: np.ndarray, xyxy: np.ndarray, other: tuple) -> np.ndarray:
    same = (names[:, None] == other[0][None]) if len(other[0]) else np.zeros((len(names), 0), bool)
    return (same & (iou_matrix(xyxy, other[2]) >= 0.5)).any(1)


def choose(rows: dict[str, list[tuple[float, bool]]], default: float, confirmed: float) -> dict[str, float]:
    """A threshold per class with enough detections; classes that keep `default` are left out."""
    chosen = {}
    for name, seen in sorted(rows.items()):
        if len(seen) < ENOUGH:
            continue
        scores, right = (np.array(column) for column in zip(*sorted(seen, reverse=True), strict=True))
        share = np.cumsum(right) / np.arange(1, len(right) + 1)
        enough = np.flatnonzero((share >= confirmed) & (np.arange(1, len(right) + 1) >= ENOUGH // 2))
        threshold = float(scores[enough[-1]]) if len(enough) else 1.0
        threshold = round(min(max(threshold, LOWEST), RISE * default), 2)
        if threshold != default:
            chosen[name] = threshold
    return chosen


def write_thresholds(file: Path, first: dict[str, float], second: dict[str, float]) -> Path:
    """Keep both heads' thresholds as JSON, for `join`."""
    return write_json(file, {"first": first, "second": second})
