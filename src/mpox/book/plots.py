"""The book's figures, on seaborn: `forest`, `bands`, `points`, `matrix`, `bars` and `sheet` take tidy tables and give a figure.

No number that is quoted is computed here. A table has a row a point, bar or cell; ``x``, ``y`` and
their like name its columns; `low` and `high` are the ends of intervals. The first five share these keywords:

- ``hue``: column shown by colour and by marker, line or hatching; `LOOKS` has what looks the same throughout the book.
- ``row``, ``col``: columns whose values get a row or a column of panels each.
- ``wrap``: panels in a row, with ``col`` alone.
- ``xlabel``, ``ylabel``: a text, or a mapping from the panels' values to texts; the panels' titles then leave those values
  out.
- ``reference``: label to a value (a line) or to two ends (a grey band); or a table with ``label``, ``estimate``, perhaps
  ``low`` and ``high``, and the columns that say which panels it is for. `matrix` and `bars` have none.
- ``width``, ``height``: of a panel, inches.
- ``sharex``, ``sharey``: as `matplotlib.pyplot.subplots`.
- ``log``, ``percent``: the axes that are logarithmic, or in per cent: ``"x"``, ``"y"`` or ``"xy"``.
- ``diagonal``: whether to draw the line of equality.
- ``ax``: one axes to draw on, in place of a new figure with panels.

Values come in the order of a categorical column, else as they appear. A table that lacks rows or a column is an `MpoxError`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullFormatter

from mpox._core import MpoxError
from mpox.book.report import prose
from mpox.book.wording import TITLES, WORDS
from mpox.data.dataset import Dataset
from mpox.data.pictures import read_rgb
from mpox.data.registry import REGISTRY

#: Okabe and Ito's palette, safe for colour-blind readers, and a marker each, so that colour is never the only sign.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vP*X"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 3)), (0, (3, 1)))
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo", "--")
#: Colour and marker of what has the same look throughout the book.
LOOKS = {
    "random_image": ("#D55E00", "o"),
    "patient": ("#0072B2", "s"),
    "source": ("#009E73", "D"),
    "augment_before_split": ("#CC79A7", "^"),
    "other data": ("#000000", "v"),
    "linear_probe": ("#0072B2", "o"),
    "fine_tune": ("#D55E00", "s"),
    "nearest_neighbour": ("#009E73", "^"),
    "Mpox": ("#CC79A7", "D"),
    "Chickenpox": ("#E69F00", "o"),
    "Measles": ("#56B4E9", "v"),
    "Others": ("#0072B2", "s"),
    "Normal": ("#7F7F7F", "^"),
    "msld-v1": ("#0072B2", "o"),
    "msid": ("#D55E00", "s"),
    "MSLD": ("#0072B2", "o"),
    "MSID": ("#D55E00", "s"),
    "not distinguished": ("#7F7F7F", "o"),
    "more errors": ("#D55E00", "s"),
    "fewer errors": ("#0072B2", "D"),
    "right": ("#BDBDBD", "o"),
    "wrong": ("#D55E00", "s"),
}
LOOKS |= {words: LOOKS[name] for name, words in WORDS.items() if name in LOOKS}
LOOKS["patients and copies kept apart"] = LOOKS["source"]


def use_style() -> None:
    """Set the book's style: quiet axes, readable sizes, a white ground that holds in dark mode too."""
    plt.rc("figure", facecolor="white", dpi=110)
    plt.rc("figure.constrained_layout", use=True)
    plt.rc("savefig", facecolor="white")
    plt.rc("axes", grid=True, axisbelow=True, titlesize=11)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("grid", alpha=0.25)
    plt.rc("font", size=10)
    plt.rc("legend", frameon=False)


def dataset_title(name: str) -> str:
    """The data set's name as a reader knows it; the phantom says what it is."""
    spec = REGISTRY.get(name)
    return f"{name}, not patients" if spec and spec.is_phantom else TITLES.get(name, str(name))


def looks(values: Iterable) -> dict[Any, tuple[str, str]]:
    """Colour and marker of each value: those of `LOOKS`, and for the others the first that are free."""
    values = _levels(values)
    taken = {sign for value in values for sign in LOOKS.get(value, ())}
    colours, markers = ([sign for sign in signs if sign not in taken] for signs in (COLOURS, MARKERS))
    free = zip(cycle(colours or COLOURS), cycle(markers or MARKERS))
    return {value: LOOKS.get(value) or next(free) for value in values}


