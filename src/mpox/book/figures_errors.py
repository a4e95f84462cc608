"""Figures of the chapter on errors: confusions, slices, the map of the pictures, and what heat maps are worth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mpox.book.figures import CLASS_COLOURS, COLOURS, MARKERS, dataset_title, whiskers
from mpox.models.explain import TITLES
from mpox.stats.slices import SLICE_COLUMNS

#: Colours of right and wrong predictions.
OUTCOME_COLOURS = {"right": "#BDBDBD", "wrong": "#D55E00"}
#: Below it a slice is drawn as found.
ALPHA = 0.05


def confusion(tables: dict[str, pd.DataFrame]) -> Figure:
    """Confusion matrices, data sets below each other: the share of the true class with its interval, and the count below.

    Parameters
    ----------
    tables : dict of str to DataFrame
        From `mpox.studies.errors.confusion_table`, by data set.
    """
    sizes = [table["true"].nunique() for table in tables.values()]
    heights = [0.9 + 0.75 * n for n in sizes]
    figure, axes = plt.subplots(len(tables), 1, figsize=(6, sum(heights)), squeeze=False, height_ratios=heights)
    for axis, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
        classes = list(dict.fromkeys(table["true"]))
        share = table.pivot(index="true", columns="predicted", values="share").loc[classes, classes]
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row in table.itertuples():
            x, y = classes.index(row.predicted), classes.index(row.true)
            look = {"ha": "center", "color": "white" if row.share > 0.6 else "black"}
            axis.text(x, y - 0.06, f"{row.share:.0%}", va="bottom", fontsize=10, fontweight="bold", **look)
            axis.text(x, y, f"{row.low:.0%} to {row.high:.0%}\n{row.images:.1f}", va="top", fontsize=7.5, **look)
        axis.set_xticks(range(len(classes)), classes)
        axis.set_yticks(range(len(classes)), classes)
        axis.grid(visible=False)
        axis.set(xlabel="predicted class", ylabel="true class", title=dataset_title(name))
    return figure


def slices(tables: dict[str, pd.DataFrame], overall: dict[str, float]) -> Figure:
    """Error rate of each slice with its interval, those that differ after correction filled; a panel a data set.

    Parameters
    ----------
    tables : dict of str to DataFrame
        By data set, from `mpox.stats.slices.slice_errors` or `mpox.stats.slices.find_slices`.
    overall : dict of str to float
        Error rate of all pictures, by data set.
    """
    tables = {name: table for name, table in tables.items() if len(table)}
    heights = [0.9 + 0.21 * len(table) for table in tables.values()]
    figure, axes = plt.subplots(len(tables), 1, figsize=(7, sum(heights) + 0.4), squeeze=False, height_ratios=heights)
    for axis, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
        table = table.reset_index(drop=True)
        axis.axvline(overall[name], color="black", linewidth=1, linestyle="--")
        for y, row in table.iterrows():
            found = row["p_corrected"] < ALPHA
            colour = COLOURS[1] if found and row["difference"] > 0 else COLOURS[0]
            error = whiskers(row["error_rate"], row["low"], row["high"])
            axis.errorbar(
                row["error_rate"], y, xerr=error, fmt="o", color=colour, mfc=colour if found else "white", capsize=2, ms=5
            )
        prefix = table["column"] + ": " if "column" in table else pd.Series("", table.index)
        names = [text.replace(" and ", "\nand ") for text in prefix + table[SLICE_COLUMNS[0]]]
        axis.set_yticks(
            range(len(table)), [f"{text} ({n})" for text, n in zip(names, table["n_groups"], strict=True)], fontsize=7.5
        )
        axis.set_ylim(len(table) - 0.4, -0.6)
        axis.set_title(dataset_title(name), loc="left")
        axis.set_xlabel("error rate; dashed: all pictures")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def map_colours(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """How the points of a map can be coloured: by class, by outcome, by data set."""
    classes, sources = sorted(table["class"].unique()), sorted(table["source"].unique())
    return {
        "class": {label: CLASS_COLOURS.get(label, COLOURS[k % len(COLOURS)]) for k, label in enumerate(classes)},
        "outcome": dict(OUTCOME_COLOURS),
        "source": {source: COLOURS[k % len(COLOURS)] for k, source in enumerate(sources)},
    }


def embedding(table: pd.DataFrame) -> Figure:
    """The map on paper, once for each way of colouring.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.errors.map_table`.
    """
    ways = {key: palette for key, palette in map_colours(table).items() if key == "class" or table[key].nunique() > 1}
    figure, axes = plt.subplots(1, len(ways), figsize=(4 * len(ways), 4.6), squeeze=False, sharex=True, sharey=True)
    for axis, (key, palette) in zip(axes[0], ways.items(), strict=True):
        for number, (value, colour) in enumerate(palette.items()):
            part = table[table[key] == value]
            axis.scatter(part["x"], part["y"], s=12, color=colour, marker=MARKERS[number % len(MARKERS)], label=value, alpha=0.8)
        axis.set(title=f"by {key}", xlabel="t-SNE, first axis", xticks=[], yticks=[])
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    axes[0, 0].set_ylabel("t-SNE, second axis")
    return figure


def saliency(table: pd.DataFrame, *, compared: str, xlabel: str, reference: float | None = None) -> Figure:
    """What a check measured for each method, with intervals; a panel a data set.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.saliency.summarise`, with ``dataset`` and ``method``.
    compared : str
        Column whose values are told apart by colour and marker.
    xlabel : str
    reference : float, optional
        Drawn as a dotted line.
    """
    names = list(dict.fromkeys(table["dataset"]))
    kinds, methods = list(dict.fromkeys(table[compared])), list(dict.fromkeys(table["method"]))
    height = 1.0 + 0.2 * len(kinds) * len(methods)
    figure, axes = plt.subplots(len(names), 1, figsize=(7, height * len(names) + 0.4), squeeze=False, sharex=True)
    for axis, name in zip(axes[:, 0], names, strict=True):
        for number, kind in enumerate(kinds):
            part = table[(table["dataset"] == name) & (table[compared] == kind)]
            y = np.array([methods.index(method) for method in part["method"]]) + (number - (len(kinds) - 1) / 2) * 0.7 / len(
                kinds
            )
            error = whiskers(part["estimate"], part["low"], part["high"])
            axis.errorbar(
                part["estimate"], y, xerr=error, fmt=MARKERS[number], color=COLOURS[number % len(COLOURS)], capsize=3, label=kind
            )
        if reference is not None:
            axis.axvline(reference, color="grey", linestyle=":", linewidth=1)
        axis.set_yticks(range(len(methods)), [TITLES.get(method, method) for method in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_title(dataset_title(name), loc="left")
        axis.set_xlabel(xlabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), fontsize=8)
    return figure
