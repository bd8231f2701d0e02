"""Frames: whole comments with a place for the name of a thing, shared by the things of a group.

`corpus/groups.json` puts every thing into one group, says what can be said of all its members, and marks the groups of
side things: where faces show a feeling, nobody speaks of the chair. Frames of the group "anything" suit every name;
`corpus/frames.<lang>.jsonl` holds {"group", "style", "mood", "text"} (CC BY 4.0). A text has one place for the name:

- Korean: `{}`, or `{이/가}` with the particle that fits the name.
- English: `{}`, `{a}` ("an umbrella", "sunglasses", "some popcorn"), `{the}`, `{that}` ("those sunglasses"), and the
  verbs `{is}`, `{was}`, `{has}` that agree with it; a capital begins a sentence: `{The}`.
  `corpus/numbers.en.json` lists the names that are plural, and those that are not counted.
"""

import json
import re
from collections import defaultdict
from functools import cache, lru_cache, partial
from pathlib import Path

from common.files import read_jsonl
from language.records import Evidence

FOLDER = Path(__file__).with_name("corpus")
PLACE = re.compile(r"\{(.*?)\}")
ANYTHING = "anything"  # the group of frames for what no class stands for
NAMED = "\ufffc"  # stands for a name in an outline
NAMES = {"a": "a ", "the": "the ", "that": "that "}
# Korean particles that change with the word before them, at the end of a word.
PARTICLES = "(?:이라서|라서|이라면|라면|이라고|라고|이라|라|으로|로|이랑|랑|은|는|이|가|을|를|과|와|아|야)(?![가-힣])"
VERBS = {"is": "are", "was": "were", "has": "have"}


@lru_cache
def groups() -> dict[str, str]:
    """Id of a thing -> its group."""
    raw = json.loads((FOLDER / "groups.json").read_text("utf-8"))
    return {label: group for group, row in raw.items() for label in row["ids"]}


@lru_cache
def side_things() -> frozenset[str]:
    """Things of which nobody speaks where there is something else to speak of."""
    raw = json.loads((FOLDER / "groups.json").read_text("utf-8"))
    return frozenset(label for row in raw.values() if row.get("side") for label in row["ids"])


@lru_cache
def frames(lang: str, style: str) -> dict[str, list[dict]]:
    """Group -> its frames in a style."""
    found = defaultdict(list)
    for row in read_jsonl(FOLDER / f"frames.{lang}.jsonl"):
        if row["style"] == style:
            found[row["group"]].append(row)
    return dict(found)


ARTICLE = re.compile(rf"\b(?:an?|some|the|that|those) {NAMED}", re.IGNORECASE)
ARTICLE_BEFORE = re.compile(r"\b(?:an?|some|the|that|those) $", re.IGNORECASE)
NUMBER = re.compile(r"\b(?:are|were|have)\b")
SINGULAR = {many: one for one, many in VERBS.items()}


def outline(text: str) -> str:
    """A text whose name is `NAMED`, less what depends on the name: particles, articles, the number of verbs."""
    text = re.sub(rf"{NAMED}{PARTICLES}", NAMED, text)
    return NUMBER.sub(lambda match: SINGULAR[match[0]], ARTICLE.sub(NAMED, text))


def outline_of(text: str, span: Evidence) -> str:
    """The outline of a text that speaks of a thing in a span."""
    return outline(f"{text[: span.start]}{NAMED}{text[span.end :]}")


@cache
def _outline_of_frame(raw: str) -> str:
    named = lambda match: match[1] if match[1] in VERBS else f"{NAMES.get(match[1].lower(), '')}{NAMED}"
    return outline(PLACE.sub(named, raw))


@lru_cache
def _by_beginning(lang: str, style: str) -> dict[str, list[tuple[str, str]]]:
    """What stands before a frame's place -> (group, frame)."""
    found = defaultdict(list)
    for group, rows in frames(lang, style).items():
        for row in rows:
            found[row["text"].partition("{")[0].rstrip()].append((group, row["text"]))
    return dict(found)


def written_for(text: str, span: Evidence, lang: str, style: str) -> set[str]:
    """The groups for whose things a text was written that is a frame with a name in a span; empty where it is none.

    Outlines are made of frames alone that begin and end as the text does: of all they would take a tenth of a second.
    """
    beginning = ARTICLE_BEFORE.sub("", text[: span.start]).rstrip()
    alike = [(g, raw) for g, raw in _by_beginning(lang, style).get(beginning, ()) if raw[-3:] == text[-3:]]
    wanted = outline_of(text, span) if alike else ""
    return {group for group, raw in alike if _outline_of_frame(raw) == wanted}


@lru_cache
def _numbers() -> dict[str, list[str]]:
    return json.loads((FOLDER / "numbers.en.json").read_text("utf-8"))


def fill(text: str, label: str, name: str, lang: str) -> str:
    """A frame's text with the name of a thing in its place.

    Raises:
        ValueError: it has a place of a form that is not known.
    """
    put = partial(with_particle, name) if lang == "ko" else _english(label, name)
    return PLACE.sub(lambda match: put(match[1]), text)


def with_particle(name: str, particle: str) -> str:
    """A Korean name with the particle that fits it, of one after a consonant and one after a vowel (이/가): 모자가."""
    from hangulpy import has_batchim, josa

    if particle == "으로/로":  # ㄹ counts as a vowel there
        return josa(name, particle)
    after_consonant, _, after_vowel = particle.partition("/")
    return name + (after_consonant if has_batchim(name) else after_vowel)


def _english(label: str, name: str):
    plural, mass = label in _numbers()["plural"], label in _numbers()["mass"]
    article = "an" if re.match(r"[aeio]|u(?!ni|k|s[aeiu])", name, re.I) else "a"
    forms = {
        "": name,
        "a": name if plural else f"some {name}" if mass else f"{article} {name}",
        "the": f"the {name}",
        "that": f"{'those' if plural else 'that'} {name}",
        **{one: many if plural else one for one, many in VERBS.items()},
    }

    def put(form: str) -> str:
        if form.lower() not in forms:
            raise ValueError(f"{{{form}}} is no form of a name (known: {', '.join(forms)})")
        word = forms[form.lower()]
        return word[0].upper() + word[1:] if form[:1].isupper() else word

    return put
