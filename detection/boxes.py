"""Box arithmetic that several stages need, vectorised over (N, 4) xyxy arrays."""

import numpy as np


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that every box in `a` (N, 4) shares with every box in `b` (M, 4), both xyxy: (N, M)."""
    a, b = np.asarray(a, float).reshape(-1, 1, 4), np.asarray(b, float).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.prod(np.clip(sides, 0, None), axis=-1)


def areas(xyxy: np.ndarray) -> np.ndarray:
    """Areas (N,) of boxes (N, 4)."""
    xyxy = np.asarray(xyxy, float).reshape(-1, 4)
    return np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1)


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box in `a` (N, 4) with every box in `b` (M, 4), both xyxy: (N, M)."""
    inter = intersections(a, b)
    return inter / np.maximum(areas(a)[:, None] + areas(b)[None] - inter, 1e-9)


def nms(xyxy: np.ndarray, scores: np.ndarray, iou: float, inside: float = 1.0) -> np.ndarray:
    """Indices of boxes that stay after greedy non-maximum suppression, best score first.

    Args:
        iou: a box that overlaps a better one by more than this goes.
        inside: likewise a box of which more than this share lies in a better one.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = np.asarray(xyxy, float).reshape(-1, 4)[order]
    overlap = iou_matrix(ordered, ordered) > iou
    if inside < 1:
        overlap |= (intersections(ordered, ordered) / np.maximum(areas(ordered), 1e-9)[None]) > inside
    keep = np.ones(len(order), bool)
    for i in range(len(order)):
        if keep[i]:
            keep[i + 1 :] &= ~overlap[i, i + 1 :]
    return order[keep]
