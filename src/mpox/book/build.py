"""The book: executed notebooks and prose pages are staged, then built with every warning an error.

A run folder (made by ``mpox run``) holds executed notebooks and ``run.json``. What a notebook says of itself
in its glued ``provenance`` decides where it goes: real images to Part I (``study/``), the phantom to Part II
(``instruments/``). Nothing is executed here, so the book shows just what was run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import yaml

from mpox._core import MpoxError, project_root
from mpox.book.api import with_api
from mpox.book.chapter import chapter_page, page_foot
from mpox.book.cover import FIGURE_MARK, with_cover
from mpox.book.glossary import glossary_terms
from mpox.book.numbers import number_all, refer, references_in
from mpox.book.pages import finish
from mpox.book.parts import PARTS, Chapter, collect, substitutions
from mpox.book.provenance import provenance_tables

DEFAULT_RUNS = {"study": "_runs/recorded", "instruments": "_runs/quick"}
PROVENANCE_MARK = "<!-- provenance tables -->"
NOT_BUILT = "*(not in this build)*"
QUOTED_DATASETS = ("msld-v1", "msid")

_SUBSTITUTION = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")
_CHAPTER_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(study|instruments)/([\w-]+)\.ipynb(?:#[^)]*)?\)")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def stage(parts: dict[str, dict[str, Chapter]], *, project: Path, source: Path) -> list[str]:
    """Write the sources that Jupyter Book builds from into an emptied folder.

    Parameters
    ----------
    parts : dict
        What `mpox.book.parts.collect` returns; an empty part is left out of the table of contents.
    project : Path
        Holds ``_config.yml``, ``_toc.yml`` and ``book/``.
    source : Path
        The folder to write; whatever is in it is removed.

    Returns
    -------
    list of str
        One sentence for each part or chapter of the table of contents that is left out.

    Raises
    ------
    MpoxError
        When a page quotes a finding that no chapter computed or refers to a figure that none shows, or a chapter has not said its
        findings or is missing in ``_toc.yml``.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(project / "book", source / "book", ignore=shutil.ignore_patterns(".*", "_build"))
    config = yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))
    texts = (config.setdefault("parse", {}).get("myst_substitutions") or {}) | substitutions(parts)

    toc_text = (project / "_toc.yml").read_text(encoding="utf-8")
    numbers = number_all(parts, [entry.split("/")[-1] for entry in _listed(toc_text)])
    whole = {part: _is_whole(part, parts[part], toc_text) for part in PARTS}
    terms = glossary_terms(source / "book" / "glossary.md")
    missing: list[str] = []
    for page in sorted((source / "book").rglob("*.md")):
        text = with_api(page.read_text(encoding="utf-8"))
        quoted = set(PARTS) if PROVENANCE_MARK in text else set()
        if FIGURE_MARK in text or references_in(text):
            quoted.add("study")
        text = with_cover(text, page, parts["study"], project=project, absent=NOT_BUILT)
        text = refer(text, "study", numbers, where=str(page.relative_to(source)), whole=whole)
        for key in dict.fromkeys(_SUBSTITUTION.findall(text)):
            part = next((part for part in PARTS if key.startswith(f"{part}_")), "")
            quoted |= {part} & set(PARTS)
            if key in texts:
                continue
            if part and not whole[part]:
                texts[key] = NOT_BUILT
            else:
                missing.append(f"{key} ({page.relative_to(source)})")
        text = _CHAPTER_LINK.sub(lambda link: link[0] if link[3] in parts[link[2]] else link[1], text)
        if PROVENANCE_MARK in text:
            text = text.replace(PROVENANCE_MARK, provenance_tables(parts, headings=PARTS))
        page.write_text(f"{text.rstrip()}\n\n{page_foot(parts, quoted)}\n", encoding="utf-8")
    if missing:
        raise MpoxError(
            f"The pages quote {len(missing)} finding(s) that no chapter has computed: {', '.join(missing)}; "
            "glue them with `mpox.book.report.finding(...)` and run the notebooks again, or mend the pages."
        )

    config["parse"]["myst_substitutions"] = texts
    (source / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    toc, notes = _trim_toc(yaml.safe_load(toc_text), parts)
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, allow_unicode=True, sort_keys=False), encoding="utf-8")
    for part, chapters in parts.items():
        for chapter in chapters.values():
            twin = parts["study" if part == "instruments" else "instruments"].get(chapter.name)
            notebook = chapter_page(chapter, twin=twin, numbers=numbers, whole=whole, terms=terms)
            (source / part).mkdir(exist_ok=True)
            nbformat.write(notebook, source / part / f"{chapter.name}.ipynb")
    return notes


