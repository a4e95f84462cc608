"""The paper's claims held against the recorded figures, by rules stated beforehand."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import pandas as pd
from scipy.stats import chi2_contingency

from mpox._core import MpoxError
from mpox.protocols.splits import PROTOCOLS
from mpox.stats.growth import CONTRADICTED, SHOWN, RiseAndFall, rise_and_fall
from mpox.stats.metrics import MACRO, N_BOOTSTRAP

REPRODUCED = "reproduced"
LEAKING = "reproduced only under a leaking protocol"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable here"
#: An honest interval that reaches the published value, and lies further below it too, tells nothing. Ours; the paper has none.
MARGIN = 0.10
#: From the most flattering protocol to the strictest: what comes before the honest one trains on relatives of test images.
STRICTNESS = ("augment_before_split", "random_image", "patient", "source")
OTHER = "other data"
_COLUMNS = (*STRICTNESS, OTHER)
_KEYS = ["claim", "dataset", "regime", "protocol", "estimate", "low", "high", "published"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval.

    Examples
    --------
    >>> str(Interval(0.7848, 0.7145, 0.8472))
    '0.785 (0.715 to 0.847)'
    """

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper's abstract.

    Attributes
    ----------
    key : str
    subject : str
        What it is about, with our reading of it.
    says : str
        What the abstract says.
    published : float or None
        The published value, from 0 to 1; ``None`` where the claim is not a measure of performance.
    metric, label : str
        Which row of `mpox.evaluate` is held against it.
    untestable : str
        Why it cannot be judged here when no `Finding` is given for it.
    """

    key: str
    subject: str
    says: str
    published: float | None = None
    metric: str = ""
    label: str = ""
    untestable: str = ""


CLAIMS = (
    Claim("size", "size of the network", "4.14 M parameters", untestable="the network of this page was not counted"),
    Claim("precision", "precision, averaged over classes", "95.92 %", 0.9592, "precision", MACRO),
    Claim("recall", "recall, averaged over classes", "95.69 %", 0.9569, "recall", MACRO),
    Claim("f1", "F1, harmonic mean of the averaged precision and recall", "95.80 %", 0.9580, "f1_of_means", MACRO),
    Claim("roc_auc_macro", "ROC AUC, averaged over classes", "0.998", 0.998, "auroc", MACRO),
    Claim("roc_auc_mpox", "ROC AUC, Mpox against the rest", "0.998", 0.998, "auroc", "Mpox"),
    Claim("pr_auc_macro", "PR AUC, averaged over classes", "0.999", 0.999, "auprc", MACRO),
    Claim("pr_auc_mpox", "PR AUC, Mpox against the rest", "0.999", 0.999, "auprc", "Mpox"),
    Claim(
        "folds",
        "robustness",
        "no significant differences between cross-validation folds, p > 0.05",
        untestable="a test that does not reject has not shown equality, and the abstract does not name the test",
    ),
    Claim(
        "growth",
        "growing the network",
        "complexity rises, performance first rises, then falls",
        untestable="a rise and a fall need at least three sizes of the network",
    ),
    Claim(
        "choice",
        "choice of the model",
        "model selection should be based on the specific needs of decision-makers",
        untestable="advice is not a measurement; to follow it takes the costs of a missed case and of a false alarm, which the "
        "abstract does not give",
    ),
)


@dataclass(frozen=True)
class Judgement:
    """What a rule says of a claim, and the sentence that says why."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class Finding:
    """The judgement of a claim that is not a single metric, with what to show under each protocol (column to text)."""

    judgement: Judgement
    cells: Mapping[str, str] = field(default_factory=dict)


