"""What the service takes and gives, as pydantic models: they check requests and write the OpenAPI document."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from language.records import Element, ElementList

MOST_ELEMENTS, MOST_BOXES, MOST_COMMENTS, MOST_AVOIDED = 50, 100, 10, 60
EXAMPLE_ELEMENTS = [{"id": "panic", "kind": "emotion", "name": "당황", "score": 0.81, "count": 1}, "모자"]
EXAMPLE_COMMENT = {
    "text": "모자가 참 잘 어울려요! 😊",
    "score": -0.31,
    "source": "model",
    "evidence": [{"text": "모자", "start": 0, "end": 2, "element": "Hat"}],
}

# A comma parts names; a control character or a bracket is never part of one.
NAME = r"^[^,<>\x00-\x1f\x7f]*[^\s,<>\x00-\x1f\x7f][^,<>\x00-\x1f\x7f]*$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=NAME)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Pixel = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Box = Annotated[list[Pixel], Field(min_length=4, max_length=4)]


Kind = Literal["emotion", "moment", "object", "scene"]


class Strict(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid")


class ElementIn(Strict):
    """An element as a caller gives it: an id, or a name in any language. An id stands where there are both."""

    id: Name | None = None
    name: Name | None = None
    kind: Kind | None = Field(None, description="ignored: the id tells")
    score: Fraction = 1.0
    count: int = Field(1, ge=1, le=1000)
    boxes: list[Box] = Field([], max_length=MOST_BOXES)


ElementText = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^<>\x00-\x1f\x7f]*$")]
Elements = ElementText | Annotated[list[Name | ElementIn], Field(max_length=MOST_ELEMENTS)]


class Wish(Strict):
    """How comments are to be written."""

    lang: Literal["ko", "en"] | None = Field(None, description="default: the server's")
    style: Literal["polite", "casual"] | None = Field(None, description="default: the server's")
    writer: str | None = Field(None, max_length=80, description="one of /v1/options; default: the server's")
    count: int = Field(1, ge=1, le=MOST_COMMENTS, description="how many different comments")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same comments")
    avoid: list[Annotated[str, StringConstraints(max_length=500)]] = Field(
        [], max_length=MOST_AVOIDED, description="what was said lately: its openings and emoji are not repeated"
    )


class Listed(Wish):
    """Elements that are told, not seen."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"elements": "당황, 모자", "count": 3}, {"elements": EXAMPLE_ELEMENTS, "lang": "en"}]
        },
    )
    elements: Elements = Field(description="names in any language or ids, in one text or as a list")


class Correction(Strict):
    """What was seen, what somebody made of it, and the comment they took."""

    lang: Literal["ko", "en"]
    style: Literal["polite", "casual"]
    seen: list[ElementIn] = Field(max_length=MOST_ELEMENTS)
    kept: list[ElementIn] = Field(max_length=MOST_ELEMENTS)
    comment: str = Field(min_length=1, max_length=500)


class ElementOut(BaseModel):
    id: str
    kind: Kind
    name: str
    score: float
    count: int
    boxes: list[list[float]] = Field(description="x1, y1, x2, y2 in pixels of the upright photo")


class EvidenceOut(BaseModel):
    text: str
    start: int = Field(description="code points from the comment's start")
    end: int
    element: str = Field(description="the id of the element that these words speak of")


class CommentOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_COMMENT]})
    text: str
    score: float = Field(description="mean log probability per token")
    source: Literal["model", "whole comment"]
    evidence: list[EvidenceOut]


class Tender(BaseModel):
    """Why the comments are gentle, and why saying nothing may be better."""

    because: list[str] = Field(description="ids of the elements that want gentle words")
    reason: str = Field(description="the same for people, in the comments' language")


class Failed(BaseModel):
    type: str
    message: str


class ErrorOut(BaseModel):
    error: Failed


class CommentsOut(BaseModel):
    """A photo's elements and comments; `image`, `width` and `height` are null where elements were told."""

    image: str | None
    width: int | None
    height: int | None
    elements: list[ElementOut]
    input: str
    comment: str
    comments: list[CommentOut]
    timings_ms: dict[str, float]
    error: None = None
    tender: Tender | None = None


class LabelOut(BaseModel):
    id: str
    kind: Kind
    name: str


class LabelsOut(BaseModel):
    lang: str
    labels: list[LabelOut]


def element_list(given: str | list, lang: str) -> ElementList:
    """The element list that a request gives, in a language; what is named twice becomes one with the boxes of both."""
    if isinstance(given, str):
        return ElementList.parse(given, lang)
    found: dict[str, Element] = {}
    for item in given:
        item = ElementIn(name=item) if isinstance(item, str) else item
        boxes = tuple(map(tuple, item.boxes))
        for element in ElementList.from_ids([item.id or item.name or ""], lang):
            element = replace(element, score=item.score, count=len(boxes) or item.count, boxes=boxes)
            before = found.get(element.id)
            found[element.id] = _merged(before, element) if before else element
    return ElementList(tuple(sorted(found.values(), key=lambda e: e.kind != "emotion")), lang)


def _merged(one: Element, other: Element) -> Element:
    boxes = (*one.boxes, *other.boxes)
    return replace(one, score=max(one.score, other.score), count=len(boxes) or one.count + other.count, boxes=boxes)
