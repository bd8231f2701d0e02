"""The plan for many photos comes from a batch's own figures."""

import json

import pytest

from common.errors import UserError
from pipeline.scale import main, page
from tests.conftest import ROOT


@pytest.fixture
def results(tmp_path):
    """Ten photos at 0.25 s of CPU each; one is a copy, one failed."""
    file = tmp_path / "r.jsonl"
    rows = []
    for n in range(10):
        done = n != 3
        stages = {"decode": 10.0, "objects": 100.0 + n, "emotion": 50.0, "write": 40.0, "total": 200.0 + n}
        rows.append(
            {
                "image": f"{n}.jpg",
                "width": 1000 if done else None,
                "height": 500 if done else None,
                "timings_ms": {} if n == 5 else stages,
                "error": None if done else {"type": "damaged", "message": "3.jpg is damaged"},
                "duplicate_of": "4.jpg" if n == 5 else None,
                "file": {"bytes": 80_000, "modified": 1.0, "hash": "00"},
            }
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "r.jsonl.settings.json").write_text("{}", "utf-8")
    run = {"began": "2026-11-21 09:00", "engine": "local", "workers": 2, "cores": 2, "photos": 10, "seconds": 1.3}
    runs = [
        {**run, "engine": "ray", "cpu_seconds": None, "memory_mb": None},
        {**run, "cpu_seconds": 2.5, "memory_mb": 400},
    ]
    (tmp_path / "r.jsonl.runs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in runs), "utf-8")
    return file


def test_figures_of_the_page(results, capsys):
    assert main([str(results), "--photos", "14400000", "--cores", "8"]) == 0
    text = capsys.readouterr().out
    assert "10 photos (8 commented, 1 copies of another, 1 failed) of 0.50 megapixels and\n80 kB" in text
    assert "| 7.69 photos a second, 3.85 a worker |" in text and "| 96% (CPU time" in text
    assert "| emotion | 50.0 | 50.0 | 50.0 | 24% |" in text
    assert "1,000 core hours" in text  # 14.4 million x 0.25 s
    assert "| 24 hours | 42 | 6 |" in text and "| 168 hours | 6 | 1 |" in text
    assert "3.2 GB a machine" in text and "1,152 GB to read" in text


def test_results_without_a_measured_run_are_refused(results, tmp_path):
    (tmp_path / "r.jsonl.runs.jsonl").write_text("", "utf-8")
    with pytest.raises(UserError, match="by the local engine"):
        page(results, 1000)
    with pytest.raises(UserError, match="is no file of pipeline.batch"):
        page(tmp_path / "none.jsonl", 1000)


def test_the_page_in_docs_is_one_of_these(results):
    """Made by the command: the same headings and lines, other figures."""
    words = lambda text: [line for line in text.splitlines() if not any(c.isdigit() for c in line)]
    assert set(words(page(results, 10_000_000))) <= set((ROOT / "docs" / "scale.md").read_text("utf-8").splitlines())
