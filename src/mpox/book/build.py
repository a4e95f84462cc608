"""The book: an edition for each run folder, staged from executed notebooks and prose; in its build every warning is an error.

Real images make the edition *study*, the phantom the edition *instruments*; both are the same sources. Nothing is executed here,
so that an edition shows just what was run. Numbers of figures and tables, links and the glossary are Sphinx's own.
"""

import base64
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from mpox._core import MpoxError, project_root
from mpox.book.chapters import Chapter, duration, read_chapters, title_cell
from mpox.book.report import KEY_FINDINGS, NOT_YET

DEFAULT_RUNS = ("_runs/recorded", "_runs/quick")
#: Edition to its table of contents, in the order in which a reader meets them.
CONTENTS = {"study": "_toc.yml", "instruments": "book/instruments_toc.yml"}
OTHER = {"study": "instruments", "instruments": "study"}
NOT_BUILT = "*(not in this edition)*"
PHANTOM = "<span class='mpox-phantom'>Phantom, not patients</span>: every image was drawn by a program, its truth planted."
#: The tag of the cell whose figure the cover shows.
COVER = "cover-figure"

_SUBSTITUTION = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")
_PAGE_LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.(?:ipynb|md)(?:#[^)]*)?\)")
_REFERENCE = re.compile(r"\[([^\[\]]*)\]\(#((?:fig|table)-[a-z0-9-]+)\)")
#: Words that say no more than the number does.
_SAYS_SO = re.compile(r"^((the|a|this|last|next|first|second|other|one) )*(figure|table)( of \w+)?$", re.I)
_TABLE = re.compile(r"^```\{table\}[^\n]*\n:name: (table-[\w-]+)$", re.M)
_NAMED = re.compile(r'\bname="([\w-]+)"')
_SORTABLE = re.compile(r'report\.sortable\([^\n]*?\bname="([\w-]+)"')
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FIGURE = re.compile(r'<figure\b[^>]*?(?: id="(?P<id>[^"]*)")?>(?P<body>.*?)</figure>', re.S)
_CAPTION = re.compile(r"<figcaption\b.*?</figcaption>", re.S)
#: What opens an entry of the contents; the theme gives it no name.
_TOGGLE = '<summary><span class="toctree-toggle"'

#: Tags of cells that are folded, to what unfolds them.
_FOLDED = {
    "parameters": "Parameters and their defaults",
    "injected-parameters": "Parameters that the profile set",
    "solution": "Show a solution",
}
_SHOWING = re.compile(r"\b(report|plt|plots|figures\w*)\.|_widget\(|_explorer\(")
#: Lines of code that a page shows without being asked.
SHORT = 8


@dataclass(frozen=True)
class Edition:
    """A run folder as a book.

    Parameters
    ----------
    name : {"study", "instruments"}
    chapters : dict of str to Chapter
    """

    name: str
    chapters: dict[str, Chapter]

    @property
    def findings(self) -> dict[str, str]:
        """All findings by key; one key with two texts is an error."""
        texts: dict[str, str] = {}
        for chapter in self.chapters.values():
            for key, text in chapter.findings.items():
                if texts.setdefault(key, text) != text:
                    raise MpoxError(f"The finding `{key}` is '{texts[key]}', and '{text}' in {chapter.path}: run both again.")
        return texts


def read_edition(folder: str | os.PathLike) -> Edition:
    """The edition of a finished run folder; `MpoxError` if it mixes real images and the phantom."""
    chapters = {chapter.name: chapter for chapter in read_chapters(folder)}
    phantom = {chapter.provenance["phantom"] for chapter in chapters.values()}
    if len(phantom) > 1:
        raise MpoxError(f"{folder} has chapters on real images and on the phantom: run each into a folder of its own.")
    return Edition("instruments" if phantom.pop() else "study", chapters)


def stage(edition: Edition, *, project: Path, source: Path, others: Sequence[str] = ()) -> list[str]:
    """Write the sources that Jupyter Book builds an edition from into an emptied folder."""
    shutil.rmtree(source, ignore_errors=True)
    toc = yaml.safe_load((project / CONTENTS[edition.name]).read_text(encoding="utf-8"))
    listed = [name for block in toc["parts"] for name in _files(block)]
    wanted = {Path(name).name for name in listed if name.startswith("notebooks/")}
    if unlisted := sorted(set(edition.chapters) - wanted):
        raise MpoxError(f"{CONTENTS[edition.name]} does not list {', '.join(unlisted)}; add the chapter there.")
    absent = sorted(wanted - set(edition.chapters))
    toc["parts"] = [block for block in (_without(block, absent) for block in toc["parts"]) if block["chapters"]]
    # a part of the chapters, or other data sets than the prose speaks of, cannot have every finding and figure
    known = {name for chapter in edition.chapters.values() for name in chapter.provenance["datasets"]}
    whole = not absent and (edition.name == "instruments" or {"msld-v1", "msid"} <= known)

    notebooks = {name: _read(chapter) for name, chapter in edition.chapters.items()}
    there = {key for notebook in notebooks.values() for key in _labels(notebook)}
    cells = [cell for notebook in notebooks.values() for cell in notebook.cells]
    anchored = frozenset(f"table-{name}" for cell in cells for name in _sortable(cell))
    named = frozenset(f"table-{name}" for cell in cells for name in _NAMED.findall(cell.source))
    figures = frozenset(cell.metadata.get("mystnb", {}).get("figure", {}).get("label", "") for cell in cells)
    refer = Reference(there, whole, named | figures, anchored)
    pages = {toc["root"], *(name for block in toc["parts"] for name in _files(block))}
    contents = [yaml.safe_load((project / name).read_text(encoding="utf-8")) for name in CONTENTS.values()]
    every = {name for one in contents for name in (one["root"], *(name for block in one["parts"] for name in _files(block)))}
    elsewhere = every - pages
    for name, notebook in notebooks.items():

        def linked(text: str, where: str = name) -> str:
            return _linked(refer(text, where), "notebooks", elsewhere)

        _as_page(notebook, edition.chapters[name], linked)
        (source / "notebooks").mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, source / "notebooks" / f"{name}.ipynb")

    texts = edition.findings
    for name in sorted(name for name in pages if name.startswith("book/")):
        page = source / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        text = (project / f"{name}.md").read_text(encoding="utf-8")
        text = _filled(text, edition, page, project=project, others=others)
        missing = [key for key in dict.fromkeys(_SUBSTITUTION.findall(text)) if key not in texts]
        if missing and whole:
            raise MpoxError(
                f"{name}.md quotes {', '.join(missing)}, which no chapter has computed: glue it with "
                "`mpox.book.report.finding` and run the notebooks again, or mend the page."
            )
        texts |= dict.fromkeys(missing, NOT_BUILT)
        page.write_text(_linked(refer(text, f"{name}.md"), posixpath.dirname(name), elsewhere), encoding="utf-8")

    config = yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))
    config["parse"]["myst_substitutions"] = texts
    config["html"]["extra_footer"] += f" {_about(edition)}"
    config["html"]["announcement"] = PHANTOM if edition.name == "instruments" else ""
    for extra in ("book/_static_mpox", "book/references.bib"):
        copy = shutil.copytree if (project / extra).is_dir() else shutil.copy
        (source / "book").mkdir(parents=True, exist_ok=True)
        copy(project / extra, source / extra)
    for file, values in (("_config.yml", config), ("_toc.yml", toc)):
        (source / file).write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return [f"{name} is left out: the run does not have it." for name in absent]


