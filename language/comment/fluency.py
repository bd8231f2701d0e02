"""What gives a small model's slips away on the page: words that do not go together, and words it cannot get away from.

The trainer writes the sequences of four words that a writer was taught (`sequences.bin`) beside its weights where it
learns from our own corpus. A sentence that is well made holds none that the corpus holds nowhere, whatever thing it
speaks of; one mixed up at a seam does (docs/experiments.md).
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from language.records import ElementList, find_evidence
from language.rules import EMOJI

SEQUENCES = "sequences.bin"
LENGTH = 4  # words of a sequence
WORD = re.compile(r"[\w']+|[.!?~…|]+")
NAME, END = "_", "|"  # stand for the name of an element, and for where a sentence begins and ends
ARTICLE = re.compile(r"(\ban?|(?:^|(?<=[.!~…] ))An?) ([A-Za-z]\w+)")  # "plan A is ready" has none
VOWEL = re.compile(r"(?!uni|us[aeu]|uti|uku|eu|one\b|once)[aeiou]|hour|honest|hono|heir", re.I)  # by sound
NOTHING_TAUGHT = np.empty(0, np.uint32)
# Korean particles of which one follows a consonant and one a vowel (or ㄹ, for 으로/로), as a word ends with them.
PARTICLE = re.compile(r"(은|는|이|가|을|를|과|와|으로|로|이랑|랑)(?![가-힣])")
AFTER_CONSONANT, AFTER_VOWEL = ("은", "이", "을", "과", "이랑"), ("는", "가", "를", "와", "랑")
MOST_TIMES = 3  # that a comment says a word of more than three letters


def sequences(text: str, elements: ElementList) -> list[str]:
    """A comment's sequences of `LENGTH` words in lower case, ends of sentences among them.

    The names of its elements are cut out: what is well said of one thing is well said of another, and particles stand
    alone.
    """
    for span in reversed(find_evidence(text, elements)):
        text = f"{text[: span.start]} {NAME} {text[span.end :]}"
    words = [END]
    for word in WORD.findall(f"{EMOJI.sub(END, text)}{END}".casefold()):
        if word[0] not in ".!?~…|":
            words.append(word)
        elif words[-1] != END:
            words.append(END)
    return [" ".join(words[i : i + LENGTH]) for i in range(max(1, len(words) - LENGTH + 1))]


def _codes(sequences: Iterable[str]) -> np.ndarray:
    """Their CRC-32, a 32-bit number each: one in ten thousand new ones is taken for one of our 400,000."""
    return np.array([zlib.crc32(words.encode()) for words in sequences], np.uint32)


def save_sequences(said: Iterable[tuple[ElementList, str]], folder: Path) -> None:
    """Write what comments on lists say, sorted."""
    found: set[str] = set()
    for elements, text in said:
        found |= set(sequences(text, elements))
    np.unique(_codes(found)).astype("<u4").tofile(folder / SEQUENCES)


def load_sequences(folder: Path) -> np.ndarray:
    """What a writer was taught, sorted codes; empty where it learned from other pairs than ours."""
    file = folder / SEQUENCES
    return np.fromfile(file, "<u4") if file.is_file() else NOTHING_TAUGHT


def new_sequences(text: str, elements: ElementList, known: np.ndarray) -> int:
    """How many sequences of words in a comment are not among the `known`; 0 where none are known."""
    if not known.size:
        return 0
    codes = _codes(sequences(text, elements))
    places = np.minimum(np.searchsorted(known, codes), known.size - 1)
    return int((known[places] != codes).sum())


def stutters(text: str) -> bool:
    """Whether a comment says one word twice in a row, three words twice, or a longer word all the time."""
    words = re.findall(r"[\w']+", text.casefold())
    threes = list(zip(words, words[1:], words[2:], strict=False))
    in_a_row = any(a == b for a, b in pairwise(words))
    often = Counter(word for word in words if len(word) > 3)
    return in_a_row or len(threes) > len(set(threes)) or max(often.values(), default=0) > MOST_TIMES


def wrong_article(text: str) -> bool:
    """Whether an English text says "a armadillo" or "an hat"; a name may stand where the corpus had another."""
    found = (m.groups() for m in ARTICLE.finditer(text) if not m[2].isupper())
    return any((article.casefold() == "an") != bool(VOWEL.match(word)) for article, word in found)


def wrong_particle(text: str, elements: ElementList) -> bool:
    """Whether a Korean text has a particle behind the name of an element that does not fit it ("간식로")."""
    if elements.lang != "ko":
        return False
    from hangulpy import has_batchim, josa

    for span in find_evidence(text, elements):
        if not (found := PARTICLE.match(text, span.end)):
            continue
        if found[1] in ("으로", "로"):
            fits = text[span.start : found.end()] == josa(span.text, "으로/로")
        else:
            fits = found[1] in (AFTER_CONSONANT if has_batchim(span.text) else AFTER_VOWEL)
        if not fits:
            return True
    return False
