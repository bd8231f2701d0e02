"""Ultralytics checkpoint -> the small ONNX file the runner reads.

    python -m detection.export runs/emotion_pocket/train/weights/best.pt detection/emotion/pocket.onnx --imgsz 320

Weights are stored as int8 with one scale per output channel; arithmetic stays float32.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from common.errors import UserError, exit_with
from common.files import whole_file


def export_onnx(
    checkpoint: Path,
    target: Path,
    imgsz: int = 640,
    confidence: float | None = None,
    class_confidence: dict[str, float] | None = None,
    end_to_end: bool = False,
    more: dict[str, str] | None = None,
) -> Path:
    """Export with free height and width, write thresholds and the default input side into the metadata.

    Args:
        end_to_end: of a YOLOv10 checkpoint, export the head that needs no suppression instead of the other.
        more: further metadata.

    Returns:
        `target`, written atomically.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph = raw_export(checkpoint, Path(folder), imgsz, end_to_end)
    kept = {p.key: p.value for p in graph.metadata_props if p.key in ("names", "task", "stride", "license")}
    kept |= {"imgsz": str([imgsz, imgsz])}
    if confidence is not None:
        kept["confidence"] = str(confidence)
    if class_confidence:
        kept["class_confidence"] = json.dumps(class_confidence)
    return write_onnx(graph, target, kept | (more or {}))


def raw_export(checkpoint: Path, folder: Path, imgsz: int, end_to_end: bool = False):
    """Ultralytics' ONNX model of a checkpoint, with free height and width; `folder` is used for its files."""
    import onnx
    from ultralytics import YOLO

    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "model.pt"
    copy.write_bytes(Path(checkpoint).read_bytes())  # Ultralytics writes beside the checkpoint
    head = False if end_to_end else None
    return onnx.load(YOLO(copy).export(format="onnx", dynamic=True, simplify=True, imgsz=imgsz, nms=head))


def write_onnx(graph, target: Path, metadata: dict[str, str]) -> Path:
    """Store an ONNX model with int8 weights and this metadata, atomically; returns `target`."""
    import onnx

    int8_weights(graph)
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, metadata)
    with whole_file(target) as part:
        onnx.save(graph, part)
    return Path(target)


def int8_weights(graph, least: int = 1024) -> None:
    """Store float32 weights of at least `least` numbers as int8 with one scale per output channel, in place.

    ONNX Runtime multiplies them out once, when the file is loaded: a quarter of the size, the same speed.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    for tensor in list(graph.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < least or values.ndim < 2:
            continue
        scale = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True) / 127
        scale[scale == 0] = 1
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}_int8"))
        graph.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        nodes += [
            helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=TensorProto.FLOAT, name=f"{name}_cast"),
            helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name], name=f"{name}_times_scale"),
        ]
    for node in reversed(nodes):
        graph.graph.node.insert(0, node)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m detection.export", description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--imgsz", type=int, default=640, help="default input side of the exported model")
    parser.add_argument("--confidence", type=float, help="default threshold stored with the weights")
    parser.add_argument("--end-to-end", action="store_true", help="YOLOv10: export the head that needs no NMS")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if not args.checkpoint.is_file():
        raise UserError(f"{args.checkpoint} does not exist")
    print(export_onnx(args.checkpoint, args.target, args.imgsz, args.confidence, end_to_end=args.end_to_end))
    return 0


if __name__ == "__main__":
    exit_with(main)
