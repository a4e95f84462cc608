"""Figures of chapter 4 on complexity: every function takes ready tables and gives a matplotlib figure."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from mpox.book.figures import COLOURS, MARKERS, dataset_title, whiskers
from mpox.stats.growth import pareto_front

#: Column of `mpox.models.costs.measure_costs` to the label of its axis and what a unit of that is worth.
COSTS = {
    "parameters": ("parameters (millions)", 1e6),
    "multiply_adds": ("multiply-adds a picture (millions)", 1e6),
    "median_ms_1": ("latency of a picture (ms, one thread)", 1.0),
}


def pareto(
    table: pd.DataFrame, *, ylabel: str, costs: dict[str, tuple[str, float]] | None = None, kind: str | None = None
) -> Figure:
    """A metric with intervals over each cost (logarithmic), and the line of models that no other beats, in stacked panels.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``model``, ``estimate``, ``low``, ``high`` and a column for each cost; a row without a cost is left out of
        that panel, and the panel says how many.
    ylabel : str
    costs : dict, optional
        Column to label and unit; `COSTS` by default.
    kind : str, optional
        Column told apart by colour and marker.
    """
    costs = costs or COSTS
    names = list(dict.fromkeys(table["dataset"]))
    kinds = list(dict.fromkeys(table[kind])) if kind else [None]
    panels = len(names) * len(costs)
    figure, axes = plt.subplots(panels, 1, figsize=(5.2, 2.5 * panels + (0.4 if kind else 0)), squeeze=False)
    seen: dict[Any, Any] = {}
    shown = []
    for row, name in zip(axes.reshape(len(names), len(costs)), names, strict=True):
        part = table[table["dataset"] == name]
        for axis, (column, (label, unit)) in zip(row, costs.items(), strict=True):
            known = part[part[column] > 0].assign(cost=lambda rows, column=column, unit=unit: rows[column] / unit)
            for number, one in enumerate(kinds):
                points = known if kind is None else known[known[kind] == one]
                error = whiskers(points["estimate"], points["low"], points["high"])
                look = {"color": COLOURS[number % len(COLOURS)], "fmt": MARKERS[number % len(MARKERS)], "markersize": 5}
                bars = axis.errorbar(points["cost"], points["estimate"], yerr=error, elinewidth=0.8, capsize=2, **look)
                seen.setdefault(one, bars)
            front = known[pareto_front(known, "cost", "estimate")].sort_values("cost")
            axis.set_xscale("log")
            axis.margins(x=0.25)
            if len(front):
                on = axis.get_xlim()[1]  # the best one goes on being the best at any cost
                axis.step([*front["cost"], on], [*front["estimate"], front["estimate"].max()], "k", where="post", lw=1, zorder=0)
                axis.set_xlim(right=on)
                _plain_ticks(axis)
            shown.append((axis, known))
            if len(known) < len(part):
                note = f"without {len(part) - len(known)} whose cost is not known"
                axis.annotate(note, (0.98, 0.02), xycoords="axes fraction", ha="right", fontsize=8)
            axis.set(xlabel=label, ylabel=ylabel)
            axis.set_title(dataset_title(name), loc="left")
    if kind and len(kinds) > 1:
        figure.legend([seen[one] for one in kinds], list(map(str, kinds)), loc="outside lower center", ncols=min(len(kinds), 5))
    figure.draw_without_rendering()  # where a name has room is known when the panels have their places
    for axis, known in shown:
        _name_points(axis, known)
    return figure


def _plain_ticks(axis: plt.Axes) -> None:
    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1,), numticks=5))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _name_points(axis: plt.Axes, points: pd.DataFrame) -> None:
    """Names beside the points, over the lines, each moved up or down until it lies on no other name and on no other point."""
    dots = axis.transData.transform(points[["cost", "estimate"]].to_numpy(float))
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in dots]
    steps = sorted(np.arange(-60.0, 61.0, 3.0), key=lambda step: abs(step - 8))
    for row in points.sort_values("estimate").itertuples():
        name = axis.annotate(
            row.model, (row.cost, row.estimate), xytext=(5, 3), textcoords="offset points", fontsize=8.5, va="center", zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        for left, shift in [(side, step) for step in steps for side in (False, True)]:
            name.set(ha="right" if left else "left", position=(-5 if left else 5, shift))
            box = name.get_window_extent()
            inside = axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 and axis.bbox.y0 <= box.y0 and box.y1 <= axis.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        else:  # no room anywhere: beside the point, whatever it lies on
            name.set(ha="left", position=(5, 3))
        taken.append(name.get_window_extent())
