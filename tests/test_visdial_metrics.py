"""Ranking metrics against values computed by hand, a plain definition, and what the challenge's code gets wrong."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from language.visdial.metrics import NDCG, SparseMetrics

LOG3 = math.log2(3)
QUICK = settings(deadline=None, derandomize=True, database=None)


def sparse(scores, gold) -> dict:
    metric = SparseMetrics()
    metric.observe(scores, gold)
    return metric.retrieve()


def ndcg(scores, relevance) -> dict:
    metric = NDCG()
    metric.observe(scores, relevance)
    return metric.retrieve()


def plain_sparse(order, gold) -> dict[str, float]:
    """The definition, where nothing is tied."""
    rank = list(order).index(gold) + 1
    return {**{f"r@{k}": float(rank <= k) for k in (1, 5, 10)}, "mrr": 1 / rank, "mean": rank}


def plain_ndcg(order, relevance) -> float:
    k = sum(value != 0 for value in relevance)
    gain = lambda ranked: sum(relevance[option] / math.log2(rank + 2) for rank, option in enumerate(ranked[:k]))
    return gain(list(order)) / gain(sorted(range(len(relevance)), key=lambda n: -relevance[n]))


def orders(scores):
    """All orders that scores allow."""
    allowed = lambda order: all(scores[a] >= scores[b] for a, b in zip(order, order[1:], strict=False))
    return [order for order in permutations(range(len(scores))) if allowed(order)]


@pytest.mark.parametrize(
    ("scores", "gold", "expected"),
    [
        ([3, 2, 1], 0, {"r@1": 1, "r@5": 1, "mrr": 1, "mean": 1}),  # best
        ([3, 2, 1], 2, {"r@1": 0, "r@5": 1, "mrr": 1 / 3, "mean": 3}),  # last
        ([-0.5, -7, -0.1], 0, {"r@1": 0, "mrr": 1 / 2, "mean": 2}),  # log probabilities
        ([*range(20)], 13, {"r@1": 0, "r@5": 0, "r@10": 1, "mrr": 1 / 7, "mean": 7}),
        ([*range(20)], 9, {"r@10": 0, "mrr": 1 / 11, "mean": 11}),  # just outside
        ([1, 1, 0], 0, {"r@1": 1 / 2, "mrr": (1 + 1 / 2) / 2, "mean": 1.5}),  # tied for the first two ranks
        ([2, 1, 1, 1], 3, {"r@1": 0, "mrr": (1 / 2 + 1 / 3 + 1 / 4) / 3, "mean": 3}),
        ([0] * 100, 42, {"r@1": 0.01, "r@5": 0.05, "r@10": 0.1, "mean": 50.5}),  # all alike: chance
        ([7], 0, {"r@1": 1, "r@10": 1, "mrr": 1, "mean": 1}),  # one option
    ],
)
def test_sparse_by_hand(scores, gold, expected):
    found = sparse(scores, gold)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "relevance", "expected"),
    [
        ([3, 2, 1], [1, 0, 0], 1),  # k = 1
        ([1, 3, 2], [1, 0, 0], 0),  # the one relevant option is below k
        ([3, 2, 1], [0.5, 1, 0], (0.5 + 1 / LOG3) / (1 + 0.5 / LOG3)),  # k = 2, swapped
        ([3, 1, 2], [0.5, 1, 0], 0.5 / (1 + 0.5 / LOG3)),  # k = 2, one of them third
        ([3, 2, 1], [1, 1, 1], 1),  # no order is wrong
        ([0, 0], [1, 0], 1 / 2),  # tied: first or second, k = 1
        ([1, 0, 0], [0, 1, 0.5], (0.75 / LOG3) / (1 + 0.5 / LOG3)),  # k = 2: nothing at rank 1, the tie's mean at 2
        ([7], [0.3], 1),  # one option
    ],
)
def test_ndcg_by_hand(scores, relevance, expected):
    found = ndcg(scores, relevance)
    assert found == {"ndcg": pytest.approx(expected), "rows": 1, "skipped": 0}


def rows(options: int):
    """Scores, relevances and the gold option of a row; ties are frequent."""
    scores = st.lists(st.integers(0, 3), min_size=options, max_size=options)
    relevance = st.lists(st.sampled_from([0, 0, 0.25, 0.5, 1]), min_size=options, max_size=options)
    return st.tuples(scores, relevance, st.integers(0, options - 1))


@given(st.integers(1, 6).flatmap(rows))
@settings(QUICK, max_examples=200)
def test_ties_are_the_mean_over_all_orders(case):
    """The stated rule, against the plain definition on every order that the scores allow."""
    scores, relevance, gold = case
    allowed = orders(scores)
    plain = [plain_sparse(order, gold) for order in allowed]
    found = sparse(scores, gold)
    for name in plain[0]:
        assert found[name] == pytest.approx(np.mean([p[name] for p in plain]))
    if any(relevance):
        expected = np.mean([plain_ndcg(order, relevance) for order in allowed])
        assert ndcg(scores, relevance)["ndcg"] == pytest.approx(expected)


@given(st.lists(st.floats(-50, 0), min_size=100, max_size=100, unique=True), st.integers(0, 99), st.randoms())
@settings(QUICK, max_examples=100)
def test_hundred_options_and_their_order_in_the_file(scores, gold, random):
    relevance = [random.choice([0, 0, 0, 0.5, 1]) for _ in scores]
    relevance[gold] = 1
    order = sorted(range(100), key=lambda n: -scores[n])
    assert sparse(scores, gold) == pytest.approx({**plain_sparse(order, gold), "rows": 1})
    assert ndcg(scores, relevance)["ndcg"] == pytest.approx(plain_ndcg(order, relevance))
    moved = random.sample(range(100), 100)
    assert sparse([scores[n] for n in moved], moved.index(gold)) == sparse(scores, gold)
    again = ndcg([scores[n] for n in moved], [relevance[n] for n in moved])["ndcg"]
    assert again == pytest.approx(ndcg(scores, relevance)["ndcg"])


@given(st.lists(rows(4), min_size=1, max_size=8))
@settings(QUICK, max_examples=50)
def test_batches_of_any_size_give_the_same(cases):
    scores, relevance, gold = map(list, zip(*cases, strict=True))
    whole, one = (SparseMetrics(), NDCG()), (SparseMetrics(), NDCG())
    whole[0].observe(scores, gold)
    whole[1].observe(scores, relevance)
    for row in cases:
        one[0].observe(row[0], row[2])
        one[1].observe([row[0]], [row[1]])  # a batch of one crashes the challenge's NDCG
    for a, b in zip(whole, one, strict=True):
        assert a.retrieve() == pytest.approx(b.retrieve())


def test_rows_without_relevant_options_are_counted_apart():
    """The challenge's code gives NaN for all rows then."""
    metric = NDCG()
    metric.observe([[3, 2, 1], [1, 2, 3]], [[0, 0, 0], [0, 0, 1]])
    assert metric.retrieve() == {"ndcg": 1.0, "rows": 1, "skipped": 1}
    metric.reset()
    metric.observe([3, 2, 1], [0, 0, 0])
    assert metric.retrieve() == {"rows": 0, "skipped": 1}


