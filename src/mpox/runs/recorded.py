"""The recorded study, read: manifests, audits, predictions, histories and tables of real images, without the images."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox._core import TEMPORARY, MpoxError, WeightsMissing, atomic_write, explaining, hash_of, move_folder
from mpox.audit import Audit, read_audit
from mpox.data.dataset import Dataset, make_dataset
from mpox.data.registry import REGISTRY
from mpox.models.config import RunConfig
from mpox.runs.store import RECORDED, RunResult, RunStore, in_class_order, read_table, store_folder

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


class RecordedStore:
    """The recorded study: manifests, predictions, histories and tables of real images, without the images.

    Parameters
    ----------
    root : path
        A folder written by ``mpox record``.
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        self.used_runs: dict[str, float] = {}
        self.used_tables: dict[str, None] = {}
        self.used_audits: dict[str, str] = {}
        self.study = json.loads(study.read_text()) if (study := self.root / "study.json").is_file() else {}
        if not (self.root / "runs.json").is_file():
            raise MpoxError(f"There is no recorded study in {self.root}: make one with `mpox record`.")
        self._runs = {entry["id"]: entry for entry in json.loads((self.root / "runs.json").read_text())}
        self._environments = json.loads((self.root / "environments.json").read_text())
        self._predictions = dict(list(unpack_predictions(pd.read_parquet(self.root / "predictions.parquet")).groupby("run_id")))
        self._history = dict(list(pd.read_parquet(self.root / "history.parquet").groupby("run_id")))

    def dataset(self, name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
        """Load a data set's recorded manifest and audit; ``data_dir`` is not looked at."""
        is_phantom = name in REGISTRY and REGISTRY[name].is_phantom
        return make_dataset(name, self.audit([name]), is_phantom=is_phantom, has_pictures=False)

    def audit(self, names: list[str], data_dir: str | os.PathLike | None = None) -> Audit:
        """Read the audit of several data sets together; ``data_dir`` is not looked at."""
        manifests = [self._manifest(name) for name in sorted(names)]
        key = "+".join(sorted(names))
        if not (self.root / "audits" / key).is_dir():
            there = ", ".join(sorted(folder.name for folder in (self.root / "audits").glob("*")))
            raise MpoxError(f"The recorded study has no audit of {key}; it has {there or 'none'}.")
        self.used_audits[key] = key
        return read_audit(self.root / "audits" / key, manifests)

    def _manifest(self, name: str) -> pd.DataFrame:
        path = self.root / "manifests" / f"{name}.csv"
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv")))
            raise MpoxError(f"The data set '{name}' is not in the recorded study; it has {there}.")
        manifest = read_table(path, dtype={"image_id": "str", "label": "str", "patient_id": "string"})
        manifest.insert(1, "path", pd.NA)
        return manifest

    def get(self, config: RunConfig) -> RunResult | None:
        """Read a run; ``None`` if it was not recorded."""
        return self._read(config) if config.id in self._runs else None

    def _read(self, config: RunConfig) -> RunResult:
        entry = self._runs[config.id]
        self.used_runs[config.id] = entry["seconds"]
        predictions = in_class_order(self._predictions[config.id].drop(columns="run_id").dropna(axis=1, how="all"))
        environment = {**self._environments[entry["environment"]], "seconds": entry["seconds"]}
        return RunResult(config, predictions.reset_index(drop=True), self.history(config.id), environment)

    def results(self) -> list[RunResult]:
        """Every recorded run."""
        return [self._read(RunConfig.from_dict(entry["config"])) for entry in self._runs.values()]

    def run(self, config: RunConfig, compute: Callable[[Path], RunResult] | None = None) -> RunResult:
        """Read a run. Nothing is ever computed here.

        Raises
        ------
        MpoxError
            If it was not recorded; `WeightsMissing` if nothing of its backbone was.
        """
        found = self.get(config)
        if found is None:
            model = config.model
            recorded = {entry["config"]["model"]["backbone"] for entry in self._runs.values()}
            if model.weights == "imagenet" and model.backbone not in recorded:
                raise WeightsMissing(f"The study was recorded where no weights of '{model.backbone}' were to be had.")
            raise MpoxError(
                f"The recorded study has no run {model.regime}/{model.backbone} on {config.dataset}, {config.protocol}, "
                f"fold {config.fold} (id {config.id}): run the profile 'cpu' where the pictures are, then `mpox record`."
            )
        return found

    def history(self, run_id: str) -> pd.DataFrame:
        """The history of a recorded run; see `RunStore.history`."""
        if run_id not in self._history:
            raise MpoxError(f"The run {run_id} was not recorded: take predictions and history from the same store.")
        return self._history[run_id].drop(columns="run_id").dropna(axis=1, how="all").reset_index(drop=True)

    def keep_split(self, identity: str, rows: pd.DataFrame) -> None:
        """The recorded study has its splits already; that this one is among them is what a run's id says."""

    def table(self, name: str, spec: dict, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Read a recorded table; see `RunStore.table`."""
        key = f"{name}-{hash_of(spec)}"
        path = self.root / "tables" / f"{key}.csv"
        if not path.is_file():
            raise MpoxError(f"The recorded study has no table '{key}': run the profile 'cpu', then `mpox record`.")
        self.used_tables[key] = None
        return read_table(path)


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


def open_store(name: str | os.PathLike = "") -> "RunStore | RecordedStore":
    """Open a run store.

    Parameters
    ----------
    name : str or path
        Empty for the default (``MPOX_RUN_STORE``, or ``.mpox/store`` in the project); ``"recorded"`` for the recorded study in
        ``results/``; else a folder. A relative one is taken from the project's root.
    """
    if str(name) == RECORDED:
        pass

        return RecordedStore(store_folder(name))
    return RunStore(store_folder(name))
