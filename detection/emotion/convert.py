"""Annotated faces -> a YOLO and COCO dataset with a manifest.

    python -m detection.emotion.convert --format aihub --labels LABELS --images PHOTOS --out FOLDER

Forms: aihub (JSON, three annotators), voc (XML), coco (JSON), folders (PHOTOS/<label>/<picture>, no --labels). Boxes
are pixels of the upright picture; those that leave it are clipped with a warning. A run that was stopped goes on.
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from PIL import ExifTags, Image

from common.errors import UserError, exit_with
from common.files import write_json
from detection.emotion.annotations import READERS, Annotation, Notes, label_table, read_annotations
from detection.emotion.yolo_coco import DatasetWriter, FaceBox, Item
from detection.labels import EMOTION_IDS
from detection.photos import SUFFIXES, upright

KEPT_AS_IS = {".jpg", ".jpeg", ".png"}  # every trainer reads these; other formats are written as JPEG


def picture_index(folder: Path) -> dict[str, list[Path]]:
    """Pictures below a folder by relative path, by file name and by stem: one look each instead of a search each."""
    index: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            for key in {str(path.relative_to(folder)), path.name, path.stem}:
                index.setdefault(key, []).append(path)
    return index


def convert(
    annotations: list[Annotation],
    images: Path,
    writer: DatasetWriter,
    classes: tuple[str, ...],
    val_share: float,
    progress=iter,
    warn=print,
) -> dict:
    """Write every picture that has something to learn from; returns what was skipped and clipped.

    Args:
        classes: faces of other emotions are left out.
        val_share: share that goes to "val" of pictures whose annotation names no split.

    Returns:
        {"skipped": [{"picture", "reason"}], "clipped": [{"picture", "xyxy"}], "left_out": {emotion: count}}
    """
    index, seen = picture_index(images), set()
    report: dict = {"skipped": [], "clipped": [], "left_out": Counter()}
    for note in progress(annotations):
        try:
            if note.picture in seen:
                raise ValueError("annotated twice")
            seen.add(note.picture)
            clipped = _convert_one(note, index, writer, classes, val_share, report["left_out"])
        except ValueError as error:
            report["skipped"].append({"picture": note.picture, "reason": str(error)})
            continue
        for xyxy in clipped:
            warn(f"{note.picture}: the box {[round(v) for v in xyxy]} leaves the picture and was clipped")
            report["clipped"].append({"picture": note.picture, "xyxy": [round(v, 1) for v in xyxy]})
    return report


def _convert_one(
    note: Annotation, index: dict, writer: DatasetWriter, classes: tuple, val_share: float, left_out: Counter
) -> list[tuple]:
    """Write one picture unless it is there already; returns the boxes that had to be clipped."""
    if note.problem:
        raise ValueError(note.problem)
    found = index.get(note.picture) or index.get(Path(note.picture).name) or index.get(Path(note.picture).stem, [])
    if len(found) != 1:
        raise ValueError(f"{len(found)} pictures of this name" if found else "no such picture")
    size, item = None, writer.items.get(note.picture)
    if item:
        size = (item.width, item.height)
    else:
        name = str(Path(note.picture).with_suffix(_suffix(found[0]))).replace(os.sep, "__").replace("/", "__")
        split = note.split or _drawn_split(note.picture, val_share)
        size = _place(found[0], writer.picture_path(split, name))
    raw = [FaceBox(note.whole, (0.0, 0.0, *map(float, size)))] if note.whole else note.faces
    wanted = [face for face in raw if face.label in classes]
    left_out.update(face.label for face in raw if face.label not in classes)
    faces = [FaceBox(face.label, _clip(face.xyxy, size), face.agreement) for face in wanted]
    kept = [f for f in faces if f.xyxy[2] - f.xyxy[0] >= 1 and f.xyxy[3] - f.xyxy[1] >= 1]
    if not item:
        if not kept:
            writer.picture_path(split, name).unlink()
            raise ValueError("every box lies outside the picture" if faces else "no face of the classes asked for")
        writer.add(note.picture, Item(split, name, *size, tuple(kept)))
    return [a.xyxy for a, b in zip(wanted, faces, strict=True) if a.xyxy != b.xyxy]


def _suffix(path: Path) -> str:
    return path.suffix.lower() if path.suffix.lower() in KEPT_AS_IS else ".jpg"


def _place(source: Path, target: Path) -> tuple[int, int]:
    """Put a picture into the dataset, upright; returns its (width, height).

    A file that needs no change is linked or, on another disk, copied.
    """
    target.unlink(missing_ok=True)  # it may be a link to the source, which must not change
    try:
        with Image.open(source) as image:
            image.load()
            if source.suffix.lower() not in KEPT_AS_IS or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                picture = upright(image)
                picture.save(target, quality=95)
                return picture.size
            size = image.size
    except (OSError, SyntaxError, ImportError) as error:
        raise ValueError(f"not a readable picture ({str(error).splitlines()[0] or type(error).__name__})") from None
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return size


def _clip(xyxy: tuple, size: tuple[int, int]) -> tuple[float, float, float, float]:
    return tuple(float(min(max(v, 0), limit)) for v, limit in zip(xyxy, size * 2, strict=True))


def _drawn_split(picture: str, val_share: float) -> str:
    """The same picture always falls into the same split, whatever stands beside it."""
    return "val" if int(hashlib.sha256(picture.encode()).hexdigest()[:8], 16) / 16**8 < val_share else "train"


def run(args: argparse.Namespace) -> dict:
    """Convert what the command's arguments name; returns the manifest, which also lies in `args.out`."""
    from rich.console import Console
    from rich.progress import track

    classes = tuple(args.classes.split(","))
    if unknown := [name for name in classes if name not in EMOTION_IDS]:
        raise UserError(f"--classes: unknown {', '.join(unknown)} (allowed: {', '.join(EMOTION_IDS)})")
    if not 0 <= args.val_share < 1:
        raise UserError(f"--val-share must be at least 0 and below 1, but got {args.val_share}")
    if not args.images.is_dir():
        raise UserError(f"--images: {args.images} is no folder")
    if args.format != "folders" and not args.labels:
        raise UserError(f"--format {args.format} needs --labels FILE or FOLDER")
    notes, console = Notes(), Console(stderr=True)
    annotations = read_annotations(args.format, args.labels or [args.images], notes, args.label)
    rules = {"format": args.format, "label": args.label, "val_share": args.val_share}
    rules |= {"label_table": label_table()["version"]}
    writer = DatasetWriter(args.out, classes, rules)
    warn = lambda line: console.print(f"warning: {line}", highlight=False, markup=False, soft_wrap=True)
    bar = lambda items: track(items, "converting", console=console)
    report = convert(annotations, args.images, writer, classes, args.val_share, bar, warn)
    if not writer.items:
        reasons = Counter(row["reason"] for row in report["skipped"]).most_common(3)
        raise UserError("no picture could be used: " + "; ".join(f"{count} x {reason}" for reason, count in reasons))
    agreement = Counter(f"{f.agreement:.2f}" for i in writer.items.values() for f in i.faces if f.agreement is not None)
    manifest = {
        "hash": writer.finish(),
        **rules,
        "classes": classes,
        "counts": writer.counts(),
        "agreement": dict(sorted(agreement.items(), reverse=True)),
        "encodings": notes.encodings,
        "no_votes": dict(notes.no_votes),
        **report,
    }
    write_json(args.out / "manifest.json", manifest)
    return manifest


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m detection.emotion.convert", description=__doc__.split("\n")[0])
    parser.add_argument("--format", required=True, choices=[*READERS, "folders"])
    parser.add_argument("--labels", nargs="+", type=Path, help="annotation files, or folders of them")
    parser.add_argument("--images", required=True, type=Path, help="folder of the pictures, searched at any depth")
    parser.add_argument("--out", required=True, type=Path, help="folder of the dataset")
    parser.add_argument("--label", default="majority", choices=["majority", "uploader"], help="AI-Hub: whose label")
    parser.add_argument("--classes", default=",".join(EMOTION_IDS), help="emotions to keep (default: all five)")
    parser.add_argument("--val-share", type=float, default=0.1, help="where no split is told (default 0.1)")
    manifest = run(parser.parse_args(sys.argv[1:] if argv is None else argv))
    for split, row in manifest["counts"].items():
        print(f"{split}: " + ", ".join(f"{count} {name}" for name, count in row.items()))
    print(f"{len(manifest['skipped'])} skipped, {len(manifest['clipped'])} boxes clipped, hash {manifest['hash']}")
    return 0


if __name__ == "__main__":
    exit_with(main)
