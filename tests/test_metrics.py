"""Metrics against values computed by hand; they load without a network."""

import math

import pytest

from language import metrics

TEXT = "모자가 잘 어울려요! 😊"


@pytest.fixture(scope="module")
def score():
    loaded = {name: metrics.load(name) for name in metrics.NAMES}
    return lambda name, **inputs: loaded[name].compute(**inputs)


def test_identical_korean_text_scores_one(score):
    same = {"predictions": [TEXT, "좋은 하루예요"], "references": [[TEXT], ["좋은 하루예요"]]}
    found = score("bleu", **same) | score("chrf", **same) | score("rouge", **same) | score("original", **same)
    for key in ("bleu_char", "bleu_word", "chrf", "rouge1", "rouge2", "rougeL", "original_bleu_1", "original_bleu_4"):
        assert found[key] == pytest.approx(1), key
    # METEOR's penalty for one chunk of three words: 1 - 0.5 / 3^3
    one = score("original", predictions=["모자 잘 어울려"], references=[["모자 잘 어울려"]])
    assert one["original_meteor"] == pytest.approx(1 - 0.5 / 27)


def test_bleu_by_hand(score):
    # characters 가나다라 and 가나다마: 3/4 one by one, 2/3 in twos, 1/2 in threes, 0/1 (counted as 1/2) in fours
    found = score("bleu", predictions=["가나다라"], references=[["가나다마"]])
    assert found["bleu_char"] == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25, rel=1e-3)
    assert "tok:char" in found["bleu_char_signature"] and "tok:kiwi-" in found["bleu_word_signature"]
    raw = score("original", predictions=["가나다라마"], references=[["가나다라바"]])
    assert raw["original_bleu_1"] == pytest.approx(4 / 5) and raw["original_bleu_2"] == pytest.approx(
        (4 / 5 * 3 / 4) ** 0.5
    )
    assert raw["original_bleu_3"] == pytest.approx((4 / 5 * 3 / 4 * 2 / 3) ** 0.33)


def test_swapped_arguments_differ(score):
    """The original called rouge with hypothesis and reference in each other's place."""
    short, long = "모자가 좋다", "모자가 좋다 그리고 안경도 좋다"
    one = score("rouge", predictions=[short], references=[[long]])
    other = score("rouge", predictions=[long], references=[[short]])
    assert one["rouge1_precision"] == 1 == other["rouge1_recall"]
    assert one["rouge1_recall"] == other["rouge1_precision"] < 0.7
    assert score("bleu", predictions=[short], references=[[long]]) != score(
        "bleu", predictions=[long], references=[[short]]
    )


def test_the_second_sample_and_the_second_reference_count(score):
    right, wrong = "모자가 좋네요", "자동차 바퀴"
    for name, key in (("bleu", "bleu_char"), ("chrf", "chrf"), ("rouge", "rouge1"), ("original", "original_meteor")):
        good = score(name, predictions=[right, right], references=[[right], [right]])[key]
        half = score(name, predictions=[right, wrong], references=[[right], [right]])[key]
        assert half < good - 0.2, name
    for name, key in (("bleu", "bleu_word"), ("chrf", "chrf"), ("rouge", "rougeL")):
        both = score(name, predictions=[right, wrong], references=[[wrong, right], [wrong]])[key]
        assert both == pytest.approx(1), name


def test_an_empty_prediction_is_legal(score):
    empty = {"predictions": ["", TEXT], "references": [[TEXT], [TEXT]]}
    for name in ("bleu", "chrf", "rouge", "original"):
        assert all(0 <= v < 1 for v in score(name, **empty).values() if isinstance(v, float)), name
    assert score("rouge", predictions=[""], references=[[TEXT]])["rouge1"] == 0
    assert score("diversity", predictions=[""])["self_bleu"] == 0


def test_diversity_by_hand(score):
    found = score("diversity", predictions=["가 나 다", "가 나 라"])
    assert found["distinct_1"] == pytest.approx(4 / 6) and found["distinct_2"] == pytest.approx(3 / 4)
    assert found["distinct_comments"] == 1 and found["distinct_openings"] == 1
    same = score("diversity", predictions=["모자가 잘 어울려요"] * 4)
    assert same["self_bleu"] == pytest.approx(1) and same["distinct_comments"] == 0.25


def test_grounding_counts_each_rule(score):
    found = score(
        "grounding",
        predictions=[
            "모자가 잘 어울려요! 😊",
            "어디서 사셨어요? 😊",
            "자동차도 모자도 좋네요 😊",
            "모자 쓰고 활짝 신나 보여요 😊",
        ],
        references=["기쁨, 모자", "기쁨, 모자", "모자", "슬픔, 모자"],
    )
    assert found["violation_rate"] == 0.75 and found["rule_question"] == 0.25
    assert found["coverage"] == 0.75 and found["unsupported_rate"] == 0.25 and found["contradiction_rate"] == 0.25
    assert score("grounding", predictions=["Nice hats 😊"], references=["모자"], lang="en")["coverage"] == 1


def test_bits_per_character_do_not_depend_on_the_tokenizer(score):
    # eight characters, each of which costs one bit, however many tokens they are
    nats = 8 * math.log(2)
    found = score("bits_per_character", predictions=[nats / 2, nats / 2], references=["가나다라", "abcd"])
    assert found["bits_per_character"] == pytest.approx(1)


def test_unknown_metrics_are_named():
    with pytest.raises(ValueError, match="unknown metric 'meteor'"):
        metrics.load("meteor")
