"""ROC and precision-recall curves with pointwise 95 % bands from resampling groups."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.intervals import TAILS
from mpox.metrics import N_BOOTSTRAP, group_weights, matched_repeats, weight_by_score

_TINY = 1e-9  # how far a count over its total may be off in floating point


def sensitivity_at(is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Height of the ROC curve over given values of 1 - specificity, for many weightings at once.

    Points of the curve are joined by straight lines, as the AUROC takes them; on a vertical step the height is its upper end.

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
    score : ndarray, shape (n,)
    weights : ndarray, shape (b, n)
    x : ndarray, shape (k,)
        1 - specificity, from 0 to 1.

    Returns
    -------
    ndarray, shape (b, k)
        Sensitivity, from 0 to 1; rows of NaN where a weighting has no positive or no negative.

    Examples
    --------
    >>> sensitivity_at(np.array([0, 0, 1, 1], bool), np.array([.1, .4, .35, .8]), np.ones((1, 4)), np.array([0, 0.5])).tolist()
    [[0.5, 1.0]]
    """
    hits, false_alarms, defined = _counts(is_positive, score, weights)
    sensitivity, false_alarms = hits / hits[:, -1:], false_alarms / false_alarms[:, -1:]
    found = np.full((len(weights), len(x)), np.nan)
    before = _first(false_alarms, x + _TINY) - 1
    after = np.minimum(before + 1, false_alarms.shape[1] - 1)
    x0, x1 = (np.take_along_axis(false_alarms, index, axis=1) for index in (before, after))
    y0, y1 = (np.take_along_axis(sensitivity, index, axis=1) for index in (before, after))
    share = np.clip(np.divide(x - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0), 0, 1)
    found[defined] = y0 + share * (y1 - y0)
    return found


def precision_at(is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Height of the precision-recall curve over given values of recall, for many weightings at once.

    The precision at the highest threshold that reaches the recall (at recall 0: the highest that finds any positive). The curve
    has steps: straight lines between its points would be too high (Davis and Goadrich 2006), and the area under the steps is the
    average precision.

    Parameters and result are those of `sensitivity_at`, with recall for x.

    Examples
    --------
    >>> is_positive, score = np.array([0, 0, 1, 1], bool), np.array([.1, .4, .35, .8])
    >>> precision_at(is_positive, score, np.ones((1, 4)), np.array([0.5, 1])).round(3).tolist()
    [[1.0, 0.667]]
    """
    hits, false_alarms, defined = _counts(is_positive, score, weights)
    found = np.full((len(weights), len(x)), np.nan)
    index = _first(hits / hits[:, -1:], np.where(x > 0, x - _TINY, _TINY))
    hits, false_alarms = (np.take_along_axis(counts, index, axis=1) for counts in (hits, false_alarms))
    found[defined] = hits / (hits + false_alarms)
    return found


def _counts(is_positive, score, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of the positives and of the negatives above each threshold, the highest threshold (above all scores) first.

    Only of the weightings that have both; the third array, shape (b,), says which these are.
    """
    counts = [np.pad(np.cumsum(side[:, ::-1], axis=1), ((0, 0), (1, 0))) for side in weight_by_score(is_positive, score, weights)]
    defined = (counts[0][:, -1] > 0) & (counts[1][:, -1] > 0)
    return counts[0][defined], counts[1][defined], defined


def _first(rising: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Index of the first value above x in each row of shares; all rows are searched as one, each 2 above the row before."""
    rows, columns = rising.shape
    offset = 2.0 * np.arange(rows)[:, None]
    found = np.searchsorted((rising + offset).ravel(), (x + offset).ravel(), side="right").reshape(rows, len(x))
    return found - columns * np.arange(rows)[:, None]


_CURVES: dict[str, Callable] = {"roc": sensitivity_at, "pr": precision_at}


def curve_bands(
    predictions: pd.DataFrame,
    kind: str = "roc",
    *,
    positive: str = "Mpox",
    grid: np.ndarray | None = None,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """A ROC or precision-recall curve with a vertical, pointwise 95 % band from the cluster bootstrap.

    At each x by itself the band is meant to hold the curve in 95 % of samples; a whole curve leaves it more often. Repeats are
    averaged vertically, height by height (Fawcett 2006, 'vertical averaging'), and so are those of a replicate.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`; see `mpox.evaluate`. Scores of different folds are pooled within a repeat.
    kind : str
        ``roc`` (sensitivity over 1 - specificity) or ``pr`` (precision over recall).
    positive : str
    grid : ndarray, shape (k,), optional
        Values of x, from 0 to 1; without it 101 from 0 to 1.
    n_bootstrap, seed : int
        See `mpox.evaluate`; 0 leaves the band out.

    Returns
    -------
    DataFrame
        ``x``, ``estimate``, ``low``, ``high``, all from 0 to 1.

    Raises
    ------
    MpoxError
        If the kind is unknown, a value of the grid is not from 0 to 1, there are not images of both sides, or the repeats differ
        in their images.
    """
    if kind not in _CURVES:
        raise MpoxError(f"There is no curve '{kind}': choose one of {', '.join(_CURVES)}.")
    x = np.linspace(0, 1, 101) if grid is None else np.asarray(grid, dtype=float)
    if not ((x >= 0) & (x <= 1)).all():
        raise MpoxError("A curve's grid holds values from 0 to 1.")
    _, repeats = matched_repeats(predictions, positive)
    is_positive = repeats[0]["label"].to_numpy() == positive
    if is_positive.all() or not is_positive.any():
        raise MpoxError(f"A curve needs images of '{positive}' and others: there is only one of the two.")
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    heights = sum(_CURVES[kind](is_positive, part[f"p_{positive}"].to_numpy(), weights, x) for part in repeats) / len(repeats)
    low, high = np.nanquantile(heights[1:], TAILS, axis=0) if n_bootstrap else (np.nan, np.nan)
    return pd.DataFrame({"x": x, "estimate": heights[0], "low": low, "high": high})
