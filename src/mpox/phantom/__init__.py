"""The phantom: procedural, skin-like pictures with planted truths; a calibration object, not patients.

What an instrument must find is known here: who is on which picture, which pictures are copies of which, where
the lesions are, which label is wrong, and which pictures bear a mark that has nothing to do with the disease.
Only the lesions (and, if asked for, the corner mark) carry the class: skin tone, body site, light, camera and
harmless marks are drawn alike in all classes.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from mpox.errors import MpoxError
from mpox.paths import cache_dir
from mpox.phantom.copies import COPY_KINDS, make_copy
from mpox.phantom.lesions import CLASSES
from mpox.phantom.picture import MARK_SHARE, Photograph, corner_box, draw_corner_mark, take
from mpox.phantom.skin import ITA_RANGES, Person, draw_person

__all__ = [
    "CLASSES",
    "COPY_KINDS",
    "ITA_RANGES",
    "PhantomSpec",
    "corner_box",
    "ensure_phantom",
    "generate",
    "healthy_counterpart",
    "read_truths",
]

_COLUMNS = [
    "image_id",
    "label",
    "true_label",
    "patient_id",
    "fitzpatrick",
    "ita_degrees",
    "lesion_count",
    "lesion_fraction",
    "corner_mark",
    "copy_of",
    "copy_kind",
    "copy_transform",
    "conflict",
]
_TEXT_COLUMNS = ["image_id", "label", "true_label", "patient_id", "copy_of", "copy_kind", "copy_transform"]
_COPIED = (2, 5, 8)  # of every 11 patients, these have a picture that was published a second time


@dataclass(frozen=True)
class PhantomSpec:
    """All that decides what the phantom looks like.

    Parameters
    ----------
    seed : int, default=0
        Not negative.
    n_patients : int, default=110
        Patients photographed; 1 to 4 pictures each. Copies may be filed under further patient ids.
    size : int, default=224
        Width and height in pixels, at least 64 (some copies have other sizes).
    corner_mark : bool, default=True
        Put a coloured mark in the corner of most Mpox pictures and of few others. Changes nothing else.
    copies : bool, default=True
        File some pictures a second time under another patient id.
    label_conflicts : int, default=1
        How many photographs of other rashes are filed a second time under a wrong class.
    version : int, default=1
        Of the generator; only the current one can be made.

    Raises
    ------
    MpoxError
        If a value is out of its range.
    """

    seed: int = 0
    n_patients: int = 110
    size: int = 224
    corner_mark: bool = True
    copies: bool = True
    label_conflicts: int = 1
    version: int = 1

    def __post_init__(self):
        if self.version != 1:
            raise MpoxError(f"This package makes version 1 of the phantom, not version {self.version}.")
        if self.seed < 0 or self.n_patients < 1 or self.size < 64 or self.label_conflicts < 0:
            raise MpoxError("A phantom needs seed >= 0, n_patients >= 1, size >= 64, label_conflicts >= 0.")
        if self.label_conflicts and _misfiled(self.label_conflicts - 1) >= self.n_patients:
            raise MpoxError(
                f"{self.label_conflicts} label conflicts need more than {self.n_patients} patients; "
                "ask for four patients a conflict."
            )

    def to_json(self) -> str:
        """The canonical JSON of this specification."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """A short name that is equal for equal specifications: 10 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:10]


def generate(folder: str | os.PathLike, spec: PhantomSpec | None = None) -> Path:
    """Write the phantom of `spec` into a new folder; the folder appears when all of it is there.

    Parameters
    ----------
    folder : path
        Gets ``images/<Class>/<patient>_<nn>.png``, ``truth/truths.csv``, ``truth/spec.json`` and
        ``truth/masks/<Class>/<patient>_<nn>.png`` (255 where there is a lesion, else 0).
    spec : PhantomSpec, optional

    Returns
    -------
    Path
        The folder ``images``.

    Raises
    ------
    MpoxError
        If `folder` exists and is not empty.
    """
    folder, spec = Path(folder), spec or PhantomSpec()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MpoxError(f"{folder} exists already; name a new folder for the phantom, or remove that one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    try:
        rows = [_write(partial, row, photograph) for row, photograph in _pictures(spec)]
        truths = pd.DataFrame(rows)[_COLUMNS].sort_values("image_id")
        truths["conflict"] |= truths["image_id"].isin(truths.loc[truths["conflict"], "copy_of"])
        truths.to_csv(partial / "truth" / "truths.csv", index=False, lineterminator="\n")
        (partial / "truth" / "spec.json").write_text(spec.to_json() + "\n")
        partial.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder / "images"


def ensure_phantom(spec: PhantomSpec | None = None) -> Path:
    """The images of the phantom of `spec` in the user's cache; made on first use, by one process only."""
    spec = spec or PhantomSpec()
    folder = cache_dir() / "data" / f"phantom-{spec.key()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        for remains in folder.parent.glob(f".{folder.name}.partial-*"):  # of a process that was killed
            shutil.rmtree(remains, ignore_errors=True)
        return folder / "images" if folder.exists() else generate(folder, spec)


def read_truths(images_folder: str | os.PathLike) -> pd.DataFrame:
    """What was planted: one row an image, sorted by `image_id`.

    Parameters
    ----------
    images_folder : path
        The folder ``images`` of a phantom (what `generate` and `ensure_phantom` return).

    Returns
    -------
    DataFrame
        ``image_id`` (path below `images_folder`), ``label`` (as filed), ``true_label``, ``patient_id`` (as
        filed), ``fitzpatrick`` (1-6), ``ita_degrees`` (of the healthy skin under white light),
        ``lesion_count`` (planted in the photograph; a crop may show fewer, macules are counted before they
        merge), ``lesion_fraction`` (of the pixels, red base included), ``corner_mark``, ``copy_of`` (image_id
        or NA), ``copy_kind`` (crop, mirror, squash, grey, caption or NA), ``copy_transform`` (``a b c d e f``
        or NA: (x, y) of the original lies at (ax + by + c, dx + ey + f)), ``conflict`` (this photograph is
        there with two labels; True for both pictures).

    Raises
    ------
    MpoxError
        If the folder is not a phantom's.
    """
    path = Path(images_folder).parent / "truth" / "truths.csv"
    if not path.is_file():
        raise MpoxError(f"{images_folder} has no planted truths; name the folder 'images' of a phantom.")
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, "string"))


