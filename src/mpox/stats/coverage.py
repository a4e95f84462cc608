"""Do 95 % intervals hold the truth in 95 % of studies? A simulation of images that come in groups.

A group is a patient with several images, all of one class. The score of an image is a constant for the positives, plus a normal
part that its group shares, plus a normal part of its own; the variances of the two parts are the intraclass correlation and what
it leaves of 1. Whatever the correlation, the truth has a closed form (`true_values`): the binormal model. An interval that takes
images for independent claims more than the groups can tell, and the simulation says how much more.
"""

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr, ndtri

from mpox._core import MpoxError
from mpox.stats.delong import clustered_auroc, placement_values
from mpox.stats.metrics import group_weights, weighted_auroc
from mpox.stats.resample import bca_interval, leave_one_out_weights, percentile_interval, wilson

POSITIVE, NEGATIVE = "Mpox", "Others"


def _separation(auroc: float) -> float:
    """Distance of the means of two normal scores of variance 1: auroc = Phi(separation / sqrt(2))."""
    return float(np.sqrt(2) * ndtri(auroc))


def true_values(auroc: float) -> dict[str, float]:
    """What a simulated study estimates: the AUROC that was asked for, and the accuracy that belongs to it.

    Scores are judged half-way between the two means, so the accuracy of either class is Phi(separation / 2), with
    separation = sqrt(2) Phi^-1(auroc), the binormal model.

    Examples
    --------
    >>> {name: round(value, 4) for name, value in true_values(0.85).items()}
    {'accuracy': 0.7682, 'auroc': 0.85}
    """
    return {"accuracy": float(ndtr(_separation(auroc) / 2)), "auroc": auroc}


def simulate_clustered(
    n_groups: int, images_per_group: int, *, auroc: float, intraclass_correlation: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Predictions of one repeat, as `mpox.cross_validate` gives them, for images that come in groups.

    Parameters
    ----------
    n_groups : int
        At least 4; every second one is positive.
    images_per_group : int
        At least 1.
    auroc : float
        Of the population, from 0.5 to below 1.
    intraclass_correlation : float
        Correlation of the scores of two images of one group, given its class; from 0 to 1.
    rng : Generator

    Returns
    -------
    DataFrame
        ``repeat``, ``fold`` (both 0), ``image_id``, ``group_id``, ``label``, ``p_Mpox``, ``p_Others``.

    Raises
    ------
    MpoxError
        If a number is out of its range.
    """
    if n_groups < 4 or images_per_group < 1 or not 0.5 <= auroc < 1 or not 0 <= intraclass_correlation <= 1:
        raise MpoxError(
            "A simulated study needs 4 groups or more, an image or more in each, an AUROC from 0.5 to below 1, and a correlation "
            "from 0 to 1."
        )
    codes = np.repeat(np.arange(n_groups), images_per_group)
    positive = codes % 2 == 0
    shared, own = rng.standard_normal(n_groups)[codes], rng.standard_normal(len(codes))
    noise = np.sqrt(intraclass_correlation) * shared + np.sqrt(1 - intraclass_correlation) * own
    p_positive = expit(_separation(auroc) * (positive - 0.5) + noise)
    return pd.DataFrame(
        {
            "repeat": 0,
            "fold": 0,
            "image_id": [f"i{number:06d}" for number in range(len(codes))],
            "group_id": np.char.mod("g%06d", codes),
            "label": np.where(positive, POSITIVE, NEGATIVE),
            f"p_{POSITIVE}": p_positive,
            f"p_{NEGATIVE}": 1 - p_positive,
        }
    )


def _intervals(predictions: pd.DataFrame, n_bootstrap: int, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Every method's interval of one study: ``{(method, metric): (low, high)}``."""
    is_positive = predictions["label"].to_numpy() == POSITIVE
    score = predictions[f"p_{POSITIVE}"].to_numpy()
    right = ((score > 0.5) == is_positive).astype(float)
    groups, images = (predictions[name].to_numpy(dtype=str) for name in ("group_id", "image_id"))

    def values(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": weights @ right / weights.sum(axis=1), "auroc": weighted_auroc(is_positive, score, weights)}

    by_group = values(group_weights(groups, n_bootstrap, seed))
    by_image = values(group_weights(images, n_bootstrap, seed))
    left_out = values(leave_one_out_weights(groups))
    found = {}
    for metric in by_group:
        found["percentile, groups", metric] = percentile_interval(by_group[metric])
        found["BCa, groups", metric] = bca_interval(by_group[metric], left_out[metric])
        found["percentile, images", metric] = percentile_interval(by_image[metric])
    found["Wilson, images", "accuracy"] = wilson(right.sum(), len(right))[1:]
    placements = placement_values(is_positive, score)
    for name, units in (("groups", groups), ("images", images)):
        area = clustered_auroc(is_positive, placements, units)
        found[f"DeLong, {name}", "auroc"] = area.low, area.high
    return found


def coverage(
    n_simulations: int = 500,
    *,
    n_groups: int = 80,
    images_per_group: int = 3,
    auroc: float = 0.85,
    intraclass_correlation: float = 0.6,
    n_bootstrap: int = 400,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each method's 95 % interval holds the truth, over simulated studies.

    Parameters
    ----------
    n_simulations : int
        Studies, at least 1.
    n_groups, images_per_group, auroc, intraclass_correlation
        See `simulate_clustered`.
    n_bootstrap : int
        Replicates of each bootstrap, at least 1.
    seed : int

    Returns
    -------
    DataFrame
        One row a method and metric: ``method`` (name and what is taken for independent: ``groups`` or ``images``), ``metric``
        (``accuracy`` or ``auroc``), ``truth``, ``coverage`` (share of the studies; an undefined interval holds nothing),
        ``standard_error`` (of the coverage, from the number of simulations), ``mean_width`` of the interval.

    Raises
    ------
    MpoxError
        See `simulate_clustered`; if there is no simulation or no replicate.
    """
    if n_simulations < 1 or n_bootstrap < 1:
        raise MpoxError("A coverage needs at least one simulation, and at least one replicate in each.")
    rng = np.random.default_rng(seed)
    truth = true_values(auroc)
    studies = []
    for _ in range(n_simulations):
        predictions = simulate_clustered(
            n_groups, images_per_group, auroc=auroc, intraclass_correlation=intraclass_correlation, rng=rng
        )
        studies.append(_intervals(predictions, n_bootstrap, int(rng.integers(2**32))))
    rows = []
    for method, metric in sorted(studies[0], key=lambda key: (key[1], key[0])):
        low, high = np.array([study[method, metric] for study in studies]).T
        share = ((low <= truth[metric]) & (truth[metric] <= high)).mean()
        error = np.sqrt(share * (1 - share) / n_simulations)
        rows.append((method, metric, truth[metric], share, error, np.nanmean(high - low)))
    return pd.DataFrame(rows, columns=["method", "metric", "truth", "coverage", "standard_error", "mean_width"])
