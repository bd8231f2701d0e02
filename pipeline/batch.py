"""Folders and albums: every photo commented once, one JSON line each, going on where it was stopped.

python -m pipeline.batch holiday/ --out results.jsonl --html sheet.html
python -m pipeline.batch holiday/ --out results.jsonl --html sheet.html --retry-failed
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError, exit_with, gentle_stop
from pipeline.run import add_photo_options, commenter_of, photos_of, positive, speak_utf8

ENGINES = ("local", "ray")
MADE_WITH = ("lang", "writer", "objects", "emotion", "style", "count", "seed", "memory", "keep_duplicates")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m pipeline.batch", description=__doc__.split("\n")[0])
    add_photo_options(p)
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON lines; an unfinished file is gone on")
    p.add_argument("--html", type=Path, metavar="FILE", help="also write a contact sheet to look through")
    p.add_argument("--workers", type=positive, metavar="N", help="photos at the same time (default: one a core)")
    p.add_argument("--engine", choices=ENGINES, default="local", help="this process's threads, or Ray (default: local)")
    p.add_argument("--retry-failed", action="store_true", help="do failed photos again")
    p.add_argument("--keep-duplicates", action="store_true", help="comment every copy of a picture")
    return p


@dataclass
class Tally:
    """How a run stands, in photos: `ok`, `failed` and `duplicates` of all, `new` of this run."""

    ok: int = 0
    failed: int = 0
    duplicates: int = 0
    new: int = 0
    stopped: bool = False

    def count(self, failed: bool, duplicate: bool) -> None:
        """One more photo."""
        self.failed += failed
        self.duplicates += duplicate and not failed
        self.ok += not failed and not duplicate

    def __str__(self) -> str:
        return f"{self.ok:,} ok, {self.failed:,} failed, {self.duplicates:,} duplicates"


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 all photos done, 1 at least one failed, 2 (raised) wrong usage, 130 stopped by Ctrl-C."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    photos = list(dict.fromkeys(str(Path(p)) for p in photos_of(args.paths)))
    args.workers = args.workers or cores()
    _check(args)

    from pipeline.results import Results

    with Results(args.out, {name: getattr(args, name) for name in MADE_WITH}) as results:
        tally = run(args, photos, results)
        if args.html:
            from pipeline.sheet import write_sheet

            write_sheet(results, args.html, args.lang, args.workers)
    retry = " (--retry-failed does them again)" if tally.failed else ""
    print(f"{args.out}: {tally}{retry}", file=sys.stderr)
    if tally.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return int(tally.failed > 0)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(args: argparse.Namespace) -> None:
    if not args.keep_duplicates:
        from pipeline.duplicates import need_imagehash

        need_imagehash()
    for option, file in (("--out", args.out), ("--html", args.html)):
        if file and (file.is_dir() or not file.parent.is_dir()):
            what = "is a folder" if file.is_dir() else f"the folder {file.parent} does not exist"
            raise UserError(f"{option} {file}: {what}")
    if args.engine == "ray":
        from pipeline.ray_engine import need_ray

        need_ray()
        if args.memory:
            raise UserError("--memory is for --engine local: each comment depends on the one before")


def run(args: argparse.Namespace, photos: list[str], results) -> Tally:
    """Comment the photos that have no row yet; rows come in input order."""
    failed = {n for n in photos if n in results.entries and results.entries[n].failed} if args.retry_failed else set()
    results.drop(failed | {n for n in photos if n in results.entries and not results.holds(n)})
    tally, todo = Tally(), [n for n in photos if n not in results.entries]
    for name in photos:
        if entry := results.entries.get(name):
            tally.count(entry.failed, entry.duplicate_of is not None)
    if not todo:
        results.arrange(photos)
        return tally

    def stop() -> None:
        tally.stopped = True

    decide, began, used = _decider(args, results), time.time(), time.process_time()
    with gentle_stop(stop), _engine(args) as engine, _progress(len(photos), tally) as report:
        began_work = time.perf_counter()
        for outcome in engine.outcomes(_until(todo, tally), decide):
            row = finished(outcome, results)
            results.append(row)
            tally.count(row["error"] is not None, row["duplicate_of"] is not None)
            tally.new += 1
            report()
            if tally.stopped and args.engine == "ray":  # it has all names in hand at once
                break
        seconds = time.perf_counter() - began_work
    results.arrange(photos)
    _note(args, tally, {"began": began, "seconds": seconds, "cpu_seconds": time.process_time() - used})
    return tally


def _until(names: Iterable[str], tally: Tally) -> Iterator[str]:
    """The names, until Ctrl-C."""
    for name in names:
        if tally.stopped:
            return
        yield name


def _decider(args: argparse.Namespace, results) -> Callable:
    """Finds each photo's original among all photos of the file."""
    if args.keep_duplicates:
        return lambda outcome: None

    from pipeline.duplicates import Album

    album = Album()
    for row in results.rows():
        if row["error"] is None and row["duplicate_of"] is None:
            album.first(row["image"], row["file"]["hash"], (row["width"], row["height"]))

    def decide(outcome) -> None:
        if outcome.digest:
            outcome.original = album.first(outcome.name, outcome.digest, outcome.size)

    return decide


