"""Predictions without a class: how well the others are told from each other by the same model."""

import pandas as pd

from mpox.errors import MpoxError


def without_class(predictions: pd.DataFrame, label: str) -> pd.DataFrame:
    """The same predictions without one class: its images are left out, and its probability is shared out among the others.

    A data set of healthy skin and of rashes has an easy part. Without the easy class the metrics say how well the rashes are told
    from each other by the same model; it is not trained again.

    Parameters
    ----------
    predictions : DataFrame
        See `evaluate`.
    label : str
        The class to leave out.

    Returns
    -------
    DataFrame
        The other classes' probabilities are divided by their sum (equal ones where that is 0).

    Raises
    ------
    MpoxError
        If there is no such class, or fewer than two others.

    Examples
    --------
    >>> table = pd.DataFrame({"label": ["a", "b", "c"], "p_a": [0.5, 0.2, 0.0], "p_b": [0.3, 0.2, 0.5], "p_c": [0.2, 0.6, 0.5]})
    >>> without_class(table, "c")["p_a"].tolist()
    [0.625, 0.5]
    """
    others = [column for column in predictions.columns if column.startswith("p_") and column != f"p_{label}"]
    if f"p_{label}" not in predictions or len(others) < 2:
        raise MpoxError(f"There is no class '{label}' that could be left out of {', '.join(others)}.")
    kept = predictions[predictions["label"] != label].drop(columns=f"p_{label}").reset_index(drop=True)
    total = kept[others].sum(axis=1)
    kept[others] = kept[others].div(total.where(total > 0, 1), axis=0).where(total > 0, 1 / len(others))
    return kept
