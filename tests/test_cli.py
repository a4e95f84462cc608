"""The command line as a user meets it."""

import subprocess
import sys
import warnings

import pytest
from click.testing import CliRunner

from mpox.cli import main


def test_help_lists_every_command():
    said = CliRunner().invoke(main, ["--help"]).output
    names = ["audit", "book", "data", "doctor", "exercises", "export", "predict", "record", "run", "runs", "sync"]
    assert [name for name in names if f"\n  {name} " in said] == sorted(main.commands) == names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "path", "no-such-set"], "neither a registered data set"),
        (["data", "path", "msid", "--data-dir", "."], "run `mpox data fetch msid`"),
        (["run", "--profile", "quick", "-p", "N_FOLD", "3"], "did you mean N_FOLDS?"),
        (["run", "09_nothing"], "no notebook"),
        (["record", "no-such-run"], "no run in"),
        (["book", "no-such-run"], "no run in"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_do(words, said):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert result.stderr.startswith("mpox: ") and said in result.stderr
    assert "Traceback" not in result.output


def test_a_librarys_warning_is_one_line_without_its_source(monkeypatch):
    def warn(*_, **__):
        print(warnings.formatwarning("old\nthing", UserWarning, "library.py", 3), end="")
        return []

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    monkeypatch.setattr("mpox.book.doctor.examine", warn)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.output == "note: old thing (UserWarning)\n\nReady.\n"


def test_the_installed_command_answers():
    done = subprocess.run([sys.executable, "-m", "mpox.cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("mpox, version ")
