"""Figures and tables: their numbers, the references to them, and what a reader of the book sees of both."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mpox._core import MpoxError, project_root
from mpox.book import report
from mpox.book.numbers import Numbered, names_in, number_all, number_page, refer, refer_on_page, references_in
from mpox.book.parts import Chapter
from mpox.book.run import list_notebooks, read_notebook

ORDER = ["02_second", "06_shortcuts", "06_other_data"]
WHOLE = {"study": True, "instruments": True}
PICTURE = new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})


def figure(name: str = "", outputs=(PICTURE,)) -> nbformat.NotebookNode:
    about = {"caption": "A curve."} | ({"name": name} if name else {})
    return new_code_cell(
        "plt.show()", outputs=list(outputs), metadata={"mystnb": {"figure": about, "image": {"alt": "A curve."}}}
    )


def table(name: str, captions=("Counts.",)) -> nbformat.NotebookNode:
    """A cell that shows one table, as the source says, as often as there are captions."""
    shown = [report._caption(name, caption) for caption in captions]
    outputs = [
        new_output("display_data", data={"text/html": f"<table>{caption}</table>", "text/plain": "x"}) for caption in shown
    ]
    return new_code_cell(f'for one in many:\n    report.show(one, name="{name}", caption=words)', outputs=outputs)


def chapter(folder: Path, part: str, name: str, cells) -> Chapter:
    (folder / part).mkdir(exist_ok=True)
    path = folder / part / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {name}"), *cells]), path)
    return Chapter(name, part, name, path, {}, {}, 1.0)


def pages(folder: Path, part: str, *, pictures: bool = True) -> dict[str, Chapter]:
    """Three pages; without pictures the first figure's cell says so in words, as where a part has no picture to show."""
    words = new_output("display_data", data={"text/markdown": "*None here.*", "text/plain": "x"})
    first = figure("climb") if pictures else figure("climb", [words])
    return {
        "02_second": chapter(folder, part, "02_second", [first, figure(), table("folds", ["One.", "Two."]), figure("fall")]),
        "06_shortcuts": chapter(folder, part, "06_shortcuts", [figure("boxes"), table("boxes")]),
        "06_other_data": chapter(folder, part, "06_other_data", [table("elsewhere"), figure("elsewhere")]),
    }


@pytest.fixture
def parts(tmp_path):
    return {part: pages(tmp_path, part, pictures=part == "study") for part in ("study", "instruments")}


def test_numbers_begin_anew_with_each_chapter_and_run_on_over_its_pages(parts):
    numbers = number_all(parts, ORDER)["study"]
    assert {key: one.number for key, one in numbers.items()} == {
        "fig-climb": "2.1", "fig-2-2": "2.2", "table-folds": "2.1", "fig-fall": "2.3",
        "fig-boxes": "6.1", "table-boxes": "6.1", "table-elsewhere": "6.2", "fig-elsewhere": "6.2",
    }  # fmt: skip


def test_twins_have_the_same_numbers_though_one_shows_fewer_pictures_or_lacks_a_page(parts):
    both = number_all(parts, ORDER)
    assert {key: one.number for key, one in both["study"].items()} == {
        key: one.number for key, one in both["instruments"].items()
    }
    del parts["study"]["06_shortcuts"]
    fewer = number_all(parts, ORDER)["study"]
    assert fewer["fig-elsewhere"].number == "6.2" and "fig-boxes" not in fewer


def test_one_name_is_given_once(parts, tmp_path):
    parts["study"]["06_other_data"] = chapter(tmp_path, "study", "06_other_data", [figure("climb")])
    with pytest.raises(MpoxError, match=r"06_other_data has a second figure named 'climb'"):
        number_all(parts, ORDER)


def test_captions_and_anchors_of_a_page(parts):
    numbers = number_all(parts, ORDER)
    for part, mark in (("study", ""), ("instruments", " (phantom)")):
        one = parts[part]["02_second"]
        cells = number_page(nbformat.read(one.path, as_version=4), one, numbers).cells
        captions = [cell.metadata.mystnb.figure.caption for cell in cells if "mystnb" in cell.metadata]
        assert captions == [f"**Figure 2.{number}{mark}.** A curve." for number in (1, 2, 3)]
        assert [cell.metadata.mystnb.figure.get("name") for cell in cells if "mystnb" in cell.metadata] == [
            f"{part}-fig-climb", f"{part}-fig-2-2", f"{part}-fig-fall",
        ]  # fmt: skip
        anchor = next(number for number, cell in enumerate(cells) if cell.source == f"({part}-table-folds)=")
        shown = [output.data["text/html"] for output in cells[anchor + 1].outputs]
        for word, html in zip(("One", "Two"), shown, strict=True):
            assert f'<caption><span class="mpox-caption"><strong>Table 2.1{mark}.</strong> {word}.</span></caption>' in html
        assert report.TABLE_MARK not in "".join(shown)


def test_a_figure_of_several_pictures_has_one_anchor_above_its_cell(tmp_path):
    one = chapter(tmp_path, "study", "02_second", [figure("sheets", [PICTURE, PICTURE])])
    numbers = number_all({"study": {"02_second": one}}, ORDER)
    cells = number_page(nbformat.read(one.path, as_version=4), one, numbers).cells
    assert [cell.source for cell in cells[1:]] == ["(study-fig-sheets)=", "plt.show()"]
    assert "name" not in cells[2].metadata.mystnb.figure


