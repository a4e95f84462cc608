"""What a run store holds, one row a run; the run that an id names; and the data that a run learnt from."""

import difflib
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, data_roots, hash_of
from mpox.data.dataset import Dataset
from mpox.data.registry import REGISTRY, get_spec
from mpox.models.config import RunConfig
from mpox.protocols.copies import augmented
from mpox.protocols.pairs import combine
from mpox.protocols.splits import PROTOCOLS
from mpox.runs.store import RECORDED, RunResult, RunStore, read_run, read_table, store_folder

SHORTEST = 4
COLUMNS = {
    "id": "str", "dataset": "str", "protocol": "str", "regime": "str", "backbone": "str", "image_size": "Int64",
    "repeat": "Int64", "fold": "Int64", "seconds": "Float64", "device": "str", "bytes": "Int64",
    "date": "datetime64[s, UTC]", "damaged": "bool",
}  # fmt: skip


def list_runs(store: str | Path = "") -> pd.DataFrame:
    """One row a run of a store (see `mpox.open_store`; it is not made if it is missing), `COLUMNS`.

    ``bytes`` and ``date`` (UTC) are missing in the recorded study, where runs share their files; so is what is not known of a
    damaged run.
    """
    root, recorded = store_folder(store), str(store) == RECORDED
    if not ((root / "runs.json").is_file() if recorded else root.is_dir()):
        raise MpoxError(f"There is no run store in {root}: `mpox run` makes one, or name another with --store.")
    if recorded:
        entries, environments = (json.loads((root / f"{name}.json").read_text()) for name in ("runs", "environments"))
        rows = [_row(entry["id"], entry["config"], environments[entry["environment"]] | entry) for entry in entries]
    else:
        rows = [_stored_row(folder) for folder in (root / "runs").glob("[0-9a-f]*")]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["date"] = pd.to_datetime(table["date"], utc=True)
    order = ["dataset", "protocol", "regime", "backbone", "image_size", "repeat", "fold", "id"]
    return table.astype(COLUMNS).sort_values(order, ignore_index=True)


def _row(run_id: str, config: dict, about: dict) -> dict:
    values = config | config.get("model", {}) | about | {"id": run_id}
    return {"damaged": False} | {name: values.get(name) for name in COLUMNS if name in values}


def _stored_row(folder: Path) -> dict:
    files = {path.name: path.stat() for path in folder.glob("*")}
    date = datetime.fromtimestamp(max((file.st_mtime for file in files.values()), default=0), UTC)
    about = {"bytes": sum(file.st_size for file in files.values()), "date": date}
    try:
        config, environment = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "environment"))
        whole = hash_of(config) == folder.name and all(files[f"{name}.csv"].st_size for name in ("predictions", "history"))
        return _row(folder.name, config, environment | about | {"damaged": not whole})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _row(folder.name, {}, about | {"damaged": True})


def find_run(store: RunStore, prefix: str) -> RunResult:
    """The run whose id begins with `prefix`, of which at least four digits are given."""
    found = sorted((store.root / "runs").glob(f"{prefix.lower()}*")) if prefix.isalnum() else []
    if len(prefix) < SHORTEST:
        raise MpoxError(f"'{prefix}' is too short for a run's id: give at least {SHORTEST} of its digits (see `mpox runs list`).")
    if len(found) > 1:
        some = ", ".join(path.name for path in found[:5]) + (", ..." if len(found) > 5 else "")
        raise MpoxError(f"The ids of {len(found)} runs begin with '{prefix}' ({some}): give more of it.")
    if not found:
        there = {path.name[: len(prefix)]: path.name for path in (store.root / "runs").glob("[0-9a-f]*")}
        near = [there[part] for part in difflib.get_close_matches(prefix.lower(), there)]
        meant = f"did you mean {' or '.join(near)}? See" if near else "see"
        raise MpoxError(f"No run's id begins with '{prefix}' in {store.root}: {meant} `mpox runs list`, or name a --store.")
    return read_run(found[0])


def training_data(store: RunStore, config: RunConfig, data_dir: str | None = None) -> tuple[Dataset, pd.DataFrame]:
    """The data set that a run was made of, and its rows of the split table."""
    rows = split_rows(store, config)
    names = [_place(name, config.id, data_dir) for name in config.dataset.split("+")]
    loaded = store.datasets(names, data_dir=data_dir)
    data = loaded[0] if len(loaded) == 1 else combine(loaded)
    if config.protocol in PROTOCOLS and PROTOCOLS[config.protocol].augmented:
        data = augmented(data)
    if data.hash != config.data:
        raise MpoxError(
            f"The data set '{config.dataset}' that is here (hash {data.hash}) is not the one of the run {config.id} "
            f"({config.data}): name the folder of the other one with --data-dir."
        )
    return data, rows


def split_rows(store: RunStore, config: RunConfig) -> pd.DataFrame:
    """A run's rows of the split table; for these its images need not be here."""
    path = store.root / "splits" / f"{config.split}.csv"
    if not path.is_file():
        raise MpoxError(f"The split of the run {config.id} is not in {path.parent}: compute the run again.")
    return read_table(path, dtype={"image_id": "str", "group_id": "str"})


def _place(name: str, run_id: str, data_dir: str | None) -> str:
    """A registered data set's name, or the folder of another one."""
    for root in data_roots(data_dir):
        for folder in (root / name, root):
            planted = name == "phantom" and folder.is_dir() and get_spec(folder).is_phantom
            if planted or (name not in REGISTRY and folder.name == name and folder.is_dir()):
                return str(folder)
    if name not in REGISTRY and not Path(name).is_dir():
        raise MpoxError(f"The run {run_id} learnt from the folder '{name}', which is not here: name it with --data-dir.")
    return name
