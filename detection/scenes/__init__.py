"""Photo -> what the whole picture tells: scenes, what goes on, and its main subject."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from detection.families import thing_of
from detection.labels import KNOWN_IDS, kind_of
from detection.photos import upright
from detection.records import Detection
from detection.runner import open_session
from detection.weights import resolve

POCKET = Path(__file__).with_name("pocket.onnx")
SUBJECTS = Path(__file__).with_name("subjects.json")
SIDE = 224
MEAN, SCALE = 0.498, 0.502  # of pixels in 0..1, as the trunk learned
LEAST_TAG, LEAST_SUBJECT = 0.1, 0.1  # probabilities below are noise
SURE_SUBJECT = 0.5
LEAST_EXACT = 0.8  # probability of a breed from which on it is named


def as_input(image: Image.Image) -> np.ndarray:
    """An upright RGB picture as network input (1, 3, SIDE, SIDE) float32: the whole of it, squeezed into a square."""
    small = np.asarray(image.resize((SIDE, SIDE), Image.BICUBIC, reducing_gap=2.0), np.float32)
    return np.ascontiguousarray((small / 255 - MEAN).transpose(2, 0, 1)[None] / SCALE, np.float32)


@lru_cache
def subjects() -> tuple[tuple[str | None, str | None], ...]:
    """For each of ImageNet's 1,000 answers the id of what it means for us and its more exact name; None is silence."""
    rows = json.loads(SUBJECTS.read_text("utf-8"))
    return tuple((row["id"], row.get("exact")) for row in rows)


class SceneDetector:
    """Looks at a picture as a whole.

    Args:
        weights: "pocket" (embedded) or an `.onnx` file that `detection.scenes.train` wrote.
        threads: that one photo takes; default one a core.

    Raises:
        UserError: the weights cannot be found, are damaged, or name tags that no label pack knows.
    """

    def __init__(self, weights: str = "pocket", threads: int | None = None):
        file = resolve(weights, POCKET)
        if file.suffix != ".onnx":
            raise UserError(f"{file}: the look at the whole picture is an .onnx file of detection.scenes.train")
        self.session, meta = open_session(file, threads)
        self.tags = json.loads(meta.get("tags", "null"))
        if not self.tags or any(row["id"] not in KNOWN_IDS for row in self.tags):
            raise UserError(f"{file} was not written by detection.scenes.train, or for other label packs")
        slopes, offsets = (np.array([row[key] for row in self.tags]) for key in ("slope", "offset"))
        self.calibrated = lambda z: 1 / (1 + np.exp(-np.clip(slopes * z + offsets, -30, 30)))

    def detect(self, image: Image.Image) -> list[Detection]:
        """What a picture of any PIL mode (EXIF orientation is applied) tells, highest score first; without boxes.

        Tags have calibrated probabilities and are sure from their own thresholds on. The subject is given as the ids
        that ImageNet's answers mean, each with the sum of their probabilities.
        """
        logits, answers = self.session.run(None, {"picture": as_input(upright(image))})
        found = {
            row["id"]: Detection(row["id"], kind_of(row["id"]), float(p), None, sure=bool(p >= row["threshold"]))
            for row, p in zip(self.tags, self.calibrated(logits[0]), strict=True)
            if p >= LEAST_TAG
        }
        for subject in self._subjects(answers[0]):
            known = found.get(subject.label)
            if known is None or (known.sure, known.score) < (subject.sure, subject.score):
                found[subject.label] = subject
        return sorted(found.values(), key=lambda d: -d.score)

    @staticmethod
    def _subjects(logits: np.ndarray) -> list[Detection]:
        p = np.exp(logits - logits.max())
        p /= p.sum()
        total: dict[str, float] = {}
        exact: dict[str, float] = {}
        for (label, name), share in zip(subjects(), p, strict=True):
            if label:
                total[label] = total.get(label, 0.0) + float(share)
            if name:
                exact[name] = exact.get(name, 0.0) + float(share)
        sure = {thing_of(name): name for name, share in exact.items() if share >= LEAST_EXACT}
        return [
            Detection(sure.get(label, label), kind_of(label), min(share, 1.0), None, sure=share >= SURE_SUBJECT)
            for label, share in total.items()
            if share >= LEAST_SUBJECT
        ]
