"""One file over HTTP: whole and as its server meant it, or an error; retried where that may help."""

import base64
import hashlib
import re
import time
from dataclasses import dataclass
from http.client import HTTPException
from io import BytesIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHUNK = 1 << 16
WORTH_RETRYING = (408, 425, 429)


class FetchError(Exception):
    """There is no good file.

    Attributes:
        again: whether another try may bring it.
        wait_s: seconds the server wants to be left alone, None where it does not say.
    """

    def __init__(self, message: str, again: bool = False, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.again, self.wait_s = again, wait_s


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
    if not url.lower().startswith(("http://", "https://")):  # urllib would read local files, too
        raise FetchError("not an http address")
    try:
        with urlopen(Request(url, headers={"User-Agent": "daetgeul"}), timeout=limits.timeout_s) as reply:
            data, headers = _read(reply, limits), reply.headers
    except HTTPError as error:
        again = error.code in WORTH_RETRYING or error.code >= 500
        raise FetchError(f"status {error.code}", again, _seconds(error.headers.get("Retry-After"))) from error
    except (OSError, HTTPException) as error:  # refused, cut, timed out
        reason = getattr(error, "reason", None) or error
        raise FetchError(f"no answer: {' '.join(str(reason).split()) or type(error).__name__}", again=True) from error
    except ValueError as error:
        raise FetchError(f"not an address: {error}") from error
    _check_sums(data, headers, limits)
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


def _check_sums(data: bytes, headers, limits: Limits) -> None:
    digest = hashlib.md5(data, usedforsecurity=False)
    given = headers.get("Content-MD5")
    if given and given.strip() != base64.b64encode(digest.digest()).decode():
        raise FetchError("the bytes do not fit the Content-MD5", again=True)
    etag = re.fullmatch(
        r'"([0-9a-f]{32})"', (headers.get("ETag") or "").strip()
    )  # S3: the MD5 of what came in one part
    if limits.etag_is_md5 and etag and etag[1] != digest.hexdigest():
        raise FetchError("the bytes do not fit the ETag", again=True)


def check_picture(data: bytes) -> None:
    """Decode a picture to its last row.

    Raises:
        FetchError: it is none, or is broken.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FetchError(f"no picture: {' '.join(str(error).split())[:120]}") from error


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.strip().isdigit() else None
