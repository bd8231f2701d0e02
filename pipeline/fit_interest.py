"""Fit the interest model: which of the things seen people mention.

    python -m pipeline.fit_interest --config configs/interest/pocket.yaml data=FOLDER

The product's own detectors look at every training photo once (kept in the run folder as JSON lines, so that an
interrupted run goes on); what a candidate is worth is the share of its photo's captions that name it, and whether the
annotator mentioned it. Priors and trees are judged in folds: no photo is judged by a model that saw it.
"""

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np

from configs.errors import exit_with
from configs.load import Settings, settings_command
from detection.families import related
from detection.photos import open_photo, training_photos
from detection.records import Detection
from detection.scenes import targets
from detection.scenes.annotations import Annotation, read_annotations
from detection.training import open_run
from pipeline.candidates import Candidate, find_candidates
from pipeline.facts import Facts, gather
from pipeline.interest import DEPTH, FEATURES, describe

FOLDS = 5
SHRINK = 4.0  # photos' worth of the kind's share that an id's own share is mixed with
RANKED = (1.0, 0.9, 0.75)  # what an annotator's first, second and third mention are worth
NEVER = 1e9  # no feature is larger
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
    trees: int = 140
    lr: float = 0.08
    least: float = 0.3  # what a person must be so likely to mention to be in the list
    seed: int = 0
    export: Path


def worth(c: Candidate, row: Annotation | None, captions: list[str] | None) -> float:
    """Share of people, in 0..1, who would mention a candidate."""
    told = []
    if captions and c.id in targets.caption_words():
        told.append(targets.mentions(c.id, captions) / len(captions))
    if row:
        ranks = [place for place, name in enumerate(row.mention) if name == c.id or related(name, c.id)]
        implied = [place for place, name in enumerate(row.mention) if name in IMPLIED and related(IMPLIED[name], c.id)]
        listed = LISTED if c.id in (*row.scenes, *row.moments) else 0.0
        told.append(max([listed, *(RANKED[p] for p in ranks), *(0.7 * RANKED[p] for p in implied)]))
    return float(np.mean(told)) if told else 0.0


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


class Photos:
    """Candidates of many photos with what they are worth, (N) rows; `photo` tells which photo each belongs to."""

    def __init__(self, seen: dict, captions: dict[str, list[str]], annotated: dict[str, Annotation]):
        self.items: list[tuple[list[Candidate], Facts, tuple[int, int]]] = []
        self.names, worths, photo = [], [], []
        for name, (size, detections) in seen.items():
            row, told = annotated.get(name), captions.get(Path(name).name)
            facts = gather(detections, size)
            candidates = find_candidates(detections, facts, size)
            if candidates and (row or told):
                worths += [worth(c, row, told) for c in candidates]
                photo += [len(self.items)] * len(candidates)
                self.items.append((candidates, facts, size))
                self.names.append(name)
        self.worth, self.photo = np.array(worths), np.array(photo)
        self.flat = [c for candidates, _, _ in self.items for c in candidates]

    def features(self, priors) -> np.ndarray:
        """(N, F), with priors from a function of a candidate."""
        return np.concatenate([describe(c, [priors(x) for x in c], facts, size) for c, facts, size in self.items])


