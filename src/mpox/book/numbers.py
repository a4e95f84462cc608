"""Numbers of the book's figures and tables, chapter by chapter, and the references to them.

A writer names a figure in the metadata of its cell (``"figure": {"caption": ..., "name": "dose-response"}``) and a table where it
is shown (``report.show(table, name="folds", caption=...)``), and refers to them by ``[the climb](#fig-dose-response)`` and
``[the table](#table-folds)``, from any chapter or page. In JupyterLab such a link reads as its words; in the book it has the
number, "the climb (Figure 3.4)" (see `refer`). The chapter's number is that of its file name; pages that share it are counted
through in the order of the contents.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from mpox._core import MpoxError
from mpox.book.parts import Chapter
from mpox.book.report import TABLE_MARK

FIGURE, TABLE = "Figure", "Table"
_PREFIX = {FIGURE: "fig", TABLE: "table"}
#: What a number is followed by in Part II, so that a figure that is copied out of the book still says what it shows.
MARKED = {"study": "", "instruments": " (phantom)"}

_REFERENCE = re.compile(r"\[([^\[\]]*)\]\((?:([^()\s#]*)#)((?:fig|table)-[a-z0-9-]+)\)")
#: Words that say no more than the number does.
_SAYS_SO = re.compile(r"^((the|a|this|last|next|first|second|other|one) )*(figure|table)( of \w+)?$", re.I)
_CHAPTER = re.compile(r"^(\d+)_")
_CAPTION = re.compile(rf'<caption {TABLE_MARK}="([^"]+)">')


@dataclass(frozen=True)
class Numbered:
    """A figure or a table of the book.

    Attributes
    ----------
    kind : {"Figure", "Table"}
    number : str
        ``3.4``: the fourth of chapter 3.
    part : {"study", "instruments"}
    page : str
        The chapter's name.
    key : str
        By which it is referred to, ``fig-dose-response``.
    """

    kind: str
    number: str
    part: str
    page: str
    key: str

    @property
    def anchor(self) -> str:
        """The label of its place, one in the whole book."""
        return f"{self.part}-{self.key}"

    @property
    def title(self) -> str:
        """``Figure 3.4``, and in Part II ``Figure 3.4 (phantom)``."""
        return f"{self.kind} {self.number}{MARKED[self.part]}"


Numbers = dict[str, dict[str, Numbered]]


def number_all(parts: Mapping[str, Mapping[str, Chapter]], order: Sequence[str]) -> Numbers:
    """Number what the chapters show, by its place in their source: what a part has no picture for is counted all the same.

    Parameters
    ----------
    parts : mapping of part to mapping of name to Chapter
        What `mpox.book.parts.collect` returns. A page that one part lacks is counted from the other, so that twins agree.
    order : sequence of str
        Names of the chapters in the order of the contents.

    Returns
    -------
    dict of part to dict of key to Numbered

    Raises
    ------
    MpoxError
        If two figures, or two tables, of a part have one name.
    """
    found: Numbers = {part: {} for part in parts}
    for part, chapters in parts.items():
        counts: Counter[tuple[int, str]] = Counter()
        for name in dict.fromkeys(order):
            chapter = chapters.get(name) or next((other[name] for other in parts.values() if name in other), None)
            if chapter is None:
                continue
            for kind, given in _shown(nbformat.read(chapter.path, as_version=4)):
                counts[_number(name), kind] += 1
                number = f"{_number(name)}.{counts[_number(name), kind]}"
                one = Numbered(kind, number, part, name, f"{_PREFIX[kind]}-{given or number.replace('.', '-')}")
                if name in chapters and found[part].setdefault(one.key, one) is not one:
                    raise MpoxError(f"{name} has a second {kind.lower()} named '{given}': names are unique in the whole book.")
    return found


def names_in(notebook: NotebookNode) -> list[str]:
    """The keys by which a notebook's named figures and tables can be referred to, as they come."""
    return [f"{_PREFIX[kind]}-{name}" for kind, name in _shown(notebook) if name]


def references_in(text: str) -> list[str]:
    """The keys of the figures and tables that a text refers to."""
    return [found[3] for found in _REFERENCE.finditer(text)]


