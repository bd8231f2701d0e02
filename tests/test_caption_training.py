"""Captioners are put together, frozen, trained, resumed and reloaded, with tiny models of the real classes."""

import csv
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError
from configs.load import load_settings
from language.caption.models import LAST_BLOCK, build, freeze, load_captioner
from language.caption.photos import open_rgb
from language.caption.train import CaptionSettings, train
from language.comment.models import load_tokenizer
from tests.caption_toys import SENTENCES, colour_photos, tiny_captioner
from tests.conftest import ROOT
from tests.helpers import run_module

HUES = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Tiny models with the classes and tokenizer of those that the presets name: ViT, GPT-2, and both in one."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    scale = {"initializer_range": 0.2}  # 0.02 is made for widths of 768
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(image_size=32, patch_size=16, **sizes, **scale)).save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    words = ByteLevelBPETokenizer()
    texts = [text.format(hue) for text in SENTENCES for hue in HUES] * 3
    words.train_from_iterator(texts, vocab_size=330, special_tokens=["<|endoftext|>"], show_progress=False)
    (folder / "gpt2").mkdir()
    words.save_model(str(folder / "gpt2"))
    tokenizer = GPT2TokenizerFast.from_pretrained(folder / "gpt2")  # as published: no padding token
    ids = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    small = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **small, **ids, **scale)).save_pretrained(folder / "gpt2")
    tokenizer.save_pretrained(folder / "gpt2")
    tiny_captioner(folder / "nlpconnect")
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Five photos of each of four colours, each with one caption: (CSV, folder)."""
    folder = tmp_path_factory.mktemp("colours")
    rows = [["image", "caption"]]
    for number in range(5):
        for photo in colour_photos(folder / str(number), HUES):
            rows.append([f"{number}/{photo.name}", SENTENCES[number % 2].format(photo.stem)])
    with (folder / "captions.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows(rows)
    return folder / "captions.csv", folder


def given(colours, published, preset, run, *more):
    """Overrides that let a preset train on the colours with tiny models, two steps."""
    parts = {"nlpconnect": [f"start={published}/nlpconnect"], "vit_gpt2": [f"encoder={published}/vit"]}
    own = next((parts[kind] for kind in parts if preset.startswith(kind)), [])
    own += [f"decoder={published}/gpt2"] if preset.startswith("vit_gpt2") else []
    data = json.dumps([{"csv": str(colours[0]), "photos": str(colours[1])}])
    return [f"run={run}", f"data={data}", *own, "max_tokens=32", "held_out_share=0.2", "batch=8", "epochs=1", *more]


@pytest.fixture
def settings_of(colours, published, tmp_path):
    def settings(preset, *more, name="run"):
        overrides = given(colours, published, preset, tmp_path / name, *more)
        return load_settings(ROOT / f"configs/caption/{preset}.yaml", CaptionSettings, overrides)

    return settings


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def steps(run):
    return json.loads((run / "history.json").read_text())["global_step"]


def test_the_original_run_has_the_published_parameters():
    """The architecture of `google/vit-base-patch16-224-in21k` and `gpt2`, on a device that holds no numbers."""
    from transformers import GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, ViTConfig, ViTModel

    with torch.device("meta"):
        decoder = GPT2LMHeadModel(GPT2Config(add_cross_attention=True, is_decoder=True))
        model = VisionEncoderDecoderModel(encoder=ViTModel(ViTConfig()), decoder=decoder)
    new = {name for name, _ in model.named_parameters() if "cross" in name}
    assert freeze(model, "last_block", new, True) == {
        "total": 239_195_904,
        "trainable": 48_050_688,
        "frozen_new": 11 * 8,  # of the cross attention of the blocks before the last
    }
    assert freeze(model, "all", new, False)["trainable"] == 239_195_904
    assert freeze(model, "last_block+cross_attention", new, False)["trainable"] == 48_050_688 + 11 * 2_363_904
    assert freeze(model, LAST_BLOCK, new, True)["trainable"] == 48_050_688


@pytest.mark.parametrize(
    "preset", ["vit_gpt2_last_block", "vit_gpt2_last_block_cross", "vit_gpt2_all", "nlpconnect_last_block"]
)
def test_every_preset_trains_what_it_says_and_nothing_else(preset, settings_of, tmp_path):
    settings = settings_of(preset)
    tokenizer = load_tokenizer(settings.start or settings.decoder, None)
    torch.manual_seed(settings.seed)
    start = {name: value.clone() for name, value in build(settings, tokenizer)[0].state_dict().items()}
    best = train(settings)
    assert steps(tmp_path / "run") == 2
    model, tokenizer, processor = load_captioner(best)
    moved = {name for name, value in model.cpu().named_parameters() if not torch.equal(value, start[name])}
    block = {name for name in start if name.startswith("decoder.transformer.h.1.")}
    if preset == "vit_gpt2_all":
        assert "encoder.embeddings.cls_token" in moved and not any(name.startswith("encoder.pooler") for name in moved)
    else:
        assert moved <= {n for n in start if "cross" in n or n.startswith("enc_to_dec")} | block | {
            "decoder.transformer.wte.weight",  # shared with lm_head
            "decoder.transformer.ln_f.weight",
            "decoder.transformer.ln_f.bias",
        }
        assert "decoder.transformer.h.1.mlp.c_fc.weight" in moved
    assert ("decoder.transformer.h.0.crossattention.c_attn.weight" in moved) == (preset[-5:] in ("cross", "2_all"))
    assert model.decoder.lm_head.weight is model.decoder.transformer.wte.weight
    pixels = processor(images=open_rgb(ROOT / "tests/photos/cat.jpg"), return_tensors="pt")["pixel_values"]
    ids = model.generate(pixel_values=pixels, max_new_tokens=5, num_beams=2)
    assert ids[0, 0] == tokenizer.eos_token_id and isinstance(tokenizer.decode(ids[0]), str)


def test_what_a_run_leaves_behind(settings_of, tmp_path):
    train(settings_of("nlpconnect_all"))
    run = tmp_path / "run"
    found = json.loads((run / "data.json").read_text())
    assert (found["rows"], found["photos"], found["held_out_photos"]) == (20, 20, 4)
    assert found["leaks"]["photos_seen"] == 0 and found["missing_photos"] == 0 and len(found["split_hash"]) == 12
    assert found["parameters"]["total"] == found["parameters"]["trainable"] > 0
    rows = [json.loads(line) for line in (run / "held_out.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and set(rows[0]) == {"image", "caption"}
    assert len((run / "train.jsonl").read_text().splitlines()) == 16
    figures = json.loads((run / "figures.json").read_text())
    assert figures["steps"] == 2 and figures["held_out_loss"] > 0 and figures["bits_per_character"] > 0
    assert load_settings(run / "settings.yaml", CaptionSettings).run == run and list((run / "tensorboard").iterdir())


def test_the_figures_are_those_of_the_weights_that_are_kept(settings_of, tmp_path):
    """The Trainer reads checkpoints without translating names back: without an error, it kept the last encoder."""
    from language.caption.data import collate

    stops = ["lr=0.3", "schedule=constant", "epochs=30", "patience=1"]  # as soon as the loss grows
    model, tokenizer, processor = load_captioner(train(settings_of("vit_gpt2_all", *stops)))
    history = json.loads((tmp_path / "run/history.json").read_text())
    losses = [entry["eval_loss"] for entry in history["log_history"] if "eval_loss" in entry]
    items = []
    for row in map(json.loads, (tmp_path / "run/held_out.jsonl").read_text().splitlines()):
        pixels = processor(images=open_rgb(row["image"]), return_tensors="pt")["pixel_values"][0]
        ids = tokenizer(row["caption"], add_special_tokens=False)["input_ids"]
        items.append({"pixel_values": pixels.to(model.device), "labels": [*ids, tokenizer.eos_token_id]})
    with torch.no_grad():
        loss = model(**{k: v.to(model.device) for k, v in collate(items).items()}).loss.item()
    figures = json.loads((tmp_path / "run/figures.json").read_text())
    assert losses[-1] > min(losses) and loss == pytest.approx(figures["held_out_loss"], rel=1e-4)


def test_a_run_goes_on_where_it_stopped_and_takes_no_other_settings(settings_of, tmp_path):
    """Both "all" runs of the original wrote into one folder."""
    same = ["schedule=constant", "dropout=0", "lr=1e-3", "keep=last"]
    whole = train(settings_of("vit_gpt2_all", *same, "epochs=2", name="whole"))
    train(settings_of("vit_gpt2_all", *same))
    parted = train(settings_of("vit_gpt2_all", *same, "epochs=2"))
    assert steps(tmp_path / "run") == steps(tmp_path / "whole") == 4
    one, two = weights(whole), weights(parted)
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-6
    before = (parted / "model.safetensors").read_bytes()
    for preset, more in (("vit_gpt2_all", "lr=2e-3"), ("nlpconnect_all", "lr=1e-3")):
        with pytest.raises(UserError, match="holds a run with other settings .*; give another run=FOLDER"):
            train(settings_of(preset, *same[:-2], "keep=last", more))
    assert (parted / "model.safetensors").read_bytes() == before


def test_runs_in_one_process_share_nothing(settings_of):
    """The original's second run went on with the first one's model."""
    first = train(settings_of("vit_gpt2_all", name="first"))
    train(settings_of("vit_gpt2_last_block_cross", name="between"))
    again = train(settings_of("vit_gpt2_all", name="again"))
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("vit_gpt2_last_block", ["allow_frozen_new=false"], "freezes 10 newly initialised weights"),
        ("vit_gpt2_last_block", ["allow_frozen_new=false"], "decoder.transformer.h.0.crossattention.c_attn.bias"),
        ("vit_gpt2_last_block", ["allow_frozen_new=false"], "use train=last_block+cross_attention, name their modules"),
        ("vit_gpt2_all", ["train=[encoder]"], "newly initialised"),
        ("vit_gpt2_all", ["train=[decoder.transfomer.h]"], "decoder has no 'transfomer'; near: transformer"),
        ("vit_gpt2_all", ["train=[decoder.transformer.h.-3]"], "decoder.transformer.h has no '-3'; near: 0, 1"),
        ("vit_gpt2_all", ["train=[lm_haed]"], "the model has no 'lm_haed'"),
        ("vit_gpt2_all", ["train=some"], "train."),  # neither a word nor a list
        ("vit_gpt2_all", ["max_tokens=65"], "max_tokens 65 is more than the decoder's 64 positions"),
        ("vit_gpt2_all", ["encoder=nowhere/at-all"], "cannot load nowhere/at-all"),
        ("vit_gpt2_all", ["decoder=nowhere/at-all"], "cannot load nowhere/at-all"),
        ("vit_gpt2_all", ["encoder=GPT2"], "cannot load GPT2: Can't load image processor"),
        ("vit_gpt2_all", ["decoder=VIT"], "cannot load VIT"),
        ("nlpconnect_all", ["start=VIT"], "cannot load VIT"),
        ("vit_gpt2_all", ["start=both"], "give either start (a whole captioner) or encoder"),
        ("vit_gpt2_all", ["trunk_weights=a.pt"], "encoder: trunk and trunk_weights belong together"),
        ("vit_gpt2_all", ["cache_features=features"], "cache_features needs a frozen encoder"),
        ("nlpconnect_all", ["start=nowhere/at-all"], "cannot load nowhere/at-all"),
        ("nlpconnect_all", ["data=[]"], "data: list should have at least 1 item"),
        ("nlpconnect_all", ["data=[{csv: none.csv, photos: tests}]"], "cannot read the captions none.csv"),
        ("pocket", ["trunk_weights=none.pt"], "the trunk's weights none.pt do not exist"),
        ("pocket", ["trunk_weights=setup.py"], "setup.py is no Ultralytics checkpoint"),
    ],
)
def test_mistakes_are_one_line_before_any_work(settings_of, published, preset, overrides, message, tmp_path):
    for name in ("vit", "gpt2"):
        overrides = [item.replace(name.upper(), str(published / name)) for item in overrides]
        message = message.replace(name.upper(), str(published / name))
    with pytest.raises(UserError) as caught:
        train(settings_of(preset, *overrides))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run/checkpoints").exists() and not (tmp_path / "run/best").exists()


def test_the_command_refuses_in_one_line(tmp_path):
    overrides = [f"run={tmp_path}", "train=[]", "data=[{csv: none.csv, photos: tests, size: 3}]"]
    done = run_module("language.caption.train", "--config", "configs/caption/nlpconnect_all.yaml", *overrides)
    assert done.refuses("unknown key data.0.size")


def test_the_loss_does_not_depend_on_padding(published):
    """Pads in the labels were the original's loss of .52."""
    from language.caption.data import collate

    model, tokenizer, processor = load_captioner(published / "nlpconnect")
    pixels = torch.randn(3, 32, 32)
    short, long = ([5, 6, tokenizer.eos_token_id], [7] * 30)
    items = [{"pixel_values": pixels, "labels": labels} for labels in (short, long)]
    together, alone = collate(items), collate(items[:1])
    with torch.no_grad():
        losses = [model(**{k: v[:1].to(model.device) for k, v in batch.items()}).loss for batch in (together, alone)]
    assert together["labels"].shape[1] == 30 and losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)


