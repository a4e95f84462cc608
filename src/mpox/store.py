"""Where runs live: a folder a run, written atomically and re-used; beside them manifests, splits, audits and derived tables.

`mpox.recorded.RecordedStore` answers the same questions, so that a notebook does not know which one it reads from.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock

from mpox.audit import Audit, audit_version, read_audit, run_audit
from mpox.config import RunConfig, hash_of
from mpox.datasets import get_spec
from mpox.errors import MpoxError
from mpox.groups import source_groups
from mpox.manifest import build_manifest, manifest_hash
from mpox.paths import atomic_write, project_root

RECORDED = "recorded"


@dataclass(frozen=True)
class Dataset:
    """A data set as the study sees it.

    Parameters
    ----------
    name : str
    manifest : DataFrame
        Sorted by ``image_id``; with the audit's ``group_id``.
    groups : Series of str
        The honest groups (same patient or same photograph), indexed by ``image_id``; intervals resample these.
    is_phantom : bool
    has_pictures : bool
        Whether the pictures are on this machine.
    positive : str
        The class that is the finding.
    audit : Audit, optional
        Of this data set alone.
    """

    name: str
    manifest: pd.DataFrame
    groups: pd.Series
    is_phantom: bool
    has_pictures: bool
    positive: str = "Mpox"
    audit: Audit | None = None

    @property
    def classes(self) -> list[str]:
        """The class labels in the order of the probability columns."""
        return sorted(self.manifest["label"].unique())

    @property
    def hash(self) -> str:
        """See `mpox.manifest.manifest_hash`."""
        return manifest_hash(self.manifest)


def make_dataset(name: str, audit: Audit, *, is_phantom: bool, has_pictures: bool) -> Dataset:
    """The data set of an audit.

    Raises
    ------
    MpoxError
        If it has no class Mpox.
    """
    manifest = audit.images.drop(columns="dataset")
    if "Mpox" not in set(manifest["label"]):
        raise MpoxError(f"The data set '{name}' has no class Mpox (or Monkeypox, MKP): name the folder of that class so.")
    groups = pd.Series(source_groups(manifest).to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return Dataset(name, manifest, groups, is_phantom, has_pictures, audit=audit)


@dataclass(frozen=True)
class RunResult:
    """What a run leaves behind.

    Parameters
    ----------
    config : RunConfig
    predictions : DataFrame
        One row a test image: ``image_id``, ``label``, and ``p_<class>`` for every class.
    history : DataFrame
        One row an epoch (trained networks) or a strength (probes).
    environment : dict
        Versions, device, seconds.
    """

    config: RunConfig
    predictions: pd.DataFrame
    history: pd.DataFrame
    environment: dict


class RunStore:
    """Runs and derived tables as folders and files under one root.

    A run is computed under a temporary name and renamed when it is whole. Two processes that ask for the same run do not collide:
    one computes, the other waits and reads.

    Parameters
    ----------
    root : path
        Made when it is missing.

    Attributes
    ----------
    used_runs : dict
        Id of every run that was asked for, and the seconds that its computation took.
    used_tables : dict
        Key of every derived table that was asked for.
    used_audits : dict
        Names of the data sets of every audit that was asked for, and its key.
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        self.used_runs: dict[str, float] = {}
        self.used_tables: dict[str, None] = {}
        self.used_audits: dict[str, str] = {}
        self._audits: dict[str, Audit] = {}
        self._hashes: dict[str, str] = {}
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MpoxError(
                f"The run store {self.root} cannot be made ({error.strerror}): name another with RUN_STORE."
            ) from error

    def dataset(self, name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
        """Load a data set from its pictures, audited; its manifest is kept beside the runs."""
        manifest = build_manifest(name, data_dir=data_dir)
        title = manifest["source"].iloc[0]
        if self._hashes.setdefault(title, manifest_hash(manifest)) != manifest_hash(manifest):
            raise MpoxError(f"Two different data sets are called '{title}': rename one of the folders.")
        text = manifest.drop(columns="path").to_csv(index=False, lineterminator="\n")
        atomic_write(self.root / "manifests" / f"{title}.csv", text)
        audit = self._audit([manifest])
        return make_dataset(title, audit, is_phantom=get_spec(name).is_phantom, has_pictures=True)

    def audit(self, names: list[str], data_dir: str | os.PathLike | None = None) -> Audit:
        """The audit of several data sets together: which photographs they share, and what must not be divided."""
        return self._audit([build_manifest(name, data_dir=data_dir) for name in sorted(names)])

    def _audit(self, manifests: list[pd.DataFrame]) -> Audit:
        names = "+".join(manifest["source"].iloc[0] for manifest in manifests)
        files = [[*manifest["sha256"], *map(list, manifest.attrs.get("rejected", []))] for manifest in manifests]
        known = {"data": [manifest_hash(manifest) for manifest in manifests], "files": files, "version": audit_version()}
        key = f"{names}-{hash_of(known)}"
        folder = self.root / "audits" / key
        self.used_audits[names] = key
        if key not in self._audits:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{key}.lock"):
                if not (folder / "summary.csv").is_file():
                    run_audit(manifests).write(folder)  # the summary is written last
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
        """Read a run, or compute it: ``compute`` gets a folder that survives an interruption, for its intermediate state."""
        found = self.get(config)
        if found is not None:
            return found
        folder = self.run_folder(config)
        partial = folder.with_name(f".{config.id}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{partial}.lock"):
            if not (folder / "config.json").is_file():
                result = compute(partial)
                _write_run(partial, result)
                shutil.rmtree(folder, ignore_errors=True)  # what is left of a damaged run
                os.replace(partial, folder)
            else:
                shutil.rmtree(partial, ignore_errors=True)
        return self.get(config)

    def keep_split(self, identity: str, rows: pd.DataFrame) -> None:
        """Keep the rows of one fold's split under their hash, so that a run can be traced to its training images."""
        path = self.root / "splits" / f"{identity}.csv"
        if not path.is_file():
            atomic_write(path, rows.to_csv(index=False, lineterminator="\n"))

    def table(self, name: str, spec: dict, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A derived table that is computed once for a specification and then read.

        Parameters
        ----------
        name : str
            What the table is, for people; part of the file's name.
        spec : dict
            JSON-able; everything the table depends on.
        compute : callable
            Gives the table.
        """
        key = f"{name}-{hash_of(spec)}"
        path = self.root / "tables" / f"{key}.csv"
        if not path.is_file():
            atomic_write(path, compute().to_csv(index=False, lineterminator="\n"))
        self.used_tables[key] = None
        return read_table(path)


def _write_run(folder: Path, result: RunResult) -> None:
    for leftover in [*folder.glob("epoch*.safetensors"), folder / "state.json"]:
        leftover.unlink(missing_ok=True)
    atomic_write(folder / "predictions.csv", result.predictions.to_csv(index=False, lineterminator="\n"))
    atomic_write(folder / "history.csv", result.history.to_csv(index=False, lineterminator="\n"))
    atomic_write(folder / "environment.json", json.dumps(result.environment, indent=1))
    atomic_write(folder / "config.json", json.dumps(asdict(result.config), indent=1))


def read_table(path: Path, dtype: dict | None = None) -> pd.DataFrame:
    """Read a table of ours exactly: floats to the last bit, and nothing but an empty cell is a missing value."""
    return pd.read_csv(path, dtype=dtype, keep_default_na=False, na_values=[""])


def read_run(folder: Path) -> RunResult:
    """Read a run's folder.

    Raises
    ------
    MpoxError
        If a file in it is damaged.
    """
    try:
        return RunResult(
            config=RunConfig.from_dict(json.loads((folder / "config.json").read_text())),
            predictions=read_table(folder / "predictions.csv", dtype={"image_id": "str", "label": "str"}),
            history=read_table(folder / "history.csv"),
            environment=json.loads((folder / "environment.json").read_text()),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MpoxError(f"The run {folder} is damaged ({error}): remove the folder, and it will be computed again.") from error


def open_store(name: str | os.PathLike = "") -> "RunStore | RecordedStore":  # noqa: F821
    """Open a run store.

    Parameters
    ----------
    name : str or path
        Empty for the default (``MPOX_RUN_STORE``, or ``.mpox/store`` in the project); ``"recorded"`` for the recorded study in
        ``results/``; else a folder. A relative one is taken from the project's root.
    """
    if str(name) == RECORDED:
        from mpox.recorded import RecordedStore

        return RecordedStore(project_root() / "results")
    folder = Path(name or os.environ.get("MPOX_RUN_STORE") or ".mpox/store").expanduser()
    return RunStore(folder if folder.is_absolute() else project_root() / folder)
