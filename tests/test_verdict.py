"""The verdict: the rules at every border, the claims on planted truths, the answer."""

from itertools import pairwise, permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from mpox import MpoxError, evaluate
from mpox._core import project_root
from mpox.studies import verdict
from mpox.studies.external import external_metrics
from mpox.studies.verdict import (
    AT_HOME,
    BETTER,
    CHANCE,
    ENOUGH,
    EXCEEDED,
    JUDGEMENTS,
    LEAKING,
    NO_BETTER,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    OTHER,
    OTHER_MARGINS,
    PASSED,
    REPRODUCED,
    STRICTNESS,
    WELL_ENOUGH,
    Claim,
    Interval,
    answer_rules,
    at_margins,
    conclusion,
    criteria,
    flattering_protocols,
    folds_finding,
    growth_finding,
    judge,
    literature,
    mpox_tests,
    read_paper,
    rules,
    size_finding,
    verdict_table,
)

PAPER = read_paper()
VALUE, MARGIN, ENDS = 0.75, 0.125, ["estimate", "low", "high"]  # exact in binary, so that a border is a border
BELOW, ABOVE = np.nextafter(VALUE, 0), np.nextafter(VALUE, 1)
LEAST, MOST = VALUE - MARGIN, VALUE + MARGIN


def between(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)


KINDS = {
    "missing": [None, Interval(np.nan, np.nan, np.nan)],
    "below": [between(0.1, BELOW), between(0.70, BELOW)],  # however wide
    "contains": [between(LEAST, MOST), between(VALUE, MOST), between(LEAST, VALUE), between(VALUE, VALUE)],
    "wide": [between(np.nextafter(LEAST, 0), VALUE), between(VALUE, np.nextafter(MOST, 1)), between(0.1, 0.99)],
    "above": [between(ABOVE, 0.80), between(ABOVE, 1.0)],
}
FLATTERED = {"missing": NOT_REPRODUCED, "below": NOT_REPRODUCED, "wide": NOT_REPRODUCED, "contains": LEAKING, "above": PASSED}
HONEST = {"missing": NOT_TESTABLE, "wide": NOT_TESTABLE, "contains": REPRODUCED, "above": EXCEEDED}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flattering", KINDS)
def test_each_combination_of_intervals_has_its_one_verdict(kind, flattering):
    for honest, lax in product(KINDS[kind], KINDS[flattering]):
        expected = HONEST.get(kind, FLATTERED[flattering])
        if expected == LEAKING and lax.low <= honest.high:
            expected = NOT_REPRODUCED  # intervals that overlap show no difference
        assert judge(VALUE, MARGIN, {"random_image": lax}, honest).verdict == expected
        if lax is None:
            assert judge(VALUE, MARGIN, {}, honest).verdict == expected


def test_the_honest_interval_is_judged_first_and_nothing_saturates():
    """A laxer interval just above a value says nothing of others; one that nearly coincides with the honest says nothing."""
    honest, above, near = between(0.80, 0.849), between(0.851, 0.89), between(0.801, 0.851)
    assert judge(0.85, 0.1, {"random_image": above}, honest).verdict == "not reproduced; exceeded under a leaking protocol"
    found = judge(0.85, 0.1, {"random_image": near}, honest)
    assert found.verdict == "not reproduced" and "contained, overlapping the honest interval, under random" in found.sentence


def test_a_published_value_stands_for_all_that_round_to_it():
    printed = {claim.key: claim.rounding for claim in PAPER.figures.values()}
    assert printed == pytest.approx({key: 5e-4 if "auc" in key else 5e-5 for key in printed}, rel=1e-9)
    assert Claim("k", "s", "96 %").rounding == 0.005 and np.isnan(Claim("k", "s", "high").rounding)
    half = 2**-10
    for interval, exact, rounded in (
        (between(VALUE + half, 0.8), EXCEEDED, REPRODUCED),
        (between(np.nextafter(VALUE + half, 1), 0.8), EXCEEDED, EXCEEDED),
        (between(0.7, VALUE - half), NOT_REPRODUCED, REPRODUCED),
        (between(0.7, np.nextafter(VALUE - half, 0)), NOT_REPRODUCED, NOT_REPRODUCED),
    ):
        assert [judge(VALUE, MARGIN, {}, interval, rounding=by).verdict for by in (0, half)] == [exact, rounded]


def test_of_several_laxer_protocols_one_that_contains_the_value_decides_then_one_above_it():
    honest = between(0.1, 0.2)
    lax = {kind: intervals[-1] for kind, intervals in KINDS.items()}

    def verdict(*kinds: str) -> str:
        return judge(VALUE, MARGIN, {kind: lax[kind] for kind in kinds}, honest).verdict

    for kinds in permutations(KINDS):
        assert verdict(*kinds) == LEAKING
    for kinds in permutations(["above", "below", "wide", "missing"]):
        assert verdict(*kinds) == PASSED
    assert verdict("wide", "below", "missing") == NOT_REPRODUCED


