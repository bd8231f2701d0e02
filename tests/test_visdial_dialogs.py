"""VisDial files are read as they are or refused in one line; answers are told from what stands around them."""

import json

import pytest

from common.errors import UserError
from language.visdial.answers import extract
from language.visdial.dialogs import Round, is_answered, read_dense, read_dialogs
from tests.visdial_files import dialog_file, write_rows

OPTIONS = ["no", "yes", "a red  kite"]
ROUNDS = [("is it sunny", "yes", OPTIONS), ("what do they hold", "a red  kite", OPTIONS)]
CONVERSATION = "Q: is it sunny\nA: yes\n\nQ: what do they hold"


def test_options_and_gold_of_val(tmp_path):
    (dialog,) = read_dialogs(dialog_file(tmp_path / "val.json", {9: ROUNDS}))
    assert dialog.rounds[1] == Round("what do they hold", "a red kite", ("no", "yes", "a red kite"), 2)
    (short,) = read_dialogs(tmp_path / "val.json", options=False)
    assert short.rounds[1] == Round("what do they hold", "a red kite") and short.caption == dialog.caption


def test_train_and_test_splits(tmp_path):
    """Train may come without options; in test the last question has options and its answer is secret."""
    train = read_dialogs(dialog_file(tmp_path / "train.json", {9: [r[:2] for r in ROUNDS]}))
    assert train[0].rounds[0].options is None and train[0].rounds[0].gold is None
    (test,) = read_dialogs(dialog_file(tmp_path / "test.json", {9: [ROUNDS[0][:2], ("is it far", None, OPTIONS)]}))
    assert test.rounds[1].answer is test.rounds[1].gold is None and len(test.rounds[1].options) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gt_index": 0}, "gt_index 0 is not where the answer stands"),  # another option is called true
        ({"gt_index": -1}, "gt_index -1 is not where the answer stands"),  # counts from the end in Python
        ({"gt_index": 7}, "IndexError"),
        ({"answer_options": [0, 99]}, "IndexError"),  # no such answer
        ({"answer_options": 3}, "TypeError"),
        ({"question": "what"}, "TypeError"),
    ],
)
def test_broken_rounds_are_named(tmp_path, change, message):
    file = dialog_file(tmp_path / "val.json", {8: ROUNDS, 9: ROUNDS})
    whole = json.loads(file.read_text())
    whole["data"]["dialogs"][1]["dialog"][1] |= change
    file.write_text(json.dumps(whole))
    with pytest.raises(UserError, match="dialog 1 breaks the format") as error:
        read_dialogs(file)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is no VisDial 1.0 file"),  # cut
        ("[]", "is no VisDial 1.0 file"),
        ('{"data": {"questions": [1], "answers": [], "dialogs": []}}', "is no VisDial 1.0 file"),  # no texts
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "d.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_dialogs(tmp_path / "d.json")


def test_another_version_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is VisDial 0\.9, but only 1\.0 is read"):
        read_dialogs(dialog_file(tmp_path / "d.json", {9: ROUNDS}, version="0.9"))


def test_dense_annotations(tmp_path):
    rows = [
        {"image_id": 9, "round_id": 2, "gt_relevance": [0, 0.5, 1]},  # val
        {"image_id": 8, "round_id": 1, "relevance": [1, 0, 0]},  # the train split's sample
    ]
    assert read_dense(write_rows(tmp_path / "d.json", rows)) == {(9, 2): (0.0, 0.5, 1.0), (8, 1): (1.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"data": []}, "is no file of VisDial 1.0's dense annotations"),  # the dialogs were given
        ([{"image_id": 9, "round_id": 1}], "row 0 breaks the format: KeyError 'gt_relevance'"),
        ([{"image_id": 9, "round_id": 1, "relevance": []}], "row 0 breaks the format"),
        ([{"image_id": 9, "round_id": 1, "relevance": [float("nan")]}], "a list of numbers from 0 to 1"),
        ([{"image_id": 9, "round_id": 1, "relevance": [-0.1]}], "a list of numbers from 0 to 1"),
        ([{"image_id": 9, "round_id": 1, "relevance": [1]}] * 2, "image 9, round 1 stands there twice"),
    ],
)
def test_bad_dense_annotations_are_one_line(tmp_path, rows, message):
    with pytest.raises(UserError) as error:
        read_dense(write_rows(tmp_path / "d.json", rows))
    assert message in str(error.value) and "\n" not in str(error.value)


