"""Which images are wrong, and where they lie among the others."""

from itertools import product

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.skintone import CLASSES
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
    with ``image_id``, join in. Indexed by ``image_id``: ``class``, ``source``, ``pictures of the group``, ``has a copy``, ``skin
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
            "pictures of the group": sizes.reindex(manifest.index).map(lambda n: str(n) if n < 3 else "3 or more"),
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


#: Raised by one whenever the map of unchanged features changes.
VERSION = 1
N_COMPONENTS = 50
N_CLUSTERS = 8
PERPLEXITY = 30.0


def embedding_map(features: np.ndarray, *, n_clusters: int = N_CLUSTERS, seed: int = 0) -> pd.DataFrame:
    """Features in the plane by t-SNE (van der Maaten and Hinton 2008), and their clusters by k-means.

    Both see the first principal components of the features (shape (n, d)), not their labels. The layout starts from the first two
    of them, which keeps more of the large distances than a random start (Kobak and Berens 2019), and makes it the same for the
    same features. ``x``, ``y`` (rounded to 0.01), ``cluster`` (int, from 1, the largest first), in the order of the features.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < max(4, n_clusters):
        raise MpoxError(
            f"A map of {len(features)} images in {n_clusters} clusters is not possible: give at least 4 and {n_clusters}."
        )
    with threadpool_limits(1):  # sums in one order, whatever the number of cores
        pca = PCA(min(N_COMPONENTS, *features.shape), svd_solver="full", random_state=seed)
        components = pca.fit_transform(features.astype(np.float64))
        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(components)
        labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(components)
    order = np.argsort(-np.bincount(labels), kind="stable")
    x, y = np.round(places.astype(np.float64), 2).T
    return pd.DataFrame({"x": x, "y": y, "cluster": np.argsort(order)[labels] + 1})


def map_table(place: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """A map (``dataset``, ``image_id``, ``x``, ``y``) with what the model said of each image (`error_table` with ``dataset``).

    ``image_id``, ``x``, ``y``, ``class``, ``predicted``, ``probability`` (of the predicted class), ``outcome`` (``right`` or
    ``wrong``), ``source`` (the data set); right ones first, so that mistakes are drawn on top.
    """
    columns = ["dataset", "image_id", "label", "predicted", "confidence", "wrong"]
    table = place.merge(errors[columns], on=["dataset", "image_id"], validate="1:1")
    table = table.assign(outcome=table["wrong"].map({True: "wrong", False: "right"}))
    table = table.sort_values("wrong", kind="stable", ignore_index=True)
    table = table.rename(columns={"label": "class", "confidence": "probability", "dataset": "source"})
    return table[["image_id", "x", "y", "class", "predicted", "probability", "outcome", "source"]]