def _looks(table: pd.DataFrame, hue: str | None) -> dict[Any, tuple[str, str]]:
    return looks(table[hue]) if hue else {None: (COLOURS[0], "o")}


def _of(table: pd.DataFrame, hue: str | None, level: Any) -> pd.DataFrame:
    return table[table[hue] == level] if hue else table


def forest(
    table: pd.DataFrame,
    y: str,
    *,
    x: str = "estimate",
    low: str = "low",
    high: str = "high",
    hue: str | None = None,
    style: str | None = None,
    goal: str | None = None,
    missing: str | None = None,
    values: str = "",
    legend: bool = True,
    **shared,
) -> Figure:
    """Estimates with their intervals, a line for each value of ``y``; what shares a line lies side by side.

    An estimate that is missing is not drawn; an interval that is missing has no whiskers.

    Parameters
    ----------
    style : str, optional
        Column shown by marker, filled for its first value and open for the others.
    goal : str, optional
        Column with a value that is marked by a dash on the estimate's own line.
    missing : str, optional
        Column that says why an estimate is missing; it is written in its place.
    values : str, optional
        How the estimate is written above its point, as ``"{:.2f}"``.
    legend : bool
        Not needed where ``y`` names the hues.
    """
    table = _checked(table, [x, low, high], [y, hue, style, goal, missing])
    table = table if missing else _checked(table[table[x].notna()])
    keys = [key for key in dict.fromkeys((hue, style)) if key and key not in (y, shared.get("row"), shared.get("col"))]

    def abreast(rows: pd.DataFrame) -> int:
        return rows[[y, *keys]].drop_duplicates()[y].value_counts().max()

    default: dict[str, Any] = {"width": 3.5 if "col" in shared else 6.6}
    default["height"] = lambda rows: 0.75 + rows[y].nunique() * (0.14 + 0.14 * abreast(rows))
    panels = _Panels(table, **{**default, "sharey": "row", "xlabel": "estimate, with 95 % interval", **shared})
    colour, marker = _looks(table, hue), looks(table[style]) if style else {}
    for axis, part, line_table in panels:
        lines = _lines(axis, line_table[y])
        beside = keys if abreast(line_table) > 1 else []
        present = set(line_table[beside].itertuples(index=False, name=None))
        kinds = [kind for kind in product(*(_levels(table[key]) for key in beside)) if kind in present]
        for one in part.to_dict("records"):
            shift = kinds.index(tuple(one[key] for key in beside)) - (len(kinds) - 1) / 2
            place = lines.index(one[y]) + shift * 0.72 / len(kinds)
            if pd.isna(one[x]):
                look = {"transform": axis.get_yaxis_transform(), "fontsize": 8, "va": "center"}
                axis.text(0.02, place, f"not defined: {one[missing]}", **look)
                continue
            shade, shape = colour[one[hue] if hue else None]
            shape = marker[one[style]][1] if style else shape
            fill = "white" if style and one[style] != next(iter(marker)) else shade
            arms = _arms(one[x], one[low], one[high])
            axis.errorbar(one[x], place, xerr=arms, fmt=shape, color=shade, mfc=fill, capsize=3, markersize=5.5)
            if goal and pd.notna(one[goal]):
                axis.plot([one[goal]] * 2, [place - 0.4, place + 0.4], color="black", linestyle="--", linewidth=1)
            if values:
                above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8}
                plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
                axis.annotate(values.format(one[x]), (one[x], place), bbox=plate, **above)
    entries = [(level, _key(*one)) for level, one in colour.items() if hue not in (y, None)]
    entries += [(level, _key("black", one[1], fill="white" if k else "")) for k, (level, one) in enumerate(marker.items())]
    return panels.finish(entries if legend else [])


def answer(intervals: pd.DataFrame) -> Figure:
    """The answer in one figure: F1 and ROC AUC of one model in every test, with the published values.

    ``intervals`` are of `mpox.studies.verdict.claim_intervals`, the tests in words.
    """
    names = {"f1": "F1", "roc_auc_mpox": "ROC AUC"}
    table = intervals[intervals["claim"].isin(names)].replace({"claim": names})
    table = table.assign(claim=table["claim"] + "; published " + table["published"].astype(str))
    values = table.drop_duplicates("claim")[["claim", "published"]].rename(columns={"published": "estimate"})
    look: dict[str, Any] = {"hue": "protocol", "style": "dataset", "row": "claim", "width": 4.8}
    return forest(table, "protocol", reference=values.assign(label="published"), xlabel="value, with 95 % interval", **look)


