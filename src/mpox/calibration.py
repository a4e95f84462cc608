"""Calibration: probabilities changed so that they mean what they say, by one number (temperature) or by a monotone curve.

Whether they do is measured in `mpox.reliability`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from mpox.errors import MpoxError
from mpox.foldwise import by_fold, class_names, codes_of, probabilities_of

METHODS = ("temperature", "isotonic")
#: Temperatures are looked for in this range: at the lower end every answer is sure, at the upper end none says anything.
TEMPERATURES = (0.05, 20.0)
_LEAST = 1e-12  # a probability of 0 has no logarithm


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _LEAST))


def _checked(probabilities: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, y = np.asarray(probabilities, dtype=float), np.asarray(y)
    if probabilities.ndim != 2 or y.shape != (len(probabilities),) or not len(y):
        raise MpoxError("Calibration is fitted on at least one picture: probabilities of shape (n, C), and n class numbers.")
    if y.min() < 0 or y.max() >= probabilities.shape[1]:
        raise MpoxError(f"A class number is not among the {probabilities.shape[1]} columns of probabilities.")
    return probabilities, y


def fit_temperature(probabilities: np.ndarray, y: np.ndarray) -> float:
    """The temperature T that minimises the log loss of softmax(log p / T) (Guo et al. 2017, section 4.2).

    Parameters
    ----------
    probabilities : ndarray, shape (n, C)
        Of pictures that the model has not seen; rows add up to 1.
    y : ndarray of int, shape (n,)
        Their classes.

    Returns
    -------
    float
        Above 1 where the model was too sure, below 1 where it was not sure enough; within `TEMPERATURES`.

    Raises
    ------
    MpoxError
        If there is no picture, or a class without a column.

    Examples
    --------
    Nine in ten are right where the model says 0.99: odds of 9 in place of 99.

    >>> p = np.tile([0.99, 0.01], (10, 1))
    >>> round(fit_temperature(p, np.array([0] * 9 + [1])), 2), round(float(np.log(99) / np.log(9)), 2)
    (2.09, 2.09)
    """
    probabilities, y = _checked(probabilities, y)
    logs = _log(probabilities)
    rows = np.arange(len(y))

    def loss(inverse: float) -> float:  # convex in 1 / T
        return -log_softmax(logs * inverse, axis=1)[rows, y].mean()

    low, high = (1 / limit for limit in reversed(TEMPERATURES))
    return float(1 / minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T), shape (n, C); the order of the classes of a picture does not change.

    Examples
    --------
    >>> apply_temperature(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    return softmax(_log(np.asarray(probabilities, dtype=float)) / temperature, axis=1)


@dataclass(frozen=True)
class Isotonic:
    """A monotone curve a class, from a probability to the share that was observed; straight between its knots.

    Parameters
    ----------
    x, y : tuple of tuple of float
        One tuple a class: knots, rising in both.
    """

    x: tuple[tuple[float, ...], ...]
    y: tuple[tuple[float, ...], ...]


def fit_isotonic(probabilities: np.ndarray, y: np.ndarray) -> Isotonic:
    """Isotonic regression of each class against the rest (Zadrozny and Elkan 2002), from scikit-learn.

    It assumes nothing but that a higher probability is not a worse sign, and takes many pictures to learn that: with few it
    follows chance, and gives probabilities of exactly 0 and 1.

    Parameters and errors are those of `fit_temperature`.
    """
    probabilities, y = _checked(probabilities, y)
    curves = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(column, y == number)
        for number, column in enumerate(probabilities.T)
    ]
    return Isotonic(
        *(tuple(tuple(map(float, getattr(curve, name))) for curve in curves) for name in ("X_thresholds_", "y_thresholds_"))
    )


def apply_isotonic(probabilities: np.ndarray, isotonic: Isotonic) -> np.ndarray:
    """Each column through its curve, then each row divided by its sum, shape (n, C); where all are 0, the row as it was."""
    probabilities = np.asarray(probabilities, dtype=float)
    columns = zip(probabilities.T, isotonic.x, isotonic.y, strict=True)
    mapped = np.stack([np.interp(column, x, y) for column, x, y in columns], axis=1)
    total = mapped.sum(axis=1, keepdims=True)
    return np.where(total > 0, np.divide(mapped, total, out=np.zeros_like(mapped), where=total > 0), probabilities)


def with_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Predictions of `mpox.cross_validate` with `apply_temperature` on their probabilities; below 1 makes a model surer."""
    columns = [f"p_{label}" for label in class_names(predictions)]
    changed = apply_temperature(probabilities_of(predictions), temperature)
    return predictions.assign(**dict(zip(columns, changed.T, strict=True)))


def calibrated(predictions: pd.DataFrame, nested: pd.DataFrame, method: str) -> pd.DataFrame:
    """Test predictions of every fold, calibrated by what was fitted inside the training groups of that fold.

    Parameters
    ----------
    predictions, nested : DataFrame
        See `mpox.foldwise.by_fold`.
    method : {"temperature", "isotonic"}

    Returns
    -------
    DataFrame
        The predictions, with other probabilities; for ``temperature`` with a column ``temperature``.

    Raises
    ------
    MpoxError
        If the method is unknown, or the nested predictions do not belong to the predictions.
    """
    if method not in METHODS:
        raise MpoxError(f"There is no calibration '{method}': choose one of {', '.join(METHODS)}.")

    def work(test: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
        seen, y = probabilities_of(known), codes_of(known)
        if method == "temperature":
            temperature = fit_temperature(seen, y)
            return with_temperature(test, temperature).assign(temperature=temperature)
        changed = apply_isotonic(probabilities_of(test), fit_isotonic(seen, y))
        columns = [f"p_{label}" for label in class_names(test)]
        return test.assign(**dict(zip(columns, changed.T, strict=True)))

    return by_fold(predictions, nested, work)
