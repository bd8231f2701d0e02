"""Dialogs: read, asked without their gold answers, and written as data to train on and to be measured."""

import json
import random

import pytest

from common.errors import UserError
from configs.load import load_settings
from datagen import visdial
from datagen.jobs import plan, run_job
from datagen.visdial import VisdialJob, VisdialSettings
from language.visdial.dialogs import Dialog, GoldLeak, Round, conversation, guard, is_answered, read_dialogs
from tests.conftest import PHOTOS, ROOT
from tests.helpers import Answers, run_module
from tests.visdial_files import dialog_file

CONFIGS = ROOT / "configs/datagen"
ROUNDS = [("is it sunny", "yes"), ("how many people", "yes, two men"), ("what do they  hold", "a red kite")]
ANSWER = {"answer": "it looks like a kite"}
REASONED = {"reasoning": "They are the two men on the beach. Strings run from their hands to the sky.", **ANSWER}


def job(tmp_path, config="base", dialogs=None, **fields) -> VisdialJob:
    file = dialog_file(tmp_path / "d.json", dialogs or {9: ROUNDS})
    fields = {"out": tmp_path / "out", "dialogs": file, "photos": "null", "concurrency": 1, **fields}
    overrides = [f"{name}={value}" for name, value in fields.items()]
    return VisdialJob(load_settings(CONFIGS / f"visdial_{config}.yaml", VisdialSettings, overrides))


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_dialogs_are_read(tmp_path):
    (dialog,) = read_dialogs(dialog_file(tmp_path / "d.json", {9: [*ROUNDS, ("is it far", None)]}))
    assert dialog.image_id == 9 and dialog.rounds[2] == Round("what do they hold", "a red kite")
    assert dialog.rounds[3].answer is None
    assert conversation(dialog, 1) == "Q: is it sunny"
    assert conversation(dialog, 2) == "Q: is it sunny\nA: yes\nQ: how many people"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is no VisDial 1.0 file"),
        ("[]", "is no VisDial 1.0 file"),
        ('{"data": {"questions": [], "answers": [], "dialogs": [{"image_id": 1, "dialog": []}]}}', "dialog 0 breaks"),
        (
            '{"data": {"questions": [], "answers": [], "dialogs": [{"image_id": 1, "dialog": [{"question": 3}]}]}}',
            "dialog 0 breaks the format: IndexError",
        ),
    ],
)
def test_other_files_are_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "d.json").write_text(content)
    done = run_module(
        "datagen.visdial", "--config", CONFIGS / "visdial_base.yaml", f"dialogs={tmp_path / 'd.json'}", "--plan"
    )
    assert done.refuses(message)


@pytest.mark.parametrize("config", ["base", "reasoning", "evaluation"])
def test_the_gold_answer_is_nowhere_in_what_is_asked(tmp_path, config):
    """Defects 44 and 45: the original asked for the last answer with that answer in the prompt."""
    made = job(tmp_path, config, rounds="all")
    items = list(made.items())
    assert [item.key for item in items] == ["9_1", "9_2", "9_3"]
    for item, (_, gold) in zip(items, ROUNDS, strict=True):
        question = item.request.messages[-1]["content"]
        assert question.count("Q:") == question.count("A:") + 1 and not is_answered(item.request.text)
        assert gold == "yes" or gold not in item.request.text + json.dumps(item.source)
    remark = made.remark(made.check('{"answer": ""}', items[2].source)[1], items[2].source)
    assert "a red kite" not in remark


def test_the_guard_raises_when_the_gold_answer_comes_in(tmp_path, monkeypatch):
    told = lambda dialog, turn: "\n".join(f"Q: {r.question}\nA: {r.answer}" for r in dialog.rounds[:turn])
    monkeypatch.setattr(visdial, "conversation", told)  # as the original's gen_base told it
    with pytest.raises(GoldLeak, match="image 9, round 3: the question is answered"):
        run_job(job(tmp_path), provider=Answers(lambda _: pytest.fail("asked all the same")))
    hinted = lambda dialog, turn: conversation(dialog, turn) + f"\n(psst: {dialog.rounds[turn - 1].answer.upper()})"
    monkeypatch.setattr(visdial, "conversation", hinted)
    with pytest.raises(GoldLeak, match="the gold answer 'a red kite' stands in the prompt"):
        run_job(job(tmp_path), provider=Answers(lambda _: pytest.fail("asked all the same")))
    with pytest.raises(GoldLeak, match="'yes'"):  # though it stands in an earlier round, too
        run_job(job(tmp_path, dialogs={9: [("is it sunny", "yes"), ("is it warm", "yes")]}), provider=Answers(str))


def test_the_guard_lets_pass_what_may_be_known():
    rng = random.Random(0)
    words = ["yes", "no", "a", "q", "a man", "not sure", "n: a", "2", "i see a dog"]
    for _ in range(300):
        rounds = [Round(f"is it {rng.choice(words)}", rng.choice(words)) for _ in range(rng.randint(1, 10))]
        dialog, turn = Dialog(1, "", tuple(rounds)), len(rounds)
        guard(f"Question: {(asked := conversation(dialog, turn))}\nA:", dialog, turn, "Question: \nA:")
        with pytest.raises(GoldLeak):
            guard(f"Question: {asked}\nA: {rounds[-1].answer}", dialog, turn, "Question: \nA:")
        with pytest.raises(GoldLeak):
            guard(f"{rounds[-1].answer}\nQuestion: {asked}\nA:", dialog, turn, "Question: \nA:")


