"""Batches at length: killed and gone on, and how well the cores are used."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pipeline import PhotoCommenter
from pipeline.batch import cores
from pipeline.engines import LocalEngine, Worker
from tests.conftest import PHOTOS, ROOT
from tests.helpers import run_module

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """500 small photos, all different: patches of colour."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for number in range(500):
        patches = rng.integers(0, 255, (4, 6, 3)).astype(np.uint8)
        Image.fromarray(patches).resize((96, 64), Image.BICUBIC).save(folder / f"{number:03}.jpg")
    return folder


def test_a_killed_batch_goes_on(many, tmp_path):
    out = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "pipeline.batch", str(many), "--out", str(out)]
    for rows in (60, 250):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        while process.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < rows):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert rows <= out.read_bytes().count(b"\n") < 500
    done = run_module("pipeline.batch", many, "--out", out)
    assert done.status == 0 and "500 ok, 0 failed, 0 duplicates" in done.err
    names = [json.loads(line)["image"] for line in out.read_text("utf-8").splitlines()]
    assert names == sorted(map(str, many.glob("*.jpg")))  # 500 rows, none twice, in order


def speed(commenter: PhotoCommenter, workers: int, photos: list[str]) -> float:
    """Photos a second."""
    engine = LocalEngine(Worker(commenter), workers)
    start = time.perf_counter()
    assert all(o.row["error"] is None for o in engine.outcomes(photos, lambda outcome: None))
    return len(photos) / (time.perf_counter() - start)


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_workers_fill_the_cores():
    """Best of three, in turns, so that what else the machine does touches all alike."""
    photos = [str(p) for p in sorted(PHOTOS.glob("*.jpg"))] * 10
    one, two, plain = PhotoCommenter(workers=1).load(), PhotoCommenter(workers=2).load(), PhotoCommenter().load()
    best = {"one": 0.0, "two": 0.0, "plain": 0.0}
    for _ in range(3):
        best["one"] = max(best["one"], speed(one, 1, photos))
        best["two"] = max(best["two"], speed(two, 2, photos))
        start = time.perf_counter()
        assert all(result.error is None for result in plain.comment_many(photos))
        best["plain"] = max(best["plain"], len(photos) / (time.perf_counter() - start))
    print({name: round(value, 2) for name, value in best.items()})
    assert best["two"] >= 1.6 * best["one"], best
    assert best["two"] >= best["plain"], best
