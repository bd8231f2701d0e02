"""The models behind the service, and the places in front of them."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from language.comment import CommentWriter
from language.comment.card import WRITERS
from language.memory import Memory
from language.records import ElementList
from language.rules import tender_elements
from language.voice import Voice
from pipeline.api.bodies import ApiError
from pipeline.api.shapes import Wish
from pipeline.commenter import PhotoCommenter
from pipeline.records import row_of

BECAUSE = {
    "ko": "조심스러운 사진일 수 있어요({names}). 다정하게 말하거나, 말없이 곁에 있어도 좋아요.",
    "en": "This may be a delicate photo ({names}). Gentle words fit, and so does saying nothing.",
}
STATUS = {"empty_file": 400, "not_an_image": 415, "needs_extra": 415, "too_large": 413, "damaged": 422}


class Engine:
    """Photos and element lists in, JSON of the contract out; every model is loaded once.

    Args:
        commenter: what answers where a request wishes nothing else; its detectors serve all.

    Raises:
        UserError: a model of `commenter` does not exist or cannot be loaded.
    """

    def __init__(self, commenter: PhotoCommenter):
        self.first = commenter.load()
        own = str(commenter.names["writer"])
        self.default = own if own in WRITERS else Path(own).name  # a folder's place is nobody's business
        self.models = {**{name: name for name in WRITERS}, self.default: own}
        self.writers = {self.default: commenter.writer}
        self.loading = threading.Lock()

    def options(self) -> dict:
        """What a caller may choose, and what is chosen where they do not."""
        default = {"lang": self.first.voice.lang, "style": self.first.voice.style, "writer": self.default}
        return {"writers": list(self.models), "langs": ["ko", "en"], "styles": ["polite", "casual"], "default": default}

    def photo(self, data: bytes, name: str, wish: Wish) -> dict:
        """Comments for a photo's bytes.

        Raises:
            ApiError: the photo cannot be read, or nobody writes as wished.
        """
        voice, writer, memory = self._as_wished(wish)
        seen = self.first.look(self.first.open(data), voice)
        if seen.error:
            raise ApiError(STATUS.get(seen.error.type, 422), seen.error.type, seen.error.message)
        result = self.first.write(replace(seen, name=name), wish.count, wish.seed, voice, writer, memory)
        return {**result.to_json(), "tender": _tender(result.elements)}

    def listed(self, elements: ElementList, wish: Wish) -> dict:
        """Comments for elements that are told."""
        voice, writer, memory = self._as_wished(wish)
        start = time.perf_counter()
        comments = writer.write(elements, wish.count, wish.seed, memory, voice)
        spent = 1000 * (time.perf_counter() - start)
        timings = {"write": spent, "total": spent}
        return {**row_of(elements, comments, timings), "tender": _tender(elements)}

    def lang(self, wish: Wish) -> str:
        """The language of what is written."""
        return wish.lang or self.first.voice.lang

    def _as_wished(self, wish: Wish) -> tuple[Voice, CommentWriter, Memory]:
        """Voice and writer of a request, and what it does not want to hear again."""
        voice = Voice(self.lang(wish), wish.style or self.first.voice.style)
        writer, memory = self._writer(wish.writer or self.default), Memory()
        try:
            writer.check(voice)
        except UserError as error:
            raise ApiError(422, "no_such_writer", str(error)) from None
        for text in wish.avoid:
            memory.add(text)
        return voice, writer, memory

    def _writer(self, name: str):
        if name not in self.models:
            raise ApiError(422, "no_such_writer", f"no writer {name!r} (there are: {', '.join(self.models)})")
        with self.loading:
            if name not in self.writers:
                self.writers[name] = CommentWriter(self.models[name], threads=self.first.workers or 1)
            return self.writers[name]


def _tender(elements: ElementList) -> dict | None:
    """Why a photo may be delicate, in a sentence; None where nothing says so."""
    found = tender_elements(elements)
    names = ", ".join(e.name for e in found)
    reason = BECAUSE[elements.lang].format(names=names)
    return {"because": [e.id for e in found], "reason": reason} if found else None


class Desk:
    """Places for requests: `workers` are worked on, `queue` more may wait, the next is sent away.

    A place is taken before a body is read and given back when its work has ended; work that outlives its request's
    time keeps the place, as it keeps the thread.
    """

    def __init__(self, workers: int, queue: int, timeout: float):
        self.pool = ThreadPoolExecutor(workers, "comments")
        self.most, self.timeout, self.inside = workers + queue, timeout, 0

    @asynccontextmanager
    async def place(self):
        """A place, and in it `work(function, *args)`.

        Raises:
            ApiError: 503 where all places are taken or time is up.
        """
        if self.inside >= self.most:
            raise ApiError(503, "busy", "too many requests at once; try again shortly", {"Retry-After": "1"})
        self.inside += 1
        jobs: list[Future] = []

        async def work(function: Callable, *args):
            jobs.append(self.pool.submit(function, *args))
            return await asyncio.wrap_future(jobs[0])

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeout):
                yield work
        except TimeoutError:
            message = f"not done within {self.timeout:g} s; try again, or with a smaller photo"
            raise ApiError(503, "timeout", message, {"Retry-After": "5"}) from None
        finally:
            if jobs:
                jobs[0].add_done_callback(lambda _: _tell(loop, self._leave))
            else:
                self._leave()

    def _leave(self) -> None:
        self.inside -= 1

    def close(self) -> None:
        """End the threads once their work is done."""
        self.pool.shutdown(wait=True, cancel_futures=True)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable) -> None:
    """Call a function in a loop, if it still runs."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
