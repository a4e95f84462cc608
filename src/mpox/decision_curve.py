"""Decision curves: what acting on a model's probabilities is worth, beside acting on everyone and on nobody."""

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.intervals import TAILS
from mpox.metrics import N_BOOTSTRAP, group_weights, matched_repeats

MODEL, EVERYONE, NOBODY, ADVANTAGE = "model", "everyone", "nobody", "model minus the better of both"


def at_prevalence(probability: np.ndarray, before: float, after: float) -> np.ndarray:
    """Probabilities for a place where the finding is more or less common, if it looks the same there (Elkan 2001, theorem 2).

    Parameters
    ----------
    probability : ndarray
        From 0 to 1, calibrated where the prevalence is ``before``.
    before, after : float
        Prevalences, between 0 and 1.

    Examples
    --------
    >>> at_prevalence(np.array([0.5]), before=0.5, after=0.01).round(3).tolist()
    [0.01]
    """
    ratio = after / (1 - after) * (1 - before) / before
    return probability * ratio / (probability * ratio + 1 - probability)


def net_benefit(
    is_positive: np.ndarray, probability: np.ndarray, weights: np.ndarray, thresholds: np.ndarray, prevalence: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Net benefit of acting at or above each threshold, and of acting on everyone, for many weightings (Vickers and Elkin 2006).

    The share of true positives, less the share of false positives times the odds of the threshold: with a threshold of 0.1 one
    finding is worth nine false alarms.

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
    probability : ndarray, shape (n,)
    weights : ndarray, shape (b, n)
    thresholds : ndarray, shape (k,)
        At least 0, below 1.
    prevalence : float, optional
        What the finding's share is held to be; without it that of the weighted pictures.

    Returns
    -------
    model, everyone : ndarray, shape (b, k)
        NaN where a weighting has no positive or no negative.
    """
    order = np.argsort(probability, kind="stable")
    first = np.searchsorted(probability[order], thresholds, side="left")
    rates = []
    for side in (is_positive, ~is_positive):
        mass = (weights * side)[:, order]
        above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
        above = np.concatenate([above, np.zeros((len(mass), 1))], axis=1)[:, first]
        total = mass.sum(axis=1, keepdims=True)
        rates.append((np.divide(above, total, out=np.full_like(above, np.nan), where=total > 0), total))
    (hits, positives), (alarms, negatives) = rates
    share = positives / (positives + negatives) if prevalence is None else prevalence
    odds = thresholds / (1 - thresholds)
    everyone = np.broadcast_to(share - (1 - share) * odds, hits.shape)
    return share * hits - (1 - share) * alarms * odds, np.where(np.isnan(hits + alarms), np.nan, everyone)


def decision_curve(
    predictions: pd.DataFrame,
    *,
    positive: str = "Mpox",
    thresholds: np.ndarray | None = None,
    prevalence: float | None = None,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """Decision curves of the model, of acting on everyone and on nobody, with pointwise 95 % bands from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`. Repeats are averaged.
    positive : str
    thresholds : ndarray, shape (k,), optional
        Probabilities at which someone would act; from 0.01 to 0.99 without it.
    prevalence : float, optional
        Of another place: the probabilities are moved there by `at_prevalence`.
    n_bootstrap, seed : int
        See `mpox.evaluate`; 0 leaves the bands out.

    Returns
    -------
    DataFrame
        ``strategy`` (`MODEL`, `EVERYONE`, `NOBODY`, and `ADVANTAGE`, of which the band is paired), ``threshold``, ``estimate``,
        ``low``, ``high``: net benefit in true positives a person.

    Raises
    ------
    MpoxError
        If a threshold or the prevalence is out of range, or there are not pictures of both sides.
    """
    thresholds = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, dtype=float)
    if not ((thresholds >= 0) & (thresholds < 1)).all() or not (prevalence is None or 0 < prevalence < 1):
        raise MpoxError("A decision curve takes thresholds of at least 0 and below 1, and a prevalence between 0 and 1.")
    _, repeats = matched_repeats(predictions, positive)
    is_positive = repeats[0]["label"].to_numpy() == positive
    if is_positive.all() or not is_positive.any():
        raise MpoxError(f"A decision curve needs images of '{positive}' and others: there is only one of the two.")
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    curves = []
    for part in repeats:
        probability = part[f"p_{positive}"].to_numpy()
        if prevalence is not None:
            probability = at_prevalence(probability, is_positive.mean(), prevalence)
        curves.append(net_benefit(is_positive, probability, weights, thresholds, prevalence))
    model, everyone = (np.mean(kind, axis=0) for kind in zip(*curves, strict=True))
    found = {MODEL: model, EVERYONE: everyone, NOBODY: np.zeros_like(model), ADVANTAGE: model - np.maximum(everyone, 0)}
    tables = []
    for strategy, values in found.items():
        low, high = np.nanquantile(values[1:], TAILS, axis=0) if n_bootstrap else (np.nan, np.nan)
        tables.append(
            pd.DataFrame({"strategy": strategy, "threshold": thresholds, "estimate": values[0], "low": low, "high": high})
        )
    return pd.concat(tables, ignore_index=True)


def useful_range(curve: pd.DataFrame) -> tuple[float, float] | None:
    """The widest run of thresholds at which the whole band of `ADVANTAGE` lies above 0; ``None`` if there is none."""
    part = curve[curve["strategy"] == ADVANTAGE].sort_values("threshold")
    runs = (part["low"] > 0).ne((part["low"] > 0).shift()).cumsum()
    spans = [(run["threshold"].min(), run["threshold"].max()) for _, run in part.groupby(runs) if (run["low"] > 0).all()]
    return max(spans, key=lambda span: span[1] - span[0]) if spans else None
