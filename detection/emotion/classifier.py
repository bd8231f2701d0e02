"""What a face feels: a small classifier of single grey face crops.

Where a face is, is learned in an epoch or two; what it feels takes hundreds of thousands of looks, and single crops
at 96 px are sixty times cheaper to look at than scenes. The network is the trunk of a COCO YOLOv8n (layers 0-9) with
average pooling and a linear layer. It sees grey only: whatever light or camera, the crops look like those it learned
from.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from detection.emotion.calibration import fit_temperature, softmax
from detection.emotion.faces import Faces
from detection.emotion.feelings import CROP_SIDE, FACE_SIDE, SecondLook, face_crop
from detection.labels import EMOTION_IDS

TRUNK_LAYERS = 10  # YOLOv8's backbone ends with SPPF, layer 9
TRUNK_CHANNELS = 256


def yolo_trunk(base: str) -> nn.Module:
    """Layers 0-9 of a YOLOv8n checkpoint, ready to train."""
    from ultralytics import YOLO

    return YOLO(base).model.float().requires_grad_(True).model[:TRUNK_LAYERS]


class CropClassifier(nn.Module):
    """Trunk + average pooling + linear layer: grey crops (B, 1, 96, 96) in 0..1 -> logits (B, 5)."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(TRUNK_CHANNELS, len(EMOTION_IDS)))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the trunk sees in crops (B, 1, 96, 96): (B, 256)."""
        return self.trunk(x.expand(-1, 3, -1, -1)).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def augment(faces: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Grey crops (B, 1, 48, 48) in 0..1 -> jittered crops (B, 1, 96, 96): pose, framing, light, grain, cover."""
    n = len(faces)
    rand = lambda low, high: torch.empty(n).uniform_(low, high, generator=generator)
    often = lambda share: (rand(0, 1) < share).view(-1, 1, 1, 1)
    angle, zoom, aspect = rand(-0.3, 0.3), rand(0.75, 1.25), rand(0.87, 1.15)
    flip = torch.where(rand(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack(
        [
            torch.stack([cos * flip * aspect, -sin, rand(-0.15, 0.15)], 1),
            torch.stack([sin * flip * aspect, cos, rand(-0.15, 0.15)], 1),
        ],
        1,
    )
    coarse = int(torch.randint(20, 40, (1,), generator=generator))  # small faces of real photos
    blurred = F.interpolate(F.interpolate(faces, coarse, mode="area"), FACE_SIDE, mode="bilinear")
    faces = torch.where(often(0.2), blurred, faces)
    grid = F.affine_grid(theta, [n, 1, CROP_SIDE, CROP_SIDE], align_corners=False)
    x = F.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False)
    x = x.clamp(1e-3, 1) ** torch.exp(rand(-0.4, 0.4)).view(-1, 1, 1, 1)
    x = (x - 0.5) * rand(0.6, 1.4).view(-1, 1, 1, 1) + 0.5 + rand(-0.2, 0.2).view(-1, 1, 1, 1)
    x = x + torch.randn(x.shape, generator=generator) * rand(0, 0.05).view(-1, 1, 1, 1) * often(0.3)
    return torch.where(often(0.3) & _holes(rand), 0.45, x).clamp(0, 1)


def _holes(rand) -> torch.Tensor:
    """One square a crop: (B, 1, 96, 96) bool."""
    size, cx, cy = rand(8, 32), rand(0, CROP_SIDE), rand(0, CROP_SIDE)
    axis = torch.arange(CROP_SIDE)
    rows, columns = ((axis - c[:, None]).abs() < size[:, None] for c in (cy, cx))
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def mix(x: torch.Tensor, targets: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend crops and targets pairwise, in half of all batches; the other's share stays below 0.3.

    Source: mixup, Zhang et al. 2018.
    """
    if torch.rand(1, generator=generator) < 0.5:
        return x, targets
    other = torch.randperm(len(x), generator=generator)
    share = torch.empty(len(x)).uniform_(0, 0.3, generator=generator)
    blend = lambda a: a + share.view(-1, *[1] * (a.ndim - 1)) * (a[other] - a)
    return blend(x), blend(targets)


def as_input(images: np.ndarray) -> torch.Tensor:
    """Grey crops (N, 48, 48) uint8 -> network input (N, 1, 96, 96)."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()[:, None] / 255
    return F.interpolate(x, (CROP_SIDE, CROP_SIDE), mode="bilinear", align_corners=False)


@torch.inference_mode()
def features(model: CropClassifier, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Trunk features (N, 256) of grey face crops (N, 48, 48), averaged over the crop and its mirror image."""
    model.eval()
    rows = [np.zeros((0, TRUNK_CHANNELS), np.float32)]
    for start in range(0, len(images), batch):
        x = as_input(images[start : start + batch])
        rows.append(((model.features(x) + model.features(x.flip(3))) / 2).numpy())
    return np.concatenate(rows)


@torch.inference_mode()
def logits(model: CropClassifier, images: np.ndarray) -> np.ndarray:
    """Logits (N, 5) for grey face crops (N, 48, 48); the head is linear, so mirror images are averaged before it."""
    return model.eval().head(torch.from_numpy(features(model, images))).numpy()


def temperature(model: CropClassifier, val: Faces) -> float:
    """The temperature at which the model's probabilities fit the majority votes of `val`."""
    return fit_temperature(logits(model, val.images), val.targets.argmax(1))


def name_faces(model: CropClassifier, image: Image.Image, boxes: list) -> np.ndarray:
    """Probabilities (N, 5), as humble as the votes, of faces at xyxy boxes of an upright RGB picture."""
    return softmax(logits(model, np.stack([face_crop(image, box) for box in boxes])))


class _Deployed(nn.Module):
    """What is exported: grey crops (N, 1, 48, 48) in 0..1 -> calibrated probabilities (N, 5), features (N, 256)."""

    def __init__(self, model: CropClassifier, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.interpolate(x, (CROP_SIDE, CROP_SIDE), mode="bilinear", align_corners=False)
        seen = self.model.features(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).mean(0)
        return (self.model.head(seen) / self.temperature).softmax(1), seen


def export_classifier(
    model: CropClassifier, temperature: float, second_look: SecondLook, target: Path, card: dict[str, str]
) -> Path:
    """Write the classifier as ONNX with int8-stored weights; the second look and `card` go into the metadata."""
    from detection.export import write_onnx

    deployed = _Deployed(copy.deepcopy(model), temperature).eval()
    for layer in deployed.model.trunk.modules():
        if hasattr(layer, "bn") and hasattr(layer, "conv"):
            layer.conv = torch.nn.utils.fuse_conv_bn_eval(layer.conv, layer.bn)
            layer.bn = nn.Identity()
    part = Path(target).with_suffix(".full")
    torch.onnx.export(
        deployed,
        (torch.zeros(2, 1, FACE_SIDE, FACE_SIDE),),
        str(part),
        input_names=["faces"],
        output_names=["probabilities", "features"],
        dynamic_axes={"faces": {0: "n"}, "probabilities": {0: "n"}, "features": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    import onnx

    graph = onnx.load(part)
    part.unlink()
    meta = {"names": str(list(EMOTION_IDS)), "temperature": f"{temperature:.3f}", "license": "AGPL-3.0"}
    return write_onnx(graph, target, meta | {"second_look": second_look.to_json()} | card)


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
            crops, truth = mix(augment(images[rows, None].float() / 255, generator), targets[rows], generator)
            loss = F.cross_entropy(model(crops), truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            _follow(ema, model, decay=min(0.999, (done + 1) / (done + 20)))
        truth = val.targets.argmax(1)
        right = logits(ema, val.images).argmax(1) == truth
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
