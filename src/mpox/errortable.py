"""Which pictures a model gets wrong, how often and how surely, and which class is taken for which."""

import numpy as np
import pandas as pd

from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights, weighted_confusion


def _classes(predictions: pd.DataFrame) -> list[str]:
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def error_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a picture, its repeats averaged, the most confident mistakes first.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`.

    Returns
    -------
    DataFrame
        ``image_id``, ``group_id``, ``fold`` (in the first repeat), ``label``, ``predicted`` (the class of the highest mean
        probability), ``confidence`` (that probability), ``p_true`` (mean probability of the true class), ``error`` (share of the
        repeats in which the most probable class was not the true one, 0 to 1), ``wrong`` (``predicted`` is not ``label``), and
        the mean ``p_<class>``; sorted by ``wrong``, then by ``confidence``, both descending.
    """
    classes = np.array(_classes(predictions))
    columns = [f"p_{label}" for label in classes]
    missed = classes[predictions[columns].to_numpy().argmax(axis=1)] != predictions["label"].to_numpy()
    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    about = first.set_index("image_id")[["group_id", "fold", "label"]]
    means = predictions.assign(error=missed).groupby("image_id")[["error", *columns]].mean()
    table = about.join(means).reset_index()
    probabilities = table[columns].to_numpy()
    table = table.assign(
        predicted=classes[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        p_true=probabilities[np.arange(len(table)), pd.Index(classes).get_indexer(table["label"])],
    )
    table["wrong"] = table["label"] != table["predicted"]
    first_columns = ["image_id", "group_id", "fold", "label", "predicted", "confidence", "p_true", "error", "wrong"]
    table = table[first_columns + columns]
    return table.sort_values(["wrong", "confidence", "image_id"], ascending=[False, False, True], ignore_index=True)


def confusion_table(predictions: pd.DataFrame, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """Each cell of the confusion matrix as a share of its true class, with a 95 % interval from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`; the repeats are averaged.
    n_bootstrap, seed : int
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a cell, row by row: ``true``, ``predicted``, ``images`` (mean over the repeats), ``share`` (0 to 1), ``low``,
        ``high``. Where a replicate holds no image of the true class, it has no share and is left out of the interval.
    """
    classes = _classes(predictions)
    repeats = [part.sort_values("image_id") for _, part in predictions.groupby("repeat")]
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    parts = []
    for part in repeats:
        y = pd.Categorical(part["label"], categories=classes).codes.astype(np.int64)
        guessed = part[[f"p_{label}" for label in classes]].to_numpy().argmax(axis=1)
        parts.append(weighted_confusion(y, guessed, len(classes), weights))
    counts = np.mean(parts, axis=0)
    totals = counts.sum(axis=2, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    rows = [
        (truth, guess, counts[0, i, j], *with_percentiles(shares[:, i, j]))
        for i, truth in enumerate(classes)
        for j, guess in enumerate(classes)
    ]
    return pd.DataFrame(rows, columns=["true", "predicted", "images", "share", "low", "high"])


def sibling_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Whether mistakes come by group: how often a picture is wrong when another picture of its group is.

    Parameters
    ----------
    errors : DataFrame
        From `error_table`.

    Returns
    -------
    DataFrame
        ``a sibling is`` (``wrong`` or ``right``), ``pairs`` (ordered, within a group), ``share wrong`` (0 to 1); no row where
        there is no such pair.
    """
    pairs = errors.merge(errors, on="group_id", suffixes=("", "_sibling"))
    pairs = pairs[pairs["image_id"] != pairs["image_id_sibling"]]
    found = pairs.groupby("wrong_sibling")["wrong"].agg(["size", "mean"]).reset_index()
    found["wrong_sibling"] = found["wrong_sibling"].map({True: "wrong", False: "right"})
    return found.set_axis(["a sibling is", "pairs", "share wrong"], axis=1)
