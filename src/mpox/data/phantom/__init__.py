"""The phantom: procedural, skin-like images with planted truths; a calibration object, not patients.

What an instrument must find is known here: who is on which image, which images are copies of which, where the lesions are, which
label is wrong, and which images bear a mark that has nothing to do with the disease. Only the lesions (and, if asked for, the
corner mark) carry the class: skin tone, body site, light, camera and harmless marks are drawn alike in all classes.
"""

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from PIL import Image
from tqdm import tqdm

from mpox._core import MpoxError, cache_dir, explaining, locked, replacing_folder
from mpox.data.phantom.copies import COPY_KINDS, make_copy
from mpox.data.phantom.lesions import CLASSES
from mpox.data.phantom.picture import MARK_SHARE, Photograph, corner_box, draw_corner_mark, take
from mpox.data.phantom.skin import ITA_RANGES, Person, draw_person

__all__ = [
    "CLASSES", "COPY_KINDS", "ITA_RANGES", "PhantomSpec", "corner_box", "ensure_phantom", "generate", "healthy_counterpart",
    "read_truths",
]  # fmt: skip
_TEXT_COLUMNS = ["image_id", "label", "true_label", "patient_id", "copy_of", "copy_kind", "copy_transform"]
_PARALLEL_FROM = 500  # images; below, starting processes costs more than it saves
_STRANGERS = 24 * 100_000  # people who are only on collages: multiples of 24 keep the class and the skin type

