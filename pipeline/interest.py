"""How much each candidate is worth a word: what share of people would mention it.

A small model, learned from what people mention in captions and annotations (`pipeline/fit_interest.py`):
gradient-boosted trees of depth three over the features below, stored in `interest.json`. `docs/interest.md` explains
it in tables.
"""

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from detection.boxes import areas, intersections
from detection.families import ancestors
from detection.scenes import subjects
from pipeline.candidates import Candidate
from pipeline.facts import Facts

FILE = Path(__file__).with_name("interest.json")
DEPTH = 3
FEATURES = (
    "prior",  # share of people who mention the id where it is seen
    "is_moment",
    "is_scene",
    "score",
    "told",  # by the look at the whole picture
    "tellable",  # whether that look could have named it
    "votes",
    "count",
    "largest",  # share of the picture that its largest box covers
    "total",  # that all its boxes cover
    "off_centre",  # of its largest box: 0 in the middle, 1 in a corner
    "has_box",
    "with_person",
    "people",
    "largest_person",
    "face_share",
    "others",  # how many other candidates there are
    "best_other",  # the highest prior among them
    "best_score",  # the score of that one
    "larger",  # how many others have a larger box
    "inside",  # share of its largest box that lies in another candidate's
)


@dataclass(frozen=True)
class Interest:
    """The model: priors by id and kind, and trees as arrays.

    Attributes:
        priors: shares of people who mention an id ("ids"), a thing of a family ("families"), of a kind ("kinds").
        feature, threshold: (T, 7) of inner nodes, level by level; value (T, 8) of leaves.
        start: log odds before all trees.
        least: probability from which on a candidate is worth a word.
        beside: what share of the best candidate's probability another must have.
    """

    priors: dict[str, dict[str, float]]
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    start: float
    least: float
    beside: float

    def of(self, candidates: list[Candidate], facts: Facts, size: tuple[int, int]) -> np.ndarray:
        """Probability (N,) that a person would mention each candidate of a photo."""
        x = describe(candidates, [prior(c, self.priors) for c in candidates], facts, size)
        return 1 / (1 + np.exp(-self.log_odds(x)))

    def kept(self, worth: np.ndarray) -> np.ndarray:
        """Rows of the candidates that are worth a word, best first.

        Photos differ in how sure one can be of what people would mention; beside a dog that all mention a chair is left
        out, in a room full of furniture it is not.
        """
        order = np.argsort(-worth, kind="stable")
        return order[worth[order] >= max(self.least, self.beside * worth.max(initial=0))]

    def log_odds(self, x: np.ndarray) -> np.ndarray:
        """Features (N, F) -> log odds (N,)."""
        trees = np.arange(len(self.feature))[None]
        place = np.zeros((len(x), len(self.feature)), int)
        for level in range(DEPTH):
            node = place + 2**level - 1
            right = np.take_along_axis(x, self.feature[trees, node], 1) > self.threshold[trees, node]
            place = 2 * place + right
        return self.start + self.value[trees, place].sum(1)


@lru_cache
def tellable() -> frozenset[str]:
    """Things that the look at the whole picture knows."""
    return frozenset(label for label, _ in subjects() if label)


@lru_cache
def load_interest(file: Path = FILE) -> Interest:
    """The model in a file that `pipeline.fit_interest` wrote."""
    raw = json.loads(file.read_text("utf-8"))
    arrays = {name: np.array(raw["trees"][name]) for name in ("feature", "threshold", "value")}
    return Interest(raw["priors"], **arrays, start=raw["start"], least=raw["least"], beside=raw["beside"])


@cache
def roots(label: str) -> tuple[str, ...]:
    """The families that are kinds of nothing else, of which a thing is one: Dog -> Animal."""
    return tuple(sorted(name for name in ancestors(label) if not ancestors(name)))


def prior(c: Candidate, priors: dict[str, dict[str, float]]) -> float:
    """Share of people who mention the id; its families' where it was never seen, else its kind's."""
    if c.id in priors["ids"]:
        return priors["ids"][c.id]
    known = [priors["families"][name] for name in roots(c.id) if name in priors["families"]]
    return float(np.mean(known)) if known else priors["kinds"][c.kind]


def describe(candidates: list[Candidate], priors: list[float], facts: Facts, size: tuple[int, int]) -> np.ndarray:
    """Features (N, F) of a photo's candidates, in the order of `FEATURES`."""
    picture = size[0] * size[1]
    boxes = [np.array(c.boxes, float).reshape(-1, 4) for c in candidates]
    shares = [areas(b) / picture for b in boxes]
    largest = [float(s.max()) if len(s) else 0.0 for s in shares]
    people = areas(facts.people) / picture
    rows = []
    for i, c in enumerate(candidates):
        others = [j for j in range(len(candidates)) if j != i]
        best = max(others, key=lambda j: priors[j], default=None)
        box = boxes[i][shares[i].argmax()] if len(boxes[i]) else None
        rows.append(
            [
                priors[i],
                c.kind == "moment",
                c.kind == "scene",
                c.score,
                c.told,
                c.kind != "object" or c.id in tellable(),
                c.votes,
                len(c.boxes),
                largest[i],
                min(1.0, float(shares[i].sum())),
                _off_centre(box, size),
                box is not None,
                facts.with_person(c.id),
                facts.numbers["people"],
                people.max(initial=0.0),
                facts.numbers["face_share"],
                len(others),
                priors[best] if best is not None else 0.0,
                candidates[best].score if best is not None else 0.0,
                sum(largest[j] > largest[i] for j in others),
                _inside(box, [b for j, b in enumerate(boxes) if j != i]),
            ]
        )
    return np.array(rows, float).reshape(-1, len(FEATURES))


def _off_centre(box: np.ndarray | None, size: tuple[int, int]) -> float:
    if box is None:
        return 0.0
    x, y = (box[0] + box[2]) / size[0] - 1, (box[1] + box[3]) / size[1] - 1
    return float(np.hypot(x, y) / np.sqrt(2))


def _inside(box: np.ndarray | None, others: list[np.ndarray]) -> float:
    """The largest share of a box that lies in one of the other candidates' boxes."""
    if box is None or not others:
        return 0.0
    shared = intersections(box, np.concatenate(others))
    return float(shared.max(initial=0.0) / max(areas(box)[0], 1e-9))
