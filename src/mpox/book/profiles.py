"""What a run is asked for: the notebooks, the parameters they declare, and the values of a profile."""

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mpox._core import MpoxError, project_root

_KINDS = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    ((list, tuple), "a list"),
    (dict, "a mapping"),
)


@dataclass(frozen=True)
class Profile:
    """A named set of parameter values.

    Attributes
    ----------
    name : str
        The stem of its file, such as ``"quick"``.
    file : str
        Its path relative to the project, or absolute where it lies outside.
    parameters : dict
        Upper-case parameter name to value, as the file has them.
    """

    name: str
    file: str
    parameters: dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-3`` is a number, a date is text, and the same key twice is an error."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                problem = f"{key} is there twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def list_notebooks() -> list[str]:
    """The names of the project's notebooks, in the order in which they run.

    Returns
    -------
    list of str
        The stems of ``notebooks/NN_name.py``, sorted.

    Raises
    ------
    MpoxError
        If the project has no notebooks.
    """
    names = sorted(path.stem for path in (project_root() / "notebooks").glob("[0-9][0-9]_*.py"))
    if not names:
        raise MpoxError(
            f"No notebooks (NN_name.py) in {project_root() / 'notebooks'}: install mpox from a checkout of "
            "the project with 'pip install -e .', or set MPOX_PROJECT to one."
        )
    return names


def select_notebooks(wanted: Iterable[str] = ()) -> list[str]:
    """Full names of the wanted notebooks, in running order; all of them if none is named.

    Parameters
    ----------
    wanted : iterable of str
        ``"03_cross_validation"``, ``"03"``, ``"cross_validation"`` or a path to its ``.py`` or ``.ipynb``.

    Returns
    -------
    list of str

    Raises
    ------
    MpoxError
        If a name is not one notebook's.
    """
    names = list_notebooks()
    chosen = set()
    for text in wanted:
        name = Path(text).name.removesuffix(".py").removesuffix(".ipynb")
        found = [n for n in names if name in (n, n[:2], n[3:])]
        if not found:
            hint = _did_you_mean(name, names)
            raise MpoxError(f"There is no notebook {text!r}{hint}; there are {', '.join(names)}.")
        chosen.update(found)
    return [name for name in names if name in chosen] if chosen else names


def read_notebook(name: str):
    """The notebook made from ``notebooks/<name>.py``: not executed, without outputs.

    Parameters
    ----------
    name : str
        A full name from `list_notebooks`.

    Returns
    -------
    nbformat.NotebookNode

    Raises
    ------
    MpoxError
        If the source is not a py:percent script.
    """
    import jupytext

    path = project_root() / "notebooks" / f"{name}.py"
    try:
        return jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise MpoxError(f"{path} is no py:percent notebook ({reason}): mend it.") from error


def declared_parameters(name: str) -> dict[str, Any]:
    """The parameters that a notebook declares in its cell tagged ``parameters``, with their defaults.

    The cell is parsed, not run, and may hold only ``UPPER_CASE = literal`` lines: papermill puts its values
    behind this cell, so that anything derived in it would keep the default.

    Parameters
    ----------
    name : str
        A full name from `list_notebooks`.

    Returns
    -------
    dict
        Parameter name to default; empty if no cell has the tag.

    Raises
    ------
    MpoxError
        If the cell holds anything else.
    """
    cells = [c for c in read_notebook(name).cells if "parameters" in c.metadata.get("tags", [])]
    declared: dict[str, Any] = {}
    line = "what is no Python"
    try:
        for statement in ast.parse(cells[0].source).body if cells else []:
            line = repr(ast.unparse(statement))
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            if len(targets) != 1 or not isinstance(targets[0], ast.Name) or not targets[0].id.isupper():
                raise ValueError(line)
            declared[targets[0].id] = ast.literal_eval(getattr(statement, "value", statement))
    except (SyntaxError, TypeError, ValueError) as error:
        raise MpoxError(
            f"notebooks/{name}.py: the parameters cell may hold only UPPER_CASE = literal lines; move {line} below it."
        ) from error
    return declared


