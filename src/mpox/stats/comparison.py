"""Two models on the same folds: paired tests, equivalence, effect size."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from mpox._core import MpoxError
from mpox.stats.metrics import N_BOOTSTRAP, difference, fold_metrics

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


@dataclass(frozen=True)
class McNemar:
    """``b`` images that only the first model gets right, ``c`` that only the second does, of ``n``; exact two-sided ``p``."""

    n: int
    b: int
    c: int
    discordance: float
    p: float


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over models, and what it takes for two mean ranks to differ.

    Attributes
    ----------
    statistic, p : float
        Chi-square with (models - 1) degrees of freedom, corrected for ties.
    n_blocks : int
    mean_ranks : Series
        Model to mean rank; 1 is best.
    critical_difference : float
        Mean ranks that are further apart differ at 0.05 (Nemenyi).
    nemenyi : DataFrame
        Models x models, p values of the pairs, adjusted for all pairs.
    """

    statistic: float
    p: float
    n_blocks: int
    mean_ranks: pd.Series
    critical_difference: float
    nemenyi: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """What `compare_folds` finds; ``differences`` has ``repeat``, ``fold`` and ``difference``, one row a fold."""

    metric: str
    label: str
    differences: pd.DataFrame
    t_test: TTest
    naive: TTest
    equivalence: Equivalence
    posterior: Posterior
    bootstrap: tuple[float, float, float]

    def row(self) -> dict:
        """All numbers in one flat row for a table: ``p`` is the corrected test's, ``bootstrap_...`` the paired bootstrap's."""
        estimate, low, high = self.bootstrap
        return {
            "metric": self.metric,
            "class": self.label,
            "estimate": self.t_test.estimate,
            "low": self.t_test.low,
            "high": self.t_test.high,
            "sd": float(self.differences["difference"].std()),
            "t": self.t_test.t,
            "df": self.t_test.df,
            "p": self.t_test.p,
            "p_naive": self.naive.p,
            "margin": self.equivalence.margin,
            "low90": self.equivalence.low90,
            "high90": self.equivalence.high90,
            "p_equivalence": self.equivalence.p,
            "verdict": self.equivalence.verdict,
            "differs": self.equivalence.differs,
            "p_worse": self.posterior.p_worse,
            "p_equivalent": self.posterior.p_equivalent,
            "p_better": self.posterior.p_better,
            "bootstrap_estimate": estimate,
            "bootstrap_low": low,
            "bootstrap_high": high,
        }


def _predicted(predictions: pd.DataFrame) -> np.ndarray:
    columns = [column for column in predictions.columns if column.startswith("p_")]
    return np.array([column.removeprefix("p_") for column in columns])[predictions[columns].to_numpy().argmax(axis=1)]


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> McNemar:
    """McNemar's exact test on the out-of-fold predictions of two models, on the first repeat that is there.

    One repeat, because a second one has the same images and would count each of them twice. The test takes images for
    independent: where a patient has several, they are right and wrong together, and p comes out too small; then believe the
    group bootstrap of `mpox.stats.metrics.difference`. It also takes the trained models for given, so it says nothing of other
    training sets (Dietterich 1998, Neural Computation 10:1895-1923).

    Parameters
    ----------
    first, second : DataFrame
        Predictions of the same images (see `mpox.cross_validate`).

    Returns
    -------
    McNemar
        ``discordance`` is (b + c) / n.

    Raises
    ------
    MpoxError
        If the images of the first repeat differ.
    """
    right = []
    for predictions in (first, second):
        once = predictions[predictions["repeat"] == predictions["repeat"].min()]
        right.append(pd.Series(_predicted(once) == once["label"].to_numpy(), index=once["image_id"]).sort_index())
    if right[0].index.has_duplicates or not right[0].index.equals(right[1].index):
        raise MpoxError("McNemar's test needs predictions of the same images, each once a repeat: compare on one data set.")
    a, b = right[0].to_numpy(), right[1].to_numpy()
    table = np.array([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]])
    found = contingency_tables.mcnemar(table, exact=True)
    return McNemar(len(a), int(table[0, 1]), int(table[1, 0]), float((table[0, 1] + table[1, 0]) / len(a)), float(found.pvalue))


