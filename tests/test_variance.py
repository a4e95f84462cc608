"""The variance between folds is split as REML splits it, without bias, and says what it cannot tell."""

import numpy as np
import pandas as pd
import pytest
from predictions import table as one_repeat
from statsmodels.regression.mixed_linear_model import MixedLM

from mpox import MpoxError
from mpox.stats.power import FOLD, REPEAT, SAMPLING, SEED, fold_estimates, variance_components


def simulate(rng, n_repeats, n_folds, n_seeds, sd_repeat, sd_fold, sd_seed) -> pd.DataFrame:
    shape = (n_repeats, n_folds, n_seeds)
    values = 0.8 + rng.normal(0, sd_repeat, shape[:1])[:, None, None] + rng.normal(0, sd_fold, shape[:2])[:, :, None]
    values = values + rng.normal(0, sd_seed, shape)
    index = pd.MultiIndex.from_product([range(size) for size in shape], names=["repeat", "fold", "seed"])
    return pd.Series(values.ravel(), index=index, name="estimate").reset_index()


def variances(table: pd.DataFrame) -> pd.Series:
    return variance_components(table).set_index("component")["variance"]


@pytest.mark.filterwarnings("ignore:The MLE may be on the boundary")
def test_balanced_data_are_split_as_by_restricted_maximum_likelihood():
    table = simulate(np.random.default_rng(2), 8, 5, 3, 0.06, 0.04, 0.02)
    found = variances(table.sample(frac=1, random_state=0))
    assert (found > 0).all()  # then both methods agree
    model = MixedLM.from_formula("estimate ~ 1", groups="repeat", vc_formula={"fold": "0 + C(fold)"}, re_formula="1", data=table)
    fit = model.fit(reml=True)
    assert found[SEED] == pytest.approx(fit.scale, rel=0.01)
    assert found[FOLD] == pytest.approx(fit.vcomp[0], rel=0.02)
    assert found[REPEAT] == pytest.approx(fit.cov_re.iloc[0, 0], rel=0.02)


def test_known_components_are_found_without_bias():
    rng = np.random.default_rng(0)
    truth = np.array([0.06, 0.04, 0.02])
    found = np.mean([variances(simulate(rng, 8, 5, 3, *truth)) for _ in range(300)], axis=0)
    assert np.allclose(found, truth**2, rtol=0.1)
    table = variance_components(simulate(rng, 8, 5, 3, *truth))
    assert table["share"].sum() == pytest.approx(1) and np.allclose(table["sd"] ** 2, table["variance"])


def test_a_negative_estimate_is_zero_and_said():
    table = pd.DataFrame({"repeat": [0, 0, 1, 1], "fold": [0, 1] * 2, "seed": 0, "estimate": [0.7, 0.9, 0.9, 0.7]})
    found = variance_components(table).set_index("component")
    assert found.loc[REPEAT, "variance"] == 0 and "-0.01: set to 0" in found.loc[REPEAT, "note"]
    assert found.loc[FOLD, "variance"] == pytest.approx(0.02) and "seed's part is in this one" in found.loc[FOLD, "note"]
    assert np.isnan(found.loc[SEED, "variance"]) and found.loc[SEED, "note"]


def test_folds_that_differ_by_sampling_alone_have_its_variance():
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(40):
        index = pd.MultiIndex.from_product([range(5), range(5), [0]], names=["repeat", "fold", "seed"]).to_frame(index=False)
        table = index.assign(n_test=rng.integers(30, 50, 25))
        found = variances(table.assign(estimate=rng.binomial(table["n_test"], 0.8) / table["n_test"]))
        ratios.append((found[FOLD] + found[REPEAT]) / found[SAMPLING])
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)
    even = pd.DataFrame({"repeat": 0, "fold": [0, 1], "seed": 0, "estimate": [0.7, 0.9], "n_test": 40})
    last = variance_components(even).iloc[-1]
    assert last["component"] == SAMPLING and last["variance"] == pytest.approx(0.8 * 0.2 / 40)
    assert np.isnan(variances(even)[REPEAT])


def test_data_that_are_not_balanced_are_refused():
    table = simulate(np.random.default_rng(0), 2, 3, 2, 0.1, 0.1, 0.1)
    missing = table.assign(estimate=table["estimate"].where(table.index != 3))
    for wrong in (table.iloc[1:], pd.concat([table, table.tail(1)]), missing, table[table["fold"] == 0]):
        with pytest.raises(MpoxError, match="one estimate of every repeat, fold and seed"):
            variance_components(wrong)


def predictions(seed: int) -> pd.DataFrame:
    p = np.random.default_rng(seed).uniform(0, 1, 40)
    return one_repeat(np.arange(40) % 4 == 0, p, fold=np.arange(40) // 20, classes=("Mpox", "Normal"))


def test_the_estimates_of_runs_are_counted_by_hand():
    runs = {seed: predictions(seed) for seed in (0, 7)}
    for metric, label, inside in (
        ("accuracy", "all", lambda part: part["label"].notna()),
        ("sensitivity", "Mpox", lambda part: part["label"] == "Mpox"),
        ("specificity", "Mpox", lambda part: part["label"] == "Normal"),
        ("recall", "Normal", lambda part: part["label"] == "Normal"),
    ):
        table = fold_estimates(runs, metric, label).set_index(["seed", "fold"])
        for seed, run in runs.items():
            for fold, part in run.groupby("fold"):
                part = part[inside(part)]
                right = ((part["p_Mpox"] > 0.5) == (part["label"] == "Mpox")).mean()
                assert table.loc[(seed, fold), "n_test"] == len(part)
                assert table.loc[(seed, fold), "estimate"] == pytest.approx(right)
    for metric, label in (("auroc", "Mpox"), ("recall", "macro")):
        table = fold_estimates(runs, metric, label)
        assert len(table) == 4 and "n_test" not in table
    with pytest.raises(MpoxError, match="no metric 'youden'"):
        fold_estimates(runs, "youden", "all")


def test_with_one_repeat_and_one_seed_two_components_cannot_be_told():
    table = variance_components(fold_estimates({0: predictions(0)}, "accuracy", "all"))
    assert table["component"].tolist() == [REPEAT, FOLD, SEED, SAMPLING] and table["sd"].isna().sum() == 2
