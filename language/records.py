"""The records between a photo's detections and its comment."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common.files import write_jsonl
from detection.families import thing_of
from detection.labels import KINDS, PLAIN_IDS, kind_of, load_pack, lookup

# How the list without elements is written: it is just a photo, and an encoder needs something to look at.
EMPTY = {"ko": "사진", "en": "photo"}
SOURCES = ("model", "whole comment")


@dataclass(frozen=True, slots=True)
class Element:
    """One entry of an element list.

    Attributes:
        id: canonical id ("panic", "Hat"), or the word itself where no label pack knows it.
        kind: "emotion", "moment", "object" or "scene".
        name: display name in the list's language; of a thing it may be a more exact one ("골든 리트리버" of a Dog).
        score: highest confidence of its detections, 0..1 (1 where given by hand).
        count: how many were seen.
        boxes: xyxy in pixels of the upright photo: one per thing or face, none where the whole picture told it; a
            moment's are those of what it was told by.
    """

    id: str
    kind: str
    name: str
    score: float = 1.0
    count: int = 1
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.id or not self.name:
            raise ValueError(f"an element needs an id and a name, but got {self.id!r}, {self.name!r}")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, but got {self.kind!r}")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score must be within 0..1, but got {self.score!r}")
        counted = self.kind in ("emotion", "object")
        if self.count < 1 or (counted and self.boxes and len(self.boxes) != self.count):
            raise ValueError(
                f"count must be at least 1 and match the boxes, but got {self.count} for {len(self.boxes)} boxes"
            )


@dataclass(frozen=True, slots=True)
class ElementList:
    """What a photo shows, in the order it is told: emotions first, then the rest by worth, no repeats."""

    elements: tuple[Element, ...] = ()
    lang: str = "ko"

    def __post_init__(self) -> None:
        ids = [e.id for e in self.elements]
        if len(set(ids)) != len(ids):
            raise ValueError(f"an element list has no repeats, but got {ids}")
        others = [e.kind != "emotion" for e in self.elements]
        if others != sorted(others):
            raise ValueError(f"emotions come before everything else, but got {ids}")

    def __iter__(self) -> Iterator[Element]:
        return iter(self.elements)

    def __len__(self) -> int:
        return len(self.elements)

    def of_kind(self, *kinds: str) -> list[Element]:
        """The elements of these kinds, in order."""
        return [e for e in self.elements if e.kind in kinds]

    @classmethod
    def parse(cls, text: str, lang: str = "ko") -> "ElementList":
        """Read names in any language, old names or ids, separated by commas: `"공포, 모자"`.

        A word that no label pack knows is an object of that name. Words that make no element (사람, 얼굴, 무표정 …)
        are left out.
        """
        return cls.from_ids((word for word in text.split(",")), lang)

    @classmethod
    def from_ids(cls, words: Iterable[str], lang: str = "ko") -> "ElementList":
        """The same from single words."""
        pack, elements = load_pack(lang), {}
        for word in words:
            word = " ".join(word.split())
            label = lookup(word) or word
            if label and label not in PLAIN_IDS and word not in EMPTY.values():
                elements.setdefault(thing_of(label), Element(thing_of(label), kind_of(label), pack.name(label)))
        return cls(tuple(sorted(elements.values(), key=lambda e: e.kind != "emotion")), lang)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A stretch of a comment that speaks of an element; start and end count code points."""

    text: str
    start: int
    end: int
    element: str


def name_pattern(name: str, lang: str) -> str:
    """A pattern of a name in a text; an English one may be plural and ends where a word ends (no hat in "hates")."""
    if lang == "ko":
        return re.escape(name)
    plural = "(?:es)?" if re.search("(?:s|x|z|ch|sh|o)$", name.casefold()) else "s?"
    return rf"{re.escape(name)}{plural}\b"


def find_evidence(text: str, elements: ElementList) -> tuple[Evidence, ...]:
    """Where a comment speaks of an element: by its name, its thing's name or words of the pack that mean it ("파도"
    of the sea), at the start of a word; a longer match wins over one inside it.

    English names are found in any case and in the plural, and end where a word ends.
    """
    pack, spans = load_pack(elements.lang), []
    words = {(name, e.id) for e in elements for name in (e.name, pack.name(e.id), *pack.spoken.get(e.id, ()))}
    low = text.casefold()
    for word, label in sorted(words, key=lambda item: (-len(item[0]), item)):
        if word.casefold() not in low:
            continue
        # a class of all Hangul takes milliseconds to compile where case is ignored
        name = f"(?{'i' if elements.lang == 'en' else ''}:{name_pattern(word, elements.lang)})"
        for match in re.finditer(f"(?<![가-힣A-Za-z]){name}", text):
            if all(match.end() <= s.start or match.start() >= s.end for s in spans):
                spans.append(Evidence(match.group(), match.start(), match.end(), label))
    return tuple(sorted(spans, key=lambda s: s.start))


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment with its score and what its words rest on.

    `source` tells who wrote it: the model; or a person, as a whole comment (all of the writer "bank", others' where the
    model has not learned what the list is about or wrote nothing that keeps the rules). The score is the model's mean
    log probability per token, of a whole comment the log probability of its draw.
    """

    text: str
    score: float
    evidence: tuple[Evidence, ...] = ()
    source: str = "model"

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {SOURCES}, but got {self.source!r}")
        if not self.text or self.text != self.text.strip():
            raise ValueError(f"a comment is non-empty and has no space at its ends, but got {self.text!r}")
        for span in self.evidence:
            if self.text[span.start : span.end] != span.text:
                raise ValueError(f"evidence {span} does not lie in {self.text!r}")


@dataclass(frozen=True, slots=True)
class Pair:
    """A training pair: rendered element list and the comment that fits it, in a language and a style."""

    elements: str
    comment: str
    lang: str = "ko"
    style: str = "polite"


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as JSON lines, whole or not at all; returns how many."""
    return write_jsonl(path, map(asdict, pairs))
