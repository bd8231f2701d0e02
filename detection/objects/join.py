"""Two detectors in one ONNX file: the Open Images vocabulary, and COCO's classes under Open Images names.

    python -m detection.objects.join --config configs/objects/pocket.yaml data=FOLDER

Both networks read the same input; the runner merges what they see (`OnnxYolo`). Class names and conflict rules come
from `coco_to_open_images.yaml`, thresholds per class from repeated looks at unlabelled photos.
"""

import json
import random
import tempfile
from pathlib import Path

from common.errors import UserError, exit_with
from configs.load import Settings, settings_command
from detection.objects.pseudo_labels import read_mapping
from detection.objects.thresholds import choose, confirmations, write_thresholds
from detection.photos import training_photos
from detection.training import open_run

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


class JoinSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    run: Path
    open_images: str  # .pt with the 601 Open Images classes
    coco: str  # .pt with COCO's 80 classes
    photos: list[str]  # folders of unlabelled photos, for the thresholds
    held_out: list[str] = []  # list files naming photos that are never read
    looks: int = 1000  # how many of the photos are looked at
    confirmed: float = 0.75  # share of a class's detections that other looks must confirm
    imgsz: int = 512  # the joined model's default input side
    seed: int = 0
    export: Path


def run(settings: JoinSettings) -> Path:
    """Choose thresholds, which are kept in the run folder, and write the joined model."""
    from rich.progress import track

    folders = [settings.data / name for name in settings.photos]
    files = [settings.data / name for name in settings.held_out]
    open_run(settings, [*folders, *files, Path(settings.open_images), Path(settings.coco)])
    chosen = settings.run / "thresholds.json"
    if not chosen.exists():
        photos = training_photos(folders, files)
        photos = random.Random(settings.seed).sample(photos, min(settings.looks, len(photos)))
        rows = [
            confirmations(model, track(photos, "looking"), settings.imgsz)
            for model in (settings.open_images, settings.coco)
        ]
        first, second = (
            choose(row, default, settings.confirmed)
            for row, default in zip(rows, (CONFIDENCE, SECOND_CONFIDENCE), strict=True)
        )
        write_thresholds(chosen, first, second)
    thresholds = json.loads(chosen.read_text("utf-8"))
    kept = settings.model_dump(mode="json", exclude={"data", "run", "export", "open_images", "coco"})
    kept |= {"open_images": Path(settings.open_images).name, "coco": Path(settings.coco).name}
    return join(
        Path(settings.open_images),
        Path(settings.coco),
        settings.export,
        settings.imgsz,
        thresholds,
        {"settings": json.dumps(kept)},
    )


main = settings_command("detection.objects.join", __doc__, JoinSettings, run)


if __name__ == "__main__":
    exit_with(main)
