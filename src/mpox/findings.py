"""Claims of the paper that are not a single metric: the size of the network, the folds, and its growth."""

from collections.abc import Mapping

import pandas as pd
from scipy.stats import chi2_contingency

from mpox.metrics import N_BOOTSTRAP
from mpox.pareto import CONTRADICTED, SHOWN, RiseAndFall, rise_and_fall
from mpox.verdict import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Finding, Interval, Judgement


def judge_growth(found: RiseAndFall) -> Judgement:
    """Hold "first rises, then falls" against the test of `mpox.pareto.judge`, in AUROC for Mpox.

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
