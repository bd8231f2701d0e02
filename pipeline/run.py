"""Photos in, comments out.

python -m pipeline.run photo.jpg
python -m pipeline.run holiday/ --count 3 --save out/ --json > comments.jsonl
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

from common.errors import UserError, exit_with
from common.files import whole_file


def parser() -> argparse.ArgumentParser:
    """The command line of the public contract."""
    p = argparse.ArgumentParser(
        prog="python -m pipeline.run", description="Look at photos and write the comment that fits each."
    )
    add_photo_options(p)
    p.add_argument("--save", metavar="DIR", type=Path, help="also write the photo with its boxes and labels drawn")
    p.add_argument("--json", action="store_true", help="one JSON object per line on stdout, nothing else")
    return p


def add_photo_options(p: argparse.ArgumentParser) -> None:
    """What every command that comments photos takes: the photos, the models, and how they write."""
    p.add_argument("paths", nargs="+", metavar="PATH", help="an image file, a folder (searched for images) or a glob")
    add_model_options(p)
    p.add_argument("--memory", metavar="FILE", help="remember what was said; do not repeat openings or emoji")
    p.add_argument(
        "--count", type=positive, default=1, metavar="N", help="number of different comments per photo (default: 1)"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same output (default: 0)")


def add_model_options(p: argparse.ArgumentParser) -> None:
    """The models, and the language and style that they write."""
    p.add_argument("--lang", choices=["ko", "en"], default="ko", help="language of elements and comment (default: ko)")
    p.add_argument(
        "--writer",
        default="t5",
        metavar="t5|gpt2|bank|DIR",
        help="embedded writer, or a trained model's folder (default: t5; bank: written by hand)",
    )
    p.add_argument(
        "--objects",
        default="pocket",
        metavar="pocket|NAME|FILE",
        help="object detector: embedded, official (yolov8x-oiv7), .pt or .onnx",
    )
    p.add_argument(
        "--emotion", default="pocket", metavar="pocket|FILE", help="face-emotion detector: embedded, .pt or .onnx"
    )
    p.add_argument(
        "--style", choices=["polite", "casual"], default="polite", help="polite speech or casual (default: polite)"
    )
    p.add_argument("--device", choices=["cpu", "cuda", "mps"], help="for .pt models (default: the best there is)")


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 all photos done, 1 at least one failed, 2 (raised) wrong usage."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    photos = photos_of(args.paths)
    saver = Saver(args.save, photos) if args.save else None

    commenter = commenter_of(args).load()
    failed = 0
    for photo in _progress(photos):
        result = commenter.comment(photo, args.count, args.seed)
        if saver and not result.error:
            result = saver.save(result)
        failed += result.error is not None
        _print(result, args.json)
    return int(failed > 0)


def commenter_of(args: argparse.Namespace, **more):
    """The `PhotoCommenter` that the model options describe; nothing is loaded yet."""
    from pipeline.commenter import PhotoCommenter

    return PhotoCommenter(
        args.lang, args.writer, args.objects, args.emotion, args.style, args.device, args.memory, **more
    )


class Saver:
    """Writes annotated photos into a folder, never over an original, never two on one name.

    Raises:
        UserError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, photos: list[str]):
        self.folder, self.used = folder, set()
        self.originals = {Path(p).resolve() for p in photos}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".write-test-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"--save {folder}: cannot write there ({error.strerror})") from None

    def save(self, result):
        """Write one photo; returns the result, failed if the picture could not be written."""
        from pipeline.records import Failure, Result

        target, number = self.folder / f"{Path(result.image).stem}_annotated.jpg", 1
        while target in self.used or target.resolve() in self.originals:
            number += 1
            target = self.folder / f"{Path(result.image).stem}_annotated-{number}.jpg"
        self.used.add(target)
        try:
            with whole_file(target) as part:
                result.annotated().save(part, "JPEG", quality=92)
        except (OSError, ValueError) as error:
            return Result(
                result.image,
                timings_ms=result.timings_ms,
                error=Failure("not_saved", f"{target}: {getattr(error, 'strerror', None) or error}"),
            )
        return result


def photos_of(paths: list[str]) -> list[str]:
    """The photos that PATH arguments stand for.

    Raises:
        UserError: a folder holds none.
    """
    from detection.photos import SUFFIXES, find_photos

    photos = []
    for path in paths:
        found = find_photos(path)
        if not found:
            raise UserError(f"the folder {path} holds no photos ({' '.join(sorted(SUFFIXES))})")
        photos += found
    return photos


def _progress(photos: list[str]):
    """Show progress on stderr where there are many photos and somebody looks."""
    if len(photos) < 4 or not sys.stderr.isatty() or sys.stdout.isatty():
        return photos
    from rich.console import Console
    from rich.progress import track

    return track(photos, description="photos", console=Console(stderr=True))


def _print(result, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(result.to_json(), ensure_ascii=False), flush=True)
    elif result.error:
        print(f"{result.image}: {result.error.message}", file=sys.stderr, flush=True)
    else:
        names = ", ".join(f"{e.name} x{e.count}" if e.count > 1 else e.name for e in result.elements)
        comments = "\n".join(f"  {c.text}" for c in result.comments)
        print(f"{result.image}\n  [{names}]\n{comments}", flush=True)


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, but got {text!r}")
    return value


def speak_utf8() -> None:
    """Korean must come out whatever the terminal's locale is, and a warning is one line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    speak_utf8()
    exit_with(main)
