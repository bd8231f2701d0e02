"""Distillation: the student learns what both teachers think at every spot of a picture, not only their sure boxes.

Teachers and student share YOLOv8's anchor grid, so their raw outputs can be compared place by place. Class scores are
compared with the quality focal loss of Li et al. 2020 (arXiv:2006.04388), box sides as distributions as in
Zheng et al. 2022, "Localization Distillation" (arXiv:2102.12252).
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from detection.labels import OBJECT_IDS
from detection.objects.pseudo_labels import read_mapping
from detection.runner import PAD_GREY

NOTEWORTHY = 0.03  # anchors at which neither teacher nor student is at least this sure teach nothing
REG_MAX = 16  # bins per box side in YOLOv8's heads


class Raw(torch.nn.Module):
    """A YOLOv8 checkpoint that answers with raw outputs and never changes its batch norms.

    forward: (B, 3, H, W) in 0..1 -> box logits (B, 64, anchors), class logits (B, classes, anchors)
    """

    def __init__(self, checkpoint: str, learn: bool = False):
        super().__init__()
        from ultralytics import YOLO

        self.model = YOLO(checkpoint).model.float().eval().requires_grad_(learn)
        self.model.model[-1].training = True  # the head alone: raw outputs instead of decoded boxes

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.model(x)
        return raw["boxes"], raw["scores"]


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
        boxes, scores = self.open_images(x)
        coco_boxes, coco_scores = self.coco(x)
        p, q = scores.sigmoid(), coco_scores.sigmoid()
        surer = (q.amax(1) > p.amax(1))[:, None]
        merged = p.clone()
        for column, (target, same) in enumerate(zip(self.target.tolist(), self.same, strict=True)):
            exact = p[:, same[same != target]].amax(1) if len(same) > 1 else torch.zeros_like(q[:, column])
            merged[:, target] = torch.maximum(merged[:, target], q[:, column] * (exact < 0.25))
        return torch.where(surer, coco_boxes, boxes), merged


def loss_of(student: tuple, teacher: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and box loss between raw student outputs and the teachers' opinion, at noteworthy anchors."""
    boxes, logits = (t.transpose(1, 2) for t in student)  # (B, A, 64), (B, A, 601)
    target_boxes, target = (t.transpose(1, 2) for t in teacher)
    sure = target.amax(2)
    rows = (sure > NOTEWORTHY) | (logits.detach().amax(2).sigmoid() > NOTEWORTHY)
    p, t = logits[rows], target[rows]
    focus = (p.detach().sigmoid() - t).abs().pow(1.5)
    weight = sure.sum().clamp(min=1)
    class_loss = (focus * F.binary_cross_entropy_with_logits(p, t, reduction="none")).sum() / weight
    solid = sure > 0.1
    sides = boxes[solid].view(-1, 4, REG_MAX).log_softmax(-1)
    wanted = target_boxes[solid].view(-1, 4, REG_MAX).softmax(-1)
    box_loss = (F.kl_div(sides, wanted, reduction="none").sum((1, 2)) * sure[solid]).sum() / weight
    return class_loss, box_loss


def picture(path: Path, side: int, rng: np.random.Generator) -> np.ndarray:
    """A random view of a photo: scaled, shifted, mirrored, brighter or darker; (side, side, 3) uint8."""
    image = Image.open(path).convert("RGB")
    scale = side / max(image.size) * rng.uniform(0.75, 1.5)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.BILINEAR)
    left, top = (int(rng.integers(min(0, side - v), max(0, side - v) + 1)) for v in image.size)
    canvas = Image.new("RGB", (side, side), (PAD_GREY,) * 3)
    canvas.paste(image, (left, top))
    pixels = np.asarray(canvas, np.float32)
    pixels = (pixels - 114) * rng.uniform(0.75, 1.25) + 114 + rng.uniform(-20, 20)
    pixels = np.clip(pixels * rng.uniform(0.92, 1.08, 3).astype(np.float32), 0, 255).astype(np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


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
    out.mkdir(parents=True, exist_ok=True)
    state_file, result = out / "state.pt", out / "student.pt"
    student = Raw(base, learn=True)
    ema = copy.deepcopy(student)
    decays = [p for p in student.parameters() if p.ndim > 1], [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decays[0], "weight_decay": 5e-4}, {"params": decays[1], "weight_decay": 0.0}], lr=lr
    )
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        (
            student.load_state_dict(state["student"]),
            ema.load_state_dict(state["ema"]),
            optimizer.load_state_dict(state["optimizer"]),
        )
        first = state["step"]
    photos = sorted((dataset / "images" / "train").glob("*.jpg"))
    weights = photo_weights(dataset / "labels" / "train", photos)
    for step in range(first, steps):
        rng = np.random.default_rng((seed, step))
        chosen = rng.choice(len(photos), batch, p=weights)
        views = np.stack([picture(photos[i], side, rng) for i in chosen])
        x = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 30) * (0.03 + 0.97 * (1 + math.cos(math.pi * step / steps)) / 2)
        class_loss, box_loss = loss_of(student(x), teachers(x))
        optimizer.zero_grad(set_to_none=True)
        (class_loss + 0.25 * box_loss).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 10.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - min(0.99, (step + 1) / (step + 10)))
        if (step + 1) % 10 == 0:
            log(f"step {step + 1}/{steps}: class loss {class_loss.item():.3f}, box loss {box_loss.item():.3f}")
        if (step + 1) % keep_every == 0 or step + 1 == steps:
            part = state_file.with_suffix(".part")
            torch.save(
                {
                    "step": step + 1,
                    "student": student.state_dict(),
                    "ema": ema.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
                part,
            )
            part.replace(state_file)
            _save(base, ema, result)
    return result


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


def _save(base: str, trained: Raw, path: Path) -> None:
    """Write the student as an Ultralytics checkpoint."""
    from ultralytics import YOLO

    model = YOLO(base)
    model.model.float().load_state_dict(trained.model.state_dict())
    model.save(path)
