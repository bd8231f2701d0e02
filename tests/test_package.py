"""What is installed is enough: the main job runs from a wheel, far from the source tree."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PHOTOS, ROOT
from tests.helpers import run_module


def shipped(suffixes) -> list:
    return [
        p for name in ("detection", "language", "pipeline") for p in (ROOT / name).rglob("*") if p.suffix in suffixes
    ]


def test_embedded_weights_are_small_and_have_cards():
    files = shipped({".onnx", ".bin"})
    assert len(files) >= 3
    assert all(p.stat().st_size < 16_000_000 for p in files) and sum(p.stat().st_size for p in files) < 40_000_000
    for file in files:
        card = file.with_suffix(".md") if file.suffix == ".onnx" else file.parent.with_suffix(".md")
        assert card.exists(), f"{file} has no model card"
        text = card.read_text("utf-8").lower()
        assert all(word in text for word in ("learned from", "command", "licence", "figures", "date")), card


def test_no_secrets_or_machine_paths_in_the_repository():
    """The original committed an organisation id and key files' pattern (defect 52)."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("not a git checkout")
    assert not [name for name in files.stdout.split() if "api.json" in name or name.endswith((".env", ".pem"))]
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("GNU AFFERO GENERAL PUBLIC LICENSE")


def test_embedded_models_tell_their_training_and_no_machine_paths():
    import onnx

    for file in shipped({".onnx"}):
        meta = {p.key: p.value for p in onnx.load(file, load_external_data=False).metadata_props}
        assert "settings" in meta, file
        assert not re.search(r'"/|[A-Z]:\\\\', meta["settings"]), file


@pytest.mark.slow
def test_the_main_job_runs_from_a_wheel(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = run_module("pipeline.run", PHOTOS / "cat.jpg", "--json", "--save", elsewhere / "out", cwd=elsewhere, env=env)
    assert done.status == 0, done.err
    assert "고양이" in done.rows[0]["input"] and (elsewhere / "out/cat_annotated.jpg").exists()
    code = "import pipeline; print(pipeline.__file__)"
    where = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, env=env, capture_output=True, text=True).stdout
    assert where.startswith(str(site))
    done = run_module("language.comment.corpus", "check", cwd=elsewhere, env=env)
    assert done.status == 0


@pytest.mark.slow
def test_many_photos_stay_in_memory_bounds():
    """Peak memory of a long run stays under 500 MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process's peak memory")
    # not ru_maxrss: that counts the parent's memory at the fork
    code = (
        "import re, sys; from pipeline.run import main; main(sys.argv[1:]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    photos = [str(p) for p in PHOTOS.glob("*.jpg")] * 25
    done = subprocess.run([sys.executable, "-c", code, *photos], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert int(done.stderr.split()[-1]) / 1024 < 500
