"""A data set as the study sees it: a manifest, the honest groups, and what is known of it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mpox._core import MpoxError
from mpox.data.groups import source_groups
from mpox.data.manifest import manifest_hash


@dataclass(frozen=True)
class Dataset:
    """A data set as the study sees it."""

    name: str
    manifest: pd.DataFrame  # sorted by ``image_id``; with the audit's ``group_id``
    groups: pd.Series  # the honest groups (same person or same photograph), indexed by ``image_id``; intervals resample these
    is_phantom: bool
    has_pictures: bool  # whether the images are on this machine
    positive: str = "Mpox"  # the class that is the finding
    audit: Any = None  # the `mpox.audit.Audit` of this data set alone
    audited: tuple[str, ...] = ()  # the data sets whose common audit gave the groups, this one among them

    @property
    def classes(self) -> list[str]:
        """The class labels in the order of the probability columns."""
        return sorted(self.manifest["label"].unique())

    @property
    def hash(self) -> str:
        """See `mpox.data.manifest.manifest_hash`."""
        return manifest_hash(self.manifest)


def make_dataset(name: str, audit: Any, together: Any, *, is_phantom: bool, has_pictures: bool) -> Dataset:
    """The data set of its own `mpox.audit.Audit` and the groups of a common one; an `MpoxError` if it has no class Mpox."""
    groups = together.groups[together.groups["dataset"] == name].set_index("image_id")["group_id"]
    manifest = audit.images.drop(columns="dataset").assign(group_id=audit.images["image_id"].map(groups).to_numpy())
    if "Mpox" not in set(manifest["label"]):
        raise MpoxError(f"The data set '{name}' has no class Mpox (or Monkeypox, MKP): name the folder of that class so.")
    groups = pd.Series(source_groups(manifest).to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return Dataset(name, manifest, groups, is_phantom, has_pictures, audit=audit, audited=tuple(together.datasets))
