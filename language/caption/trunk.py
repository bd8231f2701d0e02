"""A YOLO detector's trunk as the vision encoder of a captioner: `encoder: trunk`.

Importing this module registers it with transformers, so that a saved captioner loads by `from_pretrained`.
"""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from ultralytics.nn.tasks import DetectionModel, load_checkpoint, parse_model
from ultralytics.utils.torch_utils import initialize_weights

from common.errors import UserError


class TrunkConfig(PreTrainedConfig):
    """How to build the trunk again without the detector's file.

    Attributes:
        architecture: the YAML dict of an Ultralytics detector.
        layers: numbers of the layers whose feature maps are read; all are brought to the size of the last one.
        classes: whether what the deepest head says of each class stands beside the features.
        hidden_size: numbers per token; set by the trunk.
    """

    model_type = "yolo_trunk"
    architecture: dict | None = None
    layers: list[int] | None = None
    classes: bool = False
    hidden_size: int = 0


class Trunk(PreTrainedModel):
    """Photos (batch, 3, height, width) in 0..1 -> one token for each place of the deepest feature map.

    A token is what each layer says there, each brought to mean 0 and variance 1, then where it is (x, y in -1..1):
    attention has no other way to know. It never leaves evaluation mode, because batch norms that drift would change
    the detector's features.
    """

    config_class = TrunkConfig
    main_input_name = "pixel_values"

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__(config)
        if not config.architecture:  # transformers compares configs with an empty one
            raise ValueError("a trunk needs the architecture of a detector")
        stack, self.kept = parse_model(deepcopy(config.architecture), ch=3, verbose=False)
        initialize_weights(stack)  # batch norm's epsilon
        head, depth = stack[-1], max(config.layers) + 1
        self.stack = stack[: len(stack) - 1 if config.classes else depth]
        self.head = head.cv3[-1] if config.classes else None
        self.head_layer = head.f[-1]
        self.post_init()

    def _init_weights(self, module) -> None:
        """The detector's weights are loaded; there is nothing to initialise."""

    def train(self, mode: bool = True):
        return super().train(False)

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutput:
        """`last_hidden_state`: (batch, places, hidden_size)."""
        x, kept, maps = pixel_values, [], {}
        for number, layer in enumerate(self.stack):
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if j == -1 else kept[j] for j in layer.f]
            x = layer(x)
            kept.append(x if number in self.kept else None)
            maps |= {number: x} if number in self.config.layers or number == self.head_layer else {}
        size = maps[self.config.layers[-1]].shape[-2:]
        parts = [nn.functional.adaptive_avg_pool2d(maps[number], size) for number in self.config.layers]
        if self.head is not None:
            parts.append(nn.functional.adaptive_avg_pool2d(self.head(maps[self.head_layer]), size))
        tokens = [part.flatten(2).transpose(1, 2) for part in parts]  # (batch, places, channels)
        tokens = [nn.functional.layer_norm(part, part.shape[-1:]) for part in tokens]
        return BaseModelOutput(last_hidden_state=torch.cat([*tokens, _places(tokens[0], *size)], -1))


def _places(like: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(batch, height · width, 2): x and y of each place, -1..1."""
    line = lambda count: torch.linspace(-1, 1, count, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(line(height), line(width), indexing="ij")
    return torch.stack([x, y], -1).view(1, -1, 2).expand(like.shape[0], -1, -1)


def load_trunk(weights: Path, layers: list[int], classes: bool) -> Trunk:
    """The trunk of an Ultralytics detector's checkpoint (.pt).

    Raises:
        UserError: the file is missing or no detector's checkpoint, or a layer is none of its feature maps.
    """
    if not weights.is_file():
        raise UserError(f"the trunk's weights {weights} do not exist; give trunk_weights=FILE.pt of a YOLO detector")
    try:
        detector = load_checkpoint(str(weights), fuse=False)[0]
    except Exception as error:  # whatever unpickling a foreign file throws
        raise UserError(f"{weights} is no Ultralytics checkpoint: {str(error).splitlines()[0][:160]}") from None
    if not isinstance(detector, DetectionModel) or not hasattr(detector.model[-1], "cv3"):
        raise UserError(f"{weights} holds a {type(detector).__name__}; a trunk comes from a YOLO detector (v8 to 12)")
    allowed = range(1, len(detector.model) - 1)
    if bad := [number for number in layers if number not in allowed]:
        raise UserError(f"trunk_layers: {bad} (allowed: {allowed[0]} to {allowed[-1]})")
    with torch.inference_mode(False):
        architecture = {k: v for k, v in detector.yaml.items() if k != "yaml_file"}
        config = TrunkConfig(architecture=architecture, layers=layers, classes=classes)
        trunk = Trunk(config)
        source = detector.float().model
        trunk.stack.load_state_dict(source[: len(trunk.stack)].state_dict())
        if classes:
            trunk.head.load_state_dict(source[-1].cv3[-1].state_dict())
        with torch.no_grad():
            config.hidden_size = trunk.eval()(torch.zeros(1, 3, 64, 64)).last_hidden_state.shape[-1]
    return trunk


AutoConfig.register(TrunkConfig.model_type, TrunkConfig)
AutoModel.register(TrunkConfig, Trunk)
