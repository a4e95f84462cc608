"""Runs in several processes and on a Dask cluster: the same predictions, lost workers, and everything that can be wrong there."""

import os
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import joblib
import pandas as pd
import pytest

from mpox._core import MpoxError, WeightsMissing
from mpox.models.config import ModelConfig, Training
from mpox.protocols.splits import make_splits
from mpox.runs import cross_validation
from mpox.runs.cross_validation import cross_validate, fold_configs, split_runs
from mpox.runs.parallel import Task, compute_missing, workers_and_threads
from mpox.runs.store import RunResult, RunStore

PROBE = ModelConfig(backbone="tf_efficientnet_lite0", image_size=64)
HISTOGRAM = ModelConfig(backbone="colour_histogram", image_size=64)
TUNED = ModelConfig(
    regime="fine_tune",
    backbone="tf_efficientnet_lite0",
    image_size=64,
    training=Training(epochs=1, frozen_stages=7, head_steps=5),
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """What is computed in this process has as many threads as in the workers, so that the bits are the same."""
    monkeypatch.setenv("MPOX_THREADS", "1")
    monkeypatch.setenv("MPOX_WORKERS", "2")
    monkeypatch.delenv("MPOX_SCHEDULER", raising=False)


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def tasks_of(store: RunStore, data, n_folds: int = 3) -> list[Task]:
    tasks = split_runs(data, "source", make_splits(data.manifest, "source", n_folds=n_folds), HISTOGRAM)
    for config, rows in tasks:
        store.keep_split(config.split, rows)
    return tasks


@pytest.fixture
def study(tmp_path, tiny_folder):
    """An empty store, a data set and three runs to compute."""
    store = RunStore(tmp_path / "store")
    data = store.dataset(tiny_folder)
    return store, data, tasks_of(store, data)


def guess(config, data, rows, folder, bar) -> RunResult:
    """A run without a network, for what does not depend on one."""
    test = data.manifest.merge(rows[rows["role"] == "test"][["image_id"]])[["image_id", "label"]]
    history = pd.DataFrame({"strength": [1.0], "validation_loss": [0.7], "chosen": [True]})
    return RunResult(config, test.assign(p_Mpox=0.5, p_Normal=0.5), history, {"seconds": 0.1, "process": os.getpid()})


def fail_in_fold_one(config, data, rows, folder, bar):
    if config.fold == 1:
        raise ValueError("the planted failure")
    return guess(config, data, rows, folder, bar)


def die_once_in_fold_one(config, data, rows, folder, bar):
    mark = folder.parent / "died"
    if config.fold == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return guess(config, data, rows, folder, bar)


def always_die_in_fold_one(config, data, rows, folder, bar):
    if config.fold == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return guess(config, data, rows, folder, bar)


def no_weights(config, data, rows, folder, bar):
    (folder.parent / "begun").open("a").write("x")
    time.sleep(0.5)
    raise WeightsMissing("no weights, and three ways to get them")


def forget(config, data, rows, folder, bar):
    raise AssertionError("nothing is computed here")


@pytest.mark.slow
def test_the_same_predictions_in_this_process_and_in_two(tmp_path, tiny_folder, monkeypatch):
    for model in (PROBE, TUNED):
        found = []
        for workers in ("1", "2"):
            monkeypatch.setenv("MPOX_WORKERS", workers)
            store = RunStore(tmp_path / workers)
            found.append(cross_validate(store, store.dataset(tiny_folder), "source", model, n_folds=3))
        pd.testing.assert_frame_equal(*found, check_exact=True)
        config = fold_configs(store.dataset(tiny_folder), "source", model, n_folds=3)[1][0]
        assert store.get(config).environment["device"].endswith(" 1 threads)")


@pytest.mark.slow
def test_five_runs_on_a_dask_cluster_are_those_of_this_process(cluster, tmp_path, tiny_folder, monkeypatch):
    """Named by its address, as `mpox run` does, or by joblib's own configuration, as a notebook may."""
    from distributed import Client

    monkeypatch.setenv("MPOX_WORKERS", "1")
    store = RunStore(tmp_path / "here")
    data = store.dataset(tiny_folder)
    here = cross_validate(store, data, "source", PROBE, n_folds=5)
    monkeypatch.setattr("mpox.runs.parallel._in_processes", None)
    with Client(cluster), joblib.parallel_config("dask"):
        there = cross_validate(RunStore(tmp_path / "there"), data, "source", PROBE, n_folds=5)
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    monkeypatch.setenv("MPOX_SCHEDULER", cluster.scheduler_address)
    store = RunStore(tmp_path / "failing")
    with pytest.raises(MpoxError, match="1 of 5 runs failed; .*ValueError.'the planted failure'"):
        compute_missing(store, data, tasks_of(store, data, 5), fail_in_fold_one)
    assert len(list((store.root / "runs").glob("[!.]*"))) == 4
    processes = {store.get(config).environment["process"] for config, _ in tasks_of(store, data, 5) if store.has(config)}
    assert os.getpid() not in processes


def test_a_run_that_kills_the_workers_of_a_cluster_is_blamed_alone(study, monkeypatch):
    """As Dask tells it: of a run that three workers have died of."""
    import distributed

    from mpox.runs.parallel import KILLED, _on_dask

    class Future:
        def __init__(self, run_id):
            self.run_id = run_id

        def result(self):
            if self.run_id == study[2][1][0].id:
                raise distributed.KilledWorker("task", None, 3)
            return self.run_id, None

    client = SimpleNamespace(
        submit=lambda function, root, task, *call, **options: Future(task[0].id), cancel=lambda futures: None
    )
    monkeypatch.setattr(distributed, "as_completed", iter)
    found = list(_on_dask(SimpleNamespace(client=client, submit_kwargs={}), study[0], study[2], ()))
    assert [str(error) for _, error in found] == ["None", KILLED, "None"]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_a_failing_run_does_not_stop_the_others(workers, study, monkeypatch):
    monkeypatch.setenv("MPOX_WORKERS", workers)
    store, _, tasks = study
    with pytest.raises(MpoxError, match="1 of 3 runs failed; .*asking again computes .*ValueError.'the planted failure'"):
        compute_missing(*study, fail_in_fold_one)
    assert [store.has(config) for config, _ in tasks] == [True, False, True]
    assert (store.get(tasks[0][0]).environment["process"] == os.getpid()) == (workers == "1")
    compute_missing(*study, guess)
    compute_missing(*study, forget)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_concerns_all_runs_alike_is_raised_at_once(workers, study, monkeypatch):
    monkeypatch.setenv("MPOX_WORKERS", workers)
    store, data, _ = study
    with pytest.raises(WeightsMissing, match="^no weights, and three ways"):
        compute_missing(store, data, tasks_of(store, data, 6), no_weights)
    assert len((store.root / "runs" / "begun").read_text()) <= 2 * int(workers)


def test_what_every_run_failed_for_is_raised_as_it_is(study, monkeypatch):
    monkeypatch.setenv("MPOX_WORKERS", "1")
    with pytest.raises(AssertionError, match="^nothing is computed here$"):
        compute_missing(*study, forget)
    monkeypatch.setattr(cross_validation, "compute_run", forget)
    with pytest.raises(AssertionError, match="^nothing is computed here$"):
        cross_validate(study[0], study[1], "source", PROBE, n_folds=3)


@pytest.mark.slow
def test_a_worker_that_dies_costs_no_run_when_it_is_asked_again(study):
    compute_missing(*study, die_once_in_fold_one)
    assert all(study[0].has(config) for config, _ in study[2])


def hang_in_fold_one(config, data, rows, folder, bar):
    if config.fold == 1:
        (folder.parent / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    return guess(config, data, rows, folder, bar)


@pytest.mark.slow
def test_an_interruption_kills_the_workers_and_keeps_whole_runs(study):
    store, _, tasks = study
    pid = store.root / "runs" / "pid"

    def interrupt():
        while not (store.has(tasks[0][0]) and pid.is_file() and pid.read_text()):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        compute_missing(*study, hang_in_fold_one)
    assert store.has(tasks[0][0]) and not store.has(tasks[1][0])
    for _ in range(100):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the worker lives")


def test_a_store_or_an_engine_that_is_not_shared_is_noticed(study, monkeypatch):
    """Two machines that have each a folder of this name: the worker's run is nowhere here."""
    from mpox.runs.parallel import _unseen, _work

    store, data, tasks = study
    monkeypatch.setattr("mpox.runs.parallel.PATIENCE_S", 0)
    assert "where all machines see the same folder" in str(_unseen(store, tasks[0][0].id))
    config = replace(tasks[0][0], engine=99)
    _, error = _work(store.root, (config, tasks[0][1]), data, forget, 1, None)
    assert "another version of mpox" in str(error)


def test_what_may_be_used_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("MPOX_WORKERS")
    monkeypatch.delenv("MPOX_THREADS")
    found = {}
    for cores in (1, 2, 3, 16):
        monkeypatch.setattr("joblib.cpu_count", lambda cores=cores: cores)
        found[cores] = workers_and_threads()
    assert found == {1: (1, 1), 2: (1, 1), 3: (1, 1), 16: (8, 1)} and workers_and_threads("cuda") == (1, 2)
    monkeypatch.setenv("MPOX_WORKERS", "12")
    assert workers_and_threads() == (12, 1)
