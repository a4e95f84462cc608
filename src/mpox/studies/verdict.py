"""The paper's claims held against our figures, by rules stated beforehand; published figures; the table of all methods."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import chi2_contingency

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.copies import augmented
from mpox.protocols.splits import PROTOCOLS
from mpox.runs.cross_validation import cross_validate
from mpox.runs.recorded import Store
from mpox.stats.growth import CONTRADICTED, SHOWN, rise_and_fall
from mpox.stats.metrics import OF_CLASS, class_names, evaluate, probabilities_of
from mpox.studies.ablation import by_size
from mpox.studies.external import external_metrics, tested_on
from mpox.studies.intervals import FIXED, N_DRAWS, headline

#: The words of `judge`, one for each kind of outcome.
REPRODUCED = "reproduced"
EXCEEDED = "exceeded"
NOT_REPRODUCED = "not reproduced"
LEAKING = f"{NOT_REPRODUCED}; contained under a leaking protocol"
PASSED = f"{NOT_REPRODUCED}; exceeded under a leaking protocol"
NOT_TESTABLE = "not testable here"
JUDGEMENTS = (REPRODUCED, EXCEEDED, LEAKING, PASSED, NOT_REPRODUCED, NOT_TESTABLE)
#: Margins at which the claims are counted beside their own.
OTHER_MARGINS = (0.02, 0.05, 0.10, 0.15)
#: From the most flattering protocol to the strictest: what comes before the honest one trains on relatives of test images.
STRICTNESS = ("augment_before_split", "random_image", "patient", "source")
OTHER = "other data"
#: The same for readers.
IN_WORDS = {
    "augment_before_split": "copies made first", "random_image": "image by image", "patient": "patients kept apart",
    "source": "patients and copies kept apart", OTHER: OTHER,
}  # fmt: skip
_NUMBERS = ["estimate", "low", "high"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; as text ``0.785 (0.715 to 0.847)``."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper; ``claims.yml`` says what the fields are."""

    key: str
    subject: str
    says: str
    published: float | None = None
    metric: str = ""  #: empty where the claim is not a measure of performance
    label: str = ""
    margin: float = 0.0
    margin_from: str = ""
    criterion: str = ""  #: what would count, where that is not an interval
    untestable: str = ""  #: why it cannot be judged here without a `Judgement` of its own

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit that the paper prints, as a share."""
        printed = re.match(r"\d+\.?(\d*)( %)?", self.says)
        return 0.5 * 10.0 ** -(len(printed[1]) + 2 * bool(printed[2])) if printed else nan


@dataclass(frozen=True)
class Paper:
    """What the paper says: ``about`` (data set, split, training) as far as it is known, and its claims by key."""

    study: str
    year: int
    doi: str
    about: Mapping[str, str]
    claims: Mapping[str, Claim]

    @property
    def figures(self) -> dict[str, Claim]:
        """The claims that are measures of performance."""
        return {key: claim for key, claim in self.claims.items() if claim.metric}


def read_paper(path: str | Path | None = None) -> Paper:
    """The claims in a file like ``claims.yml`` of this package, which is read if none is named."""
    path = Path(path) if path else Path(__file__).with_name("claims.yml")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        claims = {key: Claim(key, **fields) for key, fields in found["claims"].items()}
        for claim in claims.values():
            known = claim.metric in (*OF_CLASS, "f1_of_means", "accuracy") and claim.label and claim.margin_from
            if claim.metric and not (known and 0 < (claim.published or 0) <= 1 and 0 < claim.margin < 1 and claim.rounding > 0):
                raise ValueError(
                    f"{claim.key}: a metric needs a label, a published value, also as it is printed, and a margin from 0 to 1, "
                    "and margin_from"
                )
            if not claim.metric and not (claim.criterion and claim.untestable):
                raise ValueError(f"{claim.key}: without a known metric it needs a criterion, and untestable")
        if missing := {"size", "f1", "roc_auc_mpox"} - set(claims):
            raise ValueError(f"chapters read the claims {', '.join(sorted(missing))}")
        about = {key: str(found["about"][key]) for key in ("data set", "split", "training")}
        return Paper(found["study"], found["year"], found["doi"], about, claims)
    except (OSError, yaml.YAMLError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise MpoxError(f"{path} does not say what the paper claims ({' '.join(str(error).split())}): correct it.") from error


@dataclass(frozen=True)
class Judgement:
    """What a rule says of a claim, the sentence that says why, and what to show under each protocol (column to text)."""

    verdict: str
    sentence: str
    cells: Mapping[str, str] = field(default_factory=dict)


_MISSING, _WIDE, _CONTAINS, _ABOVE, _BELOW = "missing", "contained, too widely to count,", "contained", "exceeded", "not reached"
_OVERLAPS = "contained, overlapping the honest interval,"


def _position(interval: Interval | None, published: float, margin: float, rounding: float) -> str:
    """Where an interval lies; the one place where a margin counts, the same for every protocol and on both sides."""
    if interval is None or isnan(interval.low) or isnan(interval.high):
        return _MISSING
    if interval.low > published + rounding:
        return _ABOVE
    if interval.high < published - rounding:
        return _BELOW
    return _CONTAINS if published - margin <= interval.low and interval.high <= published + margin else _WIDE


def judge(
    published: float, margin: float, flattering: Mapping[str, Interval], honest: Interval | None, *, rounding: float = 0.0
) -> Judgement:
    """Hold a published value, which may be off by ``rounding``, against our intervals. The first rule that applies decides.

    An interval counts as *containing* the value where it ends within ``margin`` of it on both sides; one that contains it and
    reaches farther is too wide, and counts for nothing, whatever the protocol. The honest interval is judged first; what laxer
    protocols do is said beside *not reproduced*, of those whose intervals lie wholly above the honest one.
    """
    where = _position(honest, published, margin, rounding)
    if honest is None or where == _MISSING:
        return Judgement(NOT_TESTABLE, "There is no interval under the honest protocol.")
    ends = f"{honest.low:.3f} to {honest.high:.3f}"
    if where == _WIDE:
        return Judgement(
            NOT_TESTABLE,
            f"The honest interval, {ends}, contains {published:g} and reaches more than {margin:g} from it: too wide.",
        )
    if where == _CONTAINS:
        return Judgement(REPRODUCED, f"The honest interval, {ends}, contains {published:g} and ends within {margin:g} of it.")
    if where == _ABOVE:
        return Judgement(EXCEEDED, f"The honest interval, {ends}, lies above {published:g}.")
    found: dict[str, list[str]] = {}
    for name, interval in flattering.items():
        place = _position(interval, published, margin, rounding)
        found.setdefault(_OVERLAPS if place == _CONTAINS and interval.low <= honest.high else place, []).append(name)
    found.pop(_MISSING, None)
    others = [f"{position} under {' and '.join(names)}" for position, names in found.items()] or ["no other protocol was run"]
    sentence = f"The honest interval ends at {honest.high:.3f}, below {published:g}; {'; '.join(others)}."
    verdict = LEAKING if _CONTAINS in found else PASSED if _ABOVE in found else NOT_REPRODUCED
    return Judgement(verdict, sentence)


def _with_outside(metrics: pd.DataFrame, external: pd.DataFrame | None) -> pd.DataFrame:
    """The metrics, with ``tested`` (the protocol, or the other collection); below them what counts of external tests."""
    tables = [metrics.assign(tested=metrics["protocol"])]
    if external is not None and len(external):
        outside = external[external["subset"] == "without shared"].rename(columns={"train": "dataset", "test": "tested"})
        tables.append(outside.assign(protocol=OTHER))
    return pd.concat(tables, ignore_index=True)


def claim_intervals(metrics: pd.DataFrame, external: pd.DataFrame | None = None, *, paper: Paper | None = None) -> pd.DataFrame:
    """The intervals that are held against the published values.

    ``metrics`` are rows of `mpox.evaluate` with ``dataset``, ``protocol`` and ``regime``, ``external`` rows of `external_metrics`
    with ``train``, ``test`` and ``regime``, of which shared images do not count; ``paper`` is of `read_paper`. ``claim`` (key),
    ``dataset``, ``regime``, ``protocol`` (``other data`` for an external test), ``estimate``, ``low``, ``high``, ``published``.
    """
    claims = pd.DataFrame((paper or read_paper()).figures.values()).rename(columns={"key": "claim", "label": "class"})
    found = claims.merge(_with_outside(metrics, external), on=["metric", "class"])
    return found[["claim", "dataset", "regime", "protocol", *_NUMBERS, "published"]]


def in_words(protocols: pd.Series) -> pd.Categorical:
    """The tests of `claim_intervals` in words, in their order from the most flattering to the strictest."""
    return pd.Categorical(protocols.map(IN_WORDS), list(IN_WORDS.values()))


def flattering_protocols(honest: str) -> tuple[str, ...]:
    """The protocols that are laxer than the honest one."""
    if honest not in STRICTNESS:
        raise MpoxError(f"'{honest}' cannot be the honest protocol: choose one of {', '.join(STRICTNESS)}.")
    return STRICTNESS[: STRICTNESS.index(honest)]


def verdict_table(
    metrics: pd.DataFrame,
    external: pd.DataFrame | None = None,
    *,
    honest: str = "source",
    findings: Mapping[str, Judgement] | None = None,
    margin: float | None = None,
    paper: Paper | None = None,
) -> pd.DataFrame:
    """Every claim with what was measured and the judgement that follows from `judge`.

    ``metrics``, ``external`` and ``paper`` as in `claim_intervals`, of one data set and one regime; the interval of the protocol
    ``honest`` decides, and ``findings`` (claim key to judgement) where a claim is not a single metric. ``margin`` takes the place
    of the claims' own. One row a claim: ``claim``, ``paper``, a column of text for each protocol and for ``other data``,
    ``judgement``, ``why``.
    """
    flattering = flattering_protocols(honest)
    if len(metrics[["dataset", "regime"]].drop_duplicates()) != 1:
        raise MpoxError("A table of verdicts is for one data set and one regime: choose their rows of the metrics first.")
    dataset, regime = metrics[["dataset", "regime"]].iloc[0]
    paper = paper or read_paper()
    table = claim_intervals(metrics, external, paper=paper).dropna(subset="estimate")
    table = table[(table["dataset"] == dataset) & (table["regime"] == regime)]
    rows = []
    for claim in paper.claims.values():
        if claim.published is None or not claim.metric:
            judged = (findings or {}).get(claim.key, Judgement(NOT_TESTABLE, claim.untestable))
            cells = judged.cells
        else:
            part = table[table["claim"] == claim.key]
            found = {name: Interval(*row) for name, *row in part[["protocol", *_NUMBERS]].itertuples(index=False)}
            cells = {name: str(interval) for name, interval in found.items()}
            laxer = {name: found[name] for name in flattering if name in found}
            own = claim.margin if margin is None else margin
            judged = judge(claim.published, own, laxer, found.get(honest), rounding=claim.rounding)
            if judged.verdict == REPRODUCED and OTHER in found and found[OTHER].high < claim.published - claim.rounding:
                judged = Judgement(REPRODUCED, f"{judged.sentence} On other data it ends at {found[OTHER].high:.3f}.")
        shown = {name: cells.get(name, "") for name in (*STRICTNESS, OTHER)}
        rows.append({"claim": claim.subject, "paper": claim.says, **shown, "judgement": judged.verdict, "why": judged.sentence})
    return pd.DataFrame(rows)


def criteria(paper: Paper | None = None) -> pd.DataFrame:
    """For each claim, what would count as reproducing it, its margin, and where the margin comes from."""
    rows = []
    for claim in (paper or read_paper()).claims.values():
        criterion, margin = claim.criterion, ""
        if claim.published is not None and claim.metric:
            lowest, highest = claim.published - claim.margin, min(1.0, claim.published + claim.margin)
            criterion = f"The honest interval contains {claim.published:g} and lies within {lowest:.3f} to {highest:.3f}."
            margin = f"{claim.margin:g}"
        rows.append((claim.subject, claim.says, criterion, margin, claim.margin_from))
    return pd.DataFrame(rows, columns=["claim", "paper", "reproduced if", "margin", "where the margin comes from"])


def at_margins(metrics: pd.DataFrame, *, honest: str = "source", paper: Paper | None = None) -> pd.DataFrame:
    """How many published figures get which judgement, at their own margins and at others; parameters as of `verdict_table`."""
    paper = paper or read_paper()
    figures = replace(paper, claims=paper.figures)
    judged = {margin: verdict_table(metrics, honest=honest, margin=margin, paper=figures) for margin in (None, *OTHER_MARGINS)}
    counts = {f"{margin:.2f}" if margin else "own": table["judgement"].value_counts() for margin, table in judged.items()}
    table = pd.DataFrame(counts).reindex(JUDGEMENTS).fillna(0).astype(int).T
    return table.rename_axis(index="margin", columns=None).reset_index()


def rules() -> pd.DataFrame:
    """The rules of `judge` in their order, each with its reason, made-up intervals and what the rule made of them."""
    value, margin, poor = 0.95, 0.10, Interval(0.80, 0.74, 0.86)
    above, good, wide = Interval(0.98, 0.96, 0.99), Interval(0.94, 0.91, 0.97), Interval(0.90, 0.80, 0.96)
    cases = [
        ("there is no honest interval", "Without it the claim was not tested.", above, None),
        ("the honest interval contains the value, too widely", "Few groups must not be a pass, nor a failure.", good, wide),
        ("the honest interval contains the value", "Chance can explain the distance.", above, good),
        ("the honest interval lies above the value", "More than the claim was found; that is not the same figure.", good, above),
        ("it lies below, and a laxer one, wholly above it, contains the value", "That way of testing can give it.", good, poor),
        ("it lies below, and a laxer one lies above the value", "That way of testing can give more than it.", above, poor),
        ("it lies below", "No way of testing here is shown to give the value.", wide, poor),
    ]
    rows = [
        (
            condition,
            why,
            f"{value:g} ± {margin:.2f}",
            str(lax),
            str(honest or ""),
            judge(value, margin, {"random_image": lax}, honest).verdict,
        )
        for condition, why, lax, honest in cases
    ]
    return pd.DataFrame(rows, columns=["if", "because", "made up: published and margin", "flattering", "honest", "judgement"])


def size_finding(backbone: str, parameters: int, paper: Paper | None = None) -> Judgement:
    """The claim of the network's size: never testable, because the network was chosen for having as many parameters."""
    agrees = round(parameters / 1e6, 2) == (paper or read_paper()).claims["size"].published
    why = "it was chosen because of that, so that agreement shows nothing" if agrees else "it is another network than the paper's"
    return Judgement(NOT_TESTABLE, f"{backbone} has {parameters / 1e6:.3f} M: {why}.")


