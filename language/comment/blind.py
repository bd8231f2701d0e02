"""Blind reading: two sources of comments for the same lists, side by side, in an order that only a key file knows.

    python -m language.comment.blind make --theirs pairs_train.json --out reading/
    python -m language.comment.blind score reading/

`make` writes `sheet.csv` (fill in the column `better`: A, B or =) and `key.json`, which readers must not open; `score`
counts. Theirs is any file of pairs (see `language/comment/pairs.py`).
"""

import argparse
import csv
import json
import os
import random
import sys
from collections.abc import Iterable
from math import comb
from pathlib import Path

from configs.errors import UserError, exit_with
from language.comment.pairs import read_pairs
from language.comment.writer import CommentWriter
from language.records import Pair

COLUMNS = ("number", "elements", "A", "B", "better")
SHEET, KEY = "sheet.csv", "key.json"


def make(theirs: Iterable[Pair], writer: CommentWriter, out: Path, count: int = 60, seed: int = 0) -> Path:
    """Write the sheet and its key; each list once, ours as A or B by the toss of a coin.

    Raises:
        UserError: too few different lists, or a sheet already stands there.
    """
    rng = random.Random(seed)
    by_list: dict[str, list[str]] = {}
    for pair in theirs:
        by_list.setdefault(pair.elements, []).append(pair.comment)
    if len(by_list) < count:
        raise UserError(f"{count} lists are wanted, but there are only {len(by_list)} different ones")
    if (out / SHEET).exists():
        raise UserError(f"{out / SHEET} exists already; readings are not overwritten")
    rows, key = [], {}
    for number, elements in enumerate(rng.sample(sorted(by_list), count), 1):
        texts = [writer.write(elements, seed=seed + number)[0].text, rng.choice(by_list[elements])]
        ours = rng.choice("AB")
        rows.append([number, elements, *(texts if ours == "A" else texts[::-1]), ""])
        key[number] = ours
    out.mkdir(parents=True, exist_ok=True)
    with (out / SHEET).open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    part = out / f"{KEY}.part"
    part.write_text(json.dumps(key), "utf-8")
    os.replace(part, out / KEY)
    return out / SHEET


def score(folder: Path) -> dict:
    """Count a filled-in sheet: ours, theirs, equal, our share of the decided, and the sign test's p (two-sided).

    Raises:
        UserError: files are missing, or cells hold something else than A, B or =; all are named.
    """
    try:
        key = json.loads((folder / KEY).read_text("utf-8"))
        with (folder / SHEET).open(encoding="utf-8-sig", newline="") as file:
            verdicts = {row["number"]: (row["better"] or "").strip().upper() for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no reading ({SHEET} and {KEY}): {error}") from None
    bad = [number for number in key if verdicts.get(number) not in {"A", "B", "="}]
    if bad:
        raise UserError(f"{folder / SHEET}: `better` must be A, B or = in rows {', '.join(bad)}")
    ours = sum(verdicts[n] == key[n] for n in key)
    equal = sum(verdicts[n] == "=" for n in key)
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.blind", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write sheet and key")
    making.add_argument("--theirs", type=Path, required=True, metavar="FILE", help="pairs to compare with")
    making.add_argument("--out", type=Path, required=True, metavar="DIR")
    making.add_argument("--writer", default="t5", metavar="t5|gpt2|bank|DIR")
    making.add_argument("--lang", default="ko")
    making.add_argument("--style", default="polite")
    making.add_argument("--lists", type=int, default=60, metavar="N")
    making.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score", help="count a filled-in sheet")
    scoring.add_argument("folder", type=Path)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.command == "score":
        print(json.dumps(score(args.folder)))
        return 0
    theirs = read_pairs(args.theirs).values()
    print(make(theirs, CommentWriter(args.writer, args.lang, args.style), args.out, args.lists, args.seed))
    return 0


if __name__ == "__main__":
    exit_with(main)
