"""The paper's claims, one by one, held against what was measured here; every judgement follows from a stated rule.

The claims are those of the abstract of Zhao, Lyu and Zhang (2025), Frontiers in Microbiology 16, doi 10.3389/fmicb.2025.1627311.
Data set, division into folds and training of the paper are not known to us: a judgement says what our data give, not what the
authors did. Claims that are not a single metric are judged in `mpox.findings`; `mpox.answer` puts the measurements into words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan

import pandas as pd

from mpox.errors import MpoxError
from mpox.metrics import MACRO

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
        The columns of `mpox.combine.external_metrics` with ``train``, ``test`` and ``regime``. Of a data set and regime, the test
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
