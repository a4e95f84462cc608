"""What a study could have shown: power, detectable differences, components of variance."""

from bisect import bisect_left

import numpy as np
import pandas as pd
from scipy import optimize, stats

from mpox._core import MpoxError
from mpox.stats.comparison import ALPHA, variance_factor
from mpox.stats.metrics import MACRO, fold_metrics

#: The probability with which a study should find what is there, by convention.
POWER = 0.8
REPEAT, FOLD, SEED = "fold assignment (repeats)", "fold within repeat", "seed (same folds)"
SAMPLING = "sampling of test images (binomial)"
#: The metrics that are a share of images, and so have a binomial variance.
PROPORTIONS = ("accuracy", "recall", "sensitivity", "specificity")


def mcnemar_power(n, difference, discordance: float) -> np.ndarray:
    """Power of McNemar's exact two-sided test at 0.05 (of `mpox.stats.comparison.mcnemar`) over all numbers of images that two
    models can disagree on (Duffy 1984, Biometrics 40:1005-1015); NaN where the difference is above the discordance."""
    _check_discordance(discordance)
    return np.vectorize(_exact_power, otypes=[float])(n, np.abs(difference), discordance)


def _exact_power(n: int, difference: float, discordance: float) -> float:
    if difference > discordance:
        return np.nan
    reach = 9 * np.sqrt(n * discordance * (1 - discordance)) + 1  # all but 1e-18 of the numbers of disagreements
    disagreed = np.arange(max(0, int(n * discordance - reach)), min(n, int(n * discordance + reach)) + 1)
    fewest = stats.binom.ppf(ALPHA / 2, disagreed, 0.5) - 1  # rejected: as many or fewer, or as many or fewer of the other kind
    won = (1 + difference / discordance) / 2
    rejected = stats.binom.cdf(fewest, disagreed, won) + stats.binom.cdf(fewest, disagreed, 1 - won)
    return float(stats.binom.pmf(disagreed, n, discordance) @ rejected)


def _check_discordance(discordance: float) -> None:
    if not 0 < discordance <= 1:
        raise MpoxError(f"The discordance is a share of images above 0, at most 1, not {discordance}: two models must disagree.")


def mcnemar_size(difference: float, discordance: float, *, power: float = POWER) -> float:
    """How many independent images (or groups) McNemar's exact test takes to show a difference; by bisection, because its power
    grows with their number but for a saw's teeth."""
    _check_discordance(discordance)
    if abs(difference) > discordance:
        return np.nan
    if difference == 0:
        return np.inf
    few, many = 1, 2
    while mcnemar_power(many, difference, discordance) < power:
        few, many = many, 2 * many
    return float(few + bisect_left(range(few, many), power, key=lambda n: float(mcnemar_power(n, difference, discordance))))


def mcnemar_detectable(n: int, discordance: float, *, power: float = POWER) -> float:
    """The inverse of `mcnemar_power`: the smallest difference that n images show; NaN where even the largest is not."""
    if not mcnemar_power(n, discordance, discordance) >= power:
        return np.nan
    return float(optimize.brentq(lambda value: float(mcnemar_power(n, value, discordance)) - power, 0.0, discordance))


def t_test_power(difference, sd: float, n_folds: int, n_repeats: int) -> np.ndarray:
    """Power of the corrected resampled t-test at 0.05, by the noncentral t distribution."""
    df, error = _error(sd, n_folds, n_repeats)
    critical, shift = stats.t.ppf(1 - ALPHA / 2, df), np.abs(np.asarray(difference, dtype=np.float64)) / error
    return stats.nct.sf(critical, df, shift) + stats.nct.sf(critical, df, -shift)


def _error(sd: float, n_folds: int, n_repeats: int) -> tuple[int, float]:
    if not sd > 0 or n_folds < 2 or n_repeats < 1:
        raise MpoxError("Power needs differences that vary (sd above 0), at least two folds and one repeat.")
    n = n_folds * n_repeats
    return n - 1, float(sd * np.sqrt(variance_factor(n, n_folds)))


