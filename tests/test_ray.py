"""Batches on Ray: the local engine's rows, and a worker's death survived."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import PHOTOS, ROOT
from tests.helpers import run_module

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")]
pytest.importorskip("ray.data")


def rows_of(file) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "timings_ms"} for line in file.open(encoding="utf-8")]


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    shutil.copytree(PHOTOS, folder)
    with Image.open(PHOTOS / "cat.jpg") as cat:
        cat.resize((225, 150)).save(folder / "z.jpg")
        for number in range(30):
            cat.crop((5 * number, 0, 5 * number + 240, 300 - 4 * number)).save(folder / f"part{number:02}.jpg")
    (folder / "bad.jpg").write_bytes(b"no photo")
    return folder


def actors(root: int) -> list[int]:
    """Process ids of Ray's workers with our step below a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"MapWorker" in name and b"Commenting" in name and _started_by(int(folder.name), root):
                found.append(int(folder.name))
    return found


def _started_by(pid: int, root: int) -> bool:
    while pid > 1:
        if pid == root:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


def test_rows_are_those_of_the_local_engine_though_a_worker_dies(album, tmp_path):
    local, out = tmp_path / "local.jsonl", tmp_path / "ray.jsonl"
    assert run_module("pipeline.batch", album, "--out", local).status == 1
    command = [
        sys.executable,
        "-m",
        "pipeline.batch",
        str(album),
        "--out",
        str(out),
        "--engine",
        "ray",
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    killed = None
    while process.poll() is None and not killed:
        if out.exists() and out.read_bytes().count(b"\n") >= 3 and (found := actors(process.pid)):
            killed = found[0]
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.05)
    _, err = process.communicate(timeout=300)
    assert killed and process.returncode == 1, err
    assert rows_of(out) == rows_of(local)
    assert sum(bool(row["duplicate_of"]) for row in rows_of(out)) >= 1
