"""The review page: found and doubtful pairs side by side, strongest doubt first, and the decisions as ``overrides.csv``."""

import base64
import hashlib
import html
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mpox.audit.overrides import COLUMNS, package_decisions
from mpox.audit.result import Audit
from mpox.pictures import read_rgb

#: Long side in pixels of the shown pictures, and their JPEG quality.
SIDE, QUALITY = 208, 72
#: Bytes above which no more pairs are put into a page.
LARGEST_PAGE = 1_400_000
_FOLDER = Path(__file__).parent
_EVIDENCE = [
    "method", "score", "decision", "reason", "inliers", "matches", "correlation", "agreement", "overlap", "mirrored", "transform",
]  # fmt: skip
#: What a table without pictures tells of a pair; all evidence is in the ``pairs.csv`` that `mpox audit` writes.
_TOLD = {"method": "found by", "score": "score", "decision": "decision"}


def by_doubt(audit: Audit) -> pd.DataFrame:
    """Accepted and doubtful pairs, those first whose score is nearest to 0.5; what a person has decided comes last."""
    parts = [table for table in (audit.pairs, audit.weak) if len(table)] or [audit.pairs]
    table = pd.concat(parts, ignore_index=True)
    decided = table["decision"].isin(["confirmed", "rejected"])
    order = table.assign(_decided=decided, _certain=(table["score"] - 0.5).abs().round(6))
    order = order.sort_values(["_decided", "_certain", *COLUMNS[:4]], kind="stable", ignore_index=True)
    return order.drop(columns=["_decided", "_certain"])


def review_fragment(audit: Audit, *, limit: int = 60, with_pictures: bool = True) -> str:
    """The review as a piece of HTML for a notebook: style, pairs, buttons and script; nothing is fetched from anywhere.

    Parameters
    ----------
    audit : Audit
    limit : int
        Pairs at most; fewer if the page would grow beyond `LARGEST_PAGE` bytes. The page says how many are left out.
    with_pictures : bool
        Put the two pictures of each pair in (``audit.images`` must have their ``path``); else a table of the evidence and how to
        get the pictures. Pages with pictures of patients are for the eyes of those who have the data.

    Returns
    -------
    str
    """
    table = by_doubt(audit)
    if table.empty:
        return "<p>No pair was found, and none is in doubt.</p>"
    if not with_pictures:
        return _table(table.head(limit), len(table))
    paths = audit.images.set_index(["dataset", "image_id"])["path"]
    cards: list[str] = []
    decided = _decided(table)
    size = len(decided.encode())
    for pair in table.head(limit).itertuples():
        card = _card(pair, len(cards) + 1, paths)
        size += len(card.encode())
        if cards and size > LARGEST_PAGE:
            break
        cards.append(card)
    names = _names(table)
    name = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]  # whatever was decided, the same pairs
    style, script = ((_FOLDER / f"review.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    return (
        f'<style>{style}</style>\n<section class="mpox-review" id="mpox-review-{name}" data-name="{name}" tabindex="0" '
        f'aria-label="Review of the pairs">\n<p>{_left_out(len(cards), len(table))} Outlined in the second picture: where the '
        "first one lies in it. Arrow keys go on and back, C confirms, R rejects. Decisions stay in this browser until they are "
        "downloaded, together with yours from before; <code>mpox audit --overrides overrides.csv</code> honours them.</p>\n"
        '<p class="mpox-review-bar" hidden><button type="button" data-go="-1">Previous</button> '
        '<button type="button" data-go="1">Next</button> <span role="status"></span> '
        '<button type="button" data-download>Download overrides.csv</button></p>\n'
        + "\n".join(cards)
        + f"\n</section>\n<script>{script}\nmpoxReview({json.dumps('mpox-review-' + name)}, {decided});</script>"
    )


def _names(table: pd.DataFrame) -> list[str]:
    return ["\t".join(row) for row in table[COLUMNS[:4]].astype(str).itertuples(index=False, name=None)]


def _decided(table: pd.DataFrame) -> str:
    """What people decided before, shown or not, as JSON for the script; ``ours`` is what comes with the package.

    A downloaded file holds it too, but for ours, which would otherwise win over later corrections of the package.
    """
    words = {"confirmed": "confirm", "rejected": "reject"}
    known = table[table["decision"].isin(list(words))]
    package = package_decisions()
    ours = dict(zip(_names(package), package["decision"], strict=True))
    entries = {}
    for name, row in zip(_names(known), known.itertuples(), strict=True):
        entries[name] = {"decision": words[row.decision], "reason": row.reason}
        if ours.get(name) == words[row.decision]:
            entries[name]["ours"] = True
    return json.dumps(entries).replace("<", "\\u003c")


class Review:
    """`review_fragment` as the output of a notebook's cell, with a line of text for terminals."""

    def __init__(self, audit: Audit, *, limit: int = 60, with_pictures: bool = True):
        self.html = review_fragment(audit, limit=limit, with_pictures=with_pictures)
        self.text = f"Review of {len(audit.pairs) + len(audit.weak)} pairs, strongest doubt first."

    def _repr_mimebundle_(self, **_):
        return {"text/html": self.html, "text/plain": self.text}


def review_html(audit: Audit, *, limit: int = 100, with_pictures: bool = True) -> str:
    """`review_fragment` as a whole page, under 1.5 MB."""
    title = f"Review of the pairs: {html.escape(', '.join(audit.datasets))}"
    shown = review_fragment(audit, limit=limit, with_pictures=with_pictures)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; "
        "padding: 0 0.8rem; }</style>\n"
        f"</head>\n<body>\n<h1>{title}</h1>\n{shown}\n</body>\n</html>\n"
    )


