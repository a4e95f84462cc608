"""An executed notebook as a page of the book: header, key findings, folds, and a foot that says what was run."""

import hashlib
import re
from collections.abc import Iterable, Mapping

import nbformat
from nbformat.v4 import new_markdown_cell

from mpox._core import MpoxError
from mpox.book.effort import reading_minutes
from mpox.book.exercises import fold
from mpox.book.glossary import FirstUses
from mpox.book.numbers import Numbers, number_page, refer_on_page
from mpox.book.parts import PARTS, TITLE, Chapter, title_cell
from mpox.book.provenance import duration
from mpox.book.report import KEY_FINDINGS, NOT_YET

FOLDED = {
    "parameters": "Parameters and their defaults",
    "injected-parameters": "Parameters that the profile set",
}


#: What opens a cell whose program is folded.
UNFOLD = "Show the code"
#: Lines of a program that a page shows without being asked.
SHORT = 8
_SHOWING = re.compile(r"\b(report|plt|plots)\.|MapView|_widget\(|_explorer\(")


def chapter_page(
    chapter: Chapter,
    *,
    twin: Chapter | None,
    numbers: Numbers,
    whole: Mapping[str, bool],
    terms: Iterable[str] = (),
    links: str = "",
) -> nbformat.NotebookNode:
    """An executed notebook as a page of the book.

    Header and key findings are under the title, parameters and solutions are folded, figures and tables numbered, references to
    them resolved, the first use of each word of the glossary is linked, and a foot says what was run. The machine's paths are
    removed.

    Parameters
    ----------
    chapter : Chapter
        Says which part, data sets and profile the header names.
    twin : Chapter or None
        The same notebook in the other part, to link to.
    numbers : Numbers
        From `mpox.book.numbers.number_all`.
    whole : mapping of part to bool
        Whether a part has all its chapters; see `mpox.book.numbers.refer`.
    terms : iterable of str
        Of the glossary.
    links : str
        Sentence for the header of a chapter of Part II, whose notebook is the committed one; see `mpox.book.launch`.

    Raises
    ------
    MpoxError
        If the chapter has not said its key findings, or refers to a figure or table that is not there.
    """
    notebook = nbformat.read(chapter.path, as_version=4)
    minutes = reading_minutes(notebook)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        tags = cell.metadata.get("tags", [])
        for tag in FOLDED.keys() & set(tags):
            cell.metadata["tags"] = [*tags, "hide-input"]
            cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = FOLDED[tag]
        if _is_plumbing(cell):
            cell.metadata["tags"] = [*tags, "hide-input"]
            cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = UNFOLD
        fold(cell)
    _findings_to_the_top(notebook, chapter)
    refer_on_page(number_page(notebook, chapter, numbers), chapter, numbers, whole)
    notebook.cells = _joined(notebook.cells)
    page = FirstUses(terms)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "markdown"):
        cell.source = page.link(cell.source)
    _head(notebook, chapter, twin, minutes, links)
    sha = hashlib.sha256(chapter.path.read_bytes()).hexdigest()[:12]
    notebook.cells.append(new_markdown_cell(_foot(f"This page: {_run(chapter)}; executed notebook `{sha}`.")))
    return notebook


def _is_plumbing(cell: nbformat.NotebookNode) -> bool:
    """Whether a reader would rather have a cell folded: it puts results on the page, is long, or only imports."""
    if cell.cell_type != "code" or set(cell.metadata.get("tags", [])) & {*FOLDED, "hide-input", "solution", "exercise"}:
        return False
    lines = [line for line in cell.source.splitlines() if line.strip()]
    imports = all(line.startswith(("import ", "from ")) for line in lines)
    return bool(_SHOWING.search(cell.source)) or len(lines) > SHORT or imports


