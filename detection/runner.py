"""One ONNX Runtime runner for all kinds of YOLO heads: YOLOv8-style (with NMS), YOLOv10's end-to-end one, and two heads
of different vocabularies in one file (`detection.objects.join` writes such files)."""

import ast
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from detection.boxes import iou_matrix, nms

STRIDE = 32
MAX_DETECTIONS = 300
PAD_GREY = 114  # Ultralytics' letterbox colour


_one_at_a_time = threading.Lock()


def literal(text: str):
    """A Python literal from a model's metadata.

    Python 3.11 counts the depth of all threads' parses together and fails now and then when two detectors load at the
    same time ("AST constructor recursion depth mismatch"), hence the lock.
    """
    with _one_at_a_time:
        return ast.literal_eval(text)


@dataclass(frozen=True)
class SecondClass:
    """A class of a file's second head: the name it has in the first head's vocabulary, names there that say the same
    thing more exactly, and its threshold."""

    name: str
    same: tuple[str, ...]
    confidence: float


@dataclass(frozen=True)
class Found:
    """What a model saw: class numbers (N,), scores (N,) and xyxy (N, 4) in pixels, highest score first.

    `votes` (N,) tells how many networks saw it; None: one.
    """

    classes: np.ndarray
    scores: np.ndarray
    xyxy: np.ndarray
    votes: np.ndarray | None = None


