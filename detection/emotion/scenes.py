"""Scenes: labelled face crops set into photos without people, as training pictures for the detector.

Deterministic by seed. Many faces a picture (every look counts on a CPU), 20-300 px, soft edges, skin-like colour casts,
things in front of faces, blur and JPEG marks. Pieces of other photos are pasted in the same way (hard negatives), so
that the seam is nothing to learn from.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from detection.boxes import iou_matrix
from detection.emotion.faces import Faces

SMALLEST, LARGEST = 20, 300  # sides of faces in pixels


class SceneComposer:
    """Composes scenes from faces and backgrounds.

    Args:
        faces: crops with soft targets; a face's label is drawn from its votes each time it is used, or is the one with
            most votes, where scenes are for measuring (`majority`).
        backgrounds: upright RGB photos without people.
        side: longer side of a scene in pixels.
    """

    def __init__(self, faces: Faces, backgrounds: list[Image.Image], side: int, seed: int, majority: bool = False):
        self.faces, self.backgrounds, self.side, self.majority = faces, backgrounds, side, majority
        self.rng = np.random.default_rng(seed)
        labels = faces.targets.argmax(1)
        weights = 1 / np.maximum(np.bincount(labels, minlength=faces.targets.shape[1]), 1)[labels]
        self.weights = weights / weights.sum()

    def compose(self) -> tuple[Image.Image, list[tuple[int, tuple[float, float, float, float]]]]:
        """One scene and its faces as (class number, xyxy in pixels)."""
        rng = self.rng
        canvas = self._background()
        truth: list[tuple[int, tuple[float, float, float, float]]] = []
        wanted = 0 if rng.random() < 0.06 else int(rng.integers(1, 4) if rng.random() < 0.35 else rng.integers(6, 17))
        for index in rng.choice(len(self.faces), wanted, p=self.weights):
            face, mask = self._dress(Image.fromarray(self.faces.images[index]), self._size(wanted))
            if box := self._place(face.size, canvas.size, [b for _, b in truth]):
                canvas.paste(face, box[:2], mask)
                if rng.random() < 0.15:
                    self._cover(canvas, box)
                truth.append((int(rng.choice(self.faces.targets.shape[1], p=self._votes(index))), box))
        if rng.random() < 0.4:
            self._distract(canvas, [box for _, box in truth])
        return self._finish(canvas), truth

    def _cover(self, canvas: Image.Image, face: tuple[int, int, int, int]) -> None:
        """Something in front of up to a third of a face: a piece of a photo from one side, as a hand or a cup."""
        x1, y1, x2, y2 = face
        width, height = max(2, round((x2 - x1) * self.rng.uniform(0.15, 0.33))), y2 - y1
        piece = self._piece((width, height))
        canvas.paste(piece, (x1 if self.rng.random() < 0.5 else x2 - width, y1))

    def _distract(self, canvas: Image.Image, taken: list) -> None:
        """Pieces of photos without people, dressed and pasted as faces are: no face, whatever its edge."""
        for _ in range(int(self.rng.integers(1, 4))):
            size = self._size(4)
            piece, mask = self._dress(self._piece((48, 48)).convert("L"), size)
            if box := self._place(piece.size, canvas.size, taken):
                canvas.paste(piece, box[:2], mask)
                taken.append(box)

    def _piece(self, size: tuple[int, int]) -> Image.Image:
        """A random piece of a background at least as large as `size`, shrunk to it."""
        photo = self.backgrounds[int(self.rng.integers(len(self.backgrounds)))]
        side = round(min(photo.size) * self.rng.uniform(0.15, 0.8))
        x, y = (int(self.rng.integers(limit - side + 1)) for limit in photo.size)
        return photo.crop((x, y, x + side, y + side)).resize(size, Image.BILINEAR)

    def _votes(self, index: int) -> np.ndarray:
        p = self.faces.targets[index].astype(float) ** (50 if self.majority else 1.5)  # lone dissent is mostly noise
        return p / p.sum()

    def _size(self, wanted: int) -> int:
        largest = min(LARGEST, self.side * (0.75 if wanted < 4 else 0.36))
        return round(float(np.exp(self.rng.uniform(np.log(SMALLEST), np.log(largest)))))

    def _background(self) -> Image.Image:
        rng = self.rng
        height = round(self.side * rng.choice([0.75, 1.0, 0.66, 1.0]))
        if rng.random() < 0.2:  # plain soft noise: walls, skies, studio grounds
            noise = rng.integers(
                40, 210, (int(rng.integers(3, 12)), int(rng.integers(3, 12)), 1 if rng.random() < 0.6 else 3), np.uint8
            )
            return Image.fromarray(np.broadcast_to(noise, (*noise.shape[:2], 3)).copy()).resize(
                (self.side, height), Image.BICUBIC
            )
        photo = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        scale = max(self.side / photo.width, height / photo.height) * rng.uniform(1.0, 1.4)
        photo = photo.resize(
            (max(self.side, round(photo.width * scale)), max(height, round(photo.height * scale))), Image.BILINEAR
        )
        x, y = int(rng.integers(photo.width - self.side + 1)), int(rng.integers(photo.height - height + 1))
        return photo.crop((x, y, x + self.side, y + height))

    def _dress(self, face: Image.Image, size: int) -> tuple[Image.Image, Image.Image]:
        """A grey crop as a small colour picture with a soft mask."""
        rng = self.rng
        if rng.random() < 0.5:
            face = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        face = face.resize((size, max(8, round(size * rng.uniform(0.95, 1.2)))), Image.BICUBIC)
        if rng.random() < 0.5:
            face = face.rotate(rng.uniform(-15, 15), Image.BICUBIC, fillcolor=int(np.asarray(face).mean()))
        if rng.random() < 0.25 and size > 40:
            face = face.filter(ImageFilter.GaussianBlur(size / 48 * rng.uniform(0.3, 1.2)))
        pixels = np.asarray(face, np.float32)[..., None]
        pixels = (pixels - 128) * rng.uniform(0.7, 1.2) + 128 + rng.uniform(-30, 30)
        if rng.random() < 0.75:  # skin reflects most in red, least in blue
            pixels = pixels * np.array(
                [rng.uniform(1.0, 1.25), rng.uniform(0.85, 1.0), rng.uniform(0.6, 0.95)], np.float32
            )
        pixels = np.broadcast_to(np.clip(pixels, 0, 255), (*pixels.shape[:2], 3)).astype(np.uint8)
        mask, soft = Image.new("L", face.size, 0), max(1, round(size * rng.uniform(0.03, 0.09)))
        inner = (soft, soft, face.width - soft - 1, face.height - soft - 1)
        draw = ImageDraw.Draw(mask)
        draw.ellipse(inner, fill=255) if rng.random() < 0.35 else draw.rounded_rectangle(
            inner, round(size * rng.uniform(0, 0.4)), fill=255
        )
        return Image.fromarray(pixels), mask.filter(ImageFilter.GaussianBlur(soft * 0.7))

    def _place(self, size: tuple[int, int], room: tuple[int, int], taken: list) -> tuple[int, int, int, int] | None:
        """A free spot for a face, or None after a few tries."""
        if size[0] >= room[0] or size[1] >= room[1]:
            return None
        for _ in range(12):
            x, y = int(self.rng.integers(room[0] - size[0])), int(self.rng.integers(room[1] - size[1]))
            box = (x, y, x + size[0], y + size[1])
            if not taken or iou_matrix([box], taken).max() < 0.03:
                return box
        return None

    def _finish(self, canvas: Image.Image) -> Image.Image:
        rng = self.rng
        if rng.random() < 0.15:
            canvas = canvas.convert("L").convert("RGB")
        if rng.random() < 0.15:
            canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
        buffer = io.BytesIO()
        canvas.save(buffer, "JPEG", quality=int(rng.integers(45, 95)))
        return Image.open(buffer)
