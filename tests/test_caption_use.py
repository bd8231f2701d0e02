"""Captioners at work: written, measured, compared and shown, with a tiny model of the real classes."""

import json
import re
import shutil
import types
from pathlib import Path

import pytest
from PIL import Image

from common.errors import UserError
from common.files import write_json
from language.caption import compare, demo, evaluate, write
from language.caption.likelihood import BLANK, blank_photo, log_likelihoods, ranks, seen
from language.caption.photos import UnreadablePhoto, find_photos, open_rgb
from language.comment.generate import DecodeSettings, load_decode
from tests.caption_toys import COLOURS, caption_rows, colour_photos, tiny_captioner
from tests.conftest import PHOTOS
from tests.helpers import run_module

DECODE = load_decode("captions")[1]


def save_rows(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def make_run(folder: Path, photos: list[Path], seed: int = 0) -> Path:
    """A finished run as `language.caption.train` leaves it: two colours trained on, the others held out."""
    tiny_captioner(folder / "best", seed)
    (folder / "settings.yaml").write_text("cleaning: {lower_case: true}\n")
    write_json(folder / "data.json", {"split_hash": "0123456789ab", "seed": 0})
    save_rows(folder / "train.jsonl", caption_rows(photos[:2]))
    save_rows(folder / "held_out.jsonl", caption_rows(photos[2:]))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    return colour_photos(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, photos) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "one", photos)


@pytest.fixture(scope="module")
def other_run(tmp_path_factory, photos) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "<b>two|", photos, seed=1)


@pytest.fixture(scope="module")
def captioner(run):
    return write.load(run)


# photos


