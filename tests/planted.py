"""Phantoms as data sets, for tests of what a planted truth must do to a model: with the corner mark, and without."""

import functools
from pathlib import Path

import pandas as pd

from mpox.data.dataset import Dataset
from mpox.data.groups import connected, same_value_links
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, ensure_phantom


@functools.cache
def planted(*, corner_mark: bool, n_patients: int = 100, seed: int = 4, size: int = 96) -> Dataset:
    """A phantom without copies, grouped by patient; drawn once a session, into its cache."""
    spec = PhantomSpec(n_patients=n_patients, seed=seed, size=size, copies=0, label_conflicts=0, corner_mark=corner_mark)
    return as_dataset(ensure_phantom(spec, jobs=1), patient=r"/(P\d+)_")


def as_dataset(folder: Path, *, patient: str = "(.*)") -> Dataset:
    """A folder of pictures as a data set, grouped by what the pattern finds in the image's id; it counts as a phantom."""
    manifest = build_manifest(str(folder)).assign(source="phantom")
    patients = manifest["image_id"].str.extract(patient, expand=False)
    manifest["group_id"] = connected(manifest["image_id"], *same_value_links(manifest["image_id"], patients))
    groups = pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return Dataset("phantom", manifest, groups, is_phantom=True, has_pictures=True)
