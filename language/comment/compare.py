"""Put evaluations beside each other: one table, loss curves, examples. No figure is typed by hand.

    python -m language.comment.compare runs/one runs/two --out docs/comment-models.md --published configs/published.yaml

Writes the Markdown file, the same as JSON beside it, and a picture of the loss curves in bits per character.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from common.errors import UserError, exit_with
from configs.load import Settings, load_settings

COLUMNS = {  # figure -> its name in tables
    "original_bleu_4": "raw BLEU-4",
    "original_meteor": "METEOR",
    "bleu_char": "BLEU char",
    "bleu_word": "BLEU words",
    "bleu_char_multi": "BLEU char, multi",
    "chrf": "chrF",
    "rougeL": "ROUGE-L",
    "distinct_2": "distinct-2",
    "self_bleu": "self-BLEU",
    "coverage": "names a thing",
    "unsupported_rate": "not there",
    "contradiction_rate": "wrong mood",
    "violation_rate": "breaks a rule",
}
EXAMPLES = 8


class PublishedModel(Settings):
    """Figures of one model as published."""

    bleu: list[float]
    meteor: float
    loss: float


class Published(Settings):
    """Somebody's published figures and what was wrong with them."""

    source: str
    rows: int
    models: dict[str, PublishedModel]
    wrong: list[str]


def read_evaluations(folders: list[Path]) -> list[dict]:
    """All evaluations under run folders (or folders of evaluations), by test set, then as the runs were named.

    Raises:
        UserError: a folder holds none, or one is damaged.
    """
    found = []
    for folder in folders:
        files = sorted(folder.rglob("evaluation.json"))
        if not files:
            raise UserError(f"{folder} holds no evaluation.json; `python -m language.comment.evaluate` writes them")
        for file in files:
            try:
                row = json.loads(file.read_text("utf-8"))
                row["predictions"] = json.loads((file.parent / "predictions.json").read_text("utf-8"))
                found.append({**row, "test": f"{row['data']} / {row['keys'] or 'all'}"})
                _ = row["metrics"]["bleu_char"]
            except (OSError, ValueError, KeyError) as error:
                raise UserError(f"{file} is damaged: {error}") from None
    tests = list(dict.fromkeys(row["test"] for row in found))
    return sorted(found, key=lambda row: tests.index(row["test"]))


def table(rows: list[dict]) -> list[str]:
    """Lines of a Markdown table of evaluations on one test set; intervals in brackets."""
    lines = ["| model | decoding | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in rows:
        cells = []
        for key in COLUMNS:
            low_high = row["metrics"].get(f"{key}_interval")
            more = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
            cells.append(f"{row['metrics'][key]:.4f}{more}")
        lines.append(f"| {row['name']} | {row['decode']} | " + " | ".join(cells) + " |")
    return lines


def conditions(rows: list[dict]) -> list[str]:
    """What each figure rests on: size, data, leaks, speed; one line a model and decoding."""
    lines = [
        "| model | decoding | parameters | MB | trained on | split (hash) | test sets seen | test pairs seen "
        "| bits per character | ms a comment |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    show = lambda value, form="{}": "" if value is None else form.format(value)
    for row in rows:
        seen = row.get("leaks", {})
        split = f"{row['split']} ({row['split_hash']})" if "split" in row else ""
        lines.append(
            f"| {row['name']} | {row['decode']} | {show(row.get('parameters'), '{:,}')} | {row['bytes'] / 1e6:.1f} "
            f"| {show(row.get('train_pairs'), '{:,}')} | {split} | {show(seen.get('sets_seen'), '{:.3f}')} "
            f"| {show(seen.get('pairs_seen'), '{:.3f}')} | {show(row.get('bits_per_character'), '{:.3f}')} "
            f"| {row['ms_per_comment']} |"
        )
    return lines


def examples(rows: list[dict], seed: int = 0) -> list[str]:
    """Some lists with every model's comment, drawn by index."""
    count = len(rows[0]["predictions"])
    lines = []
    for index in sorted(random.Random(seed).sample(range(count), min(EXAMPLES, count))):
        first = rows[0]["predictions"][index]
        lines += [f"**{first['elements'] or '(empty)'}** — reference: {first['reference']}", ""]
        lines += [f"- {row['name']}, {row['decode']}: {row['predictions'][index]['prediction']}" for row in rows]
        lines.append("")
    return lines


def draw_curves(folders: list[Path], target: Path) -> bool:
    """Held-out bits per character against epochs, one line a run; False where no run kept a history."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), dpi=150)
    for folder in folders:
        if not (folder / "history.json").exists():
            continue
        scale = json.loads((folder / "data.json").read_text("utf-8"))["bits_per_character_of_loss"]
        history = json.loads((folder / "history.json").read_text("utf-8"))["log_history"]
        points = [(row["epoch"], row["eval_loss"] * scale) for row in history if "eval_loss" in row]
        axes.plot(*zip(*points, strict=True), marker=".", label=folder.name)
    drawn = bool(axes.lines)
    if drawn:
        axes.set(xlabel="epoch", ylabel="held-out bits per character")
        axes.legend()
        axes.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(target)
    plt.close(figure)
    return drawn


def published_lines(published: Published) -> list[str]:
    """The published figures and what was wrong with them."""
    lines = [f"From {published.source}, {published.rows:,} pairs.", ""]
    lines += ["| model | raw BLEU-1 | -2 | -3 | -4 | METEOR | loss per token |", "|---|---|---|---|---|---|---|"]
    for name, m in published.models.items():
        lines.append(f"| {name} | " + " | ".join(f"{b:.4f}" for b in m.bleu) + f" | {m.meteor:.4f} | {m.loss:.4f} |")
    return [*lines, "", "What was wrong with them:", "", *(f"- {text}" for text in published.wrong)]


def compare(folders: list[Path], out: Path, published: Path | None = None) -> Path:
    """Write the comparison of runs; returns the Markdown file."""
    rows = read_evaluations(folders)
    out.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python -m language.comment.compare", *(f.name for f in folders), "--out", out.name])
    lines = ["# Comment models compared", "", f"Written by `{command}`; not edited by hand.", ""]
    if published:
        lines += ["## As published", "", *published_lines(load_settings(published, Published)), ""]
    for test in dict.fromkeys(row["test"] for row in rows):
        some = [row for row in rows if row["test"] == test]
        lines += [f"## {test}, {some[0]['rows']:,} pairs", "", *table(some), "", *conditions(some), ""]
        lines += ["### Examples", "", *examples(some)]
    signatures = {key: rows[0]["metrics"][key] for key in sorted(rows[0]["metrics"]) if key.endswith("_signature")}
    lines += ["## Signatures", "", *(f"- {key}: `{value}`" for key, value in signatures.items()), ""]
    picture = out.with_name(f"{out.stem}-loss.png")
    if draw_curves(folders, picture):
        lines += ["## Loss", "", f"![held-out bits per character]({picture.name})", ""]
    short = [{key: value for key, value in row.items() if key != "predictions"} for row in rows]
    out.with_suffix(".json").write_text(json.dumps(short, ensure_ascii=False, indent=1) + "\n", "utf-8")
    out.write_text("\n".join(lines), "utf-8")
    return out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.compare", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders with evaluations")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md")
    parser.add_argument("--published", type=Path, metavar="YAML", help="published figures to put beside them")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    print(compare(args.runs, args.out, args.published))
    return 0


if __name__ == "__main__":
    exit_with(main)
