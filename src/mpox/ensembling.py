"""Ensembles: several models asked about the same images, and their answers averaged."""

import pandas as pd

from mpox.errors import MpoxError

_KEYS = ["repeat", "fold", "image_id"]
_SHARED = ["dataset", "protocol", "group_id", "label"]
_JOINED = ["run_id", "regime", "backbone"]
JOINT = " + "


def ensemble(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The mean of several models' class probabilities, image by image.

    The arithmetic mean, every model counting alike: the sum rule of Kittler et al. (1998), which is the least sensitive of the
    fixed rules to one model that is wrong and sure of it; a geometric mean would let that one decide.

    Parameters
    ----------
    tables : list of DataFrame
        From `mpox.cross_validate`, at least two, of the same images in the same repeats and folds.

    Returns
    -------
    DataFrame
        As one of the tables, in the first one's order. ``run_id``, ``regime`` and ``backbone`` join the models' own with `JOINT`,
        each named once.

    Raises
    ------
    MpoxError
        If there are fewer than two tables, or they differ in their images, folds, groups, labels or classes.

    Examples
    --------
    >>> one = pd.DataFrame({
    ...     "run_id": ["a"], "dataset": ["d"], "protocol": ["source"], "regime": ["svm"], "backbone": ["lbp"], "repeat": [0],
    ...     "fold": [0], "image_id": ["1.png"], "group_id": ["g"], "label": ["Mpox"], "p_Mpox": [0.5], "p_Normal": [0.5]})
    >>> both = ensemble([one, one.assign(run_id="b", backbone="hog", p_Mpox=0.9, p_Normal=0.1)])
    >>> both[["run_id", "backbone", "p_Mpox"]].values.tolist()
    [['a + b', 'lbp + hog', 0.7]]
    """
    if len(tables) < 2:
        raise MpoxError("An ensemble needs the predictions of at least two models.")
    first = tables[0].reset_index(drop=True)
    columns = [column for column in first if column.startswith("p_")]
    joined = {name: [first[name]] for name in _JOINED}
    total = first[columns].copy()
    for number, table in enumerate(tables[1:], start=2):
        if sorted(column for column in table if column.startswith("p_")) != sorted(columns):
            raise MpoxError(
                f"Table {number} of the ensemble has other classes than the first: put models of one data set together."
            )
        if table.duplicated(_KEYS).any() or len(table) != len(first):
            raise _other(number, "images, repeats or folds")
        found = first[_KEYS].merge(table, on=_KEYS, how="left", validate="1:1", indicator=True)
        if (found["_merge"] != "both").any():
            raise _other(number, "images, repeats or folds")
        differs = [name for name in _SHARED if not found[name].equals(first[name])]
        if differs:
            raise _other(number, " and ".join(differs))
        total += found[columns]
        for name in _JOINED:
            joined[name].append(found[name])
    result = first.copy()
    result[columns] = total / len(tables)
    for name, parts in joined.items():
        result[name] = [JOINT.join(dict.fromkeys(values)) for values in zip(*parts, strict=True)]
    return result


def _other(number: int, what: str) -> MpoxError:
    return MpoxError(
        f"Table {number} of the ensemble differs from the first in its {what}: average models of one data set under one "
        "protocol, with the same repeats."
    )
