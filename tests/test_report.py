"""Computed prose, tables as they are read, and images that are shown."""

import ast
import base64
import json
import re

import matplotlib.pyplot as plt
import myst_nb.ext.glue
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mpox import ModelConfig, cross_validate, evaluate, open_store
from mpox._core import MpoxError
from mpox.audit.quality import quality_of
from mpox.book import plots, report
from mpox.book.wording import COLUMN_WORDS, as_read, column_words, p_text
from mpox.data.dataset import Dataset
from mpox.studies.errors import error_table


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("report"))
    data = store.dataset(tiny_folder)
    return store, data, cross_validate(store, data, "source", ModelConfig(backbone="colour_histogram", image_size=64), n_folds=3)


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: the objects handed to IPython's display."""
    objects = []
    monkeypatch.setattr(report, "display", lambda thing, raw=False, metadata=None: objects.append(thing))
    return objects


def test_a_finding_is_what_myst_nb_glues(monkeypatch):
    calls = []
    for place in (report, myst_nb.ext.glue):
        name = "display" if place is report else "ipy_display"
        monkeypatch.setattr(place, name, lambda *values, **options: calls.append((values, options)))
    report.finding("a", "it's")
    myst_nb.glue("a", "it's", display=False)
    assert calls[0] == calls[1]


def test_an_estimate_is_taken_from_the_table_and_has_no_negative_zero():
    row = {"metric": "accuracy", "class": "all", "estimate": -0.0001, "low": -0.02, "high": 0.01}
    table = pd.DataFrame([row, row | {"class": "Mpox", "estimate": 0.5}])
    assert report.estimate(table, "accuracy", "all") == "0.00 (-0.02 to 0.01)"


def test_provenance_names_the_runs_and_the_data(study, shown):
    store, data, predictions = study
    report.provenance("99_test", store, [data])
    glued, said = shown
    record = json.loads(ast.literal_eval(glued[f"{report.RECORD}text/plain"]))
    assert record["phantom"] is False
    assert set(record["run_ids"]) == set(predictions["run_id"])
    assert record["versions"]["torch"] and record["device"].startswith("cpu (")
    assert "| Data set | tiny |" in said.data and "and 2 more; computed, or re-used from the run store |" in said.data


def test_columns_are_words_and_no_p_value_is_zero(shown):
    table = pd.DataFrame({"n_images": [3], "f1_of_means": [0.91234], "p_holm": [2e-5], "p": [0.04], "gain_low": [-0.0001]})
    report.show(table, digits=2)
    report.sortable(table, caption="The same", digits=2)
    for one in shown:
        heads = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", one["text/html"])
        assert heads == ["images", "F1 of the means", "p (Holm)", "p", "gain, low"]
        assert re.findall(r"<td>(.*?)</td>", one["text/html"]) == ["3", "0.91", "&lt; 0.001", "0.040", "0.00"]


def test_names_of_protocols_and_of_classes_stay_readable():
    names = {"random_image": "random_image", "p_Mpox": "probability of Mpox", "changed_high": "changed, high", 0.5: 0.5}
    assert {name: column_words(name) for name in names} == names
    assert all("_" not in words for words in COLUMN_WORDS.values())
    assert (p_text(0.001), p_text(0.00099), p_text(0.0004, 4)) == ("0.001", "< 0.001", "0.0004")


def test_counts_with_a_missing_one_are_whole_numbers_and_shares_keep_their_decimals():
    read = as_read(pd.DataFrame({"folds": [5.0, None, 3.0], "share": [1.0, 0.0, 1.0], "ms": [1.5, 2.0, 3.0]}), 2)
    assert read["folds"].tolist() == [5, "", 3]
    assert read["share"].tolist() == ["1.00", "0.00", "1.00"] and read["ms an image"].tolist() == ["1.50", "2.00", "3.00"]


def test_the_index_is_named_in_the_row_of_the_other_columns_and_a_long_text_is_not_cut(shown):
    index = pd.MultiIndex.from_product([["<a>"], [0.25, 0.5]], names=["dataset", "x<y"])
    report.show(pd.DataFrame({"images": [1, 2]}, index=index).rename_axis(columns="measure"))
    report.show(pd.DataFrame({"images": ["word " * 40 + "end"]}, index=["only"]))
    page = shown[0]["text/html"]
    head = page[: page.index("</thead>")]
    assert head.count("<tr") == 1 and "measure" not in head
    assert re.findall(r"<th>(.*?)</th>", head) == ["data set", "x&lt;y", "images"]
    assert shown[1]["text/html"].count("<th></th>") == 1 and " end</td>" in shown[1]["text/html"]


