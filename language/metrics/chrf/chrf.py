"""chrF2 over characters (sacrebleu), with its signature."""

import datasets
import evaluate
from sacrebleu.metrics import CHRF

from language.metrics import korean
from language.metrics.intervals import of_sacrebleu


class _Chrf(CHRF):
    """Resamples without any n-gram in common come as another type of number, and sacrebleu cannot average both."""

    def _compute_score_from_stats(self, stats):
        score = super()._compute_score_from_stats(stats)
        score.score = float(score.score)
        return score


class Chrf(evaluate.Metric):
    """`chrf`, 0..1."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Popović 2015, chrF: character n-gram F-score for automatic MT evaluation",
            inputs_description="predictions: texts; references: a list of texts for each",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references, bootstrap=0):
        chrf = _Chrf()
        score = chrf.corpus_score(predictions, korean.streams(references), n_bootstrap=bootstrap or 1)
        return {**of_sacrebleu("chrf", score, bootstrap), "chrf_signature": str(chrf.get_signature())}