def bands(
    table: pd.DataFrame,
    x: str,
    *,
    y: str = "estimate",
    low: str = "low",
    high: str = "high",
    hue: str | None = None,
    units: str | None = None,
    intervals: str = "band",
    join: bool = True,
    shift: float = 0.012,
    **shared,
) -> Figure:
    """Lines with the intervals of their points; without the columns ``low`` and ``high`` there are no intervals.

    Parameters
    ----------
    units : str, optional
        Column whose values are lines of their own within a hue, for instance folds.
    intervals : {"band", "bars"}
        Bars are for few points.
    join : bool
        Whether the points are joined.
    shift : float
        How far the bars of two hues lie apart, as a share of the x axis.
    """
    ends = [key for key in (low, high) if key in table]
    table = _checked(table, [x, y, *ends], [hue, units])
    panels = _Panels(table, upright=False, **{"width": 3.7, "height": 3.0, **shared})
    look = _looks(table, hue)
    dash = {level: LINES[k % len(LINES)] if join else "" for k, level in enumerate(look)}
    few = not join or max(part[x].nunique() for _, part, _ in panels) <= 12
    for axis, part, _ in panels:
        present = [level for level in look if len(_of(part, hue, level))]
        step = shift * np.ptp(part[x]) if intervals == "bars" else 0
        for number, level in enumerate(present):
            rows = _of(part, hue, level).sort_values(x, kind="stable")
            rows = rows.assign(**{x: rows[x] + (number - (len(present) - 1) / 2) * step})
            shade, shape = look[level]
            if join:
                line = {"color": shade, "linestyle": dash[level], "linewidth": 1.4, "marker": shape if few else None}
                sns.lineplot(rows, x=x, y=y, units=units, estimator=None, errorbar=None, ax=axis, markersize=5, mew=0, **line)
            if not ends or rows[ends].isna().all(axis=None):
                continue
            if intervals == "band":
                axis.fill_between(rows[x], rows[low], rows[high], color=shade, alpha=0.15, linewidth=0)
            else:
                drawn = {"fmt": "none" if join else shape, "color": shade, "capsize": 2, "elinewidth": 0.9, "markersize": 5}
                axis.errorbar(rows[x], rows[y], yerr=_arms(rows[y], rows[low], rows[high]), **drawn)
    entries = [(level, _key(shade, shape if few else "", dash[level])) for level, (shade, shape) in look.items()]
    return panels.finish(entries if hue not in (panels.row, panels.col) else [])


def points(table: pd.DataFrame, x: str, y: str, *, hue: str | None = None, box: bool = False, **shared) -> Figure:
    """A scatter plot, or, where ``y`` holds texts, strips of points, shaken so that they can be counted.

    Rows that lack ``x`` or ``y`` are left out. With `box` the quartiles lie behind the strips, with whiskers of at most 1.5 times
    their distance.
    """
    table = _checked(_checked(table, [x], [y, hue]).dropna(subset=[x, y]))
    strips = not pd.api.types.is_numeric_dtype(table[y])
    default: dict[str, Any] = {"width": 3.7 if "col" in shared or not strips else 6.6, "height": 3.7}
    default |= {"height": lambda rows: 0.8 + 0.34 * rows[y].nunique(), "sharey": False} if strips else {}
    panels = _Panels(table, **{**default, **shared})
    look = _looks(table, hue)
    for axis, part, line_table in panels:
        places = part[y]
        if strips:
            lines = _lines(axis, (line_table if shared.get("sharey") else part)[y])
            on = places.map(lines.index).astype(float)
            places = on + np.random.default_rng(0).uniform(-0.26, 0.26, len(part))
        if strips and box:
            shades = {float(k): look.get(line, ("#D9D9D9",))[0] for k, line in enumerate(lines)}
            quartiles = {"showfliers": False, "width": 0.66, "linecolor": "black", "boxprops": {"alpha": 0.55}}
            along = {"x": part[x], "y": on, "hue": on, "palette": shades, "orient": "h", "native_scale": True, "legend": False}
            sns.boxplot(**along, **quartiles, ax=axis)
            sns.scatterplot(x=part[x], y=places, color="black", s=6, alpha=0.35, linewidth=0, ax=axis, zorder=3)
        else:
            for level, (shade, shape) in look.items():
                dots = {"color": shade, "marker": shape, "s": 18, "alpha": 0.7, "linewidth": 0}
                sns.scatterplot(_of(part.assign(__place=places), hue, level), x=x, y="__place", ax=axis, **dots)
        if strips:
            axis.set_ylim(len(lines) - 0.45, -0.55)
    return panels.finish([(level, _key(*one, "")) for level, one in look.items()] if hue != y else [])


