"""Tables of predictions for the tests of `mpox.stats`."""

import numpy as np
import pandas as pd


def table(
    truth: np.ndarray, p: np.ndarray, groups=None, *, classes=("Mpox", "Others"), fold=0, repeat=0, prefix=""
) -> pd.DataFrame:
    """One repeat, an image a group unless said otherwise.

    ``truth`` are booleans, or class numbers; ``p`` the probability of Mpox, or of every class.
    """
    truth, p = np.asarray(truth), np.asarray(p, dtype=float)
    y = np.where(truth, 0, 1) if truth.dtype == bool else truth
    ids = [f"{prefix}i{number:05d}" for number in range(len(y))]
    frame = pd.DataFrame({"repeat": repeat, "fold": fold, "image_id": ids})
    frame["group_id"] = ids if groups is None else [f"{prefix}g{group}" for group in groups]
    frame["label"] = np.array(classes)[y]
    frame[[f"p_{label}" for label in classes]] = np.c_[p, 1 - p] if p.ndim == 1 else p
    return frame


def clustered(rng: np.random.Generator, n_groups: int = 40, size: int = 4, *, auroc_shift: float = 1.3) -> pd.DataFrame:
    """Groups of 1 to ``size`` images, all of one class, whose scores share half of their variance."""
    groups = np.repeat(np.arange(n_groups), rng.integers(1, size + 1, n_groups))
    truth = groups % 2 == 0
    score = auroc_shift * truth + np.sqrt(0.5) * (rng.normal(size=n_groups)[groups] + rng.normal(size=len(groups)))
    return table(truth, 1 / (1 + np.exp(auroc_shift / 2 - score)), groups)


def noisy(predictions: pd.DataFrame, rng: np.random.Generator, spread: float = 0.2, **changed) -> pd.DataFrame:
    """The same images by another model: its probabilities are the first one's with noise."""
    p = np.clip(predictions["p_Mpox"] + rng.normal(0, spread, len(predictions)), 0.01, 0.99)
    return predictions.assign(p_Mpox=p, p_Others=1 - p, **changed)
