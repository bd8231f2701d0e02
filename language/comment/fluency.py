"""What gives a small model's slips away on the page: words that it made up, and words that it cannot get away from.

The trainer writes a writer's words (`words.txt`) beside its weights where it learns from our own corpus.
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from language.records import ElementList, Pair, find_evidence

WORDS = "words.txt"
WORD = re.compile(r"[a-z']+|[가-힣]+")
MOST_TIMES = 3  # that a comment says a word of more than three letters


def own_words(text: str, elements: ElementList) -> set[str]:
    """A comment's words in lower case; the names of its elements are cut out, so that particles stand alone."""
    for span in reversed(find_evidence(text, elements)):
        text = f"{text[: span.start]} {text[span.end :]}"
    return set(WORD.findall(text.casefold()))


def vocabulary(pairs: Iterable[Pair]) -> list[str]:
    """All words of comments, sorted."""
    found: set[str] = set()
    for pair in pairs:
        found |= own_words(pair.comment, ElementList.parse(pair.elements, pair.lang))
    return sorted(found)


def load_words(folder: Path) -> frozenset[str]:
    """The words that a writer was taught; empty where it learned from other pairs than ours."""
    file = folder / WORDS
    return frozenset(file.read_text("utf-8").split("\n")) if file.is_file() else frozenset()


def stutters(text: str) -> bool:
    """Whether a comment says one word twice in a row, three words twice, or a longer word all the time."""
    words = re.findall(r"[\w']+", text.casefold())
    threes = list(zip(words, words[1:], words[2:], strict=False))
    in_a_row = any(a == b for a, b in pairwise(words))
    often = Counter(word for word in words if len(word) > 3)
    return in_a_row or len(threes) > len(set(threes)) or max(often.values(), default=0) > MOST_TIMES
