"""Training pictures of the emotion detector in YOLO format: composed scenes and real photos with face boxes."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from detection.emotion.classifier import CROP_SIDE, CropClassifier, predict
from detection.emotion.faces import Faces
from detection.emotion.scenes import SceneComposer
from detection.labels import EMOTION_IDS
from detection.photos import training_photos, upright

BARE = "without_mask"  # face_boxes' label of a face that shows its feeling


def photos_without_people(photos: list[Path], coco_detector: str, cache: Path, progress=iter) -> list[Path]:
    """The photos in which a COCO detector sees no person (confidence 0.1); the answer is kept in `cache`."""
    if not cache.exists():
        from ultralytics import YOLO

        detector = YOLO(coco_detector)
        person = [number for number, name in detector.names.items() if name == "person"]
        empty = []
        for photo in progress(photos):
            image = upright(Image.open(photo))
            if not len(detector.predict(image, conf=0.1, imgsz=320, classes=person, verbose=False)[0].boxes):
                empty.append(photo)
        cache.write_text(json.dumps([str(p) for p in empty]), "utf-8")
    return [Path(p) for p in json.loads(cache.read_text("utf-8"))]


def write_scenes(
    faces: Faces, backgrounds: list[Path], out: Path, split: str, count: int, side: int, seed: int, progress=iter
) -> None:
    """Compose `count` scenes into `out/{images,labels}/split`; scenes of an earlier call are kept."""
    if len(list((out / "labels" / split).glob("scene_*.txt"))) >= count:
        return
    composer = SceneComposer(faces, [_small(p, side * 2) for p in backgrounds], side, seed)
    for index in progress(range(count)):
        image, truth = composer.compose()
        _write(out, split, f"scene_{index:06d}", image, truth)


def write_real_photos(
    boxes_file: Path, held_out: list[Path], classifier: CropClassifier, out: Path, least: float = 0.5
) -> int:
    """Real photos with face boxes, feelings named by `classifier`; returns how many photos were written.

    A face whose feeling the classifier is not sure of (`least`), and a masked face, is neither background nor target:
    it is blurred away.
    """
    rows = {row["file_name"]: row for row in json.loads(boxes_file.read_text("utf-8"))}
    allowed = training_photos([boxes_file.parent / "images"], held_out)
    for photo in allowed:
        image = upright(Image.open(photo))
        truth = []
        for box in rows.get(photo.name, {"boxes": []})["boxes"]:
            x, y, w, h = box["bbox_xywh"]
            xyxy = (max(0, x), max(0, y), min(image.width, x + w), min(image.height, y + h))
            if xyxy[2] - xyxy[0] < 8 or xyxy[3] - xyxy[1] < 8:
                continue
            crop = image.crop(xyxy)
            p = predict(classifier, np.asarray(crop.convert("L").resize((CROP_SIDE, CROP_SIDE), Image.BICUBIC))[None])[
                0
            ]
            if box["label"] == BARE and p.max() >= least:
                truth.append((int(p.argmax()), xyxy))
            else:
                smear = crop.resize((3, 3), Image.BILINEAR).resize(crop.size, Image.BICUBIC)
                image.paste(smear, (round(xyxy[0]), round(xyxy[1])))
        _write(out, "train", f"real_{photo.stem}", image, truth)
    return len(allowed)


def write_data_yaml(out: Path) -> Path:
    """Write `data.yaml` for Ultralytics and return its path."""
    data = {
        "path": str(out.resolve()),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(EMOTION_IDS)),
    }
    (out / "data.yaml").write_text(yaml.safe_dump(data), "utf-8")
    return out / "data.yaml"


def _small(path: Path, side: int) -> Image.Image:
    image = Image.open(path)
    image.draft("RGB", (side, side))
    image = upright(image)
    image.thumbnail((side, side))
    return image


def _write(out: Path, split: str, name: str, image: Image.Image, truth: list) -> None:
    for kind in ("images", "labels"):
        (out / kind / split).mkdir(parents=True, exist_ok=True)
    image.save(out / "images" / split / f"{name}.jpg", quality=92)
    w, h = image.size
    lines = [
        f"{c} {(x1 + x2) / 2 / w:.6f} {(y1 + y2) / 2 / h:.6f} {(x2 - x1) / w:.6f} {(y2 - y1) / h:.6f}\n"
        for c, (x1, y1, x2, y2) in truth
    ]
    (out / "labels" / split / f"{name}.txt").write_text("".join(lines), "utf-8")  # last: marks the picture as done
