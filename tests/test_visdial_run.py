"""All stages in one command: in order, skipped, resumed, refused; what the documentation says can be typed."""

import json
import re

import pytest

from common.errors import UserError
from configs.load import load_settings
from language.visdial import run as running
from language.visdial.run import PipelineSettings, run, stages
from tests.conftest import ROOT
from tests.helpers import run_module
from tests.visdial_toys import tiny_gemma, toy_dialogs

CONFIG = ROOT / "configs/visdial/pipeline.yaml"
ALL = ["generation", "training", "answering", "evaluation of answering", "ranking", "evaluation of ranking"]
COMMANDS = ["train", "model", "answer", "rank", "run"]


@pytest.fixture
def settings(tmp_path):
    file, photos = toy_dialogs(tmp_path / "toys")
    given = [
        f"dialogs={file}",
        f"evaluation_dialogs={file}",
        f"photos={photos}",
        "evaluation_photos=null",
        "dense=null",
    ]
    return load_settings(CONFIG, PipelineSettings, given)


@pytest.fixture
def ran(monkeypatch):
    """Stages in place of which only their last file is written; `fails` names one that does not get so far."""
    done = {"names": [], "fails": None, "status": 0}

    def process(stage, log):
        done["names"].append(stage.name)
        if done["fails"] == stage.name:
            raise KeyboardInterrupt
        stage.made.parent.mkdir(parents=True, exist_ok=True)
        stage.made.write_text("{}")
        if stage.name == "generation":
            (stage.folder / "train.jsonl").write_text("")
        return done["status"]

    monkeypatch.setattr(running, "_process", process)
    return done


def test_stages_run_in_order_once(settings, ran, tmp_path):
    out = tmp_path / "new/folder"
    log = run(settings, out, set())
    assert ran["names"] == ALL
    text = log.read_text("utf-8")
    assert re.fullmatch(r"run-\d{8}-\d{6}\.log", log.name) and log.parent == out
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in text.splitlines())
    assert "training: python -m language.visdial.train --config" in text
    assert load_settings(out / "settings.yaml", PipelineSettings) == settings
    assert "finished before" in run(settings, out, set()).read_text("utf-8") and ran["names"] == ALL


def test_an_interrupted_stage_is_run_again_and_those_before_are_not(settings, ran, tmp_path):
    ran["fails"] = "training"
    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path / "out", set())
    assert "finished" not in json.loads((tmp_path / "out/training/stage.json").read_text())
    ran |= {"fails": None, "names": []}
    run(settings, tmp_path / "out", set())
    assert ran["names"] == ALL[1:]


