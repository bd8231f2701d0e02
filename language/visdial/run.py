"""Visual dialog in one command: answers generated, a model trained on them, its answers and ranks made and measured.

    python -m language.visdial.run --config configs/visdial/pipeline.yaml --output runs/visdial/all
    python -m language.visdial.run --config configs/visdial/pipeline.yaml --output runs/visdial/all --skip-generation

Each stage is a command of its own, run as a process, with everything it says in `<output>/run-DATE-TIME.log`. The same
command goes on where it stopped: a finished stage is not run again, and one that was interrupted resumes. Stages:
generation (datagen.visdial), training, answering, ranking, and the evaluation of both. Without generated answers the
model learns what people answered; without a trained model the published one is measured.
"""

import argparse
import hashlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.errors import UserError, exit_with
from common.files import write_json
from configs.load import Settings, load_settings
from language.visdial.train import DialogSettings

PATIENCE_S = 30  # how long an interrupted stage may take to stop


class JobConfig(Settings):
    """A stage that has a config of its own."""

    config: Path
    settings: dict[str, object] = {}  # key: value that replace the config's


class Answering(Settings):
    """How questions are answered; see language/visdial/answer.py."""

    rounds: Literal["last", "all"] = "last"
    limit: int | None = Field(None, ge=1)
    batch_size: int = Field(8, ge=1)
    max_new_tokens: int = Field(256, ge=1)
    precision: str = "auto"


class Ranking(Settings):
    """How options are ranked; see language/visdial/rank.py."""

    score: Literal["sum", "mean"] = "sum"
    limit: int | None = Field(None, ge=1)
    batch_size: int = Field(25, ge=1)
    precision: str = "auto"


class PipelineSettings(Settings):
    """Settings of all stages."""

    dialogs: Path  # VisDial 1.0 JSON to generate answers for and to learn from
    evaluation_dialogs: Path  # VisDial 1.0 JSON to be measured on
    photos: Path
    evaluation_photos: Path | None = None  # null: `photos`
    dense: Path | None = None  # dense annotations, for NDCG
    generation: JobConfig
    training: JobConfig
    answering: Answering | None = Answering()  # null: nothing is answered
    ranking: Ranking | None = Ranking()  # null: nothing is ranked
    bertscore: str = "roberta-large"


@dataclass(frozen=True)
class Stage:
    """A command with its folder; `made` is the file that it writes last."""

    name: str
    folder: Path
    made: Path
    module: str
    arguments: list[str]
    config: Path | None = None

    def fingerprint(self, before: dict[str, str]) -> str:
        """Changes with the command, its config's content, and the stages whose results it reads."""
        text = self.config.read_text("utf-8") if self.config else ""
        return hashlib.sha256(json.dumps([self.module, self.arguments, text, before]).encode()).hexdigest()[:12]


def stages(settings: PipelineSettings, output: Path, skip: set[str]) -> list[Stage]:
    """The stages that are not skipped, in their order."""
    generated, trained = output / "generation/train.jsonl", output / "training"
    planned = []
    if "generation" not in skip:
        given = {"out": generated.parent, "dialogs": settings.dialogs, "photos": settings.photos}
        planned.append(_job("generation", "datagen.visdial", settings.generation, given, "failed.jsonl"))
    if "training" not in skip:
        data = generated if "generation" not in skip or generated.exists() else settings.dialogs
        given = {"run": trained, "data": data, "photos": settings.photos}
        planned.append(_job("training", "language.visdial.train", settings.training, given, "figures.json"))
    if "evaluation" not in skip:
        there = "training" not in skip or (trained / "best").exists()
        planned += _measuring(settings, output, str(trained) if there else _training(settings).model)
    return planned


def _job(name: str, module: str, job: JobConfig, given: dict[str, Path], last: str) -> Stage:
    """A stage with a config; the first of what is given is its folder, `last` the file in it that is written last."""
    overrides = [f"{key}={json.dumps(str(value))}" for key, value in given.items()]
    overrides += [f"{key}={json.dumps(value)}" for key, value in job.settings.items() if key not in given]
    folder = next(iter(given.values()))
    return Stage(name, folder, folder / last, module, ["--config", str(job.config), *overrides], job.config)


def _measuring(settings: PipelineSettings, output: Path, model: str) -> list[Stage]:
    """Answering and ranking, each with its evaluation behind it."""
    dialogs, photos = str(settings.evaluation_dialogs), str(settings.evaluation_photos or settings.photos)
    planned = []
    for name, options, results, made, more in (
        ("answering", settings.answering, "answers.jsonl", "answers.figures.json", ["--bertscore", settings.bertscore]),
        ("ranking", settings.ranking, "ranks.json", "ranks.json", ["--dense", str(settings.dense)]),
    ):
        if options is None:
            continue
        folder = output / name
        given = ["--model", model, "--photos", photos, "--out", str(folder / results)]
        given += ["--batch" if name == "answering" else "--dialogs", dialogs]
        for option, value in options.model_dump().items():
            given += [] if value is None else [f"--{option.replace('_', '-')}", str(value)]
        module = "language.visdial.answer" if name == "answering" else "language.visdial.rank"
        planned.append(Stage(name, folder, folder / made, module, given))
        rows = results if name == "answering" else "ranks.scores.jsonl"  # which knows ties, and what failed
        measured = output / "evaluation" / Path(rows).stem
        given = ["--predictions", str(folder / rows), "--groundtruth", dialogs, "--out", str(measured.parent)]
        given += [] if name == "ranking" and settings.dense is None else more
        made = measured / "evaluation.json"
        planned.append(Stage(f"evaluation of {name}", measured, made, "language.visdial.evaluate", given))
    return planned


