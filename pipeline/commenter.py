"""The whole job as one object: models load once, when first needed."""

import os
import time
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from PIL import Image

from detection.photos import PhotoError, open_photo, upright
from detection.records import Detection
from language.records import Comment, Element, ElementList
from pipeline.elements import to_elements
from pipeline.records import Failure, Result


class PhotoCommenter:
    """Comments photos.

    Args:
        lang: language of elements and comment, "ko" or "en".
        writer: "t5", "gpt2" or a trained writer's folder.
        objects, emotion: "pocket", an official name (objects only) or a weights file.
        style: "polite" or "casual".
        device: for `.pt` weights.
        memory: a file that remembers openings and emoji.

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
    ):
        self.lang, self.style, self.device = lang, style, device
        self.names = {"writer": writer, "objects": objects, "emotion": emotion}
        self.memory_file = memory

    @cached_property
    def writer(self):
        """The comment writer."""
        from language.comment import CommentWriter

        return CommentWriter(self.names["writer"], self.lang, self.style)

    @cached_property
    def objects(self):
        """The object detector."""
        from detection.objects import ObjectDetector

        return ObjectDetector(self.names["objects"], self.device)

    @cached_property
    def emotion(self):
        """The face-emotion detector."""
        from detection.emotion import EmotionDetector

        return EmotionDetector(self.names["emotion"], self.device)

    @cached_property
    def memory(self):
        """What was said lately, if it is to be remembered."""
        from language.memory import Memory

        return Memory(Path(self.memory_file)) if self.memory_file else None

    def load(self) -> "PhotoCommenter":
        """Load everything now: ONNX models at the same time, `.pt` ones in turn."""
        from concurrent.futures import ThreadPoolExecutor

        # the writer hides torch while it loads, so nothing that needs torch may load beside it
        light = all(self.names[n] == "pocket" or self.names[n].endswith(".onnx") for n in ("objects", "emotion"))
        with ThreadPoolExecutor(3 if light else 1) as pool:
            for job in [pool.submit(getattr, self, name) for name in ("writer", "objects", "emotion")]:
                job.result()
        _ = self.memory
        return self

    def comment(self, photo: str | os.PathLike | Image.Image, count: int = 1, seed: int = 0) -> Result:
        """Look at one photo and write `count` comments. An unreadable photo is a failed `Result`, no exception."""
        clock = Clock()
        name = "<image>" if isinstance(photo, Image.Image) else os.fspath(photo)
        try:
            if isinstance(photo, Image.Image):
                image = upright(photo)
                size = image.size
            else:
                image, size = open_photo(photo)
        except PhotoError as error:
            return Result(name, timings_ms=clock.total(), error=Failure(error.kind, str(error)))
        clock.lap("decode")
        seen: list[Detection] = self.objects.detect(image)
        clock.lap("objects")
        seen += self.emotion.detect(image)
        clock.lap("emotion")
        elements = _scaled(to_elements(seen, self.lang), size[0] / image.width, size[1] / image.height, size)
        # photos that show the same things need not get the same words
        own_seed = (seed << 32) + zlib.crc32(image.resize((8, 8)).convert("L").tobytes())
        comments: list[Comment] = self.writer.write(elements, count, own_seed, self.memory)
        clock.lap("write")
        kept = image if isinstance(photo, Image.Image) else None
        return Result(name, *size, elements, tuple(comments), clock.total(), photo=kept)

    def comment_many(self, photos: Iterable[str | os.PathLike], count: int = 1, seed: int = 0) -> Iterator[Result]:
        """`comment` for each photo, in order, as they are done."""
        for photo in photos:
            yield self.comment(photo, count, seed)


class Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages[stage] = 1000 * (now - self.last)
        self.last = now

    def total(self) -> dict[str, float]:
        """All stages and their total."""
        return {**self.stages, "total": 1000 * (time.perf_counter() - self.start)}


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