def _listed(toc: str) -> list[str]:
    """The chapters of the table of contents, as ``part/name``, in its order."""
    return [f"{part}/{name}" for part, name in re.findall(rf"\b({'|'.join(PARTS)})/(\w+)", toc)]


def _is_whole(part: str, chapters: dict[str, Chapter], toc: str) -> bool:
    """Whether a part has every chapter, on the data sets that the prose pages speak of; else some findings cannot be there."""
    names = {name for chapter in chapters.values() for name in chapter.provenance.get("datasets", [])}
    expected = set(re.findall(rf"\b{part}/(\w+)", toc))
    return expected <= set(chapters) and (part != "study" or set(QUOTED_DATASETS) <= names)


def _trim_toc(toc: dict[str, Any], parts: dict[str, dict[str, Chapter]]) -> tuple[dict[str, Any], list[str]]:
    staged = {f"{part}/{name}" for part, chapters in parts.items() for name in chapters}
    notes, kept, listed = [], [], set()
    for block in toc["parts"]:
        files = [entry["file"] for chapter in block["chapters"] for entry in (chapter, *chapter.get("sections", ()))]
        listed.update(files)
        absent = {file for file in files if file.split("/")[0] in PARTS and file not in staged}
        if len(absent) == len(files):
            notes.append(f"'{block['caption']}' is left out: none of the runs has a chapter of it.")
            continue
        notes.extend(f"{file} is left out of '{block['caption']}': none of the runs has it." for file in sorted(absent))
        kept.append(block | {"chapters": [entry for chapter in block["chapters"] for entry in _present(chapter, absent)]})
    if unlisted := sorted(staged - listed):
        raise MpoxError(f"_toc.yml does not list {', '.join(unlisted)}; add the chapter there.")
    return toc | {"parts": kept}, notes


def _present(chapter: dict[str, Any], absent: set[str]) -> list[dict[str, Any]]:
    """The chapter without its absent sections; where it is absent itself, its sections in its place."""
    sections = [section for section in chapter.get("sections", ()) if section["file"] not in absent]
    if chapter["file"] in absent:
        return sections
    rest = {key: value for key, value in chapter.items() if key != "sections"}
    return [rest | ({"sections": sections} if sections else {})]


def build_book(
    run_folders: Sequence[str | os.PathLike] = (),
    *,
    out: str | os.PathLike | None = None,
    project: Path | None = None,
    echo: Callable[[str], Any] = print,
) -> Path:
    """Stage the runs and build the book; a failed build leaves the last good book as it was.

    Parameters
    ----------
    run_folders : sequence of path
        Finished run folders; none means ``_runs/recorded`` and ``_runs/quick``, which must both be there.
    out : path, optional
        The folder to put the book into, default ``_site`` in the project.
    project : Path, optional
        Default: `mpox._core.project_root`.
    echo : callable
        Takes each line of progress.

    Returns
    -------
    Path
        The ``index.html`` to open.

    Raises
    ------
    MpoxError
        When a run is unfinished, a page quotes a missing finding, or the build has a single warning.
    """
    if find_spec("jupyter_book") is None:
        raise MpoxError("Jupyter Book is not installed; install it with `pip install -e .[book]`.")
    project = Path(project or project_root())
    out = Path(out or project / "_site").resolve()
    if out.exists() and any(out.iterdir()) and not (out / "_build").is_dir():
        raise MpoxError(f"{out} holds something that is not a book; name an empty folder with `--out`.")
    parts = collect(run_folders or [project / folder for folder in DEFAULT_RUNS.values()])
    source = project / "_book_src"
    fresh, old = (out.with_name(f".{out.name}.{age}") for age in ("new", "old"))
    for note in stage(parts, project=project, source=source):
        echo(f"Note: {note}")
    log = source / "build.log"
    echo(f"Building {sum(map(len, parts.values()))} chapters (log: {log})")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        problems = _jupyter_book(source, fresh, log)
        if not problems:
            finish(fresh / "_build" / "html")
            problems = external_requests(fresh / "_build" / "html")
        if problems:
            for line in problems:
                echo(line)
            raise MpoxError(f"The book was not built: mend the {len(problems)} problem(s) above; the log is {log}.")
        shutil.rmtree(fresh / "_build" / ".doctrees", ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    index = out / "_build" / "html" / "index.html"
    echo(f"Open {index.as_uri()}")
    return index


def _jupyter_book(source: Path, out: Path, log: Path) -> list[str]:
    """Run Jupyter Book; return its warnings and errors, or the end of its log when it failed without any."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["--path-output", str(out), "--warningiserror", "--nitpick", "--keep-going"]
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=source.parent).returncode
    text = _ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
    log.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    problems = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b:", line)]
    return problems or (lines[-20:] if code else [])


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
