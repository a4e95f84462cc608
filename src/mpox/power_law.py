"""The law of a learning curve: a power law with a floor, and how many groups it says a target would take.

The error after n training groups is a + b n^-c (Cortes et al. 1993, "Learning curves: asymptotic values and rate of convergence";
Hestness et al. 2017, arXiv 1712.00409; what speaks for and against it: Viering and Loog 2022, "The shape of learning curves: a
review", doi 10.1109/TPAMI.2022.3220744). Beyond the largest n it is an extrapolation, and a law that is fitted to one decade of n
says little about the next: the truth may well be outside the interval.
"""

from dataclasses import dataclass

import numpy as np

from mpox.errors import MpoxError

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
        From `mpox.learning_curve.curve_replicates`; replicates in which the metric is undefined are left out.
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
