"""The ways to install: the lock, the conda environment and the Makefile say the same."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
EXTRAS = [PROJECT["optional-dependencies"][extra] for extra in ("book", "lab", "cluster", "onnx", "test")]
WANTED = [Requirement(line) for line in [*PROJECT["dependencies"], *sum(EXTRAS, [])]]

FAKE_PYTHON = """#!/bin/sh
echo "python $*" >> calls
if [ "$2" = venv ]; then
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
    printf '#!/bin/sh\\necho "1 passed"\\n' > .venv/bin/pytest && chmod +x .venv/bin/pytest
elif [ "$2" = pip ] && [ -e no-network ]; then
    exit 1
fi
"""


def pins(lines) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def locked() -> dict[str, str]:
    return pins(re.findall(r"^([\w.-]+==\S+)", LOCK, re.MULTILINE))


def environment() -> tuple[list[str], list[str]]:
    """What environment.yml asks of conda and of pip."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in entries if isinstance(entry, dict))
    return [entry for entry in entries if isinstance(entry, str)], pip


def test_the_lock_has_what_the_project_asks_for_hashed_and_without_an_address():
    assert [str(asked) for asked in WANTED if locked()[canonicalize_name(asked.name)] not in asked.specifier] == []
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(blocks) == len(locked())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"https?://\S*|--\S*index\S*|file:\S*", LOCK) == []


def test_environment_yml_pins_what_the_project_asks_for_as_the_lock_does():
    conda, pip = environment()
    assert pip[-1] == "-e ."
    assert pins(pip[:-1]) == {canonicalize_name(r.name): locked()[canonicalize_name(r.name)] for r in WANTED}, (
        "copy the versions of requirements.lock to environment.yml"
    )
    python = next(entry for entry in conda if entry.startswith("python="))
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert "pip" in conda


@pytest.fixture
def checkout(tmp_path):
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "fake-python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path


def make(checkout: Path, target: str, python: str = "./fake-python") -> subprocess.CompletedProcess:
    (checkout / "calls").write_text("")
    # the tests are run by make too: its variables would make this one a sub-make that says where it is
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "MFLAGS"}
    return subprocess.run(["make", target, f"PYTHON={python}"], cwd=checkout, capture_output=True, text=True, timeout=60, env=env)


def calls(checkout: Path) -> list[str]:
    """The steps of the installation that were taken, such as ``venv`` or ``pip``."""
    return re.findall(r"^python -m (\w+)", (checkout / "calls").read_text(), re.MULTILINE)


def test_make_test_installs_the_hashed_lock_once_and_makes_a_half_made_environment_anew(checkout):
    (checkout / "no-network").touch()
    assert make(checkout, "test").returncode != 0
    (checkout / "no-network").unlink()
    (checkout / ".venv/rubbish").touch()
    done = make(checkout, "test")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "1 passed", done.stderr
    assert calls(checkout) == ["venv", "pip", "pip"] and not (checkout / ".venv/rubbish").exists()
    assert "--no-deps --require-hashes -r requirements.lock" in (checkout / "calls").read_text()
    assert make(checkout, "test").returncode == 0
    assert calls(checkout) == []


def test_make_says_which_python_it_needs(checkout):
    old = checkout / "old-python"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 2); $1"\n')
    old.chmod(0o755)
    result = make(checkout, "book", "./old-python")
    assert result.returncode != 0
    assert "mpox needs Python 3.11 or newer, and ./old-python is 3.9" in result.stderr
    assert not (checkout / ".venv").exists()


def test_make_book_runs_both_profiles_before_the_book(checkout):
    plan = subprocess.run(["make", "-n", "book"], cwd=checkout, capture_output=True, text=True, check=True)
    steps = [line.removeprefix(".venv/bin/mpox ") for line in plan.stdout.splitlines() if "bin/mpox" in line]
    assert steps == ["run --profile recorded", "run --profile quick", "book"]
