"""Predictive values where the finding is as common as someone says, not as it is in a collection made to study it."""

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.intervals import with_percentiles

MEASURES = ("ppv", "npv", "flagged", "missed", "false_alarms")


def predictive_values(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float) -> dict[str, np.ndarray]:
    """What a result means at a prevalence, by Bayes' theorem; sensitivity and specificity are held to be the same everywhere.

    Parameters
    ----------
    sensitivity, specificity : float or ndarray
        From 0 to 1.
    prevalence : float
        From 0 to 1.

    Returns
    -------
    dict of str to ndarray
        ``ppv`` (of those flagged, the share who have it), ``npv`` (of those not flagged, the share who do not), both NaN where
        there are none; ``flagged``, ``missed``, ``false_alarms``: shares of all who are looked at.

    Raises
    ------
    MpoxError
        If the prevalence is not from 0 to 1.

    Examples
    --------
    A finding in 1 of 100 people, sensitivity 90 %, specificity 91 %: of eleven flagged, ten are false alarms.

    >>> round(float(predictive_values(0.90, 0.91, 0.01)["ppv"]), 3)
    0.092
    """
    if not 0 <= prevalence <= 1:
        raise MpoxError(f"A prevalence lies from 0 to 1, not at {prevalence}.")
    hits, missed = prevalence * np.asarray(sensitivity, float), prevalence * (1 - np.asarray(sensitivity, float))
    alarms, cleared = (1 - prevalence) * (1 - np.asarray(specificity, float)), (1 - prevalence) * np.asarray(specificity, float)
    flagged, calm = hits + alarms, missed + cleared
    with np.errstate(invalid="ignore", divide="ignore"):
        ppv, npv = np.where(flagged > 0, hits / flagged, np.nan), np.where(calm > 0, cleared / calm, np.nan)
    return {"ppv": ppv, "npv": npv, "flagged": flagged, "missed": missed, "false_alarms": alarms}


def predictive_table(replicates: dict[str, np.ndarray], prevalences: np.ndarray) -> pd.DataFrame:
    """`predictive_values` over prevalences, with 95 % intervals.

    Parameters
    ----------
    replicates : dict
        ``sensitivity`` and ``specificity``, each of shape (b + 1,), the estimate first: `mpox.thresholds.operating_replicates`.
    prevalences : ndarray, shape (k,)

    Returns
    -------
    DataFrame
        ``prevalence``, ``measure`` (`MEASURES`), ``estimate``, ``low``, ``high``.
    """
    rows = []
    for prevalence in prevalences:
        found = predictive_values(replicates["sensitivity"], replicates["specificity"], float(prevalence))
        rows += [(float(prevalence), measure, *with_percentiles(found[measure])) for measure in MEASURES]
    return pd.DataFrame(rows, columns=["prevalence", "measure", "estimate", "low", "high"])
