"""What a notebook says in words and small tables: computed prose, findings that other pages quote, provenance."""

import html
import json
import math
import os
import re
import time
from collections.abc import Sequence
from datetime import date

import pandas as pd
from IPython.display import Markdown, display
from myst_nb import glue

from mpox._core import MpoxError
from mpox.book.explorers import sortable_html
from mpox.book.quiz import quiz_html, quiz_text, read_quiz
from mpox.book.wording import as_read, number_text
from mpox.data.dataset import Dataset
from mpox.models.hardware import device_name, environment
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore

#: How the key findings begin, by which the book finds them, and what stands there until the notebook has computed them.
KEY_FINDINGS = "**Key findings.**"
NOT_YET = "*They are written here when the notebook has run to its end.*"

_STARTED = time.perf_counter()


def prose(text: str) -> None:
    """Show a computed sentence as Markdown."""
    display(Markdown(text))


def finding(key: str, text: str) -> None:
    """Give a computed number a name, by which other pages of the book quote it; nothing is shown."""
    glue(key, text, display=False)


def estimate(table: pd.DataFrame, metric: str, label: str, *, digits: int = 2) -> str:
    """One metric of `mpox.evaluate`'s table in words, for instance ``0.87 (95 % CI 0.82 to 0.91)``."""
    row = table[(table["metric"] == metric) & (table["class"] == label)].iloc[0]
    return with_interval(row["estimate"], row["low"], row["high"], digits=digits)


def with_interval(value: float, low: float, high: float, *, digits: int = 2) -> str:
    """A number and its interval in words.

    Examples
    --------
    >>> with_interval(0.8712, 0.8194, 0.9149)
    '0.87 (95 % CI 0.82 to 0.91)'
    >>> with_interval(float("nan"), float("nan"), float("nan"))
    'not defined'
    """
    if math.isnan(value):
        return "not defined"
    estimate, lower, upper = (number_text(number, digits) for number in (value, low, high))
    return f"{estimate} (95 % CI {lower} to {upper})"


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


class KeyFindings:
    """What a chapter found, shown at its top and known at its end: `key_findings` shows the place, `fill` writes into it."""

    def __init__(self) -> None:
        self._place = display(Markdown(f"{KEY_FINDINGS} {NOT_YET}"), display_id=True)

    def fill(self, *sentences: str) -> None:
        """Write the findings, one point each; they may be Markdown."""
        points = "\n".join(f"- {sentence}" for sentence in sentences)
        self._place.update(Markdown(f"{KEY_FINDINGS}\n\n{points}"))


def key_findings() -> KeyFindings:
    """Keep a place near the top of a notebook for its key findings; the book shows them as a box under the objectives."""
    return KeyFindings()


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
    _named_has_caption(name, caption)
    named = table.index.name or not isinstance(table.index, pd.RangeIndex)
    read = as_read(table, digits)
    with pd.option_context("display.max_colwidth", None):
        shown = read.to_html(border=0, index=bool(named), index_names=False)
    if named:
        shown = _head_of_index(shown, read.index.names)
    if caption:
        shown = re.sub(r"<table[^>]*>", lambda tag: f"{tag[0]}\n{_caption(caption)}", shown, count=1)
    text = "\n".join([*([caption] if caption else []), read.to_string(index=bool(named))])
    display(_Html(shown, text, _directive(read.reset_index() if named else read, name, caption) if name else ""))


def _directive(table: pd.DataFrame, name: str, caption: str) -> str:
    """A table as MyST has it, which Sphinx numbers."""
    cells = [[re.sub(r"([\\`*_\[\]<>|{}#])", r"\\\1", str(value)) for value in row] for row in table.itertuples(index=False)]
    head = [re.sub(r"([\\`*_\[\]<>|{}#])", r"\\\1", str(column)) for column in table.columns]
    rows = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *cells)]
    return f"```{{table}} {caption}\n:name: table-{name}\n\n" + "\n".join(rows) + "\n```"


