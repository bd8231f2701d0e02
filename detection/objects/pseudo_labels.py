"""Two teachers look at unlabelled photos; what they see becomes a YOLO dataset with Open Images names.

    python -m detection.objects.train --config configs/objects/pocket.yaml data=FOLDER

calls `build_dataset` first. Teacher 1 knows the 601 Open Images classes, teacher 2 COCO's 80; a COCO box gets its
Open Images name from `coco_to_open_images.yaml` unless teacher 1 already names the same thing on the same spot.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from common.errors import UserError
from detection.boxes import iou_matrix
from detection.labels import OBJECT_IDS
from detection.photos import upright

MAPPING_FILE = Path(__file__).with_name("coco_to_open_images.yaml")


@dataclass(frozen=True)
class Boxes:
    """Boxes of one teacher on one photo: names (N), scores (N,) and xyxy (N, 4) in pixels."""

    names: list[str]
    scores: np.ndarray
    xyxy: np.ndarray


def read_mapping(path: Path = MAPPING_FILE) -> dict[str, dict]:
    """COCO name -> {"name": Open Images id, "same": set of ids}; an unknown id is an error."""
    mapping = {}
    for coco, row in yaml.safe_load(path.read_text("utf-8")).items():
        same = {row["name"], *row.get("same", [])}
        unknown = same - set(OBJECT_IDS)
        if unknown:
            raise UserError(f"{path}: {coco} maps to {sorted(unknown)}, which are not Open Images classes")
        mapping[coco] = {"name": row["name"], "same": same}
    return mapping


def merge(open_images: Boxes, coco: Boxes, mapping: dict[str, dict], iou: float = 0.5) -> Boxes:
    """The union of both teachers' boxes, one box per thing.

    Where a COCO box lies (IoU >= `iou`) on an Open Images box that names the same thing, the latter stands.
    """
    overlap = iou_matrix(coco.xyxy, open_images.xyxy)
    names, scores, xyxy = list(open_images.names), list(open_images.scores), list(open_images.xyxy)
    for row, name in enumerate(coco.names):
        rule = mapping[name]
        if not any(overlap[row, i] >= iou and n in rule["same"] for i, n in enumerate(open_images.names)):
            names.append(rule["name"])
            scores.append(coco.scores[row])
            xyxy.append(coco.xyxy[row])
    return Boxes(names, np.asarray(scores, float), np.asarray(xyxy, float).reshape(-1, 4))


def look(teacher, image: Image.Image, confidence: float, imgsz: int) -> Boxes:
    """One Ultralytics model's boxes on an upright RGB picture."""
    result = teacher.predict(image, conf=confidence, imgsz=imgsz, verbose=False)[0].boxes
    return Boxes([teacher.names[int(c)] for c in result.cls], result.conf.numpy(), result.xyxy.numpy())


def build_dataset(photos: list[Path], settings, out: Path, progress=iter) -> Path:
    """Label `photos` with both teachers and write `out/{images,labels}/{train,val}`, `data.yaml`, `manifest.json`.

    Photos already labelled by an earlier, interrupted call are skipped. Returns the path of `data.yaml`.
    """
    from ultralytics import YOLO

    teachers = [YOLO(settings.open_images_teacher), YOLO(settings.coco_teacher)]
    mapping, number = read_mapping(), {name: i for i, name in enumerate(OBJECT_IDS)}
    rng = random.Random(settings.seed)
    splits = {photo: "val" if rng.random() < settings.val_share else "train" for photo in photos}
    if "val" not in splits.values():
        splits[photos[-1]] = "val"  # training needs one to watch
    counts: dict[str, int] = {}
    for photo in progress(photos):
        target = out / "images" / splits[photo] / f"{photo.parent.name}_{photo.stem}.jpg"
        label_file = out / "labels" / splits[photo] / f"{target.stem}.txt"
        if not label_file.exists():
            image = upright(Image.open(photo))
            seen = merge(*(look(t, image, settings.confidence, settings.teacher_imgsz) for t in teachers), mapping)
            target.parent.mkdir(parents=True, exist_ok=True)
            label_file.parent.mkdir(parents=True, exist_ok=True)
            image.save(target, quality=92)
            lines = [_yolo_line(number[n], box, image.size) for n, box in zip(seen.names, seen.xyxy, strict=True)]
            label_file.write_text("".join(lines), "utf-8")  # last: its presence marks the photo as done
        for line in label_file.read_text("utf-8").splitlines():
            name = OBJECT_IDS[int(line.split()[0])]
            counts[name] = counts.get(name, 0) + 1
    data = {
        "path": str(out.resolve()),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(OBJECT_IDS)),
    }
    (out / "data.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    split_counts = {s: list(splits.values()).count(s) for s in ("train", "val")}
    manifest = {"photos": split_counts, "boxes": dict(sorted(counts.items(), key=lambda item: -item[1]))}
    (out / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=1), "utf-8")
    return out / "data.yaml"


def _yolo_line(number: int, xyxy: np.ndarray, size: tuple[int, int]) -> str:
    (x1, y1, x2, y2), (w, h) = np.clip(xyxy, 0, [*size, *size]), size
    return f"{number} {(x1 + x2) / 2 / w:.6f} {(y1 + y2) / 2 / h:.6f} {(x2 - x1) / w:.6f} {(y2 - y1) / h:.6f}\n"
