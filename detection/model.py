"""Weights -> a running model, whichever engine the file needs."""

from pathlib import Path

from detection.weights import resolve


def load_model(weights: str, pocket: Path, device: str | None, confidence: float):
    """`OnnxYolo` for `.onnx` and embedded weights, `UltralyticsYolo` for `.pt`.

    Both have `.names` (one per class) and `.predict(RGB picture) -> Found`.

    Raises:
        UserError: the weights cannot be found or loaded.
    """
    file = resolve(str(weights), pocket)
    if file.suffix == ".pt":
        from detection.adapters import UltralyticsYolo

        return UltralyticsYolo(file, device, confidence)
    from detection.runner import OnnxYolo

    return OnnxYolo(file, confidence)