def _training(settings: PipelineSettings) -> DialogSettings:
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.training.settings.items()]
    return load_settings(settings.training.config, DialogSettings, overrides)


def run(settings: PipelineSettings, output: Path, skip: set[str]) -> Path:
    """Run the stages that are not finished; returns the log file.

    Raises:
        UserError: a file that a stage needs is not there, a stage failed, or a folder holds a stage of other settings.
    """
    needed = [settings.photos, settings.generation.config, settings.training.config]
    needed += [settings.dialogs] if {"generation", "training"} - skip else []
    measuring = [settings.evaluation_dialogs, settings.evaluation_photos, settings.dense]
    needed += [] if "evaluation" in skip else [path for path in measuring if path]
    if missing := [str(path) for path in needed if not path.exists()]:
        raise UserError(f"not there: {', '.join(missing)}")
    _training(settings)  # its mistakes are told before hours of generation
    planned = stages(settings, output, skip)
    output.mkdir(parents=True, exist_ok=True)
    settings.save(output / "settings.yaml")
    file = output / f"run-{time.strftime('%Y%m%d-%H%M%S')}.log"
    log = _logger(file)
    before: dict[str, str] = {}
    try:
        for stage in planned:
            before[stage.name] = _run_stage(stage, before, log, file)
    finally:
        for handler in list(log.handlers):
            handler.close()
            log.removeHandler(handler)
    return file


def _run_stage(stage: Stage, before: dict[str, str], log: logging.Logger, file: Path) -> str:
    """Run it unless it is finished; returns what names its results."""
    marker, mine = stage.folder / "stage.json", stage.fingerprint(before)
    there = json.loads(marker.read_text("utf-8")) if marker.exists() else None
    if there and there["fingerprint"] != mine:
        raise UserError(
            f"{stage.folder} holds a {stage.name} of other settings or of other results before it; "
            "give another --output, or delete that folder to make it anew"
        )
    if there and "finished" in there:
        log.info("%s: finished before (%s)", stage.name, there["finished"])
        return f"{mine} {there['finished']}"
    stage.folder.mkdir(parents=True, exist_ok=True)
    write_json(marker, {"fingerprint": mine, "command": [stage.module, *stage.arguments]})
    start = time.time()
    log.info("%s: python -m %s %s", stage.name, stage.module, shlex.join(stage.arguments))
    status = _process(stage, log)
    whole = stage.made.exists() and stage.made.stat().st_mtime >= start - 2  # file systems round
    if status not in (0, 1) or not whole:
        raise UserError(f"{stage.name} failed with status {status}; {file} tells why, and the same command goes on")
    if status == 1:
        log.info("%s: some rows failed; they are named above and in %s", stage.name, stage.folder)
    finished = time.strftime("%Y-%m-%d %H:%M:%S")
    log.info("%s: finished in %.0f s", stage.name, time.time() - start)
    content = {"fingerprint": mine, "command": [stage.module, *stage.arguments], "finished": finished}
    write_json(marker, {**content, "seconds": round(time.time() - start, 1)})
    return f"{mine} {finished}"


def _process(stage: Stage, log: logging.Logger) -> int:
    """Run its command with all that it says in the log; an interrupt is passed on and waited for."""
    command = [sys.executable, "-m", stage.module, *stage.arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "10"}  # few lines of progress in the log
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, encoding="utf-8", errors="replace", env=env, **streams) as process:
        try:
            for line in process.stdout:
                if line.strip():
                    log.info("  %s", line.rstrip())
            return process.wait()
        except KeyboardInterrupt:
            try:
                process.wait(PATIENCE_S)  # at a terminal it got the signal, too
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            raise


def _logger(file: Path) -> logging.Logger:
    log = logging.getLogger("language.visdial.run")
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in (logging.StreamHandler(sys.stderr), logging.FileHandler(file, encoding="utf-8")):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        log.addHandler(handler)
    return log


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.visdial.run", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True, type=Path, help="YAML file")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="of all results and the log")
    for name, what in (
        ("generation", "train on what was generated before, or on what people answered"),
        ("training", "measure what was trained before, or the published model"),
        ("evaluation", "do not answer, rank and measure"),
    ):
        parser.add_argument(f"--skip-{name}", action="append_const", dest="skip", const=name, help=what)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the config's")
    args = parser.parse_intermixed_args(sys.argv[1:] if argv is None else argv)
    settings = load_settings(args.config, PipelineSettings, args.overrides)
    print(run(settings, args.output, set(args.skip or [])))
    return 0


if __name__ == "__main__":
    exit_with(main)
