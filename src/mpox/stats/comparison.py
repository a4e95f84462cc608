"""Two models on the same folds: paired tests, equivalence, effect size."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from mpox._core import MpoxError
from mpox.stats.metrics import codes_of, difference, fold_metrics, probabilities_of

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
    ``differs`` says whether the two-sided test against 0 rejects at 0.05; a small, precisely measured difference can do both.
    """

    low90: float
    high90: float
    p: float
    verdict: str
    differs: bool


@dataclass(frozen=True)
class Posterior:
    """Probabilities that the first model is worse by more than the margin, practically equivalent, or better by more than it."""

    p_worse: float
    p_equivalent: float
    p_better: float


def variance_factor(n_differences: int, n_folds: int, *, corrected: bool = True) -> float:
    """What the sample variance of the fold differences is multiplied by to give the variance of their mean. 1/J for J
    independent differences; for J differences of a (repeated) k-fold cross-validation 1/J + n_test/n_train, with
    n_test/n_train = 1/(k - 1) (Nadeau and Bengio 2003, Machine Learning 52:239-281, section 3; Bouckaert and Frank 2004,
    PAKDD, for repeated folds)."""
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

    t = mean / sqrt(s^2 (1/J + 1/(k - 1))) with J - 1 degrees of freedom, J = repeats * folds; see `variance_factor`. The
    correlation of 1/k behind it is a guess that holds on average: no unbiased estimate exists (Bengio and Grandvalet 2004).

    Parameters
    ----------
    differences : array-like of float, shape (n_repeats * n_folds,)
        First model minus second, one value a fold and repeat.
    n_folds : int
        k; a test fold then has 1/(k - 1) of the training images.
    corrected : bool
        False gives the plain paired t-test, which takes the folds for independent; kept to show what it does.
    """
    mean, error, df = _summary(differences, n_folds, corrected)
    t = _t(mean, error)
    reach = float(stats.t.ppf(1 - ALPHA / 2, df)) * error
    return TTest(mean, mean - reach, mean + reach, t, df, float(2 * stats.t.sf(abs(t), df)))


def corrected_intervals(predictions: pd.DataFrame, table: pd.DataFrame, *, positive: str = "Mpox") -> pd.DataFrame:
    """The rows of `mpox.evaluate` with intervals from the folds: as wide as those of `corrected_t_test`, about the estimates
    (which pool the folds), cut where the metric ends. NaN where a fold has no value. A group's images must be in one fold.
    """
    n_folds = predictions["fold"].nunique()
    folds = fold_metrics(predictions, positive=positive).groupby(["metric", "class"])["estimate"]
    reach = pd.Series({key: _summary(values, n_folds)[1] if values.notna().all() else np.nan for key, values in folds})
    half = stats.t.ppf(1 - ALPHA / 2, n_folds * predictions["repeat"].nunique() - 1) * reach
    half = half.reindex(pd.MultiIndex.from_frame(table[["metric", "class"]])).to_numpy()
    low, high = (table["estimate"] - half).clip(lower=0), (table["estimate"] + half).clip(upper=1)
    return table.assign(low=low.mask(table["metric"] == "kappa", table["estimate"] - half), high=high)


def tost(differences, margin: float, n_folds: int) -> Equivalence:
    """Two one-sided t-tests: is the difference within a margin, in units of the metric, that was fixed beforehand?

    Schuirmann 1987 (J. Pharmacokinetics and Biopharmaceutics 15:657-680).
    """
    mean, error, df = _summary(differences, n_folds)
    p = float(max(*_beyond(mean, error, df, margin)))
    reach = float(stats.t.ppf(1 - ALPHA, df)) * error
    verdict = "equivalent" if p < ALPHA else "not shown"
    return Equivalence(mean - reach, mean + reach, p, verdict, corrected_t_test(differences, n_folds).p < ALPHA)


def _beyond(mean: float, error: float, df: int, margin: float) -> tuple[float, float]:
    """The t distribution about the mean: its share below minus the margin, and its share above the margin."""
    if not margin > 0:
        raise MpoxError(f"A margin of equivalence is above 0, in units of the metric, not {margin}.")
    return float(stats.t.sf(_t(mean + margin, error), df)), float(stats.t.cdf(_t(mean - margin, error), df))


def bayesian_correlated_t(differences, margin: float, n_folds: int) -> Posterior:
    """The Bayesian correlated t-test with a region of practical equivalence (ROPE): differences from -margin to margin. Corani
    and Benavoli 2015 (Machine Learning 100:285-304); Benavoli, Corani, Demsar and Zaffalon 2017 (JMLR 18(77), section 3)."""
    worse, better = _beyond(*_summary(differences, n_folds), margin)
    return Posterior(worse, 1 - worse - better, better)


@dataclass(frozen=True)
class McNemar:
    """``b`` images that only the first model gets right, ``c`` only the second, of ``n``; ``discordance`` is (b + c) / n."""

    n: int
    b: int
    c: int
    discordance: float
    p: float


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> McNemar:
    """McNemar's exact test on the out-of-fold predictions of two models, on the first repeat that is there.

    One repeat, because a second one has the same images and would count each of them twice. The test takes images for
    independent: where a patient has several, they are right and wrong together, and p comes out too small; then believe the
    group bootstrap of `mpox.stats.metrics.difference`. It also takes the trained models for given, so it says nothing of other
    training sets (Dietterich 1998, Neural Computation 10:1895-1923).
    """
    right = []
    for predictions in (first, second):
        once = predictions[predictions["repeat"] == predictions["repeat"].min()]
        right.append(pd.Series(probabilities_of(once).argmax(axis=1) == codes_of(once), index=once["image_id"]).sort_index())
    if right[0].index.has_duplicates or not right[0].index.equals(right[1].index):
        raise MpoxError("McNemar's test needs predictions of the same images, each once a repeat: compare on one data set.")
    a, b = right[0].to_numpy(), right[1].to_numpy()
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    found = contingency_tables.mcnemar([[(a & b).sum(), only_first], [only_second, (~a & ~b).sum()]], exact=True)
    return McNemar(len(a), only_first, only_second, (only_first + only_second) / len(a), float(found.pvalue))


def holm(p: pd.Series) -> pd.Series:
    """P values adjusted for their number by Holm's step-down method (Holm 1979, Scandinavian J. Statistics 6:65-70).

    Examples
    --------
    >>> holm(pd.Series({"a": 0.01, "b": 0.04, "c": 0.03})).round(2).to_dict()
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    return pd.Series(multipletests(p.to_numpy(), method="holm")[1], index=p.index, name=p.name)


