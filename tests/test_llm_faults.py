"""Through the real client, against a server that misbehaves, with kills: nothing is lost, and little repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datagen.llm.journal import Journal
from tests.conftest import ROOT
from tests.helpers import run_module
from tests.llm_server import KEY, Server, serve

ENV = {**os.environ, "OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def calm():
    """A server without faults, shared by tests that count only their own requests."""
    with serve() as server:
        yield server


def arguments(server: Server, out: Path, **settings) -> list[str]:
    settings = {"lang": "en", "count": 1, "rpm": "null", "tpm": "null", "backoff_s": 0.02, "retries": 8, **settings}
    pairs = [f"{name}={value}" for name, value in settings.items()]
    config = ["--config", "configs/datagen/comments_en.yaml", f"out={out}", f"base_url={server.url}"]
    return [*config, "key_env=OPENAI_API_KEY", *pairs]


def kill_after(arguments: list[str], server: Server, requests: int) -> None:
    """Start the job and kill it (-9) once the server has had so many requests more."""
    before = server.stats()["requests"]
    process = subprocess.Popen(
        [sys.executable, "-m", "datagen.comments", *arguments], cwd=ROOT, env=ENV, stderr=subprocess.DEVNULL
    )
    while server.stats()["requests"] < before + requests and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, "the job ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def storm(tmp_path: Path, rows: int, kills: int, hang: float, concurrency: int = 16) -> dict:
    """A job of `rows` lists with 30 % faults and kills in between; returns the figures."""
    (tmp_path / "lists.txt").write_text("".join(f"happy, thing {n}\n" for n in range(rows)), "utf-8")
    start = time.perf_counter()
    with serve(seed=11, faults=0.3, delay=0.02, hang=hang) as server:
        command = arguments(
            server, tmp_path / "out", lists=tmp_path / "lists.txt", concurrency=concurrency, timeout_s=hang * 0.8
        )
        for _ in range(kills):
            kill_after(command, server, rows // (kills + 1))
        done = run_module("datagen.comments", *command, env=ENV)
        assert done.status in (0, 1), done.err
        stats = server.stats()
    with Journal(tmp_path / "out/journal.sqlite") as journal:
        keys = [row["key"] for state in ("ok", "failed") for row in journal.rows(state)]
        failed = list(journal.rows("failed"))
        statuses = dict(journal.db.execute("SELECT status, count(*) FROM attempts GROUP BY status"))
        ok = sum(1 for _ in journal.rows("ok"))
    assert sorted(keys, key=int) == [str(n + 1) for n in range(rows)]  # every row ends ok or failed
    assert all(row["reason"] for row in failed)
    assert stats["repeats"] <= kills * concurrency
    seconds = round(time.perf_counter() - start, 1)
    return {"rows": rows, "ok": ok, "failed": len(failed), "kills": kills, "concurrency": concurrency, "server": stats,
            "attempts": statuses, "seconds": seconds}  # fmt: skip


def test_a_small_storm(tmp_path):
    figures = storm(tmp_path, rows=150, kills=1, hang=1.5)
    assert figures["ok"] > 130 and len(figures["server"]["faults"]) == 9


@pytest.mark.slow
def test_two_thousand_requests_thirty_percent_faults_three_kills(tmp_path, capsys):
    figures = storm(tmp_path, rows=2000, kills=3, hang=4)
    with capsys.disabled():
        print(json.dumps(figures))
    assert figures["ok"] > 1900


def test_a_rerun_asks_nothing_and_writes_the_same(tmp_path, calm):
    command = arguments(calm, tmp_path / "out", sample=20)
    first = run_module("datagen.comments", *command, env=ENV)
    assert first.status == 0, first.err
    pairs, asked = (tmp_path / "out/pairs.jsonl").read_bytes(), calm.stats()["requests"]
    again = run_module("datagen.comments", *command, env={k: v for k, v in ENV.items() if k != "OPENAI_API_KEY"})
    assert again.status == 0 and calm.stats()["requests"] == asked  # without a key, too: nothing is to be asked
    assert (tmp_path / "out/pairs.jsonl").read_bytes() == pairs
    assert KEY not in first.out + first.err + (tmp_path / "out/settings.yaml").read_text()
    assert KEY.encode() not in (tmp_path / "out/journal.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({}, None, "set the environment variable OPENAI_API_KEY"),
        ({}, "wrong-key", "status 401: Incorrect API key provided: Bearer ***"),
        ({"batch_api": "true"}, "wrong-key", "status 401: Incorrect API key provided: Bearer ***"),
        ({}, "clé", "what the environment variable OPENAI_API_KEY holds is no key"),
        ({"model": "unknown-9"}, KEY, "status 404: The model unknown-9 does not exist"),
        ({"modle": "gpt-4o"}, KEY, "unknown key modle"),
        ({"temperature": 3, "count": 0}, KEY, "count: input should be greater than 0"),
        ({"sample": "null"}, KEY, "needs lists=FILE or sample=NUMBER"),
        ({"lists": "none.txt"}, KEY, "cannot read none.txt"),
        ({"provider": "replay"}, KEY, "needs replay=FILE"),
        ({"prompt": "none.yaml"}, KEY, "cannot read the config none.yaml"),
        ({"prices": "none.yaml"}, KEY, "cannot read the config none.yaml"),
    ],
)
def test_mistakes_are_one_line(tmp_path, calm, changes, key, message):
    env = {k: v for k, v in ENV.items() if k != "OPENAI_API_KEY"} | ({"OPENAI_API_KEY": key} if key else {})
    done = run_module("datagen.comments", *arguments(calm, tmp_path / "out", **{"sample": 3, **changes}), env=env)
    assert done.refuses(message), done.err
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert not key or key not in done.out + done.err and not any(key.encode() in data for data in files)


def test_a_dead_server_is_one_line(tmp_path):
    command = arguments(Server(9), tmp_path / "out", sample=3, retries=1)
    assert run_module("datagen.comments", *command, env=ENV).refuses("does not answer")


def test_ctrl_c_waits_for_replies_in_flight(tmp_path):
    with serve(delay=0.3) as server:
        command = arguments(server, tmp_path / "out", sample=200, concurrency=4)
        process = subprocess.Popen(
            [sys.executable, "-m", "datagen.comments", *command], cwd=ROOT, env=ENV, stderr=subprocess.PIPE, text=True
        )
        while server.stats()["requests"] < 8:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1 and "stopped by Ctrl-C" in err
        with Journal(tmp_path / "out/journal.sqlite") as journal:
            assert (
                journal.lost == 0
                and len({r["source"]["elements"] for r in journal.rows("ok")}) == server.stats()["delivered"]
            )


def test_a_second_run_at_the_same_time_is_one_line(tmp_path):
    with serve(delay=0.5) as server:
        command = arguments(server, tmp_path / "out", sample=30, concurrency=4)
        first = subprocess.Popen([sys.executable, "-m", "datagen.comments", *command], cwd=ROOT, env=ENV)
        while not server.stats()["requests"]:
            time.sleep(0.05)
        assert run_module("datagen.comments", *command, env=ENV).refuses("another run has")
        assert first.wait(60) == 0 and server.stats()["repeats"] == 0  # it was not disturbed


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=40m tmpfs {disk} && cd {disk} && ({command}; echo $? > {status}) &
while [ ! -e {enough} ]; do sleep 0.05; done
head -c 100M /dev/zero > {disk}/filler 2> {disk}/err
wait
cp -r {disk}/out {kept}
"""


