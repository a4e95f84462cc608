"""The area under the ROC curve with DeLong's interval, for images that come in groups.

No resampling: the standard error comes from the *placement values*. That of a positive is the share of negatives that score below
it (ties count one half), that of a negative the share of positives above it; each kind averages to the area (DeLong, DeLong and
Clarke-Pearson 1988). Obuchowski (1997, Biometrics 53:567) sums them within groups, so that images of one group, positives and
negatives alike, may depend on each other. Where every group has one image, hers is DeLong's standard error.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from mpox._core import MpoxError
from mpox.stats.metrics import matched_repeats

Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Auroc:
    """An area under the ROC curve, or a difference of two.

    Attributes
    ----------
    estimate : float
        From 0 to 1; a difference from -1 to 1.
    low, high : float
        Interval of 95 %: the estimate plus and minus 1.96 standard errors, cut at the ends of the estimate's range.
    standard_error : float
    n_groups : int
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    n_groups: int


def placement_values(is_positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Placement value of each image, from ranks (Sun and Xu 2014).

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
        At least one positive and one negative.
    score : ndarray, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
        From 0 to 1. Of a positive: the share of negatives below it; of a negative: the share of positives above it.

    Examples
    --------
    >>> placement_values(np.array([0, 0, 1, 1], bool), np.array([.1, .4, .35, .8])).tolist()
    [1.0, 0.5, 0.5, 1.0]
    """
    rank = rankdata(score)
    values = np.empty(len(score))
    values[is_positive] = (rank[is_positive] - rankdata(score[is_positive])) / (~is_positive).sum()
    values[~is_positive] = 1 - (rank[~is_positive] - rankdata(score[~is_positive])) / is_positive.sum()
    return values


def clustered_auroc(is_positive: np.ndarray, placements: np.ndarray, groups: np.ndarray) -> Auroc:
    """Area and standard error from placement values, summed within groups (Obuchowski 1997).

    With A the area; m and n a group's numbers of positives and of negatives, M and N those of all groups; U and V a group's sums
    of its positives' and of its negatives' placement values; and I10, I01, I the numbers of groups with positives, with negatives
    and in all, the variance is the sum over the groups of
    I10/(I10-1) (U - mA)^2/M^2 + I01/(I01-1) (V - nA)^2/N^2 + 2 I/(I-1) (U - mA)(V - nA)/(MN).

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
    placements : ndarray, shape (n,)
        See `placement_values`. What is linear in them may be given as well: averages over repeats, or differences of two models.
    groups : ndarray, shape (n,)

    Returns
    -------
    Auroc
        Not cut at any range.

    Raises
    ------
    MpoxError
        If there are not positives in two groups at least, and negatives in two.
    """
    names, codes = np.unique(groups, return_inverse=True)
    estimate = placements[is_positive].mean()
    deviations, variance = [], 0.0
    for side in (is_positive, ~is_positive):
        n_images, n_groups = side.sum(), len(np.unique(codes[side]))
        if n_groups < 2:
            raise MpoxError("DeLong's interval needs positives in two groups at least, and negatives in two: use more images.")
        summed = np.bincount(codes[side], placements[side] - estimate, minlength=len(names)) / n_images
        deviations.append(summed)
        variance += n_groups / (n_groups - 1) * (summed**2).sum()
    variance += 2 * len(names) / (len(names) - 1) * (deviations[0] * deviations[1]).sum()
    error = np.sqrt(max(variance, 0.0))
    return Auroc(float(estimate), float(estimate - Z * error), float(estimate + Z * error), float(error), len(names))


def _placements(predictions: pd.DataFrame, positive: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """One row an image, which are positive, and placement values averaged over the repeats."""
    _, repeats = matched_repeats(predictions, positive)
    images = repeats[0][["image_id", "group_id", "label"]].reset_index(drop=True)
    is_positive = images["label"].to_numpy() == positive
    if is_positive.all() or not is_positive.any():
        raise MpoxError(f"An AUROC needs images of '{positive}' and others: there is only one of the two.")
    return (
        images,
        is_positive,
        np.mean([placement_values(is_positive, part[f"p_{positive}"].to_numpy()) for part in repeats], axis=0),
    )


def _cut(found: Auroc, low: float, high: float) -> Auroc:
    return Auroc(found.estimate, max(found.low, low), min(found.high, high), found.standard_error, found.n_groups)


def auroc_delong(predictions: pd.DataFrame, *, positive: str = "Mpox") -> Auroc:
    """AUROC of one class against the rest, with the interval of DeLong for clustered data.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`; see `mpox.evaluate`. Scores of different folds are pooled within a repeat as if one model had
        given them; that the folds' models share training images is not accounted for (nor is it by a bootstrap of the images).
        With several repeats, an image's placement values are averaged over them: the mean AUROC is linear in these.
    positive : str

    Returns
    -------
    Auroc
        The estimate is that of `mpox.evaluate`. Where the classes are separated completely the standard error is 0, which says
        that the method has no answer there, not that nothing is uncertain.

    Raises
    ------
    MpoxError
        See `clustered_auroc`; if the repeats differ in their images; if all images are of one side.

    Examples
    --------
    >>> table = pd.DataFrame({"repeat": 0, "image_id": list("abcdef"), "group_id": list("uuvwxy")})
    >>> table["label"] = ["Mpox", "Other"] * 3
    >>> table["p_Mpox"] = [0.9, 0.2, 0.4, 0.3, 0.7, 0.6]
    >>> table["p_Other"] = 1 - table["p_Mpox"]
    >>> found = auroc_delong(table)
    >>> round(found.estimate, 3), found.n_groups
    (0.889, 5)
    """
    images, is_positive, placements = _placements(predictions, positive)
    return _cut(clustered_auroc(is_positive, placements, images["group_id"].to_numpy(dtype=str)), 0.0, 1.0)


def difference_delong(first: pd.DataFrame, second: pd.DataFrame, *, positive: str = "Mpox") -> Auroc:
    """``first`` minus ``second`` in AUROC, with the interval of DeLong for two models on the same clustered images.

    Parameters
    ----------
    first, second : DataFrame
        Predictions of the same images in the same groups; see `auroc_delong`. The numbers of repeats may differ.
    positive : str

    Returns
    -------
    Auroc

    Raises
    ------
    MpoxError
        As `auroc_delong`; if the images, their labels or their groups differ.
    """
    images, is_positive, placements = _placements(first, positive)
    others, _, subtracted = _placements(second, positive)
    if images.to_numpy().tolist() != others.to_numpy().tolist():
        raise MpoxError("A paired difference needs predictions of the same images, with the same labels, in the same groups.")
    return _cut(clustered_auroc(is_positive, placements - subtracted, images["group_id"].to_numpy(dtype=str)), -1.0, 1.0)
