"""A folder of images becomes a table: who is on them, of which class, and the hash of each file."""

import codecs
import csv
import difflib
import hashlib
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write, cache_dir
from mpox.data.pictures import EXTENSIONS, UnusablePicture, decoder_versions, describe, printable
from mpox.data.registry import LABEL_ALIASES, REGISTRY, DatasetSpec, get_spec, locate

#: The file of patient ids in a data set's folder; it is no image, and not rejected as one.
PATIENTS_FILE = "patients.csv"
#: Endings of tables that may be meant as `PATIENTS_FILE`.
_TABLES = {
    ".csv", ".cvs", ".tsv", ".tab", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".numbers", ".json", ".parquet", ".gz",
    ".bak", ".part",
}  # fmt: skip
COLUMNS = ["image_id", "path", "sha256", "pixel_sha256", "width", "height", "label", "patient_id", "source"]
#: Pixels that an image's shorter side must have.
MIN_SIDE = 32
#: Each thread holds a decoded image in memory.
MAX_THREADS = 8
#: The one label of a folder that has images but no class folders.
UNLABELLED = "unlabelled"
#: Why a folder of `_SYSTEM` is not looked into.
PASSED_OVER = "is a folder of the system (thumbnails, deleted files): passed over"
#: Folders that drives and systems put beside the user's and do not hide; most hold smaller copies, or what was deleted.
_SYSTEM = re.compile(
    r"[@$].+|[#~](recycle|snapshot)(\.bin)?|_?thumb(nail)?s(\.db)?|_thumb|thumbnail|thmbnl|__macosx|__pycache__|_vti_\w+|lost\+found|"
    r"lost\.dir|found\.\d+|recycle([dr]|.bin)|trash(box|es)?|papierkorb|appledouble|ipod photo cache|.+\.(lrdata|photoslibrary)|"
    r"system volume information|network trash folder|temporary items|thevolumesettingsfolder",
    re.IGNORECASE,
)
#: What breaks a line of a table or of a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
#: How people and programs write, in letters and digits, that a value is missing; see `no_value`.
_NO_VALUE = {
    "na", "nan", "nana", "nat", "null", "none", "nil", "1ind", "1qnan", "missing", "unk", "unknown", "notknown", "notavailable",
    "notapplicable", "notrecorded", "notprovided", "notspecified", "unspecified", "undefined", "nodata", "tbd", "blank", "empty",
    "anonymous", "nacharacter", "nainteger", "nareal", "pdna", "npnan", "undef", "unkn", "tbc", "tobedetermined", "unidentified",
    "notidentified", "anonymised", "anonymized", "notdocumented", "notstated", "notgiven", "notreported", "unavailable",
    "withheld", "missingvalue", "noid", "nopatient", "unknownpatient", "unknownna",
}  # fmt: skip

#: (sha256, pixel_sha256, width, height) of an image, or the reason why a file cannot be used.
Finding = tuple[str, str, int, int] | str


def shown(name: str) -> str:
    r"""A name as one line of text: bytes that are not UTF-8, and control characters, are escaped.

    Examples
    --------
    >>> shown("a" + chr(13))
    'a\\r'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(name))


def _flaw(name: str) -> str:
    """What is wrong with a name that cannot be shown as it is."""
    return "not UTF-8" if printable(name) != name else "no single line (it has a control character)"


def is_passed_over(folder: str) -> bool:
    """Whether a folder of that name is hidden, or one of the system: what is in it is nobody's image."""
    return folder.startswith(".") or bool(_SYSTEM.fullmatch(folder))


def files_below(folder: str | Path, refuse: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, bool]]:
    """The path of each file, and of each link to a folder, below a folder, hidden ones left out; links are not followed.

    Folders of the system are among them, marked by ``True``; what is in them is not. `refuse` is told what cannot be listed.
    """
    for parent, below, names in os.walk(folder, onerror=refuse):
        links = [name for name in below if os.path.islink(os.path.join(parent, name))]
        yield from ((os.path.join(parent, name), False) for name in names + links if not name.startswith("."))
        yield from ((os.path.join(parent, name), True) for name in below if _SYSTEM.fullmatch(name))
        below[:] = [name for name in below if not is_passed_over(name)]


def say_passed_over(folders: list[str]) -> str:
    """The sentence that names the folders of the system that `files_below` met."""
    return f"Folders of the system (thumbnails, deleted files), passed over: {some(folders)}."


def some(texts: list[str]) -> str:
    """The first five of a list, and how many more there are."""
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def too_small(width: int, height: int) -> str:
    """Why an image of this size cannot be used, as the rest of the sentence after its name; empty where it can."""
    return f"is too small ({width} x {height} pixels): a side needs at least {MIN_SIDE}" if min(width, height) < MIN_SIDE else ""


