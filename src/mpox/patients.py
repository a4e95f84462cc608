"""Patient ids: from a table that lies beside the pictures, or from the pictures' names."""

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from mpox.errors import MpoxError


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
