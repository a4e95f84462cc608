"""Metrics of predictions, with groups resampled."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.stats.resample import METHODS, TAILS, bca_interval, leave_one_out_weights, percentile_interval

N_BOOTSTRAP = 2000
MACRO = "macro"
OVERALL = "all"


def group_weights(groups: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Weights of a cluster bootstrap (Field and Welsh 2007, the 'cluster bootstrap').

    Parameters
    ----------
    groups : ndarray, shape (n,)
        Group of each image.
    n_bootstrap : int
    seed : int

    Returns
    -------
    ndarray of float64, shape (n_bootstrap + 1, n)
        Row 0 is all ones; each other row says how often the image's group was drawn, among as many draws as there are groups.
    """
    _, codes = np.unique(groups, return_inverse=True)
    n_groups = codes.max() + 1
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap)
    return np.vstack([np.ones(len(codes)), drawn[:, codes]])


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division in which nothing over nothing is undefined (NaN), without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def weighted_auroc(is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for many weightings at once; ties count one half.

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
    score : ndarray, shape (n,)
    weights : ndarray, shape (b, n)

    Returns
    -------
    ndarray, shape (b,)
        From 0 to 1; NaN where a weighting has no positive or no negative.

    Examples
    --------
    >>> weighted_auroc(np.array([0, 0, 1, 1], bool), np.array([.1, .4, .35, .8]), np.ones((1, 4))).tolist()
    [0.75]
    """
    positive, negative = weight_by_score(is_positive, score, weights)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + negative / 2)).sum(axis=1)
    return _divide(wins, positive.sum(axis=1) * negative.sum(axis=1))


def weighted_auprc(is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (the step-wise area under the precision-recall curve) for many weightings at once.

    Parameters and result are those of `weighted_auroc`; NaN where a weighting has no positive.
    """
    positive, negative = weight_by_score(is_positive, score, weights)
    positive, negative = positive[:, ::-1], negative[:, ::-1]
    hits = np.cumsum(positive, axis=1)
    precision = np.nan_to_num(_divide(hits, hits + np.cumsum(negative, axis=1)))
    return _divide((positive * precision).sum(axis=1), positive.sum(axis=1))


def weight_by_score(is_positive, score, weights) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the positives and of the negatives at each distinct score, lowest score first; both (b, distinct)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_weights, sorted_positive = weights[:, order], is_positive[order]
    positive = np.add.reduceat(sorted_weights * sorted_positive, starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~sorted_positive, starts, axis=1)
    return positive, negative


def weighted_confusion(y: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray) -> np.ndarray:
    """Confusion matrices for many weightings, shape (b, n_classes, n_classes); true classes are rows."""
    cells = np.zeros((len(y), n_classes * n_classes))
    cells[np.arange(len(y)), y * n_classes + predicted] = 1
    return (weights @ cells).reshape(-1, n_classes, n_classes)


def _replicates(table: pd.DataFrame, classes: list[str], positive: str, weights: np.ndarray) -> dict:
    """Every metric of one repeat, for every weighting: ``{(metric, class): array of shape (b,)}``."""
    y = pd.Categorical(table["label"], categories=classes).codes.astype(np.int64)
    probabilities = table[[f"p_{label}" for label in classes]].to_numpy()
    confusion = weighted_confusion(y, probabilities.argmax(axis=1), len(classes), weights)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    recall = _divide(hits, confusion.sum(axis=2))
    precision = _divide(hits, confusion.sum(axis=1))
    # precision is undefined where a class is never predicted; F1 is 0 there, because its true images are all missed
    f1 = _divide(2 * hits, confusion.sum(axis=2) + confusion.sum(axis=1))
    total = confusion.sum(axis=(1, 2))
    negatives = total[:, None] - confusion.sum(axis=2)
    false_alarms = confusion.sum(axis=1) - hits
    specificity = _divide(negatives - false_alarms, negatives)
    auroc = np.stack([weighted_auroc(y == k, probabilities[:, k], weights) for k in range(len(classes))], axis=1)
    auprc = np.stack([weighted_auprc(y == k, probabilities[:, k], weights) for k in range(len(classes))], axis=1)
    per_class = {
        "precision": np.nan_to_num(precision),
        "recall": recall,
        "f1": f1,
        "auroc": auroc,
        "auprc": auprc,
    }
    found = {("accuracy", OVERALL): _divide(hits.sum(axis=1), total)}
    for name, values in per_class.items():
        found |= {(name, label): values[:, k] for k, label in enumerate(classes)}
        found[name, MACRO] = _divide(np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1))
    mean_precision, mean_recall = found["precision", MACRO], found["recall", MACRO]
    found["f1_of_means", MACRO] = _divide(2 * mean_precision * mean_recall, mean_precision + mean_recall)
    k = classes.index(positive)
    found["sensitivity", positive] = recall[:, k]
    found["specificity", positive] = specificity[:, k]
    return found


