"""Train the face-emotion detector.

    python -m detection.emotion.train --config configs/emotion/pocket.yaml data=FOLDER

Three stages, each kept in the run folder so that an interrupted run goes on: the trunk as a classifier of single
crops, scenes and real photos written as a dataset, then YOLOv10n on them. The best weights are exported as ONNX.
"""

from pathlib import Path

from configs.errors import exit_with
from configs.load import Settings, settings_command
from detection.photos import training_photos
from detection.training import fit, open_run


class EmotionSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    faces: str  # .npz of voted face crops
    backgrounds: list[str]  # folders of photos; those with people are left out
    face_boxes: str | None = None  # boxes.json of real photos, pictures in images/ beside it
    held_out: list[str] = []  # list files naming photos that are never read
    base: str  # .pt of a COCO YOLOv8n: the trunk starts from it, and it tells photos without people
    start: Path | None = None  # a detector to go on from, instead of the classifier's trunk
    run: Path
    classifier_epochs: int = 12
    scenes: int = 5000
    scene_side: int = 320
    scene_seed: int = 0
    epochs: int = 4
    patience: int = 10
    imgsz: int = 320
    batch: int = 16
    lr: float = 1e-3
    val_share: float = 0.1
    seed: int = 0
    export: Path | None = None  # where the best weights go as ONNX
    export_confidence: float = 0.05  # `detect` names every face; what is sure enough to say is decided later


def train(settings: EmotionSettings) -> Path:
    """Run all stages; returns the best detector checkpoint's path."""
    from detection.emotion import classifier
    from detection.emotion.faces import load_faces

    held_out = [settings.data / name for name in settings.held_out]
    folders = [settings.data / name for name in settings.backgrounds]
    boxes = settings.data / settings.face_boxes if settings.face_boxes else None
    open_run(settings, [*held_out, *folders, *filter(None, [boxes, settings.start]), Path(settings.base)])
    faces = load_faces(settings.data / settings.faces).split(settings.val_share, settings.seed)
    model = classifier.new_detector(settings.base)
    trunk = model.model[: classifier.TRUNK_LAYERS]
    crops = classifier.train_classifier(
        *faces, trunk, settings.classifier_epochs, settings.run / "classifier.pt", seed=settings.seed
    )
    data = write_dataset(settings, faces, folders, held_out, boxes, crops)
    trunk.load_state_dict(crops.trunk.state_dict())
    best = train_detector(settings, model, data)
    if settings.export:
        from detection.export import export_onnx

        export_onnx(best, settings.export, settings.imgsz, settings.export_confidence)
    return best


def write_dataset(
    settings: EmotionSettings, faces: tuple, folders: list, held_out: list, boxes: Path | None, crops
) -> Path:
    """Scenes of (training, validation) `faces` and real photos as a YOLO dataset; returns its `data.yaml`."""
    from rich.progress import track

    from detection.emotion import dataset

    out = settings.run / "dataset"
    photos = training_photos(folders, held_out)
    cache = settings.run / "backgrounds.json"
    empty = dataset.photos_without_people(photos, settings.base, cache, lambda i: track(i, "photos without people"))
    for number, (split, count) in enumerate([("train", settings.scenes), ("val", settings.scenes // 12)]):
        seed = 2 * settings.scene_seed + number
        side = settings.scene_side
        dataset.write_scenes(faces[number], empty, out, split, count, side, seed, lambda i: track(i, "scenes"))
    if boxes and not list((out / "labels" / "train").glob("real_*")):
        dataset.write_real_photos(boxes, held_out, crops, out)
    return dataset.write_data_yaml(out)


def train_detector(settings: EmotionSettings, model, data: Path) -> Path:
    """Train the detector from `model`, or from `settings.start`; returns the best checkpoint."""
    from ultralytics import YOLO

    start = settings.start or settings.run / "start.pt"
    if not settings.start:
        detector = YOLO("yolov10n.yaml", verbose=False)
        detector.model = model
        detector.save(start)
    # cls: where a face is, is easy; what it feels is not
    jitter = {"hsv_h": 0.02, "hsv_s": 0.4, "hsv_v": 0.3, "scale": 0.2, "translate": 0.05}
    return fit(start, data, settings, lrf=0.02, cls=1.5, **jitter) / "best.pt"


main = settings_command("detection.emotion.train", __doc__, EmotionSettings, train)


if __name__ == "__main__":
    exit_with(main)
