"""The phrase bank in every language and style: what may be said of each thing and each feeling.

`things.<lang>.jsonl` holds, for every class, `says` (a sentence), `also` (after another thing), `calm` (beside a sad or
angry face), in Korean `link` (a clause before another sentence), in English `play` (`says` among close friends).
`feelings.<lang>.json` holds sentences by emotion, for `mixed` faces and `empty` lists, closing sentences and emoji.
All were written for this project (CC BY 4.0).
"""

import json
import re
from functools import lru_cache
from pathlib import Path

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
def raw_feelings(name: str) -> dict:
    """A file of feelings, "ko", "ko.casual" or "en"."""
    return json.loads((FOLDER / f"feelings.{name}.json").read_text("utf-8"))


@lru_cache
def things(lang: str, style: str) -> dict[str, dict[str, list[str]]]:
    """id -> its phrases in a style: `says`, `also`, `calm`, in Korean `link`.

    Korean casual phrases are the polite ones with other endings; a kind of phrase may be empty there.
    """
    if style == "polite":
        return raw_things(lang)
    if lang == "en":
        return {label: row | {"says": row["play"]} for label, row in raw_things("en").items()}
    turn = lambda part, phrases: phrases if part == "link" else [c for p in phrases if (c := casual(p))]
    return {label: {part: turn(part, row[part]) for part in row} for label, row in raw_things("ko").items()}


@lru_cache
def feelings(lang: str, style: str) -> dict:
    """Sentences by emotion, `mixed`, `empty`, `closers`, `calm_closers`, and `emoji` by mood, in a style."""
    if lang == "ko":
        return raw_feelings("ko" if style == "polite" else "ko.casual")
    raw = raw_feelings("en")
    wanted = {key for key in raw if not key.endswith("_casual")}
    return {key: raw.get(f"{key}_casual", raw[key]) if style == "casual" else raw[key] for key in wanted}
