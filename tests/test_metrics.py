"""Metrics, curves and DeLong's interval: against scikit-learn, replication, a count of all pairs, and a known truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import simulate_clustered
from predictions import clustered, noisy, table
from scipy.stats import norm
from sklearn import metrics as sk

from mpox import MpoxError
from mpox.stats.delong import auroc_delong, clustered_auroc, placement_values
from mpox.stats.metrics import (
    auroc_of_number,
    difference,
    evaluate,
    fold_metrics,
    replicates,
    weighted_auprc,
    weighted_auroc,
    without_class,
)


def lookup(found: pd.DataFrame) -> dict[tuple[str, str], float]:
    return found.set_index(["metric", "class"])["estimate"].to_dict()


@st.composite
def scored(draw) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 2 to 4 classes, each there at least twice, and coarse probabilities: many ties."""
    k = draw(st.integers(2, 4))
    y = np.array(list(range(k)) * 2 + draw(st.lists(st.integers(0, k - 1), max_size=25)))
    raw = draw(st.lists(st.integers(0, 4), min_size=len(y) * k, max_size=len(y) * k))
    raw = np.array(raw, dtype=float).reshape(len(y), k) + 0.25
    return y, raw / raw.sum(axis=1, keepdims=True)


def one(y: np.ndarray) -> np.ndarray:
    return np.ones((1, len(y)))


@settings(max_examples=60, deadline=None)
@given(scored())
def test_every_metric_agrees_with_scikit_learn(case):
    y, probabilities = case
    classes = ["Chickenpox", "Measles", "Mpox", "Normal"][: probabilities.shape[1]]
    positive = classes[-1]
    predictions = table(y, probabilities, classes=classes)
    found = lookup(evaluate(predictions, positive=positive, n_bootstrap=0))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(y, predicted, labels=range(len(classes)), zero_division=0)
    expected = {("accuracy", "all"): sk.accuracy_score(y, predicted)}
    if len(set(y) | set(predicted)) > 1:  # one class, always named, leaves nothing beyond chance
        expected["kappa", "all"] = sk.cohen_kappa_score(y, predicted)
    for k, label in enumerate(classes):
        expected["precision", label], expected["recall", label], expected["f1", label] = precision[k], recall[k], f1[k]
        expected["auroc", label] = sk.roc_auc_score(y == k, probabilities[:, k])
        expected["auprc", label] = sk.average_precision_score(y == k, probabilities[:, k])
    for metric in ("precision", "recall", "f1", "auroc", "auprc"):
        expected[metric, "macro"] = np.mean([expected[metric, label] for label in classes])
    means = precision.mean(), recall.mean()
    if sum(means):
        expected["f1_of_means", "macro"] = 2 * means[0] * means[1] / sum(means)
    expected["sensitivity", positive] = recall[-1]
    expected["specificity", positive] = sk.recall_score(y != len(classes) - 1, predicted != len(classes) - 1)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key
    assert set(found) - set(expected) <= {("f1_of_means", "macro"), ("kappa", "all")}


@settings(max_examples=100, deadline=None)
@given(scored(), st.data())
def test_a_weight_is_so_many_copies(case, data):
    y, probabilities = case
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    weights[:2] = 1, 1  # a positive and a negative stay
    copied = np.repeat(np.arange(len(y)), weights)
    positive, score = y == 0, probabilities[:, 0]
    for measure in (weighted_auroc, weighted_auprc):
        both = measure(positive, score, np.vstack([weights, weights * 2]))
        expected = measure(positive[copied], score[copied], one(copied))
        assert both == pytest.approx(np.concatenate([expected, expected]), abs=1e-12)
        assert measure(positive, score, weights[None] / 3) == pytest.approx(expected, abs=1e-12)


def test_a_metric_that_is_asked_for_alone_is_one_of_all():
    rng = np.random.default_rng(0)
    predictions = table(rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40), classes=["Mpox", "Normal", "Other"])
    for key, values in replicates(predictions, n_bootstrap=20).items():
        alone = replicates(predictions, [key], n_bootstrap=20)
        assert list(alone) == [key] and np.array_equal(np.asarray(alone[key]), np.asarray(values), equal_nan=True)


def test_undefined_is_undefined():
    score, ones = np.array([0.2, 0.4]), np.ones((1, 2))
    assert np.isnan(weighted_auroc(np.array([True, True]), score, ones)[0])
    assert np.isnan(weighted_auprc(np.array([False, False]), score, ones)[0])
    assert weighted_auroc(np.array([True, False]), np.array([0.3, 0.3]), ones)[0] == 0.5