def t_test_detectable(sd: float, n_folds: int, n_repeats: int, *, power: float = POWER) -> float:
    """The inverse of `t_test_power`: the smallest true difference that is shown with this power."""
    _, top = _error(sd, n_folds, n_repeats)
    while t_test_power(top, sd, n_folds, n_repeats) < power:
        top *= 2
    return float(optimize.brentq(lambda value: float(t_test_power(value, sd, n_folds, n_repeats)) - power, 0.0, top))


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
    discordance, sd, n_folds, n_repeats
        See `mcnemar_power` and `t_test_power`; observed in the study.
    differences : sequence of float
        True differences of accuracy to ask about.
    power : float

    Returns
    -------
    DataFrame
        One row a test and difference: ``test`` ('McNemar' or 'corrected t'), ``n_groups``, ``detectable`` (the smallest true
        difference that is shown with ``power``), ``difference``, ``power`` (with which this one would be shown), ``needed``
        (groups for this one to be shown with ``power``). For the corrected t-test ``needed`` supposes that the variance of the
        fold differences falls as one over the number of groups. NaN where the models do not disagree, or the differences of
        the folds do not vary (``sd`` is 0): nothing is known then.

    Examples
    --------
    >>> power_table(162, discordance=0.15, sd=0.04, n_folds=5, n_repeats=5, differences=[0.05]).round(3)
              test  n_groups  detectable  difference  power  needed
    0      McNemar       162       0.088        0.05  0.299   498.0
    1  corrected t       162       0.063        0.05  0.606   257.0
    """
    gaps = np.asarray(differences, dtype=np.float64)
    tests: dict[str, tuple] = dict.fromkeys(("McNemar", "corrected t"), (np.nan, np.nan, np.nan))
    if discordance != 0:
        sizes = [mcnemar_size(value, discordance, power=power) for value in gaps]
        least = mcnemar_detectable(n_groups, discordance, power=power)
        tests["McNemar"] = (least, mcnemar_power(n_groups, gaps, discordance), sizes)
    if not np.isclose(sd, 0, atol=1e-12):
        least = t_test_detectable(sd, n_folds, n_repeats, power=power)
        with np.errstate(divide="ignore"):
            needed = np.ceil(n_groups * (least / gaps) ** 2)
        tests["corrected t"] = (least, t_test_power(gaps, sd, n_folds, n_repeats), needed)
    columns = ["test", "n_groups", "detectable", "difference", "power", "needed"]
    tables = [
        pd.DataFrame(dict(zip(columns, (test, n_groups, least, gaps, reached, groups), strict=True)))
        for test, (least, reached, groups) in tests.items()
    ]
    return pd.concat(tables, ignore_index=True)


def fold_estimates(runs: dict[int, pd.DataFrame], metric: str, label: str, *, positive: str = "Mpox") -> pd.DataFrame:
    """One metric of each run, for `variance_components`.

    Parameters
    ----------
    runs : dict of int to DataFrame
        Seed of the model to its predictions; the same folds under every seed.
    metric, label, positive : str
        As in `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``repeat``, ``fold``, ``seed``, ``estimate``, and for a share of images (`PROPORTIONS`) ``n_test``: of how many.
    """
    parts, columns = [], ["repeat", "fold", "seed", "estimate"]
    for seed, predictions in runs.items():
        table = fold_metrics(predictions, [(metric, label)], positive=positive).assign(seed=seed)
        if metric in PROPORTIONS and label != MACRO:
            counted = {"accuracy": predictions["label"].notna(), "specificity": predictions["label"] != label}
            inside = predictions[counted.get(metric, predictions["label"] == label)]
            sizes = inside.groupby(["repeat", "fold"]).size().rename("n_test").reset_index()
            table = table.merge(sizes, on=["repeat", "fold"], validate="1:1")
            columns = ["repeat", "fold", "seed", "n_test", "estimate"]
        parts.append(table[columns])
    return pd.concat(parts, ignore_index=True)


def variance_components(table: pd.DataFrame) -> pd.DataFrame:
    """The variance of a fold's metric, split into repeat, fold and seed.

    A nested random-effects model, estimate = mean + repeat + fold within repeat + seed within fold, of balanced data. Mean
    squares are set equal to their expectations (analysis of variance, method of moments: Searle, Casella and McCulloch 1992,
    *Variance Components*, chapter 3; why training has several sources of variance: Bouthillier et al. 2021, arXiv 2103.03098).
    The runs of a fold differ in nothing but the seed, so that the seed's component is the residual of the model.

    Parameters
    ----------
    table : DataFrame
        From `fold_estimates`; every repeat has as many folds, every fold the same seeds.

    Returns
    -------
    DataFrame
        ``component``, ``variance``, ``sd`` (its root, in the metric's unit), ``share`` (0 to 1, of the sum of the components) and
        ``note``. A component that cannot be told apart is NaN, and the note says where it went. A negative moment estimate is set
        to 0, and the note gives it. For the repeat it is to be expected: every repeat tests all images, so that the folds of a
        repeat make up for each other, and the means of repeats differ less than means of independent folds would.
        With ``n_test`` a last row, beside the split and not a part of it: the variance p (1 - p) / n that a fold's metric would
        have from drawing its test images alone, one by one, p being the mean estimate. Images of a group resemble each other, so
        that the true variance from sampling is larger.
    """
    values = _cube(table)
    n_repeats, n_folds, n_seeds = values.shape
    fold_means, repeat_means = values.mean(axis=2), values.mean(axis=(1, 2))
    between_folds = n_seeds * ((fold_means - repeat_means[:, None]) ** 2).sum() / (n_repeats * (n_folds - 1))
    found = {REPEAT: (np.nan, "one repeat: it cannot be told from the mean")}
    if n_repeats > 1:
        between_repeats = n_folds * n_seeds * repeat_means.var(ddof=1)
        found[REPEAT] = _not_negative((between_repeats - between_folds) / (n_folds * n_seeds))
    if n_seeds > 1:
        within = ((values - fold_means[:, :, None]) ** 2).sum() / (n_repeats * n_folds * (n_seeds - 1))
        found[FOLD] = _not_negative((between_folds - within) / n_seeds)
        found[SEED] = (within, "")
    else:
        found[FOLD] = (between_folds, "one seed: the seed's part is in this one")
        found[SEED] = (np.nan, "one seed: it is a part of the fold's component")
    total = np.nansum([variance for variance, _ in found.values()])
    if "n_test" in table:
        p = values.mean()
        note = "beside the sum: it is spread over the fold's and the seed's components"
        found[SAMPLING] = (p * (1 - p) * (1 / table["n_test"]).mean(), note)
    rows = [
        (name, variance, np.sqrt(variance), variance / total if total > 0 and name != SAMPLING else np.nan, note)
        for name, (variance, note) in found.items()
    ]
    return pd.DataFrame(rows, columns=["component", "variance", "sd", "share", "note"])


def _cube(table: pd.DataFrame) -> np.ndarray:
    """The estimates, shape (repeats, folds, seeds)."""
    keys = ["repeat", "fold", "seed"]
    wide = table.set_index(keys)["estimate"]
    shape = tuple(table[key].nunique() for key in keys)
    if wide.index.duplicated().any() or len(wide) != np.prod(shape) or wide.isna().any() or shape[1] < 2:
        raise MpoxError(
            "Variance components need one estimate of every repeat, fold and seed, none missing, and at least two folds: "
            "use a metric that every fold has, and the same seeds in all."
        )
    return wide.sort_index().to_numpy(dtype=float).reshape(shape)


def _not_negative(variance: float) -> tuple[float, str]:
    return (variance, "") if variance >= 0 else (0.0, f"the moment estimate is {variance:.2g}: set to 0")
