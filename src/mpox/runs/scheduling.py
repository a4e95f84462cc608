"""Where runs are computed: in this process, in several processes of this machine, or by the workers of a Dask cluster.

`map_runs` takes the runs that a table needs and sees to it that the run store holds them. Nothing travels back but how it went:
a worker opens the same store, computes under the run's lock and leaves the run there, checkpoints included, so that whoever takes
over from a lost worker goes on where it was. `mpox.runs.workers` is what happens inside a worker.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial

import joblib
import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, Unwritable, WeightsMissing
from mpox.data.dataset import Dataset
from mpox.runs.store import RunStore
from mpox.runs.workers import Outcome, Task, failed, fill_caches, here, work

#: Seconds in which a scheduler must answer, and in which a file written by another machine must have appeared.
PATIENCE_S = 10
#: The columns of `map_runs`.
COLUMNS = ("run_id", "status", "seconds", "worker", "attempts", "error")


@dataclass(frozen=True)
class Resources:
    """What runs may use.

    Parameters
    ----------
    workers : int
        Processes on this machine; with 1 runs are computed in the process that asks.
    threads : int
        Of torch, for a run in a worker. Runs with as many threads have the same bits wherever they are computed.
    scheduler : str
        Address of a Dask scheduler; if there is one, its workers compute and `workers` does not count.
    retries : int
        How often a run is begun again whose worker process on this machine was lost.
    """

    workers: int = 1
    threads: int = 1
    scheduler: str = ""
    retries: int = 2


def available_resources(device: str = "cpu") -> Resources:
    """What the environment allows: ``MPOX_WORKERS``, ``MPOX_THREADS`` and ``MPOX_SCHEDULER``.

    By default one worker for two cores, or one for each GPU, and two threads a run as far as the cores go round.

    Raises
    ------
    MpoxError
        If a number is none.
    """
    cores = joblib.cpu_count()
    by_default = max(1, len(_gpus())) if device == "cuda" else max(1, cores // 2)
    workers = _number("MPOX_WORKERS", by_default)
    scheduler = os.environ.get("MPOX_SCHEDULER", "")
    threads = 2 if scheduler else max(1, min(2, cores // workers))
    return Resources(workers, _number("MPOX_THREADS", threads), scheduler)


def worker_settings(workers: int | None = None, scheduler: str | None = None, jobs: int = 1) -> dict[str, str]:
    """The environment of kernels that was asked for; of several side by side each has its share of the cores.

    Parameters
    ----------
    workers : int, optional
        Of each kernel.
    scheduler : str, optional
    jobs : int
        How many kernels run side by side.
    """
    settings = {"MPOX_WORKERS": str(workers)} if workers else {}
    if scheduler:
        settings["MPOX_SCHEDULER"] = scheduler
    if jobs > 1:
        share = max(1, joblib.cpu_count() // jobs)
        cores = {"OMP_NUM_THREADS": str(share), "LOKY_MAX_CPU_COUNT": str(share)}
        settings = cores | settings
    return settings


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise MpoxError(f"{variable} must be a whole number of at least 1, not '{text}'.")
    return int(text)


def _gpus() -> list[str]:
    """What to write into ``CUDA_VISIBLE_DEVICES``, one entry a GPU that this process may use."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] or [str(number) for number in range(count)]


