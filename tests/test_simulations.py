"""The simulations of chapter 4 and appendix C, and one of fixed scores, against closed forms and SciPy."""

import ast
from types import SimpleNamespace

import jupytext
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, ndtr, ndtri
from scipy.stats import multivariate_normal, norm, t

import mpox
from mpox._core import project_root
from mpox.stats import comparison
from mpox.stats.delong import clustered_auroc, placement_values
from mpox.stats.metrics import group_weights, weighted_auroc
from mpox.stats.resample import bca_interval, leave_one_out_weights, percentile_interval, wilson
from mpox.studies.intervals import FIXED, REFITTED

N, REPLICATES, GROUPS, IMAGES, CORRELATION = 200, 400, 80, 3, 0.6


@pytest.fixture(scope="module")
def chapter() -> SimpleNamespace:
    """What the cells that define the simulations define: of chapter 4 and of appendix C."""
    known: dict = {"np": np, "pd": pd, "stats": stats, "comparison": comparison, "mpox": mpox}
    for name, wanted in (("04_power", "def fold_test_experiment"), ("C_intervals", "def type_one_error")):
        cells = jupytext.read(project_root() / "notebooks" / f"{name}.py").cells
        (source,) = [cell.source for cell in cells if wanted in cell.source]
        body = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        exec(compile(ast.Module(body, []), name, "exec"), known)
    return SimpleNamespace(**known)


def test_the_test_of_folds_is_scipys(chapter):
    rng = np.random.default_rng(3)
    sizes = np.array([46, 46, 46, 45, 45])
    right = rng.binomial(sizes, [0.7, 0.75, 0.8, 0.85, 0.9], size=(20, 5))
    for row, p in zip(right, chapter.chi_square_p(right, sizes), strict=True):
        assert p == pytest.approx(stats.chi2_contingency([row, sizes - row], correction=False).pvalue)
    assert chapter.chi_square_p(np.array([sizes, 0 * sizes]), sizes).tolist() == [1, 1]
    assert chapter.chi_square_p(np.array([[46, 46, 0, 0, 0]]), sizes) < 1e-40


def test_an_analysis_of_variance_of_right_answers_is_nearly_the_same_test(chapter):
    """As the chapter says: F is a function of chi-square."""
    rng = np.random.default_rng(4)
    sizes = np.array([46, 46, 46, 45, 45])
    right = rng.binomial(sizes, [0.75, 0.78, 0.8, 0.82, 0.85], size=(200, 5))
    ours = chapter.chi_square_p(right, sizes)
    anova = [
        stats.f_oneway(*(np.repeat([1, 0], (hits, n - hits)) for hits, n in zip(row, sizes, strict=True)))[1] for row in right
    ]
    assert np.abs(ours - anova).max() < 0.01


