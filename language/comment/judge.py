"""Whether a draft may be posted: the rules, and what gives a small model's slips away."""

import numpy as np

from language.comment.fluency import new_sequences, stutters, wrong_article, wrong_particle
from language.comment.whole import of_another_thing, unfitting
from language.records import ElementList
from language.rules import violations

# What the rest of a comment may still mend after its first sentence.
MENDABLE = frozenset({"emoji", "names nothing", "length", "speech level"})


class Judge:
    """Judges drafts of comments on one element list.

    Args:
        sequences: what the writer was taught to say (`language.comment.fluency.load_sequences`).
    """

    def __init__(self, elements: ElementList, style: str, sequences: np.ndarray):
        self.elements, self.style, self.sequences = elements, style, sequences
        self.unfitting = unfitting(elements, style)

    def flaws(self, text: str) -> frozenset[str]:
        """Names of the rules that a text breaks and of the slips found in it; empty when it is fit to post."""
        if not text:
            return frozenset({"empty"})
        slips = {
            "stutters": stutters(text),
            "article": wrong_article(text),
            "particle": wrong_particle(text, self.elements),
            "mixed up": new_sequences(text, self.elements, self.sequences) > 0,
            "another mood": text in self.unfitting,
            "of another thing": of_another_thing(text, self.elements, self.style),
        }
        return frozenset((*violations(text, self.elements, self.style), *(name for name, hit in slips.items() if hit)))
