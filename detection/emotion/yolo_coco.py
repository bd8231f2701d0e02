"""A detection dataset on disk: pictures, YOLO labels, COCO annotations and the `data.yaml` that trainers read.

    FOLDER/images/{train,val}/NAME.jpg   FOLDER/labels/{train,val}/NAME.txt
    FOLDER/annotations/{train,val}.json  FOLDER/data.yaml

A picture's boxes stand in one journal line as soon as its files are written, so that an interrupted writing goes on.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from common.errors import UserError
from common.files import write_json


@dataclass(frozen=True)
class FaceBox:
    """One face of a picture: its label, xyxy in pixels of the upright picture, and how it came by the label.

    Attributes:
        agreement: share of the annotators who chose the label, where there were several.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    agreement: float | None = None


@dataclass(frozen=True)
class Item:
    """A written picture: file name in its split's folder, size of the upright picture, its faces."""

    split: str
    file_name: str
    width: int
    height: int
    faces: tuple[FaceBox, ...]


class DatasetWriter:
    """Writes a dataset picture by picture.

    Args:
        out: the dataset's folder.
        names: classes in the order of their numbers.
        settings: what the dataset depends on; a folder begun with other settings is refused.

    Raises:
        UserError: `out` holds a dataset made with other settings.
    """

    def __init__(self, out: Path, names: Iterable[str], settings: dict):
        self.out, self.names = Path(out), tuple(names)
        self.journal = self.out / "journal.jsonl"
        self.items: dict[str, Item] = {}
        head = {"names": list(self.names), **settings}
        if self.journal.exists():
            self._read(head)
        else:
            self.out.mkdir(parents=True, exist_ok=True)
            self.journal.write_text(json.dumps(head, ensure_ascii=False) + "\n", "utf-8")

    def _read(self, head: dict) -> None:
        first, *lines = self.journal.read_text("utf-8").splitlines()
        if json.loads(first) != head:
            raise UserError(f"{self.out} holds a dataset made with other settings; choose another folder or remove it")
        whole = []
        for line in lines:
            try:
                key, row = json.loads(line)
            except ValueError:  # cut off in the middle of a line: that picture is written again
                continue
            faces = tuple(FaceBox(f["label"], tuple(f["xyxy"]), f["agreement"]) for f in row.pop("faces"))
            self.items[key] = Item(**row, faces=faces)
            whole.append(line)
        if len(whole) < len(lines):
            self.journal.write_text("\n".join([first, *whole]) + "\n", "utf-8")

    def __contains__(self, key: str) -> bool:
        return key in self.items

    def picture_path(self, split: str, file_name: str) -> Path:
        """Where a picture goes; its folder exists afterwards."""
        for kind in ("images", "labels"):
            (self.out / kind / split).mkdir(parents=True, exist_ok=True)
        return self.out / "images" / split / file_name

    def add(self, key: str, item: Item) -> None:
        """Write the labels of a picture that lies at its `picture_path`, and remember it under `key`."""
        lines = []
        for face in item.faces:
            x1, y1, x2, y2 = face.xyxy
            centre = ((x1 + x2) / 2 / item.width, (y1 + y2) / 2 / item.height)
            size = ((x2 - x1) / item.width, (y2 - y1) / item.height)
            lines.append(" ".join([str(self._number(face.label)), *(f"{v:.6f}" for v in (*centre, *size))]) + "\n")
        label = self.picture_path(item.split, item.file_name).parents[2] / "labels" / item.split
        (label / f"{Path(item.file_name).stem}.txt").write_text("".join(lines), "utf-8")
        self.items[key] = item
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, asdict(item)], ensure_ascii=False) + "\n")

    def _number(self, label: str) -> int:
        return 0 if self.names == ("face",) else self.names.index(label)

    def finish(self) -> str:
        """Write COCO annotations and `data.yaml`; returns the hash of everything labelled."""
        splits = sorted({item.split for item in self.items.values()})
        for split in splits:
            self._write_coco(split)
        data = {"path": str(self.out.resolve())} | {split: f"images/{split}" for split in splits}
        data |= {"train": "images/train", "val": "images/val", "names": dict(enumerate(self.names))}
        (self.out / "data.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
        rows = sorted(json.dumps([key, asdict(item)], sort_keys=True) for key, item in self.items.items())
        return hashlib.sha256("\n".join([*self.names, *rows]).encode()).hexdigest()[:16]

    def _write_coco(self, split: str) -> None:
        labels = self.names if self.names != ("face",) else sorted({f.label for f in self._faces()})
        numbers = {label: number for number, label in enumerate(labels, 1)}
        coco = {
            "images": [],
            "annotations": [],
            "categories": [{"id": n, "name": label} for label, n in numbers.items()],
        }
        for number, (_, item) in enumerate(sorted(self.items.items()), 1):
            if item.split != split:
                continue
            coco["images"].append(
                {"id": number, "file_name": item.file_name, "width": item.width, "height": item.height}
            )
            for face in item.faces:
                x1, y1, x2, y2 = face.xyxy
                row = {"id": len(coco["annotations"]) + 1, "image_id": number, "category_id": numbers[face.label]}
                row |= {"bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)], "iscrowd": 0}
                row |= {"area": round((x2 - x1) * (y2 - y1), 2)}
                if face.agreement is not None:
                    row["agreement"] = round(face.agreement, 3)
                coco["annotations"].append(row)
        target = self.out / "annotations" / f"{split}.json"
        write_json(target, coco, indent=None)

    def counts(self) -> dict[str, dict[str, int]]:
        """Faces per split and class, and pictures per split."""
        table: dict[str, Counter] = {}
        for item in self.items.values():
            row = table.setdefault(item.split, Counter())
            row["pictures"] += 1
            row.update(face.label for face in item.faces)
        return {split: dict(sorted(row.items())) for split, row in sorted(table.items())}

    def _faces(self) -> Iterable[FaceBox]:
        return (face for item in self.items.values() for face in item.faces)
