"""The first page's figure and citation: from the one tagged cell, and from CITATION.cff."""

import base64
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from mpox._core import MpoxError
from mpox.book.cover import CITATION_MARK, FIGURE_MARK, TAG, citation, with_cover
from mpox.book.parts import Chapter

ROOT = Path(__file__).resolve().parents[1]
PICTURE = b"\x89PNG and so on"
ABOUT = {"image": {"alt": "Two panels."}, "figure": {"caption": "What the *rule* changes."}}


def chapter(
    folder: Path, *, cells: int = 1, pictures: int = 1, about: dict = ABOUT, name: str = "08_verdict"
) -> dict[str, Chapter]:
    """A chapter of Part I with tagged cells, and one that shows another figure."""
    output = new_output("display_data", data={"image/png": base64.b64encode(PICTURE).decode()})
    other = new_output("display_data", data={"image/png": base64.b64encode(b"another").decode()})
    tagged = [
        new_code_cell("claims()", outputs=[output] * pictures, metadata={"tags": [TAG], "mystnb": about}) for _ in range(cells)
    ]
    nbformat.write(new_notebook(cells=[new_code_cell("x", outputs=[other]), *tagged]), folder / f"{name}.ipynb")
    return {name: Chapter(name, "study", "The verdict", folder / f"{name}.ipynb", {}, {}, 1.0)}


def filled(folder: Path, chapters: dict[str, Chapter]) -> str:
    return with_cover(f"a\n\n{FIGURE_MARK}\n\nb", folder / "intro.md", chapters, project=ROOT, absent="*(none)*")


def test_the_tagged_figure_stands_where_the_mark_was(tmp_path):
    text = filled(tmp_path, chapter(tmp_path))
    assert text == 'a\n\n:::{figure} cover.png\n:alt: "Two panels."\n\nWhat the *rule* changes.\n:::\n\nb'
    assert (tmp_path / "cover.png").read_bytes() == PICTURE


def test_a_book_without_the_chapter_says_so(tmp_path):
    assert filled(tmp_path, {}) == "a\n\n*(none)*\n\nb"
    assert filled(tmp_path, chapter(tmp_path, cells=0)) == "a\n\n*(none)*\n\nb"
    assert not (tmp_path / "cover.png").exists()


@pytest.mark.parametrize("wrong", [{"pictures": 0}, {"pictures": 2}, {"about": {}}, {"about": {"image": {"alt": "x"}}}])
def test_a_tagged_cell_must_show_one_described_figure(tmp_path, wrong):
    with pytest.raises(MpoxError, match="08_verdict with the tag cover-figure must show one figure"):
        filled(tmp_path, chapter(tmp_path, **wrong))


def test_two_tagged_cells_are_too_many(tmp_path):
    with pytest.raises(MpoxError, match=r"on 2 cells \(08_verdict, 08_verdict\)"):
        filled(tmp_path, chapter(tmp_path, cells=2))


def test_one_cell_of_the_chapters_has_the_tag():
    tagged = [
        cell
        for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))
        for cell in jupytext.read(path).cells
        if TAG in cell.metadata.get("tags", [])
    ]
    assert len(tagged) == 1
    assert tagged[0].metadata["mystnb"]["image"]["alt"] and tagged[0].metadata["mystnb"]["figure"]["caption"]


def test_the_first_page_has_a_figure_a_citation_and_computed_numbers():
    text = (ROOT / "book/intro.md").read_text(encoding="utf-8")
    cover = text[: text.index("\n## ")]
    assert cover.count(FIGURE_MARK) == cover.count(CITATION_MARK) == 1
    answer = cover[cover.index("**The answer**") : cover.index(FIGURE_MARK)]
    assert len(re.findall(r"\{\{ study_\w+ \}\}", answer)) >= 8
    assert not re.findall(r"\d\.\d", re.sub(r"\{\{.*?\}\}|MSLD\s+v1\.0", "", answer))  # none is typed
    points = re.split(r"^\d\. ", answer, flags=re.M)[1:]
    assert [len(re.findall(r"\.\s", re.sub(r"v1\.0", "", point))) for point in points] == [1, 1, 1]  # three sentences


def test_the_citation_is_that_of_the_file(tmp_path):
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    line = citation(ROOT / "CITATION.cff")
    assert about["title"] in line and line.endswith(f"Version {about['version']}.")
    (tmp_path / "a.cff").write_text(
        "title: T\nversion: 1\nauthors:\n  - family-names: Doe\n    given-names: J.\n  - name: the others\n"
    )
    assert citation(tmp_path / "a.cff") == "Doe, J., the others: *T*. Version 1."
    with pytest.raises(MpoxError, match="does not say who wrote what"):
        citation(tmp_path / "missing.cff")
    (tmp_path / "b.cff").write_text("title: T\n")
    with pytest.raises(MpoxError, match="does not say who wrote what"):
        citation(tmp_path / "b.cff")
