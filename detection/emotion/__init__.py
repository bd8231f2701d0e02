"""Photo -> its faces, each with a feeling: anger, sad, panic (startled), happy or neutral."""

from pathlib import Path

from PIL import Image

from configs.errors import UserError
from detection.boxes import nms
from detection.labels import EMOTION_IDS, lookup
from detection.model import load_model
from detection.photos import upright
from detection.records import Detection, clipped

POCKET = Path(__file__).with_name("pocket.onnx")
SAME_FACE_IOU = 0.45  # boxes of two feelings this close are one face


class EmotionDetector:
    """Finds every face and names its feeling, neutral included.

    Args:
        weights: "pocket" (embedded) or a `.pt`/`.onnx` file whose classes are emotions.
        device: for `.pt` weights: "cpu", "cuda" or "mps"; default the best there is.

    Raises:
        UserError: the weights cannot be found or loaded, or name a class that is no emotion.
    """

    def __init__(self, weights: str = "pocket", device: str | None = None):
        self.model = load_model(weights, POCKET, device, confidence=0.2)
        self.labels = [lookup(name) or name for name in self.model.names]
        strange = [name for name in self.labels if name not in EMOTION_IDS]
        if strange:
            raise UserError(f"{weights}: classes {strange[:5]} are no emotions (allowed: {', '.join(EMOTION_IDS)})")

    def detect(self, image: Image.Image) -> list[Detection]:
        """Faces of a picture of any PIL mode (EXIF orientation is applied), highest score first.

        Boxes are xyxy in pixels of the upright picture, one per face.
        """
        image = upright(image)
        found = self.model.predict(image)
        faces = nms(found.xyxy, found.scores, SAME_FACE_IOU)
        rows = ((self.labels[found.classes[i]], found.scores[i], found.xyxy[i]) for i in faces)
        return [d for label, score, box in rows if (d := clipped(label, "emotion", score, box, image.size))]