def test_accumulated_batches_weigh_what_one_batch_does(settings_of):
    """A captioner's forward takes any argument, and the Trainer then believes that it scales its loss."""
    same = ["epochs=1", "lr=1e-3", "dropout=0", "max_grad_norm=1000", "weight_decay=0"]
    one = train(settings_of("nlpconnect_all", *same, "batch=8", name="one"))
    parts = train(settings_of("nlpconnect_all", *same, "batch=4", "accumulate=2", name="parts"))
    norms = []
    for best in (one, parts):
        history = json.loads((best.parent / "checkpoints/checkpoint-2/trainer_state.json").read_text())
        norms.append(history["log_history"][0]["eval_loss"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_captions_depend_on_the_photo(settings_of, colours):
    """All captions of the original were alike, because the photo had to pass through frozen random weights."""
    learns = ["lr=5e-3", "epochs=40", "warmup_steps=5", "keep=last", "eval_steps=40"]
    model, tokenizer, processor = load_captioner(train(settings_of("vit_gpt2_all", *learns)))
    photos = [open_rgb(colours[1] / f"0/{hue}.png") for hue in HUES]
    pixels = processor(images=photos, return_tensors="pt")["pixel_values"].to(model.device)
    ids = model.generate(pixel_values=pixels, max_new_tokens=20)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert len(set(texts)) == 4 and all(hue in text for hue, text in zip(HUES, texts, strict=True)), texts


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """An untrained YOLOv8n of four classes, as Ultralytics saves it."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = YOLO("yolov8n.yaml", verbose=False)
    model.model = DetectionModel("yolov8n.yaml", nc=4, verbose=False)
    for name, value in model.model.named_buffers():
        if name.endswith("running_mean"):  # as if it were trained
            value.uniform_(-0.1, 0.1)
    file = tmp_path_factory.mktemp("detector") / "yolo.pt"
    model.save(file)
    return file


POCKET = ["image_size=64", "width=32", "layers=1", "heads=2", "vocab_size=400", "views=2", "cleaning={}"]


@pytest.mark.parametrize(("layers", "classes", "width"), [([21], True, 262), ([18, 21], False, 386), ([9], True, 262)])
def test_a_trunk_says_what_the_detector_says(detector, layers, classes, width, tmp_path):
    from transformers import AutoModel
    from ultralytics.nn.tasks import load_checkpoint

    from language.caption.trunk import load_trunk

    trunk = load_trunk(detector, layers, classes).train()
    assert not any(module.training for module in trunk.modules())  # batch norms stand still
    whole, maps = load_checkpoint(str(detector), fuse=False)[0].float().eval(), {}
    for number in layers:
        whole.model[number].register_forward_hook(lambda m, i, out, number=number: maps.update({number: out}))
    photos = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        tokens = trunk(photos).last_hidden_state
        whole(photos)
    assert tokens.shape == (2, 3 * 2, width) and width == trunk.config.hidden_size
    expected = maps[layers[-1]].flatten(2).transpose(1, 2)
    expected = torch.nn.functional.layer_norm(expected, expected.shape[-1:])
    first = width - 2 - classes * 4 - expected.shape[-1]
    assert torch.allclose(tokens[..., first : first + expected.shape[-1]], expected, atol=1e-4)
    assert tokens[0, :, -2:].tolist() == [[-1, -1], [1, -1], [-1, 0], [1, 0], [-1, 1], [1, 1]]  # x, y
    trunk.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(AutoModel.from_pretrained(tmp_path)(photos).last_hidden_state, tokens)


def test_a_captioner_with_a_trunk_needs_no_detector_file_later(settings_of, detector, tmp_path):
    from language.caption.trunk import load_trunk

    copy = shutil.copy(detector, tmp_path / "yolo.pt")
    more = [*POCKET, f"trunk_weights={copy}", f"cache_features={tmp_path}/features"]
    best = train(settings_of("pocket", *more))
    assert len(list((tmp_path / "features").iterdir())) == 2  # of photos to train on, and of those held out
    written = [file.stat().st_mtime_ns for file in sorted((tmp_path / "features").iterdir())]
    train(settings_of("pocket", *more, "lr=1e-4", name="second"))
    assert written == [file.stat().st_mtime_ns for file in sorted((tmp_path / "features").iterdir())]  # shared
    expected = load_trunk(tmp_path / "yolo.pt", [21], True).state_dict()
    (tmp_path / "yolo.pt").unlink()
    model, tokenizer, processor = load_captioner(best)
    assert not model.encoder.training and processor.do_normalize is False
    found = model.encoder.state_dict()
    assert all(torch.equal(expected[name], found[name].cpu()) for name in expected)


def test_cached_features_are_what_the_encoder_says(detector, tmp_path, colours, monkeypatch):
    """A broken photo is passed over, whether features are cached or not."""
    from language.caption.features import cached
    from language.caption.photos import UnreadablePhoto
    from language.caption.trunk import load_trunk

    trunk = load_trunk(detector, [21], True)
    (tmp_path / "cut.png").write_bytes((colours[1] / "0/red.png").read_bytes()[:40])
    photos = [str(tmp_path / "cut.png"), str(colours[1] / "0/red.png")]

    def look(path):
        open_rgb(path)
        return {"pixel_values": torch.full((3, 64, 64), 0.5)}

    features = cached(trunk, look, photos, 1, tmp_path / "features", {})
    with torch.no_grad():
        expected = trunk(look(photos[1])["pixel_values"][None]).last_hidden_state[0]
    assert torch.allclose(features(photos[1])["features"], expected, atol=1e-2)  # half floats
    with pytest.raises(UnreadablePhoto, match="could not be read"):
        features(photos[0])
    with pytest.raises(UserError, match="none of 1 photos can be read"):
        cached(trunk, look, photos[:1], 1, tmp_path / "features", {})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="cached features need .* lower views or image_size"):
        cached(trunk, look, photos, 2, tmp_path / "features", {})
    assert [file.suffix for file in (tmp_path / "features").iterdir()] == [".npy"]  # nothing half done is left


def test_running_out_of_memory_says_what_to_lower(settings_of, monkeypatch):
    from transformers import Trainer

    def full(self, **_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(Trainer, "train", full)
    with pytest.raises(UserError) as caught:
        train(settings_of("nlpconnect_all"))
    message = str(caught.value)
    assert "lower batch (now 8), max_tokens (now 32)" in message and "accumulate" in message and "\n" not in message


LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(colours, published, tmp_path):
    losses = []
    for name, launch, batch in (("one", [], 8), ("two", [*LAUNCH, "--mixed_precision=no", "--dynamo_backend=no"], 4)):
        more = [f"batch={batch}", "dropout=0", "lr=1e-3"]
        module = ["-m", "language.caption.train", "--config", str(ROOT / "configs/caption/vit_gpt2_all.yaml")]
        overrides = given(colours, published, "vit_gpt2_all", tmp_path / name, *more)
        command = [sys.executable, *launch, *module, *overrides]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert steps(tmp_path / name) == 2
        losses.append(json.loads((tmp_path / name / "figures.json").read_text())["held_out_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
