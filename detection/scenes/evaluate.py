"""How far the look at the whole picture, and the rules of moments on top of it, can be trusted: measured on photos that
nothing learned from.

    python -m detection.scenes.evaluate --data FOLDER --out report.json

Photos: the annotated ones set aside (`split` "test" in `annotations.jsonl`), their paths under FOLDER. A tag is right
where the annotator listed or mentioned it, and missed where they did and it was not named.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError, exit_with
from common.files import write_json
from detection.scenes import SceneDetector
from detection.scenes.annotations import Annotation, read_annotations


@dataclass(frozen=True)
class Report:
    """Counts by tag: named and there, named and not there, there and not named."""

    right: Counter
    wrong: Counter
    missed: Counter

    def figures(self) -> dict:
        """Precision and recall over all tags and by tag (those that stand in five photos or were named)."""
        ids = {*self.right, *self.wrong, *self.missed}
        rows = {i: _rates(self.right[i], self.wrong[i], self.missed[i]) for i in sorted(ids)}
        total = _rates(*(sum(c.values()) for c in (self.right, self.wrong, self.missed)))
        return {"all": total, "tags": rows}


def _rates(right: int, wrong: int, missed: int) -> dict:
    share = lambda a, b: round(a / b, 3) if b else None
    return {"right": right, "precision": share(right, right + wrong), "recall": share(right, right + missed)}


def compare(named: dict[str, set[str]], rows: list[Annotation]) -> Report:
    """What was named for each photo, held against what its annotator saw."""
    right, wrong, missed = Counter(), Counter(), Counter()
    for row in rows:
        there, found = {*row.scenes, *row.moments}, named[row.file]
        right.update(found & {*there, *row.mention})
        wrong.update(found - there - set(row.mention))
        missed.update(there - found)
    return Report(right, wrong, missed)


def evaluate(data: Path, weights: str = "pocket") -> Report:
    """Look at the photos that were set aside.

    Raises:
        UserError: they are not there.
    """
    from rich.progress import track

    from detection.photos import open_photo

    rows = read_annotations("test")
    if lost := [row.file for row in rows if not (data / row.file).exists()]:
        raise UserError(f"{len(lost)} of {len(rows)} photos are not in {data}, e.g. {lost[0]}")
    detector = SceneDetector(weights)
    named = {
        row.file: {d.label for d in detector.detect(open_photo(data / row.file)[0]) if d.sure and d.kind != "object"}
        for row in track(rows, "looking")
    }
    return compare(named, rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m detection.scenes.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that the annotated paths lie under")
    parser.add_argument("--weights", default="pocket", help="embedded, or a file of detection.scenes.train")
    parser.add_argument("--out", type=Path, help="also write the report there, as JSON")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    told = evaluate(args.data, args.weights).figures()
    if args.out:
        write_json(args.out, told)
    print(json.dumps(told["all"]))
    return 0


if __name__ == "__main__":
    exit_with(main)
