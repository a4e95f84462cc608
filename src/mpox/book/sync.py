"""Keeps the committed ``notebooks/NN_name.ipynb`` in step with their sources: executed, text outputs kept, pictures stripped."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat

from mpox._core import MpoxError, atomic_write, project_root
from mpox.book.kernels import NotebookFailure, execute, kernel_environment
from mpox.book.profiles import list_notebooks, read_notebook, select_notebooks

_PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


def stale_notebooks() -> list[str]:
    """Names of the notebooks whose ``.ipynb`` is missing, not executed, or has other cells than its ``.py``."""
    return [name for name in list_notebooks() if not _in_step(name)]


def _in_step(name: str) -> bool:
    path = project_root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return False
    paired, source = nbformat.read(path, as_version=4), read_notebook(name)
    cells = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in paired.cells]
    wanted = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in source.cells]
    executed = all(cell.get("execution_count") for cell in paired.cells if cell.cell_type == "code")
    return cells == wanted and executed


def sync(names: tuple[str, ...] = (), *, say: Callable[[str], None] = print) -> None:
    """Execute notebooks with their default parameters and write them beside their sources.

    Parameters
    ----------
    names : tuple of str
        Which; all by default.
    say : callable
        Told which one is done.

    Raises
    ------
    MpoxError
        If a notebook fails; the ones before it are written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        (scratch / "executed").mkdir()
        with kernel_environment(scratch, profile="defaults"):
            for name in select_notebooks(names):
                executed = scratch / "executed" / f"{name}.ipynb"
                try:
                    execute(name, {}, executed, scratch=scratch)
                except NotebookFailure as failure:
                    raise MpoxError(f"{name} failed: {failure}\n{failure.description}") from failure
                notebook = stripped(nbformat.read(executed, as_version=4))
                target = project_root() / "notebooks" / f"{name}.ipynb"
                atomic_write(target, nbformat.writes(notebook) + "\n")
                say(f"wrote {target.name}")


def stripped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook without pictures, progress bars, times and the marks of the program that executed it."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "jupytext") if key in notebook.metadata}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "mystnb")}
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                continue
            for kind in _PICTURES:
                output.get("data", {}).pop(kind, None)
            if "data:image/" in output.get("data", {}).get("text/html", ""):
                del output["data"]["text/html"]
            kept.append(output)
        cell.outputs = kept
    return notebook
