"""Corrections that people made on the page -> data to train on: YOLO labels for both detectors, and comment pairs.

    python -m pipeline.feedback corrections.jsonl --out corrected/

`corrected/objects/` and `corrected/emotion/` each hold images, labels and a `data.yaml`: elements that were removed
have no box any more, renamed ones have their new class. What was added has no box and goes, like scenes and moments,
into the pairs only, `corrected/pairs.jsonl`, for `python -m language.comment.train … pairs=corrected/pairs.jsonl`.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from common.errors import UserError, exit_with
from detection.labels import EMOTION_IDS, OBJECT_IDS
from detection.photos import open_photo
from language.records import Element, ElementList, Pair, write_pairs
from language.render import render_input

SETS = {"objects": "object", "emotion": "emotion"}  # folder -> kind of element
HELD_OUT = 10  # one photo in so many is for validation
ORDER = {label: number for number, label in enumerate((*EMOTION_IDS, *OBJECT_IDS))}


def photo_folder(file: Path) -> Path:
    """Where the photos of a file of corrections lie."""
    return file.with_name(f"{file.stem}_photos")


def save_correction(file: Path, correction: dict, photo: bytes | None = None) -> dict:
    """Append a correction, and keep its photo, upright and without place, date and camera, named by its SHA-256.

    Args:
        correction: `seen` and `kept` elements, `comment`, `lang` and `style`.

    Returns:
        The row as written.

    Raises:
        PhotoError: the photo cannot be read; nothing is written.
    """
    row: dict = {"photo": None, "width": None, "height": None, **correction}
    if photo:
        image, size = open_photo(photo)
        name = f"{hashlib.sha256(photo).hexdigest()}.jpg"
        target = photo_folder(file) / name
        target.parent.mkdir(exist_ok=True)
        part = target.with_suffix(f".{os.urandom(4).hex()}.part")
        image.save(part, "JPEG", quality=95)
        os.replace(part, target)
        row |= {"photo": name, "width": size[0], "height": size[1]}
    with file.open("a", encoding="utf-8") as out:  # one short write: rows of several threads do not mix
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return row


def read_corrections(file: Path) -> tuple[list[tuple[dict, list[Element]]], Counter]:
    """Rows with the elements that people kept, and how many lines were bad, by reason (each is named on stderr).

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    good, bad = [], Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            good.append((row, kept_elements(row, photo_folder(file))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            print(f"{file}, line {number}: {reason}", file=sys.stderr)
            bad[type(error).__name__ if not isinstance(error, KeyError) else reason] += 1
    return good, bad


def kept_elements(row: dict, photos: Path) -> list[Element]:
    """What somebody left on a photo, with the boxes that lie in it.

    Raises:
        ValueError, KeyError, TypeError: the row is not what `save_correction` writes, or its photo is gone.
    """
    if row["lang"] not in ("ko", "en") or row["style"] not in ("polite", "casual"):
        raise ValueError(f"lang and style must be known, but got {row['lang']!r} and {row['style']!r}")
    if not isinstance(row["comment"], str) or not row["comment"].strip():
        raise ValueError("the comment is blank")
    if row["photo"] and not (photos / Path(row["photo"]).name).is_file():
        raise ValueError(f"the photo {row['photo']} is not in {photos}")
    elements = []
    for item in row["kept"]:
        boxes = [tuple(float(v) for v in box) for box in item.get("boxes", [])]
        for x1, y1, x2, y2 in boxes if row["photo"] else []:
            if not (0 <= x1 < x2 <= row["width"] and 0 <= y1 < y2 <= row["height"]):
                raise ValueError(f"the box {[x1, y1, x2, y2]} is not in the photo")
        for e in ElementList.from_ids([item.get("id") or item["name"]], row["lang"]):
            elements.append(Element(e.id, e.kind, e.name, 1.0, len(boxes) or 1, tuple(boxes)))
    return elements


def convert(file: Path, out: Path) -> dict:
    """Write both YOLO sets and the pairs; returns the counts.

    Raises:
        UserError: the file cannot be read, or holds no good row.
    """
    rows, bad = read_corrections(file)
    if not rows:
        raise UserError(f"{file} holds no correction that can be used ({bad.total()} bad lines)")
    out.mkdir(parents=True, exist_ok=True)
    counts = {"corrections": len(rows), "bad": bad.total()}
    newest = {row["photo"]: (row, elements) for row, elements in rows if row["photo"]}  # who looks again knows better
    for folder, kind in SETS.items():
        counts[folder] = _write_yolo(list(newest.values()), kind, photo_folder(file), out / folder)
    pairs = [
        Pair(render_input(_listed(elements, row["lang"])), row["comment"].strip(), row["lang"], row["style"])
        for row, elements in rows
    ]
    counts["pairs"] = write_pairs(out / "pairs.jsonl", dict.fromkeys(pairs))
    return counts


def _listed(elements: list[Element], lang: str) -> ElementList:
    return ElementList.from_ids((e.id for e in elements), lang)


def _write_yolo(rows: list[tuple[dict, list[Element]]], kind: str, photos: Path, folder: Path) -> int:
    """Photos and boxes of one kind; returns how many photos. A photo without a box is kept: nothing is there."""
    of_kind = lambda elements: [e for e in elements if e.kind == kind and e.boxes]
    concerned = [(row, of_kind(found)) for row, found in rows if of_kind(found) or _had(row, kind)]
    labels = {e.id for _, elements in concerned for e in elements}
    names = sorted(labels, key=lambda label: (ORDER.get(label, len(ORDER)), label))
    if not names:
        return 0
    shutil.rmtree(folder, ignore_errors=True)  # a photo that changed sides would be in both
    held_out = sorted(row["photo"] for row, _ in concerned)[::HELD_OUT]
    for row, elements in concerned:
        side = "val" if row["photo"] in held_out and len(concerned) > 1 else "train"
        image, text = folder / "images" / side / row["photo"], folder / "labels" / side / row["photo"]
        image.parent.mkdir(parents=True, exist_ok=True)
        text.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photos / row["photo"], image)
        lines = [_yolo_line(names.index(e.id), box, row) for e in elements for box in e.boxes]
        text.with_suffix(".txt").write_text("".join(lines), "utf-8")
    val = "images/val" if len(concerned) > 1 else "images/train"
    data = {"train": "images/train", "val": val, "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", "utf-8")  # JSON is YAML
    return len(concerned)


def _had(row: dict, kind: str) -> bool:
    """Whether something of a kind was seen, rightly or not."""
    return any(item.get("kind") == kind for item in row.get("seen", []))


def _yolo_line(number: int, box: tuple[float, ...], row: dict) -> str:
    x1, y1, x2, y2 = box
    width, height = row["width"], row["height"]
    centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{number} {' '.join(f'{v:.6f}' for v in centre)}\n"


def main(argv: list[str] | None = None) -> int:
    """Convert a file; 1 where lines were bad."""
    p = argparse.ArgumentParser(prog="python -m pipeline.feedback", description=__doc__.split("\n")[0])
    p.add_argument("file", type=Path, metavar="FILE", help="what --save-feedback of pipeline.serve wrote")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the datasets and pairs")
    args = p.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        counts = convert(args.file, args.out)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or args.out}: {error.strerror}") from None
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return int(counts["bad"] > 0)


if __name__ == "__main__":
    exit_with(main)
