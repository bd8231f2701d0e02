"""The original system's own figures, to compare with what it published and for nothing else.

BLEU-1 … 4 by nltk on raw strings, so over characters, spaces among them (weights 1/n, .33 for three, no smoothing), and
METEOR over word characters without synonyms: English rules, no meaning for Korean.
"""

import datasets
import evaluate
from nltk.tokenize import RegexpTokenizer
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from nltk.translate.meteor_score import meteor_score

WEIGHTS = [(1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.33, 0.33, 0.33, 0), (0.25, 0.25, 0.25, 0.25)]


class _NoSynonyms:
    def synsets(self, *args, **kwargs):
        return []


class Original(evaluate.Metric):
    """`original_bleu_1` … `original_bleu_4`, `original_meteor`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="github.com/crazy2894/project_3_git",
            inputs_description="predictions: texts; references: a list of texts for each, of which the first counts",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references):
        first, words = [texts[0] for texts in references], RegexpTokenizer(r"\w+").tokenize
        smooth = SmoothingFunction().method0
        bleu = [
            corpus_bleu([[text] for text in first], predictions, weights=weights, smoothing_function=smooth)
            for weights in WEIGHTS
        ]
        meteor = [
            meteor_score([words(reference)], words(text), wordnet=_NoSynonyms())
            for reference, text in zip(first, predictions, strict=True)
        ]
        figures = {f"original_bleu_{n}": float(score) for n, score in enumerate(bleu, 1)}
        return {**figures, "original_meteor": sum(meteor) / len(meteor)}
