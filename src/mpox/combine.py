"""Two data sets as one, with the classes both have; and what a model of one is worth on the other."""

from dataclasses import replace

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.metrics import N_BOOTSTRAP, evaluate
from mpox.store import Dataset

#: Task to how a label is changed; ``None`` drops the image, and a label that is not named becomes ``Others``.
TASKS: dict[str, dict[str, str | None]] = {"mpox_or_other_rash": {"Mpox": "Mpox", "Normal": None}}
SUBSETS = ("all images", "without shared", "shared only")


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


def external_metrics(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Metrics of an external validation three times: on all test images, without those that are shared, and on those only.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.experiment.validate_externally`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``subset`` (see `SUBSETS`), ``images``, ``groups``, ``positives``, the columns of `mpox.evaluate`, and ``reason``: why the
        metrics are missing, where a subset lacks one of the two sides; else empty.
    """
    keep = {
        "all images": np.ones(len(predictions), dtype=bool),
        "without shared": ~predictions["shared"].to_numpy(dtype=bool),
        "shared only": predictions["shared"].to_numpy(dtype=bool),
    }
    names = evaluate(predictions, positive=positive, n_bootstrap=0)[["metric", "class"]]
    tables = []
    for subset in SUBSETS:
        part = predictions[keep[subset]]
        positives = int((part["label"] == positive).sum())
        reason = f"no {positive} image" if not positives else f"only {positive} images" if positives == len(part) else ""
        reason = "no image" if part.empty else reason
        if reason:
            table = names.assign(estimate=np.nan, low=np.nan, high=np.nan)
        else:
            table = evaluate(part, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
        about = {"subset": subset, "images": len(part), "groups": part["group_id"].nunique(), "positives": positives}
        tables.append(table.assign(**about, reason=reason)[[*about, *table.columns, "reason"]])
    return pd.concat(tables, ignore_index=True)
