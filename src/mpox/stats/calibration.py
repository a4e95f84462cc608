"""Whether a probability means what it says: fitted on nested predictions, judged on test folds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression

from mpox._core import MpoxError
from mpox.stats.metrics import class_names, codes_of, groups_of, probabilities_of
from mpox.stats.resample import N_BOOTSTRAP, Replicates, bootstrap, ratio

METHODS = ("temperature", "isotonic")
#: Temperatures are looked for in this range: at the lower end every answer is sure, at the upper end none says anything.
TEMPERATURES = (0.05, 20.0)
TOP = "top"
N_BINS = 10
#: Probabilities of 0 and 1 have no log-odds: slope and intercept take them as this, and 1 minus this.
CLIPPED = 1e-3
#: Sums of distances: resampling adds chance to chance, so that their replicates are moved to have the estimate as their mean.
GROWING = ("ece", "ece excess", "reliability", "reliability debiased", "resolution")
#: Those of them that may be below 0.
SIGNED = ("ece excess", "reliability debiased")
_LEAST = 1e-12  # a probability of 0 has no logarithm
_STEPS, _LARGEST_STEP = 50, 4.0


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _LEAST))


def checked(probabilities: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, C) and class numbers (n,) that something is to be fitted on, or an error."""
    probabilities, y = np.asarray(probabilities, dtype=float), np.asarray(y)
    if probabilities.ndim != 2 or y.shape != (len(probabilities),) or not len(y):
        raise MpoxError("This is fitted on at least one image: probabilities of shape (n, C), and n class numbers.")
    if y.min() < 0 or y.max() >= probabilities.shape[1]:
        raise MpoxError(f"A class number is not among the {probabilities.shape[1]} columns of probabilities.")
    return probabilities, y


def fit_temperature(probabilities: np.ndarray, y: np.ndarray) -> float:
    """The temperature T that minimises the log loss of softmax(log p / T) (Guo et al. 2017, section 4.2).

    For probabilities (n, C) and classes (n,) of images that the model has not seen. Above 1 where the model was too sure, below 1
    where it was not sure enough; within `TEMPERATURES`.
    """
    probabilities, y = checked(probabilities, y)
    logs, rows = _log(probabilities), np.arange(len(y))

    def loss(inverse: float) -> float:  # convex in 1 / T
        return -log_softmax(logs * inverse, axis=1)[rows, y].mean()

    low, high = (1 / limit for limit in reversed(TEMPERATURES))
    return float(1 / minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T), shape (n, C); the order of the classes of an image does not change."""
    return softmax(_log(np.asarray(probabilities, dtype=float)) / temperature, axis=1)


@dataclass(frozen=True)
class Isotonic:
    """A monotone curve a class, from a probability to the share that was observed: its knots, straight between them."""

    x: tuple[tuple[float, ...], ...]
    y: tuple[tuple[float, ...], ...]


def fit_isotonic(probabilities: np.ndarray, y: np.ndarray) -> Isotonic:
    """Isotonic regression of each class against the rest (Zadrozny and Elkan 2002), from scikit-learn; see `fit_temperature`.

    It assumes nothing but that a higher probability is not a worse sign, and takes many images to learn that: with few it follows
    chance, and gives probabilities of exactly 0 and 1.
    """
    probabilities, y = checked(probabilities, y)
    curves = [IsotonicRegression(y_min=0, y_max=1).fit(column, y == number) for number, column in enumerate(probabilities.T)]
    return Isotonic(
        *(tuple(tuple(map(float, getattr(curve, name))) for curve in curves) for name in ("X_thresholds_", "y_thresholds_"))
    )


def apply_isotonic(probabilities: np.ndarray, isotonic: Isotonic) -> np.ndarray:
    """Each column through its curve, then each row divided by its sum, shape (n, C); where all are 0, the row as it was."""
    probabilities = np.asarray(probabilities, dtype=float)
    columns = zip(probabilities.T, isotonic.x, isotonic.y, strict=True)
    mapped = np.stack([np.interp(column, x, y) for column, x, y in columns], axis=1)
    total = mapped.sum(axis=1, keepdims=True)
    return np.where(total > 0, ratio(mapped, total), probabilities)


def _with_probabilities(predictions: pd.DataFrame, changed: np.ndarray) -> pd.DataFrame:
    return predictions.assign(**{f"p_{label}": column for label, column in zip(class_names(predictions), changed.T, strict=True)})


def with_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Predictions of `mpox.cross_validate` with `apply_temperature` on their probabilities; below 1 makes a model surer."""
    return _with_probabilities(predictions, apply_temperature(probabilities_of(predictions), temperature))


