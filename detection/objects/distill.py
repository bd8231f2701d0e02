"""Distillation: the student learns what both teachers think at every spot of a picture, not only their sure boxes."""

from pathlib import Path

import numpy as np
import torch

from detection.distillation import Raw, as_batch, loss_of, train_student, view
from detection.labels import OBJECT_IDS
from detection.objects.pseudo_labels import read_mapping


class Teachers:
    """Both teachers' opinion in Open Images classes."""

    def __init__(self, open_images: str, coco: str):
        self.open_images, self.coco = Raw(open_images), Raw(coco)
        number = {name: i for i, name in enumerate(OBJECT_IDS)}
        mapping = read_mapping()
        names = [self.coco.model.names[i] for i in range(len(self.coco.model.names))]
        self.target = torch.tensor([number[mapping[name]["name"]] for name in names])
        self.same = [torch.tensor([number[n] for n in sorted(mapping[name]["same"])]) for name in names]

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Box logits (B, 64, A) of the surer teacher and class probabilities (B, 601, A) at every anchor.

        A COCO opinion counts as far as the other teacher does not already name the same thing more exactly.
        """
        ours, coco = self.open_images(x), self.coco(x)
        p, q = ours["scores"].sigmoid(), coco["scores"].sigmoid()
        surer = (q.amax(1) > p.amax(1))[:, None]
        merged = p.clone()
        for column, (target, same) in enumerate(zip(self.target.tolist(), self.same, strict=True)):
            exact = p[:, same[same != target]].amax(1) if len(same) > 1 else torch.zeros_like(q[:, column])
            merged[:, target] = torch.maximum(merged[:, target], q[:, column] * (exact < 0.25))
        return torch.where(surer, coco["boxes"], ours["boxes"]), merged


def photo_weights(label_folder: Path, photos: list[Path]) -> np.ndarray:
    """How often each photo is shown: more for photos with several of the classes that are new to the student."""
    new = {OBJECT_IDS.index(rule["name"]) for name, rule in read_mapping().items() if name != "person"}
    counts = []
    for photo in photos:
        lines = (label_folder / f"{photo.stem}.txt").read_text("utf-8").splitlines()
        counts.append(len({int(line.split()[0]) for line in lines} & new))
    weights = 1.0 + np.array(counts, float)
    return weights / weights.sum()


def distill(
    base: str,
    teachers: Teachers,
    dataset: Path,
    out: Path,
    steps: int,
    side: int,
    batch: int,
    lr: float,
    seed: int = 0,
    keep_every: int = 100,
    log=print,
) -> Path:
    """Train `base` on the dataset's training photos; returns the averaged student, an Ultralytics checkpoint.

    The state is kept in `out` every `keep_every` steps; an interrupted call goes on from there.
    """
    photos = sorted((dataset / "images" / "train").glob("*.jpg"))
    weights = photo_weights(dataset / "labels" / "train", photos)

    def loss_at(student: Raw, rng: np.random.Generator) -> torch.Tensor:
        x = as_batch([view(photos[i], side, rng) for i in rng.choice(len(photos), batch, p=weights)])
        raw = student(x)
        class_loss, box_loss = loss_of((raw["boxes"], raw["scores"]), teachers(x))
        return class_loss + 0.25 * box_loss

    return train_student(base, loss_at, out, steps, lr, seed, keep_every, log)


def average(labels: Path, distilled: Path, share: float, out: Path) -> Path:
    """Mix two checkpoints of one ancestry weight by weight, `share` of the second; written to `out`.

    Averaging fine-tuned weights keeps the strengths of both: Wortsman et al. 2022, "Model soups" (arXiv:2203.05482).
    """
    from ultralytics import YOLO

    first, second = YOLO(labels), YOLO(distilled)
    a, b = first.model.float().state_dict(), second.model.float().state_dict()
    mixed = {k: torch.lerp(a[k], b[k], share) if a[k].dtype.is_floating_point else a[k] for k in a}
    first.model.load_state_dict(mixed)
    first.save(out)
    return out
