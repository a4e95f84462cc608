"""Intervals that train again: what is drawn, what stays together, the fits, and what stands in where nothing was recorded."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from planted import twice
from sklearn.linear_model import LogisticRegression

from mpox import ModelConfig, cross_validate, evaluate
from mpox._core import MpoxError, project_root
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.comparison import corrected_intervals, corrected_t_test
from mpox.stats.metrics import fold_metrics
from mpox.stats.resample import EXACT
from mpox.studies import intervals
from mpox.studies.intervals import (
    CORRECTED,
    FIXED,
    REFITTED,
    coverage,
    headline,
    headline_replicates,
    kinds_said,
    recentred,
    refitted,
)

PROBE = ModelConfig(regime="linear_probe", backbone="colour_histogram", image_size=32)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return twice(tmp_path_factory.mktemp("planted") / "planted", n=40, size=32)


@pytest.mark.parametrize("protocol", ["source", "random_image"])
def test_copies_stay_in_one_fold_and_everything_drawn_is_predicted_once(planted, monkeypatch, protocol):
    n = len(planted.manifest)
    groups = planted.manifest["image_id"].map(planted.groups).to_numpy(str)
    counts = intervals.group_weights(groups, 1, 3)[1].astype(int)
    kept = groups if protocol == "source" else planted.manifest["image_id"].to_numpy(str)
    seen = []

    def predict(x, y, x_test, *, n_classes, **options):
        train, test = x[:, 0].astype(int), x_test[:, 0].astype(int)
        assert set(kept[train]).isdisjoint(kept[test])
        assert sorted([*train, *test]) == np.repeat(np.arange(n), counts).tolist()
        seen.extend(test)
        return np.eye(n_classes)[(y.max() - np.searchsorted(["Mpox", "Others"], labels[test]))]  # always wrong

    labels = planted.manifest["label"].to_numpy(str)
    monkeypatch.setattr(intervals.heads, "predict_at", predict)
    spec = {"deals": 2, "folds": 4, "seed": 0, "strength": 0.1}
    found = intervals._draw(np.arange(n)[:, None], labels, kept, counts, PROBE, spec, 0)
    assert np.bincount(seen, minlength=n).tolist() == (2 * counts).tolist()
    assert found["accuracy all"] == found["auroc Mpox"] == 0


def test_a_draw_of_one_class_teaches_that_class(planted):
    only = (planted.manifest["label"] == "Mpox").to_numpy().astype(int)
    labels, kept = (planted.manifest[column].to_numpy(str) for column in ("label", "group_id"))
    spec = {"deals": 1, "folds": 4, "seed": 0, "strength": 0.1}
    found = intervals._draw(np.random.default_rng(0).normal(size=(len(only), 3)), labels, kept, only, PROBE, spec, 0)
    assert found["accuracy all"] == 1 and np.isnan(found["auroc Mpox"])


def test_a_probe_that_knows_nothing_is_shown_to(planted, tmp_path):
    store, options = RunStore(tmp_path), {"n_draws": 20, "n_deals": 1}
    drawn, tables = {}, {}
    for protocol in ("random_image", "source"):
        predictions = cross_validate(store, planted, protocol, PROBE, n_folds=4)
        drawn[protocol], kind = headline_replicates(store, planted, protocol, PROBE, predictions, **options)
        tables[protocol] = headline(store, planted, protocol, PROBE, predictions, **options)
        plain = evaluate(predictions)
        pd.testing.assert_frame_equal(tables[protocol].iloc[:, :3], plain.iloc[:, :3])
        assert kind == REFITTED and set(tables[protocol]["interval"]) <= {REFITTED, EXACT}
    assert len(store.used_tables) == 2  # each computed once
    key = ("accuracy", "all")
    row = tables["source"].set_index(["metric", "class"]).loc[key]
    assert row["low"] < 0.5 < row["high"] and drawn["source"][key].draws.shape == (20,)
    gain = drawn["random_image"][key] - drawn["source"][key]
    assert gain.estimate > 0.05 and gain.draws.shape == (20,)  # the other half of every photograph is in training
    with pytest.raises(MpoxError, match="not for nearest_neighbour"):
        refitted(store, planted, "source", PROBE.with_(regime="nearest_neighbour"), predictions)


def test_where_all_groups_are_right_the_exact_interval_stays(planted, tmp_path):
    predictions = cross_validate(RunStore(tmp_path), planted, "source", PROBE, n_folds=4)
    sure = (predictions["label"] == "Mpox").astype(float)
    perfect = predictions.assign(p_Mpox=0.8 * sure + 0.1, p_Others=0.9 - 0.8 * sure)
    keys = [f"{metric} {label}" for metric, label in evaluate(perfect, n_bootstrap=0)[["metric", "class"]].to_numpy()]
    store = SimpleNamespace(
        history=lambda run: pd.DataFrame({"chosen": [True], "strength": [0.1]}),
        table=lambda name, spec, compute: pd.DataFrame(0.9, index=range(30), columns=keys),
    )
    table = headline(store, planted, "source", PROBE, perfect, n_draws=30)
    pd.testing.assert_frame_equal(table, evaluate(perfect, n_bootstrap=30))
    assert set(table["interval"]) == {EXACT} and table["low"].max() < table["high"].min() == 1


def test_other_models_get_the_interval_from_the_folds_unless_groups_cross_them(planted, tmp_path):
    store, other = RunStore(tmp_path), PROBE.with_(regime="nearest_neighbour")
    apart, mixed = (cross_validate(store, planted, way, other, n_folds=4, n_repeats=3) for way in ("source", "random_image"))
    table = headline(store, planted, "source", other, apart)
    row = table.set_index(["metric", "class"]).loc[("accuracy", "all")]
    test = corrected_t_test(fold_metrics(apart, [("accuracy", "all")])["estimate"], 4)
    assert set(table["interval"]) <= {CORRECTED, EXACT} and row["high"] - row["estimate"] == pytest.approx(
        test.high - test.estimate
    )
    assert row["estimate"] - row["low"] == pytest.approx(test.estimate - test.low)
    crossing = headline(store, planted, "random_image", other, mixed)
    assert set(crossing["interval"]) <= {FIXED, EXACT} and crossing.iloc[:, :5].equals(evaluate(mixed).iloc[:, :5])
    both = kinds_said(pd.concat([crossing.assign(protocol="random_image"), table.assign(protocol="source")]))
    assert "too narrow (random_image)" in both and "share (source)" in both
    bounded = corrected_intervals(apart, evaluate(apart, n_bootstrap=0)).query("metric != 'kappa'")
    assert bounded["low"].min() >= 0 and bounded["high"].max() <= 1


def test_a_record_without_draws_says_that_its_models_are_held_fixed():
    store = RecordedStore(project_root() / "results")
    data, probe = store.dataset("msld-v1"), ModelConfig(backbone="tf_efficientnet_lite1", image_size=224)
    predictions = cross_validate(store, data, "source", probe)
    table = headline(store, data, "source", probe, predictions, n_draws=7)  # nobody records seven
    assert set(table["interval"]) == {FIXED} and table.iloc[:, :5].equals(evaluate(predictions).iloc[:, :5])


def test_draws_are_moved_to_the_estimate_and_keep_their_order():
    rng = np.random.default_rng(1)
    draws = rng.beta(60, 5, 500)
    moved = recentred(0.97, draws)
    odds = np.log(moved.draws / (1 - moved.draws))
    assert odds.mean() == pytest.approx(np.log(0.97 / 0.03)) and moved.draws.max() < 1
    assert (np.argsort(moved.draws) == np.argsort(draws)).all()
    assert recentred(0.1, np.array([-0.2, 0.3, np.nan])).draws[:2] == pytest.approx([-0.15, 0.35])


def test_the_simulated_probe_is_scikit_learns():
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(size=(60, 4)), rng.integers(0, 2, 60), rng.integers(0, 3, (2, 60)).astype(float)
    fold, strengths = rng.integers(0, 3, (2, 60)), np.array([[0.1, 1.0], [0.01, 10.0], [1.0, 0.1]])
    scores, models = intervals._out_of_fold(x, y, weights, fold, strengths)
    assert models.shape == (3, 2, 5)
    for row in range(2):
        for k in range(3):
            inside = fold[row] != k
            known = LogisticRegression(C=strengths[k, row], tol=1e-8).fit(x[inside], y[inside], weights[row, inside])
            assert scores[row, ~inside] == pytest.approx(known.decision_function(x[~inside]), abs=1e-4)
    side, drawn = np.arange(40) % 2, rng.integers(0, 3, (5, 40))
    folds = intervals._assigned(rng, side, drawn, 4)
    for row in range(5):
        counts = pd.crosstab(side[drawn[row] > 0], folds[row, drawn[row] > 0])
        assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()


@pytest.mark.slow
def test_training_again_holds_the_truth_more_often_than_holding_the_models_fixed():
    table = coverage(60, settings={40: 2.0}, n_draws=100).set_index(["method", "metric"])
    whole, fixed = table.xs(REFITTED), table.xs(FIXED)
    assert (whole["coverage"] >= 0.93 - 3 * np.sqrt(0.95 * 0.05 / 60)).all()
    assert (whole["coverage"] > fixed["coverage"]).all() and (whole["mean_width"] > fixed["mean_width"]).all()
