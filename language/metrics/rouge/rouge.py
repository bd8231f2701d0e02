"""ROUGE-1, -2 and -L over Kiwi's words (the default tokenizer drops every Korean letter), or over English words."""

import datasets
import evaluate
import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from language.metrics import korean
from language.metrics.intervals import with_interval

KINDS = ("rouge1", "rouge2", "rougeL")


class _Words:
    tokenize = staticmethod(korean.words)


class Rouge(evaluate.Metric):
    """Means over predictions of F, precision and recall, each against the reference that it is most like.

    `lang="en"` takes rouge_score's own tokenizer, without stemming: Kiwi cuts English words in the middle.
    """

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            inputs_description="predictions: texts; references: a list of texts for each",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references, bootstrap=0, lang="ko"):
        scorer = RougeScorer(KINDS, tokenizer=None if lang == "en" else _Words())
        scores = [
            scorer.score_multi(targets=texts, prediction=text)
            for text, texts in zip(predictions, references, strict=True)
        ]
        found = {}
        for kind in KINDS:
            found |= with_interval(kind, [s[kind].fmeasure for s in scores], bootstrap)
            found[f"{kind}_precision"] = float(np.mean([s[kind].precision for s in scores]))
            found[f"{kind}_recall"] = float(np.mean([s[kind].recall for s in scores]))
        return {**found, "rouge_tokenizer": "rouge_score" if lang == "en" else korean.version()}
