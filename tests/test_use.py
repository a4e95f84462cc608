"""The calculator of screening costs in the page."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from mpox import MpoxError
from mpox.book import explorers
from mpox.book.explorers import people_text, shipped, show_widget, widget_html
from mpox.stats.decisions import Costs, expected_cost, predictive_values, strategy_costs


def _replicates(sensitivity: float, specificity: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    values = {"sensitivity": sensitivity, "specificity": specificity}
    return {name: np.r_[value, rng.normal(value, 0.03, 600).clip(0, 1)] for name, value in values.items()}


@pytest.fixture(scope="module")
def points() -> dict:
    return {"<b>first</b>": _replicates(0.9, 0.7), "</script>second": _replicates(0.7, 0.9)}


def test_the_page_fetches_nothing_and_says_the_first_setting_without_a_script(points):
    page = widget_html(points, prevalence=0.02, costs=Costs(), caption="What does it cost? <now>")
    table = strategy_costs(0.02, *np.array(shipped(points["<b>first</b>"])), Costs())
    for value in table[["estimate", "low", "high"]].to_numpy().ravel():
        assert f"{value:.2f}" in page
    assert page.count("<script>") == page.count("</script>") == 1 and "<b>" not in page.split("<script>")[0]
    assert not re.search(r"(src|href|url)\s*[=(]", page) and "@import" not in page
    with pytest.raises(MpoxError, match="an operating point"):
        widget_html({}, prevalence=0.02, costs=Costs(), caption="")


def test_a_terminal_reads_a_table(points, monkeypatch):
    shown = []
    monkeypatch.setattr(explorers, "display", lambda bundle, raw: shown.append(bundle))
    show_widget(points, prevalence=0.02, costs=Costs(), caption="Costs")
    cost = expected_cost(0.02, 0.9, 0.7, Costs())
    assert people_text(0.02, 0.9, 0.7) in shown[0]["text/plain"]
    assert f"{cost:.2f}" in shown[0]["text/plain"] and "<form>" in shown[0]["text/html"]


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
@pytest.mark.parametrize("prevalence", [0.001, 0.02, 0.5])
def test_the_script_computes_what_python_computes(points, prevalence):
    page = widget_html(points, prevalence=0.02, costs=Costs(), caption="")
    script = re.search(r"<script>(.*)\nmpoxScreening\(", page, re.DOTALL)[1]
    costs = Costs(picture=3, false_alarm=70, missed=1500)
    asked = [prevalence, shipped(points["</script>second"]), vars(costs)]
    run = "\nconsole.log(JSON.stringify(mpoxScreeningCosts(...JSON.parse(process.argv[1]))));"
    done = subprocess.run(["node", "-e", script + run, json.dumps(asked)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    table = strategy_costs(prevalence, *np.array(asked[1]), costs)
    assert np.allclose(found["rows"], table[["estimate", "low", "high"]].to_numpy())
    sensitivity, specificity = np.array(asked[1])[:, 0]
    assert found["says"] == people_text(prevalence, sensitivity, specificity)
    ill, hits, missed, alarms = (int(text.replace(",", "")) for text in re.findall(r"[\d,]*\d", found["says"])[1:5])
    values = predictive_values(sensitivity, specificity, prevalence)
    assert (ill, hits + missed) == (round(10_000 * prevalence), ill), "whole people that add up"
    assert [missed, alarms] == pytest.approx([10_000 * values["missed"], 10_000 * values["false_alarms"]], abs=0.51)


#: As much of a page as the script asks for.
PAGE = """
const [points, settings] = JSON.parse(process.argv[1]);
const cell = () => ({ textContent: "" });
const lines = [0, 1, 2].map(() => ({ cells: [cell(), cell(), cell()], className: "" }));
const fields = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, {
  value, setAttribute(key, text) { this[key] = text; },
}]));
fields.prevalence = { value: "" };
let changed = null;
const form = {
  elements: { namedItem: (name) => fields[name] },
  addEventListener: (kind, act) => { if (kind === "input") { changed = act; } },
};
const people = cell(), invalid = cell();
const found = { form: form, tbody: { rows: lines }, ".people": people, ".invalid": invalid };
const root = { querySelector: (what) => found[what] };
const document = { getElementById: () => root };
mpoxScreening("any", points);
fields.missed.value = "100000";
changed();
const shown = lines.map((line) => [line.cells[1].textContent, line.className]);
fields.missed.value = "-";
changed();
const said = [invalid.textContent, fields.missed["aria-invalid"], lines[0].cells[1].textContent];
fields.missed.value = "7";
changed();
said.push(invalid.textContent, fields.missed["aria-invalid"]);
console.log(JSON.stringify([shown, fields.prevalence.value, people.textContent, said]));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
def test_a_change_of_a_field_changes_the_table_and_what_is_no_cost_is_said(points):
    page = widget_html(points, prevalence=0.02, costs=Costs(), caption="")
    script = re.search(r"<script>(.*)\nmpoxScreening\(", page, re.DOTALL)[1]
    known = {name: shipped(point) for name, point in points.items()}
    settings = {"picture": "1", "false_alarm": "50", "missed": "2000", "place": str(np.log10(0.02)), "point": "<b>first</b>"}
    asked = json.dumps([known, settings])
    done = subprocess.run(["node", "-e", script + PAGE, asked], capture_output=True, text=True, check=True)
    shown, prevalence, people, (warning, marked, kept, after, unmarked) = json.loads(done.stdout)
    wanted = strategy_costs(0.02, *np.array(known["<b>first</b>"]), Costs(missed=100_000))["estimate"]
    assert [float(text) for text, _ in shown] == pytest.approx(wanted.tolist(), abs=0.006)
    assert [name for _, name in shown].index("cheapest") == wanted.idxmin()
    assert prevalence == "2.0 %" and people == people_text(0.02, 0.9, 0.7)
    assert "cost of a missed case must be a number" in warning and (marked, kept) == ("true", shown[0][0])
    assert (after, unmarked) == ("", "false")
