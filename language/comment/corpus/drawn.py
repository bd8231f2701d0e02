"""Training pairs drawn from the whole comments: an element list, and a comment written by hand that is true for it.

Half of the pairs begin with a line, so that each is learned: its own elements, and what photos hold beside them. The
others begin with a list, of a photo or drawn.
"""

import random
import zlib
from collections.abc import Iterator
from functools import lru_cache

from common.files import read_jsonl
from detection.labels import EMOTION_IDS, OBJECT_IDS, PLAIN_IDS
from language.comment.frames import ANYTHING, FOLDER, fill, frames, groups
from language.comment.whole import MOOD_LISTS, lines, moods_of, thoughts, wholes
from language.records import Element, ElementList
from language.rules import rules, violations

HELD_OUT = 50  # one line of so many is held out: no pair with it is learned
FEELINGS = tuple(e for e in EMOTION_IDS if e != "neutral")
TENDER = (["sad"], ["sad"], ["anger"], ["sad", "anger"])
LEAD = (0.75, 0.13, 0.08, 0.04)  # how often a comment is about the fittest thought for a list, the second, …


def is_held_out(line: str) -> bool:
    """Whether a line of the corpus, its place for a name unfilled, is kept from training."""
    return zlib.crc32(line.encode()) % HELD_OUT == 0


@lru_cache
def photo_lists() -> tuple[tuple[str, ...], ...]:
    """Ids of what the product saw in training photos, a list a photo, no list twice."""
    return tuple(map(tuple, read_jsonl(FOLDER / "lists.jsonl")))


def sample_list(rng: random.Random, lang: str) -> ElementList:
    """A plausible element list: that of a photo, or none to three feelings and none to six things of any class."""
    if rng.random() < 0.5:
        ids = [i for i in rng.choice(photo_lists()) if i not in FEELINGS]
        return ElementList.from_ids([*_feelings(rng), *ids], lang)
    moods = _feelings(rng)
    count = rng.choices(range(7), [8, 32, 27, 16, 9, 5, 3] if moods else [2, 32, 30, 18, 10, 5, 3])[0]
    tender = rules()["tender"]["words"][lang]
    sources = rng.choices([_classes(), _seen(), tender], [47, 52, 1], k=count)
    return ElementList.from_ids([*moods, *(rng.choice(source) for source in sources)], lang)


def _feelings(rng: random.Random) -> list[str]:
    return rng.sample(FEELINGS, rng.choices([0, 1, 2, 3], [45, 46, 8, 1])[0])


@lru_cache
def _classes() -> tuple[str, ...]:
    return tuple(i for i in OBJECT_IDS if i not in PLAIN_IDS)


@lru_cache
def _seen() -> tuple[str, ...]:
    """What photos hold, as often as they hold it."""
    return tuple(i for ids in photo_lists() for i in ids if i not in FEELINGS)


def every_line(lang: str, style: str) -> Iterator[tuple[ElementList, str]]:
    """Each line that is learned with what it speaks of, and each frame with each thing of its group."""
    members = {}
    for label, group in groups().items():
        members.setdefault(group, []).append(label)
    for label, rows in wholes(lang, style).items():
        for row in rows:
            if row["id"] == label and not is_held_out(row["text"]):
                ids = [i for i in (row["id"], *row["with"]) if i]
                yield ElementList.from_ids([*MOOD_LISTS[row["mood"]], *ids], lang), row["text"]
    for group, rows in frames(lang, style).items():
        for row in (row for row in rows if not is_held_out(row["text"])):
            for label in members.get(group, ()):
                elements = ElementList.from_ids([*MOOD_LISTS[row["mood"]], label], lang)
                name = next(e.name for e in elements if e.id == label)
                yield elements, fill(row["text"], label, name, lang)


def pairs_about_lines(rng: random.Random, lang: str, style: str, held_out: bool) -> Iterator[tuple[ElementList, str]]:
    """Pairs that begin with a line, drawn evenly, without end."""
    own = [row for label, rows in wholes(lang, style).items() for row in rows if row["id"] == label]
    own += [row for group, rows in frames(lang, style).items() for row in rows if group != ANYTHING]
    own = [row for row in own if is_held_out(row["text"]) == held_out]
    members = {}
    for label, group in groups().items():
        members.setdefault(group, []).append(label)
    while True:
        row = rng.choice(own)
        label = rng.choice(members[row["group"]]) if "group" in row else row["id"]
        elements = _list_about(label, row, rng, lang)
        text = row["text"]
        if "group" in row:
            text = fill(text, label, next(e.name for e in elements if e.id == label), lang)
        if not violations(text, elements, style):
            yield elements, text


def _list_about(label: str, row: dict, rng: random.Random, lang: str) -> ElementList:
    """A list that a line about `label` fits: its feelings and elements, and up to three more of some photo."""
    with_it = row.get("with", ())
    moods = [i for i in with_it if i in FEELINGS] or _moods(row["mood"], bool(label), rng)
    own = [i for i in (label, *with_it) if i and i not in moods]
    photo = [i for i in rng.choice(photo_lists()) if i not in FEELINGS and i not in own]
    more = photo[: rng.choices(range(4), [4, 3, 2, 1])[0]] if label or moods else []
    rest = [*own[1:], *more]
    rng.shuffle(rest)
    return ElementList.from_ids([*moods, *own[:1], *rest], lang)


def _moods(mood: str, about_something: bool, rng: random.Random) -> list[str]:
    """Feelings that a line of a mood fits; one of any mood goes with joy, too, or with startled faces."""
    if mood == "any" and about_something and rng.random() < 0.3:
        return ["happy"] if rng.random() < 0.8 else ["panic"]
    if mood == "tender":
        return rng.choice(TENDER)
    return rng.sample(FEELINGS, 2) if mood == "mixed" else MOOD_LISTS[mood]


def pairs_about_lists(rng: random.Random, lang: str, style: str, held_out: bool) -> Iterator[tuple[ElementList, str]]:
    """Pairs that begin with a list, without end."""
    while True:
        elements = sample_list(rng, lang)
        leads = thoughts(elements)
        lead: Element | None = rng.choices(leads, LEAD[: len(leads)])[0]
        fitting = (text for raw, text in lines(elements, lead, style, rng) if is_held_out(raw) == held_out)
        if (text := next(fitting, None)) is not None and moods_of(elements):
            yield elements, text
