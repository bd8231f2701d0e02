"""The only place where an element list becomes model input, and a comment a training target.

Data generation, training and inference all call these functions; a checkpoint stores `fingerprint(template)` and
refuses to run with another.
"""

import hashlib

from language.records import EMPTY, Element, ElementList, find_evidence

SEPARATOR = ", "  # comma and space: the tokenizer sees every name but the first behind a space
# A plan ends with the mark of its language and style, so that one model writes them all.
PLAN_ENDS = {("ko", "polite"): ":", ("ko", "casual"): ";", ("en", "polite"): "=", ("en", "casual"): "~"}
# planned: a plan, then the comment. plain: the comment alone. original: `입력값 : … 출력값 : …`, as the original's
# second GPT-2 format, for figures that compare with it.
TEMPLATES = ("planned", "plain", "original")
PROBES = ("", "panic,Hat", "happy,sad,Cake,Bicycle wheel,Bicycle")


def render_input(elements: ElementList) -> str:
    """`당황, 모자`; the empty list is just a photo: `사진`."""
    return SEPARATOR.join(e.name for e in elements) or EMPTY[elements.lang]


def render_source(elements: ElementList, template: str = "planned") -> str:
    """What a model reads before it writes: the list, in the original's format between two words."""
    listed = render_input(elements)
    return f"입력값 : {listed} \n출력값 :" if template == "original" else listed


def end_after_source(architecture: str, template: str) -> bool:
    """Whether the end token follows the source: T5 expects it, and for GPT-2 it parts list and comment where no word
    of the template does."""
    return architecture == "t5" or template != "original"


def render_plan(
    elements: ElementList, mentioned: list[Element], style: str = "polite", template: str = "planned"
) -> str:
    """What a comment will speak of, in order, as the decoder sees it before the comment: `당황, 모자:`.

    All feelings stand in it, as they set the tone, and what else is mentioned. Writing the plan first keeps
    small models to the facts (Narayan et al. 2021, "Planning with Learned Entity Prompts for Abstractive
    Summarization"). Other templates have no plan: an empty text.
    """
    if template != "planned":
        return ""
    planned = ElementList((*elements.of_kind("emotion"), *mentioned), elements.lang)
    return render_input(planned) + PLAN_ENDS[elements.lang, style]


def render_target(elements: ElementList, comment: str, style: str = "polite", template: str = "planned") -> str:
    """What the decoder learns to write: the comment, behind the plan that it follows where the template has one."""
    others = {e.id: e for e in elements if e.kind != "emotion"}
    mentioned = dict.fromkeys(span.element for span in find_evidence(comment, elements) if span.element in others)
    return f"{render_plan(elements, [others[i] for i in mentioned], style, template)} {comment}"


def comment_of(target: str, lang: str, style: str = "polite", template: str = "planned") -> str:
    """The comment in a written target: what stands behind the plan."""
    return (target.partition(PLAN_ENDS[lang, style])[2] if template == "planned" else target).strip()


def fingerprint(template: str = "planned") -> str:
    """Twelve hex digits that change whenever inputs, plans or targets are rendered in another way."""
    digest = hashlib.sha256()
    for lang, style in PLAN_ENDS:
        for probe in PROBES:
            elements = ElementList.parse(probe, lang)
            comment = " ".join(e.name for e in reversed(list(elements)))
            target = render_target(elements, comment, style, template)
            digest.update(f"{render_source(elements, template)}|{target}\n".encode())
    return digest.hexdigest()[:12]
