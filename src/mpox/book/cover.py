"""What the book's first page takes from elsewhere: its figure from a chapter of Part I, and how to cite from ``CITATION.cff``."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import nbformat
import yaml

from mpox._core import MpoxError
from mpox.book.parts import Chapter

#: What a page says where these shall be.
FIGURE_MARK, CITATION_MARK = "<!-- cover figure -->", "<!-- citation -->"
#: The tag of the cell whose picture it is; alt text and caption are the cell's own.
TAG = "cover-figure"


def with_cover(text: str, page: Path, chapters: Mapping[str, Chapter], *, project: Path, absent: str) -> str:
    """A page's text with the figure and the citation in the place of their marks; the picture is written beside the page.

    Where the figure has a name, its caption refers to the chapter's figure; see `mpox.book.numbers.refer`.

    Parameters
    ----------
    text : str
    page : Path
    chapters : mapping of str to Chapter
        Of Part I.
    project : Path
        Holds ``CITATION.cff``.
    absent : str
        What to say where no chapter of this book has the figure.

    Raises
    ------
    MpoxError
        If several cells have the tag, or the cell has no picture, alt text and caption.
    """
    if FIGURE_MARK in text:
        text = text.replace(FIGURE_MARK, _figure(page.with_name("cover.png"), chapters) or absent)
    if CITATION_MARK in text:
        text = text.replace(CITATION_MARK, citation(project / "CITATION.cff"))
    return text


def _figure(target: Path, chapters: Mapping[str, Chapter]) -> str | None:
    found = [
        (name, cell)
        for name, chapter in chapters.items()
        for cell in nbformat.read(chapter.path, as_version=4).cells
        if TAG in cell.metadata.get("tags", [])
    ]
    if not found:
        return None
    if len(found) > 1:
        raise MpoxError(f"The tag {TAG} is on {len(found)} cells ({', '.join(name for name, _ in found)}): leave it on one.")
    ((name, cell),) = found
    pictures = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    about = cell.metadata.get("mystnb", {})
    alt, caption = about.get("image", {}).get("alt"), about.get("figure", {}).get("caption")
    if len(pictures) != 1 or not alt or not caption:
        raise MpoxError(f"The cell of {name} with the tag {TAG} must show one figure, and have alt text and a caption.")
    if of_chapter := about["figure"].get("name"):
        caption += f" In its chapter it is [the last figure](#fig-{of_chapter})."
    target.write_bytes(base64.b64decode(pictures[0]))
    return f":::{{figure}} {target.name}\n:alt: {json.dumps(alt, ensure_ascii=False)}\n\n{caption}\n:::"


def citation(path: Path) -> str:
    """How to cite, as a line of Markdown, from a ``CITATION.cff``.

    Raises
    ------
    MpoxError
        If the file is missing, or lacks its authors, title or version.
    """
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
        authors = ", ".join(one.get("name") or f"{one['family-names']}, {one['given-names']}" for one in about["authors"])
        return f"{authors}: *{about['title']}*. Version {about['version']}."
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise MpoxError(f"{path} does not say who wrote what, in which version: mend it.") from error
