"""External validation read closely: which two collections, what a remedy changes, and how far the level of the scores is off."""

import os

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from mpox.combine import combine
from mpox.errors import MpoxError
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights, matched_repeats, weighted_auroc
from mpox.recorded import RecordedStore
from mpox.store import Dataset, RunStore


def external_pair(
    store: RunStore | RecordedStore, train: str, test: str, *, data_dir: str | os.PathLike | None = None
) -> tuple[Dataset, str, str]:
    """Two collections as one, audited together, with the classes Mpox and Others; either may be a folder of the user's.

    Parameters
    ----------
    store : RunStore or RecordedStore
    train, test : str
        Registered names, or folders with one sub-folder a class, of which one is called Mpox (or Monkeypox).
    data_dir : path, optional
        See `mpox.store.RunStore.dataset`.

    Returns
    -------
    both : Dataset
        See `mpox.combine.combine`.
    train, test : str
        The names of the two within it.

    Raises
    ------
    MpoxError
        If a collection is missing, has no Mpox, or nothing else but healthy skin (which the task leaves out).
    """
    names = sorted((str(train), str(test)))
    loaded = {name: store.dataset(name, data_dir=data_dir) for name in names}
    both = combine([loaded[name] for name in names], store.audit(names, data_dir).groups)
    for name in (data.name for data in loaded.values()):
        found = set(both.manifest.loc[both.manifest["source"] == name, "label"])
        if found != set(both.classes):
            raise MpoxError(
                f"'{name}' has pictures of {' and '.join(sorted(found))} only, once healthy skin is left out: it needs both, "
                "Mpox and other rashes, each in a sub-folder of its class."
            )
    return both, loaded[str(train)].name, loaded[str(test)].name


def unshared_part(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions of pictures whose honest group has no picture in the training collection."""
    return predictions[~predictions["shared"].to_numpy(dtype=bool)].reset_index(drop=True)


def auroc_replicates(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> np.ndarray:
    """The AUROC of `mpox.evaluate` and its replicates, without all the other metrics: shape (n_bootstrap + 1,)."""
    _, repeats = matched_repeats(predictions, positive)
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    truth = (repeats[0]["label"] == positive).to_numpy(dtype=bool)
    return np.mean([weighted_auroc(truth, part[f"p_{positive}"].to_numpy(dtype=float), weights) for part in repeats], axis=0)


def changes(tables: dict[str, pd.DataFrame], reference: str, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """The AUROC for Mpox of several ways to predict the same pictures, and the paired difference of each to one of them.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Predictions of the same images in the same groups; the numbers of repeats may differ.
    reference : str
        Key of what the others are compared with.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        ``way``, ``estimate``, ``low``, ``high``, ``change``, ``change_low``, ``change_high`` (way minus reference, the same
        groups resampled) and ``p`` (`two_sided`; not adjusted for the number of ways: `mpox.comparison.holm` does so). The
        reference's own change is missing.

    Raises
    ------
    MpoxError
        If the images or their groups differ.
    """
    values = {way: auroc_replicates(table, n_bootstrap=n_bootstrap, seed=seed) for way, table in tables.items()}
    known = {
        way: matched_repeats(table, "Mpox")[1][0][["image_id", "group_id"]].to_numpy().tolist() for way, table in tables.items()
    }
    rows = []
    for way in tables:
        if known[way] != known[reference]:
            raise MpoxError(f"'{way}' predicts other images, or in other groups, than '{reference}': no paired difference.")
        change = values[way] - values[reference]
        told = (*with_percentiles(change), two_sided(change[1:])) if way != reference else (np.nan,) * 4
        rows.append((way, *with_percentiles(values[way]), *told))
    return pd.DataFrame(rows, columns=["way", "estimate", "low", "high", "change", "change_low", "change_high", "p"])


def two_sided(replicates: np.ndarray) -> float:
    """Two-sided p value of bootstrap replicates of a difference: twice the smaller share on either side of zero.

    Both shares are counted with one replicate more, so that p is never 0 (Davison and Hinkley 1997, section 4.2). It is the level
    at which the percentile interval would just reach zero. Undefined replicates are left out; none at all give NaN.

    Examples
    --------
    >>> two_sided(np.array([0.1, 0.2, 0.3, -0.1] * 25))
    0.5148514851485149
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return float("nan")
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(known))))


def calibration_in_the_large(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Whether the level of the predicted probabilities is right, with 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``measure``, ``estimate``, ``low``, ``high``: ``predicted`` (mean probability), ``observed`` (share of positives),
        ``difference`` (predicted minus observed), ``intercept`` (what must be added to every log odds for the mean to be right; 0
        is right, below 0 the predictions are too high: Cox 1958, Biometrika 45:562-565). Averaged over the repeats.
    """
    rows = [(name, *with_percentiles(values)) for name, values in _level(predictions, positive, n_bootstrap, seed).items()]
    return pd.DataFrame(rows, columns=["measure", "estimate", "low", "high"])


def calibration_shift(
    training: pd.DataFrame, target: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float, float]:
    """How far the intercept of `calibration_in_the_large` moves from one collection to another: target minus training.

    Parameters
    ----------
    training : DataFrame
        Predictions of held-out training images (`mpox.nested.predict_nested`).
    target : DataFrame
        Predictions of the other collection's images that are not shared; the two are resampled independently.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    estimate, low, high : float
        Log odds.
    """
    first, second = (_level(t, positive, n_bootstrap, s)["intercept"] for t, s in ((training, seed), (target, seed + 1)))
    return with_percentiles(second - first)


def _level(predictions: pd.DataFrame, positive: str, n_bootstrap: int, seed: int) -> dict[str, np.ndarray]:
    _, repeats = matched_repeats(predictions, positive)
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    total = weights.sum(axis=1)
    observed = weights @ (repeats[0]["label"] == positive).to_numpy(dtype=float) / total
    scores = [part[f"p_{positive}"].to_numpy(dtype=float) for part in repeats]
    predicted = np.mean([weights @ score / total for score in scores], axis=0)
    intercept = np.mean([_intercept(score, observed, weights) for score in scores], axis=0)
    return {"predicted": predicted, "observed": observed, "difference": predicted - observed, "intercept": intercept}


def _intercept(score: np.ndarray, observed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each weighting the a at which the mean of expit(logit(score) + a) is the observed share; by bisection."""
    odds, total = logit(np.clip(score, 1e-12, 1 - 1e-12)), weights.sum(axis=1)
    low, high = np.full(len(weights), -40.0), np.full(len(weights), 40.0)
    for _ in range(40):
        middle = (low + high) / 2
        above = (weights * expit(odds + middle[:, None])).sum(axis=1) / total > observed
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where((observed > 0) & (observed < 1), (low + high) / 2, np.nan)
