"""What a reader works with in the page: an ROC curve, the costs of screening, a table to sort; whole without scripts.

Everything that can be shown is computed here; a script only picks a row, or sums up what was computed. Nothing is fetched.
"""

import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display

from mpox._core import MpoxError
from mpox.stats.decisions import Costs, strategy_costs
from mpox.stats.metrics import N_BOOTSTRAP, groups_of
from mpox.stats.resample import bootstrap, weighted_mean

#: Thresholds from which the reader of an ROC curve chooses.
THRESHOLDS = np.linspace(0, 1, 101)
#: How many replicates of each operating point go into the page on costs; its intervals are read off these.
N_SHIPPED = 400
_SIDE, _PAD = 240, 34  # of the ROC drawing, in its own units
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_COLUMNS = ["sensitivity", "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high"]


def _piece(file: str, function: str, data: object, page: str) -> str:
    """A piece of HTML with its style and script; ``%ID%`` in the page becomes the element's id, made of its contents."""
    payload = json.dumps(data).replace("</", "<\\/")
    name = f"mpox-{hashlib.sha256(f'{payload}{page}'.encode()).hexdigest()[:12]}"
    style, script = (Path(__file__).with_name(f"{file}.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    call = f"{function}({json.dumps(name)}, {payload});"
    return f"<style>{style}</style>\n{page.replace('%ID%', name)}\n<script>{script}\n{call}</script>"


def operating_table(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Sensitivity and specificity at every threshold of `THRESHOLDS`, and the confusion matrix, of the first repeat.

    Parameters
    ----------
    predictions, positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a threshold: ``threshold``; ``sensitivity`` and ``specificity``, each with ``_low`` and ``_high`` (95 %
        percentiles over groups); ``tp``, ``fn``, ``fp``, ``tn`` (images). An image is called positive from the threshold on.

    Raises
    ------
    MpoxError
        If there is no image of either side.
    """
    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    truth = (first["label"] == positive).to_numpy()
    if not truth.any() or truth.all():
        raise MpoxError(f"An ROC curve needs images of {positive} and others.")
    called = first[f"p_{positive}"].to_numpy()[:, None] >= THRESHOLDS
    rows = {"threshold": THRESHOLDS}
    for name, side, right in (("sensitivity", truth, called), ("specificity", ~truth, ~called)):
        found = bootstrap(partial(weighted_mean, right, among=side), groups_of(first), n_bootstrap=n_bootstrap, seed=seed)
        rows |= dict(zip((name, f"{name}_low", f"{name}_high"), found.row().values(), strict=True))
    for name, part in (("tp", called[truth]), ("fn", ~called[truth]), ("fp", called[~truth]), ("tn", ~called[~truth])):
        rows[name] = part.sum(axis=0)
    return pd.DataFrame(rows)


def explorer_html(curves: Mapping[str, pd.DataFrame], *, caption: str, positive: str = "Mpox") -> str:
    """The curves (name to `operating_table`, one to four), a slider for the threshold, and the confusion matrix there."""
    if not 0 < len(curves) <= len(_DASHES):
        raise MpoxError(f"The explorer shows one to {len(_DASHES)} curves, not {len(curves)}.")
    counts = ["tp", "fn", "fp", "tn"]
    data = {name: table[_COLUMNS].round(3).join(table[counts]).to_numpy().tolist() for name, table in curves.items()}
    options = "".join(f"<option>{html.escape(curve)}</option>" for curve in curves)
    first = next(iter(curves.values())).iloc[len(THRESHOLDS) // 2]
    cells = {key: f"<td data-cell={key}>{int(first[key])}</td>" for key in counts}
    page = (
        f'<div class="mpox-roc" id="%ID%" role="group" aria-label="{html.escape(caption)}">\n'
        f"<p>{html.escape(caption)}</p>\n{_drawing(curves)}\n<div>\n<form>\n<label>curve <select name=curve>"
        f"{options}</select></label>\n"
        f'<label>threshold <input type="range" name="threshold" min="0" max="{len(THRESHOLDS) - 1}" '
        f'value="{len(THRESHOLDS) // 2}">'
        "<output name=value>0.50</output></label>\n</form>\n<table><thead><tr><td></td>"
        f"<th scope=col>called {positive}</th><th scope=col>called other</th></tr></thead><tbody>"
        f"<tr><th scope=row>{positive}</th>{cells['tp']}{cells['fn']}</tr>"
        f"<tr><th scope=row>others</th>{cells['fp']}{cells['tn']}</tr></tbody></table>\n"
        f"<p aria-live=polite class=says>{_says(first)}</p>\n</div>\n</div>"
    )
    return _piece("roc_explorer", "mpoxRoc", data, page)


def _says(row: pd.Series) -> str:
    parts = [
        f"{name} {row[name]:.2f} (95 % CI {row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
        for name in ("sensitivity", "specificity")
    ]
    return f"{parts[0][0].upper()}{parts[0][1:]}, {parts[1]}."


def _drawing(curves: Mapping[str, pd.DataFrame]) -> str:
    whole = _SIDE + 2 * _PAD
    lines = []
    for k, (name, table) in enumerate(curves.items()):
        points = " ".join(
            f"{_PAD + _SIDE * (1 - row.specificity):.1f},{_PAD + _SIDE * (1 - row.sensitivity):.1f}" for row in table.itertuples()
        )
        lines.append(
            f'<polyline class=curve points="{points}" stroke-dasharray="{_DASHES[k]}">'
            f"<title>{html.escape(name)}</title></polyline>"
        )
        y = _PAD + _SIDE - 12 - 14 * (len(curves) - 1 - k)
        lines.append(
            f'<line class=curve x1="{_PAD + 92}" x2="{_PAD + 116}" y1="{y - 4}" y2="{y - 4}" stroke-dasharray="{_DASHES[k]}"/>'
            f'<text x="{_PAD + 121}" y="{y}">{html.escape(name)}</text>'
        )
    middle = _PAD + _SIDE / 2
    return (
        f'<svg viewBox="0 0 {whole} {whole}" role="img" aria-label="ROC curves of {html.escape(", ".join(curves))}">'
        f'<rect class=frame x="{_PAD}" y="{_PAD}" width="{_SIDE}" height="{_SIDE}"/>'
        f'<line class=chance x1="{_PAD}" y1="{_PAD + _SIDE}" x2="{_PAD + _SIDE}" y2="{_PAD}"/>'
        f"{''.join(lines)}<circle class=here r=5 cx=-20 cy=-20 />"
        f'<text x="{middle}" y="{whole - 8}" text-anchor="middle">1 - specificity (0 to 1)</text>'
        f'<text transform="rotate(-90)" x="{-middle}" y="16" text-anchor="middle">sensitivity (0 to 1)</text></svg>'
    )


def show_explorer(curves: Mapping[str, pd.DataFrame], *, caption: str) -> None:
    """Show `explorer_html` in a notebook, and as text, at a threshold of one half, where there is no browser."""
    half = [f"{name}: {_says(table.iloc[len(THRESHOLDS) // 2])}" for name, table in curves.items()]
    text = "\n".join([caption, "At a threshold of 0.50:", *half])
    display({"text/html": explorer_html(curves, caption=caption), "text/plain": text}, raw=True)


def shipped(replicates: Mapping[str, np.ndarray]) -> list[list[float]]:
    """Sensitivities and specificities as the page gets them: the estimate, then `N_SHIPPED` replicates, rounded."""
    pairs = np.stack([replicates["sensitivity"], replicates["specificity"]])
    whole = pairs[:, ~np.isnan(pairs).any(axis=0)]
    return whole[:, : N_SHIPPED + 1].round(4).tolist()


def widget_html(points: Mapping[str, Mapping[str, np.ndarray]], *, prevalence: float, costs: Costs, caption: str) -> str:
    """A calculator: what a screened person costs under each strategy, and how many of 1000 are missed or alarmed."""
    if not points or not 0.001 <= prevalence <= 0.5:
        raise MpoxError("The calculator needs an operating point and a prevalence from 0.001 to 0.5.")
    known = {name: shipped(replicates) for name, replicates in points.items()}
    options = "".join(f"<option>{html.escape(point)}</option>" for point in known)
    labels = {"picture": "a picture", "false_alarm": "a false alarm", "missed": "a missed case"}
    numbers = "".join(
        f'<label>cost of {label} <input type="number" min="0" step="any" name="{key}" value="{asdict(costs)[key]:g}"></label>'
        for key, label in labels.items()
    )
    sensitivity, specificity = np.array(next(iter(known.values())))
    table = strategy_costs(prevalence, sensitivity, specificity, costs)
    cheapest = table["estimate"].idxmin()
    rows = "".join(
        f"<tr{' class=cheapest' if k == cheapest else ''}><th scope=row>{html.escape(row.strategy)}</th>"
        f"<td>{row.estimate:.2f}</td><td>{row.low:.2f} to {row.high:.2f}</td></tr>"
        for k, row in enumerate(table.itertuples())
    )
    place = f"{np.log10(prevalence):.6f}"
    page = (
        f'<div class="mpox-screening" id="%ID%" role="group" aria-label="{html.escape(caption)}">\n'
        f"<p>{html.escape(caption)}</p>\n<form>\n<label>operating point <select name=point>{options}</select></label>\n"
        f'<label>prevalence <input type="range" name="place" min="-3" max="-0.30103" step="any" value="{place}">'
        f"<output name=prevalence>{100 * prevalence:.2g} %</output></label>\n{numbers}\n</form>\n"
        "<table><thead><tr><th scope=col>strategy</th><th scope=col>cost of a person, in the unit of the costs above</th>"
        f"<th scope=col>95 % interval</th></tr></thead><tbody>{rows}</tbody></table>\n"
        f"<p aria-live=polite class=people>{_of_1000(prevalence, sensitivity[0], specificity[0])}</p>\n</div>"
    )
    return _piece("screening_widget", "mpoxScreening", known, page)


def _of_1000(prevalence: float, sensitivity: float, specificity: float) -> str:
    missed, alarms = 1000 * prevalence * (1 - sensitivity), 1000 * (1 - prevalence) * (1 - specificity)
    return (
        f"Of 1000 people {1000 * prevalence:.1f} have Mpox: the model finds {1000 * prevalence - missed:.1f}, "
        f"misses {missed:.1f}, and sends on {alarms:.1f} of the others."
    )


def show_widget(points: Mapping[str, Mapping[str, np.ndarray]], *, prevalence: float, costs: Costs, caption: str) -> None:
    """Show `widget_html` in a notebook, and as text, for the first operating point, where there is no browser."""
    page = widget_html(points, prevalence=prevalence, costs=costs, caption=caption)
    first = next(iter(points))
    sensitivity, specificity = np.array(shipped(points[first]))
    table = strategy_costs(prevalence, sensitivity, specificity, costs)
    text = f"{caption}\n{first}, prevalence {100 * prevalence:g} %\n{table.to_string(index=False, float_format='{:.2f}'.format)}"
    display({"text/html": page, "text/plain": text}, raw=True)


def sortable_html(table: pd.DataFrame, *, caption: str) -> str:
    """A table whose headers are buttons that sort its rows; its index is not shown, missing values are empty cells."""
    shown = table.astype(object).where(table.notna(), "")
    header = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in shown)
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in shown.itertuples(index=False, name=None)
    )
    page = (
        f'<div class="mpox-sortable" tabindex="0" role="region" aria-label="{html.escape(caption)}">\n'
        f'<table id="%ID%">\n<caption>{html.escape(caption)}</caption>\n<thead><tr>{header}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table>\n</div>"
    )
    return _piece("sortable", "mpoxSortable", None, page)
