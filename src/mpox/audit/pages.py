"""The audit for people: what ``mpox audit`` writes, with a data sheet and a page on which to go through doubtful pairs."""

import base64
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from mpox._core import atomic_write, csv_text, explaining
from mpox.audit import Audit, run_audit
from mpox.audit.quality import image_quality, skin_tone
from mpox.audit.result import COLUMNS, DECISIONS, package_decisions, read_overrides, rejected_files
from mpox.data.manifest import PASSED_OVER, say_passed_over, scan, shown, some
from mpox.data.pictures import read_rgb
from mpox.data.registry import REGISTRY, DatasetSpec, refuse_inside


def audit_folder(
    names: Sequence[str],
    out: Path,
    *,
    data_dir: str | None = None,
    overrides: Path | None = None,
    patients: Path | None = None,
    patient_pattern: str | None = None,
    review: bool = False,
    jobs: int | None = None,
    say: Callable[[str], None] = print,
) -> Audit:
    """Audit data sets, registered or folders, together, and write everything that is known of them to the folder `out`.

    The tables of `Audit.write`, ``quality.csv``, ``datasheet-<name>.md`` and, if asked for, ``review.html`` with the pages that
    follow it, which hold the images of the pairs; such pages of an earlier audit are removed. `say` is told the summary; the
    other arguments are those of `mpox.data.manifest.scan` and `mpox.audit.result.read_overrides`. An `MpoxError` if there is no
    usable image at all, or `out` cannot be written.
    """
    decisions = read_overrides(overrides)
    refuse_inside(out, names, data_dir=data_dir)
    manifests = []
    for name in names:
        found = scan(name, data_dir=data_dir, patients=patients, patient_pattern=patient_pattern, jobs=jobs)
        manifests.append(found)
        _say_scan(found, say)
    named = {*decisions["dataset_a"], *decisions["dataset_b"]} - {*REGISTRY, *(found.attrs["source"] for found in manifests)}
    if named:
        say(
            f"Decisions that change nothing here, because no data set of that name is audited: {some(sorted(map(shown, named)))}."
        )
    rejected = csv_text(rejected_files(manifests))
    atomic_write(out / "rejected.csv", rejected)  # first: it is what a user needs where nothing can be used
    audit = run_audit(manifests, overrides=decisions, jobs=jobs)
    used = [manifest for manifest in manifests if len(manifest)]
    quality = pd.concat([image_quality(manifest, jobs=jobs) for manifest in used], ignore_index=True)
    tone = pd.concat([skin_tone(manifest, jobs=jobs) for manifest in used], ignore_index=True)
    both = quality.merge(tone.drop(columns="label"), on=["dataset", "image_id"], validate="1:1")
    texts = {"quality.csv": csv_text(both)}
    texts |= {f"datasheet-{name}.md": datasheet(audit, name, quality=quality, tone=tone) for name in audit.datasets}
    if review:
        texts |= review_pages(audit)
    texts |= audit.texts()
    for name, text in texts.items():
        atomic_write(out / name, text)
    for number in itertools.count(1):  # the pages of an earlier audit, which may have had more
        page = out / _page(number)
        if page.name not in texts and not page.exists():
            break
        if page.name not in texts:
            with explaining(out):
                page.unlink()
    for row in audit.summary.to_dict("records"):
        say(
            f"{row['data set']}: {row['pairs']} pairs show the same photograph ({row['exact pairs']} of them pixel for pixel), "
            f"{row['images with a copy']} of {row['images']} images have a copy; {row['doubtful pairs']} pairs are in doubt "
            f"and link nothing. {row['groups']} groups, the largest of {row['largest group']} images. Conflicts: "
            f"{row['label conflicts']} of labels, {row['patient conflicts']} of patients."
        )
    if len(audit.datasets) > 1:
        say("\nPictures (rows) with a copy in (columns):\n" + audit.overlap.to_string())
    say(f"\nWritten to {out}: {', '.join(sorted(texts))}.")
    return audit


def _say_scan(found: pd.DataFrame, say: Callable[[str], None]) -> None:
    about, labels = found.attrs, found["label"].value_counts()
    classes = ", ".join(f"{label} {count}" for label, count in labels.items())
    known = found.dropna(subset=["patient_id"]).groupby("patient_id")["label"].unique()
    say(
        f"{about['source']}: {len(found)} images ({classes or 'none'}), {len(about['rejected'])} files rejected; "
        f"patients known: {found['patient_id'].notna().sum()} of {len(found)}."
    )
    if about["not_known"]:
        written = some([f"'{shown(cell)}' ({count})" for cell, count in about["not_known"].items()])
        say(f"  Taken as 'patient not known', with the number of images: {written}.")
    if several := [f"{shown(patient)} ({', '.join(sorted(labels))})" for patient, labels in known.items() if len(labels) > 1]:
        say(f"  Patients with images of more than one class, which may be a mistake: {some(several)}.")
    if passed := [name for name, reason in about["rejected"] if reason == PASSED_OVER]:
        say(f"  {say_passed_over(passed)}")
    for folder in about["empty"]:
        say(f"  The folder {folder} has no usable image.")
    for alike in about["alike"]:
        say(f"  Names that differ only in case or accents: {', '.join(alike)}.")
    if len(labels) == 1:
        say(f"  There is one class only ({labels.index[0]}): copies are found, but no classifier can be trained on it.")