def test_a_stage_that_breaks_is_named_with_the_log(settings, ran, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_process", lambda stage, log: 1)  # a traceback, and nothing made
    with pytest.raises(UserError, match=r"generation failed with status 1; .*run-.*\.log tells why"):
        run(settings, tmp_path / "out", set())


def test_rows_that_failed_do_not_stop_it(settings, ran, tmp_path):
    ran["status"] = 1
    assert "some rows failed" in run(settings, tmp_path / "out", set()).read_text("utf-8") and ran["names"] == ALL


def test_results_of_other_settings_are_not_mixed(settings, ran, tmp_path):
    run(settings, tmp_path / "out", set())
    other = settings.model_copy(
        update={"training": running.JobConfig(config=settings.training.config, settings={"lr": 1e-4})}
    )
    with pytest.raises(UserError, match="training holds a training of other settings") as caught:
        run(other, tmp_path / "out", set())
    assert "\n" not in str(caught.value)
    (tmp_path / "out/training/stage.json").unlink()  # made anew, so what came from it is old
    ran["names"] = []
    with pytest.raises(UserError, match="answering holds a answering of other settings or of other results before it"):
        run(other, tmp_path / "out", set())
    assert ran["names"] == ["training"]


@pytest.mark.parametrize(
    ("skip", "there", "names", "learnt", "measured"),
    [
        (set(), False, ALL, "generation/train.jsonl", "training"),  # everything
        ({"generation"}, False, ALL[1:], "visdial.json", "training"),  # learns what people answered
        ({"generation"}, True, ALL[1:], "generation/train.jsonl", "training"),  # learns what was generated before
        ({"generation", "training"}, False, ALL[2:], None, "google/gemma-3-4b-it"),  # measures the published model
        ({"generation", "training"}, True, ALL[2:], None, "training"),  # measures what was trained before
        ({"evaluation"}, False, ALL[:2], "generation/train.jsonl", None),  # measures nothing
    ],
)
def test_skipped_stages(settings, tmp_path, skip, there, names, learnt, measured):
    out = tmp_path / "out"
    if there:
        (out / "training/best").mkdir(parents=True)
        (out / "generation").mkdir()
        (out / "generation/train.jsonl").write_text("")
    planned = {stage.name: stage for stage in stages(settings, out, skip)}
    assert list(planned) == names
    if learnt:
        data = next(a for a in planned["training"].arguments if a.startswith("data="))
        assert json.loads(data.removeprefix("data=")).endswith(learnt)
    if measured:
        arguments = planned["answering"].arguments
        assert arguments[arguments.index("--model") + 1].endswith(measured)


def test_what_is_switched_off_and_dense_annotations(settings, tmp_path):
    off = settings.model_copy(update={"answering": None, "dense": tmp_path / "dense.json"})
    planned = stages(off, tmp_path / "out", {"generation", "training"})
    assert [stage.name for stage in planned] == ["ranking", "evaluation of ranking"]
    assert planned[1].arguments[-2:] == ["--dense", str(tmp_path / "dense.json")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["photos=nowhere"], "not there: nowhere"),  # no folder
        (["dialogs=none.json", "dense=no.json"], "not there: none.json, no.json"),  # all are named
        (["training={config: none.yaml}"], "not there: none.yaml"),  # no config
        (["training={config: a.yaml, lr: 1}"], "unknown key training.lr"),  # not where settings go
        (
            ["training={config: configs/visdial/gemma3_4b.yaml, settings: {rank: 1}}"],
            "unknown key rank",
        ),  # before any work
        (["ranking={score: best}"], "ranking.score: input should be 'sum' or 'mean'"),  # no such score
        (["answers=1"], "unknown key answers"),  # no such stage
    ],
)
def test_mistakes_are_one_line(settings, tmp_path, given, message):
    values = [f"{k}={json.dumps(v)}" for k, v in settings.model_dump(mode="json").items() if v is not None]
    done = run_module(
        "language.visdial.run",
        "--config",
        CONFIG,
        "--output",
        tmp_path / "out",
        *values,
        "dense=null",
        "evaluation_photos=null",
        *given,
    )
    assert done.refuses(message) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_documentation_types_exists(name):
    """Defect 47: the original's README named arguments and files that were not there."""
    helped = run_module(f"language.visdial.{name}", *(["merge"] if name == "model" else []), "--help")
    assert helped.status == 0
    texts = [file.read_text("utf-8") for file in (ROOT / "language/visdial").glob("*.py")]
    texts += [file.read_text("utf-8") for file in (ROOT / "configs/visdial").glob("*.yaml")]
    typed = "\n".join(texts).replace("\\\\\n", " ")
    found = re.findall(
        rf"^[ #]*(?:python -m|accelerate launch.* -m) language\.visdial\.{name} (.*)", typed, re.MULTILINE
    )
    assert found
    for line in found:
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert option in helped.out, f"{name} has no {option}"
        for config in re.findall(r"configs/\S+\.yaml", line):
            assert (ROOT / config).exists()


@pytest.mark.slow
def test_the_whole_way_with_a_tiny_model(settings, tmp_path):
    model, replies, out = tiny_gemma(tmp_path / "model"), tmp_path / "replies.jsonl", tmp_path / "out"
    reply = {"reply": {"reasoning": "All of it has one color.", "answer": "it is plain"}}
    replies.write_text("".join(json.dumps(reply) + "\n" for _ in range(6)))
    small = {"model": str(model), "weights": "fp32", "precision": "fp32", "accumulate": 1}
    recorded = {"provider": "replay", "replay": str(replies), "concurrency": 1}
    given = {
        **settings.model_dump(mode="json"),
        "generation": {"config": "configs/datagen/visdial_reasoning.yaml", "settings": recorded},
        "training": {"config": "configs/visdial/gemma3_4b.yaml", "settings": small},
        "answering": {"max_new_tokens": 3},
        "ranking": {"limit": 6},
    }
    arguments = ["--config", CONFIG, "--output", out, *(f"{k}={json.dumps(v)}" for k, v in given.items())]
    done = run_module("language.visdial.run", *arguments)
    assert done.status == 0, done.err
    assert json.loads((out / "training/figures.json").read_text())["steps"] == 3
    report = json.loads((out / "evaluation/ranks.scores/evaluation.json").read_text())
    assert report["counts"]["measured"] == 6 and 0 < report["metrics"]["mrr"] <= 1
    assert json.loads((out / "evaluation/answers/evaluation.json").read_text())["counts"]["rows"] == 6
    assert run_module("language.visdial.run", *arguments).err.count("finished before") == 6
