"""The evaluation's report: JSON, Markdown and pictures."""

import json
from pathlib import Path

import numpy as np


def write_report(figures: dict, out: Path) -> None:
    """Write report.json, report.md, confusion.png, precision_recall.png and reliability.png into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", json.dumps(figures, indent=1)), ("report.md", markdown(figures))):
        part = out / f"{name}.part"
        part.write_text(text + "\n", "utf-8")
        part.replace(out / name)
    import matplotlib

    matplotlib.use("Agg")
    for name, draw in (
        ("confusion", _draw_confusion),
        ("precision_recall", _draw_curves),
        ("reliability", _draw_reliability),
    ):
        _save(draw, figures, out / f"{name}.png")


def markdown(figures: dict) -> str:
    """The figures as Markdown tables."""
    lines = [f"# Faces and feelings: {figures['weights']} on {figures['data']}/{figures['split']}", ""]
    keys = ("pictures", "faces", "found", "false_faces_per_picture", "accuracy", "macro_recall", "mAP50", "mAP50-95")
    rows = [(key.replace("_", " "), _text(figures[key])) for key in (*keys, "expected_calibration_error")]
    lines += _table(["what", "value"], rows)
    lines += _table(
        ["class", "AP50", "AP50-95"],
        [(name, _text(row["AP50"]), _text(row["AP50-95"])) for name, row in figures["per_class"].items()]
        + [("any face", _text(f["AP50"]), _text(f["AP50-95"])) for f in [figures["finding"]] if f],
    )
    answers = list(next(iter(figures["confusion"].values())))
    lines += _table(
        ["truth", *answers], [(truth, *map(str, row.values())) for truth, row in figures["confusion"].items()]
    )
    for title, key in (("face size", "by_size"), ("annotators' agreement", "by_agreement")):
        if figures[key]:
            rows = [(name, *map(_text, row.values())) for name, row in figures[key].items()]
            lines += _table([title, "faces", "found", "named right"], rows)
    rows = [tuple(map(_text, row.values())) for row in figures["by_threshold"] if row["said"]]
    lines += _table(["feelings said from", "said", "right"], rows)
    return "\n".join(lines).rstrip()


def _table(head: list[str], rows: list[tuple]) -> list[str]:
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _text(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _save(draw, figures: dict, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 5), layout="constrained")
    draw(axes, figures)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_confusion(axes, figures: dict) -> None:
    table = figures["confusion"]
    counts = np.array([list(row.values()) for row in table.values()], float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(counts.shape[1]), next(iter(table.values())), rotation=30)
    axes.set_yticks(range(len(table)), table)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    axes.set(xlabel="answer", ylabel="truth", title="Faces by truth and answer")


def _draw_curves(axes, figures: dict) -> None:
    recall = np.linspace(0, 1, 101)
    for name, row in figures["per_class"].items():
        axes.plot(recall, row["precision"], label=f"{name} {row['AP50']:.3f}")
    if figures["finding"]:
        axes.plot(recall, figures["finding"]["precision"], "k--", label=f"any face {figures['finding']['AP50']:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall at IoU 0.5")
    axes.legend(title="AP50", loc="lower left")


def _draw_reliability(axes, figures: dict) -> None:
    axes.plot([0, 1], [0, 1], "k:", label="as it should be")
    if figures["reliability"]:
        score, share, count = np.array(figures["reliability"]).T
        axes.scatter(score, share, s=20 + 300 * count / count.max())
        axes.plot(score, share, label=f"ECE {figures['expected_calibration_error']:.3f}")
    axes.set(xlabel="score", ylabel="share right", xlim=(0, 1), ylim=(0, 1), title="Do scores mean what they say?")
    axes.legend(loc="upper left")