def judge(published: float, flattering: Mapping[str, Interval], honest: Interval | None) -> Judgement:
    """Hold a published value against our intervals. The first rule that applies decides.

    1. *not testable here*: there is no interval under the honest protocol.
    2. *not testable here*: the honest interval reaches the published value (its upper end is not below it), but its lower end is
       more than `MARGIN` below: so few groups exclude neither the claim nor its failure.
    3. *reproduced*: the honest interval reaches the published value.
    4. *reproduced only under a leaking protocol*: the interval of a more flattering protocol does.
    5. *not reproduced*: no interval does.

    A value counts as reached whether the interval contains it or lies above it. The rules are ours.

    Parameters
    ----------
    published : float
        From 0 to 1.
    flattering : mapping of str to Interval
        Protocol to interval, for protocols that let relatives of test images into training; may be empty.
    honest : Interval or None
        Without numbers (NaN) it counts as missing.

    Returns
    -------
    Judgement

    Examples
    --------
    >>> judge(0.95, {"random_image": Interval(0.94, 0.91, 0.96)}, Interval(0.79, 0.72, 0.85)).verdict
    'reproduced only under a leaking protocol'
    """
    if honest is None or isnan(honest.high):
        return Judgement(NOT_TESTABLE, "There is no interval under the honest protocol.")
    if honest.high >= published:
        if honest.low < published - MARGIN:
            return Judgement(
                NOT_TESTABLE,
                f"The honest interval reaches {published:g}, and also {honest.low:.3f}, more than {MARGIN:.2f} below: too few "
                "groups to tell.",
            )
        return Judgement(REPRODUCED, f"The honest interval, up to {honest.high:.3f}, reaches {published:g}.")
    short = f"The honest interval ends at {honest.high:.3f}, below {published:g}"
    if reached := [name for name, interval in flattering.items() if interval.high >= published]:
        verb = "reaches" if len(reached) == 1 else "reach"
        above = " and lies above it" if len(reached) == 1 and flattering[reached[0]].low > published else ""
        return Judgement(LEAKING, f"{short}; only {' and '.join(reached)} {verb} it{above}.")
    return Judgement(NOT_REPRODUCED, f"{short}; so do the others." if flattering else f"{short}; no other protocol was run.")


def claim_intervals(metrics: pd.DataFrame, external: pd.DataFrame | None = None) -> pd.DataFrame:
    """The intervals that are held against the published values.

    Parameters
    ----------
    metrics : DataFrame
        The columns of `mpox.evaluate` with ``dataset``, ``protocol`` and ``regime``.
    external : DataFrame, optional
        The columns of `external_metrics` with ``train``, ``test`` and ``regime``. Of a data set and regime, the test
        of that model on the other data counts, without the images that have a relative in its training.

    Returns
    -------
    DataFrame
        ``claim`` (key), ``dataset``, ``regime``, ``protocol`` (``other data`` for the external test), ``estimate``, ``low``,
        ``high``, ``published``.
    """
    tables = [metrics]
    if external is not None and len(external):
        outside = external[external["subset"] == "without shared"]
        tables.append(outside.drop(columns="test").rename(columns={"train": "dataset"}).assign(protocol=OTHER))
    measured = pd.concat(tables, ignore_index=True)
    parts = [
        measured[(measured["metric"] == claim.metric) & (measured["class"] == claim.label)].assign(
            claim=claim.key, published=claim.published
        )
        for claim in CLAIMS
        if claim.published is not None
    ]
    return pd.concat(parts, ignore_index=True)[_KEYS]


def flattering_protocols(honest: str) -> tuple[str, ...]:
    """The protocols that are laxer than the honest one.

    Examples
    --------
    >>> flattering_protocols("patient")
    ('augment_before_split', 'random_image')
    """
    if honest not in STRICTNESS:
        raise MpoxError(f"'{honest}' cannot be the honest protocol: choose one of {', '.join(STRICTNESS)}.")
    return STRICTNESS[: STRICTNESS.index(honest)]


