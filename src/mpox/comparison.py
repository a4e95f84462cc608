"""Two or more models on the same images: fold by fold, image by image, and by ranks.

`compare_folds` puts together what can be said of two models that were cross-validated on the same folds: the corrected t-test,
equivalence and the Bayesian test of `mpox.foldtests`, which allow for other training sets and take images for independent, and
the paired bootstrap of `mpox.metrics.difference`, which resamples groups and holds the trained models fixed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from mpox.errors import MpoxError
from mpox.foldtests import ALPHA, Equivalence, Posterior, TTest, bayesian_correlated_t, corrected_t_test, tost
from mpox.metrics import N_BOOTSTRAP, difference, fold_metrics


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
    group bootstrap of `mpox.metrics.difference`. It also takes the trained models for given, so it says nothing of other
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
        See `mpox.metrics.difference`.

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
