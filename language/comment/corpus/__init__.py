"""What writers learn from: pairs written one by one, and pairs composed from the phrase bank.

    python -m language.comment.corpus check
    python -m language.comment.corpus build --out pairs.jsonl --count 60000 --lang en --style casual
    python -m language.comment.corpus stats pairs.jsonl

`wholes.<lang>.jsonl` holds whole comments for moments, scenes and frequent things (`language.comment.whole`),
`frames.<lang>.jsonl` such with a place for a thing's name (`language.comment.frames`);
`pairs.<lang>.jsonl` holds the written ones: {"elements": [ids], "comment", "style"}; `bank.py` describes the
bank. All was written for this project (CC BY 4.0).
"""

import json
import random
import re
from collections import Counter
from functools import lru_cache

from detection.labels import EMOTION_IDS, OBJECT_IDS, PLAIN_IDS
from language.comment.corpus.bank import FOLDER, LEAST, feelings, name_in, others, raw_others, raw_things, things
from language.comment.corpus.compose import compose, mood_of
from language.comment.whole import check_frames, check_wholes
from language.records import ElementList, Pair
from language.render import render_input
from language.rules import EMOJI, rules, violations

__all__ = [
    "build",
    "check",
    "compose",
    "feelings",
    "mood_of",
    "sample_list",
    "stats",
    "things",
    "written",
]

LANGUAGES, STYLES = ("ko", "en"), ("polite", "casual")


@lru_cache
def written(lang: str) -> tuple[Pair, ...]:
    """The pairs of a language that were written one by one."""
    rows = map(json.loads, (FOLDER / f"pairs.{lang}.jsonl").read_text("utf-8").splitlines())
    listed = lambda ids: render_input(ElementList.from_ids(ids, lang))
    return tuple(Pair(listed(row["elements"]), row["comment"], lang, row["style"]) for row in rows)


def sample_list(rng: random.Random, lang: str = "ko") -> ElementList:
    """A plausible element list: none to two feelings, none to six things.

    Half of the things are drawn evenly, half as often as they stand in the written pairs; six in a hundred are
    words that no class stands for.
    """
    emotions = [e for e in EMOTION_IDS if e != "neutral"]
    moods = rng.sample(emotions, rng.choices([0, 1, 2, 3], [45, 46, 8, 1])[0])
    count = rng.choices(range(7), [8, 32, 27, 16, 9, 5, 3] if moods else [2, 32, 30, 18, 10, 5, 3])[0]
    strange = raw_others(lang)["words"], rules()["tender"]["words"][lang]
    sources = rng.choices([_classes(), _common(), *strange], [47, 47, 5, 1], k=count)
    return ElementList.from_ids([*moods, *(rng.choice(source) for source in sources)], lang)


@lru_cache
def _classes() -> list[str]:
    return sorted(raw_things("ko"))


@lru_cache
def _common() -> list[str]:
    """Things as often as people's photos hold them: every mention in the written pairs."""
    elements = (ElementList.parse(p.elements, lang) for lang in LANGUAGES for p in written(lang))
    return [e.id for listed in elements for e in listed.of_kind("object")]


def build(count: int, seed: int = 0, lang: str = "ko", style: str = "polite") -> list[Pair]:
    """`count` distinct composed pairs that break no rule; deterministic by seed."""
    rng, pairs = random.Random(seed), {}
    while len(pairs) < count:
        elements = sample_list(rng, lang)
        text = compose(elements, rng, style)
        if not violations(text, elements, style):
            pairs[render_input(elements), text] = Pair(render_input(elements), text, lang, style)
    return list(pairs.values())


def check() -> list[str]:
    """Problems of the corpus: classes without phrases, too few of a kind, phrases and pairs that break a rule."""
    problems = []
    for lang in LANGUAGES:
        missing = {i for i in OBJECT_IDS if i not in PLAIN_IDS} - set(raw_things(lang))
        problems += [f"{lang}: {label} has no phrases" for label in sorted(missing)]
        for label, parts in raw_things(lang).items():
            problems += _check_thing(label, parts, lang)
        for style in STYLES:
            problems += [*_check_feelings(lang, style), *_check_others(lang, style)]
        problems += [*_check_written(lang), *check_wholes(lang), *check_frames(lang)]
    return problems


def _check_thing(label: str, parts: dict[str, list[str]], lang: str) -> list[str]:
    if label in PLAIN_IDS:
        return [f"{lang}: {label} makes no element, so it needs no phrases"]
    problems = [
        f"{lang}: {label} has {len(parts[part])} {part}, at least {least} needed"
        for part, least in LEAST[lang].items()
        if len(parts[part]) < least
    ]
    for part in parts:
        mood, style = "sad" if part == "calm" else "happy", "casual" if part == "play" else "polite"
        listed = ElementList.from_ids([mood, label], lang)
        if part == "link":  # half a sentence
            problems += [
                f"{label} link: {p!r} does not name it" for p in parts[part] if listed.elements[1].name not in p
            ]
            continue
        problems += [
            f"{lang}: {label} {part}: {phrase!r} breaks {broken}"
            for phrase in parts[part]
            if (broken := violations(f"{phrase}. 🌿", listed, style))
        ]
    return problems


def _check_feelings(lang: str, style: str) -> list[str]:
    return [
        f"{lang} {style}: {mood}: {phrase!r} breaks {broken}"
        for mood in ("happy", "sad", "anger", "panic")
        for phrase in feelings(lang, style)[mood]
        if (broken := violations(f"{phrase}. 🌿", ElementList.from_ids([mood], lang), style))
    ]


def _check_others(lang: str, style: str) -> list[str]:
    """Every general phrase with every word, in both moods."""
    row, problems = others(lang, style), []
    for part in ("says", "also", "calm"):
        for phrase in row[part]:
            for word in row["words"]:
                listed = ElementList.from_ids(["sad" if part == "calm" else "happy", word], lang)
                text = name_in(phrase, word)
                if broken := violations(f"{text}. 🌿", listed, style):
                    problems.append(f"{lang} {style}: {text!r} breaks {broken}")
    return problems


def _check_written(lang: str) -> list[str]:
    texts = Counter(pair.comment for pair in written(lang))
    problems = [f"{lang}: written {count} times: {text!r}" for text, count in texts.items() if count > 1]
    return problems + [
        f"{lang}: {pair.elements} -> {pair.comment!r} breaks {broken}"
        for pair in written(lang)
        if (broken := violations(pair.comment, ElementList.parse(pair.elements, lang), pair.style))
    ]


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
