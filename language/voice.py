"""The voice of a comment: its language and its style."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """What every step that puts something into words is told.

    Attributes:
        lang: language of names and comments, a label pack's ("ko", "en").
        style: "polite" or "casual".
    """

    lang: str = "ko"
    style: str = "polite"
