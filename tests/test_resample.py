"""Replicates: intervals against scipy with the same draws, formulas of measures, groups drawn whole; Wilson's limits."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions import clustered, noisy
from scipy import stats

from mpox import MpoxError
from mpox.stats import resample
from mpox.stats.conformal import coverage_table
from mpox.stats.decisions import operating_point, operating_replicates, predictive_table
from mpox.stats.metrics import difference, evaluate, replicates
from mpox.stats.resample import (
    Replicates,
    acceleration,
    bca_interval,
    bootstrap,
    group_weights,
    leave_one_out_weights,
    percentile_interval,
    weighted_mean,
    wilson,
    with_percentiles,
)

GROUPS = np.array(["a", "a", "b", "c", "c", "c"])


def test_groups_are_drawn_whole():
    weights = group_weights(GROUPS, 500, seed=0)
    assert weights.shape == (501, 6) and (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3:] == weights[:, 3:4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights[1:].mean(axis=0) == pytest.approx(1, abs=0.12)
    assert leave_one_out_weights(GROUPS).tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]]


def test_the_draws_are_those_of_the_recorded_study():
    """Any other stream of random numbers would change every interval in the book."""
    assert group_weights(np.arange(5), 3, seed=7)[1:].tolist() == [[1, 2, 1, 0, 1], [0, 2, 0, 2, 1], [2, 1, 0, 1, 1]]


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_replicates_of_many_images_are_computed_in_parts(monkeypatch, interval):
    values, sizes = np.arange(6.0), []

    def statistic(weights):
        sizes.append(weights.size)
        return {"mean": weighted_mean(values, weights)}

    whole = bootstrap(statistic, GROUPS, n_bootstrap=20, interval=interval)["mean"]
    assert max(sizes) == 21 * 6
    monkeypatch.setattr(resample, "CELLS", 4 * 6)
    sizes.clear()
    parts = bootstrap(statistic, GROUPS, n_bootstrap=20, interval=interval)["mean"]
    assert max(sizes) == 4 * 6 and np.array_equal(np.asarray(parts), np.asarray(whole))
    assert (parts.left_out is None) == (interval == "percentile") and parts.interval() == whole.interval()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["percentile", "bca"]))
def test_a_formula_of_measures_is_the_measure_of_the_formula(seed, interval):
    """Paired draws: what is done to two `Replicates` could have been done inside, under the same weights."""
    rng = np.random.default_rng(seed)
    groups, first, second = rng.integers(0, 9, 30), rng.random(30), 0.1 + rng.random(30)

    def mean(values):
        return lambda weights: weighted_mean(values, weights)

    def both(weights):
        return 100 * mean(first)(weights) / np.sqrt(1 - mean(second)(weights) / 2)

    options = {"n_bootstrap": 50, "seed": seed, "interval": interval}
    one, other, inside = (bootstrap(statistic, groups, **options) for statistic in (mean(first), mean(second), both))
    outside = 100 * one / np.sqrt(1 - other / 2)
    assert isinstance(outside, Replicates) and (outside.left_out is None) == (interval == "percentile")
    assert np.allclose(np.asarray(outside), np.asarray(inside), rtol=1e-13)
    assert outside.interval() == pytest.approx(inside.interval(), rel=1e-12)
    assert list((one - one).row().values())[:1] == [0]


def test_an_array_with_the_estimate_first_is_the_same_thing():
    values = np.array([20.0, *range(41), np.nan])
    found = Replicates.of(values)
    assert np.array_equal(np.asarray(found), values, equal_nan=True) and Replicates.of(found) is found
    assert found.interval() == percentile_interval(values) == pytest.approx((1, 39))
    assert tuple(found.row().values()) == with_percentiles(values) == (found.estimate, *found.interval())
    assert found.interval(0.5) == pytest.approx((10, 30))
    assert np.mean([found, found], axis=0)[0] == 20
    with pytest.raises(TypeError):
        np.add.reduce(found)


def test_a_measure_may_be_a_curve():
    values = np.random.default_rng(0).random((6, 3))
    for interval in ("percentile", "bca"):
        options = {"n_bootstrap": 80, "interval": interval}
        curve = bootstrap(lambda weights: weights @ values / weights.sum(axis=1, keepdims=True), GROUPS, **options)
        for k in range(3):
            left_out = None if curve.left_out is None else curve.left_out[:, k]
            alone = Replicates(curve.estimate[k], curve.draws[:, k], left_out).row()
            assert {name: column[k] for name, column in curve.row().items()} == alone
    assert np.isnan(bootstrap(lambda weights: weights[:, :2], GROUPS, n_bootstrap=0).row()["low"]).all()


def test_bca_and_percentiles_agree_with_scipy_on_skewed_data():
    for seed in range(5):
        data = np.random.default_rng(seed).lognormal(sigma=1.2, size=25)
        for method in ("percentile", "BCa"):
            expected = stats.bootstrap((data,), np.mean, n_resamples=500, method=method, rng=np.random.default_rng(seed))
            without = (data.sum() - data) / (len(data) - 1)
            found = Replicates(data.mean(), expected.bootstrap_distribution, without if method == "BCa" else None)
            assert found.interval() == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)


def test_the_clusters_bca_is_what_scipy_makes_of_the_same_replicates():
    """scipy leaves out one group at a time by itself; of ours it gets the clustered bootstrap's replicates alone."""
    predictions = clustered(np.random.default_rng(1), 24)
    right = (predictions["p_Mpox"] > 0.5) == (predictions["label"] == "Mpox")
    groups = right.groupby(predictions["group_id"])
    ours = replicates(predictions, n_bootstrap=400, interval="bca")["accuracy", "all"]
    expected = stats.bootstrap(
        (groups.sum().to_numpy(), groups.size().to_numpy()),
        lambda hits, images, axis: hits.sum(axis=axis) / images.sum(axis=axis),
        paired=True,
        method="BCa",
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=ours.draws),
    ).confidence_interval
    assert ours.interval() == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_every_metric_gets_its_own_jackknife():
    rng = np.random.default_rng(2)
    first = clustered(rng, 20)
    predictions = pd.concat([first, noisy(first, rng, repeat=1)], ignore_index=True)
    found = replicates(predictions, n_bootstrap=200, interval="bca", seed=4)
    for number, group in enumerate(sorted(set(predictions["group_id"]))):
        rest = evaluate(predictions[predictions["group_id"] != group], n_bootstrap=0)
        for row in rest.itertuples(index=False):
            assert found[row[0], row[1]].left_out[number] == pytest.approx(row.estimate, abs=1e-12)
    for row in evaluate(predictions, n_bootstrap=200, interval="bca", seed=4).itertuples(index=False):
        assert row.low <= row.estimate <= row.high and (row.low, row.high) == found[row[0], row[1]].interval()


