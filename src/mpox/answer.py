"""The title's question, answered in one paragraph for a clinician, from the measurements and by stated rules."""

from collections.abc import Mapping
from math import isnan

import pandas as pd

from mpox.errors import MpoxError
from mpox.verdict import Interval, flattering_protocols

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
        See `mpox.verdict.claim_intervals`; of one regime, and of as many data sets as there are.
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
