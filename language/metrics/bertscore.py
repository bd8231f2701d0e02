"""BERTScore (Zhang et al. 2020) by torchmetrics, with a model that is on this machine already."""

from pathlib import Path

LAYERS = {"roberta-large": 17}  # which layer the paper's authors recommend; of other models the last is taken


def bert_scores(predictions: list[str], references: list[list[str]], model: str) -> tuple[dict, list[float], str]:
    """Means of precision, recall and F1, each prediction against the reference that it is most like.

    Args:
        model: a folder of `transformers`, or a name that was downloaded before. Nothing is downloaded here.

    Returns:
        The figures, each prediction's F1, and why there are none (then both are empty).
    """
    try:
        from huggingface_hub import snapshot_download
        from torchmetrics.functional.text import bert_score
    except ImportError as error:
        return {}, [], f"left out: {error.name} is not installed (pip install '.[train]')"
    try:
        folder = model if Path(model).is_dir() else snapshot_download(model, local_files_only=True)
        found = bert_score(predictions, references, folder, LAYERS.get(model), truncation=True)
    except (OSError, ValueError) as error:
        return {}, [], f"left out: the model {model} is not on this machine ({' '.join(str(error).split())[:100]})"
    columns = {f"bertscore_{name}": found[name].reshape(-1).tolist() for name in ("precision", "recall", "f1")}
    figures = {name: sum(column) / len(column) for name, column in columns.items()}
    return {**figures, "bertscore_model": Path(model).name}, columns["bertscore_f1"], ""
