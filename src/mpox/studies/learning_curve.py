"""The learning curve: how good would the model be with fewer groups of pictures, and how many would it take to be better?

Design. The test folds are those of a named protocol. Of each fold's training part a random share of the *groups* (what the
protocol keeps together) is kept, drawn within the classes and nested: what a fraction keeps, a larger one keeps too. Inner folds
are made anew, by group, on what is kept. At fraction 1 the split is the protocol's own, row for row, so that its runs are those
of the cross-validation; runs of smaller fractions are kept under the name ``learning_curve``.

`mpox.stats.growth` says how many groups a target would take.
"""

import numpy as np
import pandas as pd

from mpox._core import MpoxError, TooFewImages
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.splits import get_protocol, inner_folds, make_splits
from mpox.runs.cross_validation import predict_splits
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.metrics import N_BOOTSTRAP, replicates
from mpox.stats.resample import with_percentiles

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
#: The columns of `curve_table`.
CURVE_COLUMNS = ("fraction", "n_groups", "n_images", "metric", "class", "estimate", "low", "high")


def learning_splits(
    manifest: pd.DataFrame, protocol: str, *, fractions=FRACTIONS, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> dict[float, pd.DataFrame]:
    """The split table of each fraction of the training groups.

    Parameters
    ----------
    manifest : DataFrame
    protocol : {"random_image", "patient", "source"}
        What makes the folds and the groups.
    fractions : iterable of float
        Shares of the training groups of each class, above 0 and up to 1.
    n_folds, n_repeats, seed : int
        As in `mpox.protocols.splits.make_splits`; the test images are those of its table with the same values.

    Returns
    -------
    dict of float to DataFrame
        Split tables as `make_splits` gives them; training images that are left out have no row. At 1.0 it is that
        function's own table. A group of several labels counts for the one most of its images have.

    Raises
    ------
    MpoxError
        If a fraction is out of range, the protocol deals augmented images, or its split is not possible; `TooFewImages` if a
        fraction leaves a class too few groups for inner folds.
    """
    fractions = _check_fractions(fractions)
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
            keep = ~train
            keep[train] = _kept(places, group[train], fraction)
            inner = np.full(len(rows), -1)
            chosen = train & keep
            inner[chosen] = _inner(label[chosen], group[chosen], set(label), fraction, seed * 1000 + repeat)
            parts.append(rows.assign(inner_fold=inner)[keep])
    found = {fraction: pd.concat(parts, ignore_index=True) for fraction, parts in tables.items()}
    return found | ({1.0: split} if 1.0 in fractions else {})


def _check_fractions(fractions) -> list[float]:
    fractions = sorted({float(fraction) for fraction in fractions})
    if not fractions or not fractions[0] > 0 or fractions[-1] > 1:
        raise MpoxError(f"Fractions are shares above 0 and up to 1, at least one of them, not {fractions}.")
    return fractions


def _places(group: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """One row a group (the index): its class, its random place in it (from 0), and ``of``, how many groups the class has."""
    counts = pd.DataFrame({"group": group, "label": label}).value_counts().reset_index(name="images")
    counts = counts.sort_values(["group", "images", "label"], ascending=[True, False, True]).drop_duplicates("group")
    shuffled = counts.iloc[rng.permutation(len(counts))].set_index("group")
    by_class = shuffled.groupby("label")["images"]
    return shuffled.assign(place=by_class.cumcount(), of=by_class.transform("size"))


def _kept(places: pd.DataFrame, group: np.ndarray, fraction: float) -> np.ndarray:
    kept = places.index[places["place"] < np.floor(fraction * places["of"] + 0.5)]
    return np.isin(group, kept)


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


def learning_curve(
    store: RunStore | RecordedStore,
    data: Dataset,
    protocol: str,
    model: ModelConfig,
    *,
    fractions=FRACTIONS,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Predictions of one model trained on each fraction of the groups; see the module's docstring for the design.

    Parameters
    ----------
    store : RunStore or RecordedStore
    data : Dataset
    protocol, fractions, n_folds, n_repeats, seed
        See `learning_splits`.
    model : ModelConfig

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, with ``fraction``, and ``n_groups`` and ``n_images`` in the fold's training. ``protocol`` is the
        one that made the folds, at every fraction.

    Raises
    ------
    MpoxError
        See `learning_splits`.
    """
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    tables = []
    for fraction, split in learning_splits(data.manifest, protocol, fractions=fractions, **options).items():
        name = protocol if fraction == 1 else "learning_curve"
        table = predict_splits(store, data, name, split, model).assign(protocol=protocol, fraction=fraction)
        train = split[split["role"] == "train"].groupby(["repeat", "fold"])
        sizes = train.agg(n_groups=("group_id", "nunique"), n_images=("image_id", "size")).reset_index()
        tables.append(table.merge(sizes, on=["repeat", "fold"], validate="m:1"))
    return pd.concat(tables, ignore_index=True)


def _sizes(predictions: pd.DataFrame) -> pd.DataFrame:
    """Training groups and images at each fraction, smallest first: means over folds and repeats."""
    folds = predictions.drop_duplicates(["fraction", "repeat", "fold"])
    return folds.groupby("fraction")[["n_groups", "n_images"]].mean()


def curve_table(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Every metric at each fraction, with 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        From `learning_curve`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`. Each fraction is resampled with the same groups.

    Returns
    -------
    DataFrame
        ``fraction``, ``n_groups`` and ``n_images`` (in training, mean over the folds and repeats), and the columns of
        `mpox.evaluate`. The intervals are about which images are tested; which groups a fraction kept is averaged over the folds
        and repeats, and is not in them.
    """
    rows = []
    for fraction, size in _sizes(predictions).iterrows():
        part = predictions[predictions["fraction"] == fraction]
        for key, values in replicates(part, positive=positive, n_bootstrap=n_bootstrap, seed=seed).items():
            rows.append((fraction, size["n_groups"], size["n_images"], *key, *with_percentiles(values)))
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def curve_replicates(
    predictions: pd.DataFrame, metric: str, label: str, *, positive: str = "Mpox", n_bootstrap: int = 200, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One metric's curve and its bootstrap replicates, paired across the fractions, for `mpox.stats.growth.needed_groups`.

    Parameters
    ----------
    predictions : DataFrame
        From `learning_curve`.
    metric, label : str
        As in `curve_table`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    n : ndarray, shape (k,)
        Training groups at each fraction, mean over the folds.
    values : ndarray, shape (n_bootstrap + 1, k)
        The estimates, first, and the replicates.

    Raises
    ------
    MpoxError
        If there is no such metric.
    """
    sizes = _sizes(predictions)
    columns = []
    for fraction in sizes.index:
        part = predictions[predictions["fraction"] == fraction]
        found = replicates(part, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
        if (metric, label) not in found:
            raise MpoxError(f"There is no metric '{metric}' of '{label}': see the result of `evaluate`.")
        columns.append(found[metric, label])
    return sizes["n_groups"].to_numpy(), np.stack(columns, axis=1)
