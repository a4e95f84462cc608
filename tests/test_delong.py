"""DeLong's interval against a count of all pairs, a simulated standard error, and the bootstrap."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import simulate_clustered
from sklearn.metrics import roc_auc_score

from mpox._core import MpoxError
from mpox.stats.delong import auroc_delong, clustered_auroc, difference_delong, placement_values
from mpox.stats.metrics import evaluate, group_weights, replicates, weighted_auroc


def all_pairs(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structural components of DeLong 1988 by counting every pair: of the positives, of the negatives."""
    positive, negative = score[y], score[~y]
    wins = (positive[:, None] > negative) + (positive[:, None] == negative) / 2
    return wins.mean(axis=1), wins.mean(axis=0)


def obuchowski(y: np.ndarray, score: np.ndarray, groups: np.ndarray) -> float:
    """Variance of the area, term by term as in Obuchowski 1997."""
    of_positives, of_negatives = all_pairs(y, score)
    area = of_positives.mean()
    m, n = y.sum(), (~y).sum()
    s10 = s01 = s11 = 0.0
    names = sorted(set(groups))
    for name in names:
        v10, v01 = of_positives[groups[y] == name], of_negatives[groups[~y] == name]
        s10 += (v10.sum() - len(v10) * area) ** 2
        s01 += (v01.sum() - len(v01) * area) ** 2
        s11 += (v10.sum() - len(v10) * area) * (v01.sum() - len(v01) * area)
    i10, i01, i = len(set(groups[y])), len(set(groups[~y])), len(names)
    return i10 / ((i10 - 1) * m) * s10 / m + i01 / ((i01 - 1) * n) * s01 / n + 2 * i / (i - 1) * s11 / (m * n)


def table(y: np.ndarray, score: np.ndarray, groups=None, repeat: int = 0) -> pd.DataFrame:
    ids = np.char.mod("i%05d", np.arange(len(y)))
    frame = pd.DataFrame({"repeat": repeat, "fold": 0, "image_id": ids, "group_id": ids if groups is None else groups})
    return frame.assign(label=np.where(y, "Mpox", "Others"), p_Mpox=score, p_Others=1 - score)


@st.composite
def scored(draw) -> tuple[np.ndarray, np.ndarray]:
    """At least two of each class, coarse scores: many ties."""
    y = np.array([True, True, False, False, *draw(st.lists(st.booleans(), max_size=30))])
    return y, np.array(draw(st.lists(st.integers(0, 8), min_size=len(y), max_size=len(y)))) / 8


