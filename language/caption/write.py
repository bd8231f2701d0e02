"""Write captions for photos.

    python -m language.caption.write photo.jpg holiday/ "trip/*.png" --model runs/caption
    python -m language.caption.write holiday/ --model runs/caption --json > captions.jsonl

MODEL is a run of `language.caption.train`, a captioner's folder or a name on the hub. A photo that cannot be read is an
error row, the others are done all the same; the exit status is then 1.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from common.errors import UserError, exit_with
from language.caption.photos import SUFFIXES, UnreadablePhoto, find_photos, open_rgb
from language.comment.generate import DecodeSettings, consensus, load_decode, tidy

MODEL = "nlpconnect/vit-gpt2-image-captioning"
BATCH = 8


def load(model: str | Path):
    """(model, tokenizer, processor) of a run, a captioner's folder or a hub name; each captioner has its own.

    Raises:
        UserError: the run is not finished, or there is no such captioner.
    """
    from language.caption.models import load_captioner

    best = Path(model) / "best"
    if (Path(model) / "settings.yaml").exists() and not best.is_dir():
        raise UserError(f"{model} is no finished run of language.caption.train: it has no folder best")
    return load_captioner(str(best if best.is_dir() else model))


def longest(model) -> int:
    """The most tokens that a caption can have: one for each place of the decoder."""
    return model.config.decoder.max_position_embeddings


def captions(model, tokenizer, processor, images: Sequence, decode: DecodeSettings) -> list[str]:
    """What a captioner writes under each picture.

    Args:
        images: upright RGB pictures; all of them go through the model at once.
        decode: a caption ends at `max_new_tokens`, or where the decoder has no more places.
    """
    import torch
    from transformers import set_seed

    set_seed(decode.seed)
    pixels = processor(images=list(images), return_tensors="pt").pixel_values.to(model.device)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    options = {**decode.options(), **ends, "max_new_tokens": min(decode.max_new_tokens, longest(model))}
    with torch.inference_mode():
        tokens = model.eval().generate(pixel_values=pixels, **options)
    texts = [tidy(text) for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    each = len(texts) // len(images)
    return [consensus(texts[first : first + each]) for first in range(0, len(texts), each)]


def write(captioner: tuple, photos: Sequence[str], decode: DecodeSettings) -> Iterator[dict]:
    """A row for each photo, in order: `image`, `caption` and `error` (null, or why the photo has no caption).

    Only one batch of photos is open at a time.
    """
    for first in range(0, len(photos), BATCH):
        paths = photos[first : first + BATCH]
        opened, failed = {}, {}
        for path in paths:
            try:
                opened[path] = open_rgb(path)
            except UnreadablePhoto as error:
                failed[path] = {"type": "unreadable", "message": str(error)}
        texts = captions(*captioner, list(opened.values()), decode) if opened else []
        written = dict(zip(opened, texts, strict=True))
        for path in paths:
            yield {"image": path, "caption": written.get(path), "error": failed.get(path)}


def chosen_photos(paths: list[str]) -> list[str]:
    """The photos of files, folders and globs, in order.

    Raises:
        UserError: a folder without photos.
    """
    found = {path: find_photos(path) for path in paths}
    if empty := [path for path, photos in found.items() if not photos]:
        raise UserError(f"the folder {empty[0]} holds no photos ({' '.join(sorted(SUFFIXES))})")
    return [photo for photos in found.values() for photo in photos]


def progress(rows: Iterable, total: int) -> Iterable:
    """The same rows, with a bar on stderr where somebody looks at it."""
    if not sys.stderr.isatty():
        return rows
    from rich.console import Console
    from rich.progress import track

    return track(rows, total=total, description="photos", console=Console(stderr=True))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.caption.write", description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a photo, a folder (searched for photos) or a glob")
    parser.add_argument("--model", default=MODEL, help=f"a run, a captioner's folder or a hub name (default: {MODEL})")
    parser.add_argument("--decode", default="captions", metavar="NAME", help="preset of configs/decode, or a YAML file")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest caption, in place of the preset's")
    parser.add_argument("--json", action="store_true", help="one JSON object a photo on stdout, nothing else")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    photos = chosen_photos(args.images)
    _, decode = load_decode(args.decode)
    if args.max_new_tokens is not None:
        if args.max_new_tokens < 1:
            raise UserError(f"--max-new-tokens must be a whole number from 1, but is {args.max_new_tokens}")
        decode = decode.model_copy(update={"max_new_tokens": args.max_new_tokens})
    failed = 0
    for row in progress(write(load(args.model), photos, decode), len(photos)):
        failed += row["error"] is not None
        if args.json:
            print(json.dumps(row, ensure_ascii=False), flush=True)
        elif row["error"]:
            print(row["error"]["message"], file=sys.stderr, flush=True)
        else:
            print(f"{row['image']}\n  {row['caption']}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    exit_with(main)
