"""The verdict: the rules at every border, the claims on planted truths, the answer."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from mpox import MpoxError, evaluate
from mpox.studies.external import external_metrics
from mpox.studies.verdict import (
    CHANCE,
    CLAIMS,
    ENOUGH,
    LEAKING,
    MARGIN,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    OTHER,
    REPRODUCED,
    STRICTNESS,
    Interval,
    conclusion,
    flattering_protocols,
    folds_finding,
    growth_finding,
    judge,
    mpox_tests,
    rules,
    size_finding,
    verdict_table,
)

VALUE, ENDS = 0.95, ["estimate", "low", "high"]
BELOW, EDGE = np.nextafter(VALUE, 0), VALUE - MARGIN


def between(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("honest", "flattering", "verdict"),
    [
        (between(0.90, VALUE), between(0.96, 0.99), REPRODUCED),
        (between(0.96, 0.99), between(0.10, 0.20), REPRODUCED),  # above the value counts as reached
        (between(EDGE, VALUE), between(0.96, 0.99), REPRODUCED),
        (between(np.nextafter(EDGE, 0), VALUE), between(0.96, 0.99), NOT_TESTABLE),
        (between(0.90, BELOW), between(0.80, VALUE), LEAKING),  # a leaking interval may be as wide as it likes
        (between(0.90, BELOW), between(0.10, VALUE), LEAKING),
        (between(0.90, BELOW), between(0.90, BELOW), NOT_REPRODUCED),
        (None, between(0.96, 0.99), NOT_TESTABLE),
        (between(np.nan, np.nan), between(0.96, 0.99), NOT_TESTABLE),
    ],
)
def test_the_rule_at_each_border(honest, flattering, verdict):
    assert judge(VALUE, {"random_image": flattering}, honest).verdict == verdict


def test_a_judgement_names_the_protocols_that_reach_the_value_and_no_other():
    honest, high, low = between(0.7, 0.8), between(0.94, 0.97), between(0.8, 0.9)
    one = judge(VALUE, {"augment_before_split": high, "random_image": low}, honest).sentence
    two = judge(VALUE, {"augment_before_split": high, "random_image": high}, honest).sentence
    assert "reached only under augment_before_split" in one and "random_image" not in one
    assert "reached only under augment_before_split and random_image" in two
    assert "0.800" in one and "0.95" in one
    assert judge(VALUE, {}, honest).sentence.endswith("no other protocol was run.")


def test_a_higher_published_value_is_never_judged_more_kindly():
    order = [REPRODUCED, NOT_TESTABLE, LEAKING, NOT_REPRODUCED]
    for flattering, honest in np.sort(np.random.default_rng(0).uniform(size=(50, 2, 2)), axis=2):
        values = np.linspace(0, 1, 30)
        ranks = [order.index(judge(value, {"patient": between(*flattering)}, between(*honest)).verdict) for value in values]
        assert ranks == sorted(ranks)


def test_the_table_of_rules_has_every_judgement():
    assert set(rules()["judgement"]) == {REPRODUCED, NOT_TESTABLE, LEAKING, NOT_REPRODUCED}


def test_what_is_laxer_than_the_honest_protocol():
    assert flattering_protocols("source") == ("augment_before_split", "random_image", "patient")
    with pytest.raises(MpoxError, match="external"):
        flattering_protocols("external")


def test_the_size_is_never_testable_and_says_whether_it_agrees():
    same, other = size_finding("a", 4_138_000), size_finding("b", 4_146_000)
    assert same.verdict == other.verdict == NOT_TESTABLE
    assert "4.138 M" in same.sentence and "chosen because of that" in same.sentence
    assert "another network" in other.sentence


def simulated(separation: float, *, n: int = 400) -> pd.DataFrame:
    """Predictions of a network whose scores of Mpox and of the rest lie ``separation`` standard deviations apart."""
    rng = np.random.default_rng(5)  # the same noise for all, as folds of the same images give
    label = np.where(np.arange(n) % 2, "Mpox", "Others")
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + separation * (label == "Mpox") - separation / 2)))
    names = [f"i{i:03d}" for i in range(n)]
    about = {"repeat": 0, "fold": np.arange(n) % 5, "image_id": names, "group_id": names, "label": label}
    return pd.DataFrame({**about, "p_Mpox": p, "p_Others": 1 - p})


@pytest.mark.parametrize(
    ("separations", "verdict"),
    [
        ((1.0, 2.0, 1.0), REPRODUCED),
        ((1.0, 1.2, 2.0, 1.0), REPRODUCED),
        ((2.0, 1.0, 1.5), NOT_REPRODUCED),
        ((1.0, 1.5, 2.0), NOT_TESTABLE),  # it still rises at the last size: a fall may follow
        ((1.5, 1.5, 1.5), NOT_TESTABLE),
        ((1.0, 2.0), NOT_TESTABLE),
    ],
)
def test_growth_is_judged_as_it_was_planted(separations, verdict):
    tables = {f"size {k}": simulated(separation) for k, separation in enumerate(separations)}
    found = growth_finding(tables, "source", n_bootstrap=200)
    assert found.verdict == verdict
    assert ("beyond these sizes" in found.sentence) == (separations == (1.0, 1.5, 2.0))
    assert ("source" in found.cells) == (len(separations) > 2)


def test_the_test_of_the_folds_is_pearsons_and_repeats_in_which_they_differ_are_counted():
    table = simulated(3.0)
    spoilt = table.assign(repeat=1, p_Mpox=np.where(table["fold"] == 0, 1 - table["p_Mpox"], table["p_Mpox"]))
    spoilt["p_Others"] = 1 - spoilt["p_Mpox"]
    found = folds_finding({"random_image": table, "source": pd.concat([table, spoilt])}, "source")
    right = (table["p_Mpox"] > 0.5) == (table["label"] == "Mpox")
    counts = np.array([[(right & (table["fold"] == fold)).sum(), (~right & (table["fold"] == fold)).sum()] for fold in range(5)])
    p, share = chi2_contingency(counts, correction=False).pvalue, counts[:, 0] / 80
    assert found.cells["source"] == found.cells["random_image"] == f"p = {p:.3f}; folds {share.min():.2f} to {share.max():.2f}"
    assert found.verdict == NOT_TESTABLE and "p > 0.05 in 1 of 2 honest repeats" in found.sentence
    assert f"in the first p = {p:.3f}, while the folds range from {share.min():.2f} to" in found.sentence


@pytest.fixture(scope="module")
def study() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics of one model under all four protocols, the laxer the better, and of tests on other data, both ways."""
    about = {"dataset": "one", "regime": "linear_probe"}
    tables = [
        evaluate(simulated(separation, n=200), n_bootstrap=50).assign(protocol=protocol, **about)
        for protocol, separation in zip(STRICTNESS, (9.0, 3.0, 2.0, 1.8), strict=True)
    ]
    external = external_metrics(simulated(1.2, n=200).assign(shared=np.arange(200) < 40), n_bootstrap=50)
    ways = [external.assign(train=train, test=test, regime="linear_probe") for train, test in (("one", "two"), ("two", "one"))]
    return pd.concat(tables, ignore_index=True), pd.concat(ways, ignore_index=True)


