"""Bits per character: losses that can be compared across tokenizers."""

from math import log

import datasets
import evaluate


class BitsPerCharacter(evaluate.Metric):
    """`bits_per_character` of texts whose negative log likelihoods are given in nats, ends included."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Graves 2013, Generating Sequences With Recurrent Neural Networks",
            inputs_description="predictions: summed negative log likelihoods in nats; references: the texts",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references):
        return {"bits_per_character": sum(predictions) / sum(map(len, references)) / log(2)}