def verdict_table(
    metrics: pd.DataFrame,
    external: pd.DataFrame | None = None,
    *,
    honest: str = "source",
    findings: Mapping[str, Finding] | None = None,
) -> pd.DataFrame:
    """Every claim with what was measured and the judgement that follows from `judge`.

    Parameters
    ----------
    metrics, external : DataFrame
        See `claim_intervals`; ``metrics`` of one data set and one regime.
    honest : str
        The protocol whose interval decides.
    findings : mapping of str to Finding, optional
        Claim key to finding, for claims that are not a single metric.

    Returns
    -------
    DataFrame
        One row a claim: ``claim``, ``paper``, a column of text for each protocol and for ``other data``, ``judgement``, ``why``.

    Raises
    ------
    MpoxError
        If the metrics are of several data sets or regimes, or the honest protocol is unknown.
    """
    flattering = flattering_protocols(honest)
    if len(metrics[["dataset", "regime"]].drop_duplicates()) != 1:
        raise MpoxError("A table of verdicts is for one data set and one regime: choose their rows of the metrics first.")
    dataset, regime = metrics[["dataset", "regime"]].iloc[0]
    table = claim_intervals(metrics, external)
    table = table[(table["dataset"] == dataset) & (table["regime"] == regime)]
    rows = []
    for claim in CLAIMS:
        if claim.published is None:
            missing = Finding(Judgement(NOT_TESTABLE, f"{claim.untestable[0].upper()}{claim.untestable[1:]}."))
            finding = (findings or {}).get(claim.key, missing)
            cells, judgement = finding.cells, finding.judgement
        else:
            found = {
                row.protocol: Interval(row.estimate, row.low, row.high)
                for row in table[table["claim"] == claim.key].itertuples()
                if not isnan(row.estimate)
            }
            cells = {name: str(interval) for name, interval in found.items()}
            judgement = judge(claim.published, {name: found[name] for name in flattering if name in found}, found.get(honest))
            if judgement.verdict == REPRODUCED and OTHER in found and found[OTHER].high < claim.published:
                judgement = Judgement(REPRODUCED, f"{judgement.sentence} On other data it ends at {found[OTHER].high:.3f}.")
        shown = {name: cells.get(name, "") for name in _COLUMNS}
        rows.append(
            {"claim": claim.subject, "paper": claim.says, **shown, "judgement": judgement.verdict, "why": judgement.sentence}
        )
    return pd.DataFrame(rows)


def rules() -> pd.DataFrame:
    """The rules of `judge` in their order, each with made-up intervals and what the rule made of them."""
    value = 0.95
    lax, wide, good, poor = (
        Interval(*numbers) for numbers in ((0.97, 0.95, 0.99), (0.90, 0.80, 0.96), (0.94, 0.91, 0.96), (0.80, 0.74, 0.86))
    )  # fmt: skip
    cases = [
        ("there is no honest interval", {"random_image": lax}, None),
        (f"the honest interval reaches the value, but begins more than {MARGIN:.2f} below it", {"random_image": lax}, wide),
        ("the honest interval contains the value or lies above it", {"random_image": lax}, good),
        ("only the interval of a more flattering protocol does", {"random_image": lax}, poor),
        ("no interval does", {"random_image": Interval(0.86, 0.82, 0.90)}, poor),
    ]
    rows = [
        {
            "if": condition,
            "made up: published": f"{value:g}",
            "flattering": str(flattering["random_image"]),
            "honest": str(honest) if honest else "",
            "judgement": judge(value, flattering, honest).verdict,
        }
        for condition, flattering, honest in cases
    ]
    return pd.DataFrame(rows)


def judge_growth(found: RiseAndFall) -> Judgement:
    """Hold "first rises, then falls" against the test of `mpox.stats.growth.judge`, in AUROC for Mpox.

    - *reproduced*: a network in between is shown to be better than both ends.
    - *not reproduced*: it is shown that none is as good as both ends, and the smallest is better than the largest.
    - *not testable here*: neither is shown; or no peak is in between, but the largest is the best: it may lie beyond.

    Parameters
    ----------
    found : RiseAndFall
        Of networks from the smallest to the largest.
    """
    contrast = Interval(found.over_better_end, found.over_better_end_low, found.over_better_end_high)
    tested = f"Of {len(found.models)} sizes, the best middle one ({found.peak}) minus the better end is {contrast} in AUROC"
    p = f"p = {found.p_rise_and_fall:.2g} for a rise and fall, {found.p_no_rise_and_fall:.2g} against it"
    if found.verdict == SHOWN:
        return Judgement(REPRODUCED, f"{tested}; {p}: it is better than both ends.")
    if found.verdict == CONTRADICTED and found.estimates[0] > found.estimates[-1]:
        return Judgement(NOT_REPRODUCED, f"{tested}; {p}: none is as good as the smallest.")
    why = "none in the middle is a peak, but one may lie beyond the sizes at hand"
    return Judgement(
        NOT_TESTABLE, f"{tested}; {p}: {why if found.verdict == CONTRADICTED else 'neither a peak nor its absence is shown'}."
    )


