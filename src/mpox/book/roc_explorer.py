"""An ROC curve whose threshold the reader moves, offline; without scripts it is the curve and a table at one half."""

import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display

from mpox._core import MpoxError
from mpox.stats.metrics import N_BOOTSTRAP, group_weights
from mpox.stats.resample import with_percentiles

#: Thresholds from which the reader chooses.
THRESHOLDS = np.linspace(0, 1, 101)
_SIDE, _PAD = 240, 34  # of the drawing, in its own units
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_COLUMNS = ["sensitivity", "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high"]


def operating_table(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Sensitivity and specificity at every threshold of `THRESHOLDS`, and the confusion matrix, of the first repeat.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a threshold: ``threshold``; ``sensitivity`` and ``specificity``, each with ``_low`` and ``_high`` (95 %
        percentiles over groups); ``tp``, ``fn``, ``fp``, ``tn`` (images). A picture is called positive from the threshold on.

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
    weights = group_weights(first["group_id"].to_numpy(dtype=str), n_bootstrap, seed).astype(float)
    rows = {"threshold": THRESHOLDS}
    for name, side, right in (("sensitivity", truth, called), ("specificity", ~truth, ~called)):
        total = weights[:, side].sum(axis=1, keepdims=True)
        shares = np.where(total > 0, weights[:, side] @ right[side] / np.where(total > 0, total, 1), np.nan)
        found = np.array([with_percentiles(values) for values in shares.T])
        rows |= {f"{name}{part}": found[:, k] for k, part in enumerate(("", "_low", "_high"))}
    for name, part in (("tp", called[truth]), ("fn", ~called[truth]), ("fp", called[~truth]), ("tn", ~called[~truth])):
        rows[name] = part.sum(axis=0)
    return pd.DataFrame(rows)


def explorer_html(curves: Mapping[str, pd.DataFrame], *, caption: str, positive: str = "Mpox") -> str:
    """The curves, a slider and a confusion matrix as a piece of HTML with its style and script; nothing is fetched.

    Everything that can be shown was computed here; the script only picks a row.

    Parameters
    ----------
    curves : mapping of str to DataFrame
        Name of a model or protocol to its `operating_table`.
    caption, positive : str

    Returns
    -------
    str

    Raises
    ------
    MpoxError
        If there is no curve, or there are more than four.
    """
    if not 0 < len(curves) <= len(_DASHES):
        raise MpoxError(f"The explorer shows one to {len(_DASHES)} curves, not {len(curves)}.")
    counts = ["tp", "fn", "fp", "tn"]
    data = {name: table[_COLUMNS].round(3).join(table[counts]).to_numpy().tolist() for name, table in curves.items()}
    name = "mpox-roc-" + hashlib.sha256(json.dumps([data, caption]).encode()).hexdigest()[:12]
    style, script = (Path(__file__).with_name(f"roc_explorer.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    options = "".join(f"<option>{html.escape(curve)}</option>" for curve in curves)
    first = next(iter(curves.values())).iloc[len(THRESHOLDS) // 2]
    cells = {key: f"<td data-cell={key}>{int(first[key])}</td>" for key in counts}
    return (
        f'<style>{style}</style>\n<div class="mpox-roc" id="{name}" role="group" aria-label="{html.escape(caption)}">\n'
        f"<p>{html.escape(caption)}</p>\n{_drawing(curves)}\n<div>\n<form>\n<label>curve <select name=curve>"
        f"{options}</select></label>\n"
        f'<label>threshold <input type="range" name="threshold" min="0" max="{len(THRESHOLDS) - 1}" '
        f'value="{len(THRESHOLDS) // 2}">'
        "<output name=value>0.50</output></label>\n</form>\n<table><thead><tr><td></td>"
        f"<th scope=col>called {positive}</th><th scope=col>called other</th></tr></thead><tbody>"
        f"<tr><th scope=row>{positive}</th>{cells['tp']}{cells['fn']}</tr>"
        f"<tr><th scope=row>others</th>{cells['fp']}{cells['tn']}</tr></tbody></table>\n"
        f"<p aria-live=polite class=says>{_says(first)}</p>\n</div>\n</div>\n"
        f"<script>{script}\nmpoxRoc({json.dumps(name)}, {json.dumps(data).replace('</', '<' + chr(92) + '/')});</script>"
    )


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
