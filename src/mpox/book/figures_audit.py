"""Figures of chapter 1, the data: every function takes ready tables and gives a matplotlib figure."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mpox.book.figures import CLASS_COLOURS, COLOURS, dataset_title
from mpox.data.dataset import Dataset

_GREY = "#999999"
_HATCHES = {"file": "", "pixels": "///", "geometric": "", "override": "..."}
_METHOD_COLOURS = {"file": "#000000", "pixels": "#7F7F7F", "geometric": "#0072B2", "override": "#E69F00"}


def _row(n: int, *, height: float = 2.8, width: float = 3.7) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(1, n, figsize=(max(width * n, 5.5), height), squeeze=False)
    return figure, axes[0]


def class_counts(datasets: list[Dataset]) -> Figure:
    """Images a class, one panel a data set."""
    figure, axes = _row(len(datasets))
    for axis, data in zip(axes, datasets, strict=True):
        counts = data.manifest["label"].value_counts().sort_index()
        bars = axis.barh(counts.index, counts, color=[CLASS_COLOURS.get(label, _GREY) for label in counts.index])
        axis.bar_label(bars, padding=3)
        axis.set(xlabel="images", title=dataset_title(data.name), xlim=(0, counts.max() * 1.15))
        axis.grid(axis="y", visible=False)
    return figure


def group_sizes(datasets: list[Dataset]) -> Figure:
    """How many images the honest groups have, one panel a data set; the last bar is the largest group."""
    figure, axes = _row(len(datasets))
    for axis, data in zip(axes, datasets, strict=True):
        sizes = data.groups.value_counts().value_counts().sort_index()
        bars = axis.bar(sizes.index.astype(str), sizes, color="#0072B2")
        axis.bar_label(bars, padding=2, fontsize=8)
        axis.set(xlabel="images in the group", ylabel="groups", title=dataset_title(data.name), yscale="symlog")
        axis.set_ylim(0, sizes.max() * 3)
        axis.grid(axis="x", visible=False)
        axis.tick_params(axis="x", labelsize=8)
    return figure


def pairs_by_method(table: pd.DataFrame) -> Figure:
    """How many pairs each method found, stacked, a bar a data set.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``method``, ``pairs``.
    """
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = _row(1, height=0.9 + 0.55 * len(names), width=7)
    start, words = pd.Series(0, index=names), [""] * len(names)
    for method, colour in _METHOD_COLOURS.items():
        part = table[table["method"] == method].set_index("dataset")["pairs"].reindex(names, fill_value=0)
        if part.sum() == 0:
            continue
        titles = [dataset_title(name) for name in names]
        look = {"color": colour, "hatch": _HATCHES[method], "edgecolor": "white"}
        bars = axes[0].barh(titles, part, left=start, **look)
        start += part
        words = [
            f"{text}, {count} {method}".removeprefix(", ") if count else text for text, count in zip(words, part, strict=True)
        ]
    axes[0].set(xlabel="pairs of the same photograph", xlim=(0, max(start.max(), 1) * 1.35))
    axes[0].invert_yaxis()
    axes[0].grid(axis="y", visible=False)
    if start.sum():
        axes[0].bar_label(bars, labels=words, padding=4, fontsize=8)
    return figure


def overlap_matrix(overlap: pd.DataFrame, sizes: pd.Series) -> Figure:
    """How many images of the row's data set have a copy in the column's: counts, and shares of the row's set as shades.

    Parameters
    ----------
    overlap : DataFrame
        Square, see `mpox.audit.result.Audit.overlap`.
    sizes : Series
        Images a data set.
    """
    share = overlap.div(sizes.reindex(overlap.index), axis=0)
    side = 1.6 + 1.1 * len(overlap)
    figure, axis = plt.subplots(figsize=(side + 1.2, side))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=max(0.5, share.to_numpy().max()))
    for (i, j), count in np.ndenumerate(overlap.to_numpy()):
        colour = "white" if share.iat[i, j] > 0.6 * max(0.5, share.to_numpy().max()) else "black"
        axis.text(j, i, f"{count}\n{share.iat[i, j]:.0%}", ha="center", va="center", color=colour)
    titles = [dataset_title(name) for name in overlap.index]
    axis.set_xticks(range(len(titles)), titles)
    axis.set_yticks(range(len(titles)), titles)
    axis.set(xlabel="have a copy in", ylabel="images of")
    axis.grid(visible=False)
    return figure


def ways_compared(table: pd.DataFrame) -> Figure:
    """Pairs that each way of looking finds, by whether the audit agrees; one panel a data set.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``way``, ``agreed`` and ``other`` (counts of pairs).
    """
    names = list(dict.fromkeys(table["dataset"]))
    figure, axes = _row(len(names), height=2.6, width=4.4)
    for axis, name in zip(axes, names, strict=True):
        part = table[table["dataset"] == name]
        axis.barh(part["way"], part["agreed"], color="#0072B2", label="accepted by the audit")
        look = {"color": "white", "edgecolor": "#D55E00", "hatch": "////", "label": "not accepted"}
        bars = axis.barh(part["way"], part["other"], left=part["agreed"], **look)
        labels = [f"{row.agreed} + {row.other}" if row.other else str(row.agreed) for row in part.itertuples()]
        axis.bar_label(bars, labels=labels, padding=3, fontsize=8)
        axis.set(xlabel="pairs", title=dataset_title(name))
        axis.set_xlim(0, max((part["agreed"] + part["other"]).max(), 1) * 1.25)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def statistics_by_class(table: pd.DataFrame, columns: dict[str, str]) -> Figure:
    """Distributions of picture statistics by class: a row a statistic, data sets side by side.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``label`` and the columns to be shown.
    columns : dict
        Column to axis label with unit.
    """
    names = table["dataset"].unique()
    size = (max(3.2 * len(names), 4.5), 1.7 * len(columns))
    figure, axes = plt.subplots(len(columns), len(names), figsize=size, squeeze=False, sharex="row")
    for column_of_axes, name in zip(axes.T, names, strict=True):
        part = table[table["dataset"] == name]
        for axis, (column, unit) in zip(column_of_axes, columns.items(), strict=True):
            _boxes(axis, part, column)
            axis.set_xlabel(unit)
        column_of_axes[0].set_title(dataset_title(name), loc="left")
    return figure


def _boxes(axis, part: pd.DataFrame, column: str) -> None:
    labels = sorted(part["label"].unique())
    values = [part.loc[part["label"] == label, column].dropna() for label in labels]
    look = {"orientation": "horizontal", "widths": 0.6, "showfliers": False, "patch_artist": True}
    boxes = axis.boxplot(values, tick_labels=labels, **look)
    for box, label in zip(boxes["boxes"], labels, strict=True):
        box.set_facecolor(CLASS_COLOURS.get(label, _GREY))
    for median in boxes["medians"]:
        median.set_color("black")


def skin_tone_by_class(table: pd.DataFrame, limits: dict[str, float]) -> Figure:
    """Typology angles by class as boxes over points, one panel a data set, with the limits of the named classes of skin.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``label``, ``ita`` (degrees; missing values are left out).
    limits : dict
        Class of skin to the angle above which it begins, in degrees, from light to dark.
    """
    table = table.dropna(subset="ita")
    names = list(dict.fromkeys(table["dataset"]))
    heights = [0.9 + 0.4 * table.loc[table["dataset"] == name, "label"].nunique() for name in names]
    size = (7, 0.8 + sum(heights))
    figure, axes = plt.subplots(len(names), 1, figsize=size, squeeze=False, sharex=True, height_ratios=heights)
    rng = np.random.default_rng(0)
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = table[table["dataset"] == name]
        _boxes(axis, part, "ita")
        for place, label in enumerate(sorted(part["label"].unique()), start=1):
            angles = part.loc[part["label"] == label, "ita"]
            axis.scatter(angles, place + rng.uniform(-0.28, 0.28, len(angles)), s=4, color="black", alpha=0.35, zorder=3)
        above = 90.0
        for text, limit in limits.items():
            lower = max(limit, -90.0)
            axis.axvline(lower, color="black", linestyle=":", linewidth=0.8)
            look: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom", "fontsize": 7}
            axis.annotate(text.replace(" ", "\n").replace("rm", "r-\nm"), ((lower + above) / 2, 1), **look)
            above = lower
        axis.set_xlim(-90, 90)
        axis.set_title(dataset_title(name), loc="left", pad=22)
        axis.grid(visible=False)
    axes[-1, 0].set_xlabel("individual typology angle, degrees (left: darker)")
    return figure


def tone_against_truth(table: pd.DataFrame) -> Figure:
    """Estimated against planted typology angle.

    Parameters
    ----------
    table : DataFrame
        ``ita_degrees`` (planted), ``ita`` (estimated), ``altered`` (bool: a re-coloured or combined copy).
    """
    figure, axis = plt.subplots(figsize=(4.6, 4.2))
    for altered, marker, colour, label in ((False, "o", COLOURS[0], "pictures"), (True, "x", COLOURS[1], "re-coloured copies")):
        part = table[table["altered"] == altered]
        axis.scatter(part["ita_degrees"], part["ita"], s=14, marker=marker, color=colour, alpha=0.7, label=label)
    axis.plot([-60, 70], [-60, 70], color="black", linestyle="--", linewidth=1)
    axis.set(xlabel="planted angle, degrees", ylabel="measured angle, degrees")
    axis.legend(fontsize=8)
    return figure
