"""Figures of tests and their power: every function takes ready tables and gives a matplotlib figure."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.figure import Figure

from mpox.book.figures import COLOURS, MARKERS, PROTOCOL_COLOURS, dataset_title, whiskers
from mpox.stats.comparison import ALPHA, Friedman
from mpox.stats.power import POWER

LINES = ("-", "--", "-.", ":")


def fold_test(table: pd.DataFrame) -> Figure:
    """How often the folds' test says 'p > 0.05', over how much the folds really differ: a line a data set, a panel a test.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.simulation.fold_test_experiment`, with ``dataset``. The bars are Wilson intervals of the simulation.
    """
    tests, names = list(dict.fromkeys(table["test"])), list(dict.fromkeys(table["dataset"]))
    figure, axes = plt.subplots(1, len(tests), figsize=(max(4.2 * len(tests), 5.5), 3.4), squeeze=False, sharey=True)
    for axis, test in zip(axes[0], tests, strict=True):
        axis.axhline(1 - ALPHA, color="black", linestyle="--", linewidth=1)
        for number, name in enumerate(names):
            rows = table[(table["test"] == test) & (table["dataset"] == name)].sort_values("spread")
            share = rows["share_not_significant"]
            error = whiskers(share, rows["low"], rows["high"])
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "capsize": 2}
            axis.errorbar(100 * rows["spread"], share, yerr=error, label=dataset_title(name), **look)
        axis.set(xlabel="best fold minus worst, true accuracy (points)", title=test, ylim=(0, 1.03))
        axis.yaxis.set_major_formatter("{x:.0%}")
        axis.annotate(
            "all alike: 95 %", (1, 1 - ALPHA), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
            fontsize=8, ha="right",
        )  # fmt: skip
    axes[0, 0].set_ylabel("simulations with p > 0.05")
    axes[0, 0].legend(loc="lower left")
    return figure


def power_curve(table: pd.DataFrame) -> Figure:
    """Power over the true difference: a line a test, a panel a data set; the smallest difference shown with 80 % power is marked.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.power.power_table` with a fine grid of differences, and ``dataset``.
    """
    names, tests = list(dict.fromkeys(table["dataset"])), list(dict.fromkeys(table["test"]))
    figure, axes = plt.subplots(1, len(names), figsize=(max(4.0 * len(names), 5.5), 3.4), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        axis.axhline(POWER, color="black", linestyle="--", linewidth=1)
        for number, test in enumerate(tests):
            rows = table[(table["test"] == test) & (table["dataset"] == name)].sort_values("difference")
            look = {"color": COLOURS[number], "linestyle": LINES[number % len(LINES)]}
            detectable = 100 * rows["detectable"].iloc[0]
            label = f"{test}: none" if np.isnan(detectable) else f"{test}: {detectable:.1f} points"
            axis.plot(100 * rows["difference"], rows["power"], label=label, **look)
            axis.plot(detectable, POWER, color=COLOURS[number], marker=MARKERS[number], linestyle="none")
        title = f"{dataset_title(name)}, {rows['n_groups'].iloc[0]} groups"
        axis.set(xlabel="true difference in accuracy (points)", title=title, ylim=(0, 1.03))
        axis.yaxis.set_major_formatter("{x:.0%}")
        axis.legend(loc="lower right", fontsize=8, title=f"shown with {POWER:.0%} power", title_fontsize=8)
    axes[0, 0].set_ylabel("probability of p < 0.05")
    return figure


def critical_difference(found: Friedman) -> Figure:
    """Mean ranks on a line, best at the left; a bar joins models that Nemenyi's test does not tell apart (Demsar 2006, figure 1).

    Parameters
    ----------
    found : Friedman
        From `mpox.stats.comparison.friedman`.
    """
    n_models = len(found.mean_ranks)
    figure, axis = plt.subplots(figsize=(7, 1.3 + 0.28 * n_models))
    scikit_posthocs.critical_difference_diagram(
        found.mean_ranks,
        found.nemenyi,
        alpha=ALPHA,
        ax=axis,
        color_palette=[COLOURS[number % len(COLOURS)] for number in range(n_models)],
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
    )
    axis.grid(visible=False)
    best = found.mean_ranks.min()
    above: dict[str, Any] = {"transform": axis.get_xaxis_transform(), "clip_on": False}
    bar = axis.errorbar(best + found.critical_difference / 2, 1.3, xerr=found.critical_difference / 2, capsize=4, color="black")
    for artist in bar.get_children():
        artist.set(**above)
    axis.text(best, 1.35, f"critical difference {found.critical_difference:.2f}", fontsize=9, **above)
    figure.suptitle(f"mean rank over {found.n_blocks} blocks, 1 is best", x=0.02, ha="left", fontsize=11)
    return figure


def differences(table: pd.DataFrame, *, margin: float, xlabel: str) -> Figure:
    """Differences from a reference with their corrected intervals, the margin of equivalence shaded; a panel a data set.

    Parameters
    ----------
    table : DataFrame
        Rows of `compare_folds` (``estimate``, ``low``, ``high``), with ``dataset``, ``protocol`` and ``regime``.
    margin : float
        Above 0, in the unit of the differences.
    xlabel : str
    """
    names = list(dict.fromkeys(table["dataset"]))
    heights = [0.6 + 0.3 * (table["dataset"] == name).sum() for name in names]
    figure, axes = plt.subplots(len(names), 1, figsize=(7, sum(heights) + 0.5), squeeze=False, sharex=True, height_ratios=heights)
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = table[table["dataset"] == name].reset_index(drop=True)
        axis.axvspan(-margin, margin, color="0.9", linewidth=0)
        axis.axvline(0, color="black", linewidth=1)
        for y, row in part.iterrows():
            colour = PROTOCOL_COLOURS[row["protocol"]]
            error = [[row["estimate"] - row["low"]], [row["high"] - row["estimate"]]]
            axis.errorbar(row["estimate"], y, xerr=error, color=colour, marker="o", capsize=3)
        axis.set_yticks(range(len(part)), part["regime"].str.replace("_", " ") + ", " + part["protocol"])
        axis.set_ylim(len(part) - 0.4, -0.6)
        axis.set_title(dataset_title(name), loc="left")
    axes[-1, 0].set_xlabel(f"{xlabel}; shaded: within {margin:g}")
    return figure
