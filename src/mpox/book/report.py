"""What a notebook says in words and small tables: computed prose, findings that other pages quote, provenance."""

import base64
import html
import json
import math
import os
import re
from collections.abc import Iterable
from datetime import date

import pandas as pd
from IPython.display import Markdown, display

from mpox._core import MpoxError
from mpox.book.explorers import quiz_html, quiz_text, read_quiz, sortable_html
from mpox.book.wording import as_read, in_print, number_text
from mpox.data.dataset import Dataset
from mpox.models.hardware import environment
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RECORDED, RunStore
from mpox.stats.resample import EXACT

#: The real collections, and the edition that is made of them.
STUDY = frozenset({"msld-v1", "msid"})
#: How MyST-NB names what is kept in a notebook and not shown.
RECORD = "application/papermill.record/"


def prose(text: str) -> None:
    """Show a computed sentence as Markdown."""
    display(Markdown(text))


def finding(key: str, text: str) -> None:
    """Give a computed text a name, by which other pages of the book quote it; nothing is shown."""
    _keep(key, in_print(text))


def _keep(key: str, text: str) -> None:
    """What `myst_nb.glue` leaves in the notebook, without Sphinx, which it would import into every kernel."""
    bundle = {f"{RECORD}text/plain": repr(text)}
    display(bundle, raw=True, metadata={"scrapbook": {"name": key, "mime_prefix": RECORD}})


def is_study(datasets: Iterable[str]) -> bool:
    """Whether a chapter works on both real collections, of which the prose of the edition *study* speaks."""
    return set(datasets) >= STUDY


def guard(sentence: str, holds: bool) -> None:
    """Hold a sentence of the edition *study* against the numbers: an error in the recorded study, a warning in any other run."""
    if holds:
        return
    said = f"These numbers do not support the sentence '{sentence}'"
    if os.environ.get("MPOX_PROFILE") == RECORDED:
        raise MpoxError(f"{said}: mend the prose of the chapter.")
    prose(f"**{said} of this page, which was written for the recorded study.**")


def estimate(table: pd.DataFrame, metric: str, label: str, *, digits: int = 2) -> str:
    """One metric of `mpox.evaluate`'s table in words, for instance ``0.87 (0.82 to 0.91)``."""
    row = table[(table["metric"] == metric) & (table["class"] == label)].iloc[0]
    return with_interval(row["estimate"], row["low"], row["high"], row.get("interval"), digits=digits)


def with_interval(value: float, low: float, high: float, kind: str | None = None, *, digits: int = 2) -> str:
    """A number and its interval in words; ``kind`` is that of `mpox.stats.resample.Replicates`: an exact one is called so.

    Examples
    --------
    >>> with_interval(0.8712, 0.8194, 0.9149)
    '0.87 (0.82 to 0.91)'
    >>> with_interval(float("nan"), float("nan"), float("nan"))
    'not defined'
    >>> with_interval(1.0, 0.7151, 1.0, kind="exact")
    '1.00 (exact 0.72 to 1.00)'
    """
    if math.isnan(value):
        return "not defined"
    estimate, lower, upper = (number_text(number, digits) for number in (value, low, high))
    return f"{estimate} ({'exact ' if kind == EXACT else ''}{lower} to {upper})"


def of_hundred(value: float, low: float, high: float, kind: str | None = None) -> str:
    """A share and its interval as a clinician says them.

    Examples
    --------
    >>> of_hundred(0.8712, 0.8194, 0.9149)
    '87 of 100 (82 to 91)'
    """
    text = with_interval(100 * value, 100 * low, 100 * high, kind, digits=0)
    return text.replace(" ", " of 100 ", 1) if text[0].isdigit() else text


def short_name(dataset: str) -> str:
    """The data set's part of a finding's key: ``msld`` for ``msld-v1``."""
    return {"msld-v1": "msld"}.get(dataset, dataset)


def device_words(device: str) -> str:
    """A device as it was recorded, in good English.

    Examples
    --------
    >>> device_words("cpu (AMD EPYC, 1 threads)")
    'cpu (AMD EPYC, 1 thread)'
    """
    return re.sub(r"\b1 threads\b", "1 thread", device)


def millions(count: float) -> str:
    """A count in millions, for instance ``4.138 M``."""
    return f"{count / 1e6:.3f} M"


