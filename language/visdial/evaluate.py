"""Measure answers about photos, written or ranked, against what people answered.

    python -m language.visdial.evaluate --predictions answers.jsonl --groundtruth visdial_1.0_val.json --verbose
    python -m language.visdial.evaluate --predictions ranks.json --groundtruth visdial_1.0_val.json --dense dense.json

`language/visdial/predictions.py` tells the formats. Results stand in `OUT/<name of the predictions>/`: evaluation.json
(figures with everything that explains them) and rows.jsonl (every prediction, its problem, its leak). Rows that failed
are counted and named, and no part of a figure. Exit status 1 when rows failed or knew the answer from their prompt.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError, exit_with
from common.files import write_jsonl
from language.visdial.answers import extract
from language.visdial.predictions import Groundtruth, Prediction, Truth, leak, read_predictions

BOOTSTRAP = 1000  # resamples of the intervals, drawn with seed 0
SHOWN = 5  # best and worst rows
LOWER_IS_BETTER = ("mean",)


@dataclass
class Measured:
    """Figures of one file: of all rows, and `value` of each measured row (by its place), named `by`."""

    metrics: dict
    by: str
    values: dict[int, float]
    columns: dict[str, list[float]]  # for the distributions
    notes: dict[str, str] = field(default_factory=dict)


def evaluate(
    predictions: Path,
    groundtruth: Path,
    dense: Path | None = None,
    out: Path = Path("runs/evaluations"),
    bertscore: str = "roberta-large",
) -> Path:
    """Measure a file of predictions; returns the written evaluation.json.

    Raises:
        UserError: a file cannot be read or breaks its format, scores are NaN or infinite, or nothing can be measured.
    """
    from common.files import write_json

    rows, truth = read_predictions(predictions), Groundtruth(groundtruth)
    truths = [truth.of(row) for row in rows]
    good = [n for n, row in enumerate(rows) if truths[n] and not row.problem]
    if not good:
        first = next((f"; {row.where}: {row.problem}" for row in rows if row.problem), "")
        raise UserError(f"{predictions}: none of {len(rows)} rows can be measured against {groundtruth}{first}")
    ranked = rows[good[0]].scores is not None
    if dense and not ranked:
        raise UserError("--dense measures ranked options, but the predictions are written answers")
    measured = _ranking(rows, truths, good, dense) if ranked else _writing(rows, truths, good, bertscore)
    listed = [
        _listed(row, known, measured.values.get(n), measured.by)
        for n, (row, known) in enumerate(zip(rows, truths, strict=True))
    ]
    config = {"predictions": predictions.name, "groundtruth": groundtruth.name, "dense": dense and dense.name}
    report = {
        "config": {
            **config,
            "kind": "ranked options" if ranked else "written answers",
            "bootstrap": BOOTSTRAP,
            "seed": 0,
        },
        "counts": _counts(rows, listed, truth.images),
        "metrics": measured.metrics,
        "lower_is_better": [name for name in LOWER_IS_BETTER if name in measured.metrics],
        "notes": measured.notes,
        "distribution": {name: distribution(column) for name, column in measured.columns.items()},
        "examples_by": measured.by,
        **_examples(listed, measured),
    }
    folder = out / predictions.stem
    write_jsonl(folder / "rows.jsonl", listed)
    write_json(folder / "evaluation.json", report)
    return folder / "evaluation.json"


def _ranking(rows: list[Prediction], truths: list[Truth], good: list[int], dense: Path | None) -> Measured:
    from language.visdial.dialogs import read_dense
    from language.visdial.metrics import NDCG, SparseMetrics

    relevances = read_dense(dense) if dense else {}
    everything, one, ndcg, values = SparseMetrics(), SparseMetrics(), NDCG(), {}
    for n in good:
        row, known = rows[n], truths[n]
        asked = known.dialog.rounds[known.turn - 1] if known.dialog else None
        if asked is None or asked.options is None or asked.gold is None:
            raise UserError(f"{row.where}: ranks need a groundtruth with answer_options and gt_index (VisDial 1.0 val)")
        if len(row.scores) != len(asked.options):
            raise UserError(f"{row.where}: {len(row.scores)} options are ranked, but there are {len(asked.options)}")
        try:
            for metric in (everything, one):
                metric.observe(row.scores, asked.gold, [row.where])
            if relevance := relevances.get((row.image_id, known.turn)):
                ndcg.observe(row.scores, relevance, [row.where])
        except ValueError as error:
            raise UserError(str(error)) from None
        values[n] = one.retrieve()["mean"]
        one.reset()
    metrics = everything.retrieve()
    if dense:
        metrics |= {name if name == "ndcg" else f"ndcg_{name}": value for name, value in ndcg.retrieve().items()}
    notes = {"ties": "options with the same score share the mean of what all their orders would give"}
    return Measured(metrics, "rank", values, {"rank": list(values.values())}, notes)


def _writing(rows: list[Prediction], truths: list[Truth], good: list[int], bertscore: str) -> Measured:
    from sacrebleu.metrics import CHRF

    from language import metrics
    from language.caption.scores import plain
    from language.metrics.bertscore import bert_scores
    from language.metrics.intervals import with_interval

    answers = [plain(extract(rows[n].text, rows[n].conversation).answer) for n in good]
    references = [[plain(text) for text in truths[n].answers] for n in good]
    found: dict = {}
    for name, more in (("rouge", {"lang": "en"}), ("bleu", {"lang": "en"}), ("chrf", {})):
        found |= metrics.load(name).compute(predictions=answers, references=references, bootstrap=BOOTSTRAP, **more)
    same = [float(answer in texts) for answer, texts in zip(answers, references, strict=True)]
    found |= with_interval("same_as_gold", same, BOOTSTRAP)
    chrf = CHRF()
    each = [chrf.sentence_score(a, texts).score / 100 for a, texts in zip(answers, references, strict=True)]
    columns = {"chrf": each, "answer_words": [float(len(answer.split())) for answer in answers]}
    bert, f1, left_out = bert_scores(answers, references, bertscore)
    notes = {"texts": "compared in lower case and without punctuation"}
    if left_out:
        notes["bertscore"] = left_out
    else:
        columns["bertscore_f1"] = f1
    return Measured({**found, **bert}, "chrf", dict(zip(good, each, strict=True)), columns, notes)


def distribution(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation, least, quartiles and most of some numbers."""
    import numpy as np

    least, q25, median, q75, most = np.percentile(values, [0, 25, 50, 75, 100])
    found = {"mean": np.mean(values), "std": np.std(values), "min": least, "q25": q25, "median": median, "q75": q75}
    return {name: round(float(value), 4) for name, value in {**found, "max": most}.items()}