def size_finding(backbone: str, parameters: int) -> Finding:
    """The claim of 4.14 M parameters: never testable, because the network was chosen for having as many."""
    count = f"{backbone} has {parameters / 1e6:.3f} M"
    agrees = round(parameters / 1e6, 2) == 4.14
    why = "it was chosen because of that, so that agreement shows nothing" if agrees else "it is another network than the paper's"
    return Finding(Judgement(NOT_TESTABLE, f"{count}: {why}."))


def folds_finding(predictions: Mapping[str, pd.DataFrame], honest: str) -> Finding:
    """The claim that folds do not differ: never testable as robustness; the same kind of test on our folds shows why.

    Pearson's chi-square test of right and wrong predictions by fold, in each repeat. It takes images for independent, which
    several images of a patient are not: it is here as an example of a test that does not reject, not as evidence.

    Parameters
    ----------
    predictions : mapping of str to DataFrame
        Protocol to predictions of `mpox.cross_validate`, the honest protocol among them.
    honest : str
    """
    cells, quoted = {}, {}
    for protocol, table in predictions.items():
        scores = table[[column for column in table.columns if column.startswith("p_")]]
        right = scores.idxmax(axis=1).str.removeprefix("p_") == table["label"]
        tests = []
        for _, part in table.assign(right=right).groupby("repeat"):
            p = chi2_contingency(pd.crosstab(part["fold"], part["right"]), correction=False).pvalue
            accuracy = part.groupby("fold")["right"].mean()
            tests.append((p, accuracy.min(), accuracy.max()))
        p, lowest, highest = tests[0]
        cells[protocol] = f"p = {p:.3f}; folds {lowest:.2f} to {highest:.2f}"
        quoted[protocol] = (tests[0], sum(p > 0.05 for p, _, _ in tests), len(tests))
    (p, lowest, highest), above, n_repeats = quoted[honest]
    return Finding(
        Judgement(
            NOT_TESTABLE,
            "Not rejecting is not equivalence, and the abstract names no test. A chi-square test of accuracy over our own folds "
            f"has p > 0.05 in {above} of {n_repeats} honest repeats; in the first p = {p:.3f}, while the folds range "
            f"from {lowest:.2f} to {highest:.2f}.",
        ),
        cells,
    )


def growth_finding(predictions: Mapping[str, pd.DataFrame], honest: str, *, n_bootstrap: int = N_BOOTSTRAP) -> Finding:
    """The claim that performance first rises, then falls, by `judge_growth`; it takes at least three sizes.

    Parameters
    ----------
    predictions : mapping of str to DataFrame
        Network to predictions under the honest protocol, smallest network first.
    honest : str
    n_bootstrap : int
    """
    if len(predictions) < 3:
        why = f"A rise and a fall need at least three sizes of the network; there are {len(predictions)}."
        return Finding(Judgement(NOT_TESTABLE, why))
    found = rise_and_fall(dict(predictions), n_bootstrap=n_bootstrap)
    peak = Interval(found.over_better_end, found.over_better_end_low, found.over_better_end_high)
    return Finding(judge_growth(found), {honest: f"peak {peak}"})


#: To be a yes, the 95 % intervals of sensitivity and specificity must lie at or above this. A convention of ours.
ENOUGH = 0.90
#: The AUROC of a coin.
CHANCE = 0.50
_METRICS = ("sensitivity", "specificity", "auroc")
_MEANING = {
    "no": "In at least one of these tests it cannot be told from the toss of a coin.",
    "yes": f"In every one of these tests it recognised, and cleared, at least {ENOUGH * 100:.0f} of 100, chance included.",
    "partly": "It does better than the toss of a coin in each of these tests, but not in all well enough to be relied on.",
}


