"""Gemini by the `google-genai` SDK."""

import re
from pathlib import Path

from google import genai
from google.genai import errors, types

from common.http import AGAIN, retry_after
from datagen.llm.records import FatalError, ModelError, RejectedError, Reply, Request, RetryableError
from datagen.llm.settings import ModelSettings

LONG = "MAX_TOKENS"
NO_SCHEMA = {"additionalProperties", "default"}  # what its response_schema does not know


class GeminiProvider:
    """One client for all threads; its own retries are off, so that every attempt is in the journal."""

    def __init__(self, settings: ModelSettings, key: str) -> None:
        self.structured, self.key, self.thoughts = settings.structured, key, settings.thinking_tokens
        options = types.HttpOptions(
            base_url=settings.base_url,
            timeout=int(settings.timeout_s * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        self.client = genai.Client(api_key=key, vertexai=False, http_options=options)

    def complete(self, request: Request) -> Reply:
        try:
            done = self.client.models.generate_content(
                model=request.model, contents=self.contents(request), config=self.config(request)
            )
        except ModelError:
            raise
        except Exception as error:  # the SDK lets its HTTP library's errors through, and changes that library
            raise translate(error, self.key) from error
        return reply_of(done)

    def contents(self, request: Request) -> list[types.Content]:
        """The exchange without what the system says."""
        roles = {"user": "user", "assistant": "model"}
        turns = [m for m in request.messages if m["role"] != "system"]
        return [types.Content(role=roles[m["role"]], parts=_parts(m["content"])) for m in turns]

    def config(self, request: Request) -> types.GenerateContentConfig:
        """How it is asked, with what the system says."""
        system = [part for m in request.messages if m["role"] == "system" for part in _parts(m["content"])]
        shaped = request.schema and self.structured != "none"
        return types.GenerateContentConfig(
            system_instruction=types.Content(parts=system) if system else None,
            temperature=request.temperature,
            top_p=request.top_p,
            max_output_tokens=request.max_tokens,
            seed=request.seed,
            response_mime_type="application/json" if shaped else None,
            response_schema=_schema(request.schema) if shaped and self.structured == "json_schema" else None,
            thinking_config=None if self.thoughts is None else types.ThinkingConfig(thinking_budget=self.thoughts),
        )


def _parts(content: str | list[dict]) -> list[types.Part]:
    return [types.Part(text=content)] if isinstance(content, str) else [_part(part) for part in content]


def _part(part: dict) -> types.Part:
    if part["type"] != "image":
        return types.Part(text=part["text"])
    try:
        return types.Part.from_bytes(data=Path(part["path"]).read_bytes(), mime_type="image/jpeg")
    except OSError as error:
        raise RejectedError(f"cannot read the photo {part['path']}: {error.strerror}") from error


def _schema(schema):
    """A JSON schema without what Gemini refuses."""
    if isinstance(schema, list):
        return [_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: _schema(v) for k, v in schema.items() if k not in NO_SCHEMA}


def reply_of(done: types.GenerateContentResponse) -> Reply:
    """The reply in a response; thoughts count as reply tokens, as they are paid like them.

    Raises:
        RetryableError: there is none in it.
    """
    usage = done.usage_metadata
    prompt = usage.prompt_token_count if usage else None
    written = usage and (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    if not done.candidates:
        if done.prompt_feedback and (reason := done.prompt_feedback.block_reason):
            return Reply(f"the prompt was blocked: {_name(reason)}", prompt, written, "refusal")
        raise RetryableError("the server's answer holds no reply", billed=True)
    candidate = done.candidates[0]
    parts = (candidate.content and candidate.content.parts) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    finish = _name(candidate.finish_reason or "STOP")
    if finish in ("STOP", LONG):
        return Reply(text, prompt, written, "length" if finish == LONG else "stop")
    return Reply(text or f"it ended by {finish}", prompt, written, "refusal")


def _name(reason) -> str:
    return getattr(reason, "value", str(reason))


def translate(error: Exception, key: str) -> ModelError:
    """What an SDK error means for us; the message never holds the key, even where a server repeats it."""
    if not isinstance(error, errors.APIError):
        name = type(error).__name__
        if name == "ConnectError":
            return RetryableError(f"cannot connect: {error}")
        if "Timeout" in name:
            return RetryableError("no reply in time", billed=name != "ConnectTimeout")
        return RetryableError(f"connection lost or unreadable answer: {name}", billed=True)
    text = " ".join(str(error.message or error.status or "no reason").split())
    message = f"status {error.code}: {text[:300]}".replace(key, "***")
    details = str(error.details)
    if error.code in (401, 403, 404) or "API_KEY_INVALID" in details or "API key not valid" in text:
        return FatalError(message)
    if error.code == 429 and "PerDay" in details:
        return FatalError(f"{message} (the day's quota is used up)")
    if error.code in AGAIN or error.code >= 500:
        return RetryableError(message, _wait(error, details))
    return RejectedError(message)


def _wait(error: errors.APIError, details: str) -> float | None:
    """Seconds the server wants us to wait: in a header, or as `"retryDelay": "34s"` among the details."""
    told = re.search(r"retryDelay\W+([\d.]+)s", details)
    return float(told[1]) if told else retry_after(getattr(error.response, "headers", None) or {})
