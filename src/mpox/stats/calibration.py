"""Whether a probability means what it says: fitted on nested predictions, judged on test folds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression

from mpox._core import MpoxError
from mpox.stats.metrics import N_BOOTSTRAP, group_weights
from mpox.stats.resample import TAILS, with_percentiles

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
        See `mpox.stats.calibration.by_fold`.
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


TOP = "top"
N_BINS = 10
N_SIMULATED = 500
#: Probabilities of 0 and 1 have no log-odds: slope and intercept take them as this, and 1 minus this.
CLIPPED = 1e-3
#: Sums of distances: resampling adds chance to chance, so that their replicates are moved to have the estimate as their mean.
GROWING = ("ece", "ece excess", "reliability", "reliability debiased", "resolution")
#: Those of them that may be below 0.
SIGNED = ("ece excess", "reliability debiased")
_STEPS = 50
_LARGEST_STEP = 4.0


def stated(predictions: pd.DataFrame, of: str = "Mpox") -> tuple[np.ndarray, np.ndarray]:
    """What was said, a probability, and whether it came true; float64 and bool of shape (n,).

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`.
    of : str
        A class: its probability, and whether it is the true one. ``top``: the largest probability, and whether its class is the
        true one.

    Raises
    ------
    MpoxError
        If there are no predictions, or no such class.
    """
    classes = class_names(predictions)
    if predictions.empty or (of != TOP and of not in classes):
        raise MpoxError(f"No predictions of '{of}' to look at: choose '{TOP}', or one of the classes {', '.join(classes)}.")
    probabilities, y = probabilities_of(predictions), codes_of(predictions)
    column = probabilities.argmax(axis=1) if of == TOP else np.full(len(y), classes.index(of))
    return probabilities[np.arange(len(y)), column], column == y


def mass_bins(probability: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each probability, int64 from 0: as many pictures in each as equal probabilities, which stay together, allow."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)[1]


def _sums(bins: np.ndarray, weights: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Weight of each bin, then the weighted sum of each of the values in it; each (b, bins)."""
    member = (bins[:, None] == np.arange(bins.max() + 1)).astype(float)
    return [weights @ (member * value[:, None]) for value in (np.ones(len(bins)), *values)]


def reliability_bins(
    predictions: pd.DataFrame, of: str = "Mpox", *, n_bins: int = N_BINS, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """The points of a reliability diagram, with bins of equal mass.

    Parameters
    ----------
    predictions, of
        See `stated`.
    n_bins : int
    n_bootstrap, seed : int
        See `mpox.evaluate`; the bins stay the same in all replicates.

    Returns
    -------
    DataFrame
        One row a bin: ``images``, ``stated`` (mean probability), ``observed`` (share that came true), ``low``, ``high`` (of the
        share).
    """
    probability, happened = stated(predictions, of)
    bins = mass_bins(probability, n_bins)
    weights = group_weights(predictions["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    mass, said, true = _sums(bins, weights, probability, happened.astype(float))
    with np.errstate(invalid="ignore"):
        shares = np.where(mass > 0, true / mass, np.nan)
    low, high = np.nanquantile(shares[1:], TAILS, axis=0) if n_bootstrap else (np.nan, np.nan)
    about = {"images": mass[0].astype(int), "stated": said[0] / mass[0], "observed": shares[0]}
    return pd.DataFrame({**about, "low": low, "high": high})


def ece(bins: np.ndarray, weights: np.ndarray, probability: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """Expected calibration error for many weightings, shape (b,): the mean distance of stated and observed over the bins.

    Guo et al. 2017, eq. 3; with the bins of `mass_bins` it is the adaptive form of Nguyen and O'Connor 2015.
    """
    _, said, true = _sums(bins, weights, probability, happened.astype(float))
    return np.abs(said - true).sum(axis=1) / weights.sum(axis=1)


def ece_if_calibrated(
    bins: np.ndarray, probability: np.ndarray, groups: np.ndarray, *, n_simulated: int = N_SIMULATED, seed: int = 0
) -> np.ndarray:
    """The ECE that a perfectly calibrated model would show on as many pictures, simulated: shape (n_simulated,).

    It is not zero: a distance is never negative, so that chance adds up (Bröcker and Smith 2007, 'consistency resampling').
    What happens is drawn with the stated probabilities, once a group: the pictures of a patient have one diagnosis.
    """
    _, codes = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).random((n_simulated, codes.max() + 1))[:, codes]
    excess = (drawn < probability) - probability
    member = (bins[:, None] == np.arange(bins.max() + 1)).astype(float)
    return np.abs(excess @ member).sum(axis=1) / len(probability)


def brier_parts(bins: np.ndarray, weights: np.ndarray, probability: np.ndarray, happened: np.ndarray) -> dict[str, np.ndarray]:
    """The Brier score and its parts for many weightings: brier = reliability - resolution + uncertainty + within.

    Murphy 1973, eq. 6, with the part that probabilities of one bin differ among each other (Stephenson et al. 2008, eq. 5).

    Parameters
    ----------
    bins : ndarray of int, shape (n,)
    weights : ndarray, shape (b, n)
    probability : ndarray, shape (n,)
    happened : ndarray of bool, shape (n,)

    Returns
    -------
    dict of str to ndarray, shape (b,)
        ``brier``; ``reliability`` (squared distance of stated and observed, 0 is best), ``resolution`` (how far the bins differ
        in what is observed, more is better), ``uncertainty`` (of who knows nothing but how common the class is), ``within``.
    """
    true = happened.astype(float)
    mass, said, came, square, both = _sums(bins, weights, probability, true, probability**2, probability * true)
    total = mass.sum(axis=1)
    safe = np.where(mass > 0, mass, 1)
    mean, share = said / safe, came / safe
    overall = came.sum(axis=1) / total
    variance, covariance = square / safe - mean**2, both / safe - mean * share
    parts = {
        "brier": weights @ ((probability - true) ** 2) / total,
        "reliability": (mass * (mean - share) ** 2).sum(axis=1) / total,
        "resolution": (mass * (share - overall[:, None]) ** 2).sum(axis=1) / total,
        "uncertainty": overall * (1 - overall),
        "within": (mass * (variance - 2 * covariance)).sum(axis=1) / total,
    }
    return parts


def slope_and_intercept(probability: np.ndarray, happened: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Calibration slope and calibration in the large for many weightings at once (Cox 1958; Van Calster et al. 2019); both (b,).

    The slope b of a logistic regression of what happened, logit = a + b logit(p): below 1 the probabilities are too extreme. The
    intercept of another in which the slope is held at 1: above 0 the probabilities are too low on the whole. Fitted by Newton's
    method; NaN where it does not converge, because the two sides are divided perfectly, or there is only one.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        Taken from `CLIPPED` to 1 - `CLIPPED`.
    happened : ndarray of bool, shape (n,)
    weights : ndarray, shape (b, n)
    """
    odds = logit(np.clip(probability, CLIPPED, 1 - CLIPPED))
    both = _newton(np.stack([np.ones(len(odds)), odds], axis=1), np.zeros(len(odds)), happened, weights)
    alone = _newton(np.ones((len(odds), 1)), odds, happened, weights)
    return both[:, 1], alone[:, 0]


def _newton(design: np.ndarray, offset: np.ndarray, happened: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients (b, k) of logistic regressions that differ in their weights alone."""
    coefficients = np.zeros((len(weights), design.shape[1]))
    step = np.full_like(coefficients, np.inf)
    products = design[:, :, None] * design[:, None, :]
    for _ in range(_STEPS):
        fitted = expit(coefficients @ design.T + offset)
        gradient = (weights * (happened - fitted)) @ design
        curvature = np.einsum("bn,nij->bij", weights * fitted * (1 - fitted), products)
        curvature += 1e-9 * np.eye(design.shape[1])  # of a side that is missing
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        coefficients += step * np.minimum(1, _LARGEST_STEP / np.maximum(size, 1e-300))
        if size.max() < 1e-8:
            break
    coefficients[np.abs(step).max(axis=1) > 1e-6] = np.nan
    return coefficients


def calibration_table(
    predictions: pd.DataFrame, of: str = "Mpox", *, n_bins: int = N_BINS, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """All measures of calibration, with 95 % intervals from resampling groups (for `GROWING` see there).

    Parameters
    ----------
    predictions, of
        See `stated`.
    n_bins, n_bootstrap, seed : int
        See `reliability_bins`.

    Returns
    -------
    DataFrame
        ``measure``, ``estimate``, ``low``, ``high``. ``ece``; ``ece if calibrated`` (mean and middle 95 % of
        `ece_if_calibrated`); ``ece excess`` (the difference of the two: the ECE without the bias that it would have if there
        were nothing to find); the `brier_parts`; ``reliability debiased`` (without what chance
        adds to the squared distances, the variance of each bin's gap between the replicates, after Bröcker 2012 and Kumar et al.
        2019; may be below 0); ``slope`` and ``intercept``; ``mean stated minus observed``.
    """
    probability, happened = stated(predictions, of)
    groups = predictions["group_id"].to_numpy(dtype=str)
    bins, weights = mass_bins(probability, n_bins), group_weights(groups, n_bootstrap, seed)
    found = {"ece": ece(bins, weights, probability, happened)}
    simulated = ece_if_calibrated(bins, probability, groups, seed=seed)
    floor = np.r_[simulated.mean(), simulated]
    found |= {"ece if calibrated": floor, "ece excess": found["ece"] - floor[0]}
    found |= brier_parts(bins, weights, probability, happened)
    if n_bootstrap > 1:
        found["reliability debiased"] = found["reliability"] - _chance(bins, weights, probability, happened)
    slope, intercept = slope_and_intercept(probability, happened, weights)
    gap = weights @ (probability - happened) / weights.sum(axis=1)
    found |= {"slope": slope, "intercept": intercept, "mean stated minus observed": gap}
    rows = []
    for name, values in found.items():
        if name in GROWING and n_bootstrap:
            moved = values[1:] - (values[1:].mean() - values[0])
            values = np.r_[values[0], moved if name in SIGNED else np.maximum(moved, 0)]
        rows.append((name, *with_percentiles(values)))
    return pd.DataFrame(rows, columns=["measure", "estimate", "low", "high"])


def _chance(bins: np.ndarray, weights: np.ndarray, probability: np.ndarray, happened: np.ndarray) -> float:
    """What chance adds to the reliability: the mean over the bins of the variance of the gap between stated and observed."""
    mass, gap = _sums(bins, weights, probability - happened)
    with np.errstate(invalid="ignore"):
        gaps = np.where(mass > 0, gap / mass, np.nan)
    return float((np.nanvar(gaps[1:], axis=0) * mass[0]).sum() / mass[0].sum())


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes, in the order of the columns ``p_<class>``."""
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def probabilities_of(predictions: pd.DataFrame) -> np.ndarray:
    """The columns ``p_<class>`` as float64 of shape (n, C)."""
    return predictions[[f"p_{label}" for label in class_names(predictions)]].to_numpy(dtype=float)


def codes_of(predictions: pd.DataFrame) -> np.ndarray:
    """The true classes as int64 of shape (n,), numbered in the order of the columns ``p_<class>``."""
    return pd.Categorical(predictions["label"], categories=class_names(predictions)).codes.astype(np.int64)


def by_fold(
    predictions: pd.DataFrame, nested: pd.DataFrame, work: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """Do something to the test predictions of each fold, with the nested predictions of the same fold and nothing else.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`.
    nested : DataFrame
        From `mpox.runs.cross_validation.predict_nested`, of the same model and folds. Repeats that are not nested are left out.
    work : callable
        Takes the test predictions and the nested predictions of one fold, gives a table.

    Returns
    -------
    DataFrame
        The tables of all folds, one below the other.

    Raises
    ------
    MpoxError
        If a fold has no nested predictions, an image of its test part is among them, or there is no repeat in common.
    """
    inside = {key: part for key, part in nested.groupby(["repeat", "fold"])}
    tables = []
    for (repeat, fold), test in predictions[predictions["repeat"].isin(nested["repeat"])].groupby(["repeat", "fold"]):
        if (repeat, fold) not in inside:
            raise MpoxError(f"Fold {fold} of repeat {repeat} has no nested predictions: make them of the same split.")
        known = inside[repeat, fold]
        if set(known["group_id"]) & set(test["group_id"]) or set(known["image_id"]) & set(test["image_id"]):
            raise MpoxError(
                f"Fold {fold} of repeat {repeat} tests groups that its nested predictions hold: nothing may be fitted on them. "
                "Use a protocol that keeps groups together, and nested predictions of the same split."
            )
        tables.append(work(test, known))
    if not tables:
        raise MpoxError("The predictions and the nested predictions have no repeat in common.")
    return pd.concat(tables, ignore_index=True)