def conclude(honest: list[dict[str, Interval]], other: list[dict[str, Interval]]) -> str:
    """Yes, no or partly. The first rule that applies decides.

    1. *no*: in one of the tests, honest or on other data, the interval of the AUROC for Mpox begins at `CHANCE` or below.
    2. *yes*: in all of them the intervals of sensitivity and specificity begin at `ENOUGH` or above, and there is a test on other
       data.
    3. *partly*: everything else.

    The rules are ours.

    Parameters
    ----------
    honest : list of dict of str to Interval
        ``sensitivity``, ``specificity`` and ``auroc`` for Mpox of each data set under its honest protocol.
    other : list of dict of str to Interval
        The same of each test on other data; may be empty.

    Returns
    -------
    str
        ``"yes"``, ``"no"`` or ``"partly"``.

    Examples
    --------
    >>> good, fair = Interval(0.95, 0.92, 0.98), Interval(0.80, 0.70, 0.90)
    >>> test = {"sensitivity": good, "specificity": good, "auroc": good}
    >>> conclude([test], [test]), conclude([test], []), conclude([test], [test | {"auroc": Interval(0.6, 0.5, 0.7)}])
    ('yes', 'partly', 'no')
    """
    tests = honest + other
    if any(test["auroc"].low <= CHANCE for test in tests):
        return "no"
    enough = all(test[name].low >= ENOUGH for test in tests for name in ("sensitivity", "specificity"))
    return "yes" if enough and other else "partly"


def answer_rules() -> pd.DataFrame:
    """The rules of `conclude` in their order, as a table."""
    return pd.DataFrame(
        {
            "if": [
                f"in one of the tests the interval of the AUROC for Mpox begins at {CHANCE:.2f} or below",
                f"in all of them, other data too, the intervals of sensitivity and specificity begin at {ENOUGH:.2f} or above",
                "neither",
            ],
            "the answer is": ["no", "yes", "partly"],
        }
    )


def conclusion(metrics: pd.DataFrame, external: pd.DataFrame | None = None, *, honest: Mapping[str, str]) -> str:
    """The last word of `answer` by itself; see there for the parameters, and `conclude` for the rules."""
    measured, _, other = _tests(metrics, external, honest)
    return conclude(list(measured.values()), list(other.values()))


def answer(
    metrics: pd.DataFrame, external: pd.DataFrame | None = None, *, honest: Mapping[str, str], phantom: bool = False
) -> str:
    """One paragraph, in words a clinician can read; it ends with yes, no or partly (see `conclude`).

    Parameters
    ----------
    metrics, external : DataFrame
        See `mpox.studies.verdict.claim_intervals`; of one regime, and of as many data sets as there are.
    honest : mapping of str to str
        Data set to its honest protocol; ``source`` where it is not named.
    phantom : bool
        Whether the pictures are drawn; the paragraph then begins by saying so.

    Returns
    -------
    str

    Raises
    ------
    MpoxError
        If a data set lacks its honest protocol, or the metrics are of several regimes.
    """
    measured, flattering, other = _tests(metrics, external, honest)
    sentences = []
    if phantom:
        sentences.append(
            "These are drawn pictures, not patients: what follows shows the rules at work and says nothing about Mpox."
        )
    sentences.append(
        "Shown pictures of which it had seen no copy that was found and, as far as patients are known, no other picture of the "
        f"same patient, the program recognised {_figures({f'in {name}': test for name, test in measured.items()})}."
    )
    sentences += _leak(measured, flattering)
    sentences.append(
        f"Shown those pictures of another collection that the two do not share, it recognised {_figures(other)}."
        if other
        else "How it does on another collection was not tested here."
    )
    word = conclude(list(measured.values()), list(other.values()))
    sentences.append(f"Does it really recognize Mpox? {_MEANING[word]} The answer is: **{word}**.")
    return " ".join(sentences)


