"""Intervals against scipy, with the same replicates, and against published figures."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from planted import simulate_clustered
from scipy import stats

from mpox._core import MpoxError
from mpox.stats.metrics import difference, evaluate, jackknife, replicates
from mpox.stats.resample import acceleration, bca_interval, percentile_interval, wilson


def study(seed: int, *, n_groups: int = 24, auroc: float = 0.9) -> pd.DataFrame:
    """Groups of different sizes, by leaving images out."""
    rng = np.random.default_rng(seed)
    table = simulate_clustered(n_groups, 4, auroc=auroc, intraclass_correlation=0.5, rng=rng)
    return table[(rng.random(len(table)) < 0.7) | ~table["group_id"].duplicated()].reset_index(drop=True)


def two_models(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of the same images; the second model's are the first one's with noise."""
    first = study(seed)
    p = np.clip(first["p_Mpox"] + np.random.default_rng(seed).normal(0, 0.3, len(first)), 0.01, 0.99)
    return first, first.assign(p_Mpox=p, p_Others=1 - p)


def test_bca_and_percentiles_agree_with_scipy_on_skewed_data():
    for seed in range(5):
        data = np.random.default_rng(seed).lognormal(sigma=1.2, size=25)
        for method in ("percentile", "BCa"):
            expected = stats.bootstrap((data,), np.mean, n_resamples=500, method=method, rng=np.random.default_rng(seed))
            values = np.r_[data.mean(), expected.bootstrap_distribution]
            without = (data.sum() - data) / (len(data) - 1)
            found = percentile_interval(values) if method == "percentile" else bca_interval(values, without)
            assert found == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)


def test_the_clusters_bca_is_what_scipy_makes_of_the_same_replicates():
    """scipy leaves out one group at a time by itself; of ours it gets the cluster bootstrap's replicates alone."""
    predictions = study(1)
    right = (predictions["p_Mpox"] > 0.5) == (predictions["label"] == "Mpox")
    groups = right.groupby(predictions["group_id"])
    ours = replicates(predictions, n_bootstrap=400)["accuracy", "all"]
    expected = stats.bootstrap(
        (groups.sum().to_numpy(), groups.size().to_numpy()),
        lambda hits, images, axis: hits.sum(axis=axis) / images.sum(axis=axis),
        paired=True,
        method="BCa",
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=ours[1:]),
    ).confidence_interval
    bca, percentile = (
        evaluate(predictions, n_bootstrap=400, interval=interval).set_index(["metric", "class"]).loc[("accuracy", "all")]
        for interval in ("bca", "percentile")
    )
    assert (bca["low"], bca["high"]) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert bca["estimate"] == percentile["estimate"] and bca["low"] != percentile["low"]


def test_the_jackknife_leaves_out_each_group_with_all_its_images_in_all_repeats():
    first, second = two_models(2)
    predictions = pd.concat([first, second.assign(repeat=1)], ignore_index=True)
    found = jackknife(predictions)
    for number, group in enumerate(sorted(set(predictions["group_id"]))):
        rest = evaluate(predictions[predictions["group_id"] != group], n_bootstrap=0)
        for row in rest.itertuples(index=False):
            assert found[row[0], row[1]][number] == pytest.approx(row.estimate, abs=1e-12)


def test_every_metric_gets_its_own_jackknife():
    predictions = study(3)
    table = evaluate(predictions, n_bootstrap=200, interval="bca", seed=4)
    values, left_out = replicates(predictions, n_bootstrap=200, seed=4), jackknife(predictions)
    for row in table.itertuples(index=False):
        key = row[0], row[1]
        assert (row.low, row.high) == bca_interval(values[key], left_out[key])
    assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()


def test_a_difference_turned_round_is_the_negative():
    first, second = two_models(5)
    options = {"n_bootstrap": 400, "interval": "bca"}
    change, low, high = difference(first, second, "auroc", "Mpox", **options)
    assert low < change < high
    turned = difference(second, first, "auroc", "Mpox", **options)
    assert turned == pytest.approx((-change, -high, -low), abs=1e-9)
    assert (low, high) != difference(first, second, "auroc", "Mpox", n_bootstrap=400)[1:]
    assert difference(first, first, "auroc", "Mpox", **options) == (0, 0, 0)


def test_bca_where_there_is_no_spread_or_no_answer():
    certain = np.ones(101)
    assert bca_interval(certain, np.ones(20)) == (1, 1)
    assert acceleration(np.ones(20)) == 0 and acceleration(np.array([np.nan])) == 0
    one_side = np.r_[0.0, np.linspace(1, 2, 100)]
    assert np.isnan(bca_interval(one_side, np.arange(5.0))).all()
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


def test_wilson_gives_newcombes_published_limits():
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (successes, n), limits in published.items():
        estimate, *found = wilson(successes, n)
        assert estimate == successes / n and found == pytest.approx(limits, abs=5e-5)
    assert wilson(0, 20)[1] == 0 and wilson(20, 20)[2] == 1  # to the last bit: the interval holds its estimate


def test_what_has_no_interval_is_refused():
    predictions = study(7)
    for ask in (
        lambda: evaluate(predictions, interval="bayes"),
        lambda: difference(predictions, predictions, "accuracy", "all", interval="bayes"),
    ):
        with pytest.raises(MpoxError, match="no interval 'bayes'.*percentile, bca"):
            ask()
    for successes, n in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(MpoxError, match="from 0 to n successes"):
            wilson(successes, n)