def _files(block: dict[str, Any]) -> Iterator[str]:
    for entry in block["chapters"]:
        yield entry["file"]
        yield from (section["file"] for section in entry.get("sections", ()))


def _without(block: dict[str, Any], absent: Sequence[str]) -> dict[str, Any]:
    """A block of the contents without absent chapters; the sections of an absent chapter take its place."""
    gone = {f"notebooks/{name}" for name in absent}
    kept: list[dict[str, Any]] = []
    for entry in block["chapters"]:
        sections = [section for section in entry.get("sections", ()) if section["file"] not in gone]
        rest = {key: value for key, value in entry.items() if key != "sections"}
        kept += sections if entry["file"] in gone else [rest | ({"sections": sections} if sections else {})]
    return block | {"chapters": kept}


def _about(edition: Edition) -> str:
    """Which run an edition shows, for the foot of every page."""
    chapters = list(edition.chapters.values())
    said = chapters[0].provenance
    facts = [
        f"run {chapters[0].path.parent.name}",
        f"profile {said.get('profile', 'unknown')}",
        f"mpox {said.get('package_version', 'unknown')}",
        f"device {said.get('device', 'unknown')}",
        str(said.get("date", "date unknown")),
    ]
    return f"Edition: {edition.name}; {'; '.join(facts)}."


