"""Files over HTTP: whole and as their server meant them, or an error that tells whether another try may help."""

import base64
import errno
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from common.http import retry_after

CHUNK = 1 << 16
WORTH_RETRYING = (408, 416, 425, 429)  # 416: a part is no part of the server's file any more, and was thrown away
LONGEST_WAIT_S = 60.0
FULL = (errno.ENOSPC, errno.EDQUOT)


class FetchError(Exception):
    """There is no good file.

    Attributes:
        again: whether another try may bring it.
        wait_s: seconds the server wants to be left alone, None where it does not say.
    """

    def __init__(self, message: str, again: bool = False, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.again, self.wait_s = again, wait_s


def pause_s(tries: int, first_s: float) -> float:
    """How long to wait after so many tries (from 0): doubled each time, less a random part, a minute at most."""
    return min(LONGEST_WAIT_S, first_s * 2**tries) * random.uniform(0.5, 1.0)


@contextmanager
def opened(url: str, timeout_s: float, headers: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
    """A server's reply; what goes wrong until it is read to its end is a `FetchError`.

    Args:
        timeout_s: most seconds without a byte.
    """
    if not url.lower().startswith(("http://", "https://")):  # urllib would read local files, too
        raise FetchError("not an http address")
    try:
        with urlopen(Request(url, headers={"User-Agent": "daetgeul", **(headers or {})}), timeout=timeout_s) as reply:
            yield reply
    except HTTPError as error:
        again = error.code in WORTH_RETRYING or error.code >= 500
        raise FetchError(f"status {error.code}", again, retry_after(error.headers)) from error
    except (OSError, HTTPException) as error:  # refused, cut, timed out
        if getattr(error, "filename", None) or getattr(error, "errno", None) in FULL:
            raise  # not the server's fault
        reason = getattr(error, "reason", None) or error
        raise FetchError(f"no answer: {' '.join(str(reason).split()) or type(error).__name__}", again=True) from error
    except ValueError as error:
        raise FetchError(f"not an address: {error}") from error


def check_sums(digest: str, headers, etag_is_md5: bool) -> None:
    """Compare an MD5, in hex digits, with the checksums that a server gives.

    Args:
        etag_is_md5: S3's ETags are the MD5 of what came in one part.

    Raises:
        FetchError: they differ.
    """
    given = headers.get("Content-MD5")
    if given and given.strip() != base64.b64encode(bytes.fromhex(digest)).decode():
        raise FetchError("the bytes do not fit the Content-MD5", again=True)
    etag = re.fullmatch(r'"([0-9a-f]{32})"', (headers.get("ETag") or "").strip())
    if etag_is_md5 and etag and etag[1] != digest:
        raise FetchError("the bytes do not fit the ETag", again=True)


def fetch_file(
    url: str,
    path: Path,
    timeout_s: float = 30,
    retries: int = 5,
    wait_s: float = 1,
    size: int | None = None,
    md5: str | None = None,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """A large file, under its name only when it is whole; what came stays in `NAME.part` and the next call goes on.

    Tries are counted anew whenever bytes came.

    Args:
        wait_s: seconds after the first failure, doubled each time.
        size: bytes it must have, None where only the server knows.
        md5: checksum it must have.
        report: is told bytes that are there and bytes in all.

    Raises:
        FetchError: it did not come, or is not what it should be.
    """
    part, tries = path.with_name(path.name + ".part"), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        before = _there(part)
        try:
            _go_on(url, part, timeout_s, size, report)
            _check(part, md5)
            os.replace(part, path)
            _note(part).unlink(missing_ok=True)
            return
        except FetchError as error:
            tries = 0 if _there(part) > before else tries + 1
            if not error.again or tries > retries:
                raise
            waited = error.wait_s if error.wait_s is not None else pause_s(tries, wait_s)
            time.sleep(min(waited, LONGEST_WAIT_S))


def _go_on(url: str, part: Path, timeout_s: float, size: int | None, report) -> None:
    """Fetch what a part lacks; a server whose file is another one by now sends all of it."""
    start, note = _there(part), _note(part)
    known = _known(note) if start else {}
    if start and start == known.get("total"):
        return
    headers = {"Range": f"bytes={start}-", **({"If-Range": known["tag"]} if known.get("tag") else {})} if known else {}
    try:
        with opened(url, timeout_s, headers) as reply:
            start = _start(reply, start)
            length = reply.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() else size
            if size is not None and total != size:
                raise FetchError(f"the server's file has {total:,} bytes, but {size:,} are expected")
            note.write_text(json.dumps({"tag": _tag(reply.headers), "total": total}))
            with part.open("ab" if start else "wb") as out:
                while chunk := reply.read1(CHUNK):
                    out.write(chunk)
                    start += len(chunk)
                    report(start, total)
    except FetchError as error:
        if str(error) == "status 416":
            part.unlink()
        raise
    if total is not None and start != total:
        raise FetchError(f"{start:,} of {total:,} bytes came", again=True)


def _start(reply: HTTPResponse, start: int) -> int:
    """Where the body begins in the file."""
    if reply.headers.get_content_type() == "text/html":
        raise FetchError("a web page came instead of the file")
    if reply.status != 206:
        return 0
    if not (reply.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
        raise FetchError("the server sent another part of the file than was asked for")
    return start


def _tag(headers) -> str | None:
    """What tells a version of the file, as If-Range takes it: a strong ETag, else the date."""
    etag = headers.get("ETag") or ""
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _check(part: Path, md5: str | None) -> None:
    if md5 is None:
        return
    with part.open("rb") as data:
        found = hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        part.unlink()
        raise FetchError(f"the MD5 is {found}, but {md5} is expected", again=True)


def _known(note: Path) -> dict:
    """What the server said of the file that a part belongs to; nothing makes the fetch begin anew."""
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return {}


def _there(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")