def matrix(
    table: pd.DataFrame, x: str, y: str, value: str, *, text: str = "", frame: str = "", limits: tuple | None = None, **shared
) -> Figure:
    """A heat map of ``value``, with a text in each cell.

    Parameters
    ----------
    text : str
        Column of what is written; without it the value with two decimals.
    frame : str
        Column of bool: the cells that get a frame.
    limits : (float, float), optional
        Values of the first and the last shade; by default the least and the largest of the panel.
    """
    table = _checked(table, [value], [x, y, text, frame])
    table = table.assign(__text=table[text] if text else table[value].map("{:.2f}".format))
    size = {"width": lambda part: 0.9 + 1.2 * part[x].nunique(), "height": lambda part: 0.8 + 0.7 * part[y].nunique()}
    panels = _Panels(table, **{**size, "sharex": False, "sharey": False, **shared})
    for axis, part, _ in panels:
        lines, columns = _levels(part[y]), _levels(part[x])
        shades, words = (part.pivot(index=y, columns=x, values=one).loc[lines, columns] for one in (value, "__text"))
        low, high = limits or (part[value].min(), part[value].max())
        look = {"cmap": "Blues", "vmin": low, "vmax": high, "cbar": False, "annot_kws": {"fontsize": 9}}
        sns.heatmap(shades, annot=words, fmt="", ax=axis, **look)
        for one in part[part[frame].astype(bool)].to_dict("records") if frame else []:
            corner = (columns.index(one[x]) + 0.04, lines.index(one[y]) + 0.04)
            axis.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, color="#D55E00", linewidth=3))
        axis.tick_params(length=0, labelrotation=0)
    return panels.finish([])


def bars(table: pd.DataFrame, x: str, y: str, *, hue: str | None = None, numbers: str = "{:g}", **shared) -> Figure:
    """Lengths of ``x`` (at least 0, or missing) as horizontal bars, a line for each value of ``y``; hues are stacked.

    `numbers` is how a length is written at the end of its bar; ``""`` writes none.
    """
    table = _checked(table, [x], [y, hue])
    size: dict[str, Any] = {"width": 3.7 if "col" in shared else 6.6, "height": lambda part: 0.8 + 0.34 * part[y].nunique()}
    panels = _Panels(table, **{**size, "sharex": False, "sharey": False, **shared})
    look = _looks(table, hue)
    hatch = {level: HATCHES[k % len(HATCHES)] if hue != y else "" for k, level in enumerate(look)}
    for axis, part, _ in panels:
        lines = _lines(axis, part[y])
        start = np.zeros(len(lines))
        words: list[list] = [[] for _ in lines]
        for level, (shade, _) in look.items():
            lengths = _of(part, hue, level).set_index(y)[x].reindex(lines).fillna(0)
            drawn = {"color": shade, "hatch": hatch[level], "edgecolor": "white", "height": 0.72}
            artists = axis.barh(range(len(lines)), lengths, left=start, **drawn)
            start = start + lengths.to_numpy()
            for said, length in zip(words, lengths, strict=True):
                said += [(numbers.format(length), str(level))] if length else []
        if numbers:
            texts = [", ".join(" ".join(one) if len(said) > 1 else one[0] for one in said) for said in words]
            axis.bar_label(artists, labels=texts, padding=3, fontsize=8)
            inches = panels.figure.get_size_inches()[0] / panels.columns - 1.2  # of the axis; a letter takes 0.065
            free = 1 - np.clip([0.065 * len(text) / inches for text in texts], 0, 0.8)
            first = 0.7 if shared.get("log") else 0
            axis.set_xlim(first, max(first * (start / first) ** (1 / free) if first else start / free) * 1.03 or 1)
        axis.grid(axis="y", visible=False)
    entries = [(level, Patch(facecolor=shade, hatch=hatch[level], edgecolor="white")) for level, (shade, _) in look.items()]
    return panels.finish(entries if hue != y else [])


