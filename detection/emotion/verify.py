"""A second look at every face: the crop classifier's trunk also tells whether a crop is a face at all.

The finder's score and a linear reading of the trunk's features give, by logistic regression, how likely a detection is
a face. Learned from the finder's own detections on the training pictures, right and wrong ones: calibration (Platt,
1999) and hard-negative training in one. Dogs, statues and wall clocks look like faces to the finder, seldom to both.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detection.boxes import iou_matrix, nms
from detection.emotion import SAME_FACE_INSIDE, SAME_FACE_IOU
from detection.emotion.classifier import CropClassifier, features
from detection.emotion.feelings import face_crop
from detection.emotion.yolo_coco import Item
from detection.runner import OnnxYolo, logit

FOLDS = 5
RIDGE = 3.0  # pull of the features' weights to zero
ON_FACE, OFF_FACE = 0.5, 0.2  # IoU with a labelled face: right from the first, wrong below the second


@dataclass(frozen=True)
class Looks:
    """Detections on training pictures: the finder's scores (N,), trunk features (N, 256), whether each is a face, and
    the fold (N,) of its picture; `empty` counts the pictures without faces, `on_empty` marks detections there."""

    scores: np.ndarray
    features: np.ndarray
    right: np.ndarray
    fold: np.ndarray
    on_empty: np.ndarray
    empty: int


@dataclass(frozen=True)
class Verifier:
    """P(face) = sigmoid(score_weight * logit(score) + features @ weights + bias), and the least that is shown."""

    score_weight: float
    weights: np.ndarray
    bias: float
    confidence: float = 0.5

    def probabilities(self, scores: np.ndarray, crop_features: np.ndarray) -> np.ndarray:
        """P(face) of detections."""
        return 1 / (1 + np.exp(-(self.score_weight * logit(scores) + crop_features @ self.weights + self.bias)))


def collect(finder: OnnxYolo, model: CropClassifier, folder: Path, items: Iterable[Item]) -> Looks:
    """The finder's detections on pictures of a dataset, read by the classifier's trunk."""
    rows, empty = [], 0
    for item in items:
        image = Image.open(folder / "images" / item.split / item.file_name).convert("RGB")
        found = finder.predict(image)
        kept = nms(found.xyxy, found.scores, SAME_FACE_IOU, SAME_FACE_INSIDE)
        empty += not item.faces
        if not len(kept):
            continue
        fold = int(hashlib.sha256(item.file_name.encode()).hexdigest()[:8], 16) % FOLDS
        overlap = iou_matrix(found.xyxy[kept], [face.xyxy for face in item.faces]).max(axis=1, initial=0)
        read = features(model, np.stack([face_crop(image, box) for box in found.xyxy[kept]]))
        rows += [
            (score, feature, best >= ON_FACE, fold, not item.faces)
            for score, feature, best in zip(found.scores[kept], read, overlap, strict=True)
            if best >= ON_FACE or best < OFF_FACE
        ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Looks(*columns, empty)


def fit(looks: Looks, most_false: float) -> Verifier:
    """Fit the verifier; its least probability is the lowest at which, on pictures without faces that it was not fitted
    on (five folds), at most `most_false` false faces a picture are left."""
    held_out = np.zeros(len(looks.scores))
    for fold in range(FOLDS):
        rows = looks.fold != fold
        part = _fit(looks.scores[rows], looks.features[rows], looks.right[rows])
        held_out[~rows] = part.probabilities(looks.scores[~rows], looks.features[~rows])
    wrong = np.sort(held_out[looks.on_empty & ~looks.right])[::-1]
    allowed = int(most_false * looks.empty)
    confidence = float(wrong[allowed]) if len(wrong) > allowed else 0.05
    whole = _fit(looks.scores, looks.features, looks.right)
    return Verifier(whole.score_weight, whole.weights, whole.bias, round(confidence + 1e-4, 4))


def _fit(scores: np.ndarray, crop_features: np.ndarray, right: np.ndarray, steps: int = 30) -> Verifier:
    """Ridge logistic regression by Newton's method, on standardised features."""
    mean, spread = crop_features.mean(0), crop_features.std(0) + 1e-6
    x = np.column_stack([logit(scores), np.ones(len(scores)), (crop_features - mean) / spread])
    ridge = np.full(x.shape[1], RIDGE)
    ridge[:2] = 1e-2
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ weights))
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        weights -= np.linalg.solve(curvature, x.T @ (p - right) + ridge * weights)
    own = weights[2:] / spread
    return Verifier(float(weights[0]), own, float(weights[1] - own @ mean))
