"""What the evaluations' reports share: JSON, Markdown and pictures, written whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

from common.files import write_text


def write_report(figures: dict, markdown: str, pictures: dict[str, Callable], out: Path) -> None:
    """Write report.json, report.md and one PNG per entry of `pictures` into a folder.

    Args:
        pictures: file stem -> function that draws `figures` on matplotlib axes.
    """
    for name, text in (("report.json", json.dumps(figures, indent=1)), ("report.md", markdown)):
        write_text(out / name, text + "\n")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, draw in pictures.items():
        figure, axes = pyplot.subplots(figsize=(6, 5), layout="constrained")
        draw(axes, figures)
        figure.savefig(out / f"{name}.png", dpi=120)
        pyplot.close(figure)


def table(head: list[str], rows: list[tuple]) -> list[str]:
    """A Markdown table and an empty line."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def text(value: float | int | None) -> str:
    """A figure of a table: three decimals, a dash for none."""
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
