"""How well facts about a picture that are not the disease tell the class by themselves: file size, lightness, skin tone ...

A single fact is asked through the rates of its quantile bins: in each of eight bins of the training values (missing values are a
bin of their own) the share of the positives over the share of the others, with one added to every count; its logarithm is the
score. The rate may go up and down again, no direction is chosen on the test images, and how common the class is in training does
not matter. Several facts add up their logarithms (a naive Bayes classifier); boosted trees may combine them as they like.

Scores are out-of-fold under the honest protocol. The best of many facts is better than chance by chance: labels are dealt anew to
the groups many times, and the best AUROC of each deal says what the best of so many facts reaches without any truth in it
(Westfall and Young 1993: the maximum statistic).
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from mpox.errors import MpoxError
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights, weighted_auroc

#: Raised by one whenever the numbers of an unchanged table change.
VERSION = 1
N_BINS = 8
#: Fact to what it is, for people. All come from `mpox.audit.quality`, `mpox.audit.skintone` and the manifest.
FACTS = {
    "file_bytes": "file size",
    "bytes_per_pixel": "bytes per pixel",
    "jpeg_quality": "JPEG quality",
    "width": "width",
    "height": "height",
    "aspect": "width over height",
    "sharpness": "sharpness",
    "blur": "blur",
    "lightness": "lightness",
    "contrast": "contrast",
    "chroma": "chroma",
    "text_lines": "lines of text",
    "border": "border",
    "ita": "skin tone (angle)",
}
ALL_BAYES, ALL_TREES = "all together, rates", "all together, boosted trees"


def fact_table(manifest: pd.DataFrame, quality: pd.DataFrame, tones: pd.DataFrame) -> pd.DataFrame:
    """The facts of every picture side by side.

    Parameters
    ----------
    manifest : DataFrame
        ``image_id``, ``label``, ``width``, ``height``.
    quality, tones : DataFrame
        From `mpox.audit.quality.image_quality` and `mpox.audit.skintone.skin_tone`, of the same images.

    Returns
    -------
    DataFrame
        ``image_id``, ``label`` and the columns of `FACTS` (float; missing where there is none), in the manifest's order.
    """
    table = manifest[["image_id", "label", "width", "height"]].assign(aspect=manifest["width"] / manifest["height"])
    table = table.merge(quality.drop(columns=["dataset", "label"]), on="image_id", validate="1:1")
    table = table.merge(tones[["image_id", "ita"]], on="image_id", validate="1:1")
    return table[["image_id", "label", *FACTS]].astype(dict.fromkeys(FACTS, float))


def rate_scores(values: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold scores of facts by the rates of their bins; see the module's docstring.

    Parameters
    ----------
    values : ndarray of float, shape (n, f)
        Facts, which add up; NaN is missing.
    positive : ndarray of bool, shape (n, p)
        Labels, in p versions.
    fold : ndarray of int, shape (n,)
        In which fold each image is tested.

    Returns
    -------
    ndarray of float64, shape (n, p)
        Logarithm of the ratio of likelihoods; higher is more likely positive.
    """
    scores = np.zeros(positive.shape)
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        y = positive[train].astype(float)
        for column in values.T:
            known = column[train][~np.isnan(column[train])]
            edges = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1])) if len(known) else np.empty(0)
            bins = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))
            one_hot = np.eye(len(edges) + 2)[bins[train]]
            hits, others = one_hot.T @ y, one_hot.T @ (1 - y)
            rate = np.log((hits + 1) / (y.sum(axis=0) + len(hits))) - np.log((others + 1) / ((1 - y).sum(axis=0) + len(hits)))
            scores[test] += rate[bins[test]]
    return scores


