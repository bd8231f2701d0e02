"""The service as its own process, under load and under attack."""

import io
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from tests.conftest import PHOTOS, ROOT
from tests.service import running

pytestmark = pytest.mark.slow
CAT = (PHOTOS / "cat.jpg").read_bytes()
CONCURRENCY = 16


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service


def files_of(service) -> set[str]:
    return {str(p.relative_to(service.folder)) for p in service.folder.rglob("*")}


def send(client: httpx.Client, photo: bytes = CAT, name: str = "cat.jpg") -> tuple[int, float]:
    """(status, seconds) of a request for a comment."""
    start = time.perf_counter()
    answer = client.post("/v1/comments", files={"photo": (name, photo)})
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) >= 1
    return answer.status_code, time.perf_counter() - start


def together(url: str, count: int) -> list[tuple[int, float]]:
    with httpx.Client(base_url=url, timeout=120) as client, ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(lambda _: send(client), range(count)))


def test_load(service):
    """All are answered, and waiting is no longer than the queue is long."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        send(client)
        single = sorted(send(client)[1] for _ in range(9))[4]
    done = together(service.url, 200)
    assert {status for status, _ in done} == {200}  # 16 at once fit into 2 workers and a queue of 16
    p95 = sorted(seconds for _, seconds in done)[189]
    print(f"single {single:.3f} s, p95 of 200 at {CONCURRENCY} at once {p95:.3f} s = {p95 / single:.1f} x")
    assert p95 <= 3 * CONCURRENCY * single


def test_past_the_bound_there_are_503s_and_nothing_else(tmp_path):
    with running(tmp_path, "--queue", "4") as narrow:
        statuses = [status for status, _ in together(narrow.url, 200)]
        assert set(statuses) == {200, 503} and statuses.count(200) >= 6  # its places
        assert httpx.get(f"{narrow.url}/health").json()["inside"] == 0


def test_memory_stays_flat(service):
    """Over 2,000 requests, once what is loaded late has been."""
    together(service.url, 200)
    before = service.memory()
    for _ in range(4):
        assert {status for status, _ in together(service.url, 500)} == {200}
    after = service.memory()
    print(f"memory {before:.0f} MB, after 2,000 requests {after:.0f} MB")
    assert after <= 1.1 * before


def png(width: int, height: int, rows: int, colour: int = 2) -> bytes:
    """A PNG that claims a size and holds so many rows of zeros."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    row = b"\0" * (1 + width * 3)
    packed = zlib.compress(row * rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def hostile(number: int) -> tuple[bytes, str]:
    """Upload `number` of a fixed series: a photo's bytes and the name it is sent under."""
    rng = random.Random(number)
    kind = number % 12
    name = rng.choice(
        ["a.jpg", "../../etc/passwd", "..\\..\\boot.ini", "/etc/x.png", "a\0.jpg", "x" * 5000, "con", "'; rm -rf ~"]
    )
    if kind == 0:  # truncated
        return CAT[: rng.randrange(1, len(CAT))], name
    if kind == 1:  # two files in one
        return CAT + b"PK\x03\x04<script>alert(1)</script>" + rng.randbytes(500), name
    if kind == 2:  # the other way round
        return rng.choice([b"<html>", b"GIF89a<script>", b"%PDF-1.7\n", b"PK\x03\x04"]) + CAT, name
    if kind == 3:  # small on the line, huge in memory
        return png(rng.choice([9_000, 30_000, 65_000]), rng.choice([9_000, 40_000]), 4), name
    if kind == 4:  # sizes past all bounds
        return png(2**31 - 1, rng.choice([1, 2**31 - 1]), 0), name
    if kind == 5:  # script
        return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>' + rng.randbytes(9), name
    if kind == 6:  # another type
        return rng.choice([b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run\n", b"\x7fELF", b"MZ", b"#!/bin/sh\n"]) + rng.randbytes(
            300
        ), name
    if kind == 7:  # noise
        return rng.randbytes(rng.randrange(1, 4000)), name
    if kind == 8:  # damaged in the middle
        data = bytearray(CAT)
        for _ in range(30):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data), name
    if kind == 9:  # a sound photo of odd shape
        out = io.BytesIO()
        Image.new("RGB", rng.choice([(1, 1), (1, 4000), (4000, 1), (3, 2)])).save(out, "PNG")
        return out.getvalue(), name
    if kind == 10:  # a good start, then zeros
        return rng.choice([CAT[:200], b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"II*\0\xff\xff\xff\xff", b"BM"]) + bytes(
            5000
        ), name
    return b"" if number < 150 else CAT, name


def test_300_hostile_uploads(service):
    """Each is refused with a clear body or is a photo; no file is written, and the service lives on."""
    before, statuses = files_of(service), []
    with httpx.Client(base_url=service.url, timeout=120) as client:
        for number in range(300):
            data, name = hostile(number)
            answer = client.post("/v1/comments", files={"photo": (name, data)})
            body = answer.json()
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                assert body["comment"] and body["width"] * body["height"] <= 50_000_000
                assert "/" not in body["image"] and "\\" not in body["image"] and len(body["image"]) <= 120
            else:
                assert 400 <= answer.status_code < 500, (number, body)
                assert set(body["error"]) == {"type", "message"} and body["error"]["message"]
        huge = client.post("/v1/comments", files={"photo": ("huge.jpg", CAT + bytes(50_000_000))})
        assert huge.status_code == 413 and huge.json()["error"]["type"] == "too_large"
        assert send(client)[0] == 200
    assert {200, 400, 413, 415, 422} == set(statuses)
    assert files_of(service) == before and "Traceback" not in (service.folder / "log").read_text()


def test_slow_and_broken_senders_hold_nothing_up(tmp_path):
    """Uploads that never end are given up at the time limit, and their places are free again."""
    import socket

    with running(tmp_path, "--queue", "0", "--timeout", "2") as service:
        host, port = service.url.removeprefix("http://").split(":")
        head = "POST /v1/comments HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b"
        slow = [socket.create_connection((host, int(port))) for _ in range(3)]
        for connection in slow:
            connection.sendall(head.encode())
        slow[0].close()
        end = time.monotonic() + 30
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while client.get("/health").json()["inside"] and time.monotonic() < end:
                time.sleep(0.1)
            assert send(client)[0] in (200, 503) and client.get("/health").status_code == 200
        for connection in slow:
            connection.close()
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_stop_lets_requests_end(tmp_path):
    with (
        running(tmp_path) as service,
        ThreadPoolExecutor(4) as pool,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        jobs = [pool.submit(send, client) for _ in range(4)]
        end = time.monotonic() + 20
        while client.get("/health").json()["inside"] < 4 and time.monotonic() < end:
            time.sleep(0.01)
        service.process.terminate()
        assert [job.result()[0] for job in jobs] == [200] * 4


def test_schemathesis_finds_no_server_error(service, tmp_path):
    """Requests made from the service's own OpenAPI document, right and wrong ones; coverage and fuzzing."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
    options = ["--checks", "not_a_server_error,response_schema_conformance,content_type_conformance"]
    options += ["--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--seed", "1", "--no-color"]
    options += ["--exclude-path", "/metrics", "--workers", "2", "--request-timeout", "60"]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "Traceback" not in (service.folder / "log").read_text()
