"""Power against simulation and inversion."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from mpox._core import MpoxError
from mpox.stats.comparison import corrected_t_test
from mpox.stats.power import mcnemar_detectable, mcnemar_power, mcnemar_size, power_table, t_test_detectable, t_test_power


def within(share: float, expected: float, n: int, errors: float = 3.5) -> bool:
    """Whether a simulated share is within so many standard errors of what it should be."""
    return abs(share - expected) < errors * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize(("n", "gap", "discordance"), [(160, 0.08, 0.15), (600, 0.03, 0.1), (228, 0.0, 0.2)])
def test_mcnemars_power_is_that_of_the_exact_test_on_simulated_tables(n, gap, discordance):
    rng = np.random.default_rng(n)
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    tables = rng.multinomial(n, shares, size=1500)
    rejected = np.mean([mcnemar([[0, b], [c, 0]], exact=True).pvalue < 0.05 for b, c, _ in tables])
    assert within(rejected, float(mcnemar_power(n, gap, discordance)), 1500)


def test_mcnemars_power_is_the_sum_over_all_tables():
    n, gap, discordance = 25, 0.15, 0.3
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b) if stats.binomtest(b, max(b + c, 1)).pvalue < 0.05 and b + c]
    expected = sum(stats.multinomial.pmf([b, c, n - b - c], n, shares) for b, c in tables)
    assert mcnemar_power(n, gap, discordance) == pytest.approx(expected)
    approximate = stats.norm.cdf((0.0847 * np.sqrt(162) - 1.96 * np.sqrt(0.15)) / np.sqrt(0.15 - 0.0847**2))  # Connor 1987
    assert approximate > 0.8 and 0.76 < mcnemar_power(162, 0.0847, 0.15) < 0.78


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


@pytest.mark.parametrize(("nothing", "test"), [({"discordance": 0.0}, "McNemar"), ({"sd": 0.0}, "corrected t")])
def test_of_models_that_do_not_differ_the_table_knows_nothing(nothing, test):
    table = power_table(162, **{"discordance": 0.15, "sd": 0.04, "n_folds": 5, "n_repeats": 5, **nothing}).set_index("test")
    assert table.loc[test, ["detectable", "power", "needed"]].isna().all(axis=None) and len(table.loc[test]) == 3
    assert table.drop(test).notna().all(axis=None)
