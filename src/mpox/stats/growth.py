"""How performance grows with data and with size: power laws, the Pareto front, rise and fall."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.stats.metrics import replicates
from mpox.stats.resample import Replicates

#: Bounds of the law's exponent; Hestness et al. measured 0.07 to 0.35 for deep networks, theory gives 1/2 or 1.
EXPONENTS = (0.01, 4.0)


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = a + b n^-c, for n training groups.

    Parameters
    ----------
    a : float
        The floor: the error that no number of groups of this kind would undercut.
    b : float
        What can be learnt; where it is 0, c has no meaning.
    c : float
        The rate.

    Examples
    --------
    >>> law = PowerLaw(0.1, 1.0, 0.5)
    >>> round(float(law.error(100)), 6), round(law.needed(0.15), 6), law.needed(0.1)
    (0.2, 400.0, inf)
    """

    a: float
    b: float
    c: float

    def error(self, n):
        """The error at ``n`` groups, a number or an array."""
        return self.a + self.b * np.asarray(n, dtype=float) ** -self.c

    def needed(self, error: float) -> float:
        """Groups that it takes to come down to an error; ``inf`` if the floor is not below it, and at least 1."""
        if error < self.a or (error == self.a and self.b > 0):
            return np.inf
        if self.b == 0:
            return 1.0
        with np.errstate(over="ignore"):
            return max(1.0, float(np.exp(np.log(self.b / (error - self.a)) / self.c)))


def fit_power_law(n: np.ndarray, error: np.ndarray) -> PowerLaw:
    """The power law with a floor that is nearest to a curve, by least squares with a, b >= 0 and c in `EXPONENTS`.

    For a given c the law is linear: a and b are a non-negative regression in closed form, and only c is searched for (variable
    projection, Golub and Pereyra 1973), on a grid that is refined three times. There are no starting values to depend on.

    Parameters
    ----------
    n : ndarray, shape (k,)
        Training groups, at least three different numbers.
    error : ndarray, shape (k,)
        At least 0, for instance 1 - F1.

    Raises
    ------
    MpoxError
        If there are fewer than three sizes, one is not positive, or an error is negative or missing.

    Examples
    --------
    >>> n = np.array([10, 20, 40, 80])
    >>> law = fit_power_law(n, 0.1 + 0.9 * n ** -0.5)
    >>> round(law.a, 3), round(law.b, 3), round(law.c, 3)
    (0.1, 0.9, 0.5)
    """
    return PowerLaw(*map(float, _fit(np.asarray(n, dtype=float), np.asarray(error, dtype=float)[None])[0]))