def test_base_data(tmp_path):
    made = job(tmp_path, dialogs={9: ROUNDS, 10: [("is it far", None)]}, rounds="all")
    assert run_job(made, provider=Answers(lambda _: ANSWER))
    rows = lines(tmp_path / "out/data.jsonl")
    assert [(r["image_id"], r["round"], r["gold"]) for r in rows][2:] == [(9, 3, "a red kite"), (10, 1, None)]
    assert rows[0]["response"] == ANSWER["answer"] and "reasoning" not in rows[0]
    chat = lines(tmp_path / "out/train.jsonl")[1]["messages"]
    assert chat[0]["content"] == [{"type": "text", "text": rows[1]["conversation"]}]
    assert chat[1]["content"] == [{"type": "text", "text": ANSWER["answer"]}]


def test_reasoning_data_and_its_figures(tmp_path):
    replies = iter([{"reasoning": "", **ANSWER}, REASONED, {**REASONED, "answer": "a red KITE."}])
    made = job(tmp_path, "reasoning", {9: ROUNDS, 10: ROUNDS[:2] + [("what is that", "a red kite")]}, tag="reminder")
    assert run_job(made, provider=Answers(lambda _: next(replies)))
    told = [row["messages"][1]["content"][0]["text"] for row in lines(tmp_path / "out/train.jsonl")]
    assert told[0] == f"<reminder>{REASONED['reasoning']}</reminder>\n{ANSWER['answer']}"
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert figures == {
        "answers": 2,
        "valid_at_first_try": 0.5,
        "valid_after_retry": 1.0,
        "mean_earlier_rounds": 2.0,
        "mean_answer_words": 4.0,
        "reasoning_coverage": 1.0,
        "mean_reasoning_words": 16.0,
        "same_as_gold": 0.5,
    }


def test_evaluation_keeps_predictions_and_gold_apart(tmp_path):
    made = job(tmp_path, "evaluation", {9: ROUNDS, 10: [("is it far", None)]})
    assert made.settings.temperature == made.settings.retry_temperature == 0  # defect 50: measured by greedy answers
    assert run_job(made, provider=Answers(lambda _: ANSWER))
    assert [set(row) for row in lines(tmp_path / "out/predictions.jsonl")] == [
        {"image_id", "round", "conversation", "response"}
    ] * 2
    assert "a red kite" not in (tmp_path / "out/predictions.jsonl").read_text("utf-8")
    assert lines(tmp_path / "out/gold.jsonl") == [{"image_id": 9, "round": 3, "answer": "a red kite"}]


def test_errors_are_no_answers_and_cost_no_good_ones(tmp_path):
    """Defect 49: the original saved "Error: …" as an answer, and an empty list over good results."""
    dialogs = {9: ROUNDS, 10: ROUNDS}
    assert run_job(job(tmp_path, dialogs=dialogs), limit=1, provider=Answers(lambda _: ANSWER))
    before = (tmp_path / "out/data.jsonl").read_bytes()

    class Broken:
        def complete(self, request):
            raise ValueError("the model fell over")

    assert not run_job(job(tmp_path, dialogs={**dialogs, 10: ROUNDS[:2]}), provider=Broken())
    assert (tmp_path / "out/data.jsonl").read_bytes() == before
    (failed,) = lines(tmp_path / "out/failed.jsonl")
    assert failed["key"] == "10_2" and "the model fell over" in failed["reason"]


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ('{"answer": " "}', "the answer is empty"),
        (json.dumps({"answer": "word " * 26}), "the answer has 26 words; write at most 25"),
        ('{"answer": "<reasoning>hm</reasoning> yes"}', "has marks"),
        ('{"answer": "yes\\nQ: what else"}', "has marks"),
        ('{"answer": "yes", "gold": "no"}', "gold: Extra inputs"),
        ('{"response": "yes"}', "answer: Field required"),
        ("Error: connection refused", "not one complete JSON object"),
    ],
)
def test_bad_replies_are_told_why(tmp_path, reply, problem):
    assert any(problem in told for told in job(tmp_path).check(reply, {})[1])


def test_photos_go_with_the_question(tmp_path):
    folder = tmp_path / "photos/train2014"
    folder.mkdir(parents=True)
    jpeg = (PHOTOS / "cat.jpg").read_bytes()
    (folder / "COCO_train2014_000000000009.jpg").write_bytes(jpeg)
    (folder / "VisualDialog_val2018_000000000010.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "000000000011.jpg").write_bytes(b"\x89PNG\r\n\x1a\n")
    made = job(tmp_path, dialogs=dict.fromkeys((9, 10, 11, 12), ROUNDS), photos=tmp_path / "photos")
    good, *bad = made.items()
    photo, text = good.request.messages[-1]["content"]
    assert photo["type"] == "image" and text["text"].endswith("Q: what do they hold")
    assert [item.problem.split(" ")[:2] for item in bad[:2]] == [
        ["VisualDialog_val2018_000000000010.jpg", "is"],
        ["000000000011.jpg", "is"],
    ]
    assert bad[2].problem == f"no photo of image 12 in {tmp_path / 'photos'}"
    assert "rows 4" in " ".join(plan(made).split())
    assert not run_job(made, provider=Answers(lambda _: ANSWER))
    (row,) = lines(tmp_path / "out/train.jsonl")
    assert row["image"] == "train2014/COCO_train2014_000000000009.jpg"
    assert row["messages"][0]["content"][0] == {"type": "image", "image": row["image"]}
    assert len(lines(tmp_path / "out/failed.jsonl")) == 3


def test_a_wrong_photo_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no folder of photos"):
        job(tmp_path, photos=tmp_path / "none")
