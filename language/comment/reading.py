"""What blind readings share: a sheet to fill in, and a key that tells which side is ours."""

import csv
import json
from collections.abc import Iterable
from math import comb
from pathlib import Path

from common.errors import UserError
from common.files import write_json

SHEET, KEY = "sheet.csv", "key.json"


def write_reading(
    out: Path, columns: Iterable[str], rows: list[list], key: dict[int, str], more: dict[str, str]
) -> None:
    """Write the sheet, further files by name, and last the key.

    Raises:
        UserError: a sheet already stands there.
    """
    if (out / SHEET).exists():
        raise UserError(f"{out / SHEET} exists already; readings are not overwritten")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in more.items():
        (out / name).write_text(text, "utf-8")
    with (out / SHEET).open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    write_json(out / KEY, key, indent=None)


def read_filled(folder: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Key and filled-in rows, both by number.

    Raises:
        UserError: files are missing or damaged.
    """
    try:
        key = json.loads((folder / KEY).read_text("utf-8"))
        with (folder / SHEET).open(encoding="utf-8-sig", newline="") as file:
            rows = {row["number"]: {name: cell or "" for name, cell in row.items()} for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no reading ({SHEET} and {KEY}): {error}") from None
    if lost := [number for number in key if number not in rows]:
        raise UserError(f"{folder / SHEET} lacks the rows {', '.join(lost)}")
    return key, rows


def verdicts(folder: Path, key: dict[str, str], rows: dict[str, dict[str, str]]) -> dict:
    """Ours, theirs, equal, our share of the decided, and the sign test's p (two-sided).

    Raises:
        UserError: `better` holds something else than A, B or =; all such rows are named.
    """
    better = {number: rows[number]["better"].strip().upper() for number in key}
    if bad := [number for number in key if better[number] not in {"A", "B", "="}]:
        raise UserError(f"{folder / SHEET}: `better` must be A, B or = in rows {', '.join(bad)}")
    ours = sum(better[n] == key[n] for n in key)
    equal = sum(better[n] == "=" for n in key)
    decided = len(key) - equal
    tail = sum(comb(decided, k) for k in range(max(ours, decided - ours), decided + 1))
    return {
        "lists": len(key),
        "ours": ours,
        "theirs": decided - ours,
        "equal": equal,
        "our_share": round(ours / decided, 3) if decided else None,
        "p": round(min(1.0, 2 * tail / 2**decided), 4),
    }