def sheet(
    images: Sequence,
    captions: Sequence[str],
    *,
    data: Dataset | None = None,
    overlays: Sequence[np.ndarray] | None = None,
    columns: int = 6,
    title: str = "",
) -> Figure | None:
    """Images in a grid; where those of a data set are not on this machine, a note where to get them, and nothing in their place.

    Parameters
    ----------
    images : sequence of ndarray of uint8 or PIL.Image.Image, or of str
        With ``data``, their ``image_id``.
    captions : sequence of str
    data : Dataset, optional
        Whose images they are; its name is the title.
    overlays : sequence of ndarray, optional
        Heat maps from 0 to 1, shape (height, width), laid over the images.
    """
    if data is not None:
        if not data.has_pictures:
            homepage = REGISTRY[data.name].homepage if data.name in REGISTRY else "from its owner"
            prose(
                f"*The images of {data.name} are not shown here: this page was made without them. To see them, get the data "
                f"set (`mpox data fetch {data.name}`, or {homepage}) and run this notebook with the profile `cpu`.*"
            )
            return None
        title = dataset_title(data.name)
        paths = data.manifest.set_index("image_id")["path"]
        images = [read_rgb(paths[image_id]) for image_id in images]
    if not len(images):
        prose(f"*No image of {title} to show here.*")
        return None
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.7 * columns, 2.1 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, image, caption) in enumerate(zip(axes.flat, images, captions, strict=False)):
        shown = np.asarray(image)
        axis.imshow(shown)
        if overlays is not None:
            axis.imshow(overlays[number], cmap="inferno", alpha=0.45, extent=(0, shown.shape[1], shown.shape[0], 0))
        axis.set_title(caption, fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure


class _Panels:
    """A figure with an axes for each value of ``row`` and ``col``; gives each axes, its rows, and those of all axes beside it."""

    def __init__(
        self, table, *, width, height, row=None, col=None, wrap=0, ax=None, xlabel="", ylabel="", reference=None,
        sharex=True, sharey=True, log="", percent="", diagonal=False, upright=True,
    ):  # fmt: skip
        _checked(table, [], [row, col])
        self.row, self.col, self.ax, self.upright = row, col, ax, upright
        self.labels, self.reference = (xlabel, ylabel), reference
        self.log, self.percent, self.diagonal = log, percent, diagonal
        down, across = _levels(table[row]) if row else [None], _levels(table[col]) if col else [None]
        self.where = [{key: value for key, value in ((row, r), (col, c)) if key} for r in down for c in across]
        self.parts = [_at(table, where) for where in self.where]
        self.beside = [_at(table, {key: value for key, value in where.items() if key == row}) for where in self.where]
        self.columns = min(wrap or len(across), len(across))
        if ax is not None:
            if len(self.parts) > 1:
                raise MpoxError("One axes holds one panel: leave out ax, row and col, or give a table with one value of them.")
            self.figure, self.axes = ax.figure, [ax]
            return
        widths, heights = ([size(part) if callable(size) else size for part in self.parts] for size in (width, height))
        heights = [max(heights[k : k + self.columns]) for k in range(0, len(heights), self.columns)]
        size = (max(max(widths) * self.columns, 4.6), sum(heights) + 0.4)
        shape = {"squeeze": False, "sharex": sharex, "sharey": sharey, "height_ratios": heights}
        self.figure, grid = plt.subplots(len(heights), self.columns, figsize=size, **shape)
        self.axes = list(grid.flat[: len(self.parts)])
        for axis in grid.flat[len(self.parts) :]:
            axis.remove()

    def __iter__(self):
        return ((axis, part, rows) for axis, part, rows in zip(self.axes, self.parts, self.beside, strict=True) if len(part))

    def finish(self, entries: list[tuple[Any, Any]]) -> Figure:
        """Labels, titles, reference lines, and the legend, which lies below the panels and so covers nothing."""
        mappings, first = [label for label in self.labels if isinstance(label, Mapping)], self.where[0]
        named = {key for key, value in first.items() if any(value in label for label in mappings)}
        seen: dict[str, Any] = {}
        for number, (axis, where, part) in enumerate(zip(self.axes, self.where, self.parts, strict=True)):
            outer = {self.row: number % self.columns == 0, self.col: number < self.columns or not self.row}
            lowest = number + self.columns >= len(self.axes)
            xlabel, ylabel = (
                next((label[one] for one in where.values() if one in label), "") if isinstance(label, Mapping) else label
                for label in self.labels
            )
            axis.set_xlabel(xlabel if lowest or self.row in named else "")
            axis.set_ylabel(ylabel if outer[self.row] or self.col in named else "")
            if lowest:
                axis.tick_params(labelbottom=True)
            told = [key for key in where if key not in named]
            if self.ax is None and all(outer[key] for key in told if len(told) == 1):
                axis.set_title(", ".join(_word(where[key]) for key in told), loc="left", fontsize=10)
            if part.empty:
                axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes)
            seen |= {label: artist for label, artist in self._refer(axis, where) if label}
            self._scale(axis)
        shown = [(_word(level), artist) for level, artist in entries if len(entries) > 1] + list(seen.items())
        if shown:
            texts, handles = zip(*shown, strict=True)
            room = self.figure.get_size_inches()[0] * (13 if self.ax is None else 6)
            abreast = int(room / (max(map(len, texts)) + 7))
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)} if self.ax else {"loc": "outside lower center"}
            (self.ax or self.figure).legend(handles, texts, ncols=max(1, min(len(texts), abreast)), fontsize=9, **place)
        return self.figure

    def _scale(self, axis: Axes) -> None:
        if self.diagonal:
            ends = axis.get_xlim()
            axis.plot(ends, ends, color="grey", linestyle=":", linewidth=1, zorder=0, scalex=False, scaley=False)
        for name, part in (("x", axis.xaxis), ("y", axis.yaxis)):
            if name in self.log:
                getattr(axis, f"set_{name}scale")("log")
                part.set_minor_formatter(NullFormatter())
                part.set_major_formatter("{x:g}")
            if name in self.percent:
                part.set_major_formatter(lambda value, _: f"{100 * value:g} %")

    def _refer(self, axis: Axes, where: dict) -> list[tuple[str, Any]]:
        """Draw the reference lines and bands of a panel; gives their labels and artists."""
        table = self.reference
        if table is None:
            return []
        if not isinstance(table, pd.DataFrame):
            ends = [(*value, np.nan) if isinstance(value, tuple) else (np.nan, np.nan, value) for value in table.values()]
            table = pd.DataFrame(ends, columns=["low", "high", "estimate"]).assign(label=list(table))
        line: Any = axis.axvline if self.upright else axis.axhline
        span: Any = axis.axvspan if self.upright else axis.axhspan
        found: list[tuple[str, Any]] = []
        labels = _levels(table["label"])
        for key, value in where.items():
            table = table[(table[key] == value) | table[key].isna()] if key in table else table
        for one in table.to_dict("records"):
            dash = ("--", ":", "-.", "-")[labels.index(one["label"]) % 4]
            if pd.notna(one.get("low")):
                found.append((one["label"], span(one["low"], one["high"], color="0.9", linewidth=0, zorder=0)))
            if pd.notna(one["estimate"]):
                found.append((one["label"], line(one["estimate"], zorder=1, color="black", linestyle=dash, linewidth=1)))
        return found


