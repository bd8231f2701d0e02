"""Let the trunk itself learn from the training photos, while it keeps what it knew of ImageNet's classes.

Only the later half moves (its early layers see edges and textures, which are the same everywhere), batch norms keep
their statistics, and the old trunk's answers are learned beside the tags (Li & Hoiem 2016, "Learning without
Forgetting").
"""

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from detection.photos import upright
from detection.scenes import as_input, heads
from detection.scenes.trunk import Trunk

FROZEN_BLOCKS = 7  # of 16
BATCH = 32
KEEP = 0.5  # weight of the old answers


class _Photos(torch.utils.data.Dataset):
    """Photos as network input, cut and mirrored at random, with targets and weights."""

    def __init__(self, photos: list[Path], targets: np.ndarray, weights: np.ndarray):
        self.photos, self.targets, self.weights = photos, targets.astype(np.float32), weights.astype(np.float32)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> tuple:
        with Image.open(self.photos[row]) as file:
            image = upright(file)
        share = torch.empty(4).uniform_(0, 0.12).tolist()
        w, h = image.size
        image = image.crop((w * share[0], h * share[1], w * (1 - share[2]), h * (1 - share[3])))
        x = torch.from_numpy(as_input(image)[0])
        return x.flip(2) if torch.rand(1) < 0.5 else x, self.targets[row], self.weights[row]


def early(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The frozen layers."""
    x = network._swish(network._bn0(network._conv_stem(x)))
    for block in network._blocks[:FROZEN_BLOCKS]:
        x = block(x)
    return x


def late(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layers that learn: pooled features (B, 1280)."""
    for block in network._blocks[FROZEN_BLOCKS:]:
        x = block(x)
    return network._swish(network._bn1(network._conv_head(x))).mean((2, 3))


def tune(
    trunk: Trunk,
    head: heads.Head,
    photos: list[Path],
    targets: np.ndarray,
    weights: np.ndarray,
    epochs: int,
    lr: float,
    out: Path,
    seed: int = 0,
) -> Trunk:
    """Train; `out` keeps the state after every epoch, and an interrupted training goes on from it.

    Args:
        head: the linear layer on the old trunk's features, where the new one starts.
        targets, weights: (N, T), of `photos`.
    """
    from rich.progress import Progress

    torch.manual_seed(seed)
    old, network = trunk.network.eval(), copy.deepcopy(trunk.network).eval()
    tags = nn.Linear(head.weights.shape[1], head.weights.shape[0])
    tags.load_state_dict({"weight": torch.from_numpy(head.weights), "bias": torch.from_numpy(head.bias).float()})
    learned = [p for m in (*network._blocks[FROZEN_BLOCKS:], network._conv_head, network._bn1) for p in m.parameters()]
    optimizer = torch.optim.AdamW([*learned, *tags.parameters()], lr=lr, weight_decay=0.02)
    loader = torch.utils.data.DataLoader(
        _Photos(photos, targets, weights), BATCH, shuffle=True, drop_last=True, num_workers=1
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * len(loader), pct_start=0.15)
    state, done = {"network": network, "tags": tags, "optimizer": optimizer, "schedule": schedule}, 0
    if out.exists():
        kept = torch.load(out, weights_only=True)
        done = kept.pop("epochs")
        for name, values in kept.items():
            state[name].load_state_dict(values)
    with Progress() as progress:
        bar = progress.add_task("tuning", total=epochs * len(loader), completed=done * len(loader))
        for epoch in range(done, epochs):
            for x, y, w in loader:
                loss = _loss(network, old, tags, x, y, w)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance(bar)
            part = out.with_suffix(".part")
            torch.save({"epochs": epoch + 1, **{name: item.state_dict() for name, item in state.items()}}, part)
            part.replace(out)
    return Trunk(network)


def _loss(network, old, tags, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        seen = early(network, x)
        before = old._fc(late(old, seen)).softmax(1)
    features = late(network, seen)
    told = F.binary_cross_entropy_with_logits(tags(F.dropout(features, 0.2)), y, w, reduction="sum") / len(x)
    kept = F.cross_entropy(network._fc(features), before)
    return told + KEEP * kept
