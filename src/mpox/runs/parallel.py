"""The runs that a table lacks, computed side by side: by joblib in processes of this machine, or on its Dask cluster."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import joblib
import pandas as pd
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import get_active_backend
from tqdm.auto import tqdm

from mpox._core import MpoxError, Unwritable, WeightsMissing, cache_dir, locked
from mpox.data.dataset import Dataset
from mpox.models.config import FROZEN, ModelConfig, RunConfig, current_engine
from mpox.runs.store import RunStore

#: A run that is asked for, and its rows of the split table: ``image_id``, ``role``, ``inner_fold``.
Task = tuple[RunConfig, pd.DataFrame]
#: The id of a run that was begun, and its error if it failed.
Outcome = tuple[str, Exception | None]
#: Seconds in which a scheduler must answer, and in which a file written by another machine must have appeared.
PATIENCE_S = 10
KILLED = (
    "The process that computed the run was killed each time it was begun; most often the machine ran out of memory: use fewer "
    "workers (MPOX_WORKERS), a smaller batch_size or image_size."
)
#: A run sets torch's threads and its random generator, which belong to the process: one run at a time.
_ONE_RUN = threading.Lock()


def workers_and_threads(device: str = "cpu") -> tuple[int, int]:
    """``MPOX_WORKERS``, by default one for two cores (one for a GPU); ``MPOX_THREADS`` of a run, one (two beside a GPU).

    Networks trained with another number of threads differ, so that the default does not depend on the cores.
    """
    cores = joblib.cpu_count()
    workers = _number("MPOX_WORKERS", 1 if device == "cuda" else max(1, cores // 2))
    return workers, _number("MPOX_THREADS", min(2, cores) if device == "cuda" else 1)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise MpoxError(f"{variable} must be a whole number of at least 1, not '{text}'.")
    return int(text)


def compute_missing(store: RunStore, data: Dataset, tasks: list[Task], compute: Callable, *, label: str = "runs") -> None:
    """Compute the runs that a store lacks, each under its lock; one that fails does not stop the others."""
    missing = [task for task in tasks if not store.has(task[0])]
    if not missing:
        return
    failures: dict[str, Exception] = {}
    with tqdm(total=len(tasks), initial=len(tasks) - len(missing), desc=label, delay=2, leave=False) as bar, _cluster():
        for run_id, error in _outcomes(store, replace(data, audit=None), missing, compute, bar):
            failures |= {run_id: error} if error else {}
            bar.update()
    if failures:
        reasons = {str(error) if isinstance(error, MpoxError) else repr(error): run_id for run_id, error in failures.items()}
        first = next(iter(failures.values()))
        if len(reasons) == 1 and len(failures) == len(missing):
            raise first
        said = " | ".join([f"{run_id}: {reason}" for reason, run_id in reasons.items()][:3])
        raise MpoxError(
            f"{len(failures)} of {len(tasks)} runs failed; the others are kept, and asking again computes what is missing. {said}"
        ) from first


@contextmanager
def _cluster() -> Iterator[None]:
    """Inside, joblib computes on the cluster whose scheduler ``MPOX_SCHEDULER`` names, if it names one."""
    address = os.environ.get("MPOX_SCHEDULER")
    if not address:
        yield
        return
    try:
        from distributed import Client

        client = Client(address, timeout=PATIENCE_S)
    except (ImportError, OSError, ValueError) as error:
        raise MpoxError(
            f"No Dask cluster can be reached at {address} ({error}): install mpox[cluster], start one with `dask scheduler`, "
            "correct MPOX_SCHEDULER, or leave it out to compute on this machine."
        ) from error
    with client, joblib.parallel_config("dask"):
        yield


def _outcomes(store: RunStore, data: Dataset, tasks: list[Task], compute: Callable, bar: tqdm) -> Iterator[Outcome]:
    """Where the runs are computed: on a cluster if joblib is told to, here, or by several workers."""
    import torch

    model = tasks[0][0].model
    workers, threads = workers_and_threads(model.device)
    backend = get_active_backend()[0]
    if type(backend).__name__ == "DaskDistributedBackend":
        for run_id, error in _on_dask(backend, store, tasks, (data, compute, threads, None)):
            yield run_id, error or _unseen(store, run_id)
    elif workers > 1 and len(tasks) > 1:
        fill_caches(data, model)
        settings = {name: text for name, text in os.environ.items() if name.startswith("MPOX_")}
        # workers of their own: one that an audit has started would be taken for leaking when it imports torch
        with joblib.parallel_config("loky", inner_max_num_threads=threads, idle_worker_timeout=600):
            yield from _in_processes(workers, store, tasks, (data, compute, threads, settings))
    else:
        before = torch.get_num_threads()
        try:
            for task in tasks:
                yield _run(store, task, data, compute, threads, bar)
        finally:
            torch.set_num_threads(before)


def _on_dask(backend, store: RunStore, tasks: list[Task], call: tuple) -> Iterator[Outcome]:
    """Given to the cluster itself: `joblib.Parallel` waits for ever for a run whose workers die, and leaves a single one idle."""
    from distributed import KilledWorker, as_completed

    client, root = backend.client, store.root.resolve()
    runs = {client.submit(_work, root, task, *call, pure=False, **backend.submit_kwargs): task[0].id for task in tasks}
    try:
        for future in as_completed(list(runs)):
            try:
                yield future.result()
            except KilledWorker:  # three other workers died of it, too
                yield runs[future], MpoxError(KILLED)
    finally:
        client.cancel(list(runs))


def _in_processes(workers: int, store: RunStore, tasks: list[Task], call: tuple) -> Iterator[Outcome]:
    """A worker that dies takes the others along, and nobody can tell whose fault it was: the lost runs are begun anew, singly."""
    batches, told = [tasks], set()
    for batch in batches:
        try:
            pool = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1)
            for run_id, error in pool(joblib.delayed(_work)(store.root.resolve(), task, *call) for task in batch):
                told.add(run_id)
                yield run_id, error
        except TerminatedWorkerError:
            if batch is tasks:
                batches += [[task] for task in tasks if task[0].id not in told and not store.has(task[0])]
            else:
                yield batch[0][0].id, MpoxError(KILLED)


def _work(root, task: Task, data: Dataset, compute: Callable, threads: int, settings: dict | None) -> Outcome:
    """Compute a run in a worker, which may be one that was kept from another table, or of another machine."""
    with _ONE_RUN:
        if settings is None:
            if current_engine(task[0].model) != task[0].engine:
                return task[0].id, MpoxError("A worker has another version of mpox: install the same one on all machines.")
            fill_caches(data, task[0].model)
        else:
            for name in [name for name in os.environ if name.startswith("MPOX_")]:
                del os.environ[name]
            os.environ.update(settings)
        run_id, error = _run(RunStore(root), task, data, compute, threads, tqdm(disable=True))
        if error and not isinstance(error, MpoxError):
            error.add_note("In the worker:\n" + "".join(traceback.format_exception(error)))
        return run_id, error


def _run(store: RunStore, task: Task, data: Dataset, compute: Callable, threads: int, bar: tqdm) -> Outcome:
    import torch

    config, rows = task
    torch.set_num_threads(threads)
    try:
        store.run(config, lambda folder: compute(config, data, rows, folder, bar))
    except (Unwritable, WeightsMissing):  # so would all other runs
        raise
    except Exception as error:
        return config.id, error
    return config.id, None


def fill_caches(data: Dataset, model: ModelConfig) -> None:
    """Decode the images, or compute features or activations, that all runs of a model share; one process at a time."""
    from mpox.data.pixels import load_pixels
    from mpox.models.batches import activations
    from mpox.models.features import features

    with locked(cache_dir() / ".workers.lock"):
        if model.regime in FROZEN:
            features(data.manifest, model)
        elif model.regime == "tail_tune":
            activations(data.manifest, model)
        else:
            load_pixels(data.manifest, model.image_size)


def _unseen(store: RunStore, run_id: str) -> MpoxError | None:
    """Network file systems show a file of another machine late; one that never appears is in another machine's own folder."""
    deadline = time.monotonic() + PATIENCE_S
    while not (store.root / "runs" / run_id / "config.json").is_file():
        if time.monotonic() > deadline:
            where = "put the run store where all machines see the same folder, and name it with RUN_STORE or MPOX_RUN_STORE."
            return MpoxError(f"A worker computed a run that is not in {store.root} here: {where}")
        time.sleep(0.1)
    return None
