"""A chapter can be read: its size, its first screen, its tables and words; `CONTRIBUTING.md` has the same numbers."""

import ast
import re

import nbformat
import pytest

from mpox._core import project_root
from mpox.book.build import GUARD, _is_plumbing
from mpox.book.run import list_notebooks, read_notebook

FOLDER = project_root() / "notebooks"
CHAPTERS = list_notebooks()
#: Lines in all, lines of code, names imported, words of prose.
LIMITS = (450, 200, 10, 1800)
#: What no sentence of a chapter says: words of a program, of a card game, and for which the field has others.
FORBIDDEN = r"\b([Pp]ictures?|[Dd]ealt|[Tt]old(?! apart)|at hand|stands in the program|lies? on each other|1 are|0 have)\b"


def read(name: str) -> tuple[list, list]:
    """Markdown cells and code cells of a chapter's source."""
    cells = read_notebook(name).cells
    return [cell for cell in cells if cell.cell_type == "markdown"], [cell for cell in cells if cell.cell_type == "code"]


def is_tagged(cell, *tags: str) -> bool:
    return bool({*tags} & set(cell.metadata.get("tags", [])))


def imported(code: list) -> set[str]:
    lines = [line for cell in code for line in ast.walk(ast.parse(cell.source)) if isinstance(line, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for line in lines for alias in line.names}


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_keeps_its_limits(name):
    prose, code = read(name)
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    words = " ".join(cell.source for cell in prose if not is_tagged(cell, "instruments")).split()
    sizes = len((FOLDER / f"{name}.py").read_text().splitlines()), len(lines), len(imported(code)), len(words)
    assert [size for size, limit in zip(sizes, LIMITS, strict=True) if size > limit] == [], sizes


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_finding_comes_first_and_a_figure_soon(name):
    cells = read_notebook(name).cells
    assert re.fullmatch(r"# \S[^\n]*", cells[0].source) and is_tagged(cells[1], "study") and is_tagged(cells[2], "instruments")
    assert all(cell.source.startswith((":::{admonition}", "::::{admonition}")) for cell in cells[1:3])
    assert all(30 < len(re.sub(r"\{\{.*?\}\}", "0.5", cell.source).split()) < 125 for cell in cells[1:3])
    if re.match(r"\d", name):
        code = [cell for cell in cells if cell.cell_type == "code" and not is_tagged(cell, "parameters", GUARD)]
        assert any("figure" in cell.metadata.get("mystnb", {}) for cell in code[:4])


@pytest.mark.parametrize("name", [name for name in CHAPTERS if re.match(r"\d", name)])
def test_a_chapter_shows_some_code_and_not_much(name):
    _, code = read(name)
    shown = [cell for cell in code if not _is_plumbing(cell) and not is_tagged(cell, "parameters", "solution", GUARD)]
    assert 5 <= len(shown) <= 10
    assert max(len(cell.source.splitlines()) for cell in shown) <= 9


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_the_study_says_is_guarded(name):
    prose, code = read(name)
    if any("{{" in cell.source for cell in prose if is_tagged(cell, "study")):
        assert any("report.guard(" in cell.source for cell in code if is_tagged(cell, GUARD))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_speaks_the_language_of_its_field(name):
    prose, _ = read(name)
    captions = [cell.metadata["mystnb"] for cell in read_notebook(name).cells if "mystnb" in cell.metadata]
    said = re.sub("`[^`]*`", "", "\n".join([*(cell.source for cell in prose), *map(str, captions)]))  # without names of the code
    assert re.findall(FORBIDDEN, said) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_tables_fit_the_column(name):
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
        if is_tagged(cell, "solution"):
            continue
        for page in ("".join(one.get("data", {}).get("text/html", "")) for one in cell.get("outputs", [])):
            if "<table" not in page or "<button" in page:
                continue
            head, _, body = page.partition("</thead>")
            assert head.count("<th") - head.count("<thead") <= 6, head
            assert body.count("<tr") <= (12 if name[0].isdigit() else 25), body
