"""The book: what is staged from executed notebooks, what stops a build, and one real build of both parts."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mpox._core import MpoxError
from mpox.book.build import NOT_BUILT, build_book, external_requests, stage
from mpox.book.chapter import UNFOLD, _is_plumbing, _joined
from mpox.book.numbers import names_in
from mpox.book.parts import PARTS, collect, glued_texts, read_chapters
from mpox.book.profiles import read_notebook
from mpox.book.provenance import duration, provenance_tables
from mpox.book.report import KEY_FINDINGS, NOT_YET, TABLE_MARK
from mpox.cli import book as book_command

ROOT = Path(__file__).resolve().parents[1]
NAMES = [
    "01_data_exploration",
    "02_transfer_learning",
    "03_cross_validation",
    "04_ablation",
    "05_error_analysis",
    "06_other_data",
    "06_shortcuts",
    "07_use",
    "08_verdict",
]
QUOTED = {
    key.split("_", 1)[1]
    for page in (ROOT / "book").glob("*.md")
    for key in re.findall(r"\{\{\s*((?:study|instruments)_\w+)", page.read_text(encoding="utf-8"))
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def glued(key: str, value: object) -> nbformat.NotebookNode:
    """The output that ``myst_nb.glue(key, value, display=False)`` leaves."""
    return new_output(
        "display_data",
        data={"application/papermill.record/text/plain": repr(value)},
        metadata={"scrapbook": {"name": key, "mime_prefix": "application/papermill.record/"}},
    )


def shown_by_name(key: str) -> nbformat.NotebookNode:
    """A cell that shows a figure or a table of that name, so that what other pages refer to is there."""
    kind, name = key.split("-", 1)
    if kind == "fig":
        about = {"figure": {"caption": f"The figure {name}.", "name": name}, "image": {"alt": "A rising curve."}}
        picture = new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"})
        return new_code_cell("plots.show()", outputs=[picture], metadata={"mystnb": about})
    caption = f'<caption {TABLE_MARK}="{name}"><span class="mpox-caption">The table {name}.</span></caption>'
    html = f"<table>{caption}<tr><td>1</td></tr></table>"
    table = new_output("display_data", data={"text/html": html, "text/plain": "1"})
    return new_code_cell(f'report.show(table, name="{name}", caption=words)', outputs=[table])


def executed(name: str, *, phantom: bool, findings: dict, extra: str = "") -> nbformat.NotebookNode:
    """A notebook as papermill leaves it, with parameters, figure, table, prose, findings, provenance."""
    provenance = {
        "notebook": name,
        "datasets": ["phantom"] if phantom else ["msld-v1", "msid"],
        "phantom": phantom,
        "profile": "quick" if phantom else "recorded",
        "run_ids": [f"{name[:2]}{number:010x}" for number in range(3)],
        "table_ids": [],
        "package_version": "0.1.0",
        "device": "cpu (Intel(R) Xeon(R) | 2 cores)",
        "date": "2026-01-02",
        "duration_s": 12.3,
        "store": "recorded",
        "versions": {"torch": "2.6.0", "timm": "1.0.15"},
    }
    figure = new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"})
    table = new_output(
        "display_data",
        data={
            "text/html": "<table><tr><th>AUROC</th></tr><tr><td>0.5</td></tr></table>",
            "text/plain": "AUROC",
        },
    )
    words = "The AUROC is **0.50**.\n\n| What | Value |\n|---|---|\n| Profile | quick |"
    prose = new_output("display_data", data={"text/markdown": words, "text/plain": "prose"})
    title = name[3:].replace("_", " ").capitalize()
    source = ROOT / "notebooks" / f"{name}.py"
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    named = names_in(read_notebook(name)) if source.is_file() else []
    key_findings = {"text/markdown": f"{KEY_FINDINGS}\n\n- The AUROC is 0.5.\n- It is a guess.", "text/plain": "x"}
    sections = "\n\n".join(re.findall(r"^# (#{2,3} .+)$", text, re.M))  # other pages link to them
    cells = [
        new_markdown_cell(f"# {title}\n\nWhat can be learnt about {{term}}`leakage`? {extra}"),
        new_code_cell("SEED = 0", metadata={"tags": ["parameters"], "papermill": {"duration": 0.1}}),
        new_code_cell("# Parameters\nSEED = 1", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("report.key_findings()", outputs=[new_output("display_data", data=key_findings)]),
        new_markdown_cell(f"## Result\n\n{sections}"),
        *map(shown_by_name, named),
        new_code_cell(
            "plots.show()",
            outputs=[figure],
            metadata={"mystnb": {"figure": {"caption": "A curve."}, "image": {"alt": "A rising curve."}}},
        ),
        new_code_cell("table", outputs=[table]),
        new_code_cell("report()", outputs=[prose, *(glued(key, text) for key, text in findings.items())]),
        new_code_cell("provenance()", outputs=[glued("provenance", json.dumps(provenance))]),
    ]
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "papermill": {"input_path": "/home/someone/notebooks/x.ipynb"},
    }
    return new_notebook(cells=cells, metadata=metadata)


def make_run(folder: Path, *, phantom: bool, names=NAMES, status="done", findings=None, extra="") -> Path:
    """A run folder as ``mpox run`` leaves it; the third chapter glues the findings."""
    folder.mkdir(parents=True)
    if findings is None:
        findings = dict.fromkeys(QUOTED, "0.50 (95 % CI 0.40 to 0.60)")
    for name in names:
        notebook = executed(name, phantom=phantom, findings=findings if name == names[-1] else {}, extra=extra)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    entry = {"status": "done", "duration_s": 72.6, "parameters": {}, "source_sha256": "0" * 64, "error": None}
    run = {
        "profile": folder.name,
        "profile_file": f"profiles/{folder.name}.yml",
        "parameters": {},
        "started": "2026-01-02T10:00:00+00:00",
        "finished": "2026-01-02T10:05:00+00:00" if status == "done" else None,
        "package_version": "0.1.0",
        "notebooks": {name: entry | ({"status": status} if name == names[-1] else {}) for name in names},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this checkout's own pages and configuration, and nothing else."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "book", folder / "book")
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project with one page and one chapter a part, which builds quickly."""
    folder = tmp_path / "small"
    (folder / "book").mkdir(parents=True)
    shutil.copytree(ROOT / "book/_static_mpox", folder / "book/_static_mpox")
    shutil.copy(ROOT / "_config.yml", folder / "_config.yml")
    shutil.copy(ROOT / "book/references.bib", folder / "book/references.bib")
    (folder / "book/intro.md").write_text(
        "# Small\n\nMeasured: {{ study_key }}.\n\n:::{glossary}\nleakage\n  What must not be.\n:::\n"
    )
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n"
        "  - caption: Part I\n    chapters:\n      - file: study/04_ablation\n"
        "  - caption: Part II\n    chapters:\n      - file: instruments/04_ablation\n"
    )
    return folder


