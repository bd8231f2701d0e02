"""Dialog models learn what was answered and nothing else, resume, merge; mistakes are one line."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from common.errors import UserError
from configs.load import load_settings
from language.visdial import train as training
from language.visdial.data import IGNORED, Encoder, Example, Photographed, read_examples
from language.visdial.dialogs import GoldLeak
from language.visdial.model import LoraSettings, base_model, load, main, merge, target_modules
from language.visdial.train import DialogSettings, train
from tests.conftest import ROOT
from tests.visdial_toys import COLORS, tiny_gemma, toy_dialogs

PRESET = ROOT / "configs/visdial/gemma3_4b.yaml"
SMALL = ["weights=fp32", "precision=fp32", "accumulate=1", "optimizer=adamw", "lr=0.01", "warmup_steps=0"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    file, photos = toy_dialogs(folder)
    return SimpleNamespace(model=tiny_gemma(folder / "model"), file=file, photos=photos, folder=folder)


@pytest.fixture(scope="module")
def base(toys):
    return base_model(str(toys.model), "fp32")


@pytest.fixture
def encoder(base):
    return Encoder(base[1])


def settings_of(toys, run, *more):
    given = [f"model={toys.model}", f"data={toys.file}", f"photos={toys.photos}", f"run={run}", *SMALL, *more]
    return load_settings(PRESET, DialogSettings, given)


def adapter(run) -> bytes:
    return (run / "best/adapter_model.safetensors").read_bytes()


def lines(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def figures(run) -> dict:
    return json.loads((run / "figures.json").read_text())


def test_the_preset_is_the_originals_run(toys, base, tmp_path, monkeypatch):
    settings = load_settings(PRESET, DialogSettings)
    lora = settings.lora
    assert (lora.vision, lora.language, lora.attention, lora.mlp) == (True,) * 4
    assert (lora.r, lora.alpha, lora.dropout, settings.weights, settings.max_tokens) == (16, 16, 0, "4bit", 2048)
    monkeypatch.setattr(training, "_optimizer", lambda settings: settings.optimizer)
    arguments = training.training_arguments(settings, **training._arguments(settings, False, []))
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (2, 4)
    assert (arguments.warmup_steps, arguments.learning_rate, arguments.num_train_epochs) == (5, 1e-5, 1)
    assert (arguments.optim, arguments.weight_decay, arguments.lr_scheduler_type) == ("adamw_8bit", 0.01, "linear")
    assert (arguments.save_steps, arguments.save_total_limit, arguments.seed, arguments.logging_steps) == (
        200,
        2,
        3407,
        1,
    )
    assert arguments.gradient_checkpointing and settings.model == "google/gemma-3-4b-it"


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 26),  # two layers of each tower: 4 + 2 modules in vision, 4 + 3 in language
        ({"vision": False}, 14),  # language alone
        ({"language": False}, 12),  # vision alone
        ({"mlp": False}, 16),  # attention of both
        ({"vision": False, "attention": False}, 6),  # language's MLP
        ({"vision": False, "language": False, "modules": ["o_proj"]}, 2),  # by name alone
        (
            {"vision": False, "modules": ["encoder.layers.1.mlp.fc1", "o_proj"]},
            15,
        ),  # one more; the other is meant twice
    ],
)
def test_switches_and_names_mean_modules(base, fields, count):
    assert len(target_modules(base[0], LoraSettings(**fields))) == count


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modules": ["o_porj"]}, "has no o_porj; near or allowed are .*o_proj"),  # a slip
        ({"modules": ["attention_layer_x"]}, "has no attention_layer_x; near or allowed are .*q_proj"),  # nothing near
        ({"vision": False, "language": False}, "lora means no module"),  # all off
        ({"attention": False, "mlp": False}, "lora means no module"),  # no kind
    ],
)
def test_modules_that_are_not_there(base, fields, message):
    with pytest.raises(UserError, match=message) as caught:
        target_modules(base[0], LoraSettings(**fields))
    assert "\n" not in str(caught.value)


def test_nested_settings_are_read_and_unknown_ones_refused(toys, tmp_path):
    """Defect 46: the original's config was nested, and all of it was ignored."""
    train(settings_of(toys, tmp_path / "run", "lora={r: 3, alpha: 5, dropout: 0.25, vision: false}", "limit=2"))
    saved = json.loads((tmp_path / "run/best/adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"], saved["bias"]) == (3, 5, 0.25, "none")
    assert not saved["use_rslora"] and figures(tmp_path / "run")["adapted_modules"] == 14
    for override, message in (
        ("lora={rank: 3}", r"unknown key lora.rank \(known: vision, language, .*, r, alpha, dropout\)"),
        ("lora={r: many}", "lora.r: input should be a valid integer"),
        ("lora_alpha=3", "unknown key lora_alpha"),
        ("keep=best", "keep: best needs a held_out_share"),
    ):
        with pytest.raises(UserError, match=message):
            settings_of(toys, tmp_path / "other", override)


