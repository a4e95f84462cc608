"""Figures: every function takes ready tables and gives a matplotlib figure. No number that is quoted is computed here."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mpox.data.dataset import Dataset
from mpox.data.pictures import read_rgb
from mpox.data.registry import REGISTRY

#: Okabe and Ito's palette, safe for colour-blind readers; one colour a protocol and a class throughout the book.
PROTOCOL_COLOURS = {
    "random_image": "#D55E00",
    "patient": "#0072B2",
    "source": "#009E73",
    "augment_before_split": "#CC79A7",
}
CLASS_COLOURS = {
    "Mpox": "#CC79A7",
    "Chickenpox": "#E69F00",
    "Measles": "#56B4E9",
    "Others": "#0072B2",
    "Normal": "#7F7F7F",
}
#: For whatever else is told apart in a figure.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vP*X<>"


def use_style() -> None:
    """Set the book's matplotlib style: quiet axes, readable sizes, a white ground that holds in dark mode too."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.axisbelow": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )


def dataset_title(name: str) -> str:
    """The data set's name as a figure shows it; the phantom says what it is."""
    spec = REGISTRY.get(name)
    return f"{name}, not patients" if spec and spec.is_phantom else name


def _axes(n: int, *, height: float = 3.2, width: float = 3.7, **kwargs) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(1, n, figsize=(max(width * n, 5.5), height), squeeze=False, **kwargs)
    return figure, axes[0]


def whiskers(value, low, high) -> np.ndarray:
    """The two arms of intervals as matplotlib draws error bars, shape (2, n); an end on the wrong side of its value has no arm.

    Examples
    --------
    >>> whiskers(0.75, 0.5, 1.0).tolist()
    [[0.25], [0.25]]
    """
    arms = np.atleast_1d(np.asarray(value - low, float)), np.atleast_1d(np.asarray(high - value, float))
    return np.clip(arms, 0, None)


def pictures(data: Dataset, image_ids: list[str], captions: list[str], *, columns: int = 6, overlays=None) -> Figure | None:
    """A sheet of pictures, or a note where to get them when they are not on this machine; nothing stands in for them.

    Parameters
    ----------
    data : Dataset
    image_ids : list of str
    captions : list of str
        One a picture.
    columns : int
    overlays : list of ndarray, optional
        Heat maps from 0 to 1, shape (height, width), laid over the pictures.
    """
    from mpox.book.report import prose

    if not data.has_pictures:
        spec = REGISTRY.get(data.name)
        prose(
            f"*The pictures of {data.name} are not shown here: this page was made without them. To see them, get the "
            f"data set (`mpox data fetch {data.name}`, or {spec.homepage if spec else 'from its owner'}) and run this notebook "
            "with the profile `cpu`.*"
        )
        return None
    if not image_ids:
        prose(f"*No picture of {dataset_title(data.name)} to show here.*")
        return None
    rows = -(-len(image_ids) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.7 * columns, 2.0 * rows), squeeze=False)
    paths = data.manifest.set_index("image_id")["path"]
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, image_id, caption) in enumerate(zip(axes.flat, image_ids, captions, strict=False)):
        picture = read_rgb(paths[image_id])
        axis.imshow(picture)
        if overlays is not None:
            heat = overlays[number]
            axis.imshow(heat, cmap="inferno", alpha=0.45, extent=(0, picture.width, picture.height, 0))
        axis.set_title(caption, fontsize=7)
    figure.suptitle(dataset_title(data.name), fontsize=10)
    return figure


def intervals(table: pd.DataFrame, *, by: str, colour: str, xlabel: str, reference: dict[str, float] | None = None) -> Figure:
    """Estimates with 95 % intervals as points and lines, one panel a data set.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``estimate``, ``low``, ``high`` and the two columns named next.
    by : str
        Column whose values are the lines of a panel.
    colour : str
        Column whose values are told apart by colour and marker.
    xlabel : str
    reference : dict, optional
        Label to value, drawn as dashed vertical lines.
    """
    names = table["dataset"].unique()
    kinds = list(dict.fromkeys(table[colour]))
    abreast = table.groupby(["dataset", by])[colour].nunique().max()  # how many points share a line
    counts = [table.loc[table["dataset"] == name, by].nunique() for name in names]
    heights = [0.7 + count * (0.12 + 0.2 * abreast) for count in counts]
    figure, axes = plt.subplots(len(names), 1, figsize=(7, sum(heights) + 0.8), squeeze=False, sharex=True, height_ratios=heights)
    seen = {}
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = table[table["dataset"] == name]
        shown = list(dict.fromkeys(part[by]))
        present = [kind for kind in kinds if kind in set(part[colour])]
        for kind in present:
            rows = part[part[colour] == kind]
            place = present.index(kind) - (len(present) - 1) / 2 if abreast > 1 else 0
            y = np.array([shown.index(line) for line in rows[by]]) + place * 0.7 / abreast
            number = kinds.index(kind)
            shade = PROTOCOL_COLOURS.get(kind, COLOURS[number % len(COLOURS)])
            error = whiskers(rows["estimate"], rows["low"], rows["high"])
            marker = MARKERS[number % len(MARKERS)]
            seen[kind] = axis.errorbar(rows["estimate"], y, xerr=error, fmt=marker, color=shade, capsize=3)
        for text, value in (reference or {}).items():
            axis.axvline(value, color="black", linestyle="--", linewidth=1)
            axis.annotate(
                text,
                (value, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-3, 2),
                textcoords="offset points",
                ha="right",
                fontsize=8,
            )
        axis.set_yticks(range(len(shown)), shown)
        axis.set_ylim(len(shown) - 0.45, -0.55)
        axis.set_title(dataset_title(name), loc="left")
        axis.set_xlabel(xlabel)
    if len(seen) > 1:
        figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=min(len(seen), 4))
    return figure


