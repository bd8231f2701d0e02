"""Predictions are measured whole, failures and leaks are counted and named, bad files are one line."""

import json

import pytest

from common.errors import UserError
from language.visdial.evaluate import distribution, evaluate, main
from language.visdial.predictions import Groundtruth, leak, read_predictions
from tests.helpers import run_module
from tests.visdial_files import dialog_file, write_rows

OPTIONS = ["no", "yes", "a red kite", "two men"]
ROUNDS = [("is it sunny", "yes", OPTIONS), ("what do they hold", "a red kite", OPTIONS)]
ASKED = "Q: is it sunny\nA: yes\nQ: what do they hold"
NO_MODEL = "no-such-model"


@pytest.fixture
def truth(tmp_path):
    return dialog_file(tmp_path / "val.json", {9: ROUNDS, 10: ROUNDS, 11: ROUNDS})


def report(tmp_path, truth, rows, name="p.jsonl", **more) -> dict:
    file = write_rows(tmp_path / name, rows)
    return json.loads(evaluate(file, truth, out=tmp_path / "out", bertscore=NO_MODEL, **more).read_text("utf-8"))


def rows_of(tmp_path, name="p") -> list[dict]:
    return [json.loads(line) for line in (tmp_path / f"out/{name}/rows.jsonl").read_text("utf-8").splitlines()]


def test_answers_are_measured_by_known_values(tmp_path, truth):
    """Defect 42: references were cut to their first character, and BLEU scored the first item only."""
    told = dialog_file(
        tmp_path / "long.json", {n: [("what do they hold", "a red kite on strings")] for n in (9, 10, 11)}
    )
    perfect = [{"image_id": n, "response": "A red kite, on strings."} for n in (9, 10, 11)]
    found = report(tmp_path, told, perfect)["metrics"]
    names = ("rouge1", "rouge2", "rougeL", "bleu_word", "bleu_char", "chrf", "same_as_gold")
    assert all(found[name] == pytest.approx(1) for name in names)
    assert "tok:13a" in found["bleu_word_signature"] and found["rouge_tokenizer"] == "rouge_score"
    last_wrong = [*perfect[:2], {**perfect[2], "response": "i think it is blue"}]
    found = report(tmp_path, told, last_wrong)["metrics"]
    assert found["rouge1"] == pytest.approx(2 / 3) and found["same_as_gold"] == pytest.approx(2 / 3)
    assert found["bleu_word"] < 0.9 and found["chrf"] < 0.9
    half = report(tmp_path, truth, [{"image_id": 9, "response": "a kite"}])["metrics"]
    assert (half["rouge1_precision"], half["rouge1_recall"]) == (1, pytest.approx(2 / 3))


def test_several_references_and_several_formats(tmp_path):
    gold = write_rows(tmp_path / "gold.json", [{"image_id": "9", "answer": ["yes", "two men"]}])
    for name in ("p.json", "p.jsonl"):
        assert report(tmp_path, gold, [{"image_id": 9, "answer": "two men"}], name)["metrics"]["rouge1"] == 1
    rounds = write_rows(
        tmp_path / "r.jsonl", [{"image_id": 9, "round": n, "answer": a} for n, a in ((1, "yes"), (2, "no"))]
    )
    predicted = [{"image_id": 9, "round_id": 2, "response": "no"}, {"image_id": 9, "round_id": 1, "response": "yes"}]
    assert report(tmp_path, rounds, predicted)["metrics"]["same_as_gold"] == 1


