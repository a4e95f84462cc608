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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from mpox._core import MpoxError, locked, project_root, replacing_folder
from mpox.book.chapters import Chapter, read_chapters
from mpox.book.page_model import FOLDER, PAGE, POLICY, page_html, write_scripts
from mpox.book.wording import duration
from mpox.studies.page_model import read_page_models

DEFAULT_RUNS = ("_runs/recorded", "_runs/quick")
#: Edition to its table of contents, in the order in which a reader meets them.
CONTENTS = {"study": "_toc.yml", "instruments": "book/instruments_toc.yml"}
OTHER = {"study": "instruments", "instruments": "study"}
NOT_BUILT = "*(not in this edition)*"
PHANTOM = "<span class='mpox-phantom'>Phantom, not patients</span>: every image was drawn by a program, its truth planted."
#: The tag of the cell whose figure the cover shows.
COVER = "cover-figure"

#: The tag of the cells that hold the prose against the numbers; a page shows them only where they have something to say.
GUARD = "guard"
#: The tag of a cell that a page shows unfolded, whatever it does.
TEACHES = "show"

_PAGE_LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.(?:ipynb|md)(?:#[^)]*)?\)")
_REFERENCE = re.compile(r"\[([^\[\]]*)\]\(#((?:fig|table)-[a-z0-9-]+)\)")
#: Words that say no more than the number does.
_SAYS_SO = re.compile(r"^((the|a|this|last|next|first|second|other|one) )*(figure|table)( of \w+)?$", re.I)
_TABLE = re.compile(r"^```\{table\}[^\n]*\n:name: (table-[\w-]+)$", re.M)
_EXERCISES = re.compile(r"`notebooks/(exercises/\w+\.ipynb)`")
_SORTABLE = re.compile(r'report\.sortable\([^\n]*?\bname="([\w-]+)"')

#: Tags of cells that are folded, to what unfolds them.
_FOLDED = {
    "parameters": "Parameters and their defaults",
    "injected-parameters": "Parameters that the profile set",
    "solution": "Show a solution",
}
_SHOW_CODE = "Show the code"
_SHOWING = re.compile(r"\b(report|plt|plots|figures\w*)\.|_widget\(|_explorer\(")
#: Figures that hold images of a data set; all others are drawn, and turn dark with the page.
_SHOWS_IMAGES = re.compile(r"\b(sheet|imshow)\(")
DRAWN = "mpox-drawn"
#: Lines of code that a page shows without being asked.
SHORT = 8


@dataclass(frozen=True)
class Edition:
    """A run folder as a book: ``study`` or ``instruments``, its chapters, and all their findings by key."""

    name: str
    chapters: dict[str, Chapter]
    findings: dict[str, str]


def read_edition(folder: str | os.PathLike) -> Edition:
    """The edition of a finished run folder; `MpoxError` if it mixes real images and the phantom, or a finding has two texts."""
    chapters = {chapter.name: chapter for chapter in read_chapters(folder)}
    phantom = {chapter.provenance["phantom"] for chapter in chapters.values()}
    if len(phantom) > 1:
        raise MpoxError(f"{folder} has chapters on real images and on the phantom: run each into a folder of its own.")
    texts: dict[str, str] = {}
    for chapter in chapters.values():
        for key, text in chapter.findings.items():
            if texts.setdefault(key, text) != text:
                raise MpoxError(f"The finding `{key}` is '{texts[key]}', and '{text}' in {chapter.path}: run both again.")
    return Edition("instruments" if phantom.pop() else "study", chapters, texts)


def stage(edition: Edition, *, project: Path, source: Path, others: Sequence[str] = ()) -> list[str]:
    """Write the sources that Jupyter Book builds an edition from into an emptied folder; gives what is left out."""
    shutil.rmtree(source, ignore_errors=True)
    contents = {name: yaml.safe_load((project / file).read_text(encoding="utf-8")) for name, file in CONTENTS.items()}
    every = set().union(*map(_pages, contents.values()))
    toc = contents[edition.name]
    wanted = {Path(name).name for name in _pages(toc) if name.startswith("notebooks/")}
    if unlisted := sorted(set(edition.chapters) - wanted):
        raise MpoxError(f"{CONTENTS[edition.name]} does not list {', '.join(unlisted)}; add the chapter there.")
    absent = sorted(wanted - set(edition.chapters))
    # a part of the chapters, or other data sets than the prose speaks of, cannot have every finding and figure
    known = {name for chapter in edition.chapters.values() for name in chapter.provenance["datasets"]}
    whole = not absent and (edition.name == "instruments" or {"msld-v1", "msid"} <= known)
    left_out = [*absent, *([] if whole else [Path(PAGE).name])]
    parts = [block | {"chapters": _without(block["chapters"], left_out)} for block in toc["parts"]]
    toc["parts"] = [block for block in parts if block["chapters"]]
    pages = _pages(toc)

    notebooks = {name: nbformat.read(chapter.path, as_version=4) for name, chapter in edition.chapters.items()}
    cells = [cell for notebook in notebooks.values() for cell in notebook.cells]
    named = {f"table-{name}" for cell in cells for name in re.findall(r'\bname="([\w-]+)"', cell.source)}
    named |= {f"fig-{cell.metadata.get('mystnb', {}).get('figure', {}).get('name', '')}" for cell in cells}
    anchored = {f"table-{name}" for cell in cells for name in _sortable(cell)}
    there = set().union(*map(_label, notebooks.values()))
    links = Links(there, whole, named, anchored, every - pages)
    for folder in ("book", "notebooks"):
        (source / folder).mkdir(parents=True)
    texts = dict(edition.findings)

    def quoted(name: str, text: str) -> None:
        missing = [key for key in dict.fromkeys(re.findall(r"\{\{-?\s*([A-Za-z_]\w*)", text)) if key not in texts]
        if missing and whole:
            raise MpoxError(
                f"{name} quotes {', '.join(missing)}, which no chapter has computed: glue it with "
                "`mpox.book.report.finding` and run the notebooks again, or mend the page."
            )
        texts.update(dict.fromkeys(missing, NOT_BUILT))

    for name, notebook in notebooks.items():
        _of_edition(notebook, edition.name if whole else "")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                quoted(f"notebooks/{name}.py", cell.source)
        _as_page(notebook, edition.chapters[name], links)
        nbformat.write(notebook, source / "notebooks" / f"{name}.ipynb")

    for name in sorted(name for name in pages if name.startswith("book/")):
        page = source / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        text = (project / f"{name}.md").read_text(encoding="utf-8")
        text = _filled(text, edition, notebooks, page, project=project, others=others)
        quoted(f"{name}.md", text)
        page.write_text(links(text, name), encoding="utf-8")

    config = yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))
    config["parse"]["myst_substitutions"] = texts
    first = next(iter(edition.chapters.values()))
    profile, mpox, device, day = (first.provenance.get(key, "?") for key in ("profile", "package_version", "device", "date"))
    run = f"run {first.path.parent.name}; profile {profile}; mpox {mpox}; device {device}; {day}"
    config["html"]["extra_footer"] += f" Edition: {edition.name}; {run}."
    config["html"]["announcement"] = PHANTOM if edition.name == "instruments" else ""
    if PAGE in pages:
        config["sphinx"]["config"]["html_static_path"].append("book/_static_page")
    if not config.get("repository", {}).get("url"):
        config.pop("launch_buttons", None)
    shutil.copytree(project / "book/_static_mpox", source / "book/_static_mpox")
    if (course := project / "notebooks/exercises").is_dir():
        shutil.copytree(course, source / "notebooks/exercises")
    for file in ("references.bib", "search_scorer.js"):
        shutil.copy(project / "book" / file, source / "book")
    for file, values in (("_config.yml", config), ("_toc.yml", toc)):
        (source / file).write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    other = [] if whole or absent else ["sentences on MSLD and MSID are left out: the run has other data sets."]
    return [*(f"{name} is left out: the run does not have it." for name in absent), *other]


