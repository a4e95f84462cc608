"""One notebook, executed by papermill in a kernel of this interpreter, and what to say when it fails."""

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mpox._core import TORCH_ENVIRONMENT, atomic_write, project_root
from mpox.book.profiles import read_notebook

_ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}
_SHOWN_LINES = 25
_chapter: ContextVar[str] = ContextVar("chapter", default="")


class NotebookFailure(Exception):
    """A notebook that did not come to its end; the message is the reason in one line.

    Attributes
    ----------
    description : str
        The failing cell, where it is, and the error's last lines.
    """

    def __init__(self, reason: str, description: str):
        super().__init__(reason)
        self.description = description


def execute(
    name: str,
    parameters: Mapping[str, Any],
    result: Path,
    *,
    scratch: Path,
    cell_timeout_s: float | None = None,
    progress: bool = False,
    kernels: "Kernels | None" = None,
) -> None:
    """Execute ``notebooks/<name>.py`` and leave the executed notebook in `result`, a partial one if it fails.

    Parameters
    ----------
    name : str
        A full name from `mpox.book.profiles.list_notebooks`.
    parameters : mapping
        What papermill injects behind the notebook's parameters cell.
    result : pathlib.Path
        The ``.ipynb`` to write.
    scratch : pathlib.Path
        A folder for what is not kept; the kernel must have been set up there by `kernel_environment`.
    cell_timeout_s : float, optional
        Seconds that a cell may run; no limit by default.
    progress : bool
        Whether to show a bar over the cells on stderr.
    kernels : Kernels, optional
        Takes note of the kernel, and the log names the notebook in each line: for notebooks that are executed side by side.

    Raises
    ------
    NotebookFailure
        If a cell fails, or runs too long, or the kernel dies or does not start.
    """
    import nbformat
    import papermill

    _chapter.set(name if kernels else "")
    source = scratch / f"{name}.ipynb"
    result.unlink(missing_ok=True)
    try:
        notebook = read_notebook(name)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, source)
        executed = papermill.execute_notebook(
            _literal(source),
            _literal(result),
            parameters=dict(parameters),
            kernel_name="python3",
            cwd=project_root() / "notebooks",
            progress_bar={"desc": name, "leave": False} if progress else False,
            log_output=True,
            start_timeout=300,
            execution_timeout=cell_timeout_s,
            **({"kernel_manager_class": kernels.manager_class} if kernels else {}),
        )
    except Exception as error:
        logging.getLogger("papermill").exception("%s failed", name)
        reason, lines = _explain(error, cell_timeout_s)
        description = f"{_failing_cell(name, result)}\n{lines}\n\nThe partial notebook: {result}"
        raise NotebookFailure(reason, description) from error
    # the book offers this file for download: no path of this machine in it
    executed.metadata.papermill["input_path"] = f"notebooks/{name}.py"
    executed.metadata.papermill["output_path"] = result.name
    atomic_write(result, nbformat.writes(executed))


