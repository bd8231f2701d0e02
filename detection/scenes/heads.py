"""One linear layer from trunk features to tags, fitted where targets are known, and how far its answers can be trusted.

Every figure here comes from folds: a photo's score is given by a head that never saw the photo.
"""

from dataclasses import dataclass

import numpy as np

FOLDS = 5
LEAST_POSITIVES = 8  # photos with a tag, below which nothing can be said of it
NEVER = 2.0  # threshold of a tag that is not to be trusted


@dataclass(frozen=True)
class Head:
    """weights (T, F) and bias (T,) of the layer; a tag's probability is sigmoid(slope * logit + offset)."""

    weights: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, F) -> (N, T)."""
        return features @ self.weights.T + self.bias


@dataclass(frozen=True)
class Trust:
    """What the folds tell of one tag: slope and offset of its calibration, threshold, and figures at that threshold."""

    slope: float
    offset: float
    threshold: float
    precision: float
    recall: float
    average_precision: float
    positives: int


def fit_head(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, decay: float) -> Head:
    """Logistic regression of all tags at once, by L-BFGS; a target of weight 0 is not known and teaches nothing.

    Args:
        features: (N, F). targets, weights: (N, T).
        decay: of the squared weights on standardised features. A hundredth does well, a thousandth overfits.
    """
    import torch

    x, y, w = (torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (features, targets, weights))
    mean, scale = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / scale
    layer = torch.nn.Linear(x.shape[1], y.shape[1])
    with torch.no_grad():
        layer.weight.zero_()
        share = ((y * w).sum(0) + 0.5) / (w.sum(0) + 1)
        layer.bias.copy_(torch.log(share / (1 - share)))
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=35, history_size=10)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(layer(x), y, w, reduction="sum") / len(x)
        loss = loss + decay * layer.weight.pow(2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    matrix = (layer.weight.detach() / scale).numpy()
    return Head(matrix, layer.bias.detach().numpy() - matrix @ mean.numpy())


def folds(names: list[str], seed: int = 0) -> np.ndarray:
    """A fold (N,) for each photo, drawn."""
    return np.random.default_rng(seed).permutation(len(names)) % FOLDS


def out_of_fold(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, parts: np.ndarray, decay: float):
    """Logits (N, T), each from a head that did not see the photo."""
    logits = np.zeros_like(targets, np.float32)
    for part in range(FOLDS):
        inside = parts != part
        head = fit_head(features[inside], targets[inside], weights[inside], decay)
        logits[~inside] = head.logits(features[~inside])
    return logits


def trust(logits: np.ndarray, target: np.ndarray, weight: np.ndarray, precise: float) -> Trust:
    """Calibrate one tag (N,) and find the lowest threshold from which on `precise` of its answers are right."""
    known = weight > 0
    z, y, w = logits[known], target[known] > 0.5, weight[known]
    if y.sum() < LEAST_POSITIVES:
        return Trust(1.0, 0.0, NEVER, 0.0, 0.0, 0.0, int(y.sum()))
    slope, offset = _platt(z, y, w)
    order = np.argsort(-z)
    right = np.cumsum(w[order] * y[order])
    precision = right / np.cumsum(w[order])
    average = float((precision * w[order] * y[order]).sum() / right[-1])
    enough = np.flatnonzero((precision >= precise) & (np.cumsum(y[order]) >= 4))
    p = lambda value: float(1 / (1 + np.exp(-(slope * value + offset))))
    if not len(enough):
        return Trust(slope, offset, NEVER, 0.0, 0.0, average, int(y.sum()))
    last = enough[-1]
    recall = float(right[last] / right[-1])
    return Trust(slope, offset, p(z[order][last]), float(precision[last]), recall, average, int(y.sum()))


def _platt(z: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    """Slope and offset at which sigmoid(slope * z + offset) fits y best, by Newton's method (Platt 1999)."""
    a, b = 1.0, 0.0
    x = np.stack([z, np.ones_like(z)], 1).astype(float)
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(a * z + b, -30, 30)))
        gradient = x.T @ (w * (p - y)) + 1e-3 * np.array([a - 1, b])
        curve = (x * (w * p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2)
        step = np.linalg.solve(curve, gradient)
        a, b = a - np.clip(step[0], -1, 1), b - np.clip(step[1], -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return float(max(a, 0.05)), float(b)