def healthy_counterpart(spec: PhantomSpec, patient: int, picture: int) -> np.ndarray:
    """The same photograph without its lesions and without the corner mark, (size, size, 3) uint8.

    `patient` and `picture` count from 1, as in the file's name ``P001_01.png`` (photographs only, no copies).
    """
    person = _person(spec, patient - 1)
    return take(person, spec.seed, patient - 1, picture - 1, size=spec.size, lesions=False).image


def _person(spec: PhantomSpec, index: int) -> Person:
    return draw_person(spec.seed, index, CLASSES[index % len(CLASSES)])


def _name(label: str, patient: int, number: int) -> tuple[str, str]:
    """Patient id and image id of patient `patient` and picture `number`, both from 0."""
    return f"P{patient + 1:03d}", f"{label}/P{patient + 1:03d}_{number + 1:02d}.png"


def _misfiled(k: int) -> int:
    """The patient, from 0, whose picture is label conflict number `k`: chickenpox and measles in turn."""
    return 4 * k + 1 + k % 2


def _copies_of(spec: PhantomSpec) -> Iterator[tuple[int, str, str | None]]:
    """Whose first pictures are copied: index, kind of copy, and the wrong label if it is filed under one."""
    if spec.copies:
        chosen = [i for i in range(spec.n_patients) if i % 11 in _COPIED]
        yield from ((i, COPY_KINDS[k % len(COPY_KINDS)], None) for k, i in enumerate(chosen))
    for k in range(spec.label_conflicts):
        yield _misfiled(k), "crop", "Mpox"


def _pictures(spec: PhantomSpec) -> Iterator[tuple[dict, Photograph]]:
    """All pictures with their rows of truths, behind a progress bar that shows after a few seconds."""
    people = [_person(spec, i) for i in range(spec.n_patients)]
    filed = [person.n_pictures for person in people]
    copies = list(_copies_of(spec))
    with tqdm(total=sum(filed) + len(copies), desc="phantom", unit="picture", delay=3, leave=False) as bar:
        originals = {}
        for index, person in enumerate(people):
            for number in range(person.n_pictures):
                photograph = take(person, spec.seed, index, number, size=spec.size)
                if number == 0:
                    originals[index] = photograph
                yield _row(spec, person, photograph, index, number, (index, number)), photograph
                bar.update()
        for k, (index, kind, wrong) in enumerate(copies):
            # every other copy is filed under another patient of its class, the rest under new patients
            host = index + len(CLASSES)
            if wrong or k % 2 == 0 or host >= spec.n_patients:
                host = len(filed)
                filed.append(0)
            original = originals[index]
            rng = np.random.default_rng([spec.seed, index, 1000 + k])
            image, mask, transform = make_copy(kind, original.image, original.mask, rng)
            copy = Photograph(image, mask, original.lesion_count)
            person = people[index]
            row = _row(spec, person, copy, host, filed[host], (index, 2000 + k), label=wrong)
            row |= {
                "copy_of": _name(person.label, index, 0)[1],
                "copy_kind": kind,
                "conflict": bool(wrong),
                "copy_transform": " ".join(f"{value:.6g}" for value in transform),
            }
            filed[host] += 1
            yield row, copy
            bar.update()


def _row(
    spec: PhantomSpec,
    person: Person,
    photograph: Photograph,
    patient: int,
    number: int,
    stream: tuple[int, int],
    *,
    label: str | None = None,
) -> dict:
    label = label or person.label
    patient_id, image_id = _name(label, patient, number)
    rng = np.random.default_rng([spec.seed, *stream, 4])
    marked = spec.corner_mark and rng.random() < MARK_SHARE[label == "Mpox"]
    return {
        "image_id": image_id,
        "label": label,
        "true_label": person.label,
        "patient_id": patient_id,
        "fitzpatrick": person.fitzpatrick,
        "ita_degrees": round(person.ita, 2),
        "lesion_count": photograph.lesion_count,
        "lesion_fraction": round(float(photograph.mask.mean()), 6),
        "corner_mark": marked,
        "copy_of": None,
        "copy_kind": None,
        "copy_transform": None,
        "conflict": False,
        "_mark_stream": rng,
    }


def _write(folder: Path, row: dict, photograph: Photograph) -> dict:
    image = draw_corner_mark(photograph.image, row["_mark_stream"]) if row["corner_mark"] else photograph.image
    mask = photograph.mask.astype(np.uint8) * 255
    for path, pixels in ((folder / "images", image), (folder / "truth" / "masks", mask)):
        target = path / row["image_id"]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, compress_level=3)
    return row
