"""The audit for people: a data sheet, and a page on which to go through doubtful pairs."""

import base64
import hashlib
import html
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mpox.audit.result import COLUMNS, Audit, package_decisions
from mpox.data.pictures import read_rgb
from mpox.data.registry import REGISTRY

#: The seven sections of a data sheet.
SECTIONS = ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance")


@dataclass(frozen=True)
class Background:
    """What the authors of a data set say of it, in our words; it cannot be measured from the files.

    Parameters
    ----------
    motivation, collection, preprocessing, maintenance : str
        Sentences; empty where nothing is known.
    """

    motivation: str = ""
    collection: str = ""
    preprocessing: str = ""
    maintenance: str = ""


_BACKGROUND = {
    "msld-v1": Background(
        motivation="Made in 2022, during the outbreak, to see whether a network can tell Mpox from other rashes in photographs; "
        "by a group at a technical university in Bangladesh. Who paid for it is not known to us.",
        collection="Gathered from news pages, medical web sites and case reports, so nobody was asked to take part for this "
        "purpose, and consent for this use is not known. The authors looked the pictures through and numbered the patients; how "
        "a diagnosis was confirmed is not recorded. 'Others' are chickenpox and measles, not told apart.",
        preprocessing="Cropped to the region of interest and brought to 224 x 224 pixels by the authors. An augmented version is "
        "shipped beside the originals; it is not used here.",
        maintenance="Followed by a second version with more classes and patients (MSLD v2.0). No list of errors is known to us.",
    ),
    "msid": Background(
        motivation="Made in 2022 to train a network that recognises Mpox in photographs of skin. Who paid for it is not known.",
        collection="Gathered from the web; the class 'Normal' looks like stock photography. Consent for this use, the sources of "
        "single pictures and how a diagnosis was confirmed are not recorded.",
        preprocessing="All pictures are 224 x 224 pixels, squashed to a square whatever their shape was, and saved "
        "as PNG. Copies of the same photograph were not removed.",
        maintenance="Published at Mendeley Data in several versions. No list of errors is known to us.",
    ),
    "msld-v2": Background(
        motivation="Made in 2024 as the successor of MSLD v1.0, with more classes of rash and more patients.",
        collection="Gathered from the web, with a number for each patient in the file names; consent for this use is not known.",
        preprocessing="Shipped with five divisions into training, validation and test pictures.",
    ),
    "ahsan-2022": Background(
        motivation="One of the first public collections of Mpox pictures, made in 2022.",
        collection="Gathered by searching the web; patients are not numbered, consent for this use is not known.",
        preprocessing="Original sizes. Augmented copies lie beside the originals and are not used here.",
    ),
    "phantom": Background(
        motivation="Drawn by this package, so that its instruments can be held against a known truth. It shows no patient.",
        collection="A program draws every picture from random numbers with a fixed seed. Nobody was photographed.",
        preprocessing="Some pictures are filed a second time as altered copies, one of them under a wrong label, and a mark is "
        "put into the corner of most Mpox pictures; all of this is written down beside the pictures.",
        maintenance="Part of this package: a change of the generator changes its version.",
    ),
}


def datasheet(
    audit: Audit,
    name: str,
    *,
    quality: pd.DataFrame | None = None,
    tone: pd.DataFrame | None = None,
    overlap: pd.DataFrame | None = None,
    heading: int = 2,
) -> str:
    """The data sheet of one data set as Markdown.

    Parameters
    ----------
    audit : Audit
        Of this data set, alone or with others; figures about copies are of this set.
    name : str
        The data set's name in the audit.
    quality : DataFrame, optional
        From `mpox.audit.quality.image_quality`; without it quality is 'not measured'.
    tone : DataFrame, optional
        From `mpox.audit.quality.skin_tone`; likewise.
    overlap : DataFrame, optional
        `Audit.overlap` of an audit of several sets, where `audit` is of this one alone; by default the audit's own.
    heading : int
        Level of the sections' headings; 0 makes them bold words, for use inside another page.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the audit has no data set of that name.
    """
    if name not in audit.datasets:
        raise ValueError(f"the audit has no data set {name}")
    spec, background = REGISTRY.get(name), _BACKGROUND.get(name, Background())
    unknown = "Not known."
    texts = {
        "Motivation": background.motivation or unknown,
        "Composition": " ".join([*_counts(audit, name), *_copies(audit, name, overlap), *_measured(quality, tone, name)]),
        "Collection": background.collection or "Not known; ask whoever put the folder together about consent and diagnosis.",
        "Preprocessing": background.preprocessing or unknown,
        "Uses": _uses(name),
        "Distribution": _distribution(name),
        "Maintenance": background.maintenance or unknown,
    }
    title = spec.title if spec else f"Folder {name}"
    lines = [f"{'#' * (heading - 1)} Data sheet: {_plain(title)}"] if heading > 1 else []
    for section in SECTIONS:
        lines += [f"{'#' * heading} {section}", texts[section]] if heading else [f"**{section}.** {texts[section]}"]
    return "\n\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A file's or folder's name in a Markdown page: nothing in it is markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in text)


