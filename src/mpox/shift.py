"""How different two collections are: by what a classifier can tell, by single facts, by labels; and weights that make up for it.

The classifier that is asked which collection a picture comes from is an ordinary run with the collections as its classes: its
out-of-fold predictions are kept, and groups are respected, as in every other run. Photographs that both collections hold say
nothing about a difference and are left out.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from mpox.config import ModelConfig
from mpox.errors import MpoxError, TooFewImages
from mpox.experiment import predict_splits
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights
from mpox.recorded import RecordedStore
from mpox.splits import make_splits
from mpox.store import Dataset, RunStore

#: Mixes the training collection into the denominator of a density ratio, which then stays below 1 / ALPHA; see `density_weights`.
ALPHA = 0.1
#: Single facts of a picture that `fact_differences` is asked about in chapter 6, with their units.
FACTS = {
    "lightness": "lightness (CIELAB L*)",
    "contrast": "contrast (SD of L*)",
    "chroma": "chroma (CIELAB C*)",
    "sharpness": "sharpness (SD of the Laplacian)",
    "blur": "blur (0 sharp, 1 blurred)",
    "ita": "skin tone (ITA, degrees)",
    "side": "size (square root of the pixels)",
    "bytes_per_pixel": "file size (bytes a pixel)",
}


def unshared(both: Dataset) -> pd.Series:
    """Whether an image's honest group lies in one of the collections only: bool, indexed by ``image_id``."""
    manifest = both.manifest
    alone = manifest.groupby("group_id")["source"].transform("nunique") == 1
    return pd.Series(alone.to_numpy(), index=manifest["image_id"].to_numpy(), name="unshared")


def domain_data(both: Dataset, *, label: str | None = None, whole: str | None = None) -> Dataset:
    """The same pictures with the name of their collection as the label, without those whose group is in both.

    Parameters
    ----------
    both : Dataset
        Of two collections, from `mpox.combine.combine`.
    label : str, optional
        Only this class: then a difference in how common the classes are can tell nothing.
    whole : str, optional
        A collection whose shared pictures stay. Since those of the other are left out, no group is on both sides.

    Returns
    -------
    Dataset

    Raises
    ------
    MpoxError
        If a collection has no picture left.
    """
    manifest = both.manifest
    keep = manifest["image_id"].map(unshared(both)).to_numpy(dtype=bool) | (manifest["source"] == whole).to_numpy()
    keep &= (manifest["label"] == label).to_numpy() if label else True
    left = manifest[keep].assign(label=manifest.loc[keep, "source"]).reset_index(drop=True)
    lost = sorted(set(manifest["source"]) - set(left["source"]))
    if lost:
        raise TooFewImages(
            f"{', '.join(lost)} has no picture{f' of {label}' if label else ''} that is not shared: no comparison."
        )
    return replace(both, manifest=left, groups=both.groups[left["image_id"]], positive=left["label"].max())


