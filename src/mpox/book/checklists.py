"""Reporting checklists as book pages: the items are data (``book/checklists/*.yml``), the tables are made when a book is staged.

An item says what a guideline asks, in our words, whether this study answers it, and where. A place is a page or a chapter of the
book without its suffix, ``book/data_sheet`` or ``study/03_cross_validation``, with ``#`` and the slug of a heading where it is a
section.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from myst_parser.mdit_to_docutils.base import default_slugify

from mpox._core import MpoxError
from mpox.book.chapters import TITLE, Chapter

STATUSES = ("answered", "partly", "not reported", "not applicable")
#: What a page says where its table shall be: of the items in the ``.yml`` beside it, or of how all checklists were answered.
ITEMS_MARK = "<!-- checklist items -->"
COUNTS_MARK = "<!-- checklist counts -->"

#: A page whose title is no name for a link.
_LABELS = {"book/intro": "the first page"}
_HEADING = re.compile(r"^#{2,3} +(.+?) *$", re.M)
_CODE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Parameters
    ----------
    number : str
        As published, or as the page says.
    topic, asks : str
        What it is about and what it asks for, in our words.
    status : {"answered", "partly", "not reported", "not applicable"}
    where : list of str
        Places in the book; needed where something is answered.
    note : str
        One or two sentences; needed where something is not, or only partly, answered.
    """

    number: str
    topic: str
    asks: str
    status: str
    where: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self):
        if self.status not in STATUSES:
            raise MpoxError(f"Item {self.number} has the status '{self.status}': choose one of {', '.join(STATUSES)}.")
        if self.status in ("answered", "partly") and not (self.where or self.note):
            raise MpoxError(f"Item {self.number} is {self.status}, but it does not say where.")
        if self.status != "answered" and not self.note:
            raise MpoxError(f"Item {self.number} is {self.status}, but it does not say why: give it a note.")


@dataclass(frozen=True)
class Page:
    """A page that can be linked to.

    Parameters
    ----------
    file : str
        Its path in the staged book, with suffix.
    label : str
        How a link calls it.
    headings : dict of str to str
        Slug to text of its headings of the second and third level.
    """

    file: str
    label: str
    headings: Mapping[str, str]


def read_checklist(path: str | Path) -> dict[str, list[Item]]:
    """The items of a checklist by section.

    Raises
    ------
    MpoxError
        If a key is unknown or missing, a number is there twice, or an item says too little.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        sections = {
            section["name"]: [Item(**item | {"where": tuple(item.get("where", ()))}) for item in section["items"]]
            for section in content["sections"]
        }
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise MpoxError(f"{path} is no checklist: {str(error).splitlines()[0]}.") from error
    except MpoxError as error:
        raise MpoxError(f"{path}: {error}") from error
    numbers = [item.number for items in sections.values() for item in items]
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        raise MpoxError(f"{path} has the item {', '.join(twice)} twice.")
    return sections


def headings(markdown: str) -> dict[str, str]:
    """The headings of the second and third level, by the slug under which the book links to them.

    Examples
    --------
    >>> headings("# Title\\n\\n## Does it rise, then fall?\\n")
    {'does-it-rise-then-fall': 'Does it rise, then fall?'}
    """
    return {default_slugify(text): text for text in _HEADING.findall(_CODE.sub("", markdown))}


def notebook_headings(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The headings of a notebook's Markdown cells; see `headings`."""
    return headings("\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"))


def linkable_pages(parts: Mapping[str, Mapping[str, Chapter]], book: Path) -> dict[str, Page]:
    """Every page of a staged book by its place.

    Parameters
    ----------
    parts : mapping
        What `mpox.book.parts.collect` returns.
    book : Path
        The folder ``book/`` with the prose pages.
    """
    pages = {}
    for path in sorted(book.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        place = (Path("book") / path.relative_to(book)).with_suffix("").as_posix()
        title = TITLE.search(text)
        label = _LABELS.get(place) or (title[1] if title else path.stem)
        pages[place] = Page(f"{place}.md", label, headings(text))
    for part, chapters in parts.items():
        for name, chapter in chapters.items():
            found = notebook_headings(nbformat.read(chapter.path, as_version=4))
            pages[f"{part}/{name}"] = Page(f"{part}/{name}.ipynb", _chapter_label(name), found)
    return pages


def _chapter_label(name: str) -> str:
    return f"chapter {int(name[:2])}"


def link(place: str, pages: Mapping[str, Page], *, depth: int) -> str:
    """A Markdown link to a place from a page that lies `depth` folders below the book's root.

    A page that this book lacks, because a chapter was left out, is named without a link.

    Raises
    ------
    MpoxError
        If the page is there and has no such section.
    """
    name, _, slug = place.partition("#")
    page = pages.get(name)
    if page is None:
        stem = name.split("/")[-1]
        label = _chapter_label(stem) if stem[:2].isdigit() else stem.replace("_", " ")
        return f"{label}, not in this build"
    if slug and slug not in page.headings:
        raise MpoxError(f"A checklist names the section '{slug}' of {page.file}, which has none: correct it in book/checklists.")
    label = f"{page.label}, *{page.headings[slug]}*" if slug else page.label
    return f"[{label}]({'../' * depth}{page.file}{'#' + slug if slug else ''})"


def items_table(sections: Mapping[str, list[Item]], pages: Mapping[str, Page], *, depth: int = 2) -> str:
    """A checklist as Markdown: a heading and a table for each section."""
    lines = []
    for name, items in sections.items():
        lines += [f"## {name}", "", "| Item | What is asked | In this study |", "| --- | --- | --- |"]
        for item in items:
            places = "; ".join(link(place, pages, depth=depth) for place in item.where)
            parts = (f"**{item.status.capitalize()}.**", item.note, f"({places})" if places else "")
            answer = " ".join(part for part in parts if part)
            cells = [f"**{item.number}** {item.topic}", item.asks, answer]
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def counts_table(folder: Path, pages: Mapping[str, Page], *, depth: int = 2) -> str:
    """How each checklist of a folder was answered, as a Markdown table."""
    lines = ["| Checklist | All | Yes | Partly | No | n/a |"]  # short, so that it fits a phone
    lines.append("| --- |" + " ---: |" * (len(STATUSES) + 1))
    for path in sorted(folder.glob("*.yml")):
        given = [item.status for items in read_checklist(path).values() for item in items]
        counts = " | ".join(str(given.count(status)) for status in STATUSES)
        lines.append(f"| {link(f'book/{folder.name}/{path.stem}', pages, depth=depth)} | {len(given)} | {counts} |")
    return "\n".join(lines)


def filled(text: str, page: Path, pages: Mapping[str, Page]) -> str:
    """A page's text with the tables in the place of their marks; `page` lies in ``book/checklists``."""
    if ITEMS_MARK in text:
        text = text.replace(ITEMS_MARK, items_table(read_checklist(page.with_suffix(".yml")), pages))
    if COUNTS_MARK in text:
        text = text.replace(COUNTS_MARK, counts_table(page.parent, pages))
    return text