def tree_scores(values: np.ndarray, positive: np.ndarray, fold: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Out-of-fold scores of boosted trees on all facts, float64 of shape (n,); arguments as for `rate_scores`, one label each."""
    scores = np.empty(len(values))
    with threadpool_limits(1):
        for number in np.unique(fold):
            train, test = fold != number, fold == number
            trees = HistGradientBoostingClassifier(
                max_iter=60, max_leaf_nodes=6, min_samples_leaf=8, class_weight="balanced", random_state=seed
            )
            scores[test] = trees.fit(values[train], positive[train]).predict_proba(values[test])[:, 1]
    return scores


def dealt_labels(positive: np.ndarray, groups: np.ndarray, n_deals: int, seed: int) -> np.ndarray:
    """Labels dealt anew to whole groups (the label of a group is that of most of its images): bool, shape (n, n_deals)."""
    names, codes = np.unique(groups, return_inverse=True)
    of_group = np.bincount(codes, weights=positive) > np.bincount(codes) / 2
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(of_group)[codes] for _ in range(n_deals)], axis=1).reshape(len(groups), n_deals)


def columnwise_auroc(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUROC of each column, shape (p,), of labels and scores of shape (n, p); ties count one half."""
    ranks = rankdata(scores, axis=0)
    n_positive = positive.sum(axis=0)
    wins = (ranks * positive).sum(axis=0) - n_positive * (n_positive + 1) / 2
    return wins / np.maximum(n_positive * (len(positive) - n_positive), 1)


def predictor_table(
    facts: dict[str, np.ndarray],
    positive: np.ndarray,
    groups: np.ndarray,
    fold: np.ndarray,
    *,
    n_deals: int = 200,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """Out-of-fold AUROC of each fact, or set of facts, by itself, with intervals and against what the best reaches by chance.

    Parameters
    ----------
    facts : dict of str to ndarray of float, shape (n, f)
        Name to a set of numbers that add up (one column for a single fact).
    positive : ndarray of bool, shape (n,)
    groups : ndarray of str, shape (n,)
        Honest groups: resampled for the interval, dealt whole for the chance level.
    fold : ndarray of int, shape (n,)
    n_deals : int
        Deals of the labels.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        One row a fact: ``fact``, ``estimate``, ``low``, ``high`` (AUROC, 0 to 1), ``chance`` (the 95 % quantile of the best
        fact's AUROC when labels mean nothing, the same in every row) and ``p`` (of this fact against that, corrected for the
        number of facts).

    Raises
    ------
    MpoxError
        If there is no fact, or only one class.
    """
    if not facts or np.unique(positive).size < 2:
        raise MpoxError("Single facts can be judged only where there are facts, and images of two kinds.")
    labels = np.column_stack([positive, dealt_labels(positive, groups, n_deals, seed)])
    weights = group_weights(groups, n_bootstrap, seed)
    rows, best = [], np.zeros(n_deals)
    for name, values in facts.items():
        scores = rate_scores(values, labels, fold)
        best = np.maximum(best, columnwise_auroc(labels[:, 1:], scores[:, 1:]))
        rows.append((name, *with_percentiles(weighted_auroc(positive, scores[:, 0], weights))))
    table = pd.DataFrame(rows, columns=["fact", "estimate", "low", "high"])
    table["chance"] = np.quantile(best, 0.95) if n_deals else np.nan
    table["p"] = [(1 + (best >= estimate).sum()) / (1 + n_deals) for estimate in table["estimate"]]
    return table


def single_facts(
    table: pd.DataFrame, groups: pd.Series, split: pd.DataFrame, *, positive: str = "Mpox", n_deals: int = 200, seed: int = 0
) -> pd.DataFrame:
    """`predictor_table` of every fact that differs between pictures, and of all together.

    Parameters
    ----------
    table : DataFrame
        From `fact_table`; a subset of images is allowed.
    groups : Series
        Honest groups by ``image_id``.
    split : DataFrame
        From `mpox.splits.make_splits`; its first repeat is used.
    positive : str
    n_deals, seed : int

    Returns
    -------
    DataFrame
        As `predictor_table`; boosted trees have no ``p`` (NaN), because they are not refitted on dealt labels.
    """
    is_positive = (table["label"] == positive).to_numpy()
    ids = table["image_id"].map(groups).to_numpy(dtype=str)
    fold = fold_of(split, table["image_id"])
    differing = [name for name in FACTS if table[name].nunique(dropna=False) > 1]
    facts = {name: table[[name]].to_numpy() for name in differing} | {ALL_BAYES: table[differing].to_numpy()}
    found = predictor_table(facts, is_positive, ids, fold, n_deals=n_deals, seed=seed)
    scores = tree_scores(table[differing].to_numpy(), is_positive, fold, seed=seed)
    area = with_percentiles(weighted_auroc(is_positive, scores, group_weights(ids, N_BOOTSTRAP, seed)))
    trees = pd.DataFrame([(ALL_TREES, *area)], columns=["fact", "estimate", "low", "high"])
    return pd.concat([found, trees.assign(chance=found["chance"].iloc[0])], ignore_index=True)


def fold_of(split: pd.DataFrame, image_ids: pd.Series) -> np.ndarray:
    """The fold in which each image is tested, in the first repeat of a split table: int64, in the order of the ids."""
    tested = split[(split["role"] == "test") & (split["repeat"] == split["repeat"].min())].set_index("image_id")["fold"]
    return image_ids.map(tested).to_numpy(dtype=np.int64)
