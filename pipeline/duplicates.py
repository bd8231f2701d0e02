"""Photos that are one picture: told by a perceptual hash, whatever their size and JPEG quality."""

import numpy as np
from PIL import Image

from common.errors import UserError

SIDE = 16  # of the hash: 256 bits
# Photos are one picture when at most this many bits differ, and neither their shapes nor their mean colours differ by
# more than this. Measured in 3,700 photos of five collections: copies at a third of the size and JPEG quality 40, at
# 200 pixels, or 15 % brighter differ by up to 20 bits; the 14 pairs that the rule joins are one picture each; the next
# picture taken by the same hand a moment later differs by 30.
MOST_BITS = 24
MOST_STRETCH = 1.03
ALBUM_BYTES = SIDE * SIDE // 8 + 4 * 8  # a picture takes
MOST_COLOUR = 32  # of 255, in red, green or blue: plain pictures have no structure to tell them by


def picture_hash(image: Image.Image) -> str:
    """The perceptual hash of an upright RGB picture (64 hex digits) and its mean colour (6).

    Source: the DCT hash of ImageHash (Buchner), after Zauner 2010, "Implementation and Benchmarking of Perceptual
    Image Hash Functions".
    """
    import imagehash

    colour = image.resize((1, 1), Image.BOX).getpixel((0, 0))
    return f"{imagehash.phash(image, SIDE)}{bytes(colour).hex()}"


def need_imagehash() -> None:
    """Look for the library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise UserError(
            "duplicates are found by ImageHash: `pip install imagehash`, or comment every copy with --keep-duplicates"
        ) from None


class Album:
    """The different pictures so far, in the order they came."""

    def __init__(self) -> None:
        self.names: list[str] = []
        # all grow by doubling; the fourth number is the logarithm of width / height
        self._bits, self._looks = np.zeros((64, SIDE * SIDE // 64), np.uint64), np.zeros((64, 4))
        self._most = np.array([MOST_COLOUR] * 3 + [np.log(MOST_STRETCH)])

    def first(self, name: str, digest: str, size: tuple[int, int]) -> str | None:
        """The first photo that shows the same picture; where there is none, this one is the first from now on.

        Args:
            digest: of `picture_hash`.
            size: (width, height) of the full upright photo.
        """
        raw, count = bytes.fromhex(digest), len(self.names)
        bits, look = np.frombuffer(raw[:-3], np.uint64), np.array([*raw[-3:], np.log(size[0] / size[1])])
        same = np.bitwise_count(self._bits[:count] ^ bits).sum(axis=1) <= MOST_BITS
        same[same] = (np.abs(self._looks[:count][same] - look) <= self._most).all(axis=1)
        if same.any():
            return self.names[int(same.argmax())]
        if count == len(self._bits):
            self._bits, self._looks = (np.concatenate([a, np.zeros_like(a)]) for a in (self._bits, self._looks))
        self._bits[count], self._looks[count] = bits, look
        self.names.append(name)
        return None