def datasheet(
    audit: Audit,
    name: str,
    *,
    quality: pd.DataFrame | None = None,
    tone: pd.DataFrame | None = None,
    overlap: pd.DataFrame | None = None,
    heading: int = 2,
) -> str:
    """The data sheet of one data set as Markdown, in the seven sections of *Datasheets for Datasets*.

    Parameters
    ----------
    audit : Audit
        Of this data set, alone or with others; figures about copies are of this set.
    name : str
        The data set's name in the audit.
    quality, tone : DataFrame, optional
        From `mpox.audit.quality.image_quality` and `mpox.audit.quality.skin_tone`; without them 'not measured'.
    overlap : DataFrame, optional
        `Audit.overlap` of an audit of several sets, where `audit` is of this one alone; by default the audit's own.
    heading : int
        Level of the sections' headings; 0 makes them bold words, for use inside another page.
    """
    if name not in audit.datasets:
        raise ValueError(f"the audit has no data set {name}")
    spec = REGISTRY.get(name) or DatasetSpec(name, f"Folder {name}", name)
    sections = {
        "Motivation": spec.motivation or "Not known.",
        "Composition": " ".join([*_counts(audit, spec), *_copies(audit, name, overlap), *_measured(quality, tone, name)]),
        "Collection": spec.collection or "Not known; ask whoever put the folder together about consent and diagnosis.",
        "Preprocessing": spec.preprocessing or "Not known.",
        "Uses": _uses(name),
        "Distribution": _distribution(spec),
        "Maintenance": spec.maintenance or "Not known.",
    }
    lines = [f"{'#' * (heading - 1)} Data sheet: {_plain(spec.title)}"] if heading > 1 else []
    for section, text in sections.items():
        lines += [f"{'#' * heading} {section}", text] if heading else [f"**{section}.** {text}"]
    return "\n\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A file's or folder's name in a Markdown page: nothing in it is markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in text)


def _counts(audit: Audit, spec: DatasetSpec) -> list[str]:
    name = spec.name
    images = audit.images[audit.images["dataset"] == name]
    classes = ", ".join(f"{count} {_plain(label)}" for label, count in images["label"].value_counts().items())
    widths, heights = images["width"], images["height"]
    sizes = f"{widths.min()} x {heights.min()}" if widths.nunique() == heights.nunique() == 1 else (
        f"{widths.min()} to {widths.max()} wide and {heights.min()} to {heights.max()} high"
    )  # fmt: skip
    patients, known = images["patient_id"].nunique(), images["patient_id"].count()
    filed = "They are" if known == len(images) else f"{known} of them are"
    rejected = (audit.rejected["dataset"] == name).sum()
    return [
        f"{len(images)} images with one label each: {classes}. Size in pixels: {sizes}.",
        f"{filed} filed under {patients} patient numbers." if patients else "Patients are not numbered.",
        *(["Age, sex, body site, place and date are not recorded."] if spec.motivation and not spec.is_phantom else []),
        f"Files that could not be used: {rejected}.",
    ]


def _copies(audit: Audit, name: str, overlap: pd.DataFrame | None) -> list[str]:
    within = audit.pairs[(audit.pairs["dataset_a"] == name) & (audit.pairs["dataset_b"] == name)]
    exact = within["method"].isin(["file", "pixels"]).sum()
    persons = audit.persons.query("dataset_a == @name and dataset_b == @name")
    images = audit.images[audit.images["dataset"] == name]
    sizes = images["group_id"].value_counts()
    conflicts = audit.conflicts
    conflicts = conflicts[(conflicts["dataset_a"] == name) & (conflicts["dataset_b"] == name)]["kind"].value_counts()
    texts = [
        f"{audit.overlap.loc[name, name]} images have a copy within the set ({len(within)} pairs, {exact} of them exact); "
        f"person and photograph together make {len(sizes)} groups, the largest of {sizes.max()} images.",
        f"Pairs that show one photograph under two labels: {conflicts.get('label', 0)}; one photograph or person under two "
        f"patients: {conflicts.get('patient', 0)}. Pairs of one person on two photographs, as people saw: {len(persons)}.",
    ]
    shared = (audit.overlap if overlap is None else overlap).loc[name].drop(name)
    others = [f"{count} with {_plain(other)}" for other, count in shared.items()]
    return texts + ([f"Images shared with other sets: {', '.join(others)}."] if others else [])


