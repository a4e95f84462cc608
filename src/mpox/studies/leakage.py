"""The leak-dose experiment: the same model asked about the same test images, with more and more of their siblings in training.

Design. The test images T of each fold are those of the protocol ``random_image``. Their *siblings* S are the training images of
the same honest group: the same patient, or the same photograph. At dose d a random share d of the test-side groups that have
siblings keeps them in training; the other siblings are removed. Doses are nested: what a dose keeps, a higher dose keeps too.

So that a dose changes the leak and not the amount of data, each dose removes as many *unrelated* training images (of groups that
do not touch T) of the same classes as it keeps siblings, nested too, group by group. Every dose then trains on as many images of
each class as dose 0, which has no sibling. Where a class has fewer unrelated images than siblings, all of them are removed and
the training set grows with the dose; ``n_train`` says so.

Inner folds are made once, by honest groups, and inherited by every dose: the curve shows what leaks from training into the test,
not what leaks into the choices. Inner fold 0, on which a network is stopped and from which it never learns, holds unrelated
images only and is the same at every dose; so every sibling that a dose keeps is learnt from, and the images learnt from are as
many at every dose.

Only test images that have a sibling in the random split can profit. Their accuracy, beside that of the others, is the mechanism.
"""

import numpy as np
import pandas as pd

from mpox._core import MpoxError, TooFewImages
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.splits import has_sibling, inner_folds, make_splits
from mpox.runs.cross_validation import predict_splits
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.metrics import groups_of, replicates
from mpox.stats.resample import N_BOOTSTRAP, Replicates, bootstrap, ratio

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The columns of `dose_response`.
DOSE_COLUMNS = (
    "dose", "share", "n_train", "subset", "metric", "class", "estimate", "low", "high", "change", "change_low", "change_high",
)  # fmt: skip
#: What the curve shows: metric and class of `mpox.evaluate`.
MEASURES = (("accuracy", "all"), ("f1", "macro"), ("auroc", None), ("sensitivity", None))


def _check_doses(doses) -> list[float]:
    doses = sorted({float(dose) for dose in doses})
    if not doses or doses[0] < 0 or doses[-1] > 1:
        raise MpoxError(f"Doses are shares from 0 to 1, at least one of them, not {doses}.")
    return doses


def _rank(values: pd.Series, rng: np.random.Generator) -> pd.Series:
    """A random rank for each distinct value, the same whatever the order of the rows."""
    names = np.sort(values.unique())
    return values.map(pd.Series(rng.permutation(len(names)), index=names))


