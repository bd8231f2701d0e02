"""What every job with a language model shares: the command line, the plan, the run, the files that come out.

A job's folder holds `journal.sqlite` (every attempt), `settings.yaml`, the job's own files, and `failed.jsonl` with
the rows that have no answer and why. The same command goes on where it stopped.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol

from common.errors import UserError
from common.files import write_jsonl
from configs.load import load_settings
from datagen.llm.journal import DiskFull, Item, Journal
from datagen.llm.limits import PRICES, Price, estimate_tokens, price_of
from datagen.llm.records import Request
from datagen.llm.runner import DAY_S, Runner, Tally
from datagen.llm.settings import ModelSettings

SHOWN = 3  # prompts of a dry run


class JobSettings(ModelSettings):
    """Settings of any job."""

    out: Path  # folder of the journal and the results


class Job(Protocol):
    """What a job is: rows to ask about, a judge of replies, and its own files."""

    settings: JobSettings

    def items(self) -> Iterator[Item]:
        """The rows, one by one; keys differ."""
        ...

    def check(self, text: str, source: dict) -> tuple[object | None, list[str]]: ...

    def remark(self, problems: list[str], source: dict) -> str: ...

    def write(self, journal: Journal) -> list[Path]:
        """Write the results; returns the files."""
        ...


def job_command(prog: str, doc: str, schema: type[JobSettings], make: Callable[[JobSettings], Job]):
    """The `main(argv)` of a job: exit status 0 when every row has its answer, 1 when some have not."""

    def main(argv: list[str] | None = None) -> int:
        args = _parser(prog, doc).parse_intermixed_args(sys.argv[1:] if argv is None else argv)
        settings = load_settings(args.config, schema, args.overrides)
        job = make(settings)
        if args.dry_run:
            return _dry_run(job, args.limit)
        if args.plan:
            print(plan(job, args.limit, args.mode, args.retry_failed))
            return 0
        return int(not run_job(job, args.limit, args.mode, args.retry_failed, args.budget))

    return main


def _parser(prog: str, doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=doc.split("\n")[0])
    parser.add_argument("--config", required=True, type=Path, help="YAML file")
    parser.add_argument("--limit", type=count_argument, metavar="N", help="only the first N rows")
    parser.add_argument("--dry-run", action="store_true", help=f"show the first {SHOWN} prompts and stop")
    parser.add_argument("--plan", action="store_true", help="show requests, tokens, cost and time, and stop")
    parser.add_argument("--retry-failed", action="store_true", help="ask again for rows that failed")
    parser.add_argument("--budget", type=float, metavar="USD", help="stop before all attempts together cost more")
    modes = parser.add_mutually_exclusive_group()
    for mode, what in (
        ("skip", "keep answers made under other settings"),
        ("overwrite", "ask anew where settings differ; the old answers stay in the journal only"),
        ("append", "ask anew where settings differ and keep both answers"),
    ):
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=what)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the config's")
    return parser


def count_argument(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, but got {text!r}")
    return int(text)


def _dry_run(job: Job, limit: int | None) -> int:
    for item in islice(job.items(), min(limit or SHOWN, SHOWN)):
        print(f"=== {item.key}")
        if item.problem:
            print(f"(not asked: {item.problem})")
            continue
        for message in item.request.messages:
            content = message["content"]
            parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
            shown = (part["text"] if part["type"] == "text" else f"[photo {part['path']}]" for part in parts)
            print(f"--- {message['role']}", *shown, sep="\n")
    return 0


def plan(job: Job, limit: int | None = None, mode: str | None = None, retry_failed: bool = False) -> str:
    """What a run would ask, cost and take; changes nothing."""
    settings, file = job.settings, job.settings.out / "journal.sqlite"
    price = price_of(settings)
    with Journal(file if file.exists() else None) as journal, journal.transaction(keep=False):
        journal.add(islice(job.items(), limit), mode)
        failed = journal.distinct()["failed"]
        if retry_failed:
            journal.reopen_failed()
        rows, states = sum(journal.counts().values()), journal.distinct()
        expected = journal.mean_completion()
        about = most = ask = 0
        cost_about = cost_most = 0.0
        for request, _, _ in journal.open_requests():
            about += estimate_tokens(request, price.image_tokens if price else 0)
            most += request.max_tokens
            ask += 1
            if price:
                cost_most += price.most(request, settings.batch_api)
                cost_about += _about(price, request, expected, settings.batch_api)
        today = journal.attempts_since(time.time() // DAY_S * DAY_S)
        spent = journal.cost()
    lines = {
        "rows": f"{rows:,}",
        "distinct requests": f"{sum(states.values()):,}",
        "answered already": f"{states['ok']:,} (skipped)",
        "failed before": f"{failed:,} ({'asked again' if retry_failed else '--retry-failed asks again'})",
        "to ask": f"{ask:,}" + (f" ({states['open'] - ask:,} more are in a batch)" if states["open"] > ask else ""),
        "prompt tokens": f"about {about:,}",
        "reply tokens": f"at most {most:,}"
        + (f", about {round(expected * ask):,} by the replies so far" if expected else ""),
        "cost": f"about ${cost_about:.2f}, at most ${cost_most:.2f} for one reply each; spent so far ${spent:.2f}"
        if price
        else f"unknown: {settings.prices or PRICES.name} has no price for {settings.model}",
        "time": _time(settings, ask, about + most, today),
    }
    return "\n".join(f"{name:<18} {value}" for name, value in lines.items())


def _about(price: Price, request: Request, expected: float | None, batch: bool) -> float:
    tokens = estimate_tokens(request, price.image_tokens)
    reply = request.max_tokens if expected is None else expected
    return (tokens * price.prompt + reply * price.completion) / 1e6 * (price.batch if batch else 1)


def _time(settings: JobSettings, requests: int, tokens: int, today: int) -> str:
    if settings.batch_api:
        return "up to a day a batch"
    limits = {"RPM": settings.rpm, "TPM": settings.tpm, "RPD": settings.rpd}
    known = ", ".join(f"{value:,} {name}" for name, value in limits.items() if value)
    if not known:
        return "as fast as the server answers (no rpm, tpm or rpd is set)"
    minutes = max(requests / settings.rpm if settings.rpm else 0, tokens / settings.tpm if settings.tpm else 0)
    days = (requests + today - 1) // settings.rpd if settings.rpd and requests else 0
    waits = f", on {days + 1} days" if days else ""
    return f"at least {int(minutes // 60)} h {minutes % 60:.0f} min{waits} under {known}"


def run_job(
    job: Job,
    limit: int | None = None,
    mode: str | None = None,
    retry_failed: bool = False,
    budget: float | None = None,
    provider=None,
) -> bool:
    """Ask what is open and write the results; whether every row has its answer.

    Raises:
        UserError: nothing can be asked (bad rows, key, model, funds, disk); what was answered before is kept.
    """
    settings = job.settings
    price = price_of(settings)
    if price is None and budget is not None:
        raise UserError(f"--budget needs a price for {settings.model} in {settings.prices or PRICES.name}")
    with Journal(settings.out / "journal.sqlite") as journal:
        with journal.transaction():
            journal.add(islice(job.items(), limit), mode)
            if retry_failed:
                journal.reopen_failed()
        settings.save(settings.out / "settings.yaml")
        tally, broken = _ask(job, journal, price or Price(prompt=0, completion=0), budget, provider)
        if isinstance(broken, DiskFull):
            raise broken
        files = [*job.write(journal), _write_failed(journal, settings.out / "failed.jsonl")]
        rows = journal.counts()
    if broken:
        raise broken
    cost = f"${tally.cost:.4f}" if price else "cost unknown"
    print(f"{rows['ok']:,} ok, {rows['failed']:,} failed, {cost}: {', '.join(map(str, files))}")
    if tally.stopped:
        print(f"stopped early: {tally.stopped}; the same command goes on", file=sys.stderr)
    return not (rows["failed"] or rows["open"])


def _ask(job: Job, journal: Journal, price: Price, budget: float | None, provider) -> tuple[Tally, UserError | None]:
    """Run until nothing is open; a run that breaks still has its results written."""
    states = journal.distinct()
    tally = Tally(states["ok"], states["failed"], cost=journal.cost())
    if not states["open"]:
        return tally, None
    if provider is None:
        from datagen.llm.providers import make_provider

        provider = make_provider(job.settings)
    with _progress(sum(states.values())) as report:
        if job.settings.batch_api:
            from datagen.llm.batch import BatchRunner as Asker
        else:
            Asker = Runner
        runner = Asker(journal, provider, job, job.settings, price, budget, report)
        try:
            return runner.run(), None
        except UserError as error:
            return runner.tally, error


def _write_failed(journal: Journal, path: Path) -> Path:
    rows = journal.rows("failed")
    write_jsonl(path, ({"key": r["key"], **r["source"], "reason": r["reason"], "raw_output": r["reply"]} for r in rows))
    return path


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Tally], None]]:
    """A line on stderr: rows done, ok, failed, cost."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.fields[ok]:,} ok, {task.fields[failed]:,} failed, ${task.fields[cost]:.4f}")
    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, ok=0, failed=0, cost=0.0)

        def report(tally: Tally) -> None:
            done = tally.ok + tally.failed
            progress.update(task, completed=done, ok=tally.ok, failed=tally.failed, cost=tally.cost)

        yield report