def test_more_classes_than_small_integers_hold():
    y = np.arange(90) % 30
    predictions = table(y, np.eye(30)[y], classes=[f"c{number:02d}" for number in range(30)])
    assert lookup(evaluate(predictions, positive="c07", n_bootstrap=0))["f1", "macro"] == 1


def two_repeats(rng: np.random.Generator) -> pd.DataFrame:
    first = table(np.arange(40) % 2 == 1, np.zeros(40), np.arange(40) // 4, fold=np.arange(40) // 20)
    first["p_Mpox"] = np.where(first["label"] == "Mpox", 0.7, 0.3)
    return pd.concat([noisy(first, rng, 0.25, repeat=repeat) for repeat in range(2)], ignore_index=True)


def test_repeats_are_averaged_and_folds_are_by_themselves():
    predictions = two_repeats(np.random.default_rng(1))
    both = lookup(evaluate(predictions, n_bootstrap=0))
    each = [lookup(evaluate(part, n_bootstrap=0)) for _, part in predictions.groupby("repeat")]
    assert all(both[key] == pytest.approx((each[0][key] + each[1][key]) / 2) for key in both)
    assert each[0]["accuracy", "all"] != each[1]["accuracy", "all"]
    folds = fold_metrics(predictions)
    assert folds[["repeat", "fold"]].drop_duplicates().values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    accuracy = fold_metrics(predictions, [("accuracy", "all")])
    assert accuracy["estimate"].mean() == pytest.approx(both["accuracy", "all"]) and len(accuracy) == 4
    part = predictions.query("repeat == 1 and fold == 0")
    assert lookup(folds.query("repeat == 1 and fold == 0")) == lookup(evaluate(part, n_bootstrap=0))


def test_intervals_are_decided_by_the_seed_whatever_the_order_of_the_rows():
    predictions = two_repeats(np.random.default_rng(3))
    first, other = (evaluate(predictions, n_bootstrap=300, seed=seed) for seed in (0, 1))
    pd.testing.assert_frame_equal(first, evaluate(predictions.sample(frac=1, random_state=0), n_bootstrap=300))
    assert first["estimate"].equals(other["estimate"]) and not first["low"].equals(other["low"])
    assert (first["low"] <= first["estimate"]).all() and (first["estimate"] <= first["high"]).all()
    assert ((first["low"] >= 0) & (first["high"] <= 1)).all()
    assert evaluate(predictions, n_bootstrap=0)[["low", "high"]].isna().all(axis=None)


def test_differences_are_paired():
    rng = np.random.default_rng(4)
    first, second = two_repeats(rng), two_repeats(rng)
    change, low, high = difference(first, second, "accuracy", "all", n_bootstrap=200)
    a, b = (lookup(evaluate(part, n_bootstrap=0))["accuracy", "all"] for part in (first, second))
    assert change == pytest.approx(a - b) and low < change < high
    once = second[second["repeat"] == 0]
    assert difference(first, once, "accuracy", "all", n_bootstrap=50)[0] != change  # one repeat against two is possible
    worse = clustered(rng, 60)
    better = worse.copy()
    better.loc[worse.index[::20], "p_Mpox"] = (better["label"] == "Mpox").astype(float)
    better["p_Others"] = 1 - better["p_Mpox"]
    _, low, high = difference(better, worse, "accuracy", "all", n_bootstrap=300)
    alone = evaluate(better, n_bootstrap=300).iloc[0]
    assert low >= 0 and high - low < (alone["high"] - alone["low"]) / 2  # what both share cancels


def test_what_cannot_be_evaluated_is_refused():
    predictions = two_repeats(np.random.default_rng(5))
    with pytest.raises(MpoxError, match=r"class 'Cowpox' .*\['Mpox', 'Others'\]"):
        evaluate(predictions, positive="Cowpox")
    with pytest.raises(MpoxError, match="No predictions"):
        evaluate(predictions.iloc[:0])
    for broken in (predictions.iloc[1:], pd.concat([predictions, predictions])):
        for ask in (evaluate, lambda table: difference(table, table, "accuracy", "all")):
            with pytest.raises(MpoxError, match="same images once"):
                ask(broken)
    with pytest.raises(MpoxError, match="Labels without a column.*Measles"):
        evaluate(predictions.replace({"label": {"Others": "Measles"}}))
    for other in ({"image_id": "x" + predictions["image_id"]}, {"group_id": predictions["image_id"]}):
        with pytest.raises(MpoxError, match="same images in the same groups"):
            difference(predictions, predictions.assign(**other), "accuracy", "all")
    with pytest.raises(MpoxError, match="no metric 'youden' of 'all'"):
        difference(predictions, predictions, "youden", "all")


def test_one_number_is_judged_in_its_better_direction_with_an_interval_from_groups():
    rng = np.random.default_rng(3)
    positive = np.repeat(rng.random(60) < 0.5, 4)
    number = np.repeat(rng.normal(size=60), 4) - positive
    one_a_group = np.repeat(np.arange(60).astype(str), 4)
    area, low, high = auroc_of_number(number, positive, one_a_group)
    assert area == pytest.approx(1 - sk.roc_auc_score(positive, number)) and low < area < high
    _, closer, nearer = auroc_of_number(number, positive, np.arange(240).astype(str))
    assert high - low > 1.5 * (nearer - closer)  # four images of one group are one observation
    assert np.isnan(auroc_of_number(number, np.ones(240, bool), one_a_group)).all()
    with pytest.raises(MpoxError, match="leave out the images without one"):
        auroc_of_number(np.where(positive, number, np.nan), positive, one_a_group)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 3), st.sampled_from([1, -1, 0]))
