"""How well a detector finds faces and names their feelings, on a dataset with COCO annotations.

    python -m detection.emotion.evaluate --data FOLDER --split val --weights pocket --out FOLDER

Writes report.json, report.md and the pictures confusion.png, precision_recall.png and reliability.png.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError, exit_with
from detection.boxes import iou_matrix
from detection.coco_eval import average_precision
from detection.emotion.calibration import expected_calibration_error, reliability
from detection.labels import EMOTION_IDS

SAME_FACE = 0.5  # IoU from which a box is on a face
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # box area, as COCO's
MISSED, FALSE = "missed", "false"


@dataclass(frozen=True)
class Seen:
    """A picture's truth and detections: labels, xyxy (N, 4), agreement of the truth, scores of the detections."""

    truth: list[str]
    truth_xyxy: np.ndarray
    agreement: list[float | None]
    labels: list[str]
    xyxy: np.ndarray
    scores: np.ndarray

    def matches(self) -> dict[int, int]:
        """Detection -> the face it is on: best scores choose first, every face is chosen once."""
        overlap, taken = iou_matrix(self.xyxy, self.truth_xyxy), {}
        for d in np.argsort(-self.scores, kind="stable"):
            free = [t for t in range(len(self.truth)) if t not in taken.values()]
            if free and overlap[d, best := max(free, key=lambda t: overlap[d, t])] >= SAME_FACE:
                taken[int(d)] = best
        return taken


def load_coco(data: Path, split: str) -> dict:
    """The COCO annotations of a split.

    Raises:
        UserError: there are none, or a category is neither an emotion nor "face".
    """
    file = data / "annotations" / f"{split}.json"
    if not file.exists():
        there = sorted(p.stem for p in (data / "annotations").glob("*.json")) if data.is_dir() else []
        raise UserError(f"{file} does not exist (splits there: {', '.join(there) or 'none'})")
    coco = json.loads(file.read_text("utf-8"))
    strange = [c["name"] for c in coco["categories"] if c["name"] not in (*EMOTION_IDS, "face")]
    if strange:
        raise UserError(f"{file}: categories {strange} are no emotions (allowed: {', '.join(EMOTION_IDS)}, face)")
    return coco


def look(detector, coco: dict, folder: Path, progress=iter) -> list[Seen]:
    """Run a detector over the pictures of a split."""
    from PIL import Image

    names = {c["id"]: c["name"] for c in coco["categories"]}
    faces: dict[int, list[dict]] = {}
    for row in coco["annotations"]:
        faces.setdefault(row["image_id"], []).append(row)
    seen = []
    for image in progress(coco["images"]):
        found, rows = detector.detect(Image.open(folder / image["file_name"])), faces.get(image["id"], [])
        seen.append(
            Seen(
                [names[r["category_id"]] for r in rows],
                np.array([[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in rows)]).reshape(-1, 4),
                [r.get("agreement") for r in rows],
                [d.label for d in found],
                np.array([d.xyxy for d in found]).reshape(-1, 4),
                np.array([d.score for d in found]),
            )
        )
    return seen


def precision_by_class(coco: dict, seen: list[Seen], finding: bool = False) -> dict[str, dict]:
    """AP per class (see `average_precision`); with `finding` every face is of one class, whatever it feels."""
    numbers = {c["name"]: c["id"] for c in coco["categories"]}
    if finding:
        annotations = [a | {"category_id": 1} for a in coco["annotations"]]
        coco, numbers = coco | {"categories": [{"id": 1, "name": "face"}], "annotations": annotations}, {"face": 1}
    found = []
    for image, s in zip(coco["images"], seen, strict=True):
        for label, (x1, y1, x2, y2), score in zip(s.labels, s.xyxy.tolist(), s.scores.tolist(), strict=True):
            if number := numbers.get("face" if finding else label):
                row = {"image_id": image["id"], "category_id": number, "score": score}
                found.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    return average_precision(coco, found)