def test_the_margin_counts_alike_on_both_sides_and_for_every_protocol():
    """Reflected at the value, what contained it or was too wide still does; what lay above lies below."""
    rng = np.random.default_rng(0)
    for low, high in VALUE + np.sort(rng.uniform(-0.2, 0.2, size=(300, 2)), axis=1):
        here, there = between(low, high), between(2 * VALUE - high, 2 * VALUE - low)
        one, other = (judge(VALUE, MARGIN, {}, interval).verdict for interval in (here, there))
        assert {one, other} in ({REPRODUCED}, {NOT_TESTABLE}, {EXCEEDED, NOT_REPRODUCED})
        lax = judge(VALUE, MARGIN, {"patient": here}, between(0.1, 0.2)).verdict
        assert (lax == LEAKING) == (one == REPRODUCED) and (lax == PASSED) == (one == EXCEEDED)


def test_a_larger_margin_only_turns_too_wide_into_reproduced():
    rng = np.random.default_rng(1)
    for flattering, honest in np.sort(rng.uniform(size=(200, 2, 2)), axis=2):
        said = [judge(VALUE, margin, {"patient": between(*flattering)}, between(*honest)).verdict for margin in (0, 0.1, 0.3, 1)]
        changes = {(a, b) for a, b in pairwise(said) if a != b}
        assert changes <= {(NOT_TESTABLE, REPRODUCED), (NOT_REPRODUCED, LEAKING), (PASSED, LEAKING)}


def test_a_higher_published_value_passes_from_exceeded_to_missed():
    order = [{EXCEEDED}, {REPRODUCED, NOT_TESTABLE}, {PASSED}, {LEAKING}, {NOT_REPRODUCED}]
    for flattering, honest in np.sort(np.random.default_rng(0).uniform(size=(50, 2, 2)), axis=2):
        values, lax = np.linspace(0, 1, 30), {"patient": between(*flattering)}
        verdicts = [judge(value, 1.0, lax, between(*honest)).verdict for value in values]
        ranks = [next(k for k, words in enumerate(order) if verdict in words) for verdict in verdicts]
        assert ranks == sorted(ranks)


def test_a_judgement_says_what_each_laxer_protocol_does():
    honest, above, near = between(0.6, 0.7), between(0.8, 0.9), between(0.71, 0.8)
    sentence = judge(VALUE, MARGIN, {"augment_before_split": above, "random_image": near, "patient": honest}, honest).sentence
    said = "exceeded under augment_before_split; contained under random_image; not reached under patient."
    assert sentence == f"The honest interval ends at 0.700, below 0.75; {said}"
    both = judge(VALUE, MARGIN, {"augment_before_split": above, "random_image": above}, honest).sentence
    assert both.endswith("exceeded under augment_before_split and random_image.")
    assert "too widely to count, under patient" in judge(VALUE, MARGIN, {"patient": between(0.1, 1)}, honest).sentence
    assert judge(VALUE, MARGIN, {}, honest).sentence.endswith("no other protocol was run.")


def test_the_table_of_rules_has_every_judgement():
    assert set(rules()["judgement"]) == set(JUDGEMENTS)


def test_what_is_registered_for_the_next_record():
    """The chapter says that the next record must not change these."""
    held = {key: (claim.metric, claim.label, claim.margin) for key, claim in PAPER.figures.items()}
    assert held == {
        "precision": ("precision", "macro", 0.10),
        "recall": ("recall", "macro", 0.10),
        "f1": ("f1_of_means", "macro", 0.10),
        "roc_auc_macro": ("auroc", "macro", 0.03),
        "roc_auc_mpox": ("auroc", "Mpox", 0.03),
        "pr_auc_macro": ("auprc", "macro", 0.03),
        "pr_auc_mpox": ("auprc", "Mpox", 0.03),
    }
    assert STRICTNESS == ("augment_before_split", "random_image", "patient", "source") and (ENOUGH, CHANCE) == (0.90, 0.50)
    assert list(zip(rules()["if"], rules()["judgement"], strict=True)) == [
        ("there is no honest interval", "not testable here"),
        ("the honest interval contains the value, too widely", "not testable here"),
        ("the honest interval contains the value", "reproduced"),
        ("the honest interval lies above the value", "exceeded"),
        (
            "it lies below, and a laxer one, wholly above it, contains the value",
            "not reproduced; contained under a leaking protocol",
        ),
        ("it lies below, and a laxer one lies above the value", "not reproduced; exceeded under a leaking protocol"),
        ("it lies below", "not reproduced"),
    ]
    assert answer_rules().to_numpy().tolist() == [
        [
            "in one of the tests the interval of the AUROC for Mpox begins at 0.50 or below, or is missing",
            "not shown to be better than chance",
        ],
        [
            "in one of them the interval of sensitivity or specificity begins below 0.90, or is missing",
            "better than chance, not shown to be well enough",
        ],
        ["none of them is on other data", "well enough at home, not tested on other data"],
        ["otherwise", "well enough"],
    ]


