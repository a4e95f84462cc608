"""Computed prose, figures and heat maps."""

import json
import re
from collections import OrderedDict

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mpox import ModelConfig, cross_validate, evaluate, open_store
from mpox._core import MpoxError
from mpox.audit.quality import image_quality
from mpox.book import plots, report
from mpox.book.wording import COLUMN_WORDS, as_read, column_words, p_text
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.models.explain import grad_cam
from mpox.studies.errors import error_table

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("report"))
    data = store.dataset(tiny_folder)
    return store, data, cross_validate(store, data, "source", ModelConfig(backbone="lbp", image_size=64), n_folds=3)


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: the objects handed to IPython's display."""
    objects = []
    monkeypatch.setattr(report, "display", objects.append)
    monkeypatch.setattr(report, "glue", lambda key, value, display: objects.append((key, value)))
    return objects


def test_estimate_is_taken_from_the_table(study):
    metrics = evaluate(study[2], n_bootstrap=200)
    row = metrics[metrics["metric"] == "accuracy"].iloc[0]
    assert report.estimate(metrics, "accuracy", "all") == (
        f"{row['estimate']:.2f} (95 % CI {row['low']:.2f} to {row['high']:.2f})"
    )


def test_provenance_names_the_runs_and_the_data(study, shown):
    store, data, predictions = study
    report.provenance("99_test", store, [data])
    key, text = shown[0]
    record = json.loads(text)
    assert key == "provenance" and record["phantom"] is False
    assert set(record["run_ids"]) == set(predictions["run_id"])
    assert record["versions"]["torch"] and record["device"].startswith("cpu (")


def test_tables_have_a_text_form_that_can_be_compared(shown):
    report.show(pd.DataFrame({"a": [0.123456], "b": [None]}))
    bundle = shown[0]._repr_mimebundle_()
    assert "0.123" in bundle["text/html"] and "0.123" in bundle["text/plain"]


def test_columns_are_words_and_no_p_value_is_zero(shown):
    table = pd.DataFrame({"n_images": [3], "f1_of_means": [0.91234], "p_holm": [2e-5], "p": [0.04], "gain_low": [-0.0001]})
    report.show(table, digits=2)
    report.sortable(table, caption="The same", digits=2)
    for one in shown:
        page = one._repr_mimebundle_()["text/html"]
        heads = re.findall(r"<th(?: [^>]*)?>(.*?)</th>", page)
        assert heads == ["images", "F1 of the means", "p (Holm)", "p", "gain, low"]
        assert re.findall(r"<td>(.*?)</td>", page) == ["3", "0.91", "&lt; 0.001", "0.040", "0.00"]


def test_names_of_protocols_and_of_classes_stay_readable():
    assert [column_words(name) for name in ("random_image", "p_Mpox", "changed_high", 0.5)] == [
        "random_image", "probability of Mpox", "changed, high", 0.5,
    ]  # fmt: skip
    assert all("_" not in words for words in COLUMN_WORDS.values())
    assert (p_text(0.001), p_text(0.00099), p_text(0.0004, 4)) == ("0.001", "< 0.001", "0.0004")


def test_the_index_is_named_in_the_row_of_the_other_columns(shown):
    index = pd.MultiIndex.from_product([["<a>"], [0.25, 0.5]], names=["dataset", "x<y"])
    report.show(pd.DataFrame({"images": [1, 2]}, index=index).rename_axis(columns="measure"))
    report.show(pd.DataFrame({"images": [1]}, index=["only"]))
    page = shown[0]._repr_mimebundle_()["text/html"]
    head = page[: page.index("</thead>")]
    assert head.count("<tr") == 1 and "measure" not in head
    assert re.findall(r"<th>(.*?)</th>", head) == ["data set", "x&lt;y", "images"]
    assert re.findall(r"<th></th>", shown[1]._repr_mimebundle_()["text/html"]) == ["<th></th>"]


def test_a_long_text_is_not_cut(shown):
    report.show(pd.DataFrame({"why": ["word " * 40 + "end"]}))
    assert " end</td>" in shown[0]._repr_mimebundle_()["text/html"]


def test_an_interval_has_no_negative_zero():
    assert report.with_interval(-0.0001, -0.02, 0.01) == "0.00 (95 % CI -0.02 to 0.01)"


