"""Decisions of people who looked at pairs: confirmed or rejected, with a reason; the audit honours them."""

import hashlib
import os
from pathlib import Path

import pandas as pd

from mpox.errors import MpoxError

COLUMNS = ["dataset_a", "image_id_a", "dataset_b", "image_id_b", "decision", "reason"]
#: The decisions on the registered data sets that come with this package.
OURS = Path(__file__).with_name("overrides.csv")


def read_overrides(path: str | os.PathLike | None = None) -> pd.DataFrame:
    """Read the package's decisions, and those of a file, which win.

    So that a study honours what ``mpox audit`` does, the file may also be named by the environment variable ``MPOX_OVERRIDES``.

    Parameters
    ----------
    path : path, optional
        A CSV file with the columns ``dataset_a``, ``image_id_a``, ``dataset_b``, ``image_id_b``, ``decision`` (confirm or reject)
        and ``reason``; the order of the two images does not matter. ``MPOX_OVERRIDES``, if set, when not given.

    Returns
    -------
    DataFrame
        These columns, the first image sorting before the second.

    Raises
    ------
    MpoxError
        If the file is missing or lacks a column, or a decision is neither confirm nor reject.
    """
    tables = [_read(OURS)]
    path = path or os.environ.get("MPOX_OVERRIDES")
    if path:
        tables.append(_read(Path(path)))
    return _joined(tables)


def hash_of_decisions(table: pd.DataFrame) -> str:
    """Eight hex digits that stand for the decisions of `read_overrides`."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:8]


def package_decisions() -> pd.DataFrame:
    """The decisions that come with this package, as `read_overrides` gives them."""
    return _joined([_read(OURS)])


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    sides = ["dataset_a", "image_id_a"], ["dataset_b", "image_id_b"]
    ends = [list(table[side].itertuples(index=False, name=None)) for side in sides]
    turned = pd.Series([first > second for first, second in zip(*ends, strict=True)], index=table.index, dtype=bool)
    table.loc[turned, sides[0] + sides[1]] = table.loc[turned, sides[1] + sides[0]].to_numpy()
    return table.drop_duplicates(COLUMNS[:4], keep="last", ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise MpoxError(f"The overrides {path} cannot be read ({error}): name a CSV file with {', '.join(COLUMNS)}.") from error
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        raise MpoxError(f"The overrides {path} lack the columns {', '.join(lacking)}.")
    if ((table["dataset_a"] == table["dataset_b"]) & (table["image_id_a"] == table["image_id_b"])).any():
        raise MpoxError(f"The overrides {path} have a pair of an image with itself: remove that line.")
    unknown = sorted(set(table["decision"]) - {"confirm", "reject"})
    if unknown:
        raise MpoxError(f"The overrides {path} have the decision '{unknown[0]}': write confirm or reject.")
    return table[COLUMNS]
