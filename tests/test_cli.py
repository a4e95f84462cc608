"""The command line as a user meets it."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from mpox.cli import main


@pytest.fixture
def invoke():
    return lambda *words: CliRunner().invoke(main, list(words))


def test_help_lists_every_command(invoke):
    result = invoke("--help")
    assert result.exit_code == 0
    for command in ("book", "data", "record", "run", "sync"):
        assert command in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "path", "no-such-set"], "neither a registered data set"),
        (["run", "--profile", "quik"], "did you mean quick?"),
        (["run", "--profile", "quick", "-p", "N_FOLD", "3"], "did you mean N_FOLDS?"),
        (["run", "--profile", "quick", "-p", "N_FOLDS", "many"], "N_FOLDS must be"),
        (["run", "09_nothing"], "no notebook"),
        (["record", "no-such-run"], "no run in"),
        (["book", "no-such-run"], "no run in"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_do(invoke, words, said):
    result = invoke(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("mpox: ") and said in result.stderr
    assert "Traceback" not in result.output


def test_missing_data_names_the_ways_to_get_it(invoke, tmp_path):
    result = invoke("data", "path", "msid", "--data-dir", str(tmp_path))
    assert result.exit_code == 1 and "mpox data fetch msid" in result.stderr and "--data-dir" in result.stderr


def test_the_installed_command_answers():
    done = subprocess.run([sys.executable, "-m", "mpox.cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("mpox, version ")
