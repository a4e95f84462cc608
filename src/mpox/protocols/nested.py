"""Predictions of training images by models that have not seen them: what calibration and thresholds may be fitted on."""

import pandas as pd

from mpox._core import MpoxError

#: Fold numbers of the inner runs: the outer fold times this, plus the inner fold.
FOLD_STEP = 100


def nested_splits(split: pd.DataFrame) -> pd.DataFrame:
    """Each inner fold of each training part as a test fold of its own; the test images of the outer fold have no row.

    ``fold`` is the outer fold times `FOLD_STEP`, plus the inner fold that is tested; the other inner folds are numbered anew
    from 0. An image that is never held out (inner fold -1 in training) stays in training.

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
