"""What a photo costs, measured by a batch, and from it the plan for many: writes `docs/scale.md`.

python -m pipeline.scale results.jsonl --photos 10000000 > docs/scale.md
"""

import argparse
import json
import math
import sys
import tracemalloc
from pathlib import Path
from statistics import fmean, median, quantiles

from common.errors import UserError, exit_with
from common.files import read_jsonl
from pipeline.duplicates import ALBUM_BYTES
from pipeline.results import Results
from pipeline.run import positive, speak_utf8

DAYS = (1, 3, 7)
TEXT = """# Many photos

What a photo costs on one machine, and what {photos:,} photos would need. Every figure comes from a batch, written down
by the batch itself and put together by `python -m pipeline.scale`; none is typed by hand.

## Measured

Source: `python -m pipeline.batch`, {began} UTC, {cores} CPU cores, engine `{engine}`, {workers} {worker_word}:
{rows:,} photos ({ok:,} commented, {duplicates:,} copies of another, {failed:,} failed) of {mpixel:.2f} megapixels and
{photo_kb:,.0f} kB on average, {seconds:,.0f} s.

| what | a photo |
|---|---|
| speed | {speed:.2f} photos a second, {per_worker:.2f} a worker |
| CPU time | {cpu_s:.3f} s, loading of the models included |
| share of its cores' time that the batch got | {busy:.0%} (CPU time / (workers × seconds)) |
| memory of the process at its most | {memory} |
| output | {row_bytes:,.0f} bytes of JSON |

| stage | mean ms | median | 95 % are below | share | CPU ms |
|---|---|---|---|---|---|
{stages}

Times of stages are by the clock while all workers are busy, so they hold what the workers take from each other; the
last column is the CPU time of a photo, parted by their shares.

## Plan for {photos:,} photos

A photo takes {cpu_s:.3f} s of CPU time, so {photos:,} photos take {core_hours:,.0f} core hours, however spread:
hours = photos × CPU seconds a photo / (3,600 × workers), a worker on each core that it has for itself.

| done in | workers | of {machine_cores} cores: machines |
|---|---|---|
{plan}

| what | needs | how it grows |
|---|---|---|
| time | {core_hours:,.0f} core hours | photos × CPU seconds a photo / 3,600 |
| cost | {core_hours:,.0f} × price of a core hour | core hours × price |
| memory | at most {machine_gb:,.1f} GB a machine, models for each worker | workers × {memory_mb:,} MB |
| results | {out_gb:,.0f} GB of JSON lines | photos × {row_bytes:,.0f} bytes |
| photos | {in_gb:,.0f} GB to read, {in_mb_s:,.1f} MB/s a machine | photos × {photo_kb:,.0f} kB |
| the process that writes | {driver_gb:,.1f} GB for places and hashes of rows | photos × {driver_bytes:,.0f} bytes |

## How to run it

- One machine: `python -m pipeline.batch FOLDER --out results.jsonl`. Threads share one copy of the models, each model
  takes one thread a photo, and photos are read ahead, so all cores are busy.
- Several: `ray start --head` on one, `ray start --address=…` on the others, then `RAY_ADDRESS=auto python -m
  pipeline.batch FOLDER --engine ray --workers N --out results.jsonl`. All must see the photos under the same paths
  (a shared file system). A worker that dies is started again and only its own photos are redone; when the driver dies,
  the same command goes on where the file ends.
- Rows and their order are the same whatever the engine and the number of workers.
- Copies are told from all pictures before them, so the time for that grows with the square of the photos: split
  an archive of many millions into parts (by month, by album) of about a million, each with its own `--out`. Copies are
  then found within a part.
- Every photo is decoded twice by Ray where duplicates are told; `--keep-duplicates` saves that.
"""


def main(argv: list[str] | None = None) -> int:
    """Print the page."""
    p = argparse.ArgumentParser(prog="python -m pipeline.scale", description=__doc__.split("\n")[0])
    p.add_argument("results", type=Path, metavar="FILE", help="results of pipeline.batch by the local engine")
    p.add_argument("--photos", type=positive, default=10_000_000, metavar="N", help="how many (default: ten million)")
    p.add_argument("--cores", type=positive, default=16, metavar="N", help="of a machine in the plan (default: 16)")
    args = p.parse_args(sys.argv[1:] if argv is None else argv)
    print(page(args.results, args.photos, args.cores), end="")
    return 0


