"""Splits over two data sets: trained on one, tested on the other, or trained on both."""

from dataclasses import replace

import pandas as pd

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.protocols.splits import make_splits


def combine(datasets: list[Dataset]) -> Dataset:
    """One data set of several, with the classes that all can pose: Mpox and Others, without Normal.

    They must have been loaded together (``store.datasets([...])``): groups of each alone do not know what the sets share. The
    data set is named like ``msld-v1+msid``; ``image_id`` and ``patient_id`` begin with the data set's name and a slash;
    ``original_id`` and ``source`` say where an image comes from.
    """
    names = [data.name for data in datasets]
    if len(set(names)) < len(names) or len(names) < 2:
        raise MpoxError(f"Data sets to be combined need different names, at least two, not {', '.join(names)}: rename a folder.")
    if not all(set(names) <= set(data.audited) for data in datasets):
        raise MpoxError(f"The groups of {', '.join(names)} are not of one audit: load them together, `store.datasets([...])`.")
    manifest = pd.concat([data.manifest for data in datasets], ignore_index=True)
    manifest = manifest.assign(original_id=manifest["image_id"], image_id=manifest["source"] + "/" + manifest["image_id"])
    manifest["patient_id"] = (manifest["source"] + "/" + manifest["patient_id"]).astype("string")
    manifest = manifest[manifest["label"] != "Normal"].sort_values("image_id", ignore_index=True)
    manifest["label"] = manifest["label"].where(manifest["label"] == "Mpox", "Others")
    if manifest["label"].nunique() < 2:
        raise MpoxError(f"{'+'.join(names)} has fewer than two classes, Mpox and other rashes: combine other data sets.")
    return Dataset(
        name="+".join(names),
        manifest=manifest,
        groups=_groups_of(manifest),
        is_phantom=any(data.is_phantom for data in datasets),
        has_pictures=all(data.has_pictures for data in datasets),
    )


def part_of(both: Dataset, name: str) -> Dataset:
    """One of the data sets of a combined one by itself: its own ids, the classes of the task, the groups of the joint audit."""
    manifest = both.manifest[both.manifest["source"] == name]
    if manifest.empty:
        raise MpoxError(f"The data set '{name}' is not in {both.name}: combine it first.")
    own = {"image_id": manifest["original_id"], "patient_id": manifest["patient_id"].str.removeprefix(f"{name}/")}
    manifest = manifest.assign(**own).sort_values("image_id", ignore_index=True)
    return replace(both, name=name, manifest=manifest, groups=_groups_of(manifest))


def _groups_of(manifest: pd.DataFrame) -> pd.Series:
    return pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")


def mixed_splits(
    target: Dataset, both: Dataset, protocol: str = "source", *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> pd.DataFrame:
    """The folds of one data set, with the images of another in every training part.

    Test and inner folds are those that `make_splits` gives the target alone, so that predictions pair with those of a model
    trained without the other set. An image of the other set whose group has any image of the target is left out.

    Parameters
    ----------
    target, both : Dataset
        Whose images are tested, and what `combine` made of it and another, with the same classes.
    protocol, n_folds, n_repeats, seed
        See `mpox.protocols.splits.make_splits`.

    Returns
    -------
    DataFrame
        Over the ids of ``both``; an added image has the role ``train`` and the inner fold -1 (never held out).
    """
    manifest = both.manifest
    own = manifest["source"] == target.name
    if set(manifest.loc[own, "original_id"]) != set(target.manifest["image_id"]) or both.classes != target.classes:
        raise MpoxError(f"{both.name} does not hold all images of {target.name} in the classes {', '.join(target.classes)}.")
    added = manifest[~own & ~manifest["group_id"].isin(manifest.loc[own, "group_id"])]
    if added.empty:
        raise MpoxError(f"{both.name} has no image that {target.name} does not share: there is nothing to add.")
    split = make_splits(target.manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    split["image_id"] = f"{target.name}/" + split["image_id"]
    extra = split[["repeat", "fold"]].drop_duplicates().merge(added[["image_id", "group_id"]], how="cross")
    extra = extra.assign(role="train", inner_fold=-1)
    return pd.concat([split, extra[split.columns]], ignore_index=True)
