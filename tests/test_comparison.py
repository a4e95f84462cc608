"""Tests of two and more models against libraries, published tables and their own models."""

import numpy as np
import pandas as pd
import pytest
from predictions import table as one_repeat
from scipy import stats

from mpox import MpoxError
from mpox.stats.comparison import (
    bayesian_correlated_t,
    compare_folds,
    corrected_t_test,
    fold_differences,
    holm,
    mcnemar,
    tost,
)
from mpox.stats.metrics import difference


@pytest.fixture
def fold_values() -> np.ndarray:
    return np.random.default_rng(0).normal(0.01, 0.03, 25)


def test_the_plain_test_is_scipys_and_the_correction_widens_it_as_published(fold_values):
    plain = corrected_t_test(fold_values, 5, corrected=False)
    expected = stats.ttest_1samp(fold_values, 0)
    interval = expected.confidence_interval(0.95)
    assert (plain.t, plain.p, plain.df) == pytest.approx((expected.statistic, expected.pvalue, 24))
    assert (plain.low, plain.high) == pytest.approx((interval.low, interval.high))
    corrected = corrected_t_test(fold_values, 5)
    # Bouckaert and Frank 2004: 1/(kr) becomes 1/(kr) + n2/n1, here 1/25 + 1/4
    assert corrected.t == pytest.approx(plain.t * np.sqrt((1 / 25) / (1 / 25 + 1 / 4)))
    assert corrected.p == pytest.approx(2 * stats.t.sf(abs(corrected.t), 24))
    assert corrected.high - corrected.low == pytest.approx((plain.high - plain.low) * np.sqrt(7.25))
    assert corrected_t_test(-fold_values, 5).t == pytest.approx(-corrected.t)


def test_equivalence_is_shown_where_the_90_percent_interval_lies_within_the_margin(fold_values):
    verdicts = set()
    for shift in np.linspace(-0.1, 0.1, 41):
        for margin in (0.01, 0.03, 0.06):
            found = tost(fold_values + shift, margin, 5)
            inside = -margin < found.low90 and found.high90 < margin
            assert (found.verdict == "equivalent") == (found.p < 0.05) == inside
            assert found.differs == (corrected_t_test(fold_values + shift, 5).p < 0.05)
            verdicts.add((found.verdict, found.differs))
    assert {("equivalent", False), ("not shown", False), ("not shown", True)} <= verdicts
    precise = tost(fold_values / 50 + 0.01, 0.03, 5)
    assert precise.verdict == "equivalent" and precise.differs  # both at once, and no contradiction


def test_the_posterior_is_that_of_equally_correlated_normal_differences(fold_values):
    """Likelihood and prior integrated numerically over sigma and mu, without the closed form."""
    rho, n, rope = 1 / 5, len(fold_values), 0.02
    inverse = np.linalg.inv((1 - rho) * np.eye(n) + rho)
    mu, log_sigma = np.linspace(-0.25, 0.27, 10401), np.linspace(np.log(0.01), np.log(0.12), 400)
    rest = fold_values - mu[:, None]
    distance = np.einsum("mi,ij,mj->m", rest, inverse, rest)
    # the prior 1/sigma is flat in log sigma
    log_density = -n * log_sigma - distance[:, None] / (2 * np.exp(2 * log_sigma))
    density = np.exp(log_density - log_density.max()).sum(axis=1)
    density /= density.sum()
    found = bayesian_correlated_t(fold_values, rope, 5)
    assert found.p_worse == pytest.approx(density[mu < -rope].sum(), abs=1e-3)
    assert found.p_better == pytest.approx(density[mu > rope].sum(), abs=1e-3)
    assert found.p_worse + found.p_equivalent + found.p_better == pytest.approx(1)
    interval = corrected_t_test(fold_values, 5)
    assert density[(interval.low < mu) & (mu < interval.high)].sum() == pytest.approx(0.95, abs=1e-3)


def test_differences_that_are_all_equal_are_decided_by_their_value():
    assert corrected_t_test(np.zeros(5), 5).p == 1 and tost(np.zeros(5), 0.01, 5).p == 0
    assert corrected_t_test(np.full(5, 0.03125), 5).p == 0 and tost(np.full(5, 0.03125), 0.01, 5).verdict == "not shown"
    assert bayesian_correlated_t(np.zeros(5), 0.01, 5).p_equivalent == 1


