"""Novelty: whether an image is unlike all that a model was trained on, judged by its features.

A classifier divides everything that it is shown among its classes. These scores ask first whether the question makes sense.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.model_selection import GroupKFold

from mpox._core import MpoxError

METHODS = ("neighbours", "mahalanobis")
N_HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Novelty:
    """What is needed to score an image; a score above ``threshold`` is a warning (``quantile`` of held-out images have none).

    ``reference`` is (m, d), float32: training features of length 1, or the mean of each class. The inverse of the covariance is
    ``scale`` (0 for neighbours) times the identity, less the product of ``directions``, (d, r), with their transpose.
    """

    method: str
    reference: np.ndarray
    directions: np.ndarray
    scale: float
    neighbours: int
    threshold: float
    quantile: float


def fit_novelty(
    features: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    groups: np.ndarray | None = None,
    method: str = "neighbours",
    neighbours: int = 5,
    quantile: float = 0.95,
) -> Novelty:
    """Learn what is usual from training features, and where to warn from training images held out by group.

    ``neighbours``: the Euclidean distance to the k-th nearest training image, all features scaled to length 1 (Sun et al. 2022,
    eq. 1). ``mahalanobis``: the distance to the nearest class mean under the covariance that the classes share (Lee et al. 2018,
    eq. 2), shrunk after Ledoit and Wolf (2004) since there are more features than images.

    Parameters
    ----------
    features, labels, groups : ndarray, shape (n, d), (n,) and (n,)
        Labels are needed by ``mahalanobis`` alone. Groups are held out together, so that a sibling in training does not make an
        image look usual; by default each image is one.
    method : {"neighbours", "mahalanobis"}
    neighbours : int
        k, at least 1; for fewer training images as many as there are.
    quantile : float
        Share of held-out training images without a warning, between 0 and 1.
    """
    features = np.asarray(features, dtype=np.float32)
    groups = np.arange(len(features)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    n_folds = min(N_HELD_OUT, len(np.unique(groups)))
    if method not in METHODS:
        raise MpoxError(f"There is no novelty score '{method}': choose one of {', '.join(METHODS)}.")
    if method == "mahalanobis" and labels is None:
        raise MpoxError("The score 'mahalanobis' needs the labels of the training images.")
    if not 0 < quantile < 1 or neighbours < 1:
        raise MpoxError(f"Novelty takes a quantile between 0 and 1 and at least 1 neighbour, not {quantile} and {neighbours}.")
    if n_folds < 2:
        raise MpoxError("A novelty score needs training images of at least two groups.")
    labels = np.zeros(len(features)) if labels is None else np.asarray(labels)
    held_out = np.empty(len(features))
    for train, out in GroupKFold(n_folds).split(features, groups=groups):
        held_out[out] = _score(*_learn(method, features[train], labels[train]), neighbours, features[out])
    threshold = float(np.quantile(held_out, quantile, method="higher"))
    return Novelty(method, *_learn(method, features, labels), neighbours, threshold, quantile)


def novelty_score(novelty: Novelty, features: np.ndarray) -> np.ndarray:
    """How unlike the training images: float64 of shape (n,), at least 0; above ``novelty.threshold`` is a warning."""
    features = np.asarray(features, dtype=np.float32)
    d = novelty.reference.shape[1]
    if features.ndim != 2 or features.shape[1] != d:
        raise MpoxError(f"This novelty score was fitted on {d} features, and was given an array of shape {features.shape}.")
    return _score(novelty.reference, novelty.directions, novelty.scale, novelty.neighbours, features)


def _learn(method: str, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """What a `Novelty` holds: reference, directions, scale."""
    if method == "neighbours":
        return _unit(features), np.empty((features.shape[1], 0)), 0.0
    classes, codes = np.unique(labels, return_inverse=True)
    means = np.stack([features[codes == number].mean(axis=0) for number in range(len(classes))])
    within = (features - means[codes]).astype(float)
    shrunk = ledoit_wolf_shrinkage(within, assume_centered=True)
    # covariance = (1 - shrunk) within' within / n + shrunk mean(variance) identity, inverted along the singular vectors
    _, lengths, axes = np.linalg.svd(within, full_matrices=False)
    scale = 1 / max(shrunk * (within**2).mean(), 1e-12)
    along = 1 / ((1 - shrunk) * lengths**2 / len(within) + 1 / scale)
    return means, axes.T * np.sqrt(scale - along), float(scale)


def _score(reference: np.ndarray, directions: np.ndarray, scale: float, neighbours: int, features: np.ndarray) -> np.ndarray:
    if scale:
        gaps = [(features - mean).astype(float) for mean in reference]
        squared = [scale * (gap**2).sum(axis=1) - ((gap @ directions) ** 2).sum(axis=1) for gap in gaps]
        return np.sqrt(np.clip(np.min(squared, axis=0), 0, None))
    squared = np.clip(2 - 2 * (_unit(features) @ reference.T), 0, None)
    k = min(neighbours, len(reference)) - 1
    return np.sqrt(np.partition(squared, k, axis=1)[:, k]).astype(float)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