def test_only_the_answer_and_its_end_are_learnt(toys, encoder):
    (*_, example), _ = read_examples(toys.file, toys.photos)
    row = encoder.row(example, learn=True)
    learnt = row["labels"] != IGNORED
    tokens = encoder.tokenizer
    assert tokens.decode(row["labels"][learnt]) == f"{example.answer}<end_of_turn>"
    assert (row["input_ids"][learnt] == row["labels"][learnt]).all()
    photo = row["input_ids"] == tokens.image_token_id
    assert photo.sum() == 4 and not (photo & learnt).any() and (row["token_type_ids"][photo] == 1).all()
    asked = encoder.row(example)["input_ids"]
    assert torch.equal(row["input_ids"][~learnt], asked)  # taught with the very tokens that it is asked with
    assert tokens.decode(asked).endswith("Q: what color is the photo<end_of_turn>\n<start_of_turn>model\n")
    assert example.answer not in tokens.decode(asked)


def test_padding_changes_no_loss(toys, base, encoder):
    examples, _ = read_examples(toys.file, toys.photos, "all")
    short, long = (encoder.row(example, learn=True) for example in (examples[0], examples[5]))
    assert len(short["input_ids"]) < len(long["input_ids"])
    both = encoder.batch([short, long])
    with torch.no_grad():
        wide = base[0](**{k: v[:1] for k, v in both.items()}).loss
        assert wide.item() == pytest.approx(base[0](**encoder.batch([short])).loss.item(), rel=1e-4)


def test_photos_are_opened_when_a_batch_needs_them(toys, encoder, monkeypatch):
    """Defect 48: the original held all photos in memory, and None where one failed."""
    import language.caption.photos as photos

    opened, really = [], photos.open_rgb
    monkeypatch.setattr(photos, "open_rgb", lambda path: opened.append(path) or really(path))
    examples, skipped = read_examples(toys.file, toys.photos)
    rows = Photographed(examples, encoder, pytest.fail)
    assert len(rows) == 6 and not skipped and not opened
    assert rows[2]["pixel_values"].shape == (1, 3, 28, 28) and opened == [examples[2].photo]


def test_bad_rows_are_left_out_counted_and_named(toys, tmp_path):
    file, photos = toy_dialogs(tmp_path / "toys")
    name = lambda n: photos / f"COCO_train2014_{n:012}.jpg"
    name(1).unlink()
    name(2).write_text("not a picture")
    Image.effect_noise((300, 300), 90).convert("RGB").save(name(3))
    name(3).write_bytes(name(3).read_bytes()[:9000])  # its header is whole
    data = json.loads(file.read_text())
    data["data"]["answers"] += ["very " * 400, "a <start_of_image> in it"]
    for dialog, answer in ((3, len(data["data"]["answers"]) - 2), (4, len(data["data"]["answers"]) - 1)):
        data["data"]["dialogs"][dialog]["dialog"][-1] = {"question": 2, "answer": answer}
    data["data"]["dialogs"][5]["dialog"][-1] = {"question": 2}
    data["data"]["dialogs"].append({**data["data"]["dialogs"][2], "image_id": 7})
    name(7).write_bytes((toys.photos / "COCO_train2014_000000000003.jpg").read_bytes())
    file.write_text(json.dumps(data))
    run = tmp_path / "run"
    train(settings_of(toys, run, f"data={file}", f"photos={photos}", "max_tokens=512"))
    found = {row["image_id"]: row["reason"] for row in lines(run / "skipped.jsonl")}
    for image_id, reason in enumerate(
        ("no photo", "no picture", "cannot be read", "more than 512", "<start_of_image>", "no answer"), 1
    ):
        assert reason in found[image_id], image_id
    told = figures(run)
    assert told["train"] == 2 and told["broken_photos"] == 1 and sum(told["skipped"].values()) == 5


