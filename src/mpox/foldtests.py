"""Tests of a mean difference between two models over the folds of a (repeated) cross-validation.

The folds of a cross-validation share training images, and its repeats share all images: their scores are not independent, and a
plain t-test takes noise for a difference. The tests here correct the variance for that (Nadeau and Bengio 2003). They do not
know that images come in groups; the paired bootstrap of `mpox.metrics.difference` does, but holds the trained models fixed.

Not to reject is not to show equality. That takes a margin fixed before looking, and `tost` or `bayesian_correlated_t`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mpox.errors import MpoxError

ALPHA = 0.05


@dataclass(frozen=True)
class TTest:
    """A t-test of a mean difference against 0, with its 95 % confidence interval; ``p`` is two-sided."""

    estimate: float
    low: float
    high: float
    t: float
    df: int
    p: float


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests: ``p`` is the larger of the two; ``verdict`` is 'equivalent' where it is below 0.05, else 'not shown'.

    ``low90`` and ``high90`` are the 90 % confidence interval, which lies within the margin where the verdict is 'equivalent'.
    ``differs`` says whether the two-sided test against 0 rejects at 0.05; a small, precisely measured difference can do so and
    be equivalent too.
    """

    estimate: float
    low90: float
    high90: float
    p: float
    margin: float
    verdict: str
    differs: bool


@dataclass(frozen=True)
class Posterior:
    """Probabilities that the first model is worse by more than ``rope``, practically equivalent, or better by more than it.

    ``low`` and ``high`` are the 95 % credible interval of the mean difference.
    """

    estimate: float
    low: float
    high: float
    rope: float
    p_worse: float
    p_equivalent: float
    p_better: float


def variance_factor(n_differences: int, n_folds: int, *, corrected: bool = True) -> float:
    """What the sample variance of the fold differences is multiplied by to give the variance of their mean.

    1/J for J independent differences; for J differences of a (repeated) k-fold cross-validation 1/J + n_test/n_train, with
    n_test/n_train = 1/(k - 1) (Nadeau and Bengio 2003, Machine Learning 52:239-281, section 3; Bouckaert and Frank 2004, PAKDD,
    for repeated folds). This is unbiased if any two differences have the correlation 1/k.

    Examples
    --------
    >>> round(variance_factor(50, 10), 3), variance_factor(50, 10, corrected=False)
    (0.131, 0.02)
    """
    return 1 / n_differences + (1 / (n_folds - 1) if corrected else 0)


def _summary(differences, n_folds: int, corrected: bool = True) -> tuple[float, float, int]:
    """Mean, its standard error, degrees of freedom."""
    values = np.asarray(differences, dtype=np.float64).ravel()
    if n_folds < 2 or len(values) < n_folds or len(values) % n_folds:
        raise MpoxError(f"Give one difference a fold and repeat: {len(values)} are no whole repeats of {n_folds} folds.")
    if not np.isfinite(values).all():
        raise MpoxError("A fold has no value of this metric, for instance an AUROC without positives: compare in another metric.")
    error = np.sqrt(values.var(ddof=1) * variance_factor(len(values), n_folds, corrected=corrected))
    return float(values.mean()), float(error), len(values) - 1


def _t(value: float, error: float) -> float:
    """value / error; differences that are all equal have no error, and then any value but 0 is infinitely many of them."""
    if error > 0:
        return value / error
    return float(np.copysign(np.inf, value)) if value else 0.0


def corrected_t_test(differences, n_folds: int, *, corrected: bool = True) -> TTest:
    """The corrected resampled t-test of Nadeau and Bengio for (repeated) k-fold cross-validation.

    Parameters
    ----------
    differences : array-like of float, shape (n_repeats * n_folds,)
        First model minus second, one value a fold and repeat.
    n_folds : int
        k; a test fold then has 1/(k - 1) of the training images.
    corrected : bool
        False gives the plain paired t-test, which takes the folds for independent; kept to show what it does.

    Returns
    -------
    TTest

    Raises
    ------
    MpoxError
        If the number of differences is no multiple of ``n_folds``, or one is missing.

    Notes
    -----
    t = mean / sqrt(s^2 (1/J + 1/(k - 1))) with J - 1 degrees of freedom, J = repeats * folds; see `variance_factor`. The
    correlation of 1/k behind it is a guess that holds on average: no unbiased estimate exists (Bengio and Grandvalet 2004).

    Examples
    --------
    >>> result = corrected_t_test([0.02, 0.04, 0.00, 0.06, 0.03], n_folds=5)
    >>> round(result.estimate, 3), round(result.t, 3), round(result.p, 3)
    (0.03, 2.0, 0.116)
    >>> round(corrected_t_test([0.02, 0.04, 0.00, 0.06, 0.03], n_folds=5, corrected=False).p, 3)
    0.04
    """
    mean, error, df = _summary(differences, n_folds, corrected)
    t = _t(mean, error)
    reach = float(stats.t.ppf(1 - ALPHA / 2, df)) * error
    return TTest(mean, mean - reach, mean + reach, t, df, float(2 * stats.t.sf(abs(t), df)))


