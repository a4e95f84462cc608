"""Metrics of predictions, each a function of the images' weights, with groups resampled."""

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from mpox._core import MpoxError, remembered
from mpox.stats.resample import N_BOOTSTRAP, Replicates, bootstrap, ratio
from mpox.stats.resample import group_weights as group_weights  # read from here by other rooms

MACRO = "macro"
OVERALL = "all"
#: Metrics of one class against the rest, and of their mean over the classes (`MACRO`).
OF_CLASS = ("precision", "recall", "f1", "auroc", "auprc")
_CACHED = 2**17  # weights of `weighted_areas` at a time: 1 MiB
_TINY = 1e-9  # how far a count over its total may be off in floating point


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes, in the order of the columns ``p_<class>``."""
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def probabilities_of(predictions: pd.DataFrame) -> np.ndarray:
    """The columns ``p_<class>`` as float64 of shape (n, C)."""
    return predictions[[f"p_{label}" for label in class_names(predictions)]].to_numpy(dtype=float)


def codes_of(predictions: pd.DataFrame) -> np.ndarray:
    """The true classes as int64 of shape (n,), numbered in the order of the columns ``p_<class>``."""
    return pd.Index(class_names(predictions)).get_indexer(predictions["label"]).astype(np.int64)


def groups_of(predictions: pd.DataFrame) -> np.ndarray:
    """``group_id`` as str of shape (n,): what is resampled."""
    return predictions["group_id"].to_numpy(dtype=str)


def matched_repeats(predictions: pd.DataFrame, positive: str) -> tuple[list[str], list[pd.DataFrame]]:
    """The classes, and the predictions of each repeat in the order of the images' ids, after checking them (see `evaluate`)."""
    classes = class_names(predictions)
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


def two_sides(repeats: list[pd.DataFrame], positive: str) -> np.ndarray:
    """Which images are positive, bool of shape (n,); an error where all are, or none is."""
    is_positive = repeats[0]["label"].to_numpy() == positive
    if is_positive.all() or not is_positive.any():
        raise MpoxError(f"This needs images of '{positive}' and others: there is only one of the two.")
    return is_positive


