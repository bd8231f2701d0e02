"""Ultralytics checkpoint -> the small ONNX file the runner reads.

    python -m detection.export runs/emotion_pocket/train/weights/best.pt detection/emotion/pocket.onnx --imgsz 320

Weights are stored as float16 and cast back when the file is loaded: half the size, arithmetic stays float32.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from configs.errors import UserError, exit_with


def export_onnx(
    checkpoint: Path,
    target: Path,
    imgsz: int = 640,
    confidence: float | None = None,
    class_confidence: dict[str, float] | None = None,
    end_to_end: bool = False,
) -> Path:
    """Export with free height and width, write thresholds and the default input side into the metadata.

    Args:
        end_to_end: of a YOLOv10 checkpoint, export the head that needs no suppression instead of the other.

    Returns:
        `target`, written atomically.
    """
    import onnx
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.pt"
        copy.write_bytes(Path(checkpoint).read_bytes())  # Ultralytics writes beside the checkpoint
        graph = onnx.load(
            YOLO(copy).export(
                format="onnx", dynamic=True, simplify=True, imgsz=imgsz, nms=False if end_to_end else None
            )
        )
    half_weights(graph)
    kept = {p.key: p.value for p in graph.metadata_props if p.key in ("names", "task", "stride", "license")}
    kept |= {"imgsz": str([imgsz, imgsz])}
    if confidence is not None:
        kept["confidence"] = str(confidence)
    if class_confidence:
        kept["class_confidence"] = json.dumps(class_confidence)
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, kept)
    part = Path(target).with_suffix(".part")
    onnx.save(graph, part)
    part.replace(target)
    return Path(target)


def half_weights(graph, least: int = 256) -> None:
    """Store float32 initialisers of at least `least` numbers as float16 behind a Cast, in place."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size >= least and np.abs(values).max() < 6e4:
            name, tensor_name = tensor.name, f"{tensor.name}_half"
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor_name))
            casts.append(helper.make_node("Cast", [tensor_name], [name], to=TensorProto.FLOAT, name=f"{name}_cast"))
    for node in reversed(casts):
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
