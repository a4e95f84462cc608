"""What a run store holds: one row a run, what it took, and which executed notebooks refer to it. Nothing is changed here."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from mpox._core import MpoxError, hash_of, project_root
from mpox.book.chapters import Chapter, read_chapters, what_was_used
from mpox.models.config import RunConfig
from mpox.runs.store import ASKED, PARTIAL, RECORDED, RUN, read_table, store_folder

_WHOLE = ("config.json", "environment.json", "history.csv", "predictions.csv")
_IN_CONFIG = ("dataset", "protocol", "repeat", "fold", "split")
_IN_MODEL = ("regime", "backbone", "image_size")
COLUMNS = {
    "id": "str", "dataset": "str", "protocol": "str", "regime": "str", "backbone": "str", "image_size": "Int64",
    "repeat": "Int64", "fold": "Int64", "seconds": "Float64", "device": "str", "bytes": "Int64",
    "date": "datetime64[s, UTC]", "state": "str", "epoch": "Int64", "problem": "str", "split": "str",
}  # fmt: skip


@dataclass(frozen=True)
class RunDetails:
    """One run, as far as it has come.

    Attributes
    ----------
    summary : Series
        Its row of `list_runs`.
    config, environment : dict or None
        As they are stored; None where they are not, or cannot be read.
    history : DataFrame
        One row an epoch (trained networks) or a strength (probes).
    metrics : DataFrame
        ``metric`` (accuracy, auroc), ``class`` and ``estimate`` (0 to 1) of the test fold; empty until the run is whole.
    files : DataFrame
        ``file`` and ``bytes``; empty for a run of the recorded study, where all runs share their files.
    """

    summary: pd.Series
    config: dict[str, Any] | None
    environment: dict[str, Any] | None
    history: pd.DataFrame
    metrics: pd.DataFrame
    files: pd.DataFrame


def project_run_folders() -> list[Path]:
    """The run folders of the project: what is in ``_runs`` and was made by ``mpox run``."""
    return sorted(path.parent for path in (project_root() / "_runs").glob("*/run.json"))


def references(
    folders: Iterable[str | os.PathLike], *, recorded: bool = False, tell: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """What the executed notebooks of run folders refer to.

    Parameters
    ----------
    folders : iterable of path
    recorded : bool
        Take the notebooks that were read from the recorded study; else those that were not.
    tell : callable, optional
        Told of a folder that cannot be read, which is then passed over; of a run that is not finished the notebooks that are done
        are taken. Without it, both are errors.

    Returns
    -------
    DataFrame
        ``kind`` (folder, runs, tables, audits, manifests), ``name`` and ``folder`` (name of the run folder); one row of kind
        ``folder`` for each folder with such notebooks.

    Raises
    ------
    MpoxError
        See `mpox.book.parts.read_chapters`.
    """
    rows: list[tuple[str, str, str]] = []
    for folder in map(Path, folders):
        try:
            chapters = read_chapters(folder, partly=tell is not None)
            rows += _references(folder, [chapter for chapter in chapters if _is_recorded(chapter) == recorded])
        except MpoxError as error:
            if tell is None:
                raise
            tell(str(error))
    return pd.DataFrame(rows, columns=["kind", "name", "folder"], dtype="str").drop_duplicates(ignore_index=True)


def _is_recorded(chapter: Chapter) -> bool:
    return chapter.provenance.get("store") == RECORDED


def _references(folder: Path, chapters: list[Chapter]) -> list[tuple[str, str, str]]:
    used = what_was_used(chapters)
    names = {part for name in (*used.datasets, *used.audits) for part in (name, *name.split("+"))}
    kinds = {"runs": used.runs, "tables": used.tables, "audits": used.audits.values(), "manifests": names}
    label = folder.resolve().name
    rows = [(kind, name, label) for kind, found in kinds.items() for name in sorted(found)]
    return [("folder", str(folder), label), *rows] if chapters else []


def list_runs(store: str | os.PathLike = "", *, tell: Callable[[str], None] = lambda text: None) -> pd.DataFrame:
    """One row a run of a store, from its configuration and environment alone.

    Parameters
    ----------
    store : str or path
        As `mpox.open_store` takes it; it is not made if it is missing.
    tell : callable
        See `references`.

    Returns
    -------
    DataFrame
        Sorted by what the runs are of. ``id``, ``dataset``, ``protocol``, ``regime``, ``backbone``, ``image_size`` (pixels),
        ``repeat``, ``fold``, ``seconds`` (of computing), ``device``, ``bytes`` (missing in the recorded study, where runs share
        their files), ``date`` (UTC, of the last file; missing there too), ``state`` (whole, unfinished, being computed, damaged),
        ``epoch`` (that an unfinished run has reached), ``problem`` (of a damaged one), ``split`` and ``used_by`` (names of the
        project's run folders). What is not known is missing.

    Raises
    ------
    MpoxError
        If there is no store or it cannot be read, or the recorded study is damaged.
    """
    recorded = str(store) == RECORDED
    table = recorded_runs(store_folder(store)) if recorded else stored_runs(store_folder(store))
    used = references(project_run_folders(), recorded=recorded, tell=tell)
    by_run = used[used["kind"] == "runs"].groupby("name")["folder"].agg(lambda names: ", ".join(sorted(names)))
    return table.assign(used_by=table["id"].map(by_run).astype("str").fillna(""))


def recorded_runs(root: Path) -> pd.DataFrame:
    """The runs of a recorded study; see `list_runs`."""
    entries, environments = _recorded(root)
    rows = []
    for entry in entries:
        device = environments.get(entry["environment"], {}).get("device")
        state = {"seconds": entry["seconds"], "device": device, "state": "whole"}
        rows.append({"id": entry["id"], **_facts(entry["config"]), **state})
    return _as_table(rows)


def _recorded(root: Path) -> tuple[list[dict], dict[str, dict]]:
    if not (root / "runs.json").is_file():
        raise MpoxError(f"There is no recorded study in {root}: make one with `mpox record`.")
    try:
        return json.loads((root / "runs.json").read_text()), json.loads((root / "environments.json").read_text())
    except (OSError, ValueError) as error:
        raise MpoxError(f"The recorded study in {root} is damaged ({error}): record it again, or take it from git.") from error


def stored_runs(root: Path) -> pd.DataFrame:
    """The runs in a run store's folder; see `list_runs`."""
    if not root.is_dir():
        raise MpoxError(f"There is no run store in {root}: `mpox run` makes one, or name another with --store.")
    rows: dict[str, dict] = {}
    with readable(root):
        names = sorted(os.listdir(root / "runs")) if (root / "runs").is_dir() else []
        for name in names:  # partial folders come first: they begin with a dot
            folder = root / "runs" / name
            if (match := RUN.fullmatch(name) or PARTIAL.fullmatch(name)) and folder.is_dir():
                row = _stored_run(folder, match[1])
                if row["state"] != "damaged" or match[1] not in rows:
                    rows[match[1]] = row
    return _as_table(list(rows.values()))


@contextmanager
def readable(root: Path) -> Iterator[None]:
    """Say in one sentence that a store cannot be read, or that it changed under the reader's hands."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or root} cannot be read ({error.strerror})"
        raise MpoxError(f"{what}: try again if a run has just ended there, or make the store readable.") from error


def _as_table(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["date"] = pd.to_datetime(table["date"], utc=True)
    table = table.astype(COLUMNS)
    order = ["dataset", "protocol", "regime", "backbone", "image_size", "repeat", "fold", "id"]
    return table.sort_values(order, ignore_index=True)


def _facts(config: dict) -> dict:
    model = config.get("model")
    model = model if isinstance(model, dict) else {}
    return {name: config.get(name) for name in _IN_CONFIG} | {name: model.get(name) for name in _IN_MODEL}


def _stored_run(folder: Path, run_id: str) -> dict:
    """The row of a run's folder, of a whole run or of a partial one."""
    files = _files(folder)
    config, environment = read_json(folder / "config.json"), read_json(folder / "environment.json") or {}
    row: dict[str, Any] = {"id": run_id, "bytes": sum(files.values())}
    newest = next((name for name in ("config.json", "state.json") if name in files), "")
    row["date"] = datetime.fromtimestamp((folder / newest).stat().st_mtime, UTC).replace(microsecond=0)
    if PARTIAL.fullmatch(folder.name):
        held = is_held(folder.with_name(f"{folder.name}.lock"))
        row |= {"state": "being computed" if held else "unfinished", "epoch": len(_epochs(folder)) or None}
        config = config or read_json(folder / ASKED)
    else:
        row["problem"] = _problem(run_id, files, config, environment)
        row["state"] = "damaged" if row["problem"] else "whole"
        row |= {name: environment.get(name) for name in ("seconds", "device")}
    return row | _facts(config or {})


def _problem(run_id: str, files: dict[str, int], config: dict | None, environment: dict) -> str | None:
    if missing := [name for name in _WHOLE if not files.get(name)]:
        return f"{', '.join(missing)} missing or empty"
    if config is None:
        return "config.json cannot be read"
    if hash_of(config) != run_id:
        return "config.json is of another run"
    return None if isinstance(environment.get("seconds"), int | float) else "environment.json cannot be read"


def _epochs(folder: Path) -> list[dict]:
    state = read_json(folder / "state.json") or {}
    history = state.get("history")
    return history if isinstance(history, list) else []


def _files(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}


def read_json(path: Path) -> dict | None:
    """A JSON object from a file; None if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def is_held(lock: Path) -> bool:
    """Whether another process holds a lock file; one that may not be opened counts as free."""
    if not lock.is_file():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def show_run(prefix: str, store: str | os.PathLike = "", *, tell: Callable[[str], None] = lambda text: None) -> RunDetails:
    """Everything about one run.

    Parameters
    ----------
    prefix : str
        The id, or as much of it as fits no other run.
    store : str or path
    tell : callable
        As `list_runs` takes them.

    Raises
    ------
    MpoxError
        If no run, or more than one, has such an id; or as `list_runs` says.
    """
    table = list_runs(store, tell=tell)
    found = table[table["id"].str.startswith(prefix)]
    if found.empty:
        raise MpoxError(f"No run's id begins with '{prefix}' in {store_folder(store)}: see `mpox runs list`.")
    if len(found) > 1:
        some = ", ".join(found["id"].head(5)) + (", ..." if len(found) > 5 else "")
        raise MpoxError(f"The ids of {len(found)} runs begin with '{prefix}' ({some}): give more of it.")
    summary = found.iloc[0]
    return _recorded_details(summary) if str(store) == RECORDED else _stored_details(summary, store_folder(store))


def _recorded_details(summary: pd.Series) -> RunDetails:
    from mpox.runs.recorded import RecordedStore

    root = store_folder(RECORDED)
    config = next(entry["config"] for entry in _recorded(root)[0] if entry["id"] == summary["id"])
    result = RecordedStore(root).run(RunConfig.from_dict(config))
    metrics, _ = _evaluated(result.predictions)
    return RunDetails(summary, config, result.environment, result.history, metrics, _table_of_files({}))


def _stored_details(summary: pd.Series, root: Path) -> RunDetails:
    unfinished = summary["state"] in ("unfinished", "being computed")
    folder = root / "runs" / (f".{summary['id']}.partial" if unfinished else summary["id"])
    config, environment = read_json(folder / "config.json"), read_json(folder / "environment.json")
    files = _table_of_files(_files(folder))
    if unfinished:
        history = pd.DataFrame(_epochs(folder))
        return RunDetails(summary, config or read_json(folder / ASKED), environment, history, _evaluated(None)[0], files)
    history, problem = _read(folder / "history.csv")
    predictions, other = _read(folder / "predictions.csv", {"image_id": "str", "label": "str"})
    metrics, third = _evaluated(predictions)
    if found := problem or other or third:
        problems = summary["problem"] if summary["state"] == "damaged" else found
        summary = summary.copy()
        summary["state"], summary["problem"] = "damaged", problems
    return RunDetails(summary, config, environment, pd.DataFrame() if history is None else history, metrics, files)


def _table_of_files(files: dict[str, int]) -> pd.DataFrame:
    return pd.DataFrame(sorted(files.items()), columns=["file", "bytes"]).astype({"file": "str", "bytes": "int64"})


def _read(path: Path, dtype: dict | None = None) -> tuple[pd.DataFrame | None, str]:
    try:
        return read_table(path, dtype), ""
    except (OSError, ValueError):
        return None, f"{path.name} cannot be read"


def _evaluated(predictions: pd.DataFrame | None) -> tuple[pd.DataFrame, str]:
    """Accuracy and AUROC of a test fold, and what is wrong with its predictions."""
    from mpox.stats.metrics import fold_metrics

    columns = ["metric", "class", "estimate"]
    if predictions is None:
        return pd.DataFrame(columns=columns), ""
    try:
        table = fold_metrics(predictions.assign(repeat=0, fold=0, group_id=predictions["image_id"]))
    except (KeyError, ValueError, TypeError, MpoxError) as error:
        return pd.DataFrame(columns=columns), f"predictions.csv cannot be evaluated ({error})"
    return table.loc[table["metric"].isin(["accuracy", "auroc"]), columns].reset_index(drop=True), ""