def map_runs(
    store: RunStore,
    data: Dataset,
    tasks: list[Task],
    compute: Callable,
    *,
    resources: Resources | None = None,
    label: str = "runs",
) -> pd.DataFrame:
    """Compute the runs that a store lacks, wherever there is room; one that fails does not stop the others.

    Parameters
    ----------
    store : RunStore
        With the splits of the tasks in it. Workers open the same folder.
    data : Dataset
    tasks : list of Task
        All with the same model.
    compute : callable
        ``compute(config, data, rows, folder, bar)`` gives a run's result; `compute_run`. Workers import it.
    resources : Resources, optional
        `available_resources` if not given.
    label : str
        For the progress bar.

    Returns
    -------
    DataFrame
        One row a task, in their order: ``run_id``, ``status`` (``read``: it was there; ``computed``; ``failed``), ``seconds`` (of
        its computation; NaN if it was there), ``worker``, ``attempts`` (0 if it was there), ``error`` (the exception, or None).

    Raises
    ------
    MpoxError
        Before anything is computed: no scheduler at the address, other versions on its workers. In this process also if the
        store or the cache cannot be written, or there are no weights: no other run would fare better.
    KeyboardInterrupt
        After what was queued has been cancelled. Whole runs stay, and the checkpoints of the others.
    """
    missing = [index for index, task in enumerate(tasks) if not store.has(task.config)]
    outcomes = {index: Outcome("read", attempts=0) for index in range(len(tasks)) if index not in missing}
    if missing:
        model = tasks[missing[0]].config.model
        resources = resources or available_resources(model.device)
        bar = tqdm(total=len(tasks), initial=len(outcomes), desc=label, delay=2, leave=False)
        if resources.scheduler:
            how = _on_cluster
        elif resources.workers > 1 and len(missing) > 1:
            how = _in_processes
        else:
            how = _in_this_process
        with bar:
            todo = {index: tasks[index] for index in missing}
            for index, outcome in how(store, replace(data, audit=None), todo, compute, resources, bar):
                if outcome.status != "failed" and not _appears(partial(store.has, tasks[index].config)):
                    outcome = replace(outcome, status="failed", error=_not_shared(store, outcome.worker))
                outcomes[index] = outcome
                bar.update()
    rows = [
        (task.config.id, found.status, found.seconds, found.worker, found.attempts, found.error)
        for task, found in zip(tasks, [outcomes[index] for index in range(len(tasks))], strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def raise_failures(table: pd.DataFrame) -> None:
    """Raise what went wrong in `map_runs`, after the fact: one error for all.

    Raises
    ------
    Exception
        The error itself, if every run that was begun failed for the same reason; else a `MpoxError` that counts.
    """
    bad = table[table["status"] == "failed"]
    if bad.empty:
        return
    reasons = bad["error"].map(lambda error: (type(error), str(error)))
    if reasons.nunique() == 1 and len(bad) == (table["status"] != "read").sum():
        raise bad["error"].iloc[0]
    shown = [f"{row.run_id}: {_sentence(row.error)}" for row in bad[~reasons.duplicated()].head(3).itertuples()]
    raise MpoxError(
        f"{len(bad)} of {len(table)} runs failed; the others are kept, and asking again computes only what is missing. "
        f"{' | '.join(shown)}"
    ) from bad["error"].iloc[0]


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, MpoxError) else f"{type(error).__name__}: {error}"


def _appears(there: Callable[[], bool]) -> bool:
    """Network file systems show a file of another machine late."""
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _not_shared(store: RunStore, worker: str) -> MpoxError:
    return MpoxError(
        f"The worker {worker} computed a run that is not in {store.root} here: put the run store where all machines see the same "
        "folder, and name it with RUN_STORE or MPOX_RUN_STORE."
    )


Outcomes = Iterator[tuple[int, Outcome]]


def _in_this_process(store, data, todo: dict[int, Task], compute, resources, bar: tqdm) -> Outcomes:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(resources.threads)
        yield from _one_by_one(store, data, todo, compute, bar)
    finally:
        torch.set_num_threads(before)


def _one_by_one(store, data, todo: dict[int, Task], compute, bar: tqdm) -> Outcomes:
    for index, task in todo.items():
        began = time.perf_counter()
        try:
            computed = task.run(store, data, compute, bar)
        except (Unwritable, WeightsMissing):  # the other runs would lose an epoch each, or wait for a hub, and fail alike
            raise
        except Exception as error:
            yield index, failed(error)
        else:
            yield index, Outcome("computed" if computed else "read", round(time.perf_counter() - began, 3), here())


def _in_processes(store, data, todo: dict[int, Task], compute, resources, bar: tqdm) -> Outcomes:
    """Keep as many runs under way as there are workers, so that when the pool breaks, just these had begun.

    A worker that dies takes the pool with it, and nobody can tell whose fault it was: all runs under way are begun again. On its
    last attempt a run has the pool to itself.
    """
    from mpox.runs.localpool import local_pool

    model = next(iter(todo.values())).config.model
    fill_caches(data, model)
    workers = min(resources.workers, len(todo))
    gpus = _gpus() if model.device == "cuda" else []
    waiting, attempts = list(todo), dict.fromkeys(todo, 0)
    while waiting:
        fresh = [index for index in waiting if attempts[index] < resources.retries]
        batch = fresh or waiting[:1]
        under_way: dict[Future, int] = {}
        try:
            with local_pool(resources.workers, resources.threads, gpus) as pool:
                while batch or under_way:
                    while batch and len(under_way) < workers:
                        index = batch.pop(0)
                        attempts[index] += 1
                        future = pool.submit(work, store.root.resolve(), data, todo[index], compute)
                        under_way[future] = index
                    done = wait(under_way, return_when=FIRST_COMPLETED).done
                    for future in sorted(done, key=lambda future: future.exception() is not None):
                        outcome = future.result()
                        index = under_way.pop(future)
                        waiting.remove(index)
                        yield index, replace(outcome, attempts=attempts[index])
        except BrokenProcessPool:
            for index in [index for index in under_way.values() if attempts[index] > resources.retries]:
                waiting.remove(index)
                yield index, Outcome("failed", attempts=attempts[index], error=_died(attempts[index]))


def _died(times: int) -> MpoxError:
    return MpoxError(
        f"The process that computed the run was killed, {times} times; most often the machine ran out of memory: use fewer "
        "workers (MPOX_WORKERS), a smaller batch_size or image_size."
    )


def _on_cluster(store, data, todo: dict[int, Task], compute, resources, bar: tqdm) -> Outcomes:
    from mpox.runs.daskcluster import connect, submit

    model = next(iter(todo.values())).config.model
    with connect(resources.scheduler, needs_gpu=model.device == "cuda", patience_s=PATIENCE_S) as client:
        yield from submit(client, store.root.resolve(), data, todo, compute, resources.threads, bar, PATIENCE_S)
