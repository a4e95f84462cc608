"""The figure of the chapter on the verdict: it takes a ready table and gives a matplotlib figure."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mpox.book.figures import COLOURS, MARKERS, PROTOCOL_COLOURS, dataset_title, whiskers
from mpox.studies.verdict import CLAIMS, OTHER, STRICTNESS


def claims(table: pd.DataFrame) -> Figure:
    """Intervals by protocol against the published value: one panel a claim, data sets side by side.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.verdict.claim_intervals`, of one regime.
    """
    names = list(dict.fromkeys(table["dataset"]))
    shown = [claim for claim in CLAIMS if claim.key in set(table["claim"])]
    lines = [protocol for protocol in (*STRICTNESS, OTHER) if protocol in set(table["protocol"])]
    size = (max(4.0 * len(names), 6.0), (0.55 + 0.17 * len(lines)) * len(shown) + 0.6)
    figure, axes = plt.subplots(len(shown), len(names), figsize=size, squeeze=False, sharex=True, sharey=True)
    for row, claim in zip(axes, shown, strict=True):
        for axis, name in zip(row, names, strict=True):
            part = table[(table["claim"] == claim.key) & (table["dataset"] == name)].dropna(subset=["estimate"])
            for place in part.itertuples():
                y = lines.index(place.protocol)
                error = whiskers(place.estimate, place.low, place.high)
                colour = PROTOCOL_COLOURS.get(place.protocol, COLOURS[6])
                axis.errorbar(place.estimate, y, xerr=error, fmt=MARKERS[y], color=colour, capsize=2, markersize=5)
            axis.axvline(claim.published, color="black", linestyle="--", linewidth=1)
            axis.set_yticks(range(len(lines)), lines, fontsize=8)
            axis.set_ylim(len(lines) - 0.5, -0.5)
        row[0].set_title(f"{claim.subject}: published {claim.published:g}", loc="left", fontsize=9)
    if len(names) > 1:
        for axis, name in zip(axes[0], names, strict=True):
            axis.annotate(
                dataset_title(name), (0.5, 1), xycoords="axes fraction", xytext=(0, 22), textcoords="offset points",
                ha="center", fontsize=11, fontweight="bold",
            )  # fmt: skip
    else:
        figure.suptitle(dataset_title(names[0]), fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("value, with 95 % interval")
    return figure


def cover(table: pd.DataFrame) -> Figure:
    """The first page's figure: a panel a claim, a line a protocol, and a marker a data set; narrow, for a phone.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.verdict.claim_intervals`, of one regime and of the claims to show.
    """
    names = list(dict.fromkeys(table["dataset"]))
    shown = [claim for claim in CLAIMS if claim.key in set(table["claim"])]
    lines = [protocol for protocol in (*STRICTNESS, OTHER) if protocol in set(table["protocol"])]
    size = (4.8, 0.6 + (0.55 + 0.3 * len(lines)) * len(shown))
    figure, axes = plt.subplots(len(shown), 1, figsize=size, squeeze=False, sharex=True)
    for axis, claim in zip(axes[:, 0], shown, strict=True):
        for number, name in enumerate(names):
            part = table[(table["claim"] == claim.key) & (table["dataset"] == name)].dropna(subset=["estimate"])
            for place in part.itertuples():
                y = lines.index(place.protocol) + (number - (len(names) - 1) / 2) * 0.36
                colour = PROTOCOL_COLOURS.get(place.protocol, COLOURS[6])
                look = {"fmt": MARKERS[number], "color": colour, "markerfacecolor": "white" if number else colour}
                error = whiskers(place.estimate, place.low, place.high)
                axis.errorbar(place.estimate, y, xerr=error, capsize=2, markersize=6, **look)
        axis.axvline(claim.published, color="black", linestyle="--", linewidth=1)
        axis.set_yticks(range(len(lines)), lines)
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.set_title(f"{claim.subject.split(',')[0]}; published {claim.published:g}", loc="left")
    axes[-1, 0].set_xlabel("value, with 95 % interval")
    for number, name in enumerate(names):
        fill = "white" if number else "black"
        axes[0, 0].plot([], [], MARKERS[number], color="black", markerfacecolor=fill, label=dataset_title(name))
    figure.legend(loc="outside lower center", ncols=len(names))
    return figure