def test_a_full_disk_is_one_line_and_no_reply_is_lost(tmp_path):
    """A real small disk, filled while replies come in; where one may mount none, the simulated one has to do."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("mounting a disk is not allowed here")
    disk, kept, enough = (tmp_path / name for name in ("disk", "kept", "enough"))
    disk.mkdir()
    with serve(delay=0.05) as server:
        command = lambda out: arguments(server, out, sample=100, concurrency=4)
        job = f"cd {ROOT} && {sys.executable} -m datagen.comments {' '.join(command(disk / 'out'))}"
        paths = {"disk": disk, "kept": kept, "enough": enough, "status": tmp_path / "status"}
        script = ON_A_SMALL_DISK.format(command=job, **paths)
        process = subprocess.Popen(["unshare", "-rm", "sh", "-c", script], env=ENV, stderr=subprocess.PIPE, text=True)
        while server.stats()["requests"] < 30:
            time.sleep(0.05)
        enough.touch()
        _, err = process.communicate(timeout=60)
        assert (tmp_path / "status").read_text() == "2\n" and err.count("\n") == 1 and "the disk is full" in err, err
        done = run_module("datagen.comments", *command(kept), env=ENV)
        assert done.status == 0 and server.stats()["repeats"] == 0, done.err


def test_failed_rows_have_their_own_file(tmp_path):
    with serve(seed=2, faults=0.9, kinds="refusal,count") as server:
        command = arguments(server, tmp_path / "out", sample=12)
        done = run_module("datagen.comments", *command, env=ENV)
        assert done.status == 1 and "failed" in done.out
    rows = [json.loads(line) for line in (tmp_path / "out/failed.jsonl").read_text("utf-8").splitlines()]
    assert rows and all(row["reason"] and row["elements"] for row in rows)
    with serve() as server:
        done = run_module(
            "datagen.comments", *arguments(server, tmp_path / "out", sample=12), "--retry-failed", env=ENV
        )
        assert done.status == 0 and server.stats()["requests"] == len({row["elements"] for row in rows})
    assert (tmp_path / "out/failed.jsonl").read_text() == ""
