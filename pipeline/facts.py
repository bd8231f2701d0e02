"""What the rules of moments and the interest model ask of everything that was seen: scores, counts, people."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from detection.boxes import areas, intersections, nms
from detection.families import ancestors, thing_of
from detection.labels import PEOPLE
from detection.records import Detection

PERSON_THRESHOLD = 0.3
SAME_PERSON_IOU, SAME_PERSON_INSIDE = 0.55, 0.85  # boxes this close are one person
LARGE = 1 / 3  # of the picture's height
BESIDE = 0.5  # gap between two people, in widths of the wider one
CHILDREN = frozenset({"Boy", "Girl"})
CHILD_THRESHOLD = 0.4
WITH = 0.3  # share of a thing's box that lies in a person's


@dataclass(frozen=True)
class Facts:
    """What was seen in a photo, ready to be asked.

    Attributes:
        scores: id -> best score, of its kinds, too; boxes and the look at the whole picture alike.
        sure: ids that the look at the whole picture names above their own thresholds.
        told: id -> what the look at the whole picture thinks of it, sure or not.
        boxes: id -> boxes (N, 4) of it and its kinds.
        people: boxes (N, 4) of people; a face where no person was seen counts as one.
        numbers: people, faces, smiles, children, large_people, near_people, face_share.
    """

    scores: dict[str, float]
    sure: frozenset[str]
    told: dict[str, float]
    boxes: dict[str, np.ndarray]
    people: np.ndarray
    numbers: dict[str, float]

    def with_person(self, label: str) -> bool:
        """Whether a person's box and one of a thing's overlap."""
        boxes = self.boxes.get(label)
        if boxes is None or not len(self.people):
            return False
        return bool((intersections(boxes, self.people) >= WITH * areas(boxes)[:, None]).any())


def gather(detections: Iterable[Detection], size: tuple[int, int]) -> Facts:
    """Facts of the detections in an upright photo of `size` (width, height)."""
    detections = list(detections)
    scores: dict[str, float] = {}
    told: dict[str, float] = {}
    boxes: dict[str, list] = {}
    for d in detections:
        label = thing_of(d.label)
        for name in (label, *ancestors(label)):
            scores[name] = max(scores.get(name, 0.0), d.score)
            if d.xyxy:
                boxes.setdefault(name, []).append(d.xyxy)
        if d.xyxy is None:
            told[label] = max(told.get(label, 0.0), d.score)
    sure = frozenset(thing_of(d.label) for d in detections if d.xyxy is None and d.sure)
    people, faces = _people(detections), [d for d in detections if d.kind == "emotion"]
    numbers = {
        "people": len(people),
        "faces": len(faces),
        "smiles": sum(d.label == "happy" for d in faces),
        "children": sum(d.label in CHILDREN and d.score >= CHILD_THRESHOLD for d in detections),
        "large_people": int((people[:, 3] - people[:, 1] >= LARGE * size[1]).sum()),
        "near_people": _beside(people),
        "face_share": max((d.area for d in faces), default=0.0) / (size[0] * size[1]),
    }
    return Facts(scores, sure, told, {k: np.array(v) for k, v in boxes.items()}, people, numbers)


def _people(detections: list[Detection]) -> np.ndarray:
    """One box a person (N, 4)."""
    seen = [d for d in detections if d.label in PEOPLE and d.score >= PERSON_THRESHOLD]
    boxes = np.array([d.xyxy for d in seen], float).reshape(-1, 4)
    boxes = boxes[nms(boxes, np.array([d.score for d in seen]), SAME_PERSON_IOU, SAME_PERSON_INSIDE)]
    alone = [d.xyxy for d in detections if d.kind == "emotion" and not face_of(d, boxes)]
    return np.concatenate([boxes, np.array(alone, float).reshape(-1, 4)])


def face_of(face: Detection, people: np.ndarray) -> bool:
    """Whether the middle of a face lies in one of the boxes (N, 4) of people."""
    x, y = (face.xyxy[0] + face.xyxy[2]) / 2, (face.xyxy[1] + face.xyxy[3]) / 2
    x1, y1, x2, y2 = np.asarray(people, float).reshape(-1, 4).T
    return bool(((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)).any())


def _beside(people: np.ndarray) -> int:
    """How many people stand beside another of about their size."""
    count = 0
    for i, one in enumerate(people):
        for j, other in enumerate(people):
            heights = sorted((one[3] - one[1], other[3] - other[1]))
            gap = max(one[0], other[0]) - min(one[2], other[2])
            level = min(one[3], other[3]) - max(one[1], other[1])
            widest = max(one[2] - one[0], other[2] - other[0])
            if i != j and heights[0] >= heights[1] / 2 and gap <= BESIDE * widest and level >= heights[0] / 2:
                count += 1
                break
    return count
