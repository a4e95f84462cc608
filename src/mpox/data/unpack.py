"""Reading pictures out of an archive that somebody else made, without trusting it."""

import stat
import zipfile
import zlib
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath

from mpox._core import MpoxError

#: Limits on what is unpacked. Photographs hardly compress: a ratio above this is no picture but a bomb.
MAX_FILE_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 2 * 2**30
MAX_RATIO = 100


def _is_unsafe(name: str) -> bool:
    """Whether a member's name could lead out of the folder it is unpacked into, on any operating system."""
    parts = name.split("/")
    return name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts or "\0" in name


def _check(members: list[zipfile.ZipInfo], wanted: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive before anything of it is read."""

    def refuse(reason: str) -> None:
        raise MpoxError(f"nothing was unpacked, because {reason}")

    for member in members:
        if _is_unsafe(member.orig_filename):
            refuse(f"its member '{member.orig_filename}' points outside the folder")
    for member in wanted:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            refuse(f"its member '{member.filename}' is a link or a device, not a file")
        if member.file_size > MAX_FILE_BYTES:
            refuse(f"its member '{member.filename}' is larger than {MAX_FILE_BYTES // 2**20} MB")
        if member.file_size > MAX_RATIO * max(member.compress_size, 2**10):
            refuse(f"its member '{member.filename}' grows more than {MAX_RATIO}-fold when unpacked")
    if sum(member.file_size for member in wanted) > MAX_TOTAL_BYTES:
        refuse(f"its pictures are larger than {MAX_TOTAL_BYTES / 2**20:,.0f} MB in all")


def read_pictures(archive: str | Path, *, extensions: Set[str]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Read the pictures of a zip archive one by one; nothing is written to the disk.

    Parameters
    ----------
    archive : path
        The zip file.
    extensions : set of str
        What counts as a picture: suffixes in lower case, with the dot.

    Yields
    ------
    path : PurePosixPath
        The member's path in the archive; never absolute, never with ``..``.
    content : bytes
        Its content, whose CRC fits.

    Raises
    ------
    MpoxError
        If the file is no whole zip archive, if any member's name points outside, if a picture is a link or a
        device, or if one of `MAX_FILE_BYTES`, `MAX_TOTAL_BYTES`, `MAX_RATIO` is exceeded. The message is half
        a sentence, for the caller to complete.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            wanted = [
                member
                for member in members
                if not member.is_dir() and PurePosixPath(member.filename).suffix.lower() in extensions
            ]
            _check(members, wanted)
            for member in wanted:
                yield PurePosixPath(member.filename), opened.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MpoxError(f"it is not a whole zip archive ({error})") from error