def test_a_pass_excludes_the_figure_that_its_margin_comes_from():
    known = literature().set_index(["study", "metric"])["value"]
    table = criteria().set_index("claim")
    for claim in PAPER.claims.values():
        criterion = table.loc[claim.subject, "reproduced if"]
        if not claim.metric:
            assert len(criterion) > 20 and table.loc[claim.subject, "margin"] == ""
            continue
        careful = known["thieme2023", "auroc"] if claim.metric in ("auroc", "auprc") else known["ali2022", "accuracy"]
        assert claim.published - claim.margin > careful > claim.published - claim.margin - 0.03
        assert f"{claim.published:g}" in criterion and f"{claim.published - claim.margin:.3f} to 1.000" in criterion
        assert (
            f"{careful:.3f}".rstrip("0") in claim.margin_from or f"{careful:.2f}" in claim.margin_from or claim.metric == "auprc"
        )


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
    assert list(table) == ["claim", "paper", *STRICTNESS, OTHER, "judgement", "why"] and len(table) == len(PAPER.claims)
    outside = external[(external["train"] == "one") & (external["subset"] == "without shared")].assign(protocol=OTHER)
    cells = pd.concat([metrics, outside]).set_index(["protocol", "metric", "class"])[ENDS]
    for claim, row in zip(PAPER.claims.values(), table.to_dict("records"), strict=True):
        if not claim.metric:
            assert row["judgement"] == NOT_TESTABLE and row["source"] == "" and len(row["why"]) > 20
            continue
        found = {name: Interval(*cells.loc[(name, claim.metric, claim.label)]) for name in (*STRICTNESS, OTHER)}
        assert {name: row[name] for name in found} == {name: str(interval) for name, interval in found.items()}
        laxer = {name: found[name] for name in flattering_protocols("source")}
        judged = judge(claim.published, claim.margin, laxer, found["source"], rounding=claim.rounding)
        assert (row["judgement"], row["why"]) == (judged.verdict, judged.sentence)
        assert all(name in row["why"] for name in laxer)
    assert set(table["judgement"]) == {NOT_TESTABLE, LEAKING, NOT_REPRODUCED}
    without = verdict_table(metrics[metrics["protocol"] != "random_image"]).set_index("claim")["judgement"]
    assert without["recall, averaged over classes"] == PASSED


def test_the_table_follows_the_numbers(study):
    metrics, external = study
    numbers = [bool(claim.metric) for claim in PAPER.claims.values()]
    strict = metrics[metrics["protocol"].isin(["patient", "source"])]
    without = verdict_table(strict)
    assert set(without.loc[numbers, "judgement"]) == {NOT_REPRODUCED} and set(without[OTHER]) == {""}
    raised = metrics.copy()
    raised.loc[raised["protocol"].eq("source") & raised["metric"].eq("recall"), ["low", "high"]] = [0.90, 0.97]
    why = verdict_table(raised, external).set_index("claim").loc["recall, averaged over classes"]
    assert why["judgement"] == REPRODUCED and "On other data it ends at" in why["why"]
    assert "On other data" not in verdict_table(raised).set_index("claim").loc["recall, averaged over classes", "why"]
    rounded = raised.assign(low=raised["low"].mask(raised["low"] == 0.90, 0.95694))  # rounds to 95.69 %
    assert verdict_table(rounded).set_index("claim").loc["recall, averaged over classes", "judgement"] == REPRODUCED
    assert set(verdict_table(metrics[metrics["protocol"] != "source"])["judgement"]) == {NOT_TESTABLE}
    for column in ("dataset", "regime"):
        with pytest.raises(MpoxError, match="one data set and one regime"):
            verdict_table(pd.concat([metrics, metrics.assign(**{column: "another"})]))


def test_other_margins_are_counted(study):
    metrics, _ = study
    raised = metrics.copy()
    raised.loc[raised["protocol"].eq("source") & raised["metric"].eq("recall"), ["low", "high"]] = [0.90, 0.97]
    table = at_margins(raised).set_index("margin")
    assert list(table) == list(JUDGEMENTS) and set(table.sum(axis=1)) == {7}
    assert table[REPRODUCED].to_dict() == {"own": 1, "0.02": 0, "0.05": 0, "0.10": 1, "0.15": 1}
    assert table[NOT_TESTABLE].to_dict() == {"own": 0, "0.02": 1, "0.05": 1, "0.10": 0, "0.15": 0}
    assert list(table.index[1:]) == [f"{margin:.2f}" for margin in OTHER_MARGINS]