def _pages(toc: dict[str, Any]) -> set[str]:
    entries = [entry for block in toc["parts"] for entry in block["chapters"]]
    return {toc["root"], *(one["file"] for entry in entries for one in (entry, *entry.get("sections", ())))}


def _without(entries: list[dict[str, Any]], absent: Sequence[str]) -> list[dict[str, Any]]:
    """Entries of the contents without absent chapters; the sections of an absent chapter take its place."""
    kept: list[dict[str, Any]] = []
    for entry in entries:
        sections = _without(entry.get("sections", []), absent)
        there = Path(entry["file"]).name not in absent
        kept += [{"file": entry["file"], **({"sections": sections} if sections else {})}] if there else sections
    return kept


# ---------------------------------------------------------------------------------------- references and links
@dataclass(frozen=True)
class Links:
    """Puts Sphinx's numbers into references to figures and tables, ``[the curves](#fig-curves)``; JupyterLab shows the words.

    Where the words say no more than "the figure", and inside parentheses, the number takes their place; else it follows them:
    "the curves (Figure 3.4)". What this edition has no image or page for is left as its words.

    Parameters
    ----------
    there : set of str
        Labels that this edition has.
    whole : bool
        Whether a label that is not `named` in the chapters' sources, shown in this edition or not, is an error.
    anchored : set of str
        Labels of tables that sort themselves, which Sphinx cannot number: the reference stays a link.
    elsewhere : set of str
        Pages of the book that are not in this edition.
    """

    there: set[str]
    whole: bool
    named: set[str]
    anchored: set[str]
    elsewhere: set[str]

    def __call__(self, text: str, page: str) -> str:
        def numbered(found: re.Match) -> str:
            words, label = found.groups()
            if label in self.anchored:
                return found[0]
            if label not in self.there:
                if self.whole and label not in self.named:
                    raise MpoxError(f"{page} refers to '{label}', which no chapter names: name it there, or mend the reference.")
                return words
            number = f"{{numref}}`{label}`"
            paragraph = text[: found.start()].rpartition("\n\n")[2]
            alone = _SAYS_SO.search(words) or paragraph.count("(") > paragraph.count(")")
            return number if alone else f"{words} ({number})"

        def kept(link: re.Match) -> str:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[2]))
            return link[1] if target in self.elsewhere else link[0]

        return _PAGE_LINK.sub(kept, _REFERENCE.sub(numbered, text))


