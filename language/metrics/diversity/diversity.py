"""How varied texts are: distinct-n (Li et al. 2016) and self-BLEU (Zhu et al. 2018)."""

import random
from statistics import mean

import datasets
import evaluate
from sacrebleu.metrics import BLEU

SAMPLE = 100  # texts that self-BLEU compares with each other


class Diversity(evaluate.Metric):
    """`distinct_1` … `distinct_3` (different n-grams of words), `distinct_comments`, `distinct_openings` (three
    words), `self_bleu` (each of a sample against the others over characters, 0..1; lower is more varied)."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Li et al. 2016; Zhu et al. 2018",
            inputs_description="predictions: texts",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions):
        words = [text.split() for text in predictions]
        share = lambda items: len(set(items)) / max(1, len(items))
        grams = lambda n: [tuple(w[i : i + n]) for w in words for i in range(len(w) - n + 1)]
        sample = random.Random(0).sample(predictions, min(SAMPLE, len(predictions)))
        bleu = BLEU(tokenize="char", effective_order=True, force=True)
        alike = [
            bleu.sentence_score(text, sample[:place] + sample[place + 1 :]).score / 100
            for place, text in enumerate(sample)
            if len(sample) > 1
        ]
        return {
            **{f"distinct_{n}": share(grams(n)) for n in (1, 2, 3)},
            "distinct_comments": share(predictions),
            "distinct_openings": share([" ".join(w[:3]) for w in words]),
            "self_bleu": mean(alike) if alike else 0.0,
        }