def _counts(audit: Audit, name: str) -> list[str]:
    images = audit.images[audit.images["dataset"] == name]
    classes = ", ".join(f"{count} {_plain(label)}" for label, count in images["label"].value_counts().items())
    widths, heights = images["width"], images["height"]
    sizes = f"{widths.min()} x {heights.min()}" if widths.nunique() == heights.nunique() == 1 else (
        f"{widths.min()} to {widths.max()} wide and {heights.min()} to {heights.max()} high"
    )  # fmt: skip
    patients = images["patient_id"].nunique()
    rejected = (audit.rejected["dataset"] == name).sum()
    return [
        f"{len(images)} pictures with one label each: {classes}. Size in pixels: {sizes}.",
        f"They are filed under {patients} patient numbers." if patients else "Patients are not numbered.",
        *(["Age, sex, body site, place and date are not recorded."] if name in _BACKGROUND and name != "phantom" else []),
        f"Files that could not be used: {rejected}.",
    ]


def _copies(audit: Audit, name: str, overlap: pd.DataFrame | None) -> list[str]:
    within = audit.pairs[(audit.pairs["dataset_a"] == name) & (audit.pairs["dataset_b"] == name)]
    exact = within["method"].isin(["file", "pixels"]).sum()
    images = audit.images[audit.images["dataset"] == name]
    sizes = images["group_id"].value_counts()
    conflicts = audit.conflicts
    conflicts = conflicts[(conflicts["dataset_a"] == name) & (conflicts["dataset_b"] == name)]["kind"].value_counts()
    texts = [
        f"{audit.overlap.loc[name, name]} pictures have a copy within the set ({len(within)} pairs, {exact} of them exact); "
        f"patient and photograph together make {len(sizes)} groups, the largest of {sizes.max()} pictures.",
        f"Pairs that show one photograph under two labels: {conflicts.get('label', 0)}; under two patients: "
        f"{conflicts.get('patient', 0)}.",
    ]
    shared = (audit.overlap if overlap is None else overlap).loc[name].drop(name)
    others = [f"{count} with {_plain(other)}" for other, count in shared.items()]
    return texts + ([f"Pictures shared with other sets: {', '.join(others)}."] if others else [])


def _measured(quality: pd.DataFrame | None, tone: pd.DataFrame | None, name: str) -> list[str]:
    texts = []
    if quality is None:
        texts.append("Image quality was not measured.")
    else:
        part = quality[quality["dataset"] == name]
        texts.append(
            f"{(part['border'] > 0).mean():.0%} of the pictures have a plain border and "
            f"{(part['text_lines'] > 0).mean():.0%} a line of text; the median blur is "
            f"{part['blur'].median():.2f} (0 sharp, 1 blurred)."
        )
    if tone is None:
        texts.append("Skin tone was not measured.")
    else:
        part = tone[tone["dataset"] == name]
        medians = part.groupby("label")["ita"].median().dropna()
        by_class = ", ".join(f"{_plain(label)} {angle:.0f}" for label, angle in medians.items())
        texts.append(
            f"A typology angle of the skin could be measured on {part['ita'].notna().mean():.0%} of the pictures; its median by "
            f"class, in degrees (smaller is darker): {by_class}."
        )
    return texts


def _uses(name: str) -> str:
    if name == "phantom":
        return "To test programs. Nothing measured on it says anything about disease, and no model trained on it is of use."
    return (
        "Used here to study methods: how leakage, copies and the choice of pictures make results look better than they are. Not "
        "to be used to build or to judge a diagnostic device: it does not represent the people who come to a clinic, and classes "
        "differ in more than the disease. Keep patients and copies together in any division, and do not try to find out who is "
        "shown."
    )


def _distribution(name: str) -> str:
    spec = REGISTRY.get(name)
    if spec is None:
        return "A folder of the user's; licence and origin are not known here. Nothing of it is passed on by this package."
    if spec.is_phantom:
        return "Generated on each machine by this package, under its licence."
    source = f" Cite {spec.citation}." if spec.citation else ""
    return (
        f"From its authors: <{spec.homepage}>. Licence: {spec.licence}.{source} The pictures come from other people's pages, "
        "whose rights the licence may not cover. None is passed on with this book."
    )


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
    """The review as a piece of HTML for a notebook: style, pairs, buttons and script; nothing is fetched from anywhere."""
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
    """What people decided before, shown or not, as JSON for the script; ``ours`` is what comes with the package."""
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