def _measured(quality: pd.DataFrame | None, tone: pd.DataFrame | None, name: str) -> list[str]:
    texts = []
    if quality is None:
        texts.append("Image quality was not measured.")
    else:
        part = quality[quality["dataset"] == name]
        texts.append(
            f"{(part['border'] > 0).mean():.0%} of the images have a plain border and "
            f"{(part['text_lines'] > 0).mean():.0%} a line of text; the median blur is "
            f"{part['blur'].median():.2f} (0 sharp, 1 blurred)."
        )
        said = part.get("colour_profile", pd.Series()).astype("string")  # not in tables recorded before
        if ignored := said.str.contains(" ignored: ").sum():
            texts.append(f"The colour profile of {ignored} could not be used and was ignored: quality.csv says why.")
    if tone is None:
        texts.append("Skin tone was not measured.")
    else:
        part = tone[tone["dataset"] == name]
        medians = part.groupby("label")["ita"].median().dropna()
        by_class = ", ".join(f"{_plain(label)} {angle:.0f}" for label, angle in medians.items()) or "none"
        texts.append(
            f"A typology angle of the skin could be measured on {part['ita'].notna().mean():.0%} of the images; its median by "
            f"class, in degrees (smaller is darker): {by_class}."
        )
    return texts


def _uses(name: str) -> str:
    if name == "phantom":
        return "To test programs. Nothing measured on it says anything about disease, and no model trained on it is of use."
    return (
        "Used here to study methods: how leakage, copies and the choice of images make results look better than they are. Not "
        "to be used to build or to judge a diagnostic device: it does not represent the people who come to a clinic, and classes "
        "differ in more than the disease. Keep patients and copies together in any division, and do not try to find out who is "
        "shown."
    )


def _distribution(spec: DatasetSpec) -> str:
    if spec.name not in REGISTRY:
        return "A folder of the user's; licence and origin are not known here. Nothing of it is passed on by this package."
    if spec.is_phantom:
        return "Generated on each machine by this package, under its licence."
    source = f" Cite {spec.citation}." if spec.citation else ""
    return (
        f"From its authors: <{spec.homepage}>. Licence: {spec.licence}.{source} The images come from other people's pages, "
        "whose rights the licence may not cover. None is passed on with this book."
    )


#: Long side in pixels of the shown images, and their JPEG quality.
SIDE, QUALITY = 208, 72
#: Bytes above which no more pairs are put into a page.
LARGEST_PAGE = 1_400_000
_FOLDER = Path(__file__).parent
_SIDES = COLUMNS[:4]
_EVIDENCE = [
    "method", "score", "decision", "reason", "inliers", "matches", "correlation", "agreement", "overlap", "mirrored", "transform",
]  # fmt: skip
#: What a table without images says about a pair; all evidence is in the ``pairs.csv`` that `mpox audit` writes.
_TOLD = {"method": "found by", "score": "score", "decision": "decision"}


def by_doubt(audit: Audit) -> pd.DataFrame:
    """Accepted and doubtful pairs, those first whose score is nearest to 0.5; what a person has decided comes last."""
    parts = [table for table in (audit.pairs, audit.weak) if len(table)] or [audit.pairs]
    table = pd.concat(parts, ignore_index=True)
    decided = table["decision"].isin(list(DECISIONS.values()))
    order = table.assign(_decided=decided, _certain=(table["score"] - 0.5).abs().round(6))
    order = order.sort_values(["_decided", "_certain", *_SIDES], kind="stable", ignore_index=True)
    return order.drop(columns=["_decided", "_certain"])