def test_failures_are_no_answers(tmp_path, truth, capsys):
    """Defect 49: strings that tell of an error were saved and scored as answers."""
    predicted = [
        {"image_id": 9, "round": 2, "response": "a red kite"},
        {"image_id": 9, "round": 1, "response": "Error: connection refused"},
        {"image_id": 10, "round": 1, "error": "no photo of image 10"},
        {"image_id": 10, "round": 2, "response": ""},
        {"image_id": 11, "round": 1, "response": None},
        {"image_id": 11, "round": 2, "response": "<reminder>They hold"},
        {"image_id": 12, "round": 1, "response": "yes"},
    ]
    found = report(tmp_path, truth, predicted)
    assert found["metrics"]["rouge1"] == 1 and found["distribution"]["chrf"]["min"] == 1
    expected = {"rows": 7, "measured": 1, "failed": 5, "without_groundtruth": 1, "unclosed_tags": 1}
    assert expected.items() <= found["counts"].items()
    assert [row["row"] for row in found["failed"]][:2] == ["row 2 (image 9, round 1)", "row 3 (image 10, round 1)"]
    assert "no photo of image 10" in found["failed"][1]["problem"]
    assert [row["status"] for row in rows_of(tmp_path)] == ["ok", *["failed"] * 5, "without groundtruth"]
    files = ["--predictions", str(tmp_path / "p.jsonl"), "--groundtruth", str(truth), "--out", str(tmp_path / "out")]
    assert main([*files, "--bertscore", NO_MODEL]) == 1
    assert "failed: row 2 (image 9, round 1): an error, not an answer" in capsys.readouterr().err


def test_a_second_try_stands_for_a_failed_first(tmp_path, truth):
    predicted = [{"image_id": 9, "error": "out of memory"}, {"image_id": 9, "response": "a red kite"}]
    assert report(tmp_path, truth, predicted)["counts"]["failed"] == 0


@pytest.mark.parametrize(
    ("conversation", "response", "reason"),
    [
        (ASKED, "a red kite", ""),
        ("", "a red kite", ""),  # nothing is known of the prompt
        (ASKED.replace("\nQ", "\n\nQ"), "a red kite", ""),  # as the original wrote it
        (f"men on a beach\n{ASKED}", "a red kite", ""),  # with the caption
        (f"{ASKED}\nA: a red kite", "blue", "the last question of the conversation is answered in it"),
        (f"A Red Kite?\n{ASKED}", "blue", "the gold answer 'a red kite' stands in the prompt"),  # elsewhere
        ("", f"user\nLook.\n{ASKED}\nA: a red kite\n\nmodel\nblue", "the last question of the echoed prompt"),
        ("", f"user\nLook.\n{ASKED}\n\nmodel\na red kite", ""),  # an echo without the answer
    ],
)
def test_leaks(tmp_path, truth, conversation, response, reason):
    """Defects 44 and 45: the gold answer stood in the prompt that asked for it."""
    rows = [{"image_id": 9, "round": 2, "conversation": conversation, "response": response}]
    (prediction,) = read_predictions(write_rows(tmp_path / "p.json", rows))
    found = leak(prediction, Groundtruth(truth).of(prediction))
    assert reason in found if reason else not found


def test_leaks_are_told_by_row_and_in_all(tmp_path, truth, capsys):
    predicted = [
        {"image_id": 9, "response": "blue", "conversation": f"{ASKED}\nA: a red kite"},
        {"image_id": 10, "response": "blue", "conversation": ASKED},
    ]
    found = report(tmp_path, truth, predicted)
    assert found["counts"]["leaks"] == 1 and found["leaks"][0]["row"] == "row 1 (image 9)"
    assert [bool(row["leak"]) for row in rows_of(tmp_path)] == [True, False]
    files = ["--predictions", str(tmp_path / "p.jsonl"), "--groundtruth", str(truth), "--out", str(tmp_path / "out")]
    assert main([*files, "--bertscore", NO_MODEL]) == 1
    assert "leak: 1 of 2 rows know the gold answer" in capsys.readouterr().err


