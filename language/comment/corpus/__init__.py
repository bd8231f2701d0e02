"""The phrase bank and the pairs composed from it.

    python -m language.comment.corpus check
    python -m language.comment.corpus build --out pairs.jsonl --count 60000

`things.ko.jsonl` holds, for every class, sentences that say something about it; `feelings.ko.json` those about
faces. All were written for this project (CC BY 4.0). `compose` joins them into pairs, deterministically by seed.
"""

import json
import random
from functools import lru_cache
from pathlib import Path

from detection.labels import EMOTION_IDS, PLAIN_IDS
from language.records import EMPTY, ElementList, Pair
from language.render import SEPARATOR, render_input
from language.rules import tender_emotions, violations

FOLDER = Path(__file__).parent
PARTS = {"says": 5, "also": 3, "link": 2, "calm": 2}  # the kinds of phrases a thing has, and the least of each


@lru_cache
def things() -> dict[str, dict[str, list[str]]]:
    """id -> its phrases: `says` (a sentence), `also` (after another thing), `link` (a clause before another
    sentence) and `calm` (beside a sad or angry face)."""
    lines = (FOLDER / "things.ko.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: {part: row[part] for part in PARTS} for row in map(json.loads, lines)}


@lru_cache
def feelings() -> dict:
    """Sentences by emotion, for `mixed` faces and for `empty` lists, closing sentences and emoji."""
    return json.loads((FOLDER / "feelings.ko.json").read_text("utf-8"))


def compose(elements: ElementList, rng: random.Random) -> str:
    """One comment for an element list, from the phrase bank."""
    moods = [e.id for e in elements.of_kind("emotion")]
    objects = [e.id for e in elements.of_kind("object") if e.id in things()]
    mood = mood_of(moods)
    sentences = _tender(mood, objects, rng) if mood in tender_emotions() else _bright(mood, objects, rng)
    return _punctuate(sentences, mood, rng)


def mood_of(moods: list[str]) -> str:
    """The tone of a comment: the one feeling, "mixed" for several that differ, "plain" for none.

    Sad and angry faces together stay tender.
    """
    if not moods:
        return "plain"
    if set(moods) <= tender_emotions():
        return moods[0]
    return moods[0] if len(set(moods)) == 1 else "mixed"


def _bright(mood: str, objects: list[str], rng: random.Random) -> list[str]:
    feel, bank = feelings(), things()
    first = rng.choice(objects[:3]) if len(objects) > 1 and rng.random() < 0.3 else (objects or [""])[0]
    second = rng.choice([o for o in objects[:4] if o != first] or [""])
    opening = rng.choice(feel["empty"] if mood == "plain" else feel[mood])
    if not objects:
        return _then(opening, rng.choice(feel["closers"]), 0.55, rng)
    said = rng.choice(bank[first]["says"])
    if second and rng.random() < 0.6:
        joined = f"{rng.choice(bank[first]['link'])} {rng.choice(bank[second]['also'])}"
        pair = [joined] if rng.random() < 0.5 else [said, rng.choice(bank[second]["also"])]
        if mood == "plain":
            return pair if len(pair) == 2 else _then(joined, rng.choice(feel["closers"]), 0.4, rng)
        return [opening, joined] if rng.random() < 0.7 else [joined, opening]
    if mood == "plain":
        return _then(said, rng.choice(feel["closers"]), 0.6, rng)
    after = rng.choice(bank[first]["also"]) if rng.random() < 0.4 else said
    return [opening, after] if rng.random() < 0.7 else [said, opening]


def _tender(mood: str, objects: list[str], rng: random.Random) -> list[str]:
    feel, bank = feelings(), things()
    opening = rng.choice(feel[mood])
    if not objects:
        return _then(opening, rng.choice(feel["calm_closers"]), 0.6, rng)
    calm = rng.choice(bank[objects[0] if rng.random() < 0.8 else rng.choice(objects[:3])]["calm"])
    if rng.random() < 0.25:
        return [calm, rng.choice(feel["calm_closers"])]
    return [opening, calm] if rng.random() < 0.75 else [calm, opening]


def _then(first: str, second: str, chance: float, rng: random.Random) -> list[str]:
    return [first, second] if rng.random() < chance else [first]


def _punctuate(sentences: list[str], mood: str, rng: random.Random) -> str:
    ends = [".", "…", "."] if mood in tender_emotions() else ["!", ".", "~", "!"]
    emoji = rng.sample(feelings()["emoji"][mood], 2 if rng.random() < 0.15 else 1)
    if len(sentences) == 2 and rng.random() < 0.12:
        return f"{sentences[0]}{rng.choice(ends)} {emoji[0]} {sentences[1]}{rng.choice(ends)}"
    text = " ".join(s + rng.choice(ends) for s in sentences[:-1])
    last = sentences[-1] + rng.choice([*ends[:2], ""])
    return f"{text} {last} {''.join(emoji)}".strip()


def sample_list(rng: random.Random, classes: list[str]) -> ElementList:
    """A plausible element list: none to two feelings, none to six things."""
    emotions = [e for e in EMOTION_IDS if e != "neutral"]
    moods = rng.sample(emotions, rng.choices([0, 1, 2, 3], [45, 46, 8, 1])[0])
    objects = rng.sample(
        classes, rng.choices(range(7), [8, 32, 27, 16, 9, 5, 3] if moods else [2, 32, 30, 18, 10, 5, 3])[0]
    )
    return ElementList.from_ids([*moods, *objects])


def build(count: int, seed: int = 0) -> list[Pair]:
    """`count` distinct pairs that break no rule; deterministic by seed."""
    rng, classes, pairs = random.Random(seed), sorted(things()), {}
    while len(pairs) < count:
        elements = sample_list(rng, classes)
        text = compose(elements, rng)
        if not violations(text, elements):
            pairs[render_input(elements), text] = Pair(render_input(elements), text)
    return list(pairs.values())


def split_by_elements(pairs: list[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; no element set stands in both, and the empty one is never held out."""
    group = lambda pair: frozenset(pair.elements.split(SEPARATOR))
    groups = sorted({group(p) for p in pairs} - {frozenset([name]) for name in EMPTY.values()}, key=sorted)
    held = set(random.Random(seed).sample(groups, round(len(groups) * share)))
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        parts[group(pair) in held].append(pair)
    return parts


def check() -> list[str]:
    """Problems of the phrase bank: classes without phrases, too few of a kind, phrases that break a rule."""
    problems = []
    for label, parts in things().items():
        if label in PLAIN_IDS:
            problems.append(f"{label}: makes no element, so it needs no phrases")
            continue
        elements = ElementList.from_ids([label])
        problems += [
            f"{label}: {len(parts[part])} {part}, at least {least} needed"
            for part, least in PARTS.items()
            if len(parts[part]) < least
        ]
        for part in ("says", "also", "calm"):
            mood = ["sad"] if part == "calm" else ["happy"]
            listed = ElementList.from_ids([*mood, label])
            problems += [
                f"{label} {part}: {phrase!r} breaks {broken}"
                for phrase in parts[part]
                if (broken := violations(f"{phrase}. 😊", listed))
            ]
        problems += [
            f"{label} link: {phrase!r} does not name it"
            for phrase in parts["link"]
            if elements.elements[0].name not in phrase
        ]
    for mood in ("happy", "sad", "anger", "panic"):
        listed = ElementList.from_ids([mood])
        problems += [
            f"{mood}: {phrase!r} breaks {broken}"
            for phrase in feelings()[mood]
            if (broken := violations(f"{phrase}. 😊", listed))
        ]
    return problems
