"""OpenAI's protocol by the `openai` SDK: OpenAI itself, and any server that speaks it (Ollama, vLLM, llama.cpp …)."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import openai

from common.http import AGAIN, retry_after
from datagen.llm.records import BatchState, FatalError, ModelError, RejectedError, Reply, Request, RetryableError
from datagen.llm.settings import ModelSettings

FATAL = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
# What strict structured output does not take; our own validation holds replies to these bounds.
NOT_STRICT = {"minLength", "maxLength", "title", "default"}
ERRORS = (openai.OpenAIError, OSError, ValueError)
CHAT = "/v1/chat/completions"
MARK = "daetgeul"  # metadata that tells our batches from others
DAY_S = 86400


class OpenAIProvider:
    """One client for all threads; its own retries are off, so that every attempt is in the journal."""

    def __init__(self, settings: ModelSettings, key: str) -> None:
        self.structured, self.key = settings.structured, key
        # OpenAI has renamed it; the servers that speak its protocol know the old name
        self.longest = "max_tokens" if settings.base_url else "max_completion_tokens"
        self.client = openai.OpenAI(api_key=key, base_url=settings.base_url, timeout=settings.timeout_s, max_retries=0)

    def complete(self, request: Request) -> Reply:
        try:
            done = self.client.chat.completions.create(**self.body(request))
        except ERRORS as error:
            raise translate(error, self.key) from error
        return reply_of(done.model_dump())

    def body(self, request: Request) -> dict:
        """The request as the protocol wants it."""
        body = {
            "model": request.model,
            "messages": [{**m, "content": _content(m["content"])} for m in request.messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            self.longest: request.max_tokens,
            "seed": request.seed,
        }
        if request.schema and self.structured == "json_schema":
            shape = {"name": request.schema.get("title", "reply"), "strict": True, "schema": strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        elif request.schema and self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def batch_line(self, name: str, request: Request) -> bytes:
        """A request as a line of a batch's file."""
        line = {"custom_id": name, "method": "POST", "url": CHAT, "body": self.body(request)}
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"

    def submit_batch(self, file: IO[bytes], name: str) -> str:
        """Upload a batch's file and start it; returns the server's id of it."""
        try:
            source = self.client.files.create(file=(f"{name}.jsonl", file), purpose="batch")
            made = self.client.batches.create(
                input_file_id=source.id, endpoint=CHAT, completion_window="24h", metadata={MARK: name}
            )
        except ERRORS as error:
            raise translate(error, self.key) from error
        return made.id

    def find_batch(self, name: str, since: float) -> str | None:
        """The server's id of a batch started after a Unix time under our name; None where there is none."""
        try:
            for batch in self.client.batches.list(limit=100):  # the newest first
                if (batch.metadata or {}).get(MARK) == name:
                    return batch.id
                if batch.created_at < since - DAY_S:  # clocks differ, but not by a day
                    return None
        except ERRORS as error:
            raise translate(error, self.key) from error
        return None

    def look_at_batch(self, remote: str) -> BatchState:
        """How a batch stands."""
        try:
            batch = self.client.batches.retrieve(remote)
        except openai.NotFoundError as error:
            raise FatalError(f"the server has no batch {remote}: is it another key or base_url than before?") from error
        except ERRORS as error:
            raise translate(error, self.key) from error
        files = tuple(filter(None, (batch.output_file_id, batch.error_file_id)))
        problems = (batch.errors and batch.errors.data) or []
        return BatchState(batch.status, files, "; ".join(p.message or p.code or "no reason" for p in problems[:3]))

    def batch_answers(self, state: BatchState) -> Iterator[tuple[str, Reply | ModelError]]:
        """The answers of a batch that is over, by the name their line was given; unreadable ones are left out."""
        try:
            for file in state.files:
                with self.client.files.with_streaming_response.content(file) as content:
                    yield from filter(None, map(answer_of, _lines(content.iter_bytes())))
        except openai.NotFoundError as error:
            raise RejectedError(f"the server has not kept the answers in {file}") from error
        except ERRORS as error:
            raise translate(error, self.key) from error


def _content(content: str | list[dict]) -> str | list[dict]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: dict) -> dict:
    if part["type"] != "image":
        return part
    try:
        data = base64.b64encode(Path(part["path"]).read_bytes()).decode()
    except OSError as error:
        raise RejectedError(f"cannot read the photo {part['path']}: {error.strerror}") from error
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def strict(schema):
    """A JSON schema without what strict structured output refuses."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {k: v for k, v in schema.items() if k not in NOT_STRICT or isinstance(v, dict)}
    return {k: strict(v) for k, v in kept.items()}


def reply_of(done: dict) -> Reply:
    """The reply in a chat completion.

    Raises:
        RetryableError: there is none in it.
    """
    try:
        choice, usage = done["choices"][0], done.get("usage") or {}
        message, finish = choice["message"], choice.get("finish_reason") or "stop"
    except (KeyError, IndexError, TypeError) as error:
        raise RetryableError("the server's answer holds no reply", billed=True) from error
    refused = message.get("refusal") or ("" if finish != "content_filter" else "content filter")
    text = message.get("content") or refused or ""
    finish = "refusal" if refused else finish
    return Reply(text, usage.get("prompt_tokens"), usage.get("completion_tokens"), finish)


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a file that comes in parts; only a newline ends one, as text may hold other line ends."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from whole
    yield rest


def answer_of(line: bytes) -> tuple[str, Reply | ModelError] | None:
    """The name and answer in a line of a batch's output; None where it holds none."""
    try:
        row = json.loads(line)
        name, response, error = row["custom_id"], row.get("response") or {}, row.get("error") or {}
        body, status = response.get("body") or {}, response.get("status_code") or 0
        if status == 200:
            return name, reply_of(body)
        error = error or body.get("error") or {}
        message = f"status {status}: " * bool(status) + (error.get("message") or error.get("code") or "no reason")
    except RetryableError as lost:
        return name, lost
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    refused = 400 <= status < 500 and status not in AGAIN
    return name, RejectedError(message) if refused else RetryableError(message)


def translate(error: Exception, key: str) -> ModelError:
    """What an SDK error means for us; the message never holds the key, even where a server repeats it."""
    message = _message(error).replace(key, "***") if isinstance(error, openai.APIStatusError) else ""
    if isinstance(error, FATAL):
        return FatalError(message)
    if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
        return FatalError(message)
    if isinstance(error, openai.APIStatusError):
        if error.status_code in AGAIN or error.status_code >= 500:
            return RetryableError(message, retry_after(error.response.headers))
        return RejectedError(message)
    if isinstance(error, openai.APITimeoutError):
        return RetryableError("no reply in time", billed=True)
    if type(error.__cause__).__name__ == "ConnectError":  # of whichever HTTP library the SDK uses
        return RetryableError(f"cannot connect: {error.__cause__}")
    return RetryableError(f"connection lost or unreadable answer: {type(error).__name__}", billed=True)


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return f"status {error.status_code}: {' '.join(str(body.get('message') or error.message).split())[:300]}"