def folds_finding(predictions: Mapping[str, pd.DataFrame], honest: str) -> Judgement:
    """The claim that folds do not differ: never testable as robustness; the same kind of test on our folds shows why.

    Pearson's chi-square test of right and wrong predictions by fold, in each repeat. It takes images for independent, which
    several images of a patient are not: an example of a test that does not reject, not evidence. ``predictions`` are by protocol,
    the honest one among them.
    """
    tests: dict = {}
    for protocol, table in predictions.items():
        said = np.array(class_names(table))[probabilities_of(table).argmax(axis=1)]
        tests[protocol] = []
        for _, part in table.assign(right=said == table["label"]).groupby("repeat"):
            p = chi2_contingency(pd.crosstab(part["fold"], part["right"]), correction=False).pvalue
            accuracy = part.groupby("fold")["right"].mean()
            tests[protocol].append((p, accuracy.min(), accuracy.max()))
    first = {protocol: found[0] for protocol, found in tests.items()}
    cells = {protocol: f"p = {p:.3f}; folds {lowest:.2f} to {highest:.2f}" for protocol, (p, lowest, highest) in first.items()}
    above = sum(p > 0.05 for p, _, _ in tests[honest])
    p, lowest, highest = first[honest]
    sentence = (
        "Not rejecting is not equivalence, and the abstract names no test. A chi-square test of accuracy over our own folds "
        f"has p > 0.05 in {above} of {len(tests[honest])} honest repeats; in the first p = {p:.3f}, while the folds range "
        f"from {lowest:.2f} to {highest:.2f}."
    )
    return Judgement(NOT_TESTABLE, sentence, cells)