# --------------------------------------------------------------------------------------------- reading runs
def test_glued_texts_come_back_as_they_were_glued():
    notebook = new_notebook(
        cells=[new_code_cell("", outputs=[glued("a", "it's 0.5 %"), glued("b", 0.25), glued("c", 'say "yes"')])]
    )
    assert glued_texts(notebook) == {"a": "it's 0.5 %", "b": "0.25", "c": 'say "yes"'}


def test_provenance_decides_the_part(tmp_path):
    parts = collect([make_run(tmp_path / "quick", phantom=True), make_run(tmp_path / "recorded", phantom=False)])
    assert list(parts["study"]) == list(parts["instruments"]) == NAMES
    assert parts["study"]["04_ablation"].path.parent.name == "recorded"
    assert parts["instruments"]["04_ablation"].duration_s == 72.6


@pytest.mark.parametrize("status", ["failed", "running", "pending"])
def test_unfinished_run_says_how_to_go_on(tmp_path, status):
    folder = make_run(tmp_path / "quick", phantom=True, status=status)
    with pytest.raises(MpoxError, match=rf"{NAMES[-1]} is {status}; go on with `mpox run .*--resume`"):
        read_chapters(folder)


def test_missing_run_names_the_command(project):
    with pytest.raises(MpoxError, match=r"make it with `mpox run --profile recorded`"):
        build_book(project=project)


def test_lost_notebook_and_lost_provenance(tmp_path):
    folder = make_run(tmp_path / "quick", phantom=True)
    bare = nbformat.read(folder / "02_transfer_learning.ipynb", as_version=4)
    bare.cells = bare.cells[:-1]
    nbformat.write(bare, folder / "02_transfer_learning.ipynb")
    with pytest.raises(MpoxError, match=r"02_transfer_learning.ipynb does not say where it comes from"):
        read_chapters(folder)
    (folder / "01_data_exploration.ipynb").unlink()
    with pytest.raises(MpoxError, match=r"has lost 01_data_exploration.ipynb"):
        read_chapters(folder)


