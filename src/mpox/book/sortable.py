"""A table that a reader can sort in the browser, offline; where scripts do not run it is an ordinary table."""

import hashlib
import html
import json
from pathlib import Path

import pandas as pd


def sortable_html(table: pd.DataFrame, *, caption: str) -> str:
    """The table as a piece of HTML with its style and script; nothing is fetched from anywhere.

    The script makes a button of every header: by mouse or keyboard it sorts the rows upward, then downward, and says so with
    ``aria-sort``. A column in which every text begins with a number is sorted by these; empty cells come last.

    Parameters
    ----------
    table : DataFrame
        Its index is not shown. Texts and numbers as they are to be read; missing values are empty cells.
    caption : str
        What the table is.

    Returns
    -------
    str
    """
    shown = table.astype(object).where(table.notna(), "")
    header = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in shown)
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in shown.itertuples(index=False, name=None)
    )
    name = "mpox-sortable-" + hashlib.sha256(f"{caption}{header}{lines}".encode()).hexdigest()[:12]
    style, script = (Path(__file__).with_name(f"sortable.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    return (
        f'<style>{style}</style>\n<div class="mpox-sortable" tabindex="0" role="region" aria-label="{html.escape(caption)}">\n'
        f'<table id="{name}">\n<caption>{html.escape(caption)}</caption>\n<thead><tr>{header}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table>\n</div>\n<script>{script}\nmpoxSortable({json.dumps(name)});</script>"
    )
