"""A folder of images becomes a table: who is on them, of which class, and the hash of each file."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import stat
import time
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write, cache_dir
from mpox.data.pictures import EXTENSIONS, UnusablePicture, decoder_versions, describe, explain_failure, is_printable, printable
from mpox.data.registry import LABEL_ALIASES, REGISTRY, DatasetSpec, get_spec, locate

#: The file of patient ids in a data set's folder; it is no picture, and not rejected as one.
PATIENTS_FILE = "patients.csv"


def _unusable(path: str) -> str:
    """Why this cannot be opened as a file; empty if it can."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        return explain_failure(error)
    return "" if regular else "is no regular file: replace or remove it"


@dataclass
class Walk:
    """What lies in a data set's folder.

    Parameters
    ----------
    root : str
        The resolved path of the folder.
    files : list of (image_id, path, folder)
        The candidates: posix path below the root, absolute path, and the class folder below the root.
    rejected : dict
        Path below the root, printable -> the reason why that file, link or folder cannot be used.
    """

    root: str
    files: list[tuple[str, str, str]] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)

    def reject(self, relative: str, reason: str) -> None:
        """Note why something cannot be used."""
        self.rejected[printable(relative)] = reason

    def _resolve(self, relative: str) -> str | None:
        """Where a link within the root leads to; rejects any other link."""
        try:
            target = os.path.realpath(os.path.join(self.root, relative), strict=True)
        except OSError as error:
            reason = "is a link that leads back to itself" if error.errno == errno.ELOOP else "is a link to nothing"
            self.reject(relative, f"{reason}: remove it")
            return None
        if os.path.commonpath([target, self.root]) != self.root:
            self.reject(relative, "is a link to a place outside the data set's folder: put a copy in its place")
            return None
        if os.path.isdir(target):
            self.reject(relative, "is a link to a folder of the same data set: its pictures are listed where they lie")
            return None
        return target

    def _add_file(self, relative: str, folder: str) -> None:
        path = os.path.join(self.root, relative)
        if os.path.islink(path):
            target = self._resolve(relative)
            if target is None:
                return
            path = target
        suffix = os.path.splitext(relative)[1]
        if not is_printable(relative):
            self.reject(relative, "has a name that is not UTF-8: rename it")
        elif suffix.lower() not in EXTENSIONS:
            self.reject(relative, f"has the extension {suffix or '(none)'}, which is not one of a picture")
        elif reason := _unusable(path):
            self.reject(relative, reason)
        else:
            self.files.append((relative, path, folder))

    def add_folder(self, relative: str) -> None:
        """Walk one class folder with all its sub-folders; what is hidden is passed over, links to folders are not followed."""
        start = os.path.join(self.root, relative)
        if os.path.islink(start):
            self._resolve(relative)
            return
        waiting = [relative]
        while waiting:
            folder = waiting.pop()
            for entry in self._entries(folder):
                below = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(below)
                else:
                    self._add_file(below, relative)

    def _entries(self, relative: str) -> list[os.DirEntry]:
        try:
            with os.scandir(os.path.join(self.root, relative)) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            self.reject(relative, f"is a folder that cannot be listed ({error.strerror}): make it readable")
            return []

    def add_loose_files(self, folder: str | None) -> None:
        """Add the files that lie directly in the root: as if in a class folder of that name, or as rejected."""
        for entry in self._entries(""):
            if entry.name == PATIENTS_FILE or entry.is_dir(follow_symlinks=False):
                continue
            if folder is not None or os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:
                self._add_file(entry.name, folder or "")
            elif not (entry.is_symlink() and os.path.isdir(entry.path)):
                self.reject(entry.name, "lies beside the class folders: move it into the folder of its class")


def class_folders(root: Path) -> list[str]:
    """The sub-folders of a data set's folder, links to folders included, hidden ones not.

    Raises
    ------
    MpoxError
        If the folder cannot be listed.
    """
    try:
        return sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise MpoxError(f"The folder {root} cannot be listed ({error.strerror}): make it readable.") from error


#: Seconds after which the results of a long scan are written, so that an interruption does not cost them.
SAVE_EVERY = 60

#: (sha256, pixel_sha256, width, height) of a picture, or the reason why a file cannot be used.
Finding = tuple[str, str, int, int] | str


def signature(path: str) -> list[int]:
    """What tells whether a file changed: size in bytes, times of the last change of content and of state in nanoseconds.

    Raises
    ------
    OSError
        If the file is not there.
    """
    info = os.stat(path)
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def _is_finding(value: object) -> bool:
    kinds = [type(part) for part in value] if isinstance(value, list) else []
    return isinstance(value, str) or kinds == [str, str, int, int]


