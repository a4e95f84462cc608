"""Keep the committed ``notebooks/NN_name.ipynb`` in step with their sources: executed, text outputs kept, images stripped."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat

from mpox._core import MpoxError, atomic_write, project_root
from mpox.book.run import NotebookFailure, execute, kernel_environment, list_notebooks, read_notebook, select_notebooks


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
    """Execute notebooks, all by default, with their default parameters and write them beside their sources."""
    with tempfile.TemporaryDirectory() as scratch, kernel_environment("defaults"):
        for name in select_notebooks(names):
            executed = Path(scratch) / f"{name}.ipynb"
            try:
                execute(name, {}, executed, progress_bar=False)
            except NotebookFailure as failure:
                raise MpoxError("\n".join(failure.args)) from failure
            notebook = stripped(nbformat.read(executed, as_version=4))
            atomic_write(project_root() / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
            say(f"wrote {name}.ipynb")


def stripped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook without images, progress bars, times and the marks of the program that executed it."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "jupytext") if key in notebook.metadata}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {key: cell.metadata[key] for key in ("tags", "mystnb") if cell.metadata.get(key)}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for data in (output.get("data", {}) for output in cell.outputs):
                for kind in list(data):
                    if kind.startswith("image/") or (kind == "text/html" and "data:image/" in data[kind]):
                        del data[kind]
    return notebook
