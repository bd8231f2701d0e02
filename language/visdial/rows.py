"""A file of results that only grows: JSONL by image and round, so that a run goes on where it stopped."""

import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from common.errors import UserError
from common.files import write_text
from configs.load import Settings
from language.visdial.data import Example


class Rows:
    """Rows with a result or with an `error`, one for each question; a result that is written stays as it is."""

    def __init__(self, file: Path, settings: Settings) -> None:
        """Open or begin the file; `<file>.yaml` holds what its rows were made with.

        Raises:
            UserError: its rows were made with other settings, or it is no such file.
        """
        self.file, self.results, self.errors = file, {}, {}
        beside = file.with_name(f"{file.name}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and beside.exists():
            old, new = yaml.safe_load(beside.read_text("utf-8")), settings.model_dump(mode="json")
            if other := sorted(name for name in {*old, *new} if old.get(name) != new.get(name)):
                given = ", ".join(f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in other)
                raise UserError(f"{file} holds rows made with other settings ({given}); name another file")
        elif file.exists():
            raise UserError(f"{file} exists, but {beside.name} does not say what made it; name another file")
        settings.save(beside)
        for row in self._read():
            self._note(row)

    def _read(self) -> list[dict]:
        """The rows; half a row, left by a run that was killed, is cut off."""
        if not self.file.exists():
            return []
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.file.open("r+b") as out:
                out.truncate(len(whole))
        try:
            return [json.loads(line) for line in whole.split(b"\n") if line]
        except ValueError as error:
            raise UserError(f"{self.file} is no JSONL: {error}") from error

    def _note(self, row: dict) -> None:
        kind = self.errors if "error" in row else self.results
        kind[row["image_id"], row.get("round_id", row.get("round"))] = row

    def add(self, row: dict) -> None:
        """Append a row."""
        with self.file.open("a", encoding="utf-8") as out:
            out.write(_line(row))
        self._note(row)

    def open(self, examples: Iterable[Example], retry_failed: bool) -> list[Example]:
        """Those that have no row yet; where errors are to be tried again, their rows are taken out."""
        keyed = {(example.image_id, example.turn): example for example in examples}
        if retry_failed and keyed.keys() & self.errors.keys():
            self.errors = {key: row for key, row in self.errors.items() if key not in keyed}
            write_text(self.file, "".join(map(_line, [*self.results.values(), *self.errors.values()])))
        return [example for key, example in keyed.items() if key not in self.results and key not in self.errors]

    def add_skipped(self, skipped: list[dict]) -> None:
        """Rows for what could not be read at all, each once."""
        for row in skipped:
            if (row["image_id"], row["round"]) not in {**self.results, **self.errors}:
                self.add({"image_id": row["image_id"], "round": row["round"], "error": row["reason"]})

    def summary(self) -> str:
        """How many results and errors there are, and what the first errors say."""
        few = "; ".join(f"image {key[0]}, round {key[1]}: {row['error']}" for key, row in [*self.errors.items()][:3])
        failed = f"{len(self.errors):,} failed ({few}; --retry-failed tries again)" if self.errors else "none failed"
        return f"{len(self.results):,} rows, {failed}: {self.file}"


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
