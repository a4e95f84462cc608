"""Runs on the workers of a Dask cluster. A lost worker is Dask's business: it gives what was under way there to another one."""

import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.models.backbones import find_weights
from mpox.runs.workers import Outcome, Task, facts, other_versions, versions, work_on_cluster

if TYPE_CHECKING:
    from distributed import Client


@contextlib.contextmanager
def connect(address: str, *, needs_gpu: bool, patience_s: float) -> Iterator["Client"]:
    """A client of the scheduler at an address, whose workers, as far as there are any yet, can do what is asked.

    Raises
    ------
    MpoxError
        If Dask is not installed, nobody answers at the address, workers have other versions of mpox or torch, or a GPU is needed
        and no worker has one.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MpoxError('A Dask scheduler was named, but Dask is not installed: pip install "mpox[cluster]".') from None
    try:
        client = Client(address, timeout=patience_s, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MpoxError(
            f"No Dask scheduler answers at {address} ({type(error).__name__}): start one with `dask scheduler`, correct "
            "--scheduler or MPOX_SCHEDULER, or leave them out to compute on this machine."
        ) from error
    with client:
        _check(client.run(_facts, on_error="return"), needs_gpu)
        yield client


def _facts(dask_worker=None) -> dict[str, str | float]:
    return {**versions(), "gpus": dask_worker.state.total_resources.get("GPU", 0)}


def _check(found: dict, needs_gpu: bool) -> None:
    broken = {where: error for where, error in found.items() if isinstance(error, BaseException)}
    if broken:
        where, error = next(iter(broken.items()))
        raise MpoxError(f"The worker {where} cannot load mpox ({error}): install the same versions on all workers.") from error
    other = {where: facts for where, facts in found.items() if {**facts, **versions()} != facts}
    if other:
        raise MpoxError(other_versions(other, versions()))
    if needs_gpu and found and not any(facts["gpus"] for facts in found.values()):
        raise MpoxError("No worker of the cluster offers a GPU: start them with `dask worker ADDRESS --resources GPU=1`.")


def submit(
    client, root: Path, data: Dataset, todo: dict[int, Task], compute: Callable, threads: int, bar: tqdm, patience_s: float
) -> Iterator[tuple[int, Outcome]]:
    """Compute runs on a cluster; yields each run's index and its outcome, as they come.

    The data set is sent once, as a task of its own: its copy can be made again when the worker that holds it is lost.
    """
    from distributed import as_completed

    model = next(iter(todo.values())).config.model
    needs = {"resources": {"GPU": 1}} if model.device == "cuda" else {}
    shared = client.submit(_same, data, pure=False)
    known = model.weights == "imagenet" and find_weights(model.backbone) is not None
    call = (compute, threads, facts(model, weights=known), patience_s)
    futures = {}
    for index, task in todo.items():
        name = f"mpox-{task.config.id}-{uuid.uuid4().hex[:8]}"
        futures[client.submit(work_on_cluster, root, shared, task, *call, key=name, pure=False, **needs)] = index
    if not client.nthreads():
        bar.set_postfix_str("waiting for a worker")
    try:
        for future in as_completed(list(futures), loop=client.loop):
            begun = _times_begun(client, future.key)
            if future.status == "finished":
                outcome = future.result()
                yield futures[future], Outcome(outcome.status, outcome.seconds, outcome.worker, begun, outcome.error)
            else:
                yield futures[future], Outcome("failed", attempts=begun, error=_lost(future))
    finally:
        client.cancel([future for future in futures if not future.done()])


def _same(data: Dataset) -> Dataset:
    return data


def _times_begun(client, key: str) -> int:
    """How often the scheduler gave a task to a worker."""
    stages = Counter(event[2] for event in client.sync(client.scheduler.get_story, keys_or_stimuli=[key]) if event[0] == key)
    return max(1, stages["processing"])


def _lost(future) -> MpoxError:
    error = future.exception() if future.status == "error" else None
    if error is None:
        return MpoxError("The Dask scheduler dropped the run, or was lost itself: see its log, start it again, and ask again.")
    if type(error).__name__ == "KilledWorker":
        return MpoxError(
            f"The run was lost with every worker that began it (the last was {error.last_worker.address}); most often they ran "
            "out of memory: give the workers more, or use a smaller batch_size or image_size."
        )
    return MpoxError(f"Dask could not compute the run ({type(error).__name__}: {error}): see the log of its workers.")
