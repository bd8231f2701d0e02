"""95 % bootstrap intervals (Efron 1979) of means over rows."""

import numpy as np


def bootstrap(values: list[float], times: int, seed: int = 0) -> list[float]:
    """[low, high] of the mean of `values` over `times` resamples; empty where `times` is 0."""
    if not times:
        return []
    rng, column = np.random.default_rng(seed), np.asarray(values, float)
    means = column[rng.integers(0, len(column), (times, len(column)))].mean(1)
    return [round(float(edge), 4) for edge in np.percentile(means, [2.5, 97.5])]


def with_interval(name: str, values: list[float], times: int) -> dict:
    """The mean under `name`, and its interval under `name_interval` where one is asked for."""
    mean = float(np.mean(values)) if values else 0.0
    return {name: mean} | ({f"{name}_interval": bootstrap(values, times)} if times else {})


def of_sacrebleu(name: str, score, times: int) -> dict:
    """The same for a sacrebleu score, which brings its own bootstrap (mean and half width)."""
    found = {name: score.score / 100}
    if times:
        middle, half = float(score._mean) / 100, float(score._ci) / 100
        found[f"{name}_interval"] = [round(middle - half, 4), round(middle + half, 4)]
    return found
