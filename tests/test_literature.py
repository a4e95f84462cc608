"""Published figures: complete rows that agree with the book's references."""

import re

import pytest

from mpox._core import project_root
from mpox.studies.verdict import literature


@pytest.fixture(scope="module")
def table():
    return literature()


def references() -> dict[str, dict[str, str]]:
    text = (project_root() / "book" / "references.bib").read_text()
    entries = re.findall(r"@\w+\{(\w+),(.*?)\n\}", text, flags=re.DOTALL)
    return {key: dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*?)\},?$", body, flags=re.MULTILINE)) for key, body in entries}


def test_rows_are_complete(table):
    assert list(table) == ["study", "year", "doi", "data", "protocol", "leaks", "metric", "value", "sd", "note"]
    assert table[["study", "protocol", "leaks", "metric", "value", "note"]].notna().all().all()
    assert set(table["leaks"]) == {"yes", "no", "unknown"}
    assert table["value"].between(0, 1).all() and not table.duplicated(["study", "protocol", "metric", "value"]).any()


def test_studies_are_those_of_the_references(table):
    known = references()
    named = table[~table["study"].str.contains(" ")]
    assert len(named) > 8
    for row in named.itertuples():
        entry = known[row.study]
        assert str(row.year) == entry["year"]
        if "doi" in entry:
            assert row.doi == entry["doi"]


def test_the_published_f1_is_the_harmonic_mean_of_the_published_means(table):
    paper = table[table["study"] == "zhao2025"].set_index("metric")["value"]
    means = paper["precision"], paper["recall"]
    assert paper["f1_of_means"] == pytest.approx(2 * means[0] * means[1] / sum(means), abs=1e-4)


def test_the_figures_that_the_book_quotes_are_the_same(table):
    intro = (project_root() / "notebooks" / "10_verdict.py").read_text()
    quoted = {key: (float(value), float(deviation)) for value, deviation, key in re.findall(
        r"(\d\d\.\d\d) ± (\d\.\d\d) %.*?\{cite\}`(\w+)`", intro, flags=re.DOTALL
    )}  # fmt: skip
    assert set(quoted) == {"ali2022", "ali2024"}
    for key, (value, deviation) in quoted.items():
        row = table[table["study"] == key].iloc[0]
        assert (row["value"] * 100, row["sd"] * 100) == pytest.approx((value, deviation))
