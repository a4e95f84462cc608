"""Decision curves, predictive values, costs and the calculator in the page."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from dcurves import dca

from mpox import MpoxError
from mpox.book import explorers
from mpox.book.explorers import shipped, show_widget, widget_html
from mpox.stats.decisions import (
    ADVANTAGE,
    EVERYONE,
    MODEL,
    NOBODY,
    Costs,
    at_prevalence,
    cost_curve,
    decision_curve,
    expected_cost,
    predictive_table,
    predictive_values,
    strategy_costs,
    useful_range,
    worthwhile_prevalences,
)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """400 pictures of 200 people, 30 % with Mpox; coarse probabilities, so that many are equal to a threshold."""
    rng = np.random.default_rng(0)
    ill = np.repeat(rng.random(200) < 0.3, 2)
    p = np.round(np.clip(rng.normal(np.where(ill, 0.6, 0.3), 0.2), 0.01, 0.99), 2)
    frame = pd.DataFrame({"repeat": 0, "fold": 0, "image_id": [f"i{k:03d}" for k in range(400)]})
    frame = frame.assign(group_id=np.repeat([f"g{k}" for k in range(200)], 2), label=np.where(ill, "Mpox", "Others"))
    return frame.assign(p_Mpox=p, p_Others=1 - p)


def test_the_curve_is_that_of_dcurves(predictions):
    thresholds = np.round(np.arange(0.01, 0.95, 0.01), 2)
    ours = decision_curve(predictions, thresholds=thresholds, n_bootstrap=0)
    table = pd.DataFrame({"ill": (predictions["label"] == "Mpox").astype(int), "model": predictions["p_Mpox"]})
    theirs = dca(data=table, outcome="ill", modelnames=["model"], thresholds=thresholds)
    for strategy, name in ((MODEL, "model"), (EVERYONE, "all"), (NOBODY, "none")):
        mine = ours[ours["strategy"] == strategy].set_index("threshold")["estimate"]
        other = theirs[theirs["model"] == name].set_index("threshold")["net_benefit"]
        assert np.allclose(mine.to_numpy(), other.reindex(thresholds).to_numpy(), atol=1e-9)


def test_another_prevalence_is_that_of_dcurves_once_the_probabilities_are_moved(predictions):
    thresholds = np.array([0.005, 0.01, 0.02, 0.1])
    ours = decision_curve(predictions, thresholds=thresholds, prevalence=0.02, n_bootstrap=0)
    ill = predictions["label"] == "Mpox"
    moved = at_prevalence(predictions["p_Mpox"].to_numpy(), ill.mean(), 0.02)
    table = pd.DataFrame({"ill": ill.astype(int), "model": moved})
    theirs = dca(data=table, outcome="ill", modelnames=["model"], thresholds=thresholds, prevalence=0.02)
    mine = ours[ours["strategy"] == MODEL]["estimate"]
    assert np.allclose(mine, theirs[theirs["model"] == "model"]["net_benefit"], atol=1e-9)


def test_bands_hold_the_curve_and_the_advantage_is_over_the_better_of_both(predictions):
    curve = decision_curve(predictions, n_bootstrap=300)
    assert ((curve["low"] <= curve["estimate"]) & (curve["estimate"] <= curve["high"])).mean() > 0.98
    wide = curve.pivot(index="threshold", columns="strategy", values="estimate")
    assert np.allclose(wide[ADVANTAGE], wide[MODEL] - wide[[EVERYONE, NOBODY]].max(axis=1))
    low, high = useful_range(curve)
    assert 0.05 < low < 0.35 < high < 0.9
    assert useful_range(decision_curve(predictions.assign(p_Mpox=0.5, p_Others=0.5), n_bootstrap=50)) is None


def test_a_decision_curve_needs_both_kinds_and_numbers_in_range(predictions):
    with pytest.raises(MpoxError, match="only one of the two"):
        decision_curve(predictions[predictions["label"] == "Mpox"])
    for options in ({"thresholds": np.array([1.0])}, {"prevalence": 0.0}):
        with pytest.raises(MpoxError, match="takes thresholds"):
            decision_curve(predictions, **options)


def test_predictive_values_of_a_worked_example():
    """Gigerenzer et al. 2007: mammography, 1 % prevalence, 90 % sensitivity, 9 % false positives; of 98 positives 9 are ill."""
    found = predictive_values(0.90, 0.91, 0.01)
    assert found["ppv"] == pytest.approx(9 / 98.1) and found["npv"] == pytest.approx(900.9 / 901.9)
    assert 1000 * found["missed"] == pytest.approx(1) and 1000 * found["false_alarms"] == pytest.approx(89.1)
    assert 1000 * found["flagged"] == pytest.approx(98.1)


def test_at_the_collections_own_prevalence_they_are_counted(predictions):
    flagged, ill = predictions["p_Mpox"] >= 0.5, predictions["label"] == "Mpox"
    se, sp = flagged[ill].mean(), (~flagged)[~ill].mean()
    found = predictive_values(se, sp, ill.mean())
    assert found["ppv"] == pytest.approx(ill[flagged].mean()) and found["npv"] == pytest.approx((~ill)[~flagged].mean())


def test_the_table_has_limits_and_what_is_undefined_is_not_a_number():
    replicates = {"sensitivity": np.array([0.9, 0.8, 1.0]), "specificity": np.array([0.8, 0.7, 0.9])}
    table = predictive_table(replicates, np.array([0.001, 0.5])).set_index(["prevalence", "measure"])
    row = table.loc[(0.5, "ppv")]
    assert row["low"] < row["estimate"] == pytest.approx(0.45 / 0.55) and row["high"] > row["estimate"]
    assert np.isnan(predictive_values(0.0, 1.0, 0.1)["ppv"])
    with pytest.raises(MpoxError, match="from 0 to 1"):
        predictive_values(0.9, 0.9, 50)


def test_the_cost_is_that_of_counting_a_thousand_people():
    costs = Costs(picture=2, false_alarm=30, missed=500)  # 20 ill of 1000: 3 missed, 98 false alarms
    assert 1000 * expected_cost(0.02, 0.85, 0.9, costs) == pytest.approx(1000 * 2 + 98 * 30 + 3 * 500)
    table = strategy_costs(0.02, np.array([0.85]), np.array([0.9]), costs)["estimate"]
    assert (1000 * table).round(6).tolist() == [6440, 980 * 30, 20 * 500]
    with pytest.raises(MpoxError, match="at least 0"):
        Costs(missed=-1)


def test_between_its_limits_the_model_is_the_cheapest_and_nowhere_else():
    costs = Costs()
    low, high = worthwhile_prevalences(0.9, 0.8, costs)
    grid = np.linspace(0.0005, 0.6, 400)
    table = cost_curve(grid, np.array([0.9]), np.array([0.8]), costs).pivot(
        index="prevalence", columns="strategy", values="estimate"
    )
    cheapest = table.columns[table.to_numpy().argmin(axis=1)] == "the model first"
    assert (cheapest == ((grid > low) & (grid < high))).all()
    assert worthwhile_prevalences(0.9, 0.8, Costs(picture=1000)) is None


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
    values = predictive_values(*np.array(asked[1])[:, 0], prevalence)
    assert found["missed"] == pytest.approx(1000 * values["missed"])
    assert found["alarms"] == pytest.approx(1000 * values["false_alarms"])


#: As much of a page as the script asks for.
PAGE = """
const [points, settings] = JSON.parse(process.argv[1]);
const cell = () => ({ textContent: "" });
const lines = [0, 1, 2].map(() => ({ cells: [cell(), cell(), cell()], className: "" }));
const fields = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, { value }]));
fields.prevalence = { value: "" };
let changed = null;
const form = {
  elements: { namedItem: (name) => fields[name] },
  addEventListener: (kind, act) => { if (kind === "input") { changed = act; } },
};
const people = cell();
const found = { form: form, tbody: { rows: lines }, ".people": people };
const root = { querySelector: (what) => found[what] };
const document = { getElementById: () => root };
mpoxScreening("any", points);
fields.missed.value = "100000";
changed();
const shown = lines.map((line) => [line.cells[1].textContent, line.className]);
fields.missed.value = "-";
changed();
console.log(JSON.stringify([shown, fields.prevalence.value, people.textContent, lines[0].cells[1].textContent]));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node runs the page's script")
def test_a_change_of_a_field_changes_the_table_and_half_a_number_does_not(points):
    page = widget_html(points, prevalence=0.02, costs=Costs(), caption="")
    script = re.search(r"<script>(.*)\nmpoxScreening\(", page, re.DOTALL)[1]
    known = {name: shipped(point) for name, point in points.items()}
    settings = {"picture": "1", "false_alarm": "50", "missed": "2000", "place": str(np.log10(0.02)), "point": "<b>first</b>"}
    asked = json.dumps([known, settings])
    done = subprocess.run(["node", "-e", script + PAGE, asked], capture_output=True, text=True, check=True)
    shown, prevalence, people, after = json.loads(done.stdout)
    wanted = strategy_costs(0.02, *np.array(known["<b>first</b>"]), Costs(missed=100_000))["estimate"]
    assert [float(text) for text, _ in shown] == pytest.approx(wanted.tolist(), abs=0.006)
    assert [name for _, name in shown].index("cheapest") == wanted.idxmin()
    assert prevalence == "2.0 %" and "misses 2.0" in people and after == shown[0][0]