def test_few_images_cannot_tell_folds_apart_that_really_differ(chapter):
    def not_significant(n, spreads=(0.0, 0.1), per_group=1, correlation=0.0, simulations=2000):
        fold = np.arange(n // per_group) % 5
        groups, options = np.repeat(np.arange(n // per_group), per_group), {"n_simulations": simulations, "seed": 0}
        table = chapter.fold_test_experiment(np.repeat(fold, per_group), groups, 0.8, correlation, spreads, **options)
        return table["share_not_significant"].tolist()

    few, many = not_significant(228, simulations=4000), not_significant(20_000, simulations=100)
    assert abs(few[0] - 0.95) < 0.013 and few[1] > 0.7 and many[1] == 0
    centre = 2000 / 5 * ((0.1 * np.linspace(-0.5, 0.5, 5)) ** 2).sum() / (0.8 * 0.2)  # of a noncentral chi-square (Cohen 1988)
    assert not_significant(2000)[1] == pytest.approx(stats.ncx2.cdf(stats.chi2.ppf(0.95, 4), 4, centre), abs=0.03)
    effect = 1 + 2 * 0.55  # three images a group: the statistic is that many times a chi-square (Rao and Scott 1981)
    clustered = not_significant(600, per_group=3, correlation=0.55)[0]
    assert clustered == pytest.approx(stats.chi2.cdf(stats.chi2.ppf(0.95, 4) / effect, 4), abs=0.03) and clustered < 0.75


def test_images_of_a_group_correlate_as_measured_and_as_asked(chapter):
    groups = np.repeat(np.arange(4000), 2)
    rng = np.random.default_rng(2)
    lots, own = rng.random(4000)[groups], rng.random(8000)
    right = np.where(rng.random(8000) < np.sqrt(0.55), lots, own) < 0.8
    pairs = right.reshape(-1, 2).astype(float)
    assert chapter.within_groups(right, groups) == pytest.approx(
        np.corrcoef(np.vstack([pairs, pairs[:, ::-1]]).T)[0, 1], abs=1e-3
    )
    assert chapter.within_groups(right, groups) == pytest.approx(0.55, abs=0.05)
    assert chapter.within_groups(np.repeat([True, False], 3), [1, 1, 1, 2, 2, 2]) == 1


def test_the_correction_keeps_the_type_one_error_unless_groups_cross_folds(chapter):
    table = chapter.type_one_error(500).set_index(["folds_of", "test"])
    corrected, plain = table.loc[("whole groups", "corrected t")], table.loc[("whole groups", "plain t")]
    assert corrected["low"] < 0.05 and corrected["share_significant"] > 0.01 and plain["low"] > 0.15
    crossing = table.loc[("single images", "corrected t")]
    assert crossing["low"] > 0.05 and crossing["share_significant"] < 0.2  # too liberal


def test_the_recorded_headline_interval_holds_the_truth():
    (path,) = (project_root() / "results" / "tables").glob("coverage-*.csv")
    table = pd.read_csv(path).set_index(["method", "features", "metric"])
    whole, fixed = (table.xs(kind) for kind in (REFITTED, FIXED))
    assert (whole["coverage"] - whole["standard_error"] >= 0.93).all() and (fixed["coverage"] < 0.93).all()


def intervals_of_a_study(separation, correlation, rng, *, n_groups=80, per_group=3, n_bootstrap=400):
    """95 % intervals of a simulated study by (method, metric). Every second group is positive, and a score is a constant for the
    positives plus normal noise of variance 1, of which the group shares as much as the correlation."""
    codes = np.repeat(np.arange(n_groups), per_group)
    positive = codes % 2 == 0
    shared, own = rng.standard_normal(n_groups)[codes], rng.standard_normal(len(codes))
    score = expit(separation * (positive - 0.5) + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)
    right = ((score > 0.5) == positive).astype(float)
    units = {"groups": np.char.mod("g%06d", codes), "images": np.char.mod("i%06d", np.arange(len(codes)))}
    seed, found = int(rng.integers(2**32)), {}

    def values(weights):
        return {"accuracy": weights @ right / weights.sum(axis=1), "auroc": weighted_auroc(positive, score, weights)}

    left_out = values(leave_one_out_weights(units["groups"]))
    for unit, names in units.items():
        for metric, drawn in values(group_weights(names, n_bootstrap, seed)).items():
            found[f"percentile, {unit}", metric] = percentile_interval(drawn)
            if unit == "groups":
                found["BCa, groups", metric] = bca_interval(drawn, left_out[metric])
        area = clustered_auroc(positive, placement_values(positive, score), names)
        found[f"DeLong, {unit}", "auroc"] = area.low, area.high
    found["Wilson, images", "accuracy"] = wilson(right.sum(), len(right))[1:]
    return found


def coverage(n_simulations, *, auroc=0.85, correlation=0.6, seed=0):
    """How many intervals hold the truth, which has a closed form (the binormal model), and how wide they are."""
    rng, separation = np.random.default_rng(seed), float(np.sqrt(2) * ndtri(auroc))
    truth = {"accuracy": float(ndtr(separation / 2)), "auroc": auroc}
    studies, rows = [intervals_of_a_study(separation, correlation, rng) for _ in range(n_simulations)], []
    for method, metric in sorted(studies[0], key=lambda key: (key[1], key[0])):
        low, high = np.array([study[method, metric] for study in studies]).T
        share = ((low <= truth[metric]) & (truth[metric] <= high)).mean()
        rows.append((method, metric, truth[metric], share, np.sqrt(share * (1 - share) / n_simulations), np.nanmean(high - low)))
    return pd.DataFrame(rows, columns=["method", "metric", "truth", "coverage", "standard_error", "mean_width"])


@pytest.mark.slow
def test_intervals_from_groups_hold_the_truth_and_those_from_images_what_the_design_effect_says():
    """A percentile interval of a mean is narrow by construction (Hesterberg 2015, section 3.2), by less than 0.015 here."""
    found = coverage(N).set_index(["method", "metric"])
    outside = (1 + 0.025 * (REPLICATES - 1)) / (REPLICATES + 1)
    shortfall = 0.95 - (1 - 2 * t.sf(norm.isf(outside) * np.sqrt((GROUPS - 1) / GROUPS), GROUPS - 1))
    errors = 3 * np.sqrt(0.95 * 0.05 / N)
    by_group = found.loc[found.index.get_level_values("method").str.contains("groups"), "coverage"]
    assert by_group.between(0.95 - shortfall - errors, 0.95 + errors).all() and len(by_group) == 5
    accuracy = found.loc[("Wilson, images", "accuracy"), "truth"]
    limit = norm.ppf(accuracy)
    both = multivariate_normal.cdf([limit, limit], cov=[[1, CORRELATION], [CORRELATION, 1]])
    effect = 1 + (IMAGES - 1) * (both - accuracy**2) / (accuracy * (1 - accuracy))
    predicted = 2 * norm.cdf(1.96 / np.sqrt(effect)) - 1
    errors = 3 * np.sqrt(predicted * (1 - predicted) / N)
    assert found.loc[("Wilson, images", "accuracy"), "coverage"] == pytest.approx(predicted, abs=errors)
    widths = [found.loc[(f"percentile, {unit}", "accuracy"), "mean_width"] for unit in ("groups", "images")]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(effect), rel=0.03)
