"""A contact sheet to look through: one HTML file with everything in it, nothing fetched, no script."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path

from PIL import Image

from common.errors import UserError
from common.files import whole_file
from detection.photos import PhotoError, open_photo
from language.records import Element, ElementList
from pipeline.draw import annotate
from pipeline.engines import in_order
from pipeline.results import Results

SIDE, QUALITY = 400, 60  # of a thumbnail: sharp at the width of a phone, about 22 kB of HTML a photo
WORDS = {
    "ko": {
        "title": "사진 {count:,}장의 댓글",
        "failed": "읽지 못한 사진",
        "copies": "같은 사진",
        "gone": "사진 파일이 없어졌어요",
        "nothing": "찾은 것 없음",
    },
    "en": {
        "title": "Comments on {count:,} photos",
        "failed": "Photos that failed",
        "copies": "The same picture",
        "gone": "the photo's file has gone",
        "nothing": "nothing found",
    },
}
STYLE = """
:root { color-scheme: light dark; --ground: #f6f5f2; --card: #fff; --ink: #1d1d1f; --soft: #6b6a66; --chip: #ecebe6;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #161618; --card: #222225; --ink: #f2f1ee; --soft: #a3a29d;
  --chip: #34343a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, "Apple SD Gothic Neo", "Noto Sans KR", "Nanum Gothic", sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 1rem; } h2 { display: inline; font-size: 1.1rem; color: var(--bad); }
body > details { margin-bottom: 1rem; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
article { display: flex; flex-direction: column; background: var(--card); border-radius: .75rem; overflow: hidden;
  content-visibility: auto; contain-intrinsic-size: auto 24rem; }
img { width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: var(--chip); display: block; }
.gone { aspect-ratio: 4 / 3; display: grid; place-items: center; color: var(--soft); background: var(--chip); }
article div.words { padding: .75rem 1rem 1rem; }
p { margin: 0 0 .5rem; word-break: keep-all; overflow-wrap: anywhere; } p.said { font-weight: 600; }
.chip { display: inline-block; background: var(--chip); border-radius: 1rem; padding: 0 .6rem; margin: 0 .3rem .3rem 0;
  font-size: .85rem; }
small, summary, li { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; } .why { color: var(--bad); }
"""
HEAD = """<!doctype html>
<html lang="{lang}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
<h1>{title}</h1>
"""


def write_sheet(results: Results, file: Path, lang: str, workers: int = 1) -> None:
    """Write the sheet of all rows, in their order; copies of a picture are named below the first, failures apart.

    Raises:
        UserError: the file cannot be written.
    """
    words, copies, failures = WORDS[lang], {}, []
    for row in results.rows():
        if row["error"]:
            failures.append((row["image"], row["error"]["message"]))
        elif row["duplicate_of"]:
            copies.setdefault(row["duplicate_of"], []).append(row["image"])
    shown = (row for row in results.rows() if not row["error"] and not row["duplicate_of"])
    head = HEAD.format(lang=lang, title=words["title"].format(count=len(results.entries)), style=STYLE)
    try:
        with whole_file(file) as part, part.open("wb") as out, ThreadPoolExecutor(workers) as pool:
            out.write(head.encode())
            for piece in (_failures(failures, words), ["<main>\n"]):
                out.writelines(_bytes(line) for line in piece)
            card = lambda row: _card(row, copies.get(row["image"], []), words, lang)
            out.writelines(map(_bytes, in_order(pool, card, shown, 4 * workers)))
            out.write(b"</main>\n</html>\n")
    except OSError as error:
        raise UserError(f"--html {file} cannot be written: {error.strerror}") from None


def _bytes(text: str) -> bytes:
    """UTF-8; what is none in a file name becomes a question mark."""
    return text.encode(errors="replace")


def _failures(failures: list[tuple[str, str]], words: dict[str, str]) -> Iterator[str]:
    if failures:
        yield f"<details open><summary><h2>{words['failed']}: {len(failures):,}</h2></summary><ul>\n"
        for name, why in failures:
            yield f'<li>{escape(name)} <span class="why">{escape(why.removeprefix(name).strip())}</span>\n'
        yield "</ul></details>\n"


def _card(row: dict, copies: list[str], words: dict[str, str], lang: str) -> str:
    """One photo: picture with boxes, comments, elements, name, the names of its copies."""
    uri = thumbnail(row, lang)
    alt = escape(row["input"], quote=True)
    picture = f'<img loading="lazy" alt="{alt}" src="{uri}">' if uri else f'<div class="gone">{words["gone"]}</div>'
    said = "".join(f'<p class="said">{escape(c["text"])}</p>' for c in row["comments"])
    chips = "".join(f'<span class="chip">{escape(_label(e))}</span>' for e in row["elements"]) or words["nothing"]
    more = ""
    if copies:
        names = "".join(f"<li>{escape(name)}" for name in copies)
        more = f"<details><summary>{words['copies']}: {len(copies):,}</summary><ul>{names}</ul></details>"
    name = escape(row["image"])
    return f'<article>{picture}<div class="words">{said}<p>{chips}</p><small>{name}</small>{more}</div></article>\n'


def _label(element: dict) -> str:
    return f"{element['name']} ×{element['count']}" if element["count"] > 1 else element["name"]


def thumbnail(row: dict, lang: str) -> str | None:
    """A small picture with the boxes drawn, as a data URI; None where the file has gone or changed into none."""
    try:
        image, _ = open_photo(row["image"])
    except PhotoError:
        return None
    image.thumbnail((SIDE, SIDE), Image.LANCZOS)
    keys = ("id", "kind", "name", "score", "count")
    elements = (Element(*(e[k] for k in keys), tuple(map(tuple, e["boxes"]))) for e in row["elements"])
    drawn = annotate(image, ElementList(tuple(elements), lang), (row["width"], row["height"]))
    held = io.BytesIO()
    drawn.save(held, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"
