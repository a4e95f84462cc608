"""Metrics against scikit-learn, weights against replication, and intervals against a known truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mpox._core import MpoxError
from mpox.stats.metrics import auroc_of_number, difference, evaluate, fold_metrics, group_weights, weighted_auprc, weighted_auroc


def table(y: np.ndarray, probabilities: np.ndarray, classes: list[str], groups=None, **more) -> pd.DataFrame:
    ids = [f"i{number:05d}" for number in range(len(y))]
    frame = pd.DataFrame({"repeat": 0, "fold": 0, "image_id": ids, "group_id": ids if groups is None else groups})
    frame["label"] = np.array(classes)[y]
    frame[[f"p_{label}" for label in classes]] = probabilities
    return frame.assign(**more)


def lookup(found: pd.DataFrame) -> dict[tuple[str, str], float]:
    return found.set_index(["metric", "class"])["estimate"].to_dict()


@st.composite
def scored(draw, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 2 to 4 classes, each there at least twice, and coarse probabilities: many ties."""
    k = draw(st.integers(2, 4))
    extra = draw(st.lists(st.integers(0, k - 1), max_size=25))
    y = np.array(list(range(k)) * least + extra)
    raw = draw(st.lists(st.integers(0, 4), min_size=len(y) * k, max_size=len(y) * k))
    raw = np.array(raw, dtype=float).reshape(len(y), k) + 0.25
    return y, raw / raw.sum(axis=1, keepdims=True)


@settings(max_examples=150, deadline=None)
@given(scored())
def test_every_metric_agrees_with_scikit_learn(case):
    y, probabilities = case
    classes = ["Chickenpox", "Measles", "Mpox", "Normal"][: probabilities.shape[1]]
    positive = classes[-1]
    found = lookup(evaluate(table(y, probabilities, classes), positive=positive, n_bootstrap=0))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(y, predicted, labels=range(len(classes)), zero_division=0)
    expected = {("accuracy", "all"): sk.accuracy_score(y, predicted)}
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
    assert set(found) - set(expected) <= {("f1_of_means", "macro")}


@settings(max_examples=100, deadline=None)
@given(scored(), st.data())
def test_a_weight_is_so_many_copies(case, data):
    y, probabilities = case
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    weights[:2] = 1, 1  # a positive and a negative stay
    copied = np.repeat(np.arange(len(y)), weights)
    positive, score = y == 0, probabilities[:, 0]
    one = np.ones((1, len(copied)))
    for metric in (weighted_auroc, weighted_auprc):
        both = metric(positive, score, np.vstack([weights, weights * 2]))
        assert both == pytest.approx(np.repeat(metric(positive[copied], score[copied], one), 2), abs=1e-12)


def test_undefined_is_undefined():
    score, ones = np.array([0.2, 0.4]), np.ones((1, 2))
    assert np.isnan(weighted_auroc(np.array([True, True]), score, ones)[0])
    assert np.isnan(weighted_auprc(np.array([False, False]), score, ones)[0])
    assert weighted_auroc(np.array([True, False]), np.array([0.3, 0.3]), ones)[0] == 0.5


def test_more_classes_than_small_integers_hold():
    classes = [f"c{number:02d}" for number in range(30)]
    y = np.arange(90) % 30
    predictions = table(y, np.eye(30)[y], classes)
    assert lookup(evaluate(predictions, positive="c07", n_bootstrap=0))["f1", "macro"] == 1


