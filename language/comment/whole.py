"""Whole comments, written by hand for moments, scenes and things: what speaks where a list is led by something that the
writers have not learned.

`corpus/wholes.<lang>.jsonl` holds {"id", "style", "mood", "with": [ids], "text", "says"} (CC BY 4.0); the lines without
an id are for the list without any element, and guess nothing.
"""

import json
import random
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from detection.labels import KNOWN_IDS
from language.records import Element, ElementList
from language.rules import is_tender, tender_emotions, violations

FOLDER = Path(__file__).with_name("corpus")


@lru_cache
def wholes(lang: str, style: str) -> dict[str, list[dict]]:
    """Id -> the lines that speak of it in a style."""
    found = defaultdict(list)
    with (FOLDER / f"wholes.{lang}.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["style"] == style:
                found[row["id"]].append(row)
    return dict(found)


def moods_of(elements: ElementList) -> tuple[str, ...]:
    """The moods that fit a list, the fitting one first."""
    feelings = {e.id for e in elements.of_kind("emotion")}
    if is_tender(elements):
        return ("tender",)
    if not feelings:
        return ("any",)
    if feelings == {"happy"}:
        return ("joy", "any")
    if feelings == {"panic"}:
        return ("startled",)
    return ("tender",) if feelings <= tender_emotions() else ("mixed",)


def whole_comments(elements: ElementList, lead: Element | None, style: str, rng: random.Random) -> list[str]:
    """Lines about `lead`, or about nothing where there is none, that are true for a list and keep the rules, in a drawn
    order: those of the fitting mood, and those that bring in something else of the list, come first."""
    ids, moods = {e.id for e in elements}, moods_of(elements)
    rows = [
        row
        for row in wholes(elements.lang, style).get(lead.id if lead else "", [])
        if row["mood"] in moods and set(row["with"]) <= ids and not violations(row["text"], elements, style)
    ]
    place = lambda row: (moods.index(row["mood"]) if rng.random() < 0.7 else 0, not row["with"] and rng.random() < 0.7)
    keyed = [(place(row), rng.random(), row["text"]) for row in rows]
    return [text for *_, text in sorted(keyed)]


MOOD_LISTS = {"any": [], "joy": ["happy"], "startled": ["panic"], "tender": ["sad"], "mixed": ["happy", "sad"]}


def check_wholes(lang: str) -> list[str]:
    """Problems of a language's lines: unknown ids, texts said twice, `says` that is not in the text, rules broken."""
    problems, texts = [], set()
    for style in ("polite", "casual"):
        for row in (row for rows in wholes(lang, style).values() for row in rows):
            text, ids = row["text"], [i for i in (row["id"], *row["with"]) if i]
            wrong = [f"{i!r} is no id" for i in ids if i not in KNOWN_IDS]
            wrong += ["its `says` is not in it"] * (row["says"] not in text)
            wrong += ["stands there twice"] * (text in texts)
            listed = ElementList.from_ids([*MOOD_LISTS[row["mood"]], *ids], lang)
            wrong += [f"breaks {rule}" for rule in violations(text, listed, style)]
            texts.add(text)
            problems += [f"{lang}: {text!r}: {problem}" for problem in wrong]
    return problems
