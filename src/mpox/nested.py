"""Predictions of training images by models that have not seen them: what calibration and thresholds may be fitted on."""

import pandas as pd

from mpox.config import ModelConfig
from mpox.errors import MpoxError
from mpox.experiment import predict_splits
from mpox.recorded import RecordedStore
from mpox.store import Dataset, RunStore

#: Fold numbers of the inner runs: the outer fold times this, plus the inner fold.
FOLD_STEP = 100


def nested_splits(split: pd.DataFrame) -> pd.DataFrame:
    """Each inner fold of each training part as a test fold of its own.

    The test images of the outer fold have no row: nothing of them can be learnt. Training and inner test part share no group,
    since no group crosses inner folds.

    Parameters
    ----------
    split : DataFrame
        From `mpox.splits.make_splits` or `mpox.splits.make_external_split`.

    Returns
    -------
    DataFrame
        Of the same form. ``fold`` is the outer fold times `FOLD_STEP`, plus the inner fold that is tested; the other inner folds
        are numbered anew from 0. An image that is never held out (inner fold -1 in training) stays in training.

    Raises
    ------
    MpoxError
        If there are fewer than three inner folds: one is tested, and two are needed for choices.
    """
    parts = []
    for (_, fold), rows in split[split["role"] == "train"].groupby(["repeat", "fold"]):
        numbers = sorted(rows.loc[rows["inner_fold"] >= 0, "inner_fold"].unique())
        if len(numbers) < 3:
            raise MpoxError(f"Fold {fold} has {len(numbers)} inner folds, and nested predictions need three: use more groups.")
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


def predict_nested(store: RunStore | RecordedStore, data: Dataset, split: pd.DataFrame, model: ModelConfig) -> pd.DataFrame:
    """Predictions of the training images of each fold, by models trained without their groups and without the test fold.

    Calibration, thresholds and conformal scores are fitted on these, never on a test fold. The models behind them are trained on
    three quarters of the training part, so that they are a little weaker than the one that is tested; this is the same
    compromise as in cross-validated calibration (Platt 1999, section 2.2).

    Parameters
    ----------
    store : RunStore or RecordedStore
    data : Dataset
    split : DataFrame
        The outer folds; see `nested_splits`.
    model : ModelConfig

    Returns
    -------
    DataFrame
        As `mpox.cross_validate` gives it, under the protocol ``nested``, with ``fold`` the *outer* fold and ``inner_fold`` what
        was held out: one row a repeat, outer fold and training image.

    Raises
    ------
    MpoxError
        See `nested_splits` and `mpox.experiment.predict_splits`.
    """
    table = predict_splits(store, data, "nested", nested_splits(split), model)
    return table.assign(inner_fold=table["fold"] % FOLD_STEP, fold=table["fold"] // FOLD_STEP)
