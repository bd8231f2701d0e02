"""The phrase bank in every language and style: what may be said of each thing and each feeling.

`things.<lang>.jsonl` holds, for every class, `says` (a sentence), `also` (after another thing), `calm` (beside a sad or
angry face), in Korean `link` (a clause before another sentence), in English `play` (`says` among close friends).
`others.<lang>.json` holds the same for things that no class stands for, with a place for the name, and such
things' names.
`feelings.<lang>.json` holds sentences by emotion, for `mixed` faces and `empty` lists, closing sentences and emoji.
All were written for this project (CC BY 4.0).
"""

import json
import re
from functools import lru_cache
from pathlib import Path

from language.comment.frames import with_particle

FOLDER = Path(__file__).parent
LEAST = {"ko": {"says": 5, "also": 3, "link": 2, "calm": 2}, "en": {"says": 4, "also": 2, "calm": 2, "play": 3}}
# Polite endings and what close friends say instead; None: the sentence has no casual twin. The first match counts.
CASUAL_ENDINGS = (
    (r"니다$|셔요$", None),
    (r"주세요$", "줘"),
    (r"보세요$", "봐"),
    (r"드세요$", "먹어"),
    (r"세요$", None),
    (r"(?<=[가-힣])이에요$", "이야"),
    (r"(예요|에요)$", "야"),
    (r"군요$", "구나"),
    (r"죠$", "지"),
    (r"(?<=[가-힣])요$", ""),
)
# The speaker's own words, polite and among friends
CASUAL_WORDS = (
    ("저도", "나도"),
    ("제가", "내가"),
    ("저까지", "나까지"),
    ("저는", "나는"),
    ("저한테", "나한테"),
    ("저만", "나만"),
    ("제", "내"),
)


def casual(sentence: str) -> str | None:
    """A polite Korean sentence as close friends say it; None where a change of its ending is not enough."""
    for polite, friendly in CASUAL_WORDS:
        sentence = re.sub(rf"(?<![가-힣]){polite}(?![가-힣])", friendly, sentence)
    for ending, friendly in CASUAL_ENDINGS:
        if re.search(ending, sentence):
            return None if friendly is None else re.sub(ending, friendly, sentence)
    return None


@lru_cache
def raw_things(lang: str) -> dict[str, dict[str, list[str]]]:
    """id -> its phrases as they stand in the file."""
    lines = (FOLDER / f"things.{lang}.jsonl").read_text("utf-8").splitlines()
    return {row.pop("id"): row for row in map(json.loads, lines)}


@lru_cache
def raw_others(lang: str) -> dict[str, list[str]]:
    """Phrases for any thing, `{}` or `{이/가}` in the name's place, and `words` that no class stands for."""
    return json.loads((FOLDER / f"others.{lang}.json").read_text("utf-8"))


@lru_cache
def raw_feelings(name: str) -> dict:
    """A file of feelings, "ko", "ko.casual" or "en"."""
    return json.loads((FOLDER / f"feelings.{name}.json").read_text("utf-8"))


@lru_cache
def things(lang: str, style: str) -> dict[str, dict[str, list[str]]]:
    """id -> its phrases in a style: `says`, `also`, `calm`, in Korean `link`.

    Korean casual phrases are the polite ones with other endings; a kind of phrase may be empty there.
    """
    return {label: _in_style(row, lang, style) for label, row in raw_things(lang).items()}


@lru_cache
def others(lang: str, style: str) -> dict[str, list[str]]:
    """The same for things that no class stands for; `name_in` puts the name in."""
    return _in_style(raw_others(lang), lang, style)


def _in_style(row: dict[str, list[str]], lang: str, style: str) -> dict[str, list[str]]:
    if style == "polite":
        return row
    if lang == "en":
        return row | {"says": row["play"]}
    turn = lambda phrases: [c for p in phrases if (c := casual(p))]
    return {part: phrases if part in ("link", "words") else turn(phrases) for part, phrases in row.items()}


def name_in(phrase: str, name: str) -> str:
    """Put a name in its place, with the particle that fits: `{이/가} 보여요` -> `벚꽃이 보여요`."""
    return re.sub(r"\{(.*?)\}", lambda match: with_particle(name, match[1]), phrase)


@lru_cache
def feelings(lang: str, style: str) -> dict:
    """Sentences by emotion, `mixed`, `empty`, `closers`, `calm_closers`, and `emoji` by mood, in a style."""
    if lang == "ko":
        return raw_feelings("ko" if style == "polite" else "ko.casual")
    raw = raw_feelings("en")
    wanted = {key for key in raw if not key.endswith("_casual")}
    return {key: raw.get(f"{key}_casual", raw[key]) if style == "casual" else raw[key] for key in wanted}
