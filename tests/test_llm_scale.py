"""Ten thousand rows: what planning and journalling take beside the model's own time, and that memory stays flat."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_llm_faults import ENV

JOB = """
import json, resource, sys, time
from pathlib import Path
from datagen.comments import CommentJob, CommentSettings
from datagen.jobs import plan, run_job
from configs.load import load_settings
from datagen.llm.records import Reply

class Instant:
    def complete(self, request):
        thing = request.messages[-1]["content"].splitlines()[0].split(", ")[-1]
        return Reply(json.dumps({"comments": [f"What a lovely hat, so happy for you on day {thing}! 😊"]}), 100, 20)

out, rows = sys.argv[1:]
with open(f"{out}.txt", "w") as lists:
    lists.writelines(f"happy, hat, thing {n}\\n" for n in range(int(rows)))
pairs = [f"out={out}", f"lists={out}.txt", "count=1", "rpm=null", "tpm=null", "concurrency=16"]
job = CommentJob(load_settings("configs/datagen/comments_en.yaml", CommentSettings, pairs))
start = time.perf_counter()
plan(job)
planned = time.perf_counter()
run_job(job, provider=Instant())
ended = time.perf_counter()
status = Path("/proc/self/status")  # getrusage on Linux counts what the parent held when it started us
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if status.exists():
    peak = int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
took = {"plan_s": planned - start, "run_s": ended - planned, "cpu_s": time.process_time()}
print(json.dumps({"rows": int(rows), **{name: round(s, 1) for name, s in took.items()}, "peak_mb": round(peak, 1)}))
"""


def figures(folder, rows: int) -> dict:
    command = [sys.executable, "-c", JOB, str(folder / f"out{rows}"), str(rows)]
    done = subprocess.run(command, cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_ten_thousand_rows_in_a_minute_and_flat_memory(tmp_path, capsys):
    few, many = figures(tmp_path, 2000), figures(tmp_path, 10000)
    with capsys.disabled():
        print(json.dumps([few, many]))
    assert many["plan_s"] + many["run_s"] < 60
    assert many["peak_mb"] < few["peak_mb"] + 25
