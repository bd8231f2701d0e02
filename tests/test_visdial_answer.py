"""Dialog models answer and rank: alone as in batches, from the likeliest words, resumably; mistakes are one line."""

import json
from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError, exit_with
from language.visdial import answer as answering
from language.visdial import rank as ranking
from language.visdial.answer import Answerer, AnswerSettings, answer_batch
from language.visdial.data import Encoder, parse_conversation, read_examples
from language.visdial.dialogs import GoldLeak
from language.visdial.evaluate import evaluate
from language.visdial.rank import Ranker, RankSettings, rank_file, ranks
from tests.visdial_toys import tiny_gemma, toy_dialogs

ASKED = "Q: is it sunny\nA: yes\nQ: what color is the photo"


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    file, photos = toy_dialogs(folder)
    model = tiny_gemma(folder / "model")
    # as Gemma-3 is published: whoever asks it without saying how gets an answer that is drawn
    (model / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "top_k": 64, "top_p": 0.95, "temperature": 5.0, "eos_token_id": [1]})
    )
    examples, _ = read_examples(file, photos, "all", options=True)
    return SimpleNamespace(model=str(model), file=file, photos=photos, examples=examples)


@pytest.fixture(scope="module")
def answerer(toys):
    return Answerer(AnswerSettings(model=toys.model, max_new_tokens=6))


@pytest.fixture(scope="module")
def ranker(toys):
    return Ranker(RankSettings(model=toys.model))