def test_each_cell_is_the_interval_of_its_metric_and_each_judgement_follows(study):
    metrics, external = study
    table = verdict_table(metrics, external)
    assert list(table) == ["claim", "paper", *STRICTNESS, OTHER, "judgement", "why"] and len(table) == len(CLAIMS)
    outside = external[(external["train"] == "one") & (external["subset"] == "without shared")].assign(protocol=OTHER)
    cells = pd.concat([metrics, outside]).set_index(["protocol", "metric", "class"])[ENDS]
    for claim, row in zip(CLAIMS, table.to_dict("records"), strict=True):
        if claim.published is None:
            assert row["judgement"] == NOT_TESTABLE and row["source"] == "" and len(row["why"]) > 20
            continue
        found = {name: Interval(*cells.loc[(name, claim.metric, claim.label)]) for name in (*STRICTNESS, OTHER)}
        assert {name: row[name] for name in found} == {name: str(interval) for name, interval in found.items()}
        reached = [name for name, interval in found.items() if interval.high >= claim.published]
        assert reached and "source" not in reached and row["judgement"] == LEAKING
        assert all((name in row["why"]) == (name in reached) for name in flattering_protocols("source"))


def test_the_table_follows_the_numbers(study):
    metrics, external = study
    numbers = [claim.published is not None for claim in CLAIMS]
    strict = metrics[metrics["protocol"].isin(["patient", "source"])]
    without = verdict_table(strict)
    assert set(without.loc[numbers, "judgement"]) == {NOT_REPRODUCED} and set(without[OTHER]) == {""}
    raised = metrics.copy()
    raised.loc[raised["protocol"].eq("source") & raised["metric"].eq("recall"), ["low", "high"]] = [0.93, 0.97]
    why = verdict_table(raised, external).set_index("claim").loc["recall, averaged over classes"]
    assert why["judgement"] == REPRODUCED and "On other data it ends at" in why["why"]
    assert "On other data" not in verdict_table(raised).set_index("claim").loc["recall, averaged over classes", "why"]
    assert set(verdict_table(metrics[metrics["protocol"] != "source"])["judgement"]) == {NOT_TESTABLE}
    for column in ("dataset", "regime"):
        with pytest.raises(MpoxError, match="one data set and one regime"):
            verdict_table(pd.concat([metrics, metrics.assign(**{column: "another"})]))


