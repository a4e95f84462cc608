"""Figures of chapter 3 on leakage: every function takes ready tables and gives a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mpox.book.figures import dataset_title, whiskers

#: Okabe and Ito's palette and a marker for each regime, so that colour is never the only sign.
REGIME_LOOKS = {
    "linear_probe": ("#0072B2", "o"),
    "fine_tune": ("#D55E00", "s"),
    "nearest_neighbour": ("#009E73", "^"),
}
SUBSET_LOOKS = {"all images": ("#D55E00", "o"), "without shared": ("#009E73", "s"), "shared only": ("#7F7F7F", "^")}


def _spread(heights: list[float], gap: float) -> list[float]:
    """Heights of labels moved apart to at least ``gap``, in the order given by their values."""
    order = np.argsort(heights, kind="stable")
    moved = np.array(heights, dtype=float)
    for lower, upper in zip(order[:-1], order[1:], strict=True):
        moved[upper] = max(moved[upper], moved[lower] + gap)
    return list(moved - (moved.mean() - np.mean(heights)))


def dose_response(table: pd.DataFrame, measures: dict[tuple[str, str], str]) -> Figure:
    """Metrics over the share of test images with a sibling in training: a line a regime, data sets side by side.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.leakage.dose_response`, with ``dataset`` and ``regime``; its rows of the subset ``all`` are shown.
    measures : dict
        (metric, class) to the label of its axis; one row of panels each.
    """
    table = table[table["subset"] == "all"]
    names = list(dict.fromkeys(table["dataset"]))
    size = (max(4.2 * len(names), 5.5), 2.9 * len(measures))
    figure, axes = plt.subplots(len(measures), len(names), figsize=size, squeeze=False, sharey="row", sharex="col")
    for row, ((metric, label), ylabel) in zip(axes, measures.items(), strict=True):
        chosen = table[(table["metric"] == metric) & (table["class"] == label)]
        span = np.ptp(chosen[["low", "high"]].to_numpy())
        for axis, name in zip(row, names, strict=True):
            _panel(axis, chosen[chosen["dataset"] == name], gap=span * 0.09)
        row[0].set_ylabel(ylabel)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(dataset_title(name), loc="left")
    for axis in axes[-1]:
        axis.set_xlabel("share of test images with a sibling in training")
        axis.xaxis.set_major_formatter("{x:.0%}")
    return figure


def _panel(axis: plt.Axes, part: pd.DataFrame, gap: float) -> None:
    ends = []
    regimes = list(dict.fromkeys(part["regime"]))
    width = part["share"].max() or 1.0
    for number, regime in enumerate(regimes):
        rows = part[part["regime"] == regime].sort_values("dose")
        colour, marker = REGIME_LOOKS[regime]
        error = whiskers(rows["estimate"], rows["low"], rows["high"])
        x = rows["share"] + (number - (len(regimes) - 1) / 2) * 0.012 * width  # bars beside each other, not over
        axis.errorbar(x, rows["estimate"], yerr=error, color=colour, marker=marker, capsize=2, linewidth=1.6, elinewidth=0.9)
        ends.append(rows["estimate"].iloc[-1])
    for regime, height in zip(regimes, _spread(ends, gap), strict=True):
        axis.annotate(
            regime.replace("_", " "), (width * 1.04, height), color=REGIME_LOOKS[regime][0], fontsize=9, va="center",
            annotation_clip=False,
        )  # fmt: skip
    axis.set_xlim(-0.04 * width, width * 1.7)


def external(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """External validation: a point and interval for all test images, those not shared, and the shared ones; a panel a direction.

    Parameters
    ----------
    table : DataFrame
        ``direction`` and ``regime``, and ``subset``, ``images``, ``estimate``, ``low``, ``high``, ``reason`` of one metric from
        `mpox.studies.external.external_metrics`. A missing estimate is replaced by its reason.
    xlabel : str
    """
    directions = list(dict.fromkeys(table["direction"]))
    lines = table.groupby("direction").size().max()
    figure, axes = plt.subplots(
        len(directions), 1, figsize=(7, (0.9 + 0.28 * lines) * len(directions)), squeeze=False, sharex=True
    )  # fmt: skip
    for axis, direction in zip(axes[:, 0], directions, strict=True):
        part = table[table["direction"] == direction].reset_index(drop=True)
        for y, row in part.iterrows():
            colour, marker = SUBSET_LOOKS[row["subset"]]
            if np.isnan(row["estimate"]):
                place = axis.get_yaxis_transform()
                axis.text(0.02, y, f"not defined: {row['reason']}", transform=place, fontsize=8, va="center")
                continue
            error = whiskers(row["estimate"], row["low"], row["high"])
            axis.errorbar(row["estimate"], y, xerr=error, color=colour, marker=marker, capsize=3)
            axis.annotate(
                f"{row['estimate']:.2f}", (row["estimate"], y), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8
            )
        texts = [f"{row.regime.replace('_', ' ')}, {row.subset} ({row.images})" for row in part.itertuples()]
        axis.set_yticks(range(len(part)), texts)
        axis.set_ylim(len(part) - 0.4, -0.6)
        axis.set_title(direction, loc="left")
    axes[-1, 0].set_xlabel(xlabel)
    return figure