def _head_of_index(page: str, names: Sequence[str | None]) -> str:
    """Put the names of the index over its columns, into the row that has the names of the others, not into a row of their own."""
    head, end, body = page.partition("</thead>")
    before, row, last = head.rpartition("<tr")
    for index_name in names:
        last = last.replace("<th></th>", f"<th>{html.escape(str(index_name or ''))}\0</th>", 1)
    return before + row + last.replace("\0", "") + end + body


def sortable(table: pd.DataFrame, *, caption: str, digits: int = 3, name: str = "") -> None:
    """Show a table that can be sorted in the browser by its columns, and read as text elsewhere; the index is left out.

    `name` is as in `show`.
    """
    texts = as_read(table, digits)
    page = sortable_html(texts, caption=caption)
    page = re.sub(r"<caption>.*?</caption>", lambda _: _caption(caption), page, count=1, flags=re.S)
    display(_Html(page, f"{caption}\n{texts.to_string(index=False)}"))


def _named_has_caption(name: str, caption: str) -> None:
    if name and not caption:
        raise MpoxError(f"The table '{name}' has a name and no caption: a reader who is sent there must see what it is.")


def _caption(caption: str) -> str:
    return f'<caption><span class="mpox-caption">{html.escape(caption)}</span></caption>'


def quiz(chapter: str) -> None:
    """Show a chapter's quiz, for instance that of ``"03"``; see `mpox.book.quiz`."""
    questions = read_quiz(chapter)
    display(_Html(quiz_html(questions), quiz_text(questions)))


class _Html:
    """A table or a quiz in several forms: HTML for browsers, text for terminals and comparisons, MyST for the book."""

    def __init__(self, html: str, text: str, markdown: str = ""):
        self.forms = {"text/html": html, "text/plain": text, **({"text/markdown": markdown} if markdown else {})}

    def _repr_mimebundle_(self, **_):
        return self.forms


def provenance(notebook: str, store: RunStore | RecordedStore, datasets: list[Dataset], *, device: str = "cpu") -> None:
    """Show where this notebook's numbers come from, and keep it in the notebook for the book's provenance page.

    Parameters
    ----------
    notebook : str
        Name of the notebook, for instance ``03_cross_validation``.
    store : RunStore or RecordedStore
        It knows which runs and tables were asked for.
    datasets : list of Dataset
    device : {"cpu", "cuda"}
        What the notebook was told to compute on.
    """
    now = environment(device, time.perf_counter() - _STARTED)
    recorded = isinstance(store, RecordedStore)
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
        "device": device_words(device_name(device)),
        "date": date.today().isoformat(),
        "duration_s": now["seconds"],
        "store": "recorded" if recorded else "live",
        "versions": now["versions"],
    }
    trained = ""
    if isinstance(store, RecordedStore) and store.study:
        study = store.study
        record["recorded"] = {key: study[key] for key in ("profile", "device", "finished", "compute_s", "versions")}
        minutes, torch, device_then = study["compute_s"] / 60, study["versions"]["torch"], device_words(study["device"])
        trained = (
            f"| Recorded | {study['finished'][:10]}, profile {study['profile']}, on {device_then}, torch {torch}; "
            f"all runs of the study took {minutes:.0f} minutes to compute |\n"
        )
    glue("provenance", json.dumps(record), display=False)
    names = ", ".join(data.name + (" (phantom, not patients)" if data.is_phantom else "") for data in datasets)
    first, more = record["run_ids"][:1], len(record["run_ids"]) - 1
    runs = f"{first[0]} and {more} more" if first and more else (first[0] if first else "none")
    origin = "read from the recorded study" if recorded else "computed, or re-used from the run store"
    prose(
        "| What | Value |\n|---|---|\n"
        f"| Data set | {names} |\n"
        f"| Profile | {record['profile']} |\n"
        f"| Runs | {runs}; {origin} |\n"
        f"{trained}"
        f"| This page's device | {record['device']} |\n"
        f"| Package | mpox {record['package_version']} |\n"
        f"| Date | {record['date']} |"
    )
