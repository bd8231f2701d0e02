"""Comments composed from the phrase bank: most of what writers learn from, and what speaks when they cannot."""

import random

from language.comment.corpus.bank import feelings, name_in, others, things
from language.records import Element, ElementList
from language.rules import is_tender, tender_emotions

# What people put before a sentence when something catches their eye; the same sentence begins differently each time.
INTERJECTIONS = {
    ("ko", "polite"): [
        "와,",
        "우와,",
        "어머,",
        "오,",
        "아,",
        "이야,",
        "세상에,",
        "어쩜,",
        "역시",
        "진짜",
        "앗,",
        "캬,",
    ],
    ("ko", "casual"): ["와,", "야,", "오,", "헐,", "아,", "이야,", "진짜", "역시", "어머,", "캬,"],
    ("en", "polite"): ["Oh,", "Ah,", "My,", "Well,", "Honestly,", "Goodness,", "Look,"],
    ("en", "casual"): ["Ha,", "Okay,", "Dude,", "Wow,", "Yes,", "Honestly,", "Look,"],
}


def compose(elements: ElementList, rng: random.Random, style: str = "polite") -> str:
    """One comment for an element list, from the phrase bank of its language."""
    return Composer(elements.lang, style, rng).compose(elements)


def mood_of(moods: list[str]) -> str:
    """The tone of a comment: the one feeling, "mixed" for several that differ, "plain" for none.

    Sad and angry faces together stay tender.
    """
    if not moods:
        return "plain"
    if set(moods) <= tender_emotions():
        return moods[0]
    return moods[0] if len(set(moods)) == 1 else "mixed"


class Composer:
    """Draws and joins phrases of one language and style."""

    def __init__(self, lang: str, style: str, rng: random.Random):
        self.lang, self.rng = lang, rng
        self.bank, self.others, self.feel = things(lang, style), others(lang, style), feelings(lang, style)
        self.interjections = INTERJECTIONS[lang, style]

    def compose(self, elements: ElementList) -> str:
        """One comment, of things the bank does not know in general words."""
        mood = mood_of([e.id for e in elements.of_kind("emotion")])
        objects = elements.of_kind("object")
        gentle = is_tender(elements)
        if gentle:
            mood = mood if mood in tender_emotions() else "plain"
            sentences = self._tender(mood, objects)
        else:
            sentences = self._bright(mood, objects)
            if self.rng.random() < 0.2:
                sentences[0] = self._with_interjection(sentences[0])
        return self._punctuate(sentences, mood, gentle)

    def _say(self, thing: Element, part: str) -> str:
        """A phrase of a kind, or of the plainest kind where a thing has none of it."""
        row = self.bank.get(thing.id, self.others)
        return name_in(self.rng.choice(row.get(part) or row["says"] or row["also"]), thing.name)

    def _bright(self, mood: str, objects: list[Element]) -> list[str]:
        rng = self.rng
        first = rng.choice(objects[:3]) if len(objects) > 1 and rng.random() < 0.3 else next(iter(objects), None)
        second = rng.choice([o for o in objects[:4] if o != first] or [None])
        opening = rng.choice(self.feel["empty" if mood == "plain" else mood])
        if not objects:
            return self._then(opening, "closers", 0.55)
        said = self._say(first, "says")
        if second and rng.random() < 0.6:
            return self._two_things(mood, opening, said, first, second)
        if mood == "plain":
            return self._then(said, "closers", 0.6)
        after = self._say(first, "also") if rng.random() < 0.4 else said
        return [opening, after] if rng.random() < 0.55 else [said, opening]

    def _two_things(self, mood: str, opening: str, said: str, first: Element, second: Element) -> list[str]:
        also = self._say(second, "also")
        if "link" not in self.bank.get(first.id, {}) or self.rng.random() < 0.5:
            return [said, also]
        joined = f"{self._say(first, 'link')} {also}"
        if mood == "plain":
            return self._then(joined, "closers", 0.4)
        return [opening, joined] if self.rng.random() < 0.55 else [joined, opening]

    def _tender(self, mood: str, objects: list[Element]) -> list[str]:
        rng = self.rng
        if mood == "plain":
            return self._then(self._say(objects[0], "calm"), "calm_closers", 0.6)
        opening = rng.choice(self.feel[mood])
        if not objects:
            return self._then(opening, "calm_closers", 0.6)
        calm = self._say(objects[0] if rng.random() < 0.8 else rng.choice(objects[:3]), "calm")
        if rng.random() < 0.25:
            return self._then(calm, "calm_closers", 1.0)
        return [opening, calm] if rng.random() < 0.6 else [calm, opening]

    def _then(self, first: str, closers: str, chance: float) -> list[str]:
        return [first, self.rng.choice(self.feel[closers])] if self.rng.random() < chance else [first]

    def _with_interjection(self, sentence: str) -> str:
        word = self.rng.choice(self.interjections)
        if self.lang == "en" and not sentence.startswith(("I ", "I'")):
            sentence = sentence[0].lower() + sentence[1:]
        return f"{word} {sentence}"

    def _punctuate(self, sentences: list[str], mood: str, gentle: bool) -> str:
        rng = self.rng
        ends = [".", "…", "."] if gentle else ["!", ".", "!"] if self.lang == "en" else ["!", ".", "~", "!"]
        emoji = rng.sample(
            self.feel["emoji"]["sad" if gentle and mood == "plain" else mood], 2 if rng.random() < 0.15 else 1
        )
        if len(sentences) == 2 and rng.random() < 0.12:
            return f"{sentences[0]}{rng.choice(ends)} {emoji[0]} {sentences[1]}{rng.choice(ends)}"
        text = " ".join(s + rng.choice(ends) for s in sentences[:-1])
        last = sentences[-1] + rng.choice([*ends[:2], ""])
        return f"{text} {last} {''.join(emoji)}".strip()
