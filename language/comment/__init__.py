"""ElementList -> Comment: the embedded writers and any trained one."""

from language.comment.writer import CommentWriter

__all__ = ["CommentWriter"]
