"""Whole comments, written by hand for moments, scenes, things and feelings: the writer "bank", and what speaks where a
list is led by something that the other writers have not learned.

`corpus/wholes.<lang>.jsonl` holds {"id", "style", "mood", "with": [ids], "text", "says"} (CC BY 4.0); the lines without
an id are for the list without any element, and guess nothing. A thing is also spoken of by the frames of its group.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

from common.files import read_jsonl
from detection.labels import KNOWN_IDS, OBJECT_IDS, PLAIN_IDS, THING_IDS, load_pack
from language.comment.frames import (
    ANYTHING,
    FOLDER,
    PLACE,
    VERBS,
    fill,
    frames,
    groups,
    side_things,
    written_for,
)
from language.memory import opening
from language.records import Element, ElementList, find_evidence
from language.rules import is_tender, tender_emotions, violations

# How often the first thing, the feelings alone, the second and the third thing come first.
BESIDE_FEELINGS = (0.62, 0.12, 0.18, 0.08)
JOY_UNSAID = 0.1  # of the comments on happy faces that may leave them out: readers miss the joy there


@lru_cache
def wholes(lang: str, style: str) -> dict[str, list[dict]]:
    """Id -> the lines that speak of it in a style, alone or with others."""
    found = defaultdict(list)
    for row in read_jsonl(FOLDER / f"wholes.{lang}.jsonl"):
        if row["style"] == style:
            for label in (row["id"], *row["with"]):
                found[label].append(row)
    return dict(found)


@lru_cache
def belonging(lang: str, style: str) -> frozenset[frozenset[str]]:
    """Pairs of ids of which some line speaks together."""
    rows = {(row["id"], *row["with"]) for found in wholes(lang, style).values() for row in found}
    return frozenset(frozenset(pair) for ids in rows for pair in combinations(filter(None, ids), 2))


def moods_of(elements: ElementList) -> tuple[str, ...]:
    """The moods that fit a list, the fitting one first."""
    feelings = {e.id for e in elements.of_kind("emotion")}
    if is_tender(elements):
        return ("tender",)
    if not feelings:
        return ("any",)
    if feelings == {"happy"}:
        return ("joy", "any")
    if feelings & tender_emotions():
        return ("tender",) if feelings <= tender_emotions() else ("mixed", "tender")
    return ("startled", "any") if feelings == {"panic"} else ("mixed", "any")


def thoughts(elements: ElementList) -> list[Element | None]:
    """What comments on a list may be about, the fittest first; None stands for the feelings, or for just a photo.

    The first moment, thing or scene leads, unless faces show a feeling and it is a side thing; then come the next ones
    and the feelings alone.
    """
    feelings, others = elements.of_kind("emotion"), [e for e in elements if e.kind != "emotion"]
    told = [e for e in others if e.id not in side_things()]
    if feelings:
        return [*told[:1], None, *told[1:3]]
    return [*told, *(e for e in others if e not in told)][:3] or [None]


def in_turn(elements: ElementList, rng: random.Random) -> list[Element | None]:
    """The thoughts in the order in which they are spoken.

    Beside faces that show a feeling no thing is much more worth a word than the next, so one is drawn; a moment or a
    scene, and what a list without feelings is about, keep their place.
    """
    leads = thoughts(elements)
    if None in leads and leads[0] is not None and leads[0].kind == "object":
        first = rng.choices(leads, BESIDE_FEELINGS[: len(leads)])[0]
        leads.remove(first)
        leads.insert(0, first)
    return leads


def lines(elements: ElementList, lead: Element | None, style: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Lines about `lead`, or about the feelings where there is none, that are true for a list and keep the rules, in a
    drawn order: those of the fitting mood, and those that bring in something else of the list, come first. Each as it
    stands in the corpus, and with the name in its place."""
    ids, moods = {"", *(e.id for e in elements)}, moods_of(elements)
    if not lead and elements:  # what is said of just a photo passes feelings over
        moods = tuple(mood for mood in moods if mood != "any")
    rows = [*wholes(elements.lang, style).get(lead.id if lead else "", []), *_framed(elements.lang, style, lead)]
    # a friend may also speak of the cake alone, but seldom; startled or sad faces are not passed over
    loose = moods[:1] == ("joy",)
    mood = lambda row: 0 if loose and rng.random() < JOY_UNSAID else moods.index(row["mood"])
    place = lambda row: (mood(row), not row["with"] and rng.random() < 0.7)
    fitting = [row for row in rows if row["mood"] in moods and {row["id"], *row["with"]} <= ids]
    for *_, row in sorted((place(row), rng.random(), n, row) for n, row in enumerate(fitting)):
        text = _text(row, lead, elements.lang)
        if not violations(text, elements, style):
            yield row["text"], text