def load_profile(name_or_file: str | Path) -> Profile:
    """Read a profile: a flat YAML mapping of upper-case parameter names to values.

    Parameters
    ----------
    name_or_file : str or path
        A name for ``profiles/<name>.yml`` of the project, or a path ending in ``.yml`` or ``.yaml``.

    Returns
    -------
    Profile

    Raises
    ------
    MpoxError
        If there is no such profile, or the file is not such a mapping.
    """
    folder = project_root() / "profiles"
    path = Path(name_or_file).expanduser()
    if path.suffix not in (".yml", ".yaml"):
        path = folder / f"{name_or_file}.yml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yml"))
        raise MpoxError(
            f"There is no profile {str(name_or_file)!r}{_did_you_mean(str(name_or_file), known)}; there are "
            f"{', '.join(known) or 'none'}, or name a .yml file."
        )
    values = _parse_yaml(path.read_text(encoding="utf-8"), str(path))
    values = {} if values is None else values
    if not isinstance(values, dict) or not all(isinstance(key, str) and key.isupper() for key in values):
        raise MpoxError(f"{path}: a profile is a flat mapping, a line 'UPPER_CASE_NAME: value' a parameter.")
    path = path.resolve()
    inside = path.is_relative_to(project_root())
    return Profile(path.stem, (path.relative_to(project_root()) if inside else path).as_posix(), values)


def parse_overrides(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameter values from the command line: pairs ``NAME VALUE``, values in YAML; a later one counts.

    Raises
    ------
    MpoxError
        If a value is not YAML.
    """
    return {name: _parse_yaml(text, f"-p {name}") for name, text in pairs}


def resolve_parameters(
    notebooks: Iterable[str], profile: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Which values each notebook is given: those, of the profile and the overrides, that it declares.

    Everything is checked against every notebook of the project, chosen or not, so that a slip in a profile
    shows at once. A whole number becomes a float where the default is one.

    Parameters
    ----------
    notebooks : iterable of str
        The full names of the notebooks that will run.
    profile, overrides : mapping
        Parameter name to value; an override wins.

    Returns
    -------
    dict of str to dict
        For each of `notebooks` the values that differ from "leave the default".

    Raises
    ------
    MpoxError
        If no notebook declares a name, or a value is not of its default's type.
    """
    declared = {name: declared_parameters(name) for name in list_notebooks()}
    known = sorted(set().union(*declared.values()))
    merged = {**profile, **overrides}
    for key in merged:
        if key not in known:
            origin = "-p" if key in overrides else "The profile's"
            raise MpoxError(
                f"{origin} {key} is no notebook's parameter{_did_you_mean(key, known)}; there are {', '.join(known) or 'none'}."
            )
    resolved = {
        name: {key: _fit(key, merged[key], defaults[key], name) for key in defaults if key in merged}
        for name, defaults in declared.items()
    }
    return {name: resolved[name] for name in notebooks}


def _fit(key: str, value: Any, default: Any, notebook: str) -> Any:
    """The value as its default's type, or an error that names both."""
    if default is None:
        return value
    if _kind(value) != _kind(default):
        raise MpoxError(
            f"{key} must be {_kind(default)} as in notebooks/{notebook}.py, where it is {default!r}; {value!r} is {_kind(value)}."
        )
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, list | tuple) and len({_kind(item) for item in default}) == 1:
        return [_fit(f"Each item of {key}", item, default[0], notebook) for item in value]
    return value


def _kind(value: Any) -> str:
    return next((kind for types, kind in _KINDS if isinstance(value, types)), "nothing")


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise MpoxError(f"{where}{line}: not valid YAML ({problem}).") from error


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.upper(), {k.upper(): k for k in known}, n=1)
    match = next((k for k in known if close and k.upper() == close[0]), None)
    return f" (did you mean {match}?)" if match else ""