def curves(bands: pd.DataFrame) -> Figure:
    """ROC and precision-recall curves with their bands, data sets in rows.

    Parameters
    ----------
    bands : DataFrame
        From `mpox.stats.metrics.curve_bands`, with ``dataset``, ``protocol`` and ``kind`` (``roc`` or ``pr``).
    """
    names = list(dict.fromkeys(bands["dataset"]))
    figure, axes = plt.subplots(len(names), 2, figsize=(8, 3.4 * len(names)), squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for (protocol, kind), part in bands[bands["dataset"] == name].groupby(["protocol", "kind"], sort=False):
            axis = row[0] if kind == "roc" else row[1]
            axis.plot(part["x"], part["estimate"], color=PROTOCOL_COLOURS[protocol], linewidth=1.4, label=protocol)
            axis.fill_between(part["x"], part["low"], part["high"], color=PROTOCOL_COLOURS[protocol], alpha=0.15, linewidth=0)
        row[0].plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        row[0].set(xlabel="1 - specificity", ylabel="sensitivity", title=f"{dataset_title(name)}: ROC")
        row[1].set(xlabel="recall", ylabel="precision", title="precision-recall", ylim=(0, 1.02))
        row[0].legend(loc="lower right")
    return figure


def fold_spread(table: pd.DataFrame, *, xlabel: str) -> Figure:
    """One point a fold: how much the folds of one model differ among themselves.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``protocol``, ``repeat``, ``estimate``.
    """
    names = table["dataset"].unique()
    figure, axes = _axes(len(names), height=2.4, sharex=True)
    for axis, name in zip(axes, names, strict=True):
        part = table[table["dataset"] == name]
        protocols = list(dict.fromkeys(part["protocol"]))
        for line, protocol in enumerate(protocols):
            rows = part[part["protocol"] == protocol]
            offset = np.linspace(-0.2, 0.2, rows["repeat"].nunique() + 2)[1:-1]
            axis.scatter(
                rows["estimate"], line + offset[rows["repeat"].to_numpy()], color=PROTOCOL_COLOURS[protocol], s=22, alpha=0.8
            )
            axis.plot([rows["estimate"].mean()] * 2, [line - 0.32, line + 0.32], color="black")
        axis.set_yticks(range(len(protocols)), protocols)
        axis.set_ylim(len(protocols) - 0.5, -0.5)
        axis.set_xlabel(xlabel)
        axis.set_title(dataset_title(name), loc="left")
    return figure


def histories(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch, one thin line a fold, the chosen epoch marked; one panel a data set."""
    names = history["dataset"].unique()
    figure, axes = _axes(len(names), height=3.0)
    for axis, name in zip(axes, names, strict=True):
        labels: tuple[str | None, ...] = ("training", "inner validation", "chosen epoch")
        for _, fold in history[history["dataset"] == name].groupby(["repeat", "fold"]):
            chosen = fold[fold["chosen"]]
            axis.plot(fold["epoch"] + 1, fold["train_loss"], color="#56B4E9", linewidth=1, label=labels[0])
            axis.plot(fold["epoch"] + 1, fold["validation_loss"], color="#D55E00", linewidth=1, label=labels[1])
            axis.scatter(chosen["epoch"] + 1, chosen["validation_loss"], color="black", s=18, zorder=3, label=labels[2])
            labels = (None, None, None)
        axis.set(xlabel="epoch", ylabel="loss (nats)", title=dataset_title(name))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(fontsize=8)
    return figure


def feature_map(table: pd.DataFrame) -> Figure:
    """Pictures as points in the plane of the first two principal components of their features, coloured by class.

    Parameters
    ----------
    table : DataFrame
        ``dataset``, ``label``, ``pc1``, ``pc2`` (standard deviations).
    """
    names = table["dataset"].unique()
    figure, axes = _axes(len(names), height=3.8)
    for axis, name in zip(axes, names, strict=True):
        for number, (label, part) in enumerate(table[table["dataset"] == name].groupby("label")):
            look = {"marker": MARKERS[number % len(MARKERS)], "color": CLASS_COLOURS.get(label, "#999999")}
            axis.scatter(part["pc1"], part["pc2"], s=14, alpha=0.7, label=label, **look)
        axis.set(xlabel="first principal component", ylabel="second principal component", title=dataset_title(name))
        axis.legend(fontsize=8)
    return figure
