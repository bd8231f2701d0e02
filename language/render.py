"""The only place where an element list becomes model input.

Data generation, training and inference all call `render_input`; a checkpoint stores `RENDER_VERSION` and refuses to
run with another.
"""

from language.records import EMPTY, ElementList

RENDER_VERSION = 1
SEPARATOR = ", "  # comma and space: the tokenizer sees every name but the first behind a space


def render_input(elements: ElementList) -> str:
    """`당황, 모자`; the empty list is just a photo: `사진`."""
    return SEPARATOR.join(e.name for e in elements) or EMPTY[elements.lang]
