"""Detections -> ElementList: what of all that was seen is worth a word, and in which order."""

from collections.abc import Iterable

import numpy as np

from detection.boxes import intersections
from detection.families import ancestors
from detection.labels import PLAIN_IDS, load_pack
from detection.records import Detection
from language.records import Element, ElementList
from pipeline.candidates import Candidate, find_candidates
from pipeline.facts import face_of, gather
from pipeline.interest import load_interest
from pipeline.moments import said_after, strained

# Below these scores a face is a face, but its feeling is left unsaid. In scenes of held-out training faces (a tenth,
# drawn once) 86 % of the feelings said from 0.65 on are right. In photos that people post sad, angry and startled faces
# are rare, and what looks like one is most often talk, effort or a squint: of 45 such answers from 0.65 to 0.9 in 960
# training photos, read one by one, none was plainly right.
FEELING_THRESHOLD, RARE_FEELING_THRESHOLD = 0.65, 0.9
# A face where the object detector sees nobody must be surer: clocks and headlights look like faces. 92 % are right.
LONE_FACE_THRESHOLD = 0.8
MASKED = 0.12  # share of a face's box that a mask covers, from which on nobody can read it
# A face this much smaller (by area) than the largest is a passer-by, not whom the comment is for.
PASSER_BY = 1 / 8
MOST = 7  # elements beside feelings: what comes after is not what the picture is about
PEOPLE_AND_PARTS = PLAIN_IDS - {"neutral", "Clothing"}


def to_elements(detections: Iterable[Detection], size: tuple[int, int], lang: str) -> ElementList:
    """The element list of an upright photo of `size` (width, height) in pixels.

    Feelings first: only sure ones, `neutral` never, the largest face's before the others. Then moments, things and
    scenes by how many people would mention them; what too few would is left out.
    """
    detections = list(detections)
    facts, interest = gather(detections, size), load_interest()
    candidates = find_candidates(detections, facts, size)
    candidates.sort(key=lambda c: c.id)  # what is equally worth must not depend on the order of detections
    worth = lift_things(candidates, interest.of(candidates, facts, size))
    chosen = [candidates[i] for i in interest.kept(worth)[:MOST]]
    pack = load_pack(lang)
    calm = not strained() & {c.id for c in candidates}
    return ElementList((*_feelings(detections, calm, lang), *(_element(c, pack) for c in chosen)), lang)


def lift_things(candidates: list[Candidate], worth: np.ndarray) -> np.ndarray:
    """Worth (N,) with the best thing of each family at least as worth a word as what is said after it."""
    worth = worth.copy()
    for family, labels in said_after().items():
        moment = max((worth[i] for i, c in enumerate(candidates) if c.id in labels), default=0.0)
        kin = [i for i, c in enumerate(candidates) if family in (c.id, *ancestors(c.id))]
        if kin:
            best = max(kin, key=lambda i: worth[i])
            worth[best] = max(worth[best], np.nextafter(moment, 1))
    return worth


def _element(c: Candidate, pack) -> Element:
    boxes = tuple(tuple(round(v, 1) for v in box) for box in c.boxes)
    count = max(1, len(boxes)) if c.kind == "object" else 1
    return Element(c.id, c.kind, pack.name(c.named), min(c.score, 1.0), count, boxes)


def _feelings(detections: list[Detection], calm: bool, lang: str) -> list[Element]:
    """The feelings of sure faces, that of the largest face first; where nobody is `calm` only joy can be told."""
    faces = [d for d in detections if d.kind == "emotion"]
    people = [d.xyxy for d in detections if d.label in PEOPLE_AND_PARTS and d.xyxy]
    masks = np.array([d.xyxy for d in detections if d.label == "Mask" and d.xyxy], float).reshape(-1, 4)
    if not len(masks) and any(d.label == "Mask" and d.sure for d in detections):
        return []  # the look at the whole picture knows that faces are covered, not which
    largest = max((d.area for d in faces), default=0)
    sure = [
        d
        for d in faces
        if d.label not in PLAIN_IDS
        and (calm or d.label == "happy")
        and d.score >= _least(d, people)
        and d.area >= PASSER_BY * largest
        and intersections(np.array([d.xyxy]), masks).sum() < MASKED * d.area
    ]
    groups: dict[str, list[Detection]] = {}
    for d in sorted(sure, key=lambda d: -d.score):
        groups.setdefault(d.label, []).append(d)
    pack = load_pack(lang)
    found = [
        Element(label, "emotion", pack.name(label), group[0].score, len(group), tuple(d.xyxy for d in group))
        for label, group in groups.items()
    ]
    return sorted(found, key=lambda e: -max(d.area for d in groups[e.id]))


def _least(face: Detection, people: list) -> float:
    """From which score on a face's feeling is said."""
    seen = FEELING_THRESHOLD if face_of(face, people) else LONE_FACE_THRESHOLD
    return seen if face.label == "happy" else max(seen, RARE_FEELING_THRESHOLD)
