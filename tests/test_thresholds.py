"""Thresholds: held against sklearn's ROC curve and slow counts; re-chosen ones never see the group they are scored on."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from mpox import MpoxError
from mpox._core import TooFewImages
from mpox.stats.decisions import (
    YOUDEN,
    Aim,
    carry_thresholds,
    choose_threshold,
    crossfit_thresholds,
    operating_difference,
    operating_point,
    operating_replicates,
)


def draw(n: int = 200, seed: int = 0, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    scores = 1 / (1 + np.exp(-rng.normal(truth * 1.2, 1)))
    return (scores.round(1) if ties else scores), truth


def table(seed: int = 0, n: int = 200, group_size: int = 2) -> pd.DataFrame:
    scores, truth = draw(n, seed)
    return pd.DataFrame(
        {
            "repeat": 0,
            "fold": 0,
            "image_id": [f"i{number:03d}" for number in range(n)],
            "group_id": [f"g{number // group_size:03d}" for number in range(n)],
            "label": np.where(truth, "Mpox", "Others"),
            "p_Mpox": scores,
            "p_Others": 1 - scores,
        }
    )


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


def test_weights_are_repeated_images():
    scores, truth = draw(60, 3)
    weights = np.random.default_rng(1).integers(0, 4, 60)
    for aim in (YOUDEN, Aim("sensitivity", 0.9), Aim("specificity", 0.8)):
        repeated = choose_threshold(np.repeat(scores, weights), np.repeat(truth, weights), aim=aim)
        assert choose_threshold(scores, truth, aim=aim, weights=weights) == pytest.approx(repeated)


def test_extreme_aims():
    scores, truth = draw(50, 1)
    assert choose_threshold(scores, truth, aim=Aim("sensitivity", 1)) == scores[truth].min()
    assert choose_threshold(scores, truth, aim=Aim("sensitivity", 0)) == np.inf
    assert choose_threshold(scores, truth, aim=Aim("specificity", 0)) == scores.min()
    assert choose_threshold(np.array([0.2, 0.9]), np.array([True, False]), aim=Aim("specificity", 1)) == np.inf


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
        (lambda: operating_point(table()), "No threshold"),
    ],
)
def test_what_cannot_be_is_refused(wrong, match):
    with pytest.raises(MpoxError, match=match):
        wrong()


def test_an_operating_point_is_sklearns_confusion_matrix():
    predictions = table(2)
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


def test_intervals_are_of_groups_not_images():
    single, quadruple = table(1, 100, group_size=1), table(1, 100, group_size=1)
    copies = [quadruple.assign(image_id=quadruple["image_id"] + f"_{k}") for k in range(4)]
    one, four = (operating_point(part, 0.5, seed=2).set_index("metric") for part in (single, pd.concat(copies)))
    pd.testing.assert_frame_equal(one, four)  # four copies of each picture in its group tell nothing new


def test_carried_thresholds_come_from_the_folds_own_nested_predictions():
    test = pd.concat([table(1).assign(fold=0), table(2).assign(fold=1, image_id=lambda t: "x" + t["image_id"])])
    nested = pd.concat([table(3).assign(fold=0), table(4).assign(fold=1)]).assign(image_id=lambda t: "n" + t["image_id"])
    shuffled = test.sample(frac=1, random_state=0).reset_index(drop=True)
    carried = carry_thresholds(shuffled, nested, Aim("sensitivity", 0.9))
    assert carried["image_id"].tolist() == shuffled["image_id"].tolist()
    for fold, seed in ((0, 3), (1, 4)):
        expected = choose_threshold(*draw(seed=seed), aim=Aim("sensitivity", 0.9))
        assert set(carried.loc[carried["fold"] == fold, "threshold"]) == {expected}
    with pytest.raises(MpoxError, match="no nested predictions"):
        carry_thresholds(test, nested[nested["fold"] == 0], YOUDEN)
    with pytest.raises(MpoxError, match="tests images that its nested predictions hold"):
        carry_thresholds(test, nested.assign(image_id=nested["image_id"].str[1:]), YOUDEN)


def test_a_re_chosen_threshold_does_not_know_the_group_it_is_scored_on():
    predictions = table(5, 120, group_size=3)
    first = crossfit_thresholds(predictions, YOUDEN, n_repeats=3)
    assert sorted(first["repeat"].unique()) == [0, 1, 2] and first["threshold"].notna().all()
    group = predictions["group_id"] == "g007"
    changed = predictions.assign(p_Mpox=predictions["p_Mpox"].where(~group, 1 - predictions["p_Mpox"]))
    again = crossfit_thresholds(changed, YOUDEN, n_repeats=3)
    first, again = (found.sort_values(["repeat", "image_id"], ignore_index=True) for found in (first, again))
    own = first["group_id"] == "g007"
    assert (first.loc[own, "threshold"] == again.loc[own, "threshold"]).all()
    assert first.groupby(["repeat", "group_id"])["threshold"].nunique().max() == 1


def test_re_chosen_thresholds_mend_a_shifted_score_and_reveal_no_more():
    """A shift of all scores breaks the carried threshold; re-choosing brings the aim back, about."""
    test, nested = table(11, 600), table(12, 600).assign(image_id=lambda t: "n" + t["image_id"])
    shifted = test.assign(p_Mpox=test["p_Mpox"] ** 3)
    aim = Aim("sensitivity", 0.9)
    carried, chosen = carry_thresholds(shifted, nested, aim), crossfit_thresholds(shifted, aim)
    sensitivity = [
        operating_point(part, n_bootstrap=0).set_index("metric").loc["sensitivity", "estimate"] for part in (carried, chosen)
    ]
    assert sensitivity[0] < 0.75 and abs(sensitivity[1] - 0.9) < 0.03
    change = operating_difference(chosen, carried, n_bootstrap=200).set_index("metric")
    assert change.loc["sensitivity", "estimate"] == pytest.approx(sensitivity[1] - sensitivity[0])
    assert change.loc["sensitivity", "low"] > 0 > change.loc["specificity", "high"]
    with pytest.raises(MpoxError, match="same images"):
        operating_difference(chosen, carried.iloc[1:])


def test_too_few_groups_cannot_be_dealt():
    few = table(0, 40, group_size=20)
    with pytest.raises(TooFewImages, match="two groups with, and two without"):
        crossfit_thresholds(few.assign(label=np.where(few["group_id"] == "g000", "Mpox", "Others")), YOUDEN)


def test_replicates_are_paired():
    predictions = table(6)
    one = operating_replicates(predictions, 0.5, n_bootstrap=30)
    same = operating_replicates(pd.concat([predictions, predictions.assign(repeat=1)]), 0.5, n_bootstrap=30)
    assert all(np.allclose(one[name], same[name]) for name in one)
