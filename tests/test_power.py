"""Power against simulation and inversion; the type-I error of the corrected and the plain test; the test of folds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from mpox._core import MpoxError
from mpox.stats.comparison import corrected_t_test
from mpox.stats.power import mcnemar_detectable, mcnemar_power, mcnemar_size, power_table, t_test_detectable, t_test_power
from mpox.stats.simulation import fold_p_values, fold_test_experiment, type_one_error


def within(share: float, expected: float, n: int, errors: float = 3.5) -> bool:
    """Whether a simulated share is within so many standard errors of what it should be."""
    return abs(share - expected) < errors * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize(("n", "gap", "discordance"), [(160, 0.08, 0.15), (600, 0.03, 0.1), (228, 0.0, 0.2)])
def test_mcnemars_power_is_that_of_simulated_tables(n, gap, discordance):
    rng = np.random.default_rng(n)
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    tables = rng.multinomial(n, shares, size=1500)
    p = [[mcnemar([[0, b], [c, 0]], exact=exact, correction=False).pvalue for b, c, _ in tables] for exact in (False, True)]
    asymptotic, exact = (np.array(p) < 0.05).mean(axis=1)
    expected = float(mcnemar_power(n, gap, discordance))
    assert abs(asymptotic - expected) < 0.02 + 3 * np.sqrt(expected * (1 - expected) / 1500)  # an approximation
    assert asymptotic - 0.1 < exact < asymptotic


def test_what_mcnemars_test_detects_and_what_it_takes_are_inverse():
    for n in (60, 162, 600):
        found = mcnemar_detectable(n, 0.15)
        assert mcnemar_power(n, found, 0.15) == pytest.approx(0.8)
        assert abs(mcnemar_size(found, 0.15) - n) <= 1
    assert mcnemar_power([10**6], 0.01, 0.15) == pytest.approx(1)
    assert np.isnan(mcnemar_size(0.2, 0.1)) and np.isnan(mcnemar_power(100, 0.2, 0.1)) and np.isinf(mcnemar_size(0, 0.1))
    assert np.isnan(mcnemar_detectable(20, 0.03))  # even if every disagreement went one way
    for broken in (0, 1.2):
        with pytest.raises(MpoxError, match="discordance"):
            mcnemar_power(100, 0.0, broken)


@pytest.mark.parametrize("gap", [0.0, 0.04])
def test_the_corrected_tests_power_is_that_of_equally_correlated_differences(gap):
    n_folds, n_repeats, sd, n = 5, 5, 0.04, 2000
    rng = np.random.default_rng(7)
    rho = 1 / n_folds
    scale = sd / np.sqrt(1 - rho)  # of which the sample variance estimates the share 1 - rho
    shared, own = rng.normal(size=(n, 1)), rng.normal(size=(n, n_folds * n_repeats))
    values = gap + scale * (np.sqrt(rho) * shared + np.sqrt(1 - rho) * own)
    rejected = np.mean([corrected_t_test(row, n_folds).p < 0.05 for row in values])
    assert within(rejected, float(t_test_power(gap, sd, n_folds, n_repeats)), n)


def test_what_the_corrected_test_detects_is_the_inverse_of_its_power():
    for folds, repeats in ((5, 1), (5, 10), (10, 10)):
        assert t_test_power(t_test_detectable(0.03, folds, repeats), 0.03, folds, repeats) == pytest.approx(0.8)
    few, many = t_test_detectable(0.03, 5, 1), t_test_detectable(0.03, 5, 1000)
    # repeats do not buy data: the variance of the mean stays above s^2/(k - 1)
    assert 0.03 * np.sqrt(1 / 4) * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) == pytest.approx(many, rel=0.01)
    assert many > few / 2
    noncentral = stats.nct(24, 2).sf(stats.t.ppf(0.975, 24)) + stats.nct(24, 2).cdf(-stats.t.ppf(0.975, 24))
    assert t_test_power(2 * 0.03 * np.sqrt(0.29), 0.03, 5, 5) == pytest.approx(noncentral)
    assert np.isfinite(t_test_power(np.linspace(0, 1, 200), 0.03, 5, 5)).all()
    with pytest.raises(MpoxError, match="sd above 0"):
        t_test_power(0.1, 0, 5, 5)


def test_the_table_of_power_holds_together():
    options = {"discordance": 0.15, "sd": 0.04, "n_folds": 5, "n_repeats": 5}
    table = power_table(162, differences=np.linspace(0, 0.14, 29), **options)
    for _, rows in table.groupby("test"):
        detectable = rows["detectable"].iloc[0]
        assert ((rows["difference"] > detectable) == (rows["power"] > 0.8)).all()
        assert ((rows["needed"] <= 162) == (rows["difference"] >= detectable)).all()
        assert rows["power"].is_monotonic_increasing and np.isinf(rows["needed"].iloc[0])


@pytest.mark.parametrize(("n_folds", "n_repeats"), [(5, 5), (10, 3)])
def test_the_correction_keeps_the_type_one_error_and_the_plain_test_does_not(n_folds, n_repeats):
    """Two learners with the same expected accuracy, really trained on the folds of new data sets."""
    table = type_one_error(150, n_folds=n_folds, n_repeats=n_repeats, n_simulations=1000).set_index("test")
    corrected, plain = table.loc["corrected t"], table.loc["plain t"]
    assert corrected["low"] < 0.05 and corrected["share_significant"] > 0.01  # at most 5 %, and not by never rejecting
    assert plain["low"] > 0.15
    assert corrected["low"] < corrected["share_significant"] < corrected["high"]
    with pytest.raises(MpoxError, match="at least 40 images"):
        type_one_error(30, n_folds=10)


def test_the_tests_of_folds_are_scipys():
    rng = np.random.default_rng(3)
    sizes = np.array([46, 46, 46, 45, 45])
    right = rng.binomial(sizes, [0.7, 0.75, 0.8, 0.85, 0.9], size=(20, 5))
    chi_square, anova = fold_p_values(right, sizes)
    for row, p, q in zip(right, chi_square, anova, strict=True):
        assert p == pytest.approx(stats.chi2_contingency([row, sizes - row], correction=False).pvalue)
        assert q == pytest.approx(
            stats.f_oneway(*(np.repeat([1, 0], (hits, n - hits)) for hits, n in zip(row, sizes, strict=True)))[1]
        )
    chi_square, anova = fold_p_values(np.array([sizes, 0 * sizes, [46, 46, 0, 0, 0]]), sizes)
    assert chi_square[:2].tolist() == anova[:2].tolist() == [1, 1] and anova[2] == 0


def shares(table: pd.DataFrame, test: str = "chi-square") -> list[float]:
    return table[table["test"] == test]["share_not_significant"].tolist()


def test_few_images_cannot_tell_folds_apart_that_really_differ():
    small, large = (fold_test_experiment(n, 0.8, 5, n_simulations=4000) for n in (228, 20_000))
    for test in ("chi-square", "ANOVA"):
        assert within(shares(small, test)[0], 0.95, 4000) and within(shares(large, test)[0], 0.95, 4000)
        assert shares(large, test)[-1] == 0 and shares(small, test)[-1] > 0.7
    # the power of Pearson's test: noncentral chi-square (Cohen 1988)
    rates = 0.8 + 0.1 * np.linspace(-0.5, 0.5, 5)
    centre = 2000 / 5 * ((rates - 0.8) ** 2).sum() / (0.8 * 0.2)
    expected = stats.ncx2.cdf(stats.chi2.ppf(0.95, 4), 4, centre)
    found = shares(fold_test_experiment(2000, 0.8, 5, spreads=[0.1], n_simulations=4000))[0]
    assert found == pytest.approx(expected, abs=0.03)
    assert (small["low"] < small["share_not_significant"]).all() and (small["share_not_significant"] < small["high"]).all()


def test_images_of_a_group_that_go_together_make_the_test_see_what_is_not():
    sizes = np.repeat([6, 2, 1], [20, 30, 40])
    options = {"spreads": [0.0], "group_sizes": sizes, "n_simulations": 4000}
    apart, together = (shares(fold_test_experiment(220, 0.8, 5, icc=icc, **options))[0] for icc in (0.0, 0.5))
    assert within(apart, 0.95, 4000)
    effect = 1 + 0.5 * ((sizes**2).sum() / sizes.sum() - 1)  # Kish's design effect
    assert together == pytest.approx(stats.chi2.cdf(stats.chi2.ppf(0.95, 4) / effect, 4), abs=0.04)
    for broken, message in (
        ({"group_sizes": [3, 3]}, "not 2 groups with 6 images"),
        ({"icc": 1}, "from 0 to below 1"),
        ({"spreads": [0.5]}, "cannot be 0.5 apart"),
    ):
        with pytest.raises(MpoxError, match=message):
            fold_test_experiment(220, 0.8, 5, n_simulations=10, **broken)
