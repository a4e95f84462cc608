"""Numbers that depend on one file alone: measured once a file, in processes, and kept in the cache."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mpox.audit.local_features import parallel
from mpox.errors import MpoxError
from mpox.paths import atomic_write, cache_dir

#: The columns that say which picture a row is about.
IDENTITY = ["dataset", "image_id", "label"]


def _kept(name: str, sha256: str) -> Path:
    return cache_dir() / "audit" / name / sha256[:2] / f"{sha256}.json"


def _read(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # absent or damaged: measured anew
        return None
    return found if isinstance(found, dict) else None


def _measure(function: Callable[[str], dict], name: str, sha256: str, path: str) -> dict:
    found = function(path)
    atomic_write(_kept(name, sha256), json.dumps(found))
    return found


def measured(
    manifest: pd.DataFrame, function: Callable[[str], dict], name: str, *, jobs: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Apply a function to every file of a manifest; what is known of a file is read from the cache.

    Parameters
    ----------
    manifest : DataFrame
        With ``source``, ``image_id``, ``label``, ``sha256`` and ``path``.
    function : callable
        Path to a dictionary of numbers and words (JSON-able; ``None`` is a missing value); defined at the top of a module.
    name : str
        Names function and version in the cache; another name whenever the function's results change.
    jobs : int, optional
        Processes; all cores by default.
    progress : bool

    Returns
    -------
    DataFrame
        `IDENTITY` and the keys of the dictionaries, one row an image in the manifest's order.

    Raises
    ------
    MpoxError
        If the pictures are not on this machine, or one cannot be read any more, or the cache cannot be used.
    """
    if manifest["path"].isna().any():
        raise MpoxError("Pictures can be measured only where they are: name their folder with --data-dir or MPOX_DATA.")
    distinct = manifest.drop_duplicates("sha256")
    found = {sha256: _read(_kept(name, sha256)) for sha256 in distinct["sha256"]}
    missing = distinct[[found[sha256] is None for sha256 in distinct["sha256"]]]
    work = [(function, name, row.sha256, row.path) for row in missing.itertuples()]
    with tqdm(total=len(work), desc=name, unit="picture", delay=3, leave=False, disable=not progress) as bar:
        for (_, _, sha256, _), values in zip(work, parallel(_measure, work, jobs=jobs), strict=True):
            found[sha256] = values
            bar.update()
    identity = manifest[["source", "image_id", "label"]].set_axis(IDENTITY, axis=1).reset_index(drop=True)
    return identity.join(pd.DataFrame([found[sha256] for sha256 in manifest["sha256"]]))
