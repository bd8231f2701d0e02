"""Files that are whole or not there at all, and the one way to read and write JSON lines."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; what was written there takes the place of `path` when the block ends, and is removed when it
    fails. The folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file, whole or not at all; returns its path."""
    with whole_file(path) as part:
        part.write_text(text, "utf-8")
    return Path(path)


def write_json(path: Path, content: object, indent: int | None = 1) -> Path:
    """Write a value as JSON, whole or not at all; returns the path."""
    return write_text(path, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def write_jsonl(path: Path, rows: Iterable[object]) -> int:
    """Write rows as JSON, one a line, whole or not at all; returns how many."""
    count = 0
    with whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, with or without a byte order mark, less empty ones.

    A line ends at a line feed and nowhere else: `str.splitlines` also cuts at characters that comments may hold
    (U+2028, U+0085).
    """
    return [line for line in Path(path).read_text("utf-8-sig").split("\n") if line.strip()]


def read_jsonl(path: Path) -> list:
    """The values in a file of JSON lines.

    Raises:
        ValueError: a line is no JSON.
        OSError: the file cannot be read.
    """
    return [json.loads(line) for line in read_lines(path)]
