"""Where things lie: the project, the data, the cache; and how a file is written so that it is whole or absent."""

import os
import tempfile
from pathlib import Path

import platformdirs


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def atomic_write(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write a file under a temporary name, flush it to the disk, and rename it: it is whole, or it is not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
