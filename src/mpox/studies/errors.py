"""Which images are wrong, and what is known of them."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.phantom import read_truths
from mpox.data.skintone import CLASSES
from mpox.models.config import ModelConfig
from mpox.runs.recorded import Store
from mpox.stats.metrics import class_names, codes_of, groups_of, probabilities_of, weighted_confusion
from mpox.stats.resample import bootstrap, ratio
from mpox.stats.slices import NO_ANGLE


def error_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row an image of `mpox.cross_validate`, its repeats averaged, the most confident mistakes first.

    ``image_id``, ``group_id``, ``fold`` (in the first repeat), ``label``, ``predicted`` (the class of the highest mean
    probability), ``confidence`` (that probability), ``p_true`` (mean probability of the true class), ``error`` (share of the
    repeats in which the most probable class was not the true one, 0 to 1), ``wrong`` (``predicted`` is not ``label``), and the
    mean ``p_<class>``; sorted by ``wrong``, then by ``confidence``, both descending.
    """
    classes = np.array(class_names(predictions))
    columns = [f"p_{label}" for label in classes]
    missed = probabilities_of(predictions).argmax(axis=1) != codes_of(predictions)
    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    means = predictions.assign(error=missed).groupby("image_id")[["error", *columns]].mean()
    table = first.set_index("image_id")[["group_id", "fold", "label"]].join(means).reset_index()
    p = table[columns].to_numpy()
    table = table.assign(
        predicted=classes[p.argmax(axis=1)], confidence=p.max(axis=1), p_true=p[np.arange(len(p)), codes_of(table)]
    )
    table["wrong"] = table["label"] != table["predicted"]
    about = ["image_id", "group_id", "fold", "label", "predicted", "confidence", "p_true", "error", "wrong"]
    table = table[about + columns]
    return table.sort_values(["wrong", "confidence", "image_id"], ascending=[False, False, True], ignore_index=True)


def confusion_table(predictions: pd.DataFrame, **resampling) -> pd.DataFrame:
    """Each cell of the confusion matrix as a share of its true class, with a 95 % interval from resampling groups.

    One row a cell, row by row: ``true``, ``predicted``, ``images`` (mean over the repeats), ``share`` (0 to 1), ``low``,
    ``high``. A replicate without an image of the true class is left out of the interval.
    """
    classes = class_names(predictions)
    repeats = [part.sort_values("image_id") for _, part in predictions.groupby("repeat")]
    guesses = [(codes_of(part), probabilities_of(part).argmax(axis=1)) for part in repeats]

    def cells(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = np.mean([weighted_confusion(*guess, len(classes), weights) for guess in guesses], axis=0)
        return {"images": counts, "share": ratio(counts, counts.sum(axis=2, keepdims=True))}

    of_true = (guesses[0][0][:, None] == np.arange(len(classes)))[..., None]
    found = bootstrap(cells, groups_of(repeats[0]), among={"share": of_true}, **resampling)
    columns = {"images": found["images"].estimate, **found["share"].row()}
    table = pd.DataFrame(product(classes, classes), columns=["true", "predicted"])
    return table.assign(**{name: values.ravel() for name, values in columns.items()}).rename(columns={"estimate": "share"})


def sibling_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Whether mistakes of `error_table` come by group: how often an image is wrong when another one of its group is.

    ``a sibling is`` (``wrong`` or ``right``), ``pairs`` (ordered, within a group), ``share wrong`` (0 to 1).
    """
    pairs = errors.merge(errors, on="group_id", suffixes=("", "_sibling"))
    pairs = pairs[pairs["image_id"] != pairs["image_id_sibling"]]
    found = pairs.groupby("wrong_sibling")["wrong"].agg(["size", "mean"]).reset_index()
    found["wrong_sibling"] = found["wrong_sibling"].map({True: "wrong", False: "right"})
    return found.set_axis(["a sibling is", "pairs", "share wrong"], axis=1)


def image_metadata(data: Dataset, quality: pd.DataFrame, tone: pd.DataFrame, *more: pd.DataFrame) -> pd.DataFrame:
    """What is known of every image of a data set, one column for each thing that slices can be cut by.

    ``quality`` and ``tone`` are from `mpox.audit.quality.image_quality` and `skin_tone`; all other columns of ``more``, tables
    with ``image_id``, join in. Indexed by ``image_id``: ``class``, ``source``, ``images of the group``, ``has a copy``, ``skin
    tone``, ``lightness``, ``contrast``, ``blur``, ``text``, ``border``, and the columns of ``more``.
    """
    manifest = data.manifest.set_index("image_id")
    sizes = data.groups.map(data.groups.value_counts())
    copied = data.audit.pairs[["image_id_a", "image_id_b"]].to_numpy().ravel() if data.audit else []
    quality = quality.set_index("image_id").reindex(manifest.index)
    tone = tone.set_index("image_id").reindex(manifest.index)
    table = pd.DataFrame(
        {
            "class": manifest["label"],
            "source": manifest["source"],
            "images of the group": sizes.reindex(manifest.index).map(lambda n: str(n) if n < 3 else "3 or more"),
            "has a copy": manifest.index.isin(copied),
            "skin tone": pd.Categorical(tone["ita_class"].fillna(NO_ANGLE), [*CLASSES, NO_ANGLE]),
            "lightness": quality["lightness"],
            "contrast": quality["contrast"],
            "blur": quality["blur"],
            "text": quality["text_lines"] > 0,
            "border": quality["border"] > 0,
        }
    )
    for extra in more:
        table = table.join(extra.set_index("image_id"))
    return table


#: Raised by one whenever the clusters of unchanged features change.
VERSION = 1
N_COMPONENTS = 50
N_CLUSTERS = 8


def feature_clusters(features: np.ndarray, *, n_clusters: int = N_CLUSTERS, seed: int = 0) -> np.ndarray:
    """Clusters of features (shape (n, d)) by k-means on their first principal components; no label is seen.

    Int, from 1, the largest first, in the order of the features.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    if len(features) < n_clusters:
        raise MpoxError(f"There cannot be {n_clusters} clusters of {len(features)} images: ask for fewer, or give more images.")
    with threadpool_limits(1):  # sums in one order, whatever the number of cores
        pca = PCA(min(N_COMPONENTS, *features.shape), svd_solver="full", random_state=seed)
        labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(pca.fit_transform(features.astype(np.float64)))
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels] + 1


