"""Figures of shortcuts, skin tone and robustness: every function takes ready tables and gives a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mpox.book.figures import COLOURS, MARKERS, dataset_title, whiskers
from mpox.data.changes import GRID, STRENGTHS, UNTOUCHED

#: How a recipe was used, to colour and marker.
WAYS = {"trained and tested": (COLOURS[0], "o"), "tested only": (COLOURS[1], "s")}
CHANCE = {"color": "black", "linestyle": ":", "linewidth": 1}


def survival(table: pd.DataFrame, *, xlabel: str = "AUROC (Mpox against the rest)") -> Figure:
    """What is left of the AUROC under each alteration; a panel a data set, untouched pictures as a band, chance as a line.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.shortcuts.survival`, with ``dataset`` and ``way`` (a key of `WAYS`).
    xlabel : str
    """
    names = list(dict.fromkeys(table["dataset"]))
    shown = {name: _recipes(table[table["dataset"] == name]) for name in names}
    heights = [0.9 + 0.42 * len(recipes) for recipes in shown.values()]
    figure, axes = plt.subplots(
        len(names), 1, figsize=(7, sum(heights) + 0.6), squeeze=False, sharex=True, height_ratios=heights
    )  # fmt: skip
    seen = {}
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = table[table["dataset"] == name]
        reference = part[part["recipe"] == UNTOUCHED].iloc[0]
        axis.axvspan(reference["low"], reference["high"], color="0.9", zorder=0)
        seen["untouched, 95 %"] = axis.axvline(reference["estimate"], color="0.35", linewidth=1.2)
        seen["chance"] = axis.axvline(0.5, **CHANCE)
        for number, (way, (colour, marker)) in enumerate(WAYS.items()):
            rows = part[(part["way"] == way) & (part["recipe"] != UNTOUCHED)]
            if rows.empty:
                continue
            y = np.array([shown[name].index(recipe) for recipe in rows["recipe"]]) + (number - 0.5) * 0.32
            seen[way] = axis.errorbar(rows["estimate"], y, xerr=_error(rows), fmt=marker, color=colour, capsize=3, markersize=5)
        axis.set_yticks(range(len(shown[name])), [_words(recipe) for recipe in shown[name]])
        axis.set_ylim(len(shown[name]) - 0.4, -0.6)
        axis.set_title(dataset_title(name), loc="left")
    axes[-1, 0].set_xlabel(xlabel)
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=2)
    return figure


def _recipes(part: pd.DataFrame) -> list[str]:
    return [recipe for recipe in dict.fromkeys(part["recipe"]) if recipe != UNTOUCHED]


def _words(recipe: str) -> str:
    return recipe.replace("_true", ", true mask").replace("_", " ")


def _error(rows: pd.DataFrame) -> np.ndarray:
    return whiskers(rows["estimate"], rows["low"], rows["high"])


def gallery(pictures: dict[str, np.ndarray], title: str, *, columns: int = 4) -> Figure:
    """One picture in every altered form.

    Parameters
    ----------
    pictures : dict of str to ndarray of uint8
        Recipe to picture.
    title : str
    columns : int
    """
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 1.95 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (recipe, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(_words(recipe), fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def facts(table: pd.DataFrame) -> Figure:
    """Out-of-fold AUROC of single facts, with intervals, chance, and what the best of them reaches by chance; a panel a data set.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.shortcuts.single_facts`, with ``dataset``, ``words`` (the fact, for people) and ``tested``.
    """
    names = list(dict.fromkeys(table["dataset"]))
    kinds = list(dict.fromkeys(table["tested"]))
    counts = [table.loc[table["dataset"] == name, "words"].nunique() for name in names]
    heights = [0.8 + 0.3 * count for count in counts]
    figure, axes = plt.subplots(
        len(names), 1, figsize=(7, sum(heights) + 0.6), squeeze=False, sharex=True, height_ratios=heights
    )  # fmt: skip
    seen = {}
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = table[table["dataset"] == name]
        order = list(dict.fromkeys(part.sort_values("estimate", ascending=False)["words"]))
        here = [kind for kind in kinds if kind in set(part["tested"])]
        for kind in here:
            rows = part[part["tested"] == kind]
            colour, marker = COLOURS[kinds.index(kind)], MARKERS[kinds.index(kind)]
            y = np.array([order.index(words) for words in rows["words"]]) + (here.index(kind) - (len(here) - 1) / 2) * 0.32
            seen[kind] = axis.errorbar(rows["estimate"], y, xerr=_error(rows), fmt=marker, color=colour, capsize=3, markersize=5)
            axis.axvline(rows["chance"].iloc[0], color=colour, linestyle="--", linewidth=1)
        axis.axvline(0.5, **CHANCE)
        axis.set_yticks(range(len(order)), order)
        axis.set_ylim(len(order) - 0.4, -0.6)
        axis.set_title(dataset_title(name), loc="left")
    axes[-1, 0].set_xlabel("AUROC of the fact alone (Mpox against the rest)")
    if len(seen) > 1:
        figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=2)
    return figure


def cells(table: pd.DataFrame) -> Figure:
    """The grid over the picture: what each cell tells alone, what it costs when it is blanked; flagged cells have a frame.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.shortcuts.against_others`, with ``dataset`` and ``way`` (``alone`` or ``blanked``).
    """
    names, ways = list(dict.fromkeys(table["dataset"])), list(dict.fromkeys(table["way"]))
    titles = {"alone": "AUROC of the cell alone", "blanked": "AUROC lost when it is blanked"}
    size = (max(3.1 * len(ways), 5.5), 3.1 * len(names) + 0.3)
    figure, axes = plt.subplots(len(names), len(ways), figsize=size, squeeze=False)
    for line, name in zip(axes, names, strict=True):
        for axis, way in zip(line, ways, strict=True):
            axis.set(xticks=[], yticks=[], title=f"{titles[way]}\n{dataset_title(name)}")
            axis.title.set_fontsize(9)
            axis.grid(visible=False)
            part = table[(table["dataset"] == name) & (table["way"] == way)].sort_values(["row", "column"])
            if part.empty:
                axis.text(0.5, 0.5, "not asked", ha="center", va="center", transform=axis.transAxes, fontsize=8)
                continue
            values = part["estimate"].to_numpy().reshape(GRID, GRID)
            low, high = (0.4, 1.0) if way == "alone" else (-0.02, max(0.1, values.max()))
            axis.imshow(values, cmap="cividis", vmin=low, vmax=high)
            for row in part.itertuples():
                dark = row.estimate < low + 0.6 * (high - low)
                colour = "white" if dark else "black"
                axis.text(row.column, row.row, f"{row.estimate:.2f}", ha="center", va="center", fontsize=9, color=colour)
                if row.flagged:
                    frame = Rectangle((row.column - 0.46, row.row - 0.46), 0.92, 0.92, fill=False, color="#D55E00", linewidth=3)
                    axis.add_patch(frame)
    return figure


def strata(within: pd.DataFrame, equal: pd.DataFrame) -> Figure:
    """AUROC by skin tone, and as it is, within strata and re-weighted; a panel a data set.

    Parameters
    ----------
    within : DataFrame
        From `mpox.studies.tones.within_strata`, with ``dataset``; the AUROC is drawn.
    equal : DataFrame
        From `mpox.studies.tones.equal_tones`, with ``dataset``; the difference is left out.
    """
    names = list(dict.fromkeys(within["dataset"]))
    figure, axes = plt.subplots(len(names), 1, figsize=(7, 2.4 * len(names)), squeeze=False, sharex=True)
    for axis, name in zip(axes[:, 0], names, strict=True):
        one = within[(within["dataset"] == name) & (within["metric"] == "auroc")]
        texts = [f"{row.stratum} ({row.positives} of {row.images})" for row in one.itertuples()]
        other = equal[(equal["dataset"] == name) & ~equal["how"].str.contains("minus")]
        lines = pd.concat([one, other])[["estimate", "low", "high"]].reset_index(drop=True)
        texts += [f"all: {how}" for how in other["how"]]
        for number, colour in enumerate([COLOURS[0]] * len(one) + [COLOURS[1]] * len(other)):
            row = lines.iloc[[number]]
            if row["estimate"].isna().item():
                place = axis.get_yaxis_transform()
                axis.text(0.02, number, "too few groups of a side", transform=place, fontsize=8, va="center")
                continue
            axis.errorbar(row["estimate"], [number], xerr=_error(row), fmt="o", color=colour, capsize=3)
        axis.axvline(0.5, **CHANCE)
        axis.set_yticks(range(len(texts)), texts)
        axis.set_ylim(len(texts) - 0.4, -0.6)
        axis.set_title(dataset_title(name), loc="left")
    axes[-1, 0].set_xlabel("AUROC (Mpox against the rest)")
    return figure


def robustness(table: pd.DataFrame, metric: str, *, ylabel: str) -> Figure:
    """A measure over the strength of each corruption, with bands; a small panel a family, a line a data set.

    Parameters
    ----------
    table : DataFrame
        ``strengths`` of `mpox.studies.shortcuts.robustness`, with ``dataset``.
    metric : {"auroc", "accuracy"}
    ylabel : str
    """
    table = table[table["metric"] == metric]
    families, names = list(dict.fromkeys(table["family"])), list(dict.fromkeys(table["dataset"]))
    columns = min(4, len(families))
    rows = -(-len(families) // columns)
    size = (max(2.0 * columns, 5.5), 2.0 * rows + 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    seen = {}
    for axis in axes.flat[len(families) :]:
        axis.axis("off")
    for axis, family in zip(axes.flat, families, strict=False):
        for number, name in enumerate(names):
            part = table[(table["family"] == family) & (table["dataset"] == name)].sort_values("strength")
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
            (seen[dataset_title(name)],) = axis.plot(part["strength"], part["estimate"], **look)
            axis.fill_between(part["strength"], part["low"], part["high"], color=look["color"], alpha=0.15, linewidth=0)
        if metric == "auroc":
            axis.axhline(0.5, **CHANCE)
        axis.set_title(family.replace("_", " "), fontsize=9)
        axis.set_xticks([0, *STRENGTHS])
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel)
    figure.supxlabel("strength (0: untouched)", fontsize=10)
    figure.legend(seen.values(), seen.keys(), loc="outside upper center", ncols=2)
    return figure
