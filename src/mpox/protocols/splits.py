"""Named protocols: which images a model is trained on, and which it is tested on.

A split is a table, so that it can be stored, hashed and checked. It is nested: the images outside the test fold carry an
``inner_fold``, and every choice (regularisation, early stopping) is made there, never on the test fold.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mpox._core import MpoxError, TooFewImages
from mpox.data.groups import patient_groups, source_groups

N_INNER_FOLDS = 4
#: Fold numbers of nested splits: the outer fold times this, plus the inner fold.
FOLD_STEP = 100
COLUMNS = ["repeat", "fold", "image_id", "group_id", "role", "inner_fold"]


@dataclass(frozen=True)
class Protocol:
    """A way of choosing test images."""

    name: str
    group: Callable[[pd.DataFrame], pd.Series]  #: manifest to what must stay together
    leaks: bool  #: a practice known to leak
    meaning: str
    augmented: bool = False  #: takes an augmented manifest (`mpox.protocols.copies.augmented`), and no other


def _one_by_one(manifest: pd.DataFrame) -> pd.Series:
    return manifest["image_id"].rename("group_id")


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "random_image", _one_by_one, True,
            "images are assigned to the folds one by one; siblings of a test image may be in training",
        ),
        Protocol("patient", patient_groups, False, "all images of a patient are in the same fold"),
        Protocol(
            "source", source_groups, False,
            "all images of a patient, and all copies of a photograph (crops, mirrored, captioned, ... as the audit finds them), "
            "are in the same fold",
        ),
        Protocol(
            "augment_before_split", _one_by_one, True,
            "every image is first multiplied by augmentation, then the augmented images are assigned to the folds one by one; "
            "nearly every test image has an augmented copy of itself in training",
            augmented=True,
        ),
    )
}  # fmt: skip


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; an `MpoxError` lists the known ones if there is none."""
    if name not in PROTOCOLS:
        raise MpoxError(f"Unknown protocol '{name}': choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


class _StratifiedGroupKFold(StratifiedGroupKFold):
    """scikit-learn's own folds, five times sooner: the step that is taken for each group tries all folds at once."""

    def _find_best_fold(self, y_counts_per_fold: np.ndarray, y_cnt: np.ndarray, group_y_counts: np.ndarray) -> int:
        k = self.n_splits
        share = (y_counts_per_fold + np.eye(k)[:, :, None] * group_y_counts) / y_cnt  # (try, fold, class)
        share -= np.add.reduce(share, axis=1, keepdims=True) / k
        uneven = (np.sqrt(np.add.reduce(share * share, axis=1) / k).sum(axis=1) / len(y_cnt)).tolist()
        size = y_counts_per_fold.sum(axis=1).tolist()
        best = 0
        for fold in range(1, k):
            alike = abs(uneven[fold] - uneven[best]) <= 1e-8 + 1e-5 * uneven[best]  # `numpy.isclose`
            if uneven[fold] < uneven[best] or (alike and size[fold] < size[best]):
                best = fold
        return best


def assign_folds(labels: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold number of each image; every group in one fold, classes as even as the groups allow."""
    alone = len(np.unique(groups)) == len(groups)
    splitter = (StratifiedKFold if alone else _StratifiedGroupKFold)(n_folds, shuffle=True, random_state=seed)
    folds = np.empty(len(labels), dtype=np.int64)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, None if alone else groups)):
        folds[test] = number
    return folds


def _groups_per_class(labels: np.ndarray, groups: np.ndarray) -> pd.Series:
    names, label = np.unique(labels, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    return pd.Series(np.bincount(np.unique(group * len(names) + label) % len(names)), index=names)


def _check_enough_groups(labels: np.ndarray, groups: np.ndarray, needed: int, what: str, remedy: str) -> None:
    counts = _groups_per_class(labels, groups)
    poor = counts[counts < needed]
    if len(counts) < 2:
        raise MpoxError(f"A split needs at least two classes; there is only {list(counts.index)}.")
    if len(poor):
        listed = ", ".join(f"{label} ({number})" for label, number in poor.items())
        raise TooFewImages(f"Too few groups for {what}: {listed}. {remedy}, or leave these classes out.")


def inner_folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Inner fold of each training image (int64, 0 to 3 at most), given labels and groups of shape (n,); no group crosses them.

    `TooFewImages` if a class has fewer than two groups, or one inner fold holds all of a class.
    """
    _check_enough_groups(labels, groups, 2, "2 inner folds", "Use more folds, add images of others")
    inner = assign_folds(labels, groups, min(N_INNER_FOLDS, int(_groups_per_class(labels, groups).min())), seed)
    for number in range(inner.max() + 1):
        lost = np.setdiff1d(labels, labels[inner != number])
        if len(lost):
            raise TooFewImages(
                f"The groups are too large for inner folds: one of them takes all training images of {', '.join(lost)}. "
                "Use another seed, or leave out the classes with the fewest groups."
            )
    return inner


def make_splits(manifest: pd.DataFrame, protocol: str, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0) -> pd.DataFrame:
    """Repeated, stratified k-fold splits under a named protocol, with inner folds for every choice.

    Parameters
    ----------
    manifest : DataFrame
        ``image_id``, ``label`` and what the protocol groups by.
    protocol : {"random_image", "patient", "source", "augment_before_split"}
        See `PROTOCOLS`.
    n_folds, n_repeats : int
        Folds (at least 2), and repetitions with another shuffle.

    Returns
    -------
    DataFrame
        For every repeat and fold one row an image: ``repeat``, ``fold``, ``image_id``, ``group_id`` (what this protocol keeps
        together), ``role`` (``"train"`` or ``"test"``), ``inner_fold`` (0 to 3 within training, -1 for test).
    """
    if n_folds < 2 or n_repeats < 1:
        raise MpoxError("A split needs at least 2 folds and 1 repeat.")
    manifest = manifest.sort_values("image_id", ignore_index=True)
    rule = get_protocol(protocol)
    if rule.augmented and "view" not in manifest:
        raise MpoxError(
            f"The protocol '{protocol}' splits augmented images: make them first with `mpox.protocols.copies.augmented`."
        )
    groups = rule.group(manifest).to_numpy(dtype=str)
    labels = manifest["label"].to_numpy(dtype=str)
    least = (
        "A class needs three groups at least (patients, or photographs): add images of others"  # to be tested, and two to train
    )
    _check_enough_groups(labels, groups, 3, f"{n_folds} folds", least)
    _check_enough_groups(labels, groups, n_folds, f"{n_folds} folds", "Use fewer folds")
    tables = []
    for repeat in range(n_repeats):
        folds, inner = _nested_folds(tuple(labels.tolist()), tuple(groups.tolist()), n_folds, seed * 1000 + repeat)
        parts = [_fold_table(manifest, groups, folds != fold, inner[fold]) for fold in range(n_folds)]
        tables += [part.assign(repeat=repeat, fold=fold) for fold, part in enumerate(parts)]
    return pd.concat(tables, ignore_index=True)[COLUMNS]


@lru_cache(maxsize=128)  # a chapter asks for the same folds for every model
def _nested_folds(labels: tuple[str, ...], groups: tuple[str, ...], n_folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fold of each image, (n,), and for each fold the inner fold of each image, (n_folds, n), -1 where tested; read-only."""
    label, group = np.array(labels), np.array(groups)
    folds = assign_folds(label, group, n_folds, seed)
    inner = np.full((n_folds, len(label)), -1)
    for fold in range(n_folds):
        train = folds != fold
        if train.all() or len(np.setdiff1d(label, label[train])):
            raise MpoxError(
                f"The groups are too large for {n_folds} folds: fold {fold} is empty or takes a whole class with it. "
                "Use fewer folds, or another seed."
            )
        inner[fold, train] = inner_folds(label[train], group[train], seed)
    folds.flags.writeable = inner.flags.writeable = False
    return folds, inner


def _fold_table(manifest: pd.DataFrame, groups: np.ndarray, train: np.ndarray, inner: np.ndarray) -> pd.DataFrame:
    """The rows of one fold: everything outside ``train`` is tested."""
    role = np.where(train, "train", "test")
    return pd.DataFrame({"image_id": manifest["image_id"], "group_id": groups, "role": role, "inner_fold": inner})


def make_external_split(manifest: pd.DataFrame, train_source: str, test_source: str, *, seed: int = 0) -> pd.DataFrame:
    """Train on all images of one data set, test on all of another; the manifest is of both (`mpox.protocols.pairs.combine`).

    Shared photographs stay in: the evaluation leaves them out, or keeps only those. The table is as of `make_splits`, with repeat
    0 and fold 0; ``group_id`` is the honest group, which no inner fold divides.
    """
    manifest = manifest.sort_values("image_id", ignore_index=True)
    there = sorted(manifest["source"].unique())
    for name in (train_source, test_source):
        if name not in there:
            raise MpoxError(f"The data set '{name}' is not in this manifest, which has {', '.join(there)}: combine it first.")
    if train_source == test_source:
        raise MpoxError(f"External validation needs two data sets, not '{train_source}' twice.")
    manifest = manifest[manifest["source"].isin([train_source, test_source])].reset_index(drop=True)
    train = (manifest["source"] == train_source).to_numpy()
    labels = manifest["label"]
    unseen = sorted(set(labels[~train]) - set(labels[train]))
    if unseen:
        raise MpoxError(f"'{train_source}' has no images of {', '.join(unseen)}: use a task whose classes both data sets have.")
    groups = source_groups(manifest).to_numpy(dtype=str)
    inner = np.full(len(manifest), -1)
    inner[train] = inner_folds(labels.to_numpy(dtype=str)[train], groups[train], seed * 1000)
    return _fold_table(manifest, groups, train, inner).assign(repeat=0, fold=0)[COLUMNS]


def nested_splits(split: pd.DataFrame) -> pd.DataFrame:
    """Each inner fold of each training part as a test fold of its own; the test images of the outer fold have no row.

    So training images are predicted by models that have not seen them, for calibration and thresholds. ``fold`` is the outer fold
    times `FOLD_STEP`, plus the inner fold that is tested; the other inner folds are numbered anew from 0. An image that is never
    held out (inner fold -1 in training) stays in training.
    """
    parts = []
    for (_, fold), rows in split[split["role"] == "train"].groupby(["repeat", "fold"]):
        numbers = sorted(rows.loc[rows["inner_fold"] >= 0, "inner_fold"].unique())
        if len(numbers) < 3:
            raise TooFewImages(
                f"A class has {len(numbers)} groups to train on in fold {fold}, and nested predictions need three: add images of "
                "others, or leave the class with the fewest groups out."
            )
        for number in numbers:
            others = {other: place for place, other in enumerate(other for other in numbers if other != number)} | {-1: -1}
            tested = rows["inner_fold"] == number
            parts.append(
                rows.assign(
                    fold=fold * FOLD_STEP + number,
                    role=tested.map({True: "test", False: "train"}),
                    inner_fold=rows["inner_fold"].map(others).where(~tested, -1).astype("int64"),
                )
            )
    return pd.concat(parts, ignore_index=True)


def split_hash(split: pd.DataFrame) -> str:
    """Sixteen hex digits that stand for a split table (or the rows of one fold of it), its weights included if it has any."""
    columns = [*COLUMNS, *(["weight"] if "weight" in split else [])]
    text = split[columns].sort_values(["repeat", "fold", "image_id"]).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def siblings_in_training(split: pd.DataFrame, groups: pd.Series) -> float:
    """Share of test images (0 to 1) that have a sibling in training; arguments as for `has_sibling`."""
    return float(has_sibling(split, groups)["sibling"].mean())


def has_sibling(split: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """Which test images have a sibling, an image of the same honest group (``groups``, by ``image_id``), in training.

    One row a test image of a repeat: ``repeat``, ``fold``, ``image_id``, ``sibling`` (bool).
    """
    keyed = split.assign(honest=split["image_id"].map(groups))
    train = keyed[keyed["role"] == "train"][["repeat", "fold", "honest"]].drop_duplicates()
    test = keyed[keyed["role"] == "test"]
    found = test.merge(train, on=["repeat", "fold", "honest"], how="left", indicator=True)
    return found.assign(sibling=found["_merge"] == "both")[["repeat", "fold", "image_id", "sibling"]]
