"""Face-emotion annotations as others publish them: AI-Hub style JSON, Pascal VOC, COCO, class folders.

Every reader gives `Annotation`s. Labels go through `label_table.json`: a label it does not hold is an error that names
the file, because a label silently misread trains a wrong model.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.errors import UserError
from detection.emotion.yolo_coco import FaceBox
from detection.photos import SUFFIXES

TABLE = Path(__file__).with_name("label_table.json")
ENCODINGS = ("utf-8-sig", "utf-8", "cp949")  # tried in this order
ANNOTATORS = ("annot_A", "annot_B", "annot_C")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Annotation:
    """A picture's faces as annotated: boxes are not clipped yet.

    Attributes:
        picture: file name, or path relative to the pictures' folder.
        split: "train", "val" or "test" where the annotation's file says so.
        whole: the picture is one face (class folders); its only box is the whole picture.
        problem: why there is nothing to learn from it; None where there is.
    """

    picture: str
    split: str | None
    faces: tuple[FaceBox, ...] = ()
    whole: str | None = None
    problem: str | None = None


@dataclass
class Notes:
    """What a reader came across: encoding of every file, and labels that are no vote for any emotion."""

    encodings: dict[str, str] = field(default_factory=dict)
    no_votes: Counter = field(default_factory=Counter)


@lru_cache
def label_table() -> dict:
    """The versioned table: `version`, and `labels` from a name in any language to an emotion or null (no vote)."""
    return json.loads(TABLE.read_text("utf-8"))


def read_label(name: str, file: Path, notes: Notes) -> str | None:
    """The emotion a label names; None where it names none of ours (counted in `notes`).

    Raises:
        UserError: the table does not hold the label.
    """
    labels = label_table()["labels"]
    key = " ".join(str(name).split()).casefold()
    if key not in labels:
        raise UserError(f"{file}: unknown label {name!r} (allowed: {', '.join(labels)})")
    if labels[key] is None:
        notes.no_votes[key] += 1
    return labels[key]


def read_text(file: Path, notes: Notes) -> str:
    """A text file in the first encoding of `ENCODINGS` that fits; which one is kept in `notes`.

    Raises:
        UserError: it cannot be read in any of them.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    for encoding in ENCODINGS:
        # utf-8-sig reads files without a mark too, but only one with it is that
        if encoding == "utf-8-sig" and not raw.startswith(b"\xef\xbb\xbf"):
            continue
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        notes.encodings[file.name] = encoding
        return text
    raise UserError(f"{file} is in none of the encodings {', '.join(ENCODINGS)}")


def read_aihub(file: Path, notes: Notes, rule: str = "majority") -> Iterator[Annotation]:
    """AI-Hub style JSON: a list of pictures of one face, each with an uploader's label and three annotators.

    The box is the median of the annotators' boxes, side by side. The label is the one most annotators chose, the
    uploader's where they are at odds or none of them voted (`rule="majority"`), or always the uploader's
    (`rule="uploader"`). Agreement is the share of annotators who chose it.
    """
    for row in _json(file, notes, list):
        try:
            annotators = [row[key] for key in ANNOTATORS if row.get(key)]
            boxes = [[float(a["boxes"][k]) for k in ("minX", "minY", "maxX", "maxY")] for a in annotators]
            picture, uploaded, named = row["filename"], row["faceExp_uploader"], [a["faceExp"] for a in annotators]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: not an AI-Hub annotation, {type(error).__name__} {error}") from None
        uploader, votes = read_label(uploaded, file, notes), [read_label(name, file, notes) for name in named]
        label = _chosen(votes, uploader) if rule == "majority" else uploader
        if not label or not boxes:
            yield Annotation(picture, _split(file), problem="no vote for any emotion" if boxes else "no box")
            continue
        xyxy = tuple(float(v) for v in np.median(boxes, axis=0))
        yield Annotation(picture, _split(file), (FaceBox(label, xyxy, votes.count(label) / len(votes)),))


def _chosen(votes: list[str | None], uploader: str | None) -> str | None:
    tally = Counter(vote for vote in votes if vote).most_common(2)
    if not tally or (len(tally) == 2 and tally[0][1] == tally[1][1]):
        return uploader
    return tally[0][0]


def read_coco(file: Path, notes: Notes, rule: str = "majority") -> Iterator[Annotation]:
    """COCO instances: images, annotations with bbox xywh, categories named as emotions."""
    coco = _json(file, notes, dict)
    try:
        names = {c["id"]: c["name"] for c in coco["categories"]}
        faces: dict[int, list[FaceBox]] = {image["id"]: [] for image in coco["images"]}
        labels = {number: read_label(name, file, notes) for number, name in names.items()}
        for row in coco["annotations"]:
            x, y, w, h = map(float, row["bbox"])
            if label := labels[row["category_id"]]:
                faces[row["image_id"]].append(FaceBox(label, (x, y, x + w, y + h)))
        images = [(image["id"], image["file_name"]) for image in coco["images"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: not COCO annotations, {type(error).__name__} {error}") from None
    for number, picture in images:
        yield Annotation(picture, _split(file), tuple(faces[number]))


def read_voc(file: Path, notes: Notes, rule: str = "majority") -> Iterator[Annotation]:
    """Pascal VOC XML: one picture, objects named as emotions; pixel numbers start at 1 and both ends belong to it."""
    try:
        root = ElementTree.fromstring(read_text(file, notes))
        picture = root.findtext("filename") or f"{file.stem}.jpg"
        faces = []
        for thing in root.iter("object"):
            left, top, right, bottom = (float(thing.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            if label := read_label(thing.findtext("name"), file, notes):
                faces.append(FaceBox(label, (left - 1, top - 1, right, bottom)))
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise UserError(f"{file}: not Pascal VOC, {error}") from None
    yield Annotation(picture, file.parent.name if file.parent.name in SPLITS else None, tuple(faces))


def read_folders(folder: Path, notes: Notes, rule: str = "majority") -> Iterator[Annotation]:
    """Class folders: `FOLDER/<label>/<picture>`, every picture one face; a split may stand above the labels."""
    pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    for picture in pictures:
        relative = picture.relative_to(folder)
        split = relative.parts[0] if relative.parts[0] in SPLITS else None
        if label := read_label(picture.parent.name, picture, notes):
            yield Annotation(str(relative), split, whole=label)
        else:
            yield Annotation(str(relative), split, problem="no vote for any emotion")


READERS = {"aihub": (read_aihub, ".json"), "coco": (read_coco, ".json"), "voc": (read_voc, ".xml")}


def read_annotations(form: str, paths: list[Path], notes: Notes, rule: str) -> list[Annotation]:
    """All annotations of files or folders in one of the forms "aihub", "coco", "voc" and "folders".

    Raises:
        UserError: a path does not exist or holds none, a file is damaged, or a label is unknown.
    """
    found: list[Annotation] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist")
        if form == "folders":
            found += read_folders(path, notes)
            continue
        reader, suffix = READERS[form]
        for file in sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path]:
            found += reader(file, notes, rule)
    if not found:
        raise UserError(f"{', '.join(map(str, paths))}: no {form} annotations there")
    return found


def _json(file: Path, notes: Notes, kind: type):
    try:
        data = json.loads(read_text(file, notes))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, kind):
        raise UserError(f"{file} must hold a {kind.__name__}, but holds a {type(data).__name__}")
    return data


def _split(file: Path) -> str | None:
    """The split a file's name tells: `val_anger.json`, `instances_train2017.json`."""
    found = re.search(rf"(?<![a-z])({'|'.join(SPLITS)})(?![a-z])", file.stem.lower())
    return found and found[1]
