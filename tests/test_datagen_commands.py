"""Shipped configs, templates and the guide: what is printed works."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from common.errors import UserError
from configs.load import load_settings
from datagen.comments import CommentJob, CommentSettings
from datagen.download import DownloadSettings
from datagen.export import SftSettings
from datagen.instagram import InstagramJob, InstagramSettings
from datagen.labels import LabelJob, LabelSettings
from datagen.prompts import Prompt
from datagen.visdial import VisdialJob, VisdialSettings
from tests.conftest import PHOTOS, ROOT
from tests.helpers import run_module
from tests.llm_server import KEY, serve

CONFIGS = ROOT / "configs/datagen"
FILES = sorted(file for file in CONFIGS.glob("*.yaml") if file.name != "prices.yaml")
PROMPTS = sorted((CONFIGS / "prompts").glob("*.yaml"))
SCHEMAS = {
    "comments": CommentSettings,
    "instagram": InstagramSettings,
    "labels": LabelSettings,
    "visdial": VisdialSettings,
    "download": DownloadSettings,
    "export": SftSettings,
}
GUIDE = (ROOT / "docs/data-generation.md").read_text("utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.S) for line in block.splitlines()]
AS_PRINTED = ("comments", "instagram", "export")  # these find all they need beside them; the others are only looked at
DIALOGS = {
    "questions": ["is it sunny"],
    "answers": ["yes"],
    "dialogs": [{"image_id": 9, "dialog": [{"question": 0, "answer": 0}]}],
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_shipped_configs_load(file, tmp_path):
    job = file.stem.split("_")[0]
    settings = load_settings(file, SCHEMAS[job])
    settings.save(tmp_path / "saved.yaml")
    assert load_settings(tmp_path / "saved.yaml", type(settings)) == settings
    command = file.read_text("utf-8").splitlines()[0]
    assert re.match(rf"# python -m datagen\.{job} (sft )?--config configs/datagen/{file.name}\b", command)
    with pytest.raises(UserError, match="unknown key modle"):
        load_settings(file, SCHEMAS[job], ["modle=x"])


def test_every_template_is_used_by_a_config():
    used = {value for file in FILES if (value := yaml.safe_load(file.read_text("utf-8")).get("prompt"))}
    assert used == {f"configs/datagen/prompts/{file.name}" for file in PROMPTS}
    assert all(load_settings(file, Prompt).version for file in PROMPTS)


@pytest.mark.parametrize(
    ("config", "settings", "job", "example", "message"),
    [
        ("instagram", InstagramSettings, InstagramJob, {"caption": "A photo of it. Ha.", "hashtags": []}, "describes"),
        ("labels", LabelSettings, LabelJob, {"name": "hat (clothing)"}, "a mark in it"),
        ("visdial_base", VisdialSettings, VisdialJob, {"answer": "Q: why"}, "marks, line breaks or a conversation"),
        ("comments", CommentSettings, CommentJob, {"comments": ["모자 어디서 사셨어요?"]}, "질문"),
    ],
)  # fmt: skip
def test_a_template_whose_example_breaks_its_rules_is_refused(tmp_path, config, settings, job, example, message):
    """Defect 8, for every job."""
    values = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text("utf-8"))
    prompt = yaml.safe_load((ROOT / values["prompt"]).read_text("utf-8"))
    ask = {"conversation": "Q: is it", "elements": "모자", "count": "1", "captions": "1. a cat"}
    prompt["examples"] = [{"ask": ask, "answer": example}]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(prompt, allow_unicode=True), "utf-8")
    given = [f"prompt={tmp_path / 'p.yaml'}", f"out={tmp_path / 'out'}"]
    with pytest.raises(UserError, match=f"example 1 breaks its own rules.*{message}"):
        job(load_settings(CONFIGS / f"{config}.yaml", settings, given))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the guide names, and a server in OpenAI's place."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("configs", "detection"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "lists.txt").write_text("당황, 모자\n기쁨, 케이크\n고양이\n모자\n", "utf-8")
    rows = ["split,image_id,file_name,cap1,cap2,cap3,cap4,cap5", "val2017,9,000000000009.jpg,a cat,a cat on a mat,,,"]
    (folder / "captions.csv").write_text("\n".join(rows), "utf-8")
    (folder / "data/coco/val2017").mkdir(parents=True)
    shutil.copy(PHOTOS / "cat.jpg", folder / "data/coco/val2017/000000000009.jpg")
    for split in ("train", "val"):
        (folder / f"visdial_1.0_{split}.json").write_text(json.dumps({"data": DIALOGS}))
    with serve(faults=0) as server:
        keys = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, "PYTHONPATH": str(ROOT)}
        yield folder, {**os.environ, **keys}


def test_the_guides_commands_work_as_printed(desk):
    folder, env = desk
    assert len(COMMANDS) >= 14 and all(command.startswith("python -m ") for command in COMMANDS)
    for command in COMMANDS:
        args = shlex.split(command)
        if (
            args[2].split(".")[1] not in AS_PRINTED
            and args[2].startswith("datagen.")
            and not {*args} & {"--plan", "--dry-run"}
        ):
            args.append("--dry-run")
        done = subprocess.run(
            [sys.executable, *args[1:]], cwd=folder, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0 and done.stdout, f"{command}\n{done.stdout}\n{done.stderr}"
    made = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    told = ("comments/pairs.jsonl", "comments/failed.jsonl", "instagram/instagram.csv", "instagram/quality.json")
    assert {f"runs/datagen/{name}" for name in told} <= made and "data/sft/val/000000000009.jpg" in made


def test_what_the_guide_names_is_there():
    named = re.findall(r"`((?:configs|detection|docs)/[\w./-]*)`", GUIDE)
    assert len(named) >= 3 and [name for name in named if not (ROOT / name).exists()] == []
    fields = {name for schema in SCHEMAS.values() for name in schema.model_fields}
    given = {word.split("=")[0] for word in re.findall(r"`(\w+)=", GUIDE)}
    assert given - {"key"} <= fields


def test_a_missing_key_is_one_line(tmp_path):
    (tmp_path / "c.csv").write_text("split,image_id,file_name,cap1,cap2,cap3,cap4,cap5\nv,1,1.jpg,a,,,,\n")
    env = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    command = ["--config", CONFIGS / "instagram.yaml", f"csv={tmp_path / 'c.csv'}", f"out={tmp_path / 'out'}"]
    done = run_module("datagen.instagram", *command, env=env)
    assert done.refuses("set the environment variable OPENAI_API_KEY")