VERSION = 2
_TONES = 6
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class PhantomSpec:
    """All that decides what the phantom looks like; an `MpoxError` if a value is out of its range."""

    seed: int = 0  # not negative
    n_patients: int = 110  # photographed, 1 to 4 images each; copies may be filed under further patient ids
    size: int = 224  # width and height in pixels, at least 64 (some copies have other sizes)
    corner_mark: bool = True  # a coloured mark in the corner of most images of the `marked` classes and of few others
    copies: int = 33  # patients whose first image is filed a second time under another id; none is copied twice
    copy_kinds: tuple[str, ...] = COPY_KINDS  # taken in turn; none twice
    label_conflicts: int = 1  # photographs of other rashes that are filed again, as crops, under a wrong class
    version: int = VERSION  # of the generator; only the current one can be made
    marked: tuple[str, ...] = ("Mpox",)  # the classes, as filed, whose images bear the corner mark

    def __post_init__(self):
        if self.version != VERSION:
            raise MpoxError(f"This package makes version {VERSION} of the phantom, not version {self.version}.")
        if self.seed < 0 or self.n_patients < 1 or self.size < 64 or self.label_conflicts < 0:
            raise MpoxError("A phantom needs seed >= 0, n_patients >= 1, size >= 64, label_conflicts >= 0.")
        if self.label_conflicts and _misfiled(self.label_conflicts - 1) >= self.n_patients:
            raise MpoxError(f"{self.label_conflicts} label conflicts need more patients than {self.n_patients}: four a conflict.")
        most = self.n_patients - self.label_conflicts
        if type(self.copies) is not int or not 0 <= self.copies <= most:
            raise MpoxError(f"copies is {self.copies!r}; give a whole number from 0 to {most} (patients less label conflicts).")
        if isinstance(self.marked, str) or not set(self.marked) <= set(CLASSES):
            raise MpoxError(f"marked is {self.marked!r}; give a sequence of classes out of {', '.join(CLASSES)}.")
        kinds = [] if isinstance(self.copy_kinds, str) else self.copy_kinds
        if not 0 < len(kinds) == len(set(kinds) & set(COPY_KINDS)):
            raise MpoxError(f"copy_kinds is {self.copy_kinds!r}; name each once, at least one, out of {', '.join(COPY_KINDS)}.")
        object.__setattr__(self, "marked", tuple(self.marked))
        object.__setattr__(self, "copy_kinds", tuple(self.copy_kinds))

    def to_json(self) -> str:
        """The canonical JSON of this specification; what is `marked` is told where it is not the default, so that keys last."""
        told = {name: value for name, value in asdict(self).items() if name != "marked" or value != ("Mpox",)}
        return json.dumps(told, sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """A short name that is equal for equal specifications: 10 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Filing:
    """One copy: whose first image it shows, its kind, and where it is filed. All numbers count from 0."""

    index: int  # the patient it shows
    kind: str
    host: int  # the patient it is filed under
    number: int  # its image number there
    stream: int  # number of the copy, for its random streams
    wrong: str | None = None  # the class it is filed under by mistake


def person(spec: PhantomSpec, index: int) -> Person:
    """Patient `index`, from 0; the classes take turns."""
    return draw_person(spec.seed, index, CLASSES[index % len(CLASSES)])


def plan_copies(spec: PhantomSpec, n_pictures: list[int]) -> list[Filing]:
    """Which copies there are and where they are filed; `n_pictures` is how many photographs each patient has."""
    filed = list(n_pictures)
    chosen: list[tuple[int, str, str | None]] = [(index, kind, None) for index, kind in _chosen(spec)]
    chosen += [(_misfiled(k), "crop", "Mpox") for k in range(spec.label_conflicts)]
    kinds: Counter[str] = Counter()
    plan = []
    for stream, (index, kind, wrong) in enumerate(chosen):
        host = index + len(CLASSES)
        alone = (kinds[kind] + spec.copy_kinds.index(kind)) % 2 == 0 if not wrong else True
        if alone or host >= spec.n_patients:
            host = len(filed)
            filed.append(0)
        kinds[kind] += 1
        plan.append(Filing(index, kind, host, filed[host], stream, wrong))
        filed[host] += 1
    return plan


def _chosen(spec: PhantomSpec) -> list[tuple[int, str]]:
    """Patients and kinds of copies: each kind meets the classes and the skin tones as evenly as their number allows."""
    n_cells = len(CLASSES) * _TONES
    elsewhere = {_misfiled(k) for k in range(spec.label_conflicts)}
    cells = [[i for i in range(cell, spec.n_patients, n_cells) if i not in elsewhere] for cell in range(n_cells)]
    taken: Counter = Counter()
    met: Counter = Counter()
    order = []
    for k in range(spec.copies):
        kind = spec.copy_kinds[k % len(spec.copy_kinds)]
        free = [cell for cell in range(n_cells) if taken[cell] < len(cells[cell])]

        def how_often(cell: int, kind: str = kind, k: int = k) -> tuple[int, ...]:
            label, tone = cell % len(CLASSES), cell // len(CLASSES)
            return (met[kind, "class", label], met[kind, "tone", tone], taken[cell], (cell - 5 * k) % n_cells)

        cell = min(free, key=how_often)
        taken[cell] += 1
        met[kind, "class", cell % len(CLASSES)] += 1
        met[kind, "tone", cell // len(CLASSES)] += 1
        order.append((cell, kind))
    spread = {
        cell: iter([cells[cell][int((j + _GOLDEN * (cell + 1) % 1) * len(cells[cell]) / n)] for j in range(n)])
        for cell, n in taken.items()
    }
    return [(next(spread[cell]), kind) for cell, kind in order]


def _misfiled(k: int) -> int:
    """The patient, from 0, whose image is label conflict number `k`: chickenpox and measles in turn."""
    return 4 * k + 1 + k % 2


def generate(folder: str | os.PathLike, spec: PhantomSpec | None = None, *, jobs: int | None = None) -> Path:
    """Write the phantom of `spec` into a new folder; the folder appears when all of it is there.

    An image of 224 pixels takes about 0.06 s on one core.

    It gets ``images/<Class>/<patient>_<nn>.png``, ``truth/truths.csv``, ``truth/spec.json`` and
    ``truth/masks/<Class>/<patient>_<nn>.png`` (255 where there is a lesion, else 0). The files are the same for any number of
    `jobs` (processes; by default one up to 500 images, else one a core). Returns the folder ``images``; an `MpoxError` if
    `folder` exists and is not empty.
    """
    folder, spec = Path(folder), spec or PhantomSpec()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MpoxError(f"{folder} exists already; name a new folder for the phantom, or remove that one.")
    with explaining(folder.parent), replacing_folder(folder) as fresh:
        truths = pd.DataFrame(_draw_all(fresh, spec, jobs)).sort_values("image_id")
        truths["conflict"] |= truths["image_id"].isin(truths.loc[truths["conflict"], "copy_of"])
        truths.to_csv(fresh / "truth" / "truths.csv", index=False, lineterminator="\n")
        (fresh / "truth" / "spec.json").write_text(spec.to_json() + "\n")
    return folder / "images"


def ensure_phantom(spec: PhantomSpec | None = None, *, jobs: int | None = None) -> Path:
    """The images of the phantom of `spec` in the user's cache; made on first use, once (`jobs` as for `generate`)."""
    spec = spec or PhantomSpec()
    folder = cache_dir() / "data" / f"phantom-{spec.key()}"
    if folder.exists():
        return folder / "images"
    with locked(folder.parent / f".{folder.name}.lock"):
        return folder / "images" if folder.exists() else generate(folder, spec, jobs=jobs)


def read_truths(images_folder: str | os.PathLike) -> pd.DataFrame:
    """What was planted, from the folder ``images`` of a phantom: one row an image, sorted by `image_id`.

    Returns
    -------
    DataFrame
        ``image_id`` (path below `images_folder`), ``label`` (as filed), ``true_label``, ``patient_id`` (as filed),
        ``fitzpatrick`` (1-6), ``ita_degrees`` (of the healthy skin under white light), ``lesion_count`` (planted in the
        photograph; a crop may show fewer, macules are counted before they merge), ``lesion_fraction`` (of the pixels, red base
        included), ``corner_mark``, ``copy_of`` (image_id or NA), ``copy_kind`` (one of `COPY_KINDS`, or NA), ``copy_transform``
        (``a b c d e f`` or NA: (x, y) of the original lies at (ax + by + c, dx + ey + f), counted from the upper left corner),
        ``conflict`` (this photograph is there with two labels; True for both images). On a collage tone and number of lesions are
        those of the copied photograph, ``lesion_fraction`` is of the whole image; the people on the other panels have the same
        class and Fitzpatrick type, and are in no other image.
    """
    path = Path(images_folder).parent / "truth" / "truths.csv"
    if not path.is_file():
        raise MpoxError(f"{images_folder} has no planted truths; name the folder 'images' of a phantom.")
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, "string"))