def lines(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def run(main, capsys, *args) -> SimpleNamespace:
    with pytest.raises(SystemExit) as stop:
        exit_with(main, [str(arg) for arg in args])
    said = capsys.readouterr()
    return SimpleNamespace(status=stop.value.code, out=said.out, err=said.err)


def test_the_likeliest_words_are_taken_and_the_prompt_is_not_among_them(toys, answerer):
    """Defects 43 and 50: the original drew at temperature 1.2 without a seed, and gave the prompt back as answer."""
    example = toys.examples[2]
    row = answerer.encoder.row(example)
    (text,) = answerer.texts([example], [row])
    ids, begin, ends = row["input_ids"], len(row["input_ids"]), answerer.model.generation_config.eos_token_id
    end_of_turn = answerer.tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert set(ends) == {1, end_of_turn}  # what is published, and the end that was learnt
    with torch.no_grad():
        for _ in range(6):  # one word after the other, without a cache
            whole = {
                "input_ids": ids,
                "token_type_ids": torch.nn.functional.pad(row["token_type_ids"], (0, len(ids) - begin)),
            }
            batch = {**answerer.encoder.batch([whole]), "pixel_values": row["pixel_values"]}
            ids = torch.cat([ids, answerer.model(**batch).logits[0, -1].argmax()[None]])
            if ids[-1] in ends:
                break
    assert text == answerer.tokenizer.decode(ids[begin:], skip_special_tokens=True).strip()
    assert "model" not in text and "Q:" not in text


def test_alone_as_in_a_batch(toys, answerer):
    some = [toys.examples[0], toys.examples[2], toys.examples[10]]
    rows = [answerer.encoder.row(example) for example in some]
    assert len({len(row["input_ids"]) for row in rows}) > 1  # so that some are padded
    together = answerer.texts(some, rows)
    assert together == [answerer.texts([e], [row])[0] for e, row in zip(some, rows, strict=True)]


def test_drawn_answers_follow_the_seed_and_no_batch(toys):
    drawn = {}
    for seed in (0, 0, 1):
        made = Answerer(AnswerSettings(model=toys.model, max_new_tokens=6, temperature=2, seed=seed))
        rows = [made.encoder.row(example) for example in toys.examples[:3]]
        texts = made.texts(toys.examples[:3], rows)
        assert texts[1] == made.texts([toys.examples[1]], [rows[1]])[0]
        drawn.setdefault(seed, []).append(texts)
    assert drawn[0][0] == drawn[0][1] != drawn[1][0]


class Told(Answerer):
    """Answers from a list; None in it is an interrupt."""

    def __init__(self, *said) -> None:
        self.said, self.asked = list(said), []

    def __call__(self, settings):
        from language.visdial.model import load_processor

        self.settings, self.encoder = settings, Encoder(load_processor(settings.model))
        return self

    def texts(self, examples, rows, stream=False):
        told, self.said = self.said[: len(rows)], self.said[len(rows) :]
        self.asked += [example.image_id for example in examples]
        if None in told:
            raise KeyboardInterrupt
        return told


def test_a_batch_goes_on_and_keeps_what_is_good(toys, tmp_path, monkeypatch):
    settings, out = AnswerSettings(model=toys.model), tmp_path / "new/answers.jsonl"
    examples, _ = read_examples(toys.file, toys.photos)
    told = Told("red", "<reasoning>green?</reasoning>\nit is green", "Error: no memory", "yellow", None, None)
    monkeypatch.setattr(answering, "Answerer", told)
    with pytest.raises(KeyboardInterrupt):
        answer_batch(settings, examples, [], out, 2, False)
    assert [row.get("answer") for row in lines(out)] == ["red", "it is green", None, "yellow"]
    assert "an error, not an answer" in lines(out)[2]["error"]
    good = lines(out)[:2]
    with out.open("a") as file:
        file.write('{"image_id": 5, "rou')  # killed while it wrote
    told.said, told.asked = ["white", "black"], []
    rows = answer_batch(settings, examples, [], out, 2, False)
    assert told.asked == [5, 6] and len(rows.results) == 5 and list(rows.errors) == [(3, 3)]
    told.said, told.asked = ["blue"], []
    rows = answer_batch(settings, examples, [], out, 2, True)
    assert told.asked == [3] and not rows.errors and lines(out)[:2] == good
    assert sorted(row["image_id"] for row in lines(out)) == [1, 2, 3, 4, 5, 6]
    assert json.loads((out.parent / "answers.figures.json").read_text()) == {"answered": 6, "failed": 0}
    told.asked = []
    answer_batch(settings, examples, [], out, 2, True)
    assert told.asked == []
    with pytest.raises(UserError, match="seed was 0, is 1"):
        answer_batch(AnswerSettings(model=toys.model, seed=1), examples, [], out, 2, False)
    out.with_name("answers.jsonl.yaml").unlink()
    with pytest.raises(UserError, match="does not say what made it"):
        answer_batch(settings, examples, [], out, 2, False)
    report = json.loads(evaluate(out, toys.file, out=tmp_path / "evaluated").read_text())
    assert report["metrics"]["same_as_gold"] == pytest.approx(5 / 6, abs=1e-3)  # all but "it is green"
    assert report["counts"]["measured"] == 6 and report["counts"]["leaks"] == 0


def test_photos_that_fail_are_rows_and_the_others_are_answered(toys, tmp_path, capsys):
    file, photos = toy_dialogs(tmp_path / "toys")
    (photos / "COCO_train2014_000000000002.jpg").unlink()
    out = tmp_path / "answers.jsonl"
    given = ["--model", toys.model, "--batch", file, "--photos", photos, "--out", out, "--max-new-tokens", 3]
    done = run(answering.main, capsys, *given, "--limit", 3)
    assert done.status == 1 and "1 failed (image 2, round 3: no photo" in done.out
    assert [(row["image_id"], "error" in row) for row in lines(out)] == [(2, True), (1, False), (3, False), (4, False)]


def test_rows_of_jsonl_are_answered(toys, tmp_path, capsys):
    file, out = tmp_path / "asked.jsonl", tmp_path / "out.jsonl"
    name = "COCO_train2014_000000000001.jpg"
    rows = [{"image_id": 1, "conversation": ASKED}, {"image_id": "mine", "image": name, "conversation": "Q: is it red"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--model", toys.model, "--batch", file, "--photos", toys.photos, "--out", out, "--max-new-tokens", 3]
    assert run(answering.main, capsys, *given).status == 0
    assert [(row["image_id"], row["round"], row["conversation"]) for row in lines(out)] == [
        (1, 2, ASKED),
        ("mine", 1, "Q: is it red"),
    ]


def test_one_conversation_is_answered_and_streamed(toys, tmp_path, capsys):
    photo = toys.photos / "COCO_train2014_000000000001.jpg"
    (tmp_path / "talk.txt").write_text(ASKED.replace("\n", "\n\n"))  # blank lines between, as the original wrote
    given = ["--model", toys.model, "--image", photo, "--max-new-tokens", 4]
    one = run(answering.main, capsys, *given, "--conversation", ASKED)
    other = run(answering.main, capsys, *given, "--conversation", tmp_path / "talk.txt")
    streamed = run(answering.main, capsys, *given, "--conversation", ASKED, "--stream")
    assert one.status == other.status == streamed.status == 0
    assert one.out == other.out and one.out.strip() == streamed.out.strip() != ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Q: is it red\nA: yes", GoldLeak),  # answered
        ("Q: is it red\nA: yes\n\nQ: is it far\nA: no\n", GoldLeak),  # answered, with earlier rounds
        ("what is it", UserError),  # no marks
        ("Q: one\nQ: two", UserError),  # a question after a question
        ("A: yes\nQ: two", UserError),  # begins with an answer
        ("Q: one\nA: yes\nQ:", UserError),  # an empty question
        ("", UserError),  # nothing
    ],
)
def test_conversations_that_cannot_be_asked(text, error):
    with pytest.raises(error) as caught:
        parse_conversation(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--image", "none.jpg", "--conversation", "Q: is it"], "no photo none.jpg"),  # no photo
        (
            ["--image", "PHOTO", "--conversation", "none.txt"],
            "neither a text that begins with `Q:` nor a file",
        ),  # no file
        (["--image", "PHOTO", "--conversation", "Q: is it\nA: yes"], "is answered"),  # its own answer in it
        (["--image", "PHOTO", "--conversation", "Q: <end_of_turn>"], "a mark of the model's own"),  # its marks
        (["--image", "PHOTO"], "give --image and --conversation"),  # half of it
        (["--batch", "FILE", "--out", "o.jsonl", "--stream"], "give --image and --conversation"),  # one and many
        (["--batch", "FILE", "--out", "o.jsonl"], "say where they lie"),  # no folder
        (["--batch", "FILE", "--out", "o.jsonl", "--photos", "none"], "no folder of photos: none"),  # not there
        (["--image", "PHOTO", "--conversation", "Q: is it", "--temperature", "-1"], "--temperature: "),  # negative
        (["--image", "PHOTO", "--conversation", "Q: is it", "--top-p", "0"], "--top-p: "),  # none of the words
        (["--image", "PHOTO", "--conversation", "Q: is it", "--model", "/no/model"], "cannot load the model"),  # none
    ],
)
def test_mistakes_are_one_line(toys, given, message, capsys):
    places = {"PHOTO": toys.photos / "COCO_train2014_000000000001.jpg", "FILE": toys.file}
    done = run(answering.main, capsys, "--model", toys.model, *(places.get(part, part) for part in given))
    told = done.err.strip().splitlines()
    assert done.status == 2 and message in told[-1] and told[-1].startswith("error: ")


