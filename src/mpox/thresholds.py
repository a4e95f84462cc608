"""Thresholds for a stated aim, chosen where nothing is tested, and what they are worth where everything is.

A picture is called positive when its score *reaches* the threshold. The order is always: state an aim, choose a threshold on
predictions of held-out training images (`mpox.nested.predict_nested`), carry it to the test images, and count. A threshold that
is chosen on the images it is scored on flatters; where no other images are to be had, `crossfit_thresholds` chooses on some
groups and scores on the others.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from mpox.errors import MpoxError, TooFewImages
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights, matched_repeats, weight_by_score

KINDS = ("sensitivity", "specificity", "youden")
#: The measures of `operating_point`.
OPERATING = ("sensitivity", "specificity", "ppv", "npv", "flagged")
_SLACK = 1e-12  # of a share, for sums of weights


@dataclass(frozen=True)
class Aim:
    """What a threshold is to achieve.

    Parameters
    ----------
    kind : {"sensitivity", "specificity", "youden"}
        At least ``level`` of the positives found, with as few false alarms as that allows; at least ``level`` of the negatives
        cleared, with as few misses as that allows; or the largest sum of both (Youden 1950, Cancer 3:32-35).
    level : float, optional
        From 0 to 1, for the first two kinds.

    Raises
    ------
    MpoxError
        If the kind is unknown, or the level is missing or out of range.

    Examples
    --------
    >>> str(Aim("sensitivity", 0.95)), str(Aim("youden"))
    ('sensitivity >= 0.95', 'largest sensitivity + specificity')
    """

    kind: str
    level: float | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise MpoxError(f"There is no aim '{self.kind}': choose one of {', '.join(KINDS)}.")
        if self.kind == "youden" and self.level is not None:
            raise MpoxError("The aim 'youden' has no level: leave it out.")
        if self.kind != "youden" and not (isinstance(self.level, int | float) and 0 <= self.level <= 1):
            raise MpoxError(f"The aim '{self.kind}' needs a level from 0 to 1, not {self.level!r}.")

    def __str__(self) -> str:
        return "largest sensitivity + specificity" if self.kind == "youden" else f"{self.kind} >= {self.level:g}"


YOUDEN = Aim("youden")


def choose_threshold(
    scores: np.ndarray, is_positive: np.ndarray, *, aim: Aim = YOUDEN, weights: np.ndarray | None = None
) -> float:
    """The threshold that meets an aim on these images.

    The candidates are the scores themselves, and infinity (nobody is positive), as in `sklearn.metrics.roc_curve`. For a
    sensitivity it is the highest candidate that reaches it, for a specificity the lowest; of several with the largest sum of both
    the lowest, which misses fewer.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Higher means more likely positive; without missing values.
    is_positive : ndarray of bool, shape (n,)
    aim : Aim
    weights : ndarray of float, shape (n,), optional
        How much each image counts, at least 0; 1 by default.

    Returns
    -------
    float
        An image is positive if its score is at least this.

    Raises
    ------
    MpoxError
        If a score is missing, or there is no positive or no negative image (of some weight).

    Examples
    --------
    >>> scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    >>> choose_threshold(scores, truth, aim=Aim("sensitivity", 0.9)), choose_threshold(scores, truth)
    (0.35, 0.35)
    """
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=float)
    return float(_thresholds(np.asarray(scores, dtype=float), np.asarray(is_positive, dtype=bool), aim, weights[None])[0])


def _thresholds(scores: np.ndarray, is_positive: np.ndarray, aim: Aim, weights: np.ndarray) -> np.ndarray:
    """A threshold for each row of weights, shape (b,)."""
    if np.isnan(scores).any():
        raise MpoxError("A threshold needs a score of every image: leave out the images without one.")
    positive, negative = weight_by_score(is_positive, scores, weights) if len(scores) else (np.zeros((1, 0)),) * 2
    if not (positive.sum(axis=1).all() and negative.sum(axis=1).all()):
        raise MpoxError("A threshold needs positive and negative images to be chosen on: there is only one of the two.")
    candidates = np.append(np.unique(scores), np.inf)
    nothing = np.zeros((len(weights), 1))
    # at candidate k all scores from k on are positive
    missed = np.hstack([nothing, np.cumsum(positive, axis=1)]) / positive.sum(axis=1, keepdims=True)
    cleared = np.hstack([nothing, np.cumsum(negative, axis=1)]) / negative.sum(axis=1, keepdims=True)
    sensitivity = 1 - missed
    if aim.level is None:  # youden
        both = sensitivity + cleared
        place = (both >= both.max(axis=1, keepdims=True) - _SLACK).argmax(axis=1)
    elif aim.kind == "sensitivity":
        place = (sensitivity >= aim.level - _SLACK).sum(axis=1) - 1
    else:
        place = (cleared >= aim.level - _SLACK).argmax(axis=1)
    return candidates[place]


def _score(predictions: pd.DataFrame, positive: str) -> tuple[np.ndarray, np.ndarray]:
    if f"p_{positive}" not in predictions:
        raise MpoxError(f"These predictions have no column 'p_{positive}': name the positive class they have.")
    return predictions[f"p_{positive}"].to_numpy(dtype=float), (predictions["label"] == positive).to_numpy(dtype=bool)


def carry_thresholds(predictions: pd.DataFrame, nested: pd.DataFrame, aim: Aim, *, positive: str = "Mpox") -> pd.DataFrame:
    """Choose a threshold for each fold on held-out images of its training part, and carry it to the fold's test images.

    Parameters
    ----------
    predictions : DataFrame
        Of test images: from `mpox.cross_validate` or `mpox.experiment.validate_externally`.
    nested : DataFrame
        Of the training images of the same repeats and folds: from `mpox.nested.predict_nested`.
    aim : Aim
    positive : str

    Returns
    -------
    DataFrame
        ``predictions`` with ``threshold``, one value a repeat and fold.

    Raises
    ------
    MpoxError
        If a fold has no nested predictions, or one of its test images is among them.
    """
    inside = {key: part for key, part in nested.groupby(["repeat", "fold"])}
    parts = []
    for (repeat, fold), test in predictions.groupby(["repeat", "fold"], sort=False):
        if (repeat, fold) not in inside:
            raise MpoxError(f"Fold {fold} of repeat {repeat} has no nested predictions: make them of the same split.")
        known = inside[repeat, fold]
        if set(known["image_id"]) & set(test["image_id"]):
            raise MpoxError(f"Fold {fold} of repeat {repeat} tests images that its nested predictions hold: make them anew.")
        parts.append(test.assign(threshold=choose_threshold(*_score(known, positive), aim=aim)))
    return pd.concat(parts).loc[predictions.index]


def crossfit_thresholds(
    predictions: pd.DataFrame, aim: Aim, *, positive: str = "Mpox", n_folds: int = 5, n_repeats: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Choose thresholds on the test images themselves, but never on the group that is scored.

    The images are dealt to folds, groups kept together and classes even; the threshold of a fold is chosen on the other folds.
    The models are not trained again: this is what a user gets who keeps the model and re-chooses its threshold on labelled
    pictures of their own. The dealing is repeated, since one of them is a matter of luck.

    Parameters
    ----------
    predictions : DataFrame
        Each repeat has the same images, in ``group_id``.
    aim : Aim
    positive : str
    n_folds, n_repeats, seed : int
        Of the dealing. With fewer groups of a class than folds, as many folds as there are.

    Returns
    -------
    DataFrame
        ``predictions`` with ``threshold``, ``n_repeats`` times, with new numbers in ``repeat``.

    Raises
    ------
    TooFewImages
        If a class has fewer than two groups.
    MpoxError
        If the groups are too large for folds that all leave both classes.
    """
    parts = []
    for number, (_, part) in enumerate(predictions.groupby("repeat")):
        part = part.sort_values("image_id", ignore_index=True)
        scores, truth = _score(part, positive)
        groups = part["group_id"].to_numpy(dtype=str)
        fewest = min((len(set(groups[truth == kind])) for kind in (True, False)), default=0)
        if fewest < 2:
            raise TooFewImages("A threshold cannot be re-chosen here: it takes two groups with, and two without, a finding.")
        for again in range(n_repeats):
            dealer = StratifiedGroupKFold(min(n_folds, fewest), shuffle=True, random_state=seed * 1000 + again)
            threshold = np.full(len(part), np.nan)
            for rest, held_out in dealer.split(scores, truth, groups):
                threshold[held_out] = choose_threshold(scores[rest], truth[rest], aim=aim)
            parts.append(part.assign(threshold=threshold, repeat=number * n_repeats + again))
    return pd.concat(parts, ignore_index=True)