def friedman(scores: pd.DataFrame) -> Friedman:
    """Friedman's test over several models, with Nemenyi's comparison of all pairs.

    Demsar 2006 (JMLR 7:1-30), section 3.2: models are ranked within each block, 1 for the best, ties get the mean rank; two mean
    ranks differ at 0.05 if they are further apart than q sqrt(m (m + 1) / (6 N)) for m models and N blocks, q from the
    studentized range over sqrt(2).

    The test wants independent blocks, such as data sets. Folds of one data set share training images, so p is too small; take
    folds of one repeat, and read the result as a ranking with a warning.

    Parameters
    ----------
    scores : DataFrame, shape (N, m)
        Blocks in the rows, at least two, models in the columns, at least three; higher is better.

    Returns
    -------
    Friedman

    Raises
    ------
    MpoxError
        If there are fewer blocks or models, or scores are missing.
    """
    n_blocks, n_models = scores.shape
    if n_blocks < 2 or n_models < 3 or scores.isna().any(axis=None):
        raise MpoxError("Friedman's test needs three or more models (columns), each with a score in two or more blocks (rows).")
    ranks = scores.rank(axis=1, ascending=False)
    tied = bool((ranks.nunique(axis=1) == 1).all())  # every block ties all models: nothing to test
    statistic, p = (0.0, 1.0) if tied else stats.friedmanchisquare(*scores.to_numpy().T)
    q = stats.studentized_range.ppf(1 - ALPHA, n_models, np.inf) / np.sqrt(2)
    critical = float(q * np.sqrt(n_models * (n_models + 1) / (6 * n_blocks)))
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(scores.to_numpy())
    nemenyi = pd.DataFrame(nemenyi.to_numpy(), index=scores.columns, columns=scores.columns)
    return Friedman(float(statistic), float(p), n_blocks, ranks.mean(), critical, nemenyi)


def holm(p: pd.Series) -> pd.Series:
    """P values adjusted for their number by Holm's step-down method (Holm 1979, Scandinavian J. Statistics 6:65-70).

    Examples
    --------
    >>> holm(pd.Series({"a": 0.01, "b": 0.04, "c": 0.03})).round(2).to_dict()
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    return pd.Series(multipletests(p.to_numpy(), method="holm")[1], index=p.index, name=p.name)


def fold_differences(
    first: pd.DataFrame, second: pd.DataFrame, metric: str, label: str, *, positive: str = "Mpox"
) -> pd.DataFrame:
    """``first`` minus ``second`` in one metric, fold by fold.

    Parameters
    ----------
    first, second, metric, label, positive
        See `compare_folds`.

    Returns
    -------
    DataFrame
        ``repeat``, ``fold``, ``difference``.

    Raises
    ------
    MpoxError
        See `compare_folds`.
    """
    keys = ["repeat", "fold"]
    dealt = [table[[*keys, "image_id"]].sort_values([*keys, "image_id"], ignore_index=True) for table in (first, second)]
    if not dealt[0].equals(dealt[1]):
        raise MpoxError(
            "The two models were not tested on the same folds: compare models of one protocol, with the same repeats and seed."
        )
    values = []
    for table in (first, second):
        found = fold_metrics(table, positive=positive)
        found = found[(found["metric"] == metric) & (found["class"] == label)]
        if found.empty:
            raise MpoxError(f"There is no metric '{metric}' of '{label}': see the result of `mpox.evaluate`.")
        values.append(found.set_index(keys)["estimate"])
    return (values[0] - values[1]).rename("difference").reset_index()


def compare_folds(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str,
    label: str,
    margin: float,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> Comparison:
    """Compare two models that were cross-validated on the same folds: difference, tests, equivalence, paired bootstrap.

    Parameters
    ----------
    first, second : DataFrame
        Predictions (see `mpox.cross_validate`) with the same test images in the same folds and repeats.
    metric, label : str
        As in the result of `mpox.evaluate`, such as ``"accuracy", "all"``.
    margin : float
        Of `tost` and `bayesian_correlated_t`; fixed before looking.
    positive, n_bootstrap, seed
        See `mpox.stats.metrics.difference`.

    Returns
    -------
    Comparison
        Differences are ``first`` minus ``second``. The t-tests' estimate is the mean over folds, the bootstrap's that of
        `mpox.evaluate`, over all images of a repeat; they agree where a metric is a mean over images and folds are equally large.

    Raises
    ------
    MpoxError
        If the folds or their images differ, a metric is unknown or undefined in a fold, or the margin is not above 0.
    """
    differences = fold_differences(first, second, metric, label, positive=positive)
    per_repeat = differences.groupby("repeat").size()
    if per_repeat.nunique() > 1:
        raise MpoxError(f"Every repeat needs the same number of folds, not {sorted(set(per_repeat))}: complete the runs first.")
    n_folds = int(per_repeat.iloc[0])
    values = differences["difference"].to_numpy()
    return Comparison(
        metric,
        label,
        differences,
        corrected_t_test(values, n_folds),
        corrected_t_test(values, n_folds, corrected=False),
        tost(values, margin, n_folds),
        bayesian_correlated_t(values, margin, n_folds),
        difference(first, second, metric, label, positive=positive, n_bootstrap=n_bootstrap, seed=seed),
    )
