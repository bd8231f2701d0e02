"""Weights come from a file, a folder, the cache or a verified download; never silently from elsewhere."""

import hashlib

import pytest

from common.errors import UserError
from detection import weights
from tests.conftest import ROOT

POCKET = ROOT / "detection/objects/pocket.onnx"
OFFICIAL = b"official weights"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache of our own and a release server that is a folder."""
    server = tmp_path / "server"
    server.mkdir()
    (server / "yolov8x-oiv7.pt").write_bytes(OFFICIAL)
    (server / "yolov8n-oiv7.pt").write_bytes(OFFICIAL)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(weights, "OFFICIAL_URL", f"file://{server}/{{name}}.pt")
    monkeypatch.setitem(weights.SHA256, "yolov8x-oiv7", hashlib.sha256(OFFICIAL).hexdigest())
    return tmp_path


def test_order_is_file_folder_cache_download(place, monkeypatch):
    own = place / "own.onnx"
    own.write_bytes(b"x")
    assert weights.resolve(str(own), POCKET) == own
    assert weights.resolve("pocket", POCKET) == POCKET
    cached = weights.resolve("yolov8x-oiv7", POCKET)
    assert cached == place / "cache/daetgeul/yolov8x-oiv7.pt" and cached.read_bytes() == OFFICIAL
    (place / "server/yolov8x-oiv7.pt").unlink()
    assert weights.resolve("yolov8x-oiv7", POCKET) == cached  # downloaded once
    (place / "yolov8x-oiv7.pt").write_bytes(b"folder")
    monkeypatch.setenv(weights.WEIGHTS_VARIABLE, str(place))
    assert weights.resolve("yolov8x-oiv7", POCKET) == place / "yolov8x-oiv7.pt"


def test_a_wrong_checksum_is_refused_and_nothing_stays(place):
    (place / "server/yolov8x-oiv7.pt").write_bytes(b"tampered")
    with pytest.raises(UserError, match="SHA-256"):
        weights.resolve("yolov8x-oiv7", POCKET)
    assert not list((place / "cache/daetgeul").glob("*.pt")) and not list((place / "cache/daetgeul").glob("*.part"))


def test_an_unlisted_size_is_pinned_at_its_first_download(place):
    cached = weights.resolve("yolov8n-oiv7", POCKET)
    cached.unlink()
    (place / "server/yolov8n-oiv7.pt").write_bytes(b"changed since")
    with pytest.raises(UserError, match="SHA-256"):
        weights.resolve("yolov8n-oiv7", POCKET)


def test_no_connection_names_the_three_ways(place):
    with pytest.raises(UserError) as error:
        weights.resolve("yolov8l-oiv7", POCKET)  # the server has none
    for way in ("--objects FILE.pt", weights.WEIGHTS_VARIABLE, "download"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["yolov8q-oiv7", "pockett", "", "model.tflite"])
def test_unknown_names_say_what_is_allowed(name):
    with pytest.raises(UserError, match="allowed are pocket"):
        weights.resolve(name, POCKET)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere\.pt does not exist"):
        weights.resolve("nowhere.pt", POCKET)
