"""Calibration and conformal sets: what is fitted, the measures that say whether it helped, and the coverage that is promised."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from crepes import ConformalClassifier
from crepes.extras import hinge
from predictions import table
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
from mpox.stats.conformal import (
    CERTAIN,
    NOTHING,
    UNSURE,
    ConformalScores,
    conformal_sets,
    coverage_table,
    fit_conformal,
    p_values,
    predict_sets,
)
from mpox.stats.resample import group_weights

CLASSES = ["Measles", "Mpox", "Normal"]


def drawn(n: int, *, sharpness: float, seed: int, siblings: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are `sharpness` times too sharp (1: calibrated), the classes and the groups."""
    rng = np.random.default_rng(seed)
    logits = np.repeat(rng.normal(0, 1.5, (n // siblings, 3)), siblings, axis=0)
    one = np.repeat(rng.random(n // siblings), siblings)
    y = (one[:, None] > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return softmax(sharpness * logits, axis=1), y, np.repeat(np.arange(n // siblings), siblings)


def predicted(n: int, *, fold: int = 0, prefix: str = "", **options) -> pd.DataFrame:
    p, y, groups = drawn(n, **options)
    return table(y, p, groups, classes=CLASSES, fold=fold, prefix=prefix)


@pytest.mark.parametrize("sharpness", [2.5, 0.5])
def test_the_temperature_is_what_the_logits_were_multiplied_with(sharpness):
    p, y, _ = drawn(20_000, sharpness=sharpness, seed=0)
    found = fit_temperature(p, y)
    assert found == pytest.approx(sharpness, rel=0.05)
    few, grid = p[:300], np.linspace(0.6, 1.6, 101) * sharpness
    losses = [log_loss(y[:300], apply_temperature(few, t), labels=[0, 1, 2]) for t in grid]
    assert fit_temperature(few, y[:300]) == pytest.approx(grid[np.argmin(losses)], rel=0.02)
    cooled = apply_temperature(p, 4.0)
    assert (cooled.argmax(axis=1) == p.argmax(axis=1)).all()
    assert np.allclose(cooled.sum(axis=1), 1) and np.allclose(apply_temperature(p, 1.0), p)


def test_probabilities_of_0_and_perfect_models_have_a_temperature_in_range():
    p, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    assert 0.05 <= fit_temperature(p, y) < 1 and 15 < fit_temperature(p, 1 - y) <= 20


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
    steps = fit_isotonic(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]), np.array([0, 0, 1, 1]))
    assert apply_isotonic([[0.3, 0.2]], steps).tolist() == [[0.3, 0.2]]  # a row that no curve accepts stays as it was


@pytest.fixture(scope="module")
def nested_pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test and nested predictions of two folds of an over-confident model; fold 1 is sharper than fold 0."""
    folds = [{"fold": fold, "sharpness": 2.0 + 2 * fold, "siblings": 2} for fold in range(2)]
    tests = [predicted(600, prefix=f"test{about['fold']}-", seed=10 + about["fold"], **about) for about in folds]
    inside = [predicted(600, prefix=f"inside{about['fold']}-", seed=20 + about["fold"], **about) for about in folds]
    return pd.concat(tests, ignore_index=True), pd.concat(inside, ignore_index=True)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_an_over_confident_model_errs_less_after_calibration(nested_pair, method):
    predictions, nested = nested_pair
    after = calibrated(predictions, nested, method)
    for of in ("Mpox", "top"):
        before_table, after_table = (
            calibration_table(p, of, n_bootstrap=50).set_index("measure")["estimate"] for p in (predictions, after)
        )
        assert after_table["ece"] < 0.6 * before_table["ece"] and after_table["brier"] < before_table["brier"]
        assert abs(after_table["slope"] - 1) < abs(before_table["slope"] - 1)
    if method == "temperature":  # each fold has that of its own nested predictions
        assert after.groupby("fold")["temperature"].mean().tolist() == pytest.approx([2, 4], rel=0.2)
        assert after.groupby("fold")["temperature"].nunique().tolist() == [1, 1]


def test_groups_of_the_test_fold_may_not_be_fitted_on(nested_pair):
    predictions, nested = nested_pair
    leaky = pd.concat([nested, predictions[predictions["fold"] == 0].assign(image_id="another")], ignore_index=True)
    with pytest.raises(MpoxError, match="tests groups that its nested predictions hold"):
        calibrated(predictions, leaky, "temperature")
    with pytest.raises(MpoxError, match="no nested predictions"):
        conformal_sets(predictions, nested[nested["fold"] == 0])
    with pytest.raises(MpoxError, match="no repeat in common"):
        by_fold(predictions, nested.assign(repeat=9), lambda test, known: test)
    with pytest.raises(MpoxError, match="no calibration 'platt'"):
        calibrated(predictions, nested, "platt")


@pytest.mark.parametrize("fit", [fit_temperature, fit_isotonic, fit_conformal])
def test_nothing_is_fitted_on_nothing_or_on_an_unknown_class(fit):
    with pytest.raises(MpoxError, match="at least one image"):
        fit(np.empty((0, 2)), np.empty(0, int))
    with pytest.raises(MpoxError, match="not among the 2 columns"):
        fit(np.ones((2, 2)) / 2, np.array([0, 2]))


def test_bins_hold_equal_masses_ties_stay_together_and_the_diagram_counts_them():
    p = np.random.default_rng(0).random(1000)
    assert np.bincount(mass_bins(p, 10)).tolist() == [100] * 10
    assert mass_bins(np.array([0.1] * 50 + [0.9] * 50), 10).tolist() == [0] * 50 + [1] * 50
    assert mass_bins(np.full(20, 0.3), 10).tolist() == [0] * 20
    p, y, groups = drawn(900, sharpness=2, seed=6, siblings=3)
    bins = reliability_bins(table(y, p, groups, classes=CLASSES), "Mpox", n_bins=5, n_bootstrap=200)
    place = mass_bins(p[:, 1], 5)
    for k, row in bins.iterrows():
        assert row["images"] == (place == k).sum() and row["stated"] == pytest.approx(p[place == k, 1].mean())
        assert row["low"] <= row["observed"] == pytest.approx((y[place == k] == 1).mean()) and row["observed"] <= row["high"]


def test_the_top_label_is_right_when_its_class_is_the_true_one():
    predictions = table(np.array([0, 1]), np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), classes=CLASSES)
    said, right = stated(predictions, "top")
    assert said.tolist() == [0.5, 0.7] and right.tolist() == [True, False]
    with pytest.raises(MpoxError, match="No predictions of 'Zoster'"):
        stated(predictions, "Zoster")


def test_the_brier_score_is_scikit_learns_and_its_parts_add_up_under_every_weighting():
    p, y, groups = drawn(600, sharpness=2, seed=7, siblings=2)
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
    expected = {"reliability": (10 * 0.1**2 + 5 * 0.1**2) / 20, "resolution": (10 * 0.2**2 + 5 * 0.4**2) / 20}
    for name, value in {**expected, "uncertainty": 0.4 * 0.6, "within": 0}.items():
        assert parts[name][0] == pytest.approx(value, abs=1e-12)


def test_the_ece_of_a_calibrated_model_is_its_bias_and_what_chance_adds_is_taken_off():
    found, floors, plain, debiased = [], [], [], []
    for seed in range(100):
        p, y, groups = drawn(240, sharpness=1, seed=seed, siblings=2)
        bins = mass_bins(p[:, 1])
        found.append(ece(bins, np.ones((1, 240)), p[:, 1], y == 1)[0])
        floors.append(ece_if_calibrated(bins, p[:, 1], groups, n_simulated=100, seed=seed).mean())
        if seed < 60:
            measures = calibration_table(table(y, p, groups, classes=CLASSES), n_bootstrap=200).set_index("measure")["estimate"]
            plain.append(measures["reliability"])
            debiased.append(measures["reliability debiased"])
    assert np.mean(floors) > 0.03  # the bias is not small
    assert np.mean(found) == pytest.approx(np.mean(floors), abs=3 * np.std(found) / 10)
    error = np.std(debiased) / np.sqrt(60)
    assert np.mean(plain) > 6 * error and abs(np.mean(debiased)) < 3 * error


def test_slope_and_intercept_are_those_of_statsmodels_or_nothing():
    rng = np.random.default_rng(8)
    p = rng.uniform(0.02, 0.98, 300)
    happened = rng.random(300) < expit(0.6 * logit(p) - 0.4)
    weights = group_weights(np.arange(300) // 3, 3, 0)
    for weight, slope, intercept in zip(weights, *slope_and_intercept(p, happened, weights), strict=True):
        free = sm.GLM(happened, sm.add_constant(logit(p)), family=sm.families.Binomial(), freq_weights=weight).fit()
        held = sm.GLM(happened, np.ones(300), family=sm.families.Binomial(), offset=logit(p), freq_weights=weight).fit()
        assert slope == pytest.approx(free.params[1], abs=1e-6) and intercept == pytest.approx(held.params[0], abs=1e-6)
    for happened in (np.array([0, 0, 1, 1], bool), np.ones(4, bool)):  # perfectly divided, one-sided
        assert np.isnan(slope_and_intercept(np.array([0.1, 0.2, 0.8, 0.9]), happened, np.ones((1, 4)))[0][0])


def unfair(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Probabilities of a model to which the third class is hard."""
    logits = rng.normal(0, 1, (len(y), 3))
    logits[np.arange(len(y)), y] += np.array([2.0, 1.2, 0.7])[y]
    return softmax(3 * logits, axis=1)


@pytest.mark.parametrize("by_class", [True, False])
def test_p_values_and_sets_are_those_of_crepes(by_class):
    rng = np.random.default_rng(0)
    y = rng.choice(3, 157, p=(0.6, 0.3, 0.1))
    p, new = unfair(rng, y), unfair(rng, rng.choice(3, 80))
    scores = fit_conformal(p, y, by_class=by_class)
    theirs = ConformalClassifier().fit(hinge(p, np.arange(3), y), bins=y if by_class else None)
    if by_class:  # crepes takes one bin a test object: the candidate class is asked column by column
        alphas = hinge(new)
        wanted = np.stack([theirs.predict_p(alphas, bins=np.full(80, k), smoothing=False)[:, k] for k in range(3)], axis=1)
    else:
        wanted = theirs.predict_p(hinge(new), smoothing=False)
    assert np.allclose(p_values(scores, new), wanted)
    assert (predict_sets(scores, new, 0.83) == (wanted > 0.17)).all()
    back = json.loads(json.dumps(asdict(scores)))
    assert ConformalScores(tuple(map(tuple, back["scores"])), back["by_class"]) == scores


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_coverage_of_every_class_holds_within_monte_carlo_error(confidence):
    """1500 studies: with n held-out images of a class the coverage is at least the confidence, at most 1 / (n + 1) more."""
    rng = np.random.default_rng(1)
    y = np.r_[np.repeat([0, 1, 2], 30), np.repeat([0, 1, 2], 10)]
    covered: dict[bool, list] = {True: [], False: []}
    for _ in range(1500):
        p = unfair(rng, y)
        for by_class, found in covered.items():
            sets = predict_sets(fit_conformal(p[:90], y[:90], by_class=by_class), p[90:], confidence)
            found.append(sets[np.arange(30), y[90:]].reshape(3, 10).mean(axis=1))
    mean, error = np.mean(covered[True], axis=0), np.std(covered[True], axis=0) / np.sqrt(1500)
    assert (mean > confidence - 3 * error).all() and (mean < confidence + 1 / 31 + 3 * error).all()
    pooled = np.mean(covered[False], axis=0)
    assert pooled.mean() == pytest.approx(confidence, abs=0.015)
    assert pooled[2] < confidence - 0.02  # on average is not for everyone: what the classes are told apart for


def test_ties_are_kept_and_a_class_that_was_never_seen_cannot_be_excluded():
    scores = fit_conformal(np.array([[0.7, 0.3, 0.0]] * 9), np.zeros(9, dtype=int))
    sets = predict_sets(scores, np.array([[0.7, 0.3, 0.0], [0.69, 0.31, 0.0]]), 0.9)
    assert sets.tolist() == [[True, True, True], [False, True, True]]
    for confidence in (0, 1, 90):
        with pytest.raises(MpoxError, match="between 0 and 1"):
            predict_sets(scores, np.ones((1, 3)) / 3, confidence)
    with pytest.raises(MpoxError, match="for 3 classes"):
        predict_sets(scores, np.ones((1, 2)) / 2)


def test_the_table_counts_what_the_sets_hold(nested_pair):
    sets = conformal_sets(*nested_pair, confidence=0.9)
    assert (sets["size"] == sets[[f"in_{label}" for label in CLASSES]].sum(axis=1)).all()
    assert set(sets.loc[sets["size"] > 1, "answer"]) == {UNSURE} and set(sets.loc[sets["size"] == 1, "answer"]) == {CERTAIN}
    found = coverage_table(sets, n_bootstrap=200).set_index(["class", "measure"])
    measles, named = sets[sets["label"] == "Measles"], sets[sets["answer"] == CERTAIN]
    assert found.loc[("Measles", "coverage"), "estimate"] == pytest.approx(measles["in_Measles"].mean())
    assert found.loc[("all", "size"), "estimate"] == pytest.approx(sets["size"].mean())
    assert found.loc[("all", "right if certain"), "estimate"] == pytest.approx(named["covered"].mean())
    assert found.loc[("all", [CERTAIN, UNSURE, NOTHING]), "estimate"].sum() == pytest.approx(1)
    cover = found.xs("coverage", level="measure")
    assert ((cover["low"] <= cover["estimate"]) & (cover["estimate"] <= cover["high"])).all()
