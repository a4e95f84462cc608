"""A scatter plot that a reader can ask, by mouse or keyboard, offline; without scripts and on paper it is an ordinary figure."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

_SIDE, _MARGIN = 100.0, 2.0  # of the drawing, in its own units
_SHAPES = (
    "M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z", "M-.9-.9H.9V.9H-.9Z", "M0-1.1L1.1.8H-1.1Z", "M0-1.2L1.2 0L0 1.2L-1.2 0Z",
    "M0 1.1L1.1-.8H-1.1Z", "M-.35-1.1H.35V-.35H1.1V.35H.35V1.1H-.35V.35H-1.1V-.35H-.35Z",
)  # fmt: skip
_SHOWN = ["image_id", "class", "predicted", "probability", "outcome", "source"]


def map_html(table: pd.DataFrame, *, caption: str, colours: dict[str, dict[str, str]]) -> str:
    """The map as a piece of HTML with its style and script; nothing is fetched from anywhere, and no picture is in it.

    The points are an SVG that is drawn without the script too. The script adds a button for each way of colouring, and says what
    is known of a point when it is pointed at, or reached by keyboard: arrows go to the nearest point in their direction, Home and
    End to the first and last, w and W to the next and the previous mistake. What is said is read out by screen readers.

    Parameters
    ----------
    table : DataFrame
        From `mpox.studies.errors.map_table`.
    caption : str
        What the map is.
    colours : dict of str to dict of str to str
        For each column by which points can be coloured, ``class`` first: its values and their colours, ``#rrggbb``. A column
        with a single value gets no button.

    Returns
    -------
    str
    """
    places = table[["x", "y"]].to_numpy(dtype=float)
    low, high = places.min(axis=0), places.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    places = _MARGIN + (places - low) / span * (_SIDE - 2 * _MARGIN)
    places[:, 1] = _SIDE - places[:, 1]
    classes = list(colours["class"])
    shapes = {value: number % len(_SHAPES) for number, value in enumerate(classes)}
    rows = table.assign(probability=table["probability"].map("{:.2f}".format))[_SHOWN].astype(str).to_numpy().tolist()
    ways = {key: palette for key, palette in colours.items() if key == "class" or table[key].nunique() > 1}
    data = {"rows": rows, "columns": {key: _SHOWN.index(key) for key in (*ways, "outcome")}, "colours": ways, "shapes": shapes}
    payload = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    name = "mpox-map-" + hashlib.sha256(f"{caption}{payload}{places.tolist()}".encode()).hexdigest()[:12]
    symbols = "".join(f'<symbol id="{name}-{k}" overflow="visible"><path d="{path}"/></symbol>' for k, path in enumerate(_SHAPES))
    marks = "".join(
        f'<use href="#{name}-{shapes[label]}" x="{x:.2f}" y="{y:.2f}" fill="{colours["class"][label]}"/>'
        for (x, y), label in zip(places, table["class"], strict=True)
    )
    legend = "".join(f'<li style="color:{colour}">{html.escape(label)}</li>' for label, colour in colours["class"].items())
    style, script = (Path(__file__).with_name(f"mapview.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    help_text = "Point at a mark, or use the arrow keys; w goes to the next mistake."
    return (
        f'<style>{style}</style>\n<figure class="mpox-map" id="{name}">\n<div class="mpox-map-buttons" role="group" '
        f'aria-label="Colour by"></div>\n<svg viewBox="0 0 {_SIDE:g} {_SIDE:g}" role="application" tabindex="0" '
        f'aria-label="{html.escape(caption)} {help_text}"><defs>{symbols}</defs>{marks}'
        '<circle class="mpox-map-here" r="2.2" visibility="hidden"/></svg>\n'
        f'<ul class="mpox-map-legend">{legend}</ul>\n<p class="mpox-map-said" aria-live="polite">{help_text}</p>\n'
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>\n"
        f"<script>{script}\nmpoxMap({json.dumps(name)}, {payload});</script>"
    )


class MapView:
    """A map to be shown by a notebook: interactive in a browser, a figure on paper, a sentence in a terminal.

    Parameters
    ----------
    table, caption, colours
        See `map_html`.
    draw : callable
        Gives the figure for paper.
    """

    def __init__(self, table: pd.DataFrame, *, caption: str, colours: dict[str, dict[str, str]], draw: Callable[[], Figure]):
        self.table, self.caption, self.colours, self.draw = table, caption, colours, draw

    def _repr_mimebundle_(self, **_) -> dict:
        import matplotlib.pyplot as plt

        figure, stream = self.draw(), io.BytesIO()
        figure.savefig(stream, format="png")
        plt.close(figure)
        wrong = (self.table["outcome"] == "wrong").sum()
        return {
            "text/html": map_html(self.table, caption=self.caption, colours=self.colours),
            "image/png": base64.b64encode(stream.getvalue()).decode(),
            "text/plain": f"{self.caption} {len(self.table)} pictures, {wrong} of them predicted wrongly.",
        }
