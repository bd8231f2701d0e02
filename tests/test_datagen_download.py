"""Photos come whole or not at all, from a server that does what servers do."""

import csv
import hashlib
import json
import time

import pytest

from datagen.download import Download, DownloadSettings
from tests.conftest import ROOT
from tests.helpers import run_module
from tests.photo_server import captions, download, jpeg, serve_photos

CONFIGS = ROOT / "configs/datagen"


@pytest.fixture
def server():
    with serve_photos() as running:
        yield running


def photos(tmp_path) -> dict[int, bytes]:
    return {int(file.stem): file.read_bytes() for file in (tmp_path / "photos").rglob("*.jpg")}


def failures(tmp_path) -> dict[int, str]:
    with (tmp_path / "photos/failed.csv").open(encoding="utf-8-sig", newline="") as lines:
        return {int(row["image_id"]): row["reason"] for row in csv.DictReader(lines)}


def test_photos_come_and_are_not_fetched_twice(tmp_path, server, capsys):
    assert download(tmp_path, server).run()
    assert photos(tmp_path) == {n: jpeg(n) for n in range(6)}
    assert (tmp_path / "photos/val2017/000000000003.jpg").exists()
    rows = [json.loads(line) for line in (tmp_path / "photos/checksums.jsonl").read_text().splitlines()]
    assert {r["file"]: r["md5"] for r in rows}["val2017/000000000003.jpg"] == hashlib.md5(jpeg(3)).hexdigest()
    (tmp_path / "photos/train2017/000000000001.jpg").unlink()
    assert download(tmp_path, server, range(8)).run() and server.asked[1] == 2
    assert server.asked.total() == 6 + 3 and "3 fetched, 0 adopted, 5 there, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        ("500", 2),
        ("503", 2),
        ("429", 2),
        ("hang", 2),
        ("drip", 2),
        ("cut", 2),
        ("flipped", 2),
        ("other etag", 2),
        ("parts", 1),
    ],
)
def test_a_fault_that_passes_is_tried_again(tmp_path, server, fault, tries):
    server.faults[4] = [fault]
    assert download(tmp_path, server, [4]).run()
    assert photos(tmp_path) == {4: jpeg(4)} and server.asked[4] == tries


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        ("404", "status 404", 1),
        ("500", "status 500", 4),
        ("cut", "bytes came", 4),
        ("flipped", "Content-MD5", 4),
        ("other etag", "ETag", 4),
        ("page", "no picture", 1),
        ("half picture", "no picture", 1),
    ],
)
def test_a_fault_that_stays_is_listed_and_tried_by_the_next_run(tmp_path, server, fault, reason, tries):
    server.faults[4] = [fault] * tries
    assert not download(tmp_path, server).run()
    assert server.asked[4] == tries and reason in failures(tmp_path)[4] and set(photos(tmp_path)) == {0, 1, 2, 3, 5}
    assert not list((tmp_path / "photos").rglob("*.part"))
    assert download(tmp_path, server).run() and failures(tmp_path) == {} and server.asked.total() == 6 + tries


def test_it_keeps_to_its_limits(tmp_path, server):
    start = time.monotonic()
    assert download(tmp_path, server, range(12), workers=3, per_second=20).run()
    assert server.most_busy <= 3 and time.monotonic() - start > 11 / 20
    assert not download(tmp_path, server, [20], most_bytes=100).run()
    assert failures(tmp_path) == {20: "more than 100 bytes"}
    assert download(tmp_path, server, range(30, 40)).run(limit=4) and len(photos(tmp_path)) == 12 + 4


def test_photos_that_are_there_are_adopted_or_mended(tmp_path, server, capsys):
    folder = tmp_path / "photos/train2017"
    folder.mkdir(parents=True)
    (folder / "000000000001.jpg").write_bytes(jpeg(9))  # whole, from elsewhere
    (folder / "000000000002.jpg").write_bytes(jpeg(2)[:-50])  # as another tool's crash left it
    assert download(tmp_path, server).run()
    assert "5 fetched, 1 adopted" in capsys.readouterr().out and photos(tmp_path)[2] == jpeg(2)
    (folder / "000000000004.jpg").write_bytes(jpeg(4)[::-1])  # decays, with the same size
    with (tmp_path / "photos/checksums.jsonl").open("a") as sums:
        sums.write('{"file": "train2')  # killed while it wrote
    assert download(tmp_path, server).run() and photos(tmp_path)[4] != jpeg(4)
    assert download(tmp_path, server, verify="true").run() and photos(tmp_path)[4] == jpeg(4)


def test_a_full_disk_is_one_line(tmp_path, server, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datagen.download.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        download(tmp_path, server).run()
    monkeypatch.undo()
    assert not list((tmp_path / "photos").rglob("*.part")) and download(tmp_path, server).run()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("split,image_id\nval2017,1\n", "lacks the columns file_name (it has: split, image_id)"),
        ("split,image_id,file_name\nval2017,1,../../x.jpg\n", "row 2: split and file_name must be plain names"),
        ("split,image_id,file_name\n..,1,x.jpg\n", "must be plain names"),
        ("split,image_id,file_name\nval2017,1,\n", "must be plain names"),
    ],
)
def test_bad_tables_are_one_line_and_nothing_is_fetched(tmp_path, content, message):
    (tmp_path / "c.csv").write_text(content)
    command = ["--config", CONFIGS / "download.yaml", f"csv={tmp_path / 'c.csv'}", f"out={tmp_path / 'photos'}"]
    assert run_module("datagen.download", *command).refuses(message) and not (tmp_path / "photos").exists()


def test_addresses(tmp_path, server):
    urls = {
        1: f"{server.url}/elsewhere/1.jpg",
        2: "file:///etc/hostname",
        3: "http://127.0.0.1:9/3.jpg",
        4: "http://[x/",
    }
    source = captions(tmp_path / "c.csv", urls, image_url=urls.get)
    settings = DownloadSettings(csv=source, out=tmp_path / "photos", retries=0)
    assert not Download(settings).run()
    assert set(photos(tmp_path)) == {1} and failures(tmp_path)[2] == "not an http address"
    assert "no answer" in failures(tmp_path)[3] and "not an address" in failures(tmp_path)[4]
    done = run_module("datagen.download", "--config", CONFIGS / "download.yaml", f"csv={source}", "--dry-run")
    assert done.status == 0 and len(done.out.splitlines()) == 4
