"""Groups: sets of images that must stay together, because they show the same person or are the same photograph."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mpox._core import MpoxError


def connected(names: Iterable[str], left: Iterable[str], right: Iterable[str]) -> np.ndarray:
    """Connected components of a graph with these (distinct) nodes, and links from `left` to `right`.

    Returns one group id a node, in the order of `names`: the name that sorts first in its group.

    Examples
    --------
    >>> connected(["a", "b", "c"], ["c"], ["b"]).tolist()
    ['a', 'b', 'b']
    """
    nodes = pd.Index(names)
    ends = nodes.get_indexer(pd.Index(left)), nodes.get_indexer(pd.Index(right))
    graph = coo_matrix((np.ones(len(ends[0])), ends), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1]
    first = pd.Series(nodes).groupby(component).min()
    return first.to_numpy(dtype=object)[component]


def same_value_links(names: pd.Series, values: pd.Series) -> tuple[list[str], list[str]]:
    """Links between the names that have the same value; a missing value links nothing."""
    known = pd.DataFrame({"name": names.to_numpy(), "value": values.to_numpy()}).dropna()
    first = known.groupby("value")["name"].transform("first")
    return first.tolist(), known["name"].tolist()


def patient_groups(manifest: pd.DataFrame) -> pd.Series:
    """One group id an image, in the manifest's order; an image without a patient id is a group by itself.

    Raises
    ------
    MpoxError
        If the data set has no patient ids: then images of one patient cannot be kept together.
    """
    if manifest["patient_id"].isna().all():
        raise MpoxError(
            f"The data set '{manifest['source'].iloc[0]}' has no patient ids, so the protocol 'patient' is not possible: "
            "use 'source' or 'random_image'."
        )
    groups = connected(manifest["image_id"], *same_value_links(manifest["image_id"], manifest["patient_id"]))
    return pd.Series(groups, index=manifest.index, name="group_id")


def source_groups(manifest: pd.DataFrame) -> pd.Series:
    """Groups of the same person or the same photograph, as the audit found them; an `MpoxError` if it was not audited."""
    if "group_id" not in manifest:
        raise MpoxError("This manifest has no group_id: load the data set through a store (`open_store().dataset(name)`).")
    return manifest["group_id"].astype(str)
