"""YAML + key=value -> a validated settings object, every mistake reported at once."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import UserError

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every run's schema: unknown keys are mistakes, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def save(self, path: Path) -> None:
        """Write the resolved settings as YAML beside the run they belong to."""
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), allow_unicode=True, sort_keys=False), "utf-8")

    def fingerprint(self) -> str:
        """Twelve hex digits that change whenever a setting does."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]


def load_settings(path: Path, schema: type[S], overrides: list[str] = ()) -> S:
    """Read `path`, apply `key=value` overrides (values parsed as YAML) and validate.

    Raises:
        UserError: the file cannot be read, or it names unknown keys or bad values; all are listed together.
    """
    try:
        values = yaml.safe_load(Path(path).read_text("utf-8")) or {}
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold `key: value` lines, but holds a {type(values).__name__}")
    for item in overrides:
        key, sign, value = item.partition("=")
        if not sign:
            raise UserError(f"an override must look like key=value, but got {item!r}")
        values[key] = yaml.safe_load(value)
    try:
        return schema(**values)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_describe(e, schema) for e in error.errors())) from error


def _describe(error: dict, schema: type[Settings]) -> str:
    where = ".".join(map(str, error["loc"])) or "config"
    if error["type"] == "extra_forbidden":
        return f"unknown key {where} (known: {', '.join(_fields(schema, error['loc']))})"
    got = "" if isinstance(error["input"], dict) else f", got {error['input']!r}"  # what is missing was not given
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}{got}"


def _fields(schema: type[BaseModel], place: tuple) -> Iterable[str]:
    """The keys that are known where the last part of a place stands, which may be in settings within settings."""
    for part in place[:-1]:
        if part in schema.model_fields:  # else it is a key of a dict or a place in a list
            kinds = schema.model_fields[part].annotation, *get_args(schema.model_fields[part].annotation)
            schema = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), schema)
    return schema.model_fields


def settings_command(
    prog: str, doc: str, schema: type[S], action: Callable[[S], object]
) -> Callable[[list[str] | None], int]:
    """The `main(argv)` of a command that runs `action` on `--config FILE key=value …` and prints what it returns."""

    def main(argv: list[str] | None = None) -> int:
        parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=doc.split("\n")[0])
        parser.add_argument("--config", required=True, type=Path, help="YAML file")
        parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the config's")
        args = parser.parse_args(sys.argv[1:] if argv is None else argv)
        print(action(load_settings(args.config, schema, args.overrides)))
        return 0

    return main
