"""`mpox run`: the notebooks, executed in order with papermill into a run folder that can be gone on with."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpox.audit.overrides import hash_of_decisions, read_overrides
from mpox.errors import MpoxError
from mpox.kernels import NotebookFailure, execute, kernel_environment, log_file
from mpox.pack import open_pack
from mpox.paths import atomic_write, locked, project_root
from mpox.profiles import (
    Profile,
    declared_parameters,
    list_notebooks,
    load_profile,
    resolve_parameters,
    select_notebooks,
)
from mpox.store import RECORDED

__all__ = [
    "NotebookRun",
    "RunResult",
    "list_notebooks",
    "load_profile",
    "read_run",
    "resolve_parameters",
    "run_notebooks",
]

_LOCK = ".lock"


@dataclass(frozen=True)
class NotebookRun:
    """What became of one notebook.

    Attributes
    ----------
    status : {"pending", "running", "done", "failed"}
    duration_s : float or None
        Seconds from the kernel's start to its end.
    parameters : dict
        The values injected; what is absent kept its default.
    source_sha256 : str
        Of the ``.py`` source that was executed.
    decisions : str
        Stands for the decisions about pairs of pictures that were in force (`mpox.audit.overrides.hash_of_decisions`).
    error : str or None
        The last line of the error, or ``"interrupted"``.
    """

    status: str
    duration_s: float | None
    parameters: dict[str, Any]
    source_sha256: str
    error: str | None
    decisions: str = ""


@dataclass(frozen=True)
class RunResult:
    """The state of a run folder, as in its ``run.json``.

    Attributes
    ----------
    folder : pathlib.Path
    profile, profile_file : str
    parameters : dict
        The profile's values with the overrides on top.
    started, finished : str
        ISO 8601, UTC; `finished` is None until every notebook is done.
    package_version : str
    notebooks : dict of str to NotebookRun
        In running order.
    failure : str or None
        For a person: the failing cell, the error and how to go on. Not kept in ``run.json``.
    """

    folder: Path
    profile: str
    profile_file: str
    parameters: dict[str, Any]
    started: str
    finished: str | None
    package_version: str
    notebooks: dict[str, NotebookRun]
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every notebook of the run is done."""
        return all(notebook.status == "done" for notebook in self.notebooks.values())