def _tests(metrics, external, honest) -> tuple[dict, dict, dict]:
    """The honest test of each data set, its flattering ones by protocol, and the tests on other data."""
    if metrics["regime"].nunique() != 1:
        raise MpoxError("An answer is about one regime: choose its rows of the metrics first.")
    measured, flattering = {}, {}
    for name, part in metrics.groupby("dataset", sort=False):
        protocol = honest.get(name, "source")
        found = {key: _test(rows) for key, rows in part.groupby("protocol")}
        if protocol not in found:
            raise MpoxError(f"There is no answer for {name} without its honest protocol '{protocol}': add it to PROTOCOLS.")
        measured[name] = found[protocol]
        flattering[name] = {key: found[key] for key in flattering_protocols(protocol) if key in found}
    return measured, flattering, _other_tests(external, metrics["regime"].iloc[0])


def _test(rows: pd.DataFrame) -> dict[str, Interval]:
    rows = rows[rows["class"] == "Mpox"].set_index("metric")
    return {name: Interval(*rows.loc[name, ["estimate", "low", "high"]].astype(float)) for name in _METRICS}


def _other_tests(external: pd.DataFrame | None, regime: str) -> dict[str, dict[str, Interval]]:
    if external is None or external.empty:
        return {}
    chosen = external[(external["subset"] == "without shared") & (external["regime"] == regime)]
    tests = {
        f"when taught on {train} and shown {test}": _test(rows)
        for (train, test), rows in chosen.groupby(["train", "test"], sort=False)
    }
    return {place: test for place, test in tests.items() if not isnan(test["auroc"].estimate)}


def _leak(measured: dict, flattering: dict) -> list[str]:
    """What the same program seems to do when relatives of the test pictures may be learnt from."""
    ways = {
        "random_image": "If the same pictures are dealt out one by one instead, whoever they show, the two figures are",
        "augment_before_split": "If altered copies of every picture are made first and dealt out as well, they are",
    }
    said, shifts = [], []
    for protocol, words in ways.items():
        tests = {name: found[protocol] for name, found in flattering.items() if protocol in found}
        if tests:
            said.append(f"{words} {', and '.join(f'{_pair(test)} in {name}' for name, test in tests.items())}.")
            shifts += [_mean(test) - _mean(measured[name]) for name, test in tests.items()]
    if said:
        largest = max(shifts, key=abs)
        change = f"up to {abs(largest) * 100:.0f} in 100 {'higher' if largest > 0 else 'lower'}"
        said.append(f"Such ways of testing give figures that are {change}, averaged over both, than the honest ones.")
    return said


def _mean(test: dict[str, Interval]) -> float:
    return (test["sensitivity"].estimate + test["specificity"].estimate) / 2


def _figures(tests: dict[str, dict[str, Interval]]) -> str:
    """The two figures of each test, explained at the first."""
    said: list[str] = []
    for place, test in tests.items():
        (hit, hits), (clear, clears) = (
            (_of_100(test[name].estimate), f"{_of_100(test[name].low)} to {_of_100(test[name].high)}")
            for name in ("sensitivity", "specificity")
        )
        said.append(
            f"{hit} ({hits}) and {clear} ({clears}) {place}"
            if said
            else f"{hit} of 100 pictures of Mpox (95 % interval {hits}) and cleared {clear} of 100 others ({clears}) {place}"
        )
    return ", and ".join(said)


def _pair(test: dict[str, Interval]) -> str:
    hit, clear = _of_100(test["sensitivity"].estimate), _of_100(test["specificity"].estimate)
    return f"{hit} of each" if hit == clear else f"{hit} and {clear}"


def _of_100(share: float) -> str:
    """A share as a count of 100 that never rounds to all or none.

    Examples
    --------
    >>> _of_100(0.746), _of_100(0.9971), _of_100(1.0)
    ('75', 'more than 99', '100')
    """
    if 0 < share < 0.005:
        return "fewer than 1"
    return "more than 99" if 0.995 <= share < 1 else f"{share * 100:.0f}"


