"""Where runs live: a folder a run, written atomically and re-used; beside them manifests, splits, audits and derived tables."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, atomic_write, csv_text, expanded, explaining, hash_of, locked, project_root, replacing_folder
from mpox.audit import Audit, audit_version, read_audit, run_audit
from mpox.audit.result import hash_of_decisions, read_overrides
from mpox.data.dataset import Dataset, make_dataset
from mpox.data.frozen import Frozen, find_frozen
from mpox.data.manifest import build_manifest, manifest_hash
from mpox.data.registry import get_spec
from mpox.models.config import RunConfig

RECORDED = "recorded"


@dataclass(frozen=True)
class RunResult:
    """What a run leaves behind."""

    config: RunConfig
    predictions: pd.DataFrame  #: one row a test image: ``image_id``, ``label``, and ``p_<class>`` for every class
    history: pd.DataFrame  #: one row an epoch (trained networks) or a strength (probes)
    environment: dict  #: versions, device, seconds


class RunStore:
    """Runs and derived tables as folders and files under one root.

    It is a cache: what is deleted is computed again. A run is written under a temporary name and renamed when it is whole. Of two
    processes that ask for the same run one computes, the other waits and reads.

    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)  #: made when it is missing
        self.used_runs: dict[str, float] = {}  #: id of every run that was asked for, and the seconds that its computation took
        self.used_tables: dict[str, None] = {}  #: key of every derived table that was asked for
        self.used_audits: dict[str, str] = {}  #: names of the data sets of every audit that was asked for, and its key
        self._audits: dict[str, Audit] = {}
        self._hashes: dict[str, str] = {}
        with explaining(self.root):
            self.root.mkdir(parents=True, exist_ok=True)

    def dataset(self, name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
        """Load a data set from its images, audited; its manifest is kept beside the runs."""
        frozen = find_frozen(data_dir)
        manifest = _manifest(name, data_dir, frozen)
        title = manifest["source"].iloc[0]
        if self._hashes.setdefault(title, manifest_hash(manifest)) != manifest_hash(manifest):
            raise MpoxError(f"Two different data sets are called '{title}': rename one of the folders.")
        text = csv_text(manifest.drop(columns="path"))
        kept = self.root / "manifests" / f"{title}.csv"
        if not kept.is_file() or kept.read_bytes() != text.encode():
            atomic_write(kept, text)
        is_phantom = get_spec(name, data_dir=data_dir).is_phantom
        return make_dataset(title, self._audit([manifest], frozen), is_phantom=is_phantom, has_pictures=True)

    def audit(self, names: list[str], data_dir: str | os.PathLike | None = None) -> Audit:
        """The audit of several data sets together: which photographs they share, and what must not be divided."""
        frozen = find_frozen(data_dir)
        return self._audit([_manifest(name, data_dir, frozen) for name in sorted(names)], frozen)

    def _audit(self, manifests: list[pd.DataFrame], frozen: Frozen | None) -> Audit:
        titles = [manifest["source"].iloc[0] for manifest in manifests]
        names = "+".join(titles)
        files = [[*manifest["sha256"], *map(list, manifest.attrs.get("rejected", []))] for manifest in manifests]
        known = {"data": [manifest_hash(manifest) for manifest in manifests], "files": files, "version": audit_version()}
        kept = frozen.audit(titles, hash_of_decisions(read_overrides())) if frozen else None
        key = kept or f"{names}-{hash_of(known)}"
        folder = self.root / "audits" / key
        self.used_audits[names] = key
        if key not in self._audits:
            whole = folder / "summary.csv"  # written last
            if not whole.is_file():
                with locked(folder.parent / f".{key}.lock"):
                    if not whole.is_file():
                        if frozen and kept:
                            with replacing_folder(folder) as fresh:
                                shutil.copytree(frozen.root / "audits" / kept, fresh, dirs_exist_ok=True)
                        else:
                            run_audit(manifests).write(folder)
            self._audits[key] = read_audit(folder, manifests)
        return self._audits[key]

    def run_folder(self, config: RunConfig) -> Path:
        """Where a run lies, or will lie."""
        return self.root / "runs" / config.id

    def has(self, config: RunConfig) -> bool:
        """Whether a run is there."""
        return (self.run_folder(config) / "config.json").is_file()

    def get(self, config: RunConfig) -> RunResult | None:
        """Read a run; ``None`` if it is not there."""
        if not self.has(config):
            return None
        result = read_run(self.run_folder(config))
        self.used_runs[config.id] = result.environment["seconds"]
        return result

    def run(self, config: RunConfig, compute: Callable[[Path], RunResult]) -> RunResult:
        """Read a run, or compute it, whole or not at all: ``compute`` gets the folder to write its checkpoint into."""
        if not self.has(config):
            folder = self.run_folder(config)
            lock = folder.with_name(f".{config.id}.lock")
            with locked(lock):
                if not self.has(config):
                    with replacing_folder(folder) as fresh:
                        _write_run(fresh, compute(fresh))
                lock.unlink(missing_ok=True)  # who waits for it finds the run
        result = self.get(config)
        assert result is not None
        return result

    def history(self, run_id: str) -> pd.DataFrame:
        """The history of a run that predictions name: one row an epoch or a setting; see `RunResult`."""
        return read_run(self.root / "runs" / run_id).history

    def keep_split(self, identity: str, rows: pd.DataFrame) -> None:
        """Keep the rows of one fold's split under their hash, so that a run can be traced to its training images."""
        path = self.root / "splits" / f"{identity}.csv"
        if not path.is_file():
            atomic_write(path, csv_text(rows))

    def table(self, name: str, spec: dict, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A derived table, computed once for a specification (JSON-able: everything that it depends on) and then read."""
        key = f"{name}-{hash_of(spec)}"
        path = self.root / "tables" / f"{key}.csv"
        if not path.is_file():
            atomic_write(path, csv_text(compute()))
        self.used_tables[key] = None
        return read_table(path)


def _manifest(name: str, data_dir: str | os.PathLike | None, frozen: Frozen | None) -> pd.DataFrame:
    """The manifest of a data set; if it lies in a frozen folder, of the same images as were frozen."""
    manifest = build_manifest(name, data_dir=data_dir)
    if frozen:
        frozen.check(manifest["source"].iloc[0], manifest_hash(manifest))
    return manifest


def _write_run(folder: Path, result: RunResult) -> None:
    atomic_write(folder / "predictions.csv", csv_text(result.predictions))
    atomic_write(folder / "history.csv", csv_text(result.history))
    atomic_write(folder / "environment.json", json.dumps(result.environment, indent=1))
    atomic_write(folder / "config.json", json.dumps(asdict(result.config), indent=1))


def read_table(path: Path, dtype: dict | None = None) -> pd.DataFrame:
    """Read a table of ours exactly: floats to the last bit, and nothing but an empty cell is a missing value."""
    return pd.read_csv(path, dtype=dtype, keep_default_na=False, na_values=[""])


def in_class_order(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with their probabilities in the order of `Dataset.classes`, whatever file they were read from."""
    others = [column for column in predictions if not column.startswith("p_")]
    return predictions[others + sorted(column for column in predictions if column.startswith("p_"))]


def read_run(folder: Path) -> RunResult:
    """Read a run's folder."""
    try:
        return RunResult(
            config=RunConfig.from_dict(json.loads((folder / "config.json").read_text())),
            predictions=in_class_order(read_table(folder / "predictions.csv", dtype={"image_id": "str", "label": "str"})),
            history=read_table(folder / "history.csv"),
            environment=json.loads((folder / "environment.json").read_text()),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MpoxError(f"The run {folder} is damaged ({error}): remove the folder, and it will be computed again.") from error


def store_folder(name: str | os.PathLike = "") -> Path:
    """Where the store of a name lies, or would lie; see `open_store`."""
    folder = "results" if str(name) == RECORDED else name or os.environ.get("MPOX_RUN_STORE") or ".mpox/store"
    return project_root() / expanded(folder)
