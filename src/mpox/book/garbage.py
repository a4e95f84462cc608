"""What of a run store no result refers to, and its removal: a thing is gone, or it is whole; what is not known is left alone."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from mpox._core import STALE, MpoxError
from mpox.book.inventory import is_held, project_run_folders, readable, references, stored_runs
from mpox.runs.store import PARTIAL, RECORDED, RUN, store_folder

_TEMPORARY = r"\..+\.[a-z0-9_]{8}(\.tmp)?"
_GONE = re.compile(r"\..+\.removed")
_LOCK = {"runs": re.compile(r"\.[0-9a-f]{16}\.partial\.lock"), "audits": re.compile(r"\..+-[0-9a-f]{16}\.lock")}
_IN_RUN = re.compile(r"(config|environment|state|asked)\.json|(history|predictions)\.csv|[^.].*\.safetensors|" + _TEMPORARY)
_IN_AUDIT = re.compile(r"[^.].*\.csv|" + _TEMPORARY)
_FILES = {
    "splits": re.compile(r"([0-9a-f]{16})\.csv"),
    "tables": re.compile(r"(.+-[0-9a-f]{16})\.csv"),
    "manifests": re.compile(r"([^.].*)\.csv"),
}
_AUDIT = re.compile(r"(.+-[0-9a-f]{16})")
UNREFERENCED = "no result refers to it"


@dataclass(frozen=True)
class Garbage:
    """What would go, and what is left alone although it is not in use, or not in order.

    Attributes
    ----------
    root : Path
        Of the run store.
    remove : DataFrame
        ``kind`` (run, unfinished run, audit, table, split, manifest, lock, temporary file), ``path`` (in the store), ``why`` and
        ``bytes``.
    left : DataFrame
        ``path`` and ``why``.
    folders : list of str
        The run folders that refer to the store.
    """

    root: Path
    remove: pd.DataFrame
    left: pd.DataFrame
    folders: list[str]


def find_garbage(store: str | os.PathLike = "", *, keep: Iterable[str | os.PathLike] = (), everything: bool = False) -> Garbage:
    """Find what no executed notebook refers to, and what killed runs left.

    Parameters
    ----------
    store : str or path
        As `mpox.open_store` takes it.
    keep : iterable of path
        Run folders beside the project's own, whose notebooks count.
    everything : bool
        Go on where no run folder refers to the store, so that all of it may go.

    Raises
    ------
    MpoxError
        If the store is missing or is the recorded study, a run folder cannot be read or is not finished, or no run folder refers
        to the store and `everything` is not said (or the other way round).
    """
    if str(store) == RECORDED:
        raise MpoxError("The recorded study is replaced as a whole, by `mpox record`: gc is for a run store.")
    root = store_folder(store)
    runs = stored_runs(root).set_index("id")
    try:
        used = references([*project_run_folders(), *keep])
    except MpoxError as error:
        unknown = "What is in use is not known, so that nothing is removed (delete a run folder to forget it)"
        raise MpoxError(f"{unknown}: {error}") from error
    folders = sorted(used.loc[used["kind"] == "folder", "name"])
    if not folders and not everything:
        raise MpoxError(
            f"No run folder refers to {root}, so that everything in it would go: name run folders with --keep, or say --all."
        )
    if folders and everything:
        raise MpoxError(f"--all is for a store without run folders, but {', '.join(folders)} may refer to {root}: leave it out.")
    names = {kind: set(part["name"]) for kind, part in used.groupby("kind")}
    found = _Search(root, {kind: names.get(kind, set()) for kind in ("runs", "audits", "tables", "manifests")})
    with readable(root):
        found.search(runs)
    found.remove.sort(key=lambda row: row[0] in ("lock", "temporary file"))
    remove = pd.DataFrame(found.remove, columns=["kind", "path", "why", "bytes"]).astype({"bytes": "int64"})
    return Garbage(root, remove, pd.DataFrame(found.left, columns=["path", "why"]), folders)


class _Search:
    """Walks the store once; every entry is in use, to be removed, or left with a reason."""

    def __init__(self, root: Path, used: dict[str, set[str]]):
        self.root, self.used = root, used
        self.remove: list[tuple[str, str, str, int]] = []
        self.left: list[tuple[str, str]] = []

    def search(self, runs: pd.DataFrame) -> None:
        known = {"runs", "audits", *_FILES}
        for path in sorted(self.root.iterdir()):
            if path.name not in known:
                self._leave(path, "unknown: not made by mpox")
        staying = self._runs(runs) if self._is_ours("runs") else set()
        splits = {name: runs["split"].get(name) for name in staying}
        self.used["splits"] = {split for split in splits.values() if isinstance(split, str)}
        if self._is_ours("audits"):
            self._audits()
        unclear = [name for name, split in splits.items() if not isinstance(split, str)]
        for kind, pattern in _FILES.items():
            if kind == "splits" and unclear:
                self._leave(self.root / kind, f"the split of the run {unclear[0]}, which stays, is not known: all are kept")
            elif self._is_ours(kind):
                self._tables(kind, pattern)

    def _is_ours(self, kind: str) -> bool:
        folder = self.root / kind
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            self._leave(folder, "a link or no folder: what it holds is not touched")
            return False
        return folder.is_dir()

    def _leave(self, path: Path, why: str) -> None:
        self.left.append((str(path.relative_to(self.root)), why))

    def _take(self, kind: str, path: Path, why: str) -> None:
        self.remove.append((kind, str(path.relative_to(self.root)), why, _size(path)))

    def _runs(self, table: pd.DataFrame) -> set[str]:
        """Search the runs; returns the ids of those that stay."""
        staying = set()
        for path in sorted((self.root / "runs").iterdir()):
            whole, partial = RUN.fullmatch(path.name), PARTIAL.fullmatch(path.name)
            named = whole or partial
            if not named or path.is_symlink() or not path.is_dir():
                self._other(path, "runs")
                continue
            run_id = named[1]
            problem = table["problem"].get(run_id) if whole and table["state"].get(run_id) == "damaged" else ""
            if strange := _strange(path, _IN_RUN):
                self._leave(path, f"holds what mpox has not written there: {strange}")
                staying.add(run_id)
            elif is_held(_lock_of(path)):
                self._leave(path, "another process is computing it")
                staying.add(run_id)
            elif whole and run_id in self.used["runs"]:
                staying.add(run_id)
                if problem:
                    self._leave(path, f"damaged ({problem}), but a result refers to it: remove it, and it is computed again")
            elif whole:
                self._take("run", path, f"damaged, {UNREFERENCED}" if problem else UNREFERENCED)
            else:
                self._take("unfinished run", path, "left by a run that was stopped")
        return staying

    def _audits(self) -> None:
        for path in sorted((self.root / "audits").iterdir()):
            if not _AUDIT.fullmatch(path.name) or path.name.startswith(".") or path.is_symlink() or not path.is_dir():
                self._other(path, "audits")
            elif path.name in self.used["audits"]:
                continue
            elif strange := _strange(path, _IN_AUDIT):
                self._leave(path, f"holds what mpox has not written there: {strange}")
            elif is_held(_lock_of(path)):
                self._leave(path, "another process is making it")
            else:
                self._take("audit", path, UNREFERENCED)

    def _tables(self, kind: str, pattern: re.Pattern) -> None:
        for path in sorted((self.root / kind).iterdir()):
            match = pattern.fullmatch(path.name)
            if not match or path.name.startswith(".") or path.is_symlink() or not path.is_file():
                self._other(path, kind)
            elif match[1] not in self.used[kind]:
                self._take(kind.removesuffix("s"), path, UNREFERENCED)

    def _other(self, path: Path, kind: str) -> None:
        if path.is_symlink():
            self._leave(path, "a link: what it points to is not touched")
        elif path.is_dir() and _GONE.fullmatch(path.name):
            self._take("temporary file", path, "left by a removal that was stopped")
        elif path.is_file() and kind in _LOCK and _LOCK[kind].fullmatch(path.name):
            if not is_held(path):
                self._take("lock", path, "nobody holds it")
        elif path.is_file() and re.fullmatch(_TEMPORARY, path.name):
            if time.time() - path.stat().st_mtime > STALE:
                self._take("temporary file", path, "left by a process that was stopped")
            else:
                self._leave(path, "a temporary file that may still be written")
        else:
            self._leave(path, "unknown: not made by mpox")


def _strange(folder: Path, ours: re.Pattern) -> str:
    """The first entry of a folder that is not a file of ours."""
    with os.scandir(folder) as entries:
        strange = [entry.name for entry in entries if not (entry.is_file(follow_symlinks=False) and ours.fullmatch(entry.name))]
    return min(strange, default="")


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)


def _lock_of(path: Path) -> Path:
    """The lock under which a folder of runs or audits is written; a lock's is itself."""
    if path.name.endswith(".lock"):
        return path
    if path.parent.name == "runs":
        named = RUN.fullmatch(path.name) or PARTIAL.fullmatch(path.name)
        return path.with_name(f".{named[1] if named else path.name}.partial.lock")
    return path.with_name(f".{path.name}.lock")