# ------------------------------------------------------------------------------------------------- chapters
def _label(notebook: NotebookNode) -> set[str]:
    """Give the figures and tables of an executed notebook their labels, each once, and return these."""
    labels: set[str] = set()
    for cell in notebook.cells:
        shown = [output.data for output in _shown(cell) if "data" in output]
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        name = figure.pop("name", "")
        if name and len(shown) == 1 and "image/png" in shown[0]:  # of several outputs each would get the label
            figure["name"] = f"fig-{name}"
            labels.add(figure["name"])
        for data in shown:
            text = "".join(data.get("text/markdown", ""))
            if table := _TABLE.search(text):
                data.pop("text/html", None)
                if table[1] in labels:  # tables of one cell that are shown in a loop
                    data["text/markdown"] = text.replace(f":name: {table[1]}\n", "")
                labels.add(table[1])
    return labels


def _sortable(cell: NotebookNode) -> list[str]:
    """Names of the tables that sort themselves, of a cell."""
    return _SORTABLE.findall(cell.source) if cell.cell_type == "code" else []


def _as_page(notebook: NotebookNode, chapter: Chapter, links: Links) -> None:
    """Make a page of a notebook: references resolved, plumbing folded, and all code before the first figure; changed in place."""
    page = f"notebooks/{chapter.name}"
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    cells: list[NotebookNode] = []
    first = next((place for place, cell in enumerate(notebook.cells) if "figure" in cell.metadata.get("mystnb", {})), 0)
    for place, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        tags = cell.metadata.get("tags", [])
        hidden = cell.cell_type == "code" and (place < first or "hide-input" in tags or _is_plumbing(cell))
        fold = next((_FOLDED[tag] for tag in tags if tag in _FOLDED), _SHOW_CODE if hidden else "")
        if cell.cell_type == "markdown":
            cell.source = _EXERCISES.sub(r"{download}`notebooks/\1 <\1>`", links(cell.source, page))
            if "solution" in tags:
                cell.source = f"::::{{dropdown}} {fold}\n{cell.source}\n::::"
        elif fold:
            cell.metadata["tags"] = [*tags, "hide-cell" if "solution" in tags else "hide-input"]
            cell.source = f"# {fold}\n{cell.source}" if fold.startswith("Parameters") else cell.source
            cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = fold
            if cells and _is_set_up(cell) and _is_set_up(cells[-1]) and not _shown(cells[-1]) and not _sortable(cell):
                before = cells.pop()  # folded code that shows nothing is one with the next: one fold above the first figure
                cell.source, cell.outputs = f"{before.source}\n\n{cell.source}", before.outputs + cell.outputs
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure and not _SHOWS_IMAGES.search(cell.source):
            cell.metadata["mystnb"].setdefault("image", {})["classes"] = DRAWN
        if "caption" in figure:
            figure["caption"] = links(figure["caption"], page)
        for data in (output.data for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})):
            data["text/markdown"] = links("".join(data["text/markdown"]), page)
        cells += [*(new_markdown_cell(f"(table-{name})=") for name in _sortable(cell)), cell]
    notebook.cells = cells


