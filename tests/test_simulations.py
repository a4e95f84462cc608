"""The simulations of chapter 3 (how often intervals and tests are right) against closed forms and SciPy."""

from types import SimpleNamespace

import jupytext
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import multivariate_normal, norm, t

from mpox._core import project_root

N, REPLICATES, GROUPS, IMAGES, CORRELATION = 200, 400, 80, 3, 0.6


@pytest.fixture(scope="module")
def chapter() -> SimpleNamespace:
    """What the cells of the chapter that define functions define."""
    cells = jupytext.read(project_root() / "notebooks" / "03_cross_validation.py").cells
    known = {"pd": pd}
    for cell in cells:
        if any(name in cell.source for name in ("def fold_test_experiment", "def coverage", "def type_one_error")):
            exec(cell.source, known)
    return SimpleNamespace(**known)


def test_the_tests_of_folds_are_scipys(chapter):
    rng = np.random.default_rng(3)
    sizes = np.array([46, 46, 46, 45, 45])
    right = rng.binomial(sizes, [0.7, 0.75, 0.8, 0.85, 0.9], size=(20, 5))
    for row, p, q in zip(right, *chapter.fold_p_values(right, sizes), strict=True):
        assert p == pytest.approx(stats.chi2_contingency([row, sizes - row], correction=False).pvalue)
        single = (np.repeat([1, 0], (hits, n - hits)) for hits, n in zip(row, sizes, strict=True))
        assert q == pytest.approx(stats.f_oneway(*single)[1])
    chi_square, anova = chapter.fold_p_values(np.array([sizes, 0 * sizes, [46, 46, 0, 0, 0]]), sizes)
    assert chi_square[:2].tolist() == anova[:2].tolist() == [1, 1] and anova[2] == 0


def test_few_images_cannot_tell_folds_apart_that_really_differ(chapter):
    def not_significant(n, spreads=(0.0, 0.1)):
        table = chapter.fold_test_experiment(n, 0.8, 5, spreads, n_simulations=4000, seed=0)
        return table[table["test"] == "chi-square"]["share_not_significant"].tolist()

    few, many = not_significant(228), not_significant(20_000)
    assert abs(few[0] - 0.95) < 0.013 and few[1] > 0.7 and many[1] == 0
    centre = 2000 / 5 * ((0.1 * np.linspace(-0.5, 0.5, 5)) ** 2).sum() / (0.8 * 0.2)  # of a noncentral chi-square (Cohen 1988)
    assert not_significant(2000)[1] == pytest.approx(stats.ncx2.cdf(stats.chi2.ppf(0.95, 4), 4, centre), abs=0.03)


def test_the_correction_keeps_the_type_one_error_and_the_plain_test_does_not(chapter):
    table = chapter.type_one_error(150, n_simulations=500).set_index("test")
    corrected, plain = table.loc["corrected t"], table.loc["plain t"]
    assert corrected["low"] < 0.05 and corrected["share_significant"] > 0.01 and plain["low"] > 0.15


@pytest.mark.slow
def test_intervals_from_groups_hold_the_truth_and_those_from_images_what_the_design_effect_says(chapter):
    """A percentile interval of a mean is narrow by construction (Hesterberg 2015, section 3.2), by less than 0.015 here."""
    found = chapter.coverage(N).set_index(["method", "metric"])
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
