"""A map of the pictures: frozen features laid out in the plane so that like lies by like, and cut into clusters."""

import numpy as np
import pandas as pd

from mpox.errors import MpoxError

#: Raised by one whenever the map of unchanged features changes.
VERSION = 1
N_COMPONENTS = 50
N_CLUSTERS = 8
PERPLEXITY = 30.0


def embedding_map(features: np.ndarray, *, n_clusters: int = N_CLUSTERS, seed: int = 0) -> pd.DataFrame:
    """Features in the plane by t-SNE (van der Maaten and Hinton 2008), and their clusters by k-means.

    Both see the features' first principal components, not their labels. The layout starts from the first two of them, which keeps
    more of the large distances than a random start (Kobak and Berens 2019), and makes it the same for the same features.

    Parameters
    ----------
    features : ndarray of float, shape (n, d)
        From `mpox.features.features`.
    n_clusters : int
        From 1 to n.
    seed : int

    Returns
    -------
    DataFrame
        ``x``, ``y`` (rounded to 0.01; their unit means nothing), ``cluster`` (int, from 1, the largest first), in the order of
        the features.

    Raises
    ------
    MpoxError
        If there are fewer than four pictures, or fewer than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < max(4, n_clusters):
        raise MpoxError(
            f"A map of {len(features)} pictures in {n_clusters} clusters is not possible: give at least 4 and {n_clusters}."
        )
    with threadpool_limits(1):  # sums in one order, whatever the number of cores
        components = PCA(min(N_COMPONENTS, *features.shape), svd_solver="full", random_state=seed).fit_transform(
            features.astype(np.float64)
        )
        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(components)
        labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(components)
    order = pd.Series(labels).value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable").index
    number = {label: place for place, label in enumerate(order, start=1)}
    x, y = np.round(places.astype(np.float64), 2).T
    return pd.DataFrame({"x": x, "y": y, "cluster": [number[label] for label in labels]})


def map_table(place: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """A map with what the model said of each picture, for `mpox.mapview.MapView` and the figure.

    Parameters
    ----------
    place : DataFrame
        ``dataset``, ``image_id``, ``x``, ``y``.
    errors : DataFrame
        From `mpox.errortable.error_table`, with ``dataset``.

    Returns
    -------
    DataFrame
        ``image_id``, ``x``, ``y``, ``class``, ``predicted``, ``probability`` (of the predicted class), ``outcome`` (``right`` or
        ``wrong``), ``source`` (the data set); right ones first, so that mistakes are drawn on top.
    """
    columns = ["dataset", "image_id", "label", "predicted", "confidence", "wrong"]
    table = place.merge(errors[columns], on=["dataset", "image_id"], validate="1:1")
    table = table.assign(outcome=table["wrong"].map({True: "wrong", False: "right"}))
    table = table.sort_values("wrong", kind="stable", ignore_index=True)
    table = table.rename(columns={"label": "class", "confidence": "probability", "dataset": "source"})
    return table[["image_id", "x", "y", "class", "predicted", "probability", "outcome", "source"]]
