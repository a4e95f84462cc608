"""Acting at a threshold: against scikit-learn's ROC curve and confusion matrix, dcurves, worked examples, and slow counts."""

import numpy as np
import pandas as pd
import pytest
from dcurves import dca
from predictions import table
from sklearn.metrics import confusion_matrix, roc_curve

from mpox import MpoxError
from mpox._core import TooFewImages
from mpox.stats.decisions import (
    ADVANTAGE,
    EVERYONE,
    MODEL,
    NOBODY,
    YOUDEN,
    Aim,
    Costs,
    at_prevalence,
    carry_thresholds,
    choose_threshold,
    crossfit_thresholds,
    decision_curve,
    expected_cost,
    operating_point,
    operating_replicates,
    predictive_table,
    predictive_values,
    strategy_costs,
    useful_range,
    worthwhile_prevalences,
)
from mpox.stats.resample import Replicates


def draw(n: int = 200, seed: int = 0, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    scores = 1 / (1 + np.exp(-rng.normal(truth * 1.2, 1)))
    return (scores.round(1) if ties else scores), truth


def study(seed: int = 0, n: int = 200, size: int = 2, **more) -> pd.DataFrame:
    scores, truth = draw(n, seed)
    return table(truth, scores, np.arange(n) // size, **more)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_those_of_sklearns_roc_curve(seed, ties):
    scores, truth = draw(seed=seed, ties=ties)
    false, true, candidates = roc_curve(truth, scores, drop_intermediate=False)
    for level in (0.5, 0.8, 0.95, 1.0):
        assert choose_threshold(scores, truth, aim=Aim("sensitivity", level)) == candidates[true >= level].max()
        assert choose_threshold(scores, truth, aim=Aim("specificity", level)) == candidates[1 - false >= level].min()
    best = choose_threshold(scores, truth)
    reached = (truth & (scores >= best)).sum() / truth.sum() + (~truth & (scores < best)).sum() / (~truth).sum() - 1
    assert np.isclose(reached, (true - false).max())


def test_extreme_aims():
    scores, truth = draw(50, 1)
    assert choose_threshold(scores, truth, aim=Aim("sensitivity", 1)) == scores[truth].min()
    assert choose_threshold(scores, truth, aim=Aim("sensitivity", 0)) == np.inf
    assert choose_threshold(scores, truth, aim=Aim("specificity", 0)) == scores.min()
    assert choose_threshold(np.array([0.2, 0.9]), np.array([True, False]), aim=Aim("specificity", 1)) == np.inf
    assert str(Aim("sensitivity", 0.95)) == "sensitivity >= 0.95" and str(YOUDEN) == "largest sensitivity + specificity"


@pytest.mark.parametrize(
    "wrong, match",
    [
        (lambda: Aim("accuracy"), "There is no aim"),
        (lambda: Aim("sensitivity"), "needs a level from 0 to 1"),
        (lambda: Aim("specificity", 95), "needs a level from 0 to 1"),
        (lambda: Aim("youden", 0.5), "has no level"),
        (lambda: choose_threshold(np.array([0.1, np.nan]), np.array([True, False])), "score of every image"),
        (lambda: choose_threshold(np.array([0.1, 0.2]), np.array([True, True])), "only one of the two"),
        (lambda: choose_threshold(np.array([]), np.array([])), "only one of the two"),
        (lambda: operating_point(study()), "No threshold"),
        (lambda: decision_curve(study(), thresholds=np.array([1.0])), "takes thresholds"),
        (lambda: decision_curve(study(), prevalence=0.0), "takes thresholds"),
        (lambda: decision_curve(study()[lambda rows: rows["label"] == "Mpox"]), "only one of the two"),
        (lambda: predictive_values(0.9, 0.9, 50), "from 0 to 1"),
        (lambda: strategy_costs(50, np.ones(1), np.ones(1), Costs()), "from 0 to 1"),
        (lambda: Costs(missed=-1), "at least 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, match):
    with pytest.raises(MpoxError, match=match):
        wrong()


def test_an_operating_point_is_sklearns_confusion_matrix():
    predictions = study(2)
    found = operating_point(predictions, 0.6, n_bootstrap=50).set_index("metric")
    cleared, alarm, missed, hit = confusion_matrix(predictions["label"] == "Mpox", predictions["p_Mpox"] >= 0.6).ravel()
    expected = {
        "sensitivity": hit / (hit + missed),
        "specificity": cleared / (cleared + alarm),
        "ppv": hit / (hit + alarm),
        "npv": cleared / (cleared + missed),
        "flagged": (hit + alarm) / len(predictions),
    }
    assert found["estimate"].to_dict() == pytest.approx(expected)
    assert (found["low"] < found["estimate"]).all() and (found["estimate"] < found["high"]).all()
    copies = pd.concat([predictions.assign(image_id=predictions["image_id"] + f"_{k}") for k in range(4)])
    pd.testing.assert_frame_equal(operating_point(copies, 0.6, n_bootstrap=50).set_index("metric"), found)  # nothing new
    twice = operating_replicates(pd.concat([predictions, predictions.assign(repeat=1)]), 0.6, n_bootstrap=50)
    assert all(tuple(values.row().values()) == pytest.approx(tuple(found.loc[name])[:3]) for name, values in twice.items())


def test_carried_thresholds_come_from_the_folds_own_nested_predictions():
    test = pd.concat([study(1, prefix="a"), study(2, fold=1, prefix="b")])
    nested = pd.concat([study(3, prefix="c"), study(4, fold=1, prefix="d")])
    shuffled = test.sample(frac=1, random_state=0).reset_index(drop=True)
    carried = carry_thresholds(shuffled, nested, Aim("sensitivity", 0.9))
    assert carried["image_id"].tolist() == shuffled["image_id"].tolist()
    for fold, seed in ((0, 3), (1, 4)):
        expected = choose_threshold(*draw(seed=seed), aim=Aim("sensitivity", 0.9))
        assert set(carried.loc[carried["fold"] == fold, "threshold"]) == {expected}
    with pytest.raises(MpoxError, match="no nested predictions"):
        carry_thresholds(test, nested[nested["fold"] == 0], YOUDEN)
    with pytest.raises(MpoxError, match="tests images that its nested predictions hold"):
        carry_thresholds(test, test, YOUDEN)


def test_a_re_chosen_threshold_does_not_know_the_group_it_is_scored_on():
    predictions = study(5, 120, size=3)
    first = crossfit_thresholds(predictions, YOUDEN, n_repeats=3)
    assert sorted(first["repeat"].unique()) == [0, 1, 2] and first["threshold"].notna().all()
    group = predictions["group_id"] == "g7"
    changed = predictions.assign(p_Mpox=predictions["p_Mpox"].where(~group, 1 - predictions["p_Mpox"]))
    again = crossfit_thresholds(changed, YOUDEN, n_repeats=3)
    first, again = (found.sort_values(["repeat", "image_id"], ignore_index=True) for found in (first, again))
    own = first["group_id"] == "g7"
    assert own.sum() == 9 and (first.loc[own, "threshold"] == again.loc[own, "threshold"]).all()
    assert first.groupby(["repeat", "group_id"])["threshold"].nunique().max() == 1
    few = study(0, 40, size=20)
    with pytest.raises(TooFewImages, match="two groups with, and two without"):
        crossfit_thresholds(few.assign(label=np.where(few["group_id"] == "g0", "Mpox", "Others")), YOUDEN)


def test_re_chosen_thresholds_mend_a_shifted_score_and_reveal_no_more():
    """A shift of all scores breaks the carried threshold; re-choosing brings the aim back, about."""
    test, nested, aim = study(11, 600), study(12, 600, prefix="n"), Aim("sensitivity", 0.9)
    shifted = test.assign(p_Mpox=test["p_Mpox"] ** 3)
    carried, chosen = carry_thresholds(shifted, nested, aim), crossfit_thresholds(shifted, aim)
    reached = [operating_replicates(part, n_bootstrap=0)["sensitivity"].estimate for part in (carried, chosen)]
    assert reached[0] < 0.75 and abs(reached[1] - 0.9) < 0.03
    before, after = (operating_replicates(part, n_bootstrap=200) for part in (carried, chosen))
    assert (after["sensitivity"] - before["sensitivity"]).interval()[0] > 0
    assert (after["specificity"] - before["specificity"]).interval()[1] < 0


@pytest.fixture(scope="module")
def coarse() -> pd.DataFrame:
    """400 images of 200 people, 30 % with Mpox; coarse probabilities, so that many are equal to a threshold."""
    rng = np.random.default_rng(0)
    ill = np.repeat(rng.random(200) < 0.3, 2)
    return table(ill, np.round(np.clip(rng.normal(np.where(ill, 0.6, 0.3), 0.2), 0.01, 0.99), 2), np.arange(400) // 2)


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_the_decision_curve_is_that_of_dcurves(coarse, prevalence):
    thresholds = np.round(np.arange(0.01, 0.95, 0.01), 2) if prevalence is None else np.array([0.005, 0.01, 0.02, 0.1])
    ours = decision_curve(coarse, thresholds=thresholds, prevalence=prevalence, n_bootstrap=0)
    ill = coarse["label"] == "Mpox"
    p = coarse["p_Mpox"] if prevalence is None else at_prevalence(coarse["p_Mpox"], 1 / 2, prevalence)  # of two classes
    data = pd.DataFrame({"ill": ill.astype(int), "model": p})
    theirs = dca(data=data, outcome="ill", modelnames=["model"], thresholds=thresholds, prevalence=prevalence)
    for strategy, name in ((MODEL, "model"), (EVERYONE, "all"), (NOBODY, "none"))[: 1 if prevalence else 3]:
        other = theirs[theirs["model"] == name].set_index("threshold")["net_benefit"].reindex(thresholds)
        assert np.allclose(ours[ours["strategy"] == strategy]["estimate"], other, atol=1e-9)


def test_probabilities_move_from_equal_classes_to_a_prevalence_as_counting_says():
    """Three classes of known densities, a model that weighs them alike, Mpox in 6 of 10 images: Bayes' theorem class by class,
    and net benefit image by image. Moved so, what is stated is on average what happens; from the sample's share it is not."""
    rng, y = np.random.default_rng(3), np.repeat([0, 1, 2], [6000, 3000, 1000])
    ill, middle = y == 0, np.array([0.0, 1.0, 2.0])
    density = np.exp(-((rng.normal(middle[y], 1)[:, None] - middle) ** 2) / 2)
    equal = table(y, density / density.sum(axis=1, keepdims=True), classes=("Mpox", "Measles", "Normal"))
    there = np.array([0.1, 0.45, 0.45])
    p, people = density[:, 0] * 0.1 / (density @ there), there[y] / np.bincount(y)[y]
    assert at_prevalence(equal["p_Mpox"], 1 / 3, 0.1).to_numpy() == pytest.approx(p)
    assert people @ p == pytest.approx(0.1, abs=0.003) and people @ at_prevalence(equal["p_Mpox"], 0.6, 0.1) < 0.06
    thresholds = np.array([0.02, 0.1, 0.3])
    found = decision_curve(equal, thresholds=thresholds, prevalence=0.1, n_bootstrap=0).query("strategy == @MODEL")
    for threshold, value in zip(thresholds, found["estimate"], strict=True):
        hits, alarms = 0.1 * (p[ill] >= threshold).mean(), 0.9 * (p[~ill] >= threshold).mean()
        assert value == pytest.approx(hits - alarms * threshold / (1 - threshold), abs=1e-12)


def test_bands_hold_the_curve_and_the_advantage_is_over_the_better_of_both(coarse):
    curve = decision_curve(coarse, n_bootstrap=300)
    assert ((curve["low"] <= curve["estimate"]) & (curve["estimate"] <= curve["high"])).mean() > 0.98
    wide = curve.pivot(index="threshold", columns="strategy", values="estimate")
    assert np.allclose(wide[ADVANTAGE], wide[MODEL] - wide[[EVERYONE, NOBODY]].max(axis=1))
    low, high = useful_range(curve)
    assert 0.05 < low < 0.35 < high < 0.9
    assert useful_range(decision_curve(coarse.assign(p_Mpox=0.5, p_Others=0.5), n_bootstrap=50)) is None


def test_predictive_values_of_a_worked_example_and_of_a_count(coarse):
    """Gigerenzer et al. 2007: mammography, 1 % prevalence, 90 % sensitivity, 9 % false positives; of 98 positives 9 are ill."""
    found = predictive_values(0.90, 0.91, 0.01)
    assert found["ppv"] == pytest.approx(9 / 98.1) and found["npv"] == pytest.approx(900.9 / 901.9)
    assert [1000 * found[name] for name in ("missed", "false_alarms", "flagged")] == pytest.approx([1, 89.1, 98.1])
    flagged, ill = coarse["p_Mpox"] >= 0.5, coarse["label"] == "Mpox"
    found = predictive_values(flagged[ill].mean(), (~flagged)[~ill].mean(), ill.mean())
    assert found["ppv"] == pytest.approx(ill[flagged].mean()) and found["npv"] == pytest.approx((~ill)[~flagged].mean())
    replicates = {"sensitivity": np.array([0.9, 0.8, 1.0]), "specificity": np.array([0.8, 0.7, 0.9])}
    row = predictive_table(replicates, np.array([0.001, 0.5])).set_index(["prevalence", "measure"]).loc[(0.5, "ppv")]
    assert row["low"] < row["estimate"] == pytest.approx(0.45 / 0.55) and row["high"] > row["estimate"]
    assert np.isnan(predictive_values(0.0, 1.0, 0.1)["ppv"])


def test_the_cost_is_that_of_counting_a_thousand_people():
    costs = Costs(picture=2, false_alarm=30, missed=500)  # 20 ill of 1000: 3 missed, 98 false alarms
    assert 1000 * expected_cost(0.02, 0.85, 0.9, costs) == pytest.approx(1000 * 2 + 98 * 30 + 3 * 500)
    found = strategy_costs(0.02, Replicates(0.85, np.array([0.8, 0.9])), Replicates(0.9, np.array([0.9, 0.9])), costs)
    assert (1000 * found["estimate"]).round(6).tolist() == [6440, 980 * 30, 20 * 500]
    assert (found["low"] < found["estimate"]).tolist() == [True, False, False]


def test_between_its_limits_the_model_is_the_cheapest_and_nowhere_else():
    costs, grid = Costs(), np.linspace(0.0005, 0.6, 400)
    low, high = worthwhile_prevalences(0.9, 0.8, costs)
    found = (strategy_costs(share, np.array([0.9]), np.array([0.8]), costs).assign(prevalence=share) for share in grid)
    curve = pd.concat(found)
    wide = curve.pivot(index="prevalence", columns="strategy", values="estimate")
    assert ((wide.idxmin(axis=1) == "the model first") == ((grid > low) & (grid < high))).all()
    assert worthwhile_prevalences(0.9, 0.8, Costs(picture=1000)) is None
