"""Fit the interest model: which of the things seen people mention.

    python -m pipeline.fit_interest --config configs/interest/pocket.yaml data=FOLDER

The product's own detectors look at every training photo once (kept in the run folder as JSON lines, so that an
interrupted run goes on); what a candidate is worth is the share of its photo's captions that name it, and whether the
annotator mentioned it. Priors and trees are judged in folds: no photo is judged by a model that saw it.
"""

import json
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from common.errors import exit_with
from common.files import write_json
from configs.load import Settings, settings_command
from detection.families import related
from detection.photos import open_photo, training_photos
from detection.records import Detection
from detection.scenes import targets
from detection.scenes.annotations import Annotation, read_annotations
from detection.training import open_run
from pipeline.candidates import Candidate, find_candidates
from pipeline.facts import Facts, gather
from pipeline.interest import DEPTH, FEATURES, Interest, describe, prior, roots

FOLDS = 5
SHRINK = 5.0  # sure candidates' worth of the family's share that an id's own share is mixed with
ANNOTATED = 4.0  # how much more an annotated photo counts: annotators say what a friend would remark on
RISES = {"prior": 1, "score": 1, "told": 1, "votes": 1, "largest": 1, "off_centre": -1, "inside": -1, "larger": -1}
RANKED = (1.0, 0.9, 0.75)  # what an annotator's first, second and third mention are worth
NEVER = 1e9  # no feature is larger
FRIEND = 1  # as much as all captions together
LISTED = 0.3  # what a scene or moment that was seen but not mentioned is worth
# Moments in which a thing is mentioned, too.
IMPLIED = {
    "dog_run": "Dog",
    "dog_play": "Dog",
    "dog_swim": "Dog",
    "dog_fetch": "Dog",
    "with_pet": "Animal",
    "pet_nap": "Animal",
    "animal_close_up": "Animal",
    "herd": "Animal",
    "bird_watching": "Bird",
    "horse_riding": "Horse",
    "cycling": "Bicycle",
    "motorcycling": "Motorcycle",
    "skateboarding": "Skateboard",
    "boating": "Boat",
    "kite_flying": "Kite",
}


class InterestSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    run: Path
    photos: list[str]
    captions: list[str] = []
    held_out: list[str] = []
    chosen_for: str | None = None  # photos whose path begins so were each chosen for one of ImageNet's classes
    trees: int = 140
    lr: float = 0.08
    least: float = 0.12  # how likely a person must be to mention what is in the list
    beside: float = 0.33  # and how likely beside the likeliest
    seed: int = 0
    export: Path


def worth(c: Candidate, row: Annotation | None, captions: list[str] | None) -> float:
    """Share of people, in 0..1, who would mention a candidate."""
    told, votes = [], []
    if captions and c.id in targets.caption_words():
        told.append(targets.mentions(c.id, captions) / len(captions))
        votes.append(1)
    if row:
        ranks = [place for place, name in enumerate(row.mention) if name == c.id or related(name, c.id)]
        implied = [place for place, name in enumerate(row.mention) if name in IMPLIED and related(IMPLIED[name], c.id)]
        listed = LISTED if c.id in (*row.scenes, *row.moments) else 0.0
        told.append(max([listed, *(RANKED[p] for p in ranks), *(0.7 * RANKED[p] for p in implied)]))
        votes.append(FRIEND)
    return float(np.average(told, weights=votes)) if told else 0.0


def look(settings: InterestSettings, photos: list[Path]) -> dict[str, tuple[tuple[int, int], list[Detection]]]:
    """What the embedded detectors see in each photo; what an earlier run saw is read, not looked for again."""
    from rich.progress import track

    from pipeline import PhotoCommenter

    file, seen = settings.run / "seen.jsonl", {}
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    row = json.loads(line)
                    seen[row["photo"]] = (tuple(row["size"]), [_detection(d) for d in row["seen"]])
    commenter = PhotoCommenter()
    with file.open("a", encoding="utf-8") as out:
        for photo in track(photos, "looking"):
            name = photo.relative_to(settings.data).as_posix()
            if name in seen:
                continue
            image, _ = open_photo(photo)
            found = commenter.detect(image)
            seen[name] = (image.size, found)
            row = {"photo": name, "size": image.size, "seen": [asdict(d) for d in found]}
            out.write(json.dumps(row) + "\n")
    return seen


def _detection(row: dict) -> Detection:
    return Detection(**{**row, "xyxy": row["xyxy"] and tuple(row["xyxy"])})


