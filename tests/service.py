"""The service as its own process, for tests that need a real server."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass
class Service:
    """A running service.

    Attributes:
        url: where it answers.
        folder: its working and its temporary folder.
    """

    url: str
    folder: Path
    process: subprocess.Popen

    def memory(self) -> float:
        """Its resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def running(folder: Path, *args):
    """`python -m pipeline.serve` on a free port, ended by SIGTERM."""
    command = [sys.executable, "-m", "pipeline.serve", "--port", "0", *map(str, args)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        url = process.stdout.readline().split()[0]
        yield Service(_answering(url, process), folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answering(url: str, process: subprocess.Popen, patience: float = 60) -> str:
    import httpx

    end = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < end:
        try:
            httpx.get(f"{url}/health")
            return url
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service does not answer")
