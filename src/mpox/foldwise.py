"""Whatever is fitted beside a model (temperature, conformal scores) is fitted for each outer fold, inside its training groups."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mpox.errors import MpoxError


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes, in the order of the columns ``p_<class>``."""
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def probabilities_of(predictions: pd.DataFrame) -> np.ndarray:
    """The columns ``p_<class>`` as float64 of shape (n, C)."""
    return predictions[[f"p_{label}" for label in class_names(predictions)]].to_numpy(dtype=float)


def codes_of(predictions: pd.DataFrame) -> np.ndarray:
    """The true classes as int64 of shape (n,), numbered in the order of the columns ``p_<class>``."""
    return pd.Categorical(predictions["label"], categories=class_names(predictions)).codes.astype(np.int64)


def by_fold(
    predictions: pd.DataFrame, nested: pd.DataFrame, work: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """Do something to the test predictions of each fold, with the nested predictions of the same fold and nothing else.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`.
    nested : DataFrame
        From `mpox.nested.predict_nested`, of the same model and folds. Repeats that are not nested are left out.
    work : callable
        Takes the test predictions and the nested predictions of one fold, gives a table.

    Returns
    -------
    DataFrame
        The tables of all folds, one below the other.

    Raises
    ------
    MpoxError
        If a fold has no nested predictions, an image of its test part is among them, or there is no repeat in common.
    """
    inside = {key: part for key, part in nested.groupby(["repeat", "fold"])}
    tables = []
    for (repeat, fold), test in predictions[predictions["repeat"].isin(nested["repeat"])].groupby(["repeat", "fold"]):
        if (repeat, fold) not in inside:
            raise MpoxError(f"Fold {fold} of repeat {repeat} has no nested predictions: make them of the same split.")
        known = inside[repeat, fold]
        if set(known["group_id"]) & set(test["group_id"]) or set(known["image_id"]) & set(test["image_id"]):
            raise MpoxError(
                f"Fold {fold} of repeat {repeat} tests groups that its nested predictions hold: nothing may be fitted on them. "
                "Use a protocol that keeps groups together, and nested predictions of the same split."
            )
        tables.append(work(test, known))
    if not tables:
        raise MpoxError("The predictions and the nested predictions have no repeat in common.")
    return pd.concat(tables, ignore_index=True)
