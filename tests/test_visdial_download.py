"""VisDial's files come whole, go on where they stopped, and are not fetched twice."""

import hashlib
import io
import json
import zipfile

import pytest

from common.errors import UserError
from common.fetch import FetchError, fetch_file
from language.visdial import download
from language.visdial.download import SOURCES, Source, main
from tests.helpers import run_module
from tests.photo_server import serve_photos

DIALOGS = json.dumps({"version": "1.0", "data": {"questions": ["is it sunny"] * 50}}).encode()
DENSE = json.dumps([{"image_id": n, "round_id": 1, "gt_relevance": [0, 1]} for n in range(40)]).encode()


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.fixture
def server(monkeypatch):
    """Serves a small VisDial; the command asks it instead of its authors."""
    with serve_photos() as running:
        photos = {f"VisualDialog_val2018/{n}.jpg": bytes([n]) * 900 for n in range(3)}
        running.files = {
            "val.zip": packed({"visdial_1.0_val.json": DIALOGS}),
            "val_dense.json": DENSE,
            "photos.zip": packed(photos),
        }
        size, md5 = len(running.files["photos.zip"]), hashlib.md5(running.files["photos.zip"]).hexdigest()
        sources = {
            "val": Source(f"{running.url}/val.zip?dl=1", "visdial_1.0_val.json", 1e4),
            "val_dense": Source(f"{running.url}/val_dense.json?dl=1", "val_dense.json", 1e4),
            "val_photos": Source(f"{running.url}/photos.zip", "VisualDialog_val2018", size, 3e3, True, md5, True),
        }
        monkeypatch.setattr(download, "SOURCES", sources)
        yield running


def get(tmp_path, *names) -> dict[str, str]:
    return download.download(list(names or download.SOURCES), tmp_path / "visdial", wait_s=0.01)


def names(tmp_path) -> set[str]:
    return {path.name for path in (tmp_path / "visdial").iterdir()}


def test_files_come_and_are_not_fetched_twice(tmp_path, server, capsys):
    assert get(tmp_path) == {}
    assert (tmp_path / "visdial/visdial_1.0_val.json").read_bytes() == DIALOGS
    assert (tmp_path / "visdial/VisualDialog_val2018/2.jpg").read_bytes() == b"\x02" * 900
    assert names(tmp_path) == {"visdial_1.0_val.json", "val_dense.json", "VisualDialog_val2018", "downloaded.json"}
    asked = len(server.ranges)
    assert get(tmp_path) == {} and len(server.ranges) == asked
    assert "0 fetched, 3 there, 0 failed" in capsys.readouterr().out
    (tmp_path / "visdial/VisualDialog_val2018/1.jpg").unlink()
    (tmp_path / "visdial/val_dense.json").write_bytes(DENSE[:-9])
    assert get(tmp_path) == {} and len(server.ranges) == asked + 2
    assert (tmp_path / "visdial/VisualDialog_val2018/1.jpg").exists()
    assert (tmp_path / "visdial/val_dense.json").read_bytes() == DENSE


def test_only_what_is_asked_for(tmp_path, server):
    assert main(["--out", str(tmp_path / "visdial"), "--only", "val_dense"]) == 0
    assert names(tmp_path) == {"val_dense.json", "downloaded.json"}
    assert main(["--out", str(tmp_path / "visdial")]) == 0 and "VisualDialog_val2018" not in names(tmp_path)
    assert main(["--out", str(tmp_path / "visdial"), "--photos"]) == 0 and "VisualDialog_val2018" in names(tmp_path)


def test_a_cut_file_goes_on_where_it_stopped(tmp_path, server):
    server.faults["val_dense.json"] = ["cut", "503", "cut"]
    third = len(DENSE) // 3
    assert get(tmp_path, "val_dense") == {} and (tmp_path / "visdial/val_dense.json").read_bytes() == DENSE
    assert [asked for _, asked in server.ranges] == [None, f"bytes={third}-", f"bytes={third}-", f"bytes={2 * third}-"]
    assert names(tmp_path) == {"val_dense.json", "downloaded.json"}


def test_the_next_run_goes_on(tmp_path, server):
    server.faults["photos.zip"] = ["cut", "404"]
    assert get(tmp_path, "val_photos") == {"val_photos": "status 404"}
    assert "photos.zip.part" in names(tmp_path) and "photos.zip" not in names(tmp_path)
    assert get(tmp_path, "val_photos") == {} and server.ranges[-1][1].startswith("bytes=")
    assert names(tmp_path) == {"VisualDialog_val2018", "downloaded.json"}


