"""The course: learner notebooks with blanks, derived from chapters that hold the solutions, and how the book folds these.

A chapter marks its cells by tags: ``exercise`` (the text of a task), ``solution`` (program or prose, right behind its task) and
``exercise-setup`` (what the tasks need of the chapter; its own cells or a cell made for it).
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mpox._core import MpoxError, atomic_write, project_root
from mpox.book.effort import reading_minutes
from mpox.book.profiles import list_notebooks, read_notebook

SETUP, EXERCISE, SOLUTION = "exercise-setup", "exercise", "solution"
BLANKS = {"code": "# Write your code here.", "markdown": "*Write your answer here.*"}
FOLDED_TITLE = "Show a solution"

_KEPT = ("parameters", SETUP, EXERCISE)
_HEADER = """# Exercises: {title}

{count} exercises from easy to open-ended, with blanks for what you find. The chapter itself, `notebooks/{name}.py`, has a
solution to each; in the book they are folded. Reading the chapter takes about {minutes} minutes.

*This file is derived from the chapter (`make exercises`), so that changes made here are overwritten: work on a copy.*

## Set-up

These cells are the chapter's own. They read its runs from the run store; a run that is not there is computed, which may take a
minute or two. The pictures are the phantom's. To work on the recorded study of real images instead,
give these parameters the values that `profiles/recorded.yml` has for them."""


def exercises_folder() -> Path:
    """Where the learner notebooks are kept."""
    return project_root() / "notebooks" / "exercises"


def learner_notebook(name: str, *, solved: bool = False) -> NotebookNode | None:
    """The notebook in which a learner does a chapter's exercises.

    Parameters
    ----------
    name : str
        The chapter, for instance ``03_cross_validation``.
    solved : bool
        Keep the solutions in place of the blanks: the cells are then all that has to run for the exercises to be solvable.

    Returns
    -------
    NotebookNode or None
        Parameters, set-up cells and exercises in the chapter's order, each run of solution cells of one kind (code or Markdown)
        replaced by one blank. Nothing is executed; the same source gives the same file to the byte. None where the chapter has no
        exercise.

    Raises
    ------
    MpoxError
        If an exercise has no solution, or a solution does not follow its exercise.
    """
    source = read_notebook(name)
    _check(name, source)
    count = sum(_is(cell, EXERCISE) for cell in source.cells)
    if not count:
        return None
    header = _HEADER.format(
        title=source.cells[0].source.splitlines()[0].removeprefix("# "), count=count, name=name, minutes=reading_minutes(source)
    )
    cells = [new_markdown_cell(header)]
    for cell in source.cells if solved else _blanked(source.cells):
        tags = [tag for tag in cell.metadata.get("tags", []) if tag in (*_KEPT, SOLUTION)]
        if tags:
            new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
            cells.append(new(cell.source, metadata={"tags": tags}))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "jupytext": {"formats": "ipynb"}})


def _blanked(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    for (solution, kind), run in groupby(cells, key=lambda cell: (_is(cell, SOLUTION), cell.cell_type)):
        if solution:
            blank = new_code_cell(BLANKS[kind]) if kind == "code" else new_markdown_cell(BLANKS[kind])
            blank.metadata["tags"] = [EXERCISE]
            yield blank
        else:
            yield from run


def _is(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _check(name: str, source: NotebookNode) -> None:
    before = ""
    for cell in [*source.cells, new_markdown_cell("")]:
        first = f"'{(cell.source.splitlines() or [''])[0]}'"
        if before == EXERCISE and not _is(cell, SOLUTION):
            raise MpoxError(f"notebooks/{name}.py: put a cell tagged '{SOLUTION}' behind the exercise above {first}.")
        if _is(cell, SOLUTION) and before not in (EXERCISE, SOLUTION):
            raise MpoxError(f"notebooks/{name}.py: the solution {first} follows no exercise; put it right behind its own.")
        before = next((tag for tag in (EXERCISE, SOLUTION) if _is(cell, tag)), "")


def _files() -> dict[Path, str]:
    """The text of each learner notebook by its path."""
    notebooks = {name: learner_notebook(name) for name in list_notebooks()}
    return {
        exercises_folder() / f"{name}.ipynb": nbformat.writes(notebook) + "\n" for name, notebook in notebooks.items() if notebook
    }


def write_exercises(*, say: Callable[[str], None] = print) -> None:
    """Write every chapter's learner notebook, and remove those whose chapter has no exercises any more.

    Parameters
    ----------
    say : callable
        Told what is done.
    """
    files = _files()
    for path in sorted(set(exercises_folder().glob("*.ipynb")) - set(files)):
        path.unlink()
        say(f"removed {path.name}")
    exercises_folder().mkdir(exist_ok=True)
    for path, text in files.items():
        atomic_write(path, text)
        say(f"wrote exercises/{path.name}")


def stale_exercises() -> list[str]:
    """Names of the learner notebooks that are missing, differ from what their chapter gives, or belong to no chapter."""
    files = _files()
    kept = {path: path.read_text(encoding="utf-8") for path in exercises_folder().glob("*.ipynb")}
    return sorted(path.stem for path in files.keys() | kept.keys() if files.get(path) != kept.get(path))


def fold(cell: NotebookNode) -> None:
    """Make a solution a drop-down of the book; other cells stay as they are.

    Program and outputs are folded by MyST-NB's tag ``hide-cell``, prose by an admonition of the class ``dropdown``.
    """
    if not _is(cell, SOLUTION):
        return
    if cell.cell_type == "code":
        cell.metadata["tags"] = [*cell.metadata["tags"], "hide-cell"]
        cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = FOLDED_TITLE
    else:
        cell.source = f"::::{{admonition}} {FOLDED_TITLE}\n:class: dropdown\n\n{cell.source}\n::::"
