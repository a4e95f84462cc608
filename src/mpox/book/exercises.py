"""The course: learner notebooks with blanks, derived from chapters that hold the solutions, and how the book folds these.

A chapter marks its cells by tags: ``exercise`` (the text of a task), ``solution`` (code or prose, right behind its task) and
``exercise-setup`` (what the tasks need of the chapter).
"""

from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mpox._core import MpoxError, project_root
from mpox.book.run import list_notebooks, read_notebook

BLANKS = {"code": "# Write your code here.", "markdown": "*Write your answer here.*"}
FOLDED_TITLE = "Show a solution"
_KEPT = {"parameters", "exercise-setup", "exercise", "solution"}
_HEADER = """# Exercises: {title}

{count} exercises from easy to open-ended, with blanks for what you find. The chapter itself, `notebooks/{name}.py`, has a
solution to each; in the book they are folded.

*This file is derived from the chapter (`make exercises`), so that changes made here are overwritten: work on a copy.*

## Set-up

These cells are the chapter's own. They read its runs from the run store; a run that is not there is computed, which may take a
minute or two. The pictures are the phantom's. To work on the recorded study of real images instead,
give these parameters the values that `profiles/recorded.yml` has for them."""


def learner_notebook(name: str, *, solved: bool = False) -> NotebookNode | None:
    """The notebook in which a learner does a chapter's exercises, not executed; None where the chapter has none.

    It has the parameters, the set-up cells and the exercises in the chapter's order, with a blank for each run of solution cells
    of one kind, or with these cells if `solved`: they are then all that has to run for the exercises to be solvable.
    """
    source = read_notebook(name)
    for before, cell in pairwise([*source.cells, new_markdown_cell("")]):
        if _is(before, "exercise") and not _is(cell, "solution"):
            raise MpoxError(f"notebooks/{name}.py: put a cell tagged 'solution' behind the exercise above {cell.source[:40]!r}.")
        if _is(cell, "solution") and not (_is(before, "exercise") or _is(before, "solution")):
            raise MpoxError(f"notebooks/{name}.py: the solution {cell.source[:40]!r} follows no exercise; put it behind its own.")
    count = sum(_is(cell, "exercise") for cell in source.cells)
    title = source.cells[0].source.splitlines()[0].removeprefix("# ")
    cells = [new_markdown_cell(_HEADER.format(title=title, count=count, name=name))]
    for cell in source.cells if solved else _blanked(source.cells):
        if tags := [tag for tag in cell.metadata.get("tags", []) if tag in _KEPT]:
            new = new_code_cell if cell.cell_type == "code" else new_markdown_cell
            cells.append(new(cell.source, metadata={"tags": tags}))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    metadata = {"kernelspec": source.metadata["kernelspec"], "jupytext": {"formats": "ipynb"}}
    return new_notebook(cells=cells, metadata=metadata) if count else None


def _blanked(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    for (solution, kind), run in groupby(cells, key=lambda cell: (_is(cell, "solution"), cell.cell_type)):
        if solution:
            new = new_code_cell if kind == "code" else new_markdown_cell
            yield new(BLANKS[kind], metadata={"tags": ["exercise"]})
        else:
            yield from run


def _is(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def exercise_files() -> dict[Path, str]:
    """The text of each chapter's learner notebook by its path."""
    folder, made = project_root() / "notebooks" / "exercises", {name: learner_notebook(name) for name in list_notebooks()}
    return {folder / f"{name}.ipynb": nbformat.writes(notebook) + "\n" for name, notebook in made.items() if notebook}


def stale_exercises() -> list[str]:
    """Names of the learner notebooks that are missing or differ from what their chapter gives."""
    return [path.stem for path, text in exercise_files().items() if not path.is_file() or path.read_text("utf-8") != text]


def fold(cell: NotebookNode) -> None:
    """Make a solution a drop-down of the book: code by MyST-NB's tag ``hide-cell``, prose by an admonition; no other cell."""
    if not _is(cell, "solution"):
        return
    if cell.cell_type == "code":
        cell.metadata["tags"] = [*cell.metadata["tags"], "hide-cell"]
        cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = FOLDED_TITLE
    else:
        cell.source = f"::::{{admonition}} {FOLDED_TITLE}\n:class: dropdown\n\n{cell.source}\n::::"
