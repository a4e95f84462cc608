"""What may be done about another collection, each measured on it: more colours, weights, its own scale, some of its own pictures.

Every function trains on one collection and predicts every picture of another, in the names and honest groups of the combined
data set and with a column ``shared`` (the honest group has a picture in the training collection): all of them are compared on the
same pictures. What a remedy sees of the target differs, and is said in `SEES`: nothing, its pictures without their labels, or
pictures with labels of groups that are not tested.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox.combine import part_of
from mpox.config import ModelConfig, RunConfig
from mpox.errors import TooFewImages
from mpox.experiment import compute_run, predict_splits, validate_externally
from mpox.learning_curve import learning_curve, learning_splits
from mpox.recorded import RecordedStore
from mpox.shift import ALPHA, density_weights, predict_domain
from mpox.splits import inner_folds, make_external_split, make_splits
from mpox.store import Dataset, RunResult, RunStore
from mpox.views import augmented

#: Remedy to what it sees of the target collection.
SEES = {
    "no remedy": "nothing",
    "colour copies": "nothing",
    "re-weighted": "pictures without labels",
    "own scale": "pictures without labels",
    "mixed": "labelled pictures of other groups",
    "target alone": "labelled pictures of other groups",
}


def _marked(predictions: pd.DataFrame, both: Dataset, train: str) -> pd.DataFrame:
    """With the honest groups of the combined data set, and ``shared``."""
    known = set(both.manifest.loc[both.manifest["source"] == train, "group_id"])
    groups = predictions["image_id"].map(both.groups)
    return predictions.assign(dataset=both.name, group_id=groups, shared=groups.isin(known))


def no_remedy(
    store: RunStore | RecordedStore, both: Dataset, train: str, test: str, model: ModelConfig, *, seed: int = 0
) -> pd.DataFrame:
    """What everything else is compared with: `mpox.experiment.validate_externally`."""
    return validate_externally(store, both, train, test, model, seed=seed)


def colour_copies(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    n_copies: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Train on every picture and copies of it in other colours (`mpox.views.recolour`); test on the pictures as they are.

    Parameters
    ----------
    store : RunStore or RecordedStore
    both : Dataset
        From `mpox.combine.combine`.
    train, test : str
        Names of the collections.
    model : ModelConfig
    n_copies : int
        Copies a training picture, at least 1.
    seed : int
        Of the copies and of the inner folds.

    Returns
    -------
    DataFrame
        As `mpox.experiment.validate_externally`; the run is kept under ``external_colour``.
    """
    copies = augmented(both, n_copies, seed, recipe="colour")
    manifest = copies.manifest
    manifest = manifest[(manifest["source"] == train) | (manifest["view"] == 0)].reset_index(drop=True)
    data = replace(copies, manifest=manifest, groups=copies.groups[manifest["image_id"]])
    split = make_external_split(manifest, train, test, seed=seed)
    table = predict_splits(store, data, "external_colour", split, model)
    return _marked(table.assign(image_id=table["image_id"].str.removesuffix("#0")), both, train)


def reweighted(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    alpha: float = ALPHA,
    n_folds: int = 5,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.Series]:
    """Let a training picture count the more, the more it looks like one of the target (`mpox.shift.density_weights`).

    The weights come from the target's unshared pictures without their labels; that of each training picture from a classifier
    that was not trained on its group.

    Parameters
    ----------
    store, both, train, test, seed
        See `colour_copies`.
    model : ModelConfig
        A linear probe; the classifier behind the weights is of the same kind.
    alpha : float
        See `mpox.shift.density_weights`.
    n_folds : int
        Of the classifier.

    Returns
    -------
    predictions : DataFrame
        As `mpox.experiment.validate_externally`; the run is kept under ``external_weighted``.
    weights : Series
        Of the training pictures, mean 1.
    """
    domain = predict_domain(store, both, model, whole=train, n_folds=n_folds, seed=seed)
    weights = density_weights(domain, train, test, alpha=alpha).round(4)
    split = make_external_split(both.manifest, train, test, seed=seed)
    split["weight"] = split["image_id"].map(weights).where(split["role"] == "train")
    return _marked(predict_splits(store, both, "external_weighted", split, model), both, train), weights


