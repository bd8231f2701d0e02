"""Small builders that several tests use."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


@dataclass
class Run:
    status: int
    out: str
    err: str

    def refuses(self, message: str) -> bool:
        """Whether it ended as a user's mistake should: status 2 and one line that holds `message`."""
        return self.status == 2 and message in self.err and len(self.err.strip().splitlines()) == 1

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


def run_module(module: str, *args, cwd: Path = ROOT, env: dict | None = None) -> Run:
    """`python -m module args…` as a user runs it."""
    command = [sys.executable, "-m", module, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)
    return Run(done.returncode, done.stdout, done.stderr)


def run_main(capsys, *args) -> Run:
    """The main command in this process: quicker, same outcome."""
    from common.errors import exit_with
    from pipeline.run import main

    try:
        exit_with(main, [str(a) for a in args])
    except SystemExit as stop:
        captured = capsys.readouterr()
        return Run(stop.code, captured.out, captured.err)
    raise AssertionError("exit_with always exits")


class Answers:
    """A provider that answers by a function of the request's last question."""

    def __init__(self, answer) -> None:
        self.answer, self.asked = answer, 0

    def complete(self, request):
        from datagen.llm.records import Reply

        self.asked += 1
        answer = self.answer(request.messages[-1]["content"])
        return Reply(answer if isinstance(answer, str) else json.dumps(answer), 100, 20)


def toy_faces(count: int, seed: int = 0):
    """Crops whose class is plain to see: lying, standing or crossed stripes, plain dark or plain light."""
    from detection.emotion.faces import Faces

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, count)
    wave = (np.arange(48) // 4 % 2 * 200).astype(np.uint8)
    flat = np.zeros((48, 48), np.uint8)
    kinds = [flat + wave[:, None], flat + wave[None], np.bitwise_xor(wave[:, None], wave[None]), flat, flat + 200]
    images = np.stack([kinds[label] for label in labels]) + rng.integers(0, 40, (count, 48, 48)).astype(np.uint8)
    return Faces(images, np.eye(5, dtype=np.float32)[labels])


def save_onnx(path: Path, nodes: list, outputs_shape: list, names: list[str], side: int = 64) -> Path:
    """A hand-made ONNX detector: `nodes` turn the input `images` into `out`."""
    from onnx import TensorProto, helper, save

    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "height", "width"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, outputs_shape)
    graph = helper.make_graph(nodes, "toy", [image], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"names": str(dict(enumerate(names))), "imgsz": str([side, side])})
    save(model, path)
    return path


def constant_detector(path: Path, output: np.ndarray, names: list[str], side: int = 64) -> Path:
    """An ONNX detector that always answers `output`."""
    from onnx import helper, numpy_helper

    node = helper.make_node("Constant", [], ["out"], value=numpy_helper.from_array(output.astype(np.float32)))
    return save_onnx(path, [node], list(output.shape), names, side)
