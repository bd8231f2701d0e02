"""The detector's trunk learns feelings first, as a classifier of single face crops.

Where a face is, is learned in an epoch or two; what it feels takes hundreds of thousands of looks, and single crops
at 96 px are sixty times cheaper to look at than scenes. The trained trunk (YOLOv10n layers 0-10) then moves into the
detector. Also labels faces of real photos, where nobody voted.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from detection.emotion.faces import Faces
from detection.labels import EMOTION_IDS

TRUNK_LAYERS = 11  # YOLOv10's backbone ends with the PSA block, layer 10
CROP_SIDE = 96


def new_detector(base: str | None = None):
    """A YOLOv10n detector of the five emotions; layers that match the checkpoint `base` start from it."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov10n.yaml", nc=len(EMOTION_IDS), verbose=False)
    model.names = dict(enumerate(EMOTION_IDS))
    if base:
        source = YOLO(base).model.float().state_dict()
        own = model.state_dict()
        model.load_state_dict({k: v for k, v in source.items() if k in own and own[k].shape == v.shape}, strict=False)
    return model


class CropClassifier(nn.Module):
    """Trunk of the detector + average pooling + linear layer: (B, 3, 96, 96) in 0..1 -> logits (B, 5)."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(256, len(EMOTION_IDS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x).mean((2, 3)))


def augment(faces: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Grey crops (B, 1, 48, 48) in 0..1 -> jittered colour crops (B, 3, 96, 96)."""
    n = len(faces)
    rand = lambda low, high: torch.empty(n).uniform_(low, high, generator=generator)
    angle, zoom, aspect = rand(-0.3, 0.3), rand(0.8, 1.25), rand(0.9, 1.1)
    flip = torch.where(rand(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack(
        [
            torch.stack([cos * flip * aspect, -sin, rand(-0.12, 0.12)], 1),
            torch.stack([sin * flip * aspect, cos, rand(-0.12, 0.12)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [n, 1, CROP_SIDE, CROP_SIDE], align_corners=False)
    x = F.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False)
    x = (x - 0.5) * rand(0.6, 1.4).view(-1, 1, 1, 1) + 0.5 + rand(-0.2, 0.2).view(-1, 1, 1, 1)
    tint = 1 + torch.stack([rand(-0.05, 0.3), rand(-0.1, 0.1), rand(-0.3, 0.05)], 1)[..., None, None]
    x = torch.where((rand(0, 1) < 0.6).view(-1, 1, 1, 1), x * tint, x.expand(-1, 3, -1, -1))
    size, (cx, cy) = (rand(8, 32), (rand(0, CROP_SIDE), rand(0, CROP_SIDE)))
    axis = torch.arange(CROP_SIDE)
    hole = ((axis - cy[:, None]).abs() < size[:, None])[:, :, None] & ((axis - cx[:, None]).abs() < size[:, None])[
        :, None, :
    ]
    hole &= (rand(0, 1) < 0.3)[:, None, None]
    return torch.where(hole[:, None], torch.full_like(x, 0.45), x).clamp(0, 1)


def as_input(images: np.ndarray) -> torch.Tensor:
    """Crops (N, S, S) grey or (N, S, S, 3) RGB uint8 -> network input (N, 3, 96, 96)."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    x = x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return F.interpolate(x, (CROP_SIDE, CROP_SIDE), mode="bilinear", align_corners=False)


@torch.inference_mode()
def predict(model: CropClassifier, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Probabilities (N, 5) for face crops, averaged over the crop and its mirror image."""
    model.eval()
    rows = []
    for start in range(0, len(images), batch):
        x = as_input(images[start : start + batch])
        rows.append(((model(x).softmax(1) + model(x.flip(3)).softmax(1)) / 2).numpy())
    return np.concatenate(rows) if rows else np.zeros((0, len(EMOTION_IDS)), np.float32)


def train_classifier(
    train: Faces,
    val: Faces,
    trunk: nn.Module,
    epochs: int,
    out: Path,
    lr: float = 1.5e-3,
    batch: int = 96,
    seed: int = 0,
    log=print,
) -> CropClassifier:
    """Train on soft vote targets with class-balanced sampling, EMA and a cosine schedule; best EMA weights return.

    `out` keeps the state after every epoch; an interrupted training goes on from it.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = CropClassifier(trunk)
    ema = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    share = train.targets.argmax(1)
    weights = torch.tensor((1 / np.maximum(np.bincount(share, minlength=len(EMOTION_IDS)), 1) ** 0.7)[share])
    steps = math.ceil(len(train) / batch)
    state = torch.load(out, weights_only=False) if out.exists() else {"epoch": 0, "best": -1.0}
    if state["epoch"]:
        (
            model.load_state_dict(state["model"]),
            ema.load_state_dict(state["ema"]),
            optimizer.load_state_dict(state["optimizer"]),
        )
    images, targets = torch.from_numpy(train.images), torch.from_numpy(train.targets)
    for epoch in range(state["epoch"], epochs):
        model.train()
        for step, rows in enumerate(torch.multinomial(weights, steps * batch, True, generator=generator).split(batch)):
            done = epoch * steps + step
            for group in optimizer.param_groups:
                group["lr"] = (
                    lr
                    * min(1, (done + 1) / 100)
                    * (0.02 + 0.98 * (1 + math.cos(math.pi * done / (steps * epochs))) / 2)
                )
            loss = F.cross_entropy(model(augment(images[rows, None].float() / 255, generator)), targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            _follow(ema, model, decay=min(0.998, (done + 1) / (done + 20)))
        truth = val.targets.argmax(1)
        right = predict(ema, val.images).argmax(1) == truth
        macro = np.mean([right[truth == c].mean() for c in np.unique(truth)])
        log(
            f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}, accuracy {right.mean():.3f}, macro recall {macro:.3f}"
        )
        if right.mean() > state["best"]:
            state |= {"best": float(right.mean()), "best_ema": copy.deepcopy(ema.state_dict())}
        state |= {
            "epoch": epoch + 1,
            "model": model.state_dict(),
            "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, out.with_suffix(".part"))
        out.with_suffix(".part").replace(out)
    ema.load_state_dict(state["best_ema"])
    return ema


@torch.no_grad()
def _follow(ema: nn.Module, model: nn.Module, decay: float) -> None:
    for slow, fast in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        slow.lerp_(fast, 1 - decay) if slow.dtype.is_floating_point else slow.copy_(fast)