class ScanCache:
    """The findings about one folder's files, each valid while size and times of its file stay what they were.

    One JSON file a folder under ``scans`` in the cache folder, written atomically: two processes at a time cost each other some
    work at worst. One that is damaged, or made by other versions of the decoders, counts as empty.

    Parameters
    ----------
    root : str
        The resolved path of the folder.
    """

    def __init__(self, root: str):
        self.path = cache_dir() / "scans" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"
        self._root = root
        self._versions = decoder_versions()
        self._known = self._read()
        self._used: dict[str, list] = {}
        self._saved = time.monotonic()

    def _read(self) -> dict[str, list]:
        try:
            content = json.loads(self.path.read_bytes())
            if content["versions"] != self._versions or content["root"] != self._root:
                return {}
            files = content["files"]
            return files if all(len(entry) == 2 and _is_finding(entry[1]) for entry in files.values()) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def get(self, image_id: str, path: str) -> Finding | None:
        """What is known of a file; ``None`` if nothing is, or it changed since."""
        try:
            entry = self._known.get(image_id)
            if entry is None or entry[0] != signature(path):
                return None
        except OSError:
            return None
        self._used[image_id] = entry
        return tuple(entry[1]) if isinstance(entry[1], list) else entry[1]

    def put(self, image_id: str, seen: list[int], finding: Finding) -> None:
        """Keep what was found out about a file whose `signature` was the same before and after it was read."""
        self._used[image_id] = [seen, list(finding) if isinstance(finding, tuple) else finding]
        if time.monotonic() - self._saved > SAVE_EVERY:
            self._write({**self._known, **self._used})

    def _write(self, files: dict[str, list]) -> None:
        content = {"versions": self._versions, "root": self._root, "files": files}
        atomic_write(self.path, json.dumps(content))
        self._saved = time.monotonic()

    def save(self, *, whole: bool) -> None:
        """Write the findings if they changed.

        Parameters
        ----------
        whole : bool
            Whether every file of the folder was asked for: then what is known of others is dropped.
        """
        files = self._used if whole else {**self._known, **self._used}
        if files != self._known:
            self._write(files)
            self._known = files


def _shown(names: Collection[str], limit: int = 5) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)[:limit]) + (", ..." if len(names) > limit else "")


def _read_table(path: Path) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MpoxError(
            f"The table of patients {path} cannot be read ({error.strerror}): make it readable, or name another."
        ) from error
    except UnicodeDecodeError as error:
        raise MpoxError(f"{path.name} is not in UTF-8 (byte {error.start}): save it as 'CSV (UTF-8)'.") from error
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True, restval="")
        rows = list(reader)
    except csv.Error as error:
        raise MpoxError(f"{path.name} is no table with commas, near line {reader.line_num} ({error}): correct it.") from error
    for row in rows:
        if any(row.pop(None, [])):
            first = next(iter(row.values()))
            raise MpoxError(
                f"{path.name} has a row with more cells than columns ('{first}'): put names with commas between quotes."
            )
    return pd.DataFrame(rows, columns=reader.fieldnames or [], dtype="str")


class _Index:
    """Finds pictures by what people write into tables: the id, its other Unicode form, Windows' slashes, or the bare name."""

    def __init__(self, image_ids: Collection[str], *, bare_names: bool):
        self._ids = set(image_ids)
        self._others: dict[str, set[str]] = {}
        for image_id in self._ids:
            self._others.setdefault(unicodedata.normalize("NFC", image_id), set()).add(image_id)
            if bare_names:
                name = unicodedata.normalize("NFC", PurePosixPath(image_id).name)
                self._others.setdefault(name, set()).add(image_id)

    def find(self, written: str) -> set[str]:
        if written in self._ids:
            return {written}
        return self._others.get(unicodedata.normalize("NFC", written.replace("\\", "/").removeprefix("./")), set())