def _of_edition(notebook: NotebookNode, name: str) -> None:
    """Leave out the cells of other editions, and what only guards the prose."""
    apart = {GUARD, *CONTENTS} - {name}
    notebook.cells = [cell for cell in notebook.cells if cell.get("outputs") or not apart & set(cell.metadata.get("tags", []))]


def _is_set_up(cell: NotebookNode) -> bool:
    """Whether a cell is folded, and is no solution."""
    prompt = cell.metadata.get("mystnb", {}).get("code_prompt_show", "")
    return bool(prompt) and prompt != _FOLDED["solution"]


def _shown(cell: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that a page shows: all but findings, which are kept for other pages."""
    return [output for output in cell.get("outputs", []) if "scrapbook" not in output.get("metadata", {})]


def _is_plumbing(cell: NotebookNode) -> bool:
    """Whether a reader would rather have a cell folded: it puts results on the page, is long, or only imports."""
    if cell.cell_type != "code" or {"hide-input", TEACHES} & set(cell.metadata.get("tags", [])):
        return False
    lines = [line for line in cell.source.splitlines() if line.strip()]
    imports = all(line.startswith(("import ", "from ")) for line in lines)
    return bool(_SHOWING.search(cell.source)) or len(lines) > SHORT or imports


# ---------------------------------------------------------------------------------------------------- pages
def _filled(
    text: str, edition: Edition, notebooks: dict[str, NotebookNode], page: Path, *, project: Path, others: Sequence[str]
) -> str:
    """A page with what is computed in the place of its marks."""
    other = OTHER[edition.name]
    link = f'<a href="../../{other}/index.html">the edition *{other}*</a>' if other in others else f"the edition *{other}*"
    marks: dict[str, Callable[[], str]] = {
        "cover figure": lambda: _cover(page.with_name("cover.png"), notebooks),
        "citation": lambda: citation(project / "CITATION.cff"),
        "provenance tables": lambda: provenance_table(list(edition.chapters.values())),
        "other edition": lambda: link,
        "page model": lambda: _page_model(page.parent / "_static_page" / FOLDER, edition, project),
    }
    return re.sub(rf"<!-- ({'|'.join(marks)}) -->", lambda mark: marks[mark[1]](), text)


def _cover(target: Path, notebooks: dict[str, NotebookNode]) -> str:
    """The figure of the cell that is tagged `COVER`, with its own alt text and caption; the image is written beside the page."""
    for cell in (cell for notebook in notebooks.values() for cell in notebook.cells if COVER in cell.metadata.get("tags", [])):
        images = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        if images:
            about = cell.metadata["mystnb"]
            target.write_bytes(base64.b64decode(images[0]))
            name, caption = about["figure"].get("name"), about["figure"]["caption"]
            where = f" ([In its chapter](#{name}).)" if name else ""
            return f":::{{figure}} {target.name}\n:alt: {about['image']['alt']}\n:class: {DRAWN}\n\n{caption}{where}\n:::"
    return NOT_BUILT


def _page_model(target: Path, edition: Edition, project: Path) -> str:
    models = read_page_models(project / "results")
    made = write_scripts(project / "book" / FOLDER, models, target)
    return f"````{{raw}} html\n{page_html(models, *made, edition.findings)}\n````"


def citation(path: Path) -> str:
    """How to cite, as a line of Markdown, from a ``CITATION.cff``."""
    about = yaml.safe_load(path.read_text(encoding="utf-8"))
    authors = ", ".join(one.get("name") or f"{one['family-names']}, {one['given-names']}" for one in about["authors"])
    return f"{authors}: *{about['title']}*. Version {about['version']}."


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
    echo: Callable[[str], Any] = print,
) -> Path:
    """Build an edition for each run folder; a failed build leaves the last good book as it was.

    Parameters
    ----------
    run_folders : sequence of path
        Finished run folders, at most one on real images and one on the phantom; none means `DEFAULT_RUNS`.
    out : path, optional
        The folder to put the book into, default ``_site`` in the project.
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
    project = project_root()
    out = Path(out or project / "_site").resolve()
    if out.exists() and any(out.iterdir()) and not (out / "index.html").is_file():
        raise MpoxError(f"{out} holds something that is not a book; name an empty folder with `--out`.")
    read = [read_edition(folder) for folder in run_folders or [project / folder for folder in DEFAULT_RUNS]]
    editions = {edition.name: edition for edition in read}
    if len(editions) < len(read):
        twice = max(editions, key=[edition.name for edition in read].count)
        raise MpoxError(f"Two of the run folders are of the edition {twice}: build a book of each, with an --out of its own.")
    busy = f"Another 'mpox book' is building in {project / '_book_src'}: wait for it."
    with locked(project / "_book_src" / ".lock", otherwise=busy), replacing_folder(out) as fresh:
        sources = {name: project / "_book_src" / name for name in editions}
        for name, edition in editions.items():
            for note in stage(edition, project=project, source=sources[name], others=sorted(editions)):
                echo(f"Note: {note}")
            echo(f"Building the edition {name}, {len(edition.chapters)} chapters (log: {sources[name] / 'build.log'})")
        with ThreadPoolExecutor() as pool:  # each build is a process of its own
            found = dict(zip(sources, pool.map(_jupyter_book, sources.values()), strict=True))
        for name, problems in found.items():
            html = sources[name] / "_build" / "html"
            if not problems:
                mend(html)
                problems = external_requests(html)
            for line in problems:
                echo(line)
            if problems:
                log = sources[name] / "build.log"
                raise MpoxError(f"The book was not built: mend the {len(problems)} problem(s) above; the log is {log}.")
            shutil.move(html, fresh / name)
        first = f"{next(name for name in CONTENTS if name in editions)}/index.html"
        page = f'<!doctype html><html lang="en"><title>mpox</title><meta http-equiv="refresh" content="0; url={first}">'
        (fresh / "index.html").write_text(f'{page}<a href="{first}">The book</a></html>\n', encoding="utf-8")
    echo(f"Open {(out / 'index.html').as_uri()}")
    return out / "index.html"


def _jupyter_book(source: Path) -> list[str]:
    """Run Jupyter Book; return its warnings and errors, or the end of its log when it failed without any."""
    log = source / "build.log"
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["--warningiserror", "--nitpick", "--keep-going"]
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=source).returncode
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))  # without its colours
    log.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    problems = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b:", line)]
    return problems or (lines[-20:] if code else [])


