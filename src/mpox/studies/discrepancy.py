"""Maximum mean discrepancy: whether two collections' features come from one distribution, without asking a classifier."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.studies.external import domain_data


def mean_discrepancy(
    x: np.ndarray, is_second: np.ndarray, groups: np.ndarray, *, n_permutations: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Maximum mean discrepancy of two samples, and a permutation test of "the same distribution".

    The unbiased estimate of Gretton et al. (2012, JMLR 13:723-773, eq. 3) with a Gaussian kernel as wide as the median distance,
    on standardised features. The null distribution comes from dealing whole groups to the two samples at random, as many as there
    were, so that images of one patient do not pass for independent.

    Parameters
    ----------
    x : ndarray of float, shape (n, d)
    is_second : ndarray of bool, shape (n,)
        Which sample an image is of; no group crosses the two.
    groups : ndarray of str, shape (n,)
    n_permutations, seed : int

    Returns
    -------
    squared : float
        MMD squared; about 0 (and possibly below) for one distribution.
    p : float
        Share of the permutations with a value at least as large, the observed one included: at least 1 / (n_permutations + 1).

    Raises
    ------
    MpoxError
        If a group is in both samples, or a sample has fewer than two groups.
    """
    names, codes = np.unique(groups, return_inverse=True)
    side = np.zeros(len(names), dtype=bool)
    side[codes[is_second]] = True
    if (side[codes] != is_second).any():
        raise MpoxError("A group is in both samples: leave out what they share before they are compared.")
    if not 2 <= side.sum() <= len(side) - 2:
        raise MpoxError("A permutation test needs at least two groups in each sample.")
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    square = (z**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None] - 2 * z @ z.T, 0)
    kernel = np.exp(-distance / np.median(distance[np.triu_indices(len(z), 1)]))
    np.fill_diagonal(kernel, 0)
    rng = np.random.default_rng(seed)
    dealt = np.stack([side, *(rng.permutation(side) for _ in range(n_permutations))])[:, codes].astype(float)
    second, first = dealt.sum(axis=1), (1 - dealt).sum(axis=1)
    within_second = ((dealt @ kernel) * dealt).sum(axis=1)
    within_first = (((1 - dealt) @ kernel) * (1 - dealt)).sum(axis=1)
    between = ((dealt @ kernel) * (1 - dealt)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # one image in a sample has no pair
        values = within_second / (second * (second - 1)) + within_first / (first * (first - 1)) - 2 * between / (first * second)
    return float(values[0]), float((values >= values[0] - 1e-12).mean())


def discrepancy(
    store: RunStore | RecordedStore,
    both: Dataset,
    model: ModelConfig,
    *,
    label: str | None = None,
    n_permutations: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """`mean_discrepancy` of two collections' frozen features, without what they share; a derived table, so that it is recorded.

    Parameters
    ----------
    store : RunStore or RecordedStore
    both, label
        See `domain_data`.
    model : ModelConfig
        Whose features are compared.
    n_permutations, seed : int

    Returns
    -------
    dict
        ``MMD squared`` and ``p``.
    """
    data = domain_data(both, label=label)
    groups = data.manifest["group_id"].tolist()
    spec = {"data": data.hash, "groups": groups, "model": asdict(model), "permutations": n_permutations, "seed": seed}

    def compute() -> pd.DataFrame:
        from mpox.models.features import features

        second = (data.manifest["label"] == data.classes[1]).to_numpy()
        found = mean_discrepancy(
            features(data.manifest, model), second, np.array(groups), n_permutations=n_permutations, seed=seed
        )
        return pd.DataFrame([found], columns=["MMD squared", "p"])

    return store.table("mmd", spec, compute).iloc[0].to_dict()