# ---------------------------------------------------------------------------------------- references and links
@dataclass(frozen=True)
class Reference:
    """Puts Sphinx's numbers into references to figures and tables, ``[the curves](#fig-curves)``; JupyterLab shows the words.

    Where the words say no more than "the figure", and inside parentheses, the number takes their place; else it follows them:
    "the curves (Figure 3.4)". What this edition has no image for is left as its words.

    Parameters
    ----------
    there : set of str
        Labels that this edition has.
    named : set of str
        Labels that the chapters' sources give, shown in this edition or not.
    anchored : set of str
        Labels of tables that sort themselves, which Sphinx cannot number: the reference stays a link.
    whole : bool
        Whether a label that no source has is an error.
    """

    there: set[str]
    whole: bool
    named: frozenset[str] = frozenset()
    anchored: frozenset[str] = frozenset()

    def __call__(self, text: str, where: str) -> str:
        def replaced(found: re.Match) -> str:
            words, label = found.groups()
            if label in self.anchored:
                return found[0]
            if label not in self.there:
                if self.whole and label not in self.named:
                    raise MpoxError(f"{where} refers to '{label}', which no chapter names: name it there, or mend the reference.")
                return words
            number = f"{{numref}}`{label}`"
            paragraph = text[: found.start()].rpartition("\n\n")[2]
            alone = _SAYS_SO.search(words) or paragraph.count("(") > paragraph.count(")")
            return number if alone else f"{words} ({number})"

        return _REFERENCE.sub(replaced, text)


def _linked(text: str, folder: str, absent: set[str]) -> str:
    """The text of a page in `folder`; links to pages of the book that are not in this edition are words."""

    def kept(link: re.Match) -> str:
        return link[1] if posixpath.normpath(posixpath.join(folder, link[2])) in absent else link[0]

    return _PAGE_LINK.sub(kept, text)


# ------------------------------------------------------------------------------------------------- chapters
def _read(chapter: Chapter) -> NotebookNode:
    """An executed notebook with labels on its figures and tables, each label once."""
    notebook = nbformat.read(chapter.path, as_version=4)
    seen: set[str] = set()
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if name := figure.pop("name", ""):
            figure["label"] = f"fig-{name}"
            shown = [output.data for output in cell.get("outputs", []) if "data" in output and "scrapbook" not in output.metadata]
            if len(shown) == 1 and "image/png" in shown[0]:  # of several outputs each would get the label
                figure["name"] = f"fig-{name}"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            table = _TABLE.search("".join(data.get("text/markdown", "")))
            if table:
                data.pop("text/html", None)
                if table[1] in seen:  # tables of one cell that are shown in a loop
                    data["text/markdown"] = "".join(data["text/markdown"]).replace(f":name: {table[1]}\n", "")
                seen.add(table[1])
    return notebook


def _sortable(cell: NotebookNode) -> list[str]:
    """Names of the tables that sort themselves, of a cell."""
    return _SORTABLE.findall(cell.source) if cell.cell_type == "code" else []


