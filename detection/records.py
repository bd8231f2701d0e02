"""The record between detection and everything after it."""

import math
from dataclasses import dataclass

from detection.labels import KINDS


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing seen in a photo.

    Attributes:
        label: canonical id ("panic", "Hat", "beach"); names in a language come from the label packs.
        kind: "emotion" (a face), "moment", "object" or "scene".
        score: confidence in 0..1.
        xyxy: left, top, right, bottom in pixels of the upright photo, left < right, top < bottom; None where it was
            told by the whole picture.
        votes: how many networks saw it on this spot.
        sure: whether its detector would say it; what is not sure may only support others.

    Raises:
        ValueError: a field is out of range, at construction.
    """

    label: str
    kind: str
    score: float
    xyxy: tuple[float, float, float, float] | None
    votes: int = 1
    sure: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label:
            raise ValueError(f"label must be a non-empty string, but got {self.label!r}")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, but got {self.kind!r}")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score must be within 0..1, but got {self.score!r}")
        if self.votes < 1:
            raise ValueError(f"votes must be at least 1, but got {self.votes!r}")
        if self.xyxy is None:
            return
        if len(self.xyxy) != 4 or not all(math.isfinite(v) for v in self.xyxy):
            raise ValueError(f"xyxy must be four finite numbers, but got {self.xyxy!r}")
        if not (0 <= self.xyxy[0] < self.xyxy[2] and 0 <= self.xyxy[1] < self.xyxy[3]):
            raise ValueError(f"xyxy must hold 0 <= left < right and 0 <= top < bottom, but got {self.xyxy!r}")

    @property
    def area(self) -> float:
        """Box area in square pixels; 0 without a box."""
        if self.xyxy is None:
            return 0.0
        return (self.xyxy[2] - self.xyxy[0]) * (self.xyxy[3] - self.xyxy[1])


def clipped(
    label: str, kind: str, score: float, xyxy: tuple, size: tuple[int, int], votes: int = 1
) -> Detection | None:
    """A detection with its box cut to a photo of `size` (width, height); None if less than a pixel stays."""
    x1, x2 = (min(max(float(v), 0.0), size[0]) for v in (xyxy[0], xyxy[2]))
    y1, y2 = (min(max(float(v), 0.0), size[1]) for v in (xyxy[1], xyxy[3]))
    if x2 - x1 < 1 or y2 - y1 < 1:
        return None
    box = (round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1))
    return Detection(label, kind, min(max(float(score), 0.0), 1.0), box, int(votes))
