"""What is asked of a language model, what comes back, and how asking fails.

ModelError
├── RetryableError   ask again later: too many requests, a server's fault, a lost connection
├── RejectedError    this request will never succeed; the others may
└── FatalError       no request will succeed: a wrong key, an unknown model, no funds
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property


@dataclass(frozen=True)
class Request:
    """One question to a model; its hash is its identity, so the same question is never paid for twice.

    Attributes:
        model: the provider's name of the model.
        messages: {"role", "content"}; content is a text, or parts: {"type": "text", "text"} and
            {"type": "image", "path", "sha256"}.
        temperature, top_p, max_tokens: how to draw, and the longest reply in tokens.
        schema: JSON schema of the reply; None for free text.
        seed: tells draws of one prompt apart; sent where the provider knows seeds.
        rules: version of what the reply is held to (rule file, prompt template).
    """

    model: str
    messages: tuple[dict, ...]
    temperature: float = 0.8
    top_p: float = 0.9
    max_tokens: int = 256
    schema: dict | None = None
    seed: int = 0
    rules: str = ""

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything in it; an image counts by its bytes, not by where it lies."""
        fields = {**self.__dict__, "messages": [_without_paths(m) for m in self.messages]}
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def text(self) -> str:
        """All text of the messages."""
        return "\n".join(part for m in self.messages for part in _texts(m["content"]))

    @property
    def images(self) -> list[dict]:
        """All image parts."""
        contents = (m["content"] for m in self.messages if not isinstance(m["content"], str))
        return [part for content in contents for part in content if part["type"] == "image"]

    def to_json(self) -> str:
        """The request as one line, for the journal."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """The request that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "messages": tuple(fields["messages"])})

    def followed_by(self, reply: str, remark: str, temperature: float, top_p: float) -> "Request":
        """The question again, with the reply it got, what was wrong with it, and a steadier hand."""
        more = ({"role": "assistant", "content": reply}, {"role": "user", "content": remark})
        return replace(self, messages=(*self.messages, *more), temperature=temperature, top_p=top_p)


def _texts(content: str | list[dict]) -> Iterable[str]:
    return [content] if isinstance(content, str) else [p["text"] for p in content if p["type"] == "text"]


def _without_paths(message: dict) -> dict:
    if isinstance(message["content"], str):
        return message
    return {**message, "content": [{k: v for k, v in part.items() if k != "path"} for part in message["content"]]}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. Token counts are None where the server does not tell; finish is "stop", "length",
    "refusal" or whatever else the server calls it."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish: str = "stop"


@dataclass(frozen=True)
class BatchState:
    """How a batch stands at the server.

    Attributes:
        status: the server's word for it: "completed", "expired", "cancelled", "failed", or one of those before them.
        files: the files with its answers, those that hold replies first.
        problem: why the whole batch was refused.
    """

    status: str
    files: tuple[str, ...] = ()
    problem: str = ""

    @property
    def over(self) -> bool:
        return self.status in ("completed", "expired", "cancelled", "failed")


class ModelError(Exception):
    """A request got no reply."""


class RetryableError(ModelError):
    """Worth asking again.

    Attributes:
        retry_after: seconds the server wants us to wait, None where it does not say.
        billed: whether the model may have answered, and charged, without our hearing it.
    """

    def __init__(self, message: str, retry_after: float | None = None, billed: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.billed = retry_after, billed


class RejectedError(ModelError):
    """This request will never succeed."""


class FatalError(ModelError):
    """No request will succeed until the user changes something."""
