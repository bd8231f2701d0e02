"""Put captioners side by side: each photo with what every run writes under it, and their figures.

    python -m language.caption.compare runs/one runs/two --photos album/ --out captions.html

Writes FILE.html (one file: the pictures are inside) and FILE.md beside it. Without --photos, the photos are drawn from
those that the first run held out. Figures are those that `language.caption.evaluate` left in the runs.
"""

import argparse
import base64
import io
import json
import os
import random
import sys
from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import quote

from common.errors import UserError, exit_with
from common.files import write_text
from language.caption.evaluate import run_rows
from language.caption.photos import open_rgb
from language.caption.scores import plain
from language.caption.write import chosen_photos, load, progress, write
from language.comment.generate import load_decode

COLUMNS = {  # figure -> its name in tables, decimals; first those that show whether a captioner looks at all
    "mean_rank": ("mean rank of the right one", 2),
    "distinct_captions": ("distinct captions", 3),
    "repetition": ("repeats itself", 3),
    "cider": ("CIDEr", 3),
    "bleu_word": ("BLEU words", 4),
    "chrf": ("chrF", 4),
    "rougeL": ("ROUGE-L", 4),
}
SIDE = 320  # px, thumbnails

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 76rem; margin: 0 auto; padding: 1.5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem } th, td { padding: .3rem .6rem; text-align: right }
th { vertical-align: bottom; line-height: 1.2 } td { white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr + tr { border-top: 1px solid #8884 }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem; padding: 0 }
figure { margin: 0; border: 1px solid #8884; border-radius: .6rem; overflow: hidden }
img { display: block; width: 100%; height: 13rem; object-fit: contain; background: #8882 }
figcaption { padding: .7rem 1rem; overflow-wrap: anywhere } dl { margin: .4rem 0 0 } dd { margin: 0 0 .5rem }
dt, small { font-size: .8rem; opacity: .75 } .same { font-size: .8rem; color: #c0392b; white-space: nowrap }
"""


def run_names(runs: list[str]) -> list[str]:
    """A short name for each run, longer where two folders have the same one."""
    parts = [Path(run).parts for run in runs]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(runs)


def figure_rows(name: str, run: str) -> list[list[str]]:
    """Cells of the figures table, one row for each evaluation of a run; a row of dashes where there is none.

    Raises:
        UserError: an evaluation is damaged.
    """
    rows = []
    for file in sorted(Path(run).glob("evaluations/*/evaluation.json")):
        try:
            found = json.loads(file.read_text("utf-8"))
            shown = [f"{found['metrics'][key]:.{digits}f}" for key, (_, digits) in COLUMNS.items()]
            size = f"{found['bytes'] / 1e6:.1f}"
            rows.append([name, found["data"], found["decode"], f"{found['photos']:,}", *shown, size])
            rows[-1].append(str(found["ms_per_photo"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged: {error}") from None
    return rows or [[name, "not measured", *["–"] * (len(COLUMNS) + 4)]]


HEADS = ["run", "data", "decoding", "photos", *(name for name, _ in COLUMNS.values()), "MB", "ms a photo"]


def written_by(runs: list[str], photos: list[str], decode) -> list[list[dict]]:
    """Rows of `language.caption.write` for each run, `same` added: how many of these photos have that caption.

    One captioner is in memory at a time.
    """
    columns = []
    for run in runs:
        rows = list(progress(write(load(run), photos, decode), len(photos)))
        counts = Counter(plain(row["caption"]) for row in rows if row["caption"] is not None)
        columns.append([{**row, "same": counts[plain(row["caption"] or "")]} for row in rows])
    return columns


def markdown(names: list[str], figures: list[list[str]], columns: list[list[dict]], folder: Path) -> str:
    """The page as Markdown; pictures are links relative to `folder`."""
    cell = lambda text: escape(" ".join(text.split()), quote=False).translate(
        {ord(mark): f"\\{mark}" for mark in "\\|`*_[]"}
    )
    line = lambda cells: "| " + " | ".join(cells) + " |"
    lines = ["# Captions side by side", "", line(HEADS), "|---" * len(HEADS) + "|"]
    lines += [line([cell(text) for text in row]) for row in figures]
    lines += ["", line(["photo", *map(cell, names)]), "|---" * (len(names) + 1) + "|"]
    for rows in zip(*columns, strict=True):
        image = rows[0]["image"]
        target = quote(Path(os.path.relpath(image, folder)).as_posix())
        shown = f"![{cell(Path(image).name)}]({target})" if rows[0]["error"] is None else cell(Path(image).name)
        texts = [
            cell(row["error"]["message"]) if row["error"] else cell(row["caption"]) + _same(row, " (same for {})")
            for row in rows
        ]
        lines.append(line([shown, *texts]))
    return "\n".join(lines) + "\n"


def page(names: list[str], figures: list[list[str]], columns: list[list[dict]]) -> str:
    """The page as one HTML file: thumbnails are data URIs, every name and caption is escaped."""
    row = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in cells) + "</tr>"
    cards = []
    for rows in zip(*columns, strict=True):
        name = escape(Path(rows[0]["image"]).name)
        if rows[0]["error"]:
            cards.append(f"<figure><figcaption>{escape(rows[0]['error']['message'])}</figcaption></figure>")
            continue
        mark = " <span class=same>same for {}</span>"
        said = "".join(
            f"<dt>{escape(run)}</dt><dd>{escape(row['caption'])}{_same(row, mark)}</dd>"
            for run, row in zip(names, rows, strict=True)
        )
        picture = f'<img src="{_thumbnail(rows[0]["image"])}" alt="{name}" loading="lazy">'
        cards.append(f"<figure>{picture}<figcaption><small>{name}</small><dl>{said}</dl></figcaption></figure>")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Captions side by side</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head><body>",
            "<h1>Captions side by side</h1>",
            "<p>“same for n” marks a caption that a run wrote under n of these photos.</p>",
            f"<div class=wide><table>{row(HEADS, 'th')}{''.join(row(cells, 'td') for cells in figures)}</table></div>",
            "<h2>Photos</h2>",
            f"<div class=photos>{''.join(cards)}</div>",
            "</body></html>\n",
        ]
    )


def _same(row: dict, form: str) -> str:
    return form.format(f"{row['same']} photos") if row["same"] > 1 else ""


def _thumbnail(path: str) -> str:
    image, data = open_rgb(path), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(data, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def drawn_photos(run: str, count: int, seed: int) -> list[str]:
    """Some of a run's held-out photos, always the same for a seed."""
    photos = list(dict.fromkeys(row.image for row in run_rows(Path(run) / "held_out.jsonl")))
    random.Random(seed).shuffle(photos)
    return photos[:count]


def compare(runs: list[str], photos: list[str], out: Path, decode: str = "captions") -> list[Path]:
    """Write both pages; returns the Markdown and the HTML file."""
    names, (_, preset) = run_names(runs), load_decode(decode)
    figures = [row for name, run in zip(names, runs, strict=True) for row in figure_rows(name, run)]
    columns = written_by(runs, photos, preset)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = {
        ".md": markdown(names, figures, columns, out.parent.resolve()),
        ".html": page(names, figures, columns),
    }
    for suffix, text in written.items():
        write_text(out.with_suffix(suffix), text)
    return [out.with_suffix(suffix) for suffix in written]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.caption.compare", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, captioners' folders or hub names")
    parser.add_argument("--photos", nargs="+", metavar="IMAGE", help="photos, folders or globs (default: held out)")
    parser.add_argument("--count", type=int, default=12, metavar="N", help="how many held-out photos (default: 12)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which held-out photos (default: 0)")
    parser.add_argument("--decode", default="captions", metavar="NAME", help="preset of configs/decode, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="FILE.html and FILE.md are written")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.count < 1:
        raise UserError(f"--count must be a whole number from 1, but is {args.count}")
    photos = chosen_photos(args.photos) if args.photos else drawn_photos(args.runs[0], args.count, args.seed)
    print(*compare(args.runs, photos, args.out, args.decode), sep="\n")
    return 0


if __name__ == "__main__":
    exit_with(main)