def logit(scores: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), finite at 0 and 1."""
    p = np.clip(np.asarray(scores, float), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def letterbox(image: Image.Image, side: int, square: bool) -> tuple[np.ndarray, tuple[float, float], tuple[int, int]]:
    """Fit an RGB picture into a network input.

    Returns:
        input (1, 3, H, W) float32 in 0..1, H and W multiples of 32 (or both `side` where `square`), and, to map boxes
        back exactly, the (x, y) scale and the (left, top) padding that were applied.
    """
    ratio = side / max(image.size)
    width, height = (max(1, round(v * ratio)) for v in image.size)
    # reducing_gap lets Pillow shrink large photos in two steps, at no visible loss
    small = image.resize((width, height), Image.BILINEAR, reducing_gap=2.0)
    full_w, full_h = (side, side) if square else (-(-width // STRIDE) * STRIDE, -(-height // STRIDE) * STRIDE)
    left, top = (full_w - width) // 2, (full_h - height) // 2
    canvas = np.full((full_h, full_w, 3), PAD_GREY, np.uint8)
    canvas[top : top + height, left : left + width] = np.asarray(small)
    tensor = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)
    tensor *= 1 / 255
    return tensor, (width / image.width, height / image.height), (left, top)


def open_session(file: Path, threads: int | None = None) -> tuple:
    """An ONNX Runtime session on the CPU and the file's metadata.

    Raises:
        UserError: the file is damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(
        8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    options.log_severity_level = 4
    # two models take turns on the same cores: a pool that spins while it waits steals from the other
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise UserError(f"{file} is damaged or not an ONNX model ({str(error).splitlines()[0][:120]})") from None
    return session, session.get_modelmeta().custom_metadata_map


class OnnxYolo:
    """A YOLO detector run by ONNX Runtime.

    The file's metadata gives the class names and, where our exporter wrote them, input side and thresholds.

    Raises:
        UserError: the file is damaged or is no detector.
    """

    def __init__(self, file: Path, confidence: float = 0.25, iou: float = 0.5, threads: int | None = None):
        self.session, meta = open_session(file, threads)
        names = literal(meta.get("names", "None"))
        if not names:
            raise UserError(f"{file} names no classes in its metadata; export it with Ultralytics or detection.export")
        self.names = [names[i] for i in range(len(names))] if isinstance(names, dict) else list(names)
        self.input = self.session.get_inputs()[0]
        fixed = [v for v in self.input.shape[2:] if isinstance(v, int)]
        self.square = bool(fixed)  # exported for one size only
        self.side = max(fixed) if fixed else max(literal(meta.get("imgsz", "[640, 640]")))
        self.confidence = float(meta.get("confidence", confidence))
        per_class = literal(meta.get("class_confidence", "{}"))
        self.thresholds = np.array([per_class.get(name, self.confidence) for name in self.names], np.float32)
        self.iou = iou
        shape = self.session.get_outputs()[0].shape
        self.end_to_end = shape[-1] == 6 and shape[1] != len(self.names) + 4
        self.second = [SecondClass(**row) for row in json.loads(meta.get("second", "[]"))]

    def predict(self, image: Image.Image) -> Found:
        """Everything seen on an upright RGB picture; boxes are clipped by the caller."""
        tensor, scale, pad = letterbox(image, self.side, self.square)
        outputs = self.session.run(None, {self.input.name: tensor})
        decode = self._decode_end_to_end if self.end_to_end else self._decode_v8
        found = decode(outputs[0][0], self.thresholds)
        if self.second:
            found = self._with_second(found, self._decode_v8(outputs[1][0], self.second_thresholds))
        xyxy = (found.xyxy - [*pad, *pad]) / [*scale, *scale]
        order = np.argsort(-found.scores, kind="stable")[:MAX_DETECTIONS]
        votes = found.votes if found.votes is not None else np.ones(len(order), int)
        return Found(found.classes[order], found.scores[order], xyxy[order], votes[order])

    @property
    def second_thresholds(self) -> np.ndarray:
        """Thresholds of the second head's classes."""
        return np.array([row.confidence for row in self.second], np.float32)

    def _with_second(self, first: Found, second: Found) -> Found:
        """Both heads' boxes under the first head's names, one a thing.

        A box of the second head on a box of the first that names the same thing lifts that one's score if it is higher
        and is dropped; where the first head is not half as sure, the second head's name stands instead.
        """
        numbers = {name: number for number, name in enumerate(self.names)}
        overlap = iou_matrix(second.xyxy, first.xyxy) >= self.iou
        scores, kept, added = first.scores.copy(), np.ones(len(first.classes), bool), []
        votes, added_votes = np.ones(len(first.classes), int), []
        for row in np.argsort(-second.scores, kind="stable"):
            rule, score = self.second[second.classes[row]], second.scores[row]
            same = {numbers[name] for name in (rule.name, *rule.same)}
            twins = [i for i in np.flatnonzero(overlap[row] & kept) if first.classes[i] in same]
            best = max(twins, key=lambda i: scores[i], default=None)
            if best is not None and scores[best] >= score / 2:
                scores[best], votes[best] = max(scores[best], score), 2
            else:
                kept[twins] = False
                added.append(row)
                added_votes.append(2 if twins else 1)
        names = [numbers[self.second[second.classes[row]].name] for row in added]
        return Found(
            np.array([*first.classes[kept], *names], int),
            np.concatenate([scores[kept], second.scores[added]]),
            np.concatenate([first.xyxy[kept], second.xyxy[added]]),
            np.array([*votes[kept], *added_votes], int),
        )

    def _decode_end_to_end(
        self, output: np.ndarray, thresholds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(300, 6) rows of xyxy, score, class."""
        classes = output[:, 5].astype(int)
        rows = output[:, 4] >= thresholds[classes]
        return Found(classes[rows], output[rows, 4], output[rows, :4].astype(float))

    def _decode_v8(self, output: np.ndarray, thresholds: np.ndarray) -> Found:
        """(4 + classes, anchors): centre xywh and one score a class; class-wise NMS in one pass."""
        best = output[4:].max(axis=0)
        likely = np.flatnonzero(best >= thresholds.min())
        classes = output[4:, likely].argmax(axis=0)
        keep = best[likely] >= thresholds[classes]
        likely, classes = likely[keep], classes[keep]
        top = np.argsort(-best[likely], kind="stable")[: 4 * MAX_DETECTIONS]
        likely, classes, scores = likely[top], classes[top], best[likely[top]]
        x, y, w, h = output[:4, likely].astype(float)
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
        apart = classes[:, None] * (boxes.max(initial=0) + 1)  # classes never overlap each other
        rows = nms(boxes + apart, scores, self.iou)
        return Found(classes[rows], scores[rows], boxes[rows])
