"""Distillation: a student learns what a teacher thinks at every spot of a picture, not only its sure boxes.

YOLOv8 and YOLOv10 share one anchor grid, so that raw outputs can be compared place by place: class scores by cross
entropy, box sides as distributions as in Zheng et al. 2022, "Localization Distillation" (arXiv:2102.12252).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from detection.runner import PAD_GREY

REG_MAX = 16  # bins per box side in YOLOv8's heads


class Raw(torch.nn.Module):
    """A YOLO checkpoint that answers with raw outputs and never changes its batch norms.

    forward: (B, 3, H, W) in 0..1 -> {"boxes": (B, 64, anchors), "scores": (B, classes, anchors), "feats": …}, logits
    all; of YOLOv10's two heads the one-to-many head answers.
    """

    def __init__(self, checkpoint: str, learn: bool = False):
        super().__init__()
        from ultralytics import YOLO

        self.model = YOLO(checkpoint).model.float().eval().requires_grad_(learn)
        self.model.model[-1].training = True  # the head alone: raw outputs instead of decoded boxes

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        raw = self.model(x)
        return raw.get("one2many", raw)


def loss_of(student: tuple, teacher: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    """Class loss at every anchor, and box loss where the teacher sees something.

    Args:
        student: raw box logits (B, 64, A) and class logits (B, C, A).
        teacher: box logits (B, 64, A) and class probabilities (B, C, A).
    """
    boxes, logits = (t.transpose(1, 2) for t in student)  # (B, A, 64), (B, A, C)
    target_boxes, target = (t.transpose(1, 2) for t in teacher)
    sure = target.amax(2)
    weight = sure.sum().clamp(min=1)
    # plain, not focal: a focal loss forgives what it says a little too often, and that is most of the false alarms
    class_loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum() / weight
    solid = sure > 0.1
    sides = boxes[solid].view(-1, 4, REG_MAX).log_softmax(-1)
    wanted = target_boxes[solid].view(-1, 4, REG_MAX).softmax(-1)
    box_loss = (F.kl_div(sides, wanted, reduction="none").sum((1, 2)) * sure[solid]).sum() / weight
    return class_loss, box_loss


@dataclass(frozen=True)
class View:
    """A random view of a photo: pixels (side, side, 3) uint8, and how a box of the photo maps into it."""

    pixels: np.ndarray
    scale: float
    left: int
    top: int
    mirrored: bool

    def boxes(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) of the photo in the view, not clipped."""
        moved = xyxy * self.scale + [self.left, self.top, self.left, self.top]
        if self.mirrored:
            moved[:, [0, 2]] = len(self.pixels) - moved[:, [2, 0]]
        return moved


def view(path: Path, side: int, rng: np.random.Generator, zoom: tuple[float, float] = (0.75, 1.5)) -> View:
    """A photo scaled, shifted, mirrored, brighter or darker, tinted."""
    image = Image.open(path).convert("RGB")
    scale = side / max(image.size) * rng.uniform(*zoom)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.BILINEAR)
    left, top = (int(rng.integers(min(0, side - v), max(0, side - v) + 1)) for v in image.size)
    canvas = Image.new("RGB", (side, side), (PAD_GREY,) * 3)
    canvas.paste(image, (left, top))
    pixels = np.asarray(canvas, np.float32)
    pixels = (pixels - 114) * rng.uniform(0.75, 1.25) + 114 + rng.uniform(-20, 20)
    pixels = np.clip(pixels * rng.uniform(0.92, 1.08, 3).astype(np.float32), 0, 255).astype(np.uint8)
    mirrored = rng.random() < 0.5
    return View(pixels[:, ::-1] if mirrored else pixels, scale, left, top, mirrored)


def as_batch(views: list[View]) -> torch.Tensor:
    """Views as network input (B, 3, side, side) in 0..1."""
    return torch.from_numpy(np.stack([v.pixels for v in views])).permute(0, 3, 1, 2).float() / 255


def train_student(
    base: str,
    loss_at: Callable[[Raw, np.random.Generator], torch.Tensor],
    out: Path,
    steps: int,
    lr: float,
    seed: int = 0,
    keep_every: int = 100,
    log: Callable[[str], None] = print,
) -> Path:
    """Train the checkpoint `base` on `loss_at(student, rng)`; returns the averaged student, a checkpoint in `out`.

    The state is kept in `out` every `keep_every` steps; an interrupted call goes on from there.
    """
    out.mkdir(parents=True, exist_ok=True)
    state_file, result = out / "state.pt", out / "student.pt"
    student = Raw(base, learn=True)
    ema = copy.deepcopy(student)
    weights, biases = ([p for p in student.parameters() if (p.ndim > 1) == many] for many in (True, False))
    groups = [{"params": weights, "weight_decay": 5e-4}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    parts, first = {"student": student, "ema": ema, "optimizer": optimizer}, 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        first = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 30) * (0.03 + 0.97 * (1 + math.cos(math.pi * step / steps)) / 2)
        loss = loss_at(student, np.random.default_rng((seed, step)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 10.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - min(0.99, (step + 1) / (step + 10)))
        if (step + 1) % 10 == 0:
            log(f"step {step + 1}/{steps}: loss {loss.item():.3f}")
        if (step + 1) % keep_every == 0 or step + 1 == steps:
            torch.save(
                {"step": step + 1} | {name: part.state_dict() for name, part in parts.items()},
                state_file.with_suffix(".part"),
            )
            state_file.with_suffix(".part").replace(state_file)
            _save(base, ema, result)
    return result


def _save(base: str, trained: Raw, path: Path) -> None:
    """Write the student as an Ultralytics checkpoint."""
    from ultralytics import YOLO

    model = YOLO(base)
    model.model.float().load_state_dict(trained.model.state_dict())
    model.save(path)
