"""What every room stands on: errors, roots and caches, whole files, locks, hashes."""

import errno
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import platformdirs
from filelock import FileLock


class MpoxError(Exception):
    """A problem the user can solve: its message is one sentence that says what to do.

    The command line prints it without a traceback and exits with status 1; in a notebook it is the last line
    of the traceback.
    """


class TooFewImages(MpoxError):
    """A data set is too small for an experiment: a chapter may say so and go on."""


class Unwritable(MpoxError):
    """A folder cannot be written: what else would be written there fails, too, so nothing more is begun."""


class WeightsMissing(MpoxError):
    """The pretrained weights of a backbone cannot be had here: a table may say so in a row and go on."""


#: Reasons for which a folder cannot be written; an error for another reason is not explained away.
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: Ending of temporary names; a temporary that nobody has touched for so many seconds belongs to a process that was killed.
TEMPORARY = ".tmp"
STALE = 3600


def project_root() -> Path:
    """The folder that holds ``notebooks/`` and ``profiles/`` of this checkout.

    The environment variable ``MPOX_PROJECT`` names another one; without it the folder is found upwards from this file
    (the package is installed in editable mode).
    """
    named = os.environ.get("MPOX_PROJECT")
    return Path(named).resolve() if named else Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """The folder for what can be computed again: ``MPOX_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("MPOX_CACHE") or platformdirs.user_cache_dir("mpox", appauthor=False))


def data_roots(data_dir: str | os.PathLike | None = None) -> list[Path]:
    """The folders in which data sets are looked for, in order of precedence.

    Parameters
    ----------
    data_dir : path, optional
        What the user named on the command line or as a notebook parameter; empty counts as not named.

    Returns
    -------
    list of Path
        ``[data_dir]`` if named; else ``[MPOX_DATA]`` if set; and always the user's cache folder last.
    """
    named = data_dir or os.environ.get("MPOX_DATA")
    roots = [Path(named).expanduser().resolve()] if named else []
    return [*roots, cache_dir() / "data"]


_UMASK = os.umask(0)  # it can only be read by setting it, which other threads would notice later on
os.umask(_UMASK)


def _in_cache(folder: Path) -> bool:
    return folder.absolute().is_relative_to(cache_dir().absolute())


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether the error is about this folder, what is in it or above it; of an open file no name is told."""
    if not isinstance(error.filename, str | bytes):
        return True
    file, folder = Path(os.fsdecode(error.filename)).absolute(), folder.absolute()
    return file.is_relative_to(folder) or folder.is_relative_to(file)


@contextmanager
def explaining(folder: str | os.PathLike) -> Iterator[None]:
    """Say in one sentence why a folder cannot be written, and what to do.

    Raises
    ------
    Unwritable
        In place of an ``OSError`` that tells of a full disk, a quota, a limit, or a folder that may not be written.
    """
    folder = Path(folder)
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE | _FULL or not _concerns(error, folder):
            raise
        first = "free space" if error.errno in _FULL else "make it writable"
        other = "set MPOX_CACHE" if _in_cache(folder) else "name another folder with RUN_STORE or --out"
        reason = f"The folder {folder} cannot be written ({error.strerror})"
        raise Unwritable(f"{reason}: {first}, or {other}; what is whole there is kept.") from error


def sync_folder(folder: str | os.PathLike) -> None:
    """Flush a folder's list of names to the disk, so that a power cut does not undo a rename in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(handle)


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove the temporaries of killed processes, once a folder and process."""
    for remains in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):
            if time.time() - remains.stat().st_mtime > STALE:
                remains.unlink()


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A stream to write a file with, under a temporary name; at the end it is flushed to the disk and renamed.

    The file is whole, or it is not there (or is the one that was there before). In the cache, whose content can be made again,
    a power cut may undo the rename.

    Raises
    ------
    Unwritable
        See `explaining`.
    """
    path = Path(path)
    with explaining(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if not _in_cache(path.parent):
            sync_folder(path.parent)


def atomic_write(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write a file so that it is whole, or not there; see `replacing`."""
    with replacing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def move_folder(fresh: str | os.PathLike, target: str | os.PathLike) -> None:
    """Give a whole folder its name, after all that is in it has reached the disk."""
    for folder, _, names in os.walk(Path(fresh)):
        for name in names:
            sync_folder(Path(folder) / name)
        sync_folder(folder)
    os.replace(fresh, target)
    sync_folder(Path(target).parent)


@contextmanager
def locked(path: str | os.PathLike, *, timeout: float = -1) -> Iterator[None]:
    """Keep other processes out as long as this one is inside; the lock of a process that is killed is free at once.

    Parameters
    ----------
    path : path
        The lock file; its folder is made.
    timeout : float
        Seconds to wait; for ever if negative.

    Raises
    ------
    filelock.Timeout
        If another process holds the lock for longer than `timeout`.
    Unwritable
        See `explaining`.
    """
    path = Path(path)
    with ExitStack() as stack:
        with explaining(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path, timeout=timeout))
        yield


def hash_of(values: dict) -> str:
    """Sixteen hex digits that stand for a JSON-able mapping, whatever the order of its keys.

    Examples
    --------
    >>> hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


#: What torch needs before Python starts. glibc keeps freed tensors instead of handing their pages back: a training step takes a
#: third less time. And threads that wait do not spin: beside one other busy process spinning makes a step ten times slower,
#: waiting a tenth.
TORCH_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "17179869184",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "134217728",
}