@pytest.mark.parametrize("score", ["sum", "mean"])
def test_options_score_as_if_each_stood_alone_in_full(toys, score):
    ranker, example = Ranker(RankSettings(model=toys.model, score=score)), toys.examples[2]
    options = (*example.options, "two men, and it is red", "", "a")
    for size in (1, 4, 100):
        found = ranker.scores(example, options, size)
        for option, value in zip(options, found, strict=True):
            row = ranker.encoder.row(
                SimpleNamespace(asked=example.asked, photo=example.photo, answer=option), learn=True
            )
            batch = ranker.encoder.batch([row])
            labels = batch.pop("labels")[0, 1:]
            with torch.no_grad():
                log = ranker.model(**batch).logits[0, :-1].log_softmax(-1)
            each = log.gather(1, labels.clamp(min=0)[:, None])[:, 0][labels != -100]
            assert value == pytest.approx(float(each.sum() if score == "sum" else each.mean()), abs=1e-3), option
    assert len(row["input_ids"]) > ranker.model.config.text_config.sliding_window  # the cache forgets, as in full


def test_ranks_are_a_permutation_and_equal_scores_keep_their_order():
    assert ranks([-3.0, -1.0, -2.0, -1.0]) == [4, 1, 3, 2]
    assert ranks([0.0] * 100) == list(range(1, 101))


def test_ranks_are_written_resumed_and_read_by_the_evaluation(toys, tmp_path, monkeypatch, ranker):
    settings, out = RankSettings(model=toys.model), tmp_path / "ranks.json"
    really, asked = ranker.scores, []

    def scores(example, options, size):
        asked.append((example.image_id, example.turn))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return [float("nan")] * 8 if len(asked) == 2 else really(example, options, size)

    monkeypatch.setattr(ranking, "Ranker", lambda settings: SimpleNamespace(scores=scores))
    with pytest.raises(KeyboardInterrupt):
        rank_file(settings, toys.examples, [], out, 100, False)
    assert not out.exists()
    rows = rank_file(settings, toys.examples, [], out, 100, False)
    assert len(asked) == 4 + 18 - 3 and [*rows.errors] == [(1, 2)]
    rows = rank_file(settings, toys.examples, [], out, 100, True)
    written = json.loads(out.read_text())
    assert not rows.errors and [(row["image_id"], row["round_id"]) for row in written] == [
        (n, r) for n in range(1, 7) for r in range(1, 4)
    ]
    assert all(sorted(row["ranks"]) == list(range(1, 9)) for row in written)
    figures = [
        json.loads(evaluate(file, toys.file, out=tmp_path / "evaluated").read_text())["metrics"]
        for file in (out, tmp_path / "ranks.scores.jsonl")
    ]
    assert figures[0]["mrr"] == pytest.approx(figures[1]["mrr"]) and 0 < figures[0]["mrr"] <= 1
    with pytest.raises(UserError, match="score was 'sum', is 'mean'"):
        rank_file(RankSettings(model=toys.model, score="mean"), toys.examples, [], out, 100, False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.jsonl", "has no answer options"),
        ("none.json", "cannot read"),
        ("bare.json", "no question with answer options"),
    ],
)
def test_files_without_options_are_refused(toys, tmp_path, capsys, name, message):
    bare = json.loads(toys.file.read_text())
    for dialog in bare["data"]["dialogs"]:
        for turn in dialog["dialog"]:
            del turn["answer_options"], turn["gt_index"]
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    given = ["--model", toys.model, "--photos", toys.photos, "--out", tmp_path / "r.json"]
    done = run(ranking.main, capsys, "--dialogs", tmp_path / name, *given)
    assert done.status == 2 and message in done.err and not (tmp_path / "r.json").exists()


def test_out_of_memory_says_what_to_lower(toys, tmp_path, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(ranking, "Ranker", lambda settings: SimpleNamespace(scores=full))
    with pytest.raises(UserError, match=r"out of memory; lower --batch-size \(now 25\)"):
        rank_file(RankSettings(model=toys.model), toys.examples, [], tmp_path / "ranks.json", 25, False)
