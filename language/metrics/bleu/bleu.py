"""Corpus BLEU over characters and over words (sacrebleu; Kiwi's words, or 13a for English), with signatures."""

import datasets
import evaluate
from sacrebleu.metrics import BLEU

from language.metrics import korean
from language.metrics.intervals import of_sacrebleu


class Bleu(evaluate.Metric):
    """`bleu_char` and `bleu_word`, 0..1, and what each was computed with."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores",
            inputs_description="predictions: texts; references: a list of texts for each",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references, bootstrap=0, lang="ko"):
        english = lang == "en"
        char, word = BLEU(tokenize="char", force=True), BLEU(tokenize="13a" if english else "none", force=True)
        cut = lambda text: text if english else " ".join(korean.words(text))
        times = bootstrap or 1
        by_char = char.corpus_score(predictions, korean.streams(references), n_bootstrap=times)
        cut_references = [[cut(text) for text in texts] for texts in references]
        by_word = word.corpus_score(
            [cut(text) for text in predictions], korean.streams(cut_references), n_bootstrap=times
        )
        return {
            **of_sacrebleu("bleu_char", by_char, bootstrap),
            **of_sacrebleu("bleu_word", by_word, bootstrap),
            "bleu_char_signature": str(char.get_signature()),
            "bleu_word_signature": str(word.get_signature()).replace("tok:none", f"tok:{korean.version()}"),
        }
