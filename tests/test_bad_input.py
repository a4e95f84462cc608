"""Whatever is wrong with what a user gives us, or with the machine: one clear sentence, and nothing that was there is lost.

A case is a function that gets `place` (a folder of its own, a run store with one whole run in it, the tiny data set, and pytest's
monkeypatch), does the bad thing and must raise an `MpoxError`, and the words that the sentence must have.
"""

import errno
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from test_parallel import always_die_in_fold_one, forget, tasks_of
from test_store import CONFIG, refuse, result

from mpox._core import MpoxError, replacing_folder
from mpox.data.pixels import load_pixels
from mpox.runs.cross_validation import cross_validate
from mpox.runs.listing import find_run, list_runs, training_data
from mpox.runs.parallel import compute_missing
from mpox.runs.store import RunStore

OTHER = replace(CONFIG, fold=9)


@pytest.fixture
def place(tmp_path, tiny_folder, monkeypatch) -> SimpleNamespace:
    store = RunStore(tmp_path / "store")
    store.run(CONFIG, lambda folder: result())
    return SimpleNamespace(folder=tmp_path, store=store, images=tiny_folder, monkeypatch=monkeypatch)


def full_disk(write, place):
    def no_space(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place.monkeypatch.setattr(os, "fsync", no_space)
    write(place)


def a_run(place):
    place.store.run(OTHER, lambda folder: result(OTHER))


def a_table(place):
    place.store.table("small", {"a": 1}, lambda: pd.DataFrame({"x": [1.5]}))


def decoded_images(place):
    place.monkeypatch.setenv("MPOX_CACHE", str(place.folder / "cache"))
    load_pixels(place.store.dataset(place.images).manifest, 16)


def file_for_a_store(place):
    (place.folder / "file").write_text("")
    RunStore(place.folder / "file" / "store")


def file_for_a_folder(place):
    (place.folder / "file").write_text("")
    with replacing_folder(place.folder / "file" / "run"):
        pass


def damaged_run(file, content, place):
    path = place.store.run(OTHER, lambda folder: result(OTHER)) and place.store.run_folder(OTHER) / file
    path.unlink() if content is None else path.write_text(content)
    place.store.run(OTHER, refuse)


def run_without_its_last_prediction(place):
    data = place.store.dataset(place.images)
    model = replace(CONFIG.model, backbone="colour_histogram", weights="none")
    found = cross_validate(place.store, data, "source", model, n_folds=2)
    file = place.store.root / "runs" / found["run_id"].iloc[-1] / "predictions.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    cross_validate(place.store, data, "source", model, n_folds=2)


def killed_run(place):
    place.monkeypatch.setenv("MPOX_WORKERS", "2")
    data = place.store.dataset(place.images)
    tasks = tasks_of(place.store, data)
    try:
        compute_missing(place.store, data, tasks, always_die_in_fold_one)
    finally:
        assert [place.store.has(config) for config, _ in tasks] == [True, False, True]


def settings(name, value, place):
    place.monkeypatch.setenv(name, value)
    place.monkeypatch.setattr("mpox.runs.parallel.PATIENCE_S", 1)
    data = place.store.dataset(place.images)
    compute_missing(place.store, data, tasks_of(place.store, data), forget)


CASES = {
    "full disk, run": (partial(full_disk, a_run), r"store/runs/\S+ cannot be written \(No space left on device\): free space"),
    "full disk, table": (partial(full_disk, a_table), r"store/tables cannot be written \(No space left.*RUN_STORE"),
    "full disk, cache": (partial(full_disk, decoded_images), r"/cache/\S+ cannot be written \(No space left.*set MPOX_CACHE"),
    "unwritable store": (file_for_a_store, r"file/store cannot be written \(Not a directory\).*RUN_STORE"),
    "unwritable folder": (file_for_a_folder, r"/file cannot be written \((Not a directory|File exists)\)"),
    **{
        f"damaged run, {file} {content!r}": (partial(damaged_run, file, content), f"{OTHER.id} is damaged .*remove the folder")
        for file, content in [
            ("config.json", "{"), ("config.json", "[]"), ("config.json", "{}"), ("config.json", '{"model": {}}'),
            ("predictions.csv", None), ("predictions.csv", ""), ("history.csv", None), ("environment.json", ""),
        ]
    },
    "incomplete run": (run_without_its_last_prediction, "lacks predictions of its test fold: remove it"),
    "killed run": (killed_run, "1 of 3 runs failed.*killed each time it was begun; most often the machine ran out of memory"),
    "no run store": (lambda place: list_runs(place.folder / "nowhere"), "There is no run store in .*nowhere"),
    "no such run": (lambda place: find_run(place.store, "ffffffffff"), "No run's id begins with 'ffffffffff'"),
    "a path for a run": (lambda place: find_run(place.store, "../../etc"), "No run's id begins"),
    "short id": (lambda place: find_run(place.store, CONFIG.id[:3]), "too short for a run's id"),
    "no split of a run": (lambda place: training_data(place.store, CONFIG), "split of the run .* compute the run again"),
    "no workers": (partial(settings, "MPOX_WORKERS", "0"), "MPOX_WORKERS must be a whole number of at least 1, not '0'"),
    "no number": (partial(settings, "MPOX_THREADS", "two"), "MPOX_THREADS must be a whole number of at least 1, not 'two'"),
    "no cluster": (partial(settings, "MPOX_SCHEDULER", "tcp://127.0.0.1:9"), "No Dask cluster can be reached at tcp://127"),
    "no address": (partial(settings, "MPOX_SCHEDULER", "nonsense://x"), "No Dask cluster can be reached at nonsense://x"),
}  # fmt: skip


SLOW = {"killed run"}


@pytest.mark.parametrize(
    ("case", "words"),
    [pytest.param(*row, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, row in CASES.items()],
)
def test_one_clear_error_and_nothing_is_lost(case, words, place):
    with pytest.raises(MpoxError, match=words) as found:
        case(place)
    place.monkeypatch.undo()
    assert "\n" not in str(found.value).strip()
    kept = RunStore(place.store.root).run(CONFIG, refuse)
    pd.testing.assert_frame_equal(kept.predictions, result().predictions, check_exact=True)
    assert case is killed_run or not list(Path(place.store.root).rglob("*.tmp"))
