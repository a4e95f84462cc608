"""Reporting checklists: items are complete, links lead to headings that exist, and the tables say what the data say."""

import re

import pytest

from mpox._core import MpoxError, project_root
from mpox.book.checklists import Item, Page, counts_table, filled, headings, items_table, link, notebook_headings, read_checklist
from mpox.book.profiles import list_notebooks, read_notebook

FOLDER = project_root() / "book" / "checklists"
#: How many items each publication has, and the first and last number.
PUBLISHED = {
    "claim_2024": (44, "1", "44"),
    "tripod_ai": (52, "1", "27c"),
    "clear_derm": (25, "Data 1", "Application 2"),
    "reforms": (32, "1a", "8b"),
}
#: Chapters and pages that are being written; a link to one is followed as soon as it is there.
IN_THE_MAKING = set()


@pytest.fixture(scope="module")
def pages():
    """Every chapter and page by its place, from the sources."""
    found = {}
    for name in list_notebooks():
        found[f"study/{name}"] = Page(f"study/{name}.ipynb", f"chapter {int(name[:2])}", notebook_headings(read_notebook(name)))
    for path in (project_root() / "book").rglob("*.md"):
        place = path.relative_to(project_root()).with_suffix("").as_posix()
        found[place] = Page(f"{place}.md", path.stem, headings(path.read_text()))
    return found


def items(key):
    return [item for section in read_checklist(FOLDER / f"{key}.yml").values() for item in section]


@pytest.mark.parametrize("key", PUBLISHED)
def test_every_item_is_there_in_order(key):
    count, first, last = PUBLISHED[key]
    numbers = [item.number for item in items(key)]
    assert len(numbers) == count and numbers[0] == first and numbers[-1] == last
    order = [[int(part) if part.isdigit() else part for part in re.findall(r"\d+|[a-z]+", number)] for number in numbers]
    if key != "clear_derm":
        assert order == sorted(order)


@pytest.mark.parametrize("key", PUBLISHED)
def test_every_link_leads_somewhere(key, pages):
    for item in items(key):
        for place in item.where:
            name, _, slug = place.partition("#")
            if name in IN_THE_MAKING and name not in pages:
                continue
            assert name in pages, f"{key} {item.number} names {name}"
            assert not slug or slug in pages[name].headings, f"{key} {item.number} names {place}"


def test_every_checklist_has_a_page_and_every_page_its_data():
    assert {path.stem for path in FOLDER.glob("*.yml")} == set(PUBLISHED)
    assert {path.stem for path in FOLDER.glob("*.md")} == {*PUBLISHED, "index"}
    toc = (project_root() / "_toc.yml").read_text()
    assert all(f"book/checklists/{key}\n" in toc for key in [*PUBLISHED, "index"])


def test_nothing_is_claimed_of_what_the_collections_do_not_tell():
    """Consent, who labelled and who is shown are not known to anyone; a page that says otherwise would be wrong."""
    status = {(key, item.number): item.status for key in PUBLISHED for item in items(key)}
    unknown = [("claim_2024", "16"), ("claim_2024", "36"), ("tripod_ai", "17"), ("tripod_ai", "8b"), ("clear_derm", "Data 7")]
    assert {status[item] for item in unknown} == {"not reported"}


# ------------------------------------------------------------------------------------------------- reading
def written(tmp_path, text):
    path = tmp_path / "list.yml"
    path.write_text(text)
    return path


ONE = "sections:\n  - name: S\n    items:\n      - {number: '1', topic: t, asks: a, status: answered, where: [book/intro]}\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("answered", "perhaps"), "status 'perhaps'"),
        (("where: [book/intro]", "where: []"), "does not say where"),
        (("answered", "partly"), "does not say why"),
        (("topic: t", "subject: t"), "unexpected keyword"),
        (("sections", "parts"), "is no checklist"),
        (("asks: a", "asks: ["), "is no checklist"),
    ],
)
def test_an_incomplete_item_is_refused(tmp_path, change, said):
    assert read_checklist(written(tmp_path, ONE))["S"] == [Item("1", "t", "a", "answered", ("book/intro",))]
    with pytest.raises(MpoxError, match=said):
        read_checklist(written(tmp_path, ONE.replace(*change)))


def test_a_number_is_there_once(tmp_path):
    again = ONE + "\n".join(ONE.splitlines()[-1:]) + "\n"
    with pytest.raises(MpoxError, match="item 1 twice"):
        read_checklist(written(tmp_path, again))


# ----------------------------------------------------------------------------------------------- rendering
BOOK = {
    "study/03_cv": Page("study/03_cv.ipynb", "chapter 3", {"the-experiment": "The experiment"}),
    "book/data_sheet": Page("book/data_sheet.md", "Data sheets", {}),
}


def test_links_name_chapter_and_section_and_fail_on_a_section_that_is_gone():
    assert link("study/03_cv#the-experiment", BOOK, depth=2) == (
        "[chapter 3, *The experiment*](../../study/03_cv.ipynb#the-experiment)"
    )
    assert link("book/data_sheet", BOOK, depth=1) == "[Data sheets](../book/data_sheet.md)"
    assert link("study/07_use", BOOK, depth=2) == "chapter 7, not in this build"
    assert link("book/model_card", BOOK, depth=2) == "model card, not in this build"
    with pytest.raises(MpoxError, match="'the-end' of study/03_cv.ipynb"):
        link("study/03_cv#the-end", BOOK, depth=2)


def test_a_table_tells_item_status_note_and_place():
    sections = {"Data": [Item("5a", "Source", "Where from | why?", "partly", ("book/data_sheet",), "From the web.")]}
    text = items_table(sections, BOOK)
    assert text.splitlines()[0] == "## Data"
    assert text.splitlines()[-1] == (
        r"| **5a** Source | Where from \| why? | **Partly.** From the web. ([Data sheets](../../book/data_sheet.md)) |"
    )


def test_headings_are_those_of_the_text_and_not_of_a_program():
    text = '# T\n\n## A: "p > 0.05"?\n\n```python\n## no heading\n```\n### Deep `er`\n'
    assert headings(text) == {"a-p--005": 'A: "p > 0.05"?', "deep-er": "Deep `er`"}


def test_pages_are_filled_from_their_data(pages):
    known = {place: page for place, page in pages.items()}
    text = filled((FOLDER / "reforms.md").read_text(), FOLDER / "reforms.md", known)
    assert text.count("\n| **") == 32 and "<!--" not in text
    index = filled((FOLDER / "index.md").read_text(), FOLDER / "index.md", known)
    rows = re.findall(r"^\| \[.*?\]\(.*?\) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", index, flags=re.M)
    assert sorted(int(row[0]) for row in rows) == sorted(count for count, _, _ in PUBLISHED.values())
    assert all(int(row[0]) == sum(map(int, row[1:])) for row in rows)
    assert counts_table(FOLDER, known) in index
