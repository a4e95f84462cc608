"""Training on one data set and the unshared pictures of another, tested on the first."""

import pandas as pd

from mpox.config import ModelConfig
from mpox.errors import MpoxError
from mpox.experiment import predict_splits
from mpox.recorded import RecordedStore
from mpox.splits import make_splits
from mpox.store import Dataset, RunStore


def mixed_splits(
    target: Dataset, both: Dataset, protocol: str = "source", *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> pd.DataFrame:
    """The folds of one data set, with the pictures of another in every training part.

    The test and inner folds are those that `mpox.splits.make_splits` gives the target alone, so that predictions are paired with
    those of a model that was trained without the other set. Every choice is still made on the target's inner folds: the added
    pictures are always learnt from and never held out. A picture of the other set whose group has any picture of the target is
    left out: nothing that is tested, or held out, has a copy in training that the audit found.

    Parameters
    ----------
    target : Dataset
        Whose pictures are tested.
    both : Dataset
        From `mpox.combine.combine`, with the groups of a joint audit; its classes must be the target's.
    protocol, n_folds, n_repeats, seed
        See `mpox.splits.make_splits`.

    Returns
    -------
    DataFrame
        As `mpox.splits.make_splits` gives it, over the ids of ``both``; an added picture has the role ``train`` and the inner
        fold -1 (never held out).

    Raises
    ------
    MpoxError
        If ``both`` does not hold the target with the same pictures and classes, or there is nothing to add.
    """
    manifest = both.manifest
    own = manifest["source"] == target.name
    if set(manifest.loc[own, "original_id"]) != set(target.manifest["image_id"]) or both.classes != target.classes:
        raise MpoxError(f"{both.name} does not hold all pictures of {target.name} in the classes {', '.join(target.classes)}.")
    added = manifest[~own & ~manifest["group_id"].isin(manifest.loc[own, "group_id"])]
    if added.empty:
        raise MpoxError(f"{both.name} has no picture that {target.name} does not share: there is nothing to add.")
    split = make_splits(target.manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    split["image_id"] = f"{target.name}/" + split["image_id"]
    extra = pd.DataFrame({"image_id": added["image_id"], "group_id": added["group_id"], "role": "train", "inner_fold": -1})
    parts = []
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        parts += [rows, extra.assign(repeat=repeat, fold=fold)[rows.columns]]
    return pd.concat(parts, ignore_index=True)


def cross_validate_mixed(
    store: RunStore | RecordedStore,
    target: Dataset,
    both: Dataset,
    model: ModelConfig,
    protocol: str = "source",
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Out-of-fold predictions of the target's pictures by models that also learn from another data set.

    Parameters
    ----------
    store : RunStore or RecordedStore
    target, both, protocol, n_folds, n_repeats, seed
        See `mixed_splits`.
    model : ModelConfig

    Returns
    -------
    DataFrame
        As `mpox.cross_validate` gives it for the target: its image ids and honest groups. The runs are kept under ``mixed``.

    Raises
    ------
    MpoxError
        See `mixed_splits`.
    """
    split = mixed_splits(target, both, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    table = predict_splits(store, both, "mixed", split, model)
    table["image_id"] = table["image_id"].str.removeprefix(f"{target.name}/")
    return table.assign(group_id=table["image_id"].map(target.groups), dataset=target.name)