def _levels(values: Iterable) -> list:
    """The values in their order: that of the categories, else of appearance."""
    series = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return list(series.cat.remove_unused_categories().cat.categories)
    return list(dict.fromkeys(series.dropna()))


def _lines(axis: Axes, values: pd.Series) -> list:
    """The values as the lines of an axes, the first on top."""
    lines = _levels(values)
    axis.set_yticks(range(len(lines)), map(_word, lines), fontsize=9 if len(lines) < 12 else 8)
    axis.set_ylim(len(lines) - 0.45, -0.55)
    return lines


def _word(level: Any) -> str:
    return {**TITLES, **WORDS}.get(level) or (str(level) if level in LOOKS else dataset_title(str(level)).replace("_", " "))


def _key(colour: str, marker: str, line: Any = "-", fill: str = "") -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle=line, markerfacecolor=fill or colour)


def _at(table: pd.DataFrame, where: dict) -> pd.DataFrame:
    return table[np.logical_and.reduce([np.ones(len(table), bool), *(table[key] == value for key, value in where.items())])]


def _checked(table: pd.DataFrame, numbers: Sequence[str] = (), others: Sequence[str | None] = ()) -> pd.DataFrame:
    """The table with its numbers as floats."""
    if missing := [key for key in (*numbers, *others) if key and key not in table]:
        raise MpoxError(f"The table of this figure lacks {', '.join(missing)}: it has {', '.join(map(str, table.columns))}.")
    if table.empty:
        raise MpoxError("There is nothing to draw: the table of this figure has no rows.")
    return table.assign(**{key: table[key].astype(float) for key in numbers})


def _arms(value, low, high) -> np.ndarray:
    """The two arms of intervals, shape (2, n); an end on the wrong side of its value, or a missing one, has no arm."""
    arms = np.atleast_1d(np.asarray(value - low, float)), np.atleast_1d(np.asarray(high - value, float))
    return np.nan_to_num(np.clip(arms, 0, None))
