"""Figures of the learning curve and of the variance between folds: ready tables in, matplotlib figures out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from mpox.book.figures import COLOURS, MARKERS, dataset_title, whiskers
from mpox.stats.growth import PowerLaw
from mpox.stats.power import SAMPLING

#: How far beyond the largest number of groups a law is drawn.
EXTRAPOLATED = 10


def learning_curve(table: pd.DataFrame, fits: dict[tuple[str, str], PowerLaw], target: float, *, ylabel: str) -> Figure:
    """A metric over the number of training groups (logarithmic), with the fitted law and a target; data sets side by side.

    Parameters
    ----------
    table : DataFrame
        Rows of one metric and class from `mpox.studies.learning_curve.curve_table`, with ``dataset`` and ``regime``.
    fits : dict of (str, str) to PowerLaw
        (data set, regime) to the law of 1 minus the metric; dashed, and thinner where it goes beyond the data, to `EXTRAPOLATED`
        times the largest number of groups. A curve without one is drawn without.
    target : float
        Of the metric.
    ylabel : str
    """
    names = list(dict.fromkeys(table["dataset"]))
    regimes = list(dict.fromkeys(table["regime"]))
    size = (max(4.4 * len(names), 5.5), 3.6)
    figure, axes = plt.subplots(1, len(names), figsize=size, squeeze=False, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        for number, regime in enumerate(regimes):
            rows = table[(table["dataset"] == name) & (table["regime"] == regime)].sort_values("n_groups")
            if rows.empty:
                continue
            error = whiskers(rows["estimate"], rows["low"], rows["high"])
            look = {"color": COLOURS[number], "marker": MARKERS[number], "label": regime.replace("_", " ")}
            axis.errorbar(rows["n_groups"], rows["estimate"], yerr=error, linestyle="none", capsize=2, elinewidth=0.9, **look)
            if (name, regime) in fits:
                _draw_law(axis, fits[name, regime], rows["n_groups"], COLOURS[number])
        axis.axhline(target, color="black", linewidth=1, linestyle=":")
        axis.annotate(
            f"target {target:.3f}", (0.02, target), xycoords=axis.get_yaxis_transform(), xytext=(0, 3),
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(dataset_title(name), loc="left")
        axis.set_xlabel("training groups")
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].legend(loc="lower right", fontsize=8)
    return figure


def _draw_law(axis: plt.Axes, law: PowerLaw, n: pd.Series, colour: str) -> None:
    for low, high, width in ((n.min(), n.max(), 1.6), (n.max(), n.max() * EXTRAPOLATED, 0.8)):
        x = np.geomspace(low, high, 60)
        axis.plot(x, 1 - law.error(x), color=colour, linestyle="--", linewidth=width)


def variance_bars(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """The components of the variance between folds as bars of standard deviations, their shares beside them; a panel a data set.

    Parameters
    ----------
    table : DataFrame
        From `variance_components`, with ``dataset``. What sampling alone explains is hatched: it is a part of the
        folds' component, not of the sum.
    xlabel : str
    """
    names = list(dict.fromkeys(table["dataset"]))
    components = list(dict.fromkeys(table["component"]))
    size = (7, (0.7 + 0.34 * len(components)) * len(names) + 0.3)
    figure, axes = plt.subplots(len(names), 1, figsize=size, squeeze=False, sharex=True)
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = table[table["dataset"] == name].set_index("component").reindex(components)
        for y, (component, row) in enumerate(part.iterrows()):
            look = {"color": "white", "edgecolor": COLOURS[7], "hatch": "///"} if component == SAMPLING else {"color": COLOURS[0]}
            if np.isnan(row["sd"]):
                axis.text(0.01, y, "not estimable", transform=axis.get_yaxis_transform(), fontsize=8, va="center")
                continue
            axis.barh(y, row["sd"], height=0.62, **look)
            beside = (
                f"{row['sd']:.3f}" if component == SAMPLING or np.isnan(row["share"]) else f"{row['sd']:.3f} ({row['share']:.0%})"
            )
            axis.annotate(beside, (row["sd"], y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set_yticks(range(len(components)), components)
        axis.set_ylim(len(components) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.2)
        axis.set_title(dataset_title(name), loc="left")
    axes[-1, 0].set_xlabel(xlabel)
    return figure
