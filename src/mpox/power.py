"""What n patients and k folds could have shown at all: the power of paired comparisons of two models.

Two tests, two kinds of noise. McNemar's test sees the images on which two trained models disagree. The corrected resampled t-test
sees how much the difference of the models varies from fold to fold, other training sets included. What is simulated is in
`mpox.simulation`.
"""

import numpy as np
import pandas as pd
from scipy import optimize, stats

from mpox.errors import MpoxError
from mpox.foldtests import ALPHA, variance_factor

#: The probability with which a study should find what is there, by convention.
POWER = 0.8


def _z(probability: float) -> float:
    return float(stats.norm.ppf(probability))


def mcnemar_power(n, difference, discordance: float, *, alpha: float = ALPHA) -> np.ndarray:
    """Power of McNemar's two-sided test, by the normal approximation of Connor 1987 (Biometrics 43:207-211).

    Parameters
    ----------
    n : array-like of int
        Independent images, or groups if each has one image or its images are right and wrong together.
    difference : array-like of float
        True difference of the two accuracies, 0 to ``discordance``.
    discordance : float
        Share of the images that exactly one of the two models gets right, above 0 to 1; see `mpox.comparison.mcnemar`.
    alpha : float

    Returns
    -------
    ndarray of float64
        0 to 1; NaN where the difference is larger than the discordance, which cannot be.

    Notes
    -----
    Phi((d sqrt(n) - z) / s) + Phi((-d sqrt(n) - z) / s), with z = z_(1 - alpha/2) sqrt(psi) and s = sqrt(psi - d^2), for the
    difference d and the discordance psi. The exact test is a little more cautious than this approximation.

    Examples
    --------
    >>> mcnemar_power([100, 400], 0.05, discordance=0.15).round(2).tolist()
    [0.25, 0.73]
    """
    n, difference = np.asarray(n, dtype=np.float64), np.abs(np.asarray(difference, dtype=np.float64))
    _check_discordance(discordance)
    possible = np.where(difference <= discordance, difference, np.nan)
    spread = np.sqrt(discordance - possible**2)
    limit = _z(1 - alpha / 2) * np.sqrt(discordance)
    with np.errstate(divide="ignore"):  # both 1: every image is won
        return sum(stats.norm.cdf((sign * possible * np.sqrt(n) - limit) / spread) for sign in (1, -1))


def _check_discordance(discordance: float) -> None:
    if not 0 < discordance <= 1:
        raise MpoxError(f"The discordance is a share of images above 0, at most 1, not {discordance}: two models must disagree.")