def test_two_runs_for_one_part(tmp_path):
    runs = [make_run(tmp_path / name, phantom=False) for name in ("cpu", "recorded")]
    with pytest.raises(MpoxError, match=r"Part I can show 01_data_exploration only once"):
        collect(runs)


# ------------------------------------------------------------------------------------------------- staging
def test_staged_chapters_are_labelled_and_linked(project, tmp_path):
    parts = collect([make_run(tmp_path / "recorded", phantom=False), make_run(tmp_path / "quick", phantom=True)])
    assert stage(parts, project=project, source=tmp_path / "src") == []
    study, phantom = (
        nbformat.read(tmp_path / "src" / part / "04_ablation.ipynb", as_version=4) for part in ("study", "instruments")
    )
    assert study.cells[0].source.startswith("# Ablation\n\n:::{div} mpox-strip\nPart I, the study")
    assert "(../instruments/04_ablation.ipynb)" in study.cells[0].source
    assert "Phantom" not in study.cells[0].source
    assert phantom.cells[0].source.startswith("# Ablation (phantom)\n\n:::{admonition} Phantom, not patients")
    assert "(../study/04_ablation.ipynb)" in phantom.cells[0].source
    assert phantom.cells[0].source.rstrip().endswith("{term}`leakage`?")
    folded = [cell for cell in study.cells if "hide-input" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in folded[:2]] == ["SEED = 0", "# Parameters\nSEED = 1"]
    assert {cell.metadata.mystnb.code_prompt_show for cell in folded[2:]} == {UNFOLD}
    shown = [cell.source for cell in study.cells if cell.cell_type == "code" and cell not in folded]
    assert "table" in shown and "plots.show()" not in shown
    assert study.cells[2].metadata.mystnb.code_prompt_show == "Parameters and their defaults"
    assert "/home/someone" not in nbformat.writes(study)


def test_a_program_that_shows_results_is_folded_and_a_short_one_that_computes_is_not():
    cells = {
        "predictions = cross_validate(store, data, 'source', model)": False,
        "for row in rows:\n    report.prose(f'{row}')": True,
        "plots.forest(table, x)\nplt.show()": True,
        "import pandas as pd\n\nfrom mpox import evaluate": True,
        "from mpox import evaluate\n\nmetrics = evaluate(predictions)": False,
        "\n".join(f"x{k} = {k}" for k in range(9)): True,
    }
    for source, folded in cells.items():
        assert _is_plumbing(new_code_cell(source)) == folded
    assert not _is_plumbing(new_code_cell("report.show(table)", metadata={"tags": ["solution"]}))
    assert not _is_plumbing(new_markdown_cell("report.show"))


def test_folded_programs_that_put_out_nothing_are_one_with_the_next():
    def folded(source, outputs=()):
        return new_code_cell(source, outputs=list(outputs), metadata={"mystnb": {"code_prompt_show": UNFOLD}})

    words = new_output("display_data", data={"text/plain": "said"})
    cells = [
        folded("a"),
        folded("b", [words]),
        folded("c"),
        new_markdown_cell("prose"),
        folded("d"),
        new_code_cell("e"),
        folded("f"),
    ]
    found = _joined(cells)
    assert [cell.source for cell in found] == ["a\n\nb", "c", "prose", "d", "e", "f"]
    assert found[0].outputs == [words]


def test_key_findings_stand_under_the_objectives_and_not_where_they_were_computed(project, tmp_path):
    parts = collect([make_run(tmp_path / "quick", phantom=True)])
    stage(parts, project=project, source=tmp_path / "src")
    cells = nbformat.read(tmp_path / "src/instruments/04_ablation.ipynb", as_version=4).cells
    assert cells[1].cell_type == "markdown" and cells[1].source.startswith(
        "::::{admonition} Key findings\n:class: tip mpox-findings"
    )
    assert "- The {term}`AUROC` is 0.5.\n- It is a guess." in cells[1].source
    assert KEY_FINDINGS not in nbformat.writes(nbformat.v4.new_notebook(cells=cells[2:]))


def test_findings_that_were_never_filled_in_stop_the_book(project, tmp_path):
    folder = make_run(tmp_path / "quick", phantom=True)
    path = folder / "04_ablation.ipynb"
    path.write_text(path.read_text().replace("- The AUROC is 0.5.", NOT_YET))
    with pytest.raises(MpoxError, match=r"04_ablation.ipynb has not said its key findings"):
        stage(collect([folder]), project=project, source=tmp_path / "src")


