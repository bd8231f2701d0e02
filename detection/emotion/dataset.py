"""Training pictures of the face detector: composed scenes, and real photos whose faces are known or pseudo-labelled."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from detection.emotion.faces import Faces
from detection.emotion.scenes import SceneComposer
from detection.emotion.yolo_coco import DatasetWriter, FaceBox, Item
from detection.labels import EMOTION_IDS
from detection.photos import training_photos, upright

BARE = "without_mask"  # face_boxes' label of a face that shows its feeling
SURE, POSSIBLE = 0.2, 0.05  # a teacher's face is a target from the first, an ignore region from the second
SMALLEST = 8  # pixels; a smaller face is nothing to learn from

Box = tuple[float, float, float, float]
Namer = Callable[[Image.Image, list[Box]], np.ndarray]  # picture, boxes -> probabilities (N, 5)


def photos_without_people(photos: list[Path], coco_detector: str, cache: Path, progress=iter) -> list[Path]:
    """The photos in which a COCO detector sees no person (confidence 0.1); the answer is kept in `cache`."""
    if not cache.exists():
        rows = _look(coco_detector, "person", photos, 0.1, 320, progress)
        cache.write_text(json.dumps([path for path, boxes in rows.items() if not boxes]), "utf-8")
    return [Path(p) for p in json.loads(cache.read_text("utf-8"))]


def teacher_faces(photos: list[Path], teacher: str, cache: Path, progress=iter) -> dict[Path, list[list[float]]]:
    """Faces that an Open Images detector sees in every photo, as rows of xyxy and score; kept in `cache`."""
    if not cache.exists():
        cache.write_text(json.dumps(_look(teacher, "Human face", photos, POSSIBLE, 640, progress)), "utf-8")
    return {Path(path): rows for path, rows in json.loads(cache.read_text("utf-8")).items()}


def _look(detector: str, name: str, photos: Iterable[Path], confidence: float, side: int, progress) -> dict:
    from ultralytics import YOLO

    model = YOLO(detector)
    wanted = [number for number, label in model.names.items() if label == name]
    rows = {}
    for photo in progress(photos):
        found = model.predict(upright(Image.open(photo)), conf=confidence, imgsz=side, classes=wanted, verbose=False)[
            0
        ].boxes
        scored = zip(found.xyxy.tolist(), found.conf.tolist(), strict=True)
        rows[str(photo)] = [[*(round(v, 1) for v in box), round(score, 3)] for box, score in scored]
    return rows


def write_scenes(
    writer: DatasetWriter,
    faces: Faces,
    backgrounds: list[Path],
    split: str,
    count: int,
    side: int,
    seed: int,
    progress=iter,
) -> None:
    """Compose `count` scenes into a split; if all are there already, none is composed."""
    if f"scene_{split}_{count - 1:06d}" in writer:
        return
    composer = SceneComposer(faces, [_small(p, side * 2) for p in backgrounds], side, seed, majority=split != "train")
    for index in progress(range(count)):
        image, truth = composer.compose()  # also when it is there: the next one follows from the generator's state
        name = f"scene_{split}_{index:06d}"
        if name not in writer:
            _write(writer, split, name, image, [FaceBox(EMOTION_IDS[c], tuple(map(float, box))) for c, box in truth])


def known_faces(boxes_file: Path, held_out: list[Path]) -> dict[Path, tuple[list[Box], list[Box]]]:
    """Photos with drawn face boxes: bare faces, and masked or badly masked ones, which are ignore regions."""
    rows = {row["file_name"]: row for row in json.loads(boxes_file.read_text("utf-8"))}
    photos = {}
    for photo in training_photos([boxes_file.parent / "images"], held_out):
        bare, ignored = [], []
        for box in rows.get(photo.name, {"boxes": []})["boxes"]:
            x, y, w, h = box["bbox_xywh"]
            (bare if box["label"] == BARE and min(w, h) >= SMALLEST else ignored).append((x, y, x + w, y + h))
        photos[photo] = bare, ignored
    return photos


def guessed_faces(rows: dict[Path, list[list[float]]]) -> dict[Path, tuple[list[Box], list[Box]]]:
    """A teacher's faces: sure ones are targets; possible ones are ignore regions."""
    sure = lambda row: row[4] >= SURE and min(row[2] - row[0], row[3] - row[1]) >= SMALLEST
    return {
        photo: ([tuple(r[:4]) for r in faces if sure(r)], [tuple(r[:4]) for r in faces if not sure(r)])
        for photo, faces in rows.items()
    }


def write_real_photos(
    writer: DatasetWriter,
    photos: dict[Path, tuple[list[Box], list[Box]]],
    split_of: Callable[[int], str],
    namer: Namer | None = None,
    least: float = 0.6,
) -> None:
    """Real photos with the boxes of their faces and of ignore regions.

    An ignore region is neither background nor target: it is smeared away. With a `namer` every face gets its likeliest
    feeling, and where that is below `least`, it is an ignore region too; without one, faces are just faces.
    """
    for number, (photo, (faces, ignored)) in enumerate(sorted(photos.items())):
        folder = photo.parent.parent if photo.parent.name == "images" else photo.parent
        key = f"real_{folder.name}_{photo.stem}"
        if key in writer:
            continue
        image = upright(Image.open(photo))
        clip = lambda box, size=image.size: tuple(float(min(max(v, 0), m)) for v, m in zip(box, size * 2, strict=True))
        faces, ignored = [clip(b) for b in faces], [clip(b) for b in ignored]
        labels = ["face"] * len(faces)
        if namer and faces:
            p = namer(image, faces)
            labels = [EMOTION_IDS[row.argmax()] if row.max() >= least else "" for row in p]
            ignored += [box for box, label in zip(faces, labels, strict=True) if not label]
        for box in ignored:
            _smear(image, box)
        truth = [FaceBox(label, box) for label, box in zip(labels, faces, strict=True) if label]
        _write(writer, split_of(number), key, image, truth)


def _smear(image: Image.Image, box: Box) -> None:
    x1, y1, x2, y2 = (round(v) for v in box)
    if x2 - x1 >= 2 and y2 - y1 >= 2:
        crop = image.crop((x1, y1, x2, y2))
        image.paste(crop.resize((3, 3), Image.BILINEAR).resize(crop.size, Image.BICUBIC), (x1, y1))


def _small(path: Path, side: int) -> Image.Image:
    image = Image.open(path)
    image.draft("RGB", (side, side))
    image = upright(image)
    image.thumbnail((side, side))
    return image


def _write(writer: DatasetWriter, split: str, name: str, image: Image.Image, faces: list[FaceBox]) -> None:
    image.save(writer.picture_path(split, f"{name}.jpg"), quality=92)
    writer.add(name, Item(split, f"{name}.jpg", *image.size, tuple(faces)))
