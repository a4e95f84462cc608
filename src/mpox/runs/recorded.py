"""The recorded study, written and read: what runs on real images leave behind, without the images.

``results/`` holds manifests, audits, splits, configurations, environments, predictions, histories, derived tables and metrics.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, NotRecorded, WeightsMissing, atomic_write, hash_of, replacing_folder
from mpox.audit import Audit, audit_rules, read_audit
from mpox.data.dataset import Dataset, make_dataset
from mpox.data.registry import REGISTRY
from mpox.models.config import ModelConfig, RunConfig, Training
from mpox.runs.croissant import write_description
from mpox.runs.store import (
    RECORDED,
    RunResult,
    RunStore,
    audit_of,
    in_class_order,
    read_manifest,
    read_run,
    read_table,
    store_folder,
)
from mpox.stats.metrics import evaluate

#: The protocols of which every image of a data set has out-of-fold predictions; the others have their tables in the chapters.
CROSS_VALIDATED = ("random_image", "patient", "source")
#: How the names of derived tables begin that hold a machine's times.
TIMED = ("costs-", "latency-")
#: What tells one model of ``metrics.csv`` from another, beside what of its training is not the default.
SETTINGS = ("regime", "backbone", "head", "weights", "image_size", "mirror", "seed")


class RecordedStore:
    """A recorded study, read from the folder that `write_record` has written; it never computes a run or a table."""

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
        predictions = pd.read_parquet(self.root / "predictions.parquet")
        predictions = predictions.astype(dict.fromkeys(predictions.select_dtypes("floating"), float))
        self._predictions = dict(list(predictions.groupby("run_id")))
        self._results: dict[str, RunResult] = {}
        self._history = dict(list(pd.read_parquet(self.root / "history.parquet").groupby("run_id")))

    def dataset(self, name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
        """Load a data set, as it was recorded with others; see `datasets`."""
        return self.datasets([name])[0]

    def datasets(self, names: list[str], *, data_dir: str | os.PathLike | None = None) -> list[Dataset]:
        """Load recorded manifests and audits, with the study's groups (`RunStore.datasets`); ``data_dir`` is not looked at."""
        there = [folder.name for folder in (self.root / "audits").glob("*")]
        whole = audit_of(names, there, whole=True)
        together = self.audit(whole.split("+") if whole else names)
        phantoms = {name for name in names if name in REGISTRY and REGISTRY[name].is_phantom}
        return [make_dataset(n, self.audit([n]), together, is_phantom=n in phantoms, has_pictures=False) for n in names]

    def audit(self, names: list[str], data_dir: str | os.PathLike | None = None) -> Audit:
        """Read the audit of several data sets together; ``data_dir`` is not looked at."""
        manifests, key = [self._manifest(name) for name in sorted(names)], "+".join(sorted(names))
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
        manifest = read_manifest(path)
        manifest.insert(1, "path", pd.NA)
        return manifest

    def get(self, config: RunConfig) -> RunResult | None:
        """Read a run; ``None`` if it was not recorded."""
        return self._read(config) if config.id in self._runs else None

    def _read(self, config: RunConfig) -> RunResult:
        entry = self._runs[config.id]
        self.used_runs[config.id] = entry["seconds"]
        if config.id not in self._results:
            predictions = in_class_order(self._predictions[config.id].drop(columns="run_id").dropna(axis=1, how="all"))
            environment = {**self._environments[entry["environment"]], "seconds": entry["seconds"]}
            found = RunResult(config, predictions.reset_index(drop=True), self.history(config.id), environment)
            self._results[config.id] = found
        return self._results[config.id]

    def results(self) -> list[RunResult]:
        """Every recorded run."""
        return [self._read(RunConfig.from_dict(entry["config"])) for entry in self._runs.values()]

    def run(self, config: RunConfig, compute: Callable[[Path], RunResult] | None = None) -> RunResult:
        """Read a run; one that was not recorded is an error, `WeightsMissing` if nothing of its backbone was."""
        if found := self.get(config):
            return found
        model = config.model
        recorded = {entry["config"]["model"]["backbone"] for entry in self._runs.values()}
        if model.weights == "imagenet" and model.backbone not in recorded:
            raise WeightsMissing(f"The study was recorded where no weights of '{model.backbone}' were available.")
        raise MpoxError(
            f"The recorded study has no run {model.regime}/{model.backbone} on {config.dataset}, {config.protocol}, "
            f"fold {config.fold} (id {config.id}): run the profile 'cpu' where the images are, then `mpox record`."
        )

    def history(self, run_id: str) -> pd.DataFrame:
        """The history of a recorded run; see `RunStore.history`."""
        if run_id not in self._history:
            raise MpoxError(f"The run {run_id} was not recorded: take predictions and history from the same store.")
        return self._history[run_id].drop(columns="run_id").dropna(axis=1, how="all").reset_index(drop=True)

    def keep_split(self, identity: str, rows: pd.DataFrame) -> None:
        """Nothing to do: a run's id, by which it is read, says that its split was recorded."""

    def table(self, name: str, spec: dict, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Read a recorded table; see `RunStore.table`."""
        key = f"{name}-{hash_of(spec)}"
        path = self.root / "tables" / f"{key}.csv"
        if not path.is_file():
            raise NotRecorded(f"The recorded study has no table '{key}': run the profile 'cpu', then `mpox record`.")
        self.used_tables[key] = None
        return read_table(path)


#: Where runs are kept, or read: what `open_store` gives.
Store = RunStore | RecordedStore


def open_store(name: str | os.PathLike = "") -> Store:
    """Open a run store: ``"recorded"`` is the recorded study in ``results/``, any other name a folder.

    A relative one is taken from the project's root. The default is ``MPOX_RUN_STORE``, or ``.mpox/store``.
    """
    return (RecordedStore if str(name) == RECORDED else RunStore)(store_folder(name))


def write_record(
    target: Path,
    store: RunStore,
    *,
    runs: Iterable[str],
    tables: Iterable[str],
    datasets: Iterable[str],
    audits: dict[str, str],
    about: dict,
) -> RecordedStore:
    """Write a recorded study, whole or not at all; one that was there before is replaced, its ``README.md`` kept.

    ``runs`` are ids, ``tables`` keys of derived tables, ``audits`` the names of an audit's data sets and its key; ``about`` goes
    into ``study.json`` beside ``compute_s``, the seconds that computing the runs took.
    """
    results = [read_run(store.root / "runs" / run_id) for run_id in runs]
    with replacing_folder(target) as fresh:
        _write_runs(fresh, store, results)
        for kind, names in (("manifests", datasets), ("tables", tables)):
            (fresh / kind).mkdir()
            for name in names:
                shutil.copy(store.root / kind / f"{name}.csv", fresh / kind)
        for name, key in audits.items():
            shutil.copytree(store.root / "audits" / key, fresh / "audits" / name)
        took = round(sum(result.environment["seconds"] for result in results), 1)
        device = ", ".join(sorted({result.environment["device"] for result in results}))
        study = {**about, "audits": audits, "audit_rules": audit_rules(), "compute_s": took, "device": device}
        (fresh / "study.json").write_text(json.dumps(study, indent=1) + "\n")
        if (target / "README.md").is_file():
            shutil.copy(target / "README.md", fresh)
        metrics = recorded_metrics(RecordedStore(fresh))
        metrics.to_csv(fresh / "metrics.csv", index=False, lineterminator="\n", float_format="%.6f")
        write_description(fresh)
    return RecordedStore(target)


def _write_runs(folder: Path, store: RunStore, results: list[RunResult]) -> None:
    environments, entries = {}, []
    for result in results:
        shared = {key: value for key, value in result.environment.items() if key != "seconds"}
        environments[hash_of(shared)] = shared
        entry = {"id": result.config.id, "environment": hash_of(shared), "seconds": result.environment["seconds"]}
        entries.append(json.dumps({**entry, "config": result.config.to_dict()}))
    (folder / "runs.json").write_text("[\n" + ",\n".join(entries) + "\n]\n")
    (folder / "environments.json").write_text(json.dumps(environments, indent=1) + "\n")
    splits = sorted({result.config.split for result in results})
    parts = {
        "predictions": [result.predictions.assign(run_id=result.config.id) for result in results],
        "history": [result.history.assign(run_id=result.config.id) for result in results],
        "splits": [pd.read_csv(store.root / "splits" / f"{split}.csv").assign(split=split) for split in splits],
    }
    for name, tables in parts.items():
        table = pd.concat(tables, ignore_index=True)
        floats = [column for column in table if pd.api.types.is_float_dtype(table[column])]
        if name == "predictions":
            table = table.astype(dict.fromkeys(floats, np.float32))  # seven digits: no measure knows the rest
        table.to_parquet(  # small, because floats are split into their bytes
            folder / f"{name}.parquet", index=False, compression="zstd", compression_level=19,
            use_dictionary=[column for column in table if column not in floats], use_byte_stream_split=floats,
        )  # fmt: skip


def adopt(recorded: RecordedStore, store: RunStore) -> dict[str, int]:
    """Copy the runs, splits, audits and derived tables that a store lacks, and count them; tables with times are not copied.

    Audits come along because another kind of processor finds a few pairs more or fewer: groups, folds and runs would be others.
    """
    copied = {"runs": 0, "audits": 0, "splits": 0, "tables": 0}
    for split, rows in pd.read_parquet(recorded.root / "splits.parquet").groupby("split"):
        copied["splits"] += not (store.root / "splits" / f"{split}.csv").is_file()
        store.keep_split(split, rows.drop(columns="split"))
    for result in tqdm(recorded.results(), desc="runs", unit="run", leave=False):
        copied["runs"] += not store.has(result.config)
        store.run(result.config, partial(lambda result, folder: result, result))
    for name, key in recorded.study.get("audits", {}).items():
        folder = store.root / "audits" / key
        if not folder.is_dir():
            with replacing_folder(folder) as fresh:
                shutil.copytree(recorded.root / "audits" / name, fresh, dirs_exist_ok=True)
            copied["audits"] += 1
    for file in sorted((recorded.root / "tables").glob("*.csv")):
        path = store.root / "tables" / file.name
        if not path.is_file() and not file.name.startswith(TIMED):
            atomic_write(path, file.read_text())
            copied["tables"] += 1
    return copied


def recorded_metrics(store: RecordedStore) -> pd.DataFrame:
    """What `mpox.evaluate` says of every cross-validation, behind ``dataset``, ``protocol``, `model_settings` and ``runs``."""
    experiments: dict[str, list[RunResult]] = {}
    for result in store.results():
        config = result.config
        if config.protocol in CROSS_VALIDATED:
            key = hash_of({"dataset": config.dataset, "protocol": config.protocol, "model": asdict(config.model)})
            experiments.setdefault(key, []).append(result)
    rows = []
    for results in experiments.values():
        config = results[0].config
        groups = store.dataset(config.dataset).groups
        predictions = pd.concat([result.predictions.assign(repeat=result.config.repeat) for result in results], ignore_index=True)
        predictions["group_id"] = predictions["image_id"].map(groups)
        about = {"dataset": config.dataset, "protocol": config.protocol, **model_settings(config.model), "runs": len(results)}
        rows.append(evaluate(predictions).assign(**about)[[*about, "metric", "class", "estimate", "low", "high"]])
    table = pd.concat(rows, ignore_index=True)
    return table.sort_values(["dataset", "protocol", *SETTINGS, "training"], kind="stable", ignore_index=True)


def model_settings(model: ModelConfig) -> dict:
    """A model's `SETTINGS`, and ``training``: JSON of what else is not the default."""
    usual = asdict(Training())
    changed = {name: value for name, value in asdict(model.training or Training()).items() if value != usual[name]}
    changed |= {"stages": model.stages} if model.stages else {}
    return {**{name: getattr(model, name) for name in SETTINGS}, "training": json.dumps(changed)}
