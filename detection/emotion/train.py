"""Train the face-emotion detector.

    python -m detection.emotion.train --config configs/emotion/pocket.yaml data=FOLDER

Three stages, each kept in the run folder so that an interrupted run goes on: the trunk as a classifier of single
crops, scenes and real photos written as a dataset, then YOLOv10n on them. The best weights are exported as ONNX.
"""

from pathlib import Path

from configs.errors import UserError, exit_with
from configs.load import Settings, settings_command
from detection.photos import training_photos


class EmotionSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    faces: str  # .npz of voted face crops
    backgrounds: list[str]  # folders of photos; those with people are left out
    face_boxes: str | None = None  # boxes.json of real photos, pictures in images/ beside it
    held_out: list[str] = []  # list files naming photos that are never read
    base: str  # .pt of a COCO YOLOv8n: the trunk starts from it, and it tells photos without people
    run: Path
    classifier_epochs: int = 12
    scenes: int = 5000
    scene_side: int = 320
    epochs: int = 4
    patience: int = 10
    imgsz: int = 320
    batch: int = 16
    lr: float = 1e-3
    val_share: float = 0.1
    seed: int = 0
    export: Path | None = None  # where the best weights go as ONNX


def train(settings: EmotionSettings) -> Path:
    """Run all stages; returns the best detector checkpoint's path."""
    from rich.progress import track
    from ultralytics import YOLO

    from detection.emotion import classifier, dataset
    from detection.emotion.faces import load_faces

    root, run = settings.data, settings.run
    held_out = [root / name for name in settings.held_out]
    folders = [root / name for name in settings.backgrounds]
    boxes = [root / settings.face_boxes] if settings.face_boxes else []
    for path in [*held_out, *folders, *boxes, Path(settings.base)]:
        if not path.exists():
            raise UserError(
                f"{path} does not exist; give the data root as data=FOLDER and check the paths in the config"
            )
    run.mkdir(parents=True, exist_ok=True)
    settings.save(run / "settings.yaml")

    train_faces, val_faces = load_faces(root / settings.faces).split(settings.val_share, settings.seed)
    model = classifier.new_detector(settings.base)
    crops = classifier.train_classifier(
        train_faces,
        val_faces,
        model.model[: classifier.TRUNK_LAYERS],
        settings.classifier_epochs,
        run / "classifier.pt",
        seed=settings.seed,
    )

    out = run / "dataset"
    empty = dataset.photos_without_people(
        training_photos(folders, held_out),
        settings.base,
        run / "backgrounds.json",
        lambda i: track(i, "photos without people"),
    )
    for split, faces, count in (("train", train_faces, settings.scenes), ("val", val_faces, settings.scenes // 12)):
        seed = settings.seed + (split == "val")
        dataset.write_scenes(faces, empty, out, split, count, settings.scene_side, seed, lambda i: track(i, "scenes"))
    if boxes and not list((out / "labels" / "train").glob("real_*")):
        dataset.write_real_photos(boxes[0], held_out, crops, out)
    data = dataset.write_data_yaml(out)

    last = run / "train" / "weights" / "last.pt"
    if last.exists():
        YOLO(last).train(resume=True)
    else:
        model.model[: classifier.TRUNK_LAYERS].load_state_dict(crops.trunk.state_dict())
        detector = YOLO("yolov10n.yaml", verbose=False)
        detector.model = model
        detector.save(run / "start.pt")
        YOLO(run / "start.pt").train(
            data=str(data),
            epochs=settings.epochs,
            patience=settings.patience,
            imgsz=settings.imgsz,
            batch=settings.batch,
            optimizer="AdamW",
            lr0=settings.lr,
            lrf=0.02,
            warmup_epochs=0.3,
            warmup_bias_lr=settings.lr,
            mosaic=0.0,
            cls=1.5,
            hsv_h=0.02,
            hsv_s=0.4,
            hsv_v=0.3,
            scale=0.2,
            translate=0.05,
            erasing=0.0,
            seed=settings.seed,
            workers=2,
            project=str(run.resolve()),
            name="train",
            exist_ok=True,
            plots=True,
        )
    best = run / "train" / "weights" / "best.pt"
    if settings.export:
        from detection.export import export_onnx

        export_onnx(best, settings.export)
    return best


main = settings_command("detection.emotion.train", __doc__, EmotionSettings, train)


if __name__ == "__main__":
    exit_with(main)