def two_repeats(rng: np.random.Generator, n: int = 40) -> pd.DataFrame:
    y = np.arange(n) % 2
    groups = [f"g{number // 4}" for number in range(n)]
    parts = []
    for repeat in range(2):
        p = (0.3 + 0.4 * y + rng.normal(0, 0.25, n)).clip(0.01, 0.99)
        parts.append(table(y, np.c_[p, 1 - p][:, ::-1], ["Normal", "Mpox"], groups, repeat=repeat, fold=np.arange(n) // 20))
    return pd.concat(parts, ignore_index=True)


def test_repeats_are_averaged_and_folds_are_by_themselves():
    predictions = two_repeats(np.random.default_rng(1))
    both = lookup(evaluate(predictions, n_bootstrap=0))
    each = [lookup(evaluate(part, n_bootstrap=0)) for _, part in predictions.groupby("repeat")]
    assert all(both[key] == pytest.approx((each[0][key] + each[1][key]) / 2) for key in both)
    assert each[0]["accuracy", "all"] != each[1]["accuracy", "all"]
    folds = fold_metrics(predictions)
    assert folds[["repeat", "fold"]].drop_duplicates().values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    accuracy = folds[folds["metric"] == "accuracy"]["estimate"]
    assert accuracy.mean() == pytest.approx(both["accuracy", "all"])
    part = predictions.query("repeat == 1 and fold == 0")
    assert lookup(folds.query("repeat == 1 and fold == 0")) == lookup(evaluate(part, n_bootstrap=0))


def test_the_order_of_the_rows_does_not_matter():
    predictions = two_repeats(np.random.default_rng(2))
    shuffled = predictions.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(evaluate(shuffled, n_bootstrap=50), evaluate(predictions, n_bootstrap=50))


def test_intervals_are_decided_by_the_seed_and_hold_the_estimate():
    predictions = two_repeats(np.random.default_rng(3))
    first, again, other = (evaluate(predictions, n_bootstrap=300, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert first["estimate"].equals(other["estimate"]) and not first["low"].equals(other["low"])
    assert (first["low"] <= first["estimate"]).all() and (first["estimate"] <= first["high"]).all()
    assert ((first["low"] >= 0) & (first["high"] <= 1)).all()
    assert evaluate(predictions, n_bootstrap=0)[["low", "high"]].isna().all(axis=None)


def test_groups_are_drawn_whole():
    weights = group_weights(np.array(["a", "a", "b", "c", "c", "c"]), 500, seed=0)
    assert weights.shape == (501, 6)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3:] == weights[:, 3:4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights[1:].mean(axis=0) == pytest.approx(1, abs=0.12)


def clustered(rng: np.random.Generator, n_groups: int = 40, size: int = 5) -> pd.DataFrame:
    """Accuracy is 0.7 in the population; half of the variation is between groups (Beta distributed rates)."""
    rate = np.repeat(rng.beta(0.7, 0.3, n_groups), size)
    right = rng.random(n_groups * size) < rate
    y = np.repeat(np.arange(n_groups) % 2, size)
    p_mpox = np.where(right == (y == 1), 0.8, 0.2)
    return table(y, np.c_[1 - p_mpox, p_mpox], ["Normal", "Mpox"], np.repeat([f"g{g:03d}" for g in range(n_groups)], size))


def accuracy_interval(predictions: pd.DataFrame, seed: int) -> tuple[float, float]:
    row = evaluate(predictions, n_bootstrap=300, seed=seed).query("metric == 'accuracy'").iloc[0]
    return row["low"], row["high"]


def test_intervals_from_groups_cover_the_truth_and_those_from_images_do_not():
    rng = np.random.default_rng(11)
    covered, naive, wider = 0, 0, 0
    n = 200
    for seed in range(n):
        predictions = clustered(rng)
        low, high = accuracy_interval(predictions, seed)
        low_i, high_i = accuracy_interval(predictions.assign(group_id=predictions["image_id"]), seed)
        covered += low <= 0.7 <= high
        naive += low_i <= 0.7 <= high_i
        wider += high - low > high_i - low_i
    tolerance = 3 * np.sqrt(0.95 * 0.05 / n)  # three standard errors of a simulated coverage
    assert covered / n > 0.95 - tolerance
    assert naive / n < 0.85
    assert wider / n > 0.95


def test_differences_are_paired():
    rng = np.random.default_rng(4)
    first = two_repeats(rng)
    assert difference(first, first, "auroc", "Mpox", n_bootstrap=100) == (0, 0, 0)
    second = two_repeats(rng)
    change, low, high = difference(first, second, "accuracy", "all", n_bootstrap=200)
    a, b = (lookup(evaluate(part, n_bootstrap=0))["accuracy", "all"] for part in (first, second))
    assert change == pytest.approx(a - b)
    assert low < change < high
    assert difference(second, first, "accuracy", "all", n_bootstrap=200) == pytest.approx((-change, -high, -low))
    once = second[second["repeat"] == 0]
    assert difference(first, once, "accuracy", "all", n_bootstrap=50)[0] != change  # one repeat against two is possible

    worse = clustered(rng)
    better = worse.copy()
    flip = worse.index[::20]
    better.loc[flip, "p_Mpox"] = (better.loc[flip, "label"] == "Mpox") * 1.0
    better["p_Normal"] = 1 - better["p_Mpox"]
    _, low, high = difference(better, worse, "accuracy", "all", n_bootstrap=300)
    single = np.subtract(*accuracy_interval(better, 0)[::-1])
    assert low >= 0 and high - low < single / 2  # what both share cancels


def test_what_cannot_be_evaluated_is_refused():
    predictions = two_repeats(np.random.default_rng(5))
    with pytest.raises(MpoxError, match=r"class 'Cowpox' .*\['Normal', 'Mpox'\]"):
        evaluate(predictions, positive="Cowpox")
    with pytest.raises(MpoxError, match="No predictions"):
        evaluate(predictions.iloc[:0])
    for broken in (predictions.iloc[1:], pd.concat([predictions, predictions])):
        for ask in (evaluate, lambda table: difference(table, table, "accuracy", "all")):
            with pytest.raises(MpoxError, match="same images once"):
                ask(broken)
    with pytest.raises(MpoxError, match="Labels without a column.*Measles"):
        evaluate(predictions.replace({"label": {"Normal": "Measles"}}))
    with pytest.raises(MpoxError, match="same images in the same groups"):
        difference(predictions, predictions.assign(image_id="x" + predictions["image_id"]), "accuracy", "all")
    with pytest.raises(MpoxError, match="same images in the same groups"):
        difference(predictions, predictions.assign(group_id=predictions["image_id"]), "accuracy", "all")
    with pytest.raises(MpoxError, match="no metric 'kappa' of 'all'"):
        difference(predictions, predictions, "kappa", "all")


def test_one_number_is_judged_in_its_better_direction_with_an_interval_from_groups():
    rng = np.random.default_rng(3)
    positive = np.repeat(rng.random(60) < 0.5, 4)
    number = np.repeat(rng.normal(size=60), 4) - positive
    one_a_group = np.repeat(np.arange(60).astype(str), 4)
    area, low, high = auroc_of_number(number, positive, one_a_group)
    assert area == pytest.approx(1 - sk.roc_auc_score(positive, number)) and low < area < high
    _, closer, nearer = auroc_of_number(number, positive, np.arange(240).astype(str))
    assert high - low > 1.5 * (nearer - closer)  # four pictures of one group are one observation
    assert np.isnan(auroc_of_number(number, np.ones(240, bool), one_a_group)).all()
    with pytest.raises(MpoxError, match="leave out the images without one"):
        auroc_of_number(np.where(positive, number, np.nan), positive, one_a_group)
