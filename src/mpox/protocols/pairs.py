"""Splits over two data sets: trained on one, tested on the other, or trained on both."""

from dataclasses import replace

import pandas as pd

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.protocols.splits import make_splits

#: Task to how a label is changed; ``None`` drops the image, and a label that is not named becomes ``Others``.
TASKS: dict[str, dict[str, str | None]] = {"mpox_or_other_rash": {"Mpox": "Mpox", "Normal": None}}


def combine(datasets: list[Dataset], groups: pd.DataFrame, *, task: str = "mpox_or_other_rash") -> Dataset:
    """One data set of several.

    Parameters
    ----------
    datasets : list of Dataset
        Of different names.
    groups : DataFrame
        ``dataset``, ``image_id``, ``group_id`` of every image: the honest groups of a *joint* audit
        (``store.audit([...]).groups``). Groups found in each data set alone would not know what the sets share.
    task : str
        See `TASKS`: ``mpox_or_other_rash`` leaves the classes Mpox and Others (every other rash) and drops Normal.

    Returns
    -------
    Dataset
        Named like ``msld-v1+msid``. ``image_id`` and ``patient_id`` begin with the data set's name and a slash; ``original_id``
        and ``source`` say where an image comes from.

    Raises
    ------
    MpoxError
        If the task is unknown, two data sets have one name, an image has no group, or fewer than two classes are left.
    """
    if task not in TASKS:
        raise MpoxError(f"Unknown task '{task}': choose one of {', '.join(TASKS)}.")
    names = [data.name for data in datasets]
    if len(set(names)) < len(names) or len(names) < 2:
        raise MpoxError(f"Data sets to be combined need different names, at least two, not {', '.join(names)}: rename a folder.")
    manifest = pd.concat([data.manifest for data in datasets], ignore_index=True)
    manifest = manifest.assign(original_id=manifest["image_id"], image_id=manifest["source"] + "/" + manifest["image_id"])
    manifest["patient_id"] = (manifest["source"] + "/" + manifest["patient_id"]).astype("string")
    manifest["label"] = manifest["label"].map(lambda label: TASKS[task].get(label, "Others"))
    manifest = manifest[manifest["label"].notna()].sort_values("image_id", ignore_index=True)
    if manifest["label"].nunique() < 2:
        raise MpoxError(f"{'+'.join(names)} has fewer than two classes under the task '{task}': combine other data sets.")
    joint = pd.Series(groups["group_id"].to_numpy(), index=groups["dataset"] + "/" + groups["image_id"])
    manifest["group_id"] = manifest["image_id"].map(joint)
    lost = manifest.loc[manifest["group_id"].isna(), "image_id"]
    if len(lost):
        raise MpoxError(f"{len(lost)} images have no group, {lost.iloc[0]} for one: audit {', '.join(names)} together.")
    return Dataset(
        name="+".join(names),
        manifest=manifest,
        groups=pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id"),
        is_phantom=any(data.is_phantom for data in datasets),
        has_pictures=all(data.has_pictures for data in datasets),
    )


def part_of(both: Dataset, name: str) -> Dataset:
    """One of the data sets of a combined one by itself: with the classes of the task and the groups of the joint audit.

    Parameters
    ----------
    both : Dataset
        From `combine`.
    name : str

    Returns
    -------
    Dataset
        Of that name, with its own ``image_id`` and ``patient_id``.

    Raises
    ------
    MpoxError
        If there is no such part.
    """
    manifest = both.manifest[both.manifest["source"] == name]
    if manifest.empty:
        raise MpoxError(f"The data set '{name}' is not in {both.name}: combine it first.")
    own = {"image_id": manifest["original_id"], "patient_id": manifest["patient_id"].str.removeprefix(f"{name}/")}
    manifest = manifest.assign(**own).sort_values("image_id", ignore_index=True)
    groups = pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return replace(both, name=name, manifest=manifest, groups=groups)


def mixed_splits(
    target: Dataset, both: Dataset, protocol: str = "source", *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> pd.DataFrame:
    """The folds of one data set, with the pictures of another in every training part.

    The test and inner folds are those that `make_splits` gives the target alone, so that predictions are paired with
    those of a model that was trained without the other set. Every choice is still made on the target's inner folds: the added
    pictures are always learnt from and never held out. A picture of the other set whose group has any picture of the target is
    left out: nothing that is tested, or held out, has a copy in training that the audit found.

    Parameters
    ----------
    target : Dataset
        Whose pictures are tested.
    both : Dataset
        From `mpox.protocols.pairs.combine`, with the groups of a joint audit; its classes must be the target's.
    protocol, n_folds, n_repeats, seed
        See `mpox.protocols.splits.make_splits`.

    Returns
    -------
    DataFrame
        As `make_splits` gives it, over the ids of ``both``; an added picture has the role ``train`` and the inner
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
