"""Two detectors in one ONNX file: the Open Images vocabulary, and COCO's classes under Open Images names.

    python -m detection.objects.join open_images.pt coco.pt detection/objects/pocket.onnx

Both networks read the same input; the runner merges what they see (`OnnxYolo`). Class names and conflict rules come
from `coco_to_open_images.yaml`, thresholds from a JSON file that `detection.objects.thresholds` wrote.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from configs.errors import UserError, exit_with
from detection.objects.pseudo_labels import read_mapping

CONFIDENCE, SECOND_CONFIDENCE = 0.25, 0.15  # where no class has its own


def join(
    open_images: Path, coco: Path, target: Path, imgsz: int, thresholds: dict | None = None, more: dict | None = None
) -> Path:
    """Export both checkpoints, put them side by side in one graph and write it with int8-stored weights.

    Args:
        thresholds: {"first": {Open Images name: threshold}, "second": {COCO name: threshold}}.
        more: further metadata.

    Raises:
        UserError: the second checkpoint's classes are not COCO's.
    """
    import onnx
    from onnx import compose
    from ultralytics import YOLO

    from detection.export import raw_export, write_onnx

    thresholds, mapping = thresholds or {}, read_mapping()
    coco_names = YOLO(coco).names
    if strange := sorted(set(coco_names.values()) - set(mapping)):
        raise UserError(f"{coco}: classes {strange[:5]} are not COCO's")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (raw_export(path, Path(folder) / str(i), imgsz) for i, path in enumerate((open_images, coco)))
    names = next(p.value for p in first.metadata_props if p.key == "names")
    second = compose.add_prefix(second, "second/")
    source, wanted = second.graph.input[0].name, first.graph.input[0].name
    for node in second.graph.node:
        node.input[:] = [wanted if name == source else name for name in node.input]
    first.graph.node.extend(second.graph.node)
    first.graph.initializer.extend(second.graph.initializer)
    first.graph.output.extend(second.graph.output)
    rows = []
    for number in range(len(coco_names)):
        rule, name = mapping[coco_names[number]], coco_names[number]
        confidence = thresholds.get("second", {}).get(name, SECOND_CONFIDENCE)
        rows.append({"name": rule["name"], "same": sorted(rule["same"] - {rule["name"]}), "confidence": confidence})
    metadata = {"names": names, "task": "detect", "imgsz": str([imgsz, imgsz]), "license": "AGPL-3.0"}
    metadata |= {"confidence": str(CONFIDENCE), "class_confidence": json.dumps(thresholds.get("first", {}))}
    onnx.checker.check_model(first)
    return write_onnx(first, target, metadata | {"second": json.dumps(rows)} | (more or {}))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m detection.objects.join", description=__doc__.split("\n")[0])
    parser.add_argument("open_images", type=Path, help=".pt with the 601 Open Images classes")
    parser.add_argument("coco", type=Path, help=".pt with COCO's 80 classes")
    parser.add_argument("target", type=Path)
    parser.add_argument("--imgsz", type=int, default=512, help="default input side")
    parser.add_argument("--thresholds", type=Path, help="JSON of thresholds per class")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    for path in filter(None, (args.open_images, args.coco, args.thresholds)):
        if not path.is_file():
            raise UserError(f"{path} does not exist")
    thresholds = json.loads(args.thresholds.read_text("utf-8")) if args.thresholds else None
    print(join(args.open_images, args.coco, args.target, args.imgsz, thresholds))
    return 0


if __name__ == "__main__":
    exit_with(main)
