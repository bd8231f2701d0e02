"""Measure a captioner on photos that it never saw.

    python -m language.caption.evaluate runs/caption
    python -m language.caption.evaluate runs/caption --data captions.csv --photos images/ --decode captions greedy

RUN is a run of `language.caption.train`; without --data its own held-out photos are used. Results stand in
`<run>/evaluations/<data>-<decode>/`: evaluation.json (figures with everything that explains them) and predictions.json.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

import yaml

from common.errors import UserError, exit_with
from common.files import read_jsonl
from language.caption.photos import UnreadablePhoto, open_rgb
from language.caption.write import load, progress, write
from language.comment.generate import load_decode

DISTRACTORS = 20
BOOTSTRAP = 1000


def run_rows(file: Path) -> list:
    """Rows of a run's `held_out.jsonl` or `train.jsonl`.

    Raises:
        UserError: the file is missing or damaged.
    """
    from language.caption.data import Row

    try:
        return [Row(**row) for row in read_jsonl(file)]
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): is this a run of language.caption.train?") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}") from None


def chosen_rows(run: Path, data: Path | None, photos: Path | None) -> list:
    """The run's held-out rows, or those of a caption file by the cleaning rules that the run was trained with."""
    from language.caption.data import Cleaning, Source, gather

    if (data is None) != (photos is None):
        raise UserError("--data FILE.csv and --photos DIR go together")
    if data is None:
        return run_rows(run / "held_out.jsonl")
    settings = yaml.safe_load((run / "settings.yaml").read_text("utf-8"))
    return gather([Source(csv=data, photos=photos)], Cleaning(**settings["cleaning"])).rows


def by_photo(rows: list) -> tuple[dict[str, list[str]], list[str]]:
    """Captions of each photo that opens, and why the others do not."""
    together, unreadable = defaultdict(list), []
    for row in rows:
        together[row.image].append(row.caption)
    for photo in list(together):
        try:
            open_rgb(photo)
        except UnreadablePhoto as error:
            unreadable.append(str(error))
            del together[photo]
    if not together:
        raise UserError(f"no photo to measure with can be read{': ' + unreadable[0] if unreadable else ''}")
    return dict(together), unreadable


def ranking(captioner: tuple, references: dict[str, list[str]], distractors: int, seed: int) -> tuple[dict, list]:
    """(figures, place of each photo's right caption) among captions of other photos."""
    from language.caption.likelihood import BLANK, candidates, ranks
    from language.metrics.intervals import with_interval

    lists = candidates(references, distractors, seed)
    if min(map(len, lists)) < 2:
        raise UserError(f"ranking needs at least two photos with different captions, but there are {len(references)}")
    places = list(progress(ranks(captioner, references, lists), len(lists)))
    several = mean(map(len, lists))
    found = with_interval("mean_rank", places, BOOTSTRAP)
    found |= with_interval("ranked_first", [float(place == 1) for place in places], BOOTSTRAP)
    about = {"mean_rank_by_chance": (several + 1) / 2, "candidates": several, "blank_rgb": BLANK, "ranking_seed": seed}
    return found | about, places


def about_run(run: Path, captioner: tuple, rows: list) -> dict:
    """What the figures of a run need beside them: size, data, and what it was trained on of these photos."""
    from language.caption.data import leaks

    model, train = captioner[0], run_rows(run / "train.jsonl")
    data = json.loads((run / "data.json").read_text("utf-8"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(file.stat().st_size for file in (run / "best").glob("*.safetensors")),
        "device": str(model.device),
        "train_photos": len({row.image for row in train}),
        "split_hash": data["split_hash"],
        "leaks": {**leaks(train, rows), "files_seen": files_seen(train, rows)},
    }


def files_seen(train: list, test: list) -> float:
    """Share of the photos whose file, byte for byte, was trained on, under whatever name."""
    files = lambda rows: (Path(image) for image in {row.image for row in rows} if Path(image).is_file())
    digests = lambda rows: [hashlib.sha256(file.read_bytes()).digest() for file in files(rows)]
    known, tested = set(digests(train)), digests(test)
    return round(sum(digest in known for digest in tested) / max(1, len(tested)), 4)


def evaluate(
    run: Path, data: Path | None, photos: Path | None, decodes: list[str], distractors: int = DISTRACTORS, seed: int = 0
) -> list[Path]:
    """Evaluate a run with each decode preset; returns the written evaluation.json files.

    Raises:
        UserError: the run is not finished, the data cannot be used, or a preset is unknown; nothing is written then.
    """
    from common.files import write_json
    from language.caption.scores import score

    presets = [load_decode(name) for name in decodes]
    rows = chosen_rows(run, data, photos)
    references, unreadable = by_photo(rows)
    captioner = load(run)
    about = about_run(run, captioner, rows)
    ranked, places = ranking(captioner, references, distractors, seed)
    files = []
    for name, decode in presets:
        start = time.perf_counter()
        written = list(progress(write(captioner, list(references), decode), len(references)))
        ms = 1000 * (time.perf_counter() - start) / len(written)
        predictions = [row["caption"] for row in written]
        out = run / "evaluations" / f"{data.stem if data else 'held_out'}-{name}"
        out.mkdir(parents=True, exist_ok=True)
        listed = [
            {"image": photo, "references": texts, "prediction": text, "rank": place}
            for (photo, texts), text, place in zip(references.items(), predictions, places, strict=True)
        ]
        write_json(out / "predictions.json", listed)
        content = {
            "name": run.name,
            "data": data.name if data else "held_out.jsonl",
            "photos": len(references),
            "references": sum(map(len, references.values())),
            "unreadable": unreadable,
            **about,
            "decode": name,
            "decode_settings": decode.model_dump(),
            "ms_per_photo": round(ms, 1),
            "metrics": {**ranked, **score(predictions, list(references.values()), BOOTSTRAP)},
        }
        write_json(out / "evaluation.json", content)
        files.append(out / "evaluation.json")
    return files


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.caption.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--data", type=Path, metavar="CSV", help="captions, in any format that train reads")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="the photos of --data")
    parser.add_argument("--decode", nargs="+", default=["captions"], metavar="NAME", help="presets of configs/decode")
    parser.add_argument("--distractors", type=int, default=DISTRACTORS, metavar="N", help="captions of other photos")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which captions they are (default: 0)")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.distractors < 1:
        raise UserError(f"--distractors must be a whole number from 1, but is {args.distractors}")
    for file in evaluate(args.run, args.data, args.photos, args.decode, args.distractors, args.seed):
        content = json.loads(file.read_text("utf-8"))
        if content["unreadable"]:
            print(f"left out, as they cannot be read: {len(content['unreadable'])} photos", file=sys.stderr)
        shown = ("bleu_word", "chrf", "rougeL", "cider", "distinct_captions", "repetition", "mean_rank")
        figures = {key: round(content["metrics"][key], 4) for key in shown}
        print(file, json.dumps({**figures, "leaks": content["leaks"], "ms_per_photo": content["ms_per_photo"]}))
    return 0


if __name__ == "__main__":
    exit_with(main)
