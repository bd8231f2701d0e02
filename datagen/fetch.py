"""One photo over HTTP: whole and as its server meant it, or an error; a picture to its last row."""

import hashlib
import time
from dataclasses import dataclass
from io import BytesIO

from common.fetch import CHUNK, FetchError, check_sums, opened


@dataclass(frozen=True)
class Limits:
    """How long and how large one file may be."""

    timeout_s: float
    most_bytes: int
    etag_is_md5: bool


def fetch_photo(url: str, limits: Limits) -> bytes:
    """The bytes of a photo, checked against length and checksums that the server gives, and decoded once.

    Raises:
        FetchError: the server refuses, the file is incomplete or not what was announced, or it is no picture.
    """
    with opened(url, limits.timeout_s) as reply:
        data, headers = _read(reply, limits), reply.headers
    check_sums(hashlib.md5(data, usedforsecurity=False).hexdigest(), headers, limits.etag_is_md5)
    check_picture(data)
    return data


def _read(reply, limits: Limits) -> bytes:
    """The whole body; a server that drips a byte now and then does not hold us longer than the timeout."""
    parts, size, end = [], 0, time.monotonic() + limits.timeout_s
    while part := reply.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > limits.most_bytes:
            raise FetchError(f"more than {limits.most_bytes:,} bytes")
        if time.monotonic() > end:
            raise FetchError(f"not done after {limits.timeout_s:g} s", again=True)
    length = reply.headers.get("Content-Length")
    if length and length.isdigit() and int(length) != size:
        raise FetchError(f"{size:,} of {length} bytes came", again=True)
    return b"".join(parts)


def check_picture(data: bytes) -> None:
    """Decode a picture to its last row.

    Raises:
        FetchError: it is none, or is broken.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    # ImportError: where Ultralytics is loaded, its own `Image.open` looks for another HEIF plugin
    except (OSError, SyntaxError, ValueError, ImportError, Image.DecompressionBombError) as error:
        raise FetchError(f"no picture: {' '.join(str(error).split())[:120]}") from error
