"""Request bodies, read within bounds and never onto a disk."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

MOST_BYTES = 20_000_000  # of a body
MOST_JSON = 200_000  # of a body without a photo
MOST_DRAINED = 64_000_000  # of a refused body that is read to its end, so that its sender reads the answer
DRAIN_SECONDS = 10
MOST_FIELDS = 80


class ApiError(Exception):
    """A request that is not done: the status, a short type for programs, a message for people."""

    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers


class InMemory(MultiPartParser):
    """Starlette's parser, whose files stay in memory: none is larger than a whole body may be."""

    spool_max_size = MOST_BYTES + 1


async def _received(request: Request) -> AsyncIterator[bytes]:
    """The body from where it was left, chunk by chunk; `request.state.read` tells once it has ended."""
    while not getattr(request.state, "read", False):
        message = await request.receive()
        request.state.read = not message.get("more_body", False)  # a disconnect has no more either
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")


async def _chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    too_large = ApiError(413, "too_large", f"the body is too large; at most {most / 1e6:g} MB")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise too_large
    count = 0
    async for chunk in _received(request):
        count += len(chunk)
        if count > most:
            raise too_large
        yield chunk


async def drain(request: Request) -> None:
    """Read on to the end of a body that was refused, within bounds: who still sends does not read the answer."""
    count = 0
    if request.method == "POST":
        with suppress(ClientDisconnect, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                async for chunk in _received(request):
                    count += len(chunk)
                    if count > MOST_DRAINED:
                        break


def content_type(request: Request) -> str:
    """The media type, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, shape: type[BaseModel]):
    """The body as `shape`.

    Raises:
        ApiError: 413 too large, 415 no JSON by its header, 422 not of that shape.
    """
    if content_type(request) != "application/json":
        raise ApiError(415, "media_type", "send application/json")
    body = b"".join([chunk async for chunk in _chunks(request, MOST_JSON)])
    return checked(lambda: shape.model_validate_json(body))


async def read_form(request: Request) -> FormData:
    """A multipart body.

    Raises:
        ApiError: 413 too large, 400 no whole multipart body.
    """
    parser = InMemory(
        request.headers, _chunks(request, MOST_BYTES), max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_JSON
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, "bad_multipart", f"the multipart body is broken: {error.message}") from None


async def photo_of(form: FormData, field: str = "photo") -> tuple[bytes, str] | None:
    """A form's photo: its bytes and the base name of its file; None where there is none."""
    photo = form.get(field)
    if not isinstance(photo, UploadFile):
        return None
    return await photo.read(), base_name(photo.filename or "")


def base_name(name: str) -> str:
    """What of an uploaded file's name is told back: no folders, nothing that cannot be printed."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[:120].strip(" .") or "photo"


def fields_of(form: FormData, repeated: tuple[str, ...] = ()) -> dict:
    """A form's texts by name; lists of those that may come more than once.

    Raises:
        ApiError: 422 where another comes twice or is a file.
    """
    fields: dict = {}
    for name, value in form.multi_items():
        if name == "photo" and isinstance(value, UploadFile):
            continue
        if isinstance(value, UploadFile) or (name in fields and name not in repeated):
            raise ApiError(422, "bad_request", f"{name[:40]!r} is a file or comes twice; the only file is `photo`")
        if name in repeated:
            fields.setdefault(name, []).append(value)
        elif value:  # an empty field of a form is one left out
            fields[name] = value
    return fields


def checked(build):
    """What `build` makes, or its validation errors as one 422.

    Raises:
        ApiError: names up to three places and what is wrong there.
    """
    try:
        return build()
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_input=False)[:3]]
        raise ApiError(422, "bad_request", "; ".join(found)) from None