def page(file: Path, photos: int, machine_cores: int = 16) -> str:
    """The Markdown page from a batch's results and its run notes.

    Raises:
        UserError: the files are missing, or no run of the local engine is noted.
    """
    notes, rows = file.with_name(f"{file.name}.runs.jsonl"), _lines(file)
    runs = [run for run in _lines(notes) if run["engine"] == "local" and run["memory_mb"]]
    timed = [row for row in rows if row["error"] is None and row["duplicate_of"] is None]
    if not runs or len(timed) < 2:
        raise UserError(f"{file} holds no photos of a run by the local engine; make one with pipeline.batch")
    run = max(runs, key=lambda run: run["photos"])
    count = run["photos"]
    cpu_s, busy = run["cpu_seconds"] / count, run["cpu_seconds"] / (run["workers"] * run["seconds"])
    row_bytes, photo_kb = file.stat().st_size / len(rows), fmean(r["file"]["bytes"] for r in timed) / 1000
    core_hours, memory, driver = photos * cpu_s / 3600, run["memory_mb"], _driver_bytes(file)
    return TEXT.format(
        **{key: run[key] for key in ("began", "cores", "engine", "workers", "seconds")},
        photos=photos,
        worker_word="worker" if run["workers"] == 1 else "workers",
        rows=count,
        ok=len(timed),
        duplicates=sum(bool(r["duplicate_of"]) for r in rows),
        failed=sum(bool(r["error"]) for r in rows),
        mpixel=fmean(r["width"] * r["height"] for r in timed) / 1e6,
        photo_kb=photo_kb,
        speed=count / run["seconds"],
        per_worker=count / run["seconds"] / run["workers"],
        cpu_s=cpu_s,
        busy=busy,
        memory=f"{memory:,} MB with {run['workers']} workers sharing the models",
        memory_mb=memory,
        row_bytes=row_bytes,
        stages=_stages(timed, cpu_s),
        core_hours=core_hours,
        machine_cores=machine_cores,
        plan="\n".join(_days(days, core_hours, machine_cores) for days in DAYS),
        machine_gb=memory * machine_cores / 1000,
        out_gb=photos * row_bytes / 1e9,
        in_gb=photos * photo_kb / 1e6,
        in_mb_s=machine_cores / cpu_s * photo_kb / 1000,
        driver_bytes=driver,
        driver_gb=photos * driver / 1e9,
    )


def _lines(file: Path) -> list[dict]:
    try:
        return read_jsonl(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no file of pipeline.batch ({error})") from None


def _stages(rows: list[dict], cpu_s: float) -> str:
    """Table rows: milliseconds of each stage."""
    whole = fmean(row["timings_ms"]["total"] for row in rows)
    lines = []
    for stage in rows[0]["timings_ms"]:
        ms = [row["timings_ms"][stage] for row in rows]
        most = quantiles(ms, n=20)[-1]
        share = fmean(ms) / whole
        figures = f"{fmean(ms):.1f} | {median(ms):.1f} | {most:.1f} | {share:.0%} | {1000 * cpu_s * share:.1f}"
        lines.append(f"| {stage} | {figures} |")
    return "\n".join(lines)


def _days(days: int, core_hours: float, machine_cores: int) -> str:
    workers = math.ceil(core_hours / (24 * days))
    return f"| {days * 24} hours | {workers:,} | {math.ceil(workers / machine_cores):,} |"


def _driver_bytes(file: Path) -> float:
    """Memory a photo takes in the process that writes the rows: its place in the file, and twice (arrays grow by
    doubling) its hash."""
    settings = json.loads(file.with_name(f"{file.name}.settings.json").read_text("utf-8"))
    tracemalloc.start()
    try:
        with Results(file, settings) as results:
            places = tracemalloc.get_traced_memory()[0] / len(results.entries)
    finally:
        tracemalloc.stop()
    return places + 2 * ALBUM_BYTES


if __name__ == "__main__":
    speak_utf8()
    exit_with(main)
