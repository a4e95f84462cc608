"""What it costs to look at one more person: with the model, with the laboratory for everyone, with nothing.

Money stands for whatever is lost. Whoever disagrees with the numbers changes them: `mpox.screening_widget` is the same sum in the
browser.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.intervals import with_percentiles

MODEL, EVERYONE, NOBODY = "the model first", "the laboratory for everyone", "no screening"


@dataclass(frozen=True)
class Costs:
    """What things cost, all in the same unit; at least 0.

    Parameters
    ----------
    picture : float
        Taking and judging a picture of one person.
    false_alarm : float
        A person without Mpox who is sent on: the laboratory test, and the days of waiting.
    missed : float
        A person with Mpox who is sent home.
    """

    picture: float = 1.0
    false_alarm: float = 50.0
    missed: float = 2000.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value >= 0:
                raise MpoxError(f"The cost '{name}' must be at least 0, not {value}.")


def expected_cost(prevalence, sensitivity, specificity, costs: Costs):
    """Expected cost of a person who is screened with the model: picture + false alarms + missed cases; numbers or arrays.

    The laboratory test of a person who does have Mpox is not counted: it is needed on every way.

    Examples
    --------
    >>> round(expected_cost(0.01, 0.9, 0.8, Costs(picture=1, false_alarm=50, missed=2000)), 2)
    12.9
    """
    alarms = (1 - prevalence) * (1 - specificity)
    return costs.picture + alarms * costs.false_alarm + prevalence * (1 - sensitivity) * costs.missed


def strategy_costs(prevalence: float, sensitivity: np.ndarray, specificity: np.ndarray, costs: Costs) -> pd.DataFrame:
    """The expected cost of a person under each strategy.

    Parameters
    ----------
    prevalence : float
        From 0 to 1.
    sensitivity, specificity : ndarray, shape (b + 1,)
        The estimate, then replicates (`mpox.thresholds.operating_replicates`).
    costs : Costs

    Returns
    -------
    DataFrame
        ``strategy`` (`MODEL`, `EVERYONE`, `NOBODY`), ``estimate``, ``low``, ``high``; the last two strategies owe nothing to the
        model, so that their limits are the estimate.
    """
    if not 0 <= prevalence <= 1:
        raise MpoxError(f"A prevalence lies from 0 to 1, not at {prevalence}.")
    model = with_percentiles(np.asarray(expected_cost(prevalence, sensitivity, specificity, costs)))
    others = {EVERYONE: (1 - prevalence) * costs.false_alarm, NOBODY: prevalence * costs.missed}
    rows = [(MODEL, *model), *((name, cost, cost, cost) for name, cost in others.items())]
    return pd.DataFrame(rows, columns=["strategy", "estimate", "low", "high"])


def cost_curve(prevalences: np.ndarray, sensitivity: np.ndarray, specificity: np.ndarray, costs: Costs) -> pd.DataFrame:
    """`strategy_costs` over prevalences, with a column ``prevalence``."""
    tables = [strategy_costs(float(x), sensitivity, specificity, costs).assign(prevalence=float(x)) for x in prevalences]
    return pd.concat(tables, ignore_index=True)


def worthwhile_prevalences(sensitivity: float, specificity: float, costs: Costs) -> tuple[float, float] | None:
    """Between which prevalences the model is the cheapest of the three strategies; ``None`` if it never is.

    Below the first no screening is cheaper, above the second the laboratory for everyone: where `expected_cost` equals
    prevalence x missed, and (1 - prevalence) x false alarm.

    Examples
    --------
    >>> low, high = worthwhile_prevalences(0.9, 0.8, Costs(picture=1, false_alarm=50, missed=2000))
    >>> round(low, 4), round(high, 4)
    (0.0061, 0.1625)
    """
    alarm = (1 - specificity) * costs.false_alarm
    gain, spared = sensitivity * costs.missed + alarm, (1 - sensitivity) * costs.missed + specificity * costs.false_alarm
    if not gain or not spared:
        return None
    low, high = (costs.picture + alarm) / gain, (specificity * costs.false_alarm - costs.picture) / spared
    return (float(low), float(high)) if low < min(high, 1) else None
