"""A server on this machine that sends photos and files and misbehaves on demand, and tables that name photos."""

import base64
import csv
import hashlib
import io
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from configs.load import load_settings
from datagen.download import Download, DownloadSettings
from tests.conftest import ROOT


def jpeg(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (48, 32), (number * 20 % 256, 90, 120)).save(out, "JPEG")
    return out.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `/split/000…N.jpg`; `faults` names what goes wrong with it, attempt by attempt.

    It serves `files`, too, from the byte that is asked for; `ranges` lists what was asked for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: dict[int | str, list[str]] = {}
        self.files: dict[str, bytes] = {}
        self.ranges: list[tuple[str, str | None]] = []
        self.asked: Counter[int] = Counter()
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        if (name := self.path.partition("?")[0].strip("/")) in self.server.files:
            return self.send_file(name, self.server.files[name])
        number, server = int(self.path.rpartition("/")[2].split(".")[0]), self.server
        with server.lock:
            server.asked[number] += 1
            server.busy += 1
            server.most_busy = max(server.busy, server.most_busy)
            fault = server.faults.get(number, [])
            fault = fault.pop(0) if fault else ""
        try:
            self.answer(jpeg(number), fault)
        finally:
            with server.lock:
                server.busy -= 1

    def send_file(self, name: str, data: bytes) -> None:
        """With ranges, as far as the version that is asked for is still this one."""
        asked, etag = self.headers.get("Range"), f'"{hashlib.md5(data).hexdigest()}"'
        self.server.ranges.append((name, asked))
        fault = self.server.faults.get(name, [])
        fault = fault.pop(0) if fault else ""
        start = int(asked.split("=")[1].rstrip("-")) if asked and fault != "no ranges" else 0
        if self.headers.get("If-Range", etag) != etag:
            start = 0
        if fault.isdigit():
            self.send_error(int(fault))
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Type", "text/html" if fault == "page" else "application/octet-stream")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + len(data) // 3] if fault == "cut" else data[start:])

    def answer(self, data: bytes, fault: str) -> None:
        digest = hashlib.md5(data)
        etag = {"other etag": '"0123456789abcdef0123456789abcdef"', "parts": '"0123456789abcdef0123456789abcdef-2"'}
        if fault.isdigit():
            self.send_response(int(fault))
            if fault == "429":
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "hang":
            time.sleep(1.2)
            return
        body = {
            "page": b"<html>not found</html>",
            "half picture": data[:200],
            "flipped": data[:-9] + b"12345" + data[-4:],
        }
        body = body.get(fault, data)
        self.send_response(200)
        if fault == "flipped":
            self.send_header("Content-MD5", base64.b64encode(digest.digest()).decode())
        elif fault not in ("page", "half picture"):
            self.send_header("ETag", etag.get(fault, f'"{digest.hexdigest()}"'))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "drip":
            for byte in body[:60]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.02)
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)


@contextmanager
def serve_photos():
    """A running server."""
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield running
        running.shutdown()


def captions(path, numbers, server=None, **more):
    """A CSV of photos; `more` columns are functions of the photo's number."""
    columns = ["split", "image_id", "file_name", *(["image_url"] if server is None else []), *more]
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        for n in numbers:
            split = "train2017" if n % 3 else "val2017"
            writer.writerow(
                {"split": split, "image_id": n, "file_name": f"{n:012}.jpg", **{k: v(n) for k, v in more.items()}}
            )
    return path


def download(tmp_path, server, numbers=range(6), **fields) -> Download:
    """A download from the server that does not wait long."""
    source = captions(tmp_path / "c.csv", numbers, server)
    fast = {"backoff_s": 0.01, "per_second": "null", "timeout_s": 0.6, "workers": 4, "base_url": server.url}
    fields = {"csv": source, "out": tmp_path / "photos", **fast, **fields}
    overrides = [f"{name}={value}" for name, value in fields.items()]
    return Download(load_settings(ROOT / "configs/datagen/download.yaml", DownloadSettings, overrides))
