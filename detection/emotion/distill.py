"""The face finder learns real faces from an Open Images detector's opinion of unlabelled photos.

Half of every batch are composed scenes, whose faces are known; the rest are photos, of which the teacher says at every
spot how much it looks like a face. Photos with drawn boxes have their masked faces smeared already.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from detection.distillation import Raw, as_batch, loss_of, train_student, view
from detection.emotion.yolo_coco import DatasetWriter, Item

FACES_GAIN = 4.0  # how much oftener a photo with a face is looked at than one without
SCENE_ZOOM = (0.6, 2.0)  # of scenes; the widest faces fill the picture, or else large ones are seen as several small
SCENE_GAIN = 0.5  # weight of the scenes' loss beside the photos'


class FaceTeacher:
    """An Open Images detector's opinion of faces: box logits (B, 64, A), probabilities (B, 1, A)."""

    def __init__(self, checkpoint: str):
        self.raw = Raw(checkpoint)
        names = self.raw.model.names
        self.face = next(number for number, name in names.items() if name == "Human face")

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.raw(x)
        return raw["boxes"], raw["scores"][:, self.face : self.face + 1].sigmoid()


def distill(
    base: str,
    teacher: str,
    writer: DatasetWriter,
    photos: dict[Path, bool],
    out: Path,
    steps: int,
    side: int,
    batch: int,
    lr: float,
    seed: int = 0,
    log=print,
) -> Path:
    """Train `base`, a detector of the one class "face"; returns the averaged student's checkpoint.

    Args:
        writer: the dataset that holds the scenes and the photos with drawn boxes.
        photos: unlabelled photos, and whether the teacher sees a face in them.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT
    from ultralytics.utils.loss import v8DetectionLoss

    opinion = FaceTeacher(teacher)
    training = [item for item in writer.items.values() if item.split == "train"]
    scenes = [item for item in training if item.file_name.startswith("scene_")]
    drawn = [writer.picture_path("train", i.file_name) for i in training if i.file_name.startswith("real_face_boxes_")]
    weights = np.array([FACES_GAIN if has_faces else 1.0 for has_faces in [*photos.values(), *[True] * len(drawn)]])
    photos = [*photos, *drawn]
    criterion = None

    def loss_at(student: Raw, rng: np.random.Generator) -> torch.Tensor:
        nonlocal criterion
        if criterion is None:
            student.model.args = SimpleNamespace(**DEFAULT_CFG_DICT)
            criterion = v8DetectionLoss(student.model)
        chosen = rng.choice(len(photos), batch - batch // 2, p=weights / weights.sum())
        x = as_batch([view(photos[i], side, rng, (0.6, 1.6)) for i in chosen])
        raw = student(x)
        class_loss, box_loss = loss_of((raw["boxes"], raw["scores"]), opinion(x))
        x, truth = scene_batch(writer, [scenes[i] for i in rng.choice(len(scenes), batch - len(chosen))], side, rng)
        known, _ = criterion.loss(student(x), truth)
        return class_loss + 0.25 * box_loss + SCENE_GAIN * known.sum() / len(x)

    return train_student(base, loss_at, out, steps, lr, seed, log=log)


def scene_batch(writer: DatasetWriter, items: list[Item], side: int, rng: np.random.Generator) -> tuple:
    """Scenes as network input and Ultralytics' batch dictionary (normalised centre xywh)."""
    views, rows = [], []
    for number, item in enumerate(items):
        seen = view(writer.picture_path(item.split, item.file_name), side, rng, SCENE_ZOOM)
        views.append(seen)
        whole = seen.boxes(np.array([face.xyxy for face in item.faces]).reshape(-1, 4))
        inside = np.clip(whole, 0, side)
        area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
        for x1, y1, x2, y2 in inside[area(inside) > 0.4 * area(whole)] / side:
            rows.append([number, 0, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return as_batch(views), {"batch_idx": rows[:, 0], "cls": rows[:, 1], "bboxes": rows[:, 2:]}
