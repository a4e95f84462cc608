"""What the chapter on use found, in words and as the figures that other pages quote."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.book.report import with_interval
from mpox.stats.conformal import CERTAIN, UNSURE
from mpox.stats.decisions import Aim
from mpox.stats.resample import with_percentiles
from mpox.studies.unfamiliar import ELSEWHERE, OWN

#: Kinds of `mpox.data.phantom.oddities` that any model of skin should be warned of; drawn skin is none of them.
_NO_SKIN = ("document", "plain wall", "landscape", "noise", "cat", "thing", "other medical picture")


@dataclass(frozen=True)
class Found:
    """Sentences by what they are about, and texts by key."""

    points: dict[str, str]
    quoted: dict[str, str]


def what_was_found(
    *,
    measures: pd.DataFrame,
    replicates: Mapping[Aim, Mapping[str, np.ndarray]],
    coverage: pd.DataFrame,
    strange: pd.DataFrame,
    outside: pd.DataFrame | None = None,
) -> Found:
    """The findings of one data set.

    Parameters
    ----------
    measures : DataFrame
        From `mpox.stats.calibration.calibration_table`, indexed by what was done to the probabilities (``as they are``,
        ``temperature``, ``isotonic``), of what (``Mpox``, ``top``) and measure.
    replicates : mapping
        Aim to `mpox.stats.decisions.operating_replicates`; the first one is put into words.
    coverage : DataFrame
        From `mpox.stats.conformal.coverage_table`, with ``confidence``; the middle one is put into words.
    strange : DataFrame
        From `mpox.studies.unfamiliar.unfamiliar_table`.
    outside : DataFrame, optional
        From `mpox.stats.conformal.coverage_table`, of sets for pictures of another collection.

    Raises
    ------
    MpoxError
        If an aim has no level.
    """
    quoted = {}
    for method in ("as they are", "temperature", "isotonic"):
        for measure in ("ece", "brier", "slope", "intercept"):
            quoted[f"{measure}_{method.replace(' ', '_')}"] = _in_words(measures.loc[(method, "Mpox", measure)], 3)
    quoted["ece_if_calibrated"] = _in_words(measures.loc[("as they are", "Mpox", "ece if calibrated")], 3)
    for aim, values in replicates.items():
        if aim.level is None:
            raise MpoxError(f"A finding is named after its aim's level, and '{aim}' has none: quote aims with a level.")
        for measure in ("sensitivity", "specificity", "flagged"):
            text = with_interval(*with_percentiles(values[measure]))
            quoted[f"{measure}_at_{round(100 * aim.level)}"] = text
    level = sorted(coverage["confidence"].unique())[coverage["confidence"].nunique() // 2]
    middle = coverage[coverage["confidence"] == level].set_index(["class", "measure"])
    for key, measure in (("coverage", "coverage"), ("certain", CERTAIN), ("not_sure", UNSURE), ("right", "right if certain")):
        quoted[key] = _in_words(middle.loc[("all", measure)])
    quoted["coverage_mpox"] = _in_words(middle.loc[("Mpox", "coverage")])
    warned = strange.groupby("kind")["warned"].mean()
    no_skin = strange[strange["kind"].isin(_NO_SKIN)]
    quoted |= {
        "no_skin": f"{len(no_skin)}",
        "elsewhere": f"{(strange['kind'] == ELSEWHERE).sum()}",
        "warned_no_skin": f"{no_skin['warned'].mean():.0%}",
        "warned_own": f"{warned[OWN]:.0%}",
        "p_highest_no_skin": f"{no_skin['p'].max():.2f}",
        "certain_no_skin": f"{no_skin['certain'].mean():.0%}",
        "warned_elsewhere": f"{warned[ELSEWHERE]:.0%}" if ELSEWHERE in warned else "not measured",
    }
    if outside is not None:
        held = outside.set_index(["class", "measure"])
        quoted["coverage_outside"] = _in_words(held.loc[("all", "coverage")])
        quoted["coverage_outside_mpox"] = _in_words(held.loc[("Mpox", "coverage")])
    return Found(_points(measures, replicates, quoted, level, outside), quoted)


def _in_words(row: pd.Series, digits: int = 2) -> str:
    return with_interval(row["estimate"], row["low"], row["high"], digits=digits)


def _points(
    measures: pd.DataFrame, replicates: Mapping, quoted: dict[str, str], level: float, outside: pd.DataFrame | None
) -> dict[str, str]:
    ece, floor = (measures.loc[("as they are", "Mpox", measure)] for measure in ("ece", "ece if calibrated"))
    beyond = "more than chance explains" if ece["estimate"] > floor["high"] else "no more than chance explains"
    after = {method: measures.loc[(method, "Mpox", "brier"), "estimate"] for method in ("as they are", "temperature", "isotonic")}
    change = " and ".join(
        f"{round(after[method] - after['as they are'], 3) + 0:+.3f} ({method})" for method in ("temperature", "isotonic")
    )
    aim, values = next(iter(replicates.items()))
    name = f"at_{round(100 * aim.level)}"
    _, low, high = with_percentiles(values["sensitivity"])
    reached = "falls short of it" if high < aim.level else "exceeds it" if low > aim.level else "agrees with it"
    said = {key: quoted[key] for key in ("coverage", "coverage_mpox", "certain", "right")}
    intercept = measures.loc[("as they are", "Mpox", "intercept")]
    unknown = "not shown to be said too often or too rarely"
    tilt = "said too readily" if intercept["high"] < 0 else "said too rarely" if intercept["low"] > 0 else unknown
    points = {
        "probabilities": f"the expected calibration error of the probability of Mpox is {ece['estimate']:.3f}; a perfectly "
        f"calibrated model would show {floor['estimate']:.3f} (95 % of simulations {floor['low']:.3f} to {floor['high']:.3f}) on "
        f"as many pictures, so that it is {beyond}. The intercept is {_in_words(intercept)}, where 0 is right: Mpox is {tilt}. "
        f"The Brier score is {after['as they are']:.3f}, and calibration inside the training groups changes it by {change}.",
        "threshold": f"one that aims at a {aim} has a sensitivity of {quoted[f'sensitivity_{name}']} on test pictures, which "
        f"{reached}, and a specificity of {quoted[f'specificity_{name}']}.",
        "not sure": f"sets that are to hold the true class in {level:g} of the cases hold it in {said['coverage']}, and for "
        f"Mpox, to which the promise is made as well, in {said['coverage_mpox']}; the answer is a single class for "
        f"{said['certain']} of the test pictures, and right in {said['right']} of those.",
        "pictures of something else": f"of {quoted['no_skin']} pictures without any skin, most of them drawn by a program, "
        f"{quoted['warned_no_skin']} raise a warning (of the own test pictures {quoted['warned_own']}); without it, "
        f"{quoted['certain_no_skin']} of them would have been given a single class, and the highest probability of Mpox among "
        f"them is {quoted['p_highest_no_skin']}.",
    }
    if outside is not None:
        row = outside.set_index(["class", "measure"]).loc[("all", "coverage")]
        kept = "falls short of" if row["high"] < level else "agrees with" if row["low"] <= level else "exceeds"
        points["another collection"] = (
            f"on its Mpox and other rashes such sets hold the true one in {quoted['coverage_outside']}, which {kept} what was "
            f"promised, and for Mpox in {quoted['coverage_outside_mpox']}; a warning is raised for {quoted['warned_elsewhere']} "
            f"of {quoted['elsewhere']} of its pictures."
        )
    return points
