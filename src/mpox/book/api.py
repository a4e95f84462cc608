"""The book's pages on this package: a page names modules in marks, and Sphinx writes what their docstrings say.

A mark is a comment ``<!-- api: manifest patients -->`` that names modules of the package without ``mpox.``, over as many lines as
it takes. When a book is staged, it becomes a list of the modules with the first line of each docstring, and a section for
each module with its public functions and classes. The module is an extension of Sphinx, too (`setup`).
"""

import ast
import re
from pathlib import Path
from typing import Any

from myst_parser.mdit_to_docutils.base import default_slugify

from mpox._core import MpoxError

PACKAGE = Path(__file__).parents[1]

_MARK = re.compile(r"<!-- api:([\w.\s]+)-->")
#: Commands are instances of click's classes, whose members are click's; their modules are described without members.
_WITHOUT_MEMBERS = re.compile(r"cli(_\w+)?|__init__")


def first_line(module: str) -> str:
    """The first line of a module's docstring, read without importing the module.

    Parameters
    ----------
    module : str
        Its name without ``mpox.``.

    Raises
    ------
    MpoxError
        If there is no such module, or it has no docstring.
    """
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        raise MpoxError(f"A page of book/api names the module mpox.{module}, which is not there: correct the page.")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise MpoxError(f"mpox.{module} has no docstring: say in one line what it does.")
    return text.splitlines()[0]


def with_api(text: str) -> str:
    """A page's text with lists and sections of modules in the place of its marks."""
    return _MARK.sub(lambda mark: _described(mark[1].split()), text)


def _described(modules: list[str]) -> str:
    listed = [f"- [`mpox.{name}`](#{default_slugify(f'mpox.{name}')}): {_as_markdown(first_line(name))}" for name in modules]
    sections = [f"### `mpox.{name}`\n\n```{{eval-rst}}\n.. automodule:: mpox.{name}{_options(name)}\n```" for name in modules]
    return "\n".join(listed) + "\n\n" + "\n\n".join(sections)


def _options(module: str) -> str:
    return "" if _WITHOUT_MEMBERS.fullmatch(module) else "\n   :members:\n   :ignore-module-all:\n   :no-value:"


def _as_markdown(line: str) -> str:
    """A line of a docstring: code between two backticks there is code between one here."""
    return line.replace("``", "`")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx, which has this module among its extensions."""
    app.connect("autodoc-process-docstring", _rejoin, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _rejoin(_app: Any, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Undo what Napoleon, at priority 500, did to "A row a data set: its name, its size": it takes the first words for a type."""
    types = [line for line in lines if line.startswith(":type: ")]
    if what in {"data", "attribute", "property"} and types:
        lines.remove(types[0])
        lines[0] = f"{types[0].removeprefix(':type: ')}: {lines[0]}"
