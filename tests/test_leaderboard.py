"""One table of all methods, and the table that sorts itself in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from mpox import MpoxError
from mpox.book import report
from mpox.book.explorers import sortable_html
from mpox.studies.verdict import ABOUT, as_text, leaderboard, literature

MODEL = {"regime": "linear_probe", "head": "linear", "image_size": 224}


def result(method: str, *, protocol: str = "source", backbone: str = "lbp", auroc: float = 0.9, **more) -> pd.DataFrame:
    rows = [
        ("accuracy", "all", 0.8), ("f1", "macro", 0.7), ("f1", "Mpox", 0.6), ("auroc", "macro", 0.1), ("auroc", "Mpox", auroc),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["metric", "class", "estimate"])
    table = table.assign(low=table["estimate"] - 0.05, high=table["estimate"] + 0.05)
    return table.assign(**{"method": method, "dataset": "msid", "protocol": protocol, "backbone": backbone, **MODEL, **more})


@pytest.fixture
def costs():
    rows = [("lbp", "linear", 224, 55, 3.0), ("lbp", "hidden", 224, 5501, 3.0), ("hog", "linear", 224, 1765, 9.0)]
    return pd.DataFrame(rows, columns=["backbone", "head", "image_size", "parameters", "median_ms_1"])


@pytest.fixture
def board(costs):
    metrics = pd.concat(
        [
            result("patterns", auroc=0.85), result("patterns", protocol="random_image", auroc=0.97),
            result("gradients", backbone="hog", auroc=0.9), result("both", backbone="lbp + hog", auroc=0.99),
            result("elsewhere", protocol="external", auroc=0.6),
        ]
    )  # fmt: skip
    return leaderboard(metrics, costs, literature())


def test_ours_have_intervals_costs_and_whether_they_leak(board):
    ours = board[board["kind"] == "ours"].set_index(["method", "protocol"])
    row = ours.loc["patterns", "source"]
    assert row[["accuracy", "macro F1", "AUROC"]].tolist() == [0.8, 0.7, 0.85]
    assert row["AUROC low"] == pytest.approx(0.8) and row["AUROC high"] == pytest.approx(0.9)
    assert (row["parameters"], row["ms"], row["leaks"], row["data"]) == (55, 3.0, "no", "msid")
    assert ours.loc["patterns", "random_image"]["leaks"] == "yes"
    assert ours.loc["elsewhere", "external"]["leaks"] == "unknown"
    assert ours.loc["gradients", "source"]["parameters"] == 1765
    assert np.isnan(ours.loc["both", "source"]["parameters"]) and len(ours) == 5


def test_the_literature_stands_beside_them_with_its_protocol(board):
    assert list(board.columns[:6]) == ABOUT
    assert board.loc[0, ["method", "AUROC"]].tolist() == ["Zhao et al. (2025)", 0.998]
    known = board["AUROC"].dropna()
    assert known.is_monotonic_decreasing and board["AUROC"].notna().to_numpy()[: len(known)].all()
    rest = board[board["AUROC"].isna()]
    assert rest["accuracy"].is_monotonic_decreasing and set(rest["kind"]) == {"literature"}
    paper = board.iloc[0]
    assert np.isnan(paper["macro F1"])  # the published F1 is another measure
    first = board[board["method"] == "Ali et al. (2022)"].iloc[0]
    assert (first["accuracy"], first["leaks"]) == (0.8296, "no") and "± 0.046" in first["note"]
    audited = board[board["method"] == "an audited study"]
    assert audited.set_index("leaks")["accuracy"].to_dict() == {"yes": 0.9786, "unknown": 0.7723}
    assert "Vega et al. (2023)" not in set(board["method"])  # which measure it scored by is not known


def test_the_text_puts_figures_beside_the_name_and_leaves_out_what_is_not_known(board):
    text = as_text(board).set_index("method", drop=False)
    assert list(text.columns[:4]) == ["method", "AUROC", "accuracy", "macro F1"]
    row = text.loc["gradients"]
    assert row["AUROC"] == "0.900 (0.850 to 0.950)" and row["parameters (thousands)"] == "1.8" and row["note"] == ""
    assert text.loc["Zhao et al. (2025)", ["AUROC", "accuracy", "ms", "regime"]].tolist() == ["0.998", "", "", ""]


def test_what_is_not_cited_says_so(board):
    published = board[board["kind"] == "literature"]
    cited = published["method"].str.fullmatch(r"[A-Z][a-z]+ et al\. \(\d{4}\)")
    assert cited.any() and published.loc[~cited, "note"].str.contains("no reference").all()


def test_a_name_stands_for_one_model(costs):
    with pytest.raises(MpoxError, match="'patterns' has two models"):
        leaderboard(pd.concat([result("patterns"), result("patterns", head="hidden")]), costs, literature())
    with pytest.raises(MpoxError, match="'patterns' was evaluated twice"):
        leaderboard(pd.concat([result("patterns"), result("patterns")]), costs, literature())


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.cells: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


EVIL = "<script>alert(1)</script>\"'&"


def test_the_table_is_whole_without_a_script_and_fetches_nothing():
    text = sortable_html(pd.DataFrame({"name": [EVIL, "b"], "AUROC": ["0.9", None]}), caption=f"All {EVIL}")
    page = _Page(text)
    assert page.cells == ["name", "AUROC", EVIL, "0.9", "b", ""]
    assert "<script>alert" not in text and len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert not re.search(r"(src|href|url)\s*[=(]", text) and "@import" not in text
    assert [attrs["scope"] for tag, attrs in page.tags if tag == "th"] == ["col", "col"]


def test_a_notebook_shows_it_and_a_terminal_reads_it(monkeypatch):
    shown = []
    monkeypatch.setattr(report, "display", lambda forms, raw: shown.append(forms))
    report.sortable(pd.DataFrame({"name": ["a"], "AUROC": [0.91234]}), caption="All methods")
    bundle = shown[0]
    assert "<td>0.912</td>" in bundle["text/html"] and "All methods" in bundle["text/plain"] and "0.912" in bundle["text/plain"]


#: As much of a page as the script asks for.
PAGE = """
class Cell {
  constructor(text) { this.textContent = text; this.attributes = {}; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  replaceChildren(child) { this.child = child; }
  addEventListener(_, action) { this.click = action; }
}
const [names, lines, clicks] = JSON.parse(process.argv[1]);
const rows = lines.map((line) => ({ cells: line.map((text) => new Cell(text)) }));
const body = { rows: rows.slice(), appendChild(row) { this.rows = this.rows.filter((other) => other !== row).concat([row]); } };
const headers = names.map((name) => new Cell(name));
const table = { tBodies: [body], tHead: { rows: [{ cells: headers }] } };
const document = { getElementById: () => table, createElement: () => new Cell("") };
mpoxSortable("any");
clicks.forEach((column) => headers[column].child.click());
const said = headers.map((header) => header.getAttribute("aria-sort"));
console.log(JSON.stringify([body.rows.map((row) => row.cells[0].textContent), said]));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
@pytest.mark.parametrize(
    ("clicks", "names", "said"),
    [
        ([1], ["b", "a", "d", "c", "e"], [None, "ascending", None]),
        ([1, 1], ["c", "d", "a", "b", "e"], [None, "descending", None]),
        ([1, 0], ["a", "b", "c", "d", "e"], ["ascending", None, None]),
        ([2, 2], ["e", "d", "a", "b", "c"], [None, None, "descending"]),
        ([1, 1, 1], ["b", "a", "d", "c", "e"], [None, "ascending", None]),
    ],
)
def test_clicks_sort_by_number_or_by_word_and_what_is_missing_comes_last(clicks, names, said):
    lines = [
        ["a", "0.900 (0.8 to 0.9)", "one"], ["b", "0.100", ""], ["c", "11.5", ""], ["d", "9", "two"], ["e", "", "zero"],
    ]  # fmt: skip
    script = re.search(r"<script>(.*)\nmpoxSortable\(", sortable_html(pd.DataFrame({"x": ["y"]}), caption=""), re.DOTALL)[1]
    asked = json.dumps([["name", "AUROC", "word"], lines, clicks])
    done = subprocess.run(["node", "-e", script + PAGE, asked], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [names, said]
