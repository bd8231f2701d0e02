"""A server on this machine that speaks OpenAI's chat and batch protocol and misbehaves on a seeded script.

    python -m tests.llm_server --seed 1 --faults 0.3

It prints its port, then serves until it is ended; `/stats` tells what it did. Every fault is drawn from the seed, the
request and how often that request came, so a script is the same in every run.
"""

import argparse
import asyncio
import hashlib
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from email.parser import BytesParser

from tests.conftest import ROOT

FAULTS = ("429", "500", "timeout", "cut", "truncated", "prose", "count", "refusal")
BATCH_FAULTS = ("missing", "twice", "failed", "count", "refusal")
KEY = "test-key"


def answer(body: dict, rng: random.Random) -> dict:
    """A good reply's JSON, by the name of the schema that is asked for."""
    shape = body.get("response_format", {}).get("json_schema", {})
    question = [m["content"] for m in body["messages"] if m["role"] == "user"]
    if shape.get("name") == "comments":
        array = shape["schema"]["properties"]["comments"]
        asked = [q for q in question if q.startswith(("목록:", "List:"))][-1]
        return {"comments": comments(asked.splitlines()[0].partition(":")[2], array["minItems"], rng)}
    if shape.get("name") == "post":
        return {
            "caption": f"Slow mornings taste better together. Day {rng.randrange(10**6)} of not rushing! ☕",
            "hashtags": ["slowdays", "goodmood", "weekendfeels", "littlejoys", "staycozy"],
        }
    return {"reply": f"fine {rng.randrange(10**6)}"}


def comments(listed: str, count: int, rng: random.Random) -> list[str]:
    from language.comment import CommentWriter

    lang = "ko" if any("가" <= c <= "힣" for c in listed) else "en"
    return [c.text for c in CommentWriter("bank", lang).write(listed, count, rng.randrange(10**6))]


