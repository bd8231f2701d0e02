"""Ranking metrics of VisDial: MRR, Recall@1/5/10, mean rank and NDCG.

    metric = SparseMetrics()
    metric.observe(scores, gold)  # as often as there are batches
    metric.retrieve()  # {"r@1": …, "mrr": …, "mean": …, "rows": …}

Definitions and interface follow the challenge's starter code (`visdialch/metrics.py` of GitHub's
batra-mlp-lab/visdial-challenge-starter-pytorch). Higher scores are better.

Ties: a figure is its expectation over all orders of options with the same score (McSherry and Najork 2008, "Computing
Information Retrieval Performance Measures Efficiently in the Presence of Ties"). So no order of the file and no sorting
algorithm moves it, and a model that scores all options alike gets exactly what chance gets, neither more (ties broken
in favour) nor less (worst rank).
"""

import numpy as np

RECALL_AT = (1, 5, 10)


def _scores(scores, names: list[str] | None, seen: int) -> tuple[np.ndarray, list[str]]:
    """Scores as (rows, options), and a name for each row.

    Raises:
        ValueError: not one or two dimensions, no options, or a score that is NaN or infinite (its row is named).
    """
    scores = np.asarray(scores, np.float64)
    scores = scores[None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or not scores.shape[1]:
        raise ValueError(f"scores must have the shape (rows, options), but got {scores.shape}")
    names = [f"row {seen + n}" for n in range(len(scores))] if names is None else names
    if len(names) != len(scores):
        raise ValueError(f"{len(scores)} rows of scores, but {len(names)} names")
    if len(bad := np.argwhere(~np.isfinite(scores))):
        row, option = bad[0]
        raise ValueError(f"{names[row]}: the score of option {option} is {scores[row, option]}, not a finite number")
    return scores, names


class SparseMetrics:
    """Where the one true answer stands: `r@1`, `r@5`, `r@10`, `mrr` (higher is better) and `mean` rank (lower)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._rows: list[np.ndarray] = []
        self._seen = 0

    def observe(self, scores, gold, names: list[str] | None = None) -> None:
        """Take rows in.

        Args:
            scores: shape (rows, options), or (options,) for one row.
            gold: the true option of each row, from 0; shape (rows,), or a number for one row.
            names: of the rows, for messages.

        Raises:
            ValueError: shapes that do not fit, NaN or infinite scores, a gold option that is not there.
        """
        scores, names = _scores(scores, names, self._seen)
        gold = np.atleast_1d(np.asarray(gold))
        if gold.shape != (len(scores),) or not np.issubdtype(gold.dtype, np.integer):
            raise ValueError(f"gold must be one whole number a row, but got {gold.dtype} of shape {gold.shape}")
        if len(bad := np.flatnonzero((gold < 0) | (gold >= scores.shape[1]))):
            raise ValueError(f"{names[bad[0]]}: there is no option {gold[bad[0]]} among {scores.shape[1]}")
        own = np.take_along_axis(scores, gold[:, None], 1)
        first = (scores > own).sum(1) + 1  # the best and the worst rank that the gold option may get
        last = first + (scores == own).sum(1) - 1
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, scores.shape[1] + 1))])
        ties = last - first + 1
        recalls = [np.clip(k - first + 1, 0, ties) / ties for k in RECALL_AT]
        self._rows.append(np.stack([*recalls, (harmonic[last] - harmonic[first - 1]) / ties, (first + last) / 2]))
        self._seen += len(scores)

    def retrieve(self) -> dict[str, float | int]:
        """The means over all rows, and `rows`; without rows, only that there are none."""
        if not self._seen:
            return {"rows": 0}
        names = [*(f"r@{k}" for k in RECALL_AT), "mrr", "mean"]
        means = np.concatenate(self._rows, 1).mean(1)
        return {**dict(zip(names, map(float, means), strict=True)), "rows": self._seen}


class NDCG:
    """Normalised discounted cumulative gain at k = how many options are relevant at all, as the challenge counts.

    Gains are the relevances themselves, discounts log2(rank + 1). A row without any relevant option has no best order
    to compare with; it is counted as `skipped` and no part of the mean.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._values: list[float] = []
        self._skipped = 0

    def observe(self, scores, relevance, names: list[str] | None = None) -> None:
        """Take rows in.

        Args:
            scores: shape (rows, options), or (options,) for one row.
            relevance: of every option, 0 or more; the same shape.
            names: of the rows, for messages.

        Raises:
            ValueError: shapes that do not fit, NaN or infinite scores, relevances below 0 or not finite.
        """
        scores, names = _scores(scores, names, len(self._values) + self._skipped)
        relevance = np.asarray(relevance, np.float64)
        relevance = relevance[None] if relevance.ndim == 1 else relevance
        if relevance.shape != scores.shape:
            raise ValueError(f"relevance has the shape {relevance.shape}, but scores {scores.shape}")
        if len(bad := np.flatnonzero(~(np.isfinite(relevance) & (relevance >= 0)).all(1))):
            raise ValueError(f"{names[bad[0]]}: a relevance is below 0 or no finite number")
        for row, wanted in zip(scores, relevance, strict=True):
            if wanted.any():
                self._values.append(_ndcg(row, wanted))
            else:
                self._skipped += 1

    def retrieve(self) -> dict[str, float | int]:
        """The mean as `ndcg` where there is a row to measure, `rows` and `skipped`."""
        found = {"rows": len(self._values), "skipped": self._skipped}
        return {"ndcg": float(np.mean(self._values)), **found} if self._values else found


def _ndcg(scores: np.ndarray, relevance: np.ndarray) -> float:
    """Of one row: every option of a tie brings the tie's mean gain."""
    _, group = np.unique(-scores, return_inverse=True)  # best first
    mean = np.bincount(group, relevance) / np.bincount(group)
    k = np.count_nonzero(relevance)
    discounts = np.log2(np.arange(k) + 2)
    gains, best = mean[np.sort(group)][:k], np.sort(relevance)[::-1][:k]
    return float((gains / discounts).sum() / (best / discounts).sum())
