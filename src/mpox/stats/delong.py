"""The area under the ROC curve with DeLong's interval, for images that come in groups.

No resampling: the standard error comes from the *placement values*. That of a positive is the share of negatives that score below
it (ties count one half), that of a negative the share of positives above it; each kind averages to the area (DeLong, DeLong and
Clarke-Pearson 1988). Obuchowski (1997, Biometrics 53:567) sums them within groups, so that images of one group, positives and
negatives alike, may depend on each other. Where every group has one image, hers is DeLong's standard error.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from mpox._core import MpoxError
from mpox.stats.metrics import groups_of, matched_repeats, two_sides

Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Auroc:
    """An area from 0 to 1, its interval of 95 % (1.96 standard errors to either side) and the number of groups."""

    estimate: float
    low: float
    high: float
    standard_error: float
    n_groups: int


def placement_values(is_positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Placement value of each image, from 0 to 1, from ranks (Sun and Xu 2014); both classes must be there."""
    rank = rankdata(score)
    values = np.empty(len(score))
    values[is_positive] = (rank[is_positive] - rankdata(score[is_positive])) / (~is_positive).sum()
    values[~is_positive] = 1 - (rank[~is_positive] - rankdata(score[~is_positive])) / is_positive.sum()
    return values


def clustered_auroc(is_positive: np.ndarray, placements: np.ndarray, groups: np.ndarray) -> Auroc:
    """Area and standard error from placement values, or means of them; the interval is not cut at 0 and 1.

    With A the area; m and n a group's numbers of positives and of negatives, M and N those of all groups; U and V a group's sums
    of its positives' and of its negatives' placement values; and I10, I01, I the numbers of groups with positives, with negatives
    and in all, the variance (Obuchowski 1997) is the sum over the groups of
    I10/(I10-1) (U - mA)^2/M^2 + I01/(I01-1) (V - nA)^2/N^2 + 2 I/(I-1) (U - mA)(V - nA)/(MN).
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


def auroc_delong(predictions: pd.DataFrame, *, positive: str = "Mpox") -> Auroc:
    """AUROC of one class against the rest, with the interval of DeLong for clustered data.

    Parameters
    ----------
    predictions, positive
        As in `mpox.evaluate`. Scores of different folds are pooled within a repeat as if one model had given them; that the
        folds' models share training images is not accounted for (nor is it by a bootstrap of the images). An image's placement
        values are averaged over the repeats: the mean AUROC is linear in these.

    Returns
    -------
    Auroc
        The estimate is that of `mpox.evaluate`; the interval is cut at 0 and 1. Where the classes are separated completely the
        standard error is 0, which says that the method has no answer there, not that nothing is uncertain.
    """
    _, repeats = matched_repeats(predictions, positive)
    is_positive = two_sides(repeats, positive)
    placements = np.mean([placement_values(is_positive, part[f"p_{positive}"].to_numpy()) for part in repeats], axis=0)
    found = clustered_auroc(is_positive, placements, groups_of(repeats[0]))
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
