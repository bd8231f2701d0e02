"""Many photos through the steps of `PhotoCommenter`, in input order, with all cores at work.

Threads share one copy of the models, and every model takes one thread a photo: the libraries under them let go of
Python's lock while they compute. `pipeline.ray_engine` does the same on several machines.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from common.errors import UserError
from pipeline.commenter import Photo, PhotoCommenter
from pipeline.duplicates import picture_hash
from pipeline.records import Failure

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

    def open(self, name: str) -> tuple[Outcome, Photo]:
        """Decode a photo and hash its picture."""
        outcome, photo = Outcome(name), Photo(name)
        with _failing(photo):
            photo = self.commenter.open(name)
        with _failing(photo):
            outcome.size = photo.size
            if self.hashes and not photo.error:
                outcome.digest = picture_hash(photo.image)
        return outcome, photo

    def look(self, step: tuple[Outcome, Photo]) -> tuple[Outcome, Photo]:
        """Detect, unless the picture is commented already."""
        outcome, photo = step
        if not outcome.original:
            with _failing(photo):
                self.commenter.look(photo)
        photo.image = None
        return outcome, photo

    def write(self, step: tuple[Outcome, Photo]) -> Outcome:
        """Write comments, unless the picture has some already."""
        outcome, photo = step
        if not outcome.original:
            with _failing(photo):
                outcome.row = self.commenter.write(photo, self.count, self.seed).to_json()
            outcome.row = outcome.row or self.commenter.write(photo).to_json()
        return outcome

    def finish(self, step: tuple[Outcome, Photo]) -> Outcome:
        """All that comes after `open`."""
        return self.write(self.look(step))


@contextmanager
def _failing(photo: Photo) -> Iterator[None]:
    """Whatever breaks inside is the photo's failure."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        photo.error = Failure("broken", f"{photo.name} could not be commented: {reason}")


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
