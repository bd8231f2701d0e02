"""Face crops -> feelings, at run time: the ONNX crop classifier behind a detector that only finds faces.

It also takes a second look at whether a crop is a face at all (see `verify`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from detection.labels import EMOTION_IDS
from detection.runner import literal, logit, open_session

FACE_SIDE = 48  # crops are learned, and therefore read, at this size
CROP_SIDE = 96  # and enlarged to this one for the network
MARGIN = 1.0  # side of the square that is read, in longer sides of the face's box
AROUND = 2.2  # that of the second look's wider square: head and shoulders are under a face, and no clock has them


def face_crop(image: Image.Image, xyxy: tuple[float, float, float, float], margin: float = MARGIN) -> np.ndarray:
    """The square around a face as a grey crop (48, 48) uint8; beyond the picture its edge goes on.

    Args:
        image: upright RGB picture.
        xyxy: the face's box in pixels.
        margin: side of the square in longer sides of the box.
    """
    x1, y1, x2, y2 = xyxy
    half = max(max(x2 - x1, y2 - y1) * margin / 2, 1.0)
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    square = [round(v) for v in (cx - half, cy - half, cx + half, cy + half)]
    inside = [min(max(v, 0), limit) for v, limit in zip(square, image.size * 2, strict=True)]
    grey = np.asarray(image.crop(inside).convert("L"))
    grey = np.pad(
        grey, [(inside[1] - square[1], square[3] - inside[3]), (inside[0] - square[0], square[2] - inside[2])], "edge"
    )
    return np.asarray(Image.fromarray(grey).resize((FACE_SIDE, FACE_SIDE), Image.BILINEAR))


@dataclass(frozen=True)
class SecondLook:
    """How likely a detection is a face: sigmoid(score_weight * logit(score) + evidence @ weights + bias).

    Attributes:
        weights: (F,) of what `FeelingClassifier.look` tells of a face.
        confidence: the least probability of a face that is shown.
    """

    score_weight: float
    weights: np.ndarray
    bias: float
    confidence: float = 0.5

    def probabilities(self, scores: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """P(face) (N,) of detections with the finder's scores (N,) and evidence (N, F)."""
        return 1 / (1 + np.exp(-(self.score_weight * logit(scores) + evidence @ self.weights + self.bias)))

    def to_json(self) -> str:
        """As it stands in the metadata of a classifier's file."""
        return json.dumps({**vars(self), "weights": [round(float(w), 5) for w in self.weights]})

    @classmethod
    def from_json(cls, text: str) -> "SecondLook":
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**{**raw, "weights": np.array(raw["weights"])})


class FeelingClassifier:
    """Names the feeling of faces that a detector found, and says how likely they are faces.

    Raises:
        UserError: the file is damaged or its classes are not the five emotions.
    """

    def __init__(self, file: Path, threads: int | None = None):
        self.session, meta = open_session(file, threads)
        if literal(meta.get("names", "None")) != list(EMOTION_IDS) or "second_look" not in meta:
            raise UserError(f"{file} is no feeling classifier; its names must be {list(EMOTION_IDS)}")
        self.second_look = SecondLook.from_json(meta["second_look"])

    def read(self, image: Image.Image, xyxy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look at the faces in boxes (N, 4) of an upright RGB picture.

        Args:
            scores: the detector's, (N,).

        Returns:
            calibrated probabilities (N, 5) of the feelings in the order of `EMOTION_IDS`, and of being a face (N,).
        """
        if not len(xyxy):
            return np.zeros((0, len(EMOTION_IDS)), np.float32), np.zeros(0)
        feelings, evidence = self.look(image, xyxy)
        return feelings, self.second_look.probabilities(scores, evidence)

    def look(self, image: Image.Image, xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, 5) of the feelings, and evidence (N, 2 * 256 + 1) for the second look: what the network
        sees in each face's square and in the wider one around it, and the logarithm of the face's share of the picture.
        """
        crops = [face_crop(image, box, margin) for margin in (MARGIN, AROUND) for box in xyxy]
        feelings, seen = self.session.run(None, {"faces": np.stack(crops)[:, None].astype(np.float32) / 255})
        n = len(xyxy)
        sides = np.minimum(xyxy[:, 2] - xyxy[:, 0], xyxy[:, 3] - xyxy[:, 1]) / max(image.size)
        return feelings[:n], np.column_stack([seen[:n], seen[n:], np.log(np.maximum(sides, 1e-3))])
