"""Train an object detector.

    python -m detection.objects.train --config configs/objects/pocket.yaml data=FOLDER

Two teachers label the photos under `data` (`pseudo_labels.py`), Ultralytics trains the student on those labels, then
the student learns the teachers' doubts too (`distill.py`), and the average of both weights is exported as ONNX. A run
that was interrupted goes on where it stopped.
"""

from pathlib import Path

from configs.errors import exit_with
from configs.load import Settings, settings_command
from detection.objects.pseudo_labels import build_dataset
from detection.photos import training_photos
from detection.training import fit, open_run


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
    distill_steps: int = 450
    distill_imgsz: int = 416
    distill_lr: float = 5e-4
    distilled_share: float = 0.4  # of the final weights; the rest are those that learned the labels
    val_share: float = 0.1
    seed: int = 0
    export: Path | None = None  # where the student goes as ONNX
    export_imgsz: int = 512  # the exported model's default input side
    export_confidence: float = 0.14


def train(settings: ObjectSettings) -> Path:
    """Run one training from photos to the exported model; returns the student's checkpoint."""
    from rich.progress import track

    folders = [settings.data / name for name in settings.photos]
    files = [settings.data / name for name in settings.held_out]
    teachers = (settings.open_images_teacher, settings.coco_teacher)
    open_run(settings, [*folders, *files, *map(Path, (*teachers, settings.base))])
    photos = training_photos(folders, files)
    data = build_dataset(photos, settings, settings.run / "dataset", lambda items: track(items, "teachers look"))
    weights = fit(settings.base, data, settings, lrf=0.05)
    from detection.objects.distill import Teachers, average, distill

    distilled = distill(
        str(weights / "last.pt"),
        Teachers(*teachers),
        settings.run / "dataset",
        settings.run / "distill",
        settings.distill_steps,
        settings.distill_imgsz,
        settings.batch,
        settings.distill_lr,
        settings.seed,
    )
    student = average(weights / "last.pt", distilled, settings.distilled_share, settings.run / "student.pt")
    if settings.export:
        from detection.export import export_onnx

        export_onnx(student, settings.export, settings.export_imgsz, settings.export_confidence)
    return student


main = settings_command("detection.objects.train", __doc__, ObjectSettings, train)


if __name__ == "__main__":
    exit_with(main)
