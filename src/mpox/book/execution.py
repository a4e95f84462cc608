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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpox._core import MpoxError, locked, project_root
from mpox.audit.result import hash_of_decisions, read_overrides
from mpox.book.kernels import Kernels, NotebookFailure, execute, kernel_environment, log_file
from mpox.book.profiles import Profile, declared_parameters, list_notebooks, load_profile, resolve_parameters, select_notebooks
from mpox.book.runfolder import NotebookRun, NotebookRuns, RunState, now, read_run_folder
from mpox.runs.parallel import worker_settings
from mpox.runs.store import RECORDED

_LOCK = ".lock"


def run_notebooks(
    notebooks: Iterable[str] = (),
    *,
    profile: str | Path = "quick",
    overrides: Mapping[str, Any] | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
    decisions: str | os.PathLike | None = None,
    cell_timeout_s: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    jobs: int = 1,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> NotebookRuns:
    """Execute notebooks in order, each in a fresh kernel of this interpreter, until one fails; or several side by side.

    Parameters
    ----------
    notebooks : iterable of str
        As `mpox.book.profiles.select_notebooks` takes them; none means all.
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
        Pairs that a person confirmed or rejected (see `mpox.audit.result.read_overrides`): ``MPOX_OVERRIDES`` of the kernels.
    cell_timeout_s : float, optional
        Seconds after which a cell counts as failed; no limit by default.
    workers : int, optional
        Processes that compute runs, for each notebook: ``MPOX_WORKERS`` of the kernels.
    scheduler : str, optional
        Address of a Dask scheduler whose workers compute runs: ``MPOX_SCHEDULER`` of the kernels.
    jobs : int
        How many notebooks are executed side by side. With more than one a failure does not stop the others.
    progress : bool
        Whether to show papermill's bar over the cells on stderr.
    echo : callable
        Is given each line of progress.

    Returns
    -------
    NotebookRuns
        With `failure` set if notebooks failed.

    Raises
    ------
    MpoxError
        Before anything is written or run: an unknown notebook, profile or parameter, a value of the wrong
        type, a folder that is no run folder or that is in use, decisions that cannot be read or have no effect.
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
    folder = (Path(out) if out else project_root() / "_runs" / asked.name).resolve()
    words = ["mpox", "run", *(chosen if chosen != list_notebooks() else ()), "--profile", str(profile)]
    for key, value in overrides.items():
        words += ["-p", key, json.dumps(value)]
    words += ["--out", str(out)] * bool(out) + ["--data-dir", str(data_dir)] * bool(data_dir)
    words += ["--overrides", str(decisions)] * bool(decisions)
    words += ["--workers", str(workers)] * bool(workers) + ["--scheduler", str(scheduler)] * bool(scheduler)
    words += ["--jobs", str(jobs)] * (jobs > 1) + ["--resume"]
    go_on = shlex.join(words)

    settings = worker_settings(workers, scheduler, jobs)
    began = time.monotonic()
    before = _previous_run(folder, asked, resume=resume)
    with _only_run_in(folder):
        if not resume:
            _clear(folder, before)
            before = None
        state = RunState(_plan(folder, before, asked, overrides, parameters, in_force))
        echo(f"profile {state.run.profile} -> {folder} (log: run.log)")
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".kernel-", ignore_cleanup_errors=True) as scratch,
            kernel_environment(
                Path(scratch), profile=asked.name, data_dir=data_dir, decisions=decisions, settings=settings
            ),
            log_file(folder / "run.log"),
        ):
            options = {"scratch": Path(scratch), "cell_timeout_s": cell_timeout_s, "progress": progress}
            failure = _run_chosen(state, chosen, jobs, go_on, echo, **options)
        if state.run.ok:
            state.finish()
    if failure is None:
        echo(f"executed notebooks are in {folder} ({time.monotonic() - began:.1f} s in all)")
    return replace(state.run, failure=failure)


def _run_chosen(
    state: RunState, chosen: list[str], jobs: int, again: str, echo: Callable[[str], None], **options: Any
) -> str | None:
    """Execute what is not done yet, noting each change of state; what failed, for a person.

    One after the other up to the first failure; or several side by side, where a failure stops no other.
    """
    labels = {name: f"[{number}/{len(chosen)}] {name:<28}" for number, name in enumerate(chosen, start=1)}
    todo = []
    for name in chosen:
        if state.run.notebooks[name].status == "done":
            echo(f"{labels[name]} skipped (done before)")
        else:
            todo.append(name)
    if jobs == 1:
        failures = (_run_one(state, name, labels[name], again, echo, **options) for name in todo)
        failure = next(filter(None, failures), None)
    else:
        failure = _side_by_side(state, todo, jobs, labels, again, echo, **options)
    return failure and f"{failure}\nGo on from it with: {again}"


def _side_by_side(
    state: RunState, todo: list[str], jobs: int, labels: dict[str, str], again: str, echo: Callable[[str], None], **options: Any
) -> str | None:
    """Threads wait for kernels. papermill changes the working directory, which all threads share: it is there already."""
    kernels = Kernels()
    with contextlib.chdir(project_root() / "notebooks"), ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_run_one, state, name, labels[name], again, echo, kernels=kernels, **options) for name in todo]
        try:
            failures = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in futures):
                kernels.kill()
                time.sleep(0.1)
            raise
    return "\n\n".join(filter(None, failures)) or None


def _run_one(
    state: RunState, name: str, label: str, again: str, echo: Callable[[str], None], *, scratch: Path, **options: Any
) -> str | None:
    state.set(name, status="running", duration_s=None, source_sha256=_source_sha256(name), error=None)
    start = time.monotonic()
    try:
        notebook = state.run.folder / f"{name}.ipynb"
        execute(name, state.run.notebooks[name].parameters, notebook, scratch=scratch, **options)
    except (NotebookFailure, KeyboardInterrupt) as error:
        took = round(time.monotonic() - start, 1)
        kernels = options.get("kernels")
        interrupted = isinstance(error, KeyboardInterrupt) or (kernels and kernels.killed)
        state.set(name, status="failed", duration_s=took, error="interrupted" if interrupted else str(error))
        if interrupted:
            echo(f"{label} interrupted after {took} s. Go on from it with: {again}")
            raise
        echo(f"{label} failed  {took:8.1f} s")
        return error.description if isinstance(error, NotebookFailure) else None
    state.set(name, status="done", duration_s=round(time.monotonic() - start, 1))
    echo(f"{label} done    {state.run.notebooks[name].duration_s:8.1f} s")
    return None


def _previous_run(folder: Path, profile: Profile, *, resume: bool) -> NotebookRuns | None:
    """What an existing folder holds; an error if it must not be touched or cannot be gone on with."""
    if folder.exists() and not folder.is_dir():
        raise MpoxError(f"{folder} is a file: name a folder with --out.")
    if not folder.exists() or all(entry.name == _LOCK for entry in folder.iterdir()):
        return None
    if not (folder / "run.json").is_file():
        raise MpoxError(f"{folder} is not empty and was not made by 'mpox run': name another folder with --out.")
    run = read_run_folder(folder)
    if resume and run.profile_file != profile.file:
        raise MpoxError(
            f"{folder} is a run of the profile {run.profile} ({run.profile_file}): resume it with that "
            "--profile, or name another folder with --out."
        )
    return run


def _clear(folder: Path, before: NotebookRuns | None) -> None:
    """Remove what an earlier run left, and nothing else."""
    for name in before.notebooks if before else ():
        (folder / Path(name).name).with_suffix(".ipynb").unlink(missing_ok=True)
    (folder / "run.log").unlink(missing_ok=True)


def _plan(
    folder: Path,
    before: NotebookRuns | None,
    profile: Profile,
    overrides: dict[str, Any],
    parameters: dict[str, dict[str, Any]],
    decisions: str,
) -> NotebookRuns:
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
    return NotebookRuns(
        folder=folder,
        profile=profile.name,
        profile_file=profile.file,
        parameters={**profile.parameters, **overrides},
        started=before.started if before else now(),
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