def test_generated_answers_are_learnt_as_they_are_exported(toys, tmp_path, encoder):
    from datagen.jobs import run_job
    from datagen.visdial import VisdialJob, VisdialSettings
    from tests.helpers import Answers

    given = [f"dialogs={toys.file}", f"photos={toys.photos}", f"out={tmp_path}", "concurrency=1"]
    job = VisdialJob(load_settings(ROOT / "configs/datagen/visdial_reasoning.yaml", VisdialSettings, given))
    run_job(job, provider=Answers(lambda _: {"reasoning": "All of it has one color.", "answer": "it is plain"}))
    examples, skipped = read_examples(tmp_path / "train.jsonl", toys.photos)
    assert len(examples) == 6 and not skipped
    (human, *_), _ = read_examples(toys.file, toys.photos)
    first = examples[0]
    assert (first.image_id, first.turn, first.asked, first.photo) == (1, 3, human.asked, human.photo)
    row = encoder.row(first, learn=True)
    learnt = encoder.tokenizer.decode(row["labels"][row["labels"] != IGNORED])
    assert learnt == "<reasoning>All of it has one color.</reasoning>\nit is plain<end_of_turn>"


def test_a_row_that_is_answered_in_its_prompt_stops_the_run(toys, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"image_id": 1, "conversation": "Q: is it red\nA: yes", "answer": "yes"}) + "\n")
    with pytest.raises(GoldLeak, match="image 1: the last question is answered"):
        train(settings_of(toys, tmp_path / "run", f"data={rows}"))


def test_an_interrupted_run_ends_where_it_would_have_ended(toys, tmp_path, monkeypatch):
    from transformers import TrainerCallback

    more = ["epochs=2", "eval_steps=2", "lora={dropout: 0.1}"]
    train(settings_of(toys, tmp_path / "whole", *more))

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3:
                raise KeyboardInterrupt

    settings, usual = settings_of(toys, tmp_path / "cut", *more), training.callbacks
    with monkeypatch.context() as patch:
        patch.setattr(training, "callbacks", lambda settings: [*usual(settings), Stop()])
        with pytest.raises(KeyboardInterrupt):
            train(settings)
    assert not (tmp_path / "cut/best").exists()
    train(settings)
    assert figures(tmp_path / "cut")["steps"] == 6 and adapter(tmp_path / "cut") == adapter(tmp_path / "whole")
    with pytest.raises(UserError, match="lr was 0.01, is 0.02"):
        train(settings_of(toys, tmp_path / "cut", *more, "lr=0.02"))


@pytest.fixture(scope="module")
def learnt(toys, tmp_path_factory):
    run = tmp_path_factory.mktemp("learnt") / "run"
    train(settings_of(toys, run, "batch=6", "epochs=16", "gradient_checkpointing=false"))
    return run


def test_it_learns_what_to_say_and_only_low_rank_weights_move(base, learnt):
    losses = [row["loss"] for row in json.loads((learnt / "history.json").read_text())["log_history"] if "loss" in row]
    assert losses[0] > 5 and losses[-1] < 3.5
    before, moved = dict(base[0].named_parameters()), 0
    for name, value in load(str(learnt), "fp32")[0].named_parameters():
        if "lora_" in name:
            moved += "lora_B" in name and value.abs().max() > 1e-4  # they begin as zeros
        else:
            assert torch.equal(value, before[name.removeprefix("base_model.model.").replace(".base_layer", "")]), name
    assert moved == 26


def test_merged_and_reloaded_it_says_the_same(toys, learnt, encoder, tmp_path):
    assert main(["merge", str(learnt), str(tmp_path / "merged"), "--precision", "fp32"]) == 0
    examples, _ = read_examples(toys.file, toys.photos)
    batch = encoder.batch([encoder.row(examples[0])])
    with torch.no_grad():
        logits = [load(str(name), "fp32")[0](**batch).logits for name in (learnt, tmp_path / "merged", toys.model)]
    assert torch.allclose(logits[0], logits[1], atol=1e-4) and not torch.allclose(logits[0], logits[2], atol=1e-1)
    for run, out, message in (
        (learnt, tmp_path / "merged", "exists already"),
        (toys.model, tmp_path / "new", "is no finished run"),
    ):
        with pytest.raises(UserError, match=message):
            merge(run, out)


def test_the_best_checkpoint_by_held_out_photos(toys, tmp_path):
    settings = settings_of(toys, tmp_path, "rounds=all", "held_out_share=0.34", "keep=best", "eval_steps=2")
    train(settings)
    told, history = figures(tmp_path), json.loads((tmp_path / "history.json").read_text())
    assert (told["train"], told["held_out"]) == (12, 6) and history["best_metric"] > 0


