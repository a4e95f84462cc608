"""A regularised linear classifier on fixed features, its strength chosen inside the training groups."""

import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

#: Inverse strengths of the L2 penalty among which the inner folds choose.
STRENGTHS = np.logspace(-5, 0, 6)


def _estimator(head: str, strength: float, seed: int) -> Pipeline:
    if head == "hidden":
        # sklearn's alpha is a penalty: the inverse of LogisticRegression's C
        model = MLPClassifier((100,), alpha=0.01 / strength, max_iter=100, early_stopping=False, random_state=seed)
    else:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    return make_pipeline(StandardScaler(), model)


def _probabilities(fitted: Pipeline, x: np.ndarray, n_classes: int) -> np.ndarray:
    full = np.full((len(x), n_classes), 1e-9)
    full[:, fitted.classes_] = fitted.predict_proba(x)
    return full / full.sum(axis=1, keepdims=True)


def _fitted(head: str, strength: float, seed: int, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Pipeline:
    model = _estimator(head, strength, seed)
    return model.fit(x, y) if weight is None else model.fit(x, y, **{f"{model.steps[-1][0]}__sample_weight": weight})


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

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Features of the training images.
    y : ndarray of int, shape (n,)
        Class numbers from 0 to ``n_classes`` - 1.
    inner_fold : ndarray of int, shape (n,)
        Groups do not cross these folds; each is held out once for each strength. An image of fold -1 never is.
    n_classes : int
    head : {"linear", "hidden"}
        Logistic regression, or one hidden layer of 100 units.
    seed : int
    weight : ndarray of float, shape (n,), optional
        How much each image counts, in the fits and in the loss that chooses between them (importance-weighted cross-validation:
        Sugiyama et al. 2007, JMLR 8:985-1005). The scaling of the features is not weighted.

    Returns
    -------
    fitted : Pipeline
        A `StandardScaler` and the classifier.
    history : DataFrame
        One row a strength: ``strength``, ``validation_loss`` (nats, mean over the images held out), ``chosen``.
    """
    losses = []
    with warnings.catch_warnings(), threadpool_limits(1):  # small matrices: a second thread costs more than it gives
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in STRENGTHS:
            loss = np.full(len(y), np.nan)
            for fold in np.unique(inner_fold[inner_fold >= 0]):
                out = inner_fold == fold
                fitted = _fitted(head, strength, seed, x[~out], y[~out], None if weight is None else weight[~out])
                truth = _probabilities(fitted, x[out], n_classes)[np.arange(out.sum()), y[out]]
                loss[out] = -np.log(np.maximum(truth, 1e-12))  # a network can be so sure that 0 is left
            held_out = inner_fold >= 0
            losses.append(np.average(loss[held_out], weights=None if weight is None else weight[held_out]))
        best = int(np.argmin(losses))
        fitted = _fitted(head, STRENGTHS[best], seed, x, y, weight)
    history = pd.DataFrame({"strength": STRENGTHS, "validation_loss": losses})
    history["chosen"] = history.index == best
    return fitted, history


def fit_predict(
    x: np.ndarray,
    y: np.ndarray,
    inner_fold: np.ndarray,
    x_test: np.ndarray,
    *,
    n_classes: int,
    head: str,
    seed: int,
    weight: np.ndarray | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """`fit`, and predict the test images.

    Parameters
    ----------
    x, y, inner_fold, n_classes, head, seed, weight
        See `fit`.
    x_test : ndarray, shape (m, d)

    Returns
    -------
    probabilities : ndarray of float64, shape (m, n_classes)
    history : DataFrame
        See `fit`.
    """
    fitted, history = fit(x, y, inner_fold, n_classes=n_classes, head=head, seed=seed, weight=weight)
    return _probabilities(fitted, x_test, n_classes), history
