"""The nearest neighbour: a picture is what the most similar training picture is.

Nothing is learnt, so that it shows what looking up costs and gains: with a copy of the test picture in training it is right
whatever the disease looks like.

Features are standardised (mean and deviation of the training images, never of the test images) as the probe's are, so that no
channel of the backbone decides by its scale alone, and then scaled to length 1; the distance is the cosine distance, 0 to 2.
"""

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

#: Scales of distance among which the inner folds choose: from "the nearest is always right" to "hardly better than chance".
SCALES = np.logspace(-2.5, 0.5, 7)
FARTHEST = 2.0


def _unit(x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    z = (x - mean) / deviation
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def class_distances(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, n_classes: int) -> np.ndarray:
    """Cosine distance from each test image to the nearest training image of each class.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Features of the training images; their mean and deviation standardise both.
    y : ndarray of int, shape (n,)
    x_test : ndarray, shape (m, d)
    n_classes : int

    Returns
    -------
    ndarray of float64, shape (m, n_classes)
        From 0 (a copy) to 2; 2 for a class without training images.
    """
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    known, asked = _unit(x, mean, deviation), _unit(x_test, mean, deviation)
    distances = np.full((len(x_test), n_classes), FARTHEST)
    for label in np.unique(y):
        distances[:, label] = 1 - (asked @ known[y == label].T).max(axis=1)
    return distances


def _probabilities(distances: np.ndarray, scale: float) -> np.ndarray:
    logits = (distances.min(axis=1, keepdims=True) - distances) / scale
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


def fit_predict(
    x: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, x_test: np.ndarray, *, n_classes: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Predict the test images by their nearest training image; see `mpox.probe.fit_predict`, whose interface this is.

    The probability of a class is ``softmax(-d / s)``, with d the distance to its nearest training image. Its largest value is the
    nearest neighbour's class whatever s is; s, chosen by the log loss over the inner folds, only says how sure to be, so that
    curves and areas under them are defined.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Features of the training images.
    y : ndarray of int, shape (n,)
        Class numbers from 0 to ``n_classes`` - 1.
    inner_fold : ndarray of int, shape (n,)
        Groups do not cross these folds; each is held out once. An image of fold -1 never is.
    x_test : ndarray, shape (m, d)
    n_classes : int

    Returns
    -------
    probabilities : ndarray of float64, shape (m, n_classes)
    history : DataFrame
        One row a scale: ``scale``, ``validation_loss`` (nats, mean over the images held out), ``chosen``.
    """
    with threadpool_limits(1):
        held_out = np.zeros((len(y), n_classes))
        for fold in np.unique(inner_fold[inner_fold >= 0]):
            out = inner_fold == fold
            held_out[out] = class_distances(x[~out], y[~out], x[out], n_classes)
        distances = class_distances(x, y, x_test, n_classes)
    rows = np.flatnonzero(inner_fold >= 0)
    losses = [-np.log(np.maximum(_probabilities(held_out, scale)[rows, y[rows]], 1e-12)).mean() for scale in SCALES]
    best = int(np.argmin(losses))
    history = pd.DataFrame({"scale": SCALES, "validation_loss": losses})
    history["chosen"] = history.index == best
    return _probabilities(distances, SCALES[best]), history