def spoiled(reply: dict, fault: str | None) -> str:
    """The reply's text with a fault of content."""
    text = json.dumps(reply, ensure_ascii=False)
    if fault == "truncated":
        return text[: len(text) * 2 // 3]
    if fault == "prose":
        return f"Sure! Here it is:\n```json\n{text}\n```\nAnything else?"
    if fault == "count":
        lists = [name for name, value in reply.items() if isinstance(value, list)]
        return json.dumps({**reply, **{name: reply[name][1:] for name in lists}}, ensure_ascii=False)
    return text


class State:
    """What the server remembers."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.seen: Counter[str] = Counter()  # how often a request came
        self.delivered: Counter[str] = Counter()  # how often a reply to it left: each of them is paid for
        self.faults: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}

    def stats(self) -> dict:
        return {
            "requests": self.seen.total(),
            "distinct": len(self.seen),
            "delivered": self.delivered.total(),
            "repeats": sum(count - 1 for count in self.delivered.values()),
            "faults": dict(self.faults),
            "batches": len(self.batches),
        }

    def fault_of(self, key: str) -> str | None:
        rng = random.Random(f"{self.args.seed}:{key}:{self.seen[key]}")
        return rng.choice(self.args.kinds.split(",")) if rng.random() < self.args.faults else None

    def completion(self, body: dict, fault: str | None, key: str) -> dict:
        text = spoiled(answer(body, random.Random(key)), fault)
        message = {"role": "assistant", "content": text}
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        prompt = sum(len(str(m["content"])) for m in body["messages"]) // 3
        usage = {"prompt_tokens": prompt, "completion_tokens": len(text) // 3}
        finish = "length" if fault == "truncated" else "stop"
        return {
            "id": key[:12],
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }


def make_app(args: argparse.Namespace):
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, Response, StreamingResponse

    app, state = FastAPI(), State(args)
    failure = lambda status, message, **headers: JSONResponse(
        {"error": {"message": message, "code": None}}, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )

    @app.middleware("http")
    async def needs_key(request: Request, call_next):
        given = request.headers.get("authorization")
        if request.url.path != "/stats" and given != f"Bearer {KEY}":
            return failure(401, f"Incorrect API key provided: {given}")  # some servers repeat it
        return await call_next(request)

    @app.get("/stats")
    def stats():
        return state.stats()

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        body = await request.json()
        if body["model"].startswith("unknown"):
            return failure(404, f"The model {body['model']} does not exist")
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        fault = state.fault_of(key)
        state.seen[key] += 1
        state.faults[fault or "none"] += 1
        if fault == "429":
            return failure(429, "slow down", retry_after="0.05")
        if fault == "500":
            return failure(500, "the server had an error")
        await asyncio.sleep(args.hang if fault == "timeout" else args.delay)
        if fault == "timeout":
            return failure(500, "nobody reads this")
        done = json.dumps(state.completion(body, fault, key), ensure_ascii=False).encode()
        if fault == "cut":

            async def half():
                yield done[: len(done) // 2]
                raise ConnectionResetError("cut on purpose")

            return StreamingResponse(half(), headers={"content-length": str(len(done))}, media_type="application/json")
        state.delivered[key] += 1
        return Response(done, media_type="application/json")

    @app.post("/v1/files")
    async def upload(request: Request):
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        parts = BytesParser().parsebytes(head + await request.body()).get_payload()
        name = f"file-{len(state.files)}"
        state.files[name] = next(p.get_payload(decode=True) for p in parts if p.get_filename())
        return {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "f", "purpose": "batch"}

    @app.get("/v1/files/{name}/content")
    def content(name: str):
        return Response(state.files[name])

    @app.post("/v1/batches")
    async def submit(request: Request):
        body = await request.json()
        name = f"batch_{len(state.batches)}"
        run_batch(state, name, body)
        await asyncio.sleep(args.delay)  # time to kill a client that does not know yet that it has a batch
        return state.batches[name]

    @app.get("/v1/batches")
    def batches(after: str | None = None, limit: int = 20):
        names = list(reversed(state.batches))
        names = names[names.index(after) + 1 if after else 0 :]
        rows = [state.batches[name] for name in names[:limit]]
        return {"object": "list", "data": rows, "has_more": len(names) > limit}

    @app.get("/v1/batches/{name}")
    def batch(name: str):
        looked = state.batches[name]["looks"] = state.batches[name].get("looks", 0) + 1
        return {**state.batches[name], "status": "in_progress" if looked < 2 else state.batches[name]["status"]}

    return app


def run_batch(state: State, name: str, body: dict) -> None:
    """Answer a batch at once: out of order, some ids missing, some twice, some failed, some strange."""
    lines = [json.loads(line) for line in state.files[body["input_file_id"]].splitlines()]
    rng, out, errors = random.Random(f"{state.args.seed}:{name}"), [], []
    for line in lines:
        key = hashlib.sha256(json.dumps(line["body"], sort_keys=True).encode()).hexdigest()
        state.seen[key] += 1
        fault = rng.choice(BATCH_FAULTS) if rng.random() < state.args.faults else None
        state.faults[fault or "none"] += 1
        if fault == "missing":
            continue
        if fault == "failed":
            errors.append({"custom_id": line["custom_id"], "response": None, "error": {"message": "server error"}})
            continue
        state.delivered[key] += 1
        done = {"status_code": 200, "body": state.completion(line["body"], fault, key)}
        out += [{"custom_id": line["custom_id"], "response": done, "error": None}] * (2 if fault == "twice" else 1)
    if state.args.faults:
        out.append({"custom_id": "nobody-asked", "response": None, "error": None})
    rng.shuffle(out)
    dump = lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
    state.files |= {f"{name}-out": dump(out), f"{name}-errors": dump(errors)}
    state.batches[name] = {
        "id": name,
        "object": "batch",
        "endpoint": body["endpoint"],
        "input_file_id": body["input_file_id"],
        "completion_window": "24h",
        "created_at": int(time.time()),
        "status": "expired" if len(out) < len(lines) and rng.random() < 0.5 else "completed",
        "output_file_id": f"{name}-out",
        "error_file_id": f"{name}-errors" if errors else None,
        "metadata": body.get("metadata"),
    }


class Server:
    """A running server, as tests see it."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def stats(self) -> dict:
        with urllib.request.urlopen(f"{self.root}/stats", timeout=30) as reply:
            return json.load(reply)


@contextmanager
def serve(**options):
    """A server in its own process, so that it outlives the clients that a test kills."""
    args = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "tests.llm_server", *args]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests with a fault")
    parser.add_argument("--kinds", default=",".join(FAULTS))
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before a reply")
    parser.add_argument("--hang", type=float, default=3.0, help="seconds of a timeout")
    args = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(make_app(args), log_level="critical", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
