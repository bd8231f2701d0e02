"""The results of a batch: a file of JSON lines, one a photo, that a killed run can go on with."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import whole_file, write_json


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a photo's row lies in the file, and what decides whether it still holds."""

    offset: int
    stamp: tuple[int, float] | None
    failed: bool
    duplicate_of: str | None


def stamp(name: str) -> dict | None:
    """Bytes and time of change (seconds) of a photo's file, None where there is none.

    They tell a changed photo without reading it; a hash of the content would read every photo of an album again
    each time a run goes on.
    """
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return {"bytes": found.st_size, "modified": round(found.st_mtime, 3)}


class Results:
    """Rows by photo. Each is on the disk, whole, before the next photo's; a line torn by a kill is cut off.

    Args:
        file: the JSON lines; `FILE.settings.json` beside it tells what they were made with.
        settings: what every row depends on.

    Raises:
        UserError: the file is no batch's results, was made with other settings, or is being written by another run.
    """

    def __init__(self, file: Path, settings: dict):
        self.file, self.beside = file, file.with_name(f"{file.name}.settings.json")
        self.entries: dict[str, Entry] = {}
        try:
            self._rows = _held(file)
            self._agree(settings)
        except OSError as error:
            raise UserError(f"--out {file} cannot be written: {error.strerror}") from None
        self._read()

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_) -> None:
        self._rows.close()

    def _agree(self, settings: dict) -> None:
        """The settings of the file are these, or there is there are no rows yet."""
        if self.file.stat().st_size:
            try:
                before = json.loads(self.beside.read_text("utf-8"))
            except (OSError, ValueError):
                raise UserError(
                    f"{self.file} exists, but {self.beside.name} does not tell how it was made; name another --out"
                ) from None
            for name in {**settings, **before}:
                if before.get(name) != settings.get(name):
                    old, new = (json.dumps(d.get(name), ensure_ascii=False) for d in (before, settings))
                    raise UserError(
                        f"{self.file} was made with {name} {old}, not {new}; keep to it or name another --out"
                    )
            return
        write_json(self.beside, settings)

    def _read(self) -> None:
        self.entries, offset = {}, 0
        self._rows.seek(0)
        for number, line in enumerate(self._rows, 1):
            if not line.endswith(b"\n"):
                self._rows.truncate(offset)
                break
            try:
                self._enter(json.loads(line), offset)
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f"line {number} of {self.file} is no row of a batch; remove it or name another --out"
                ) from None
            offset += len(line)

    def _enter(self, row: dict, offset: int) -> None:
        file = row["file"] and (row["file"]["bytes"], row["file"]["modified"])
        self.entries[row["image"]] = Entry(offset, file, row["error"] is not None, row["duplicate_of"])

    def append(self, row: dict) -> None:
        """Write a photo's row."""
        try:
            line = json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # a file name that is no UTF-8
            line = json.dumps(row).encode()
        offset = self._rows.seek(0, os.SEEK_END)
        self._rows.write(line + b"\n")
        self._rows.flush()
        self._enter(row, offset)

    def read(self, name: str) -> dict:
        """A photo's row."""
        self._rows.seek(self.entries[name].offset)
        return json.loads(self._rows.readline())

    def rows(self) -> Iterator[dict]:
        """All rows as they lie in the file."""
        with self.file.open("rb") as lines:
            yield from map(json.loads, lines)

    def holds(self, name: str) -> bool:
        """Whether the photo has a row and its file has not changed since."""
        entry, now = self.entries.get(name), stamp(name)
        return entry is not None and entry.stamp == (now and (now["bytes"], now["modified"]))

    def drop(self, names: set[str]) -> None:
        """Remove photos' rows, and those of their duplicates."""
        gone = {n for n, entry in self.entries.items() if n in names or entry.duplicate_of in names}
        if gone:
            self._rewrite([n for n in self.entries if n not in gone])

    def arrange(self, names: Iterable[str]) -> None:
        """Put rows into the order of `names`; those of other photos come first."""
        wanted = [n for n in names if n in self.entries]
        others = set(wanted)
        order = [n for n in self.entries if n not in others] + wanted
        if order != list(self.entries):
            self._rewrite(order)

    def _rewrite(self, names: list[str]) -> None:
        with whole_file(self.file) as part, part.open("wb") as out:
            for name in names:
                self._rows.seek(self.entries[name].offset)
                out.write(self._rows.readline())
            out.flush()
            os.fsync(out.fileno())
        self._rows.close()
        self._rows = _held(self.file)
        self._read()


def _held(file: Path):
    """A file open for reading and appending, which one run at a time may hold; the system lets go of it when the run
    dies.

    Raises:
        UserError: another run holds it.
    """
    rows = file.open("a+b")
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return rows
    try:
        fcntl.flock(rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"another run is writing {file}; wait for it") from None
    return rows