def test_a_part_of_another_version_is_thrown_away(tmp_path, server):
    server.faults["val_dense.json"] = ["cut", "404"]
    get(tmp_path, "val_dense")
    server.files["val_dense.json"] = newer = json.dumps([1, 2, 3] * 200).encode()
    assert get(tmp_path, "val_dense") == {} and (tmp_path / "visdial/val_dense.json").read_bytes() == newer


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        (["cut", "no ranges"], 2),  # a server that cannot go on sends all of it
        (["cut", "416"], 3),  # the part is no part of its file: begun anew
        (["500", "429"], 3),
        ([], 1),
    ],
)
def test_faults_that_pass(tmp_path, server, faults, requests):
    server.faults["val_dense.json"] = list(faults)
    assert get(tmp_path, "val_dense") == {} and len(server.ranges) == requests
    assert (tmp_path / "visdial/val_dense.json").read_bytes() == DENSE


@pytest.mark.parametrize(
    ("name", "content", "faults", "reason"),
    [
        ("val", None, ["404"], "status 404"),
        ("val", None, ["500"] * 9, "status 500"),
        ("val", None, ["page"], "a web page came instead of the file"),  # as Dropbox answers where a link has died
        ("val", b"no archive", [], "val.zip is broken"),
        ("val", packed({"visdial_0.9_val.json": b"{}"}), [], "holds no visdial_1.0_val.json, but visdial_0.9_val.json"),
        ("val", packed({"visdial_1.0_val.json": DIALOGS}).replace(b"sunny", b"rainy", 1), [], "is broken: Bad CRC"),
        ("val_dense", b"[1, 2", [], "val_dense.json is no JSON"),
        ("val_photos", b"short", [], "the server's file has 5 bytes, but"),
        ("val_photos", "flipped", [], "the MD5 is"),
    ],
)
def test_what_is_broken_does_not_get_its_name(tmp_path, server, name, content, faults, reason):
    file = {"val": "val.zip", "val_dense": "val_dense.json", "val_photos": "photos.zip"}[name]
    good = server.files[file]
    if content is not None:
        server.files[file] = good[:-1] + b"x" if content == "flipped" else content
    server.faults[file] = list(faults)
    other = "val" if name != "val" else "val_dense"
    failed = get(tmp_path, name, other)  # the rest goes on
    assert list(failed) == [name] and reason in failed[name] and "\n" not in failed[name]
    assert not (tmp_path / "visdial" / download.SOURCES[name].target).exists()
    server.files[file], server.faults[file] = good, []
    assert get(tmp_path, name) == {}


def test_a_file_from_elsewhere_and_a_crash_before_unpacking(tmp_path, server):
    (tmp_path / "visdial").mkdir()
    (tmp_path / "visdial/val.zip").write_bytes(server.files["val.zip"])
    (tmp_path / "visdial/photos.zip").write_bytes(b"not whole")
    assert get(tmp_path, "val", "val_photos") == {} and [name for name, _ in server.ranges] == ["photos.zip"]


def test_the_disk_is_looked_at_first(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000})())
    with pytest.raises(
        UserError, match=r"val, val_dense, val_photos need about .* GB free; make room, or choose fewer"
    ):
        get(tmp_path)
    assert not server.ranges and not (tmp_path / "visdial").exists()
    assert get(tmp_path, "val_dense") == {}


def test_a_full_disk_is_not_tried_again(tmp_path, server, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("common.fetch.HTTPResponse.read1", full)
    with pytest.raises(OSError, match="No space"):
        get(tmp_path, "val_dense")
    assert len(server.ranges) == 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "http://[x/"])
def test_other_addresses(tmp_path, url):
    with pytest.raises(FetchError, match="not an"):
        fetch_file(url, tmp_path / "x", retries=0)


def test_the_list(tmp_path):
    done = run_module("language.visdial.download", "--list", "--out", tmp_path / "none")
    assert done.status == 0 and len(done.out.splitlines()) == len(SOURCES) == 9
    assert "13.511 GB  missing  train2014" in done.out and not (tmp_path / "none").exists()
    (tmp_path / "downloaded.json").write_text("{")
    assert run_module("language.visdial.download", "--list", "--out", tmp_path).refuses("is damaged")
    assert "invalid choice: 'everything'" in run_module("language.visdial.download", "--only", "everything").err