def _fit(n: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """a, b and c, shape (curves, 3), of many curves, shape (curves, k)."""
    if len(np.unique(n)) < 3 or n.min() <= 0:
        raise MpoxError("A power law with a floor needs errors at three or more numbers of groups: use more fractions.")
    if not (errors >= 0).all():
        raise MpoxError("A power law is fitted to errors of at least 0, none missing: give 1 minus the metric.")
    low, high = (np.full(len(errors), bound) for bound in EXPONENTS)
    rows = np.arange(len(errors))
    for _ in range(4):
        c = np.geomspace(low, high, 81, axis=1)
        a, b, loss = _linear_part(n / n.min(), errors, c)
        best = loss.argmin(axis=1)
        low, high = c[rows, np.maximum(best - 1, 0)], c[rows, np.minimum(best + 1, c.shape[1] - 1)]
    a, b, c = a[rows, best], b[rows, best], c[rows, best]
    return np.stack([a, b * n.min() ** c, c], axis=1)


def _linear_part(n: np.ndarray, errors: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, b >= 0 and the squared loss for each curve and exponent ``c``, all (curves, exponents): the least squares of two
    unknowns, or where one of them would be negative the regression without it."""
    x, e = n ** -c[:, :, None], errors[:, None, :]
    x_mean, e_mean = x.mean(axis=2), e.mean(axis=2)
    deviation = x - x_mean[:, :, None]
    b = np.maximum((deviation * e).sum(axis=2) / (deviation**2).sum(axis=2), 0)
    a = e_mean - b * x_mean
    through_zero = (x * e).sum(axis=2) / (x**2).sum(axis=2)
    a, b = np.where(a < 0, 0, a), np.where(a < 0, through_zero, b)
    return a, b, ((a[:, :, None] + b[:, :, None] * x - e) ** 2).sum(axis=2)


@dataclass(frozen=True)
class Needed:
    """How many training groups a target would take; see `needed_groups`.

    Parameters
    ----------
    law : PowerLaw
        Fitted to the estimates.
    estimate, low, high : float
        Groups, with a 95 % interval; ``inf`` means never.
    never : float
        Share of the replicates (0 to 1) whose fitted floor is above the target.
    """

    law: PowerLaw
    estimate: float
    low: float
    high: float
    never: float


def needed_groups(n: np.ndarray, values: np.ndarray, target: float) -> Needed:
    """Training groups that a metric's target would take if the fitted power law held on.

    The law is fitted to the estimates, and to every bootstrap replicate of the whole curve by itself. The interval therefore
    holds what comes from the choice of test images. It holds neither which groups the fractions kept (more repeats make that
    small) nor the doubt whether the law goes on where nothing was measured.

    Parameters
    ----------
    n, values
        From `mpox.studies.learning_curve.curve_replicates`; replicates in which the metric is undefined are left out.
    target : float
        Of the metric (0 to 1, more is better), for instance a published F1.

    Raises
    ------
    MpoxError
        If there are fewer than three sizes, or the metric is not defined at one of them.
    """
    errors = 1 - np.asarray(values, dtype=float)
    if np.isnan(errors[0]).any():
        raise MpoxError("The metric is not defined at one of the fractions: leave that fraction out.")
    laws = [PowerLaw(*map(float, row)) for row in _fit(np.asarray(n, dtype=float), errors[~np.isnan(errors).any(axis=1)])]
    needed = np.array([law.needed(1 - target) for law in laws])
    drawn = needed[1:]
    if not len(drawn):
        return Needed(laws[0], needed[0], np.nan, np.nan, np.nan)
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    return Needed(laws[0], float(needed[0]), float(low), float(high), float(np.isinf(drawn).mean()))


SHOWN, CONTRADICTED, OPEN = "shown", "contradicted", "cannot be told"
#: Probability of either wrong verdict, where it would be wrong.
LEVEL = 0.05


def pareto_front(table: pd.DataFrame, cost: str, quality: str) -> pd.Series:
    """Which rows no other row beats: none is as cheap and better, or as good and cheaper.

    Parameters
    ----------
    table : DataFrame
    cost, quality : str
        Columns; less cost and more quality is better.

    Returns
    -------
    Series of bool
        Indexed as the table; false where cost or quality is missing. Equals are on the front together.

    Examples
    --------
    >>> pareto_front(pd.DataFrame({"ms": [1, 2, 3, 4], "auroc": [0.7, 0.9, 0.8, 0.9]}), "ms", "auroc").tolist()
    [True, True, False, False]
    """
    costs, qualities = table[cost].to_numpy(dtype=float), table[quality].to_numpy(dtype=float)
    no_worse = (costs[:, None] <= costs) & (qualities[:, None] >= qualities)  # row against column; nothing compares with NaN
    better = no_worse & ((costs[:, None] < costs) | (qualities[:, None] > qualities))
    return pd.Series(~better.any(axis=0) & ~np.isnan(costs) & ~np.isnan(qualities), index=table.index)


@dataclass(frozen=True)
class RiseAndFall:
    """What a row of models of growing complexity says about "performance first rises, then falls".

    Parameters
    ----------
    models : tuple of str
        In order of complexity.
    estimates : tuple of float
        Their metric.
    peak : str
        The best of the models between the two ends.
    over_better_end, over_better_end_low, over_better_end_high : float
        The best in between minus the better end, with the 95 % percentiles of its replicates. With more than one model in between
        the best one is chosen with the same data, which favours it; the verdict allows for that, this interval does not.
    over_mean_of_ends, over_mean_of_ends_low, over_mean_of_ends_high : float
        The mean of those in between minus the mean of the ends.
    p_rise_and_fall : float
        One-sided p-value against "no model in between is better than both ends".
    p_no_rise_and_fall : float
        One-sided p-value against "some model in between is at least as good as both ends".
    p_unimodal : float
        p-value against "monotone in complexity", in favour of "rises, then falls", by order-restricted fits.
    verdict : {"shown", "contradicted", "cannot be told"}
        ``shown`` where ``p_rise_and_fall`` is below `LEVEL`, ``contradicted`` where ``p_no_rise_and_fall`` is.
    """

    models: tuple[str, ...]
    estimates: tuple[float, ...]
    peak: str
    over_better_end: float
    over_better_end_low: float
    over_better_end_high: float
    over_mean_of_ends: float
    over_mean_of_ends_low: float
    over_mean_of_ends_high: float
    p_rise_and_fall: float
    p_no_rise_and_fall: float
    p_unimodal: float
    verdict: str


def rise_and_fall(
    predictions: dict[str, pd.DataFrame], metric: str = "auroc", label: str = "Mpox", *, positive: str = "Mpox", **resampling: Any
) -> RiseAndFall:
    """Test "performance first rises, then falls" on out-of-fold predictions of the same images; see `judge` for the tests.

    Parameters
    ----------
    predictions : dict of str to DataFrame
        Model to its predictions (see `mpox.evaluate`), least complex first; all of the same images in the same repeats and
        groups, so that their replicates are paired.
    metric, label : str
        As in the result of `mpox.evaluate`; a metric of which more is better.
    positive : str
    **resampling
        ``n_bootstrap`` and ``seed`` of `mpox.evaluate`.

    Raises
    ------
    MpoxError
        If there are fewer than three models, their images, repeats or groups differ, or the metric is unknown.
    """
    known, values = None, {}
    for model, table in predictions.items():
        found = replicates(table, [(metric, label)], positive=positive, **resampling)
        images = sorted(table[["repeat", "image_id", "group_id"]].itertuples(index=False, name=None))
        if known is not None and images != known:
            raise MpoxError(f"'{model}' was not asked about the same images, repeats and groups as the models before it.")
        known, values[model] = images, np.asarray(found[metric, label])
    return judge(pd.DataFrame(values))


def judge(values: pd.DataFrame) -> RiseAndFall:
    """The tests behind `rise_and_fall`, on an estimate and its paired bootstrap replicates for each model.

    That a model in between is *better than both ends* takes two one-sided comparisons, of which the larger p-value counts (the
    intersection-union test, Berger 1982); with several models in between the smallest of these is multiplied by their number
    (Bonferroni). That *none* is as good as both ends takes one comparison for each of them that it loses: the smaller p-value
    of its two, doubled, and the largest of these. A comparison's p-value is the share of replicates of the difference on the
    wrong side of zero, so that it agrees with the percentile interval. No verdict rests on the picked winner's interval.

    The order-restricted test fits the estimates by least squares with a monotone row (rising or falling, whichever fits better)
    and with a unimodal one, by isotonic regression (Robertson, Wright & Dykstra 1988, chapters 1 and 2). What the unimodal row
    fits better is compared with what it does when the truth is the monotone fit: the replicates' deviations are put around it.
    Their chi-bar-square distribution is for independent estimates; models on the same images are not.

    Replicates vary the groups that are tested, not the training: a verdict is about these fitted models, on groups like these.

    Parameters
    ----------
    values : DataFrame, shape (n_bootstrap + 1, n_models)
        Models in order of complexity, as `mpox.stats.metrics.replicates` gives each: the estimate, then the replicates.

    Returns
    -------
    RiseAndFall

    Raises
    ------
    MpoxError
        If there are fewer than three models, or an estimate is missing.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.01, (1001, 3)) * (np.arange(1001) > 0)[:, None]
    >>> judge(pd.DataFrame([0.80, 0.90, 0.85] + noise, columns=["small", "middle", "large"])).verdict
    'shown'
    >>> judge(pd.DataFrame([0.80, 0.85, 0.90] + noise, columns=["small", "middle", "large"])).verdict
    'contradicted'
    """
    if values.shape[1] < 3:
        raise MpoxError("Rising and falling takes at least three models: two ends and one in between.")
    table = values.to_numpy(dtype=float)
    if np.isnan(table[0]).any():
        raise MpoxError("The metric is not defined for every model: leave out those where it is not.")
    table = table[~np.isnan(table).any(axis=1)]  # groups drawn without one of the classes
    ends, between = table[:, [0, -1]], table[:, 1:-1]
    difference = between[:, :, None] - ends[:, None]
    not_better, not_worse = _share(difference[1:] <= 0), _share(difference[1:] >= 0)
    p_shown = min(1.0, between.shape[1] * not_better.max(axis=1).min())
    p_contradicted = min(1.0, 2 * not_worse.min(axis=1).max())
    over_better, over_mean = between.max(axis=1) - ends.max(axis=1), between.mean(axis=1) - ends.mean(axis=1)
    return RiseAndFall(
        models=tuple(values.columns),
        estimates=tuple(float(value) for value in table[0]),
        peak=values.columns[1 + int(between[0].argmax())],
        **_with_limits("over_better_end", over_better),
        **_with_limits("over_mean_of_ends", over_mean),
        p_rise_and_fall=float(p_shown),
        p_no_rise_and_fall=float(p_contradicted),
        p_unimodal=_p_unimodal(table),
        verdict=SHOWN if p_shown < LEVEL else CONTRADICTED if p_contradicted < LEVEL else OPEN,
    )


def _share(wrong: np.ndarray) -> np.ndarray:
    """Bootstrap p-values along the first axis, never 0 (Davison and Hinkley 1997, equation 4.11)."""
    return (1 + wrong.sum(axis=0)) / (1 + len(wrong))


def _with_limits(name: str, values: np.ndarray) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), Replicates.of(values).row().values(), strict=True))


def monotone_fit(rows: np.ndarray) -> np.ndarray:
    """The rising rows that fit best by least squares, many at once.

    What `sklearn.isotonic.isotonic_regression` gives for each row, by the max-min formula (Robertson, Wright & Dykstra 1988,
    section 1.4): for short rows in great number.

    Parameters
    ----------
    rows : ndarray, shape (b, n)

    Returns
    -------
    ndarray, shape (b, n)

    Examples
    --------
    >>> monotone_fit(np.array([[1.0, 3.0, 2.0]])).tolist()
    [[1.0, 2.5, 2.5]]
    """
    n = rows.shape[1]
    sums = np.concatenate([np.zeros((len(rows), 1)), rows.cumsum(axis=1)], axis=1)
    first, last = np.triu_indices(n)
    means = np.full((len(rows), n, n), np.inf)
    means[:, first, last] = (sums[:, last + 1] - sums[:, first]) / (last + 1 - first)
    lowest = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]  # of the blocks from s that reach i
    return np.where(np.tri(n, dtype=bool).T, lowest, -np.inf).max(axis=1)


def _misfits(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors, both (n + 1, b): of the first j values as a rising row, and of those from j on as a falling one."""
    turned = rows[:, ::-1]
    rising, falling = (
        np.array([((part[:, :j] - monotone_fit(part[:, :j])) ** 2).sum(axis=1) if j else np.zeros(len(part)) for j in counts])
        for part, counts in ((rows, range(rows.shape[1] + 1)), (turned, range(rows.shape[1], -1, -1)))
    )
    return rising, falling


def _gains(rows: np.ndarray) -> np.ndarray:
    """Squared error of each row's best monotone fit minus that of its best unimodal one (rising, then falling); at least 0."""
    rising, falling = _misfits(rows)
    return np.minimum(rising[-1], falling[0]) - (rising + falling).min(axis=0)


def _p_unimodal(table: np.ndarray) -> float:
    row = table[:1]
    rising, falling = _misfits(row)
    null = monotone_fit(row) if rising[-1] <= falling[0] else monotone_fit(row[:, ::-1])[:, ::-1]
    return float(_share(_gains(null + table[1:] - row) >= _gains(row) - 1e-15))