@settings(max_examples=150, deadline=None)
@given(scored())
def test_single_images_have_delongs_own_standard_error(case):
    y, score = case
    of_positives, of_negatives = all_pairs(y, score)
    found = auroc_delong(table(y, score))
    assert found.estimate == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    variance = of_positives.var(ddof=1) / y.sum() + of_negatives.var(ddof=1) / (~y).sum()
    assert found.standard_error == pytest.approx(np.sqrt(variance), abs=1e-9)
    assert found.n_groups == len(y)
    assert found.low == pytest.approx(max(0, found.estimate - 1.959964 * np.sqrt(variance)), abs=1e-6)
    assert found.high == pytest.approx(min(1, found.estimate + 1.959964 * np.sqrt(variance)), abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(scored(), st.data())
def test_groups_have_obuchowskis_standard_error(case, data):
    y, score = case
    extra = data.draw(st.lists(st.sampled_from("abcdef"), min_size=len(y) - 4, max_size=len(y) - 4))
    groups = np.array([*"abcb", *extra])
    found = auroc_delong(table(y, score, groups))
    assert found.standard_error**2 == pytest.approx(max(0, obuchowski(y, score, groups)), abs=1e-12)
    assert found.n_groups == len(set(groups))


def test_two_models_have_delongs_covariance():
    rng = np.random.default_rng(0)
    y = rng.random(80) < 0.4
    first = rng.normal(size=80) + y
    second = first + rng.normal(size=80)
    parts = [all_pairs(y, score) for score in (first, second)]
    positives, negatives = (np.cov([part[side] for part in parts]) for side in (0, 1))
    covariance = positives / y.sum() + negatives / (~y).sum()
    found = difference_delong(table(y, first), table(y, second))
    assert found.standard_error == pytest.approx(np.sqrt([1, -1] @ covariance @ [1, -1]), rel=1e-9)
    assert found.estimate == pytest.approx(roc_auc_score(y, first) - roc_auc_score(y, second))


def mixed_groups(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 groups of 1 to 6 images, positives and negatives in the same group, which share more than half of their variance."""
    groups = np.repeat(np.arange(60), rng.integers(1, 7, 60))
    inclined = rng.beta(0.8, 0.8, 60)[groups]  # most images of a group are of one class
    y = rng.random(len(groups)) < inclined
    score = 1.3 * y + np.sqrt(0.6) * rng.normal(size=60)[groups] + np.sqrt(0.4) * rng.normal(size=len(groups))
    return y, score, groups


def test_the_standard_error_is_that_of_many_samples():
    rng = np.random.default_rng(1)
    n = 1500
    areas, of_groups, of_images = [], [], []
    for _ in range(n):
        y, score, groups = mixed_groups(rng)
        placements = placement_values(y, score)
        clustered = clustered_auroc(y, placements, groups)
        areas.append(clustered.estimate)
        of_groups.append(clustered.standard_error)
        of_images.append(clustered_auroc(y, placements, np.arange(len(y))).standard_error)
    simulated = np.std(areas, ddof=1)
    three_errors = 3 / np.sqrt(2 * n)  # of a simulated standard deviation, as a share of it
    of_groups, of_images = (np.sqrt(np.mean(np.square(errors))) for errors in (of_groups, of_images))
    assert of_groups == pytest.approx(simulated, rel=three_errors + 1 / 60)  # and the bias of a variance from 60 groups
    assert of_images < 0.85 * simulated


def test_the_bootstrap_of_groups_says_nearly_the_same():
    rng = np.random.default_rng(2)
    for _ in range(3):
        y, score, groups = mixed_groups(rng)
        names = np.char.mod("g%02d", groups)
        found = auroc_delong(table(y, score, names))
        areas = weighted_auroc(y, score, group_weights(names, 2000, seed=0))
        assert found.standard_error == pytest.approx(areas[1:].std(), rel=0.1)
        low, high = np.quantile(areas[1:], (0.025, 0.975))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.3 * found.standard_error)


def test_repeats_are_averaged_and_differences_are_paired():
    rng = np.random.default_rng(3)
    y, score, groups = mixed_groups(rng)
    repeats = [table(y, score + rng.normal(0, 0.5, len(y)), groups.astype(str), repeat) for repeat in range(4)]
    predictions = pd.concat(repeats, ignore_index=True).sample(frac=1, random_state=0)
    found = auroc_delong(predictions)
    assert found.estimate == pytest.approx(np.mean([auroc_delong(part).estimate for part in repeats]))
    estimates = evaluate(predictions, n_bootstrap=0).set_index(["metric", "class"])["estimate"]
    assert found.estimate == pytest.approx(estimates["auroc", "Mpox"])
    draws = replicates(predictions, n_bootstrap=2000)["auroc", "Mpox"]
    assert found.standard_error == pytest.approx(draws[1:].std(), rel=0.1)

    same = difference_delong(predictions, predictions)
    assert (same.estimate, same.low, same.high, same.standard_error) == (0, 0, 0, 0)
    worse = predictions.assign(p_Mpox=predictions["p_Mpox"] + rng.normal(0, 0.8, len(predictions)))
    change = difference_delong(predictions, worse)
    paired = draws - replicates(worse, n_bootstrap=2000)["auroc", "Mpox"]
    assert change.estimate == pytest.approx(paired[0]) and change.standard_error == pytest.approx(paired[1:].std(), rel=0.15)
    turned = difference_delong(worse, predictions)
    assert (turned.low, turned.high) == pytest.approx((-change.high, -change.low))
    once = difference_delong(repeats[0], predictions)
    assert once.estimate == pytest.approx(auroc_delong(repeats[0]).estimate - found.estimate)


def test_complete_separation_is_cut_at_one():
    y = np.arange(10) < 5
    perfect = auroc_delong(table(y, np.where(y, 0.9, 0.1)))
    assert (perfect.estimate, perfect.low, perfect.high, perfect.standard_error) == (1, 1, 1, 0)
    nearly = auroc_delong(table(y, np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.4, 0.2, 0.2, 0.1, 0.1])))
    assert nearly.estimate == 0.96 and nearly.high == 1 and nearly.standard_error > 0.03


def test_what_delong_cannot_answer_is_refused():
    predictions = simulate_clustered(10, 2, auroc=0.8, intraclass_correlation=0.5, rng=np.random.default_rng(4))
    with pytest.raises(MpoxError, match="only one of the two"):
        auroc_delong(predictions[predictions["label"] == "Mpox"])
    one_group = predictions.assign(group_id=predictions["group_id"].where(predictions["label"] == "Mpox", "one"))
    with pytest.raises(MpoxError, match="negatives in two"):
        auroc_delong(one_group)
    for other in (predictions.assign(group_id=predictions["image_id"]), predictions.iloc[2:]):
        with pytest.raises(MpoxError, match="same images, with the same labels, in the same groups"):
            difference_delong(predictions, other)
    with pytest.raises(MpoxError, match="class 'Cowpox'"):
        auroc_delong(predictions, positive="Cowpox")