class Kernels:
    """The kernels of notebooks that are executed in threads, where no signal arrives: whoever is interrupted kills them.

    Attributes
    ----------
    killed : bool
        Whether `kill` was called: a kernel that died did so for that reason.
    manager_class : type
        For nbclient's ``kernel_manager_class``.
    """

    def __init__(self):
        from jupyter_client import AsyncKernelManager

        self.killed = False
        self._managers = managers = []

        class Manager(AsyncKernelManager):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                managers.append(self)

        self.manager_class = Manager

    def kill(self) -> None:
        """Kill every kernel that runs, from any thread; each is the leader of a process group."""
        self.killed = True
        for manager in list(self._managers):
            process = getattr(manager.provisioner, "process", None)
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def kernel_environment(
    scratch: Path,
    *,
    profile: str,
    data_dir: str | os.PathLike | None = None,
    decisions: str | os.PathLike | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Set, and restore afterwards, what kernels inherit; ``python3`` means this interpreter meanwhile.

    Parameters
    ----------
    scratch : pathlib.Path
        An existing folder for the kernel's definition and IPython's own files.
    profile : str
        Becomes ``MPOX_PROFILE``.
    data_dir : path, optional
        Becomes ``MPOX_DATA``.
    decisions : path, optional
        Becomes ``MPOX_OVERRIDES``.
    settings : mapping, optional
        More variables, as they are.
    """
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    atomic_write(scratch / "jupyter/kernels/python3/kernel.json", json.dumps(kernel))
    # what a kernel itself says is noise: that it is unencrypted, or at a kill that its socket is gone
    configuration = scratch / "ipython/profile_default/ipython_kernel_config.py"
    atomic_write(configuration, "c.IPKernelApp.log_level = 50\n")
    jupyter_path = [str(scratch / "jupyter"), os.environ.get("JUPYTER_PATH")]
    changes = {
        "MPOX_PROFILE": profile,
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_PATH": os.pathsep.join(filter(None, jupyter_path)),
        **TORCH_ENVIRONMENT,
        **(settings or {}),
    }
    # kernels work in notebooks/: a path that is relative to here must not become relative to there
    paths = ("MPOX_DATA", "MPOX_CACHE", "MPOX_PROJECT", "MPOX_OVERRIDES")
    named: dict[str, str | os.PathLike | None] = {variable: os.environ.get(variable) for variable in paths}
    named["MPOX_DATA"] = data_dir or named["MPOX_DATA"]
    named["MPOX_OVERRIDES"] = decisions or named["MPOX_OVERRIDES"]
    changes |= {variable: str(Path(path).expanduser().resolve()) for variable, path in named.items() if path}
    before = {variable: os.environ.get(variable) for variable in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for variable, value in before.items():
            os.environ.pop(variable)
            if value is not None:
                os.environ[variable] = value


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append papermill's messages and what the cells print to a file, with time stamps, and nowhere else."""
    logger = logging.getLogger("papermill")
    before = logger.level, logger.propagate
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]


class _Formatter(logging.Formatter):
    """What a cell prints ends its line itself; of notebooks side by side every line tells whose it is."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).rstrip("\n")
        chapter = _chapter.get()
        return "\n".join(f"{chapter}: {line}" for line in text.split("\n")) if chapter else text


def _literal(path: Path) -> str:
    """A path that papermill, which takes paths for format strings, leaves as it is."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _explain(error: Exception, cell_timeout_s: float | None) -> tuple[str, str]:
    """The reason in one line, and the last lines of the error."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError, strip_color

    match error:
        case PapermillExecutionError():
            reason = f"{error.ename}: {error.evalue}".splitlines()[0]
            trace = strip_color("\n".join(error.traceback)).rstrip().splitlines()
            return reason, "\n".join(trace[-_SHOWN_LINES:]) or reason
        case CellTimeoutError():
            reason = f"The cell ran longer than --timeout allows ({cell_timeout_s:g} s)."
        case DeadKernelError():
            reason = "The kernel died; most often the machine ran out of memory."
        case _:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return reason, reason


def _failing_cell(name: str, partial: Path) -> str:
    """Which cell was the last to start, where its source is, and the source itself."""
    import nbformat

    cells = nbformat.read(partial, as_version=4).cells if partial.is_file() else []
    cells = [cell for cell in cells if not _ADDED_BY_PAPERMILL & set(cell.metadata.get("tags", []))]
    started = [i for i, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
    if not started:
        return f"{name} failed before its first cell."
    source = cells[started[-1]].source
    script = (project_root() / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    at = script.find(source)
    place = f"notebooks/{name}.py" + (f", line {script[:at].count(chr(10)) + 1}" if at >= 0 else "")
    shown = source.splitlines()
    rest = [f"... {len(shown) - _SHOWN_LINES} more lines"] if len(shown) > _SHOWN_LINES else []
    quoted = "\n".join(f"    {line}" for line in [*shown[:_SHOWN_LINES], *rest])
    return f"{name} failed in cell {started[-1] + 1} of {len(cells)} ({place}):\n\n{quoted}\n"