def read_run(folder: str | os.PathLike) -> RunResult:
    """Read the ``run.json`` of a run folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    RunResult

    Raises
    ------
    MpoxError
        If the folder was not made by `run_notebooks`.
    """
    path = Path(folder) / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        notebooks = {name: NotebookRun(**entry) for name, entry in content.pop("notebooks").items()}
        return RunResult(folder=Path(folder), notebooks=notebooks, **content)
    except FileNotFoundError:
        raise MpoxError(f"{folder} is no run folder (it has no run.json): make one with 'mpox run'.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MpoxError(f"{path} is damaged: delete the folder and run again.") from error


def run_notebooks(
    notebooks: Iterable[str] = (),
    *,
    profile: str | Path = "quick",
    overrides: Mapping[str, Any] | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
    decisions: str | os.PathLike | None = None,
    pack: str | os.PathLike | None = None,
    cell_timeout_s: float | None = None,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Execute notebooks in order, each in a fresh kernel of this interpreter, until one fails.

    Parameters
    ----------
    notebooks : iterable of str
        As `mpox.profiles.select_notebooks` takes them; none means all.
    profile : str or path
        As `load_profile` takes it.
    overrides : mapping, optional
        Parameter values that win over the profile's.
    out : path, optional
        The run folder, ``_runs/<profile>`` of the project by default. It is started over, unless `resume`.
    resume : bool
        Skip what is done with the same parameters and the same source; keep what was not named.
    data_dir : path, optional
        Where the data sets lie: ``MPOX_DATA`` of the kernels.
    decisions : path, optional
        Pairs that a person confirmed or rejected (see `mpox.audit.overrides.read_overrides`): ``MPOX_OVERRIDES`` of the kernels.
    pack : path, optional
        What ``mpox pack`` made (see `mpox.pack`), in place of picture folders and weights: ``MPOX_PACK`` of the kernels.
    cell_timeout_s : float, optional
        Seconds after which a cell counts as failed; no limit by default.
    progress : bool
        Whether to show papermill's bar over the cells on stderr.
    echo : callable
        Is given each line of progress.

    Returns
    -------
    RunResult
        With `failure` set if a notebook failed.

    Raises
    ------
    MpoxError
        Before anything is written or run: an unknown notebook, profile or parameter, a value of the wrong
        type, a folder that is no run folder or that is in use, decisions that cannot be read or have no effect, a pack that
        cannot be used.
    KeyboardInterrupt
        After the interruption has been noted in ``run.json``.
    """
    chosen = select_notebooks(notebooks)
    asked = load_profile(profile)
    overrides = dict(overrides or {})
    parameters = resolve_parameters(chosen, asked.parameters, overrides)
    for key in overrides:
        if not any(key in values for values in parameters.values()):
            where = [name for name in list_notebooks() if key in declared_parameters(name)]
            echo(f"note: -p {key} changes nothing here, it belongs to {', '.join(where)}")
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise MpoxError(f"There is no data folder {data_dir}: name one that exists with --data-dir.")
    in_force = hash_of_decisions(read_overrides(Path(decisions).expanduser() if decisions else None))
    if decisions and any(values.get("RUN_STORE") == RECORDED for values in parameters.values()):
        raise MpoxError(
            "--overrides has no effect on the recorded study, whose audit is made: leave it out, or name a profile for which the "
            "pictures are here."
        )
    if pack is not None:
        open_pack(pack)
    folder = (Path(out) if out else project_root() / "_runs" / asked.name).resolve()
    words = ["mpox", "run", *(chosen if chosen != list_notebooks() else ()), "--profile", str(profile)]
    for key, value in overrides.items():
        words += ["-p", key, json.dumps(value)]
    words += ["--out", str(out)] * bool(out) + ["--data-dir", str(data_dir)] * bool(data_dir)
    words += ["--overrides", str(decisions)] * bool(decisions) + ["--pack", str(pack)] * bool(pack) + ["--resume"]
    go_on = shlex.join(words)

    began = time.monotonic()
    before = _previous_run(folder, asked, resume=resume)
    with _only_run_in(folder):
        if not resume:
            _clear(folder, before)
            before = None
        run = _plan(folder, before, asked, overrides, parameters, in_force)
        _write(run)
        echo(f"profile {run.profile} -> {folder} (log: run.log)")
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".kernel-", ignore_cleanup_errors=True) as scratch,
            kernel_environment(Path(scratch), profile=run.profile, data_dir=data_dir, decisions=decisions, pack=pack),
            log_file(folder / "run.log"),
        ):
            run = _run_chosen(run, chosen, Path(scratch), cell_timeout_s, progress, echo, go_on)
        if run.ok:
            run = replace(run, finished=_now())
            _write(run)
    if run.failure is None:
        echo(f"executed notebooks are in {folder} ({time.monotonic() - began:.1f} s in all)")
    return run


def _run_chosen(
    run: RunResult,
    chosen: list[str],
    scratch: Path,
    cell_timeout_s: float | None,
    progress: bool,
    echo: Callable[[str], None],
    again: str,
) -> RunResult:
    """Execute what is not done yet, noting each change of state, up to the first failure."""
    for number, name in enumerate(chosen, start=1):
        label = f"[{number}/{len(chosen)}] {name:<28}"
        if run.notebooks[name].status == "done":
            echo(f"{label} skipped (done before)")
            continue
        run = _set(run, name, status="running", duration_s=None, source_sha256=_source_sha256(name), error=None)
        start = time.monotonic()
        try:
            execute(
                name,
                run.notebooks[name].parameters,
                run.folder / f"{name}.ipynb",
                scratch=scratch,
                cell_timeout_s=cell_timeout_s,
                progress=progress,
            )
        except (NotebookFailure, KeyboardInterrupt) as error:
            took = round(time.monotonic() - start, 1)
            reason = str(error) if isinstance(error, NotebookFailure) else "interrupted"
            run = _set(run, name, status="failed", duration_s=took, error=reason)
            if isinstance(error, KeyboardInterrupt):
                echo(f"{label} interrupted after {took} s. Go on from it with: {again}")
                raise
            echo(f"{label} failed  {took:8.1f} s")
            return replace(run, failure=f"{error.description}\nGo on from it with: {again}")
        run = _set(run, name, status="done", duration_s=round(time.monotonic() - start, 1))
        echo(f"{label} done    {run.notebooks[name].duration_s:8.1f} s")
    return run


def _previous_run(folder: Path, profile: Profile, *, resume: bool) -> RunResult | None:
    """What an existing folder holds; an error if it must not be touched or cannot be gone on with."""
    if folder.exists() and not folder.is_dir():
        raise MpoxError(f"{folder} is a file: name a folder with --out.")
    if not folder.exists() or all(entry.name == _LOCK for entry in folder.iterdir()):
        return None
    if not (folder / "run.json").is_file():
        raise MpoxError(f"{folder} is not empty and was not made by 'mpox run': name another folder with --out.")
    run = read_run(folder)
    if resume and run.profile_file != profile.file:
        raise MpoxError(
            f"{folder} is a run of the profile {run.profile} ({run.profile_file}): resume it with that "
            "--profile, or name another folder with --out."
        )
    return run


def _clear(folder: Path, before: RunResult | None) -> None:
    """Remove what an earlier run left, and nothing else."""
    for name in before.notebooks if before else ():
        (folder / Path(name).name).with_suffix(".ipynb").unlink(missing_ok=True)
    (folder / "run.log").unlink(missing_ok=True)


def _plan(
    folder: Path,
    before: RunResult | None,
    profile: Profile,
    overrides: dict[str, Any],
    parameters: dict[str, dict[str, Any]],
    decisions: str,
) -> RunResult:
    """The run to come: what is done stays done if neither parameters nor source nor the decisions about pairs changed."""
    notebooks = dict(before.notebooks) if before else {}
    for name, values in parameters.items():
        source = _source_sha256(name)
        old = notebooks.get(name)
        if not (
            old
            and (old.status, old.parameters, old.source_sha256, old.decisions) == ("done", values, source, decisions)
            and (folder / f"{name}.ipynb").is_file()
        ):
            notebooks[name] = NotebookRun("pending", None, values, source, None, decisions)
    return RunResult(
        folder=folder,
        profile=profile.name,
        profile_file=profile.file,
        parameters={**profile.parameters, **overrides},
        started=before.started if before else _now(),
        finished=None,
        package_version=importlib.metadata.version("mpox"),
        notebooks=dict(sorted(notebooks.items())),
    )


def _source_sha256(name: str) -> str:
    return hashlib.sha256((project_root() / "notebooks" / f"{name}.py").read_bytes()).hexdigest()


@contextlib.contextmanager
def _only_run_in(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder, which is made if need be."""
    import filelock

    try:
        with locked(folder / _LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise MpoxError(f"Another 'mpox run' is writing to {folder}: wait for it, or name another --out.") from None


def _set(run: RunResult, name: str, **changes: Any) -> RunResult:
    """The run with one notebook's state changed, on the disk too."""
    run = replace(run, notebooks={**run.notebooks, name: replace(run.notebooks[name], **changes)})
    _write(run)
    return run


def _write(run: RunResult) -> None:
    content = asdict(replace(run, folder=None))
    del content["folder"], content["failure"]
    atomic_write(run.folder / "run.json", json.dumps(content, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