def growth_finding(predictions: Mapping[str, pd.DataFrame], honest: str, **resampling) -> Judgement:
    """The claim that performance first rises, then falls, by the test of `mpox.stats.growth.judge`, in AUROC for Mpox.

    ``predictions`` are those of at least three networks under the honest protocol, smallest network first.
    """
    if len(predictions) < 3:
        why = f"A rise and a fall need at least three sizes of the network; there are {len(predictions)}."
        return Judgement(NOT_TESTABLE, why)
    found = rise_and_fall(dict(predictions), **resampling)
    contrast = Interval(found.over_better_end, found.over_better_end_low, found.over_better_end_high)
    if found.verdict == SHOWN:
        verdict, why = REPRODUCED, "it is better than both ends"
    elif found.verdict == CONTRADICTED and found.estimates[0] > found.estimates[-1]:
        verdict, why = NOT_REPRODUCED, "none is as good as the smallest"
    elif found.verdict == CONTRADICTED:
        verdict, why = NOT_TESTABLE, "none in the middle is a peak, but one may lie beyond these sizes"
    else:
        verdict, why = NOT_TESTABLE, "neither a peak nor its absence is shown"
    sentence = (
        f"Of {len(found.models)} sizes, the best middle one ({found.peak}) minus the better end is {contrast} in AUROC; "
        f"p = {found.p_rise_and_fall:.2g} for a rise and fall, {found.p_no_rise_and_fall:.2g} against it: {why}."
    )
    return Judgement(verdict, sentence, {honest: f"peak {contrast}"})


