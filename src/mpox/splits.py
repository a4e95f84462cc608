"""Named protocols: which images a model is trained on, and which it is tested on.

A split is a table, so that it can be stored, hashed and checked. It is nested: the images outside the test fold carry an
``inner_fold``, and every choice (regularisation, early stopping) is made there, never on the test fold.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mpox.errors import MpoxError
from mpox.groups import patient_groups, source_groups

N_INNER_FOLDS = 4


@dataclass(frozen=True)
class Protocol:
    """A way of choosing test images: what must stay together, and whether it is a practice known to leak."""

    name: str
    group: Callable[[pd.DataFrame], pd.Series]
    leaks: bool
    meaning: str


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "random_image",
            lambda manifest: manifest["image_id"].rename("group_id"),
            True,
            "images are dealt to the folds one by one; siblings of a test image may be in training",
        ),
        Protocol("patient", patient_groups, False, "all images of a patient are in the same fold"),
        Protocol(
            "source",
            source_groups,
            False,
            "all images of a patient, and all exact duplicates of a photograph, are in the same fold",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises
    ------
    MpoxError
        If there is none; the sentence lists the known ones.
    """
    if name not in PROTOCOLS:
        raise MpoxError(f"Unknown protocol '{name}': choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def _assign_folds(labels: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold number of each image; every group in one fold, classes as even as the groups allow."""
    if len(np.unique(groups)) == len(groups):
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.empty(len(labels), dtype=np.int64)
    grouped = groups if isinstance(splitter, StratifiedGroupKFold) else None
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, grouped)):
        folds[test] = number
    return folds


def _check_enough_groups(labels: np.ndarray, groups: np.ndarray, needed: int, what: str) -> None:
    counts = pd.DataFrame({"label": labels, "group": groups}).drop_duplicates().groupby("label").size()
    poor = counts[counts < needed]
    if len(counts) < 2:
        raise MpoxError(f"A split needs at least two classes; there is only {list(counts.index)}.")
    if len(poor):
        listed = ", ".join(f"{label} ({number})" for label, number in poor.items())
        raise MpoxError(f"Too few groups for {needed} {what}: {listed}. Use fewer folds, or leave these classes out.")


def make_splits(manifest: pd.DataFrame, protocol: str, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0) -> pd.DataFrame:
    """Repeated, stratified k-fold splits under a named protocol, with inner folds for every choice.

    Parameters
    ----------
    manifest : DataFrame
        The manifest; ``image_id``, ``label`` and what the protocol groups by are used.
    protocol : {"random_image", "patient", "source"}
        See `PROTOCOLS`.
    n_folds, n_repeats : int
        Number of folds (at least 2) and of repetitions with another shuffle.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    DataFrame
        For every repeat and fold one row an image: ``repeat``, ``fold``, ``image_id``, ``group_id`` (what this protocol keeps
        together), ``role`` (``"train"`` or ``"test"``), ``inner_fold`` (0 to 3 within training, -1 for test).

    Raises
    ------
    MpoxError
        If the protocol is unknown or not possible, or a class has fewer groups than folds.
    """
    if n_folds < 2 or n_repeats < 1:
        raise MpoxError("A split needs at least 2 folds and 1 repeat.")
    manifest = manifest.sort_values("image_id", ignore_index=True)
    groups = get_protocol(protocol).group(manifest).to_numpy(dtype=str)
    labels = manifest["label"].to_numpy(dtype=str)
    _check_enough_groups(labels, groups, n_folds, "folds")
    tables = []
    for repeat in range(n_repeats):
        folds = _assign_folds(labels, groups, n_folds, seed * 1000 + repeat)
        for fold in range(n_folds):
            train = folds != fold
            if train.all() or set(labels[train]) != set(labels):
                raise MpoxError(
                    f"The groups are too large for {n_folds} folds: fold {fold} is empty or takes a whole class with it. "
                    "Use fewer folds, or another seed."
                )
            _check_enough_groups(labels[train], groups[train], 2, "inner folds")
            inner = np.full(len(manifest), -1)
            n_inner = min(N_INNER_FOLDS, _smallest_class(labels[train], groups[train]))
            inner[train] = _assign_folds(labels[train], groups[train], n_inner, seed * 1000 + repeat)
            tables.append(
                pd.DataFrame(
                    {
                        "repeat": repeat,
                        "fold": fold,
                        "image_id": manifest["image_id"],
                        "group_id": groups,
                        "role": np.where(train, "train", "test"),
                        "inner_fold": inner,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def _smallest_class(labels: np.ndarray, groups: np.ndarray) -> int:
    counts = pd.DataFrame({"label": labels, "group": groups}).drop_duplicates().groupby("label").size()
    return int(counts.min())


def split_hash(split: pd.DataFrame) -> str:
    """Sixteen hex digits that stand for a split table (or the rows of one fold of it)."""
    columns = ["repeat", "fold", "image_id", "group_id", "role", "inner_fold"]
    text = split[columns].sort_values(["repeat", "fold", "image_id"]).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def siblings_in_training(split: pd.DataFrame, groups: pd.Series) -> float:
    """Share of test images (0 to 1) that have a sibling, an image of the same honest group, in training.

    Parameters
    ----------
    split : DataFrame
        A split table.
    groups : Series
        Honest group ids (see `mpox.groups.source_groups`), indexed by ``image_id``.
    """
    honest = split["image_id"].map(groups)
    keyed = split.assign(honest=honest)
    train = keyed[keyed["role"] == "train"][["repeat", "fold", "honest"]].drop_duplicates()
    test = keyed[keyed["role"] == "test"]
    found = test.merge(train, on=["repeat", "fold", "honest"], how="left", indicator=True)["_merge"] == "both"
    return float(found.mean())
