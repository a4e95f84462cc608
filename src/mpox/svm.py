"""A support vector machine on fixed features, its strength chosen and its probabilities calibrated inside the training groups.

Radial basis functions on standardised features (mean and deviation of the training images, never of the test images), the width
as scikit-learn's ``gamma="scale"`` has it. The kernel is computed once, which makes it cheap to ask for many strengths.
"""

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from mpox.metrics import weighted_auroc

#: Prices of a misplaced training image (scikit-learn's C) among which the inner folds choose.
STRENGTHS = np.logspace(-2, 2, 5)


def _machine(strength: float) -> SVC:
    return SVC(C=strength, kernel="precomputed", class_weight="balanced")


def _auroc(scores: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, classes: np.ndarray) -> float:
    """Mean over inner folds and classes of the AUROC against the rest; scores of different machines are not comparable."""
    scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
    areas = []
    for fold in np.unique(inner_fold):
        out = inner_fold == fold
        weights = np.ones((1, out.sum()))
        areas += [weighted_auroc(y[out] == label, scores[out, k], weights)[0] for k, label in enumerate(classes)]
    return float(np.nanmean(areas))


def fit_predict(
    x: np.ndarray, y: np.ndarray, inner_fold: np.ndarray, x_test: np.ndarray, *, n_classes: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Choose the strength by the AUROC over the inner folds, fit, and predict; see `mpox.probe.fit_predict` for the interface.

    The distances from the margin become probabilities by a sigmoid for each class against the rest (Platt 1999), fitted on the
    training images' distances from machines that had not seen their inner fold, and scaled to the sum 1.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Features of the training images.
    y : ndarray of int, shape (n,)
        Class numbers from 0 to ``n_classes`` - 1.
    inner_fold : ndarray of int, shape (n,)
        Groups do not cross these folds; each is held out once for each strength.
    x_test : ndarray, shape (m, d)
    n_classes : int

    Returns
    -------
    probabilities : ndarray of float64, shape (m, n_classes)
    history : DataFrame
        One row a strength: ``strength``, ``validation_auroc`` (mean over the inner folds and classes, 0 to 1), ``chosen`` (the
        weakest of the best).
    """
    scaler = StandardScaler().fit(x.astype(np.float64))
    known, asked = (scaler.transform(part.astype(np.float64)) for part in (x, x_test))
    gamma = 1 / (known.shape[1] * (known.var() or 1.0))
    classes, folds = np.unique(y), PredefinedSplit(np.unique(inner_fold, return_inverse=True)[1])
    with threadpool_limits(1):
        kernel, towards = rbf_kernel(known, gamma=gamma), rbf_kernel(asked, known, gamma=gamma)
        areas = []
        for strength in STRENGTHS:
            scores = cross_val_predict(_machine(strength), kernel, y, cv=folds, method="decision_function")
            areas.append(_auroc(scores, y, inner_fold, classes))
        best = int(np.argmax(areas))
        fitted = CalibratedClassifierCV(_machine(STRENGTHS[best]), method="sigmoid", cv=folds, ensemble=False).fit(kernel, y)
        full = np.full((len(x_test), n_classes), 1e-9)
        full[:, fitted.classes_] = fitted.predict_proba(towards)
    history = pd.DataFrame({"strength": STRENGTHS, "validation_auroc": areas})
    history["chosen"] = history.index == best
    return full / full.sum(axis=1, keepdims=True), history