def tost(differences, margin: float, n_folds: int) -> Equivalence:
    """Two one-sided t-tests: is the difference within a margin that was fixed beforehand?

    Schuirmann 1987 (J. Pharmacokinetics and Biopharmaceutics 15:657-680), with the corrected variance of `corrected_t_test`.

    Parameters
    ----------
    differences, n_folds
        See `corrected_t_test`.
    margin : float
        The largest difference that is of no importance, above 0, in units of the metric (0.02 for two points of accuracy).

    Returns
    -------
    Equivalence
        'equivalent' where both one-sided tests reject at 0.05, else 'not shown'. There is no verdict 'different': that is the
        two-sided test's, in ``differs``.

    Raises
    ------
    MpoxError
        As `corrected_t_test`, or if the margin is not above 0.

    Examples
    --------
    >>> tost([0.01, -0.01, 0.00, 0.005, -0.005], margin=0.05, n_folds=5).verdict
    'equivalent'
    >>> tost([0.10, -0.10, 0.00, 0.05, -0.05], margin=0.05, n_folds=5).verdict
    'not shown'
    """
    _check_margin(margin)
    mean, error, df = _summary(differences, n_folds)
    p = float(max(stats.t.sf(_t(mean + margin, error), df), stats.t.cdf(_t(mean - margin, error), df)))
    reach = float(stats.t.ppf(1 - ALPHA, df)) * error
    verdict = "equivalent" if p < ALPHA else "not shown"
    differs = corrected_t_test(differences, n_folds).p < ALPHA
    return Equivalence(mean, mean - reach, mean + reach, p, margin, verdict, differs)


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise MpoxError(f"A margin of equivalence is above 0, in units of the metric, not {margin}.")


def bayesian_correlated_t(differences, rope: float, n_folds: int) -> Posterior:
    """The Bayesian correlated t-test with a region of practical equivalence (ROPE).

    Corani and Benavoli 2015 (Machine Learning 100:285-304); Benavoli, Corani, Demsar and Zaffalon 2017 (JMLR 18(77), section 3).
    The differences are jointly normal with equal correlations rho = 1/k; with the prior p(mu, sigma) proportional to 1/sigma
    the posterior of the mean is Student's with J - 1 degrees of freedom, location mean and scale
    sqrt(s^2 (1/J + rho/(1 - rho))), which is the standard error of `corrected_t_test`: rho/(1 - rho) = 1/(k - 1).

    Parameters
    ----------
    differences, n_folds
        See `corrected_t_test`.
    rope : float
        Half the width of the region, above 0: differences from -rope to rope are of no importance.

    Returns
    -------
    Posterior
        The three probabilities add up to 1.

    Raises
    ------
    MpoxError
        As `tost`.

    Examples
    --------
    >>> found = bayesian_correlated_t([0.02, 0.04, 0.00, 0.06, 0.03], rope=0.01, n_folds=5)
    >>> round(found.p_worse, 3), round(found.p_equivalent, 3), round(found.p_better, 3)
    (0.028, 0.099, 0.873)
    """
    _check_margin(rope)
    mean, error, df = _summary(differences, n_folds)
    worse = float(stats.t.sf(_t(mean + rope, error), df))
    better = float(stats.t.cdf(_t(mean - rope, error), df))
    reach = float(stats.t.ppf(1 - ALPHA / 2, df)) * error
    return Posterior(mean, mean - reach, mean + reach, rope, worse, 1 - worse - better, better)
