"""The first use of each of the glossary's words on a page is linked, and nothing else."""

import pytest

from mpox._core import project_root
from mpox.book.glossary import AMBIGUOUS, FirstUses, glossary_terms

TERMS = [
    "fold",
    "inner fold",
    "copy",
    "AUROC",
    "ECE",
    "Brier score",
    "p-value",
    "class weights",
    "leakage",
    "run",
    "Holm's correction",
]


def linked(*texts: str) -> list[str]:
    page = FirstUses(TERMS)
    return [page.link(text) for text in texts]


def test_each_word_once_a_page_in_the_form_that_the_text_has():
    assert linked("Leakage: two copies in folds.", "More leakage, another copy.") == [
        "{term}`Leakage <leakage>`: two {term}`copies <copy>` in {term}`folds <fold>`.",
        "More leakage, another copy.",
    ]


def test_the_longest_word_wins_and_the_shorter_one_is_linked_where_it_stands_alone():
    assert linked("The inner\nfold lies in a fold.") == ["The {term}`inner fold` lies in a {term}`fold`."]


def test_whole_words_only_and_abbreviations_as_they_are_written():
    text = "Unfolded, twofold, fold-wise, copying; each piece; auroc."
    assert linked(text) == [text]
    assert linked("An AUROC, an ECE.") == ["An {term}`AUROC`, an {term}`ECE`."]


@pytest.mark.parametrize(
    "text",
    ["## A fold", "# AUROC", ":::{admonition} Leakage", "`fold`", "``a `fold` ``", "[a fold](x.md)", "![fold](x.png)",
     "**fold**", "*fold*",
     "{cite}`fold2020`", "```python\nfold = 1\n```", "| fold | copy |", "<b class=\"fold\">", "{{ study_fold }}", "(study-fold)=",
     "https://fold.example/copy", "<!-- fold -->"],
)  # fmt: skip
def test_what_is_no_running_prose_stays_as_it_is(text):
    assert linked(text) == [text]


def test_prose_in_a_box_or_behind_a_fence_is_linked():
    assert linked(":::{margin} Why a fold?\nA fold.\n:::\n\n```\ncopy\n```\nA copy.") == [
        ":::{margin} Why a fold?\nA {term}`fold`.\n:::\n\n```\ncopy\n```\nA {term}`copy`."
    ]


def test_a_link_set_by_hand_counts():
    assert linked("{term}`copies <copy>` and a copy; {term}`fold`.", "A fold.") == [
        "{term}`copies <copy>` and a copy; {term}`fold`.", "A fold.",
    ]  # fmt: skip


def test_everyday_words_are_left_to_the_writer():
    assert "run" in AMBIGUOUS
    assert linked("It was run.") == ["It was run."]


def test_the_books_glossary_is_read_whole(tmp_path):
    page = project_root() / "book" / "glossary.md"
    terms = glossary_terms(page)
    assert {"ablation", "AUROC", "Wilson interval"} <= set(terms) and len(terms) == len(set(terms))
    assert page.read_text(encoding="utf-8").count("\n  ") >= len(terms)
    assert {term.lower() for term in terms} >= AMBIGUOUS
    assert glossary_terms(tmp_path / "none.md") == []
    assert FirstUses([]).link("A fold.") == "A fold."
