"""Where runs live: a folder a run, written atomically and re-used; beside them manifests, splits, audits and derived tables."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, atomic_write, csv_text, expanded, explaining, hash_of, locked, project_root, replacing_folder
from mpox.audit import Audit, audit_rules, audit_version, decide_again, read_audit, run_audit
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
        self._audits: dict[tuple[str, bool], Audit] = {}
        self._hashes: dict[str, str] = {}
        with explaining(self.root):
            self.root.mkdir(parents=True, exist_ok=True)

    def dataset(self, name: str, *, data_dir: str | os.PathLike | None = None) -> Dataset:
        """Load a data set that is studied by itself; see `datasets`."""
        return self.datasets([name], data_dir=data_dir)[0]

    def datasets(self, names: list[str], *, data_dir: str | os.PathLike | None = None) -> list[Dataset]:
        """Load the data sets of a study from their images; their manifests are kept beside the runs.

        Each has its own audit, and the groups of all of them audited together; where the recorded study has the same images, the
        groups of its pairs. So a group is the same one in the whole study, and on every machine.
        """
        frozen = find_frozen(data_dir)
        manifests = {name: self._keep(_manifest(name, data_dir, frozen)) for name in sorted(names)}
        together = self._audit(list(manifests.values()), frozen, whole=True)
        loaded = []
        for name in names:
            title, is_phantom = manifests[name]["source"].iloc[0], get_spec(name, data_dir=data_dir).is_phantom
            audit = self._audit([manifests[name]], frozen)
            loaded.append(make_dataset(title, audit, together, is_phantom=is_phantom, has_pictures=True))
        return loaded

    def _keep(self, manifest: pd.DataFrame) -> pd.DataFrame:
        title = manifest["source"].iloc[0]
        if self._hashes.setdefault(title, manifest_hash(manifest)) != manifest_hash(manifest):
            raise MpoxError(f"Two different data sets are called '{title}': rename one of the folders.")
        text = csv_text(manifest.drop(columns="path"))
        kept = self.root / "manifests" / f"{title}.csv"
        if not kept.is_file() or kept.read_bytes() != text.encode():
            atomic_write(kept, text)
        return manifest

    def audit(self, names: list[str], data_dir: str | os.PathLike | None = None) -> Audit:
        """The audit of several data sets together: which photographs they share, and what must not be divided."""
        frozen = find_frozen(data_dir)
        return self._audit([_manifest(name, data_dir, frozen) for name in sorted(names)], frozen)

    def _audit(self, manifests: list[pd.DataFrame], frozen: Frozen | None, *, whole: bool = False) -> Audit:
        """The audit of these images: recorded (if ``whole``, with all that they were recorded with), frozen, or made here."""
        titles = [manifest["source"].iloc[0] for manifest in manifests]
        names = "+".join(titles)
        files = [[*manifest["sha256"], *map(list, manifest.attrs.get("rejected", []))] for manifest in manifests]
        known = {"data": [manifest_hash(manifest) for manifest in manifests], "files": files, "version": audit_version()}
        asked = hash_of(known), whole
        if asked not in self._audits:
            kept = frozen.audit(titles, hash_of_decisions(read_overrides())) if frozen else None
            found = _recorded_audit(manifests, whole)
            names, key, recorded = found or (names, kept or f"{names}-{hash_of(known)}", None)
            folder = self.root / "audits" / key
            self.used_audits[names] = key
            last = folder / "summary.csv"  # written last
            if not last.is_file():
                with locked(folder.parent / f".{key}.lock"):
                    if not last.is_file():
                        if frozen and kept and not recorded:
                            with replacing_folder(folder) as fresh:
                                shutil.copytree(frozen.root / "audits" / kept, fresh, dirs_exist_ok=True)
                        else:
                            (recorded or run_audit(manifests)).write(folder)
            self._audits[asked] = recorded or read_audit(folder, manifests)
        return self._audits[asked]

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


def _recorded_audit(manifests: list[pd.DataFrame], whole: bool) -> tuple[str, str, Audit] | None:
    """Names, key and content of the recorded audit of these images, if there is one by the present steps (see `audit_of`).

    Another kind of processor finds a few pairs more or fewer, and groups, folds and run ids change with them: so pairs are found
    once. Decisions of people are those in force.
    """
    root, rules = store_folder(RECORDED), audit_rules()
    study = json.loads((root / "study.json").read_text()) if (root / "study.json").is_file() else {}
    made_by, here = study.get("audit_rules", ""), {manifest["source"].iloc[0]: manifest for manifest in manifests}
    names = audit_of(here, study.get("audits", []), whole=whole)
    if not names or made_by.split("-")[0] != rules.split("-")[0]:
        return None
    kept = {name: read_manifest(root / "manifests" / f"{name}.csv").assign(path=pd.NA) for name in names.split("+")}
    if any(manifest_hash(kept[name]) != manifest_hash(manifest) for name, manifest in here.items()):
        return None
    key, audit = study["audits"][names], read_audit(root / "audits" / names, list((kept | here).values()))
    if made_by == rules:
        return names, key, audit
    return names, f"{names}-{hash_of({'recorded': key, 'rules': rules})}", decide_again(audit)


def audit_of(titles: Iterable[str], audits: Iterable[str], *, whole: bool) -> str | None:
    """Which of the audits, names joined by ``+``, is of these data sets; if ``whole``, the one of most beside them."""
    titles = set(titles)
    found = [names for names in audits if (titles <= set(names.split("+")) if whole else titles == set(names.split("+")))]
    return max(found, key=lambda names: names.count("+"), default=None)


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest that was kept, without ``path``."""
    return read_table(path, dtype={"image_id": "str", "label": "str", "patient_id": "string"})


def _write_run(folder: Path, result: RunResult) -> None:
    atomic_write(folder / "predictions.csv", csv_text(result.predictions))
    atomic_write(folder / "history.csv", csv_text(result.history))
    atomic_write(folder / "environment.json", json.dumps(result.environment, indent=1))
    atomic_write(folder / "config.json", json.dumps(result.config.to_dict(), indent=1))


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
