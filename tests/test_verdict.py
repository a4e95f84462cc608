"""The verdict: the rules at every border, the claims on planted truths and on the recorded study, the answer."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from mpox import ModelConfig, MpoxError, cross_validate, evaluate, open_store
from mpox.protocols.copies import augmented
from mpox.protocols.pairs import combine
from mpox.runs.cross_validation import validate_externally
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
    Interval,
    conclude,
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


# ------------------------------------------------------------------------------------------------ the rules
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
    rng = np.random.default_rng(0)
    for ends in np.sort(rng.uniform(size=(200, 2, 2)), axis=2):
        ranks = [
            order.index(judge(value, {"patient": between(*ends[0])}, between(*ends[1])).verdict)
            for value in np.linspace(0, 1, 60)
        ]
        assert ranks == sorted(ranks)


def test_the_table_of_rules_has_every_judgement():
    assert set(rules()["judgement"]) == {REPRODUCED, NOT_TESTABLE, LEAKING, NOT_REPRODUCED}


def test_what_is_laxer_than_the_honest_protocol():
    assert flattering_protocols("source") == ("augment_before_split", "random_image", "patient")
    with pytest.raises(MpoxError, match="external"):
        flattering_protocols("external")


def test_the_published_f1_is_the_harmonic_mean_of_the_published_averages():
    published = {claim.key: claim.published for claim in CLAIMS}
    precision, recall = published["precision"], published["recall"]
    assert round(2 * precision * recall / (precision + recall), 4) == published["f1"]
    assert {claim.key: claim.metric for claim in CLAIMS}["f1"] == "f1_of_means"


# -------------------------------------------------------------------------------------- size, growth and folds
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
    return pd.DataFrame(
        {
            "repeat": 0,
            "fold": np.arange(n) % 5,
            "image_id": names,
            "group_id": names,
            "label": label,
            "p_Mpox": p,
            "p_Others": 1 - p,
        }
    )


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
    found = growth_finding(tables, "source", n_bootstrap=300)
    assert found.verdict == verdict
    assert ("beyond these sizes" in found.sentence) == (separations == (1.0, 1.5, 2.0))
    assert ("source" in found.cells) == (len(separations) > 2)


def test_the_test_of_the_folds_is_pearsons_and_robustness_stays_untestable():
    table = simulated(1.5)
    table = pd.concat([table, table.assign(repeat=1, fold=0).assign(fold=np.arange(len(table)) // 80)])
    found = folds_finding({"random_image": table.query("repeat == 1"), "source": table}, "source")
    right = (table["p_Mpox"] > 0.5) == (table["label"] == "Mpox")
    first = table["repeat"] == 0
    observed = np.array(
        [[(right & first & (table["fold"] == f)).sum(), (~right & first & (table["fold"] == f)).sum()] for f in range(5)]
    )
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0) / observed.sum()
    p = chi2.sf(((observed - expected) ** 2 / expected).sum(), df=4)
    share = observed[:, 0] / observed.sum(axis=1)
    assert found.cells["source"] == f"p = {p:.3f}; folds {share.min():.2f} to {share.max():.2f}"
    assert found.verdict == NOT_TESTABLE
    assert f"in the first p = {p:.3f}, while the folds range from {share.min():.2f} to" in found.sentence


def test_repeats_in_which_the_folds_differ_are_counted():
    table = simulated(3.0)
    spoilt = table.assign(repeat=1, p_Mpox=np.where(table["fold"] == 0, 1 - table["p_Mpox"], table["p_Mpox"]))
    spoilt["p_Others"] = 1 - spoilt["p_Mpox"]
    found = folds_finding({"source": pd.concat([table, spoilt])}, "source")
    assert "p > 0.05 in 1 of 2 honest repeats" in found.sentence


# --------------------------------------------------------------------------------------- the recorded study
@pytest.fixture(scope="module")
def recorded():
    """Metrics of the linear probe on MSLD v1.0 under all four protocols, and of its test on MSID."""
    store, model = open_store("recorded"), ModelConfig(regime="linear_probe", image_size=224)
    data = store.dataset("msld-v1")
    tables = {
        protocol: cross_validate(store, data, protocol, model, n_repeats=5) for protocol in ("random_image", "patient", "source")
    }
    tables["augment_before_split"] = cross_validate(store, augmented(data, 13, 0), "augment_before_split", model)
    metrics = pd.concat(
        [
            evaluate(table, n_bootstrap=200).assign(dataset="msld-v1", protocol=protocol, regime="linear_probe")
            for protocol, table in tables.items()
        ],
        ignore_index=True,
    )
    pair = ["msid", "msld-v1"]
    both = combine([store.dataset(name) for name in pair], store.audit(pair).groups)
    external = pd.concat(
        [
            external_metrics(validate_externally(store, both, *way, model), n_bootstrap=200).assign(
                train=way[0], test=way[1], regime="linear_probe"
            )
            for way in (pair, pair[::-1])
        ]
    )
    return metrics, external


def test_each_cell_is_the_interval_of_its_metric_and_each_judgement_follows(recorded):
    metrics, external = recorded
    table = verdict_table(metrics, external)
    assert list(table) == [
        "claim", "paper", "augment_before_split", "random_image", "patient", "source", OTHER, "judgement", "why",
    ]  # fmt: skip
    assert len(table) == len(CLAIMS)
    outside = external[(external["train"] == "msld-v1") & (external["subset"] == "without shared")].assign(protocol=OTHER)
    cells = pd.concat([metrics, outside]).set_index(["protocol", "metric", "class"])[["estimate", "low", "high"]]
    for claim, row in zip(CLAIMS, table.to_dict("records"), strict=True):
        if claim.published is None:
            assert row["judgement"] == NOT_TESTABLE and row["source"] == "" and len(row["why"]) > 20
            continue
        found = {
            name: Interval(*cells.loc[(name, claim.metric, claim.label)])
            for name in (*flattering_protocols("source"), "source", OTHER)
        }
        assert {name: row[name] for name in found} == {name: str(interval) for name, interval in found.items()}
        reached = [name for name, interval in found.items() if interval.high >= claim.published]
        expected = NOT_REPRODUCED if not reached else REPRODUCED if "source" in reached else LEAKING
        assert row["judgement"] == expected
        assert all((name in row["why"]) == (name in reached) for name in flattering_protocols("source"))


def test_without_its_flattering_protocol_a_claim_is_not_reproduced(recorded):
    metrics, _ = recorded
    full = verdict_table(metrics)
    without = verdict_table(metrics[metrics["protocol"] != "augment_before_split"])
    numbers = [claim.published is not None for claim in CLAIMS]
    assert set(full.loc[numbers, "judgement"]) == {LEAKING}
    assert set(without.loc[numbers, "judgement"]) == {NOT_REPRODUCED}
    assert set(full[OTHER]) == {""}


def test_the_table_follows_the_numbers(recorded):
    metrics, external = recorded
    raised = metrics.copy()
    raised.loc[raised["protocol"].eq("source") & raised["metric"].eq("recall"), ["low", "high"]] = [0.93, 0.97]
    why = verdict_table(raised, external).set_index("claim").loc["recall, averaged over classes"]
    assert why["judgement"] == REPRODUCED and "On other data it ends at" in why["why"]
    assert "On other data" not in verdict_table(raised).set_index("claim").loc["recall, averaged over classes", "why"]
    lost = metrics[metrics["protocol"] != "source"]
    assert set(verdict_table(lost)["judgement"]) == {NOT_TESTABLE}


def test_a_table_is_for_one_data_set_and_regime(recorded):
    metrics, _ = recorded
    for column in ("dataset", "regime"):
        with pytest.raises(MpoxError, match="one data set and one regime"):
            verdict_table(pd.concat([metrics, metrics.assign(**{column: "another"})]))


# ------------------------------------------------------------------------------------------------ the answer
GOOD, FAIR = ENOUGH, np.nextafter(ENOUGH, 0)
SURE, COIN = np.nextafter(CHANCE, 1), CHANCE


def one_test(kind: str, sensitivity: float, specificity: float, auroc: float) -> pd.DataFrame:
    lows = {"sensitivity": sensitivity, "specificity": specificity, "auroc": auroc}
    return pd.DataFrame({"kind": kind, "metric": list(lows), "estimate": 0.95, "low": list(lows.values()), "high": 0.99})


@pytest.mark.parametrize(
    ("honest", "other", "word"),
    [
        ((GOOD, GOOD, SURE), [(GOOD, GOOD, SURE)], "yes"),
        ((GOOD, GOOD, SURE), [], "partly"),  # without other data there is no yes
        ((FAIR, GOOD, SURE), [(GOOD, GOOD, SURE)], "partly"),
        ((GOOD, FAIR, SURE), [(GOOD, GOOD, SURE)], "partly"),
        ((GOOD, GOOD, SURE), [(GOOD, FAIR, SURE)], "partly"),
        ((GOOD, GOOD, COIN), [(GOOD, GOOD, SURE)], "no"),
        ((GOOD, GOOD, SURE), [(GOOD, GOOD, COIN)], "no"),
    ],
)
def test_the_rule_of_the_answer_at_each_border(honest, other, word):
    counted = pd.concat([one_test("honest", *honest), *(one_test(OTHER, *lows) for lows in other)])
    assert conclude(counted) == word
    assert conclude(pd.concat([counted, one_test("flattering", 0, 0, 0)])) == word, "what flatters does not count"


def test_the_answer_follows_the_numbers(recorded):
    metrics, external = recorded
    assert conclusion(metrics, external, honest={}) == "partly"
    better, outside = (
        table.assign(
            **{end: table[end].where(~table["metric"].isin(["sensitivity", "specificity", "auroc"]), 0.97) for end in ENDS}
        )
        for table in (metrics, external)
    )
    assert conclusion(better, outside, honest={}) == "yes"
    assert conclusion(better, external, honest={}) == conclusion(better, honest={}) == "partly"
    coin = metrics.assign(low=metrics["low"].where(metrics["metric"] != "auroc", 0.5))
    assert conclusion(coin, external, honest={}) == "no"


def test_the_tests_behind_the_answer(recorded):
    metrics, external = recorded
    found = mpox_tests(metrics, external, honest={})
    kinds = found.drop_duplicates(["kind", "dataset", "tested"]).groupby("kind")["tested"].agg(set).to_dict()
    assert kinds == {
        "flattering": {"augment_before_split", "random_image", "patient"}, "honest": {"source"}, OTHER: {"msid", "msld-v1"},
    }  # fmt: skip
    hit = metrics[metrics["class"].eq("Mpox")].set_index(["protocol", "metric"]).loc[("source", "sensitivity"), ENDS]
    row = found[(found["kind"] == "honest") & (found["metric"] == "sensitivity")].iloc[0]
    assert row[ENDS].tolist() == hit.tolist() and len(found) == 6 * 3
    with pytest.raises(MpoxError, match="add it to PROTOCOLS"):
        mpox_tests(metrics[metrics["protocol"] != "source"], honest={})
    with pytest.raises(MpoxError, match="one regime"):
        mpox_tests(pd.concat([metrics, metrics.assign(regime="fine_tune")]), honest={})
