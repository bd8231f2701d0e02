"""Pairs from files, split without leaks.

A file is JSONL ({"elements", "comment"} and, if they differ from Korean and polite, "lang" and "style"), CSV with such
columns, a folder that `datasets` saved, or the original's JSON: {"0": [elements, comment], …}.
"""

import csv
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import read_jsonl
from language.records import ElementList, Pair

COLUMNS = {"elements", "comment", "lang", "style"}


@dataclass(frozen=True)
class Split:
    """Pairs to train on and pairs held out, with what makes the split known again."""

    train: list[Pair]
    held_out: list[Pair]
    hash: str  # twelve hex digits of the held-out pairs


def read_pairs(file: Path) -> dict[str, Pair]:
    """key -> pair; keys are those of the original's JSON, else row numbers from 0.

    Raises:
        UserError: the file cannot be read; names the row and what was wrong with it.
    """
    try:
        if file.is_dir():
            rows = _from_datasets(file)
        elif file.suffix == ".csv":
            rows = _from_csv(file)
        elif file.suffix == ".json":
            rows = _from_original(file)
        else:
            rows = {str(number): row for number, row in enumerate(read_jsonl(file))}
    except OSError as error:
        raise UserError(f"cannot read the pairs {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except ValueError as error:
        raise UserError(f"{file} holds no pairs: {error}") from None
    return {key: _pair(row, f"{file}, row {key}") for key, row in rows.items()}


def _pair(row: dict, where: str) -> Pair:
    if not isinstance(row, dict) or not {"elements", "comment"} <= set(row):
        found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{where}: needs elements and comment (allowed: {', '.join(sorted(COLUMNS))}), found: {found}")
    if unknown := sorted(set(row) - COLUMNS):
        raise UserError(f"{where}: unknown columns {', '.join(unknown)} (allowed: {', '.join(sorted(COLUMNS))})")
    if not all(isinstance(value, str) for value in row.values()):
        raise UserError(f"{where}: every cell must be text, but got {row}")
    if not row["comment"].strip():
        raise UserError(f"{where}: the comment is blank")
    return Pair(**{key: value.strip() for key, value in row.items()})


def _from_csv(file: Path) -> dict[str, dict]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {str(number): {k: v or "" for k, v in row.items() if k} for number, row in enumerate(rows)}


def _from_datasets(folder: Path) -> dict[str, dict]:
    from datasets import load_from_disk

    try:
        rows = load_from_disk(str(folder))
    except FileNotFoundError:
        raise UserError(f"the folder {folder} holds no dataset that `datasets` saved") from None
    return {str(number): row for number, row in enumerate(rows)}


def _from_original(file: Path) -> dict[str, dict]:
    def no_repeats(items: list[tuple]) -> dict:
        keys = [key for key, _ in items]
        if repeated := sorted({key for key in keys if keys.count(key) > 1})[:5] if len(set(keys)) < len(keys) else []:
            raise ValueError(f"keys stand twice: {', '.join(repeated)}")
        return dict(items)

    rows = json.loads(file.read_text("utf-8"), object_pairs_hook=no_repeats)
    if not isinstance(rows, dict):
        raise ValueError("a .json file must be {key: [elements, comment]}; lines of objects belong in .jsonl")
    bad = [key for key, row in rows.items() if not (isinstance(row, list) and len(row) == 2)]
    if bad:
        raise ValueError(f"row {bad[0]} is not [elements, comment]")
    return {key: {"elements": row[0], "comment": row[1]} for key, row in rows.items()}


def read_keys(file: Path) -> list[str]:
    """Keys of pairs, one a line.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the keys {file}: {error}") from error


def element_set(pair: Pair) -> frozenset[str]:
    """The ids of a pair's elements: what a group split keeps together, in whatever language."""
    return frozenset(e.id for e in ElementList.parse(pair.elements, pair.lang))


def split_pairs(pairs: list[Pair], share: float, seed: int, by: str = "group") -> Split:
    """Hold out a share: whole element sets ("group"; the empty one is never held out), or single pairs ("random").

    A random split leaks: most of its held-out sets were trained on. It serves comparison with others who did so.
    """
    if by == "random":
        chosen = set(random.Random(seed).sample(range(len(pairs)), round(len(pairs) * share)))
        is_held = [index in chosen for index in range(len(pairs))]
    else:
        set_of = {key: element_set(Pair(key[0], "", key[1])) for key in {(p.elements, p.lang) for p in pairs}}
        groups = sorted({*set_of.values()} - {frozenset()}, key=sorted)
        held = set(random.Random(seed).sample(groups, round(len(groups) * share)))
        is_held = [set_of[p.elements, p.lang] in held for p in pairs]
    train = [p for p, out in zip(pairs, is_held, strict=True) if not out]
    held_out = [p for p, out in zip(pairs, is_held, strict=True) if out]
    return Split(train, held_out, fingerprint(held_out))


def fingerprint(pairs: list[Pair]) -> str:
    """Twelve hex digits by which pairs, in whatever order, are known again."""
    text = "\n".join(sorted(f"{p.elements}|{p.comment}" for p in pairs))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def leaks(train: list[Pair], test: list[Pair]) -> dict[str, float]:
    """What test pairs share with training: the shares whose element set, comment, or both were trained on."""
    sets, comments = {element_set(p) for p in train}, {p.comment for p in train}
    both = {(element_set(p), p.comment) for p in train}
    share = lambda known: round(sum(map(known, test)) / max(1, len(test)), 4)
    return {
        "sets_seen": share(lambda p: element_set(p) in sets),
        "comments_seen": share(lambda p: p.comment in comments),
        "pairs_seen": share(lambda p: (element_set(p), p.comment) in both),
    }