def operating_replicates(
    predictions: pd.DataFrame,
    threshold: float | None = None,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The measures of `operating_point` with their bootstrap replicates, for differences.

    Predictions of the same images in the same groups are resampled alike: their replicates are paired.

    Parameters
    ----------
    predictions, threshold, positive, n_bootstrap, seed
        See `operating_point`.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_bootstrap + 1,)
        Each of `OPERATING` to the estimate, first, and the replicates, averaged over the repeats. NaN where there is nothing to
        divide by.
    """
    if threshold is None and "threshold" not in predictions:
        raise MpoxError("No threshold: give one, or predictions that went through `carry_thresholds` or `crossfit_thresholds`.")
    predictions = predictions if threshold is None else predictions.assign(threshold=threshold)
    _, repeats = matched_repeats(predictions, positive)
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in OPERATING}
    for part in repeats:
        score, truth = _score(part, positive)
        flagged = score >= part["threshold"].to_numpy(dtype=float)
        sums = {
            (kind, called): weights @ ((truth == kind) & (flagged == called)).astype(float)
            for kind in (True, False)
            for called in (True, False)
        }
        hit, missed, alarm, cleared = (sums[key] for key in ((True, True), (True, False), (False, True), (False, False)))
        ratios = {
            "sensitivity": (hit, hit + missed),
            "specificity": (cleared, cleared + alarm),
            "ppv": (hit, hit + alarm),
            "npv": (cleared, cleared + missed),
            "flagged": (hit + alarm, hit + alarm + cleared + missed),
        }
        for name, (above, below) in ratios.items():
            found[name].append(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def operating_point(
    predictions: pd.DataFrame,
    threshold: float | None = None,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """What a threshold is worth on test images, with 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`; with ``threshold`` where it differs between rows (`carry_thresholds`, `crossfit_thresholds`).
    threshold : float, optional
        One for all rows.
    positive : str
    n_bootstrap, seed : int
        See `mpox.evaluate`. The threshold is taken for given: how it came about is not in the intervals.

    Returns
    -------
    DataFrame
        ``metric`` (`OPERATING`: sensitivity, specificity, positive and negative predictive value *at the prevalence of these
        images*, and the share of images that are flagged), ``estimate``, ``low``, ``high``; NaN where undefined.

    Raises
    ------
    MpoxError
        If there is no threshold, or the predictions cannot be evaluated.
    """
    found = operating_replicates(predictions, threshold, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    rows = [(name, *with_percentiles(values)) for name, values in found.items()]
    return pd.DataFrame(rows, columns=["metric", "estimate", "low", "high"])


def operating_difference(
    first: pd.DataFrame, second: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """``first`` minus ``second`` in every measure of `operating_point`, paired: both are resampled with the same groups.

    Parameters
    ----------
    first, second : DataFrame
        Predictions with ``threshold``, of the same images in the same groups; the numbers of repeats may differ.
    positive, n_bootstrap, seed
        See `operating_point`.

    Returns
    -------
    DataFrame
        As `operating_point`.

    Raises
    ------
    MpoxError
        If the images or their groups differ.
    """
    known = [table.drop_duplicates("image_id").set_index("image_id")["group_id"].sort_index() for table in (first, second)]
    if not known[0].astype(str).equals(known[1].astype(str)):
        raise MpoxError("A paired difference needs predictions of the same images in the same groups.")
    one, other = (operating_replicates(table, positive=positive, n_bootstrap=n_bootstrap, seed=seed) for table in (first, second))
    rows = [(name, *with_percentiles(one[name] - other[name])) for name in OPERATING]
    return pd.DataFrame(rows, columns=["metric", "estimate", "low", "high"])
