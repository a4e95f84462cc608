"""The costs of screening as a small calculator in the page, offline; without scripts it is a table of the first setting."""

import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from IPython.display import display

from mpox._core import MpoxError
from mpox.stats.decisions import Costs, strategy_costs

#: How many replicates of each operating point go into the page; its intervals are read off these.
N_SHIPPED = 400
_DIGITS = 4


def shipped(replicates: Mapping[str, np.ndarray]) -> list[list[float]]:
    """Sensitivities and specificities as the page gets them: the estimate, then `N_SHIPPED` replicates, rounded."""
    pairs = np.stack([replicates["sensitivity"], replicates["specificity"]])
    whole = pairs[:, ~np.isnan(pairs).any(axis=0)]
    return whole[:, : N_SHIPPED + 1].round(_DIGITS).tolist()


def widget_html(points: Mapping[str, Mapping[str, np.ndarray]], *, prevalence: float, costs: Costs, caption: str) -> str:
    """The calculator as a piece of HTML with its style and script; nothing is fetched from anywhere.

    The reader chooses an operating point, a prevalence from 0.1 to 50 % and three costs; the page shows what a screened person
    costs under each strategy, which one is the cheapest, and how many of 1000 people are missed or alarmed. The table that
    the page holds before a script runs is computed here, for the first operating point.

    Parameters
    ----------
    points : mapping of str to mapping
        Name of an operating point to its replicates (`mpox.stats.decisions.operating_replicates`).
    prevalence : float
        First setting, from 0.001 to 0.5.
    costs : Costs
        First setting.
    caption : str

    Returns
    -------
    str

    Raises
    ------
    MpoxError
        If there is no operating point, or the prevalence is out of range.
    """
    if not points or not 0.001 <= prevalence <= 0.5:
        raise MpoxError("The calculator needs an operating point and a prevalence from 0.001 to 0.5.")
    known = {name: shipped(replicates) for name, replicates in points.items()}
    name = "mpox-screening-" + hashlib.sha256(json.dumps([known, caption, asdict(costs)]).encode()).hexdigest()[:12]
    options = "".join(f"<option>{html.escape(point)}</option>" for point in known)
    labels = {"picture": "a picture", "false_alarm": "a false alarm", "missed": "a missed case"}
    numbers = "".join(
        f'<label>cost of {label} <input type="number" min="0" step="any" name="{key}" value="{getattr(costs, key):g}"></label>'
        for key, label in labels.items()
    )
    first = next(iter(known))
    sensitivity, specificity = np.array(known[first])
    table = strategy_costs(prevalence, sensitivity, specificity, costs)
    cheapest = table["estimate"].idxmin()
    rows = "".join(
        f"<tr{' class=cheapest' if k == cheapest else ''}><th scope=row>{html.escape(row.strategy)}</th>"
        f"<td>{row.estimate:.2f}</td><td>{row.low:.2f} to {row.high:.2f}</td></tr>"
        for k, row in enumerate(table.itertuples())
    )
    people = _of_1000(prevalence, sensitivity[0], specificity[0])
    data = json.dumps(known).replace("</", "<\\/")
    style, script = (
        Path(__file__).with_name(f"screening_widget.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js")
    )
    place = np.log10(prevalence)
    return (
        f'<style>{style}</style>\n<div class="mpox-screening" id="{name}" role="group" aria-label="{html.escape(caption)}">\n'
        f"<p>{html.escape(caption)}</p>\n<form>\n<label>operating point <select name=point>{options}</select></label>\n"
        f'<label>prevalence <input type="range" name="place" min="-3" max="-0.30103" step="any" value="{place:.6f}">'
        f"<output name=prevalence>{100 * prevalence:.2g} %</output></label>\n{numbers}\n</form>\n"
        "<table><thead><tr><th scope=col>strategy</th><th scope=col>cost of a person, in the unit of the costs above</th>"
        f"<th scope=col>95 % interval</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>\n<p aria-live=polite class=people>{people}</p>\n</div>\n"
        f"<script>{script}\nmpoxScreening({json.dumps(name)}, {data});</script>"
    )


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
