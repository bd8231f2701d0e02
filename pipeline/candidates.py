"""Detections -> what a comment might speak of: one name a spot, one box a thing, both kinds of eyes compared."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from detection.boxes import iou_matrix, nms
from detection.families import akin, ancestors, thing_of
from detection.labels import OBJECT_IDS, PLAIN_IDS, kind_of
from detection.records import Detection
from pipeline.facts import Facts
from pipeline.moments import boxes_of, find_moments, hidden_by

# Below this score a thing is not worth a word, whatever its class's own threshold.
THING_THRESHOLD = 0.25
SAME_SPOT_IOU = 0.6
SAME_THING_IOU, SAME_THING_INSIDE = 0.45, 0.75  # boxes of one name this close are one thing
# A count is a claim: several are counted where all boxes are sure; where some are not, one is all that can be said.
# More than a few are never counted right.
COUNTED, MOST_COUNTED = 0.6, 4
LONELY = 0.3  # least score of a thing that one network alone saw and the look at the whole picture does not know of
LONELY_ANIMAL = 0.9  # of an animal: in 62 training photos with captions six were what the captions tell of
BELIEVED = 0.15  # from which probability on that look stands behind a thing
SURER = 1.6  # how much surer a general name must be to stand over a more exact one on its spot
# From which probability on the main subject names a thing more exactly (a kind that no detector knows must be surer),
# and from which it stands where no detector saw anything: of answers that detectors know, too, 73 % are what people
# mention from 0.7 on; of others hardly one in five.
SUBJECT_THRESHOLD, NEW_SUBJECT_THRESHOLD, LONE_THRESHOLD, LONE_NEW_THRESHOLD = 0.5, 0.8, 0.7, 0.85
LIKELY = 0.5  # below, a scene is as often another of its kind, and half of the moments are false
WINS = 0.6  # from which on it overrules a weak detection of something akin
WEAK = 0.55
DETECTED = frozenset(OBJECT_IDS)
LARGE_SHARE = 0.08  # of the picture; what the subject overrules must be that large


@dataclass(frozen=True)
class Candidate:
    """Something a comment might speak of.

    Attributes:
        id: canonical id. named: the id of a more exact name, or `id`.
        kind: "moment", "object" or "scene".
        score: how sure it is that it is there.
        told: what the look at the whole picture thinks of it, 0 where it says nothing.
        votes: how many networks saw it.
        boxes: xyxy, best first; may be empty.
    """

    id: str
    named: str
    kind: str
    score: float
    told: float = 0.0
    votes: int = 1
    boxes: tuple[tuple[float, float, float, float], ...] = ()


def find_candidates(detections: Iterable[Detection], facts: Facts, size: tuple[int, int]) -> list[Candidate]:
    """All candidates of a photo of `size` (width, height), in no order that means anything."""
    detections = list(detections)
    whole = [d for d in detections if d.xyxy is None]
    things = _grouped([d for d in detections if _is_thing(d)], [d for d in whole if d.kind == "object"], size)
    told = facts.told
    moments = [
        Candidate(d.label, d.label, d.kind, d.score, told.get(d.label, 0.0), boxes=_boxes(d, facts))
        for d in find_moments(facts)
        if d.score >= LIKELY
    ]
    standing = {c.id for c in moments}
    hidden = {family for family, scenes in hidden_by().items() if scenes & standing}
    return [*(c for c in things if not hidden & {c.id, *ancestors(c.id)}), *moments]


def _boxes(d: Detection, facts: Facts) -> tuple:
    """A moment's boxes are those of what it was told by; a scene is everywhere."""
    return boxes_of(d.label, facts) if d.kind == "moment" else ()


def _is_thing(d: Detection) -> bool:
    return d.kind == "object" and d.xyxy is not None and d.label not in PLAIN_IDS and d.score >= THING_THRESHOLD