def test_photos_open_upright_and_rgb(tmp_path):
    turned = Image.new("RGB", (40, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert open_rgb(tmp_path / "turned.jpg").size == (20, 40)
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_rgb(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    Image.new("L", (4, 4), 9).save(tmp_path / "grey.png")
    assert open_rgb(str(tmp_path / "grey.png")).getpixel((0, 0)) == (9, 9, 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),  # no file
        (b"", "cannot be read"),  # empty
        (b"hello", "cannot be read"),  # text
        ((PHOTOS / "cat.jpg").read_bytes()[:3000], "cannot be read"),  # truncated
    ],
)
def test_broken_photos_say_so_in_one_line(tmp_path, content, message):
    file = tmp_path / "photo.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UnreadablePhoto, match=message) as error:
        open_rgb(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_folders_and_globs(tmp_path, photos):
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.JPG", "[x].png"):
        shutil.copy(photos[0], tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    assert [Path(p).name for p in find_photos(str(tmp_path))] == ["[x].png", "b.png", "a.JPG"]
    assert find_photos(f"{tmp_path}/*.png") == [f"{tmp_path}/[x].png", f"{tmp_path}/b.png"]
    assert find_photos(f"{tmp_path}/[x].png") == [f"{tmp_path}/[x].png"]
    assert find_photos("none/*.png") == ["none/*.png"]


# ranking


def test_ranks_take_away_what_is_likely_anyway(monkeypatch, photos):
    """Hand-made log p: "a wall" is likely under any photo, the colour's name only under its own."""
    texts = ["a wall", *COLOURS]
    given = lambda colour: {text: -1.0 if text == "a wall" else -9.0 for text in texts} | ({colour: -4.0})
    monkeypatch.setattr("language.caption.likelihood.open_rgb", lambda path: Path(path).stem)
    monkeypatch.setattr("language.caption.likelihood.blank_photo", lambda: "nothing")
    monkeypatch.setattr("language.caption.likelihood.seen", lambda model, processor, image: image)
    monkeypatch.setattr(
        "language.caption.likelihood.log_likelihoods",
        lambda model, tokenizer, colour, some: [given(colour)[text] for text in some],
    )
    references = {str(photo): [photo.stem] for photo in photos}
    lists = [[colour, "a wall", *(c for c in COLOURS if c != colour)] for colour in COLOURS]
    assert list(ranks((None, None, None), references, lists)) == [1] * 6  # by log p alone, "a wall" would win
    wrong = [[COLOURS[n - 1], "a wall", colour] for n, colour in enumerate(COLOURS)]
    assert list(ranks((None, None, None), references, wrong)) == [2.5] * 6  # 5 nats for the right one, 0 for two


def test_log_likelihoods_do_not_depend_on_the_batch(captioner, photos):
    model, tokenizer, processor = captioner
    hidden = seen(model, processor, open_rgb(photos[0]))
    texts = ["red", "a red wall stands in the sun", "the wall is all red"]
    together = log_likelihoods(model, tokenizer, hidden, texts)
    alone = [log_likelihoods(model, tokenizer, hidden, [text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-4) and all(value < 0 for value in together)
    assert together != pytest.approx(log_likelihoods(model, tokenizer, seen(model, processor, blank_photo()), texts))
    assert blank_photo().getpixel((0, 0)) == BLANK


def test_a_captioner_that_does_not_look_ranks_by_chance(captioner, photos, monkeypatch):
    """Row 39: whatever it says, it says of every photo; distinct captions alone would not show why."""
    import torch

    blind = torch.zeros(1, 5, 32)
    monkeypatch.setattr("language.caption.likelihood.seen", lambda model, processor, image: blind)
    references = {str(photo): [f"a {photo.stem} wall"] for photo in photos}
    figures, places = evaluate.ranking(captioner, references, 20, 0)
    assert places == [3.5] * 6 and figures["mean_rank"] == figures["mean_rank_by_chance"] == 3.5
    assert figures["candidates"] == 6 and figures["ranked_first"] == 0


# write


def test_captions_for_photos_and_a_row_for_a_broken_one(run, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    done = run_module("language.caption.write", photos[0], tmp_path, photos[1], "--model", run, "--json")
    assert done.status == 1
    assert [Path(row["image"]).name for row in done.rows] == ["red.png", "broken.jpg", "green.png"]
    assert [row["error"] is None for row in done.rows] == [True, False, True]
    assert done.rows[1]["caption"] is None and done.rows[1]["error"]["type"] == "unreadable"
    assert all(isinstance(row["caption"], str) for row in done.rows[::2])


def test_only_one_batch_is_open(captioner, photos, monkeypatch):
    batches = []
    fake = lambda *args: batches.append(len(args[3])) or ["a wall"] * len(args[3])
    monkeypatch.setattr(write, "captions", fake)
    paths = [str(photo) for photo in photos] * 3
    rows = list(write.write(captioner, paths, DECODE))
    assert [row["image"] for row in rows] == paths and max(batches) <= write.BATCH
    assert all(row["caption"] == "a wall" for row in rows)


@pytest.mark.parametrize("tokens", [1, 3, 64, 500])  # 500: more than the decoder has places
def test_the_longest_caption_is_what_was_asked_for(captioner, photos, tokens):
    """Row 40: the original's page ignored its max_length."""
    model, tokenizer, processor = captioner
    asked = {}
    spy = types.SimpleNamespace(eval=lambda: spy, config=model.config, device=model.device)
    spy.generate = lambda **options: asked.update(options) or model.generate(**options, min_new_tokens=tokens)
    decode = DECODE.model_copy(update={"max_new_tokens": tokens})
    assert len(write.captions(spy, tokenizer, processor, [open_rgb(photos[0])], decode)) == 1
    assert asked["max_new_tokens"] == min(tokens, write.longest(model)) and asked["num_beams"] == 4
    assert asked["no_repeat_ngram_size"] == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{empty}"], "holds no photos"),  # a folder without photos
        (["{photo}", "--decode", "none"], "unknown decode preset 'none'"),
        (["{photo}", "--max-new-tokens", "0"], "whole number from 1"),
        (["{photo}", "--model", "{empty}"], "cannot load"),  # no captioner
        (["{photo}", "--model", "{unfinished}"], "no finished run"),
    ],
)
def test_write_refuses(capsys, tmp_path, photos, run, args, message):
    places = {"empty": tmp_path / "empty", "photo": photos[0], "unfinished": tmp_path / "run"}
    places["empty"].mkdir()
    places["unfinished"].mkdir()
    (places["unfinished"] / "settings.yaml").write_text("seed: 0")
    args = ["--model", str(run), *(arg.format(**places) for arg in args)]
    with pytest.raises(UserError, match=re.escape(message)) as error:
        write.main(args)
    assert "\n" not in str(error.value)


# evaluate


def test_evaluation_of_a_run(run, photos, capsys):
    assert evaluate.main([str(run), "--decode", "captions", "greedy", "--distractors", "2"]) == 0
    assert "mean_rank" in capsys.readouterr().out
    folders = sorted(folder.name for folder in (run / "evaluations").iterdir())
    assert folders == ["held_out-captions", "held_out-greedy"]
    content = json.loads((run / "evaluations/held_out-captions/evaluation.json").read_text())
    assert (content["photos"], content["references"], content["unreadable"]) == (4, 8, [])
    assert content["leaks"] == {"photos_seen": 0, "captions_seen": 0, "files_seen": 0}
    assert content["split_hash"] == "0123456789ab" and content["bytes"] > 1000 and content["ms_per_photo"] > 0
    model = write.load(run)[0]
    assert content["parameters"] == sum(p.numel() for p in model.parameters())
    figures = content["metrics"]
    assert figures["candidates"] == 3 and figures["mean_rank_by_chance"] == 2 and 1 <= figures["mean_rank"] <= 3
    for name in ("bleu_char", "bleu_word", "chrf", "rougeL", "cider", "distinct_captions", "repetition", "mean_rank"):
        low, high = figures[f"{name}_interval"]
        assert low - 1e-3 <= figures[name] <= high + 0.2, name
    rows = json.loads((run / "evaluations/held_out-captions/predictions.json").read_text())
    assert len(rows) == 4 and rows[0]["references"] == ["a blue wall stands in the sun", "the wall is all blue"]
    assert sum(row["rank"] for row in rows) / 4 == figures["mean_rank"]


def test_evaluation_on_other_data_counts_leaks_and_broken_photos(run, photos, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos[0], folder / "another_name.png")  # trained on
    shutil.copy(photos[3], folder / "new.png")
    (folder / "cut.jpg").write_bytes((PHOTOS / "cat.jpg").read_bytes()[:3000])
    lines = ["image,caption", "another_name.png,A RED wall", "new.png,The wall is all red", "cut.jpg,A cat"]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    files = evaluate.evaluate(run, tmp_path / "mine.csv", folder, ["greedy"])
    content = json.loads(files[0].read_text())
    assert files == [run / "evaluations/mine-greedy/evaluation.json"]
    assert content["photos"] == 2 and len(content["unreadable"]) == 1 and "cut.jpg" in content["unreadable"][0]
    assert content["leaks"]["files_seen"] == pytest.approx(1 / 3, abs=1e-4)
    assert content["leaks"]["captions_seen"] == pytest.approx(1 / 3, abs=1e-4)
    rows = json.loads(files[0].with_name("predictions.json").read_text())
    assert rows[0]["references"] == ["a red wall"]  # cleaned by the run's own rules
    shutil.rmtree(files[0].parent)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{tmp}"], "is this a run"),  # no run
        (["{run}", "--data", "x.csv"], "go together"),  # half of the data
        (["{run}", "--decode", "none"], "unknown decode preset"),
        (["{run}", "--distractors", "0"], "whole number from 1"),
        (["{damaged}"], "held_out.jsonl is damaged"),
        (["{lost}"], "no photo to measure with"),  # photos were moved
    ],
)
def test_evaluate_refuses(tmp_path, run, args, message):
    places = {"tmp": tmp_path, "run": run, "damaged": tmp_path / "damaged", "lost": tmp_path / "lost"}
    places["damaged"].mkdir()
    (places["damaged"] / "held_out.jsonl").write_text('{"image": "a.jpg"}\n')
    places["lost"].mkdir()
    save_rows(places["lost"] / "held_out.jsonl", [{"image": "gone.jpg", "caption": "a wall"}])
    with pytest.raises(UserError, match=re.escape(message)) as error:
        evaluate.main([arg.format(**places) for arg in args])
    assert "\n" not in str(error.value)


# compare


def test_comparison_of_runs(run, other_run, photos, tmp_path, monkeypatch):
    """Every name and caption is escaped in both formats; the page needs no other file."""
    nasty = tmp_path / "a&b <i>|.png"
    shutil.copy(photos[0], nasty)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    said = iter([["<script>alert(1)</script> a|b *c*", "the same"], ["The  same!", "the same"]])
    monkeypatch.setattr(write, "captions", lambda *args: next(said))
    out = tmp_path / "pages" / "side.html"
    args = [str(run), str(other_run), "--photos", str(nasty), str(photos[1]), str(broken), "--out", str(out)]
    assert compare.main(args) == 0
    html, markdown = out.read_text("utf-8"), out.with_suffix(".md").read_text("utf-8")
    assert html.count("data:image/jpeg;base64,") == 2 and "http" not in html
    assert "<script>" not in html + markdown and "&lt;script&gt;alert(1)" in html
    assert "<b>two" not in html + markdown and "&lt;b&gt;two|" in html and "a&amp;b &lt;i&gt;|.png" in html
    assert html.count("same for 2 photos") == 2 and str(broken) in html
    rows = [line for line in markdown.splitlines() if line.startswith("| !")]
    assert len(rows) == 2 and "a\\|b \\*c\\*" in rows[0] and "](../a%26b%20%3Ci%3E%7C.png)" in rows[0]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if "png" in line}
    assert columns == {4}  # a bar in a caption does not make a column


def test_figures_of_runs_stand_in_the_comparison(run, other_run, photos, tmp_path):
    evaluate.evaluate(run, None, None, ["captions"], 2)
    mean_rank = json.loads((run / "evaluations/held_out-captions/evaluation.json").read_text())["metrics"]["mean_rank"]
    rows = compare.figure_rows("one", str(run)) + compare.figure_rows("two", str(other_run))
    mine = next(row for row in rows if row[2] == "captions")
    assert f"{mean_rank:.2f}" in mine and rows[-1][1] == "not measured"
    assert {len(row) for row in rows} == {len(compare.HEADS)}
    damaged = tmp_path / "run/evaluations/x"
    damaged.mkdir(parents=True)
    (damaged / "evaluation.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        compare.figure_rows("x", str(tmp_path / "run"))


def test_comparison_draws_held_out_photos(run):
    drawn = compare.drawn_photos(str(run), 3, seed=0)
    assert len(drawn) == 3 and drawn == compare.drawn_photos(str(run), 3, seed=0)
    assert {Path(photo).stem for photo in drawn} <= set(COLOURS[2:])


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["runs/a", "runs/b/"], ["a", "b"]),
        (["x/caption", "y/caption"], ["x/caption", "y/caption"]),  # one name for two folders
        (["same", "same"], ["same", "same"]),  # one run twice
    ],
)
def test_run_names(runs, names):
    assert compare.run_names(runs) == names