def unfitting(elements: ElementList, style: str) -> set[str]:
    """Texts that speak of what a list holds, but were written for other moods."""
    moods, rows = moods_of(elements), []
    for element in [None, *(e for e in elements if e.kind != "emotion")]:
        own = wholes(elements.lang, style).get(element.id if element else "", [])
        rows += [(row, element) for row in (*own, *_framed(elements.lang, style, element)) if row["mood"] not in moods]
    return {_text(row, element, elements.lang) for row, element in rows}


def of_another_thing(text: str, elements: ElementList, style: str) -> bool:
    """Whether a frame that was written for things of other groups is said of one of these."""
    for span in find_evidence(text, elements):
        names = written_for(text, span, elements.lang, style)
        if names and groups().get(span.element, ANYTHING) not in names:
            return True
    return False


def _text(row: dict, about: Element | None, lang: str) -> str:
    """A line, or a frame with the name of what it is about."""
    return fill(row["text"], about.id, about.name, lang) if "group" in row else row["text"]


def choose(elements: ElementList, style: str, count: int, rng: random.Random, repeats) -> list[tuple[str, float]]:
    """Up to `count` comments, each a thought of its own where the list has as many, and the log probability with which
    each was drawn from the lines about its thought.

    Args:
        repeats: text -> how much of it was said lately.
    """
    about = [[text for _, text in lines(elements, lead, style, rng)] for lead in in_turn(elements, rng)]
    about = [(sorted(texts, key=repeats), -math.log(len(texts))) for texts in about if texts]
    found: dict[str, tuple[str, float]] = {}
    for turn in range(max((len(texts) for texts, _ in about), default=0)):
        for texts, chance in about:
            if turn < len(texts) and len(found) < count:
                found.setdefault(opening(texts[turn]), (texts[turn], round(chance, 4)))
    return list(found.values())


def _framed(lang: str, style: str, lead: Element | None) -> list[dict]:
    """The frames of a thing's group, about it; those of any thing for what no class stands for."""
    if not lead:
        return []
    group = groups().get(lead.id) if lead.id in KNOWN_IDS else ANYTHING
    return [{**row, "id": lead.id, "with": []} for row in frames(lang, style).get(group, [])]


STRANGERS = {
    "ko": ["벚꽃길", "라면", "도시락"],
    "en": ["lavender field", "ramen", "paper boat"],
}  # no class is called so
MOOD_LISTS = {"any": [], "joy": ["happy"], "startled": ["panic"], "tender": ["sad"], "mixed": ["happy", "sad"]}


def check_wholes(lang: str) -> list[str]:
    """Problems of a language's lines: unknown ids, texts said twice, `says` that is not in the text, rules broken."""
    problems, texts = [], set()
    for style in ("polite", "casual"):
        for row in (row for label, rows in wholes(lang, style).items() for row in rows if row["id"] == label):
            text, ids = row["text"], [i for i in (row["id"], *row["with"]) if i]
            wrong = [f"{i!r} is no id" for i in ids if i not in KNOWN_IDS]
            wrong += ["its `says` is not in it"] * (row["says"] not in text)
            wrong += ["stands there twice"] * (text in texts)
            listed = ElementList.from_ids([*MOOD_LISTS[row["mood"]], *ids], lang)
            wrong += [f"breaks {rule}" for rule in violations(text, listed, style)]
            texts.add(text)
            problems += [f"{lang}: {text!r}: {problem}" for problem in wrong]
    return problems


def check_frames(lang: str) -> list[str]:
    """Problems of a language's frames: a place too many or too few, a rule broken with one of the group's things."""
    names, members, problems = load_pack(lang), defaultdict(list), []
    for label, group in groups().items():
        members[group].append(label)
    members[ANYTHING] = STRANGERS[lang]
    problems += [f"groups.json: {label!r} is no id" for label in groups() if label not in KNOWN_IDS]
    things = {*OBJECT_IDS, *THING_IDS} - PLAIN_IDS
    problems += [f"groups.json: {label!r} is in no group" for label in sorted(things - groups().keys())]
    for style in ("polite", "casual"):
        for row in (row for rows in frames(lang, style).values() for row in rows):
            text, places = row["text"], [p for p in PLACE.findall(row["text"]) if p not in VERBS]
            if row["group"] not in members or len(places) != 1:
                problems.append(f"{lang}: {text!r}: its group {row['group']!r} or its places {places} are wrong")
                continue
            for label in members[row["group"]]:
                listed = ElementList.from_ids([*MOOD_LISTS[row["mood"]], label], lang)
                broken = violations(fill(text, label, names.name(label), lang), listed, style)
                problems += [f"{lang}: {text!r} with {label}: breaks {rule}" for rule in broken]
    return problems