@dataclass(frozen=True)
class Comparison:
    """What `compare_folds` finds; ``differences`` has ``repeat``, ``fold`` and ``difference``, one row a fold."""

    metric: str
    label: str
    margin: float
    differences: pd.DataFrame
    t_test: TTest
    naive: TTest
    equivalence: Equivalence
    posterior: Posterior
    bootstrap: tuple[float, float, float]

    def row(self) -> dict[str, Any]:
        """All numbers in one flat row for a table: ``p`` is the corrected test's, ``bootstrap_...`` the paired bootstrap's."""
        sides = asdict(self.equivalence)
        return {
            **{"metric": self.metric, "class": self.label, "sd": float(self.differences["difference"].std())},
            **asdict(self.t_test),
            **{"p_naive": self.naive.p, "margin": self.margin, "p_equivalence": sides.pop("p")},
            **sides,
            **asdict(self.posterior),
            **dict(zip(("bootstrap_estimate", "bootstrap_low", "bootstrap_high"), self.bootstrap, strict=True)),
        }


def fold_differences(
    first: pd.DataFrame, second: pd.DataFrame, metric: str, label: str, *, positive: str = "Mpox"
) -> pd.DataFrame:
    """``first`` minus ``second`` in one metric, fold by fold: ``repeat``, ``fold``, ``difference``; see `compare_folds`."""
    keys = ["repeat", "fold"]
    tested = [table[[*keys, "image_id"]].sort_values([*keys, "image_id"], ignore_index=True) for table in (first, second)]
    if not tested[0].equals(tested[1]):
        raise MpoxError(
            "The two models were not tested on the same folds: compare models of one protocol, with the same repeats and seed."
        )
    one, other = (fold_metrics(t, [(metric, label)], positive=positive).set_index(keys)["estimate"] for t in (first, second))
    return (one - other).rename("difference").reset_index()


def compare_folds(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str,
    label: str,
    margin: float,
    *,
    positive: str = "Mpox",
    **resampling: Any,
) -> Comparison:
    """Compare two models that were cross-validated on the same folds: difference, tests, equivalence, paired bootstrap.

    Parameters
    ----------
    first, second : DataFrame
        Predictions with the same test images in the same folds and repeats.
    metric, label : str
        As in the result of `mpox.evaluate`, such as ``"accuracy", "all"``, and so the others.
    margin : float
        Of `tost` and `bayesian_correlated_t`, in units of the metric; fixed before looking.

    Returns
    -------
    Comparison
        Differences are ``first`` minus ``second``. The t-tests' estimate is the mean over folds, the bootstrap's that of
        `mpox.evaluate`, over all images of a repeat; they agree where a metric is a mean over images and folds are equally large.
    """
    differences = fold_differences(first, second, metric, label, positive=positive)
    per_repeat = differences.groupby("repeat").size()
    if per_repeat.nunique() > 1:
        raise MpoxError(f"Every repeat needs the same number of folds, not {sorted(set(per_repeat))}: complete the runs first.")
    n_folds = int(per_repeat.iloc[0])
    values = differences["difference"].to_numpy()
    return Comparison(
        *(metric, label, margin, differences, corrected_t_test(values, n_folds)),
        naive=corrected_t_test(values, n_folds, corrected=False),
        equivalence=tost(values, margin, n_folds),
        posterior=bayesian_correlated_t(values, margin, n_folds),
        bootstrap=difference(first, second, metric, label, positive=positive, **resampling),
    )
