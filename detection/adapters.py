"""Ultralytics models behind the same interface as `OnnxYolo`. Imported only when a `.pt` file is asked for."""

import threading
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from detection.runner import Found


class UltralyticsYolo:
    """A `.pt` checkpoint run by Ultralytics on `device` (default: the best there is).

    Raises:
        UserError: Ultralytics is not installed, the file is damaged, or the device does not exist.
    """

    def __init__(self, file: Path, device: str | None = None, confidence: float = 0.25):
        try:
            import torch
            from ultralytics import YOLO
        except ImportError:
            raise UserError(
                f"{file.name} needs Ultralytics: `pip install ultralytics` (the embedded models do not)"
            ) from None
        self.device = device or best_device(torch)
        if (
            self.device == "cuda"
            and not torch.cuda.is_available()
            or self.device == "mps"
            and not torch.backends.mps.is_available()
        ):
            raise UserError(f"--device {self.device}: this machine has none (allowed here: {best_device(torch)}, cpu)")
        try:
            self.model = YOLO(file, task="detect")
            self.names = [self.model.names[i] for i in range(len(self.model.names))]
        except Exception as error:  # unpickling a damaged file raises nearly anything
            raise UserError(f"{file} is damaged or not an Ultralytics checkpoint ({type(error).__name__})") from None
        self.confidence = confidence
        self.one_at_a_time = threading.Lock()  # Ultralytics keeps the picture in hand on the model

    def predict(self, image: Image.Image) -> Found:
        """Everything seen on an upright RGB picture, highest score first."""
        # A PIL picture is taken as RGB; an array would be taken as BGR.
        with self.one_at_a_time:
            result = self.model.predict(image, conf=self.confidence, device=self.device, verbose=False)[0]
        return from_ultralytics(result)


def best_device(torch) -> str:
    """The fastest device of this machine."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def from_ultralytics(result) -> Found:
    """An Ultralytics result as plain arrays."""
    boxes = result.boxes
    classes, scores, xyxy = (np.asarray(v.cpu(), float) for v in (boxes.cls, boxes.conf, boxes.xyxy))
    order = np.argsort(-scores, kind="stable")
    return Found(classes[order].astype(int), scores[order], xyxy[order])
