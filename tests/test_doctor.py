"""`mpox doctor`: what makes a machine unready, and the command as a learner meets it."""

import platform

import pytest
from click.testing import CliRunner

from mpox.book import doctor
from mpox.book.doctor import MISSING, OK, WARNING, examine
from mpox.cli import main

LOCK = """\
numpy==2.4.6 ; python_full_version < '3.2' \\
    --hash=sha256:00
numpy==2.4.7 ; python_full_version >= '3.2' \\
    --hash=sha256:00
pytest==9.2.0 \\
    --hash=sha256:00
"""


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A short lock; the test changes what is installed."""
    here = {"numpy": "2.4.7", "pytest": "9.2.0"}

    def version(name):
        if name not in here:
            raise doctor.PackageNotFoundError(name)
        return here[name]

    (tmp_path / "requirements.lock").write_text(LOCK)
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))
    monkeypatch.setattr(doctor, "version", version)
    return here


def row(check, data_dir=None):
    (found,) = [row for row in examine(data_dir) if row.check == check]
    return found


@pytest.mark.parametrize(
    ("changes", "state", "found"),
    [
        ({}, OK, "2 as in requirements.lock"),
        ({"numpy": "1.26"}, WARNING, "absent: none; not as locked: numpy 1.26"),
        ({"numpy": None}, MISSING, "absent: numpy; not as locked: none"),
        ({"pytest": None}, WARNING, "absent: pytest"),  # an extra is no obstacle
    ],
)
def test_packages_are_held_against_the_lock(installed, changes, state, found):
    for name, version in changes.items():
        installed[name] = version
        if version is None:
            del installed[name]
    packages = row("Packages")
    assert packages.state == state and packages.found.startswith(found)
    assert ("requirements.lock" in packages.advice) == (state != OK)


def test_data_sets_room_and_an_old_python(installed, monkeypatch, tmp_path):
    assert row("msid", tmp_path).state == WARNING and "mpox data fetch msid" in row("msid", tmp_path).advice
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: doctor.shutil._ntuple_diskusage(0, 0, 2**30))
    assert row("Disk").state == WARNING and "MPOX_CACHE" in row("Disk").advice
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.2")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1 and result.output.endswith("Not ready: Python.\n")
    assert "-> install Python >=3.11" in result.output


def test_this_environment_is_ready():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0 and result.output.endswith("\nReady.\n"), result.output
    assert [row.check for row in examine()] == ["Python", "Packages", "msld-v1", "msid", "Disk", "GPU"]
