"""The explorer's numbers are scikit-learn's, and its script shows just the row that was computed."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from mpox import MpoxError
from mpox.book.explorers import THRESHOLDS, explorer_html, operating_table, show_explorer


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    truth = np.arange(120) % 3 == 0
    p = 1 / (1 + np.exp(-(rng.normal(size=120) + 1.5 * truth - 0.7)))
    names = [f"i{k:03d}" for k in range(120)]
    table = pd.DataFrame({"repeat": 0, "image_id": names, "group_id": [f"g{k // 2}" for k in range(120)]})
    return table.assign(label=np.where(truth, "Mpox", "Others"), p_Mpox=p, p_Others=1 - p)


def test_counts_and_shares_are_scikit_learns(predictions):
    table = operating_table(pd.concat([predictions, predictions.assign(repeat=1, p_Mpox=0.0)]), n_bootstrap=50)
    assert table["threshold"].tolist() == THRESHOLDS.tolist()
    for row in table.iloc[[0, 20, 50, 77, 100]].itertuples():
        called = predictions["p_Mpox"] >= row.threshold
        tn, fp, fn, tp = confusion_matrix(predictions["label"] == "Mpox", called).ravel()
        assert (row.tp, row.fn, row.fp, row.tn) == (tp, fn, fp, tn)
        assert row.sensitivity == pytest.approx(tp / (tp + fn)) and row.specificity == pytest.approx(tn / (tn + fp))
        assert row.sensitivity_low <= row.sensitivity <= row.sensitivity_high


def test_one_side_alone_has_no_curve(predictions):
    with pytest.raises(MpoxError, match="needs images of Mpox and others"):
        operating_table(predictions[predictions["label"] == "Mpox"])


def test_the_page_is_whole_without_a_script(predictions, capsys):
    table = operating_table(predictions, n_bootstrap=20)
    page = explorer_html({"a < b": table, "c": table}, caption="Two & two")
    assert "a &lt; b" in page and "Two &amp; two" in page and "http" not in page
    half = table.iloc[50]
    assert f"<td data-cell=tp>{int(half['tp'])}</td>" in page
    assert f"Sensitivity {half['sensitivity']:.2f} (95 % interval " in page and "), specificity " in page, (
        "as the script spells it"
    )
    HTMLParser().feed(page)
    show_explorer({"c": table}, caption="One")
    assert "At a threshold of 0.50" in capsys.readouterr().out


@pytest.mark.parametrize("number", [0, 5])
def test_no_curve_and_too_many_are_refused(predictions, number):
    table = operating_table(predictions, n_bootstrap=5)
    with pytest.raises(MpoxError, match="one to 4 curves"):
        explorer_html({str(k): table for k in range(number)}, caption="")


DOM = """
const made = (name) => ({ attributes: {}, textContent: "", setAttribute(k, v) { this.attributes[k] = v; },
  getAttribute(k) { return { x: 34, y: 34, width: 240, height: 240 }[k]; },
  addEventListener(kind, handler) { this.on = handler; },
  getBoundingClientRect: () => ({ left: 10, top: 20, width: 480, height: 480 }) });
const parts = {};
const fields = { curve: { value: CURVE }, threshold: { value: "NUMBER" }, value: {}, prevalence: { value: "PERCENT" } };
const form = { elements: { namedItem: (name) => fields[name] }, addEventListener() {} };
const root = { querySelector: (q) => q === "form" ? form : (parts[q] = parts[q] || made(q)) };
globalThis.document = { getElementById: () => root };
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed; the browser tests run the script, too")
def test_the_script_shows_the_row_of_the_slider(predictions):
    table = operating_table(predictions, n_bootstrap=20)
    tp, says, value, alarms, *_ = run({"one": table, "two": table.assign(tp=7)}, "two", 30)
    assert tp == 7 and value == "0.30" and f"Sensitivity {table['sensitivity'].round(3)[30]:.2f}" in says
    sensitivity, specificity = table.round(3).loc[30, ["sensitivity", "specificity"]]
    predictive = 0.2 * sensitivity / (0.2 * sensitivity + 0.8 * (1 - specificity))  # Bayes' theorem
    assert alarms == f"Where 20 % have Mpox, {100 * (1 - predictive):.0f} of 100 alarms are false."
    assert run({"one": table}, "one", 30, percent="-3")[3] == "Give a prevalence from 0.1 to 50 %."
    nobody = table.assign(sensitivity=0.0, specificity=1.0)
    assert run({"one": nobody}, "one", 99)[3].endswith("nobody is called Mpox at this threshold.")


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed; the browser tests run the script, too")
def test_a_click_chooses_the_nearest_point_of_any_curve(predictions):
    table = operating_table(predictions, n_bootstrap=20)
    other = table.assign(sensitivity=table["sensitivity"] / 2)
    row = other.loc[20]
    click = f"parts.svg.on({{ clientX: {10 + 480 * (1 - row['specificity'])}, clientY: {20 + 480 * (1 - row['sensitivity'])} }});"
    *_, curve, number = run({"one": table, "other": other}, "one", 50, then=click)
    place = other[["specificity", "sensitivity"]].round(3)
    assert curve == "other" and place.loc[int(number)].equals(place.loc[20])


def run(curves, curve, number, *, percent="20", then=""):
    """What the page shows at a threshold of a curve, after the script ``then``."""
    script = explorer_html(curves, caption="Curves").split("<script>")[1].split("</script>")[0]
    dom = DOM.replace("CURVE", json.dumps(curve)).replace("NUMBER", str(number)).replace("PERCENT", percent)
    shown = "[parts['[data-cell=tp]'].textContent, parts['.says'].textContent, fields.value.value, parts['.alarms'].textContent,"
    last = f"{then} console.log(JSON.stringify({shown} fields.curve.value, fields.threshold.value]))"
    return json.loads(subprocess.run(["node", "-e", dom + script + last], capture_output=True, text=True, check=True).stdout)


def test_without_a_script_the_page_says_how_many_alarms_are_false(predictions):
    table = operating_table(predictions, n_bootstrap=20)
    half = table.round(3).iloc[50]
    wrong, right = 99 * (1 - half["specificity"]), half["sensitivity"]
    text = f"Where 1 % have Mpox, {100 * wrong / (wrong + right):.0f} of 100 alarms are false."
    assert text in explorer_html({"one": table}, caption="Curves")
