"""Weights -> a running model, whichever engine the file needs."""

from pathlib import Path

from detection.weights import resolve


def load_model(weights: str, pocket: Path, device: str | None, confidence: float, threads: int | None = None):
    """`OnnxYolo` for `.onnx` and embedded weights, `UltralyticsYolo` for `.pt`.

    Both have `.names` (one per class) and `.predict(RGB picture) -> Found`, which several threads may call.

    Args:
        threads: that one call of an ONNX model takes; default one a core.

    Raises:
        UserError: the weights cannot be found or loaded.
    """
    file = resolve(str(weights), pocket)
    if file.suffix == ".pt":
        from detection.adapters import UltralyticsYolo

        return UltralyticsYolo(file, device, confidence)
    from detection.runner import OnnxYolo

    return OnnxYolo(file, confidence, threads=threads)
