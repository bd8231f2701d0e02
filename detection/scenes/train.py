"""Train the look at the whole picture.

    python -m detection.scenes.train --config configs/scenes/pocket.yaml data=FOLDER

The trunk looks once at every training photo, which is kept in the run folder (in pieces, so that an interrupted run
goes on); the tags are one linear layer on what it saw, fitted in seconds. With `tune_epochs` the trunk itself learns.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError, exit_with
from configs.load import Settings, settings_command
from detection.photos import training_photos
from detection.scenes import heads, targets
from detection.scenes.annotations import read_annotations
from detection.training import open_run

PIECE = 512  # photos that the trunk looks at between two writes


class SceneSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    run: Path
    photos: list[str]  # folders of photos
    captions: list[str] = []  # files of image,caption
    scenes: str | None = None  # CSV of file,scene; pictures in images/ beside it
    held_out: list[str] = []  # list files naming photos that are never read
    scene_step: int = 10  # every so many-th picture of `scenes` is kept for measuring
    tune_epochs: int = 0  # how often the trunk itself learns from all photos
    tune_lr: float = 3e-4
    decay: float = 0.015  # of the linear layer's squared weights
    precise: float = 0.8  # share of a tag's answers that must be right from its threshold on
    # Tags of which annotators leave much unsaid: a fresh reader found most of their answers true that the labels deny.
    lenient: list[str] = []
    lenient_precise: float = 0.6
    seed: int = 0
    export: Path


@dataclass(frozen=True)
class Known:
    """Training photos (N), targets and weights (N, T) of their tags; `staged` (N,) marks pictures of scene folders."""

    photos: list[Path]
    targets: np.ndarray
    weights: np.ndarray
    staged: np.ndarray


def gather(settings: SceneSettings) -> Known:
    """All photos of which something is known; those annotated for measuring, or held out, are not among them."""
    data = settings.data
    captions: dict[str, list[str]] = {}
    for file in settings.captions:
        captions |= targets.read_captions(data / file)
    annotated = {row.file: row for row in read_annotations()}
    rows: list[tuple[Path, tuple, bool]] = []
    folders = [data / name for name in settings.photos]
    for photo in training_photos(folders, [data / name for name in settings.held_out]):
        row = annotated.get(photo.relative_to(data).as_posix())
        told = targets.from_captions(captions[photo.name]) if photo.name in captions else None
        if row and row.split == "test" or not (row or told):
            continue
        seen = targets.from_annotation(row) if row else None
        rows.append((photo, targets.merged(seen, told) if seen and told else seen or told, False))
    for photo, scene in scene_pictures(settings, kept=False) if settings.scenes else []:
        rows.append((photo, targets.from_folder(scene), True))
    if not rows:
        raise UserError(f"nothing is known of any photo in {', '.join(map(str, folders))}")
    photos, known, staged = zip(*rows, strict=True)
    y, w = (np.stack(column) for column in zip(*known, strict=True))
    return Known(list(photos), y, w, np.array(staged))


def scene_pictures(settings: SceneSettings, kept: bool) -> list[tuple[Path, str]]:
    """The pictures of `scenes` with their scene: those kept for measuring, or the others."""
    file = settings.data / settings.scenes
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    chosen = [row for number, row in enumerate(rows) if (number % settings.scene_step == 0) == kept]
    return [(file.parent / "images" / row["file"], row["scene"]) for row in chosen]


def looked_at(settings: SceneSettings, trunk, photos: list[Path], name: str) -> np.ndarray:
    """Features (N, 1280) of photos; pieces that an earlier run wrote under `name` are read, not made again."""
    from rich.progress import track

    from detection.scenes.trunk import look

    folder = settings.run / name
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for start in track(range(0, len(photos), PIECE), "looking"):
        names = [p.relative_to(settings.data).as_posix() for p in photos[start : start + PIECE]]
        file = folder / f"{start:06d}.npz"
        kept = np.load(file) if file.exists() else None
        if kept is None or list(kept["names"]) != names:
            features, _ = look(trunk, photos[start : start + PIECE])
            part = file.with_suffix(".part.npz")
            np.savez(part, names=names, features=features)
            part.replace(file)
            kept = np.load(file)
        pieces.append(kept["features"].astype(np.float32))
    return np.concatenate(pieces)


def fit(settings: SceneSettings, known: Known, features: np.ndarray, tuned: bool) -> tuple[heads.Head, list[dict]]:
    """The head for all photos, and a row of trust for each tag.

    A tag's figures come from the folds; where the trunk learned, too, from the first fold alone, which it did not see.
    Photos speak for photos: they count alone where they hold enough of a tag, else scene folders count, too.
    """
    parts, fitted = heads.folds(known.photos, settings.seed), (features, known.targets, known.weights)
    if tuned:
        inside = parts > 0
        logits = heads.fit_head(*(a[inside] for a in fitted), settings.decay).logits(features)
    else:
        inside, logits = np.zeros(len(parts), bool), heads.out_of_fold(*fitted, parts, settings.decay)
    rows = []
    for column, tag in enumerate(targets.TAGS):
        y, w = known.targets[:, column], known.weights[:, column] * ~inside
        alone = ((y > 0.5) & (w > 0) & ~known.staged).sum() >= 3 * heads.LEAST_POSITIVES
        precise = settings.lenient_precise if tag in settings.lenient else settings.precise
        told = heads.trust(logits[:, column], y, w * ~known.staged if alone else w, precise)
        rows.append({"id": tag, **{key: round(value, 4) for key, value in vars(told).items()}})
    return heads.fit_head(*fitted, settings.decay), rows


def train(settings: SceneSettings) -> Path:
    """Run all stages; returns the exported file. `tags.json` in the run folder tells how far each tag is trusted."""
    data = settings.data
    wanted = [data / name for name in [*settings.photos, *settings.captions, *settings.held_out]]
    open_run(settings, [*wanted, *([data / settings.scenes] if settings.scenes else [])])
    from detection.scenes.trunk import export, imagenet_trunk

    known, trunk = gather(settings), imagenet_trunk()
    features = looked_at(settings, trunk, known.photos, "features")
    if settings.tune_epochs:
        trunk = tuned_trunk(settings, trunk, known, features)
        features = looked_at(settings, trunk, known.photos, "features_tuned")
    head, rows = fit(settings, known, features, bool(settings.tune_epochs))
    (settings.run / "tags.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    kept = settings.model_dump(mode="json", exclude={"data", "run", "export"})
    return export(trunk, head, rows, settings.export, {"settings": json.dumps(kept)})


def tuned_trunk(settings: SceneSettings, trunk, known: Known, features: np.ndarray):
    """The trunk after it learned from all folds but the first."""
    from detection.scenes.tune import tune

    inside = heads.folds(known.photos, settings.seed) > 0
    learned = (known.targets[inside], known.weights[inside])
    head = heads.fit_head(features[inside], *learned, settings.decay)
    photos = [p for p, use in zip(known.photos, inside, strict=True) if use]
    out = settings.run / "tuned.pt"
    return tune(trunk, head, photos, *learned, settings.tune_epochs, settings.tune_lr, out, settings.seed)


main = settings_command("detection.scenes.train", __doc__, SceneSettings, train)


if __name__ == "__main__":
    exit_with(main)