def _text(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def review_fragment(audit: Audit, *, limit: int = 60, with_pictures: bool = True, title: str = "") -> str:
    """The review as a piece of HTML for a notebook (style, pairs, buttons and script), or as a whole page if it has a title."""
    return _fragment(audit, limit=limit, with_pictures=with_pictures, title=title)[0]


def _fragment(
    audit: Audit, *, limit: int, with_pictures: bool, title: str, start: int = 0, pages: Sequence[str] = ()
) -> tuple[str, int]:
    """`review_fragment` from the pair number ``start`` on, and where the next page begins; ``pages``: before, after this one."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True)
    environment.filters["text"] = _text
    template, one = environment.get_template("review.html"), environment.get_template("review_pair.html")
    table = by_doubt(audit)
    shown = table.iloc[start : start + limit]
    about: dict = {"title": title, "there": len(table), "with_pictures": with_pictures, "start": start}
    if not with_pictures:
        told = {
            f"{which} image": shown[f"dataset_{side}"] + ": " + shown[f"image_id_{side}"] + " (" + shown[f"label_{side}"] + ")"
            for side, which in (("a", "first"), ("b", "second"))
        }
        evidence = shown[list(_TOLD)].rename(columns=_TOLD)
        return template.render(about, shown=len(shown), table=pd.DataFrame(told).join(evidence)), start + len(shown)
    paths = audit.images.set_index(["dataset", "image_id"])["path"]
    cards: list[str] = []
    decided = _decided(table)
    size = len(json.dumps(decided))
    for pair in shown.itertuples():
        card = one.render(pair=_card(pair, paths), number=start + len(cards) + 1)
        size += len(card.encode())
        if cards and size > LARGEST_PAGE:
            break
        cards.append(card)
    name = hashlib.sha256("\n".join(sorted(_names(table))).encode()).hexdigest()[:12]  # whatever was decided, the same pairs
    style, script = ((_FOLDER / f"review.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    about |= {"name": name, "style": style, "script": script, "decided": decided, "pages": pages}
    return template.render(about, shown=len(cards), cards="\n".join(cards)), start + len(cards)


def _names(table: pd.DataFrame) -> list[str]:
    return ["\t".join(row) for row in table[_SIDES].astype(str).itertuples(index=False, name=None)]


def _decided(table: pd.DataFrame) -> dict[str, dict]:
    """What people decided before, shown or not, for the script; ``ours`` is what comes with the package."""
    words = {said: decision for decision, said in DECISIONS.items()}
    known = table[table["decision"].isin(list(words))]
    package = package_decisions()
    ours = dict(zip(_names(package), package["decision"], strict=True))
    entries = {}
    for name, row in zip(_names(known), known.itertuples(), strict=True):
        entries[name] = {"decision": words[row.decision], "reason": row.reason}
        if ours.get(name) == words[row.decision]:
            entries[name]["ours"] = True
    return entries


class Review:
    """`review_fragment` as the output of a notebook's cell, with a line of text for terminals."""

    def __init__(self, audit: Audit, *, limit: int = 60, with_pictures: bool = True):
        self.html = review_fragment(audit, limit=limit, with_pictures=with_pictures)
        self.text = f"Review of {len(audit.pairs) + len(audit.weak)} pairs, strongest doubt first."

    def _repr_mimebundle_(self, **_):
        return {"text/html": self.html, "text/plain": self.text}


def review_html(audit: Audit) -> str:
    """`review_fragment` as a whole page, under 1.5 MB: the first of `review_pages`."""
    return next(_pages(audit))[1]


def review_pages(audit: Audit) -> dict[str, str]:
    """Every pair, on as many pages as it takes, each under 1.5 MB and with links to those around it: file to HTML."""
    return dict(_pages(audit))


def _pages(audit: Audit) -> Iterator[tuple[str, str]]:
    title, start, number = f"Review of the pairs: {', '.join(audit.datasets)}", 0, 1
    while number == 1 or start < len(audit.pairs) + len(audit.weak):
        around = (_page(number - 1), _page(number + 1))
        page, start = _fragment(audit, limit=100, with_pictures=True, title=title, start=start, pages=around)
        yield _page(number), page
        number += 1


def _page(number: int) -> str:
    """The file of the review's page of that number, from 1 on; none is before the first."""
    return f"review-{number}.html" if number > 1 else "review.html" * number


def _card(pair, paths: pd.Series) -> dict:
    """What the template shows of a pair."""
    pictures: list[dict] = []
    for side in "ab":
        dataset, image_id = getattr(pair, f"dataset_{side}"), getattr(pair, f"image_id_{side}")
        picture = read_rgb(paths[dataset, image_id])
        about = {"name": f"{dataset}: {image_id}", "size": picture.size, "uri": _data_uri(picture)}
        pictures.append(about | {name: _text(getattr(pair, f"{name}_{side}")) for name in ("label", "patient_id")})
    pictures[1]["outline"] = _outline(pair.transform, pictures[0]["size"])
    evidence = [(name, _text(getattr(pair, name))) for name in _EVIDENCE]
    return {"pictures": pictures, "evidence": evidence} | {name: getattr(pair, name) for name in _SIDES}


def _data_uri(picture: Image.Image) -> str:
    """A small copy of a image as a data URI."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _outline(transform: str, size: tuple[int, int]) -> str:
    """The corners of the first picture's frame, of this width and height, in the second image; empty where nothing is known."""
    try:
        matrix = np.array(str(transform).split(), float).reshape(2, 3)
    except ValueError:
        return ""
    width, height = size
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)]) @ matrix.T
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners) if np.isfinite(corners).all() else ""
