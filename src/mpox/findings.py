"""Claims of the paper that are not a single metric: the size of the network, the folds, and its growth."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from mpox.metrics import N_BOOTSTRAP, replicates
from mpox.verdict import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Finding, Interval, Judgement


def judge_growth(rise: Interval, peak: Interval, n_sizes: int) -> Judgement:
    """Hold "first rises, then falls" against two contrasts in AUROC for Mpox. The first rule that applies decides.

    1. *not testable here*: there are fewer than three sizes.
    2. *reproduced*: the interval of the peak lies above zero.
    3. *not reproduced*: the interval of the rise lies below zero, no larger network is as good as the smallest.
    4. *not testable here*: everything else; the peak may be too low to be seen, or lie beyond the sizes at hand.

    Parameters
    ----------
    rise : Interval
        The best larger network minus the smallest.
    peak : Interval
        The best network of middle size minus the better one of both ends.
    n_sizes : int
    """
    if n_sizes < 3:
        return Judgement(NOT_TESTABLE, f"A rise and a fall need at least three sizes of the network; there are {n_sizes}.")
    if peak.low > 0:
        return Judgement(
            REPRODUCED, f"Of {n_sizes} sizes, the best middle one minus the better end is {peak} in AUROC, above zero."
        )
    if rise.high < 0:
        return Judgement(
            NOT_REPRODUCED, f"Of {n_sizes} sizes, the best larger one minus the smallest is {rise} in AUROC, below zero."
        )
    beyond = "none in the middle is a peak, but one may lie beyond the sizes at hand"
    open_end = beyond if peak.high < 0 else "neither a peak nor its absence is shown"
    return Judgement(
        NOT_TESTABLE,
        f"Of {n_sizes} sizes, the best middle one minus the better end is {peak} in AUROC, the best larger one minus "
        f"the smallest {rise}: {open_end}.",
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
    """The claim that performance first rises, then falls, by `judge_growth`.

    Parameters
    ----------
    predictions : mapping of str to DataFrame
        Network to predictions under the honest protocol, smallest network first.
    honest : str
    n_bootstrap : int
    """
    if len(predictions) < 3:
        nothing = Interval(np.nan, np.nan, np.nan)
        return Finding(judge_growth(nothing, nothing, len(predictions)))
    rise, peak = _rise_and_peak(list(predictions.values()), n_bootstrap)
    return Finding(judge_growth(rise, peak, len(predictions)), {honest: f"peak {peak}"})


def _rise_and_peak(tables: list[pd.DataFrame], n_bootstrap: int) -> tuple[Interval, Interval]:
    """Both contrasts of `judge_growth`, from replicates that are paired; Bonferroni's correction for where the peak may be."""
    areas = np.stack([replicates(table, n_bootstrap=n_bootstrap)["auroc", "Mpox"] for table in tables])
    rise = areas[1:].max(axis=0) - areas[0]
    middle = areas[1:-1]
    peak = middle[middle[:, 0].argmax()] - np.maximum(areas[0], areas[-1])
    return _interval(rise, 2.5), _interval(peak, 2.5 / len(middle))


def _interval(values: np.ndarray, tail: float) -> Interval:
    return Interval(float(values[0]), *map(float, np.nanpercentile(values[1:], [tail, 100 - tail])))
