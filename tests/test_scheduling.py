"""Runs on several processes and on a Dask cluster: the same predictions, lost workers, and everything that can be wrong there."""

import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from mpox._core import MpoxError, WeightsMissing
from mpox.models.config import ModelConfig, Training
from mpox.runs import cross_validation, localpool
from mpox.runs.cross_validation import compute_run, cross_validate
from mpox.runs.scheduling import Resources, available_resources, map_runs, raise_failures
from mpox.runs.store import RunResult, RunStore
from mpox.runs.workers import Task, here, work_on_cluster

PROBE = ModelConfig(backbone="tf_efficientnet_lite0", image_size=64)
TUNED = ModelConfig(
    regime="fine_tune",
    backbone="tf_efficientnet_lite0",
    image_size=64,
    training=Training(epochs=2, frozen_stages=7, head_steps=5),
)
TWO = Resources(workers=2, threads=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """What is computed in this process has as many threads as in the workers, so that the bits are the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPOX_THREADS", "1")
        yield
    localpool._throw_away()


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def serial(tmp_path_factory, tiny_folder):
    """The predictions of this process alone."""
    store = RunStore(tmp_path_factory.mktemp("serial"))
    data = store.dataset(tiny_folder)
    return {model.regime: cross_validate(store, data, "source", model, n_folds=3) for model in (PROBE, TUNED)}


def tasks_of(store: RunStore, data, model: ModelConfig, n_folds: int = 3) -> list[Task]:
    split, configs = cross_validation.fold_configs(data, "source", model, n_folds=n_folds)
    tasks = [Task(config, split[split["fold"] == config.fold]) for config in configs]
    for task in tasks:
        store.keep_split(task.config.split, task.rows)
    return tasks


def guess(config, data, rows, folder, bar) -> RunResult:
    """A run without a network, for what does not depend on one."""
    test = data.manifest.merge(rows[rows["role"] == "test"][["image_id"]])[["image_id", "label"]]
    history = pd.DataFrame({"strength": [1.0], "validation_loss": [0.7], "chosen": [True]})
    return RunResult(config, test.assign(p_Mpox=0.5, p_Normal=0.5), history, {"seconds": 0.1})


def fail_in_fold_one(config, data, rows, folder, bar):
    if config.fold == 1:
        raise MpoxError("the planted failure")
    return guess(config, data, rows, folder, bar)


class FatalBar:
    """Kills the process that trains after its first epoch, once, as the system does when memory runs out."""

    def __init__(self, mark: Path):
        self.mark = mark

    def set_postfix_str(self, text: str) -> None:
        if not self.mark.exists():
            self.mark.write_text(text)
            os.kill(os.getpid(), signal.SIGKILL)


def die_once_in_fold_one(config, data, rows, folder, bar):
    return compute_run(config, data, rows, folder, FatalBar(folder.parent / "died") if config.fold == 1 else bar)


def always_die_in_fold_one(config, data, rows, folder, bar):
    if config.fold == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return guess(config, data, rows, folder, bar)


def forget(config, data, rows, folder, bar):
    raise AssertionError("nothing is computed here")


@pytest.mark.parametrize("where", ["processes", "cluster"])
@pytest.mark.parametrize("model", [PROBE, TUNED], ids=lambda model: model.regime)
def test_the_same_predictions_wherever_they_are_computed(where, model, serial, tmp_path, tiny_folder, request, monkeypatch):
    monkeypatch.setenv("MPOX_WORKERS", "2")
    monkeypatch.setenv("MPOX_THREADS", "1")
    if where == "cluster":
        monkeypatch.setenv("MPOX_SCHEDULER", request.getfixturevalue("cluster").scheduler_address)
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    found = cross_validate(store, data, "source", model, n_folds=3)
    pd.testing.assert_frame_equal(found, serial[model.regime], check_exact=True)
    again = map_runs(store, data, tasks_of(store, data, model), forget)
    assert again["status"].tolist() == ["read"] * 3 and again["attempts"].tolist() == [0] * 3
    devices = {store.get(task.config).environment["device"] for task in tasks_of(store, data, model)}
    assert all(device.endswith(" 1 threads)") for device in devices)


@pytest.mark.parametrize("where", ["here", "processes", "cluster"])
def test_a_failing_run_is_a_row_and_the_others_are_kept(where, tmp_path, tiny_folder, request):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    tasks = tasks_of(store, data, PROBE)
    address = request.getfixturevalue("cluster").scheduler_address if where == "cluster" else ""
    resources = Resources(workers=1) if where == "here" else replace(TWO, scheduler=address)
    table = map_runs(store, data, tasks, fail_in_fold_one, resources=resources)
    assert table["status"].tolist() == ["computed", "failed", "computed"]
    assert table["run_id"].tolist() == [task.config.id for task in tasks]
    assert [store.has(task.config) for task in tasks] == [True, False, True]
    assert table["seconds"].notna().tolist() == [True, False, True]
    assert table["worker"].str.match(r".+/\d+").all() and (table["worker"] == here()).eq(where == "here").all()
    with pytest.raises(MpoxError, match="1 of 3 runs failed; .*asking again computes only .* the planted failure"):
        raise_failures(table)


def test_what_all_runs_fail_for_is_raised_as_it_is(tmp_path, tiny_folder, monkeypatch):
    def no_weights(*_):
        raise WeightsMissing("no weights, and three ways to get them")

    monkeypatch.setattr(cross_validation, "compute_run", no_weights)
    store = RunStore(tmp_path)
    with pytest.raises(WeightsMissing, match="^no weights, and three ways"):
        cross_validate(store, store.dataset(tiny_folder), "source", PROBE, n_folds=3)


@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_a_run_whose_worker_is_killed_is_done_by_another(where, serial, tmp_path, tiny_folder, request):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    tasks = tasks_of(store, data, TUNED)
    address = request.getfixturevalue("cluster").scheduler_address if where == "cluster" else ""
    table = map_runs(store, data, tasks, die_once_in_fold_one, resources=replace(TWO, scheduler=address))
    assert set(table["status"]) <= {"computed", "read"} and table["error"].isna().all()
    assert table["attempts"].iloc[1] == 2 and "epoch 1 of 2" in (tmp_path / "runs" / "died").read_text()
    expected = serial["fine_tune"].set_index("image_id")["p_Mpox"]
    for task in tasks:
        predictions = store.get(task.config).predictions
        assert predictions["p_Mpox"].tolist() == expected[predictions["image_id"]].tolist()


def test_a_run_that_kills_every_worker_is_given_up_and_blamed_alone(tmp_path, tiny_folder):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    table = map_runs(store, data, tasks_of(store, data, PROBE), always_die_in_fold_one, resources=replace(TWO, retries=1))
    assert table["status"].tolist() == ["computed", "failed", "computed"]
    assert table["attempts"].iloc[1] == 2 and "killed, 2 times" in str(table["error"].iloc[1])


def test_a_wrong_address_is_one_sentence_within_seconds(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr("mpox.runs.scheduling.PATIENCE_S", 1)
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    tasks = tasks_of(store, data, PROBE)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(MpoxError, match=f"No Dask scheduler answers at {address}"):
            map_runs(store, data, tasks, forget, resources=replace(TWO, scheduler=address))


def test_workers_that_lack_something_say_so(cluster, tmp_path, tiny_folder, monkeypatch):
    """The workers keep the cache they began with; the pictures are moved away, so that they cannot fill it."""
    monkeypatch.setattr("mpox.runs.scheduling.PATIENCE_S", 1)
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    store = RunStore(tmp_path / "store")
    data = store.dataset(tmp_path / "tiny")
    model = replace(PROBE, image_size=52)  # no other test fills the cache at this size
    tasks = tasks_of(store, data, model)
    (tmp_path / "tiny").rename(tmp_path / "moved")
    there = replace(TWO, scheduler=cluster.scheduler_address)
    table = map_runs(store, data, tasks, compute_run, resources=there)
    assert table["status"].tolist() == ["failed"] * 3
    assert all("does not see the pictures, for instance" in str(error) for error in table["error"])
    (tmp_path / "moved").rename(tmp_path / "tiny")
    shutil.rmtree(store.root / "splits")
    table = map_runs(store, data, tasks, compute_run, resources=there)
    assert all("does not see the run store" in str(error) for error in table["error"])
    with pytest.raises(MpoxError, match="No worker of the cluster offers a GPU"):
        on_gpu = [replace(task, config=replace(task.config, model=replace(model, device="cuda"))) for task in tasks]
        map_runs(store, data, on_gpu, forget, resources=there)


def test_other_versions_are_named_at_connect_and_by_a_worker_that_comes_later(cluster, tmp_path, tiny_folder, monkeypatch):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    task = tasks_of(store, data, PROBE)[0]
    wrong = {"mpox": "0.0.7", "torch": "2", "engine": "1"}
    outcome = work_on_cluster(store.root, data, task, forget, 1, wrong, 1)
    assert outcome.status == "failed" and "here it is mpox 0.0.7, torch 2, engine 1: install" in str(outcome.error)
    monkeypatch.setattr("mpox.runs.daskcluster.versions", lambda: wrong)
    with pytest.raises(MpoxError, match=r"tcp://127.* has mpox .*; here it is mpox 0.0.7"):
        map_runs(store, data, [task], forget, resources=replace(TWO, scheduler=cluster.scheduler_address))


def test_a_store_that_is_not_shared_is_noticed(tmp_path, tiny_folder, monkeypatch):
    """Two machines that have each a folder of this name: the worker's run is nowhere here."""
    monkeypatch.setattr("mpox.runs.scheduling.PATIENCE_S", 0)
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    tasks = tasks_of(store, data, PROBE)
    monkeypatch.setattr(Task, "run", lambda *_: True)
    table = map_runs(store, data, tasks, compute_run, resources=Resources())
    assert all("put the run store where all machines see the same folder" in str(error) for error in table["error"])


def test_what_may_be_used_is_read_from_the_environment(monkeypatch):
    for name in ("MPOX_WORKERS", "MPOX_THREADS", "MPOX_SCHEDULER"):
        monkeypatch.delenv(name, raising=False)
    found = {}
    for cores in (1, 2, 3, 16):
        monkeypatch.setattr("joblib.cpu_count", lambda cores=cores: cores)
        found[cores] = available_resources().workers, available_resources().threads
    assert found == {1: (1, 1), 2: (1, 2), 3: (1, 2), 16: (8, 2)}
    monkeypatch.setenv("MPOX_WORKERS", "12")
    assert available_resources().threads == 1
    monkeypatch.setenv("MPOX_SCHEDULER", "tcp://head:8786")
    assert available_resources() == Resources(12, 2, "tcp://head:8786")
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv("MPOX_WORKERS", wrong)
        with pytest.raises(MpoxError, match=f"MPOX_WORKERS must be a whole number of at least 1, not '{wrong}'"):
            available_resources()


def test_each_worker_gets_a_gpu_in_turn(tmp_path):
    """The slots are locks that a process holds for life; no GPU is needed to hold them."""

    def where(number: int) -> tuple[str, int]:
        time.sleep(1)
        return os.environ["CUDA_VISIBLE_DEVICES"], torch.get_num_threads()

    with localpool.local_pool(3, 1, ["4", "7"]) as pool:
        found = list(pool.map(where, range(3)))
    assert sorted(found) == [("4", 1), ("4", 1), ("7", 1)]


def hang_in_fold_one(config, data, rows, folder, bar):
    if config.fold == 1:
        (folder.parent / "pid").write_text(str(os.getpid()))
        signal.raise_signal(signal.SIGSTOP)
    return guess(config, data, rows, folder, bar)


def test_an_interruption_kills_the_workers_and_keeps_whole_runs(tmp_path, tiny_folder):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    tasks = tasks_of(store, data, PROBE)
    pid = store.root / "runs" / "pid"

    def interrupt():
        while not (store.has(tasks[0].config) and pid.is_file() and pid.read_text()):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt, daemon=True)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        map_runs(store, data, tasks, hang_in_fold_one, resources=TWO)
    assert store.has(tasks[0].config) and not store.has(tasks[1].config)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
