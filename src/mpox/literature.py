"""What others have published, with the way it was tested and whether that leaks: rows for one table with ours."""

import re
from pathlib import Path

import pandas as pd

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