def predict_domain(
    store: RunStore | RecordedStore,
    both: Dataset,
    model: ModelConfig,
    *,
    label: str | None = None,
    whole: str | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Out-of-fold predictions of which collection a picture comes from.

    An AUROC of 0.5 says that this model cannot tell the collections apart, not that they are alike. One near 1 says that they
    differ in something; within one class, in something other than how common the classes are.

    Parameters
    ----------
    store : RunStore or RecordedStore
    both, label, whole
        See `domain_data`.
    model : ModelConfig
    n_folds, seed : int
        See `mpox.splits.make_splits`; the protocol is ``source``.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, with the collections' names for classes. The runs are kept under ``domain``.

    Raises
    ------
    MpoxError
        See `domain_data`; `TooFewImages` if a collection has fewer groups than folds.
    """
    data = domain_data(both, label=label, whole=whole)
    return predict_splits(store, data, "domain", make_splits(data.manifest, "source", n_folds=n_folds, seed=seed), model)


def density_weights(predictions: pd.DataFrame, train: str, target: str, *, alpha: float = ALPHA) -> pd.Series:
    """Weights that make the training collection's pictures stand for the target's, from out-of-fold domain predictions.

    The ratio of the densities is r = p(target) / p(train), because the probe balances its classes (Bickel et al. 2009, JMLR
    10:2137-2155). Where a classifier is nearly certain, r is nearly 0 or enormous; the relative ratio r / (alpha r + 1 - alpha)
    (Yamada et al. 2013, Neural Computation 25:1324-1370) is at most 1 / alpha, and for ``alpha`` 0 it is r.

    Parameters
    ----------
    predictions : DataFrame
        From `predict_domain`; of one repeat.
    train, target : str
        Names of the collections.
    alpha : float
        From 0 to 1 (then every weight is 1).

    Returns
    -------
    Series of float64
        Mean 1, indexed by the ``image_id`` of the training collection's pictures.

    Raises
    ------
    MpoxError
        If the predictions are of other collections, or ``alpha`` is out of range.
    """
    if not {f"p_{train}", f"p_{target}"} <= set(predictions) or not 0 <= alpha <= 1:
        raise MpoxError(f"Weights need predictions of {train} and {target}, and alpha from 0 to 1, not {alpha:g}.")
    own = predictions[predictions["label"] == train].set_index("image_id").sort_index()
    p, q = own[f"p_{target}"].clip(1e-9, 1), own[f"p_{train}"].clip(1e-9, 1)
    weight = p / (alpha * p + (1 - alpha) * q)
    return (weight / weight.mean()).rename("weight")


def effective_size(weights: np.ndarray) -> float:
    """Kish's effective sample size: how many equally weighted images are worth as much, (sum w)^2 / sum w^2; 0 for none.

    Examples
    --------
    >>> effective_size(np.array([1.0, 1.0, 1.0, 1.0])), effective_size(np.array([4.0, 0.0, 0.0, 0.0]))
    (4.0, 1.0)
    """
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def collection_facts(store: RunStore | RecordedStore, data: Dataset) -> pd.DataFrame:
    """Single facts of every picture (`FACTS`), from the tables of chapter 1, which are computed where they are missing.

    Returns
    -------
    DataFrame
        ``source``, ``image_id``, and a column a fact; missing where it is not defined.
    """
    from mpox.audit import quality, skintone

    measured = {
        "image-quality": (quality.VERSION, lambda: quality.image_quality(data.manifest)),
        "skin-tone": (skintone.VERSION, lambda: skintone.skin_tone(data.manifest)),
    }
    found = data.manifest[["source", "image_id"]].assign(side=np.sqrt(data.manifest["width"] * data.manifest["height"]))
    for name, (version, compute) in measured.items():
        table = store.table(name, {"data": data.hash, "version": version}, compute)
        found = found.merge(table[["image_id", *(fact for fact in FACTS if fact in table)]], on="image_id", validate="1:1")
    return found


def fact_differences(
    both: Dataset,
    facts: pd.DataFrame,
    first: str,
    second: str,
    *,
    label: str | None = None,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """``second`` minus ``first`` in each fact, in standard deviations, for pictures that the two do not share.

    The standardised mean difference divides by the root of the mean of both variances (Austin 2009, Statistics in Medicine
    28:3083-3107); above 0.1 is often called an imbalance. Groups of each collection are resampled.

    Parameters
    ----------
    both : Dataset
        From `mpox.combine.combine`.
    facts : DataFrame
        ``source``, ``image_id`` (as the collection names it) and a column a fact, for instance `collection_facts` of both.
    first, second : str
        Names of the collections.
    label : str, optional
        Only this class.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        One row a fact: ``fact``, ``n_first``, ``n_second`` (images that have it), ``first``, ``second`` (means), ``estimate``,
        ``low``, ``high`` (standard deviations); NaN where a collection has fewer than two images with that fact.
    """
    manifest = both.manifest[both.manifest["image_id"].map(unshared(both)).to_numpy(dtype=bool)]
    manifest = manifest[manifest["label"] == label] if label else manifest
    own = facts.assign(image_id=facts["source"] + "/" + facts["image_id"]).drop(columns="source")
    table = manifest[["image_id", "source", "group_id"]].merge(own, on="image_id", validate="1:1")
    rows = []
    for fact in own.columns.drop("image_id"):
        known = table.dropna(subset=[fact])
        parts = [known[known["source"] == name] for name in (first, second)]
        about = (fact, len(parts[0]), len(parts[1]), parts[0][fact].mean(), parts[1][fact].mean())
        if min(len(part) for part in parts) < 2:
            rows.append((*about, np.nan, np.nan, np.nan))
            continue
        moments = [_moments(part, fact, n_bootstrap, seed + side) for side, part in enumerate(parts)]
        spread = np.sqrt((moments[0][1] + moments[1][1]) / 2)
        change = moments[1][0] - moments[0][0]
        rows.append((*about, *with_percentiles(np.divide(change, spread, out=np.full(len(spread), np.nan), where=spread > 0))))
    return pd.DataFrame(rows, columns=["fact", "n_first", "n_second", "first", "second", "estimate", "low", "high"])


def _moments(part: pd.DataFrame, fact: str, n_bootstrap: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (with n - 1) of the estimate and the replicates, each of shape (n_bootstrap + 1,)."""
    weights = group_weights(part["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    value, total = part[fact].to_numpy(dtype=float), weights.sum(axis=1)
    mean = weights @ value / total
    square = (weights * (value - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.divide(square, total - 1, out=np.full(len(total), np.nan), where=total > 1)


def label_shares(both: Dataset, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """How common the finding is in each collection, with 95 % intervals from resampling groups.

    Returns
    -------
    DataFrame
        ``source``, ``images``, ``groups``, ``estimate`` (share of positives, 0 to 1), ``low``, ``high``.
    """
    rows = []
    for name, part in both.manifest.groupby("source"):
        weights = group_weights(part["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
        share = weights @ (part["label"] == positive).to_numpy(dtype=float) / weights.sum(axis=1)
        rows.append((name, len(part), part["group_id"].nunique(), *with_percentiles(share)))
    return pd.DataFrame(rows, columns=["source", "images", "groups", "estimate", "low", "high"])
