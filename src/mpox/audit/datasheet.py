"""A data sheet for a data set: what is known of it, and what is not.

After Gebru et al. 2021, Datasheets for Datasets, Commun ACM 64(12), 86-92.
"""

from dataclasses import dataclass

import pandas as pd

from mpox.audit.result import Audit
from mpox.datasets import REGISTRY

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
        From `mpox.audit.skintone.skin_tone`; likewise.
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
