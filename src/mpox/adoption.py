"""Recorded runs put back into a run store, so that a study goes on from what is published instead of computing it again."""

import shutil
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mpox.paths import TEMPORARY, atomic_write, explaining, move_folder
from mpox.recorded import RecordedStore
from mpox.store import RunResult, RunStore

#: How the names of derived tables begin that hold a machine's times.
TIMED = ("costs-", "latency-")


def _as_it_is(result: RunResult, _folder: Path) -> RunResult:
    return result


def adopt(recorded: RecordedStore, store: RunStore) -> dict[str, int]:
    """Copy the runs, splits and derived tables that a store lacks from a recorded study.

    A run keeps its id, predictions, history and environment, which says on which machine it was computed; a checkpoint was never
    recorded, so that an adopted network can be evaluated and not asked again. Audits come along under the key of the files and
    versions that they were made of: another kind of processor finds a few pairs more or fewer, and then groups, folds and runs
    would be others. What the store already has is left as it is. Tables that were timed (``costs``) stay with the machine that
    timed them and are not copied.

    Parameters
    ----------
    recorded : RecordedStore
    store : RunStore

    Returns
    -------
    dict of str to int
        How many ``runs``, ``audits``, ``splits`` and ``tables`` were copied.
    """
    copied = {"runs": 0, "audits": 0, "splits": 0, "tables": 0}
    for split, rows in pd.read_parquet(recorded.root / "splits.parquet").groupby("split"):
        path = store.root / "splits" / f"{split}.csv"
        copied["splits"] += not path.is_file()
        store.keep_split(split, rows.drop(columns="split"))
    for result in tqdm(recorded.results(), desc="runs", unit="run", leave=False):
        copied["runs"] += not store.has(result.config)
        store.run(result.config, partial(_as_it_is, result))
    for name, key in recorded.study.get("audits", {}).items():
        folder = store.root / "audits" / key
        if not folder.is_dir():
            fresh = folder.with_name(f".{key}{TEMPORARY}")
            shutil.rmtree(fresh, ignore_errors=True)
            with explaining(folder):
                shutil.copytree(recorded.root / "audits" / name, fresh)
                move_folder(fresh, folder)
            copied["audits"] += 1
    for file in sorted((recorded.root / "tables").glob("*.csv")):
        path = store.root / "tables" / file.name
        if not path.is_file() and not file.name.startswith(TIMED):
            atomic_write(path, file.read_text())
            copied["tables"] += 1
    return copied
