"""Writers train, resume, export and write, on pairs that the tests make; figures are right; mistakes are one line."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from common.errors import UserError
from configs.load import load_settings
from language.comment import CommentWriter, corpus
from language.comment.data import encode
from language.comment.evaluate import Run, evaluate_run, evaluate_writer
from language.comment.generate import DecodeSettings, consensus, generate, load_decode, tidy
from language.comment.models import new_model
from language.comment.train import WriterSettings, train
from language.records import Pair, write_pairs
from language.tokenizer import EOS, for_training, train_tokenizer
from tests.conftest import ROOT
from tests.helpers import run_module

SMALL = [
    "vocab_size=1200",
    "d_model=32",
    "d_ff=64",
    "num_heads=2",
    "encoder_layers=1",
    "decoder_layers=1",
    "precision=fp32",
]
PRESETS = ["t5_pocket", "gpt2_pocket", "t5_base", "t5_base_dropout", "t5_large", "kogpt2", "gpt2"]


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_pairs(file, corpus.build(60, 3))
    return file


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Tiny models with the classes and tokenizer settings of those that the presets name."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPT2TokenizerFast,
        PreTrainedTokenizerFast,
        T5Config,
        T5ForConditionalGeneration,
    )

    folder, texts = tmp_path_factory.mktemp("published"), [p.comment for p in corpus.build(200, 4)]
    train_tokenizer(texts, 900, folder / "tokenizer.json")
    korean = for_training(folder / "tokenizer.json")
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    t5 = T5Config(vocab_size=1000, decoder_start_token_id=0, feed_forward_proj="gated-gelu", **sizes)
    T5ForConditionalGeneration(t5).save_pretrained(folder / "t5")
    korean.save_pretrained(folder / "t5")
    small = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 256}
    kogpt2 = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        bos_token="</s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )
    GPT2LMHeadModel(GPT2Config(vocab_size=len(kogpt2), bos_token_id=1, eos_token_id=1, **small)).save_pretrained(
        folder / "kogpt2"
    )
    kogpt2.save_pretrained(folder / "kogpt2")
    byte_level = ByteLevelBPETokenizer()
    byte_level.train_from_iterator(texts, vocab_size=600, special_tokens=["<|endoftext|>"], show_progress=False)
    (folder / "gpt2").mkdir()
    byte_level.save_model(str(folder / "gpt2"))
    english = GPT2TokenizerFast.from_pretrained(folder / "gpt2")  # as published: no padding token
    GPT2LMHeadModel(GPT2Config(vocab_size=len(english), bos_token_id=0, eos_token_id=0, **small)).save_pretrained(
        folder / "gpt2"
    )
    english.save_pretrained(folder / "gpt2")
    return folder


def settings_of(preset, run, *more):
    return load_settings(ROOT / f"configs/comment/{preset}.yaml", WriterSettings, [f"run={run}", "export=null", *more])


def small_run(tmp_path, pairs_file, *more, preset="t5_pocket", name="run"):
    given = [f"pairs={pairs_file}", *SMALL, "batch=16", "held_out_share=0.2", "eval_steps=2", "warmup_steps=1", *more]
    return settings_of(preset, tmp_path / name, *given)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_resumes_and_writes(preset, tmp_path, pairs_file, published):
    own = settings_of(preset, tmp_path)
    source = {"t5": "t5", "gpt2": "gpt2"}[own.architecture] if preset != "kogpt2" else "kogpt2"
    more = SMALL if own.start is None else [f"start={published / source}"]
    given = [f"pairs={pairs_file}", *more, "batch=16", "held_out_share=0.2", "eval_steps=2", "patience=3"]
    run, exported = tmp_path / "run", f"export={tmp_path / 'writer'}"
    best = train(settings_of(preset, run, *given, "epochs=0.6", exported))
    steps = lambda: json.loads((run / "history.json").read_text())["global_step"]
    assert steps() == 2
    assert train(settings_of(preset, run, *given, "epochs=1.2", exported)) == best and steps() == 4  # it went on
    figures = json.loads((run / "figures.json").read_text())
    assert figures["bits_per_character"] > 0 and figures["leaks"]["sets_seen"] == 0 and figures["split"] == "group"
    assert list((run / "tensorboard").iterdir())
    assert CommentWriter(str(tmp_path / "writer")).write("모자, 안경", count=2)[0].text
    assert len(Run.load(run).write([Pair("모자", "가")], DecodeSettings(max_new_tokens=8))) == 1


@pytest.mark.parametrize(("keep", "steps"), [("best", 4), ("last", 12)])
def test_the_last_checkpoint_is_kept_where_asked_for(tmp_path, pairs_file, keep, steps):
    """With steps so large that the loss only grows, `best` stops early and `last` goes through."""
    given = [f"pairs={pairs_file}", *SMALL, "batch=16", "held_out_share=0.2", "eval_steps=2", "warmup_steps=0"]
    settings = settings_of("t5_pocket", tmp_path, *given, "epochs=4", "lr=30", "patience=1", f"keep={keep}")
    train(settings)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["global_step"] == steps
    last = max((tmp_path / "checkpoints").iterdir(), key=lambda folder: int(folder.name.split("-")[1]))
    same = (last / "model.safetensors").read_bytes() == (tmp_path / "best/model.safetensors").read_bytes()
    assert same == (keep == "last")


def test_dropout_is_really_in_force(tmp_path, published):
    """The original set it on a loaded config, which changes nothing."""
    tokenizer = for_training(published / "tokenizer.json")
    for preset, name in (("t5_base_dropout", "t5"), ("gpt2", "gpt2")):
        made = []
        for dropout in (0.2, 0.0):
            settings = settings_of(preset, tmp_path, f"start={published / name}", f"dropout={dropout}")
            torch.manual_seed(0)
            model = new_model(settings, tokenizer if name == "t5" else _english(published)).train()
            rates = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
            made.append(rates)
        assert made == [{0.2}, {0.0}], name
    assert {k: v for k, v in model.config.to_dict().items() if k.endswith("_pdrop")}["attn_pdrop"] == 0


def _english(published):
    from language.comment.models import load_tokenizer

    return load_tokenizer(str(published / "gpt2"), None)


def test_a_published_model_without_padding_token_still_learns_its_end(published):
    """Padding with the end token masked every real end in the original: GPT-2 never stopped."""
    from transformers import DataCollatorForSeq2Seq

    tokenizer = _english(published)
    rows = encode(
        [Pair("모자", "좋네요"), Pair("모자, 안경, 나무", "다 좋네요 정말로")], tokenizer, "gpt2", "original", 192
    )
    batch = DataCollatorForSeq2Seq(tokenizer)([dict(row) for row in rows])
    ends = [row[row != -100][-1].item() for row in batch["labels"]]
    assert ends == [tokenizer.eos_token_id] * 2
    assert (batch["labels"][0, batch["attention_mask"][0] == 0] == -100).all()


def test_gpt2_learns_the_target_alone_and_to_stop(tmp_path):
    train_tokenizer(["모자, 안경: 모자가 잘 어울려요! 😊"] * 5, 400, tmp_path / "t.json")
    tokenizer = for_training(tmp_path / "t.json")
    pair = Pair("모자, 안경", "모자가 잘 어울려요! 😊")
    for template, prompt in (
        ("planned", f"모자, 안경{EOS}"),
        ("plain", f"모자, 안경{EOS}"),
        ("original", "입력값 : 모자, 안경 \n출력값 :"),
    ):
        rows = encode([pair, Pair("모자", "모자 " * 300)], tokenizer, "gpt2", template, 192)
        assert len(rows) == 1  # the endless one is left out
        ids, labels = rows[0]["input_ids"], rows[0]["labels"]
        start = labels.index(next(label for label in labels if label != -100))
        assert set(labels[:start]) == {-100} and labels[start:] == ids[start:]  # aligned, unlike KoGPT-2's were
        assert tokenizer.decode(ids[:start]).replace("\n", "") == prompt.replace("\n", "")
        assert tokenizer.decode(ids[start:]).strip().endswith(f"{pair.comment}{EOS}")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_padding_is_masked_out_of_the_loss(tmp_path):
    """The original left pad ids in the labels: its loss depended on the padding."""
    from transformers import DataCollatorForSeq2Seq

    train_tokenizer(["모자"] * 5, 400, tmp_path / "t.json")
    tokenizer = for_training(tmp_path / "t.json")
    model = new_model(settings_of("t5_pocket", tmp_path, *SMALL), tokenizer).eval()
    short = {"input_ids": [5, 6, 1], "labels": [7, 8, 1]}
    long = {"input_ids": [5] * 20 + [1], "labels": [9] * 30 + [1]}
    collate = DataCollatorForSeq2Seq(tokenizer)
    batch, alone = collate([dict(short), dict(long)]), collate([dict(short)])
    assert (batch["labels"][0, 3:] == -100).all()
    with torch.no_grad():
        wide = {k: v[:1] for k, v in batch.items()}
        assert model(**wide).loss.item() == pytest.approx(model(**alone).loss.item(), rel=1e-4)


def test_left_padding_leaves_no_prompt_in_what_was_written(published):
    """The original cut by the length of each prompt, so the tail of short ones stood in the answer."""
    from transformers import GPT2LMHeadModel

    tokenizer, model = _english(published), GPT2LMHeadModel.from_pretrained(published / "gpt2")
    sources = [tokenizer(text)["input_ids"] for text in ("모자", "모자, 안경, 나무, 자동차, 바퀴")]
    together = generate(model, tokenizer, sources, DecodeSettings(max_new_tokens=6))
    alone = [generate(model, tokenizer, [source], DecodeSettings(max_new_tokens=6))[0] for source in sources]
    assert together == alone


LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path, pairs_file):
    bits = []
    for name, launch, batch in (("one", [], 16), ("two", [*LAUNCH, "--mixed_precision=no", "--dynamo_backend=no"], 8)):
        settings = small_run(tmp_path, pairs_file, f"batch={batch}", "by_length=false", "dropout=0", name=name)
        given = [f"{key}={json.dumps(value)}" for key, value in settings.model_dump(mode="json").items()]
        module = ["-m", "language.comment.train", "--config", str(ROOT / "configs/comment/t5_pocket.yaml"), *given]
        command = [sys.executable, *launch, *module]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        bits.append(json.loads((tmp_path / name / "figures.json").read_text())["bits_per_character"])
        assert json.loads((tmp_path / name / "history.json").read_text())["global_step"] == 3
    assert bits[0] == pytest.approx(bits[1], rel=1e-3)


def test_going_on_from_weights_of_another_tokenizer_is_refused(tmp_path, pairs_file):
    best = train(small_run(tmp_path, pairs_file, "epochs=0.5"))
    other = train(small_run(tmp_path, pairs_file, "epochs=0.5", "vocab_size=900", name="other"))
    assert train(small_run(tmp_path, pairs_file, f"start={best}", "template=plain", "epochs=0.5", name="second"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(other / file, best / file)
    with pytest.raises(UserError, match="another tokenizer"):
        train(small_run(tmp_path, pairs_file, f"start={best}", name="third"))
    with pytest.raises(UserError, match="another tokenizer"):
        Run.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["start=nowhere/at-all"], "cannot load nowhere/at-all"),
        (["held_out_share=0.001"], "holds none out"),
        (["pairs=none.jsonl"], "cannot read the pairs none.jsonl"),
        (["dropout=2"], "dropout: input should be less than 1"),
        (["learning_rate=1"], "unknown key learning_rate"),
        (["template=mine"], "template: input should be 'planned', 'plain' or 'original'"),
    ],
)
def test_mistakes_are_one_line_before_any_work(tmp_path, pairs_file, overrides, message, capsys):
    with pytest.raises(UserError) as caught:
        train(small_run(tmp_path, pairs_file, *overrides))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_pairs_and_unknown_keys(tmp_path, pairs_file):
    (tmp_path / "one.jsonl").write_text('{"elements": "모자", "comment": "좋네요"}\n', "utf-8")
    with pytest.raises(UserError, match="holds 1 pairs to learn from; at least 10"):
        train(small_run(tmp_path, tmp_path / "one.jsonl"))
    (tmp_path / "keys.txt").write_text("1\n999\n")
    with pytest.raises(UserError, match="does not have: 999"):
        train(small_run(tmp_path, pairs_file, f"exclude={tmp_path}/keys.txt"))


def test_a_full_disk_is_one_line(tmp_path, pairs_file, monkeypatch, capsys):
    import language.comment.train as module
    from common.errors import exit_with

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_pairs", full)
    settings = small_run(tmp_path, pairs_file).model_dump(mode="json")
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    with pytest.raises(SystemExit) as stopped:
        exit_with(module.main, ["--config", str(ROOT / "configs/comment/t5_pocket.yaml"), *overrides])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: No space left on device")


def test_runs_and_writers_are_evaluated_and_compared(tmp_path, pairs_file):
    pairs = pairs_file
    keys = tmp_path / "test.txt"
    keys.write_text("\n".join(map(str, range(12))))
    exported = tmp_path / "writer"
    train(small_run(tmp_path, pairs, f"exclude={keys}", "epochs=0.5", f"export={exported}"))
    files = evaluate_run(tmp_path / "run", pairs, keys, ["greedy", "consensus", "original_t5"])
    files.append(evaluate_writer(str(exported), pairs, keys, tmp_path / "written"))
    for file in files:
        found = json.loads(file.read_text("utf-8"))
        assert found["rows"] == 12 and found["keys"] == "test.txt" and found["decode"] in str(file)
        low, high = found["metrics"]["bleu_char_interval"]
        assert low <= found["metrics"]["bleu_char"] + 1e-3 and found["metrics"]["bleu_char"] <= high + 1e-3
        rows = json.loads((file.parent / "predictions.json").read_text("utf-8"))
        assert {"elements", "reference", "prediction"} == set(rows[0])
    found = json.loads(files[0].read_text("utf-8"))
    assert found["leaks"]["pairs_seen"] == 0 and found["parameters"] > 0 and found["bits_per_character"] > 0
    out = tmp_path / "docs/compared.md"
    arguments = [tmp_path / "run", tmp_path / "written", "--out", out, "--published", ROOT / "configs/published.yaml"]
    assert run_module("language.comment.compare", *arguments).status == 0
    text = out.read_text("utf-8")
    for file in files:
        figures = json.loads(file.read_text("utf-8"))
        assert f"| {figures['name']} | {figures['decode']} | {figures['metrics']['original_bleu_4']:.4f} |" in text
    assert "T5-base (275 M) | 0.6258" in text and "tok:kiwi-" in text and "compared-loss.png" in text
    assert (tmp_path / "docs/compared-loss.png").stat().st_size > 5000
    assert len(json.loads((tmp_path / "docs/compared.json").read_text("utf-8"))) == 4


def test_bits_per_character_of_a_run_are_its_loss(tmp_path, pairs_file):
    for preset, name in (("t5_pocket", "a"), ("gpt2_pocket", "b")):
        train(small_run(tmp_path, pairs_file, "epochs=0.5", "dropout=0", preset=preset, name=name))
        run, figures = Run.load(tmp_path / name), json.loads((tmp_path / name / "figures.json").read_text())
        held = [p for p in map(_pair, pairs_file.read_text("utf-8").splitlines()) if p not in _train(tmp_path / name)]
        bits = sum(run.nats(held)) / sum(len(p.comment) for p in held) / 0.6931472
        assert bits == pytest.approx(figures["bits_per_character"], rel=1e-3)


def _pair(line):
    return Pair(**json.loads(line))


def _train(folder):
    return set(map(_pair, (folder / "train.jsonl").read_text("utf-8").splitlines()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--data", "PAIRS"], "nowhere is no finished run"),
        (["nowhere", "--data", "none.json"], "cannot read the pairs"),
        (["nowhere", "--data", "PAIRS", "--decode", "lucky"], "unknown decode preset 'lucky'"),
    ],
)
def test_evaluation_mistakes_are_one_line(arguments, message, pairs_file):
    done = run_module("language.comment.evaluate", *(str(pairs_file) if a == "PAIRS" else a for a in arguments))
    assert done.refuses(message)


def test_comparing_nothing_is_one_line(tmp_path):
    assert run_module("language.comment.compare", tmp_path, "--out", tmp_path / "o.md").refuses(
        "holds no evaluation.json"
    )


def test_decode_presets():
    assert load_decode("beam4")[1].options()["num_beams"] == 4
    options = load_decode("original_t5")[1].options()
    assert (options["top_k"], options["top_p"], options["temperature"], options["max_new_tokens"]) == (
        50,
        0.95,
        1.0,
        50,
    )
    assert load_decode("consensus")[1].options()["num_return_sequences"] == 32
    with pytest.raises(UserError, match="allowed are beam4, captions, consensus, greedy"):
        load_decode("none")


def test_consensus_is_the_text_most_like_the_others_and_tidy_cuts_half_characters():
    assert consensus(["모자가 좋네요", "모자가 멋지네요", "모자가 좋네요!", "전혀 다른 말"]) in (
        "모자가 좋네요",
        "모자가 좋네요!",
    )
    assert consensus(["하나"]) == "하나"
    assert tidy("모자 \ufffd\ufffd") == "모자"


def test_search_finishes_resumes_and_refuses_mistakes(tmp_path, pairs_file):
    base = tmp_path / "base.yaml"
    base.write_text((ROOT / "configs/comment/t5_pocket.yaml").read_text("utf-8"), "utf-8")
    small = dict(item.split("=") for item in SMALL)
    overrides = {**{k: int(v) if v.isdigit() else v for k, v in small.items()}, "batch": 16, "epochs": 0.5}
    overrides |= {"held_out_share": 0.2, "eval_steps": 2}
    given = [f"base={base}", f"pairs={pairs_file}", f"run={tmp_path / 'search'}", f"overrides={json.dumps(overrides)}"]
    arguments = ["--config", "configs/comment/search.yaml", *given, "space={lr: [0.001, 0.03]}"]
    assert run_module("language.comment.search", *arguments).status == 0
    best = tmp_path / "search/best.yaml"
    assert "lr:" in best.read_text() and "trials: 2" in best.read_text()
    folders = sorted((tmp_path / "search").glob("lr=*"))
    before = [f.stat().st_mtime_ns for f in folders]
    assert run_module("language.comment.search", *arguments).status == 0  # all done: nothing is trained again
    assert len(folders) == 2 and before == [f.stat().st_mtime_ns for f in folders]
    for more, message in (
        ("space={rate: [1]}", "unknown settings rate"),
        ("space={lr: {low: 1, high: 2}}", "a grid needs lists"),
    ):
        assert run_module("language.comment.search", *arguments[:-1], more).refuses(message)