def summarise(coco: dict, seen: list[Seen]) -> dict:
    """All figures of the report. Faces labelled only "face" count where faces are found, not where they are named."""
    named = [s for s in seen if "face" not in s.truth]
    emotions = [e for e in EMOTION_IDS if any(e in s.truth for s in named)]
    confusion = {row: dict.fromkeys([*EMOTION_IDS, MISSED], 0) for row in [*emotions, FALSE]}
    scores, right, rows, false_faces, faces, found = [], [], [], 0, 0, 0
    for s in seen:
        matches = s.matches()
        faces, found, false_faces = faces + len(s.truth), found + len(matches), false_faces + len(s.xyxy) - len(matches)
        if "face" in s.truth:
            continue
        of_face = {t: s.labels[d] for d, t in matches.items()}
        for d, label in enumerate(s.labels):
            scores.append(s.scores[d])
            right.append(d in matches and s.truth[matches[d]] == label)
            if d not in matches:
                confusion[FALSE][label] += 1
        for t, label in enumerate(s.truth):
            answer = of_face.get(t, MISSED)
            confusion[label][answer] += 1
            x1, y1, x2, y2 = s.truth_xyxy[t]
            rows.append((label, answer, (x2 - x1) * (y2 - y1), s.agreement[t]))
    scores, right = np.array(scores), np.array(right, bool)
    recalls = [confusion[e][e] / sum(confusion[e].values()) for e in emotions]
    ap = precision_by_class(coco, seen)
    whole = {name: row for name, row in ap.items() if name in EMOTION_IDS}
    return {
        "pictures": len(seen),
        "faces": faces,
        "found": found / max(1, faces),
        "false_faces_per_picture": false_faces / max(1, len(seen)),
        "accuracy": sum(row[0] == row[1] for row in rows) / max(1, len(rows)),
        "macro_recall": float(np.mean(recalls)) if recalls else 0.0,
        "mAP50": float(np.mean([row["AP50"] for row in whole.values()])) if whole else 0.0,
        "mAP50-95": float(np.mean([row["AP50-95"] for row in whole.values()])) if whole else 0.0,
        "expected_calibration_error": expected_calibration_error(scores, right),
        "per_class": whole,
        "finding": precision_by_class(coco, seen, finding=True).get("face"),
        "confusion": confusion,
        "by_size": {name: _bucket([r for r in rows if low <= r[2] < high]) for name, (low, high) in SIZES.items()},
        "by_agreement": {
            f"{value:.2f}": _bucket([r for r in rows if r[3] == value])
            for value in sorted({r[3] for r in rows if r[3] is not None}, reverse=True)
        },
        "by_threshold": [_said(scores, right, t / 20) for t in range(2, 20)],
        "reliability": reliability(scores, right) if len(scores) else [],
    }


def _said(scores: np.ndarray, right: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Were feelings said from `threshold` on: how many of all detections, and how many of those are right."""
    said = scores >= threshold
    share = round(float(right[said].mean()), 4) if said.any() else None
    return {"threshold": threshold, "said": round(float(said.mean()), 4) if len(said) else None, "right": share}


def _bucket(rows: list[tuple]) -> dict[str, float | int]:
    found = [r for r in rows if r[1] != MISSED]
    named = sum(r[0] == r[1] for r in rows)
    share = lambda count: round(count / len(rows), 4) if rows else None
    return {"faces": len(rows), "found": share(len(found)), "named_right": share(named)}


def evaluate(data: Path, split: str, weights: str, device: str | None, out: Path, progress=iter) -> dict:
    """Measure `weights` on a split and write the report; returns its figures."""
    from detection.emotion import EmotionDetector
    from detection.emotion.report import PICTURES, markdown
    from detection.report import write_report

    coco = load_coco(data, split)
    seen = look(EmotionDetector(weights, device), coco, data / "images" / split, progress)
    figures = {"weights": Path(weights).name, "data": data.name, "split": split} | summarise(coco, seen)
    write_report(figures, markdown(figures), PICTURES, out)
    return figures


def main(argv: list[str] | None = None) -> int:
    from rich.progress import track

    parser = argparse.ArgumentParser(prog="python -m detection.emotion.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, type=Path, help="dataset folder with annotations/ and images/")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", default="pocket", help='"pocket" or a .pt/.onnx file')
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], help="for .pt weights")
    parser.add_argument("--out", type=Path, default=Path("runs/emotion_report"), help="folder of the report")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    evaluate(
        args.data,
        args.split,
        args.weights,
        args.device,
        args.out,
        lambda items: track(items, "looking", transient=True),
    )
    print((args.out / "report.md").read_text("utf-8"))
    return 0


if __name__ == "__main__":
    exit_with(main)
