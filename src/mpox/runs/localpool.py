"""A pool of worker processes on this machine that is kept from one table to the next: importing torch takes seconds."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from joblib.externals.loky import ProcessPoolExecutor

from mpox._core import TORCH_ENVIRONMENT

#: Seconds after which a worker without work ends.
IDLE_S = 300

_kept: dict[tuple, tuple[ProcessPoolExecutor, tempfile.TemporaryDirectory | None]] = {}
_slot: list[FileLock] = []


@contextlib.contextmanager
def local_pool(workers: int, threads: int, gpus: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """The pool for these resources; it is thrown away, and what it computes is killed, if the block raises.

    Parameters
    ----------
    workers : int
    threads : int
        Of torch and of the numerical libraries, in each worker.
    gpus : sequence of str
        For ``CUDA_VISIBLE_DEVICES``: each worker sees one of them, in turn.
    """
    known = ("MPOX_WORKERS", "MPOX_THREADS", "MPOX_SCHEDULER")
    settings = {name: value for name, value in os.environ.items() if name.startswith("MPOX_") and name not in known}
    key = (os.getpid(), os.getcwd(), workers, threads, tuple(gpus), tuple(sorted(settings.items())))
    if key not in _kept:
        _throw_away()
        slots = tempfile.TemporaryDirectory(prefix="mpox-slots-") if gpus else None
        libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        pool = ProcessPoolExecutor(
            workers,
            timeout=IDLE_S,
            initializer=_begin,
            initargs=(os.getpid(), threads, workers, tuple(gpus), slots.name if slots else None),
            env=TORCH_ENVIRONMENT | dict.fromkeys(libraries, str(threads)),
        )
        _kept[key] = pool, slots
    try:
        yield _kept[key][0]
    except BaseException:
        _throw_away()
        raise


def _throw_away() -> None:
    for pool, slots in _kept.values():
        pool.shutdown(wait=True, kill_workers=True)
        if slots:
            slots.cleanup()
    _kept.clear()


def _begin(parent: int, threads: int, workers: int, gpus: tuple[str, ...], slots: str | None) -> None:
    """Make a new process a worker."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if gpus and slots:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[_take_slot(Path(slots), workers) % len(gpus)]
    import torch

    torch.set_num_threads(threads)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed has nobody to work for; the checkpoint of its run stays."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _take_slot(folder: Path, workers: int) -> int:
    """The first number that no living worker of the pool holds; a lock is given back when its process dies."""
    while True:
        for number in range(workers):
            lock = FileLock(folder / f"{number}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                _slot.append(lock)
                return number
        time.sleep(0.1)
