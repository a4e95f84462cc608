"""Executed notebooks read back: what a chapter found, and what it took from the run store."""

import ast
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from mpox._core import MpoxError
from mpox.book.run import read_run_folder

TITLE = re.compile(r"^# +(.+?) *$", re.M)
_GLUE_MIME = re.compile(r"^(application/papermill\.record/)?text/plain$")


@dataclass(frozen=True)
class Chapter:
    """One executed notebook and what it says of itself.

    Attributes
    ----------
    name : str
        File name without suffix, ``03_cross_validation``.
    title : str
    path : Path
        The executed notebook in its run folder.
    provenance : dict
        What `mpox.book.report.provenance` glued.
    findings : dict of str to str
        The other glued texts by key.
    duration_s : float
        Of the whole notebook, in seconds.
    """

    name: str
    title: str
    path: Path
    provenance: dict[str, Any] = field(repr=False)
    findings: dict[str, str] = field(repr=False)
    duration_s: float


@dataclass(frozen=True)
class Used:
    """What chapters took from the run store: ids of runs, keys of tables, names of data sets (sorted), and audits' keys."""

    runs: list[str]
    tables: list[str]
    datasets: list[str]
    audits: dict[str, str]


def what_was_used(chapters: Sequence[Chapter]) -> Used:
    """What chapters say they took from the run store; `MpoxError` if one does not say it."""
    for chapter in chapters:
        if lacks := [key for key in ("run_ids", "table_ids", "datasets", "audits") if key not in chapter.provenance]:
            raise MpoxError(f"{chapter.path} does not say which {', '.join(lacks)} it used: run the notebook again.")
    runs, tables, datasets = (
        sorted({name for chapter in chapters for name in chapter.provenance[key]}) for key in ("run_ids", "table_ids", "datasets")
    )
    return Used(runs, tables, datasets, {name: key for chapter in chapters for name, key in chapter.provenance["audits"].items()})


def read_chapters(folder: str | os.PathLike) -> list[Chapter]:
    """Read the notebooks of a finished run folder.

    Parameters
    ----------
    folder : path
        Made by ``mpox run``.

    Returns
    -------
    list of Chapter
        In the order in which they ran.

    Raises
    ------
    MpoxError
        When there is no run, it has not finished, or a notebook is missing or lacks its provenance.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        made_by = f"--profile {folder.name}" if folder.parent.name == "_runs" else f"--profile NAME --out {folder}"
        raise MpoxError(
            f"There is no run in {folder}; make it with `mpox run {made_by}`, "
            "or name the run folders to build from: `mpox book FOLDER ...`."
        )
    run = read_run_folder(folder)
    again = f"mpox run --profile {run.profile_file} --out {folder}"
    unfinished = [f"{name} is {entry.status}" for name, entry in run.notebooks.items() if entry.status != "done"]
    if unfinished or run.finished is None:
        what = ", ".join(unfinished) or "it was stopped"
        raise MpoxError(f"The run in {folder} is not finished: {what}; go on with `{again} --resume`.")
    chapters = []
    for name, entry in run.notebooks.items():
        path = folder / f"{name}.ipynb"
        if not path.is_file():
            raise MpoxError(f"The run in {folder} has lost {path.name}; make it again with `{again}`.")
        chapters.append(_read_chapter(path, entry.duration_s or 0.0))
    return chapters


def _read_chapter(path: Path, duration_s: float) -> Chapter:
    notebook = nbformat.read(path, as_version=4)
    findings = glued_texts(notebook)
    try:
        provenance = json.loads(findings.pop("provenance"))
        assert isinstance(provenance["phantom"], bool)
    except (AssertionError, KeyError, ValueError, TypeError):
        raise MpoxError(
            f"{path} does not say where it comes from: end the notebook with `mpox.book.report.provenance(...)`."
        ) from None
    return Chapter(path.stem, title_cell(notebook, path)[1], path, provenance, findings, float(duration_s))


def glued_texts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The texts that an executed notebook has glued, by key (a key glued twice keeps its last text)."""
    texts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            key = output.get("metadata", {}).get("scrapbook", {}).get("name")
            data = next((text for mime, text in output.get("data", {}).items() if _GLUE_MIME.match(mime)), None)
            if key and data is not None:
                texts[key] = _unquoted("".join(data))
    return texts


def _unquoted(text: str) -> str:
    """Glue stores ``repr(value)``: give a string back without its quotes, and anything else as it stands."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, str) else text


def title_cell(notebook: nbformat.NotebookNode, path: Path) -> tuple[nbformat.NotebookNode, str]:
    """The first Markdown cell with a level-one heading, and that heading's text."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := TITLE.search(cell.source)):
            return cell, match[1]
    raise MpoxError(f"{path} has no title: begin the notebook with a Markdown cell `# Title`.")


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    Examples
    --------
    >>> duration(7.26), duration(72.6), duration(3725)
    ('7.3 s', '1 min 13 s', '1 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
