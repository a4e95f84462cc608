"""The ``run.json`` of a run folder: what became of each notebook, read by the book and by the record, written while they run."""

import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpox._core import MpoxError, atomic_write


@dataclass(frozen=True)
class NotebookRun:
    """What became of one notebook.

    Attributes
    ----------
    status : {"pending", "running", "done", "failed"}
    duration_s : float or None
        Seconds from the kernel's start to its end.
    parameters : dict
        The values injected; what is absent kept its default.
    source_sha256 : str
        Of the ``.py`` source that was executed.
    decisions : str
        Stands for the decisions about pairs of pictures that were in force (`mpox.audit.result.hash_of_decisions`).
    error : str or None
        The last line of the error, or ``"interrupted"``.
    """

    status: str
    duration_s: float | None
    parameters: dict[str, Any]
    source_sha256: str
    error: str | None
    decisions: str = ""


@dataclass(frozen=True)
class NotebookRuns:
    """The state of a run folder, as in its ``run.json``.

    Attributes
    ----------
    folder : pathlib.Path
    profile, profile_file : str
    parameters : dict
        The profile's values with the overrides on top.
    started, finished : str
        ISO 8601, UTC; `finished` is None until every notebook is done.
    package_version : str
    notebooks : dict of str to NotebookRun
        In running order.
    failure : str or None
        For a person: the failing cell, the error and how to go on. Not kept in ``run.json``.
    """

    folder: Path
    profile: str
    profile_file: str
    parameters: dict[str, Any]
    started: str
    finished: str | None
    package_version: str
    notebooks: dict[str, NotebookRun]
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every notebook of the run is done."""
        return all(notebook.status == "done" for notebook in self.notebooks.values())


def read_run_folder(folder: str | os.PathLike) -> NotebookRuns:
    """Read the ``run.json`` of a run folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    NotebookRuns

    Raises
    ------
    MpoxError
        If the folder was not made by `run_notebooks`.
    """
    path = Path(folder) / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        notebooks = {name: NotebookRun(**entry) for name, entry in content.pop("notebooks").items()}
        return NotebookRuns(folder=Path(folder), notebooks=notebooks, **content)
    except FileNotFoundError:
        raise MpoxError(f"{folder} is no run folder (it has no run.json): make one with 'mpox run'.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MpoxError(f"{path} is damaged: delete the folder and run again.") from error


class RunState:
    """A run while it is executed. Every change is on the disk at once; threads may make them side by side.

    Parameters
    ----------
    run : NotebookRuns
        As it begins.

    Attributes
    ----------
    run : NotebookRuns
        As it is now.
    """

    def __init__(self, run: NotebookRuns):
        self.run = run
        self._lock = threading.Lock()
        self._write()

    def set(self, name: str, **changes: Any) -> None:
        """Change one notebook's state."""
        with self._lock:
            notebook = replace(self.run.notebooks[name], **changes)
            self.run = replace(self.run, notebooks={**self.run.notebooks, name: notebook})
            self._write()

    def finish(self) -> None:
        """Note the time at which all was done."""
        with self._lock:
            self.run = replace(self.run, finished=now())
            self._write()

    def _write(self) -> None:
        content = asdict(self.run)
        del content["folder"], content["failure"]
        atomic_write(self.run.folder / "run.json", json.dumps(content, indent=2) + "\n")


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