def check_paired(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Refuse a paired difference of predictions of different images, or in different groups."""
    known = [table.drop_duplicates("image_id").set_index("image_id")["group_id"].sort_index() for table in (first, second)]
    if not known[0].astype(str).equals(known[1].astype(str)):
        raise MpoxError("A paired difference needs predictions of the same images in the same groups.")


def weight_by_score(is_positive, score, weights) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the positives and of the negatives at each distinct score, lowest score first; both (b, distinct)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_weights, sorted_positive = weights[:, order], is_positive[order]
    positive = np.add.reduceat(sorted_weights * sorted_positive, starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~sorted_positive, starts, axis=1)
    return positive, negative


def weighted_auroc(is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, shape (b,), for weights (b, n), `is_positive` (bool) and score (n,); ties count one half.

    NaN where a weighting has no positive or no negative.
    """
    return weighted_areas(is_positive, score, weights, ("auroc",))["auroc"]


def weighted_auprc(is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (the step-wise area under the precision-recall curve), as `weighted_auroc`; NaN without a positive."""
    return weighted_areas(is_positive, score, weights, ("auprc",))["auprc"]


def weighted_areas(
    is_positive: np.ndarray, score: np.ndarray, weights: np.ndarray, measures: Iterable[str] = ("auroc", "auprc")
) -> dict[str, np.ndarray]:
    """`weighted_auroc` and `weighted_auprc` from one ranking, a few rows of weights at a time, so that they stay in the cache.

    Both need nothing but the weight of the positives and of all images down to each positive, ties included.
    """
    order = np.argsort(-score, kind="stable")
    ranked, positives = score[order], np.flatnonzero(is_positive[order])
    first, last = (np.searchsorted(-ranked, -ranked[positives], side) for side in ("left", "right"))
    first_hit, last_hit = (np.searchsorted(positives, edge) for edge in (first, last))
    tied = (last - first > 1).any()
    found = {measure: np.empty(len(weights)) for measure in measures}
    step = max(1, _CACHED // len(score))
    for start in range(0, len(weights), step):
        rows = slice(start, start + step)
        part = weights[rows, order]
        whole = part.astype(np.int64)
        if np.array_equal(whole, part):  # as a bootstrap's weights are: adding up integers is ten times faster
            part = whole
        own = part[:, positives]
        called, hits = np.cumsum(part, axis=1), np.cumsum(own, axis=1)
        total, actual = called[:, -1], own.sum(axis=1)
        if tied:
            called, hits = (np.pad(counts, ((0, 0), (1, 0))) for counts in (called, hits))
            false_alarms = (called[:, first] - hits[:, first_hit] + called[:, last] - hits[:, last_hit]) / 2
            called, hits = called[:, last], hits[:, last_hit]
        else:
            called = called[:, positives]
            false_alarms = called - hits
        if "auroc" in found:
            pairs = actual * (total - actual)
            found["auroc"][rows] = ratio(pairs - (own * false_alarms).sum(axis=1), pairs)
        if "auprc" in found:
            precision = hits / np.maximum(called, np.finfo(float).tiny)
            found["auprc"][rows] = ratio((own * precision).sum(axis=1), actual)
    return found


def weighted_confusion(y: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray) -> np.ndarray:
    """Confusion matrices for many weightings, shape (b, n_classes, n_classes), true classes in rows; for y and predicted of
    several repeats, (r, n), at once: (b, r, n_classes, n_classes)."""
    cells = np.moveaxis((y * n_classes + predicted)[..., None] == np.arange(n_classes**2), -2, 0)
    return (weights @ cells.reshape(len(cells), -1).astype(float)).reshape(len(weights), *y.shape[:-1], n_classes, n_classes)


def rates(hits, actual, called, total) -> dict[str, np.ndarray]:
    """Every share of a yes-or-no answer, from the weights of the images called rightly, positive, called positive, and of all."""
    cleared = total - actual - called + hits
    return {
        "sensitivity": ratio(hits, actual),
        "specificity": ratio(cleared, total - actual),
        "ppv": ratio(hits, called),
        "npv": ratio(cleared, total - called),
        "flagged": ratio(called, total),
        "f1": ratio(2 * hits, actual + called),
    }


def denominators(truth: np.ndarray, called: np.ndarray) -> dict[str, np.ndarray]:
    """Which images each share of `rates` is of, bool (n,), from truth (n,) and the answers of the repeats (r, n), both bool."""
    everything, cleared = np.ones(len(truth), dtype=bool), ~called
    shares = {"sensitivity": truth, "specificity": ~truth, "flagged": everything, "f1": truth}
    return shares | {"ppv": np.any(called, axis=0), "npv": np.any(cleared, axis=0)}


def _fewest(groups: np.ndarray, *masks: np.ndarray) -> np.ndarray:
    """Of some sides or classes, bool (n,) each, the one with the fewest groups: what an area, or a mean, rests on."""
    return min(masks, key=lambda mask: len(set(groups[mask])))


def behind(repeats: list[pd.DataFrame], positive: str) -> dict[tuple[str, str], np.ndarray]:
    """The denominators of the metrics of `evaluate`; of an area the side, and of a mean the class, with the fewest groups."""
    classes, y, groups = class_names(repeats[0]), codes_of(repeats[0]), groups_of(repeats[0])
    said = np.stack([probabilities_of(part).argmax(axis=1) for part in repeats])
    fewest = partial(_fewest, groups)
    everyone = np.ones(len(y), dtype=bool)
    found: dict[tuple[str, str], np.ndarray] = {("accuracy", OVERALL): everyone, ("kappa", OVERALL): everyone}
    for k, label in enumerate(classes):
        of = denominators(y == k, said == k)
        areas = dict.fromkeys(("auroc", "auprc"), fewest(of["sensitivity"], of["specificity"]))
        of |= areas | {"recall": of["sensitivity"], "precision": of["ppv"]}
        found |= {(metric, label): of[metric] for metric in OF_CLASS}
        if label == positive:
            found |= {(metric, label): of[metric] for metric in ("sensitivity", "specificity")}
    there = [label for k, label in enumerate(classes) if (y == k).any()]
    found |= {(metric, MACRO): fewest(*(found[metric, label] for label in there)) for metric in OF_CLASS}
    return found | {("f1_of_means", MACRO): found["f1", MACRO]}


def weighted_metrics(
    repeats: list[pd.DataFrame], weights: np.ndarray, *, positive: str = "Mpox", keys: Iterable[tuple[str, str]] | None = None
) -> dict[tuple[str, str], np.ndarray]:
    """The one way from predictions and weights (b, n) to metrics: (metric, class) to an array (b,), averaged over the repeats.

    ``repeats`` are the predictions of each, rows in one order (`matched_repeats`); of ``keys`` alone, where these are given.
    """
    classes = class_names(repeats[0])
    of_class = [(metric, label) for metric in OF_CLASS for label in (*classes, MACRO)]
    of_positive = [("sensitivity", positive), ("specificity", positive)]
    known = [("accuracy", OVERALL), ("kappa", OVERALL), *of_class, ("f1_of_means", MACRO), *of_positive]
    wanted = known if keys is None else list(keys)
    for metric, label in wanted:
        if (metric, label) not in known:
            raise MpoxError(f"There is no metric '{metric}' of '{label}': see the result of `evaluate`.")
    y, probabilities = np.stack([codes_of(part) for part in repeats]), np.stack([probabilities_of(part) for part in repeats])
    confusion = weighted_confusion(y, probabilities.argmax(axis=2), len(classes), weights)
    parts = [
        _of_repeat(y[k], probabilities[k], confusion[:, k], classes=classes, weights=weights, keys=wanted)
        for k in range(len(repeats))
    ]
    return {key: np.mean([part[key] for part in parts], axis=0) for key in wanted}


def _of_repeat(
    y: np.ndarray,
    probabilities: np.ndarray,
    confusion: np.ndarray,
    *,
    classes: list[str],
    weights: np.ndarray,
    keys: list[tuple[str, str]],
) -> dict[tuple[str, str], np.ndarray]:
    hits, total = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2))
    shares = rates(hits, confusion.sum(axis=2), confusion.sum(axis=1), total[:, None])
    shares |= {"recall": shares["sensitivity"], "precision": np.nan_to_num(shares["ppv"])}
    ranked = [metric for metric in ("auroc", "auprc") if any(metric == key[0] for key in keys)]

    @cache
    def areas(k: int) -> dict[str, np.ndarray]:
        return weighted_areas(y == k, probabilities[:, k], weights, ranked)

    @cache
    def values(metric: str, label: str) -> np.ndarray:
        if metric == "accuracy":
            return ratio(hits.sum(axis=1), total)
        if metric == "kappa":
            by_chance = (confusion.sum(axis=1) * confusion.sum(axis=2)).sum(axis=1) / total
            return ratio(hits.sum(axis=1) - by_chance, total - by_chance)
        if metric == "f1_of_means":
            precision, recall = values("precision", MACRO), values("recall", MACRO)
            return ratio(2 * precision * recall, precision + recall)
        if label == MACRO:
            each = np.stack([values(metric, one) for one in classes], axis=1)
            return ratio(np.nansum(each, axis=1), (~np.isnan(each)).sum(axis=1))
        k = classes.index(label)
        return areas(k)[metric] if metric in ranked else shares[metric][:, k]

    return {key: values(*key) for key in keys}


def replicates(
    predictions: pd.DataFrame, keys: Iterable[tuple[str, str]] | None = None, *, positive: str = "Mpox", **resampling: Any
) -> dict[tuple[str, str], Replicates]:
    """The metrics of `evaluate` with their replicates, for differences and other formulas of them.

    Parameters
    ----------
    predictions, positive, **resampling
        As in `evaluate`. Predictions of the same images in the same groups are resampled alike: their replicates are paired.
    keys : iterable of (str, str), optional
        (metric, class): only these are computed.

    Returns
    -------
    dict of (str, str) to Replicates
        (metric, class) to a mean over the repeats.
    """
    dear = keys is None and resampling.get("n_bootstrap", N_BOOTSTRAP)  # chapters ask for all metrics of the same models
    return (remembered(_replicates) if dear else _replicates)(predictions, keys and list(keys), positive, **resampling)


def _replicates(predictions, keys, positive, **resampling) -> dict[tuple[str, str], Replicates]:
    _, repeats = matched_repeats(predictions, positive)
    statistic = partial(weighted_metrics, repeats, positive=positive, keys=keys)
    return bootstrap(statistic, groups_of(repeats[0]), among=behind(repeats, positive), **resampling)


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
    n_bootstrap, seed, interval
        Of `mpox.stats.resample.bootstrap`; without replicates (0) there are no intervals.

    Returns
    -------
    DataFrame
        ``metric``, ``class`` (a label, ``macro`` or ``all``), ``estimate``, ``low``, ``high`` and ``interval``, its kind:
        ``exact`` where all or none of the groups are right (see `mpox.stats.resample.bootstrap`). The metrics are accuracy;
        kappa, the agreement beyond chance (Cohen 1960); precision (0 where a class is never predicted),
        recall, f1, auroc and auprc for each class against the rest and macro-averaged; f1_of_means, the harmonic mean of macro
        precision and macro recall (how the published figure is built); sensitivity and specificity for the positive class.

    Raises
    ------
    MpoxError
        If there is nothing to evaluate, the positive class is missing, the repeats differ in their images, or the kind of
        interval is unknown.
    """
    found = replicates(predictions, positive=positive, n_bootstrap=n_bootstrap, seed=seed, interval=interval)
    return pd.DataFrame(
        [{"metric": metric, "class": label, **one.row(), "interval": one.kind} for (metric, label), one in found.items()]
    )


def fold_metrics(
    predictions: pd.DataFrame, keys: Iterable[tuple[str, str]] | None = None, *, positive: str = "Mpox"
) -> pd.DataFrame:
    """The metrics of each fold by itself, or only the ``keys``: ``repeat``, ``fold``, ``metric``, ``class``, ``estimate``."""
    wanted, rows = None if keys is None else list(keys), []
    for repeat, part in predictions.groupby("repeat"):
        _, (table,) = matched_repeats(part, positive)
        folds = np.unique(table["fold"])
        inside = (table["fold"].to_numpy() == folds[:, None]).astype(float)  # a fold is a weighting that leaves out the others
        found = weighted_metrics([table], inside, positive=positive, keys=wanted)
        rows += [(repeat, fold, *key, float(values[k])) for k, fold in enumerate(folds) for key, values in found.items()]
    return pd.DataFrame(rows, columns=["repeat", "fold", "metric", "class", "estimate"])


def difference(
    first: pd.DataFrame, second: pd.DataFrame, metric: str, label: str, *, positive: str = "Mpox", **resampling: Any
) -> tuple[float, float, float]:
    """``first`` minus ``second`` in one metric, with a paired 95 % interval: both are resampled with the same groups.

    Parameters
    ----------
    first, second : DataFrame
        Predictions of the same images, by two models or under two protocols; the numbers of repeats may differ.
    metric, label : str
        As in the result of `evaluate`, and so the others.

    Returns
    -------
    estimate, low, high : float
    """
    key = (metric, label)
    one, other = (replicates(table, [key], positive=positive, **resampling)[key] for table in (first, second))
    check_paired(first, second)
    return tuple((one - other).row().values())


def auroc_of_number(
    number: np.ndarray, is_positive: np.ndarray, groups: np.ndarray, **resampling: Any
) -> tuple[float, float, float]:
    """How well one number, by itself and in whichever direction is better, tells the positives from the rest.

    Parameters
    ----------
    number, is_positive, groups : ndarray of float, of bool and of str, shape (n,)
        Without missing values.

    Returns
    -------
    estimate, low, high : float
        AUROC, 0.5 to 1; percentiles of the replicates in the estimate's direction, so that the interval may reach below 0.5;
        exact where no draw moves it, as in `evaluate`. NaN where there are no positives, or nothing else.
    """
    if np.isnan(number).any():
        raise MpoxError("An AUROC of a number needs that number of every image: leave out the images without one.")
    if np.unique(is_positive).size < 2:
        return np.nan, np.nan, np.nan
    among = _fewest(groups, is_positive, ~is_positive)
    area = bootstrap(lambda weights: weighted_auroc(is_positive, number, weights), groups, among=among, **resampling)
    return tuple((area if area.estimate >= 0.5 else 1 - area).row().values())


def without_class(predictions: pd.DataFrame, label: str) -> pd.DataFrame:
    """The same predictions without one class: its images are left out, and its probability is shared out among the others.

    A data set of healthy skin and of rashes has an easy part. Without the easy class the metrics say how well the rashes are told
    from each other by the same model; it is not trained again. The other probabilities are divided by their sum (equal ones where
    that is 0).
    """
    others = [column for column in predictions.columns if column.startswith("p_") and column != f"p_{label}"]
    if f"p_{label}" not in predictions or len(others) < 2:
        raise MpoxError(f"There is no class '{label}' that could be left out of {', '.join(others)}.")
    kept = predictions[predictions["label"] != label].drop(columns=f"p_{label}").reset_index(drop=True)
    total = kept[others].sum(axis=1)
    kept[others] = kept[others].div(total.where(total > 0, 1), axis=0).where(total > 0, 1 / len(others))
    return kept