def matched_repeats(predictions: pd.DataFrame, positive: str) -> tuple[list[str], list[pd.DataFrame]]:
    """The classes, and the predictions of each repeat in the order of the images' ids, after checking them (see `evaluate`)."""
    classes = [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]
    if predictions.empty or positive not in classes:
        raise MpoxError(f"No predictions with a class '{positive}' to evaluate: the classes are {classes}.")
    unknown = sorted(set(predictions["label"]) - set(classes))
    if unknown:
        raise MpoxError(f"Labels without a column of probabilities: {', '.join(map(str, unknown))}; the classes are {classes}.")
    repeats = [part.sort_values("image_id") for _, part in predictions.groupby("repeat")]
    images = repeats[0]["image_id"].tolist()
    if len(set(images)) != len(images) or any(part["image_id"].tolist() != images for part in repeats):
        raise MpoxError("Every repeat must predict the same images once: evaluate one model under one protocol at a time.")
    return classes, repeats


def replicates(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> dict[tuple[str, str], np.ndarray]:
    """Every metric of `evaluate` with its bootstrap replicates, for differences of several metrics at once.

    Parameters
    ----------
    predictions, positive, n_bootstrap, seed
        See `evaluate`. Predictions of the same images in the same groups are resampled alike: their replicates are paired.

    Returns
    -------
    dict of (str, str) to ndarray of float64, shape (n_bootstrap + 1,)
        (metric, class) to the estimate, first, and the replicates; each averaged over the repeats.
    """
    return _averaged(predictions, positive, lambda groups: group_weights(groups, n_bootstrap, seed))


def jackknife(predictions: pd.DataFrame, *, positive: str = "Mpox") -> dict[tuple[str, str], np.ndarray]:
    """Every metric of `evaluate` without each group in turn: (metric, class) to an array of shape (n_groups,)."""
    return _averaged(predictions, positive, leave_one_out_weights)


def _averaged(predictions: pd.DataFrame, positive: str, weigh: Callable[[np.ndarray], np.ndarray]) -> dict:
    classes, repeats = matched_repeats(predictions, positive)
    weights = weigh(repeats[0]["group_id"].to_numpy(dtype=str))
    parts = [_replicates(part, classes, positive, weights) for part in repeats]
    return {key: np.mean([part[key] for part in parts], axis=0) for key in parts[0]}


def _left_out(interval: str, predictions: pd.DataFrame, positive: str) -> dict:
    """What the kind of interval needs beside the replicates: nothing, or the jackknife."""
    if interval not in METHODS:
        raise MpoxError(f"There is no interval '{interval}': choose one of {', '.join(METHODS)}.")
    return jackknife(predictions, positive=positive) if interval == "bca" else {}


def _limits(values: np.ndarray, left_out: np.ndarray | None) -> tuple[float, float]:
    return percentile_interval(values) if left_out is None else bca_interval(values, left_out)


def evaluate(
    predictions: pd.DataFrame,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
    interval: str = "percentile",
) -> pd.DataFrame:
    """All metrics of a cross-validation, each with a 95 % interval.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`: ``repeat``, ``image_id``, ``group_id``, ``label`` and ``p_<class>``; every repeat has the
        same images.
    positive : str
        The class whose sensitivity and specificity are given (the predicted class is the most probable one).
    n_bootstrap : int
        Replicates of the cluster bootstrap; 0 leaves the intervals out.
    seed : int
        Of the bootstrap.
    interval : str
        ``percentile`` (of the replicates) or ``bca`` (`mpox.stats.resample.bca_interval`, by leaving out each group in turn).

    Returns
    -------
    DataFrame
        ``metric``, ``class`` (a label, ``macro`` or ``all``), ``estimate``, ``low``, ``high``. The metrics are accuracy;
        precision, recall, f1, auroc and auprc for each class against the rest and macro-averaged; f1_of_means, the harmonic
        mean of macro precision and macro recall (how the published figure is built); sensitivity and specificity for the
        positive class.

    Raises
    ------
    MpoxError
        If there is nothing to evaluate, the positive class is missing, the repeats differ in their images, or the kind of
        interval is unknown.
    """
    left_out = _left_out(interval, predictions, positive)
    found = replicates(predictions, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    rows = [(*key, values[0], *_limits(values, left_out.get(key))) for key, values in found.items()]
    return pd.DataFrame(rows, columns=["metric", "class", "estimate", "low", "high"])


def auroc_of_number(
    number: np.ndarray, is_positive: np.ndarray, groups: np.ndarray, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float, float]:
    """How well one number, by itself and in whichever direction is better, tells the positives from the rest.

    Parameters
    ----------
    number : ndarray of float, shape (n,)
        Without missing values.
    is_positive : ndarray of bool, shape (n,)
    groups : ndarray of str, shape (n,)
        Resampled for the interval.
    n_bootstrap, seed : int
        See `evaluate`.

    Returns
    -------
    estimate, low, high : float
        AUROC, 0.5 to 1; percentiles of the replicates in the estimate's direction, so that the interval may reach below 0.5. NaN
        where there are no positives, or nothing else.

    Raises
    ------
    MpoxError
        If a number is missing.

    Examples
    --------
    >>> auroc_of_number(np.array([4.0, 3, 2, 1]), np.array([0, 0, 1, 1], bool), np.array(list("abcd")), n_bootstrap=0)[0]
    1.0
    """
    if np.isnan(number).any():
        raise MpoxError("An AUROC of a number needs that number of every image: leave out the images without one.")
    if np.unique(is_positive).size < 2:
        return np.nan, np.nan, np.nan
    areas = weighted_auroc(is_positive, number, group_weights(groups, n_bootstrap, seed))
    areas = areas if areas[0] >= 0.5 else 1 - areas
    return float(areas[0]), *percentile_interval(areas)


def fold_metrics(predictions: pd.DataFrame, *, positive: str = "Mpox") -> pd.DataFrame:
    """The metrics of each fold by itself, without intervals.

    Returns
    -------
    DataFrame
        As `evaluate`, with ``repeat`` and ``fold`` in front.
    """
    parts = []
    for (repeat, fold), part in predictions.groupby(["repeat", "fold"]):
        table = evaluate(part.assign(repeat=0), positive=positive, n_bootstrap=0)
        parts.append(table.drop(columns=["low", "high"]).assign(repeat=repeat, fold=fold))
    table = pd.concat(parts, ignore_index=True)
    return table[["repeat", "fold", "metric", "class", "estimate"]]


def difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str,
    label: str,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
    interval: str = "percentile",
) -> tuple[float, float, float]:
    """``first`` minus ``second`` in one metric, with a paired 95 % interval: both are resampled with the same groups.

    Parameters
    ----------
    first, second : DataFrame
        Predictions of the same images (see `evaluate`), by two models or under two protocols.
    metric, label : str
        As in the result of `evaluate`.
    positive, n_bootstrap, seed, interval
        See `evaluate`.

    Returns
    -------
    estimate, low, high : float

    Raises
    ------
    MpoxError
        If the metric or the kind of interval is unknown, or the images or their groups differ.
    """
    images, values, left_out = [], [], []
    for predictions in (first, second):
        found = replicates(predictions, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
        if (metric, label) not in found:
            raise MpoxError(f"There is no metric '{metric}' of '{label}': see the result of `evaluate`.")
        images.append(matched_repeats(predictions, positive)[1][0][["image_id", "group_id"]].to_numpy().tolist())
        values.append(found[metric, label])
        left_out.append(_left_out(interval, predictions, positive).get((metric, label)))
    if images[0] != images[1]:
        raise MpoxError("A paired difference needs predictions of the same images in the same groups.")
    change = values[0] - values[1]
    return float(change[0]), *_limits(change, None if left_out[0] is None else left_out[0] - left_out[1])


def without_class(predictions: pd.DataFrame, label: str) -> pd.DataFrame:
    """The same predictions without one class: its images are left out, and its probability is shared out among the others.

    A data set of healthy skin and of rashes has an easy part. Without the easy class the metrics say how well the rashes are told
    from each other by the same model; it is not trained again.

    Parameters
    ----------
    predictions : DataFrame
        See `evaluate`.
    label : str
        The class to leave out.

    Returns
    -------
    DataFrame
        The other classes' probabilities are divided by their sum (equal ones where that is 0).

    Raises
    ------
    MpoxError
        If there is no such class, or fewer than two others.

    Examples
    --------
    >>> table = pd.DataFrame({"label": ["a", "b", "c"], "p_a": [0.5, 0.2, 0.0], "p_b": [0.3, 0.2, 0.5], "p_c": [0.2, 0.6, 0.5]})
    >>> without_class(table, "c")["p_a"].tolist()
    [0.625, 0.5]
    """
    others = [column for column in predictions.columns if column.startswith("p_") and column != f"p_{label}"]
    if f"p_{label}" not in predictions or len(others) < 2:
        raise MpoxError(f"There is no class '{label}' that could be left out of {', '.join(others)}.")
    kept = predictions[predictions["label"] != label].drop(columns=f"p_{label}").reset_index(drop=True)
    total = kept[others].sum(axis=1)
    kept[others] = kept[others].div(total.where(total > 0, 1), axis=0).where(total > 0, 1 / len(others))
    return kept


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
