"""Conformal prediction: in place of one answer the set of classes that cannot be excluded, with a stated coverage.

If the pictures to come are exchangeable with those on which it is fitted, a set holds the true class with at least the stated
probability, whatever the model (Vovk et al. 2005). Groups of pictures are exchangeable at best, pictures are not, and another
collection is not at all: what the coverage is worth has to be measured, in `coverage_table`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.stats.calibration import by_fold, class_names, codes_of, probabilities_of
from mpox.stats.metrics import N_BOOTSTRAP, group_weights
from mpox.stats.resample import with_percentiles

NOTHING, CERTAIN, UNSURE = "no class fits", "one class", "not sure"


@dataclass(frozen=True)
class ConformalScores:
    """What was learnt on held-out pictures; only numbers, so that `dataclasses.asdict` gives JSON.

    Parameters
    ----------
    scores : tuple of tuple of float
        Sorted nonconformity scores, 1 minus the probability of the true class: one tuple a class, or the same one for all
        classes where they were not told apart.
    by_class : bool
    """

    scores: tuple[tuple[float, ...], ...]
    by_class: bool


def fit_conformal(probabilities: np.ndarray, y: np.ndarray, *, by_class: bool = True) -> ConformalScores:
    """Split-conformal scores of held-out pictures: 1 minus the probability of the true class (Sadinle et al. 2019).

    Parameters
    ----------
    probabilities : ndarray, shape (n, C)
    y : ndarray of int, shape (n,)
        Class numbers from 0 to C - 1.
    by_class : bool
        Scores are compared with those of the same class only (label-conditional, or Mondrian: Vovk et al. 2005, section 4.5), so
        that the coverage holds for each class and not just on average. A class that was never held out can never be excluded.

    Returns
    -------
    ConformalScores

    Raises
    ------
    MpoxError
        If there is no picture, or a class without a column.
    """
    probabilities, y = np.asarray(probabilities, dtype=float), np.asarray(y)
    if probabilities.ndim != 2 or y.shape != (len(probabilities),) or not len(y):
        raise MpoxError("Conformal scores take at least one picture: probabilities of shape (n, C), and n class numbers.")
    n_classes = probabilities.shape[1]
    if y.min() < 0 or y.max() >= n_classes:
        raise MpoxError(f"A class number is not among the {n_classes} columns of probabilities.")
    scores = 1 - probabilities[np.arange(len(y)), y]
    parts = [scores[y == number] if by_class else scores for number in range(n_classes)]
    return ConformalScores(tuple(tuple(np.sort(part).tolist()) for part in parts), by_class)


def p_values(scores: ConformalScores, probabilities: np.ndarray) -> np.ndarray:
    """For every class, how unusual the picture would be if it were of that class: float of shape (n, C), above 0 to 1.

    The share of pictures, this one among them, that conform no better (Vovk et al. 2005, eq. 2.20, not smoothed).

    Raises
    ------
    MpoxError
        If there are not as many columns as classes.
    """
    candidate = 1 - np.asarray(probabilities, dtype=float)
    if candidate.ndim != 2 or candidate.shape[1] != len(scores.scores):
        raise MpoxError(f"These conformal scores are for {len(scores.scores)} classes: give probabilities of shape (n, C).")
    columns = []
    for column, of_class in zip(candidate.T, scores.scores, strict=True):
        known = np.asarray(of_class)
        columns.append((len(known) - np.searchsorted(known, column, side="left") + 1) / (len(known) + 1))
    return np.stack(columns, axis=1)


def predict_sets(scores: ConformalScores, probabilities: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    """The classes that cannot be excluded: bool of shape (n, C); a row may have several, or none.

    Parameters
    ----------
    scores : ConformalScores
    probabilities : ndarray, shape (n, C)
    confidence : float
        Between 0 and 1: the coverage that is asked for. With n held-out pictures of a class nothing above n / (n + 1) can
        exclude it.

    Returns
    -------
    ndarray of bool, shape (n, C)

    Raises
    ------
    MpoxError
        If the confidence is not between 0 and 1, or the number of classes is another.

    Examples
    --------
    >>> scores = fit_conformal(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]), np.array([0, 0, 1, 1]))
    >>> predict_sets(scores, np.array([[0.85, 0.15], [0.6, 0.4]]), confidence=0.6).tolist()
    [[True, False], [False, False]]
    """
    if not 0 < confidence < 1:
        raise MpoxError(f"A confidence lies between 0 and 1, not at {confidence}.")
    return p_values(scores, probabilities) > (1 - confidence) * (1 + 1e-9)  # 1 - 0.9 is a little less than 1 / 10


def conformal_sets(
    predictions: pd.DataFrame, nested: pd.DataFrame, *, confidence: float = 0.9, by_class: bool = True
) -> pd.DataFrame:
    """Sets for the test predictions of every fold, from scores of the training groups of that fold.

    Parameters
    ----------
    predictions, nested : DataFrame
        See `mpox.stats.calibration.by_fold`.
    confidence, by_class
        See `predict_sets` and `fit_conformal`.

    Returns
    -------
    DataFrame
        The predictions with ``in_<class>`` (bool), ``size`` (classes in the set), ``covered`` (bool: the true class is in it) and
        ``answer`` (`NOTHING`, `CERTAIN` or `UNSURE`).
    """

    def work(test: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
        scores = fit_conformal(probabilities_of(known), codes_of(known), by_class=by_class)
        sets = predict_sets(scores, probabilities_of(test), confidence)
        size = sets.sum(axis=1)
        named = {f"in_{label}": column for label, column in zip(class_names(test), sets.T, strict=True)}
        answers = np.array([NOTHING, CERTAIN, UNSURE])[np.minimum(size, 2)]
        return test.assign(**named, size=size, covered=sets[np.arange(len(test)), codes_of(test)], answer=answers)

    return by_fold(predictions, nested, work)


def coverage_table(sets: pd.DataFrame, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """How often the sets hold the true class, how large they are and how often they decide, with intervals from groups.

    Parameters
    ----------
    sets : DataFrame
        From `conformal_sets`; of one repeat, or several, which are pooled.
    n_bootstrap, seed : int
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``class`` (a label, or ``all``), ``images`` (in a repeat), ``measure``, ``estimate``, ``low``, ``high``. The measures are
        ``coverage``; ``size`` (mean number of classes); the shares `CERTAIN`, `UNSURE` and `NOTHING`; ``right if certain``, the
        share of sets of one class that name the true one.
    """
    weights = group_weights(sets["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    covered, certain = sets["covered"].to_numpy(), (sets["answer"] == CERTAIN).to_numpy()
    everyone = np.ones(len(sets), dtype=bool)
    measures = {"coverage": (covered, everyone), "size": (sets["size"].to_numpy(), everyone)}
    measures |= {answer: ((sets["answer"] == answer).to_numpy(), everyone) for answer in (CERTAIN, UNSURE, NOTHING)}
    measures["right if certain"] = (covered & certain, certain)
    rows = []
    for label in [*class_names(sets), "all"]:
        of_class = everyone if label == "all" else (sets["label"] == label).to_numpy()
        about = {"class": label, "images": int(of_class.sum() / sets["repeat"].nunique())}
        for measure, (value, among) in measures.items():
            counted = weights[:, among & of_class]
            total = counted.sum(axis=1)
            with np.errstate(invalid="ignore"):
                values = (counted @ value[among & of_class].astype(float)) / np.where(total > 0, total, np.nan)
            estimate, low, high = with_percentiles(values)
            rows.append({**about, "measure": measure, "estimate": estimate, "low": low, "high": high})
    return pd.DataFrame(rows)