PROMPT = f"user\n\nYou are given a conversation.\n\n{CONVERSATION}\n\n\nmodel\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a red kite", "a red kite"),
        ("  a red kite\n", "a red kite"),
        ("<reasoning>They hold strings.</reasoning>\na red kite", "a red kite"),
        ("<reminder>They hold strings.</reminder>\na red kite", "a red kite"),  # defect 43: only reasoning was cut
        ("<REMINDER >They hold.</ reminder>a red kite", "a red kite"),  # sloppy tags
        ("<think>a</think>\n<reasoning>b</reasoning>\na red kite", "a red kite"),  # several
        ("<reasoning>a</reasoning> blue? <reasoning>b</reasoning> a red kite", "a red kite"),  # a second thought
        ("<reasoning>a <reminder>b</reminder></reasoning>a red kite", "a red kite"),  # one in the other
        ("They hold strings.</reasoning>\na red kite", "a red kite"),  # the prompt opened the tag
        ("a red kite\n<reasoning>because of the strings</reasoning>", "a red kite"),  # the answer first
        ("a red kite <reasoning>because of", "a red kite"),  # cut in the thought behind it
        (PROMPT + "a red kite", "a red kite"),  # the whole prompt came back
        (PROMPT + "<reminder>They hold strings.</reminder>\na red kite", "a red kite"),  # as in the published file
        (PROMPT + "model", "model"),  # a word of the template as answer
        ("user\nhello\nmodel\nhi\n" + PROMPT + "a red kite", "a red kite"),  # a chat of several turns
        ("<bos><start_of_turn>user\nx<end_of_turn>\n<start_of_turn>model\na red kite<end_of_turn>", "a red kite"),
        (CONVERSATION + "\na red kite", "a red kite"),  # only the conversation came back
        ("the user said so", "the user said so"),
        ("a <b>red</b> kite", "a <b>red</b> kite"),  # no tag of a thought
    ],
)
def test_the_answer_is_found(text, answer):
    found = extract(text, CONVERSATION)
    assert (found.answer, found.problem) == (answer, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the answer is empty"),
        (" \n", "the answer is empty"),
        ("<reasoning>They hold strings.</reasoning>\n", "nothing stands outside the reasoning tags"),
        ("<reminder>They hold strings", "nothing stands outside the reasoning tags"),  # cut before the answer
        (PROMPT, "the answer is empty"),
        (f"user\n{CONVERSATION}", "nothing but the prompt came back"),  # cut before the model's turn
        ("Error: connection refused", "an error, not an answer: Error: connection refused"),  # defect 49
        (PROMPT + "error: out of memory", "an error, not an answer"),
        ("<reasoning>x</reasoning>\nException: boom", "an error, not an answer"),
    ],
)
def test_what_is_no_answer_is_told(text, problem):
    found = extract(text, CONVERSATION)
    assert found.answer == "" and found.problem.startswith(problem)


def test_what_stood_around_the_answer_is_known():
    found = extract(PROMPT + "<reminder>They hold", CONVERSATION)
    assert found.prompt.endswith("model") and found.thought and found.unclosed
    plain = extract("a red kite", CONVERSATION)
    assert not plain.prompt and not plain.thought and not plain.unclosed


def test_published_answers(shared):
    """Defects 43 and 44: the fine-tuned model's texts are mostly prompt and thought, and the gold answer is in them."""
    for name, echoes, words in (("val_4b_finetune", 300, 5), ("val_4b_base", 0, 8)):
        rows = json.loads((shared / f"data/visdial_outputs/{name}.json").read_text("utf-8"))
        found = [extract(row["response"], row["conversation"]) for row in rows]
        assert sum(bool(f.prompt) for f in found) == echoes and not any(f.problem for f in found)
        assert sum(len(f.answer.split()) for f in found) / len(found) < words + 0.1
        assert sum(is_answered(row["conversation"]) for row in rows) == echoes
