"""Train the face-emotion detector.

    python -m detection.emotion.train --config configs/emotion/pocket.yaml data=FOLDER

With `dataset` (a folder that `detection.emotion.convert` wrote) one YOLOv10 is trained on it. Without, pictures are
composed from voted face crops: with `task: faces` a crop classifier learns feelings and a YOLOv10 of one class finds
faces, real ones by a teacher's opinion; with `task: feelings` one YOLOv10 does both. Every stage is kept in the run
folder, so that an interrupted run goes on.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from common.errors import UserError, exit_with
from configs.load import Settings, settings_command
from detection.labels import EMOTION_IDS
from detection.photos import training_photos
from detection.training import check_arguments, fit, open_run


class EmotionSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    run: Path
    task: Literal["faces", "feelings"] = "feelings"
    dataset: Path | None = None  # a converted dataset; the settings from here to `classifier_lr` are then unused
    faces: str | None = None  # .npz of voted face crops
    backgrounds: list[str] = []  # folders of photos; scenes are set into those without people
    face_boxes: str | None = None  # boxes.json of real photos, pictures in images/ beside it
    face_teacher: str | None = None  # .pt of an Open Images detector that finds faces in `backgrounds`
    held_out: list[str] = []  # list files naming photos that are never read
    coco: str | None = None  # .pt of a COCO YOLOv8n: trunk of the classifier, and it tells photos without people
    scenes: int = 5000
    scene_side: int = 416
    scene_seed: int = 0
    val_share: float = 0.1
    classifier_epochs: int = 45
    classifier_lr: float = 1.5e-3
    base: str | None = None  # YOLOv8n or YOLOv10n .pt: layers that match start from it
    epochs: int = 4
    patience: int = 10
    imgsz: int = 416
    batch: int = 16
    optimizer: str = "AdamW"
    lr: float = 1e-3
    seed: int = 0
    ultralytics: dict[str, bool | int | float | str] = {}  # further training arguments of Ultralytics
    distill_steps: int = 0  # task "faces": steps of learning real faces from `face_teacher`'s opinion
    distill_imgsz: int = 416
    distill_batch: int = 24
    distill_lr: float = 6e-4
    export: Path | None = None  # where the best weights go as ONNX
    verify_scenes: int = 300  # how many scenes the second look at faces learns from, beside all real photos
    most_false: float = 0.1  # false faces a picture without faces that the second look may leave
    export_imgsz: int = 448  # the exported model's default input side
    export_feelings: Path | None = None  # likewise the crop classifier's
    export_confidence: float = 0.05  # `detect` names every face; what is sure enough to say is decided later


def train(settings: EmotionSettings) -> Path:
    """Run all stages; returns the best detector checkpoint's path."""
    check_arguments(settings.ultralytics)
    data = converted(settings) if settings.dataset else composed(settings)
    best = train_detector(settings, data)
    if settings.task == "faces" and settings.distill_steps:
        best = distill_faces(settings, best)
    export(settings, best)
    return best


def export(settings: EmotionSettings, best: Path) -> None:
    """Write the checkpoint as ONNX with its card, where the settings ask for it, and the crop classifier with what it
    learns from a face finder's right and wrong detections."""
    if not settings.export:
        return
    from detection.export import export_onnx

    export_onnx(best, settings.export, settings.export_imgsz, settings.export_confidence, more=card(settings))
    if settings.export_feelings:
        export_feelings(settings)


