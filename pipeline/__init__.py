"""Image -> Detection -> ElementList -> Comment, in one call."""

from importlib import import_module

HOMES = {"PhotoCommenter": "pipeline.commenter", "Result": "pipeline.records"}
__all__ = list(HOMES)


def __getattr__(name: str):
    """Import the public names when they are first asked for: the commands below do not need all of them."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
