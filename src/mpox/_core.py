"""What every room stands on: errors, roots and caches, whole files and folders, locks, hashes."""

import csv
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click
import platformdirs
from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import pandas as pd

Result = TypeVar("Result")
#: Ending of temporary names.
TEMPORARY = ".tmp"
#: What torch needs before Python starts. glibc keeps freed tensors instead of handing their pages back: a training step takes a
#: third less time. And threads that wait do not spin: beside one other busy process spinning makes a step ten times slower,
#: waiting a tenth.
TORCH_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "17179869184",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "134217728",
}


class MpoxError(Exception):
    """A problem the user can solve: its message is one sentence that says what to do.

    The command line prints it without a traceback and exits with status 1; a notebook shows nothing else of it.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class TooFewImages(MpoxError):
    """A data set is too small for an experiment: a chapter may say so and go on."""


class Unwritable(MpoxError):
    """A folder cannot be written: what else would be written there fails, too, so nothing more is begun."""


class NotRecorded(MpoxError):
    """The recorded study lacks a derived table: a chapter may say so and go on."""


class WeightsMissing(MpoxError):
    """The pretrained weights of a backbone cannot be had here: a table may say so in a row and go on."""


def expanded(path: str | os.PathLike) -> Path:
    """A path in which ``~`` stands for a home folder, as everywhere here; an `MpoxError` where nobody has that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise MpoxError(f"{path} begins with '~', but no such home folder is known: name another path, or ./{path}.") from None


def project_root() -> Path:
    """The folder that holds ``notebooks/`` and ``profiles/``: ``MPOX_PROJECT``, or the checkout of this (editable) package."""
    named = os.environ.get("MPOX_PROJECT")
    return expanded(named).resolve() if named else Path(__file__).resolve().parents[2]


def remembered(function: Callable[..., Result]) -> Callable[..., Result]:
    """Within a study run (``MPOX_REMEMBERED``: its folder) a result is kept by the content of its arguments, for all chapters."""

    @wraps(function)
    def look_up(*args, **kwargs):
        if not (folder := os.environ.get("MPOX_REMEMBERED")):
            return function(*args, **kwargs)
        from joblib import Memory

        return Memory(folder, verbose=0).cache(function)(*args, **kwargs)

    return look_up


def cache_dir() -> Path:
    """The folder for what can be computed again: ``MPOX_CACHE``, or the user's cache folder."""
    return expanded(os.environ.get("MPOX_CACHE") or platformdirs.user_cache_dir("mpox", appauthor=False))


def data_roots(data_dir: str | os.PathLike | None = None) -> list[Path]:
    """The folders in which data sets are looked for: the one named here, or else by ``MPOX_DATA``; and always the cache."""
    named = data_dir or os.environ.get("MPOX_DATA")
    return [*([expanded(named).resolve()] if named else []), cache_dir() / "data"]


@contextmanager
def explaining(folder: str | os.PathLike) -> Iterator[None]:
    """Around whatever writes into a folder: an `Unwritable` that names it and says what to do, in place of an ``OSError``."""
    folder = Path(folder).absolute()
    try:
        yield
    except OSError as error:
        named = Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, str | bytes) else folder
        if error.errno is None or not (named.is_relative_to(folder) or folder.is_relative_to(named)):
            raise  # about something else: of what is inside the folder, or above it, no name or such a name is given
        reason = f"The folder {folder} cannot be written ({error.strerror})"
        raise Unwritable(
            f"{reason}: free space or make it writable, or {_other(folder)}; what is whole there is kept."
        ) from error


def _other(folder: Path) -> str:
    """How another folder is named in place of this one: by the option of the running command, or the variable, that named it."""
    command = click.get_current_context(silent=True)
    options = {one.opts[-1]: command.params.get(str(one.name)) for one in command.command.params} if command else {}
    named = {name: Path(value).absolute() for name, value in options.items() if isinstance(value, str | Path) and value}
    within = {name: len(path.parts) for name, path in named.items() if name.startswith("-") and folder.is_relative_to(path)}
    if within:
        return f"name another folder with {max(within, key=lambda name: within[name])}"
    if "--out" in named and folder == named["--out"].parent:
        return "name another file with --out"
    if folder.is_relative_to(cache_dir().absolute()):
        return "set MPOX_CACHE"
    store = project_root() / expanded(os.environ.get("MPOX_RUN_STORE") or ".mpox/store")
    if "--store" in options or not command or folder.is_relative_to(store):
        return f"name another run store with {'--store' if '--store' in options else 'RUN_STORE or MPOX_RUN_STORE'}"
    return f"name another folder{' with --out' if '--out' in options else ''}"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A stream to write a file with, under a temporary name; it is renamed at the end, so that the file is whole or not there."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with explaining(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def atomic_write(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write a file so that it is whole, or not there; see `replacing`."""
    with replacing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def csv_text(table: "pd.DataFrame") -> str:
    """A table as CSV that gives the same table back: a carriage return in a cell is quoted, which pandas does not do."""
    text = table.to_csv(index=False, lineterminator="\n")
    return table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC) if "\r" in text else text


@contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A new folder to fill, under a temporary name that takes `path`'s place at the end; two processes need a lock around it.

    What was there stays until then, and comes back if a process is killed in between.
    """
    path = Path(path)
    fresh, old = (path.with_name(f".{path.name}{end}") for end in (TEMPORARY, ".old"))
    with explaining(path.parent):
        if old.exists() and not path.exists():  # of a process that was killed
            os.replace(old, path)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    try:
        yield fresh
        with explaining(path.parent):
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                os.replace(path, old)
            os.replace(fresh, path)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@contextmanager
def locked(path: str | os.PathLike, *, otherwise: str = "") -> Iterator[None]:
    """Keep other processes out as long as this one is inside; the lock of a process that is killed is free at once.

    While another is inside this one waits, or raises an `MpoxError` that says `otherwise`.
    """
    with ExitStack() as stack:
        with explaining(Path(path).parent):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(path, timeout=0 if otherwise else -1))
            except Timeout:
                raise MpoxError(otherwise) from None
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
