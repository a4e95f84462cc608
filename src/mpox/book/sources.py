"""What is derived from the chapters' sources and committed: executed notebooks, and the learner notebooks of the course.

A chapter marks its cells by tags: ``exercise`` (the text of a task), ``solution`` (code or prose, right behind its task) and
``exercise-setup`` (what the tasks need of the chapter).
"""

import tempfile
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mpox._core import MpoxError, atomic_write, project_root
from mpox.book.run import NotebookFailure, execute, kernel_environment, list_notebooks, read_notebook, select_notebooks

BLANKS = {"code": "# Write your code here.", "markdown": "*Write your answer here.*"}
_NEW = {"code": new_code_cell, "markdown": new_markdown_cell}
_HEADER = """# Exercises: {title}

{count} exercises from easy to open-ended, with blanks for what you find. The chapter itself, `notebooks/{name}.py`, has a
solution to each; in the book they are folded.

*This file is derived from the chapter (`make exercises`), so that changes made here are overwritten: work on a copy.*

## Set-up

These cells are the chapter's own. They read its runs from the run store; a run that is not there is computed, which may take a
minute or two. The pictures are the phantom's. To work on the recorded study of real images instead,
give these parameters the values that `profiles/recorded.yml` has for them."""


# -------------------------------------------------------------------------------------------- executed notebooks
def stale_notebooks() -> list[str]:
    """Names of the notebooks whose ``.ipynb`` is missing, not executed, or has other cells than its ``.py``."""
    return [name for name in list_notebooks() if not _in_step(name)]


def _in_step(name: str) -> bool:
    path = project_root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return False
    paired = nbformat.read(path, as_version=4)
    cells, wanted = (
        [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
        for notebook in (paired, read_notebook(name))
    )
    return cells == wanted and all(cell.get("execution_count") for cell in paired.cells if cell.cell_type == "code")


def sync(names: tuple[str, ...] = (), *, say: Callable[[str], None] = print) -> None:
    """Execute notebooks, all by default, with their defaults, and write them beside their sources: no images, times, or bars."""
    with tempfile.TemporaryDirectory() as scratch, kernel_environment("defaults"):
        for name in select_notebooks(names):
            executed = Path(scratch) / f"{name}.ipynb"
            try:
                execute(name, {}, executed, progress_bar=False)
            except NotebookFailure as failure:
                raise MpoxError("\n".join(failure.args)) from failure
            notebook = nbformat.read(executed, as_version=4)
            notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "jupytext") if key in notebook.metadata}
            for number, cell in enumerate(notebook.cells):
                cell.id = f"cell-{number:02d}"
                cell.metadata = {key: cell.metadata[key] for key in ("tags", "mystnb") if cell.metadata.get(key)}
                if cell.cell_type == "code":
                    cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
                for data in (output.data for output in cell.get("outputs", []) if "data" in output):
                    for kind in [
                        kind for kind in data if kind[:6] == "image/" or (kind == "text/html" and "data:image/" in data[kind])
                    ]:
                        del data[kind]
            atomic_write(project_root() / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
            say(f"wrote {name}.ipynb")


# ------------------------------------------------------------------------------------------------- the course
def learner_notebook(name: str, *, solved: bool = False) -> NotebookNode | None:
    """The notebook in which a learner does a chapter's exercises, not executed; None where the chapter has none."""
    source = read_notebook(name)
    for before, cell in pairwise([*source.cells, new_markdown_cell("")]):
        if _is(before, "exercise") and not _is(cell, "solution"):
            raise MpoxError(f"notebooks/{name}.py: put a cell tagged 'solution' behind the exercise above {cell.source[:40]!r}.")
        if _is(cell, "solution") and not (_is(before, "exercise") or _is(before, "solution")):
            raise MpoxError(f"notebooks/{name}.py: the solution {cell.source[:40]!r} follows no exercise; put it behind its own.")
    if not (count := sum(_is(cell, "exercise") for cell in source.cells)):
        return None
    title = source.cells[0].source.splitlines()[0].removeprefix("# ")
    cells = [new_markdown_cell(_HEADER.format(title=title, count=count, name=name))]
    for (solution, kind), run in groupby(source.cells, key=lambda cell: (_is(cell, "solution"), cell.cell_type)):
        if solution and not solved:
            cells.append(_NEW[kind](BLANKS[kind], metadata={"tags": ["exercise"]}))
            continue
        for cell in run:
            if tags := [tag for tag in ("parameters", "exercise-setup", "exercise", "solution") if _is(cell, tag)]:
                cells.append(_NEW[kind](cell.source, metadata={"tags": tags}))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    return new_notebook(cells=cells, metadata={"kernelspec": source.metadata["kernelspec"], "jupytext": {"formats": "ipynb"}})


def _is(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def exercise_files() -> dict[Path, str]:
    """The text of each chapter's learner notebook by its path."""
    folder, made = project_root() / "notebooks" / "exercises", {name: learner_notebook(name) for name in list_notebooks()}
    return {folder / f"{name}.ipynb": nbformat.writes(notebook) + "\n" for name, notebook in made.items() if notebook}


def stale_exercises() -> list[str]:
    """Names of the learner notebooks that are missing or differ from what their chapter gives."""
    return [path.stem for path, text in exercise_files().items() if not path.is_file() or path.read_text("utf-8") != text]
