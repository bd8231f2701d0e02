"""Blind reading: two sources of comments for the same lists, side by side, in an order that only a key file knows.

    python -m language.comment.blind make --theirs pairs_train.json --out reading/
    python -m language.comment.blind make --photos album/ --ours ours.jsonl --theirs theirs.jsonl --out reading/
    python -m language.comment.blind score reading/

`make` writes `sheet.csv` (fill in the column `better`: A, B or =) and `key.json`, which readers must not open; `score`
counts. Theirs is any file of pairs (see `language/comment/pairs.py`). With `--photos` both sources are results of
`pipeline.run --json` or `pipeline.batch`, and a page shows each picture with its list and both comments.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError, exit_with
from language.comment import photo_reading
from language.comment.pairs import read_pairs
from language.comment.reading import SHEET, read_filled, verdicts, write_reading
from language.comment.writer import CommentWriter
from language.records import Pair

COLUMNS = ("number", "elements", "A", "B", "better")


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
    rows, key = [], {}
    for number, elements in enumerate(rng.sample(sorted(by_list), count), 1):
        texts = [writer.write(elements, seed=seed + number)[0].text, rng.choice(by_list[elements])]
        ours = rng.choice("AB")
        rows.append([number, elements, *(texts if ours == "A" else texts[::-1]), ""])
        key[number] = ours
    write_reading(out, COLUMNS, rows, key, {})
    return out / SHEET


def score(folder: Path) -> dict:
    """Count a filled-in sheet: ours, theirs, equal, our share of the decided, and the sign test's p (two-sided); of one
    with photos also what is good and what embarrassing.

    Raises:
        UserError: files are missing, or cells hold something else than A, B or =; all are named.
    """
    if (folder / photo_reading.PAGE).exists():
        return photo_reading.score(folder)
    return verdicts(folder, *read_filled(folder))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.blind", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write sheet and key")
    making.add_argument("--theirs", type=Path, required=True, metavar="FILE", help="pairs, or results, to compare with")
    making.add_argument("--photos", type=Path, metavar="DIR", help="a folder of photos to look at")
    making.add_argument("--ours", type=Path, metavar="FILE", help="with --photos: our results")
    making.add_argument("--out", type=Path, required=True, metavar="DIR")
    making.add_argument("--writer", default="t5", metavar="t5|gpt2|bank|DIR")
    making.add_argument("--lang", default="ko")
    making.add_argument("--style", default="polite")
    making.add_argument("--lists", type=int, default=60, metavar="N", help="how many lists, or photos")
    making.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score", help="count a filled-in sheet")
    scoring.add_argument("folder", type=Path)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.command == "score":
        print(json.dumps(score(args.folder)))
        return 0
    if bool(args.photos) != bool(args.ours):
        raise UserError("--photos and --ours belong together")
    if args.photos:
        print(photo_reading.make(args.photos, args.ours, args.theirs, args.out, args.lists, args.seed))
        return 0
    theirs = read_pairs(args.theirs).values()
    print(make(theirs, CommentWriter(args.writer, args.lang, args.style), args.out, args.lists, args.seed))
    return 0


if __name__ == "__main__":
    exit_with(main)
