"""Image -> Detection -> ElementList -> Comment, in one call."""

from pipeline.commenter import PhotoCommenter
from pipeline.records import Result

__all__ = ["PhotoCommenter", "Result"]
