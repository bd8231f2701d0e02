"""How well an object detector sees a labelled dataset, box by box and photo by photo.

    python -m detection.objects.evaluate --data data.yaml --split val --weights pocket --out FOLDER

Writes report.json, report.md, precision_recall.png and classes.png. Box figures are COCO's AP. Photo figures ask what
an element list asks: is the class named, wherever it stands?
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from common.errors import UserError, exit_with
from detection.boxes import iou_matrix
from detection.coco_eval import average_precision
from detection.labels import lookup
from detection.photos import SUFFIXES
from detection.records import Detection

SAME_THING = 0.5  # IoU from which a detection is on a labelled thing
LISTED = 15  # rows of the most-missed and most-confused lists


@dataclass(frozen=True)
class Photo:
    """A photo, its size (width, height), its truth as class names and xyxy (N, 4), and what was seen."""

    size: tuple[int, int]
    truth: list[str]
    xyxy: np.ndarray
    seen: list[Detection]


def load_yolo(file: Path, split: str) -> tuple[list[str], list[tuple[Path, Path]]]:
    """A YOLO dataset's class names and the (picture, label file) pairs of a split.

    Names that our label packs know in another spelling are given as their ids.

    Raises:
        UserError: the file, the split or its pictures are not there.
    """
    try:
        data = yaml.safe_load(file.read_text("utf-8"))
        names = data["names"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a YOLO dataset file ({type(error).__name__}: {error})") from None
    names = [names[i] for i in range(len(names))] if isinstance(names, dict) else list(names)
    if not data.get(split):
        there = [name for name in ("train", "val", "test") if data.get(name)]
        raise UserError(f"{file} has no split {split!r} (there: {', '.join(there)})")
    folder = (file.parent / data.get("path", ".") / data[split]).resolve()
    pictures = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise UserError(f"{folder} holds no pictures")
    place = "/labels/".join(f"{folder.as_posix()}/".rsplit("/images/", 1))  # as Ultralytics: the last of them
    labels = [Path(place) / f"{p.stem}.txt" for p in pictures]
    return [lookup(name) or name for name in names], list(zip(pictures, labels, strict=True))


def look(detector, names: list[str], pairs: list[tuple[Path, Path]], progress=iter) -> list[Photo]:
    """Run a detector over photos; a photo without a label file holds nothing."""
    photos = []
    for picture, label in progress(pairs):
        image = Image.open(picture)
        rows = [list(map(float, line.split()[:5])) for line in label.open()] if label.exists() else []
        w, h = image.size
        boxes = [[(x - bw / 2) * w, (y - bh / 2) * h, (x + bw / 2) * w, (y + bh / 2) * h] for _, x, y, bw, bh in rows]
        xyxy = np.array(boxes).reshape(-1, 4)
        photos.append(Photo((w, h), [names[int(row[0])] for row in rows], xyxy, detector.detect(image)))
    return photos


def as_coco(photos: list[Photo], classes: list[str]) -> tuple[dict, list[dict]]:
    """Truth and detections in COCO's form; detections of classes the truth does not label are left out."""
    numbers = {name: number for number, name in enumerate(classes, 1)}
    coco = {"images": [], "annotations": [], "categories": [{"id": n, "name": name} for name, n in numbers.items()]}
    found = []
    box = lambda xyxy: [float(xyxy[0]), float(xyxy[1]), float(xyxy[2] - xyxy[0]), float(xyxy[3] - xyxy[1])]
    for image, photo in enumerate(photos, 1):
        coco["images"].append({"id": image, "width": photo.size[0], "height": photo.size[1]})
        for name, xyxy in zip(photo.truth, photo.xyxy, strict=True):
            row = {"id": len(coco["annotations"]) + 1, "image_id": image, "category_id": numbers[name]}
            bbox = box(xyxy)
            coco["annotations"].append(row | {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
        found += [
            {"image_id": image, "category_id": numbers[d.label], "bbox": box(d.xyxy), "score": d.score}
            for d in photo.seen
            if d.label in numbers
        ]
    return coco, found


def summarise(photos: list[Photo]) -> dict:
    """All figures of the report, for the classes that the dataset labels."""
    classes = sorted({name for photo in photos for name in photo.truth})
    ap = average_precision(*as_coco(photos, classes))
    present, named, right, said, confused, missed = (Counter() for _ in range(6))
    for photo in photos:
        truth, names = set(photo.truth), {d.label for d in photo.seen} & set(classes)
        present.update(truth)
        named.update(truth & names)
        said.update(names)
        right.update(names & truth)
        missed.update(_missed_boxes(photo))
        confused.update(_confusions(photo, truth))
    mean = lambda key: float(np.mean([row[key] for row in ap.values()])) if ap else 0.0
    return {
        "photos": len(photos),
        "boxes": sum(len(photo.truth) for photo in photos),
        "mAP50": mean("AP50"),
        "mAP50-95": mean("AP50-95"),
        "recall": sum(named.values()) / max(1, sum(present.values())),
        "precision": sum(right.values()) / max(1, sum(said.values())),
        "classes": {
            name: {
                "photos": present[name],
                "recall": named[name] / present[name],
                "precision": right[name] / said[name] if said[name] else None,
                **ap.get(name, {}),
            }
            for name in classes
        },
        "most_missed": missed.most_common(LISTED),
        "most_confused": [[*pair, count] for pair, count in confused.most_common(LISTED)],
    }


def _missed_boxes(photo: Photo) -> list[str]:
    """Labelled things that no detection of their class lies on."""
    names = np.array([d.label for d in photo.seen])
    on = iou_matrix(photo.xyxy, np.array([d.xyxy for d in photo.seen]).reshape(-1, 4)) >= SAME_THING
    return [name for row, name in enumerate(photo.truth) if not (on[row] & (names == name)).any()]


def _confusions(photo: Photo, truth: set[str]) -> list[tuple[str, str]]:
    """(truth, said) for detections of a class that is not in the photo and that lie on something else's box."""
    overlap = iou_matrix(np.array([d.xyxy for d in photo.seen]).reshape(-1, 4), photo.xyxy)
    return [
        (photo.truth[overlap[row].argmax()], d.label)
        for row, d in enumerate(photo.seen)
        if d.label not in truth and len(photo.truth) and overlap[row].max() >= SAME_THING
    ]


def markdown(figures: dict) -> str:
    """The figures as Markdown tables."""
    from detection.report import table, text

    keys = ("photos", "boxes", "recall", "precision", "mAP50", "mAP50-95")
    lines = [f"# Objects: {figures['weights']} on {figures['data']}/{figures['split']}", ""]
    lines += table(["what", "value"], [(key, text(figures[key])) for key in keys])
    rows = sorted(figures["classes"].items(), key=lambda item: -item[1]["photos"])
    columns = ("photos", "recall", "precision", "AP50", "AP50-95")
    lines += table(["class", *columns], [(name, *(text(row.get(c)) for c in columns)) for name, row in rows])
    lines += table(["most missed", "boxes"], [(name, str(count)) for name, count in figures["most_missed"]])
    lines += table(["truth", "called", "times"], [(a, b, str(count)) for a, b, count in figures["most_confused"]])
    return "\n".join(lines).rstrip()


def _draw_curves(axes, figures: dict) -> None:
    curves = [row["curve"] for row in figures["classes"].values() if "curve" in row]
    recall = np.linspace(0, 1, 101)
    for curve in curves:
        axes.plot(recall, curve, color="0.85", linewidth=0.8)
    if curves:
        axes.plot(recall, np.mean(curves, axis=0), label=f"mean of {len(curves)} classes")
        axes.legend()
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall at IoU 0.5")


def _draw_classes(axes, figures: dict) -> None:
    rows = sorted(figures["classes"].items(), key=lambda item: -item[1]["photos"])[:25][::-1]
    axes.barh([name for name, _ in rows], [row["photos"] for _, row in rows], color="0.85", label="photos with it")
    axes.barh([name for name, _ in rows], [row["photos"] * row["recall"] for _, row in rows], label="named")
    axes.tick_params(axis="y", labelsize=6)
    axes.set(xlabel="photos", title="The commonest classes")
    axes.legend()


def evaluate(data: Path, split: str, weights: str, device: str | None, out: Path, progress=iter) -> dict:
    """Measure `weights` on a split and write the report; returns its figures."""
    from detection.objects import ObjectDetector
    from detection.report import write_report

    names, pairs = load_yolo(data, split)
    photos = look(ObjectDetector(weights, device), names, pairs, progress)
    figures = {"weights": Path(weights).name, "data": data.stem, "split": split} | summarise(photos)
    write_report(figures, markdown(figures), {"precision_recall": _draw_curves, "classes": _draw_classes}, out)
    return figures


def main(argv: list[str] | None = None) -> int:
    from rich.progress import track

    parser = argparse.ArgumentParser(prog="python -m detection.objects.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, type=Path, help="data.yaml of a YOLO dataset")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--weights", default="pocket", help='"pocket", an official name or a .pt/.onnx file')
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], help="for .pt weights")
    parser.add_argument("--out", type=Path, default=Path("runs/objects_report"), help="folder of the report")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    bar = lambda items: track(items, "looking", transient=True)
    evaluate(args.data, args.split, args.weights, args.device, args.out, bar)
    print((args.out / "report.md").read_text("utf-8"))
    return 0


if __name__ == "__main__":
    exit_with(main)
