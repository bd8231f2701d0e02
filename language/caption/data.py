"""Caption files -> clean rows of (photo, caption), split by photo; photos are opened one at a time.

A CSV is recognised by its header: `image,caption` (Flickr8k), `Image File,Caption` (Kaggle's Instagram set, whose
paths have no `.jpg`), or `file_name,cap1,cap2,…` (COCO with its captions in one row).
"""

import csv
import hashlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.errors import UserError
from configs.load import Settings
from language.caption.likelihood import IGNORED
from language.caption.photos import UnreadablePhoto, check_header, open_rgb
from language.rules import EMOJI

LINK = re.compile(r"(?:https?://|www\.)\S+", re.I)
HANDLE = re.compile(r"(?<![\w.])@[\w.]+")
SPACE_BEFORE_MARK = re.compile(r" +([.,!?;:])")
SIDE = re.compile(r"\b(?:left|right)\b|왼쪽|오른쪽", re.I)


class Source(Settings):
    """One caption file and the folder that its photos lie in."""

    csv: Path
    photos: Path
    rows: int | None = Field(None, ge=1)  # read only so many rows of the file


class Cleaning(Settings):
    """Rules for captions. Links and @handles always go; what is left without a letter or digit is dropped."""

    emoji: Literal["keep", "remove", "drop"] = "keep"  # keep them, take them out, or drop captions that have any
    lower_case: bool = False
    min_words: int = Field(1, ge=1)
    max_words: int = Field(60, ge=1)  # a longer caption is dropped, not cut: it would teach to break off


@dataclass(frozen=True)
class Row:
    """A photo and one of its captions."""

    image: str
    caption: str


@dataclass
class Captions:
    """Clean rows, what was dropped or changed and why, and photos that cannot be used."""

    rows: list[Row] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)
    changed: Counter = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def photos(self) -> list[str]:
        return list(dict.fromkeys(row.image for row in self.rows))


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out: no photo stands on both sides."""

    train: list[Row]
    held_out: list[Row]
    hash: str  # twelve hex digits of the held-out rows


def read_rows(source: Source) -> list[Row]:
    """Every caption of the file with the path of its photo, as they stand there.

    Raises:
        UserError: the file cannot be read, its columns are unknown, or the photo folder is missing.
    """
    if not source.photos.is_dir():
        raise UserError(f"the photo folder {source.photos} does not exist; check data: [{{csv: …, photos: …}}]")
    try:
        with source.csv.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            of_row = _reader(reader.fieldnames or [], source.csv)
            pairs = [pair for row in islice(reader, source.rows) for pair in of_row(row)]
    except OSError as error:
        raise UserError(f"cannot read the captions {source.csv}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{source.csv} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{source.csv} is no CSV file: {error}") from None
    return [Row(str(source.photos / name.strip()), caption or "") for name, caption in pairs if name]


def _reader(columns: list[str], file: Path):
    """The function row -> [(photo's file name, caption)] of a file with these columns."""
    found = set(columns)
    if {"image", "caption"} <= found:
        return lambda row: [(row["image"], row["caption"])]
    if {"Image File", "Caption"} <= found:
        return lambda row: [(row["Image File"] and f"{row['Image File']}.jpg", row["Caption"])]
    if {"file_name", "cap1"} <= found:
        numbered = sorted((c for c in columns if re.fullmatch(r"cap\d+", c or "")), key=lambda c: int(c[3:]))
        return lambda row: [(row["file_name"], row[c]) for c in numbered if (row[c] or "").strip()]
    allowed = "`image,caption`, `Image File,Caption`, or `file_name,cap1,cap2,…`"
    raise UserError(f"{file} has the columns {', '.join(map(str, columns)) or '(none)'}; allowed are {allowed}")


def clean(caption: str, rules: Cleaning) -> tuple[str, list[str], str | None]:
    """The caption by the rules, what was changed in it, and why it is dropped (None: it is kept)."""
    if not caption.strip():
        return "", [], "empty"
    changed, text = [], caption
    for name, pattern in (("link removed", LINK), ("handle removed", HANDLE), ("emoji removed", EMOJI)):
        if name == "emoji removed" and rules.emoji != "remove":
            continue
        text, count = pattern.subn(" ", text)
        changed += [name] if count else []
    text = SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))
    text = text.lower() if rules.lower_case else text
    words = len(text.split())
    if rules.emoji == "drop" and EMOJI.search(text):
        return text, changed, "has emoji"
    if not re.search(r"[^\W_]", text):
        return text, changed, "no words"
    if words < rules.min_words:
        return text, changed, "too short"
    return text, changed, "too long" if words > rules.max_words else None


