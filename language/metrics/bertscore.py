"""BERTScore (Zhang et al. 2020) by its authors' library, with a model that is on this machine already."""

from pathlib import Path


def bert_scores(predictions: list[str], references: list[list[str]], model: str) -> tuple[dict, list[float], str]:
    """Means of precision, recall and F1, each prediction against the reference that it is most like; not rescaled.

    Args:
        references: a list of texts for each. An empty prediction, or one without a reference, scores 0.
        model: a folder of `transformers`, or a name that was downloaded before. Nothing is downloaded here.

    Returns:
        The figures, each prediction's F1, and why there are none (then both are empty).
    """
    # not torchmetrics (1.9): it sorts predictions and references by length and pairs them wrongly afterwards
    try:
        from bert_score import score
        from bert_score.utils import model2layers
        from huggingface_hub import snapshot_download
        from transformers import AutoConfig
    except ImportError as error:
        return {}, [], f"left out: {error.name} is not installed (pip install '.[train]')"
    try:
        folder = model if Path(model).is_dir() else snapshot_download(model, local_files_only=True)
        layers = model2layers.get(model) or AutoConfig.from_pretrained(folder).num_hidden_layers
    except (OSError, ValueError):
        return {}, [], f"left out: the model {model} is not on this machine (--bertscore takes a folder, too)"
    # the library cannot encode an empty text under transformers 5
    references = [[text for text in texts if text.strip()] for texts in references]
    told = [n for n, text in enumerate(predictions) if text.strip() and references[n]]
    columns = {name: [0.0] * len(predictions) for name in ("precision", "recall", "f1")}
    if told:
        texts, known = [predictions[n] for n in told], [references[n] for n in told]
        for column, values in zip(columns.values(), score(texts, known, str(folder), layers), strict=True):
            for n, value in zip(told, values.tolist(), strict=True):
                column[n] = value
    figures = {f"bertscore_{name}": sum(column) / len(column) for name, column in columns.items()}
    return {**figures, "bertscore_signature": f"{Path(model).name}_L{layers}_no-idf"}, columns["f1"], ""
