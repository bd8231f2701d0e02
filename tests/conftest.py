"""Fixtures: real photos, the embedded models (loaded once), and the shared reference data where there is any."""

import os
from pathlib import Path

import pytest

from pipeline import PhotoCommenter

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # its client reads it when imported: a hub name fails at once

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "tests" / "photos"


@pytest.fixture(scope="session")
def commenter() -> PhotoCommenter:
    return PhotoCommenter().load()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data beside the repository; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the reference data folder is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection to another machine is a mistake in a test."""
    import socket

    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(
            ("127.", "::1", "localhost")
        ):
            raise OSError(f"tests do not use the network, but {address} was asked for")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
