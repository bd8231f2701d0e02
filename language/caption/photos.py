"""Photo files for captioners: finding them, and opening one as an upright RGB picture.

Trainer, captions, evaluation and pages open photos here, so that a model sees the same pixels everywhere.
"""

import glob
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import open as open_image  # Ultralytics replaces Image.open by one that prints and installs packages

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif"}
MAX_SIDE = 1024  # captioners look at 224 px; a larger JPEG decodes at 1/2, 1/4 or 1/8 scale while it stays above this


class UnreadablePhoto(ValueError):
    """A file that is missing or no whole picture; the message is one line and begins with the path."""


def upright(image: Image.Image) -> Image.Image:
    """Any picture as RGB: EXIF orientation applied, first frame, transparency on white."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_rgb(path: str | Path) -> Image.Image:
    """The photo, upright and RGB; a large JPEG is decoded at a reduced scale.

    Raises:
        UnreadablePhoto: missing, not a picture, truncated or too large.
    """
    with _opened(path) as image:
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # a 12-megapixel JPEG opens several times faster
        return upright(image)


def check_header(path: str | Path) -> None:
    """Look whether the file begins as a picture does; to decode those of a large set would take hours.

    Raises:
        UnreadablePhoto: missing, not a picture or too large.
    """
    with _opened(path):
        pass


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with open_image(path) as image:
            yield image
    except FileNotFoundError:
        raise UnreadablePhoto(f"{path} does not exist") from None
    except (UnidentifiedImageError, ImportError):  # the latter by Ultralytics, where it was there first
        raise UnreadablePhoto(f"{path} cannot be read: it is not a picture in a known format") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadablePhoto(f"{path} cannot be read: {reason}") from None


def find_photos(pattern: str) -> list[str]:
    """The photos that an IMAGE argument stands for: a file, a folder's photos (sorted, at any depth) or a glob's.

    What matches nothing is returned as is, so that opening it says what is wrong; an empty folder gives an empty list.
    """
    if Path(pattern).is_dir():
        inside = Path(pattern).rglob("*")
        return sorted(str(file) for file in inside if file.suffix.lower() in SUFFIXES and file.is_file())
    matches = [] if Path(pattern).exists() else glob.glob(pattern, recursive=True)
    return sorted(match for match in matches if Path(match).is_file()) or [pattern]
