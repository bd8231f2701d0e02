"""The schema of `configs/rules.yaml`: what a comment must and must not do, in every language and style."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

import configs
from configs.load import Settings, load_settings
from detection.labels import EMOTION_IDS, KNOWN_IDS, languages

FILE = Path(configs.__file__).with_name("rules.yaml")
STYLES = ("polite", "casual")
Style = Literal["polite", "casual"]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def _range(pair: tuple[int, int]) -> tuple[int, int]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError("must be [least, most] with 0 < least <= most")
    return pair


Pattern = Annotated[str, AfterValidator(_compiles)]
Range = Annotated[tuple[int, int], AfterValidator(_range)]


class Tender(Settings):
    """When a comment must be gentle: only these feelings, or one of these things."""

    emotions: list[str]
    things: list[str]
    bright: Pattern  # marks and emoji that a gentle comment never has
    laughing: Pattern  # emoji that laugh: never where one of these feelings is among others either
    words: dict[str, list[str]]  # by language, in names of things that no class stands for

    @model_validator(mode="after")
    def _known(self):
        strange = sorted({*self.emotions} - {*EMOTION_IDS} | {*self.things} - KNOWN_IDS)
        if strange:
            raise ValueError(f"tender: unknown ids {strange}")
        return self


class Circumstance(Settings):
    """Words for a time, a weather, an occasion or a relation, and the ids of elements (or of families) that tell it."""

    words: Pattern
    told_by: list[str]

    @model_validator(mode="after")
    def _known(self):
        if strange := sorted({*self.told_by} - KNOWN_IDS):
            raise ValueError(f"told_by: unknown ids {strange}")
        return self


class LanguageRules(Settings):
    """The rules of one language; patterns are regular expressions."""

    length: Range  # characters
    describe: dict[Literal["polite", "casual", "tender"], str]  # the rules in words, for prompts
    ending: dict[Style, Pattern]  # of every sentence, without its marks and emoji
    never_in: dict[Style, Pattern]  # what a style never holds
    forbidden: dict[str, Pattern]  # name of the rule -> what breaks it
    circumstances: list[Circumstance]  # each made up where no element tells of it
    feelings: dict[str, Pattern]  # feeling -> words that see it in a face; never where no face of the list shows it
    glued: Pattern  # behind the name of a thing that begins a second sentence: a remark that was only stuck on
    honorific: Pattern  # behind the name of a thing: what is only said of people
    cheerful: Pattern  # never beside tender feelings alone
    gloomy: Pattern  # never beside happiness alone
    joking: Pattern  # never in tender comments
    looks: Pattern  # likewise: praise of looks
    everyday: list[str]  # names of things that are everyday words too; one of them alone names no thing

    @model_validator(mode="after")
    def _whole(self):
        for key, wanted in (("describe", {*STYLES, "tender"}), ("ending", {*STYLES}), ("never_in", {*STYLES})):
            if missing := sorted(wanted - set(getattr(self, key))):
                raise ValueError(f"{key}: {', '.join(missing)} missing")
        return self


class Rules(Settings):
    """The whole file."""

    version: int
    sentences: Range
    emoji: Range
    tender: Tender
    languages: dict[str, LanguageRules]

    @model_validator(mode="after")
    def _every_language(self):
        if missing := sorted(set(languages()) - set(self.languages)):
            raise ValueError(f"no rules for the languages {missing}")
        return self


def load_rules(file: Path = FILE) -> Rules:
    """Read and check a rule file.

    Raises:
        UserError: unknown keys, bad patterns or ids; all are listed together.
    """
    return load_settings(file, Rules)