def calibrated(predictions: pd.DataFrame, nested: pd.DataFrame, method: str) -> pd.DataFrame:
    """Test predictions of every fold, calibrated by what was fitted inside the training groups of that fold.

    Parameters
    ----------
    predictions, nested : DataFrame
        See `by_fold`.
    method : {"temperature", "isotonic"}

    Returns
    -------
    DataFrame
        The predictions, with other probabilities; for ``temperature`` with a column ``temperature``.
    """
    if method not in METHODS:
        raise MpoxError(f"There is no calibration '{method}': choose one of {', '.join(METHODS)}.")

    def work(test: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
        seen, y = probabilities_of(known), codes_of(known)
        if method == "temperature":
            temperature = fit_temperature(seen, y)
            return with_temperature(test, temperature).assign(temperature=temperature)
        return _with_probabilities(test, apply_isotonic(probabilities_of(test), fit_isotonic(seen, y)))

    return by_fold(predictions, nested, work)


def by_fold(
    predictions: pd.DataFrame, nested: pd.DataFrame, work: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """Do something to the test predictions of each fold, with the nested predictions of the same fold and nothing else.

    ``nested`` comes from `mpox.runs.cross_validation.predict_nested`, of the same model and folds; repeats that are not nested
    are left out. A test group among the nested predictions is an error. The tables that ``work`` makes are joined.
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


def stated(predictions: pd.DataFrame, of: str = "Mpox") -> tuple[np.ndarray, np.ndarray]:
    """What was said, a probability, and whether it came true; float64 and bool of shape (n,).

    Of a class: its probability, and whether it is the true one; of ``top``: the largest probability, and whether that is right.
    """
    classes = class_names(predictions)
    if predictions.empty or (of != TOP and of not in classes):
        raise MpoxError(f"No predictions of '{of}' to look at: choose '{TOP}', or one of the classes {', '.join(classes)}.")
    probabilities, y = probabilities_of(predictions), codes_of(predictions)
    column = probabilities.argmax(axis=1) if of == TOP else np.full(len(y), classes.index(of))
    return probabilities[np.arange(len(y)), column], column == y


def mass_bins(probability: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each probability, int64 from 0: as many images in each as equal probabilities, which stay together, allow."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)[1]


def _sums(bins: np.ndarray, weights: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Weight of each bin, then the weighted sum of each of the values in it; each (b, bins)."""
    member = (bins[:, None] == np.arange(bins.max() + 1)).astype(float)
    return [weights @ (member * value[:, None]) for value in (np.ones(len(bins)), *values)]


def reliability_bins(predictions: pd.DataFrame, of: str = "Mpox", *, n_bins: int = N_BINS, **resampling) -> pd.DataFrame:
    """The points of a reliability diagram, with bins of equal mass.

    Parameters
    ----------
    predictions, **resampling
        As in `mpox.evaluate`.
    of, n_bins
        See `stated` and `mass_bins`; the bins stay the same in all replicates.

    Returns
    -------
    DataFrame
        One row a bin: ``images``, ``stated`` (mean probability), ``observed`` (share that came true), ``low``, ``high`` (of the
        share).
    """
    probability, happened = stated(predictions, of)
    bins = mass_bins(probability, n_bins)

    def sums(weights: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(("mass", "said", "true"), _sums(bins, weights, probability, happened.astype(float)), strict=True))

    found = bootstrap(sums, groups_of(predictions), **resampling)
    mass = found["mass"].estimate
    with np.errstate(invalid="ignore"):
        observed = (found["true"] / found["mass"]).row()
    table = pd.DataFrame({"images": mass.astype(int), "stated": found["said"].estimate / mass, **observed})
    return table.rename(columns={"estimate": "observed"})


def ece(bins: np.ndarray, weights: np.ndarray, probability: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """Expected calibration error for many weightings, shape (b,): the mean distance of stated and observed over the bins.

    Guo et al. 2017, eq. 3; with the bins of `mass_bins` it is the adaptive form of Nguyen and O'Connor 2015.
    """
    _, said, true = _sums(bins, weights, probability, happened.astype(float))
    return np.abs(said - true).sum(axis=1) / weights.sum(axis=1)


def ece_if_calibrated(
    bins: np.ndarray, probability: np.ndarray, groups: np.ndarray, *, n_simulated: int = 500, seed: int = 0
) -> np.ndarray:
    """The ECE that a perfectly calibrated model would show on as many images, simulated: shape (n_simulated,).

    It is not zero: a distance is never negative, so that chance adds up (Bröcker and Smith 2007, 'consistency resampling').
    What happens is drawn with the stated probabilities, once a group: the images of a patient have one diagnosis.
    """
    _, codes = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).random((n_simulated, codes.max() + 1))[:, codes]
    excess = (drawn < probability) - probability
    member = (bins[:, None] == np.arange(bins.max() + 1)).astype(float)
    return np.abs(excess @ member).sum(axis=1) / len(probability)


def brier_parts(bins: np.ndarray, weights: np.ndarray, probability: np.ndarray, happened: np.ndarray) -> dict[str, np.ndarray]:
    """The Brier score and its parts for many weightings: brier = reliability - resolution + uncertainty + within; each (b,).

    Murphy 1973, eq. 6, with the part that probabilities of one bin differ among each other (Stephenson et al. 2008, eq. 5).
    ``reliability`` is the squared distance of stated and observed (0 is best), ``resolution`` how far the bins differ in what is
    observed (more is better), ``uncertainty`` the score of who knows nothing but how common the class is.
    """
    true = happened.astype(float)
    mass, said, came, square, both = _sums(bins, weights, probability, true, probability**2, probability * true)
    total = mass.sum(axis=1)
    safe = np.where(mass > 0, mass, 1)
    mean, share = said / safe, came / safe
    overall = came.sum(axis=1) / total
    variance, covariance = square / safe - mean**2, both / safe - mean * share
    return {
        "brier": weights @ ((probability - true) ** 2) / total,
        "reliability": (mass * (mean - share) ** 2).sum(axis=1) / total,
        "resolution": (mass * (share - overall[:, None]) ** 2).sum(axis=1) / total,
        "uncertainty": overall * (1 - overall),
        "within": (mass * (variance - 2 * covariance)).sum(axis=1) / total,
    }


def slope_and_intercept(probability: np.ndarray, happened: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Calibration slope and calibration in the large for many weightings at once (Cox 1958; Van Calster et al. 2019); both (b,).

    The slope b of a logistic regression of what happened, logit = a + b logit(p): below 1 the probabilities are too extreme. The
    intercept of another in which the slope is held at 1: above 0 the probabilities are too low on the whole. NaN where Newton's
    method does not converge, because the two sides are divided perfectly, or there is only one. p is cut at `CLIPPED`.
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
    predictions, of, n_bins, n_bootstrap, seed
        As in `reliability_bins`.

    Returns
    -------
    DataFrame
        ``measure``, ``estimate``, ``low``, ``high``. ``ece``; ``ece if calibrated`` (mean and middle 95 % of
        `ece_if_calibrated`); ``ece excess`` (the difference of the two: the ECE without the bias that it would have if there
        were nothing to find); the `brier_parts`; ``reliability debiased`` (without what chance adds to the squared distances, the
        variance of each bin's gap between the replicates, after Bröcker 2012 and Kumar et al. 2019; may be below 0); ``slope``
        and ``intercept``; ``mean stated minus observed``.
    """
    probability, happened = stated(predictions, of)
    bins, groups = mass_bins(probability, n_bins), groups_of(predictions)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        mass, gap = _sums(bins, weights, probability - happened)
        slope, intercept = slope_and_intercept(probability, happened, weights)
        mean_gap = weights @ (probability - happened) / weights.sum(axis=1)
        found = {"ece": ece(bins, weights, probability, happened), **brier_parts(bins, weights, probability, happened)}
        return {**found, "slope": slope, "intercept": intercept, "mean stated minus observed": mean_gap, "": ratio(gap, mass)}

    found = bootstrap(statistic, groups, n_bootstrap=n_bootstrap, seed=seed)
    gaps, mass = found.pop(""), np.bincount(bins)
    simulated = ece_if_calibrated(bins, probability, groups, seed=seed)
    found |= {"ece if calibrated": Replicates(simulated.mean(), simulated), "ece excess": found["ece"] - simulated.mean()}
    if n_bootstrap > 1:  # what chance adds to the reliability
        found["reliability debiased"] = found["reliability"] - (np.nanvar(gaps.draws, axis=0) * mass).sum() / mass.sum()
    for name in set(GROWING) & set(found) if n_bootstrap else ():
        moved = found[name].draws - (found[name].draws.mean() - found[name].estimate)
        found[name] = replace(found[name], draws=moved if name in SIGNED else np.maximum(moved, 0))
    first = ["ece", "ece if calibrated", "ece excess", "brier", "reliability", "resolution", "uncertainty", "within"]
    order = [*first, "reliability debiased", "slope", "intercept", "mean stated minus observed"]
    return pd.DataFrame([{"measure": name, **found[name].row()} for name in order if name in found])