def export_feelings(settings: EmotionSettings) -> None:
    """Export the crop classifier, with the second look at faces fitted to the finder's detections."""
    from detection.emotion import classifier, verify
    from detection.emotion.faces import load_faces
    from detection.emotion.feelings import FeelingClassifier, SecondLook
    from detection.runner import OnnxYolo

    _, val_part = load_faces(settings.data / settings.faces).split(settings.val_share, settings.seed)
    model, target = trained_classifier(settings), settings.export_feelings
    nothing = SecondLook(1.0, np.zeros(2 * classifier.TRUNK_CHANNELS + 1), 0.0)
    more = card(settings) | {"dataset": _hash(settings)}
    classifier.export_classifier(model, classifier.temperature(model, val_part), nothing, target, more)
    items = [item for item in open_dataset(settings).items.values() if item.split == "train"]
    scenes = [item for item in items if item.file_name.startswith("scene_")][: settings.verify_scenes]
    real = [item for item in items if not item.file_name.startswith("scene_")]
    pictures = verify.written_pictures(settings.run / "dataset", [*real, *scenes])
    looks = verify.collect(OnnxYolo(settings.export), FeelingClassifier(target), pictures)
    verify.store(verify.fit(looks, settings.most_false), target)


def converted(settings: EmotionSettings) -> Path:
    """The `data.yaml` of a converted dataset; its hash goes into the run folder."""
    open_run(settings, [settings.dataset / "data.yaml", settings.dataset / "manifest.json"])
    manifest = json.loads((settings.dataset / "manifest.json").read_text("utf-8"))
    (settings.run / "dataset.json").write_text(json.dumps({"hash": manifest["hash"]}), "utf-8")
    return settings.dataset / "data.yaml"


def composed(settings: EmotionSettings) -> Path:
    """Train the crop classifier and write the pictures; returns their `data.yaml`.

    Raises:
        UserError: a setting that composing needs is not there, or a path does not exist.
    """
    missing = [k for k in ("faces", "coco", "face_teacher") if not getattr(settings, k)]
    if missing or not settings.backgrounds:
        raise UserError(f"a run without `dataset` needs {', '.join(missing or ['backgrounds'])}")
    held_out = [settings.data / name for name in settings.held_out]
    folders = [settings.data / name for name in settings.backgrounds]
    boxes = settings.data / settings.face_boxes if settings.face_boxes else None
    models = [Path(settings.coco), Path(settings.face_teacher)]
    open_run(settings, [*held_out, *folders, *filter(None, [boxes]), *models, settings.data / settings.faces])
    from detection.emotion.classifier import name_faces

    model = trained_classifier(settings)
    return write_dataset(settings, training_photos(folders, held_out), boxes, held_out, partial(name_faces, model))


def trained_classifier(settings: EmotionSettings):
    """The crop classifier: trained, or taken from the run folder where it is whole."""
    from detection.emotion import classifier
    from detection.emotion.faces import load_faces

    return classifier.train_classifier(
        *load_faces(settings.data / settings.faces).split(settings.val_share, settings.seed),
        classifier.yolo_trunk(settings.coco),
        settings.classifier_epochs,
        settings.run / "classifier.pt",
        settings.classifier_lr,
        seed=settings.seed,
    )


def open_dataset(settings: EmotionSettings):
    """The run's dataset; refused where it was made with other settings."""
    from detection.emotion.yolo_coco import DatasetWriter

    names = ["face"] if settings.task == "faces" else list(EMOTION_IDS)
    depends_on = ("task", "scenes", "scene_side", "scene_seed", "val_share", "seed")
    return DatasetWriter(settings.run / "dataset", names, {key: getattr(settings, key) for key in depends_on})