def test_references_become_numbers_across_pages_and_parts(parts):
    numbers = number_all(parts, ORDER)
    text = "[The climb](#fig-climb), [there](06_other_data.ipynb#table-elsewhere), [on\nit](../instruments/x.ipynb#fig-boxes)."
    assert references_in(text) == ["fig-climb", "table-elsewhere", "fig-boxes"]
    assert refer(text, "study", numbers, where="p", whole=WHOLE) == (
        "The climb ([Figure 2.1](#study-fig-climb)), there ([Table 6.2](#study-table-elsewhere)), "
        "on\nit ([Figure 6.1 (phantom)](#instruments-fig-boxes))."
    )
    assert (
        refer("[a figure](#fig-climb)", "instruments", numbers, where="p", whole=WHOLE) == "[Figure 2.1](#instruments-fig-climb)"
    )
    assert refer("[a](#section) [b](x.md) `c`", "study", numbers, where="p", whole=WHOLE) == "[a](#section) [b](x.md) `c`"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("[The figure of falls](#fig-fall) shows it.", "[Figure 2.3](#study-fig-fall) shows it."),
        (
            "Known ([first](#fig-fall), [second](#fig-climb)).",
            "Known ([Figure 2.3](#study-fig-fall), [Figure 2.1](#study-fig-climb)).",
        ),
        ("(So.) [Bars](#fig-fall) part.", "(So.) Bars ([Figure 2.3](#study-fig-fall)) part."),
        ("An open ( here.\n\n[Bars](#fig-fall) part.", "An open ( here.\n\nBars ([Figure 2.3](#study-fig-fall)) part."),
        ("In [every table of networks](#table-folds).", "In every table of networks ([Table 2.1](#study-table-folds))."),
        (
            "[The last figure](#fig-fall) and [a row of the table](#table-folds).",
            "[Figure 2.3](#study-fig-fall) and a row of the table ([Table 2.1](#study-table-folds)).",
        ),
        ("[The tables](#table-folds) agree.", "The tables ([Table 2.1](#study-table-folds)) agree."),
    ],
)
def test_words_that_say_more_than_figure_or_table_stay(parts, text, read):
    assert refer(text, "study", number_all(parts, ORDER), where="p", whole=WHOLE) == read


def test_references_of_a_page_are_found_in_prose_computed_sentences_and_captions(parts):
    numbers = number_all(parts, ORDER)
    cell = figure("x", [new_output("display_data", data={"text/markdown": "See ([a](#fig-fall)).", "text/plain": "x"})])
    cell.metadata.mystnb.figure.caption = "As [the figure](#fig-boxes)."
    notebook = new_notebook(cells=[new_markdown_cell("[the table](#table-folds)"), cell])
    refer_on_page(notebook, parts["study"]["02_second"], numbers, WHOLE)
    assert notebook.cells[0].source == "[Table 2.1](#study-table-folds)"
    assert cell.outputs[0].data["text/markdown"] == "See ([Figure 2.3](#study-fig-fall))."
    assert cell.metadata.mystnb.figure.caption == "As [Figure 6.1](#study-fig-boxes)."


def test_a_reference_to_nothing_names_page_and_figure(parts):
    numbers = number_all(parts, ORDER)
    with pytest.raises(MpoxError, match=r"book/intro.md refers to 'fig-clim'"):
        refer("[x](#fig-clim)", "study", numbers, where="book/intro.md", whole=WHOLE)
    partly = WHOLE | {"study": False}
    assert refer("See [the climb](#fig-clim).", "study", numbers, where="p", whole=partly) == "See the climb."


def test_titles():
    assert Numbered("Table", "3.1", "instruments", "03_x", "table-x").title == "Table 3.1 (phantom)"


# --------------------------------------------------------------------------------------- the book's own sources
def test_every_reference_of_the_sources_has_its_figure():
    """Nothing has to be executed to see a misspelt name."""
    notebooks = {name: read_notebook(name) for name in list_notebooks()}
    names = [key for notebook in notebooks.values() for key in names_in(notebook)]
    assert len(names) == len(set(names)) > 90
    texts = {name: "\n".join(cell.source for cell in notebook.cells) for name, notebook in notebooks.items()}
    texts |= {page.name: page.read_text(encoding="utf-8") for page in (project_root() / "book").rglob("*.md")}
    assert {name: sorted(set(references_in(text)) - set(names)) for name, text in texts.items()} == dict.fromkeys(texts, [])


@pytest.mark.parametrize("name", list_notebooks())
def test_every_figure_of_a_chapter_has_a_name_and_is_spoken_of(name):
    notebook = read_notebook(name)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    captioned = [cell for cell in notebook.cells if "figure" in cell.metadata.get("mystnb", {})]
    solution = [
        key for cell in captioned if "solution" in cell.metadata.get("tags", []) for key in names_in(new_notebook(cells=[cell]))
    ]
    named = [key for key in names_in(notebook) if key.startswith("fig-")]
    assert len(named) == len(captioned)
    assert set(named) - set(references_in(prose)) - set(solution) == set()
