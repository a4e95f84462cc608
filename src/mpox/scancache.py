"""What was found out about the files of a folder, kept so that only new and changed files are decoded."""

import hashlib
import json
import os
import time

from mpox.paths import atomic_write, cache_dir
from mpox.pictures import decoder_versions

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