def fit_priors(flat: list[Candidate], worths: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Share of mentions by id, mixed with its kind's where it was seldom seen; and by kind."""
    by_kind, by_id = defaultdict(list), defaultdict(list)
    for c, value in zip(flat, worths, strict=True):
        by_kind[c.kind].append(value)
        by_id[c.id].append((c.kind, value))
    kinds = {kind: float(np.mean(values)) for kind, values in by_kind.items()}
    return {
        label: (sum(v for _, v in rows) + SHRINK * kinds[rows[0][0]]) / (len(rows) + SHRINK)
        for label, rows in sorted(by_id.items())
    }, kinds


def fit_trees(x: np.ndarray, worths: np.ndarray, settings: InterestSettings):
    """Boosted trees on shares: every row counts as mentioned by its share of people and as unmentioned by the rest."""
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(
        n_estimators=settings.trees,
        learning_rate=settings.lr,
        max_depth=DEPTH,
        subsample=0.7,
        min_samples_leaf=30,
        random_state=settings.seed,
    )
    n = len(x)
    y, weight = np.repeat([1, 0], n), np.concatenate([worths, 1 - worths])
    kept = weight > 0
    return model.fit(np.concatenate([x, x])[kept], y[kept], sample_weight=weight[kept])


def judged(photos: Photos, settings: InterestSettings) -> np.ndarray:
    """Probability (N,) of each candidate, from a model and priors that did not see its photo."""
    part = np.random.default_rng(settings.seed).permutation(len(photos.items))[photos.photo] % FOLDS
    probability = np.zeros(len(part))
    for fold in range(FOLDS):
        inside = part != fold
        x = honest_features(photos, inside, settings)
        model = fit_trees(x[inside], photos.worth[inside], settings)
        probability[~inside] = model.predict_proba(x[~inside])[:, 1]
    return probability


def honest_features(photos: Photos, inside: np.ndarray, settings: InterestSettings) -> np.ndarray:
    """Features whose priors leave each photo's own mentions out, so that the trees do not trust them too much.

    Rows outside `inside` get priors from all rows inside.
    """
    part = np.random.default_rng(settings.seed + 1).permutation(len(photos.items))[photos.photo] % FOLDS
    x = photos.features(lambda c: 0.0)
    for fold in range(FOLDS + 1):
        rows = (inside & (part == fold)) if fold < FOLDS else ~inside
        source = inside & (part != fold)
        chosen = [c for c, use in zip(photos.flat, source, strict=True) if use]
        priors, kinds = fit_priors(chosen, photos.worth[source])
        wanted = np.array([priors.get(c.id, kinds.get(c.kind, 0.1)) for c in photos.flat])
        x = _with_priors(x, photos, wanted, rows)
    return x


def _with_priors(x: np.ndarray, photos: Photos, priors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`x` with the prior, and the best other's prior and score, of the chosen rows."""
    x = x.copy()
    columns = [FEATURES.index(name) for name in ("prior", "best_other", "best_score")]
    scores = np.array([c.score for c in photos.flat])
    for i in np.flatnonzero(rows):
        x[i, columns[0]] = priors[i]
    starts = np.searchsorted(photos.photo, np.arange(len(photos.items) + 1))
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        if not rows[start:end].any():
            continue
        for i in range(start, end):
            others = [j for j in range(start, end) if j != i]
            best = max(others, key=lambda j: priors[j], default=None)
            x[i, columns[1]] = priors[best] if best is not None else 0.0
            x[i, columns[2]] = scores[best] if best is not None else 0.0
    return x


def as_arrays(model) -> dict[str, list]:
    """Trees as full binary trees of `DEPTH` levels, which `interest.py` walks without scikit-learn."""
    rows = [_full(estimator.tree_, model.learning_rate) for (estimator,) in model.estimators_]
    return {name: [row[place] for row in rows] for place, name in enumerate(("feature", "threshold", "value"))}


def _full(tree, rate: float) -> tuple[list, list, list]:
    """Features and thresholds of inner nodes, level by level, and values of leaves; a leaf above the last level stands
    for all below it."""
    feature, threshold, value = [0] * (2**DEPTH - 1), [NEVER] * (2**DEPTH - 1), []
    nodes = [0]
    for level in range(DEPTH):
        below = []
        for place, node in enumerate(nodes):
            if tree.children_left[node] < 0:
                below += [node, node]
                continue
            number = place + 2**level - 1
            feature[number], threshold[number] = int(tree.feature[node]), round(float(tree.threshold[node]), 6)
            below += [tree.children_left[node], tree.children_right[node]]
        nodes = below
    value = [round(float(tree.value[node, 0, 0]) * rate, 5) for node in nodes]
    return feature, threshold, value


def figures(photos: Photos, probability: np.ndarray, annotated: dict[str, Annotation], least: float) -> dict:
    """How well candidates are ranked and cut, on photos that the model did not see."""
    first = second = sides = said = missed = 0
    with_row = 0
    for number, name in enumerate(photos.names):
        rows = np.flatnonzero(photos.photo == number)
        order = rows[np.argsort(-probability[rows])]
        kept = [i for i in order if probability[i] >= least]
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
        {p.relative_to(data).as_posix(): seen[p.relative_to(data).as_posix()] for p in chosen}, captions, annotated
    )
    told = figures(photos, judged(photos, settings), annotated, settings.least)
    (settings.run / "figures.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    priors, kinds = fit_priors(photos.flat, photos.worth)
    everything = np.ones(len(photos.worth), bool)
    model = fit_trees(honest_features(photos, everything, settings), photos.worth, settings)
    start = float(model.init_.class_prior_[1])
    raw = {
        "features": FEATURES,
        "figures": told,
        "importance": {n: round(float(v), 4) for n, v in zip(FEATURES, model.feature_importances_, strict=True)},
        "priors": {label: round(p, 4) for label, p in priors.items()},
        "kinds": {kind: round(p, 4) for kind, p in kinds.items()},
        "start": round(float(np.log(start / (1 - start))), 5),
        "least": settings.least,
        "trees": as_arrays(model),
    }
    part = settings.export.with_suffix(".part")
    part.write_text(json.dumps(raw) + "\n", "utf-8")
    return part.replace(settings.export)


main = settings_command("pipeline.fit_interest", __doc__, InterestSettings, fit)


if __name__ == "__main__":
    exit_with(main)
