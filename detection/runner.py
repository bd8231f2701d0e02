"""One ONNX Runtime runner for both kinds of YOLO head: YOLOv8-style (with NMS) and YOLOv10's end-to-end one."""

import ast
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from configs.errors import UserError
from detection.boxes import nms

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
class Found:
    """What a model saw: class numbers (N,), scores (N,) and xyxy (N, 4) in pixels, highest score first."""

    classes: np.ndarray
    scores: np.ndarray
    xyxy: np.ndarray


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

    def predict(self, image: Image.Image) -> Found:
        """Everything seen on an upright RGB picture; boxes are clipped by the caller."""
        tensor, scale, pad = letterbox(image, self.side, self.square)
        output = self.session.run(None, {self.input.name: tensor})[0][0]
        boxes, scores, classes = self._decode_end_to_end(output) if self.end_to_end else self._decode_v8(output)
        boxes = (boxes - [*pad, *pad]) / [*scale, *scale]
        order = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
        return Found(classes[order], scores[order], boxes[order])

    def _decode_end_to_end(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(300, 6) rows of xyxy, score, class."""
        classes = output[:, 5].astype(int)
        rows = output[:, 4] >= self.thresholds[classes]
        return output[rows, :4].astype(float), output[rows, 4], classes[rows]

    def _decode_v8(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(4 + classes, anchors): centre xywh and one score a class; class-wise NMS in one pass."""
        best = output[4:].max(axis=0)
        likely = np.flatnonzero(best >= self.thresholds.min())
        classes = output[4:, likely].argmax(axis=0)
        keep = best[likely] >= self.thresholds[classes]
        likely, classes = likely[keep], classes[keep]
        top = np.argsort(-best[likely], kind="stable")[: 4 * MAX_DETECTIONS]
        likely, classes, scores = likely[top], classes[top], best[likely[top]]
        x, y, w, h = output[:4, likely].astype(float)
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
        apart = classes[:, None] * (boxes.max(initial=0) + 1)  # classes never overlap each other
        rows = nms(boxes + apart, scores, self.iou)
        return boxes[rows], scores[rows], classes[rows]