def show(table: pd.DataFrame, *, digits: int = 3, name: str = "", caption: str = "") -> None:
    """Show a table with its columns in words, its numbers rounded and without an index that means nothing.

    Parameters
    ----------
    table : DataFrame
    digits : int
        Behind the point.
    name : str, optional
        By which prose refers to the table, ``[the table](#table-NAME)``, and the book numbers it.
    caption : str, optional
        A short sentence above the table; a table with a name needs one.
    """
    if name and not caption:
        raise MpoxError(f"The table '{name}' has a name and no caption: a reader who is sent there must see what it is.")
    named = bool(table.index.name) or not isinstance(table.index, pd.RangeIndex)
    if table.empty:  # no directive, which Sphinx refuses without a row, and no label to refer to
        prose(f"*{caption.removesuffix('.') or 'This table'}: nothing to show here.*")
        return
    read, caption = as_read(table, digits), in_print(caption)
    with pd.option_context("display.max_colwidth", None):
        page = read.to_html(border=0, index=named, index_names=False)
    if named:  # its names into the row that has the names of the other columns
        row, words = page.rindex("<tr", 0, page.index("</thead>")), iter(read.index.names)
        head = re.compile("<th></th>").sub(
            lambda _: f"<th>{html.escape(str(next(words) or ''))}</th>", page[row:], read.index.nlevels
        )
        page = page[:row] + head
    if caption:
        above = f'<caption><span class="mpox-caption">{html.escape(caption)}</span></caption>'
        page = page.replace(">", f">\n{above}", 1)
    forms = {"text/html": page, "text/plain": "\n".join(filter(None, (caption, read.to_string(index=named))))}
    if name:
        forms["text/markdown"] = _directive(read.reset_index() if named else read, name, caption)
    display(forms, raw=True)


def _directive(table: pd.DataFrame, name: str, caption: str) -> str:
    """A table as MyST has it, which Sphinx numbers."""
    lines = [table.columns, *table.itertuples(index=False)]
    rows = [" | ".join(re.sub(r"([\\`*_\[\]<>|{}#])", r"\\\1", str(value)) for value in line) for line in lines]
    rows.insert(1, " | ".join(["---"] * table.shape[1]))
    return "\n".join([f"```{{table}} {caption}", f":name: table-{name}", "", *(f"| {row} |" for row in rows), "```"])


def sortable(table: pd.DataFrame, *, caption: str, digits: int = 3, name: str = "") -> None:
    """Show a table that can be sorted in the browser by its columns, and read as text elsewhere; the index is left out.

    `name` is as in `show`.
    """
    texts = as_read(table, digits)
    page = sortable_html(texts, caption=caption)
    display({"text/html": page, "text/plain": f"{caption}\n{texts.to_string(index=False)}"}, raw=True)


def download(table: pd.DataFrame, name: str) -> None:
    """Show a link that saves a table as ``NAME.csv``; the page carries the table itself, so that it works offline."""
    content = base64.b64encode(table.to_csv(index=False).encode()).decode()
    link = f'<a download="{name}.csv" href="data:text/csv;base64,{content}">{name}.csv</a>'
    display({"text/html": f"<p>{link} ({len(table)} rows)</p>", "text/plain": f"{name}.csv, {len(table)} rows"}, raw=True)


def quiz(chapter: str) -> None:
    """Show a chapter's quiz, for instance that of ``"03"``; see `mpox.book.explorers.read_quiz`."""
    questions = read_quiz(chapter)
    display({"text/html": quiz_html(questions), "text/plain": quiz_text(questions)}, raw=True)


def provenance(notebook: str, store: RunStore | RecordedStore, datasets: list[Dataset], *, device: str = "cpu") -> None:
    """Show where this notebook's numbers come from, and keep it in the notebook for the book's provenance page.

    `notebook` is its name, ``03_cross_validation``; `store` knows which runs and tables were asked for; `device` is what the
    notebook was told to compute on.
    """
    now = environment(device, 0)
    record = {
        "notebook": notebook,
        "datasets": [data.name for data in datasets],
        "phantom": any(data.is_phantom for data in datasets),
        "profile": os.environ.get("MPOX_PROFILE", "none (the notebook was run by itself)"),
        "run_ids": list(store.used_runs),
        "runs_s": round(sum(store.used_runs.values()), 1),
        "table_ids": list(store.used_tables),
        "audits": dict(store.used_audits),
        "package_version": now["versions"]["mpox"],
        "device": device_words(now["device"]),
        "date": date.today().isoformat(),
        "versions": now["versions"],
    }
    first, more = record["run_ids"][:1], len(record["run_ids"]) - 1
    runs = (f"{first[0]} and {more} more" if more else first[0]) if first else "none"
    rows = {
        "Data set": ", ".join(data.name + (" (phantom, not patients)" if data.is_phantom else "") for data in datasets),
        "Profile": record["profile"],
        "Runs": f"{runs}; computed, or re-used from the run store",
    }
    if isinstance(store, RecordedStore):
        study = store.study
        record["recorded"] = {key: study[key] for key in ("profile", "device", "finished", "compute_s", "versions")}
        rows["Runs"] = f"{runs}; read from the recorded study"
        rows["Recorded"] = (
            f"{study['finished'][:10]}, profile {study['profile']}, on {device_words(study['device'])}, torch "
            f"{study['versions']['torch']}; all runs of the study took {study['compute_s'] / 60:.0f} minutes to compute"
        )
    rows |= {"This page's device": record["device"], "Package": f"mpox {record['package_version']}", "Date": record["date"]}
    _keep("provenance", json.dumps(record))
    prose("\n".join(["| What | Value |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())]))
