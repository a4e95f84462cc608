"""Curves against scikit-learn's, and their bands against a known truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import simulate_clustered
from scipy.stats import norm
from sklearn import metrics as sk

from mpox._core import MpoxError
from mpox.stats.metrics import curve_bands, precision_at, sensitivity_at


@st.composite
def scored(draw) -> tuple[np.ndarray, np.ndarray]:
    """At least one of each class, coarse scores: many ties."""
    y = np.array([True, False, *draw(st.lists(st.booleans(), max_size=30))])
    return y, np.array(draw(st.lists(st.integers(0, 9), min_size=len(y), max_size=len(y)))) / 9


def one(y: np.ndarray) -> np.ndarray:
    return np.ones((1, len(y)))


@settings(max_examples=150, deadline=None)
@given(scored())
def test_the_roc_curve_is_scikit_learns(case):
    y, score = case
    false_alarms, sensitivity, _ = sk.roc_curve(y, score, drop_intermediate=False)
    corners = np.unique(false_alarms)
    upper = np.array([sensitivity[false_alarms == x].max() for x in corners])
    assert sensitivity_at(y, score, one(y), corners)[0] == pytest.approx(upper, abs=1e-12)
    between = (corners[1:] + corners[:-1]) / 2
    found = sensitivity_at(y, score, one(y), between)[0]
    assert found == pytest.approx(np.interp(between, false_alarms, sensitivity), abs=1e-12)
    assert (found * np.diff(corners)).sum() == pytest.approx(sk.roc_auc_score(y, score), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(scored())
def test_the_precision_recall_curve_is_scikit_learns(case):
    y, score = case
    precision, recall, _ = sk.precision_recall_curve(y, score)
    precision, recall = precision[:-1], recall[:-1]  # without the point (recall 0, precision 1), which no threshold has
    grid = np.r_[np.unique(recall[recall > 0]), np.linspace(0.005, 1, 57)]
    expected = [precision[recall >= x - 1e-12][-1] for x in grid]  # thresholds rise, recall falls
    assert precision_at(y, score, one(y), grid)[0] == pytest.approx(expected, abs=1e-12)
    assert precision_at(y, score, one(y), np.zeros(1))[0, 0] == pytest.approx(precision[recall > 0][-1], abs=1e-12)
    steps = np.r_[0, np.unique(recall[recall > 0])]
    found = precision_at(y, score, one(y), (steps[1:] + steps[:-1]) / 2)[0]
    assert (found * np.diff(steps)).sum() == pytest.approx(sk.average_precision_score(y, score), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(scored(), st.data())
def test_a_weight_is_so_many_copies(case, data):
    y, score = case
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    weights[:2] = 1, 1  # a positive and a negative stay
    copied = np.repeat(np.arange(len(y)), weights)
    x = np.linspace(0, 1, 41)
    for height in (sensitivity_at, precision_at):
        both = height(y, score, np.vstack([weights, 3 * weights]), x)
        expected = height(y[copied], score[copied], one(copied), x)[0]
        assert both == pytest.approx(np.vstack([expected, expected]), abs=1e-12)


def test_weightings_of_one_side_have_no_curve():
    y, score = np.array([True, True, False]), np.array([0.9, 0.3, 0.5])
    weights = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 2, 1]], float)
    for height in (sensitivity_at, precision_at):
        found = height(y, score, weights, np.array([0, 0.5, 1]))
        assert np.isnan(found[1:3]).all()
        assert found[[0, 3]].tolist() == [height(y, score, weights[[k]], np.array([0, 0.5, 1]))[0].tolist() for k in (0, 3)]


def study(rng: np.random.Generator) -> pd.DataFrame:
    return simulate_clustered(80, 3, auroc=0.85, intraclass_correlation=0.9, rng=rng)


def test_repeats_are_averaged_and_bands_hold_the_curve():
    rng = np.random.default_rng(1)
    first = study(rng)
    second = first.assign(p_Mpox=np.clip(first["p_Mpox"] + rng.normal(0, 0.2, len(first)), 0, 1), repeat=1)
    both = pd.concat([first, second], ignore_index=True).sample(frac=1, random_state=0)
    for kind in ("roc", "pr"):
        bands = curve_bands(both, kind, n_bootstrap=200)
        each = [curve_bands(part, kind, n_bootstrap=0) for part in (first, second)]
        assert bands["x"].tolist() == np.linspace(0, 1, 101).tolist()
        assert bands["estimate"].to_numpy() == pytest.approx((each[0]["estimate"] + each[1]["estimate"]).to_numpy() / 2)
        assert each[0][["low", "high"]].isna().all(axis=None)
        inner = bands.query("0.05 <= x <= 0.95")
        assert (inner["low"] <= inner["estimate"]).all() and (inner["estimate"] <= inner["high"]).all()
        assert bands.equals(curve_bands(both, kind, n_bootstrap=200)) and not bands.equals(curve_bands(both, kind, seed=1))


def test_bands_from_groups_hold_the_true_curve_and_those_from_images_do_not():
    """The truth is the binormal curve: sensitivity = Phi(separation + Phi^-1(x)); precision follows, half being positive."""
    rng = np.random.default_rng(2)
    separation, n = np.sqrt(2) * norm.ppf(0.85), 150
    x = np.array([0.2, 0.5])
    sensitivity = norm.cdf(separation + norm.ppf(x))
    recall = np.array([0.5, 0.8])
    precision = recall / (recall + norm.cdf(norm.ppf(recall) - separation))
    held = {"groups": np.zeros(4), "images": np.zeros(4)}
    for seed in range(n):
        predictions = study(rng)
        for name, table in (("groups", predictions), ("images", predictions.assign(group_id=predictions["image_id"]))):
            for part, kind, grid, truth in ((slice(2), "roc", x, sensitivity), (slice(2, 4), "pr", recall, precision)):
                bands = curve_bands(table, kind, grid=grid, n_bootstrap=100, seed=seed)
                held[name][part] += (bands["low"] <= truth) & (truth <= bands["high"])
    three_errors = 3 * np.sqrt(0.95 * 0.05 / n)
    # 100 replicates: the interpolated percentiles leave (1 + 0.025 * 99) / 101 outside on each side, 6.9 % and not 5 %
    assert (held["groups"] / n > 2 * (0.5 - (1 + 0.025 * 99) / 101) - three_errors).all()
    assert (held["images"] / n < 0.95 - 1.5 * three_errors).all()


def test_what_has_no_curve_is_refused():
    predictions = study(np.random.default_rng(3))
    with pytest.raises(MpoxError, match="no curve 'lift': choose one of roc, pr"):
        curve_bands(predictions, "lift")
    for grid in ([-0.1, 0.5], [0.5, np.nan]):
        with pytest.raises(MpoxError, match="from 0 to 1"):
            curve_bands(predictions, grid=grid)
    with pytest.raises(MpoxError, match="only one of the two"):
        curve_bands(predictions[predictions["label"] == "Mpox"])
    with pytest.raises(MpoxError, match="class 'Cowpox'"):
        curve_bands(predictions, positive="Cowpox")