def _left_out(shown: int, there: int) -> str:
    rest = f"; {there - shown} more are left out" if there > shown else ""
    return f"{shown} of {there} pairs, strongest doubt first (score nearest to 0.5){rest}."


def _text(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return html.escape(f"{value:.3g}" if isinstance(value, float) else str(value))


def _table(table: pd.DataFrame, there: int) -> str:
    sides = {
        f"{which} picture": table[f"dataset_{side}"] + ": " + table[f"image_id_{side}"] + " (" + table[f"label_{side}"] + ")"
        for side, which in (("a", "first"), ("b", "second"))
    }
    shown = pd.DataFrame(sides).join(table[list(_TOLD)].rename(columns=_TOLD))
    head = "".join(f"<th scope='col'>{name}</th>" for name in shown)
    rows = ["".join(f"<td>{_text(value)}</td>" for value in row) for row in shown.itertuples(index=False, name=None)]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<p>{_left_out(len(table), there)} The pictures are not shown here. To see the pairs side by side and to decide about "
        "them, get the data sets (<code>mpox data fetch NAME</code>) and run <code>mpox audit NAME --out FOLDER --review</code>, "
        "which writes <code>review.html</code>, or run this notebook with the profile <code>cpu</code>.</p>\n"
        '<div style="overflow-x: auto; max-height: 32rem" tabindex="0" role="region" aria-label="pairs">'
        f'<table class="dataframe"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _card(pair, number: int, paths: pd.Series) -> str:
    ends = {column: str(getattr(pair, column)) for column in COLUMNS[:4]}
    data = " ".join(f'data-{name.replace("_", "-")}="{html.escape(value)}"' for name, value in ends.items())
    pictures = []
    sizes = {}
    for side in "ab":
        dataset, image_id = ends[f"dataset_{side}"], ends[f"image_id_{side}"]
        uri, sizes[side] = _data_uri(paths[dataset, image_id])
        label, patient = _text(getattr(pair, f"label_{side}")), _text(getattr(pair, f"patient_id_{side}"))
        name = f"{_text(dataset)}: {_text(image_id)}"
        outline = _outline(pair.transform, sizes["a"], sizes["b"]) if side == "b" else ""
        pictures.append(
            f'<figure><div class="mpox-review-picture"><img src="{uri}" alt="{"First" if side == "a" else "Second"} picture '
            f'of the pair, {name}, labelled {label}">{outline}</div><figcaption>{name}<br>{label}'
            f"{f', patient {patient}' if patient else ''}</figcaption></figure>"
        )
    facts = [(name, _text(getattr(pair, name))) for name in _EVIDENCE]
    evidence = " ".join(f"<div><dt>{name}</dt> <dd>{value}</dd></div>" for name, value in facts if value)
    return (
        f'<article class="mpox-review-pair" {data}>\n<div class="mpox-review-pictures">{"".join(pictures)}</div>\n'
        f"<dl>{evidence}</dl>\n"
        '<p class="mpox-review-decide" hidden>'
        f'<button type="button" data-decide="confirm" aria-pressed="false">Confirm: same photograph</button> '
        f'<button type="button" data-decide="reject" aria-pressed="false">Reject</button> '
        f'<label>Reason <input type="text" maxlength="200" aria-label="Reason for the decision on pair {number}"></label></p>\n'
        "</article>"
    )


def _data_uri(path: str) -> tuple[str, tuple[int, int]]:
    """A small copy of a picture as a data URI, and the width and height of the picture itself."""
    picture = read_rgb(path)
    size = picture.size
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", size


def _outline(transform: str, first: tuple[int, int], second: tuple[int, int]) -> str:
    """Where the first picture's frame lies in the second picture, as a drawing laid over it; empty where nothing is known."""
    try:
        a, b, c, d, e, f = (float(value) for value in str(transform).split())
    except ValueError:
        return ""
    corners = np.array([(0, 0), (first[0], 0), first, (0, first[1])], float)
    x, y = a * corners[:, 0] + b * corners[:, 1] + c, d * corners[:, 0] + e * corners[:, 1] + f
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return ""
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True))
    return (
        f'<svg viewBox="0 0 {second[0]} {second[1]}" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon class="under" points="{points}"/><polygon points="{points}"/></svg>'
    )