def test_unsloth_is_asked_for_the_originals_run(toys, monkeypatch):
    asked = {}
    model = SimpleNamespace(
        from_pretrained=lambda name, **given: asked.update(name=name, **given) or ("model", "processor"),
        get_peft_model=lambda model, **given: asked.update(given) or "adapted",
        for_training=lambda model: asked.update(training=model),
    )
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace(FastVisionModel=model))
    settings = load_settings(PRESET, DialogSettings, ["backend=unsloth", "model=unsloth/gemma-3-4b-it"])
    assert training._model(settings) == ("adapted", "processor")
    switches = {
        f"finetune_{name}": True for name in ("vision_layers", "language_layers", "attention_modules", "mlp_modules")
    }
    wanted = {**switches, "load_in_4bit": True, "r": 16, "lora_alpha": 16, "lora_dropout": 0, "random_state": 3407}
    assert asked.items() >= {**wanted, "training": "adapted", "max_seq_length": 2048}.items()
    with pytest.raises(UserError, match="works with backend=transformers only"):
        training._model(load_settings(PRESET, DialogSettings, ["backend=unsloth", "lora={modules: [o_proj]}"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["weights=4bit"], "4bit weights need an NVIDIA GPU; without one, fp32 or bf16 works"),  # on a CPU
        (["backend=unsloth"], "backend=unsloth needs unsloth and an NVIDIA GPU"),  # not installed
        (["model=/no/such/model"], "cannot load the model /no/such/model"),  # no such model
        (["data=none.json"], "cannot read none.json"),  # no such file
        (["photos=null"], "say where they lie"),  # no folder given
        (["photos=nowhere"], "no folder of photos: nowhere"),  # no such folder
        (["max_tokens=20"], "holds nothing to learn .*left out: 6 x tokens"),  # all too long
        (["held_out_share=0.01"], "of 6 photos holds none out"),  # too small a share
    ],
)
def test_mistakes_are_one_line(toys, tmp_path, monkeypatch, overrides, message):
    monkeypatch.setattr("language.visdial.model.best_device", lambda: "cpu")
    with pytest.raises(UserError, match=message) as caught:
        train(settings_of(toys, tmp_path / "run", *overrides))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is none of VisDial 1.0 JSON"),  # no JSON
        ('{"image_id": 1}', "KeyError 'conversation'"),  # a column is missing
        ('{"image_id": 1, "conversation": "what is it"}', "lines `Q: …` and `A: …` by turns"),  # no marks
        ('{"id": "1_1", "messages": []}', "not enough values"),  # an empty chat
        ('{"id": "1_1", "messages": [{"role": "user"}, {"role": "user"}]}', "one of the assistant"),  # wrong roles
    ],
)
def test_rows_that_are_something_else(toys, tmp_path, line, message):
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        read_examples(tmp_path / "rows.jsonl", toys.photos)


def test_out_of_memory_says_what_to_lower(toys, tmp_path, monkeypatch):
    from transformers import Trainer

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "train", full)
    with pytest.raises(UserError, match=r"lower batch \(now 2\), max_tokens \(now 2048\)") as caught:
        train(settings_of(toys, tmp_path))
    assert "\n" not in str(caught.value)


def test_rows_without_photos_are_learnt_too(toys, tmp_path):
    rows = tmp_path / "rows.jsonl"
    chat = lambda n: [
        {"role": "user", "content": [{"type": "text", "text": f"Q: is it {COLORS[n]}"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
    ]
    rows.write_text("".join(json.dumps({"id": f"{n}_1", "messages": chat(n)}) + "\n" for n in range(4)))
    examples, _ = read_examples(rows, None)
    assert examples[0] == Example(0, 1, "Q: is it red", None, "yes")
    train(settings_of(toys, tmp_path / "run", f"data={rows}"))
    assert figures(tmp_path / "run")["photos"] == 0


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(toys, tmp_path):
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes=2 --num_machines=1 --mixed_precision=no"
    weights = []
    for name, start, batch in (("one", [], 2), ("two", [*launch.split(), "--dynamo_backend=no"], 1)):
        settings = settings_of(toys, tmp_path / name, f"batch={batch}").model_dump(mode="json")
        given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        command = [sys.executable, *start, "-m", "language.visdial.train", "--config", str(PRESET), *given]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert figures(tmp_path / name)["steps"] == 3
        from safetensors.torch import load_file

        weights.append(load_file(tmp_path / name / "best/adapter_model.safetensors"))
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=2e-3), name