def dose_splits(
    manifest: pd.DataFrame, groups: pd.Series, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0, doses=DOSES
) -> dict[float, pd.DataFrame]:
    """The split table of each dose.

    Parameters
    ----------
    manifest : DataFrame
        ``image_id`` and ``label``.
    groups : Series
        Honest group ids, indexed by ``image_id``.
    n_folds, n_repeats, seed : int
        As in `mpox.protocols.splits.make_splits`; the test images are those of ``random_image`` with the same values.
    doses : iterable of float
        From 0 (no sibling in training) to 1 (all siblings that the random split has).

    Returns
    -------
    dict of float to DataFrame
        Split tables as `make_splits` gives them; removed training images have no row, and ``group_id`` is the honest
        group.

    Raises
    ------
    MpoxError
        If a dose is not from 0 to 1, or the random split is not possible; `TooFewImages` if a dose leaves a class without
        training images.
    """
    doses = _check_doses(doses)
    split = make_splits(manifest, "random_image", n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    split["group_id"] = split["image_id"].map(groups)
    split["label"] = split["image_id"].map(manifest.set_index("image_id")["label"])
    tables: dict[float, list[pd.DataFrame]] = {dose: [] for dose in doses}
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        for dose, table in _fold_doses(rows, doses, np.random.default_rng([seed, repeat, fold]), seed * 1000 + repeat).items():
            tables[dose].append(table)
    return {dose: pd.concat(parts, ignore_index=True).drop(columns="label") for dose, parts in tables.items()}


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
        _check_training(table, set(rows["label"]), dose)
        found[dose] = table
    return found


def _inner_folds(rows: pd.DataFrame, seed: int) -> np.ndarray:
    try:
        return inner_folds(rows["label"].to_numpy(dtype=str), rows["group_id"].to_numpy(dtype=str), seed)
    except TooFewImages as error:
        raise _too_few(0) from error


def _check_training(table: pd.DataFrame, classes: set[str], dose: float) -> None:
    train = table[table["role"] == "train"]
    inner = train["inner_fold"].unique()
    parts = [train[train["inner_fold"] != number] for number in inner]
    if len(inner) < 2 or any(set(part["label"]) != classes for part in [train, *parts]):
        raise _too_few(dose)


def _too_few(dose: float) -> TooFewImages:
    return TooFewImages(
        f"At dose {dose:g} too few training images of a class are left: nearly all its images are siblings of test images. "
        "Use more folds, or leave this data set out of the leak-dose experiment."
    )


def leak_dose(
    store: RunStore | RecordedStore,
    data: Dataset,
    model: ModelConfig,
    *,
    doses=DOSES,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Predictions of one model at each dose; see the module's docstring for the design.

    Parameters
    ----------
    store : RunStore or RecordedStore
    data : Dataset
    model : ModelConfig
    doses, n_folds, n_repeats, seed
        See `dose_splits`.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, under the protocol ``leak_dose``, with ``dose`` (0 to 1), ``exposed`` (bool: a sibling is in
        training at this dose), ``has_sibling`` (bool: one is in the random split's training) and ``n_train`` (training images).

    Raises
    ------
    MpoxError
        See `dose_splits`.
    """
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    doses = _check_doses(doses)
    splits = dose_splits(data.manifest, data.groups, doses=[*doses, 1.0], **options)
    keys = ["repeat", "fold", "image_id"]
    possible = has_sibling(splits[1.0], data.groups).rename(columns={"sibling": "has_sibling"})
    tables = []
    for dose in doses:
        split = splits[dose]
        sizes = split[split["role"] == "train"].groupby(["repeat", "fold"]).size().rename("n_train").reset_index()
        exposed = has_sibling(split, data.groups).rename(columns={"sibling": "exposed"})
        table = predict_splits(store, data, "leak_dose", split, model).assign(dose=dose)
        table = table.merge(exposed, on=keys, validate="1:1").merge(possible, on=keys, validate="1:1")
        tables.append(table.merge(sizes, on=["repeat", "fold"], validate="m:1"))
    return pd.concat(tables, ignore_index=True)


def dose_response(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """The dose-response curve, with 95 % intervals from resampling honest groups.

    Parameters
    ----------
    predictions : DataFrame
        From `leak_dose`, with the lowest dose as the reference (0, if it is there).
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a dose and measure: ``dose``, ``share`` (of test images with a sibling in training at this dose, averaged over the
        repeats), ``n_train`` (training images, mean over the folds), ``subset`` (``all``; for the accuracy also ``with sibling``
        and ``without sibling``: by whether the random split has one in training), ``metric``, ``class``, ``estimate``, ``low``,
        ``high``, and ``change``, ``change_low``, ``change_high``: the paired difference to the lowest dose. A subset without
        images has NaN.
    """
    doses = sorted(predictions["dose"].unique())
    by_dose = {dose: predictions[predictions["dose"] == dose] for dose in doses}
    curve = [(metric, label or positive) for metric, label in MEASURES]
    rows, reference = [], None
    for dose, table in by_dose.items():
        about = {"dose": dose, "share": table["exposed"].mean(), "n_train": _mean_train(table)}
        scores = replicates(table, keys=curve, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
        values = {("all", *measure): scores[measure] for measure in curve}
        for kind, name in ((True, "with sibling"), (False, "without sibling")):
            values[name, "accuracy", "all"] = _subset_accuracy(table, kind, n_bootstrap=n_bootstrap, seed=seed)
        reference = reference or values
        for key, found in values.items():
            rows.append((*about.values(), *key, *found.row().values(), *(found - reference[key]).row().values()))
    return pd.DataFrame(rows, columns=DOSE_COLUMNS)


def _mean_train(table: pd.DataFrame) -> float:
    return float(table.drop_duplicates(["repeat", "fold"])["n_train"].mean())


def _subset_accuracy(table: pd.DataFrame, with_sibling: bool, *, n_bootstrap: int, seed: int) -> Replicates:
    """Accuracy among the test images with, or without, a possible sibling.

    Which images these are changes from repeat to repeat; hits and images are summed over the repeats before they are divided.
    """
    classes = [column for column in table.columns if column.startswith("p_")]
    chosen = np.array([column.removeprefix("p_") for column in classes])[table[classes].to_numpy().argmax(axis=1)]
    inside = table["has_sibling"].to_numpy(dtype=bool) == with_sibling
    counts = table.assign(images=inside.astype(float), hits=(inside & (chosen == table["label"].to_numpy())).astype(float))
    counts = counts.groupby(["image_id", "group_id"], sort=True)[["images", "hits"]].sum().reset_index()
    hits, images = counts["hits"].to_numpy(), counts["images"].to_numpy()
    return bootstrap(
        lambda weights: ratio(weights @ hits, weights @ images), groups_of(counts), n_bootstrap=n_bootstrap, seed=seed
    )
