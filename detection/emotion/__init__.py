"""Photo -> its faces, each with a feeling: anger, sad, panic (startled), happy or neutral."""

from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from detection.boxes import nms
from detection.labels import EMOTION_IDS, lookup
from detection.model import load_model
from detection.photos import upright
from detection.records import Detection, clipped

POCKET = Path(__file__).with_name("pocket.onnx")
POCKET_FEELINGS = Path(__file__).with_name("pocket_feelings.onnx")
SAME_FACE_IOU = 0.45  # boxes of two feelings this close are one face
SAME_FACE_INSIDE = 0.7  # so is a box this much within a surer one: half a face, an eye
FACES_ONLY = ["face"]  # the classes of a detector that leaves feelings to the crop classifier


class EmotionDetector:
    """Finds every face and names its feeling, neutral included.

    The embedded detector finds faces; a crop classifier names what they feel. A detector of your own may do the same
    (its one class is "face") or name feelings itself.

    Args:
        weights: "pocket" (embedded) or a `.pt`/`.onnx` file whose classes are emotions, or "face" alone.
        device: for `.pt` weights: "cpu", "cuda" or "mps"; default the best there is.
        threads: that one photo takes with ONNX weights; default one a core.

    Raises:
        UserError: the weights cannot be found or loaded, or name a class that is no emotion.
    """

    def __init__(self, weights: str = "pocket", device: str | None = None, threads: int | None = None):
        self.model = load_model(weights, POCKET, device, confidence=0.2, threads=threads)
        self.feelings = None
        if self.model.names == FACES_ONLY:
            from detection.emotion.feelings import FeelingClassifier

            self.feelings = FeelingClassifier(POCKET_FEELINGS, threads)
            return
        self.labels = [lookup(name) or name for name in self.model.names]
        strange = [name for name in self.labels if name not in EMOTION_IDS]
        if strange:
            allowed = f"{', '.join(EMOTION_IDS)}, or face alone"
            raise UserError(f"{weights}: classes {strange[:5]} are no emotions (allowed: {allowed})")

    def detect(self, image: Image.Image) -> list[Detection]:
        """Faces of a picture of any PIL mode (EXIF orientation is applied), highest score first.

        Boxes are xyxy in pixels of the upright picture, one per face. A score says how likely it is that there is a
        face and that it feels so.
        """
        image = upright(image)
        found = self.model.predict(image)
        faces = nms(found.xyxy, found.scores, SAME_FACE_IOU, SAME_FACE_INSIDE)
        xyxy, scores = found.xyxy[faces], found.scores[faces]
        if self.feelings:
            p, is_face = self.feelings.read(image, xyxy, scores)
            sure = is_face >= self.feelings.second_look.confidence
            p, xyxy = p[sure], xyxy[sure]
            labels, scores = [EMOTION_IDS[i] for i in p.argmax(1)], is_face[sure] * p.max(1)
        else:
            labels = [self.labels[i] for i in found.classes[faces]]
        order = np.argsort(-scores, kind="stable")
        rows = (clipped(labels[i], "emotion", scores[i], xyxy[i], image.size) for i in order)
        return [d for d in rows if d]