def number_page(notebook: NotebookNode, chapter: Chapter, numbers: Numbers) -> NotebookNode:
    """Write the numbers before the captions of a chapter, and give every figure and table its anchor; changed in place.

    A figure that is all that its cell shows is itself the place to which links go, anything else the top of its cell.

    Parameters
    ----------
    notebook : NotebookNode
        The executed notebook of `chapter`, with its cells in the order in which `number_all` counted them.
    chapter : Chapter
    numbers : Numbers
        From `number_all`.
    """
    counted = {
        kind: iter([one for one in numbers[chapter.part].values() if (one.page, one.kind) == (chapter.name, kind)])
        for kind in _PREFIX
    }
    cells = []
    for cell in notebook.cells:
        anchors = []
        for kind, given in _shown_by(cell):
            one = next(counted[kind])
            if kind == TABLE:
                _number_tables(cell, one, given)
                anchors.append(one.anchor)
                continue
            figure = cell.metadata["mystnb"]["figure"]
            figure["caption"] = f"**{one.title}.** {figure['caption']}"
            figure.pop("name", None)
            if sum(output.output_type in ("display_data", "execute_result") for output in cell.outputs) == 1:
                figure["name"] = one.anchor
            else:
                anchors.append(one.anchor)
        if anchors:
            cells.append(new_markdown_cell("\n".join(f"({anchor})=" for anchor in anchors)))
        cells.append(cell)
    notebook.cells = cells
    return notebook


def refer(text: str, part: str, numbers: Numbers, *, where: str, whole: Mapping[str, bool]) -> str:
    """Put the numbers into a text's references to figures and tables.

    The number takes the place of the link's words where these say no more than "the figure" or "a table of differences", and
    inside parentheses; other words stay, and the number follows them: "the curves (Figure 3.4)".

    A link means its own part; one to a page of the other part (``../instruments/03_cross_validation.ipynb#fig-...``) means that.

    Parameters
    ----------
    text : str
        Markdown.
    part : {"study", "instruments"}
        The part of the page that has the text; prose pages speak of the study.
    numbers : Numbers
        From `number_all`.
    where : str
        The page, for the error.
    whole : mapping of part to bool
        Whether a part has all its chapters. Where it has not, a reference to what is missing is left as its words.

    Raises
    ------
    MpoxError
        If a figure or table is referred to that a whole part does not have.
    """

    def replaced(found: re.Match) -> str:
        words, path, key = found.groups()
        target = next((name for name in numbers if path and f"{name}/" in path), part)
        if (one := numbers.get(target, {}).get(key)) is not None:
            link = f"[{one.title if target != part else f'{one.kind} {one.number}'}](#{one.anchor})"
            paragraph = text[: found.start()].rpartition("\n\n")[2]
            alone = _SAYS_SO.search(words) or paragraph.count("(") > paragraph.count(")")
            return link if alone else f"{words} ({link})"
        if not whole[target]:
            return words
        raise MpoxError(
            f"{where} refers to '{key}', and no chapter of the part has a figure or table of that name: "
            "name it there and run the notebooks again, or mend the reference."
        )

    return _REFERENCE.sub(replaced, text)


def refer_on_page(notebook: NotebookNode, chapter: Chapter, numbers: Numbers, whole: Mapping[str, bool]) -> NotebookNode:
    """Put the numbers into the references of a chapter's prose, computed sentences and captions; changed in place.

    Parameters
    ----------
    notebook : NotebookNode
    chapter : Chapter
    numbers, whole
        See `refer`.
    """
    put = partial(refer, part=chapter.part, numbers=numbers, where=f"{chapter.part}/{chapter.name}", whole=whole)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = put(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = put("".join(output["data"]["text/markdown"]))
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            figure["caption"] = put(figure["caption"])
    return notebook


def _number(name: str) -> int:
    found = _CHAPTER.match(name)
    if found is None:
        raise MpoxError(f"The chapter {name} has no number: its file name begins with two digits.")
    return int(found[1])


def _shown(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    for cell in notebook.cells:
        yield from _shown_by(cell)


def _shown_by(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """Kind and name ("" for none) of the figure that a cell's metadata announce and the named tables that its source shows."""
    if cell.cell_type != "code":
        return
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if figure.get("caption"):
        yield FIGURE, figure.get("name", "")
    for name in _table_names(cell.source):
        yield TABLE, name


def _table_names(source: str) -> list[str]:
    if "name=" not in source:
        return []
    named = []
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise MpoxError(f"A cell that names a table is no plain Python, so that the book cannot number it: {error}.") from error
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="report"), attr="show" | "sortable"), keywords=keywords):
                for keyword in keywords:
                    if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                        named.append((node.lineno, node.col_offset, str(keyword.value.value)))
    return [name for _, _, name in sorted(named)]


def _number_tables(cell: NotebookNode, one: Numbered, name: str) -> None:
    """Tables that a cell shows in a loop have one number; their captions tell them apart."""
    for output in cell.outputs:
        page = "".join(output.get("data", {}).get("text/html", ""))
        if any(found[1] == name for found in _CAPTION.finditer(page)):
            put = f'<caption><span class="mpox-caption"><strong>{one.title}.</strong> '
            output["data"]["text/html"] = page.replace(f'<caption {TABLE_MARK}="{name}"><span class="mpox-caption">', put)