@pytest.fixture
def corrected(tmp_path):
    """Corrects the claims file: pairs of the old text and the new one."""

    def correct(*pairs: tuple[str, str]) -> Path:
        text = Path(verdict.__file__).with_name("claims.yml").read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "claims.yml"
        path.write_text(text)
        return path

    return correct


def test_a_full_text_that_says_something_else_is_judged_otherwise(study, corrected):
    full = corrected(
        ('split: "not known: abstract only"', "split: five folds"), ("published: 0.9569", "published: 0.82"), ("4.14\n", "5.3\n")
    )  # fmt: skip
    paper, column = read_paper(full), "judgement"
    assert paper.about["split"] == "five folds" and read_paper().about["split"].startswith("not known")
    before, after = (verdict_table(study[0], paper=one).set_index("claim") for one in (None, paper))
    recall = "recall, averaged over classes"
    assert (before.loc[recall, column], after.loc[recall, column]) == (LEAKING, REPRODUCED)
    assert before.drop(recall).equals(after.drop(recall))
    counted, usual = (at_margins(study[0], paper=one).set_index("margin")[REPRODUCED]["own"] for one in (paper, None))
    assert (counted, usual) == (1, 0) and "0.82" in criteria(paper).set_index("claim").loc[recall, "reproduced if"]
    assert "chosen because" in size_finding("a", 5_300_000, paper).sentence and "another" in size_finding("a", 5_300_000).sentence


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("published: 0.9569", "published: 95.69", "recall: a metric needs"),
        ("published: 0.9569", "published: high", "'<' not supported"),
        ("published: 0.9569, ", "", "recall: a metric needs"),
        ("says: 95.69 %", "says: high", "recall: a metric needs"),
        ("  f1:\n", "  f_1:\n", "chapters read the claims f1"),
        ("  split:", "  division:", "'split'"),
        ("metric: recall", "metric: recal", "recall: a metric needs"),
        ("metric: recall, ", "", "recall: without a known metric"),
        ("subject: robustness", "topic: robustness", "topic"),
        ("claims:\n", "claim:\n", "'claims'"),
        ("about:\n", "about: [\n", "flow"),
    ],
)
def test_a_bad_claims_file_is_one_clear_error(corrected, old, new, reason):
    with pytest.raises(MpoxError, match=rf"claims.yml does not say what the paper claims \(.*{reason}.*correct it"):
        read_paper(corrected((old, new)))
    with pytest.raises(MpoxError, match="nowhere.yml does not say"):
        read_paper("nowhere.yml")


def test_the_cover_and_the_readme_say_what_the_claims_file_says():
    claims = read_paper().claims
    for page in ("book/intro.md", "README.md"):
        text = " ".join((project_root() / page).read_text().split())
        assert f"F1 of {claims['f1'].says}" in text and f"ROC AUC of {claims['roc_auc_mpox'].says}" in text


GOOD, FAIR = ENOUGH, np.nextafter(ENOUGH, 0)
SURE, COIN = np.nextafter(CHANCE, 1), CHANCE


@pytest.mark.parametrize(
    ("honest", "other", "word"),
    [
        ((GOOD, GOOD, SURE), (GOOD, GOOD, SURE), WELL_ENOUGH),
        ((GOOD, GOOD, SURE), None, AT_HOME),  # without other data it is never well enough
        ((FAIR, GOOD, SURE), (GOOD, GOOD, SURE), BETTER),
        ((GOOD, FAIR, SURE), (GOOD, GOOD, SURE), BETTER),
        ((GOOD, GOOD, SURE), (GOOD, FAIR, SURE), BETTER),
        ((GOOD, GOOD, COIN), (GOOD, GOOD, SURE), NO_BETTER),
        ((GOOD, GOOD, SURE), (GOOD, GOOD, COIN), NO_BETTER),
        ((GOOD, GOOD, SURE), (GOOD, GOOD, np.nan), NO_BETTER),  # what is missing is not shown
        ((GOOD, GOOD, np.nan), (GOOD, GOOD, SURE), NO_BETTER),
        ((GOOD, GOOD, SURE), (GOOD, GOOD), NO_BETTER),
        ((GOOD, np.nan, SURE), (GOOD, GOOD, SURE), BETTER),
        ((GOOD, GOOD, SURE), (np.nan, GOOD, SURE), BETTER),
    ],
)
def test_the_rule_of_the_answer_at_each_border(honest, other, word):
    def one_test(lows: tuple[float, ...], **about) -> pd.DataFrame:
        about |= {"metric": ["sensitivity", "specificity", "auroc"][: len(lows)], "class": "Mpox", "regime": "linear_probe"}
        return pd.DataFrame({**about, "low": lows, "high": 0.99}).assign(estimate=lambda rows: rows["low"] * 0 + 0.95)

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
