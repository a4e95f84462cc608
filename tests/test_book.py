"""The book: what is staged from executed notebooks, what stops a build, and one real build of both editions."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mpox._core import MpoxError, locked
from mpox.book.build import NOT_BUILT, Links, _is_plumbing, build_book, external_requests, read_edition, stage
from mpox.book.chapters import glued_texts
from mpox.book.run import list_notebooks, run_notebooks
from mpox.book.wording import duration
from mpox.cli import book as book_command
from mpox.data.phantom import PhantomSpec, generate

ROOT = Path(__file__).resolve().parents[1]
NAMES = list_notebooks()
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "book").rglob("*.md")}
QUOTED = {key for text in PAGES.values() for key in re.findall(r"\{\{\s*(\w+)", text)}
QUOTED |= {f"use_{name}_{side}_at_95" for name in ("msld", "msid") for side in ("sensitivity", "specificity")}
TABLES = {key for text in PAGES.values() for key in re.findall(r"\]\(#table-([\w-]+)\)", text)}
FIGURES = {key for text in PAGES.values() for key in re.findall(r"\]\(#fig-([\w-]+)\)", text)}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ABOUT = {"figure": {"caption": "A curve, see [the table](#table-own)."}, "image": {"alt": "A rising curve."}}


def glued(key: str, value: object) -> nbformat.NotebookNode:
    """The output that ``myst_nb.glue(key, value, display=False)`` leaves."""
    return new_output(
        "display_data",
        data={"application/papermill.record/text/plain": repr(value)},
        metadata={"scrapbook": {"name": key, "mime_prefix": "application/papermill.record/"}},
    )


def shown(data: dict) -> nbformat.NotebookNode:
    return new_output("display_data", data={"text/plain": "x", **data})


def table_directive(key: str) -> nbformat.NotebookNode:
    text = f"```{{table}} The table {key}.\n:name: table-{key}\n\n| a |\n| --- |\n| 1 |\n```"
    return new_code_cell("report.show(t)", outputs=[shown({"text/markdown": text, "text/html": "<b>1</b>"})])


def figure_cell(key: str) -> nbformat.NotebookNode:
    figure = {"mystnb": {**ABOUT, "figure": {**ABOUT["figure"], "name": key}}}
    return new_code_cell("plots.show()", outputs=[shown({"image/png": PIXEL})], metadata=figure)


def executed(name: str, *, phantom: bool, findings: dict, extra: str = "") -> nbformat.NotebookNode:
    """A notebook as papermill leaves it, with parameters, figure, tables, prose, findings, provenance."""
    provenance = {
        "notebook": name,
        "datasets": ["phantom"] if phantom else ["msld-v1", "msid"],
        "phantom": phantom,
        "profile": "quick" if phantom else "recorded",
        "run_ids": [f"{name[:2]}{number:010x}" for number in range(3)],
        "runs_s": 3.5,
        "table_ids": [],
        "package_version": "0.1.0",
        "device": "cpu (Intel(R) Xeon(R) | 2 cores)",
        "date": "2026-01-02",
        "versions": {"torch": "2.6.0", "timm": "1.0.15"},
    }
    source = ROOT / "notebooks" / f"{name}.py"
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    sections = "\n\n".join(re.findall(r"^# (#{2,3} .+)$", text, re.M))  # other pages link to them
    key = f"curve-{name[:2]}{name[3:5]}"
    said = [shown({"text/markdown": "The AUROC is **0.50**."}), *(glued(name, value) for name, value in findings.items())]
    cells = [
        new_markdown_cell(f"# {name[3:].replace('_', ' ').capitalize()}\n\nWhat can be learnt about {{term}}`leakage`? {extra}"),
        new_code_cell("SEED = 0", metadata={"tags": ["parameters"], "papermill": {"duration": 0.1}}),
        new_code_cell("# Parameters\nSEED = 1", metadata={"tags": ["injected-parameters"]}),
        new_markdown_cell("It is {{ params_2 }} here.", metadata={"tags": ["study"]}),
        new_markdown_cell("It was planted.", metadata={"tags": ["instruments"]}),
        new_code_cell("report.guard('it is', True)", metadata={"tags": ["guard"]}),
        new_markdown_cell(f"## Result\n\nHere [the rise](#fig-{key}) is.\n\n{sections}"),
        figure_cell(key),
        *(map(table_directive, ["own", *sorted(TABLES)]) if name.startswith("05") else ()),
        *(map(figure_cell, sorted(FIGURES)) if name.startswith("05") else ()),
        new_code_cell("x = 1", outputs=said),
        new_code_cell("2", metadata={"tags": ["solution"]}),
        new_code_cell("provenance()", outputs=[glued("provenance", json.dumps(provenance))]),
    ]
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "papermill": {"input_path": "/home/someone/x.ipynb"}})


def make_run(folder: Path, *, phantom: bool, names=NAMES, findings=None, extra="") -> Path:
    """A run folder as ``mpox run`` leaves it; the last chapter glues the findings."""
    folder.mkdir(parents=True)
    shares = {key: "50 of 100 (40 to 60)" for key in QUOTED if key.endswith("_at_95")}
    findings = dict.fromkeys(QUOTED, "0.50 (0.40 to 0.60)") | shares if findings is None else findings
    for name in names:
        notebook = executed(name, phantom=phantom, findings=findings if name == names[-1] else {}, extra=extra)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    entry = {"status": "done", "duration_s": 72.6, "parameters": {}, "source_sha256": "0" * 64, "error": None}
    run = {
        "profile": folder.name,
        "profile_file": f"profiles/{folder.name}.yml",
        "parameters": {},
        "started": "2026-01-02T10:00:00+00:00",
        "finished": "2026-01-02T10:05:00+00:00",
        "package_version": "0.1.0",
        "notebooks": dict.fromkeys(names, entry),
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with this checkout's own pages and configuration, and nothing else."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "book", folder / "book")
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "results").mkdir()
    for file in (ROOT / "results").glob("page_model.*"):
        shutil.copy(file, folder / "results")
    monkeypatch.setenv("MPOX_PROJECT", str(folder))
    return folder


@pytest.fixture
def small(project) -> Path:
    """A project with one page and one chapter, which builds quickly."""
    page = "# Small\n\nMeasured: {{ key }}.\n\n:::{glossary}\nleakage\n  What must not be.\n:::\n"
    (project / "book/intro.md").write_text(page)
    block = "  - caption: Chapters\n    numbered: 1\n    chapters:\n      - file: notebooks/05_ablation\n"
    (project / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nparts:\n{block}")
    return project


def staged(run: Path, project: Path) -> tuple[Path, list[str]]:
    return project / "src", stage(read_edition(run), project=project, source=project / "src")


# --------------------------------------------------------------------------------------------- reading runs
def test_glued_texts_come_back_as_they_were_glued():
    texts = {"a": "it's 0.5 %", "b": 0.25, "c": 'say "yes"'}
    cell = new_code_cell("", outputs=[glued(key, value) for key, value in texts.items()])
    assert glued_texts(new_notebook(cells=[cell])) == {**texts, "b": "0.25"}


def rewrite(name: str, old: str, new: str):
    """Spoils a run folder: puts other text into one of its files."""

    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return spoil


def add_chapter(folder: Path) -> None:
    shutil.rmtree(folder)
    make_run(folder, phantom=False, names=[*NAMES, "11_more"])


def phantom_chapter(folder: Path) -> None:
    nbformat.write(executed(NAMES[0], phantom=True, findings={}), folder / f"{NAMES[0]}.ipynb")


def another_finding(folder: Path) -> None:
    nbformat.write(executed(NAMES[0], phantom=False, findings={"params_2": "another"}), folder / f"{NAMES[0]}.ipynb")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"There is no run in .*; make it with `mpox run --profile NAME --out .*recorded`"),
        (rewrite("run.json", '"done"', '"failed"'), rf"{NAMES[0]} is failed; go on with `mpox run .*--resume`"),
        (lambda folder: (folder / f"{NAMES[0]}.ipynb").unlink(), rf"has lost {NAMES[0]}.ipynb"),
        (rewrite(f"{NAMES[1]}.ipynb", '"name": "provenance"', '"name": "x"'), rf"{NAMES[1]}.ipynb does not say where it comes"),
        (rewrite(f"{NAMES[1]}.ipynb", '"# Transfer', '"Transfer'), rf"{NAMES[1]}.ipynb has no title"),
        (phantom_chapter, "has chapters on real images and on the phantom"),
        (another_finding, r"`params_2` is 'another'"),
        (rewrite(f"{NAMES[3]}.ipynb", "{{ params_2 }}", "{{ gone }}"), rf"notebooks/{NAMES[3]}.py quotes gone"),
        (rewrite(f"{NAMES[-1]}.ipynb", "verdict_alarms", "other"), r"book/intro.md quotes verdict_alarms"),
        (rewrite(f"{NAMES[3]}.ipynb", "#table-own", "#table-gone"), r"refers to 'table-gone', which no chapter names"),
        (add_chapter, r"_toc.yml does not list 11_more"),
    ],
)
def test_a_run_that_cannot_be_a_book_is_one_sentence(project, tmp_path, spoil, message):
    folder = make_run(tmp_path / "recorded", phantom=False)
    spoil(folder)
    with pytest.raises(MpoxError, match=message):
        staged(folder, project)


def test_provenance_decides_the_edition_and_two_of_one_are_refused(tmp_path, project):
    runs = [make_run(tmp_path / name, phantom=False, names=NAMES[:1]) for name in ("cpu", "recorded")]
    assert read_edition(make_run(tmp_path / "quick", phantom=True, names=NAMES[:1])).name == "instruments"
    with pytest.raises(MpoxError, match=r"Two of the run folders are of the edition study"):
        build_book(runs)
    with pytest.raises(MpoxError, match=r"make it with `mpox run --profile recorded`"):
        build_book()
    with (
        locked(project / "_book_src/.lock"),
        pytest.raises(MpoxError, match="Another 'mpox book' is building in .*: wait"),
    ):
        build_book(runs[:1])


# ------------------------------------------------------------------------------------------------- staging
def test_a_chapter_becomes_a_page(project, tmp_path):
    source, notes = staged(make_run(tmp_path / "recorded", phantom=False), project)
    page = nbformat.read(source / "notebooks/05_ablation.ipynb", as_version=4)
    assert notes == [] and "/home/someone" not in nbformat.writes(page)
    assert page.cells[0].source.startswith("# Ablation\n\nWhat can be learnt")
    sources = [cell.source for cell in page.cells]
    assert "It is {{ params_2 }} here." in sources and not {"It was planted.", "report.guard('it is', True)"} & set(sources)
    hidden = [cell for cell in page.cells if "hide-" in str(cell.metadata.get("tags"))]
    folded = {cell.source: cell.metadata.mystnb.code_prompt_show for cell in hidden}
    (first,) = (source for source in folded if source.startswith("# Parameters and their defaults\nSEED = 0\n\n"))
    assert folded[first] == "Parameters that the profile set" and folded["2"] == "Show a solution"
    assert "x = 1" not in folded
    figure = next(cell for cell in page.cells if "image/png" in str(cell.get("outputs")))
    assert figure.metadata.mystnb.figure == {"caption": "A curve, see {numref}`table-own`.", "name": "fig-curve-05ab"}
    outputs = [output.data for cell in page.cells for output in cell.get("outputs", [])]
    assert not any("text/html" in data for data in outputs if "{table}" in str(data))
    assert any("the rise ({numref}`fig-curve-05ab`)" in cell.source for cell in page.cells)


def test_a_cell_that_shows_results_is_folded_and_a_short_one_that_computes_is_not():
    cells = {
        "predictions = cross_validate(store, data, 'source', model)": False,
        "for row in rows:\n    report.prose(f'{row}')": True,
        "plots.forest(table)\nplt.show()": True,
        "import pandas as pd\n\nfrom mpox import evaluate": True,
        "\n".join(f"x{k} = {k}" for k in range(9)): True,
    }
    assert {source: _is_plumbing(new_code_cell(source)) for source in cells} == cells


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("See [the figure](#fig-rise).", "See {numref}`fig-rise`."),
        ("[The rise](#fig-rise) is ([as told](#table-all)).", "The rise ({numref}`fig-rise`) is ({numref}`table-all`)."),
        ("[a photograph](#fig-gone) and [s](#table-sorts)", "a photograph and [s](#table-sorts)"),
        ("[it](../book/gone.md#there), [that](02_b.ipynb)", "it, [that](02_b.ipynb)"),
    ],
)
def test_references_become_numbers_and_links_to_other_editions_words(text, becomes):
    links = Links({"fig-rise", "table-all"}, True, {"fig-gone"}, {"table-sorts"}, {"book/gone"})
    assert links(text, "notebooks/01_a") == becomes


def test_an_edition_of_other_data_says_that_sentences_are_left_out(project, tmp_path):
    run = make_run(tmp_path / "mine", phantom=False)
    for path in run.glob("*.ipynb"):
        path.write_text(path.read_text().replace("msid", "mine"))
    _, notes = staged(run, project)
    assert notes == ["sentences on MSLD and MSID are left out: the run has other data sets."]


def test_a_part_of_the_chapters_makes_an_edition_that_says_what_is_not_in_it(project, tmp_path):
    run = make_run(tmp_path / "mine", phantom=False, names=NAMES[:2], findings={"params_2": "4 M"})
    source, notes = staged(run, project)
    assert len(notes) == len(NAMES) - 2 and "03_cross_validation is left out" in notes[0]
    intro = (source / "book/intro.md").read_text()
    assert "](../notebooks/10_verdict.ipynb)" not in intro and "](../notebooks/01_data_exploration.ipynb)" in intro
    page = (source / "notebooks" / f"{NAMES[0]}.ipynb").read_text()
    assert "It is {{" not in page and "It was planted" not in page, "prose of one edition is of whole editions"
    config = (source / "_config.yml").read_text()
    assert NOT_BUILT in config and "4 M" in config and "run mine; profile recorded; mpox 0.1.0" in " ".join(config.split())


def test_both_contents_have_every_chapter():
    for name in ("_toc.yml", "book/instruments_toc.yml"):
        assert sorted(re.findall(r"notebooks/(\w+)", (ROOT / name).read_text())) == NAMES


def test_duration():
    told = {0.04: "0.0 s", 59.97: "1 min 0 s", 3599.7: "1 h 0 min", 7384: "2 h 3 min"}
    assert {seconds: duration(seconds) for seconds in told} == told


# ------------------------------------------------------------------------------------------------ building
@pytest.mark.slow
def test_both_editions_build_and_ask_nothing_of_the_network(project, monkeypatch):
    make_run(project / "_runs/recorded", phantom=False)
    make_run(project / "_runs/quick", phantom=True)
    monkeypatch.setenv("MPOX_PROJECT", str(project))
    result = CliRunner().invoke(book_command, [], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    site = project / "_site"
    assert result.output.splitlines()[-1] == f"Open {(site / 'index.html').as_uri()}"
    pages = {page.relative_to(site).as_posix(): page.read_text() for page in site.rglob("*.html")}
    for edition in ("study", "instruments"):
        assert {f"{edition}/notebooks/{name}.html" for name in NAMES} <= set(pages)
        assert external_requests(site / edition) == []
        phantom = [name for name, page in pages.items() if name.startswith(f"{edition}/") and "mpox-phantom" in page]
        assert bool(phantom) == (edition == "instruments")
    assert all("mpox-phantom" in pages[f"instruments/notebooks/{name}.html"] for name in NAMES)
    assert "run recorded" in pages["study/book/glossary.html"] and "run quick" in pages["instruments/book/glossary.html"]
    intro, ablation = pages["study/book/intro.html"], pages["study/notebooks/05_ablation.html"]
    assert "0.50 (0.40 to 0.60)" in intro and "{{" not in intro
    assert "../../instruments/index.html" in pages["study/book/how_to_read.html"]
    assert "Figure 5.1" in ablation and "Table 5.1" in ablation and 'alt="A rising curve."' in ablation
    assert 'href="../book/glossary.html#term-leakage"' in ablation
    assert "Zhao" in pages["study/book/references.html"] and "mathjax" not in "".join(pages.values()).lower()
    assert 'id="mpox.data.groups.connected"' in pages["study/book/api/data.html"]
    assert str(ROOT) not in "".join(pages.values())


#: A study of a few seconds a chapter.
TINY = {"N_FOLDS": 3, "IMAGE_SIZE": 64, "BACKBONE": "tf_efficientnet_lite0", "REPEATS": {"linear_probe": 1}}


@pytest.mark.slow
def test_a_run_of_some_chapters_on_a_folder_of_ones_own_becomes_a_book_from_end_to_end(project, tmp_path):
    for name in ("notebooks", "profiles"):
        shutil.copytree(ROOT / name, project / name)
    drawn = generate(tmp_path / "drawn", PhantomSpec(n_patients=24, size=96, seed=1, copies=2))
    folder = shutil.copytree(drawn, tmp_path / "clinic")  # without the truth beside it: somebody's own
    asked = {**TINY, "DATASETS": [str(folder)], "RUN_STORE": str(tmp_path / "store")}
    names = ["01_data_exploration", "08_other_data"]
    run = run_notebooks(names, profile="quick", overrides=asked, out=tmp_path / "mine", echo=print)
    assert run.ok, run.failure
    lines: list[str] = []
    site = build_book([run.folder], out=tmp_path / "site", echo=lines.append).parent
    assert [line for line in lines if "03_cross_validation is left out" in line]
    pages = {page.stem: page.read_text() for page in site.rglob("*.html")}
    assert set(names) < set(pages) and "10_verdict" not in pages
    assert "it needs a second collection" in pages["08_other_data"] and "phantom and phantom-elsewhere" in pages["08_other_data"]
    assert not [page for name, page in pages.items() if "mpox-phantom" in page]
    assert "10_verdict.html" not in "".join(pages.values()) and "clinic" in pages["provenance"]


@pytest.mark.slow
def test_broken_reference_fails_and_keeps_the_last_book(small, tmp_path):
    good = make_run(tmp_path / "recorded", phantom=False, names=["05_ablation"], findings={"key": "0.5", "params_2": "4 M"})
    intro = build_book([good], echo=lambda line: None).parent / "study/book/intro.html"
    before = intro.read_text()
    assert "Measured: 0.5." in before
    bad = make_run(
        tmp_path / "bad",
        phantom=False,
        names=["05_ablation"],
        findings={"key": "0.7", "params_2": "4 M"},
        extra="[x](nowhere.md)",
    )
    lines: list[str] = []
    with pytest.raises(MpoxError, match=r"was not built: mend the 1 problem"):
        build_book([bad], echo=lines.append)
    assert any("nowhere.md" in line for line in lines) and intro.read_text() == before
    assert sorted(path.name for path in small.iterdir() if path.name.startswith("._site")) == []


def test_a_folder_that_is_no_book_is_left_alone(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(MpoxError, match=r"holds something that is not a book"):
        build_book([tmp_path], out=tmp_path / "mine")
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