def untold(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates as they would be if the look at the whole picture had named no thing.

    A photo chosen for one of ImageNet's classes is about that class by design; a model that learned from it would take
    the network that knows these classes at its word, and things that it cannot know for side things.
    """
    return [replace(c, told=0.0, votes=min(c.votes, 2)) for c in candidates if c.boxes or c.kind != "object"]


class Photos:
    """Candidates of many photos with what they are worth, (N) rows; `photo` tells which photo each belongs to."""

    def __init__(self, seen: dict, captions: dict[str, list[str]], annotated: dict[str, Annotation], chosen_for=None):
        self.items: list[tuple[list[Candidate], Facts, tuple[int, int]]] = []
        self.names, worths, photo, weight = [], [], [], []
        for name, (size, detections) in seen.items():
            row, told = annotated.get(name), captions.get(Path(name).name)
            facts = gather(detections, size)
            candidates = find_candidates(detections, facts, size)
            if chosen_for and name.startswith(chosen_for):
                candidates = untold(candidates)
            if candidates and (row or told):
                worths += [worth(c, row, told) for c in candidates]
                photo += [len(self.items)] * len(candidates)
                weight += [ANNOTATED if row else 1.0] * len(candidates)
                self.items.append((candidates, facts, size))
                self.names.append(name)
        self.worth, self.photo, self.weight = np.array(worths), np.array(photo), np.array(weight)
        self.flat = [c for candidates, _, _ in self.items for c in candidates]


def fit_priors(flat: list[Candidate], worths: np.ndarray) -> dict[str, dict[str, float]]:
    """Share of mentions by id, family and kind: an id that was seldom seen has its family's, that its kind's.

    A sure candidate counts more than a weak one: what an id is worth must not depend on how often it is a mistake.
    """
    rows: dict[str, dict[str, list]] = {level: defaultdict(list) for level in ("kinds", "families", "ids")}
    for c, value in zip(flat, worths, strict=True):
        for level, names in (("kinds", [c.kind]), ("families", roots(c.id)), ("ids", [c.id])):
            for name in names:
                rows[level][name].append((c.score**2, value, c))
    mean = lambda told, start, much: (sum(w * v for w, v, _ in told) + much * start) / (sum(w for w, *_ in told) + much)
    kinds = {name: mean(told, 0.4, 1.0) for name, told in rows["kinds"].items()}
    families = {name: mean(told, kinds[told[0][2].kind], SHRINK) for name, told in rows["families"].items()}
    start = lambda c: np.mean([families[r] for r in roots(c.id)]) if roots(c.id) else kinds[c.kind]
    ids = {name: mean(told, start(told[0][2]), SHRINK) for name, told in sorted(rows["ids"].items())}
    return {
        level: {name: round(float(p), 4) for name, p in values.items()}
        for level, values in (("ids", ids), ("families", families), ("kinds", kinds))
    }


def fit_trees(x: np.ndarray, worths: np.ndarray, weights: np.ndarray, settings: InterestSettings):
    """Boosted trees on shares: every row counts as mentioned by its share of people and as unmentioned by the rest.

    Surer, larger and agreed on never makes a candidate less worth a word (`RISES`), whatever the data's accidents.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=settings.trees,
        learning_rate=settings.lr,
        max_depth=DEPTH,
        min_samples_leaf=40,
        l2_regularization=5.0,
        early_stopping=False,
        monotonic_cst=[RISES.get(name, 0) for name in FEATURES],
        random_state=settings.seed,
    )
    n = len(x)
    y = np.repeat([1, 0], n)
    weight = np.concatenate([worths, 1 - worths]) * np.concatenate([weights, weights])
    kept = weight > 0
    return model.fit(np.concatenate([x, x])[kept], y[kept], sample_weight=weight[kept])


def judged(photos: Photos, settings: InterestSettings) -> np.ndarray:
    """Probability (N,) of each candidate, from a model and priors that did not see its photo."""
    part = np.random.default_rng(settings.seed).permutation(len(photos.items))[photos.photo] % FOLDS
    probability = np.zeros(len(part))
    for fold in range(FOLDS):
        inside = part != fold
        x = honest_features(photos, inside, settings)
        model = fit_trees(x[inside], photos.worth[inside], photos.weight[inside], settings)
        probability[~inside] = model.predict_proba(x[~inside])[:, 1]
    return probability


def honest_features(photos: Photos, inside: np.ndarray, settings: InterestSettings) -> np.ndarray:
    """Features (N, F) whose priors leave each photo's own mentions out, so that the trees do not trust them too much.

    Rows outside `inside` get priors from all rows inside.
    """
    part = np.random.default_rng(settings.seed + 1).permutation(len(photos.items))[photos.photo] % FOLDS
    priors = np.zeros(len(photos.flat))
    for fold in range(FOLDS + 1):
        rows, source = ((inside & (part == fold)) if fold < FOLDS else ~inside), inside & (part != fold)
        told = fit_priors([c for c, use in zip(photos.flat, source, strict=True) if use], photos.worth[source])
        for i in np.flatnonzero(rows):
            priors[i] = prior(photos.flat[i], told)
    starts = np.searchsorted(photos.photo, np.arange(len(photos.items) + 1))
    return np.concatenate(
        [
            describe(candidates, list(priors[starts[i] : starts[i + 1]]), facts, size)
            for i, (candidates, facts, size) in enumerate(photos.items)
        ]
    )


