"""Figures of calibration, thresholds, decisions, sets and unfamiliar pictures: ready tables in, matplotlib figures out."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from mpox.book.figures import CLASS_COLOURS, COLOURS, MARKERS, dataset_title, whiskers
from mpox.data.phantom.oddities import Oddity
from mpox.stats.conformal import CERTAIN, NOTHING, UNSURE
from mpox.stats.decisions import ADVANTAGE, EVERYONE, MODEL, NOBODY
from mpox.studies.unfamiliar import OWN


def reliability(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """Reliability diagrams, data sets in rows and what was done to the probabilities in columns.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.calibration.reliability_bins`, with ``dataset`` and ``calibration``.
    xlabel : str
    """
    names, kinds = list(dict.fromkeys(table["dataset"])), list(dict.fromkeys(table["calibration"]))
    size = (max(2.7 * len(kinds), 5.5), 2.9 * len(names))
    figure, axes = plt.subplots(len(names), len(kinds), figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis, kind in zip(axes[0], kinds, strict=True):
        axis.set_title(kind, fontsize=10)
    for row, name in zip(axes, names, strict=True):
        for number, (axis, kind) in enumerate(zip(row, kinds, strict=True)):
            part = table[(table["dataset"] == name) & (table["calibration"] == kind)]
            error = whiskers(part["observed"], part["low"], part["high"])
            axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
            look = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 5, "capsize": 2}
            axis.errorbar(part["stated"], part["observed"], yerr=error, linestyle="none", elinewidth=0.9, **look)
            axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        row[0].set_ylabel(f"{dataset_title(name)}\nobserved share")
    for axis in axes[-1]:
        axis.set_xlabel(xlabel, fontsize=9)
    return figure


def decision_curves(table: pd.DataFrame, *, floor: float = 0.05) -> Figure:
    """Net benefit over the threshold; data sets in rows, prevalences in columns.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.decisions.decision_curve`, with ``dataset`` and ``where`` (the column's title).
    floor : float
        How far below zero the axis reaches, as a share of the highest curve.
    """
    names, places = list(dict.fromkeys(table["dataset"])), list(dict.fromkeys(table["where"]))
    size = (max(3.7 * len(places), 5.5), 3.0 * len(names))
    figure, axes = plt.subplots(len(names), len(places), figsize=size, squeeze=False)
    styles = {MODEL: (COLOURS[0], "-"), EVERYONE: (COLOURS[1], "--"), NOBODY: ("black", ":")}
    for row, name in zip(axes, names, strict=True):
        for axis, place in zip(row, places, strict=True):
            part = table[(table["dataset"] == name) & (table["where"] == place) & (table["strategy"] != ADVANTAGE)]
            for strategy, (colour, line) in styles.items():
                curve = part[part["strategy"] == strategy]
                axis.plot(curve["threshold"], curve["estimate"], color=colour, linestyle=line, linewidth=1.4, label=strategy)
                if strategy == MODEL:
                    axis.fill_between(curve["threshold"], curve["low"], curve["high"], color=colour, alpha=0.18, linewidth=0)
            top = part["high"].max() if part["high"].notna().any() else part["estimate"].max()
            axis.set(ylim=(-floor * top - 0.12 * top, 1.05 * top), xlim=(0, part["threshold"].max()))
            axis.set_title(f"{dataset_title(name)}, {place}", loc="left", fontsize=10)
            axis.set_xlabel("threshold: probability at which one would act")
        row[0].set_ylabel("net benefit\n(true positives a person)")
    axes[0, 0].legend(fontsize=8)
    return figure


def _percent_axis(axis: plt.Axes, ticks: Sequence[float] = (0.001, 0.01, 0.1, 0.5)) -> None:
    axis.set_xscale("log")
    axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("prevalence (logarithmic)")


def predictive_values(table: pd.DataFrame) -> Figure:
    """Positive and negative predictive value over the prevalence, with bands; data sets in rows.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.decisions.predictive_table`, with ``dataset`` and ``aim`` (a line each).
    """
    names, aims = list(dict.fromkeys(table["dataset"])), list(dict.fromkeys(table["aim"]))
    figure, axes = plt.subplots(len(names), 2, figsize=(8, 3.0 * len(names)), squeeze=False, sharex=True)
    for row, name in zip(axes, names, strict=True):
        for axis, (measure, title) in zip(row, {"ppv": "positive", "npv": "negative"}.items(), strict=True):
            for number, aim in enumerate(aims):
                shown = (table["dataset"] == name) & (table["aim"] == aim) & (table["measure"] == measure)
                part = table[shown].sort_values("prevalence")
                line = ("-", "--", ":")[number % 3]
                axis.plot(part["prevalence"], part["estimate"], color=COLOURS[number], linestyle=line, label=aim)
                axis.fill_between(part["prevalence"], part["low"], part["high"], color=COLOURS[number], alpha=0.15, linewidth=0)
            _percent_axis(axis)
            axis.set_ylabel(f"{title} predictive value")
            axis.set_xlabel(axis.get_xlabel() if name == names[-1] else "")
        row[0].set_ylim(0, 1.02)
        row[0].set_title(dataset_title(name), loc="left")
        row[1].legend(fontsize=8, loc="lower left")
    return figure


def coverage(table: pd.DataFrame) -> Figure:
    """Coverage by class over the confidence that was asked for, and how the sets answer; data sets in rows.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.conformal.coverage_table`, with ``dataset`` and ``confidence``.
    """
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = plt.subplots(len(names), 2, figsize=(8, 3.2 * len(names)), squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        part = table[table["dataset"] == name]
        asked = sorted(part["confidence"].unique())
        classes = [label for label in dict.fromkeys(part["class"]) if label != "all"]
        ends = (min(asked) - 0.04, 1.0)
        left.plot(ends, ends, color="grey", linestyle=":", linewidth=1)
        for number, label in enumerate(classes):
            rows = part[(part["class"] == label) & (part["measure"] == "coverage")].sort_values("confidence")
            error = whiskers(rows["estimate"], rows["low"], rows["high"])
            x = rows["confidence"] + 0.006 * (number - (len(classes) - 1) / 2)
            look = {"color": CLASS_COLOURS.get(label, COLOURS[number]), "marker": MARKERS[number], "label": label}
            left.errorbar(x, rows["estimate"], yerr=error, linestyle="none", capsize=2, elinewidth=0.9, **look)
        left.set(xlabel="coverage asked for", ylabel="coverage achieved", xlim=ends)
        left.set_title(dataset_title(name), loc="left")
        left.legend(fontsize=8, loc="lower right")
        bottom = np.zeros(len(asked))
        looks = {CERTAIN: (COLOURS[2], ""), UNSURE: (COLOURS[4], "//"), NOTHING: (COLOURS[7], "xx")}
        for answer, (colour, hatch) in looks.items():
            rows = part[(part["class"] == "all") & (part["measure"] == answer)].sort_values("confidence")
            height = rows["estimate"].to_numpy()
            right.bar(range(len(asked)), height, bottom=bottom, color=colour, hatch=hatch, label=answer, edgecolor="white")
            bottom = bottom + height
        right.set_xticks(range(len(asked)), [f"{value:g}" for value in asked])
        right.set(xlabel="coverage asked for", ylabel="share of test pictures", ylim=(0, 1))
    figure.legend(*axes[0, 1].get_legend_handles_labels(), fontsize=8, loc="outside lower right", ncols=3)
    return figure


def novelty(table: pd.DataFrame, *, score: str, xlabel: str) -> Figure:
    """The novelty score of every picture by kind, one panel a data set; right of the line is a warning.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.unfamiliar.unfamiliar_table`, with ``dataset``.
    score : str
        Its column, as a multiple of the threshold.
    xlabel : str
    """
    names = list(dict.fromkeys(table["dataset"]))
    kinds = list(dict.fromkeys(table["kind"]))
    size = (max(4.3 * len(names), 6.0), 0.32 * len(kinds) + 1.2)
    figure, axes = plt.subplots(1, len(names), figsize=size, squeeze=False, sharey=True)
    rng = np.random.default_rng(0)
    for axis, name in zip(axes[0], names, strict=True):
        part = table[table["dataset"] == name]
        for line, kind in enumerate(kinds):
            values = part.loc[part["kind"] == kind, score]
            own = kind == OWN
            look = {"s": 6 if own else 18, "alpha": 0.4 if own else 0.8, "linewidths": 0}
            shaken = line + rng.uniform(-0.25, 0.25, len(values))
            axis.scatter(values, shaken, color=COLOURS[7] if own else COLOURS[0], **look)
        axis.axvline(1, color="black", linestyle="--", linewidth=1)
        axis.set_yticks(range(len(kinds)), kinds)
        axis.set_ylim(len(kinds) - 0.5, -0.5)
        axis.set_title(dataset_title(name), loc="left")
        axis.set_xlabel(xlabel)
    return figure


def sheet(oddities: Sequence[Oddity], captions: Sequence[str], *, columns: int = 5) -> Figure:
    """Pictures that are nobody's, with what was said to them."""
    rows = -(-len(oddities) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 2.3 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, oddity, caption in zip(axes.flat, oddities, captions, strict=False):
        axis.imshow(oddity.picture)
        axis.set_title(f"{oddity.kind}\n{caption}", fontsize=7)
    return figure


def screening_costs(table: pd.DataFrame) -> Figure:
    """The cost of a person over the prevalence, by strategy, one panel a data set.

    Parameters
    ----------
    table : DataFrame
        From `mpox.stats.decisions.cost_curve`, with ``dataset``.
    """
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = plt.subplots(1, len(names), figsize=(max(4.0 * len(names), 5.5), 3.3), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        part = table[table["dataset"] == name]
        for number, (strategy, rows) in enumerate(part.groupby("strategy", sort=False)):
            line = ("-", "--", ":")[number % 3]
            axis.plot(rows["prevalence"], rows["estimate"], color=COLOURS[number], linestyle=line, label=strategy)
            axis.fill_between(rows["prevalence"], rows["low"], rows["high"], color=COLOURS[number], alpha=0.15, linewidth=0)
        _percent_axis(axis)
        axis.set_yscale("log")
        axis.set_title(dataset_title(name), loc="left")
    axes[0, 0].set_ylabel("expected cost of a person")
    axes[0, 0].legend(fontsize=8)
    return figure
