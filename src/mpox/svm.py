"""A support vector machine on fixed features, its strength chosen and its probabilities calibrated inside the training groups.

Radial basis functions on standardised features (mean and deviation of the training images, never of the test images), the width
as scikit-learn's ``gamma="scale"`` has it. The kernel is computed once, which makes it cheap to ask for many strengths.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

#: Prices of a misplaced training image (scikit-learn's C) among which the inner folds choose.
STRENGTHS = np.logspace(-2, 2, 5)


def _machine(strength: float) -> SVC:
    return SVC(C=strength, kernel="precomputed", class_weight="balanced")


class _Sigmoids:
    """From scores to probabilities, a sigmoid for each class against the rest (Platt 1999, with his targets).

    scikit-learn's `CalibratedClassifierCV` fits the same, but stops too early on scores as small as a weak machine's; here they
    are scaled first.
    """

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


def _held_out_scores(strength: float, kernel: np.ndarray, y: np.ndarray, inner_fold: np.ndarray) -> np.ndarray:
    """Scores of each image by a machine fitted without its inner fold; 0 for images that are never held out."""
    n_scores = np.unique(y).size
    scores = np.zeros((len(y), n_scores) if n_scores > 2 else len(y))
    for fold in np.unique(inner_fold[inner_fold >= 0]):
        out = inner_fold == fold
        machine = _machine(strength).fit(kernel[np.ix_(~out, ~out)], y[~out])
        scores[out] = machine.decision_function(kernel[np.ix_(out, ~out)])
    return scores


def fit_predict(
    x: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, x_test: np.ndarray, *, n_classes: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Choose the strength by the log loss over the inner folds, fit, and predict; see `mpox.probe.fit_predict` for the interface.

    A machine gives scores, not probabilities. The sigmoids that translate them are fitted on the training images' scores by
    machines that had not seen their inner fold; the loss is that of the translated scores.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Features of the training images.
    y : ndarray of int, shape (n,)
        Class numbers from 0 to ``n_classes`` - 1.
    inner_fold : ndarray of int, shape (n,)
        Groups do not cross these folds; each is held out once for each strength. An image of fold -1 never is.
    x_test : ndarray, shape (m, d)
    n_classes : int

    Returns
    -------
    probabilities : ndarray of float64, shape (m, n_classes)
    history : DataFrame
        One row a strength: ``strength``, ``validation_loss`` (nats, mean over the images held out), ``chosen``.
    """
    scaler = StandardScaler().fit(x.astype(np.float64))
    known, asked = (scaler.transform(part.astype(np.float64)) for part in (x, x_test))
    gamma = 1 / (known.shape[1] * (known.var() or 1.0))
    classes, place = np.unique(y, return_inverse=True)
    held = inner_fold >= 0
    losses, sigmoids = [], []
    with threadpool_limits(1):
        kernel, towards = rbf_kernel(known, gamma=gamma), rbf_kernel(asked, known, gamma=gamma)
        for strength in STRENGTHS:
            scores = _held_out_scores(strength, kernel, y, inner_fold)[held]
            sigmoids.append(_Sigmoids(scores, y[held]))
            truth = sigmoids[-1].probabilities(scores)[np.arange(held.sum()), place[held]]
            losses.append(-np.log(np.maximum(truth, 1e-12)).mean())
        best = int(np.argmin(losses))
        scores = _machine(STRENGTHS[best]).fit(kernel, y).decision_function(towards)
    full = np.full((len(x_test), n_classes), 1e-9)
    full[:, classes] = sigmoids[best].probabilities(scores)
    history = pd.DataFrame({"strength": STRENGTHS, "validation_loss": losses})
    history["chosen"] = history.index == best
    return full / full.sum(axis=1, keepdims=True), history
