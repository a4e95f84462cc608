"""What is fitted on frozen features: linear probe, support vector machine, nearest neighbour.

All three have the interface of `fit`: features and classes of the training images, and inner folds whose held-out log loss
chooses the one free setting.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

#: Inverse strengths of the probe's L2 penalty among which the inner folds choose.
STRENGTHS = np.logspace(-5, 0, 6)
#: Prices of a misplaced training image (scikit-learn's C) of the support vector machine.
SVM_STRENGTHS = np.logspace(-2, 2, 5)
#: Scales of distance of the nearest neighbour: from "the nearest is always right" to "hardly better than chance".
SCALES = np.logspace(-2.5, 0.5, 7)
#: Cosine distance to a class without training images, the largest there is.
FARTHEST = 2.0


def _held_out(inner_fold: np.ndarray) -> Iterator[np.ndarray]:
    """Which images each inner fold holds out; those of fold -1 are in none."""
    return (inner_fold == fold for fold in np.unique(inner_fold[inner_fold >= 0]))


def _log_loss(truth: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(truth, 1e-12))  # a model can be so sure that 0 is left


def _history(setting: str, values: np.ndarray, losses: list[float]) -> pd.DataFrame:
    history = pd.DataFrame({setting: values, "validation_loss": losses})
    return history.assign(chosen=history.index == int(np.argmin(losses)))


def _all_classes(probabilities: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Probabilities of the classes in training as columns of all classes; one that is not in training has nearly none."""
    full = np.full((len(probabilities), n_classes), 1e-9)
    full[:, classes] = probabilities
    return full / full.sum(axis=1, keepdims=True)


def _probabilities(fitted: Pipeline, x: np.ndarray, n_classes: int) -> np.ndarray:
    return _all_classes(fitted.predict_proba(x), fitted.classes_, n_classes)