def read_patients(
    table: str | Path | pd.DataFrame, image_ids: Collection[str], *, rejected: Collection[str] = ()
) -> dict[str, str]:
    """Patient ids from a table.

    Parameters
    ----------
    table : path or DataFrame
        A CSV file in UTF-8 (commas, semicolons or tabs), or a table, with the columns ``image_id`` (posix path below the data
        set's folder) or ``file`` (the same, or the bare file name where only one picture has it), and ``patient_id``; other
        columns are passed over. An empty ``patient_id`` means: not known.
    image_ids : collection of str
        The data set's pictures.
    rejected : collection of str
        Ids of files that could not be used: the table may name them.

    Returns
    -------
    dict
        ``image_id`` -> patient id, for the pictures whose patient is known.

    Raises
    ------
    MpoxError
        If the table cannot be read, lacks a column, names a picture that is not there or is not told apart from another by its
        bare name, or gives one picture two patients.
    """
    name = "The table of patients" if isinstance(table, pd.DataFrame) else Path(table).name
    frame = table.astype("str").where(table.notna(), "") if isinstance(table, pd.DataFrame) else _read_table(Path(table))
    frame = frame.rename(columns=lambda column: str(column).strip())
    key = next((column for column in ("image_id", "file") if column in frame), None)
    if key is None or "patient_id" not in frame:
        there = ", ".join(frame.columns)
        raise MpoxError(
            f"{name} needs the columns image_id (or file) and patient_id; it has {there or 'none'}: rename its columns."
        )
    index = _Index({*image_ids, *rejected}, bare_names=key == "file")
    usable, unknown, unclear, twice = set(image_ids), set(), set(), set()
    found: dict[str, str] = {}
    for written, patient in zip(frame[key].str.strip(), frame["patient_id"].str.strip(), strict=True):
        matches = index.find(written)
        if not matches:
            unknown.add(written)
        elif len(matches) > 1:
            unclear.add(written)
        else:
            image_id = next(iter(matches))
            if found.setdefault(image_id, patient) != patient:
                twice.add(image_id)
    if unknown:
        raise MpoxError(
            f"{name} names {len(unknown)} picture(s) that are not in the data set ({_shown(unknown)}): "
            "correct these rows, or remove them."
        )
    if unclear:
        raise MpoxError(
            f"{name} names files that are there more than once ({_shown(unclear)}): give their path from the folder on."
        )
    if twice:
        raise MpoxError(
            f"{name} gives two different patients to {len(twice)} picture(s) ({_shown(twice)}): keep one row of each."
        )
    return {image_id: patient for image_id, patient in found.items() if patient and image_id in usable}


def match_patients(pattern: str, image_ids: Sequence[str]) -> dict[str, str]:
    r"""Patient ids from the pictures' names.

    Parameters
    ----------
    pattern : str
        Regular expression, searched for in the file's name without its extension; its group ``patient`` is the patient id.
    image_ids : sequence of str
        The data set's pictures.

    Returns
    -------
    dict
        ``image_id`` -> patient id, for the pictures whose name matches.

    Raises
    ------
    MpoxError
        If the pattern is no regular expression, or has no group ``patient``.

    Examples
    --------
    >>> match_patients(r"^(?P<patient>M\d+)_", ["Mpox/M01_02.jpg", "Mpox/other.jpg"])
    {'Mpox/M01_02.jpg': 'M01'}
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise MpoxError(f"The pattern for patient ids '{pattern}' is no regular expression ({error}): correct it.") from error
    if "patient" not in compiled.groupindex:
        raise MpoxError(
            f"The pattern for patient ids '{pattern}' has no group named patient: write the id's part as (?P<patient>...)."
        )
    matches = {image_id: compiled.search(PurePosixPath(image_id).stem) for image_id in image_ids}
    return {image_id: match["patient"] for image_id, match in matches.items() if match and match["patient"]}


def find_patients(
    image_ids: Sequence[str],
    *,
    rejected: Collection[str] = (),
    table: str | Path | pd.DataFrame | None = None,
    pattern: str | None = None,
    beside: Path | None = None,
    registered: str | None = None,
) -> dict[str, str]:
    """Patient ids from the first source there is: what the user names, the table beside the pictures, the registered pattern.

    Parameters
    ----------
    image_ids, rejected
        See `read_patients`.
    table, pattern
        What the user names, at most one of them; see `read_patients` and `match_patients`.
    beside : path, optional
        The table that lies beside the pictures, if there is one.
    registered : str, optional
        The pattern that is known for the data set.

    Raises
    ------
    MpoxError
        If both a table and a pattern are named, the named pattern matches no picture, or what is taken is not in order.
    """
    if table is not None and pattern is not None:
        raise MpoxError("Both a table of patients and a pattern for their ids are named: name one of them.")
    if pattern is not None:
        found = match_patients(pattern, image_ids)
        if image_ids and not found:
            example = PurePosixPath(image_ids[0]).stem
            raise MpoxError(
                f"The pattern for patient ids '{pattern}' matches no picture's name, such as '{example}': correct it."
            )
        return found
    if table is not None:
        return read_patients(table, image_ids, rejected=rejected)
    if beside is not None and beside.is_file():
        return read_patients(beside, image_ids, rejected=rejected)
    return match_patients(registered, image_ids) if registered else {}


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
        Where data sets are looked for first (see `mpox._core.data_roots`).
    patients : path or DataFrame, optional
        A table of patient ids (see `mpox.data.manifest.read_patients`). Without it, a ``patients.csv`` in the data set's
        folder is taken.
    patient_pattern : str, optional
        Instead of a table: a regular expression on the names (see `mpox.data.manifest.match_patients`).
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
    spec = get_spec(name, data_dir=data_dir)
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