def no_value(cell: str) -> bool:
    r"""Whether a cell says that its value is not known, as R, Excel, SQL, pandas and people write it.

    Examples
    --------
    >>> [no_value(cell) for cell in ("", "N/A", "#REF!", "?", "unknown", "N1")]
    [True, True, True, True, True, False]
    """
    word = "".join(filter(str.isalnum, cell.casefold()))
    return not word or word in _NO_VALUE or bool(re.fullmatch(r"\\N|#[A-Z0/]+[!?]|#\D+|n\.d\.|-1|-9+", cell.strip()))


def _class_folders(spec: DatasetSpec, root: Path) -> list[str]:
    """The class folders as posix paths below the root: links to folders included, hidden ones not."""
    if spec.folders:
        if missing := [name for name in spec.folders if not (root / name).is_dir()]:
            raise MpoxError(
                f"{root} lacks the class folders {', '.join(missing)}: the data set is incomplete, fetch or copy it again."
            )
        return list(spec.folders)
    # MSLD v2 ships five folds; the test parts of all folds hold every original image once.
    if spec.name == "msld-v2" and (base := next(root.glob("**/FOLDS"), None)):
        return sorted(folder.relative_to(root).as_posix() for folder in base.glob("fold*/Test/*") if folder.is_dir())
    try:
        return sorted(child.name for child in root.iterdir() if child.is_dir() and not is_passed_over(child.name))
    except OSError as error:
        raise MpoxError(f"The folder {root} cannot be listed ({error.strerror}): make it readable.") from error


