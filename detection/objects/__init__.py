"""Photo -> the things in it: a detector of the 601 Open Images classes."""

import warnings
from pathlib import Path

from PIL import Image

from detection.labels import KNOWN_IDS, lookup
from detection.model import load_model
from detection.photos import upright
from detection.records import Detection, clipped

POCKET = Path(__file__).with_name("pocket.onnx")


class ObjectDetector:
    """Finds things and names them by their Open Images ids.

    Args:
        weights: "pocket" (embedded), an official name such as "yolov8x-oiv7", or a `.pt`/`.onnx` file.
        device: for `.pt` weights: "cpu", "cuda" or "mps"; default the best there is.
        threads: that one photo takes with ONNX weights; default one a core.

    Raises:
        UserError: the weights cannot be found or loaded.
    """

    def __init__(self, weights: str = "pocket", device: str | None = None, threads: int | None = None):
        self.model = load_model(weights, POCKET, device, confidence=0.25, threads=threads)
        known = KNOWN_IDS
        # COCO names differ from ours in case only ("tennis racket"); what no pack knows keeps its own name
        self.labels = [name if name in known else lookup(name) or name for name in self.model.names]
        strange = [name for name in self.labels if name not in known]
        if strange:
            warnings.warn(
                f"{weights}: {len(strange)} class names are in no label pack and stay as they are, e.g. {strange[0]!r}",
                stacklevel=2,
            )

    def detect(self, image: Image.Image) -> list[Detection]:
        """Things in a picture of any PIL mode (EXIF orientation is applied), highest score first.

        Boxes are xyxy in pixels of the upright picture.
        """
        image = upright(image)
        found = self.model.predict(image)
        votes = found.votes if found.votes is not None else [1] * len(found.classes)
        rows = zip(found.classes, found.scores, found.xyxy, votes, strict=True)
        return [d for c, s, box, v in rows if (d := clipped(self.labels[c], "object", s, box, image.size, v))]
