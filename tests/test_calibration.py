"""Calibration: temperature and isotonic curves, and the measures that say whether they helped."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from mpox import MpoxError
from mpox.stats.calibration import (
    apply_isotonic,
    apply_temperature,
    brier_parts,
    by_fold,
    calibrated,
    calibration_table,
    ece,
    ece_if_calibrated,
    fit_isotonic,
    fit_temperature,
    mass_bins,
    reliability_bins,
    slope_and_intercept,
    stated,
)
from mpox.stats.metrics import group_weights

CLASSES = ["Measles", "Mpox", "Normal"]


def drawn(n: int, *, sharpness: float, seed: int, pictures: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are `sharpness` times too sharp (1: calibrated), the classes and the groups."""
    rng = np.random.default_rng(seed)
    logits = np.repeat(rng.normal(0, 1.5, (n // pictures, 3)), pictures, axis=0)
    true = softmax(logits, axis=1)
    one = np.repeat(rng.random(n // pictures), pictures)
    y = (one[:, None] > true.cumsum(axis=1)).sum(axis=1)
    return softmax(sharpness * logits, axis=1), y, np.repeat(np.arange(n // pictures), pictures)


def table(probabilities, y, groups, *, fold=0, start=0) -> pd.DataFrame:
    about = {"repeat": 0, "fold": fold, "image_id": [f"i{start + k:05d}" for k in range(len(y))]}
    frame = pd.DataFrame({**about, "group_id": [f"g{start + g}" for g in groups], "label": np.array(CLASSES)[y]})
    return frame.assign(**{f"p_{label}": probabilities[:, k] for k, label in enumerate(CLASSES)})


def test_the_temperature_is_what_the_logits_were_multiplied_with():
    p, y, _ = drawn(20_000, sharpness=2.5, seed=0)
    assert fit_temperature(p, y) == pytest.approx(2.5, rel=0.05)
    flat, y, _ = drawn(20_000, sharpness=0.5, seed=1)
    assert fit_temperature(flat, y) == pytest.approx(0.5, rel=0.05)


def test_the_temperature_has_the_least_log_loss_of_a_grid():
    p, y, _ = drawn(300, sharpness=3, seed=2)
    grid = np.linspace(1.5, 5, 141)
    losses = [log_loss(y, apply_temperature(p, t), labels=[0, 1, 2]) for t in grid]
    assert fit_temperature(p, y) == pytest.approx(grid[np.argmin(losses)], abs=0.025)


def test_a_temperature_changes_no_order_of_classes_and_keeps_sums():
    p, _, _ = drawn(200, sharpness=3, seed=3)
    cooled = apply_temperature(p, 4.0)
    assert (cooled.argmax(axis=1) == p.argmax(axis=1)).all()
    assert np.allclose(cooled.sum(axis=1), 1) and np.allclose(apply_temperature(p, 1.0), p)


def test_probabilities_of_0_and_perfect_models_have_a_temperature_in_range():
    p, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    assert 0.05 <= fit_temperature(p, y) < 1
    assert 15 < fit_temperature(p, 1 - y) <= 20


def test_isotonic_curves_are_scikit_learns_and_survive_json():
    p, y, _ = drawn(400, sharpness=2, seed=4)
    fitted = fit_isotonic(p, y)
    new, _, _ = drawn(100, sharpness=2, seed=5)
    columns = [IsotonicRegression(out_of_bounds="clip").fit(p[:, k], y == k).predict(new[:, k]) for k in range(3)]
    wanted = np.stack(columns, axis=1)
    rows = wanted.sum(axis=1) > 0
    assert np.allclose(apply_isotonic(new, fitted)[rows], (wanted / wanted.sum(axis=1, keepdims=True))[rows])
    back = json.loads(json.dumps(asdict(fitted)))
    assert np.allclose(apply_isotonic(new, type(fitted)(**back)), apply_isotonic(new, fitted))


def test_a_row_that_no_curve_accepts_stays_as_it_was():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    fitted = fit_isotonic(p, np.array([0, 0, 1, 1]))
    odd = np.array([[0.3, 0.2]])
    assert apply_isotonic(odd, fitted).tolist() == odd.tolist()


@pytest.mark.parametrize(("p", "y"), [(np.empty((0, 2)), np.empty(0, int)), (np.ones((2, 2)) / 2, np.array([0, 2]))])
def test_nothing_is_fitted_on_nothing_or_on_an_unknown_class(p, y):
    for fit in (fit_temperature, fit_isotonic):
        with pytest.raises(MpoxError):
            fit(p, y)


@pytest.fixture(scope="module")
def nested_pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test and nested predictions of two folds of an over-confident model; fold 1 is sharper than fold 0."""
    tests, inside = [], []
    for fold, sharpness in enumerate((2.0, 4.0)):
        tests.append(table(*drawn(600, sharpness=sharpness, seed=10 + fold, pictures=2), fold=fold, start=10_000 * fold))
        inside.append(
            table(*drawn(600, sharpness=sharpness, seed=20 + fold, pictures=2), fold=fold, start=50_000 + 10_000 * fold)
        )
    return pd.concat(tests, ignore_index=True), pd.concat(inside, ignore_index=True)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_an_over_confident_model_errs_less_after_calibration(nested_pair, method):
    predictions, nested = nested_pair
    after = calibrated(predictions, nested, method)
    for of in ("Mpox", "top"):
        before_table, after_table = (
            calibration_table(p, of, n_bootstrap=50).set_index("measure")["estimate"] for p in (predictions, after)
        )
        assert after_table["ece"] < 0.6 * before_table["ece"]
        assert after_table["brier"] < before_table["brier"]
        assert abs(after_table["slope"] - 1) < abs(before_table["slope"] - 1)


def test_each_fold_has_the_temperature_of_its_own_nested_predictions(nested_pair):
    after = calibrated(*nested_pair, "temperature")
    temperatures = after.groupby("fold")["temperature"].unique()
    assert temperatures[0].tolist() == pytest.approx([2.0], rel=0.2) and temperatures[1].tolist() == pytest.approx([4.0], rel=0.2)


def test_groups_of_the_test_fold_may_not_be_fitted_on(nested_pair):
    predictions, nested = nested_pair
    leaky = pd.concat([nested, predictions[predictions["fold"] == 0].assign(image_id="another")], ignore_index=True)
    with pytest.raises(MpoxError, match="tests groups that its nested predictions hold"):
        calibrated(predictions, leaky, "temperature")
    with pytest.raises(MpoxError, match="no nested predictions"):
        calibrated(predictions, nested[nested["fold"] == 0], "temperature")
    with pytest.raises(MpoxError, match="no repeat in common"):
        by_fold(predictions, nested.assign(repeat=9), lambda test, known: test)
    with pytest.raises(MpoxError, match="no calibration 'platt'"):
        calibrated(predictions, nested, "platt")


def test_bins_hold_equal_masses_and_ties_stay_together():
    p = np.random.default_rng(0).random(1000)
    assert np.bincount(mass_bins(p, 10)).tolist() == [100] * 10
    tied = np.array([0.1] * 50 + [0.9] * 50)
    assert mass_bins(tied, 10).tolist() == [0] * 50 + [1] * 50
    assert mass_bins(np.full(20, 0.3), 10).tolist() == [0] * 20


def test_a_reliability_diagram_counts_what_is_in_each_bin():
    p, y, groups = drawn(900, sharpness=2, seed=6, pictures=3)
    predictions = table(p, y, groups)
    bins = reliability_bins(predictions, "Mpox", n_bins=5, n_bootstrap=200)
    place = mass_bins(p[:, 1], 5)
    for k, row in bins.iterrows():
        assert row["images"] == (place == k).sum()
        assert row["stated"] == pytest.approx(p[place == k, 1].mean())
        assert row["observed"] == pytest.approx((y[place == k] == 1).mean())
        assert row["low"] <= row["observed"] <= row["high"]


def test_the_top_label_is_right_when_its_class_is_the_true_one():
    predictions = table(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([0, 1]), [0, 1])
    said, right = stated(predictions, "top")
    assert said.tolist() == [0.5, 0.7] and right.tolist() == [True, False]
    with pytest.raises(MpoxError, match="No predictions of 'Zoster'"):
        stated(predictions, "Zoster")


def test_the_brier_score_is_scikit_learns_and_its_parts_add_up_under_every_weighting():
    p, y, groups = drawn(600, sharpness=2, seed=7, pictures=2)
    weights = group_weights(groups, 20, 0)
    parts = brier_parts(mass_bins(p[:, 1]), weights, p[:, 1], y == 1)
    for weight, score in zip(weights, parts["brier"], strict=True):
        assert score == pytest.approx(brier_score_loss(y == 1, p[:, 1], sample_weight=weight))
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert np.allclose(total, parts["brier"])


def test_murphys_parts_of_a_forecast_with_three_values():
    """By hand: 10 forecasts of 0.1 (2 came), 5 of 0.5 (2 came), 5 of 0.8 (4 came); 8 of 20 came."""
    p = np.repeat([0.1, 0.5, 0.8], [10, 5, 5])
    came = np.r_[[1] * 2, [0] * 8, [1] * 2, [0] * 3, [1] * 4, [0]].astype(bool)
    parts = brier_parts(mass_bins(p, 3), np.ones((1, 20)), p, came)
    assert parts["reliability"][0] == pytest.approx((10 * 0.1**2 + 5 * 0.1**2 + 0) / 20)
    assert parts["resolution"][0] == pytest.approx((10 * 0.2**2 + 0 + 5 * 0.4**2) / 20)
    assert parts["uncertainty"][0] == pytest.approx(0.4 * 0.6) and parts["within"][0] == pytest.approx(0, abs=1e-12)


def test_the_ece_of_a_calibrated_model_is_its_bias_and_the_excess_is_zero_on_average():
    found, floors = [], []
    for seed in range(200):
        p, y, groups = drawn(240, sharpness=1, seed=seed, pictures=2)
        bins = mass_bins(p[:, 1])
        found.append(ece(bins, np.ones((1, 240)), p[:, 1], y == 1)[0])
        floors.append(ece_if_calibrated(bins, p[:, 1], groups, n_simulated=100, seed=seed).mean())
    assert np.mean(floors) > 0.03  # the bias is not small
    assert np.mean(found) == pytest.approx(np.mean(floors), abs=3 * np.std(found) / np.sqrt(200))


def test_what_chance_adds_to_the_reliability_is_taken_off():
    plain, debiased = [], []
    for seed in range(60):
        p, y, groups = drawn(240, sharpness=1, seed=seed, pictures=2)
        found = calibration_table(table(p, y, groups), n_bootstrap=200).set_index("measure")["estimate"]
        plain.append(found["reliability"])
        debiased.append(found["reliability debiased"])
    error = np.std(debiased) / np.sqrt(60)
    assert np.mean(plain) > 6 * error and abs(np.mean(debiased)) < 3 * error


def test_slope_and_intercept_are_those_of_statsmodels():
    rng = np.random.default_rng(8)
    p = rng.uniform(0.02, 0.98, 300)
    happened = rng.random(300) < expit(0.6 * logit(p) - 0.4)
    weights = group_weights(np.arange(300) // 3, 3, 0)
    slopes, intercepts = slope_and_intercept(p, happened, weights)
    for weight, slope, intercept in zip(weights, slopes, intercepts, strict=True):
        free = sm.GLM(happened, sm.add_constant(logit(p)), family=sm.families.Binomial(), freq_weights=weight).fit()
        held = sm.GLM(happened, np.ones(300), family=sm.families.Binomial(), offset=logit(p), freq_weights=weight).fit()
        assert slope == pytest.approx(free.params[1], abs=1e-6) and intercept == pytest.approx(held.params[0], abs=1e-6)


def test_a_slope_that_does_not_exist_is_not_a_number():
    p = np.array([0.1, 0.2, 0.8, 0.9])
    slope, _ = slope_and_intercept(p, np.array([0, 0, 1, 1], bool), np.ones((1, 4)))
    one_sided, _ = slope_and_intercept(p, np.ones(4, bool), np.ones((1, 4)))
    assert np.isnan(slope[0]) and np.isnan(one_sided[0])
