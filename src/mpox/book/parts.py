"""What a book is made of: the executed notebooks of finished runs, sorted into the book's two parts."""

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

PARTS = {"study": "Part I", "instruments": "Part II"}

_GLUE_MIME = re.compile(r"^(application/papermill\.record/)?text/plain$")
TITLE = re.compile(r"^# +(.+?) *$", re.M)


@dataclass(frozen=True)
class Chapter:
    """One executed notebook and what it says of itself.

    Attributes
    ----------
    name : str
        File name without suffix, ``03_cross_validation``.
    part : str
        ``study`` (real images) or ``instruments`` (phantom).
    title : str
        The notebook's own title, without any suffix.
    path : Path
        The executed notebook in its run folder.
    provenance : dict
        The JSON object glued under ``provenance``.
    findings : dict of str to str
        The other glued texts by key.
    duration_s : float
        What the runner measured for the whole notebook, in seconds.
    """

    name: str
    part: str
    title: str
    path: Path
    provenance: dict[str, Any] = field(repr=False)
    findings: dict[str, str] = field(repr=False)
    duration_s: float


@dataclass(frozen=True)
class Used:
    """What chapters took from the run store; each list is sorted.

    Attributes
    ----------
    runs, tables, datasets : list of str
        Ids of runs, keys of derived tables, names of data sets.
    audits : dict of str to str
        Names of the data sets of an audit to its key.
    """

    runs: list[str]
    tables: list[str]
    datasets: list[str]
    audits: dict[str, str]


def what_was_used(chapters: Sequence[Chapter]) -> Used:
    """What chapters say they took from the run store.

    Raises
    ------
    MpoxError
        If a chapter does not say it.
    """
    for chapter in chapters:
        if lacks := [key for key in ("run_ids", "table_ids", "datasets", "audits") if key not in chapter.provenance]:
            raise MpoxError(f"{chapter.path} does not say which {', '.join(lacks)} it used: run the notebook again.")
    runs, tables, datasets = (
        sorted({name for chapter in chapters for name in chapter.provenance[key]}) for key in ("run_ids", "table_ids", "datasets")
    )
    return Used(runs, tables, datasets, {name: key for chapter in chapters for name, key in chapter.provenance["audits"].items()})


def read_chapters(folder: str | os.PathLike, *, partly: bool = False) -> list[Chapter]:
    """Read the notebooks of a finished run folder.

    Parameters
    ----------
    folder : path
        A folder made by ``mpox run``.
    partly : bool
        Take the notebooks that are done where the run is not finished.

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
    if not partly and (unfinished or run.finished is None):
        what = ", ".join(unfinished) or "it was stopped"
        raise MpoxError(f"The run in {folder} is not finished: {what}; go on with `{again} --resume`.")
    chapters = []
    for name, entry in run.notebooks.items():
        if entry.status != "done":
            continue
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
        part = "instruments" if provenance["phantom"] else "study"
    except (KeyError, ValueError, TypeError):
        raise MpoxError(
            f"{path} does not say where it comes from: end the notebook with `mpox.book.report.provenance(...)`."
        ) from None
    return Chapter(path.stem, part, title_cell(notebook, path)[1], path, provenance, findings, float(duration_s))


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


def collect(run_folders: Sequence[str | os.PathLike]) -> dict[str, dict[str, Chapter]]:
    """Sort the chapters of several runs by part and name; a chapter offered twice for a part is an error."""
    parts: dict[str, dict[str, Chapter]] = {part: {} for part in PARTS}
    for chapter in (chapter for folder in run_folders for chapter in read_chapters(folder)):
        other = parts[chapter.part].setdefault(chapter.name, chapter)
        if other is not chapter:
            raise MpoxError(
                f"{PARTS[chapter.part]} can show {chapter.name} only once, but both {other.path.parent} and "
                f"{chapter.path.parent} offer it; name one of these run folders."
            )
    return parts


def substitutions(parts: dict[str, dict[str, Chapter]]) -> dict[str, str]:
    """All findings as ``<part>_<key>``; one key with two different texts inside a part is an error."""
    texts: dict[str, str] = {}
    origin: dict[str, str] = {}
    for part, chapters in parts.items():
        for chapter in chapters.values():
            for key, text in chapter.findings.items():
                name = f"{part}_{key}"
                if texts.setdefault(name, text) != text:
                    raise MpoxError(
                        f"The finding `{key}` is '{texts[name]}' in {origin[name]} "
                        f"and '{text}' in {chapter.path}: "
                        "give one of them another key, or run both notebooks again."
                    )
                origin.setdefault(name, str(chapter.path))
    return texts