def all_metadata(
    store: Store, datasets: Sequence[Dataset], model: ModelConfig, *, n_clusters: int = N_CLUSTERS, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """What slices can be cut by, by data set: `image_metadata`, its tables read from the store or computed where missing.

    Parameters
    ----------
    store : Store
    datasets : sequence of Dataset
        Those whose images are put into clusters together.
    model : ModelConfig
        Its unchanged backbone, at its size, gives the features of the clusters.
    n_clusters, seed : int
        See `feature_clusters`.

    Returns
    -------
    dict of str to DataFrame
        With ``cluster`` (str); for a phantom that is on this machine also ``lesion_count`` and ``lesion_fraction``.
    """
    from mpox.audit import quality
    from mpox.data import skintone
    from mpox.models.features import features

    whole = pd.concat([data.manifest for data in datasets], ignore_index=True)
    spec = {"data": [data.hash for data in datasets], "backbone": model.backbone, "size": model.image_size}
    clusters = store.table(
        "embedding",
        {**spec, "clusters": n_clusters, "version": VERSION, "seed": seed},
        lambda: whole[["image_id"]].assign(cluster=feature_clusters(features(whole, model), n_clusters=n_clusters, seed=seed)),
    )[["image_id", "cluster"]].astype({"cluster": str})
    known = {}
    for data in datasets:
        measured = [
            store.table(name, {"data": data.hash, "version": version}, partial(compute, data.manifest))
            for name, version, compute in (
                ("image-quality", quality.QUALITY_VERSION, quality.image_quality),
                ("skin-tone", skintone.SKIN_TONE_VERSION, quality.skin_tone),
            )
        ]
        more = [clusters[(whole["source"] == data.name).to_numpy()]]
        if data.is_phantom and data.has_pictures:
            truths = read_truths(Path(data.manifest["path"].iloc[0]).parents[1])
            more.append(truths[["image_id", "lesion_count", "lesion_fraction"]])
        known[data.name] = image_metadata(data, *measured, *more)
    return known
