"""95 % intervals: from bootstrap replicates (percentile, BCa), and Wilson's for a proportion."""

import numpy as np
from scipy.special import ndtr, ndtri

from mpox._core import MpoxError

METHODS = ("percentile", "bca")
TAILS = (0.025, 0.975)


def leave_one_out_weights(groups: np.ndarray) -> np.ndarray:
    """Weights of a jackknife that leaves out one group at a time.

    Parameters
    ----------
    groups : ndarray, shape (n,)
        Group of each image.

    Returns
    -------
    ndarray of float64, shape (n_groups, n)
        Row g is 0 for the images of the g-th group (in sorted order) and 1 for all others.
    """
    names, codes = np.unique(groups, return_inverse=True)
    return (np.arange(len(names))[:, None] != codes).astype(float)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the bootstrap replicates (Efron and Tibshirani 1993, chapter 13).

    Parameters
    ----------
    values : ndarray, shape (n_bootstrap + 1,)
        The estimate, then the replicates. Undefined (NaN) replicates are left out.

    Returns
    -------
    low, high : float
        NaN where no replicate is defined.

    Examples
    --------
    >>> low, high = percentile_interval(np.array([20.0, *range(41)]))
    >>> round(low, 6), round(high, 6)
    (1.0, 39.0)
    """
    replicates = values[1:][~np.isnan(values[1:])]
    return _quantiles(replicates, TAILS) if len(replicates) else (np.nan, np.nan)


def with_percentiles(values: np.ndarray) -> tuple[float, float, float]:
    """The estimate, which comes first in ``values``, and its `percentile_interval`."""
    low, high = percentile_interval(values)
    return float(values[0]), float(low), float(high)


def bca_interval(values: np.ndarray, jackknife: np.ndarray) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of 95 % (Efron 1987; Efron and Tibshirani 1993, eqs. 14.9 to 14.15).

    The percentiles that are read off the replicates are moved by z0, the share of replicates below the estimate (ties count one
    half, as in `scipy.stats.bootstrap`), and by a, a sixth of the skewness of the jackknife values.

    Parameters
    ----------
    values : ndarray, shape (n_bootstrap + 1,)
        The estimate, then the replicates. Undefined (NaN) replicates are left out.
    jackknife : ndarray, shape (n_groups,)
        The statistic without each group in turn. Undefined values (the only group of a class was left out) are left out.

    Returns
    -------
    low, high : float
        NaN where the estimate or all replicates are undefined, or where all replicates lie on one side of the estimate: the
        method has no answer there.

    Examples
    --------
    Without bias and skewness it is the percentile interval.

    >>> low, high = bca_interval(np.array([20.0, *range(41)]), np.array([-1.0, 0.0, 1.0]))
    >>> round(low, 6), round(high, 6)
    (1.0, 39.0)
    """
    estimate, replicates = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(estimate) or not len(replicates):
        return np.nan, np.nan
    share_below = ((replicates < estimate).mean() + (replicates <= estimate).mean()) / 2
    if share_below in (0, 1):
        return np.nan, np.nan
    moved = ndtri(share_below) + ndtri(TAILS)
    tails = ndtr(ndtri(share_below) + moved / (1 - acceleration(jackknife) * moved))
    return _quantiles(replicates, tails)


def acceleration(jackknife: np.ndarray) -> float:
    """Acceleration of a BCa interval from leave-one-group-out values (Efron and Tibshirani 1993, eq. 14.15).

    Parameters
    ----------
    jackknife : ndarray, shape (n_groups,)
        NaN is left out.

    Returns
    -------
    float
        From -1/6 to 1/6; 0 where the values do not differ.

    Examples
    --------
    >>> acceleration(np.array([1.0, 1.0, 1.0, -3.0])) > 0
    True
    """
    known = jackknife[~np.isnan(jackknife)]
    change = known.mean() - known if len(known) else known
    spread = (change**2).sum() ** 1.5
    return float((change**3).sum() / (6 * spread)) if spread > 0 else 0.0


def _quantiles(replicates: np.ndarray, tails) -> tuple[float, float]:
    low, high = np.quantile(replicates, tails)
    return float(low), float(high)


def wilson(successes: float, n: int) -> tuple[float, float, float]:
    """A proportion with Wilson's score interval of 95 % (Wilson 1927; method 3 of Newcombe 1998), from statsmodels.

    It takes the n trials for independent, which images of one patient are not: use it for groups, or for one image a group.

    Parameters
    ----------
    successes : float
        From 0 to n; need not be whole, so that counts may be averages over repeats.
    n : int
        At least 1.

    Returns
    -------
    estimate, low, high : float
        From 0 to 1.

    Raises
    ------
    MpoxError
        If there are no trials, or the successes are not from 0 to n.

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