def mcnemar_size(difference: float, discordance: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """How many independent images (or groups) McNemar's test takes to show a difference: Connor 1987, equation for n of pairs.

    Parameters
    ----------
    difference, discordance, alpha
        See `mcnemar_power`.
    power : float

    Returns
    -------
    float
        A whole number; NaN where the difference is larger than the discordance, infinite where it is 0.

    Notes
    -----
    n = (z_(1 - alpha/2) sqrt(psi) + z_power sqrt(psi - d^2))^2 / d^2.

    Examples
    --------
    >>> mcnemar_size(0.02, discordance=0.15)
    2941.0
    """
    _check_discordance(discordance)
    if abs(difference) > discordance:
        return np.nan
    if difference == 0:
        return np.inf
    root = _z(1 - alpha / 2) * np.sqrt(discordance) + _z(power) * np.sqrt(discordance - difference**2)
    return float(np.ceil((root / difference) ** 2))


def mcnemar_detectable(n: int, discordance: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest true difference that McNemar's test on n images (or groups) shows with this power.

    The inverse of `mcnemar_power`. NaN where not even a difference as large as the discordance would do.

    Examples
    --------
    >>> round(mcnemar_detectable(162, discordance=0.15), 3)
    0.085
    """
    _check_discordance(discordance)
    if not mcnemar_power(n, discordance, discordance, alpha=alpha) >= power:
        return np.nan
    return float(
        optimize.brentq(lambda value: float(mcnemar_power(n, value, discordance, alpha=alpha)) - power, 0.0, discordance)
    )


def t_test_power(difference, sd: float, n_folds: int, n_repeats: int, *, alpha: float = ALPHA) -> np.ndarray:
    """Power of the corrected resampled t-test, by the noncentral t distribution.

    Exact if the fold differences are normal and any two have the correlation 1/k, as the test itself supposes; ``sd`` is then the
    square root of what their sample variance estimates.

    Parameters
    ----------
    difference : array-like of float
        True difference, in units of the metric.
    sd : float
        Standard deviation of the differences over the folds, as observed (``sd`` of `mpox.comparison.Comparison.row`).
    n_folds, n_repeats : int
    alpha : float

    Returns
    -------
    ndarray of float64
        Probability that the two-sided test rejects.

    Examples
    --------
    >>> t_test_power([0, 0.05], sd=0.04, n_folds=5, n_repeats=5).round(2).tolist()
    [0.05, 0.61]
    """
    df, error = _error(sd, n_folds, n_repeats)
    critical, shift = stats.t.ppf(1 - alpha / 2, df), np.abs(np.asarray(difference, dtype=np.float64)) / error
    return stats.nct.sf(critical, df, shift) + stats.nct.sf(critical, df, -shift)


def _error(sd: float, n_folds: int, n_repeats: int) -> tuple[int, float]:
    if not sd > 0 or n_folds < 2 or n_repeats < 1:
        raise MpoxError("Power needs differences that vary (sd above 0), at least two folds and one repeat.")
    n = n_folds * n_repeats
    return n - 1, float(sd * np.sqrt(variance_factor(n, n_folds)))


def t_test_detectable(sd: float, n_folds: int, n_repeats: int, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest true difference that the corrected resampled t-test shows with this power: the inverse of `t_test_power`.

    Examples
    --------
    >>> round(t_test_detectable(0.04, n_folds=5, n_repeats=5), 3)
    0.063
    """
    _, error = _error(sd, n_folds, n_repeats)
    options = (sd, n_folds, n_repeats)
    top = error
    while t_test_power(top, *options, alpha=alpha) < power:
        top *= 2
    return float(optimize.brentq(lambda value: float(t_test_power(value, *options, alpha=alpha)) - power, 0.0, top))


def power_table(
    n_groups: int,
    discordance: float,
    sd: float,
    n_folds: int,
    n_repeats: int,
    *,
    differences=(0.01, 0.02, 0.05),
    power: float = POWER,
) -> pd.DataFrame:
    """What a study of this size could have shown, and how large it would have to be.

    Parameters
    ----------
    n_groups : int
        Patients or photographs of the study, each counted once: the cautious count where a group has several images.
    discordance : float
        See `mcnemar_power`.
    sd : float
        See `t_test_power`; observed with these groups, folds and repeats.
    n_folds, n_repeats : int
    differences : sequence of float
        True differences of accuracy to ask about.
    power : float

    Returns
    -------
    DataFrame
        One row a test and difference: ``test`` ('McNemar' or 'corrected t'), ``n_groups``, ``detectable`` (the smallest true
        difference that is shown with ``power``), ``difference``, ``power`` (with which this one would be shown), ``needed``
        (groups for this one to be shown with ``power``). For the corrected t-test ``needed`` supposes that the variance of the
        fold differences falls as one over the number of groups.

    Raises
    ------
    MpoxError
        If the discordance is not above 0 and at most 1, the sd is not above 0, or there are too few folds or repeats.

    Examples
    --------
    >>> power_table(162, discordance=0.15, sd=0.04, n_folds=5, n_repeats=5, differences=[0.05]).round(3)
              test  n_groups  detectable  difference  power  needed
    0      McNemar       162       0.085        0.05  0.375   469.0
    1  corrected t       162       0.063        0.05  0.606   257.0
    """
    differences = np.asarray(differences, dtype=np.float64)
    folds = (sd, n_folds, n_repeats)
    detectable = t_test_detectable(*folds, power=power)
    with np.errstate(divide="ignore"):
        needed = np.ceil(n_groups * (detectable / differences) ** 2)
    mcnemar = {
        "test": "McNemar",
        "n_groups": n_groups,
        "detectable": mcnemar_detectable(n_groups, discordance, power=power),
        "difference": differences,
        "power": mcnemar_power(n_groups, differences, discordance),
        "needed": [mcnemar_size(value, discordance, power=power) for value in differences],
    }
    corrected = {
        "test": "corrected t",
        "n_groups": n_groups,
        "detectable": detectable,
        "difference": differences,
        "power": t_test_power(differences, *folds),
        "needed": needed,
    }
    return pd.concat([pd.DataFrame(mcnemar), pd.DataFrame(corrected)], ignore_index=True)
