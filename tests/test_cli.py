"""The command line as a user meets it."""

import errno
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from mpox._core import Unwritable, cache_dir, explaining, project_root
from mpox.cli import main
from mpox.runs.store import store_folder


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
        (["runs", "list", "--store", __file__], "There is no run store in"),
        (["run", "--out", ""], "--out is empty"),
        (["run", "--out="], "--out is empty"),
        (["runs", "list", "--store", ""], "--store is empty"),
        (["data", "path", ""], "A value is empty"),
        (["predict", "", "--run", "1234"], "A value is empty"),
        (["audit", "~nosuch/x", "--out", "o"], "~nosuch/x begins with '~', but no such home folder"),
        (["audit", "x", "--out", "~nosuch/x"], "~nosuch/x begins with '~', but no such home folder"),
        (["runs", "list", "--store", "~nosuch/x"], "~nosuch/x begins with '~', but no such home folder"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_do(words, said):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert result.stderr.startswith("mpox: ") and said in result.stderr
    assert "Traceback" not in result.output


def test_a_data_folder_that_is_not_there_is_said():
    for place, why in (("/no/where", "does not exist"), (__file__, "is a file")):
        result = CliRunner().invoke(main, ["data", "list", "--data-dir", place])
        assert result.exit_code == 2 and f"'{place}' {why}" in result.stderr and not result.stdout


def test_a_librarys_warning_is_one_line_without_its_source(monkeypatch):
    def warn(*_, **__):
        print(warnings.formatwarning("old\nthing", UserWarning, "library.py", 3), end="")
        return []

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    monkeypatch.setattr("mpox.book.doctor.examine", warn)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.output == "note: old thing (UserWarning)\n\nReady.\n"


@pytest.mark.parametrize(
    ("words", "place", "advice"),
    [
        (["--out", "{0}/full"], "full/below", "another folder with --out"),
        (["--out", "{0}/full/file"], "full", "another file with --out"),
        (["--store", "{0}/store"], "store/runs", "another folder with --store"),
        (["--data-dir", "{0}", "--store", "{0}/store"], "store/runs", "another folder with --store"),
        (["--data-dir", "{0}/data"], "data/msid", "another folder with --data-dir"),
        (["--heat-map", "{0}/maps"], "maps", "another folder with --heat-map"),
        ([], "cache/audit", "set MPOX_CACHE"),
        ([], "usual/runs", "another run store with --store"),
        (None, "usual/runs", "another run store with RUN_STORE or MPOX_RUN_STORE"),
    ],
)
def test_what_cannot_be_written_names_the_option_that_named_it(words, place, advice, tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPOX_RUN_STORE", str(tmp_path / "usual"))

    def fail(**_):
        with explaining(tmp_path / place):
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / place / "file"))

    options = [click.Option([name]) for name in ("--out", "--store", "--data-dir", "--heat-map")]
    command = click.Command("any", params=options, callback=fail)
    with pytest.raises(Unwritable, match=advice) as error:
        if words is None:
            fail()
        command.main([word.format(tmp_path) for word in words or []], standalone_mode=False)
    assert sum(name in str(error.value) for name in ("--out", "--store", "--data-dir", "--heat-map", "RUN_STORE", "CACHE")) == 1


def test_a_relative_folder_is_one_of_where_the_command_runs_for_every_option(tmp_path, monkeypatch):
    (tmp_path / "mine" / "Mpox").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(main, ["runs", "list", "--store", "store"]).stderr
    assert f"no run store in {tmp_path / 'store'}" in said
    asked = {}
    monkeypatch.setattr(
        "mpox.book.run.run_notebooks", lambda *_, **options: asked.update(options) or SimpleNamespace(failure=None)
    )
    pairs = {"DATASETS": "[mine, msid]", "EXTERNAL": "[[msid, ./mine]]", "RUN_STORE": "store", "BACKBONE": "mine", "SEED": "1"}
    words = [word for pair in pairs.items() for word in ("-p", *pair)]
    assert CliRunner().invoke(main, ["run", *words]).exit_code == 0
    mine = str(tmp_path / "mine")
    assert asked["overrides"] == {
        "DATASETS": [mine, "msid"], "EXTERNAL": [["msid", mine]], "RUN_STORE": str(tmp_path / "store"),
        "BACKBONE": "mine", "SEED": 1,
    }  # fmt: skip


@pytest.mark.parametrize("place", ["~/a", "{0}/a"])
def test_a_tilde_is_the_home_folder_for_every_option_and_variable(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    place, asked = place.format(tmp_path), {}
    ask = lambda *words, **options: asked.update(options, words=words) or SimpleNamespace(failure=None)  # noqa: E731
    for function in ("mpox.book.run.run_notebooks", "mpox.audit.pages.audit_folder"):
        monkeypatch.setattr(function, ask)
    there = tmp_path / "a"
    assert CliRunner().invoke(main, ["run", "--out", place, "--data-dir", place, "--overrides", place]).exit_code == 0
    assert [asked[name] for name in ("out", "data_dir", "decisions")] == [there] * 3
    there.mkdir()
    words = ["audit", "x", "--out", place, "--overrides", place, "--patients", place, "--data-dir", place]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert [asked["words"][1], *(asked[name] for name in ("overrides", "patients", "data_dir"))] == [there] * 4
    for variable, folder in {"MPOX_CACHE": cache_dir, "MPOX_PROJECT": project_root, "MPOX_RUN_STORE": store_folder}.items():
        monkeypatch.setenv(variable, place)
        assert folder() == there


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
