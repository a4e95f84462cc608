"""Groups: sets of images that must stay together, because they show the same patient or are the same photograph."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mpox.errors import MpoxError


def link_groups(manifest: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Connected components of the images over 'has the same value in one of these columns'.

    Parameters
    ----------
    manifest : DataFrame
        The manifest (see `mpox.manifest.build_manifest`).
    keys : list of str
        Columns of the manifest; missing values link nothing.

    Returns
    -------
    Series of str
        One group id an image, in the manifest's order: the ``image_id`` that sorts first in the group.

    Examples
    --------
    >>> frame = pd.DataFrame({"image_id": ["a", "b", "c"], "patient_id": ["P1", "P1", None]})
    >>> link_groups(frame, ["patient_id"]).tolist()
    ['a', 'a', 'c']
    """
    n = len(manifest)
    left, right = [], []
    for key in keys:
        codes = pd.factorize(manifest[key], use_na_sentinel=True)[0]
        known = np.flatnonzero(codes >= 0)
        _, first = np.unique(codes[known], return_index=True)
        left.append(known)
        right.append(known[first][codes[known]] if len(known) else known)
    left, right = np.concatenate(left), np.concatenate(right)
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    ids = manifest["image_id"].reset_index(drop=True)
    names = ids.groupby(component).min()
    return pd.Series(names.to_numpy()[component], index=manifest.index, name="group_id")


def patient_groups(manifest: pd.DataFrame) -> pd.Series:
    """Groups of the same patient, as the file names tell it.

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
    return link_groups(manifest, ["patient_id"])


def source_groups(manifest: pd.DataFrame) -> pd.Series:
    """Groups of the same patient or the same photograph.

    The same photograph means here: the same file, or the same decoded pixels. Crops, mirrored and re-coloured copies are not
    found by this.
    """
    return link_groups(manifest, ["patient_id", "sha256", "pixel_sha256"])


def exact_pairs(manifest: pd.DataFrame) -> pd.DataFrame:
    """Pairs of images with identical decoded pixels.

    Returns
    -------
    DataFrame
        ``image_id_a``, ``image_id_b``, ``label_a``, ``label_b``, ``patient_id_a``, ``patient_id_b``; each pair
        once, ``a`` < ``b``.
    """
    columns = ["image_id", "label", "patient_id", "pixel_sha256"]
    pairs = manifest[columns].merge(manifest[columns], on="pixel_sha256", suffixes=("_a", "_b"))
    pairs = pairs[pairs["image_id_a"] < pairs["image_id_b"]].drop(columns="pixel_sha256")
    return pairs.sort_values(["image_id_a", "image_id_b"], ignore_index=True)
