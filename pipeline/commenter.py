"""The whole job as one object: models load once, when first needed."""

import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from detection.photos import PhotoError, open_photo, upright
from detection.records import Detection
from language.records import Comment, Element, ElementList
from language.voice import Voice
from pipeline.elements import to_elements
from pipeline.records import Failure, Result


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

    def open(self, photo: str | os.PathLike | bytes | Image.Image) -> "Photo":
        """First step: the upright picture, or why there is none."""
        done = Photo("<image>" if isinstance(photo, bytes | Image.Image) else os.fspath(photo))
        try:
            if isinstance(photo, Image.Image):
                done.image, done.keep = upright(photo), True
                done.size = done.image.size
            else:
                done.image, done.size = open_photo(photo)
        except PhotoError as error:
            done.error = Failure(error.kind, str(error))
        done.clock.lap("decode")
        return done

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

    def look(self, photo: "Photo") -> "Photo":
        """Second step: what is on it."""
        if photo.error:
            return photo
        photo.clock.resume()
        image, size = photo.image, photo.size
        seen = self.detect(image, photo.clock)
        elements = to_elements(seen, image.size, self.voice.lang)
        photo.elements = _scaled(elements, size[0] / image.width, size[1] / image.height, size)
        photo.clock.lap("elements")
        # photos that show the same things need not get the same words
        photo.seed = zlib.crc32(image.resize((8, 8)).convert("L").tobytes())
        if not photo.keep:
            photo.image = None
        return photo

    def write(self, photo: "Photo", count: int = 1, seed: int = 0) -> Result:
        """Third step: its comments."""
        if photo.error:
            return Result(photo.name, timings_ms=photo.clock.total(), error=photo.error)
        photo.clock.resume()
        own_seed = (seed << 32) + photo.seed
        comments: list[Comment] = self.writer.write(photo.elements, count, own_seed, self.memory, self.voice)
        photo.clock.lap("write")
        return Result(photo.name, *photo.size, photo.elements, tuple(comments), photo.clock.total(), photo=photo.image)

    def comment_many(self, photos: Iterable[str | os.PathLike], count: int = 1, seed: int = 0) -> Iterator[Result]:
        """`comment` for each photo, in order, as they are done."""
        for photo in photos:
            yield self.comment(photo, count, seed)


class Clock:
    """Milliseconds by stage; what a photo waits between its steps is in none."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages[stage] = 1000 * (now - self.last)
        self.last = now

    def resume(self) -> None:
        """Go on after a wait."""
        self.last = time.perf_counter()

    def total(self) -> dict[str, float]:
        """All stages and their total."""
        return {**self.stages, "total": sum(self.stages.values())}


@dataclass
class Photo:
    """A photo on its way through the steps of `PhotoCommenter`.

    Attributes:
        name: the path as given.
        image: the upright RGB picture as decoded; gone after `look` unless `keep`.
        size: (width, height) of the full upright photo.
        seed: a number of the picture's own.
    """

    name: str
    image: Image.Image | None = None
    size: tuple[int, int] | None = None
    keep: bool = False
    elements: ElementList | None = None
    seed: int = 0
    error: Failure | None = None
    clock: Clock = field(default_factory=Clock)


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