def _candidates(spec: DatasetSpec, root: str, folders: list[str]) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """What lies in the class folders and their sub-folders; what is hidden is passed over, links to folders not followed."""
    files: list[tuple[str, str, str]] = []
    rejected: dict[str, str] = {}

    def refuse(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        rejected[shown(name)] = f"is a folder that cannot be listed ({error.strerror}): make it readable"

    def add(path: str, folder: str) -> None:
        image_id, is_link = Path(path).relative_to(root).as_posix(), os.path.islink(path)
        real, suffix = os.path.realpath(path) if is_link else path, os.path.splitext(image_id)[1]
        if is_link and not (os.path.isfile(real) and Path(real).is_relative_to(root)):
            rejected[shown(image_id)] = "is a link that leads to no file of this data set: put a copy in its place"
        elif suffix.lower() not in EXTENSIONS:
            rejected[shown(image_id)] = f"has the extension {shown(suffix) or '(none)'}, which is not one of an image"
        elif shown(image_id) != image_id:
            rejected[shown(image_id)] = f"has a name that is {_flaw(image_id)}: rename it"
        else:
            files.append((image_id, real, folder))

    for folder in folders:
        if os.path.islink(os.path.join(root, folder)):
            add(os.path.join(root, folder), folder)
            continue
        for path, of_the_system in files_below(os.path.join(root, folder), refuse):
            if of_the_system:
                rejected[shown(Path(path).relative_to(root).as_posix())] = PASSED_OVER
            else:
                add(path, folder)
    for name in sorted(os.listdir(root)) if spec.name not in REGISTRY else []:  # a registered one is its class folders
        path = os.path.join(root, name)
        if name.startswith(".") or name.casefold() == PATIENTS_FILE:
            continue
        if os.path.isdir(path):
            rejected |= {shown(name): PASSED_OVER} if is_passed_over(name) else {}
        elif folders and os.path.splitext(name)[1].lower() in EXTENSIONS:
            rejected[shown(name)] = "lies beside the class folders: move it into the folder of its class"
        else:
            add(path, UNLABELLED)
    return sorted(files), rejected


def _signature(path: str) -> list[int]:
    """What tells whether a file changed: its size, and when its content and its state were changed last."""
    info = os.stat(path)
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def _examine(path: str) -> tuple[list[int] | None, Finding]:
    """What a file is, and its signature if that holds until the file changes."""
    try:
        before = _signature(path)
        return before, describe(path)
    except UnusablePicture as error:
        return None if error.passing else before, error.reason
    except OSError as error:
        return None, f"cannot be opened ({error.strerror}): make it readable, or remove it"


def _findings(root: str, files: list[tuple[str, str, str]], title: str, jobs: int | None) -> dict[str, Finding]:
    """What every candidate is: as the cache (a JSON file a folder and version of the decoders) has it, or decoded now."""
    about = hashlib.sha256(os.fsencode(root) + decoder_versions().encode()).hexdigest()[:16]
    path = cache_dir() / "scans" / f"{about}.json"
    try:
        known = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        known = {}
    kept, found, new = {}, {}, []
    for image_id, file, _ in files:
        try:
            if known[image_id][0] != _signature(file):
                raise KeyError(image_id)
            kept[image_id], found[image_id] = known[image_id], known[image_id][1]
        except (OSError, LookupError, TypeError):
            new.append((image_id, file))
    try:
        with ThreadPoolExecutor(jobs or min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            results = pool.map(_examine, [file for _, file in new])
            bar = tqdm(zip(new, results, strict=True), total=len(new), desc=f"read {title}", delay=3, leave=False)
            for (image_id, _), (seen, finding) in bar:
                found[image_id] = finding
                if seen is not None:
                    kept[image_id] = [seen, finding]
    finally:  # an interruption does not cost what was found
        if kept != known:
            atomic_write(path, json.dumps(kept))
    return found


def read_user_table(path: str | os.PathLike, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of a table that a user wrote, by hand or with Excel or R, as text; ``a|b`` asks for the first that is there.

    Any of comma, semicolon and tab; empty rows are left out; capitals and blanks around a column's name do not count.
    """
    name = Path(path).name
    try:
        content = Path(path).read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # what Excel calls Unicode text
        text = content.decode("utf-16" if wide else "utf-8-sig").lstrip("\r\n")
        declared = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)  # for Excel
        text = text[declared.end() :] if declared else text
        separator = declared[1] if declared else max(",;\t", key=text.split("\n", 1)[0].count)
        cells = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header, *rows = [row for row in cells if any(cell.strip() for cell in row)] or [[]]
        width = len(header)
        if long := next((row for row in rows if any(cell.strip() for cell in row[width:])), None):
            raise ValueError(f"a row has more cells than columns, '{shown(long[0])}': put names with commas between quotes")
        frame = pd.DataFrame([(row + [""] * width)[:width] for row in rows], columns=header, dtype="str")
    except OSError as error:
        raise MpoxError(f"The table {path} cannot be read ({error.strerror}): name one that is there and readable.") from error
    except (ValueError, csv.Error) as error:
        raise MpoxError(f"The table {path} cannot be read ({error}): save it as 'CSV (UTF-8)'.") from error
    frame = frame.rename(columns=lambda column: column.strip().casefold())
    chosen = [next((one for one in asked.split("|") if one in frame), "") for asked in columns]
    if "" in chosen:
        *first, last = (" (or ".join(asked.split("|")) + ")" * ("|" in asked) for asked in columns)
        there = ", ".join(map(shown, header)) or "none"
        raise MpoxError(f"{name} needs the columns {', '.join(first)} and {last}; it has {there}: rename its columns.")
    if twice := [column for column in chosen if (frame.columns == column).sum() > 1]:
        raise MpoxError(f"{name} has the column {twice[0]} more than once: keep one of them.")
    return frame[chosen]


def _index(image_ids: Collection[str], *, bare_names: bool) -> dict[str, set[str]]:
    """Images by what people write into tables: the id in either Unicode form, or the bare name."""
    index: dict[str, set[str]] = {}
    for image_id in image_ids:
        for name in {image_id, PurePosixPath(image_id).name} if bare_names else {image_id}:
            index.setdefault(unicodedata.normalize("NFC", name), set()).add(image_id)
    return index | {image_id: {image_id} for image_id in image_ids}


def as_posix(written: str) -> str:
    """The path of an image as the manifest has it, however people write it."""
    return written.strip().replace("\\", "/").removeprefix("./")


def _one_form(patient: str) -> str:
    """A patient's id in one Unicode form, without what cannot be seen, and with single blanks: else it is two patients."""
    return re.sub(r"[ \xa0]+", " ", re.sub(r"[\u200b-\u200d\u2060\ufeff]", "", unicodedata.normalize("NFC", patient))).strip()


def read_patients(path: str | Path, image_ids: Collection[str], *, rejected: Collection[str] = ()) -> dict[str, str]:
    """Patient ids from a table: ``image_id`` -> patient id, for the images whose patient is known."""
    written = _written_patients(path, image_ids, rejected)
    return {image_id: patient for image_id, patient in written.items() if not no_value(patient)}


def _written_patients(path: str | Path, image_ids: Collection[str], rejected: Collection[str]) -> dict[str, str]:
    """What a table says of each image's patient; that it is not known, only where no other row knows it."""
    name, frame = Path(path).name, read_user_table(path, ["image_id|file", "patient_id"])
    key = frame.columns[0]
    index = _index({*image_ids, *rejected}, bare_names=key == "file")
    unknown, unclear, twice = set[str](), set[str](), set[str]()
    found: dict[str, str] = {}
    for written, patient in zip(frame[key].str.strip(), frame["patient_id"].map(_one_form), strict=True):
        plain = unicodedata.normalize("NFC", shown(as_posix(written)))
        matches = index.get(written) or index.get(plain, set())
        if len(matches) != 1:
            (unclear if matches else unknown).add(written)
        elif no_value(known := found.get(next(iter(matches)), "")):
            found[next(iter(matches))] = patient or known
        elif patient != known and not no_value(patient):
            twice |= matches
    for wrong, what in (
        (unknown, "which are not in the data set: correct these rows, or remove them"),
        (unclear, "which are there more than once: give their path from the folder on"),
        (twice, "each with two different patients: keep one row of each"),
    ):
        if wrong:
            some = ", ".join(f"'{shown(image_id)}'" for image_id in sorted(wrong)[:5]) + (", ..." if len(wrong) > 5 else "")
            raise MpoxError(f"{name} names {len(wrong)} image(s) ({some}), {what}.")
    return {image_id: found[image_id] for image_id in image_ids if found.get(image_id)}


def patients_table(root: Path) -> Path | None:
    """The table of patients in a data set's folder, whatever the case of its name; an `MpoxError` if there are several."""
    there = [name for name in sorted(os.listdir(root)) if name.casefold() == PATIENTS_FILE]
    if len(there) > 1:
        raise MpoxError(f"{root} has {len(there)} tables of patients ({', '.join(there)}): keep one.")
    return root / there[0] if there else None


def _refuse_misplaced(root: Path, names: Collection[str], table: Path | None) -> None:
    """Refuse a file that looks like the table of patients but would not be read: its patients would be lost silently."""
    for image_id in sorted(names):
        folder, name = os.path.split(image_id.casefold())
        stem, suffix = re.sub(r"[\W\d_]", "", name.strip().partition(".")[0]), os.path.splitext(name.strip())[1]
        alike = suffix in _TABLES or (suffix in ("", ".txt", ".dat") and not folder)
        named = suffix in _TABLES and re.search("patient|subjects", stem)
        alike = alike and bool(named or difflib.get_close_matches(stem, [Path(PATIENTS_FILE).stem], cutoff=0.75))
        in_vain = name == PATIENTS_FILE if table else alike
        if in_vain and not name.startswith((".", "~$")) and not (root / image_id).is_dir() and (root / image_id) != table:
            raise MpoxError(
                f"{root / image_id} looks like the table of patients and would not be read: save it as {root / PATIENTS_FILE} "
                "(CSV), or give it another name."
            )


def match_patients(pattern: str, image_ids: Sequence[str]) -> dict[str, str]:
    r"""Patient ids from the images' names, for those that match.

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


def _patients(spec: DatasetSpec, root: Path, image_ids: list[str], rejected: Collection[str], table, pattern) -> dict[str, str]:
    """What the first source there is says of patients: what the user names, the table in the folder, the registered pattern."""
    if table is not None and pattern is not None:
        raise MpoxError("Both a table of patients and a pattern for their ids are named: name one of them.")
    if pattern is not None:
        found = match_patients(pattern, image_ids)
        if image_ids and not found:
            example = PurePosixPath(image_ids[0]).stem
            raise MpoxError(f"The pattern for patient ids '{pattern}' matches no image's name, such as '{example}': correct it.")
        return found
    if table is None:
        table = patients_table(root)
        _refuse_misplaced(root, {*rejected, *map(shown, os.listdir(root))}, table)
    if table is not None:
        return _written_patients(table, image_ids, rejected)
    return match_patients(spec.patient_pattern, image_ids) if spec.patient_pattern else {}


def _alike(image_ids: pd.Series) -> list[list[str]]:
    """Ids that some systems take for one name: equal but for upper and lower case, or for the way that accents are written."""
    names = image_ids.str.normalize("NFC").str.casefold().str.normalize("NFC")
    return [group.tolist() for _, group in image_ids.groupby(names, sort=False) if len(group) > 1]


def scan(
    name: str | Path,
    *,
    data_dir: str | os.PathLike | None = None,
    patients: str | Path | None = None,
    patient_pattern: str | None = None,
    jobs: int | None = None,
) -> pd.DataFrame:
    """Look at every file of a data set: what can be used becomes a row, what cannot is listed with its reason.

    Any file counts that Pillow can decode (HEIC needs the extra ``mpox[heic]``). Hidden files and folders of the
    system are passed over; links are followed to images of the same data set only. Results are kept in the cache folder: a file
    that did not change is not decoded again.

    Parameters
    ----------
    name : str or path
        A registered data set, or a folder with one sub-folder a class; a folder without sub-folders is one class ``unlabelled``.
    data_dir : path, optional
        Where data sets are looked for first (see `mpox._core.data_roots`).
    patients : path, optional
        A table of patient ids (see `read_patients`). Without it, a ``patients.csv`` in the data set's folder is taken, whatever
        the case of its name; a file that looks like it but is not it is an error.
    patient_pattern : str, optional
        Instead of a table: a regular expression on the names (see `match_patients`).
    jobs : int, optional
        Threads that decode; as many as there are cores, at most `MAX_THREADS`, if not given.

    Returns
    -------
    DataFrame
        One row an image, sorted by ``image_id`` (posix path below the data set's folder): ``path`` (absolute), ``sha256`` of
        the file, ``pixel_sha256`` of the decoded RGB pixels, ``width`` and ``height`` (pixels, int64), ``label``,
        ``patient_id`` (``<NA>`` where nothing tells it), ``source`` (the data set's name). There may be no row at all.
        ``attrs``: ``source``; ``rejected``, what could not be used, as ``(image_id, reason)``; ``empty``, the class folders
        without a usable image; ``alike``, groups of images whose names differ only in case or in the way accents are written;
        ``not_known``, what was written in place of a patient (`no_value`), and for how many images.

    Raises
    ------
    MpoxError
        If the data set is missing or its folder cannot be listed, or what is said about patients is not in order.
        A single file never raises.
    """
    spec = get_spec(name, data_dir=data_dir)
    root = locate(name, data_dir=data_dir)
    real = os.path.realpath(root)
    if shown(real) != real:
        raise MpoxError(f"The path {shown(real)} has a name that is {_flaw(real)}: rename that folder.")
    source = spec.name if spec.name in REGISTRY else "phantom" if spec.is_phantom else os.path.basename(real)
    if source in REGISTRY and spec.name not in REGISTRY and not spec.is_phantom:
        source = f"folder-{source}"
    folders = _class_folders(spec, root)
    files, rejected = _candidates(spec, real, folders)
    findings = _findings(real, files, source, jobs)
    rows = []
    for image_id, path, folder in files:
        finding, label = findings[image_id], os.path.basename(folder)
        if isinstance(finding, str):
            rejected[image_id] = finding
        elif reason := too_small(*finding[2:]):
            rejected[image_id] = reason
        else:
            rows.append((image_id, path, *finding, LABEL_ALIASES.get(label.lower(), label), None, source))
    frame = pd.DataFrame(rows, columns=COLUMNS).sort_values("image_id", ignore_index=True)
    frame = frame.astype({column: "int64" if column in ("width", "height") else "str" for column in COLUMNS})
    written = _patients(spec, root, frame["image_id"].tolist(), rejected, patients, patient_pattern)
    said = {image_id: _one_form(patient) for image_id, patient in written.items()}
    known = {image_id: patient for image_id, patient in said.items() if not no_value(patient)}
    frame["patient_id"] = frame["image_id"].map(known).astype("string")
    used = {folder for image_id, _, folder in files if image_id not in rejected}
    frame.attrs["source"] = source
    frame.attrs["rejected"] = sorted(rejected.items())
    frame.attrs["empty"] = [shown(folder) for folder in folders if folder not in used]
    frame.attrs["alike"] = _alike(frame["image_id"])
    frame.attrs["not_known"] = dict(Counter(patient for image_id, patient in said.items() if image_id not in known).most_common())
    return frame


def build_manifest(name: str | Path, *, data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Turn a data set into its manifest: the table of `scan`, and an `MpoxError` if a class is empty or there are not two."""
    frame = scan(name, data_dir=data_dir)
    root = locate(name, data_dir=data_dir)
    if empty := frame.attrs["empty"]:
        why = [f" ({file} {reason})" for file, reason in frame.attrs["rejected"] if f"{file}/".startswith(f"{empty[0]}/")]
        raise MpoxError(
            f"No readable image in the class folder(s) {', '.join(empty)} of {root}: fill or remove them{''.join(why[:1])}."
        )
    if frame["label"].nunique() < 2:
        raise MpoxError(f"{root} has fewer than two classes: put the images in one sub-folder a class.")
    return frame


def manifest_hash(manifest: pd.DataFrame) -> str:
    """Sixteen hex digits that stand for the images, labels and patients of a manifest, wherever the files lie."""
    columns = ["image_id", "pixel_sha256", "label", "patient_id"]
    text = manifest[columns].sort_values("image_id").to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