def _labels(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
            yield name
        for output in cell.get("outputs", []):
            if table := _TABLE.search("".join(output.get("data", {}).get("text/markdown", ""))):
                yield table[1]


def _as_page(notebook: NotebookNode, chapter: Chapter, refer: Callable[[str], str]) -> None:
    """Make a page of a notebook: findings to the top, references resolved, plumbing folded; changed in place."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        tags = cell.metadata.get("tags", [])
        fold = next((_FOLDED[tag] for tag in tags if tag in _FOLDED), "Show the code" if _is_plumbing(cell) else "")
        if fold and cell.cell_type == "code":
            cell.metadata["tags"] = [*tags, "hide-cell" if "solution" in tags else "hide-input"]
            cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = fold
        if "solution" in tags and cell.cell_type == "markdown":
            cell.source = f"::::{{dropdown}} {fold}\n{cell.source}\n::::"
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        figure.pop("label", "")
        if "caption" in figure:
            figure["caption"] = refer(figure["caption"])
        if cell.cell_type == "markdown":
            cell.source = refer(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = refer("".join(output["data"]["text/markdown"]))
    _findings_to_the_top(notebook, chapter)
    for cell in [cell for cell in notebook.cells if _sortable(cell)]:
        targets = "\n".join(f"(table-{name})=" for name in _sortable(cell))
        notebook.cells.insert(notebook.cells.index(cell), new_markdown_cell(targets))
    joined: list[NotebookNode] = []
    for cell in notebook.cells:  # folded code that puts out nothing is one with the next
        if joined and _is_folded(cell) and _is_folded(joined[-1]) and not joined[-1].outputs:
            cell.source = f"{joined.pop().source}\n\n{cell.source}"
        joined.append(cell)
    notebook.cells = joined


def _is_folded(cell: NotebookNode) -> bool:
    return cell.metadata.get("mystnb", {}).get("code_prompt_show") == "Show the code"


def _is_plumbing(cell: NotebookNode) -> bool:
    """Whether a reader would rather have a cell folded: it puts results on the page, is long, or only imports."""
    if cell.cell_type != "code" or "hide-input" in cell.metadata.get("tags", []):
        return False
    lines = [line for line in cell.source.splitlines() if line.strip()]
    imports = all(line.startswith(("import ", "from ")) for line in lines)
    return bool(_SHOWING.search(cell.source)) or len(lines) > SHORT or imports


def _findings_to_the_top(notebook: NotebookNode, chapter: Chapter) -> None:
    """What `mpox.book.report.key_findings` shows, filled in at the notebook's end, becomes a box under the title."""
    title, _ = title_cell(notebook, chapter.path)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/markdown", ""))
            if not text.startswith(KEY_FINDINGS):
                continue
            if NOT_YET in text:
                raise MpoxError(f"{chapter.path} has not said its key findings: fill them in the notebook and run it again.")
            cell.outputs.remove(output)
            heading, _, rest = title.source.partition("\n")
            box = f"::::{{admonition}} Key findings\n:class: tip mpox-findings\n\n{text.removeprefix(KEY_FINDINGS).strip()}\n::::"
            place = notebook.cells.index(title)
            notebook.cells[place : place + 1] = [new_markdown_cell(part) for part in (heading, box, rest) if part.strip()]
            return


# ---------------------------------------------------------------------------------------------------- pages
def _filled(text: str, edition: Edition, page: Path, *, project: Path, others: Sequence[str]) -> str:
    """A page with what is computed in the place of its marks."""
    other = OTHER[edition.name]
    marks = {
        "cover figure": lambda: _cover(page.with_name("cover.png"), edition.chapters),
        "citation": lambda: citation(project / "CITATION.cff"),
        "provenance tables": lambda: provenance_table(list(edition.chapters.values())),
        "other edition": lambda: (
            f'<a href="../../{other}/index.html">the edition *{other}*</a>' if other in others else f"the edition *{other}*"
        ),
    }
    for mark, fill in marks.items():
        if f"<!-- {mark} -->" in text:
            text = text.replace(f"<!-- {mark} -->", fill())
    return text


def _cover(target: Path, chapters: dict[str, Chapter]) -> str:
    """The figure of the cell that is tagged `COVER`, with its own alt text and caption; the image is written beside the page."""
    for chapter in chapters.values():
        for cell in nbformat.read(chapter.path, as_version=4).cells:
            images = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
            if COVER not in cell.metadata.get("tags", []) or not images:
                continue
            about = cell.metadata["mystnb"]
            target.write_bytes(base64.b64decode(images[0]))
            caption = f"{about['figure']['caption']} In its chapter it is [the last figure](#fig-{about['figure']['name']})."
            return f":::{{figure}} {target.name}\n:alt: {about['image']['alt']}\n\n{caption}\n:::"
    return NOT_BUILT


def citation(path: Path) -> str:
    """How to cite, as a line of Markdown, from a ``CITATION.cff``."""
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
        authors = ", ".join(one.get("name") or f"{one['family-names']}, {one['given-names']}" for one in about["authors"])
        return f"{authors}: *{about['title']}*. Version {about['version']}."
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise MpoxError(f"{path} does not say who wrote what, in which version: mend it.") from error


def provenance_table(chapters: Sequence[Chapter]) -> str:
    """Where each chapter's numbers come from, as Markdown: a row a chapter, the versions, and the ids of the runs in a fold."""
    lines = ["| Chapter | Data | Runs | Computing them took | This page took |", "| --- | --- | --- | --- | --- |"]
    versions: dict[str, set[str]] = {}
    for chapter in chapters:
        said = chapter.provenance
        took = [duration(seconds).replace(" ", "\N{NO-BREAK SPACE}") for seconds in (said["runs_s"], chapter.duration_s)]
        link = f"[{chapter.title}](../notebooks/{chapter.name}.ipynb)"
        lines.append(f"| {link} | {', '.join(said['datasets'])} | {len(said['run_ids'])} | {took[0]} | {took[1]} |")
        for library, version in said["versions"].items():
            versions.setdefault(library, set()).add(str(version))
    named = ", ".join(f"{library} {' / '.join(sorted(found))}" for library, found in sorted(versions.items()))
    blocks = [
        "\n".join(lines),
        "Runs that exist are read and not computed again, and chapters share runs.",
        f"Libraries: {named}.",
    ]
    if recorded := next((chapter.provenance["recorded"] for chapter in chapters if "recorded" in chapter.provenance), None):
        blocks.append(
            f"The runs were recorded on {recorded['finished'][:10]}: profile {recorded['profile']}, {recorded['device']}, "
            f"torch {recorded['versions'].get('torch')}; computing all of them took {duration(recorded['compute_s'])}."
        )
    ids = [f"**{one.title}**: {' '.join(f'`{name}`' for name in one.provenance['run_ids'])}" for one in chapters]
    return "\n\n".join([*blocks, "::::{dropdown} The ids of the runs\n" + "\n\n".join(ids) + "\n::::"])


# ---------------------------------------------------------------------------------------------------- build
def build_book(
    run_folders: Sequence[str | os.PathLike] = (),
    *,
    out: str | os.PathLike | None = None,
    project: Path | None = None,
    echo: Callable[[str], Any] = print,
) -> Path:
    """Build an edition for each run folder; a failed build leaves the last good book as it was.

    Parameters
    ----------
    run_folders : sequence of path
        Finished run folders, at most one on real images and one on the phantom; none means `DEFAULT_RUNS`.
    out : path, optional
        The folder to put the book into, default ``_site`` in the project.
    project : Path, optional
    echo : callable
        Takes each line of progress.

    Returns
    -------
    Path
        The ``index.html`` to open; ``study/`` and ``instruments/`` beside it are the editions.

    Raises
    ------
    MpoxError
        When a run is unfinished, a page quotes a missing finding, or a build has a single warning.
    """
    if find_spec("jupyter_book") is None:
        raise MpoxError("Jupyter Book is not installed; install it with `pip install -e .[book]`.")
    project = Path(project or project_root())
    out = Path(out or project / "_site").resolve()
    if out.exists() and any(out.iterdir()) and not (out / "index.html").is_file():
        raise MpoxError(f"{out} holds something that is not a book; name an empty folder with `--out`.")
    read = [read_edition(folder) for folder in run_folders or [project / folder for folder in DEFAULT_RUNS]]
    editions = {edition.name: edition for edition in read}
    if len(editions) < len(read):
        raise MpoxError(f"Two of the run folders are of the edition {read[0].name}: name one of them.")
    fresh, old = (out.with_name(f".{out.name}.{age}") for age in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name, edition in editions.items():
            source = project / "_book_src" / name
            for note in stage(edition, project=project, source=source, others=sorted(editions)):
                echo(f"Note: {note}")
            log = source / "build.log"
            echo(f"Building the edition {name}, {len(edition.chapters)} chapters (log: {log})")
            problems = _jupyter_book(source, log)
            html = source / "_build" / "html"
            if not problems:
                mend(html)
                problems = external_requests(html)
            if problems:
                for line in problems:
                    echo(line)
                raise MpoxError(f"The book was not built: mend the {len(problems)} problem(s) above; the log is {log}.")
            fresh.mkdir(exist_ok=True)
            html.rename(fresh / name)
        first = next(name for name in CONTENTS if name in editions)
        page = (
            f'<!doctype html><html lang="en"><title>mpox</title><meta http-equiv="refresh" content="0; url={first}/index.html">'
        )
        (fresh / "index.html").write_text(f'{page}<a href="{first}/index.html">The book</a></html>\n', encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    echo(f"Open {(out / 'index.html').as_uri()}")
    return out / "index.html"


def _jupyter_book(source: Path, log: Path) -> list[str]:
    """Run Jupyter Book; return its warnings and errors, or the end of its log when it failed without any."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["--warningiserror", "--nitpick", "--keep-going"]
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=source.parent).returncode
    text = _ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
    log.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    problems = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b:", line)]
    return problems or (lines[-20:] if code else [])


def mend(html: Path) -> None:
    """Three faults of the built pages that no option mends."""
    for page in (page for page in sorted(html.rglob("*.html")) if "_static" not in page.parts):
        text = _FIGURE.sub(_captioned, page.read_text(encoding="utf-8"))
        text = text.replace(_TOGGLE, _TOGGLE.replace("<summary>", '<summary aria-label="pages of this entry">'))
        page.write_text(text.replace('role="doc-biblioentry"', 'role="listitem"'), encoding="utf-8")


def _captioned(found: re.Match) -> str:
    if re.search(r"<(img|svg|canvas|table|video)\b", found["body"]):
        return found[0]
    return f'<span id="{found["id"] or ""}"></span>{_CAPTION.sub("", found["body"])}'


class _Requests(HTMLParser):
    """Collects the addresses that a browser would fetch from elsewhere by merely opening the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        fetched = [values.get("src", ""), values.get("poster", ""), values.get("srcset", "")]
        if tag == "link" and values.get("rel") not in {"canonical", "next", "prev", "author"}:
            fetched.append(values.get("href", ""))
        if tag == "object":
            fetched.append(values.get("data", ""))
        self.found += [address for address in fetched if re.match(r"(https?:)?//", address)]


def external_requests(html: Path) -> list[str]:
    """One line for each thing that opening the built pages would fetch from the network."""
    lines = []
    for page in sorted(html.rglob("*.html")):
        parser = _Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        lines += [f"{page.relative_to(html)}: fetches {address}" for address in parser.found]
    for style in sorted(html.rglob("*.css")):
        found = re.findall(r"(?:@import\s+|url\()['\"]?((?:https?:)?//[^'\")\s]+)", style.read_text(encoding="utf-8"))
        lines += [f"{style.relative_to(html)}: fetches {address}" for address in found]
    return lines