# demo


@pytest.fixture(scope="module")
def page(run, other_run, photos):
    pytest.importorskip("gradio", reason="the page is an extra: app")
    return demo.build([str(run), str(other_run)], [str(photos[0])])


def test_the_page_has_a_box_for_each_captioner(page):
    config = page.get_config_file()
    labels = [part["props"].get("label") for part in config["components"] if part["type"] == "textbox"]
    assert labels == ["one", "<b>two|"] and "theme" not in Path(demo.__file__).read_text()


def test_each_captioner_has_its_own_tokenizer_and_processor(run, other_run, photos):
    """Row 40: the original's page gave all models the tokenizer and the processor of one."""
    one, two = write.load(run), write.load(other_run)
    assert all(a is not b for a, b in zip(one, two, strict=True))
    image = Image.open(photos[2])
    texts = demo.answer([one, two], DECODE, image, 8)
    assert texts == [demo.answer([each], DECODE, image, 8)[0] for each in (one, two)]


def test_no_device_is_named_in_the_code():
    """Row 40: the original's page ran on `mps` alone."""
    folder = Path(write.__file__).parent
    for name in ("write", "evaluate", "likelihood", "compare", "demo"):
        assert not re.search(r"\b(?:mps|cuda)\b", (folder / f"{name}.py").read_text()), name


