"""The words of every class: ids are canonical, names are views in a language.

    python -m detection.labels check detection/label_packs/ko.json

A pack is one JSON file per language in `label_packs/`: `emotions` and `objects` map each id to its display name,
`aliases` maps other names (old packs, everyday synonyms) to ids. Adding a language is adding one file.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from configs.errors import UserError, exit_with

PACKS = Path(__file__).with_name("label_packs")
KINDS = ("emotion", "object")
EMOTION_IDS = ("anger", "sad", "panic", "happy", "neutral")
# Ids of the 601 Open Images V7 box classes, in the order of a detector's outputs.
OBJECT_IDS: tuple[str, ...] = tuple(json.loads((PACKS / "en.json").read_text("utf-8"))["objects"])
# Classes that say nothing about a photo: they are detected, but make no element.
PEOPLE = frozenset({"Person", "Man", "Woman", "Boy", "Girl"})
PLAIN_IDS = frozenset({"neutral", "Clothing", *PEOPLE, *(name for name in OBJECT_IDS if name.startswith("Human "))})
SCRIPTS = {"ko": r"[가-힣0-9 ]+", "en": r"[A-Za-z' -]+"}


@dataclass(frozen=True)
class LabelPack:
    """Display names of one language, and every name that is read."""

    language: str
    names: dict[str, str]  # id -> display name, emotions and objects
    readings: dict[str, str]  # casefolded name or alias -> id

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
    names = {**raw["emotions"], **raw["objects"]}
    readings = {alias.casefold(): label for alias, label in raw["aliases"].items()}
    readings |= {name.casefold(): label for label, name in names.items()}
    return LabelPack(language, names, readings)


def lookup(name: str) -> str | None:
    """The id that a name in any language, an old name or an id itself stands for; None if unknown."""
    name = " ".join(name.split())
    if name in OBJECT_IDS or name in EMOTION_IDS:
        return name
    for language in ("ko", *languages()):
        if label := load_pack(language).readings.get(name.casefold()):
            return label
    return None


def lint(raw: dict) -> list[str]:
    """What is wrong with a pack: missing or unknown ids, empty, shared or mixed-script names, dangling aliases."""
    problems = []
    script = re.compile(SCRIPTS.get(raw.get("language", ""), r".+"))
    for section, ids in (("emotions", EMOTION_IDS), ("objects", OBJECT_IDS)):
        names = raw.get(section, {})
        problems += [f"{section}: {label!r} has no name" for label in ids if not names.get(label, "").strip()]
        problems += [f"{section}: {label!r} is not a known id" for label in names if label not in ids]
    owners: dict[str, str] = {}
    for label, name in {**raw.get("emotions", {}), **raw.get("objects", {})}.items():
        if (other := owners.setdefault(name.casefold(), label)) != label:
            problems.append(f"{label!r} and {other!r} share the name {name!r}")
        if name and not script.fullmatch(name):
            problems.append(f"{label!r}: the name {name!r} mixes scripts")
    known = {*EMOTION_IDS, *OBJECT_IDS}
    for alias, label in raw.get("aliases", {}).items():
        if label not in known:
            problems.append(f"alias {alias!r} points to {label!r}, which is not a known id")
        if owners.get(alias.casefold(), label) != label:
            problems.append(f"alias {alias!r} of {label!r} is the name of {owners[alias.casefold()]!r}")
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
