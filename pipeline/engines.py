"""Many photos through the steps of `PhotoCommenter`, in input order, with all cores at work.

Threads share one copy of the models, and every model takes one thread a photo: the libraries under them let go of
Python's lock while they compute. `pipeline.ray_engine` does the same on several machines.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from common.errors import UserError
from pipeline.commenter import PhotoCommenter
from pipeline.duplicates import picture_hash
from pipeline.records import Failure, Opened, Seen

A = TypeVar("A")
B = TypeVar("B")


@dataclass
class Outcome:
    """What an engine knows of a photo.

    Attributes:
        digest: of `picture_hash`; None where duplicates are not looked for or the photo cannot be read.
        size: (width, height) of the full upright photo.
        original: the first photo with this picture; then there is no row of its own.
        row: the JSON object of the public contract.
    """

    name: str
    digest: str | None = None
    size: tuple[int, int] | None = None
    original: str | None = None
    row: dict | None = None


Decide = Callable[[Outcome], None]  # sets `original`; called for every photo in input order


class Engine(Protocol):
    """Runs photos through a `Worker`."""

    def outcomes(self, names: Iterable[str], decide: Decide) -> Iterator[Outcome]:
        """Each photo's outcome, in input order. When `names` ends, what was begun is still finished."""
        ...


@dataclass
class Worker:
    """The steps of one photo, for every engine.

    A mistake in our code or in a library is that photo's failure; `UserError`s end the run.
    """

    commenter: PhotoCommenter
    count: int = 1
    seed: int = 0
    hashes: bool = True

    def open(self, name: str) -> tuple[Outcome, Opened]:
        """Decode a photo and hash its picture."""
        outcome = Outcome(name)
        opened = _safe(name, lambda: self.commenter.open(name), Opened)
        outcome.size = opened.size
        if self.hashes and not opened.error:
            outcome.digest = _safe(name, lambda: picture_hash(opened.image), Opened)
            if isinstance(outcome.digest, Opened):
                opened, outcome.digest = outcome.digest, None
        return outcome, opened

    def look(self, step: tuple[Outcome, Opened]) -> tuple[Outcome, Seen | None]:
        """Detect, unless the picture is commented already."""
        outcome, opened = step
        if outcome.original:
            return outcome, None
        return outcome, _safe(outcome.name, lambda: self.commenter.look(opened), Seen)

    def write(self, step: tuple[Outcome, Seen | None]) -> Outcome:
        """Write comments, unless the picture has some already."""
        outcome, seen = step
        if seen:
            row = _safe(outcome.name, lambda: self.commenter.write(seen, self.count, self.seed).to_json(), Seen)
            outcome.row = row if isinstance(row, dict) else self.commenter.write(row).to_json()
        return outcome

    def finish(self, step: tuple[Outcome, Opened]) -> Outcome:
        """All that comes after `open`."""
        return self.write(self.look(step))


def _safe(name: str, step: Callable[[], A], failed: type[B]) -> A | B:
    """What a step returns; where it breaks, a photo that `failed`."""
    try:
        return step()
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__} {error}".split("\n")[0]
        return failed(name, error=Failure("broken", f"{name} could not be commented: {reason}"))


@dataclass
class LocalEngine:
    """Threads of this process."""

    worker: Worker
    workers: int = 1

    def outcomes(self, names: Iterable[str], decide: Decide) -> Iterator[Outcome]:
        """See `Engine`. With a memory the detectors run beside each other, and the comments are written in order."""
        ahead = 2 * self.workers  # photos in hand between steps: enough to keep the threads busy, few enough for memory
        with ThreadPoolExecutor(self.workers) as pool:
            opened = in_order(pool, self.worker.open, names, ahead)
            decided = ((decide(step[0]), step)[1] for step in opened)
            if self.worker.commenter.memory:
                yield from map(self.worker.write, in_order(pool, self.worker.look, decided, ahead))
            else:
                yield from in_order(pool, self.worker.finish, decided, ahead)


def in_order(pool: Executor, function: Callable[[A], B], items: Iterable[A], ahead: int) -> Iterator[B]:
    """`map` by a pool, with at most `ahead` items in hand; what waits is given up when the caller stops."""
    waiting = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for job in waiting:
            job.cancel()
