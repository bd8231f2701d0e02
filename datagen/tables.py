"""Reading tables and lists row by row, in the encodings they come in, and writing whole files or none."""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from common.errors import UserError
from common.files import whole_file

ENCODINGS = ("utf-8-sig", "cp949")  # in this order: cp949 reads almost any bytes


def encoding_of(file: Path) -> str:
    """The encoding of a text file, found by reading it through.

    Raises:
        UserError: it cannot be read, or is in neither encoding.
    """
    for encoding in ENCODINGS:
        try:
            with file.open(encoding=encoding) as lines:
                for _ in lines:
                    pass
            return encoding
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        except UnicodeDecodeError:
            continue
    raise UserError(f"{file} is neither UTF-8 nor cp949; save it as UTF-8")


def read_table(file: Path, required: Iterable[str]) -> Iterator[dict[str, str]]:
    """Rows of a CSV with a header, every column kept.

    Raises:
        UserError: it cannot be read, lacks columns (all are named), or a row has more cells than the header.
    """
    with file.open(encoding=encoding_of(file), newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            found = reader.fieldnames or []
            if missing := [name for name in required if name not in found]:
                raise UserError(f"{file} lacks the columns {', '.join(missing)} (it has: {', '.join(found) or 'none'})")
            for row in reader:
                if None in row:
                    raise UserError(f"{file}, line {reader.line_num}: more cells than columns")
                yield {name: value or "" for name, value in row.items()}
        except csv.Error as error:
            raise UserError(f"{file}, line {reader.line_num}: {error}") from error


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    with file.open(encoding=encoding_of(file)) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line.strip()


def read_jsonl(file: Path) -> Iterator[tuple[int, dict]]:
    """The objects of a JSONL file, with their line numbers from 1.

    Raises:
        UserError: a line is no JSON object.
    """
    for number, line in read_lines(file):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {number}: not a JSON object")
        yield number, row


def write_table(path: Path, rows: Iterable[dict]) -> int:
    """CSV that a spreadsheet opens (utf-8-sig), with the columns of the first row; returns how many rows."""
    count, writer = 0, None
    with whole_file(path) as part, part.open("w", encoding="utf-8-sig", newline="") as out:
        for count, row in enumerate(rows, 1):  # noqa: B007
            if writer is None:
                writer = csv.DictWriter(out, list(row), restval="", extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
    return count


def write_dataset(path: Path, jsonl: Path) -> None:
    """The rows of a JSONL file as a folder that `datasets` loads."""
    import shutil

    from datasets import Dataset

    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    Dataset.from_json(str(jsonl), cache_dir=str(part / "cache")).save_to_disk(str(part / "saved"))
    shutil.rmtree(path, ignore_errors=True)
    os.replace(part / "saved", path)
    shutil.rmtree(part)
