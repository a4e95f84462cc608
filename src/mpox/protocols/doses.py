"""Splits of the leak-dose experiments: the same test images, with more and more of their siblings, or copies, in training.

The test images T of each fold are those of the protocol ``random_image``. Their *siblings* S are the training images of the same
honest group. At dose d a random share d of the test-side groups that have siblings keeps them in training; the other siblings are
removed. Doses are nested: what a dose keeps, a higher dose keeps too.

So that a dose changes the leak and not the amount of data, each dose removes as many *unrelated* training images (of groups that
do not touch T) of the same classes as it keeps siblings, nested too, group by group. Where a class has fewer unrelated images
than siblings, all of them are removed and the training set grows with the dose.

Inner folds are made once, by honest groups, and inherited by every dose. Inner fold 0, on which a network is stopped and from
which it never learns, holds unrelated images only and is the same at every dose.
"""

import numpy as np
import pandas as pd

from mpox._core import MpoxError, TooFewImages
from mpox.protocols.splits import inner_folds, make_splits

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)


def check_doses(doses) -> list[float]:
    """The doses in ascending order, each once; an `MpoxError` if there is none, or one is not from 0 to 1."""
    doses = sorted({float(dose) for dose in doses})
    if not doses or doses[0] < 0 or doses[-1] > 1:
        raise MpoxError(f"Doses are shares from 0 to 1, at least one of them, not {doses}.")
    return doses


def dose_splits(
    manifest: pd.DataFrame, groups: pd.Series, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0, doses=DOSES
) -> dict[float, pd.DataFrame]:
    """The split table of each dose, from 0 (no sibling in training) to 1 (all siblings that the random split has).

    Parameters and tables are as of `mpox.protocols.splits.make_splits`, and ``groups`` the honest group ids by ``image_id``;
    removed training images have no row, and ``group_id`` is the honest group. `TooFewImages` if a dose leaves a class without
    training images.
    """
    doses = check_doses(doses)
    split = make_splits(manifest, "random_image", n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    split["group_id"] = split["image_id"].map(groups)
    split["label"] = split["image_id"].map(manifest.set_index("image_id")["label"])
    tables: dict[float, list[pd.DataFrame]] = {dose: [] for dose in doses}
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        for dose, table in _fold_doses(rows, doses, np.random.default_rng([seed, repeat, fold]), seed * 1000 + repeat).items():
            tables[dose].append(table)
    return {dose: pd.concat(parts, ignore_index=True).drop(columns="label") for dose, parts in tables.items()}


def crossing_splits(
    manifest: pd.DataFrame, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0, doses=DOSES
) -> dict[float, pd.DataFrame]:
    """The split table of each dose of an augmented data set: the share of the groups whose copies cross folds.

    The copies of a random share of the honest groups, nested like other doses, are assigned to folds one by one, as under
    ``augment_before_split``; every other group is in one fold with all its copies, as under ``source``. Only unaltered images are
    tested. Parameters and tables are as of `mpox.protocols.splits.make_splits`, and ``group_id`` is the honest group.
    """
    doses, key = check_doses(doses), ["repeat", "fold", "image_id"]
    whole, single = (
        make_splits(manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed).sort_values(key, ignore_index=True)
        for protocol in ("source", "augment_before_split")
    )
    shown = whole["image_id"].isin(manifest.loc[manifest["view"] == 0, "image_id"])
    rank = _rank(whole["group_id"], np.random.default_rng(seed))
    parts = ["role", "inner_fold"]
    found = {}
    for dose in doses:
        crosses = rank < round(dose * whole["group_id"].nunique())
        table = whole.assign(**single[parts].where(crosses, whole[parts]))
        found[dose] = table[shown | (table["role"] == "train")].reset_index(drop=True)
    return found


def _rank(values: pd.Series, rng: np.random.Generator) -> pd.Series:
    """A random rank for each distinct value, the same whatever the order of the rows."""
    names = np.sort(values.unique())
    return values.map(pd.Series(rng.permutation(len(names)), index=names))


def _fold_doses(rows: pd.DataFrame, doses: list[float], rng: np.random.Generator, seed: int) -> dict[float, pd.DataFrame]:
    rows = rows.sort_values("image_id", ignore_index=True)
    train = rows["role"] == "train"
    sibling = train & rows["group_id"].isin(rows.loc[~train, "group_id"])
    stopping = train & ~sibling
    if set(rows.loc[stopping, "label"]) != set(rows["label"]):
        raise _too_few(0)
    stopping[stopping] = _inner_folds(rows[stopping], seed) == 0
    rows.loc[stopping, "inner_fold"] = 0
    rows.loc[train & ~stopping, "inner_fold"] = 1 + _inner_folds(rows[train & ~stopping], seed)
    exposed = rows.loc[sibling, "group_id"]
    kept_rank = _rank(exposed, rng).reindex(rows.index)
    free = train & ~sibling & ~stopping
    unrelated = rows[free]
    order = unrelated.assign(rank=_rank(unrelated["group_id"], rng)).sort_values(["rank", "image_id"])
    place = order.groupby("label").cumcount().reindex(rows.index)  # when an unrelated image goes, within its class
    found = {}
    for dose in doses:
        keep = sibling & (kept_rank < round(dose * exposed.nunique()))
        to_remove = rows["label"].map(rows.loc[keep, "label"].value_counts()).fillna(0)
        table = rows[~train | keep | stopping | (free & (place >= to_remove))]
        learnt = table[table["role"] == "train"]
        numbers = learnt["inner_fold"].unique()
        parts = [learnt, *(learnt[learnt["inner_fold"] != number] for number in numbers)]
        if len(numbers) < 2 or any(set(part["label"]) != set(rows["label"]) for part in parts):
            raise _too_few(dose)
        found[dose] = table
    return found


def _inner_folds(rows: pd.DataFrame, seed: int) -> np.ndarray:
    try:
        return inner_folds(rows["label"].to_numpy(dtype=str), rows["group_id"].to_numpy(dtype=str), seed)
    except TooFewImages as error:
        raise _too_few(0) from error


def _too_few(dose: float) -> TooFewImages:
    return TooFewImages(
        f"At dose {dose:g} too few training images of a class are left: nearly all its images are siblings of test images. "
        "Use more folds, or leave this data set out of the leak-dose experiment."
    )
