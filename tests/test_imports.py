"""Imports point one way, and a run of the embedded models never imports what only training needs."""

import ast
import subprocess
import sys
import time

import pytest

from tests.conftest import PHOTOS, ROOT

FLOORS = ("common", "configs", "detection", "language", ("datagen", "pipeline"))  # each imports those before it
PACKAGES = ("common", "configs", "detection", "language", "datagen", "pipeline")
HEAVY = (
    "torch",
    "cv2",
    "transformers",
    "ultralytics",
    "datasets",
    "pydantic",
    "yaml",
    "matplotlib",
    "fastapi",
    "uvicorn",
    "ray",
)


def imports(file) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names if node.module in PACKAGES}
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_imports_point_down(floor):
    for package in [FLOORS[floor]] if isinstance(FLOORS[floor], str) else FLOORS[floor]:
        allowed = {package, *FLOORS[:floor]}
        for file in (ROOT / package).rglob("*.py"):
            above = [name for name in imports(file) if name.split(".")[0] not in allowed]
            assert not above, f"{file} imports {above}"


def test_a_run_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.run import main; main([sys.argv[1]]); "
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PHOTOS / "cat.jpg")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.strip().endswith("[]"), done.stderr


def test_help_is_quick():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pipeline.run", "--help"], cwd=ROOT, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3