@pytest.mark.parametrize("table", [pd.DataFrame(), pd.DataFrame(columns=["images"])], ids=["no column", "no row"])
def test_a_table_without_a_row_is_a_sentence_and_no_directive_that_sphinx_refuses(shown, table):
    report.show(table, name="sets", caption="Sets & sizes.")
    (said,) = shown
    assert said.data == "*Sets & sizes: nothing to show here.*"


def test_a_caption_stands_above_a_table_and_in_its_text(shown):
    report.show(pd.DataFrame({"images": [3]}, index=pd.Index(["a"], name="set")), name="sets", caption="Sets & sizes.")
    report.sortable(pd.DataFrame({"images": [3]}), name="board", caption="All <sets>")
    plain, sorted_ = shown
    assert '<caption><span class="mpox-caption">Sets &amp; sizes.</span></caption>' in plain["text/html"]
    assert plain["text/markdown"] == (
        "```{table} Sets & sizes.\n:name: table-sets\n\n| set | images |\n| --- | --- |\n| a | 3 |\n```"
    ), "Sphinx numbers it"
    assert re.match(r"<table.*\n<caption.*\n *<thead", plain["text/html"]) and plain["text/plain"].startswith("Sets & sizes.\n")
    assert '<caption><span class="mpox-caption">All &lt;sets&gt;</span></caption>' in sorted_["text/html"]
    with pytest.raises(MpoxError, match=r"'sets' has a name and no caption"):
        report.show(pd.DataFrame(), name="sets")


def test_a_sentence_that_the_numbers_do_not_support_stops_the_record_and_warns_elsewhere(monkeypatch, shown):
    assert report.is_study(["msid", "msld-v1", "phantom"]) and not report.is_study(["msid"])
    monkeypatch.setenv("MPOX_PROFILE", "cpu")
    report.guard("it rises", True)
    assert shown == []
    report.guard("it rises", False)
    assert "do not support the sentence 'it rises'" in shown[0].data
    monkeypatch.setenv("MPOX_PROFILE", "recorded")
    with pytest.raises(MpoxError, match="'it rises': mend the prose"):
        report.guard("it rises", False)


def test_a_table_to_download_is_in_the_page(shown):
    report.download(pd.DataFrame({"a": [1, 2], "b": ["x", "y, z"]}), "both")
    found = re.search(r'download="both.csv" href="data:text/csv;base64,([^"]+)"', shown[0]["text/html"])
    assert base64.b64decode(found[1]).decode() == 'a,b\n1,x\n2,"y, z"\n' and "2 rows" in shown[0]["text/plain"]


def test_pictures_that_are_not_here_are_a_note_and_nothing_else(study, shown):
    _, data, _ = study
    away = Dataset("msld-v1", data.manifest, data.groups, is_phantom=False, has_pictures=False)
    assert plots.sheet(data.manifest["image_id"].tolist(), ["x"] * len(data.manifest), data=away) is None
    assert "mpox data fetch msld-v1" in shown[0].data and not plt.get_fignums()
    drawn = plots.sheet(data.manifest["image_id"].tolist()[:3], list("abc"), data=data)
    assert [len(axis.images) for axis in drawn.axes[:3]] == [1, 1, 1] and drawn.get_suptitle() == data.name
    assert plots.sheet([], [], data=data) is None and "No image of" in shown[-1].data


def test_image_statistics_know_white_from_grey(tmp_path):
    found = []
    for level in (255, 119):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / f"{level}.png")
        found.append(quality_of(str(tmp_path / f"{level}.png")))
    assert found[0]["lightness"] == pytest.approx(100, abs=0.1) and found[1]["lightness"] == pytest.approx(50, abs=0.5)
    assert all(one[name] < 0.1 for one in found for name in ("contrast", "chroma", "sharpness"))


def test_error_table_puts_confident_mistakes_first(study):
    table = error_table(study[2])
    wrong = table["wrong"].to_numpy()
    assert len(table) == 24 and (np.diff(wrong.astype(int)) <= 0).all()
    assert (np.diff(table.loc[wrong, "confidence"]) <= 0).all()
    assert ((table["p_true"] == table["confidence"]) == ~table["wrong"]).all()
    assert evaluate(study[2], n_bootstrap=0).set_index(["metric", "class"])["estimate"]["accuracy", "all"] == np.mean(~wrong)