def mend(html: Path) -> None:
    """What no option mends: captions of figures without an image, two roles for readers, and what the model's page may do."""

    def captioned(found: re.Match) -> str:
        if re.search(r"<(img|svg|canvas|table|video)\b", found["body"]):
            return found[0]
        return f'<span id="{found["id"] or ""}"></span>' + re.sub(r"<figcaption\b.*?</figcaption>", "", found["body"], flags=re.S)

    figure = re.compile(r'<figure\b[^>]*?(?: id="(?P<id>[^"]*)")?>(?P<body>.*?)</figure>', re.S)
    toggle = '<summary%s><span class="toctree-toggle"'  # what opens an entry of the contents; the theme gives it no name
    for page in (page for page in sorted(html.rglob("*.html")) if "_static" not in page.parts):
        text = figure.sub(captioned, page.read_text(encoding="utf-8"))
        if page.with_suffix("").as_posix().endswith(PAGE):
            text = text.replace("<head>", f'<head>\n    <meta http-equiv="Content-Security-Policy" content="{POLICY}">', 1)
        text = text.replace(toggle % "", toggle % ' aria-label="pages of this entry"')
        page.write_text(text.replace('role="doc-biblioentry"', 'role="listitem"'), encoding="utf-8")


class _Requests(HTMLParser):
    """Collects the addresses that a browser would fetch from elsewhere by merely opening the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in {"canonical", "next", "prev", "author"}:
            return
        names = ("src", "poster", "srcset", {"link": "href", "object": "data"}.get(tag, ""))
        self.found += [address for name in names if re.match(r"(https?:)?//", address := values.get(name) or "")]


def external_requests(html: Path) -> list[str]:
    """One line for each thing that opening the built pages would fetch from the network."""
    found = {page: _Requests(page.read_text(encoding="utf-8")).found for page in sorted(html.rglob("*.html"))}
    for style in sorted(html.rglob("*.css")):
        address = r"(?:@import\s+|url\()['\"]?((?:https?:)?//[^'\")\s]+)"
        found[style] = re.findall(address, style.read_text(encoding="utf-8"))
    return [f"{file.relative_to(html)}: fetches {address}" for file, addresses in found.items() for address in addresses]
