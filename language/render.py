"""The only place where an element list becomes model input, and a comment a training target.

Data generation, training and inference all call these functions; a checkpoint stores `RENDER_VERSION` and refuses to
run with another.
"""

from language.records import EMPTY, Element, ElementList, find_evidence

RENDER_VERSION = 1
SEPARATOR = ", "  # comma and space: the tokenizer sees every name but the first behind a space
PLAN_END = ":"


def render_input(elements: ElementList) -> str:
    """`당황, 모자`; the empty list is just a photo: `사진`."""
    return SEPARATOR.join(e.name for e in elements) or EMPTY[elements.lang]


def render_plan(elements: ElementList, mentioned: list[Element]) -> str:
    """What a comment will speak of, in order, as the decoder sees it before the comment: `당황, 모자:`.

    All feelings stand in it, as they set the tone, and the things that are mentioned. Writing the plan first keeps
    small models to the facts (Narayan et al. 2021, "Planning with Learned Entity Prompts for Abstractive
    Summarization").
    """
    return render_input(ElementList((*elements.of_kind("emotion"), *mentioned), elements.lang)) + PLAN_END


def render_target(elements: ElementList, comment: str) -> str:
    """What the decoder learns to write: the plan that a comment follows, and the comment."""
    things = {e.id: e for e in elements.of_kind("object")}
    mentioned = dict.fromkeys(span.element for span in find_evidence(comment, elements) if span.element in things)
    return f"{render_plan(elements, [things[i] for i in mentioned])} {comment}"