def test_every_page_says_at_its_foot_what_it_shows(project, tmp_path):
    parts = collect([make_run(tmp_path / "recorded", phantom=False), make_run(tmp_path / "quick", phantom=True)])
    stage(parts, project=project, source=tmp_path / "src")
    facts = "run `quick`; data phantom; profile quick; mpox 0.1.0; device cpu (Intel(R) Xeon(R) | 2 cores); 2026-01-02"
    foot = nbformat.read(tmp_path / "src/instruments/07_use.ipynb", as_version=4).cells[-1].source
    assert foot.startswith(f":::{{div}} mpox-foot\nThis page: {facts}; executed notebook `")
    feet = {page.name: page.read_text().rpartition("mpox-foot\n")[2] for page in (tmp_path / "src/book").rglob("*.md")}
    assert feet["intro.md"].startswith("This page quotes Part I, run `recorded`") and "Part II" not in feet["intro.md"]
    assert "Part I, run `recorded`" in feet["provenance.md"] and f"; and Part II, {facts}." in feet["provenance.md"]
    assert feet["glossary.md"].startswith("This page quotes no run; it is of mpox 0.1.0.")


def test_a_page_that_refers_to_no_figure_is_named(project, tmp_path):
    page = project / "book/teaching.md"
    page.write_text(page.read_text() + "\nSee [the climb](#fig-clim).\n")
    parts = collect([make_run(tmp_path / "recorded", phantom=False)])
    with pytest.raises(MpoxError, match=r"book/teaching.md refers to 'fig-clim'"):
        stage(parts, project=project, source=tmp_path / "src")


def test_one_part_alone_drops_the_other_and_says_so(project, tmp_path):
    parts = collect([make_run(tmp_path / "quick", phantom=True)])
    notes = stage(parts, project=project, source=tmp_path / "src")
    assert notes == ["'Part I: the study' is left out: none of the runs has a chapter of it."]
    assert "study/" not in (tmp_path / "src/_toc.yml").read_text().replace("instruments/", "")
    intro = (tmp_path / "src/book/intro.md").read_text()
    assert "](../study/" not in intro
    assert NOT_BUILT in (tmp_path / "src/_config.yml").read_text()


def test_missing_finding_is_named(project, tmp_path):
    known = {key: "1" for key in QUOTED if key != "params_b0_hidden"}
    parts = collect([make_run(tmp_path / "recorded", phantom=False, findings=known)])
    with pytest.raises(MpoxError, match=r"quote 1 finding.*study_params_b0_hidden \(book/intro.md\)"):
        stage(parts, project=project, source=tmp_path / "src")


def test_one_finding_with_two_texts(project, tmp_path):
    folder = make_run(tmp_path / "recorded", phantom=False)
    other = executed(NAMES[0], phantom=False, findings={"params_2": "another text"})
    nbformat.write(other, folder / f"{NAMES[0]}.ipynb")
    with pytest.raises(MpoxError, match=r"`params_2` is 'another text'"):
        stage(collect([folder]), project=project, source=tmp_path / "src")


def test_chapter_that_the_contents_forget(project, tmp_path):
    parts = collect([make_run(tmp_path / "recorded", phantom=False, names=[*NAMES, "09_more"])])
    with pytest.raises(MpoxError, match=r"_toc.yml does not list study/09_more"):
        stage(parts, project=project, source=tmp_path / "src")


def test_provenance_page_lists_every_run(project, tmp_path):
    parts = collect([make_run(tmp_path / "recorded", phantom=False)])
    stage(parts, project=project, source=tmp_path / "src")
    page = (tmp_path / "src/book/provenance.md").read_text()
    assert "## Part I" in page and "## Part II" not in page
    assert page.count("| 1\N{NO-BREAK SPACE}min\N{NO-BREAK SPACE}13\N{NO-BREAK SPACE}s |") == len(NAMES)
    assert f"took {duration(72.6 * len(NAMES))}" in page
    assert "All chapters: Data: msld-v1, msid; Profile: recorded; Package: 0.1.0; Device: cpu" in page
    assert f"The ids of the {3 * len({name[:2] for name in NAMES})} runs" in page and "`030000000002`" in page
    assert "torch 2.6.0" in page