def test_a_difference_turned_round_is_the_negative():
    rng = np.random.default_rng(5)
    first = clustered(rng, 24)
    second = noisy(first, rng)
    options = {"n_bootstrap": 400, "interval": "bca"}
    change, low, high = difference(first, second, "auroc", "Mpox", **options)
    assert low < change < high
    assert difference(second, first, "auroc", "Mpox", **options) == pytest.approx((-change, -high, -low), abs=1e-9)
    assert (low, high) != difference(first, second, "auroc", "Mpox", n_bootstrap=400)[1:]
    assert difference(first, first, "auroc", "Mpox", **options) == (0, 0, 0)


def test_where_there_is_no_spread_or_no_answer():
    certain = np.ones(101)
    assert bca_interval(certain, np.ones(20)) == (1, 1)
    assert acceleration(np.ones(20)) == 0 and acceleration(np.array([np.nan])) == 0
    assert np.isnan(bca_interval(np.r_[0.0, np.linspace(1, 2, 100)], np.arange(5.0))).all()
    assert np.isnan(bca_interval(np.r_[np.nan, certain], np.arange(5.0))).all()
    for nothing in (np.array([0.5]), np.array([0.5, np.nan])):
        assert np.isnan(percentile_interval(nothing)).all() and np.isnan(bca_interval(nothing, np.arange(5.0))).all()


def test_undefined_replicates_and_jackknife_values_are_left_out():
    rng = np.random.default_rng(6)
    values, left_out = np.r_[0.1, rng.normal(size=200)], rng.exponential(size=20)
    gaps, left_out_gaps = np.insert(values, [5, 9], np.nan), np.insert(left_out, 3, np.nan)
    assert percentile_interval(gaps) == percentile_interval(values)
    assert bca_interval(gaps, left_out_gaps) == pytest.approx(bca_interval(values, left_out), rel=1e-12)
    assert bca_interval(values, left_out) != percentile_interval(values)
    assert np.isnan(weighted_mean(np.ones(2), np.array([[0.0, 1.0]]), np.array([True, False])))


