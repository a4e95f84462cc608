"""Figures of chapter 6 on other data: every function takes ready tables and gives a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mpox.book.figures import CLASS_COLOURS, COLOURS, MARKERS, whiskers

#: Where a number was found to colour and marker.
PLACE_LOOKS = {
    "all images": ("#D55E00", "o"),
    "without shared": ("#009E73", "s"),
    "shared only": ("#7F7F7F", "^"),
    "at home": ("#000000", "v"),
    "ceiling": ("#0072B2", "D"),
    "where it was chosen": ("#7F7F7F", "^"),
    "carried over": ("#009E73", "s"),
    "chosen anew": ("#CC79A7", "D"),
}


def _bar(axis: plt.Axes, y: float, row, colour: str, marker: str, *, text: bool = True) -> None:
    """An estimate with its interval, and its value above it."""
    error = whiskers(row.estimate, row.low, row.high)
    axis.errorbar(row.estimate, y, xerr=error, color=colour, marker=marker, capsize=3)
    if text:
        plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axis.annotate(
            f"{row.estimate:.2f}",
            (row.estimate, y),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox=plate,
        )


def _lines(axis: plt.Axes, texts: list[str], title: str) -> None:
    axis.set_yticks(range(len(texts)), texts, fontsize=9)
    axis.set_ylim(len(texts) - 0.4, -0.6)
    axis.set_title(title, loc="left", fontsize=10)


def transport(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """How a model fares elsewhere, and the ceiling: a line a kind of test picture, a panel a direction.

    Parameters
    ----------
    table : DataFrame
        ``direction``, ``place`` (a key of `PLACE_LOOKS`), ``line`` (the text), ``estimate``, ``low``, ``high``, ``reason`` (shown
        where the estimate is missing).
    xlabel : str
    """
    directions = list(dict.fromkeys(table["direction"]))
    lines = table.groupby("direction").size().max()
    size = (6.5, (0.8 + 0.36 * lines) * len(directions))
    figure, axes = plt.subplots(len(directions), 1, figsize=size, squeeze=False, sharex=True)
    for axis, direction in zip(axes[:, 0], directions, strict=True):
        part = table[table["direction"] == direction].reset_index(drop=True)
        for y, row in enumerate(part.itertuples()):
            if np.isnan(row.estimate):
                place = axis.get_yaxis_transform()
                axis.text(0.02, y, f"not defined: {row.reason}", transform=place, fontsize=8, va="center")
            else:
                _bar(axis, y, row, *PLACE_LOOKS[row.place])
        axis.axvline(0.5, color="grey", linestyle=":", linewidth=1)
        _lines(axis, part["line"].tolist(), direction)
    axes[-1, 0].set_xlabel(xlabel)
    return figure


def operating_points(table: pd.DataFrame) -> Figure:
    """Sensitivity and specificity of a threshold where it was chosen, carried over, and chosen anew; a row of panels a direction.

    Parameters
    ----------
    table : DataFrame
        ``direction``, ``aim`` (text), ``level`` (of the aimed-at sensitivity, or NaN), ``place`` (a key of `PLACE_LOOKS`),
        ``metric`` (sensitivity or specificity), ``estimate``, ``low``, ``high``.
    """
    directions, measures = list(dict.fromkeys(table["direction"])), ("sensitivity", "specificity")
    lines = len(table[["aim", "place"]].drop_duplicates())
    size = (7.5, (0.8 + 0.34 * lines) * len(directions))
    figure, axes = plt.subplots(len(directions), 2, figsize=size, squeeze=False, sharex=True)
    for row, direction in zip(axes, directions, strict=True):
        part = table[table["direction"] == direction]
        keys = list(dict.fromkeys(zip(part["aim"], part["place"], strict=True)))
        for axis, measure in zip(row, measures, strict=True):
            for point in part[part["metric"] == measure].itertuples():
                y = keys.index((point.aim, point.place))
                _bar(axis, y, point, *PLACE_LOOKS[point.place])
                if measure == "sensitivity" and not np.isnan(point.level):
                    axis.plot([point.level] * 2, [y - 0.45, y + 0.45], color="black", linestyle="--", linewidth=1)
            _lines(axis, [f"{aim}: {place}" for aim, place in keys] if measure == "sensitivity" else [""] * len(keys), "")
        row[0].set_title(direction, loc="left", fontsize=10)
    for axis, measure in zip(axes[-1], measures, strict=True):
        axis.set_xlabel(measure)
    return figure


def fact_differences(table: pd.DataFrame, names: dict[str, str]) -> Figure:
    """Standardised differences of single facts between two collections, a colour a class, a panel a pair of collections.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.external.fact_differences`, with ``pair`` and ``class``.
    names : dict of str to str
        Fact to the text that is shown.
    """
    pairs, classes = list(dict.fromkeys(table["pair"])), list(dict.fromkeys(table["class"]))
    shown = [fact for fact in names if fact in set(table.dropna(subset=["estimate"])["fact"])]
    size = (6.5, (0.9 + 0.42 * len(shown)) * len(pairs))
    figure, axes = plt.subplots(len(pairs), 1, figsize=size, squeeze=False, sharex=True)
    seen = {}
    for axis, pair in zip(axes[:, 0], pairs, strict=True):
        for number, kind in enumerate(classes):
            rows = table[(table["pair"] == pair) & (table["class"] == kind) & table["fact"].isin(shown)].dropna(
                subset=["estimate"]
            )
            y = np.array([shown.index(fact) for fact in rows["fact"]]) + (number - (len(classes) - 1) / 2) * 0.24
            error = whiskers(rows["estimate"], rows["low"], rows["high"])
            look = {"color": CLASS_COLOURS.get(kind, COLOURS[6]), "marker": MARKERS[number], "linestyle": "none", "capsize": 2}
            seen[kind] = axis.errorbar(rows["estimate"], y, xerr=error, markersize=5, **look)
        axis.axvspan(-0.1, 0.1, color="grey", alpha=0.15, linewidth=0)
        axis.axvline(0, color="grey", linewidth=1)
        _lines(axis, [names[fact] for fact in shown], pair)
    axes[-1, 0].set_xlabel("difference (standard deviations)")
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=len(seen))
    return figure


def remedies(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """What each remedy changes against none: paired differences with intervals, its own value in the text; a panel a direction.

    Parameters
    ----------
    table : DataFrame
        From `changes`, with ``direction`` and ``sees`` (what the remedy sees of the target), without the reference.
    xlabel : str
    """
    directions = list(dict.fromkeys(table["direction"]))
    kinds = list(dict.fromkeys(table["sees"]))
    lines = table.groupby("direction").size().max()
    size = (6.8, (0.8 + 0.36 * lines) * len(directions) + 0.5)
    figure, axes = plt.subplots(len(directions), 1, figsize=size, squeeze=False, sharex=True)
    seen = {}
    for axis, direction in zip(axes[:, 0], directions, strict=True):
        part = table[table["direction"] == direction].reset_index(drop=True)
        for y, row in enumerate(part.itertuples()):
            number = kinds.index(row.sees)
            error = whiskers(row.change, row.change_low, row.change_high)
            look = {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": "none", "capsize": 3}
            seen[row.sees] = axis.errorbar(row.change, y, xerr=error, **look)
        axis.axvline(0, color="black", linewidth=1)
        _lines(axis, [f"{row.way} ({row.estimate:.2f})" for row in part.itertuples()], direction)
    axes[-1, 0].set_xlabel(xlabel)
    figure.legend(seen.values(), [f"sees {kind}" for kind in seen], loc="outside lower center", ncols=1, fontsize=8)
    return figure


def own_pictures(table: pd.DataFrame, *, ylabel: str) -> Figure:
    """A metric over the share of the target's own groups that are learnt from, with and without the other collection.

    Parameters
    ----------
    table : DataFrame
        ``direction``, ``way``, ``fraction`` (0 to 1), ``estimate``, ``low``, ``high``.
    ylabel : str
    """
    directions = list(dict.fromkeys(table["direction"]))
    size = (max(3.8 * len(directions), 5.5), 3.4)
    figure, axes = plt.subplots(1, len(directions), figsize=size, squeeze=False, sharey=True)
    ways, seen = list(dict.fromkeys(table["way"])), {}
    for axis, direction in zip(axes[0], directions, strict=True):
        for number, way in enumerate(ways):
            rows = table[(table["direction"] == direction) & (table["way"] == way)].sort_values("fraction")
            x = rows["fraction"] + (number - (len(ways) - 1) / 2) * 0.015
            error = whiskers(rows["estimate"], rows["low"], rows["high"])
            seen[way] = axis.errorbar(x, rows["estimate"], yerr=error, color=COLOURS[number], marker=MARKERS[number], capsize=2)
        axis.set_title(direction, loc="left", fontsize=9)
        axis.set_xlabel("share of the target's training groups")
        axis.xaxis.set_major_formatter("{x:.0%}")
    axes[0, 0].set_ylabel(ylabel)
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=len(seen))
    return figure