def test_published_outputs(tmp_path, shared):
    """The leak is in all rows of the fine-tuned model's file and in none of the base model's."""
    files = {name: shared / f"data/visdial_outputs/val_4b_{name}.json" for name in ("finetune", "base")}
    told = json.loads(files["finetune"].read_text("utf-8"))
    gold = [{"image_id": row["image_id"], "answer": row["conversation"].rpartition("A:")[2].strip()} for row in told]
    truth, found = write_rows(tmp_path / "gold.jsonl", gold), {}
    for name, file in files.items():
        found[name] = json.loads(evaluate(file, truth, out=tmp_path, bertscore=NO_MODEL).read_text("utf-8"))
    counts = {name: each["counts"] for name, each in found.items()}
    assert (counts["finetune"]["leaks"], counts["base"]["leaks"]) == (300, 0)
    assert counts["finetune"]["echoed_prompts"] == counts["finetune"]["with_reasoning_tags"] == 300
    assert counts["base"]["measured"] == counts["finetune"]["measured"] == 300
    assert found["finetune"]["metrics"]["rouge1"] == pytest.approx(0.505, abs=0.002)  # published: .4847 on all 1,500
    assert found["base"]["metrics"]["rouge1"] < 0.1


def ranked(truth, *, scores=None, ranks=None, image_id=9, turn=2) -> dict:
    return {"image_id": image_id, "round_id": turn, **({"ranks": ranks} if ranks else {"scores": scores})}


def test_ranked_options(tmp_path, truth):
    dense = write_rows(tmp_path / "dense.json", [{"image_id": 9, "round_id": 2, "gt_relevance": [0, 0, 1, 0.5]}])
    predicted = [
        ranked(truth, ranks=[4, 3, 2, 1]),  # the gold option is second
        ranked(truth, ranks=[2, 1, 3, 4], turn=1),  # first
        ranked(truth, scores=[0, -1, 0, -1], image_id=10),  # tied for the first two
    ]
    found = report(tmp_path, truth, predicted, dense=dense)
    metrics = found["metrics"]
    assert metrics["mean"] == pytest.approx((2 + 1 + 1.5) / 3) and metrics["mrr"] == pytest.approx((0.5 + 1 + 0.75) / 3)
    assert metrics["r@1"] == pytest.approx((0 + 1 + 0.5) / 3) and metrics["rows"] == 3
    assert 0 < metrics["ndcg"] < 1 and (metrics["ndcg_rows"], metrics["ndcg_skipped"]) == (1, 0)
    assert found["lower_is_better"] == ["mean"] and found["best"][0]["rank"] == 1 and found["worst"][0]["rank"] == 2
    assert "ndcg" not in report(tmp_path, truth, predicted)["metrics"]
    both = [{**ranked(truth, ranks=[1, 2, 3, 4]), "scores": [0, 0, 0, 0]}]
    assert report(tmp_path, truth, both)["metrics"]["mean"] == 2.5  # ranks do not tell ties


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ([], "holds no predictions"),
        ({"data": []}, "holds no predictions"),  # the dialogs themselves
        ([3], "row 1 must be an object, but is a int"),
        ([{"response": "yes"}], "row 1: image_id must be a number or a name, but got None"),
        ([{"image_id": 9, "round": 0, "response": "yes"}], "the round must be a whole number from 1, but got 0"),
        ([{"image_id": 9, "response": "yes"}] * 2, "row 2: image 9 stands there twice"),
        (
            [{"image_id": 9, "response": "y"}, {"image_id": 10, "ranks": [1, 2, 3, 4]}],
            "both ranked options and written",
        ),
        ([{"image_id": 9, "ranks": [0, 1, 2, 3]}], "ranks must be numbers from 1 to 4"),
        ([{"image_id": 9, "ranks": "1234x"}], "ranks must be a list of numbers"),
        ([{"image_id": 9, "scores": [1, 2, 3]}], "3 options are ranked, but there are 4"),
        ([{"image_id": 9, "scores": [1, 2, float("nan"), 3]}], "row 1 (image 9): the score of option 2 is nan"),
        ([{"image_id": 9, "scores": [1, 2, float("-inf"), 3]}], "row 1 (image 9): the score of option 2 is -inf"),
        ([{"image_id": 5, "response": "yes"}], "none of 1 rows can be measured"),  # other dialogs
        ([{"image_id": 9, "response": "Error: x"}], "row 1 (image 9): an error, not an answer"),  # all failed
        ([{"image_id": 9, "response": "y", "conversation": 3}], "conversation must be text"),
    ],
)
def test_bad_predictions_are_one_line(tmp_path, truth, predicted, message):
    with pytest.raises(UserError) as error:
        report(tmp_path, truth, predicted, "p.json")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([{"image_id": 9, "answer": ""}], "row 1: answer must be a text or a list of texts"),
        ([{"image_id": 9, "answer": []}], "row 1: answer must be a text or a list of texts"),
        ([{"image_id": 9}], "row 1: answer must be a text or a list of texts, but got None"),
        ([{"image_id": 9, "answer": "yes"}] * 2, "row 2: image 9 stands there twice"),
    ],
)
def test_bad_groundtruth_is_one_line(tmp_path, gold, message):
    with pytest.raises(UserError) as error:
        Groundtruth(write_rows(tmp_path / "g.jsonl", gold))
    assert message in str(error.value)