def test_wilson_gives_newcombes_published_limits():
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (successes, n), limits in published.items():
        estimate, *found = wilson(successes, n)
        assert estimate == successes / n and found == pytest.approx(limits, abs=5e-5)
    assert wilson(0, 20)[1] == 0 and wilson(20, 20)[2] == 1  # to the last bit: the interval holds its estimate


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.booleans(), st.sampled_from(["percentile", "bca"]), st.integers(1, 3))
def test_no_proportion_without_spread_is_narrower_than_the_exact_interval(with_mpox, without, right, interval, n_repeats):
    """All or none of the groups are right: Clopper and Pearson's limits over groups, of all kinds of tables and of formulas."""
    groups = np.r_[np.arange(with_mpox), 100 + np.arange(without)]
    table = pd.DataFrame({"group_id": groups.repeat(1 + groups % 3)}).assign(size=1, covered=right, answer="certain")
    table["label"] = np.where(table["group_id"] < 100, "Mpox", "Other")
    table["p_Mpox"] = np.where((table["label"] == "Mpox") == right, 0.9, 0.1)
    table = table.assign(image_id=np.arange(len(table)), p_Other=1 - table["p_Mpox"])
    table = pd.concat([table.assign(repeat=repeat) for repeat in range(n_repeats)])
    options = {"n_bootstrap": 400, "seed": with_mpox, "interval": interval}
    parts = {"Mpox": with_mpox, "Other": without, "all": with_mpox + without, "macro": min(with_mpox, without)}
    sides = {"specificity": without, "ppv": with_mpox if right else without, "npv": without if right else with_mpox}
    found = pd.concat(
        [
            evaluate(table, **options).assign(n=lambda rows: rows["class"].map(parts)),
            operating_point(table, 0.5, **options).query("metric != 'flagged'").assign(n=with_mpox),
            coverage_table(table, **options)
            .query("measure == 'coverage'")
            .assign(metric="coverage", n=lambda t: t["class"].map(parts)),
        ]
    )
    n = found["n"].mask(found["metric"].isin(["auroc", "auprc", "f1_of_means"]), min(with_mpox, without))
    n = found["metric"].map(sides).fillna(n)
    if not right:  # a class is called in groups of the other one
        n = n.mask((found["metric"] == "precision") & (found["class"] == "Mpox"), without)
        n = n.mask((found["metric"] == "precision") & (found["class"] == "Other"), with_mpox)
    defined = found["estimate"].isin([0, 1])
    assert defined.sum() >= len(found) - 6 and (found.loc[defined, "interval"] == "exact").all()
    reach = np.where(found["estimate"] == 1, 1 - found["low"], found["high"])[defined]
    assert (reach >= 1 - 0.025 ** (1 / n[defined]) - 1e-9).all()
    assert np.where(found["estimate"] == 1, found["high"] == 1, found["low"] == 0)[defined].all()
    ppv = predictive_table(operating_replicates(table, 0.5, **options), np.array([0.1])).set_index("measure").loc["ppv"]
    assert ppv["low"] <= ppv["estimate"] <= ppv["high"] and ppv["low"] < ppv["high"]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.sampled_from(["percentile", "bca"]))
def test_the_difference_of_two_models_that_are_always_or_never_right_is_as_wide_as_the_exact_limits(n, more, right, interval):
    """No group is discordant: Clopper and Pearson's limits of 0 in n, of one metric and of all classes at once."""
    table = pd.DataFrame({"group_id": np.arange(n + more), "repeat": 0, "label": ["Mpox"] * n + ["Other"] * more})
    table["p_Mpox"] = np.where((table["label"] == "Mpox") == right, 0.9, 0.1)
    first = table.assign(image_id=table["group_id"].astype(str), p_Other=1 - table["p_Mpox"])
    second = first.assign(p_Mpox=(first["p_Mpox"] + 0.5) / 2, p_Other=(first["p_Other"] + 0.5) / 2)  # less sure, as right
    for (metric, label), size in {("accuracy", "all"): n + more, ("recall", "Mpox"): n, ("recall", "Other"): more}.items():
        change, low, high = difference(first, second, metric, label, n_bootstrap=400, interval=interval)
        reach = 1 - 0.025 ** (1 / size)
        assert change == 0 and -low == pytest.approx(high, abs=1e-9) and reach - 1e-9 <= high <= reach + 0.02
    sure, among = np.ones(n), np.full(n, True)
    one, other = (bootstrap(lambda weights: weighted_mean(sure, weights), np.arange(n), among=among) for _ in "ab")
    apart = one - other
    assert apart.kind == "exact" and (one - one).interval() == (0, 0) and (100 * apart).interval()[1] > 0


def test_where_something_varies_or_nothing_is_a_proportion_no_draw_is_changed():
    values = np.array([1.0, 1, 0, 1, 1, 1])
    plain, told = (
        bootstrap(lambda weights: weighted_mean(values, weights), GROUPS, among=among) for among in (None, values >= 0)
    )
    assert np.array_equal(plain.draws, told.draws) and plain.kind == told.kind == "percentile"
    assert bootstrap(lambda weights: weighted_mean(np.zeros(6), weights), GROUPS).interval() == (0, 0)
    one_group = bootstrap(lambda weights: weighted_mean(values, weights), np.repeat("a", 6), among=values >= 0)
    low, high = one_group.interval()
    assert one_group.kind == "exact" and low < 0.1 and high > 0.95 and low <= one_group.estimate <= high


def test_what_has_no_interval_is_refused():
    with pytest.raises(MpoxError, match="no interval 'bayes'.*percentile, bca"):
        evaluate(clustered(np.random.default_rng(7)), interval="bayes")
    for successes, n in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(MpoxError, match="from 0 to n successes"):
            wilson(successes, n)
