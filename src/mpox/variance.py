"""Where the spread between folds comes from: the deal into folds, the fold, the seed of the training, and mere sampling."""

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.metrics import MACRO, fold_metrics

REPEAT, FOLD, SEED = "repeat (the deal)", "fold within repeat", "seed (same folds)"
SAMPLING = "sampling of test images (binomial)"
#: The metrics that are a share of images, and so have a binomial variance.
PROPORTIONS = ("accuracy", "recall", "sensitivity", "specificity")


def fold_estimates(runs: dict[int, pd.DataFrame], metric: str, label: str, *, positive: str = "Mpox") -> pd.DataFrame:
    """One metric of each run, for `variance_components`.

    Parameters
    ----------
    runs : dict of int to DataFrame
        Seed of the model to its predictions from `mpox.cross_validate`; the same folds under every seed.
    metric, label : str
        As in the result of `mpox.evaluate`.
    positive : str

    Returns
    -------
    DataFrame
        ``repeat``, ``fold``, ``seed``, ``estimate``, and for a share of images (`PROPORTIONS`) ``n_test``: of how many.

    Raises
    ------
    MpoxError
        If there is no such metric.
    """
    parts = []
    for seed, predictions in runs.items():
        table = fold_metrics(predictions, positive=positive)
        table = table[(table["metric"] == metric) & (table["class"] == label)].drop(columns=["metric", "class"])
        if table.empty:
            raise MpoxError(f"There is no metric '{metric}' of '{label}': see the result of `evaluate`.")
        if metric in PROPORTIONS and label != MACRO:
            counted = {"accuracy": predictions["label"].notna(), "specificity": predictions["label"] != label}
            inside = predictions[counted.get(metric, predictions["label"] == label)]
            sizes = inside.groupby(["repeat", "fold"]).size().rename("n_test").reset_index()
            table = table.merge(sizes, on=["repeat", "fold"], validate="1:1")
        parts.append(table.assign(seed=seed))
    table = pd.concat(parts, ignore_index=True)
    return table[["repeat", "fold", "seed", *(["n_test"] if "n_test" in table else []), "estimate"]]


def variance_components(table: pd.DataFrame) -> pd.DataFrame:
    """The variance of a fold's metric, split into repeat, fold and seed.

    A nested random-effects model, estimate = mean + repeat + fold within repeat + seed within fold, of balanced data. Mean
    squares are set equal to their expectations (analysis of variance, method of moments: Searle, Casella and McCulloch 1992,
    *Variance Components*, chapter 3; why training has several sources of variance: Bouthillier et al. 2021, arXiv 2103.03098).
    The runs of a fold differ in nothing but the seed, so that the seed's component is the residual of the model, and there is no
    other.

    Parameters
    ----------
    table : DataFrame
        One row a run: ``repeat``, ``fold``, ``seed``, ``estimate``; every repeat has as many folds, every fold the same seeds. If
        the metric is a share of images, ``n_test`` says of how many.

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

    Raises
    ------
    MpoxError
        If the data are not balanced, a run is there twice, an estimate is missing, or there are fewer than two folds.

    Examples
    --------
    >>> runs = pd.DataFrame({"repeat": 0, "fold": [0, 0, 1, 1], "seed": [0, 1, 0, 1], "estimate": [0.6, 0.8, 0.9, 0.9]})
    >>> variance_components(runs)[["component", "variance"]].round(4).values.tolist()
    [['repeat (the deal)', nan], ['fold within repeat', 0.015], ['seed (same folds)', 0.01]]
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