def test_nothing_observed_and_reset():
    metric = SparseMetrics()
    assert metric.retrieve() == {"rows": 0}
    metric.observe([1, 2], 0)
    assert metric.retrieve() == metric.retrieve()  # reading does not forget
    metric.reset()
    assert metric.retrieve() == {"rows": 0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_errors_that_name_the_row(value):
    """The challenge's code gives them ranks."""
    sparse_metric, ndcg_metric = SparseMetrics(), NDCG()
    sparse_metric.observe([1, 2], 0)
    with pytest.raises(ValueError, match=r"row 2: the score of option 1 is (nan|inf|-inf), not a finite number"):
        sparse_metric.observe([[0, 1], [0, value]], [0, 0])
    assert sparse_metric.retrieve()["rows"] == 1  # nothing of a bad batch was taken in
    with pytest.raises(ValueError, match="image 9, round 2: the score of option 0"):
        ndcg_metric.observe([value, 1], [0, 1], ["image 9, round 2"])
    with pytest.raises(ValueError, match="row 0: a relevance is below 0 or no finite number"):
        ndcg_metric.observe([0, 1], [0, value])


@pytest.mark.parametrize(
    ("scores", "gold", "message"),
    [
        ([[1, 2]], [2], "row 0: there is no option 2 among 2"),
        ([[1, 2]], [-1], "row 0: there is no option -1"),  # -1 is the last in numpy
        ([[1, 2]], [0, 1], "one whole number a row"),
        ([[1, 2]], [0.0], "one whole number a row"),
        ([[]], [0], "scores must have the shape"),  # no options
        ([[[1, 2]]], [0], "scores must have the shape"),
    ],
)
def test_shapes_that_do_not_fit(scores, gold, message):
    with pytest.raises(ValueError, match=message):
        SparseMetrics().observe(scores, gold)


def test_relevance_must_fit_the_scores():
    with pytest.raises(ValueError, match=r"relevance has the shape \(1, 3\), but scores \(1, 2\)"):
        NDCG().observe([1, 2], [0, 1, 0])
    with pytest.raises(ValueError, match="1 rows of scores, but 2 names"):
        NDCG().observe([1, 2], [0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="below 0"):
        NDCG().observe([1, 2], [-1, 1])