def test_a_number_that_ranks_all_pairs_right_has_the_exact_interval_of_evaluate(n_positive, n_negative, images, sign):
    positive = np.repeat(np.arange(n_positive + n_negative) < n_positive, images)
    groups = np.repeat(np.arange(n_positive + n_negative), images).astype(str)
    predictions = pd.DataFrame({"repeat": 0, "image_id": np.arange(len(groups)), "group_id": groups})
    predictions = predictions.assign(label=np.where(positive, "Mpox", "Others"), p_Mpox=positive * 1.0, p_Others=~positive * 1.0)
    table = evaluate(predictions, n_bootstrap=200).set_index(["metric", "class"]).loc[("auroc", "Mpox")]
    area, low, high = auroc_of_number(sign * positive, positive, groups, n_bootstrap=200)
    if sign:
        assert (area, low, high) == pytest.approx(tuple(table[["estimate", "low", "high"]])) and high - low > 0.05
    assert low < high


def test_without_a_class_the_others_keep_their_proportions_and_its_images_are_gone():
    p = np.random.default_rng(5).dirichlet(np.ones(3), 60)
    predictions = table(np.repeat([0, 1, 2], 20), p, np.arange(60) // 2, classes=["Mpox", "Normal", "Other"])
    left = without_class(predictions, "Normal")
    kept = predictions[predictions["label"] != "Normal"].reset_index(drop=True)
    assert len(left) == 40 and "p_Normal" not in left and np.allclose(left["p_Mpox"] + left["p_Other"], 1)
    assert np.allclose(left["p_Mpox"] / left["p_Other"], kept["p_Mpox"] / kept["p_Other"])
    expected = sk.roc_auc_score(kept["label"] == "Mpox", kept["p_Mpox"] / (kept["p_Mpox"] + kept["p_Other"]))
    assert lookup(evaluate(left, n_bootstrap=0))["auroc", "Mpox"] == pytest.approx(expected)
    sure = predictions.assign(p_Mpox=0.0, p_Normal=1.0, p_Other=0.0)
    assert without_class(sure, "Normal")["p_Mpox"].unique().tolist() == [0.5]
    with pytest.raises(MpoxError, match="no class 'Cowpox'"):
        without_class(predictions, "Cowpox")


@pytest.mark.slow
def test_intervals_from_groups_hold_the_truth_and_those_from_images_do_not():
    """The truth is binormal, half being positive: accuracy at one half is Phi(separation / 2)."""
    rng = np.random.default_rng(2)
    truth, n = norm.cdf(np.sqrt(2) * norm.ppf(0.85) / 2), 150
    held = dict.fromkeys(("group_id", "image_id"), 0)
    for seed in range(n):
        predictions = simulate_clustered(80, 3, auroc=0.85, intraclass_correlation=0.9, rng=rng)
        for unit in held:
            drawn = predictions.assign(group_id=predictions[unit])
            accuracy = replicates(drawn, [("accuracy", "all")], n_bootstrap=100, seed=seed)["accuracy", "all"].row()
            held[unit] += accuracy["low"] <= truth <= accuracy["high"]
    three_errors = 3 * np.sqrt(0.95 * 0.05 / n)
    # 100 replicates: the interpolated percentiles leave (1 + 0.025 * 99) / 101 outside on each side, 6.9 % and not 5 %
    assert held["group_id"] / n > 2 * (0.5 - (1 + 0.025 * 99) / 101) - three_errors
    assert held["image_id"] / n < 0.95 - 1.5 * three_errors


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


@settings(max_examples=100, deadline=None)
@given(scored(), st.data())
def test_groups_have_obuchowskis_standard_error_and_single_images_delongs(case, data):
    y, score = case[0] == 0, case[1][:, 0]
    groups = np.array([*"ab", *data.draw(st.lists(st.sampled_from("abcdef"), min_size=len(y) - 2, max_size=len(y) - 2))])
    groups[np.flatnonzero(y)[:2]], groups[np.flatnonzero(~y)[:2]] = ["a", "b"], ["c", "b"]
    found = auroc_delong(table(y, score, groups))
    assert found.standard_error**2 == pytest.approx(max(0, obuchowski(y, score, groups)), abs=1e-12)
    assert found.n_groups == len(set(groups))
    alone, (of_positives, of_negatives) = auroc_delong(table(y, score)), all_pairs(y, score)
    assert alone.estimate == found.estimate == pytest.approx(sk.roc_auc_score(y, score), abs=1e-12)
    error = np.sqrt(of_positives.var(ddof=1) / y.sum() + of_negatives.var(ddof=1) / (~y).sum())
    assert alone.standard_error == pytest.approx(error, abs=1e-9)
    limits = max(0, alone.estimate - 1.959964 * error), min(1, alone.estimate + 1.959964 * error)
    assert (alone.low, alone.high) == pytest.approx(limits, abs=1e-6)


def mixed_groups(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """60 groups of 1 to 6 images, positives and negatives in the same group, which share more than half of their variance."""
    groups = np.repeat(np.arange(60), rng.integers(1, 7, 60))
    y = rng.random(len(groups)) < rng.beta(0.8, 0.8, 60)[groups]  # most images of a group are of one class
    score = 1.3 * y + np.sqrt(0.6) * rng.normal(size=60)[groups] + np.sqrt(0.4) * rng.normal(size=len(groups))
    return y, score, groups


def test_delongs_standard_error_is_that_of_many_samples():
    rng, n = np.random.default_rng(1), 1500
    found = []
    for _ in range(n):
        y, score, groups = mixed_groups(rng)
        placements = placement_values(y, score)
        by_group, by_image = (clustered_auroc(y, placements, unit) for unit in (groups, np.arange(len(y))))
        found.append((by_group.estimate, by_group.standard_error, by_image.standard_error))
    areas, *errors = np.array(found).T
    simulated, of_groups, of_images = np.std(areas, ddof=1), *(np.sqrt(np.mean(part**2)) for part in errors)
    # three errors of a simulated standard deviation, and the bias of a variance from 60 groups
    assert of_groups == pytest.approx(simulated, rel=3 / np.sqrt(2 * n) + 1 / 60) and of_images < 0.85 * simulated


def test_delong_averages_repeats_and_says_nearly_what_the_bootstrap_says():
    rng = np.random.default_rng(3)
    y, score, groups = mixed_groups(rng)
    repeats = [table(y, score + rng.normal(0, 0.5, len(y)), groups, repeat=repeat) for repeat in range(4)]
    predictions = pd.concat(repeats, ignore_index=True).sample(frac=1, random_state=0)
    found = auroc_delong(predictions)
    assert found.estimate == pytest.approx(np.mean([auroc_delong(part).estimate for part in repeats]))
    drawn = replicates(predictions, [("auroc", "Mpox")])["auroc", "Mpox"]
    assert found.estimate == pytest.approx(drawn.estimate) and found.standard_error == pytest.approx(drawn.draws.std(), rel=0.1)
    assert (found.low, found.high) == pytest.approx(drawn.interval(), abs=0.3 * found.standard_error)


def test_what_delong_cannot_answer():
    y = np.arange(10) < 5
    perfect = auroc_delong(table(y, np.where(y, 0.9, 0.1)))
    assert (perfect.estimate, perfect.low, perfect.high, perfect.standard_error) == (1, 1, 1, 0)
    predictions = table(y, np.linspace(0, 1, 10), np.where(y, np.arange(10), 99))
    with pytest.raises(MpoxError, match="negatives in two"):
        auroc_delong(predictions)
    with pytest.raises(MpoxError, match="only one of the two"):
        auroc_delong(predictions[predictions["label"] == "Mpox"])
