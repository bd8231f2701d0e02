"""Blind reading with the picture in view: one page to look at, one sheet to fill in.

The comments of both sources are results of `pipeline.run --json` or `pipeline.batch` over the same photos.
"""

import base64
import io
import json
import random
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from common.errors import UserError
from language.comment.reading import SHEET, read_filled, verdicts, write_reading

COLUMNS = ("number", "elements", "A", "B", "better", "good_A", "good_B", "embarrassing_A", "embarrassing_B")
ASKED = COLUMNS[5:]  # yes or no of each comment
PAGE = "photos.html"
SIDE, QUALITY = 720, 80  # of a picture on the page
HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Comments to judge</title>
<style>body{font:1rem/1.5 system-ui,"Noto Sans KR",sans-serif;max-width:48rem;margin:1rem auto;padding:0 1rem}
img{max-width:100%;max-height:32rem;display:block}article{margin-bottom:3rem}small{color:#666}</style>
<h1>Comments to judge</h1>
<p>Fill in sheet.csv: better (A, B or =); good and embarrassing of each comment (y or n).</p>
"""


def read_results(file: Path) -> dict[str, dict]:
    """Rows of photos that have a comment, by the photo's file name.

    Raises:
        UserError: the file cannot be read or holds no results, or two photos in it have one name.
    """
    try:
        rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
        found = {Path(row["image"]).name: row for row in rows if row.get("comments")}
        commented = sum(bool(row.get("comments")) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} holds no results of pipeline.run --json or pipeline.batch: {error}") from None
    if len(found) < commented:
        raise UserError(f"{file}: photos of different folders have the same name; make the reading by folder")
    return found


def make(photos: Path, ours: Path, theirs: Path, out: Path, count: int = 60, seed: int = 0) -> Path:
    """Write page, sheet and key for `count` photos of a folder that both sources commented on.

    Raises:
        UserError: too few such photos, one that cannot be read, or a sheet already stands there.
    """
    rng, both = random.Random(seed), (read_results(ours), read_results(theirs))
    here = sorted(name for name in both[0].keys() & both[1].keys() if (photos / name).is_file())
    if len(here) < count:
        raise UserError(f"{count} photos are wanted, but {photos} has only {len(here)} that both files comment on")
    rows, key, page = [], {}, [HEAD]
    for number, name in enumerate(rng.sample(here, count), 1):
        side = rng.choice("AB")
        texts = [source[name]["comments"][0]["text"] for source in (both if side == "A" else both[::-1])]
        listed = ", ".join(e["name"] for e in both[0][name]["elements"])
        rows.append([number, listed, *texts, *[""] * 5])
        key[number] = side
        page.append(_article(number, photos / name, listed, texts))
    write_reading(out, COLUMNS, rows, key, {PAGE: "".join(page)})
    return out / PAGE


def _article(number: int, photo: Path, listed: str, texts: list[str]) -> str:
    try:
        with Image.open(photo) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError) as error:
        raise UserError(f"{photo} cannot be read: {error}") from None
    image.thumbnail((SIDE, SIDE))
    image.save(data := io.BytesIO(), "JPEG", quality=QUALITY)
    source = base64.b64encode(data.getvalue()).decode()
    said = "".join(f"<p><b>{side}</b> {escape(text)}</p>" for side, text in zip("AB", texts, strict=True))
    picture = f'<img alt="" src="data:image/jpeg;base64,{source}">'
    return f"<article><h2>{number}</h2>{picture}<small>{escape(listed)}</small>{said}</article>\n"


def score(folder: Path) -> dict:
    """Preference as `blind.score` counts it, and the shares of good and of embarrassing comments of both sources.

    Raises:
        UserError: files are missing, or a cell holds something else than it should; all are named.
    """
    key, rows = read_filled(folder)
    is_bad = lambda number, name: rows[number][name].strip().lower() not in ("y", "n")
    bad = [f"{number} {name}" for number in key for name in ASKED if is_bad(number, name)]
    if bad:
        raise UserError(f"{folder / SHEET}: y or n is wanted in {', '.join(bad[:10])}")
    figures = verdicts(folder, key, rows)
    for what in ("good", "embarrassing"):
        yes = lambda number, side, what=what: rows[number][f"{what}_{side}"].strip().lower() == "y"
        other = {"A": "B", "B": "A"}
        figures[what] = {
            "ours": round(sum(yes(n, side) for n, side in key.items()) / len(key), 3),
            "theirs": round(sum(yes(n, other[side]) for n, side in key.items()) / len(key), 3),
        }
    return figures
