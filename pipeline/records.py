"""A photo on its way: opened, looked at, commented; each step hands on a record of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from PIL import Image

from detection.photos import open_photo
from language.records import Comment, ElementList
from language.render import render_input


@dataclass(frozen=True)
class Failure:
    """Why a photo has no comment: a short type for programs, a message for people."""

    type: str
    message: str


@dataclass(frozen=True)
class Opened:
    """A photo after the first step, or why it cannot be read.

    Attributes:
        name: the path as given, or a name for a picture handed over in memory.
        image: the upright RGB picture as decoded.
        size: (width, height) of the full upright photo.
        in_memory: whether the picture was handed over and must be kept to draw on.
        timings_ms: of the steps so far.
    """

    name: str
    image: Image.Image | None = field(default=None, repr=False, compare=False)
    size: tuple[int, int] | None = None
    in_memory: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: Failure | None = None


@dataclass(frozen=True)
class Seen:
    """A photo after the second step: its elements, with boxes in pixels of the full photo.

    Attributes:
        seed: a number of the picture's own; photos that show the same things need not get the same words.
        image: the picture, where it was handed over in memory.
    """

    name: str
    size: tuple[int, int] | None = None
    elements: ElementList | None = None
    seed: int = 0
    image: Image.Image | None = field(default=None, repr=False, compare=False)
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: Failure | None = None


@dataclass(frozen=True)
class Result:
    """One photo's outcome. Either `error` is None and everything else is there, or only `image` and `error` are.

    Attributes:
        image: the path as given, or a name for a picture handed over in memory.
        width, height: pixels of the full upright photo; element boxes are in these.
        elements: what was seen.
        comments: best first.
        timings_ms: decode, objects, emotion, scenes, elements, write and total.
    """

    image: str
    width: int | None = None
    height: int | None = None
    elements: ElementList | None = None
    comments: tuple[Comment, ...] | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: Failure | None = None
    # A picture handed over in memory, for `annotated`; photos with a path are opened again when they are to be drawn.
    photo: Image.Image | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        done = [v is not None for v in (self.width, self.height, self.elements, self.comments)]
        if (self.error is None) != all(done) or (self.error is not None and any(done)):
            raise ValueError(f"a result is either done or failed, but got {self!r}")

    @property
    def comment(self) -> str | None:
        """The best comment's text."""
        return self.comments[0].text if self.comments else None

    def annotated(self) -> Image.Image:
        """The photo with every element's boxes and labels drawn.

        Raises:
            ValueError: the photo failed, or its file has gone since.
        """
        if self.error:
            raise ValueError(f"{self.image} has no picture to draw on: {self.error.message}")
        from pipeline.draw import annotate

        photo = self.photo or open_photo(self.image)[0]
        return annotate(photo, self.elements, (self.width, self.height))

    def to_json(self) -> dict:
        """The JSON object of the public contract."""
        error = self.error and {"type": self.error.type, "message": self.error.message}
        row = row_of(self.elements, self.comments, self.timings_ms)
        return {**row, "image": self.image, "width": self.width, "height": self.height, "error": error}


def row_of(elements: ElementList | None, comments: Iterable[Comment] | None, timings_ms: dict[str, float]) -> dict:
    """The JSON object of the public contract, of elements that no photo stands for."""
    texts = [_comment(c) for c in comments] if comments is not None else None
    return {
        "image": None,
        "width": None,
        "height": None,
        "elements": [_element(e) for e in elements] if elements is not None else None,
        "input": render_input(elements) if elements is not None else None,
        "comment": texts[0]["text"] if texts else None,
        "comments": texts,
        "timings_ms": {stage: round(ms, 1) for stage, ms in timings_ms.items()},
        "error": None,
    }


def _element(e) -> dict:
    boxes = [list(box) for box in e.boxes]
    return {"id": e.id, "kind": e.kind, "name": e.name, "score": round(e.score, 3), "count": e.count, "boxes": boxes}


def _comment(c: Comment) -> dict:
    spans = [{"text": s.text, "start": s.start, "end": s.end, "element": s.element} for s in c.evidence]
    return {"text": c.text, "score": c.score, "source": c.source, "evidence": spans}
