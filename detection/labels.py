"""The words of every class: ids are canonical, names are views in a language.

    python -m detection.labels check detection/label_packs/ko.json

A pack is one JSON file per language in `label_packs/`: `emotions`, `objects`, `things`, `exact`, `scenes` and `moments`
map each id to its display name, `aliases` maps other names (old packs, everyday synonyms) to ids, `spoken` lists words
with which comments speak of an id beside its name. Adding a language is adding one file.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.errors import UserError, exit_with

PACKS = Path(__file__).with_name("label_packs")
KINDS = ("emotion", "moment", "object", "scene")
_ENGLISH = json.loads((PACKS / "en.json").read_text("utf-8"))
EMOTION_IDS = ("anger", "sad", "panic", "happy", "neutral")
# Ids of the 601 Open Images V7 box classes, in the order of a detector's outputs.
OBJECT_IDS: tuple[str, ...] = tuple(_ENGLISH["objects"])
# Things that only the look at the whole picture names: dishes, buildings, vehicles … They are objects, too.
THING_IDS: tuple[str, ...] = tuple(_ENGLISH["things"])
# More exact names of things ("Golden retriever" of a Dog): they name an element, its id stays that of the thing.
EXACT_IDS: tuple[str, ...] = tuple(_ENGLISH["exact"])
SCENE_IDS: tuple[str, ...] = tuple(_ENGLISH["scenes"])
MOMENT_IDS: tuple[str, ...] = tuple(_ENGLISH["moments"])
# Section of a pack -> its ids.
SECTIONS = {
    "emotions": EMOTION_IDS,
    "objects": OBJECT_IDS,
    "things": THING_IDS,
    "exact": EXACT_IDS,
    "scenes": SCENE_IDS,
    "moments": MOMENT_IDS,
}
_KIND_OF = {
    **dict.fromkeys(EMOTION_IDS, "emotion"),
    **dict.fromkeys(SCENE_IDS, "scene"),
    **dict.fromkeys(MOMENT_IDS, "moment"),
}
KNOWN_IDS = frozenset(label for ids in SECTIONS.values() for label in ids)
# Classes that say nothing about a photo: they are detected, but make no element.
PEOPLE = frozenset({"Person", "Man", "Woman", "Boy", "Girl"})
PLAIN_IDS = frozenset({"neutral", "Clothing", *PEOPLE, *(name for name in OBJECT_IDS if name.startswith("Human "))})
SCRIPTS = {"ko": r"[가-힣0-9 ]+", "en": r"[A-Za-z' -]+"}


@dataclass(frozen=True)
class LabelPack:
    """Display names of one language, and every name that is read."""

    language: str
    names: dict[str, str]  # id -> display name, of every kind
    readings: dict[str, str]  # casefolded name or alias -> id
    spoken: dict[str, tuple[str, ...]]  # id -> further words with which comments speak of it

    def name(self, label: str) -> str:
        """The display name of an id; an id no pack knows (a user's own model) stands for itself."""
        return self.names.get(label, label)


def languages() -> list[str]:
    """The languages there is a pack for."""
    return sorted(file.stem for file in PACKS.glob("*.json"))


@lru_cache
def load_pack(language: str) -> LabelPack:
    """The pack of a language.

    Raises:
        UserError: there is no pack for it.
    """
    if language not in languages():
        raise UserError(f"no label pack for language {language!r} (there are: {', '.join(languages())})")
    raw = json.loads((PACKS / f"{language}.json").read_text("utf-8"))
    names = {label: name for section in SECTIONS for label, name in raw[section].items()}
    readings = {alias.casefold(): label for alias, label in raw["aliases"].items()}
    readings |= {name.casefold(): label for label, name in names.items()}
    spoken = {label: tuple(words) for label, words in raw.get("spoken", {}).items()}
    return LabelPack(language, names, readings, spoken)


def kind_of(label: str) -> str:
    """The kind of an id; what no pack knows is an object."""
    return _KIND_OF.get(label, "object")


def lookup(name: str) -> str | None:
    """The id that a name in any language, an old name or an id itself stands for; None if unknown."""
    name = " ".join(name.split())
    if name in KNOWN_IDS:
        return name
    for language in ("ko", *languages()):
        if label := load_pack(language).readings.get(name.casefold()):
            return label
    return None


def lint(raw: dict) -> list[str]:
    """What is wrong with a pack: missing or unknown ids, empty, shared or mixed-script names, dangling aliases."""
    problems = []
    script = re.compile(SCRIPTS.get(raw.get("language", ""), r".+"))
    for section, ids in SECTIONS.items():
        names = raw.get(section, {})
        problems += [f"{section}: {label!r} has no name" for label in ids if not names.get(label, "").strip()]
        problems += [f"{section}: {label!r} is not a known id" for label in names if label not in ids]
    owners: dict[str, str] = {}
    for label, name in ((label, name) for section in SECTIONS for label, name in raw.get(section, {}).items()):
        if (other := owners.setdefault(name.casefold(), label)) != label:
            problems.append(f"{label!r} and {other!r} share the name {name!r}")
        if name in KNOWN_IDS and name != label:
            problems.append(f"the name {name!r} of {label!r} is the id of something else")
        if name and not script.fullmatch(name):
            problems.append(f"{label!r}: the name {name!r} mixes scripts")
    for alias, label in raw.get("aliases", {}).items():
        if label not in KNOWN_IDS:
            problems.append(f"alias {alias!r} points to {label!r}, which is not a known id")
        if alias in KNOWN_IDS and alias != label:
            problems.append(f"alias {alias!r} of {label!r} is an id")
        if owners.get(alias.casefold(), label) != label:
            problems.append(f"alias {alias!r} of {label!r} is the name of {owners[alias.casefold()]!r}")
    problems += [f"spoken: {label!r} is not a known id" for label in raw.get("spoken", {}) if label not in KNOWN_IDS]
    return problems


def main(argv: list[str] | None = None) -> int:
    """`check FILE…`: lint label packs; status 1 where one has problems."""
    parser = argparse.ArgumentParser(prog="python -m detection.labels", description="Lint label packs.")
    parser.add_argument("command", choices=["check"])
    parser.add_argument("files", nargs="+", metavar="FILE")
    status = 0
    for file in parser.parse_args(sys.argv[1:] if argv is None else argv).files:
        try:
            problems = lint(json.loads(Path(file).read_text("utf-8")))
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{file} is not JSON: {error}") from error
        print("\n".join(f"{file}: {p}" for p in problems) or f"{file}: no problems")
        status |= bool(problems)
    return status


if __name__ == "__main__":
    exit_with(main)
