"""The emotion report: tables, and what its pictures show."""

import numpy as np

from detection.report import table, text


def markdown(figures: dict) -> str:
    """The figures as Markdown tables."""
    lines = [f"# Faces and feelings: {figures['weights']} on {figures['data']}/{figures['split']}", ""]
    keys = ("pictures", "faces", "found", "false_faces_per_picture", "accuracy", "macro_recall", "mAP50", "mAP50-95")
    rows = [(key.replace("_", " "), text(figures[key])) for key in (*keys, "expected_calibration_error")]
    lines += table(["what", "value"], rows)
    lines += table(
        ["class", "AP50", "AP50-95"],
        [(name, text(row["AP50"]), text(row["AP50-95"])) for name, row in figures["per_class"].items()]
        + [("any face", text(f["AP50"]), text(f["AP50-95"])) for f in [figures["finding"]] if f],
    )
    answers = list(next(iter(figures["confusion"].values())))
    lines += table(
        ["truth", *answers], [(truth, *map(str, row.values())) for truth, row in figures["confusion"].items()]
    )
    for title, key in (("face size", "by_size"), ("annotators' agreement", "by_agreement")):
        if figures[key]:
            rows = [(name, *map(text, row.values())) for name, row in figures[key].items()]
            lines += table([title, "faces", "found", "named right"], rows)
    rows = [tuple(map(text, row.values())) for row in figures["by_threshold"] if row["said"]]
    lines += table(["feelings said from", "said", "right"], rows)
    return "\n".join(lines).rstrip()


def _draw_confusion(axes, figures: dict) -> None:
    confusion = figures["confusion"]
    counts = np.array([list(row.values()) for row in confusion.values()], float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(counts.shape[1]), next(iter(confusion.values())), rotation=30)
    axes.set_yticks(range(len(confusion)), confusion)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    axes.set(xlabel="answer", ylabel="truth", title="Faces by truth and answer")


def _draw_curves(axes, figures: dict) -> None:
    recall = np.linspace(0, 1, 101)
    for name, row in figures["per_class"].items():
        axes.plot(recall, row["curve"], label=f"{name} {row['AP50']:.3f}")
    if figures["finding"]:
        axes.plot(recall, figures["finding"]["curve"], "k--", label=f"any face {figures['finding']['AP50']:.3f}")
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


PICTURES = {"confusion": _draw_confusion, "precision_recall": _draw_curves, "reliability": _draw_reliability}