@dataclass(frozen=True)
class Measured:
    """What is judged: rows of `claim_intervals`' ``metrics`` and ``external``, and predictions by (data set, protocol)."""

    metrics: pd.DataFrame
    external: pd.DataFrame | None
    predictions: dict[tuple[str, str], pd.DataFrame]


def measure(
    store: Store,
    datasets: Sequence[Dataset],
    model: ModelConfig,
    protocols: Mapping[str, Sequence[str]],
    *,
    n_folds: int,
    n_repeats: int,
    views: int = 0,
    draws: int = N_DRAWS,
    pairs: Sequence[Sequence[str]] = (),
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> Measured:
    """One model under the ``protocols`` of each data set, with copies made first (``views``), and on other data (``pairs``).

    The intervals are those of `mpox.studies.intervals.headline` with so many ``draws``.
    """
    predictions, rows, outside = {}, [], []
    for data in datasets:
        for protocol in protocols.get(data.name, ("random_image", "source")):
            folds = {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
            predictions[data.name, protocol] = table = cross_validate(store, data, protocol, model, **folds)
            found = headline(store, data, protocol, model, table, n_draws=draws)
            rows.append(found.assign(dataset=data.name, protocol=protocol, regime=model.regime))
        if views:
            protocol = "augment_before_split"
            table = cross_validate(store, augmented(data, views, seed), protocol, model, n_folds=n_folds, seed=seed)
            about = {"dataset": data.name, "protocol": protocol, "regime": model.regime, "interval": FIXED}
            rows.append(evaluate(table, positive=data.positive).assign(**about))
    study = [data.name for data in datasets]
    for train, test in pairs:
        table = tested_on(store, train, test, model, study=study, data_dir=data_dir, seed=seed)
        outside.append(external_metrics(table).assign(train=train, test=test, regime=model.regime))
    return Measured(pd.concat(rows, ignore_index=True), pd.concat(outside, ignore_index=True) if outside else None, predictions)


def other_findings(
    store: Store,
    data: Dataset,
    model: ModelConfig,
    backbones: Sequence[str],
    predictions: Mapping[str, pd.DataFrame],
    honest: str,
    *,
    n_repeats: int = 1,
    **folds: int,
) -> dict[str, Judgement]:
    """Judgements of the claims that are no single metric: size, folds, and growth over ``backbones`` whose weights are there.

    ``predictions`` are the model's by protocol, ``n_repeats`` and ``folds`` those of the growth (`mpox.cross_validate`).
    """
    from mpox.models.backbones import describe_model  # imports torch, which the rules do not need

    grown = by_size(store, data, honest, model, backbones, model.image_size, n_repeats=n_repeats, **folds)
    parameters = describe_model(model.backbone, "linear", len(data.classes)).parameters
    return {
        "size": size_finding(model.backbone, parameters),
        "folds": folds_finding(predictions, honest),
        "growth": growth_finding(grown, honest),
    }


#: What the rules of `conclusion` can find.
NO_BETTER = "not shown to be better than chance"
WELL_ENOUGH = "well enough"
AT_HOME = "well enough at home, not tested on other data"
BETTER = "better than chance, not shown to be well enough"
#: To be well enough, the 95 % intervals of sensitivity and specificity must lie at or above this. A convention of ours.
ENOUGH = 0.90
#: The AUROC of a coin.
CHANCE = 0.50


def mpox_tests(metrics: pd.DataFrame, external: pd.DataFrame | None = None, *, honest: Mapping[str, str]) -> pd.DataFrame:
    """Sensitivity, specificity and AUROC for Mpox in every test that the answer may speak of.

    ``metrics`` and ``external`` as in `claim_intervals`, of one regime, and of as many data sets as there are; ``honest`` is data
    set to honest protocol (else ``source``). ``kind`` (``flattering``, ``honest`` or ``other data``), ``dataset`` (learnt from),
    ``tested`` (the protocol, or the other collection), ``metric``, ``estimate``, ``low``, ``high``.
    """
    if metrics["regime"].nunique() != 1:
        raise MpoxError("An answer is about one regime: choose its rows of the metrics first.")
    kinds: dict = {}
    for name, part in metrics.groupby("dataset", sort=False):
        protocol = honest.get(name, "source")
        if protocol not in set(part["protocol"]):
            raise MpoxError(f"There is no answer for {name} without its honest protocol '{protocol}': add it to PROTOCOLS.")
        kinds |= {(name, laxer): "flattering" for laxer in flattering_protocols(protocol)} | {(name, protocol): "honest"}
    table = _with_outside(metrics, external)
    outside = table["protocol"] == OTHER
    kind = pd.Series([kinds.get(key) for key in zip(table["dataset"], table["protocol"], strict=True)]).mask(outside, OTHER)
    counts = kind.notna() & (table["regime"] == metrics["regime"].iloc[0])
    counts &= (table["class"] == "Mpox") & table["metric"].isin(["sensitivity", "specificity", "auroc"])
    table = table.assign(kind=kind)[counts]
    return table[["kind", "dataset", "tested", "metric", *_NUMBERS]].reset_index(drop=True)


def answer_rules() -> pd.DataFrame:
    """The rules of `conclusion` in their order, as a table."""
    rows = [
        (f"in one of the tests the interval of the AUROC for Mpox begins at {CHANCE:.2f} or below, or is missing", NO_BETTER),
        (f"in one of them the interval of sensitivity or specificity begins below {ENOUGH:.2f}, or is missing", BETTER),
        ("none of them is on other data", AT_HOME),
        ("otherwise", WELL_ENOUGH),
    ]
    return pd.DataFrame(rows, columns=["if", "what was found"])


def conclusion(metrics: pd.DataFrame, external: pd.DataFrame | None = None, *, honest: Mapping[str, str]) -> str:
    """`NO_BETTER`, `BETTER`, `AT_HOME` or `WELL_ENOUGH`, from `mpox_tests`; parameters as there. The first rule that applies
    decides; flattering tests do not count. The rules are ours."""
    counted = mpox_tests(metrics, external, honest=honest).query("kind != 'flattering'")
    lows = counted.pivot(index=["kind", "dataset", "tested"], columns="metric", values="low")
    lows = lows.reindex(columns=["auroc", "sensitivity", "specificity"])
    if lows.empty or not (lows["auroc"] > CHANCE).all():
        return NO_BETTER
    if not (lows[["sensitivity", "specificity"]] >= ENOUGH).all(axis=None):
        return BETTER
    return WELL_ENOUGH if (counted["kind"] == OTHER).any() else AT_HOME


def study_name(study: str) -> str:
    """A study as it is cited in a sentence, ``Zhao et al. (2025)`` for ``zhao2025``; all that have a key have several authors."""
    found = re.fullmatch(r"([a-z]+)(\d{4})", study)
    return f"{found[1].capitalize()} et al. ({found[2]})" if found else study


def literature() -> pd.DataFrame:
    """Published figures of performance, those that say how much can be believed of such figures among them.

    One row a study, protocol and metric: ``study`` (a key of ``book/references.bib``, or a description where the study is not
    named there), ``year`` and ``doi`` (missing where not known), ``data`` (a registered name where there is one; empty where the
    study does not say it to us), ``protocol``, ``leaks`` (``yes``: the figure owes something to images or traits that the network
    should not have met; ``no``; ``unknown``), ``metric`` (as in `mpox.evaluate`; ``score`` where we do not know which), ``value``
    (0 to 1), ``sd`` (its deviation between folds, or NaN) and ``note``. Those of the paper come from `read_paper`.
    """
    text = ["study", "doi", "data", "protocol", "leaks", "metric", "note"]
    types = {"year": "Int64", **dict.fromkeys(text, "string")}
    table, paper = pd.read_csv(Path(__file__).with_name("literature.csv"), dtype=types), read_paper()
    data = None if paper.about["data set"].startswith("not known") else paper.about["data set"]
    about = (paper.study, paper.year, paper.doi, data, paper.about["split"], "unknown")
    values = {claim.metric: (claim.published, None, claim.subject) for claim in paper.figures.values()}
    rows = [(*about, metric, *rest) for metric, rest in values.items()]
    return pd.concat([pd.DataFrame(rows, columns=table.columns).astype(table.dtypes), table], ignore_index=True)


#: Column of the leaderboard to (metric, class) of `mpox.evaluate`.
MEASURES = {"accuracy": ("accuracy", "all"), "macro F1": ("f1", "macro"), "AUROC": ("auroc", "Mpox")}
_COSTS = {"parameters": "parameters", "median_ms_1": "ms"}
_MODEL = ["backbone", "head", "image_size"]
#: What every row says before its numbers.
ABOUT = ["method", "kind", "data", "regime", "protocol", "leaks"]


def leaderboard(metrics: pd.DataFrame, costs: pd.DataFrame, literature: pd.DataFrame) -> pd.DataFrame:
    """Our methods and published ones in one table, the best AUROC first.

    ``metrics`` are results of `mpox.evaluate`, one below the other, each with ``method`` (its name in the table), ``dataset``,
    ``regime``, ``protocol``, ``backbone``, ``head`` and ``image_size``; ``costs`` are from `mpox.models.costs.measure_costs` (a
    method whose model is not there has none). Of `literature`, studies with none of the metrics are left out.

    Returns
    -------
    DataFrame
        `ABOUT` (``kind`` is ``ours`` or ``literature``; ``leaks`` is ``unknown`` under a protocol that is not in `PROTOCOLS`),
        for each of `MEASURES` the estimate and its 95 % interval (``AUROC``, ``AUROC low``, ``AUROC high``), ``parameters``,
        ``ms`` (median for an image) and ``note``. What is not known is missing. Sorted by AUROC, then accuracy, downward.
    """
    board = pd.concat([_ours(metrics, costs), _published(literature)], ignore_index=True)
    columns = [f"{name}{part}" for name in MEASURES for part in ("", " low", " high")]
    board = board.reindex(columns=[*ABOUT, *columns, *_COSTS.values(), "note"])
    return board.sort_values(["AUROC", "accuracy"], ascending=False, kind="stable", ignore_index=True, na_position="last")


def as_text(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard for reading: the name and the figures first, an estimate with its interval in one column, costs rounded."""

    def with_interval(value: float, low: float, high: float) -> str:
        if pd.isna(value):
            return ""
        return f"{value:.3f}" if pd.isna(low) else str(Interval(value, low, high))

    about = board[ABOUT].astype(object).where(board[ABOUT].notna(), "")
    shown = about[["method"]]
    for name in sorted(MEASURES):
        parts = board[[name, f"{name} low", f"{name} high"]].astype(float)
        shown[name] = [with_interval(*row) for row in parts.itertuples(index=False, name=None)]
    shown = shown.join(about[["data", "protocol", "leaks", "regime", "kind"]])
    shown["parameters (thousands)"] = ["" if pd.isna(value) else f"{value / 1e3:.1f}" for value in board["parameters"]]
    shown["ms"] = ["" if pd.isna(value) else f"{value:.3g}" for value in board["ms"]]
    return shown.assign(note=board["note"].fillna(""))


def _ours(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    about, name_of = ["method", "dataset", "regime", "protocol", *_MODEL], ["method", "dataset", "protocol"]
    table = metrics[about].drop_duplicates(ignore_index=True)
    for name, (metric, label) in MEASURES.items():
        part = metrics[(metrics["metric"] == metric) & (metrics["class"] == label)]
        for rows, what in ((table, "has two models"), (part, "was evaluated twice")):
            twice = rows.loc[rows.duplicated(name_of), "method"]
            if len(twice):
                where = "on one data set under one protocol: give each its own name."
                raise MpoxError(f"The method '{twice.iloc[0]}' {what} {where}")
        numbers = {"estimate": name, "low": f"{name} low", "high": f"{name} high"}
        table = table.merge(part[[*about, *numbers]].rename(columns=numbers), on=about, how="left", validate="1:1")
    found = costs.drop_duplicates(_MODEL)[[*_MODEL, *_COSTS]].rename(columns=_COSTS)
    table = table.merge(found, on=_MODEL, how="left", validate="m:1").rename(columns={"dataset": "data"})
    leaks = {name: "yes" if protocol.leaks else "no" for name, protocol in PROTOCOLS.items()}
    return table.assign(kind="ours", leaks=[leaks.get(protocol, "unknown") for protocol in table["protocol"]])


def _published(literature: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, *where), part in literature.groupby(["study", "data", "protocol", "leaks"], dropna=False, sort=False):
        part = part.set_index("metric")
        values = {name: part.loc[metric] for name, (metric, _) in MEASURES.items() if metric in part.index}
        if not values:
            continue
        notes = list(dict.fromkeys(row["note"] for row in values.values() if pd.notna(row["note"])))
        notes += [f"{name} ± {row['sd']:.3f}" for name, row in values.items() if row["sd"] > 0]
        known = {name: row["value"] for name, row in values.items()}
        named = dict(zip(("data", "protocol", "leaks"), where, strict=True))
        rows.append({"method": study_name(study), "kind": "literature", **named, **known, "note": "; ".join(notes)})
    return pd.DataFrame(rows)