GOOD, FAIR = ENOUGH, np.nextafter(ENOUGH, 0)
SURE, COIN = np.nextafter(CHANCE, 1), CHANCE


@pytest.mark.parametrize(
    ("honest", "other", "word"),
    [
        ((GOOD, GOOD, SURE), (GOOD, GOOD, SURE), "yes"),
        ((GOOD, GOOD, SURE), None, "partly"),  # without other data there is no yes
        ((FAIR, GOOD, SURE), (GOOD, GOOD, SURE), "partly"),
        ((GOOD, FAIR, SURE), (GOOD, GOOD, SURE), "partly"),
        ((GOOD, GOOD, SURE), (GOOD, FAIR, SURE), "partly"),
        ((GOOD, GOOD, COIN), (GOOD, GOOD, SURE), "no"),
        ((GOOD, GOOD, SURE), (GOOD, GOOD, COIN), "no"),
    ],
)
def test_the_rule_of_the_answer_at_each_border(honest, other, word):
    def one_test(lows: tuple[float, float, float], **about) -> pd.DataFrame:
        about |= {"metric": ["sensitivity", "specificity", "auroc"], "class": "Mpox", "regime": "linear_probe"}
        return pd.DataFrame({**about, "estimate": 0.95, "low": lows, "high": 0.99})

    flattering, counted = (
        one_test(lows, dataset="one", protocol=protocol) for protocol, lows in (("patient", (0, 0, 0)), ("source", honest))
    )
    external = one_test(other, train="one", test="two", subset="without shared") if other else None
    assert conclusion(counted, external, honest={}) == word
    assert conclusion(pd.concat([flattering, counted]), external, honest={}) == word, "what flatters does not count"


def test_the_tests_behind_the_answer(study):
    metrics, external = study
    found = mpox_tests(metrics, external, honest={})
    kinds = found.drop_duplicates(["kind", "dataset", "tested"]).groupby("kind")["tested"].agg(set).to_dict()
    assert kinds == {"flattering": set(STRICTNESS[:3]), "honest": {"source"}, OTHER: {"one", "two"}}
    hit = metrics[metrics["class"].eq("Mpox")].set_index(["protocol", "metric"]).loc[("source", "sensitivity"), ENDS]
    row = found[(found["kind"] == "honest") & (found["metric"] == "sensitivity")].iloc[0]
    assert row[ENDS].tolist() == hit.tolist() and len(found) == 6 * 3
    with pytest.raises(MpoxError, match="add it to PROTOCOLS"):
        mpox_tests(metrics[metrics["protocol"] != "source"], honest={})
    with pytest.raises(MpoxError, match="one regime"):
        mpox_tests(pd.concat([metrics, metrics.assign(regime="fine_tune")]), honest={})
