"""What writers learn from: whole comments, written for this project one by one (CC BY 4.0).

    python -m language.comment.corpus check
    python -m language.comment.corpus build --out pairs.jsonl --count 60000 --lang en --style casual
    python -m language.comment.corpus stats pairs.jsonl

`wholes.<lang>.jsonl` holds comments on moments, scenes, things, what belongs together, and feelings
(`language.comment.whole`); `frames.<lang>.jsonl` such with a place for a thing's name (`language.comment.frames`);
`lists.jsonl` what the product saw in training photos. `drawn.py` draws training pairs from them.
"""

import random
import re
from collections import Counter, defaultdict

from language.comment.corpus.drawn import every_line, pairs_about_lines, pairs_about_lists, sample_list
from language.comment.frames import frames
from language.comment.whole import check_frames, check_wholes, wholes
from language.records import Pair
from language.render import render_input
from language.rules import EMOJI, sentences

__all__ = ["LANGUAGES", "STYLES", "build", "check", "every_line", "sample_list", "stats"]

LANGUAGES, STYLES = ("ko", "en"), ("polite", "casual")
SHORT = 12  # characters of a sentence that may stand in several lines


def build(count: int, seed: int = 0, lang: str = "ko", style: str = "polite", held_out: bool = False) -> list[Pair]:
    """`count` distinct pairs with whole comments that break no rule; deterministic by seed.

    Args:
        held_out: of the lines that no training pair holds.
    """
    rng, pairs = random.Random(seed), {}
    sources = [about(rng, lang, style, held_out) for about in (pairs_about_lines, pairs_about_lists)]
    while len(pairs) < count:
        elements, text = next(rng.choice(sources))
        pairs[render_input(elements), text] = Pair(render_input(elements), text, lang, style)
    return list(pairs.values())


def check() -> list[str]:
    """Problems of the corpus: lines and frames that break a rule, stand twice, or speak of what there is not."""
    checks = (check_wholes, check_frames, said_twice)
    return [problem for lang in LANGUAGES for check_it in checks for problem in check_it(lang)]


def said_twice(lang: str) -> list[str]:
    """Sentences of more than a few words that stand in more than one line or frame of a language."""
    lines: dict[str, set[str]] = defaultdict(set)
    for style in STYLES:
        for rows in (*wholes(lang, style).values(), *frames(lang, style).values()):
            for text in (row["text"] for row in rows):
                for sentence in sentences(text):
                    lines[sentence].add(text)
    often = [sentence for sentence, texts in lines.items() if len(sentence) > SHORT and len(texts) > 1]
    return [f"{lang}: {sentence!r} stands in {len(lines[sentence])} lines" for sentence in often]


def stats(pairs: list[Pair]) -> dict:
    """How varied pairs are: shares of different comments and openings, the commonest openings, endings and emoji, and
    the share of different word pairs and triples among all."""
    texts = [pair.comment for pair in pairs]
    words = [EMOJI.sub(" ", text).split() for text in texts]
    opening = Counter(" ".join(w[:3]) for w in words)
    ending = Counter(re.sub(r"[.!~… ]+$", "", w[-1])[-2:] for w in words if w)
    grams = lambda n: [tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)]
    distinct = lambda items: round(len(set(items)) / max(1, len(items)), 4)
    return {
        "pairs": len(pairs),
        "lists": len({pair.elements for pair in pairs}),
        "distinct_comments": distinct(texts),
        "distinct_openings": distinct(list(opening.elements())),
        "openings": opening.most_common(10),
        "endings": ending.most_common(10),
        "emoji": Counter(e for text in texts for e in EMOJI.findall(text)).most_common(10),
        "distinct_2": distinct(grams(2)),
        "distinct_3": distinct(grams(3)),
    }
