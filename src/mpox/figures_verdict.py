"""The figure of the chapter on the verdict: it takes a ready table and gives a matplotlib figure."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mpox.figures import COLOURS, MARKERS, PROTOCOL_COLOURS, dataset_title, whiskers
from mpox.verdict import CLAIMS, OTHER, STRICTNESS


def claims(table: pd.DataFrame) -> Figure:
    """Intervals by protocol against the published value: one panel a claim, data sets side by side.

    Parameters
    ----------
    table : DataFrame
        From `mpox.verdict.claim_intervals`, of one regime.
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