def standardise_each(x: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Features with mean 0 and standard deviation 1 in the training and in the test part, each by its own figures.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    train, test : ndarray of int
        Rows of either part.
    """
    x = x.copy()
    for rows in (train, test):
        spread = x[rows].std(axis=0)
        x[rows] = (x[rows] - x[rows].mean(axis=0)) / np.where(spread > 0, spread, 1)
    return x


def compute_standardised(config: RunConfig, data: Dataset, split: pd.DataFrame, folder: Path, bar: tqdm) -> RunResult:
    """`mpox.experiment.compute_run` after `standardise_each`."""
    return compute_run(config, data, split, folder, bar, adapt=standardise_each)


def own_scale(
    store: RunStore | RecordedStore, both: Dataset, train: str, test: str, model: ModelConfig, *, seed: int = 0
) -> pd.DataFrame:
    """Standardise the frozen features of each collection by its own mean and standard deviation.

    It is transductive: the test pictures, without their labels, are needed together before the first is predicted. That makes it
    a remedy for a collection, not for a person at the door. Where the two collections differ in how common the classes are, it
    moves the classes too.

    Parameters
    ----------
    store, both, train, test, model, seed
        See `colour_copies`; ``model`` works on frozen features.

    Returns
    -------
    DataFrame
        As `mpox.experiment.validate_externally`; the run is kept under ``external_own_scale``.
    """
    split = make_external_split(both.manifest, train, test, seed=seed)
    table = predict_splits(store, both, "external_own_scale", split, model, compute=compute_standardised)
    return _marked(table, both, train)


def target_alone(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    fraction: float = 1.0,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """The same task without the other collection: the target cross-validated by itself, groups kept together. The ceiling.

    Parameters
    ----------
    store, both, train, test, model
        See `colour_copies`; ``train`` says which pictures are shared, nothing of it is learnt from.
    fraction : float
        Share of the target's training groups that is used; see `mpox.learning_curve.learning_splits`.
    n_folds, n_repeats, seed
        See `mpox.splits.make_splits`; the protocol is ``source``.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, with ``shared``; the runs are kept under ``internal``, with a fraction below 1 under
        ``learning_curve``.
    """
    target, options = part_of(both, test), {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    if fraction < 1:
        table = learning_curve(store, target, "source", model, fractions=[fraction], **options)
    else:
        table = predict_splits(store, target, "internal", make_splits(target.manifest, "source", **options), model)
    return _marked(table.assign(image_id=f"{test}/" + table["image_id"]), both, train)


def own_picture_splits(
    both: Dataset, train: str, test: str, *, fraction: float = 1.0, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> pd.DataFrame:
    """The folds of `target_alone`, with the other collection in every training part.

    Left out of it is only what has a sibling in the test fold, so that with ever fewer pictures of the target this becomes
    `no_remedy` on what is not shared. Inner folds are dealt anew among all training pictures, honest groups kept together: with a
    handful of the target's there would be nothing to choose on. (`mpox.mixing` has the stricter design: choices on the target
    alone, and no picture of a group that it holds.)

    Parameters
    ----------
    both, train, test, fraction, n_folds, n_repeats, seed
        See `target_alone`.

    Returns
    -------
    DataFrame
        As `mpox.splits.make_splits` gives it, over the ids of ``both``.
    """
    target, options = part_of(both, test), {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    (split,) = learning_splits(target.manifest, "source", fractions=[fraction], **options).values()
    split["image_id"] = f"{test}/" + split["image_id"]
    labels = both.manifest.set_index("image_id")["label"]
    other = both.manifest.loc[both.manifest["source"] == train, ["image_id", "group_id"]].assign(role="train")
    parts = []
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        tested = rows.loc[rows["role"] == "test", "group_id"]
        rows = pd.concat([rows, other[~other["group_id"].isin(tested)]], ignore_index=True)
        learnt = (rows["role"] == "train").to_numpy()
        chosen = rows.loc[learnt, "image_id"].map(labels).to_numpy(dtype=str), rows.loc[learnt, "group_id"].to_numpy(dtype=str)
        inner = np.full(len(rows), -1)
        inner[learnt] = inner_folds(*chosen, seed * 1000 + repeat)
        parts.append(rows.assign(repeat=repeat, fold=fold, inner_fold=inner))
    return pd.concat(parts, ignore_index=True)


def mixed(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    fraction: float = 1.0,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Train on the other collection and a share of the target's training groups, test on the target's other groups.

    Parameters and result are those of `target_alone`, whose folds it has (`own_picture_splits`); the runs are kept under
    ``external_mixed``.
    """
    split = own_picture_splits(both, train, test, fraction=fraction, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    return _marked(predict_splits(store, both, "external_mixed", split, model), both, train)


def every_way(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    n_copies: int = 3,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The predictions of every way in `SEES`.

    Parameters
    ----------
    store, both, train, test, model, n_copies, n_folds, n_repeats, seed
        See `colour_copies` and `target_alone`. With 0 copies there are no colour copies.

    Returns
    -------
    tables : dict of str to DataFrame
        In the order of `SEES`.
    skipped : dict of str to str
        Why a way was not possible: a collection has too few groups for it.
    """
    once, folds = {"seed": seed}, {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    ask = {
        "no remedy": lambda: no_remedy(store, both, train, test, model, **once),
        "colour copies": lambda: colour_copies(store, both, train, test, model, n_copies=n_copies, **once),
        "re-weighted": lambda: reweighted(store, both, train, test, model, n_folds=n_folds, **once)[0],
        "own scale": lambda: own_scale(store, both, train, test, model, **once),
        "mixed": lambda: mixed(store, both, train, test, model, **folds),
        "target alone": lambda: target_alone(store, both, train, test, model, **folds),
    }
    tables, skipped = {}, {}
    for way in SEES:
        if way == "colour copies" and not n_copies:
            continue
        try:
            tables[way] = ask[way]()
        except TooFewImages as reason:
            skipped[way] = str(reason)
    return tables, skipped


def own_pictures(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    fractions,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> dict[tuple[str, float], pd.DataFrame]:
    """`mixed` and `target_alone` with more and more of the target's training groups; a fraction that is too small is left out.

    Returns
    -------
    dict of (str, float) to DataFrame
        (way, fraction) to its predictions.
    """
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    found = {}
    for fraction in sorted(set(fractions)):
        for way, ask in (("mixed", mixed), ("target alone", target_alone)):
            with suppress(TooFewImages):
                found[way, fraction] = ask(store, both, train, test, model, fraction=fraction, **options)
    return found