def gather(sources: list[Source], rules: Cleaning) -> Captions:
    """Clean rows of all sources whose photos are there; repeated rows stand once.

    Raises:
        UserError: a file is unusable, or no photo with a caption is left.
    """
    found, state = Captions(), {}
    for row in dict.fromkeys(row for source in sources for row in read_rows(source)):
        if row.image not in state:
            state[row.image] = _state(row.image)
        caption, changed, reason = clean(row.caption, rules)
        if reason or state[row.image]:
            found.dropped[reason or f"photo {state[row.image]}"] += 1
        else:
            found.changed.update(changed)
            found.rows.append(Row(row.image, caption))
    found.missing = [image for image, what in state.items() if what == "missing"]
    found.unreadable = [image for image, what in state.items() if what == "unreadable"]
    if not found.rows:
        why = ", ".join(f"{count} {reason}" for reason, count in found.dropped.most_common()) or "the files are empty"
        where = f" (first looked for: {found.missing[0]})" if found.missing else ""
        raise UserError(f"no photo with a caption is left: {why}{where}; check csv and photos of the data")
    return found


def _state(image: str) -> str | None:
    """Why a photo cannot be used, as far as its header tells."""
    if not Path(image).is_file():
        return "missing"
    try:
        check_header(image)
    except UnreadablePhoto:
        return "unreadable"
    return None


def split_rows(rows: list[Row], share: float, seed: int) -> Split:
    """Hold out a share of the photos, each with all of its captions.

    Raises:
        UserError: either side would be empty.
    """
    photos = sorted({row.image for row in rows})
    held = set(random.Random(seed).sample(photos, round(len(photos) * share)))
    if not held or len(held) == len(photos):
        raise UserError(f"held_out_share {share} of {len(photos)} photos leaves one side of the split empty")
    held_out = [row for row in rows if row.image in held]
    text = "\n".join(sorted(f"{Path(row.image).name}|{row.caption}" for row in held_out))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Split([row for row in rows if row.image not in held], held_out, digest)


def leaks(train: list[Row], test: list[Row]) -> dict[str, float]:
    """What held-out rows share with training: the shares of photos and of captions that were trained on."""
    photos, captions = {row.image for row in train}, {row.caption for row in train}
    share = lambda known: round(sum(map(known, test)) / max(1, len(test)), 4)
    return {
        "photos_seen": share(lambda row: row.image in photos),
        "captions_seen": share(lambda row: row.caption in captions),
    }


class PhotoRows:
    """Map-style dataset: a row's photo is opened when it is asked for, so memory does not grow with the photos.

    A photo that turns out to be broken is named in `broken` (a text file, one a line; every loading process adds to
    it), and the next row takes its place.

    Args:
        look: photo -> the model's input, `{"pixel_values": (3, height, width)}` or `{"features": …}`.
    """

    def __init__(self, rows: list[Row], tokenizer, max_tokens: int, look, broken: Path) -> None:
        self.rows, self.look, self.broken, self.known = rows, look, broken, set()
        texts = tokenizer([row.caption for row in rows], add_special_tokens=False)["input_ids"]
        # a caption that is cut does not teach to end there
        self.labels = [ids[:max_tokens] if len(ids) >= max_tokens else [*ids, tokenizer.eos_token_id] for ids in texts]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        for step in range(len(self)):
            place = (index + step) % len(self)
            image = self.rows[place].image
            if image not in self.known:
                try:
                    return {**self.look(image), "labels": self.labels[place]}
                except UnreadablePhoto as error:
                    self.known.add(image)
                    with self.broken.open("a", encoding="utf-8") as lines:
                        lines.write(f"{error}\n")
        raise UserError(f"no photo can be read; {self.broken} says why")


def looker(processor, augment: bool, sided: set[str] = frozenset()):
    """photo -> `{"pixel_values"}`; `augment` cuts 60 to 100 % of it at random and mirrors every other one, but for
    those in `sided`, whose captions say left or right.
    """
    from torchvision.transforms import v2

    cut = v2.RandomResizedCrop(_side(processor), scale=(0.6, 1), ratio=(0.8, 1.25), antialias=True)
    mirror = v2.RandomHorizontalFlip()

    def look(path: str) -> dict:
        image = open_rgb(path)
        if augment:
            image = cut(image) if path in sided else mirror(cut(image))
        return {"pixel_values": processor(images=image, return_tensors="pt")["pixel_values"][0]}

    return look


def with_side(rows: list[Row]) -> set[str]:
    """Photos with a caption that would be wrong of their mirror image."""
    return {row.image for row in rows if SIDE.search(row.caption)}


def _side(processor) -> int:
    size = dict(processor.size)
    return size.get("height") or size["shortest_edge"]


def collate(items: list[dict]) -> dict:
    """Stack photos, and pad labels as far as this batch needs: padding is masked (-100), a real end never is."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    labels = [torch.tensor(item["labels"]) for item in items]
    batch = {"labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED)}
    if "features" in items[0]:
        return batch | {"encoder_outputs": (torch.stack([item["features"] for item in items]),)}
    return batch | {"pixel_values": torch.stack([item["pixel_values"] for item in items])}
