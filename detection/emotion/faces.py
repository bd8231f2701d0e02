"""Labelled face crops: FERPlus-style archives of grey crops with crowd votes.

The archive (`.npz`) holds `images` (N, 48, 48) uint8, `votes` (N, V) and `vote_names` (V,).
Source of the votes: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced
Label Distribution", 2016.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from detection.labels import EMOTION_IDS

# Being startled covers surprise and fear; votes for other things are no vote for any of ours.
VOTE_TO_EMOTION = {
    "anger": "anger",
    "sadness": "sad",
    "surprise": "panic",
    "fear": "panic",
    "happiness": "happy",
    "neutral": "neutral",
}
OTHER_VOTES = {"contempt", "disgust", "unknown", "nf", "non-face", "NF"}


@dataclass(frozen=True)
class Faces:
    """Face crops with soft labels: images (N, 48, 48) uint8 grey, targets (N, 5) summing to 1."""

    images: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def split(self, val_share: float, seed: int) -> tuple["Faces", "Faces"]:
        """A training and a validation part, drawn with a fixed seed."""
        order = np.random.default_rng(seed).permutation(len(self))
        cut = round(len(self) * val_share)
        return Faces(self.images[order[cut:]], self.targets[order[cut:]]), Faces(
            self.images[order[:cut]], self.targets[order[:cut]]
        )


def load_faces(path: Path) -> Faces:
    """Read an archive of voted faces.

    Raises:
        UserError: no such file, or a vote column nobody mapped to an emotion.
    """
    if not Path(path).exists():
        raise UserError(f"{path} does not exist; it must be an .npz with images, votes and vote_names")
    data = np.load(path)
    names = [str(name) for name in data["vote_names"]]
    unknown = set(names) - set(VOTE_TO_EMOTION) - OTHER_VOTES
    if unknown:
        raise UserError(
            f"{path}: unknown vote names {sorted(unknown)} (known: {sorted({*VOTE_TO_EMOTION, *OTHER_VOTES})})"
        )
    votes = data["votes"].astype(np.float32)
    targets = np.zeros((len(votes), len(EMOTION_IDS)), np.float32)
    for column, name in enumerate(names):
        if emotion := VOTE_TO_EMOTION.get(name):
            targets[:, EMOTION_IDS.index(emotion)] += votes[:, column]
    voted = targets.sum(1) > 0
    return Faces(data["images"][voted], targets[voted] / targets[voted].sum(1, keepdims=True))