def test_what_cannot_be_tested_is_refused():
    for broken in (np.zeros(7), np.zeros(0)):
        with pytest.raises(MpoxError, match="no whole repeats of 5 folds"):
            corrected_t_test(broken, 5)
    with pytest.raises(MpoxError, match="A fold has no value"):
        corrected_t_test([0.1, np.nan, 0.2], 3)
    for method in (tost, bayesian_correlated_t):
        with pytest.raises(MpoxError, match="above 0"):
            method(np.zeros(5), 0, 5)


def test_holm_by_hand():
    adjusted = holm(pd.Series([0.01, 0.04, 0.03, 0.005], index=list("abcd")))  # Holm: sorted p times 4, 3, 2, 1, made monotone
    assert adjusted.to_dict() == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def predictions(right: np.ndarray, n_folds: int = 2) -> pd.DataFrame:
    """One row an image and repeat; ``right`` has shape (repeats, images)."""
    right = np.asarray(right, dtype=bool)
    n = right.shape[1]
    mpox, fold = np.arange(n) // n_folds % 2 == 0, np.arange(n) % n_folds
    tables = [one_repeat(mpox, np.where(mpox == hits, 0.75, 0.25), fold=fold, repeat=k) for k, hits in enumerate(right)]
    return pd.concat(tables, ignore_index=True)


def test_mcnemar_counts_the_images_that_one_model_gets_right_in_the_first_repeat():
    first, second = np.ones((2, 40), bool), np.ones((2, 40), bool)
    second[0, :9] = False
    first[0, 9:11] = False
    first[1] = False  # the second repeat is not looked at
    shuffled = predictions(second).sample(frac=1, random_state=0)
    found = mcnemar(predictions(first), shuffled)
    assert (found.n, found.b, found.c, found.discordance) == (40, 9, 2, 11 / 40)
    assert found.p == pytest.approx(stats.binomtest(2, 11, 0.5).pvalue)
    assert mcnemar(predictions(first), predictions(first)).p == 1
    with pytest.raises(MpoxError, match="same images"):
        mcnemar(predictions(first), predictions(second[:, :30]))


def test_two_models_are_compared_fold_by_fold():
    rng = np.random.default_rng(2)
    right = rng.random((2, 3, 60)) < np.array([0.9, 0.7])[:, None, None]
    first, second = predictions(right[0]), predictions(right[1])
    by_fold = right.reshape(2, 3, 30, 2).mean(axis=2)  # the fold is the image's number modulo 2
    expected = (by_fold[0] - by_fold[1]).ravel()
    found = compare_folds(first, second.sample(frac=1, random_state=1), "accuracy", "all", 0.05, n_bootstrap=200)
    assert found.differences[["repeat", "fold"]].values.tolist() == [[r, f] for r in range(3) for f in range(2)]
    assert found.differences["difference"].to_numpy() == pytest.approx(expected)
    row = found.row()
    assert row["t"] == corrected_t_test(expected, 2).t and row["p_naive"] < row["p"] and row["df"] == 5
    assert row["sd"] == pytest.approx(expected.std(ddof=1))
    assert row["verdict"] == tost(expected, 0.05, 2).verdict and row["p_better"] > 0.5 > row["p_worse"]
    assert found.bootstrap == difference(first, second, "accuracy", "all", n_bootstrap=200)


def test_other_folds_images_or_metrics_are_refused():
    first = predictions(np.ones((2, 24), bool))
    swapped = first.assign(fold=1 - first["fold"])
    for other in (swapped, first[first["repeat"] == 0], first.assign(image_id="x" + first["image_id"])):
        with pytest.raises(MpoxError, match="not tested on the same folds"):
            fold_differences(first, other, "accuracy", "all")
    with pytest.raises(MpoxError, match="no metric 'youden' of 'all'"):
        fold_differences(first, first, "youden", "all")
    uneven = first.assign(fold=np.where((first["repeat"] == 0) & (first["fold"] == 1), first.index // 8, first["fold"]))
    with pytest.raises(MpoxError, match="same number of folds"):
        compare_folds(uneven, uneven, "accuracy", "all", 0.05)
    one_class = first.assign(fold=(first["label"] == "Mpox").astype(int))
    with pytest.raises(MpoxError, match="A fold has no value"):
        compare_folds(one_class, one_class, "auroc", "Mpox", 0.05)
