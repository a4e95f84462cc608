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
    """error(n) = a + b n^-c for n training groups: a floor that no number of groups undercuts, what can be learnt, the rate."""

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
    """The power law with a floor that is nearest to a curve, by least squares with a, b >= 0 and c in `EXPONENTS`. For a given
    c the law is linear: a and b are a non-negative regression in closed form, and only c is searched for (variable
    projection, Golub and Pereyra 1973), on a grid that is refined three times."""
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
    """Training groups with a 95 % interval (``inf`` is never), and the share of replicates that never reach the target.

    ``law`` is fitted to the estimates. See `needed_groups`.
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
    n : ndarray, shape (k,)
        At least three sizes, in training groups.
    values : ndarray, shape (n_bootstrap + 1, k)
        From `mpox.studies.learning_curve.curve_replicates`; replicates in which the metric is undefined are left out.
    target : float
        Of the metric (0 to 1, more is better), for instance a published F1.
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


SHOWN, CONTRADICTED, OPEN = "shown", "contradicted", "undecided"
#: Probability of either wrong verdict, where it would be wrong.
LEVEL = 0.05


def pareto_front(table: pd.DataFrame, cost: str, quality: str) -> pd.Series:
    """Which rows no other row beats: none is as cheap and better, or as good and cheaper; Series of bool, indexed as the table.

    ``cost`` (less is better) and ``quality`` (more) are columns; false where one is missing. Equals are on the front together.
    """
    costs, qualities = table[cost].to_numpy(dtype=float), table[quality].to_numpy(dtype=float)
    no_worse = (costs[:, None] <= costs) & (qualities[:, None] >= qualities)  # row against column; nothing compares with NaN
    better = no_worse & ((costs[:, None] < costs) | (qualities[:, None] > qualities))
    return pd.Series(~better.any(axis=0) & ~np.isnan(costs) & ~np.isnan(qualities), index=table.index)


@dataclass(frozen=True)
class RiseAndFall:
    """What models, in order of complexity, say about "performance first rises, then falls"; see `judge`.

    Attributes
    ----------
    peak : str
        The best of the models between the two ends.
    over_better_end, over_better_end_low, over_better_end_high : float
        The best in between minus the better end, with the 95 % percentiles of its replicates. With more than one model in between
        the best one is chosen with the same data, which favours it; the verdict allows for that, this interval does not.
    p_rise_and_fall, p_no_rise_and_fall : float
        One-sided, against "no model in between is better than both ends", and against "some model is at least as good as both".
    verdict : {"shown", "contradicted", "undecided"}
        ``shown`` where ``p_rise_and_fall`` is below `LEVEL`, ``contradicted`` where ``p_no_rise_and_fall`` is.
    """

    models: tuple[str, ...]
    estimates: tuple[float, ...]
    peak: str
    over_better_end: float
    over_better_end_low: float
    over_better_end_high: float
    p_rise_and_fall: float
    p_no_rise_and_fall: float
    verdict: str


def rise_and_fall(
    predictions: dict[str, pd.DataFrame], metric: str = "auroc", label: str = "Mpox", *, positive: str = "Mpox", **resampling: Any
) -> RiseAndFall:
    """Test "performance first rises, then falls" on out-of-fold predictions of the same images; see `judge` for the tests.

    Parameters
    ----------
    predictions : dict of str to DataFrame
        Three models or more to their predictions, least complex first; all of the same images in the same repeats and groups, so
        that their replicates are paired.
    metric, label, positive, **resampling
        As in `mpox.evaluate`; a metric of which more is better.
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
    """The tests behind `rise_and_fall`, on an estimate and its paired bootstrap replicates for each model. That a model in
    between is *better than both ends* takes two one-sided comparisons, of which the larger p-value counts (the
    intersection-union test, Berger 1982); with several models in between the smallest of these is multiplied by their
    number (Bonferroni)."""
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
    over_better = Replicates.of(between.max(axis=1) - ends.max(axis=1))
    return RiseAndFall(
        models=tuple(values.columns),
        estimates=tuple(float(value) for value in table[0]),
        peak=values.columns[1 + int(between[0].argmax())],
        **{
            f"over_better_end{name}": value for name, value in zip(("", "_low", "_high"), over_better.row().values(), strict=True)
        },
        p_rise_and_fall=float(p_shown),
        p_no_rise_and_fall=float(p_contradicted),
        verdict=SHOWN if p_shown < LEVEL else CONTRADICTED if p_contradicted < LEVEL else OPEN,
    )


def _share(wrong: np.ndarray) -> np.ndarray:
    """Bootstrap p-values along the first axis, never 0 (Davison and Hinkley 1997, equation 4.11)."""
    return (1 + wrong.sum(axis=0)) / (1 + len(wrong))
