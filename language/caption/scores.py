"""Figures for captions: likeness to references, variety over photos, repetition, rank of the right caption.

    from language.caption.scores import score
    score(["a red wall"], [["a wall that is red", "a red wall"]])

Texts are compared in lower case and without punctuation, as COCO's caption evaluation does; emoji stay.
"""

import math
import re
import string
from collections import Counter

from common.errors import UserError
from language import metrics
from language.metrics.intervals import with_interval

_MARKS = str.maketrans(string.punctuation.replace("'", ""), " " * (len(string.punctuation) - 1))
HANGUL = re.compile("[가-힣]")
REPEATED = 3  # words: a caption repeats itself where a run of so many stands in it twice


def plain(text: str) -> str:
    """Lower case, one space between words, no punctuation but the apostrophe."""
    return " ".join(text.lower().translate(_MARKS).split())


def cider(predictions: list[str], references: list[list[str]]) -> list[float]:
    """CIDEr of each prediction, 0..10 (Vedantam et al. 2015), as COCO's caption evaluation computes it.

    The weights of n-grams come from the references given here, one document a photo: figures of other sets of photos
    do not compare, and a single photo always scores 0.
    """
    # pycocoevalcap is COCO's own code on PyPI. Its Cider is pure Python; only its tokenizer, METEOR and SPICE start
    # Java, and none of them is used. aac-metrics has the same formula, but pulls in three audio and text models.
    from pycocoevalcap.cider.cider import Cider

    asked = {number: [plain(text)] for number, text in enumerate(predictions)}
    known = {number: [plain(text) for text in texts] for number, texts in enumerate(references)}
    return [float(value) for value in Cider().compute_score(known, asked)[1]]


def distinct_shares(predictions: list[str]) -> list[float]:
    """For each caption, 1 / how many photos have the same; their mean is different captions / photos."""
    texts = [plain(text) for text in predictions]
    photos = Counter(texts)
    return [1 / photos[text] for text in texts]


def repeats(text: str) -> bool:
    """Whether a run of three words stands in it twice."""
    words = plain(text).split()
    runs = [tuple(words[i : i + REPEATED]) for i in range(len(words) - REPEATED + 1)]
    return len(set(runs)) < len(runs)


def rank(scores: list[float], right: int) -> float:
    """Place of `scores[right]`, 1 for the highest; equal scores share the mean of their places.

    Raises:
        UserError: a score is no number, so that no place is right.
    """
    if any(math.isnan(value) for value in scores):
        raise UserError(
            "the model gives NaN as a likelihood: its weights are damaged, or they overflow in half precision"
        )
    better = sum(value > scores[right] for value in scores)
    equal = sum(value == scores[right] for value in scores)
    return better + (equal + 1) / 2


def score(predictions: list[str], references: list[list[str]], bootstrap: int = 1000) -> dict:
    """All figures of captions, with 95 % bootstrap intervals over photos (`…_interval`).

    BLEU and ROUGE cut Korean into Kiwi's words, and other languages at spaces; `words_of` says which it was.
    """
    texts, known = [plain(text) for text in predictions], [[plain(text) for text in rows] for rows in references]
    lang = "ko" if any(HANGUL.search(text) for rows in known for text in rows) else "en"
    found: dict = {"words_of": lang}
    for name, more in (("bleu", {"lang": lang}), ("chrf", {}), ("rouge", {"lang": lang})):
        found |= metrics.load(name).compute(predictions=texts, references=known, bootstrap=bootstrap, **more)
    found |= with_interval("cider", cider(predictions, references), bootstrap)
    found |= with_interval("distinct_captions", distinct_shares(predictions), bootstrap)
    return found | with_interval("repetition", [float(repeats(text)) for text in predictions], bootstrap)