def write_dataset(settings: EmotionSettings, photos: list[Path], boxes: Path | None, held_out: list, namer) -> Path:
    """Scenes and real photos as a YOLO and COCO dataset; returns its `data.yaml`."""
    from rich.progress import track

    from detection.emotion import dataset
    from detection.emotion.faces import load_faces

    bar = lambda title: lambda items: track(items, title)
    run, writer = settings.run, open_dataset(settings)
    empty = dataset.photos_without_people(photos, settings.coco, run / "backgrounds.json", bar("people"))
    parts = load_faces(settings.data / settings.faces).split(settings.val_share, settings.seed)
    for number, (split, count) in enumerate([("train", settings.scenes), ("val", settings.scenes // 12)]):
        seed = 2 * settings.scene_seed + number
        dataset.write_scenes(writer, parts[number], empty, split, count, settings.scene_side, seed, bar("scenes"))
    rows = dataset.teacher_faces(photos, settings.face_teacher, run / "teacher_faces.json", bar("faces"))
    real = dataset.guessed_faces(rows) | (dataset.known_faces(boxes, held_out) if boxes else {})
    namer = namer if settings.task == "feelings" else None
    dataset.write_real_photos(writer, real, lambda n: "val" if settings.val_share and n % 20 == 7 else "train", namer)
    (run / "dataset.json").write_text(json.dumps({"hash": writer.finish(), "counts": writer.counts()}), "utf-8")
    return run / "dataset" / "data.yaml"


def new_detector(names: list[str], base: str | None):
    """A YOLOv10n of `names`; layers that match the checkpoint `base` (YOLOv8n or YOLOv10n) start from it.

    YOLOv10 has one layer more in its trunk, the attention block 10: YOLOv8's layers from 10 on match one further.
    """
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov10n.yaml", nc=len(names), verbose=False)
    model.names = dict(enumerate(names))
    if base:
        source = YOLO(base).model.float()
        own, shift = model.state_dict(), len(model.model) - len(source.model)
        for key, value in source.state_dict().items():
            _, layer, rest = key.split(".", 2)
            layer = int(layer) + (shift if int(layer) >= 10 else 0)
            for twin in (rest, f"one2one_{rest}"):
                name = f"model.{layer}.{twin}"
                if name in own and own[name].shape == value.shape:
                    own[name] = value
        model.load_state_dict(own)
    return model


def train_detector(settings: EmotionSettings, data: Path) -> Path:
    """Train YOLOv10n on the pictures of `data.yaml`, export it, and return its best checkpoint."""
    import yaml
    from ultralytics import YOLO

    names = list(yaml.safe_load(data.read_text("utf-8"))["names"].values())
    start = settings.run / "start.pt"
    if not start.exists():
        detector = YOLO("yolov10n.yaml", verbose=False)
        detector.model = new_detector(names, settings.base)
        detector.save(start)
    return fit(start, data, settings, optimizer=settings.optimizer, **settings.ultralytics) / "best.pt"


def distill_faces(settings: EmotionSettings, start: Path) -> Path:
    """Go on from `start` with the face teacher's opinion of the photos; returns the student's checkpoint."""
    from detection.emotion.dataset import teacher_faces
    from detection.emotion.distill import distill

    seen = teacher_faces([], settings.face_teacher, settings.run / "teacher_faces.json")
    photos = {photo: any(row[4] >= 0.1 for row in rows) for photo, rows in seen.items()}
    return distill(
        str(start),
        settings.face_teacher,
        open_dataset(settings),
        photos,
        settings.run / "distill",
        settings.distill_steps,
        settings.distill_imgsz,
        settings.distill_batch,
        settings.distill_lr,
        settings.seed,
    )


def card(settings: EmotionSettings) -> dict[str, str]:
    """What an exported file tells of its training: the settings less this machine's folders, and the data's hash."""
    kept = settings.model_dump(mode="json", exclude={"data", "run", "dataset", "export", "export_feelings"})
    kept |= {key: Path(kept[key]).name for key in ("coco", "base", "face_teacher") if kept[key]}
    card = {"settings": json.dumps(kept, ensure_ascii=False)}
    if (file := settings.run / "dataset.json").exists():
        card["dataset"] = json.loads(file.read_text("utf-8"))["hash"]
    return card


def _hash(settings: EmotionSettings) -> str:
    """Sixteen hex digits of the archive of face crops."""
    return hashlib.sha256((settings.data / settings.faces).read_bytes()).hexdigest()[:16]


main = settings_command("detection.emotion.train", __doc__, EmotionSettings, train)


if __name__ == "__main__":
    exit_with(main)
