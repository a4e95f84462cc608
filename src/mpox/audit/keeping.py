"""Results in the cache: a file is written whole or not at all, and a folder that is of no use is named in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpox.errors import MpoxError
from mpox.paths import atomic_write


@contextmanager
def cache_needed(folder: Path) -> Iterator[None]:
    """Work that needs this folder of the cache.

    Raises
    ------
    MpoxError
        In place of an ``OSError``: the disk is full, or the folder cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        raise MpoxError(
            f"The cache {folder} cannot be used ({error.strerror or error}): free space, make it writable, or set MPOX_CACHE."
        ) from error


def keep(path: Path, content: str | bytes) -> None:
    """`mpox.paths.atomic_write` into the cache, see `cache_needed`."""
    with cache_needed(path.parent):
        atomic_write(path, content)
