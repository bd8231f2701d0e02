"""Photo files: finding them, and opening any of them as an upright RGB picture."""

import glob
import io
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif"}
MAX_PIXELS = 120_000_000  # a 100-megapixel camera fits; a decompression bomb does not
MAX_UPLOAD_PIXELS = 50_000_000  # of a picture that somebody else sent: two at a time must fit in memory
# No reader that starts another program (EPS) or makes no photos.
UPLOAD_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
MAX_SIDE = 1280  # detectors look at less; a JPEG decodes at 1/2, 1/4 or 1/8 scale while it stays above this


class PhotoError(ValueError):
    """A photo that cannot be read; `kind` is a short name for programs, the message is for people."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def upright(image: Image.Image) -> Image.Image:
    """Any PIL picture as upright 8-bit RGB: EXIF orientation applied, first frame, transparency on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):  # 16-bit and float greys: PIL's own conversion clips them to white
        low, high = image.getextrema()
        scale = 255.0 / max(high - low, 1e-6) if high > 255 or low < 0 else 1.0
        offset = -low * scale if scale != 1.0 else 0.0
        return image.convert("F").point(lambda value: value * scale + offset).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def open_photo(photo: str | os.PathLike | bytes) -> tuple[Image.Image, tuple[int, int]]:
    """Open a photo: a file, or the bytes of one that somebody sent (photo formats only, and fewer pixels).

    Returns:
        The upright RGB picture, decoded at a reduced scale where it is a large JPEG, and the (width, height) of
        the full upright photo.

    Raises:
        PhotoError: missing, empty, no picture, truncated, too large, or a format that needs an extra.
    """
    sent = isinstance(photo, bytes)
    name = "the photo" if sent else str(Path(photo))
    try:
        if not sent and Path(photo).is_dir():
            raise PhotoError("not_a_file", f"{name} is a folder, not a photo")
        if (len(photo) if sent else Path(photo).stat().st_size) == 0:
            raise PhotoError("empty_file", f"{name} is empty (0 bytes)")
        formats = UPLOAD_FORMATS if sent else None
        if _is_heif(photo):
            _enable_heif(name)
            formats = ("HEIF",) if sent else None
        with _opened(io.BytesIO(photo) if sent else photo, formats) as image:
            return _decode(image, name, MAX_UPLOAD_PIXELS if sent else MAX_PIXELS)
    except FileNotFoundError:
        raise PhotoError("not_found", f"{name} does not exist") from None
    except PermissionError:
        raise PhotoError("not_readable", f"{name} may not be read (permission denied)") from None
    except (UnidentifiedImageError, ImportError):  # Ultralytics patches Image.open to try another HEIF plugin
        raise PhotoError("not_an_image", f"{name} is not a picture in a known format") from None
    except PhotoError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PhotoError("damaged", f"{name} is damaged: {reason}") from None


_opening = threading.Lock()


def _opened(file, formats: tuple[str, ...] | None) -> Image.Image:
    """`Image.open` without Pillow's limit: ours speaks instead, as Pillow's warning starts lower and its error says
    nothing of the file. The limit is one for all threads, so they take turns; decoding comes later."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(image: Image.Image, name: str, most: int) -> tuple[Image.Image, tuple[int, int]]:
    width, height = image.size
    if width * height > most:
        raise PhotoError("too_large", f"{name} is {width} x {height}; at most {most // 1_000_000} megapixels")
    image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # a 12-megapixel JPEG opens several times faster
    image.load()
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return upright(image), (height, width) if turned else (width, height)


def _is_heif(photo: str | os.PathLike | bytes) -> bool:
    """By the suffix of a file, by the content of bytes."""
    if isinstance(photo, bytes):
        return photo[4:8] == b"ftyp" and photo[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
    return Path(photo).suffix.lower() in (".heic", ".heif")


def _enable_heif(name: str) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise PhotoError(
            "needs_extra", f"{name} is HEIC: `pip install pillow-heif` to read it, or save as JPEG"
        ) from None
    pillow_heif.register_heif_opener()


def find_photos(pattern: str) -> list[str]:
    """The photos a PATH argument stands for: a file as is, a folder's photos (sorted, at any depth) or a glob's.

    A path that matches nothing is returned as is, so that opening it reports what is wrong; a folder without
    photos gives an empty list.
    """
    path = Path(pattern)
    if path.is_dir():
        return sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not path.exists() and glob.has_magic(pattern):
        matches = sorted(m for m in glob.glob(pattern, recursive=True) if os.path.isfile(m))
        return matches or [pattern]
    return [pattern]


def training_photos(folders: Iterable[Path], held_out: Iterable[Path]) -> list[Path]:
    """Photos a trainer may read: those in `folders`, less those named in the `held_out` list files.

    A line of a list is a file name or the end of a path (`coco_captions/images/1.jpg`). Every trainer of this
    package gets its photos here, so that nothing that is checked is ever learned from.
    """
    names = {line.strip() for file in held_out for line in Path(file).read_text("utf-8").splitlines() if line.strip()}
    photos = (p for folder in folders for p in sorted(Path(folder).iterdir()) if p.suffix.lower() in SUFFIXES)
    return [p for p in photos if not any("/".join(p.parts[-k:]) in names for k in range(1, len(p.parts)))]
