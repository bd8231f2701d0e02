"""Every shipped config loads under its schema; mistakes are listed together."""

import pytest
import yaml

from common.errors import UserError, exit_with
from configs.load import load_settings
from detection.emotion.train import EmotionSettings
from detection.emotion.verify import SecondLookSettings
from detection.objects.join import JoinSettings
from detection.objects.train import ObjectSettings
from language.caption.train import CaptionSettings
from language.comment.compare import Published
from language.comment.generate import PRESETS, load_decode
from language.comment.search import SearchSettings
from language.comment.train import WriterSettings
from language.visdial.run import PipelineSettings
from language.visdial.train import DialogSettings
from tests.conftest import ROOT

SCHEMAS = {
    "objects": ObjectSettings,
    "emotion": EmotionSettings,
    "comment": WriterSettings,
    "caption": CaptionSettings,
    "visdial": DialogSettings,
}
SPECIAL = {
    "objects/pocket.yaml": JoinSettings,
    "comment/search.yaml": SearchSettings,
    "emotion/second_look.yaml": SecondLookSettings,
    "visdial/pipeline.yaml": PipelineSettings,
}
OTHER = {"visdial/pipeline.yaml": "photos=elsewhere"}  # a setting to change, where it has no seed
FILES = sorted(f for name in SCHEMAS for f in (ROOT / "configs" / name).glob("*.yaml"))  # one per run


def test_there_are_configs():
    assert len(FILES) >= 3


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.parent.name + "/" + f.name)
def test_shipped_configs_load(file, tmp_path):
    name = f"{file.parent.name}/{file.name}"
    settings = load_settings(file, SPECIAL.get(name, SCHEMAS[file.parent.name]))
    settings.save(tmp_path / "saved.yaml")
    assert load_settings(tmp_path / "saved.yaml", type(settings)) == settings  # the saved copy starts the same run
    assert settings.fingerprint() != load_settings(file, type(settings), [OTHER.get(name, "seed=9")]).fingerprint()
    assert file.read_text().startswith("# python -m "), "a config opens with its command"


def test_decode_presets_and_published_figures_load():
    names = [file.stem for file in PRESETS.glob("*.yaml")]
    assert {"greedy", "beam4", "consensus"} <= set(names) and all(load_decode(name)[0] == name for name in names)
    published = load_settings(ROOT / "configs/published.yaml", Published)
    assert published.models["T5-base (275 M)"].bleu[3] == 0.4105 and len(published.wrong) >= 8


def test_every_mistake_is_reported_at_once(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"run": "r", "epochs": "many", "learning_rate": 1}))
    with pytest.raises(UserError) as error:
        load_settings(tmp_path / "c.yaml", WriterSettings, ["batch=[]"])
    message = str(error.value)
    assert "epochs" in message and "unknown key learning_rate" in message and "batch" in message and "\n" not in message


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "not valid YAML"), ("- a", "key: value"), ("", "run: field required")]
)
def test_unreadable_configs(tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        load_settings(tmp_path / "c.yaml", WriterSettings)


def test_missing_config_and_bad_override(tmp_path):
    with pytest.raises(UserError, match="cannot read the config"):
        load_settings(tmp_path / "none.yaml", WriterSettings)
    with pytest.raises(UserError, match="key=value"):
        load_settings(ROOT / "configs/comment/t5_pocket.yaml", WriterSettings, ["epochs"])


def test_a_library_that_is_not_installed_is_one_line(capsys):
    def main(argv):
        import a_library_of_an_extra  # noqa: F401

    with pytest.raises(SystemExit) as stop:
        exit_with(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a_library_of_an_extra is not installed; requirements.txt has it\n"


def test_a_missing_module_of_ours_is_our_mistake():
    def main(argv):
        import pipeline.no_such_module  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        exit_with(main)