def _grouped(seen: list[Detection], subjects: list[Detection], size: tuple[int, int]) -> list[Candidate]:
    """Things with boxes, one name a spot, joined with the subject of the whole picture."""
    told = {}
    for d in subjects:
        for name in (thing_of(d.label), *ancestors(thing_of(d.label))):
            told[name] = max(told.get(name, 0.0), d.score)
    groups: dict[str, list[Detection]] = {}
    for d in _one_name_a_spot(seen, told):
        groups.setdefault(thing_of(d.label), []).append(d)
    found = {label: _candidate(label, group, told.get(label, 0.0)) for label, group in groups.items()}
    for d in sorted(subjects, key=lambda d: -d.score):
        _join(found, d, size)
    return [c for c in found.values() if c.score >= _lonely(c.id) or c.votes > 1 or c.told >= BELIEVED]


def _lonely(label: str) -> float:
    """Least score of a thing that nothing else speaks for."""
    return LONELY_ANIMAL if "Animal" in ancestors(label) else LONELY


def _one_name_a_spot(seen: list[Detection], told: dict[str, float]) -> list[Detection]:
    """Where names of one family lie on the same spot the surest stays, a more exact one before a general one."""
    worth = [d.score * (1.25 if d.votes > 1 else 1) * (1 + told.get(thing_of(d.label), 0.0)) for d in seen]
    overlap = iou_matrix([d.xyxy for d in seen], [d.xyxy for d in seen])
    kept = []
    for i, d in enumerate(seen):
        rivals = [
            j
            for j, other in enumerate(seen)
            if i != j and overlap[i, j] > SAME_SPOT_IOU and other.label != d.label and akin(other.label, d.label)
        ]
        if not any(_beats(seen[j], worth[j], d, worth[i], j < i) for j in rivals):
            kept.append(d)
    return kept


def _beats(one: Detection, worth: float, other: Detection, its_worth: float, first: bool) -> bool:
    """Whether `one` stands where both lie on the same spot."""
    if one.label in ancestors(other.label):
        return worth > SURER * its_worth
    if other.label in ancestors(one.label):
        return worth * SURER >= its_worth
    return worth > its_worth or (worth == its_worth and first)


def _candidate(label: str, group: list[Detection], told: float) -> Candidate:
    boxes, scores = np.array([d.xyxy for d in group]), np.array([d.score for d in group])
    order = nms(boxes, scores, SAME_THING_IOU, SAME_THING_INSIDE)
    sure = len(order) <= MOST_COUNTED and (scores[order] >= COUNTED).all()
    counted = order if sure else order[:1]
    votes = max(d.votes for d in group)
    kept = tuple(tuple(float(v) for v in boxes[i]) for i in counted)
    return Candidate(label, group[order[0]].label, "object", float(scores.max()), told, votes, kept)


def _join(found: dict[str, Candidate], subject: Detection, size: tuple[int, int]) -> None:
    """Let the subject of the whole picture confirm, name more exactly, overrule or add a thing, in place."""
    label = thing_of(subject.label)
    same = found.get(label)
    if same:
        named = subject.label if same.named == label else same.named
        found[label] = replace(same, told=max(same.told, subject.score), named=named, votes=same.votes + 1)
        return
    kin = [c for c in found.values() if c.boxes and akin(c.id, label)]
    general = [c for c in kin if c.id in ancestors(label)]
    exact = [c for c in kin if label in ancestors(c.id)]
    weak = [c for c in kin if c.score < WEAK and _share(c, size) >= LARGE_SHARE]
    if exact:
        return
    least = SUBJECT_THRESHOLD if label in DETECTED else NEW_SUBJECT_THRESHOLD
    if (general and subject.score >= least) or (weak and subject.score >= WINS):
        old = max(general or weak, key=lambda c: _share(c, size))
        del found[old.id]
        score = max(old.score, subject.score) if general else subject.score
        found[label] = Candidate(label, subject.label, "object", score, subject.score, old.votes + 1, old.boxes)
    elif subject.score >= (LONE_THRESHOLD if label in DETECTED else LONE_NEW_THRESHOLD):
        found[label] = Candidate(label, subject.label, kind_of(label), subject.score, subject.score)


def _share(c: Candidate, size: tuple[int, int]) -> float:
    """Share of the picture that a candidate's largest box covers."""
    return max(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in c.boxes), default=0.0) / (size[0] * size[1])
