"""The command line as a user meets it."""

import errno
import os
import subprocess
import sys

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


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.ENAMETOOLONG, errno.ESTALE, errno.EIO])
def test_whatever_the_system_says_of_a_path_is_one_line(monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), "/there/it")

    monkeypatch.setattr("mpox.data.registry.locate", fail)
    result = CliRunner().invoke(main, ["data", "path", "msid"])
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert result.stderr == f"mpox: /there/it cannot be used ({os.strerror(number)}): name another path, or mend that one.\n"


@pytest.mark.parametrize(
    ("environment", "encoding", "shown"),
    [
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            "utf-8",
            "B\xfc\u65e5",
        ),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1", "B\xfc\\u65e5"),
        ({"PYTHONIOENCODING": "cp1252:strict"}, "cp1252", "B\xfc\\u65e5"),
    ],
    ids=["ASCII locale", "Latin-1 terminal", "Windows terminal"],
)
def test_a_name_is_printed_on_any_terminal_and_is_utf8_in_any_locale(tmp_path, environment, encoding, shown):
    folder = tmp_path / "B\xfc\u65e5"
    (folder / "Mpox").mkdir(parents=True)
    ask = "import sys; from mpox.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", ask, "data", "path", folder], capture_output=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).strip() == f"{tmp_path}/{shown}"


def test_the_installed_command_answers():
    done = subprocess.run([sys.executable, "-m", "mpox.cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("mpox, version ")
