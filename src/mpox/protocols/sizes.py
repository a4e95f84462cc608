"""Splits of the learning curve: the same test images, with ever fewer groups in training.

Of each fold's training part a random share of the *groups* (what the protocol keeps together) is kept, drawn within the classes
and nested: what a fraction keeps, a larger one keeps too. Inner folds are made anew, by group, on what is kept. At fraction 1 the
split is the protocol's own, row for row.
"""

import numpy as np
import pandas as pd

from mpox._core import MpoxError, TooFewImages
from mpox.protocols.splits import get_protocol, inner_folds, make_splits

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def learning_splits(
    manifest: pd.DataFrame, protocol: str, *, fractions=FRACTIONS, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> dict[float, pd.DataFrame]:
    """The split table of each fraction (above 0 and up to 1) of the training groups of each class.

    Parameters (no augmented protocol) and tables are as of `mpox.protocols.splits.make_splits`; training images that are left out
    have no row. A group of several labels counts for the one most of its images have. `TooFewImages` if a
    fraction leaves a class too few groups.
    """
    fractions = sorted({float(fraction) for fraction in fractions})
    if not fractions or not fractions[0] > 0 or fractions[-1] > 1:
        raise MpoxError(f"Fractions are shares above 0 and up to 1, at least one of them, not {fractions}.")
    if get_protocol(protocol).augmented:
        raise MpoxError(f"A learning curve counts original images: use another protocol than '{protocol}'.")
    split = make_splits(manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    labels = manifest.set_index("image_id")["label"]
    tables: dict[float, list[pd.DataFrame]] = {fraction: [] for fraction in fractions if fraction < 1}
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]) if tables else ():
        train = (rows["role"] == "train").to_numpy()
        label = rows["image_id"].map(labels).to_numpy(dtype=str)
        group = rows["group_id"].to_numpy(dtype=str)
        places = _places(group[train], label[train], np.random.default_rng([seed, repeat, fold]))
        for fraction, parts in tables.items():
            kept = places.index[places["place"] < np.floor(fraction * places["of"] + 0.5)]
            chosen = train & np.isin(group, kept)
            inner = np.full(len(rows), -1)
            inner[chosen] = _inner(label[chosen], group[chosen], set(label), fraction, seed * 1000 + repeat)
            parts.append(rows.assign(inner_fold=inner)[~train | chosen])
    found = {fraction: pd.concat(parts, ignore_index=True) for fraction, parts in tables.items()}
    return found | ({1.0: split} if 1.0 in fractions else {})


def _places(group: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """One row a group (the index): its class, its random place in it (from 0), and ``of``, how many groups the class has."""
    counts = pd.DataFrame({"group": group, "label": label}).value_counts().reset_index(name="images")
    counts = counts.sort_values(["group", "images", "label"], ascending=[True, False, True]).drop_duplicates("group")
    shuffled = counts.iloc[rng.permutation(len(counts))].set_index("group")
    by_class = shuffled.groupby("label")["images"]
    return shuffled.assign(place=by_class.cumcount(), of=by_class.transform("size"))


def _inner(label: np.ndarray, group: np.ndarray, classes: set[str], fraction: float, seed: int) -> np.ndarray:
    try:
        if set(label) != classes:
            raise TooFewImages("A class has no group left.")
        return inner_folds(label, group, seed)
    except TooFewImages as error:
        raise TooFewImages(
            f"With {fraction:.0%} of the training groups a class has too few of them for inner folds: "
            "leave this fraction out, or use more folds."
        ) from error