def test_a_caption_stands_above_a_table_and_in_its_text(shown):
    table = pd.DataFrame({"images": [3]}, index=pd.Index(["a"], name="set"))
    report.show(table, name="sets", caption="Sets & sizes.")
    report.sortable(table, name="board", caption="All <sets>")
    plain, sorted_ = (one._repr_mimebundle_() for one in shown)
    assert '<caption><span class="mpox-caption">Sets &amp; sizes.</span></caption>' in plain["text/html"]
    assert plain["text/markdown"] == (
        "```{table} Sets & sizes.\n:name: table-sets\n\n| set | images |\n| --- | --- |\n| a | 3 |\n```"
    ), "Sphinx numbers it"
    assert plain["text/html"].index("<table") < plain["text/html"].index("<caption") < plain["text/html"].index("<thead")
    assert plain["text/plain"].startswith("Sets & sizes.\n")
    assert sorted_["text/html"].count("<caption") == 1
    assert '<caption><span class="mpox-caption">All &lt;sets&gt;</span></caption>' in sorted_["text/html"]
    with pytest.raises(MpoxError, match=r"'sets' has a name and no caption"):
        report.show(table, name="sets")


def test_key_findings_fill_the_place_that_was_kept(monkeypatch):
    places = []

    class Place:
        def __init__(self, first):
            self.texts = [first.data]

        def update(self, other):
            self.texts.append(other.data)

    monkeypatch.setattr(report, "display", lambda first, display_id: places.append(Place(first)) or places[-1])
    at_the_top = report.key_findings()
    at_the_top.fill("One is 0.5.", "Two.")
    assert places[0].texts == [f"{report.KEY_FINDINGS} {report.NOT_YET}", f"{report.KEY_FINDINGS}\n\n- One is 0.5.\n- Two."]


def test_pictures_that_are_not_here_are_a_note_and_nothing_else(study, shown):
    _, data, _ = study
    away = Dataset("msld-v1", data.manifest, data.groups, is_phantom=False, has_pictures=False)
    assert plots.sheet(data.manifest["image_id"].tolist(), ["x"] * len(data.manifest), data=away) is None
    assert "mpox data fetch msld-v1" in shown[0].data
    assert not plt.get_fignums()
    drawn = plots.sheet(data.manifest["image_id"].tolist()[:3], list("abc"), data=data)
    assert [len(axis.images) for axis in drawn.axes[:3]] == [1, 1, 1] and drawn.get_suptitle() == data.name
    assert plots.sheet([], [], data=data) is None and "No picture of" in shown[-1].data
    plt.close("all")


def test_image_statistics_know_white_from_grey(tmp_path):
    from PIL import Image

    for label, level in (("Mpox", 255), ("Normal", 119)):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / "set" / label / "a.png")
    table = image_quality(build_manifest(tmp_path / "set")).set_index("label")
    assert table.loc["Mpox", "lightness"] == pytest.approx(100, abs=0.1)
    assert table.loc["Normal", "lightness"] == pytest.approx(50, abs=0.5)
    assert (table[["contrast", "chroma", "sharpness"]] < 0.1).all(axis=None)


def test_error_table_puts_confident_mistakes_first(study):
    table = error_table(study[2])
    wrong = table["wrong"].to_numpy()
    assert len(table) == 24 and (np.diff(wrong.astype(int)) <= 0).all()
    assert (np.diff(table.loc[wrong, "confidence"]) <= 0).all()
    assert ((table["p_true"] == table["confidence"]) == ~table["wrong"]).all()


def test_grad_cam_points_at_what_a_network_was_built_to_see():
    """A network whose only evidence is redness: its map must be hot where the picture is red."""
    import torch
    from torch import nn

    from mpox.models.backbones import Classifier

    convolution = nn.Conv2d(3, 1, 1, bias=False)
    convolution.weight.data = torch.tensor([1.0, -0.5, -0.5]).view(1, 3, 1, 1)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = nn.Sequential(OrderedDict(convolution=convolution, act=nn.ReLU(), global_pool=pool))
    head = nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[1.0], [-1.0]])
    pixels = np.full((1, 64, 64, 3), 90, np.uint8)
    pixels[0, 8:24, 40:56] = (220, 20, 20)
    heat = grad_cam(Classifier(backbone, head), "tf_efficientnet_lite0", pixels, np.array([0]))[0]
    inside = np.zeros((64, 64), bool)
    inside[8:24, 40:56] = True
    assert heat.shape == (64, 64) and heat.max() == pytest.approx(1)
    assert heat[inside].min() > 0.9 and heat[~inside].max() < 0.1
    nothing = grad_cam(Classifier(backbone, head), "tf_efficientnet_lite0", pixels, np.array([1]))[0]
    assert nothing.max() == 0


def test_counts_with_a_missing_one_are_whole_numbers_and_shares_keep_their_decimals():
    table = pd.DataFrame({"folds": [5.0, None, 3.0], "share": [1.0, 0.0, 1.0], "ms": [1.5, 2.0, 3.0]})
    read = as_read(table, 2)
    assert read["folds"].tolist() == [5, "", 3]
    assert read["share"].tolist() == ["1.00", "0.00", "1.00"] and read["ms a picture"].tolist() == ["1.50", "2.00", "3.00"]