_KEY = re.compile(r"([a-z]+)(\d{4})")


def study_name(study: str) -> str:
    """A study as it is cited in a sentence; all that have a key have several authors.

    Examples
    --------
    >>> study_name("zhao2025"), study_name("an audited study")
    ('Zhao et al. (2025)', 'an audited study')
    """
    found = _KEY.fullmatch(study)
    return f"{found[1].capitalize()} et al. ({found[2]})" if found else study


def literature() -> pd.DataFrame:
    """Published figures of performance, those that say how much can be believed of such figures among them.

    Returns
    -------
    DataFrame
        One row a study, protocol and metric: ``study`` (a key of ``book/references.bib``, or a description where the study is
        not named there), ``year`` and ``doi`` (missing where not known), ``data`` (a registered name where there is one; empty
        where the study does not say it to us), ``protocol``, ``leaks`` (``yes``: the figure owes something to pictures or traits
        that the network should not have met; ``no``; ``unknown``), ``metric`` (as in `mpox.evaluate`; ``score`` where we do not
        know which), ``value`` (0 to 1), ``sd`` (its deviation between folds, or NaN) and ``note``.

    Examples
    --------
    >>> table = literature()
    >>> table.loc[(table["study"] == "zhao2025") & (table["metric"] == "auroc"), "value"].item()
    0.998
    """
    text = ["study", "doi", "data", "protocol", "leaks", "metric", "note"]
    path = Path(__file__).with_name("literature.csv")
    return pd.read_csv(path, dtype={"year": "Int64", **dict.fromkeys(text, "string")})


#: Column of the table to (metric, class) of `mpox.evaluate`; the class None is the positive one.
MEASURES = {"accuracy": ("accuracy", "all"), "macro F1": ("f1", "macro"), "AUROC": ("auroc", None)}
_COSTS = {"parameters": "parameters", "median_ms_1": "ms"}
_MODEL = ["backbone", "head", "image_size"]
#: What every row says before its numbers.
ABOUT = ["method", "kind", "data", "regime", "protocol", "leaks"]


def leaderboard(metrics: pd.DataFrame, costs: pd.DataFrame, literature: pd.DataFrame, *, positive: str = "Mpox") -> pd.DataFrame:
    """Our methods and published ones in one table, the best AUROC first.

    Parameters
    ----------
    metrics : DataFrame
        Results of `mpox.evaluate`, one below the other, each with ``method`` (its name in the table), ``dataset``, ``regime``,
        ``protocol``, ``backbone``, ``head`` and ``image_size``.
    costs : DataFrame
        From `mpox.models.costs.measure_costs`; a method whose model is not there has no costs.
    literature : DataFrame
        From `mpox.studies.verdict.literature`. Studies with none of these metrics are left out.
    positive : str

    Returns
    -------
    DataFrame
        ``method``, ``kind`` (``ours`` or ``literature``), ``data``, ``regime``, ``protocol``, ``leaks`` (``yes``, ``no`` or
        ``unknown``; ours by the protocol, ``unknown`` under one that is not in `PROTOCOLS`), for each of `MEASURES`
        the estimate and its 95 % interval (``AUROC``, ``AUROC low``, ``AUROC high``), ``parameters``, ``ms`` (median for a
        picture) and ``note``. What is not known is missing. Sorted by AUROC, then accuracy, downward; rows without one last.

    Raises
    ------
    MpoxError
        If a method has two results on one data set under one protocol.
    """
    board = pd.concat([_ours(metrics, costs, positive), _published(literature)], ignore_index=True)
    columns = [f"{name}{part}" for name in MEASURES for part in ("", " low", " high")]
    board = board.reindex(columns=[*ABOUT, *columns, *_COSTS.values(), "note"])
    return board.sort_values(["AUROC", "accuracy"], ascending=False, kind="stable", ignore_index=True, na_position="last")


