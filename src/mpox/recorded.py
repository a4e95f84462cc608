"""The recorded study, read: manifests, audits, predictions, histories and tables of real images, without the images."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mpox.audit import Audit, read_audit
from mpox.config import RunConfig, hash_of
from mpox.datasets import REGISTRY
from mpox.errors import MpoxError, WeightsMissing
from mpox.store import Dataset, RunResult, in_class_order, make_dataset, read_table


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
        self._predictions = dict(list(pd.read_parquet(self.root / "predictions.parquet").groupby("run_id")))
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
