"""Groups resampled: weights, the replicates of a measure, and its 95 % interval (percentile, BCa, or exact)."""

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy.special import betaincinv, ndtr, ndtri

from mpox._core import MpoxError

N_BOOTSTRAP = 2000
INTERVALS = ("percentile", "bca")
#: The kind of an interval of a proportion that no draw moves.
EXACT = "exact"
#: Weights that are held at once (32 MiB): replicates of many images are computed in parts.
CELLS = 2**22


@lru_cache(maxsize=4)
def _drawn(n_groups: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """How often each replicate draws each group, shape (n_bootstrap, n_groups)."""
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap)
    drawn = drawn.astype(np.min_scalar_type(n_groups))
    drawn.flags.writeable = False
    return drawn


def _weights_in_parts(groups: np.ndarray, n_bootstrap: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    _, codes = np.unique(groups, return_inverse=True)
    drawn = _drawn(int(codes.max()) + 1, n_bootstrap, seed)
    for start in range(0, n_bootstrap + 1, rows):
        part = drawn[max(start - 1, 0) : start - 1 + rows, codes].astype(float)
        yield part if start else np.vstack([np.ones(len(codes)), part])


def group_weights(groups: np.ndarray, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> np.ndarray:
    """Weights of a clustered bootstrap (Field and Welsh 2007), float64 of shape (n_bootstrap + 1, n), from each image's group.

    Row 0 is all ones; each other row says how often the image's group was drawn, among as many draws as there are groups.
    """
    return next(_weights_in_parts(groups, n_bootstrap, seed, n_bootstrap + 1))


def _left_out_in_parts(groups: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    names, codes = np.unique(groups, return_inverse=True)
    for start in range(0, len(names), rows):
        yield (np.arange(len(names))[start : start + rows, None] != codes).astype(float)


def leave_one_out_weights(groups: np.ndarray) -> np.ndarray:
    """Weights of a jackknife, float64 of shape (n_groups, n): row g is 0 for the images of the g-th group, 1 for others."""
    return next(_left_out_in_parts(groups, len(groups)))


@dataclass(frozen=True, eq=False)
class Replicates(NDArrayOperatorsMixin):
    """A measure of a sample, and the same measure of the samples that resampling its groups gives.

    Measures of the same groups under the same seed are paired draw by draw, so that a formula of them is a measure, too:
    ``a - b``, ``100 * a / (a + b)``, ``np.log(a)``. Its interval is that of the formula.

    Attributes
    ----------
    estimate : float, or ndarray of float64 of shape (...)
    draws : ndarray of float64, shape (n_bootstrap, ...)
        NaN where a draw leaves the measure undefined.
    left_out : ndarray of float64, shape (n_groups,), optional
        The measure without each group in turn. With it the interval is BCa, without it, or where it
        is NaN, the percentile interval.
    kind : str
        ``percentile``, ``bca`` or, for a proportion that no draw moves, ``exact`` (see `bootstrap`).
    n_groups : callable, optional
        Of a proportion: how many groups have an image in its denominator. The difference of two such proportions is exact, too,
        where both are 0 or both are 1: its limits are those of the share of groups that only one of the two gets right.

    Examples
    --------
    >>> a, b = Replicates(20.0, np.arange(41.0)), Replicates(1.0, np.ones(41))
    >>> {name: round(value, 6) for name, value in (a - b).row().items()}
    {'estimate': 19.0, 'low': 0.0, 'high': 38.0}
    """

    estimate: Any
    draws: np.ndarray
    left_out: np.ndarray | None = None
    kind: str = INTERVALS[0]
    n_groups: Callable[[], Any] | None = None

    @classmethod
    def of(cls, values) -> "Replicates":
        """From one array of shape (n_bootstrap + 1, ...), the estimate first; what is `Replicates` already stays."""
        return values if isinstance(values, cls) else cls(values[0], np.asarray(values[1:], dtype=float))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The estimate, then the draws, shape (n_bootstrap + 1, ...)."""
        return np.concatenate([np.asarray(self.estimate, dtype=float)[None], self.draws]).astype(dtype or float, copy=False)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__":
            return NotImplemented
        found = Replicates.of(ufunc(*(np.asarray(one) if isinstance(one, Replicates) else one for one in inputs), **options))
        known = [one for one in inputs if isinstance(one, Replicates)]
        if not any(one.left_out is None for one in known):
            left_out = ufunc(*(one.left_out if isinstance(one, Replicates) else one for one in inputs), **options)
            found = replace(found, left_out=left_out, kind=INTERVALS[1])
        return _apart(found, *known) if ufunc is np.subtract and len(known) == 2 and known[0] is not known[1] else found

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """Lower and upper limit: the middle share ``level`` of the draws (Efron and Tibshirani 1993, chapter 13), or BCa.

        BCa moves these percentiles by z0, from the share of draws below the estimate (ties count one half, as in
        `scipy.stats.bootstrap`), and by the `acceleration` (Efron 1987; Efron and Tibshirani 1993, eqs. 14.9 to 14.15). Undefined
        draws are left out. NaN where none is defined; BCa also where all draws lie on one side of the estimate.
        """
        tails = np.round([(1 - level) / 2, (1 + level) / 2], 12)
        if not len(self.draws):
            return (np.full(np.shape(self.estimate), np.nan)[()],) * 2
        if self.left_out is not None and np.ndim(self.estimate):  # a curve, point by point
            points = zip(self.estimate, self.draws.T, self.left_out.T, strict=True)
            low, high = np.transpose([Replicates(*point).interval(level) for point in points])
            return low, high
        if self.left_out is not None and not (self.kind == EXACT or np.isnan(self.left_out).all()):
            known = self.draws[~np.isnan(self.draws)]
            below = ((known < self.estimate).sum() + (known <= self.estimate).sum()) / 2
            if np.isnan(self.estimate) or below in (0, len(known)):
                return np.nan, np.nan
            z0 = ndtri(below / len(known))
            moved = z0 + ndtri(tails)
            tails = ndtr(z0 + moved / (1 - acceleration(self.left_out) * moved))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # where no draw is defined
            low, high = np.nanquantile(self.draws, tails, axis=0)
        return low, high

    def row(self) -> dict[str, Any]:
        """``estimate``, ``low`` and ``high`` (95 %) for a row of a table; where the measure is an array, a column each."""
        low, high = self.interval()
        values = {"estimate": self.estimate, "low": low, "high": high}
        return values if np.ndim(self.estimate) else {name: float(value) for name, value in values.items()}


def bootstrap(
    statistic: Callable[[np.ndarray], Any],
    groups: np.ndarray,
    *,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
    interval: str = "percentile",
    among: Any = None,
) -> Any:
    """The replicates of whatever is a function of the images' weights; every interval from groups comes from here.

    Parameters
    ----------
    statistic : callable
        Takes weights, shape (b, n), and gives an array of shape (b, ...), or a dict of such arrays; row by row, so that many
        replicates may be asked for in parts.
    groups : ndarray, shape (n,)
        Group of each image: groups are drawn whole.
    n_bootstrap, seed : int
    interval : {"percentile", "bca"}
        For BCa each group is left out in turn, too.
    among : ndarray of bool, shape (n,) or (n, ...), or a mapping of such arrays, optional
        Which images are in the denominator of a proportion, or of that with this key. Where all groups are right, or none is,
        every draw is the same: instead of a width of zero it gets the limits of Clopper and Pearson (1934) over the groups that
        have such an image, and its draws are spread accordingly, so that formulas of it are uncertain, too.

    Returns
    -------
    Replicates, or dict of Replicates

    Examples
    --------
    >>> right = np.array([1.0, 1.0, 0.0, 1.0])
    >>> float(bootstrap(lambda weights: weighted_mean(right, weights), np.array(["a", "a", "b", "c"])).estimate)
    0.75
    """
    if interval not in INTERVALS:
        raise MpoxError(f"There is no interval '{interval}': choose one of {', '.join(INTERVALS)}.")
    rows = max(1, CELLS // len(groups))
    values = _joined(map(statistic, _weights_in_parts(groups, n_bootstrap, seed, rows)))
    left_out = _joined(map(statistic, _left_out_in_parts(groups, rows))) if interval == "bca" else None
    if not isinstance(values, dict):
        return _spread(Replicates(values[0], values[1:], left_out, interval), among, groups, seed)
    found = {key: Replicates(one[0], one[1:], left_out and left_out[key], interval) for key, one in values.items()}
    masks = among if isinstance(among, Mapping) else {}
    return {key: _spread(one, masks.get(key), groups, [seed, zlib.crc32(repr(key).encode())]) for key, one in found.items()}


def _spread(found: Replicates, among: np.ndarray | None, groups: np.ndarray, seed: Any) -> Replicates:
    """A proportion with draws between the limits of Clopper and Pearson where it is 0 or 1, or no draw differs from it."""
    if among is None or not len(found.draws):
        return found
    n_groups = partial(_count_groups, among, groups)
    found = replace(found, n_groups=n_groups)
    still = ~(np.abs(found.draws - found.estimate) > 1e-12).any(axis=0) & ~np.isnan(found.estimate)
    still |= _at_a_limit(found)
    if not still.any():
        return found
    n = np.broadcast_to(n_groups(), still.shape)[still]
    hits = np.round(np.asarray(found.estimate)[still] * n, 9)
    share = np.random.default_rng(seed).permutation(np.linspace(0, 1, len(found.draws)))[:, None]
    lower = np.where(hits > 0, betaincinv(hits, n - hits + 1, share), 0.0)
    upper = np.where(hits < n, betaincinv(hits + 1, n - hits, share), 1.0)
    return _redrawn(found, still, np.where(share < 0.5, lower, upper))


def _apart(found: Replicates, first: Replicates, second: Replicates) -> Replicates:
    """The difference of two proportions; where both are 0 or both are 1, with draws between the limits of 0 in n groups."""
    if first.n_groups is None or second.n_groups is None or not len(found.draws):
        return found
    still = _at_a_limit(first) & _at_a_limit(second) & np.isclose(found.estimate, 0, atol=1e-12)
    if not still.any():
        return found
    n = np.broadcast_to(np.minimum(first.n_groups(), second.n_groups()), still.shape)[still]
    share = np.random.default_rng(0).permutation(np.linspace(0, 1, len(found.draws)))[:, None]
    reach = np.where(share < 0.5, share ** (1 / n) - 1, 1 - (1 - share) ** (1 / n))
    return _redrawn(found, still, reach)


def _count_groups(among: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many groups have an image that is in the denominator."""
    return pd.DataFrame(among.reshape(len(groups), -1)).groupby(groups).any().sum().to_numpy().reshape(among.shape[1:])


def _at_a_limit(found: Replicates) -> np.ndarray:
    return np.isclose(found.estimate, 0, atol=1e-12) | np.isclose(found.estimate, 1, rtol=0, atol=1e-12)


def _redrawn(found: Replicates, where: np.ndarray, values: np.ndarray) -> Replicates:
    """With other draws, of shape (n_bootstrap, where.sum()), and exact where all have them."""
    draws, left_out = found.draws.copy(), None if found.left_out is None else found.left_out.copy()
    draws[:, where] = values
    if left_out is not None:
        left_out[:, where] = np.nan
    return replace(found, draws=draws, left_out=left_out, kind=EXACT if where.all() else found.kind)


def _joined(parts: Iterable[Any]) -> Any:
    first, *others = parts
    if isinstance(first, dict):
        return {key: np.concatenate([first[key], *(part[key] for part in others)]) for key in first}
    return np.concatenate([first, *others])


def weighted_mean(values: np.ndarray, weights: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Mean of values, shape (n,) or (n, k), for each row of weights: (b,) or (b, k); of the images ``among`` alone.

    NaN where they weigh nothing.
    """
    values = np.asarray(values, dtype=float)
    among = np.ones(len(values), dtype=bool) if among is None else among
    total = weights[:, among].sum(axis=1)
    return ratio(weights[:, among] @ values[among], total if values.ndim == 1 else total[:, None])


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division in which nothing over nothing is undefined (NaN), without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def acceleration(left_out: np.ndarray) -> float:
    """Acceleration of a BCa interval, from -1/6 to 1/6: a sixth of the skewness of the jackknife values (NaN is left out)."""
    known = left_out[~np.isnan(left_out)]
    change = known.mean() - known if len(known) else known
    spread = (change**2).sum() ** 1.5
    return float((change**3).sum() / (6 * spread)) if spread > 0 else 0.0


def percentile_interval(values) -> tuple[float, float]:
    """`Replicates.interval` of one array, the estimate first."""
    return Replicates.of(values).interval()


def with_percentiles(values) -> tuple[float, float, float]:
    """`Replicates.row` of one array, the estimate first, as a tuple: estimate, low, high."""
    return tuple(Replicates.of(values).row().values())


def with_kind(values: Replicates) -> tuple[float, float, float, str]:
    """Estimate, low, high, and the kind of the interval."""
    return (*with_percentiles(values), values.kind)


def bca_interval(values, left_out: np.ndarray) -> tuple[float, float]:
    """The BCa interval of one array, the estimate first, and the values without each group in turn."""
    return replace(Replicates.of(values), left_out=left_out).interval()


def wilson(successes: float, n: int) -> tuple[float, float, float]:
    """A proportion with Wilson's score interval of 95 % (Wilson 1927; method 3 of Newcombe 1998): estimate, low, high.

    It takes the n trials for independent, which images of one patient are not: use it for groups, or for one image a group.
    Successes need not be whole, so that they may be averages over repeats.

    Examples
    --------
    >>> [round(number, 4) for number in wilson(81, 263)]
    [0.308, 0.2553, 0.3662]
    """
    from statsmodels.stats.proportion import proportion_confint

    if n < 1 or not 0 <= successes <= n:
        raise MpoxError(f"A proportion needs at least one trial and from 0 to n successes, not {successes:g} of {n:g}.")
    low, high = proportion_confint(successes, n, method="wilson")
    return float(successes / n), float(low) if successes else 0.0, float(high) if successes < n else 1.0