def _fitted(head: str, strength: float, seed: int, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Pipeline:
    if head == "hidden":
        # sklearn's alpha is a penalty: the inverse of LogisticRegression's C
        model = MLPClassifier((100,), alpha=0.01 / strength, max_iter=100, early_stopping=False, random_state=seed)
    else:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    pipeline = make_pipeline(StandardScaler(), model)
    return pipeline.fit(x, y) if weight is None else pipeline.fit(x, y, **{f"{pipeline.steps[-1][0]}__sample_weight": weight})


def fit(
    x: np.ndarray,
    y: np.ndarray,
    inner_fold: np.ndarray,
    *,
    n_classes: int,
    head: str,
    seed: int,
    weight: np.ndarray | None = None,
) -> tuple[Pipeline, pd.DataFrame]:
    """Choose the strength by the log loss over the inner folds, and fit on all training images.

    ``x`` are features, shape (n, d), and ``y`` class numbers from 0. Groups do not cross the inner folds, each of which is held
    out once for each strength; an image of fold -1 never is. A ``linear`` head is a logistic regression, a ``hidden`` one has one
    layer of 100 units. ``weight`` says how much each image counts, in the fits and in the loss that chooses between them
    (importance-weighted cross-validation: Sugiyama et al. 2007, JMLR 8:985-1005); the scaling of the features is not weighted.

    The pipeline is a `StandardScaler` and the classifier. The history has one row a ``strength``: ``validation_loss`` (nats, mean
    over the images held out), ``chosen``.
    """
    losses = []
    held = inner_fold >= 0
    with warnings.catch_warnings(), threadpool_limits(1):  # small matrices: a second thread costs more than it gives
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in STRENGTHS:
            loss = np.full(len(y), np.nan)
            for out in _held_out(inner_fold):
                fitted = _fitted(head, strength, seed, x[~out], y[~out], None if weight is None else weight[~out])
                loss[out] = _log_loss(_probabilities(fitted, x[out], n_classes)[np.arange(out.sum()), y[out]])
            losses.append(np.average(loss[held], weights=None if weight is None else weight[held]))
        fitted = _fitted(head, STRENGTHS[int(np.argmin(losses))], seed, x, y, weight)
    return fitted, _history("strength", STRENGTHS, losses)


def predict_by_probe(
    x: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, x_test: np.ndarray, *, n_classes: int, **options: Any
) -> tuple[np.ndarray, pd.DataFrame]:
    """`fit` with its options, and predict ``x_test``, shape (m, d): probabilities, shape (m, n_classes), and the history."""
    fitted, history = fit(x, y, inner_fold, n_classes=n_classes, **options)
    return _probabilities(fitted, x_test, n_classes), history


def predict_at(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, *, strength: float, n_classes: int, head: str, seed: int
) -> np.ndarray:
    """`predict_by_probe` at a strength that was chosen before: probabilities, shape (m, n_classes). One class is all it has seen?
    Then it names that."""
    if len(known := np.unique(y)) == 1:
        return _all_classes(np.ones((len(x_test), 1)), known, n_classes)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _probabilities(_fitted(head, strength, seed, x, y, None), x_test, n_classes)


class _Sigmoids:
    """From scores to probabilities, a sigmoid for each class against the rest (Platt 1999, with his targets)."""

    def __init__(self, scores: np.ndarray, y: np.ndarray):
        scores = self._columns(scores)
        self.scale = np.maximum(scores.std(axis=0), 1e-12)
        labels = np.unique(y)
        self.classes = labels if scores.shape[1] > 1 else labels[1:]  # of two classes one sigmoid serves both
        self.fits = [self._fit(scores[:, [k]] / self.scale[k], y == label) for k, label in enumerate(self.classes)]

    @staticmethod
    def _columns(scores: np.ndarray) -> np.ndarray:
        return scores[:, None] if scores.ndim == 1 else scores

    @staticmethod
    def _fit(score: np.ndarray, is_class: np.ndarray) -> LogisticRegression:
        n_in, n_out = is_class.sum(), (~is_class).sum()
        target = np.where(is_class, (n_in + 1) / (n_in + 2), 1 / (n_out + 2))
        both, truth = np.concatenate([score, score]), np.repeat([True, False], len(score))
        return LogisticRegression(C=1e6, tol=1e-8).fit(both, truth, sample_weight=np.concatenate([target, 1 - target]))

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities that add up to 1, shape (m, number of classes in training)."""
        scores = self._columns(scores) / self.scale
        each = np.column_stack([fit.predict_proba(scores[:, [k]])[:, 1] for k, fit in enumerate(self.fits)])
        each = np.column_stack([1 - each, each]) if each.shape[1] == 1 else each
        return each / each.sum(axis=1, keepdims=True)


def predict_by_svm(
    x: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, x_test: np.ndarray, *, n_classes: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Choose the strength by the log loss over the inner folds, fit, and predict, as `predict_by_probe` does.

    A machine gives scores, not probabilities. The sigmoids that translate them are fitted on the training images' scores by
    machines that had not seen their inner fold; the loss is that of the translated scores.
    """
    scaler = StandardScaler().fit(x.astype(np.float64))
    known, asked = (scaler.transform(part.astype(np.float64)) for part in (x, x_test))
    gamma = 1 / (known.shape[1] * (known.var() or 1.0))
    classes, place = np.unique(y, return_inverse=True)
    held = inner_fold >= 0
    losses, sigmoids = [], []
    with threadpool_limits(1):
        kernel, towards = rbf_kernel(known, gamma=gamma), rbf_kernel(asked, known, gamma=gamma)
        machines = [SVC(C=strength, kernel="precomputed", class_weight="balanced") for strength in SVM_STRENGTHS]
        for machine in machines:
            scores = np.zeros((len(y), len(classes)) if len(classes) > 2 else len(y))
            for out in _held_out(inner_fold):
                scores[out] = machine.fit(kernel[np.ix_(~out, ~out)], y[~out]).decision_function(kernel[np.ix_(out, ~out)])
            sigmoids.append(_Sigmoids(scores[held], y[held]))
            losses.append(_log_loss(sigmoids[-1].probabilities(scores[held])[np.arange(held.sum()), place[held]]).mean())
        best = int(np.argmin(losses))
        scores = machines[best].fit(kernel, y).decision_function(towards)
    return _all_classes(sigmoids[best].probabilities(scores), classes, n_classes), _history("strength", SVM_STRENGTHS, losses)


def class_distances(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, n_classes: int) -> np.ndarray:
    """Cosine distance from each test image to the nearest training image of each class."""
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    known, asked = ((part - mean) / deviation for part in (x, x_test))
    known, asked = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (known, asked))
    distances = np.full((len(x_test), n_classes), FARTHEST)
    for label in np.unique(y):
        distances[:, label] = 1 - (asked @ known[y == label].T).max(axis=1)
    return distances


def _softmax(distances: np.ndarray, scale: float) -> np.ndarray:
    odds = np.exp((distances.min(axis=1, keepdims=True) - distances) / scale)
    return odds / odds.sum(axis=1, keepdims=True)


def predict_by_neighbour(
    x: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, x_test: np.ndarray, *, n_classes: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Predict the test images by their nearest training image, as `predict_by_probe` does.

    The probability of a class is ``softmax(-d / s)``, with d the distance to its nearest training image. Its largest value is the
    nearest neighbour's class whatever s is; s, chosen by the log loss over the inner folds, only says how sure to be, so that
    curves and areas under them are defined. The history has one row a ``scale``.
    """
    with threadpool_limits(1):
        held_out = np.zeros((len(y), n_classes))
        for out in _held_out(inner_fold):
            held_out[out] = class_distances(x[~out], y[~out], x[out], n_classes)
        distances = class_distances(x, y, x_test, n_classes)
    rows = np.flatnonzero(inner_fold >= 0)
    losses = [_log_loss(_softmax(held_out, scale)[rows, y[rows]]).mean() for scale in SCALES]
    return _softmax(distances, SCALES[int(np.argmin(losses))]), _history("scale", SCALES, losses)


#: What predicts in each regime that works on frozen features.
PREDICT: dict[str, Callable[..., tuple[np.ndarray, pd.DataFrame]]] = {
    "linear_probe": predict_by_probe,
    "svm": predict_by_svm,
    "nearest_neighbour": predict_by_neighbour,
}
