"""The Pareto front, and the test of rising and falling, on made predictions whose truth is known."""

from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import predictions
import pytest
from scipy.stats import norm

from mpox import MpoxError
from mpox.stats.growth import CONTRADICTED, OPEN, SHOWN, judge, pareto_front, rise_and_fall

matplotlib.use("Agg")
SELDOM = 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)  # of 150 studies, within two standard errors


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"cost": rng.integers(0, 8, 40), "auroc": rng.integers(0, 8, 40) / 8}, index=rng.permutation(40))
    table.iloc[3, 1] = np.nan
    front = pareto_front(table, "cost", "auroc")
    for here, row in table.iterrows():
        others = table.drop(index=here)
        cheaper = (others["cost"] < row["cost"]) & (others["auroc"] >= row["auroc"])
        better = (others["cost"] <= row["cost"]) & (others["auroc"] > row["auroc"])
        assert front[here] == (not (cheaper | better).any() and not np.isnan(row["auroc"]))
    shown = table[front].drop_duplicates().sort_values("cost")
    assert all(first < second for first, second in pairwise(shown["auroc"]))


def made(aurocs: list[float], *, n_groups: int, seed: int) -> dict[str, pd.DataFrame]:
    """Models with these true AUROCs that mostly agree on which images are hard; two images a group."""
    rng = np.random.default_rng(seed)
    n = 2 * n_groups
    truth = np.tile([True, True, False, False], n // 4)
    shared = np.repeat(rng.normal(size=n_groups), 2) * 0.8
    found = {}
    for number, auroc in enumerate(aurocs):
        signal = norm.ppf(auroc) * np.sqrt(2) * truth
        p = norm.cdf(signal + shared + 0.6 * rng.normal(size=n) - 0.7)
        found[f"m{number}"] = predictions.table(truth, p, np.arange(n) // 2)
    return found


@pytest.mark.parametrize(
    ("aurocs", "n_groups", "verdict"),
    [
        ([0.70, 0.85, 0.72], 200, SHOWN),
        ([0.70, 0.80, 0.85, 0.70], 200, SHOWN),
        ([0.70, 0.78, 0.86], 200, CONTRADICTED),
        ([0.86, 0.80, 0.75, 0.70], 200, CONTRADICTED),
        ([0.85, 0.70, 0.85], 200, CONTRADICTED),
        ([0.80, 0.80, 0.80], 60, OPEN),
        ([0.79, 0.82, 0.80], 20, OPEN),
    ],
)
def test_the_verdict_on_made_predictions(aurocs, n_groups, verdict):
    found = rise_and_fall(made(aurocs, n_groups=n_groups, seed=1), n_bootstrap=400)
    assert found.verdict == verdict
    assert np.allclose(found.estimates, aurocs, atol=0.1 if n_groups > 100 else 0.2)
    best = max(found.estimates[1:-1])
    assert found.peak == found.models[found.estimates.index(best)]
    assert found.over_better_end == pytest.approx(best - max(found.estimates[0], found.estimates[-1]))
    assert found.over_better_end_low <= found.over_better_end_high
    if verdict == SHOWN:
        assert found.p_rise_and_fall < 0.05 < found.p_no_rise_and_fall
    if verdict == CONTRADICTED:
        assert found.p_no_rise_and_fall < 0.05 < found.p_rise_and_fall


def studies(truth: list[float], *, n: int, seed: int, n_bootstrap: int = 199):
    """Estimates with correlated normal errors around the truth, each with replicates around the estimate."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(0.5 + 0.5 * np.eye(len(truth)))
    for _ in range(n):
        estimate = truth + rng.normal(size=len(truth)) @ root.T
        replicates = estimate + rng.normal(size=(n_bootstrap, len(truth))) @ root.T
        yield judge(pd.DataFrame(np.vstack([estimate, replicates]), columns=range(len(truth))))


@pytest.mark.parametrize("truth", [[0, 0, 0], [9, 0, 0, 0]])
def test_where_there_is_no_rise_and_fall_it_is_seldom_shown(truth):
    found = list(studies(truth, n=150, seed=2))
    assert np.mean([one.verdict == SHOWN for one in found]) <= SELDOM


@pytest.mark.parametrize("truth", [[0, 0, 0, -9]])
def test_where_it_just_holds_it_is_seldom_contradicted(truth):
    found = list(studies(truth, n=150, seed=3, n_bootstrap=99))
    assert np.mean([one.verdict == CONTRADICTED for one in found]) <= SELDOM


def test_what_is_far_from_chance_is_found():
    found = list(studies([0, 6, 1, 0], n=40, seed=4, n_bootstrap=99))
    assert np.mean([one.verdict == SHOWN for one in found]) > 0.9


def test_models_must_have_been_asked_the_same():
    tables = made([0.7, 0.8, 0.7], n_groups=20, seed=0)
    with pytest.raises(MpoxError, match="at least three models"):
        rise_and_fall(dict(list(tables.items())[:2]), n_bootstrap=20)
    with pytest.raises(MpoxError, match="no metric 'auroc' of 'Measles'"):
        rise_and_fall(tables, label="Measles", n_bootstrap=20)
    tables["m2"] = tables["m2"].assign(group_id="g")
    with pytest.raises(MpoxError, match="'m2' was not asked about the same images"):
        rise_and_fall(tables, n_bootstrap=20)