def _joined(cells: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The cells with each folded program that puts out nothing joined to the folded one right behind it."""
    joined: list[nbformat.NotebookNode] = []
    for cell in cells:
        if joined and _is_folded(cell) and _is_folded(joined[-1]) and not joined[-1].outputs:
            cell.source = f"{joined.pop().source}\n\n{cell.source}"
        joined.append(cell)
    return joined


def _is_folded(cell: nbformat.NotebookNode) -> bool:
    return cell.metadata.get("mystnb", {}).get("code_prompt_show") == UNFOLD


def _head(notebook: nbformat.NotebookNode, chapter: Chapter, twin: Chapter | None, minutes: int, links: str) -> None:
    cell, title = title_cell(notebook, chapter.path)
    data = ", ".join(chapter.provenance.get("datasets", [])) or "none"
    profile = chapter.provenance.get("profile", "unknown")
    time = f"about {minutes} minutes to read, {duration(chapter.duration_s)} to run"
    if chapter.part == "instruments":
        title = f"{title} (phantom)"
        link = f" [The same chapter on real images](../study/{twin.name}.ipynb)." if twin else ""
        header = (
            ":::{admonition} Phantom, not patients\n:class: warning mpox-phantom\n"
            "Every picture on this page was drawn by a program, its truth planted. What is measured here "
            f"tests the instruments and says nothing about disease. Profile: {profile}; {time}.{link}{links and f' {links}'}\n:::"
        )
    else:
        link = f" · [the same chapter on the phantom](../instruments/{twin.name}.ipynb)" if twin else ""
        header = f":::{{div}} mpox-strip\nPart I, the study · data: {data} · profile: {profile} · {time}{link}\n:::"
    cell.source = TITLE.sub(lambda _: f"# {title}\n\n{header}\n", cell.source, count=1)


def page_foot(parts: Mapping[str, Mapping[str, Chapter]], quoted: Iterable[str]) -> str:
    """The foot of a prose page: the runs that it quotes.

    Parameters
    ----------
    parts : mapping of part to mapping of name to Chapter
    quoted : iterable of str
        The parts whose findings, figures or tables the page has.

    Returns
    -------
    str
        Markdown.
    """
    runs = []
    for part in sorted(set(quoted), key=list(PARTS).index):
        by_run = {chapter.path.parent: chapter for chapter in parts[part].values()}
        runs += [f"{PARTS[part]}, {_run(chapter)}" for chapter in by_run.values()]
    versions = {chapter.provenance.get("package_version") for chapters in parts.values() for chapter in chapters.values()}
    if runs:
        return _foot(f"This page quotes {'; and '.join(runs)}.")
    return _foot(f"This page quotes no run; it is of mpox {', '.join(sorted(filter(None, versions))) or 'of unknown version'}.")


def _run(chapter: Chapter) -> str:
    said = chapter.provenance
    facts = [
        f"run `{chapter.path.parent.name}`",
        f"data {', '.join(said.get('datasets', [])) or 'none'}",
        f"profile {said.get('profile', 'unknown')}",
        f"mpox {said.get('package_version', 'unknown')}",
        f"device {said.get('device', 'unknown')}",
        f"{said.get('date', 'date unknown')}",
    ]
    return "; ".join(facts)


def _foot(text: str) -> str:
    return f":::{{div}} mpox-foot\n{text}\n:::"


def _findings_to_the_top(notebook: nbformat.NotebookNode, chapter: Chapter) -> None:
    """What `mpox.book.report.key_findings` shows, filled in at the end of the notebook, becomes a box under the objectives."""
    title, _ = title_cell(notebook, chapter.path)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/markdown", ""))
            if not text.startswith(KEY_FINDINGS):
                continue
            if NOT_YET in text:
                raise MpoxError(f"{chapter.path} has not said its key findings: fill them in the notebook and run it again.")
            cell.outputs.remove(output)
            body = text.removeprefix(KEY_FINDINGS).strip()
            box = new_markdown_cell(f"::::{{admonition}} Key findings\n:class: tip mpox-findings\n\n{body}\n::::")
            notebook.cells.insert(notebook.cells.index(title) + 1, box)
            return
