"""Gemini through its real client, against a server on this machine."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datagen.llm.gemini import GeminiProvider
from datagen.llm.records import FatalError, RejectedError, Request, RetryableError
from datagen.llm.settings import ModelSettings

KEY = "gemini-test-key"
SCHEMA = {
    "title": "comments",
    "type": "object",
    "properties": {"comments": {"type": "array", "items": {"type": "string", "minLength": 8}, "maxItems": 2}},
    "required": ["comments"],
    "additionalProperties": False,
}
MESSAGES = (
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": [{"type": "text", "text": "and this?"}, {"type": "image", "path": "PHOTO"}]},
)


@contextmanager
def gemini(*answers):
    """A server that gives these (status, body, headers) in order; yields a provider and the requests it got."""
    answers, got = iter(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(
                (self.path, dict(self.headers), json.loads(self.rfile.read(int(self.headers["content-length"]))))
            )
            status, body, headers = next(answers)
            if status is None:
                return self.connection.close()
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": len(data), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            return self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings = ModelSettings(provider="gemini", model="g", base_url=url, timeout_s=5, thinking_tokens=0)
    try:
        yield GeminiProvider(settings, KEY), got
    finally:
        server.shutdown()
        server.server_close()


def answer(text='{"comments": []}', finish="STOP", **usage):
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 3, **usage}
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}
    return 200, {"candidates": [candidate], "usageMetadata": usage}, {}


def failure(code, message, details=(), **headers):
    status = {"error": {"code": code, "message": message, "status": "ODD", "details": list(details)}}
    return code, status, headers


def ask(provider, **fields):
    return provider.complete(Request("g", ({"role": "user", "content": "hello"},), **fields))


def test_what_is_sent(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8jpeg")
    messages = json.loads(json.dumps(MESSAGES).replace("PHOTO", str(tmp_path / "a.jpg")))
    with gemini(answer(thoughtsTokenCount=20)) as (provider, got):
        reply = provider.complete(Request("g", tuple(messages), 0.5, 0.7, 99, SCHEMA, seed=4))
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.finish) == (
        '{"comments": []}',
        7,
        23,
        "stop",
    )
    path, headers, body = got[0]
    assert path.endswith("/models/g:generateContent") and KEY not in path and headers["x-goog-api-key"] == KEY
    assert body["systemInstruction"]["parts"] == [{"text": "be kind"}]
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert base64.urlsafe_b64decode(body["contents"][2]["parts"][1]["inlineData"]["data"]) == b"\xff\xd8jpeg"
    config = body["generationConfig"]
    assert (config["temperature"], config["topP"], config["maxOutputTokens"], config["seed"]) == (0.5, 0.7, 99, 4)
    assert config["responseMimeType"] == "application/json" and config["thinkingConfig"] == {"thinking_budget": 0}
    array = config["responseSchema"]["properties"]["comments"]
    assert array["max_items"] == 2 and array["items"]["min_length"] == 8


def test_replies_that_are_none():
    blocked = 200, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}, {}
    with gemini(answer("half", "MAX_TOKENS"), answer("", "SAFETY"), blocked, (200, {}, {})) as (provider, _):
        assert ask(provider).finish == "length"
        assert (reply := ask(provider)).finish == "refusal" and "SAFETY" in reply.text
        assert (reply := ask(provider)).finish == "refusal" and "blocked: SAFETY" in reply.text
        with pytest.raises(RetryableError, match="no reply") as caught:
            ask(provider)
        assert caught.value.billed


QUOTA = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}


@pytest.mark.parametrize(
    ("given", "kind", "message", "wait"),
    [
        (failure(429, "slow", [{"retryDelay": "34s"}]), RetryableError, "status 429: slow", 34),
        (failure(429, "slow", **{"retry-after": "2"}), RetryableError, "status 429", 2),
        (failure(429, "none left", [QUOTA]), FatalError, "the day's quota", None),
        (failure(503, "overloaded"), RetryableError, "status 503: overloaded", None),
        (failure(400, "API key not valid."), FatalError, "API key not valid", None),
        (failure(403, f"no such key: {KEY}"), FatalError, "no such key: ...$", None),
        (failure(404, "models/g is not found"), FatalError, "models/g is not found", None),
        (failure(400, "bad\nrequest"), RejectedError, "status 400: bad request", None),
        ((500, b"<html>", {}), RetryableError, "status 500", None),
        ((200, b"{cut", {}), RetryableError, "unreadable answer", None),
        ((None, b"", {}), RetryableError, "connection lost", None),
    ],
)
def test_errors_are_ours_and_nothing_is_asked_twice(given, kind, message, wait):
    with gemini(given) as (provider, got), pytest.raises(kind, match=message) as caught:
        ask(provider)
    assert len(got) == 1 and getattr(caught.value, "retry_after", None) == wait and KEY not in str(caught.value)


def test_a_server_that_is_not_there():
    settings = ModelSettings(provider="gemini", model="g", base_url="http://127.0.0.1:9")
    with pytest.raises(RetryableError, match="cannot connect") as caught:
        ask(GeminiProvider(settings, KEY))
    assert not caught.value.billed
