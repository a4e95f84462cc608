"""95 % intervals on simulated groups of images: what they hold, and what they hold when images are taken for independent."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from scipy.stats import multivariate_normal, norm, t

from mpox import MpoxError
from mpox.stats.coverage import coverage, simulate_clustered, true_values
from mpox.stats.metrics import evaluate

N, GROUPS, IMAGES, CORRELATION, REPLICATES = 400, 80, 3, 0.6, 300


@pytest.fixture(scope="module")
def clustered() -> pd.DataFrame:
    return coverage(
        N, n_groups=GROUPS, images_per_group=IMAGES, intraclass_correlation=CORRELATION, n_bootstrap=REPLICATES
    ).set_index(["method", "metric"])


def shortfall() -> float:
    """What a percentile interval of a mean lacks of 0.95 by construction.

    It is a normal interval for a spread that divides by G instead of G - 1, where Student's t is due (Hesterberg 2015, section
    3.2, 'narrowness bias'); and the interpolated percentiles of B replicates leave (1 + 0.025 (B - 1)) / (B + 1) on each side.
    """
    outside = (1 + 0.025 * (REPLICATES - 1)) / (REPLICATES + 1)
    return 0.95 - (1 - 2 * t.sf(norm.isf(outside) * np.sqrt((GROUPS - 1) / GROUPS), GROUPS - 1))


def test_the_simulation_has_the_truth_it_says():
    rng = np.random.default_rng(0)
    table = simulate_clustered(60_000, 3, auroc=0.8, intraclass_correlation=0.4, rng=rng)
    assert table.groupby("group_id")["label"].nunique().eq(1).all() and table["label"].eq("Mpox").mean() == 0.5
    assert table["group_id"].value_counts().eq(3).all() and table["image_id"].is_unique
    scores = logit(table["p_Mpox"]).to_numpy().reshape(-1, 3)
    positive = (table["label"] == "Mpox").to_numpy()[::3]
    for side in (positive, ~positive):
        assert scores[side].var(axis=0) == pytest.approx(1, abs=0.025)
        correlations = np.corrcoef(scores[side].T)[np.triu_indices(3, 1)]
        assert correlations == pytest.approx(0.4, abs=4 * (1 - 0.4**2) / np.sqrt(30_000))
    found = evaluate(table, n_bootstrap=0).set_index(["metric", "class"])["estimate"]
    truth = true_values(0.8)
    right = ((scores > 0) == positive[:, None]).mean(axis=1)
    assert found["accuracy", "all"] == pytest.approx(truth["accuracy"], abs=4 * right.std() / np.sqrt(60_000))
    # the variance of an area is at most A(1 - A) over the smaller side; with clusters, over its number of groups (Bamber 1975)
    assert found["auroc", "Mpox"] == pytest.approx(truth["auroc"], abs=4 * np.sqrt(0.8 * 0.2 / 30_000))


def test_intervals_from_groups_hold_the_truth(clustered):
    assert 0.005 < shortfall() < 0.015
    errors = 3 * np.sqrt(0.95 * 0.05 / N)
    for method, metric in clustered.index[clustered.index.get_level_values("method").str.contains("groups")]:
        found = clustered.loc[(method, metric), "coverage"]
        assert 0.95 - shortfall() - errors < found < 0.95 + errors, (method, metric, found)
    assert clustered.loc[:, "standard_error"].to_numpy() == pytest.approx(
        np.sqrt(clustered["coverage"] * (1 - clustered["coverage"]) / N).to_numpy()
    )


def test_intervals_from_images_fall_short_by_what_the_design_effect_says(clustered):
    accuracy = true_values(0.85)["accuracy"]
    limit = norm.ppf(accuracy)
    both = multivariate_normal.cdf([limit, limit], cov=[[1, CORRELATION], [CORRELATION, 1]])
    of_hits = (both - accuracy**2) / (accuracy * (1 - accuracy))  # intraclass correlation of right and wrong
    design_effect = 1 + (IMAGES - 1) * of_hits
    predicted = 2 * norm.cdf(1.96 / np.sqrt(design_effect)) - 1
    errors = 3 * np.sqrt(predicted * (1 - predicted) / N)
    images, groups = (clustered.loc[(f"percentile, {unit}", "accuracy")] for unit in ("images", "groups"))
    assert predicted < 0.88
    assert clustered.loc[("Wilson, images", "accuracy"), "coverage"] == pytest.approx(predicted, abs=errors)
    assert images["coverage"] == pytest.approx(predicted, abs=errors + shortfall())
    assert groups["mean_width"] / images["mean_width"] == pytest.approx(np.sqrt(design_effect), rel=0.03)
    for method in ("percentile", "DeLong"):
        images, groups = (clustered.loc[(f"{method}, {unit}", "auroc")] for unit in ("images", "groups"))
        assert images["coverage"] < 0.95 - 6 * images["standard_error"] + shortfall()
        assert images["coverage"] < 0.9 and images["mean_width"] < 0.8 * groups["mean_width"]


def test_images_without_company_are_groups():
    table = coverage(60, n_groups=100, images_per_group=1, n_bootstrap=100, seed=1).set_index(["method", "metric"])
    pairs = (("percentile", "accuracy"), ("percentile", "auroc"), ("DeLong", "auroc"))
    for name, metric in pairs:
        groups, images = table.loc[(f"{name}, groups", metric)], table.loc[(f"{name}, images", metric)]
        assert groups.to_numpy() == pytest.approx(images.to_numpy())


def test_images_that_share_nothing_are_as_good_as_groups():
    table = coverage(60, intraclass_correlation=0, n_bootstrap=150, seed=2).set_index(["method", "metric"])["mean_width"]
    for name, metric in (("percentile", "accuracy"), ("percentile", "auroc"), ("DeLong", "auroc")):
        assert table[f"{name}, groups", metric] == pytest.approx(table[f"{name}, images", metric], rel=0.05)


def test_the_seed_decides_and_nonsense_is_refused():
    options = {"n_groups": 10, "n_bootstrap": 20}
    first, again, other = (coverage(5, seed=seed, **options) for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)
    for wrong in ({"n_groups": 3}, {"images_per_group": 0}, {"auroc": 1.0}, {"intraclass_correlation": 1.1}):
        with pytest.raises(MpoxError, match="A simulated study needs"):
            coverage(1, **wrong)
    for wrong in ({"n_simulations": 0}, {"n_bootstrap": 0}):
        with pytest.raises(MpoxError, match="at least one simulation"):
            coverage(**wrong)