def as_arrays(model) -> dict[str, list]:
    """Trees as full binary trees of `DEPTH` levels, which `interest.py` walks without scikit-learn."""
    rows = [_full(predictor.nodes) for (predictor,) in model._predictors]
    return {name: [row[place] for row in rows] for place, name in enumerate(("feature", "threshold", "value"))}


def _full(nodes: np.ndarray) -> tuple[list, list, list]:
    """Features and thresholds of inner nodes, level by level, and values of leaves; a leaf above the last level stands
    for all below it."""
    feature, threshold, level_nodes = [0] * (2**DEPTH - 1), [NEVER] * (2**DEPTH - 1), [0]
    for level in range(DEPTH):
        below = []
        for place, number in enumerate(level_nodes):
            node = nodes[number]
            if node["is_leaf"]:
                below += [number, number]
                continue
            inner = place + 2**level - 1
            feature[inner], threshold[inner] = int(node["feature_idx"]), float(node["num_threshold"])
            below += [int(node["left"]), int(node["right"])]
        level_nodes = below
    return feature, threshold, [round(float(nodes[number]["value"]), 5) for number in level_nodes]


def importance(model, x: np.ndarray) -> dict[str, float]:
    """How much the log odds move, on average over candidates, when a feature is another candidate's."""
    rng, before = np.random.default_rng(0), model.decision_function(x)
    moved = {}
    for column, name in enumerate(FEATURES):
        mixed = x.copy()
        mixed[:, column] = rng.permutation(mixed[:, column])
        moved[name] = round(float(np.abs(model.decision_function(mixed) - before).mean()), 4)
    return moved


def figures(photos: Photos, probability: np.ndarray, annotated: dict[str, Annotation], cut) -> dict:
    """How well candidates are ranked and cut, on photos that the model did not see."""
    first = second = sides = said = missed = 0
    with_row = 0
    for number, name in enumerate(photos.names):
        rows = np.flatnonzero(photos.photo == number)
        kept = list(rows[cut(probability[rows])])
        said += len(kept)
        sides += sum(photos.worth[i] == 0 for i in kept)
        worthy = [i for i in rows if photos.worth[i] >= 0.5]
        missed += sum(i not in kept for i in worthy)
        second += len(worthy)
        if row := annotated.get(name):
            with_row += 1
            first += bool(kept) and photos.flat[kept[0]].id in row.mention[:2]
    return {
        "photos": len(photos.names),
        "first_among_first_two": round(first / max(1, with_row), 3),
        "said_per_photo": round(said / len(photos.names), 2),
        "unmentioned_of_said": round(sides / max(1, said), 3),
        "worthy_kept": round(1 - missed / max(1, second), 3),
    }


def fit(settings: InterestSettings) -> Path:
    """Look, judge in folds, fit on everything, write the model; the run folder keeps the figures."""
    data = settings.data
    wanted = [data / name for name in (*settings.photos, *settings.captions, *settings.held_out)]
    open_run(settings, wanted)
    captions: dict[str, list[str]] = {}
    for file in settings.captions:
        captions |= targets.read_captions(data / file)
    annotated = {row.file: row for row in read_annotations()}
    tests = {row.file for row in annotated.values() if row.split == "test"}
    folders, lists = [data / n for n in settings.photos], [data / n for n in settings.held_out]
    chosen = []
    for photo in training_photos(folders, lists):
        name = photo.relative_to(data).as_posix()
        if name not in tests and (name in annotated or photo.name in captions):
            chosen.append(photo)
    seen = look(settings, chosen)
    photos = Photos(
        {p.relative_to(data).as_posix(): seen[p.relative_to(data).as_posix()] for p in chosen},
        captions,
        annotated,
        settings.chosen_for,
    )
    cut = Interest({}, *[np.zeros(0)] * 3, start=0.0, least=settings.least, beside=settings.beside)
    told = figures(photos, judged(photos, settings), annotated, cut.kept)
    (settings.run / "figures.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    everything = np.ones(len(photos.worth), bool)
    x = honest_features(photos, everything, settings)
    model = fit_trees(x, photos.worth, photos.weight, settings)
    raw = {
        "features": FEATURES,
        "figures": told,
        "importance": importance(model, x),
        "priors": fit_priors(photos.flat, photos.worth),
        "start": round(float(model._baseline_prediction.ravel()[0]), 5),
        "least": settings.least,
        "beside": settings.beside,
        "trees": as_arrays(model),
    }
    return write_json(settings.export, raw, indent=None)


main = settings_command("pipeline.fit_interest", __doc__, InterestSettings, fit)


if __name__ == "__main__":
    exit_with(main)