def _listed(row: Prediction, truth: Truth | None, value: float | None, by: str) -> dict:
    """A row as it is written: what was found out about it."""
    status = "failed" if row.problem else "ok" if truth else "without groundtruth"
    told = {"row": row.where, "image_id": row.image_id, "round": truth.turn if truth else row.turn, "status": status}
    told |= {"problem": row.problem, "leak": leak(row, truth), "gold": list(truth.answers) if truth else None}
    if row.text is not None:
        found = extract(row.text, row.conversation)
        told |= {"answer": found.answer, "echo": bool(found.prompt), "thought": found.thought}
        told |= {"unclosed": found.unclosed}
    return told if value is None else {**told, by: round(value, 4)}


def _counts(rows: list[Prediction], listed: list[dict], images: set[int]) -> dict[str, int]:
    states = Counter(row["status"] for row in listed)
    found = {"rows": len(rows), "measured": states["ok"], "failed": states["failed"]}
    found |= {"without_groundtruth": states["without groundtruth"], "leaks": sum(bool(row["leak"]) for row in listed)}
    found["images_not_predicted"] = len(images - {row.image_id for row in rows})
    names = {"echo": "echoed_prompts", "thought": "with_reasoning_tags", "unclosed": "unclosed_tags"}
    return found | {name: sum(row.get(key, False) for row in listed) for key, name in names.items()}


def _examples(listed: list[dict], measured: Measured) -> dict[str, list[dict]]:
    """The best and the worst rows, and all that failed or leaked."""
    order = sorted(measured.values, key=measured.values.get, reverse=measured.by != "rank")
    return {
        "best": [listed[n] for n in order[:SHOWN]],
        "worst": [listed[n] for n in order[::-1][:SHOWN]],
        "failed": [{"row": row["row"], "problem": row["problem"]} for row in listed if row["problem"]],
        "leaks": [{"row": row["row"], "leak": row["leak"]} for row in listed if row["leak"]],
    }


def _print(report: dict, verbose: bool) -> None:
    counts, by = report["counts"], report["examples_by"]
    for name, value in report["metrics"].items():
        if isinstance(value, float):
            low, high = report["metrics"].get(f"{name}_interval") or (None, None)
            print(f"{name:<20} {value:.4f}" + (f"  [{low:.4f}, {high:.4f}]" if low is not None else ""))
    print(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items()))
    if "bertscore" in report["notes"]:
        print(f"bertscore {report['notes']['bertscore']}")
    if verbose:
        for name, values in report["distribution"].items():
            print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in values.items()))
        for kind in ("best", "worst"):
            for row in report[kind]:
                answer = f"{row['answer']!r}" if "answer" in row else ""
                print(f"{kind:<6} {by} {row[by]:g}  {row['row']}: {answer} (people: {' / '.join(row['gold'])!r})")
    for name, key in (("failed", "problem"), ("leaks", "leak")):
        shown = report[name] if verbose else report[name][:SHOWN]
        for row in shown:
            print(f"{name}: {row['row']}: {row[key]}", file=sys.stderr)
        if len(report[name]) > len(shown):
            print(f"{name}: and {len(report[name]) - len(shown):,} more (--verbose lists them)", file=sys.stderr)
    if counts["leaks"]:
        print(
            f"leak: {counts['leaks']:,} of {counts['rows']:,} rows know the gold answer from their prompt; "
            "these figures measure copying",
            file=sys.stderr,
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.visdial.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="JSON list or JSONL")
    parser.add_argument(
        "--groundtruth", type=Path, required=True, metavar="FILE", help="VisDial 1.0 JSON, or rows of image_id, answer"
    )
    parser.add_argument("--dense", type=Path, metavar="FILE", help="dense annotations, for NDCG of ranked options")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluations"), metavar="FOLDER", help="%(default)s")
    parser.add_argument(
        "--bertscore", default="roberta-large", metavar="MODEL", help="folder, or a model that is there (%(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="distributions, best and worst rows, all failures")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    file = evaluate(args.predictions, args.groundtruth, args.dense, args.out, args.bertscore)
    report = json.loads(file.read_text("utf-8"))
    _print(report, args.verbose)
    print(file)
    return int(bool(report["counts"]["failed"] or report["counts"]["leaks"]))


if __name__ == "__main__":
    exit_with(main)
