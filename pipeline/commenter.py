"""The whole job as one object: models load once, when first needed."""

import os
import time
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from detection.photos import PhotoError, open_photo, upright
from detection.records import Detection
from language.records import Element, ElementList
from language.voice import Voice
from pipeline.elements import to_elements
from pipeline.records import Failure, Opened, Result, Seen

if TYPE_CHECKING:
    from language.comment import CommentWriter
    from language.memory import Memory


class PhotoCommenter:
    """Comments photos.

    Args:
        lang: language of elements and comment, "ko" or "en".
        writer: "t5", "gpt2", "bank" or a trained writer's folder.
        objects, emotion: "pocket", an official name (objects only) or a weights file.
        style: "polite" or "casual".
        device: for `.pt` weights.
        memory: a file that remembers openings and emoji.
        workers: how many photos at the same time, from as many threads: an ONNX model then takes one thread a photo.
            Default: one photo at a time, with all cores.

    Raises:
        UserError: when a model is first needed and does not exist or cannot be loaded.
    """

    def __init__(
        self,
        lang: str = "ko",
        writer: str = "t5",
        objects: str = "pocket",
        emotion: str = "pocket",
        style: str = "polite",
        device: str | None = None,
        memory: str | os.PathLike | None = None,
        workers: int | None = None,
    ):
        self.voice, self.device = Voice(lang, style), device
        self.names = {"writer": writer, "objects": objects, "emotion": emotion}
        self.memory_file, self.workers = memory, workers

    @cached_property
    def writer(self):
        """The comment writer."""
        from language.comment import CommentWriter

        threads = {"threads": self.workers} if self.workers else {}
        return CommentWriter(self.names["writer"], self.voice.lang, self.voice.style, **threads)

    @cached_property
    def objects(self):
        """The object detector."""
        from detection.objects import ObjectDetector

        return ObjectDetector(self.names["objects"], self.device, self.workers and 1)

    @cached_property
    def emotion(self):
        """The face-emotion detector."""
        from detection.emotion import EmotionDetector

        return EmotionDetector(self.names["emotion"], self.device, self.workers and 1)

    @cached_property
    def scenes(self):
        """The look at the whole picture."""
        from detection.scenes import SceneDetector

        return SceneDetector(threads=self.workers and 1)

    @cached_property
    def memory(self):
        """What was said lately, if it is to be remembered."""
        from language.memory import Memory

        return Memory(Path(self.memory_file)) if self.memory_file else None

    def load(self) -> "PhotoCommenter":
        """Load everything now, side by side."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(3) as pool:
            for job in [pool.submit(getattr, self, name) for name in ("writer", "objects", "emotion", "scenes")]:
                job.result()
        _ = self.memory
        return self

    def comment(self, photo: str | os.PathLike | Image.Image, count: int = 1, seed: int = 0) -> Result:
        """Look at one photo and write `count` comments. An unreadable photo is a failed `Result`, no exception."""
        return self.write(self.look(self.open(photo)), count, seed)

    def open(self, photo: str | os.PathLike | bytes | Image.Image) -> Opened:
        """First step: the upright picture, or why there is none."""
        clock = Clock()
        in_memory = isinstance(photo, Image.Image)
        name = "<image>" if in_memory or isinstance(photo, bytes) else os.fspath(photo)
        try:
            image, size = (upright(photo), None) if in_memory else open_photo(photo)
        except PhotoError as error:
            return Opened(name, timings_ms=clock.lap("decode"), error=Failure(error.kind, str(error)))
        return Opened(name, image, size or image.size, in_memory, clock.lap("decode"))

    def detect(self, image: Image.Image, clock: "Clock | None" = None) -> list[Detection]:
        """Everything that the three networks see in an upright RGB picture."""
        clock = clock or Clock()
        seen = self.objects.detect(image)
        clock.lap("objects")
        seen += self.emotion.detect(image)
        clock.lap("emotion")
        seen += self.scenes.detect(image)
        clock.lap("scenes")
        return seen

    def look(self, opened: Opened, voice: Voice | None = None) -> Seen:
        """Second step: what is on it, in the words of a voice (default: the commenter's own)."""
        if opened.error:
            return Seen(opened.name, timings_ms=opened.timings_ms, error=opened.error)
        clock = Clock(opened.timings_ms)
        image, size = opened.image, opened.size
        elements = to_elements(self.detect(image, clock), image.size, (voice or self.voice).lang)
        elements = _scaled(elements, size[0] / image.width, size[1] / image.height, size)
        seed = zlib.crc32(image.resize((8, 8)).convert("L").tobytes())
        return Seen(opened.name, size, elements, seed, image if opened.in_memory else None, clock.lap("elements"))

    def write(
        self,
        seen: Seen,
        count: int = 1,
        seed: int = 0,
        voice: Voice | None = None,
        writer: "CommentWriter | None" = None,
        memory: "Memory | None" = None,
    ) -> Result:
        """Third step: its comments.

        Args:
            voice, writer, memory: where they are not the commenter's own.
        """
        if seen.error:
            return Result(seen.name, timings_ms=_with_total(seen.timings_ms), error=seen.error)
        clock, own_seed = Clock(seen.timings_ms), (seed << 32) + seen.seed
        comments = (writer or self.writer).write(
            seen.elements, count, own_seed, self.memory if memory is None else memory, voice or self.voice
        )
        timings = _with_total(clock.lap("write"))
        return Result(seen.name, *seen.size, seen.elements, tuple(comments), timings, photo=seen.image)

    def comment_many(self, photos: Iterable[str | os.PathLike], count: int = 1, seed: int = 0) -> Iterator[Result]:
        """`comment` for each photo, in order, as they are done."""
        for photo in photos:
            yield self.comment(photo, count, seed)


class Clock:
    """Milliseconds by stage, on top of those of earlier steps; what a photo waits between its steps is in none."""

    def __init__(self, stages: dict[str, float] | None = None) -> None:
        self.last = time.perf_counter()
        self.stages = dict(stages or {})

    def lap(self, stage: str) -> dict[str, float]:
        """End a stage; returns all stages so far."""
        now = time.perf_counter()
        self.stages[stage] = 1000 * (now - self.last)
        self.last = now
        return self.stages


def _with_total(stages: dict[str, float]) -> dict[str, float]:
    return {**stages, "total": sum(stages.values())}


def _scaled(elements: ElementList, x: float, y: float, size: tuple[int, int]) -> ElementList:
    """Boxes of the decoded picture as boxes of the full photo."""
    if x == 1 and y == 1:
        return elements

    def full(e: Element) -> Element:
        boxes = tuple(
            (round(x1 * x, 1), round(y1 * y, 1), min(round(x2 * x, 1), size[0]), min(round(y2 * y, 1), size[1]))
            for x1, y1, x2, y2 in e.boxes
        )
        return Element(e.id, e.kind, e.name, e.score, e.count, boxes)

    return ElementList(tuple(full(e) for e in elements), elements.lang)
