"""Walking a data set's folder: which files are candidates for pictures, and why the others are not."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from mpox.errors import MpoxError
from mpox.pictures import EXTENSIONS, explain_failure, is_printable, printable

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
