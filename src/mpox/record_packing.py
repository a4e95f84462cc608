"""Recorded predictions made small without losing a bit: what the other probabilities nearly say need not be written out."""

import numpy as np
import pandas as pd

#: Columns of packed predictions: the class that is left out, and how far its probability's bits are from 1 minus the rest.
LEFT_OUT, BITS = "left_out", "bits"


def pack_predictions(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out one probability of each row; the difference in bits to 1 minus the others is kept, and is nearly always tiny.

    Parameters
    ----------
    table : DataFrame
        Predictions of several runs: columns ``p_<class>``, missing where a data set has no such class.

    Returns
    -------
    DataFrame
        The same rows. The first class of each row is missing; ``left_out`` names its column, ``bits`` is int64.

    Examples
    --------
    >>> table = pd.DataFrame({"p_a": [0.3, 1e-9], "p_b": [0.7, 1.0], "p_c": [np.nan, 0.0]})
    >>> unpack_predictions(pack_predictions(table)).equals(table)
    True
    """
    columns, values, first = _first_of(table)
    rows = np.arange(len(table))
    bits = values[rows, first].view(np.int64) - _one_minus_others(values, first).view(np.int64)
    values[rows, first] = np.nan
    packed = table.assign(**dict(zip(columns, values.T, strict=True)))
    return packed.assign(**{LEFT_OUT: np.array(columns, dtype=object)[first], BITS: bits})


def unpack_predictions(packed: pd.DataFrame) -> pd.DataFrame:
    """The inverse of `pack_predictions`, to the last bit; a table that was never packed is given back as it is."""
    if LEFT_OUT not in packed:
        return packed
    columns = [column for column in packed if column.startswith("p_")]
    values = packed[columns].to_numpy(dtype=float, copy=True)
    first = pd.Index(columns).get_indexer(packed[LEFT_OUT])
    bits = packed[BITS].to_numpy(dtype=np.int64) + _one_minus_others(values, first).view(np.int64)
    values[np.arange(len(packed)), first] = bits.view(np.float64)
    return packed.drop(columns=[LEFT_OUT, BITS]).assign(**dict(zip(columns, values.T, strict=True)))


def _first_of(table: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    columns = [column for column in table if column.startswith("p_")]
    values = table[columns].to_numpy(dtype=float, copy=True)
    return columns, values, (~np.isnan(values)).argmax(axis=1)


def _one_minus_others(values: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """1 minus the other probabilities, taken away one by one from left to right, so that every machine gets the same bits."""
    rest = np.ones(len(values))
    for number, column in enumerate(values.T):
        rest = np.where(np.isnan(column) | (left_out == number), rest, rest - column)
    return rest