def as_text(board: pd.DataFrame, *, digits: int = 3) -> pd.DataFrame:
    """The leaderboard for reading: the name and the figures first, an estimate with its interval in one column, costs rounded.

    Examples
    --------
    >>> from mpox.studies.verdict import literature
    >>> results = ["method", "dataset", "regime", "protocol", *_MODEL, "metric", "class", "estimate", "low", "high"]
    >>> none, costs = pd.DataFrame(columns=results), pd.DataFrame(columns=[*_MODEL, *_COSTS])
    >>> board = leaderboard(none, costs, literature())
    >>> as_text(board).loc[0, ["method", "leaks", "AUROC"]].tolist()
    ['Zhao et al. (2025)', 'unknown', '0.998']
    """
    about = board[ABOUT].astype(object).where(board[ABOUT].notna(), "")
    shown = about[["method"]]
    for name in sorted(MEASURES):
        parts = board[[name, f"{name} low", f"{name} high"]].astype(float).itertuples(index=False, name=None)
        shown[name] = [_with_interval(estimate, low, high, digits) for estimate, low, high in parts]
    shown = shown.join(about[["data", "protocol", "leaks", "regime", "kind"]])
    shown["parameters (thousands)"] = ["" if pd.isna(value) else f"{value / 1e3:.1f}" for value in board["parameters"]]
    shown["ms"] = ["" if pd.isna(value) else f"{value:.3g}" for value in board["ms"]]
    return shown.assign(note=board["note"].fillna(""))


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    if pd.isna(value):
        return ""
    interval = "" if pd.isna(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{interval}"


def _ours(metrics: pd.DataFrame, costs: pd.DataFrame, positive: str) -> pd.DataFrame:
    about = ["method", "dataset", "regime", "protocol", *_MODEL]
    table = metrics[about].drop_duplicates(ignore_index=True)
    if table.duplicated(["method", "dataset", "protocol"]).any():
        twice = table.loc[table.duplicated(["method", "dataset", "protocol"]), "method"].iloc[0]
        raise MpoxError(f"The method '{twice}' has two models on one data set under one protocol: give each its own name.")
    for name, (metric, label) in MEASURES.items():
        part = metrics[(metrics["metric"] == metric) & (metrics["class"] == (label or positive))]
        if part.duplicated(["method", "dataset", "protocol"]).any():
            twice = part.loc[part.duplicated(["method", "dataset", "protocol"]), "method"].iloc[0]
            raise MpoxError(f"The method '{twice}' was evaluated twice on one data set under one protocol: keep one of them.")
        numbers = {"estimate": name, "low": f"{name} low", "high": f"{name} high"}
        table = table.merge(part[[*about, *numbers]].rename(columns=numbers), on=about, how="left", validate="1:1")
    found = costs.drop_duplicates(_MODEL)[[*_MODEL, *_COSTS]].rename(columns=_COSTS)
    table = table.merge(found, on=_MODEL, how="left", validate="m:1").rename(columns={"dataset": "data"})
    return table.assign(kind="ours", leaks=[_leaks(protocol) for protocol in table["protocol"]])


def _leaks(protocol: str) -> str:
    if protocol not in PROTOCOLS:
        return "unknown"
    return "yes" if PROTOCOLS[protocol].leaks else "no"


def _published(literature: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, data, protocol, leaks), part in literature.groupby(
        ["study", "data", "protocol", "leaks"], dropna=False, sort=False
    ):
        values = part.set_index("metric")
        known = {name: values.loc[metric, "value"] for name, (metric, _) in MEASURES.items() if metric in values.index}
        if not known:
            continue
        metrics = [MEASURES[name][0] for name in known]
        notes = list(dict.fromkeys(values.loc[metrics, "note"].dropna()))
        notes += [
            f"{name} ± {values.loc[MEASURES[name][0], 'sd']:.3f}" for name in known if values.loc[MEASURES[name][0], "sd"] > 0
        ]
        about = {"method": study_name(study), "kind": "literature", "data": data, "protocol": protocol, "leaks": leaks}
        rows.append({**about, **known, "note": "; ".join(notes)})
    return pd.DataFrame(rows)
