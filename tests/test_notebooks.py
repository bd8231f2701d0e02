"""Every notebook runs from top to bottom."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WRITES = {
    "03_comment_models": "runs/gpt2/figures.json",
    "04_compare": "compared-loss.png",
    "05_data_generation": "sft/train.jsonl",
    "06_captions": "captions.html",
    "07_visual_dialog": "evaluated/ranks.scores/evaluation.json",
    "08_use_it": "corrected/pairs.jsonl",
}


LONG = ("01_emotion_detector", "04_compare", "06_captions")  # a quarter of a minute and more


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=pytest.mark.slow if p.stem in LONG else []) for p in NOTEBOOKS]
)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("DAETGEUL_RUN", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv("DAETGEUL_FACES", raising=False)
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert (tmp_path / WRITES.get(path.stem, "report_pocket/report.md")).exists()
