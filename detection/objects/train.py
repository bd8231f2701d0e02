"""Train an object detector.

    python -m detection.objects.train --config configs/objects/pocket.yaml data=FOLDER

Two teachers label the photos under `data` (see `pseudo_labels.py`), Ultralytics trains the student on them, and the
best weights are exported as ONNX. A run that was interrupted goes on where it stopped.
"""

from pathlib import Path

from configs.errors import UserError, exit_with
from configs.load import Settings, settings_command
from detection.objects.pseudo_labels import build_dataset
from detection.photos import training_photos


class ObjectSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")  # root of the photo folders
    photos: list[str]  # folders of unlabelled photos
    held_out: list[str] = []  # list files naming photos that are never read
    open_images_teacher: str  # .pt of a detector with the 601 Open Images classes
    coco_teacher: str  # .pt of a detector with COCO's 80 classes
    confidence: float = 0.25  # what a teacher is less sure of is not taught
    teacher_imgsz: int = 640
    base: str  # .pt the student starts from
    run: Path  # run folder: dataset, checkpoints, curves
    epochs: int = 3
    patience: int = 10
    imgsz: int = 384
    batch: int = 16
    lr: float = 2e-4
    val_share: float = 0.1
    seed: int = 0
    export: Path | None = None  # where the best weights go as ONNX


def train(settings: ObjectSettings) -> Path:
    """Run one training from photos to the exported model; returns the best checkpoint's path."""
    from rich.progress import track
    from ultralytics import YOLO

    folders = [settings.data / name for name in settings.photos]
    files = [settings.data / name for name in settings.held_out]
    for path in [*folders, *files, *map(Path, (settings.open_images_teacher, settings.coco_teacher, settings.base))]:
        if not path.exists():
            raise UserError(
                f"{path} does not exist; give the photo root as data=FOLDER and check the paths in the config"
            )
    settings.run.mkdir(parents=True, exist_ok=True)
    settings.save(settings.run / "settings.yaml")
    photos = training_photos(folders, files)
    data = build_dataset(photos, settings, settings.run / "dataset", lambda items: track(items, "teachers look"))
    last = settings.run / "train" / "weights" / "last.pt"
    model = YOLO(last if last.exists() else settings.base)
    if last.exists():
        model.train(resume=True)
    else:
        model.train(
            data=str(data),
            epochs=settings.epochs,
            patience=settings.patience,
            imgsz=settings.imgsz,
            batch=settings.batch,
            optimizer="AdamW",
            lr0=settings.lr,
            lrf=0.05,
            warmup_epochs=0.3,
            warmup_bias_lr=settings.lr,
            mosaic=0.0,
            seed=settings.seed,
            workers=2,
            project=str(settings.run.resolve()),
            name="train",
            exist_ok=True,
            plots=True,
        )
    best = settings.run / "train" / "weights" / "best.pt"
    if settings.export:
        from detection.export import export_onnx

        export_onnx(best, settings.export)
    return best


main = settings_command("detection.objects.train", __doc__, ObjectSettings, train)


if __name__ == "__main__":
    exit_with(main)
