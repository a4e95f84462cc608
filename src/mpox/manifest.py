"""From a folder of pictures to the manifest: one table row an image. Nothing downstream walks folders."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mpox.datasets import LABEL_ALIASES, REGISTRY, DatasetSpec, get_spec, locate
from mpox.errors import MpoxError
from mpox.folderwalk import PATIENTS_FILE, Walk, class_folders
from mpox.patients import find_patients
from mpox.pictures import UnusablePicture, describe, explain_failure, is_printable, printable
from mpox.scancache import Finding, ScanCache, signature

COLUMNS = [
    "image_id", "path", "sha256", "pixel_sha256", "width", "height", "label", "patient_id", "source",
]  # fmt: skip
#: Pixels that a picture's shorter side must have.
MIN_SIDE = 32
#: Each thread holds a decoded picture in memory.
MAX_THREADS = 8
#: The one label of a folder that has pictures but no class folders.
UNLABELLED = "unlabelled"


def _folders(spec: DatasetSpec, root: Path) -> list[str]:
    """The class folders as posix paths below the root."""
    if spec.folders:
        missing = [name for name in spec.folders if not (root / name).is_dir()]
        if missing:
            raise MpoxError(
                f"{root} lacks the class folders {', '.join(missing)}: the data set is incomplete, fetch or copy it again."
            )
        return list(spec.folders)
    # MSLD v2 ships five folds; the test parts of all folds hold every original picture once.
    base = next(root.glob("**/FOLDS"), None) if spec.name == "msld-v2" else None
    if base is not None:
        return sorted(folder.relative_to(root).as_posix() for folder in base.glob("fold*/Test/*") if folder.is_dir())
    return class_folders(root)


def _label(folder: str) -> str:
    name = os.path.basename(folder)
    return LABEL_ALIASES.get(name.lower(), name)


def _walk(spec: DatasetSpec, root: Path, folders: list[str]) -> Walk:
    walk = Walk(os.path.realpath(root))
    for folder in folders:
        walk.add_folder(folder)
    if spec.name not in REGISTRY:  # a registered data set is its class folders, whatever else lies there
        walk.add_loose_files(None if folders else UNLABELLED)
    walk.files.sort()
    return walk


def _examine(path: str) -> tuple[list[int] | None, Finding]:
    """What a file is, and its signature if that holds until the file changes."""
    try:
        before = signature(path)
        finding: Finding
        try:
            finding = describe(path)
        except UnusablePicture as error:
            finding = error.reason
        return (before if signature(path) == before else None), finding
    except (OSError, MemoryError) as error:
        return None, explain_failure(error)


def _findings(walk: Walk, title: str, jobs: int | None) -> dict[str, Finding]:
    """What every candidate is: from the cache, or decoded now by all cores."""
    cache = ScanCache(walk.root)
    known = {image_id: cache.get(image_id, path) for image_id, path, _ in walk.files}
    found = {image_id: finding for image_id, finding in known.items() if finding is not None}
    new = [(image_id, path) for image_id, path, _ in walk.files if image_id not in found]
    pool = ThreadPoolExecutor(jobs or min(MAX_THREADS, os.cpu_count() or 1))
    whole = False
    try:
        tasks = {pool.submit(_examine, path): image_id for image_id, path in new}
        for task in tqdm(as_completed(tasks), total=len(new), desc=f"read {title}", delay=3, leave=False):
            image_id = tasks[task]
            seen, found[image_id] = task.result()
            if seen is not None:
                cache.put(image_id, seen, found[image_id])
        whole = True
    finally:
        pool.shutdown(cancel_futures=True)
        cache.save(whole=whole)
    return found


def _alike(image_ids: Iterable[str]) -> list[list[str]]:
    """Ids that some systems take for one name: equal but for upper and lower case, or for the way that accents are written."""
    names: dict[str, list[str]] = {}
    for image_id in image_ids:
        names.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", image_id).casefold()), []).append(image_id)
    return [sorted(group) for group in names.values() if len(group) > 1]


def scan(
    name: str | Path,
    *,
    data_dir: str | os.PathLike | None = None,
    patients: str | Path | pd.DataFrame | None = None,
    patient_pattern: str | None = None,
    jobs: int | None = None,
) -> pd.DataFrame:
    """Look at every file of a data set: what can be used becomes a row, what cannot is listed with its reason.

    Any file counts that Pillow can decode (HEIC needs the extra ``mpox[heic]``). Hidden files are passed over; links are followed
    to pictures of the same data set only. Results are kept in the cache folder: a file that did not change is not decoded again.

    Parameters
    ----------
    name : str or path
        A registered data set, or a folder with one sub-folder a class; a folder without sub-folders is one class ``unlabelled``.
    data_dir : path, optional
        Where data sets are looked for first (see `mpox.paths.data_roots`).
    patients : path or DataFrame, optional
        A table of patient ids (see `mpox.patients.read_patients`). Without it, a ``patients.csv`` in the data set's
        folder is taken.
    patient_pattern : str, optional
        Instead of a table: a regular expression on the names (see `mpox.patients.match_patients`).
    jobs : int, optional
        Threads that decode; as many as there are cores, at most `MAX_THREADS`, if not given.

    Returns
    -------
    DataFrame
        One row an image, sorted by ``image_id`` (posix path below the data set's folder): ``path`` (absolute), ``sha256`` of
        the file, ``pixel_sha256`` of the decoded RGB pixels, ``width`` and ``height`` (pixels, int64), ``label``,
        ``patient_id`` (``<NA>`` where nothing tells it), ``source`` (the data set's name). There may be no row at all.
        ``attrs["source"]`` repeats the name; ``attrs["rejected"]`` lists what could not be used as ``(image_id, reason)``,
        ``attrs["empty"]`` the class folders without a usable picture, ``attrs["alike"]`` the groups of images whose names differ
        only in case or in the way accents are written.

    Raises
    ------
    MpoxError
        If the data set is missing or its folder cannot be listed, or what is said about patients is not in order.
        A single file never raises.
    """
    spec = get_spec(name)
    root = locate(name, data_dir=data_dir)
    if not is_printable(os.path.realpath(root)):
        raise MpoxError(f"The path {printable(str(root))} has a name that is not UTF-8: rename that folder.")
    source = spec.name if spec.name in REGISTRY else "phantom" if spec.is_phantom else root.resolve().name
    if source in REGISTRY and spec.name not in REGISTRY and not spec.is_phantom:
        source = f"folder-{source}"
    folders = _folders(spec, root)
    walk = _walk(spec, root, folders)
    rows = []
    findings = _findings(walk, source, jobs)
    for image_id, path, folder in walk.files:
        finding = findings[image_id]
        if isinstance(finding, str):
            walk.reject(image_id, finding)
        elif min(finding[2:]) < MIN_SIDE:
            walk.reject(image_id, f"is too small ({finding[2]} x {finding[3]} pixels): a side needs at least {MIN_SIDE}")
        else:
            rows.append((image_id, path, *finding, _label(folder), None, source))
    frame = pd.DataFrame(rows, columns=COLUMNS).sort_values("image_id", ignore_index=True)
    frame = frame.astype({column: "int64" if column in ("width", "height") else "str" for column in COLUMNS})
    known = find_patients(
        frame["image_id"].tolist(),
        rejected=walk.rejected,
        table=patients,
        pattern=patient_pattern,
        beside=root / PATIENTS_FILE,
        registered=spec.patient_pattern,
    )
    frame["patient_id"] = frame["image_id"].map(known).astype("string")
    used = {folder for image_id, _, folder in walk.files if image_id not in walk.rejected}
    frame.attrs["source"] = source
    frame.attrs["rejected"] = sorted(walk.rejected.items())
    frame.attrs["empty"] = [printable(folder) for folder in folders if folder not in used]
    frame.attrs["alike"] = _alike(frame["image_id"])
    return frame


def build_manifest(
    name: str | Path,
    *,
    data_dir: str | os.PathLike | None = None,
    patients: str | Path | pd.DataFrame | None = None,
    patient_pattern: str | None = None,
) -> pd.DataFrame:
    """Turn a data set into its manifest: `scan` it, and make sure that a classifier can be trained on it.

    Parameters and the table are those of `scan`.

    Raises
    ------
    MpoxError
        As `scan`; and if a class is empty, or fewer than two classes are left.
    """
    frame = scan(name, data_dir=data_dir, patients=patients, patient_pattern=patient_pattern)
    root = locate(name, data_dir=data_dir)
    if frame.attrs["empty"]:
        empty = frame.attrs["empty"]
        why = [f" ({file} {reason})" for file, reason in frame.attrs["rejected"] if f"{file}/".startswith(f"{empty[0]}/")]
        names = ", ".join(empty)
        raise MpoxError(f"No readable picture in the class folder(s) {names} of {root}: fill or remove them{''.join(why[:1])}.")
    if frame["label"].nunique() < 2:
        raise MpoxError(f"{root} has fewer than two classes: put the pictures in one sub-folder a class.")
    return frame


def manifest_hash(manifest: pd.DataFrame) -> str:
    """Sixteen hex digits that stand for the pictures, labels and patients of a manifest, wherever the files lie."""
    columns = ["image_id", "pixel_sha256", "label", "patient_id"]
    text = manifest[columns].sort_values("image_id").to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