def remove_garbage(garbage: Garbage) -> pd.DataFrame:
    """Remove what `find_garbage` found, each thing under its lock; a folder is renamed first, so that it is whole or gone.

    Returns
    -------
    DataFrame
        `garbage.remove` with ``failed``: why it is still there, or an empty text.
    """
    failed = []
    for row in garbage.remove.itertuples():
        path = garbage.root / row.path
        try:
            with _alone(path, row.kind):
                _remove(path)
            failed.append("")
        except FileNotFoundError:  # somebody else has removed it
            failed.append("")
        except Timeout:
            failed.append("another process has taken it up")
        except OSError as error:
            failed.append(error.strerror or str(error))
    return garbage.remove.assign(failed=pd.Series(failed, index=garbage.remove.index, dtype="str"))


@contextlib.contextmanager
def _alone(path: Path, kind: str) -> Iterator[None]:
    if kind not in ("run", "unfinished run", "audit", "lock"):
        yield
        return
    lock = _lock_of(path)
    with FileLock(lock, timeout=0):
        yield
        lock.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_symlink():
        raise OSError("it has become a link")
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    gone = path
    if not _GONE.fullmatch(path.name):
        gone = path.with_name(f".{path.name.removeprefix('.')}.removed")
        if gone.exists():
            shutil.rmtree(gone)
        path.rename(gone)
    shutil.rmtree(gone)
