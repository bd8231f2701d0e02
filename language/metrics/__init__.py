"""Metrics that are right for Korean, as local modules that `evaluate` loads without a network.

    from language import metrics
    metrics.load("bleu").compute(predictions=["모자가 좋네요"], references=[["모자가 좋네요", "좋은 모자네요"]])

Every reference is a list: a prediction may have several. An empty prediction is legal and scores nothing.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("bleu", "chrf", "rouge", "diversity", "grounding", "bits_per_character", "original")


def load(name: str):
    """The `evaluate` module of a name.

    Raises:
        ValueError: there is no such metric.
    """
    if name not in NAMES:
        raise ValueError(f"unknown metric {name!r}: there are {', '.join(NAMES)}")
    import evaluate

    return evaluate.load(str(FOLDER / name))