def finished(outcome, results) -> dict:
    """A photo's row: the public contract's, the first one with its picture if any, and what resuming needs."""
    from pipeline.results import stamp

    row = copied(results.read(outcome.original), outcome) if outcome.original else outcome.row
    file = stamp(outcome.name)
    return {**row, "duplicate_of": outcome.original, "file": file and {**file, "hash": outcome.digest}}


def copied(row: dict, outcome) -> dict:
    """The row of another photo with the same picture, its boxes in this one's pixels."""
    row = {**row, "image": outcome.name, "timings_ms": {}}
    if row["error"] is None:
        width, height = outcome.size
        x, y = width / row["width"], height / row["height"]
        scaled = lambda box: [
            round(min(v * s, m), 1) for v, s, m in zip(box, (x, y) * 2, outcome.size * 2, strict=True)
        ]
        row["elements"] = [{**e, "boxes": [scaled(box) for box in e["boxes"]]} for e in row["elements"]]
        row["width"], row["height"] = width, height
    return row


@contextmanager
def _engine(args: argparse.Namespace):
    from pipeline.engines import LocalEngine, Worker

    if args.engine == "ray":
        from pipeline.ray_engine import RayEngine

        with RayEngine(args) as engine:
            yield engine
    else:
        commenter = commenter_of(args, workers=args.workers).load()
        yield LocalEngine(Worker(commenter, args.count, args.seed, not args.keep_duplicates), args.workers)


@contextmanager
def _progress(total: int, tally: Tally) -> Iterator[Callable[[], None]]:
    """A line on stderr: photos done, ok, failed, duplicates, speed, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.fields[tally]}, {task.fields[speed]:.1f} photos/s")
    console, began = Console(stderr=True), time.perf_counter()
    columns = BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        done = lambda: tally.ok + tally.failed + tally.duplicates
        task = progress.add_task("", total=total, completed=done(), tally=tally, speed=0.0)

        def report() -> None:
            speed = tally.new / (time.perf_counter() - began)
            progress.update(task, completed=done(), tally=tally, speed=speed)

        yield report


def _note(args: argparse.Namespace, tally: Tally, times: dict) -> None:
    """Write down what the run cost, one line a run, for `pipeline.scale`."""
    row = {
        "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime(times["began"])),
        "engine": args.engine,
        "workers": args.workers,
        "cores": cores(),
        "photos": tally.new,
        "seconds": round(times["seconds"], 2),
        # what Ray's workers use is not known here
        "cpu_seconds": round(times["cpu_seconds"], 2) if args.engine == "local" else None,
        "memory_mb": _peak_mb() if args.engine == "local" else None,
    }
    with args.out.with_name(f"{args.out.name}.runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _peak_mb() -> int | None:
    """The most memory this process has held, in MB."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


if __name__ == "__main__":
    speak_utf8()
    exit_with(main)
