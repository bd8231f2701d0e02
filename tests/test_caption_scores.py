"""Figures of captions by hand-computed values."""

import math

import pytest

from common.errors import UserError
from language.caption.likelihood import candidates
from language.caption.scores import cider, distinct_shares, plain, rank, repeats, score


@pytest.mark.parametrize(
    ("scores", "right", "place"),
    [
        ([3.0, 1.0, 2.0], 0, 1),  # the best
        ([1.0, 3.0, 2.0], 0, 3),  # the last
        ([2.0, 2.0, 1.0], 0, 1.5),  # two share places 1 and 2
        ([0.0] * 21, 0, 11),  # a captioner that does not look: the middle
        ([-math.inf, 0.0], 0, 2),  # impossible
    ],
)
def test_rank(scores, right, place):
    assert rank(scores, right) == place


def test_no_number_has_no_rank():
    with pytest.raises(UserError, match="NaN"):
        rank([1.0, math.nan], 0)


def test_distinct_captions_by_hand():
    # three photos share one caption, whatever its case and marks: two different ones on four photos
    assert distinct_shares(["A red wall.", "a red wall", "a  red wall!", "the sea"]) == [1 / 3, 1 / 3, 1 / 3, 1]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a dog runs in a field", False),  # words repeat, no run of three does
        ("so happy to be, so happy to see", True),  # "so happy to"
        ("no no no no", True),  # "no no no" twice, overlapping
        ("no no no", False),  # once
        ("", False),  # nothing
    ],
)
def test_repetition(text, answer):
    assert repeats(text) is answer


def test_texts_are_compared_without_case_and_marks():
    assert plain("It's a Wall, red! 😊") == "it's a wall red 😊"


def test_cider_of_identical_captions():
    """Full likeness is 10 where a caption has n-grams of all four lengths, and a quarter of it for each length."""
    texts = ["a red wall stands", "The blue sea, so wide!", "green"]
    assert cider(texts, [[text] for text in texts]) == pytest.approx([10, 10, 2.5])
    assert cider(texts, [[texts[1]], [texts[2]], [texts[0]]]) == pytest.approx([0, 0, 0])
    # words that stand under every photo weigh nothing
    assert cider(["a", "a b c d"], [["a"], ["a b c d"]])[0] == 0


def test_figures_of_perfect_captions():
    texts = ["a red wall stands", "the blue sea is wide", "green hills far away"]
    found = score(texts, [[text, "something else"] for text in texts], bootstrap=50)
    for figure in ("bleu_word", "rougeL", "distinct_captions"):
        assert found[figure] == pytest.approx(1), figure
    assert found["chrf"] == pytest.approx(1) and found["cider"] > 4 and found["repetition"] == 0
    assert found["distinct_captions_interval"] == [1, 1] and len(found["cider_interval"]) == 2
    assert found["words_of"] == "en"
    assert score(["빨간 모자예요"], [["빨간 모자예요"]], bootstrap=0)["words_of"] == "ko"
    same = score(["a wall", "a wall", "a wall"], [[text] for text in texts], bootstrap=0)
    assert same["distinct_captions"] == pytest.approx(1 / 3)  # the original's defect, seen


def test_candidates_are_fair():
    references = {f"{n}.jpg": [f"photo {n}", "a photo"] for n in range(30)}
    lists = candidates(references, 20, seed=0)
    assert {len(some) for some in lists} == {21}
    for (photo, own), some in zip(references.items(), lists, strict=True):
        assert some[0] in own and not set(some[1:]) & set(own), photo  # "a photo" is right for every photo
        assert len(set(some[1:])) == 20
    assert lists == candidates(references, 20, seed=0) != candidates(references, 20, seed=1)
    assert [len(some) for some in candidates(dict(list(references.items())[:3]), 20, 0)] == [3, 3, 3]
