"""Train an object detector on a YOLO-format dataset, or on photos that two teachers label.

    python -m detection.objects.train --config configs/objects/lvis.yaml dataset=lvis/data.yaml

Stages with growing pictures follow each other; every stage stops early, draws its curves and goes on after an
interruption. The best weights can be exported as ONNX.
"""

from pathlib import Path

from pydantic import model_validator

from common.errors import UserError, exit_with
from configs.load import Settings, settings_command
from detection.photos import training_photos
from detection.training import check_arguments, fit, open_run


class Stage(Settings):
    """One training after another: side of the pictures in pixels, most epochs."""

    imgsz: int
    epochs: int


class ObjectSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")  # root of the photo folders
    run: Path  # run folder: dataset, checkpoints, curves
    dataset: Path | None = None  # data.yaml of a YOLO-format dataset; or else:
    photos: list[str] = []  # folders of unlabelled photos
    held_out: list[str] = []  # list files naming photos that are never read
    open_images_teacher: str | None = None  # .pt of a detector with the 601 Open Images classes
    coco_teacher: str | None = None  # .pt of a detector with COCO's 80 classes
    confidence: float = 0.25  # what a teacher is less sure of is not taught
    teacher_imgsz: int = 640
    val_share: float = 0.1
    base: str  # .pt the student starts from
    stages: list[Stage]
    patience: int = 10
    batch: int = 16
    lr: float = 2e-4
    seed: int = 0
    ultralytics: dict[str, bool | int | float | str] = {}  # further training arguments of Ultralytics
    export: Path | None = None  # where the student goes as ONNX
    export_imgsz: int = 512  # the exported model's default input side
    export_confidence: float = 0.25

    @model_validator(mode="after")
    def _data_come_from_somewhere(self):
        labelled = [self.photos, self.open_images_teacher, self.coco_teacher]
        if not self.dataset and not all(labelled):
            raise ValueError("either dataset, or photos with open_images_teacher and coco_teacher must be given")
        return self


def train(settings: ObjectSettings) -> Path:
    """Run all stages; returns the last one's best checkpoint."""
    check_arguments(settings.ultralytics)
    if not settings.stages:
        raise UserError("stages: at least one is needed")
    data, best = settings.dataset or labelled_by_teachers(settings), Path(settings.base)
    if settings.dataset:
        open_run(settings, [settings.dataset, best])
    for number, stage in enumerate(settings.stages):
        run = settings.run / f"stage_{number + 1}"
        run.mkdir(exist_ok=True)
        part = settings.model_copy(update={"run": run, "imgsz": stage.imgsz, "epochs": stage.epochs})
        best = fit(best, data, part, **{"lrf": 0.05} | settings.ultralytics) / "best.pt"
    if settings.export:
        from detection.export import export_onnx

        export_onnx(best, settings.export, settings.export_imgsz, settings.export_confidence)
    return best


def labelled_by_teachers(settings: ObjectSettings) -> Path:
    """Let both teachers label the photos; returns the dataset's `data.yaml`."""
    from rich.progress import track

    from detection.objects.pseudo_labels import build_dataset

    folders = [settings.data / name for name in settings.photos]
    files = [settings.data / name for name in settings.held_out]
    models = [settings.open_images_teacher, settings.coco_teacher, settings.base]
    open_run(settings, [*folders, *files, *map(Path, models)])
    photos = training_photos(folders, files)
    return build_dataset(photos, settings, settings.run / "dataset", lambda items: track(items, "teachers look"))


main = settings_command("detection.objects.train", __doc__, ObjectSettings, train)


if __name__ == "__main__":
    exit_with(main)