def test_programs_can_ask_the_page(page, photos, run, tmp_path):
    from gradio_client import Client, handle_file

    turned = Image.new("RGB", (40, 20), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    page.launch(prevent_thread_lock=True, quiet=True, inbrowser=False, server_name="127.0.0.1", ssr_mode=False)
    try:
        client = Client(page.local_url, verbose=False)
        short = client.predict(handle_file(tmp_path / "turned.jpg"), 1, api_name="/caption")
        longer = client.predict(handle_file(tmp_path / "turned.jpg"), 12, api_name="/caption")
        assert len(short) == len(longer) == 2 and all(isinstance(text, str) for text in short + longer)
        assert list(map(len, short)) < list(map(len, longer))  # the slider is used
        with pytest.raises(Exception, match="(?i)photo|image"):
            client.predict(None, 12, api_name="/caption")
        with pytest.raises(Exception):  # noqa: B017  (whatever the page says, it goes on)
            client.predict(handle_file(tmp_path / "broken.jpg"), 12, api_name="/caption")
        assert client.predict(handle_file(photos[0]), 1, api_name="/caption")
    finally:
        page.close()


@pytest.mark.parametrize("module", ["write", "evaluate", "compare", "demo"])
def test_help_is_quick_and_names_the_arguments(module):
    done = run_module(f"language.caption.{module}", "--help")
    assert done.status == 0 and "--decode" in done.out


def test_a_preset_of_ones_own(tmp_path, captioner, photos):
    (tmp_path / "mine.yaml").write_text("method: consensus\nsamples: 3\nmax_new_tokens: 4\n")
    name, decode = load_decode(str(tmp_path / "mine.yaml"))
    assert name == "mine" and isinstance(decode, DecodeSettings)
    images = [open_rgb(photo) for photo in photos[:2]]
    assert len(write.captions(*captioner, images, decode)) == 2  # three drawn for each, one kept
