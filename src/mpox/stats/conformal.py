"""Conformal prediction: in place of one answer the set of classes that cannot be excluded, at a stated level.

Where one model scores held-out images and new ones, all exchangeable, a set holds the true class with at least the stated
probability 1 - alpha, whatever the model (split conformal: Vovk et al. 2005). The scores of this study are not of that kind:
models of inner folds score the held-out images, a model of all training images the tested one. Of scores from cross-validation
no more than 1 - 2 alpha is proved, less a term that vanishes as images grow many, and that for a tested image that every fold's
model scores (cross-conformal: Vovk 2015; CV+ and jackknife+: Barber et al. 2021). Nor are images of one group exchangeable, and
those of another collection not at all. So `coverage_table` measures what the sets reach.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.stats.calibration import by_fold, checked
from mpox.stats.metrics import class_names, codes_of, groups_of, probabilities_of
from mpox.stats.resample import bootstrap, weighted_mean

NOTHING, CERTAIN, UNSURE = "no class fits", "one class", "not sure"


@dataclass(frozen=True)
class ConformalScores:
    """Sorted nonconformity scores of held-out images, a tuple a class; only numbers, so that `dataclasses.asdict` gives JSON."""

    scores: tuple[tuple[float, ...], ...]
    by_class: bool


def fit_conformal(probabilities: np.ndarray, y: np.ndarray, *, by_class: bool = True) -> ConformalScores:
    """Conformal scores, 1 minus the probability of the true class (Sadinle et al. 2019), from (n, C) and (n,).

    ``by_class`` compares scores with those of the same class only (label-conditional, or Mondrian: Vovk et al. 2005, section
    4.5), so that what holds of the coverage holds for each class. A class that was never held out can never be excluded.
    """
    probabilities, y = checked(probabilities, y)
    scores = 1 - probabilities[np.arange(len(y)), y]
    parts = [scores[y == number] if by_class else scores for number in range(probabilities.shape[1])]
    return ConformalScores(tuple(tuple(np.sort(part).tolist()) for part in parts), by_class)


def p_values(scores: ConformalScores, probabilities: np.ndarray) -> np.ndarray:
    """For every class, how unusual the image would be if it were of that class: float of shape (n, C), above 0 to 1. The share
    of images, this one among them, that conform no better (Vovk et al. 2005, eq. 2.20, not smoothed)."""
    candidate = 1 - np.asarray(probabilities, dtype=float)
    if candidate.ndim != 2 or candidate.shape[1] != len(scores.scores):
        raise MpoxError(f"These conformal scores are for {len(scores.scores)} classes: give probabilities of shape (n, C).")
    columns = zip(candidate.T, map(np.asarray, scores.scores), strict=True)
    return np.stack([(len(known) - np.searchsorted(known, one) + 1) / (len(known) + 1) for one, known in columns], axis=1)


def predict_sets(scores: ConformalScores, probabilities: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    """The classes that cannot be excluded at a confidence (0 to 1): bool of shape (n, C); a row may have several, or none.

    With n held-out images of a class nothing above a confidence of n / (n + 1) can exclude it.
    """
    if not 0 < confidence < 1:
        raise MpoxError(f"A confidence lies between 0 and 1, not at {confidence}.")
    return p_values(scores, probabilities) > (1 - confidence) * (1 + 1e-9)  # 1 - 0.9 is a little less than 1 / 10


def conformal_sets(
    predictions: pd.DataFrame, nested: pd.DataFrame, *, confidence: float = 0.9, by_class: bool = True
) -> pd.DataFrame:
    """Sets for the test predictions of every fold, from scores of the training groups of that fold; for what they are worth see
    the module.

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


def coverage_table(sets: pd.DataFrame, **resampling: Any) -> pd.DataFrame:
    """How often the sets hold the true class, how large they are and how often they decide, with intervals from groups.

    Parameters
    ----------
    sets : DataFrame
        From `conformal_sets`; repeats are pooled.
    **resampling
        As in `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``class`` (a label, or ``all``), ``images`` (in a repeat), ``measure``, ``estimate``, ``low``, ``high``,
        ``interval`` (its kind). The measures are ``coverage``; ``size`` (mean number of classes); the shares `CERTAIN`, `UNSURE`
        and `NOTHING`; ``right if certain``, the share of sets of one class that name the true one.
    """
    label, answer, covered = (sets[name].to_numpy() for name in ("label", "answer", "covered"))
    everyone = np.ones(len(sets), dtype=bool)
    measures = {"coverage": (covered, everyone), "size": (sets["size"].to_numpy(), everyone)}
    measures |= {one: (answer == one, everyone) for one in (CERTAIN, UNSURE, NOTHING)}
    measures["right if certain"] = (covered, answer == CERTAIN)
    classes = {one: label == one for one in class_names(sets)} | {"all": everyone}

    def statistic(weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        return {
            (one, measure): weighted_mean(value, weights, among & of_class)
            for one, of_class in classes.items()
            for measure, (value, among) in measures.items()
        }

    n_repeats = sets["repeat"].nunique()
    proportions = {measure: among for measure, (_, among) in measures.items() if measure != "size"}
    shares = {(one, measure): among & classes[one] for one in classes for measure, among in proportions.items()}
    rows = [
        {"class": one, "images": int(classes[one].sum() / n_repeats), "measure": measure, **values.row(), "interval": values.kind}
        for (one, measure), values in bootstrap(statistic, groups_of(sets), among=shares, **resampling).items()
    ]
    return pd.DataFrame(rows)