def healthy_counterpart(spec: PhantomSpec, patient: int, picture: int) -> np.ndarray:
    """The same photograph without its lesions and without the corner mark, (size, size, 3) uint8."""
    return take(person(spec, patient - 1), spec.seed, patient - 1, picture - 1, size=spec.size, lesions=False).image


def _name(label: str, patient: int, number: int) -> tuple[str, str]:
    """Patient id and image id of patient `patient` and image `number`, both from 0."""
    return f"P{patient + 1:03d}", f"{label}/P{patient + 1:03d}_{number + 1:02d}.png"


def _draw_all(folder: Path, spec: PhantomSpec, jobs: int | None) -> list[dict]:
    """Write all images, patient by patient; return their rows of truths. A bar shows after a few seconds."""
    n_pictures = [person(spec, index).n_pictures for index in range(spec.n_patients)]
    copies: dict[int, list[Filing]] = {}
    for filing in plan_copies(spec, n_pictures):
        copies.setdefault(filing.index, []).append(filing)
    total = sum(n_pictures) + sum(map(len, copies.values()))
    jobs = jobs or (1 if total <= _PARALLEL_FROM else cpu_count())
    pool = Parallel(jobs, return_as="generator", batch_size=4, pre_dispatch=32 * jobs)
    rows = []
    with tqdm(total=total, desc="phantom", unit="image", delay=3, leave=False) as bar:
        for some in pool(delayed(_draw_patient)(folder, spec, k, copies.get(k, [])) for k in range(spec.n_patients)):
            rows += some
            bar.update(len(some))
    return rows


def _draw_patient(folder: Path, spec: PhantomSpec, index: int, copies: list[Filing]) -> list[dict]:
    """Write one patient's photographs and what is copied of them; return their rows of truths."""
    who, rows = person(spec, index), []

    def write(photograph: Photograph, label: str, patient: int, number: int, stream: tuple[int, int], **about) -> None:
        patient_id, image_id = _name(label, patient, number)
        rng = np.random.default_rng([spec.seed, *stream, 4])
        marked = spec.corner_mark and rng.random() < MARK_SHARE[label in spec.marked]
        image = draw_corner_mark(photograph.image, rng) if marked else photograph.image
        for path, pixels in (("images", image), ("truth/masks", photograph.mask.astype(np.uint8) * 255)):
            target = folder / path / image_id
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target, compress_level=3)
        row = {
            "image_id": image_id, "label": label, "true_label": who.label, "patient_id": patient_id,
            "fitzpatrick": who.fitzpatrick, "ita_degrees": round(who.ita, 2), "lesion_count": photograph.lesion_count,
            "lesion_fraction": round(float(photograph.mask.mean()), 6), "corner_mark": marked,
            "copy_of": None, "copy_kind": None, "copy_transform": None, "conflict": False,
        }  # fmt: skip
        rows.append(row | about)

    photographs = [take(who, spec.seed, index, number, size=spec.size) for number in range(who.n_pictures)]
    for number, photograph in enumerate(photographs):
        write(photograph, who.label, index, number, (index, number))
    for filing in copies:
        copy, transform = _copy(spec, photographs[0], filing)
        write(
            copy, filing.wrong or who.label, filing.host, filing.number, (index, 2000 + filing.stream),
            copy_of=_name(who.label, index, 0)[1], copy_kind=filing.kind, conflict=bool(filing.wrong),
            copy_transform=" ".join(f"{value:.8g}" for value in transform),
        )  # fmt: skip
    return rows


def _copy(spec: PhantomSpec, original: Photograph, filing: Filing) -> tuple[Photograph, tuple[float, ...]]:
    """The copy and its transform; the other panels of a collage show people who are in no other image."""
    indices = [filing.index + k * _STRANGERS for k in (1, 2)] if filing.kind == "collage" else []
    others = [take(person(spec, i), spec.seed, i, 0, size=spec.size) for i in indices]
    rng = np.random.default_rng([spec.seed, filing.index, 1000 + filing.stream])
    panels = [(other.image, other.mask) for other in others]
    image, mask, transform = make_copy(filing.kind, original.image, original.mask, rng, others=panels)
    return Photograph(image, mask, original.lesion_count), transform
