"""A run that is killed loses nothing but itself: the others are kept, and asking again ends with the same bits."""

import builtins
import errno
import functools
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import filelock
import pandas as pd
import pytest
from test_store import CONFIG, result

from mpox._core import MpoxError
from mpox.models.config import ModelConfig
from mpox.runs.cross_validation import cross_validate
from mpox.runs.store import RunStore, read_run

FOLDS = 4
OPERATIONS = ("open", "fsync", "replace", "mkdir", "unlink", "rmdir")


@pytest.fixture(scope="module")
def processes():
    """Processes that start in no time: forked from one that has imported what is slow to import, and did nothing else."""
    context = multiprocessing.get_context("forkserver")
    computing = ["torch", "mpox.models.features", "mpox.models.heads", "mpox.models.backbones", "mpox.audit.features"]
    context.set_forkserver_preload([*computing, "mpox.runs.cross_validation", "mpox.runs.parallel", "test_killed"])
    return context


def started(processes, function, *arguments) -> multiprocessing.process.BaseProcess:
    process = processes.Process(target=function, args=arguments)
    process.start()
    return process


def ended(processes, function, *arguments) -> int:
    """The exit code of a function in a process of its own, negative for a signal."""
    process = started(processes, function, *arguments)
    process.join(120)
    return process.exitcode


def study(images: Path, cache: str, store: Path, predictions: Path) -> None:
    os.environ |= {"MPOX_CACHE": cache, "MPOX_WORKERS": "1", "MPOX_THREADS": "1"}
    runs, model = RunStore(store), ModelConfig(backbone="colour_histogram", image_size=64)
    cross_validate(runs, runs.dataset(images), "source", model, n_folds=FOLDS).to_csv(predictions, index=False)


def whole_runs(store: Path) -> int:
    """How many runs have a name; every one of them must be whole."""
    return len([read_run(folder) for folder in (store / "runs").glob("[!.]*")])


def nobody_holds_a_lock(store: Path) -> bool:
    for path in store.rglob("*.lock"):
        with filelock.FileLock(path, timeout=0):
            pass
    return True


@pytest.mark.slow
def test_two_dozen_kills_at_random_moments_change_no_bit(processes, tiny_folder, tmp_path):
    cache, rng = os.environ["MPOX_CACHE"], random.Random(0)
    base = RunStore(tmp_path / "base")
    base.dataset(tiny_folder)  # scanned and audited, so that no process that is to be killed has to
    assert ended(processes, study, tiny_folder, cache, base.root, tmp_path / "first.csv") == 0
    shutil.rmtree(base.root / "runs")
    shutil.rmtree(base.root / "splits")
    kills, found = 0, []
    for life in range(60):
        store, predictions = tmp_path / f"store{life}", tmp_path / f"{life}.csv"
        shutil.copytree(base.root, store)
        begun, alive = time.perf_counter(), True
        if life == 0:  # undisturbed: how long a study takes
            assert ended(processes, study, tiny_folder, cache, store, predictions) == 0
            lasts, reference, alive = time.perf_counter() - begun, predictions.read_bytes(), False
        while alive:
            process = started(processes, study, tiny_folder, cache, store, predictions)
            process.join(rng.uniform(0, lasts) if kills < 24 else None)
            alive = process.exitcode is None
            if alive:
                process.kill()
                process.join()
                kills += 1
                found.append(whole_runs(store))
            else:
                assert process.exitcode == 0
        assert predictions.read_bytes() == reference and whole_runs(store) == FOLDS and nobody_holds_a_lock(store)
        assert not list((store / "runs").glob(".*.tmp"))
        if kills == 24:
            break
    assert kills == 24 and len(set(found)) > 2, found


def die(name: str, *arguments) -> None:
    if name == "fsync":
        os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)  # not all of it had reached the disk
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(name: str, *arguments) -> None:
    if name not in ("unlink", "rmdir"):  # they need no room
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *[str(arguments[0])] * (name != "fsync"))


def one_run(store: Path, act=None, at: int = -1) -> None:
    """Compute a run; `act` before the operation number `at` on the disk. Exit code: 100 and the number of operations, or 3."""
    done = []

    def watched(name, function, *arguments, **options):
        if name != "open" or "x" in str(arguments[1:2]):
            if len(done) == at:
                act(name, *arguments)
            done.append(name)
        return function(*arguments, **options)

    builtins.open = functools.partial(watched, "open", open)
    for name in OPERATIONS[1:]:
        setattr(os, name, functools.partial(watched, name, getattr(os, name)))
    try:
        RunStore(store).run(CONFIG, lambda folder: result())
    except MpoxError as error:
        os._exit(3 if "cannot be written (No space left on device): free space" in str(error) else 4)
    os._exit(100 + len(done))


@pytest.mark.slow
def test_a_kill_or_a_full_disk_at_any_write_leaves_a_run_whole_or_absent(processes, tmp_path):
    count = ended(processes, one_run, tmp_path / "quiet") - 100
    assert count > 10
    for act, code in ((die, -signal.SIGKILL), (disk_full, 3)):
        for at in range(count):
            store = tmp_path / f"{act.__name__}{at}"
            found, kept = ended(processes, one_run, store, act, at), whole_runs(store)
            assert found == code or (act is disk_full and found >= 100), (act, at, found)
            assert ended(processes, one_run, store) >= 100 and whole_runs(store) == 1
            pd.testing.assert_frame_equal(read_run(store / "runs" / CONFIG.id).predictions, result().predictions)
            assert kept == (found >= 100 or at == count - 1)  # the last operation removes the lock
            assert [path.name for path in (store / "runs").iterdir() if path.suffix != ".lock"] == [CONFIG.id]
            assert nobody_holds_a_lock(store)


def waits_in(store: Path, log: Path, name: str, seconds: float) -> None:
    def compute(folder: Path):
        log.write_text(log.read_text() + name)
        time.sleep(seconds)
        return result()

    RunStore(store).run(CONFIG, compute)


@pytest.mark.parametrize("killed", [True, False])
def test_of_two_that_want_a_run_one_computes_it_and_who_waits_reads_it_or_takes_over(killed, processes, tmp_path):
    store, log = tmp_path / "store", tmp_path / "log"
    log.touch()
    first = started(processes, waits_in, store, log, "1", 100 if killed else 2)
    while not log.read_text():
        time.sleep(0.05)
    second = started(processes, waits_in, store, log, "2", 0)
    second.join(1)
    assert second.is_alive() and log.read_text() == "1"
    if killed:
        first.kill()
    second.join(30)
    assert second.exitcode == 0 and log.read_text() == ("12" if killed else "1") and whole_runs(store) == 1