def test_provenance_tells_what_differs_between_chapters(tmp_path):
    folder = make_run(tmp_path / "quick", phantom=True, names=NAMES[:2])
    other = nbformat.reads(
        nbformat.writes(executed(NAMES[1], phantom=True, findings={})).replace("2 cores", "4 cores"),
        as_version=4,
    )
    nbformat.write(other, folder / f"{NAMES[1]}.ipynb")
    page = provenance_tables(collect([folder]), headings=PARTS)
    assert "| Chapter | Device | Runs | Computing them took | This page took |" in page
    assert r"cpu (Intel(R) Xeon(R) \| 4 cores)" in page


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.97, "1 min 0 s"), (3599.7, "1 h 0 min"), (7384, "2 h 3 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


# ------------------------------------------------------------------------------------------------ building
def test_the_whole_book_builds_and_asks_nothing_of_the_network(project, tmp_path, monkeypatch):
    make_run(project / "_runs/recorded", phantom=False)
    make_run(project / "_runs/quick", phantom=True)
    tables = [key for key in names_in(read_notebook("04_ablation")) if key.startswith("table-")]
    board = tables.index("table-board") + 1
    monkeypatch.setenv("MPOX_PROJECT", str(project))
    result = CliRunner().invoke(book_command, [], catch_exceptions=False)
    assert result.exit_code == 0
    html = project / "_site/_build/html"
    assert result.output.splitlines()[-1] == f"Open {(html / 'index.html').as_uri()}"
    pages = {page.relative_to(html).as_posix(): page.read_text() for page in html.rglob("*.html")}
    for part in ("study", "instruments"):
        assert {f"{part}/{name}.html" for name in NAMES} <= set(pages)
    assert "0.50 (95 % CI 0.40 to 0.60)" in pages["book/intro.html"]
    assert "{{" not in pages["book/intro.html"]
    assert all("mpox-phantom" in pages[f"instruments/{name}.html"] for name in NAMES)
    assert not any("mpox-phantom" in pages[f"study/{name}.html"] for name in NAMES)
    assert 'alt="A rising curve."' in pages["study/04_ablation.html"]
    assert re.search(r"<th[^>]*><p>What</p></th>", pages["study/04_ablation.html"])  # a table in computed prose is a table
    assert "Zhao" in pages["book/references.html"]
    assert (html / "_static/mpox.css").is_file()
    assert external_requests(html) == []
    assert "caption-number" not in pages["study/04_ablation.html"]
    for part, mark in (("study", ""), ("instruments", " (phantom)")):
        page = pages[f"{part}/04_ablation.html"]
        place = re.search(rf'<figure[^>]*id="{part}-fig-variant-differences".*?</figure>', page, re.S)
        assert place and f"<strong>Figure 4.2{mark}.</strong>" in place[0]
        assert f'id="{part}-table-board"' in page and f"<strong>Table 4.{board}{mark}.</strong> The table board." in page
        assert 'href="../book/glossary.html#term-leakage"' in page
    first = re.search(r'href="([^"]*#study-fig-dose-response)"', pages["book/intro.html"])
    assert first and first[1].startswith("../study/03_cross_validation.html")
    assert "mpox-foot" in pages["book/intro.html"] and "mpox-foot" in pages["book/api/index.html"]
    assert "mathjax" not in "".join(pages.values()).lower()
    assert not (project / "_site/_build/.doctrees").exists()


def test_broken_reference_fails_and_keeps_the_last_book(small, tmp_path):
    good = make_run(tmp_path / "recorded", phantom=False, names=["04_ablation"], findings={"key": "0.5"})
    lines: list[str] = []
    index = build_book([good], project=small, echo=lines.append)
    assert "Part II' is left out" in lines[0]
    before = index.with_name("book").joinpath("intro.html").read_text()
    assert "Measured: 0.5." in before

    bad = make_run(
        tmp_path / "bad",
        phantom=False,
        names=["04_ablation"],
        findings={"key": "0.7"},
        extra="[x](nowhere.md)",
    )
    lines.clear()
    with pytest.raises(MpoxError, match=r"was not built: mend the 1 problem"):
        build_book([bad], project=small, echo=lines.append)
    assert any("nowhere.md" in line for line in lines)
    assert index.with_name("book").joinpath("intro.html").read_text() == before
    assert sorted(path.name for path in small.iterdir() if path.name.startswith("._site")) == []


def test_a_folder_that_is_no_book_is_left_alone(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(MpoxError, match=r"holds something that is not a book"):
        build_book([tmp_path], out=tmp_path / "mine", project=small)
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_external_requests_are_found(tmp_path):
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://a.example/"><a href="https://b.example/">b</a>'
        '<script src="https://c.example/x.js"></script><img src="pixel.png">'
        '<link rel="stylesheet" href="//d.example/x.css">'
    )
    (tmp_path / "style.css").write_text("@import url('https://e.example/f.css'); a { color: red }")
    assert external_requests(tmp_path) == [
        "page.html: fetches https://c.example/x.js",
        "page.html: fetches //d.example/x.css",
        "style.css: fetches https://e.example/f.css",
    ]