def test_what_does_not_go_together(tmp_path, truth):
    plain = write_rows(tmp_path / "gold.jsonl", [{"image_id": 9, "answer": "yes"}])
    with pytest.raises(UserError, match="need a groundtruth with answer_options"):
        report(tmp_path, plain, [{"image_id": 9, "ranks": [1, 2]}])
    with pytest.raises(UserError, match="--dense measures ranked options"):
        report(tmp_path, truth, [{"image_id": 9, "response": "yes"}], dense=plain)


def test_the_command(tmp_path, truth):
    file = write_rows(tmp_path / "p.jsonl", [{"image_id": n, "response": "a red kite"} for n in (9, 10)])
    arguments = ["--predictions", file, "--groundtruth", truth, "--out", tmp_path / "out", "--bertscore", NO_MODEL]
    done = run_module("language.visdial.evaluate", *arguments, "--verbose")
    assert done.status == 0, done.err
    assert "rouge1               1.0000" in done.out and "bertscore left out: the model no-such-model" in done.out
    assert "best   chrf 1" in done.out and "1 images not predicted" in done.out
    file.write_text('{"image_id": 9, "resp')
    assert run_module("language.visdial.evaluate", *arguments).refuses("line 1: no JSON object")
    arguments[1] = tmp_path / "none.json"
    assert run_module("language.visdial.evaluate", *arguments).refuses("cannot read")


def test_distribution():
    found = distribution([1, 2, 3, 4, 10])
    assert found == {"mean": 4, "std": 3.1623, "min": 1, "q25": 2, "median": 3, "q75": 4, "max": 10}


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "yes", "no", "a", "red", "kite", "two", "men")
    words = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return folder


def test_bertscore_with_a_model_that_is_there(tmp_path, truth, tiny_bert):
    """Defect 42: the original compared with the first character of each reference, on a fixed device."""
    from language.metrics.bertscore import bert_scores

    texts, references = ["a red kite", "no", "two men"], [["yes", "a red kite"], ["a red kite"], ["two men"]]
    figures, each, left_out = bert_scores([*texts, "", "no"], [*references, ["yes"], [""]], str(tiny_bert))
    assert not left_out and each[0] == pytest.approx(1) == each[2] and each[1] < 0.99 and each[3:] == [0, 0]
    alone = [bert_scores([t], [r], str(tiny_bert))[1][0] for t, r in zip(texts, references, strict=True)]
    assert each[:3] == pytest.approx(alone, abs=1e-4) and figures["bertscore_f1"] == pytest.approx(sum(each) / 5)
    rows = write_rows(tmp_path / "p.jsonl", [{"image_id": n, "response": "a red kite"} for n in (9, 10)])
    found = json.loads(evaluate(rows, truth, out=tmp_path, bertscore=str(tiny_bert)).read_text("utf-8"))
    assert found["metrics"]["bertscore_f1"] == pytest.approx(1) and "bertscore_f1" in found["distribution"]
