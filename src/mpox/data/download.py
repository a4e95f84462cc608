"""Getting a registered data set: downloaded, checked picture by picture, put in place whole or not at all."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from mpox._core import MpoxError, cache_dir, data_roots, move_folder
from mpox.data.integrity import differences, explain_differences, list_pictures, read_checksums, verify
from mpox.data.pictures import EXTENSIONS
from mpox.data.registry import Archive, DatasetSpec, get_spec
from mpox.data.transfer import download, explain_os_error
from mpox.data.unpack import read_pictures

__all__ = ["archive_path", "fetch", "find_here", "verify"]


def find_here(spec: DatasetSpec, *, data_dir: str | os.PathLike | None = None) -> Path | None:
    """The folder of a registered data set on this machine, or ``None``; nothing is generated."""
    for root in data_roots(data_dir):
        folder = root / spec.folder
        if folder.is_dir() and any(child.is_dir() for child in folder.iterdir()):
            return folder
    return None


def _archive(spec: DatasetSpec) -> Archive:
    if spec.archive is None:
        raise MpoxError(f"{spec.name} does not come as an archive: see {spec.homepage}.")
    return spec.archive


def archive_path(spec: DatasetSpec) -> Path:
    """Where the zip archive of a data set lies while it is fetched; one put there by hand is used as well."""
    return cache_dir() / "downloads" / f"{spec.name}-{_archive(spec).commit[:12]}.zip"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        stream.write(content)


def _unpack_listed(archive: Path, staging: Path, expected: Mapping[str, str]) -> str:
    """Put each listed picture at its listed place, found by its content: mirrors name folders freely."""
    places: dict[str, list[str]] = {}
    for image_id, digest in expected.items():
        places.setdefault(digest, []).append(image_id)
    for _, content in read_pictures(archive, extensions=EXTENSIONS):
        for image_id in places.pop(hashlib.sha256(content).hexdigest(), ()):
            _write(staging / image_id, content)
    absent = sorted(image_id for image_ids in places.values() for image_id in image_ids)
    if absent:
        shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise MpoxError(
            f"{len(absent)} of the {len(expected)} listed pictures are not in it, or not with the listed "
            f"checksum ({shown}); nothing was changed here"
        )
    return f"{len(expected)} pictures, every one with the listed checksum"


def _unpack_folders(archive: Path, staging: Path, spec: DatasetSpec) -> str:
    """Put the pictures of the class folders below the archive's sub-folder in place."""
    base = PurePosixPath(_archive(spec).subfolder)
    count = 0
    for path, content in read_pictures(archive, extensions=EXTENSIONS):
        inner = PurePosixPath(*path.parts[1:])  # GitHub puts all into one folder, `<repository>-<commit>`
        if not inner.is_relative_to(base):
            continue
        image_id = inner.relative_to(base)
        if len(image_id.parts) > 1 and (not spec.folders or image_id.parts[0] in spec.folders):
            _write(staging / image_id, content)
            count += 1
    if not count:
        raise MpoxError(f"it has no picture in the class folders {', '.join(spec.folders)}")
    return f"{count} pictures; there is no list of checksums to check them against"


def _from_archive(spec: DatasetSpec, staging: Path, say: Callable[[str], None]) -> str:
    """Download and unpack into ``staging``; returns how many pictures there are and how they were checked."""
    archive, url = archive_path(spec), _archive(spec).url
    try:
        download(url, archive, say=say)
    except MpoxError as error:
        raise MpoxError(
            f"'{spec.name}' was not downloaded: {error}; try again later, or open {url} in a "
            f"browser on any machine, save the file as {archive}, and run this command again, which unpacks "
            f"and checks it (`mpox data verify {spec.name}` checks it at any time)."
        ) from error
    expected = read_checksums(spec.name)
    try:
        if expected is None:
            return _unpack_folders(archive, staging, spec)
        return _unpack_listed(archive, staging, expected)
    except MpoxError as error:
        rejected = archive.with_name(f"rejected-{archive.name}")
        os.replace(archive, rejected)
        raise MpoxError(
            f"The archive of '{spec.name}' cannot be used: {error}; it was set aside as {rejected}, run this "
            f"command again to download it anew, or see {spec.homepage}."
        ) from error


def _from_kaggle(spec: DatasetSpec, staging: Path, say: Callable[[str], None]) -> str:
    """Download through kagglehub, which resumes by itself, and copy the original pictures."""
    by_hand = f"unpack what {spec.homepage} offers into a folder '{spec.folder}' in your data folder"
    try:
        import kagglehub
    except ImportError as error:
        raise MpoxError(
            f"'{spec.name}' is only at Kaggle, whose client is not installed: run `pip install kagglehub` "
            f"(the extra mpox[kaggle]) and fetch again, or {by_hand}."
        ) from error
    say(f"Downloading {spec.kaggle} through kagglehub.")
    try:
        source = Path(kagglehub.dataset_download(spec.kaggle))
    except Exception as error:  # kagglehub raises types of its own, of requests and of the system
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise MpoxError(f"Kaggle did not deliver '{spec.name}' ({reason}): log in or try again later, or {by_hand}.") from error
    folds = next(source.glob("**/FOLDS"), None)
    if folds is None:
        raise MpoxError(f"What Kaggle delivered in {source} has no folder 'FOLDS': look there, or {by_hand}.")
    shutil.copytree(folds, staging / "Original Images" / "FOLDS")
    count = len({path.name for path in folds.glob("fold*/Test/*/*") if path.suffix.lower() in EXTENSIONS})
    published = f" (published: {spec.expected_images})" if count != spec.expected_images else ""
    return f"{count} pictures{published}; there is no list of checksums to check them against"


def _already_here(spec: DatasetSpec, target: Path, data_dir: str | os.PathLike | None) -> Path | None:
    """Where a good copy is; ``None`` if there is none; an error if a damaged one would hide a fresh one."""
    found = find_here(spec, data_dir=data_dir)
    if found is None or (data_dir and found != target):
        return None
    expected = read_checksums(spec.name)
    if expected is None:
        return found
    wrong = explain_differences(spec, found, differences(found, expected))
    if wrong and found != target:
        raise MpoxError(f"{wrong} Until then a fresh copy in {target.parent} would not be found.")
    return None if wrong else found


def _put_in_place(staging: Path, target: Path, say: Callable[[str], None]) -> None:
    """Give the whole folder its name; what was there, damaged, is kept under another name."""
    if target.exists():
        aside = target.with_name(f"{target.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
        os.replace(target, aside)
        say(f"The damaged copy that was there is kept as {aside}.")
    move_folder(staging, target)


def fetch(name: str, *, data_dir: str | os.PathLike | None = None, say: Callable[[str], None] = print) -> Path:
    """Download a registered data set, check it, and put it in place whole or not at all.

    A good copy that is here already is left alone. A download that was cut short is continued.

    Parameters
    ----------
    name : str
        A registered data set.
    data_dir : path, optional
        The folder to put the data set's folder into; the user's cache folder if not given.
    say : callable
        Told, sentence by sentence, what happens.

    Returns
    -------
    Path
        The data set's folder.

    Raises
    ------
    MpoxError
        If the data set is not one that is fetched, or could not be had; nothing that was there is lost.
    """
    spec = get_spec(name)
    if spec.is_phantom:
        raise MpoxError(
            "The phantom is not fetched: it is generated on this machine when it is needed (`mpox data path phantom` does so)."
        )
    if spec.archive is None and spec.kaggle is None:
        raise MpoxError(f"{spec.name} is a folder of your own: there is nothing to fetch, use it as it is.")
    root = Path(data_dir).expanduser().resolve() if data_dir else cache_dir() / "data"
    target, staging = root / spec.folder, root / f".{spec.folder}.unpacking"
    downloads = cache_dir() / "downloads"
    try:
        here = _already_here(spec, target, data_dir)
        if here is not None:
            checked = "no list to check them against" if read_checksums(spec.name) is None else "verified"
            count = len(list_pictures(here))
            say(f"{spec.name} is already in {here} ({count} pictures, {checked}): nothing to do.")
            return here
        root.mkdir(parents=True, exist_ok=True)
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / f"{spec.name}.lock", timeout=0):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            try:
                checked = (_from_archive if spec.archive else _from_kaggle)(spec, staging, say)
                _put_in_place(staging, target, say)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            if spec.archive:
                archive_path(spec).unlink()
    except Timeout as error:
        raise MpoxError(f"Another `mpox data fetch {spec.name}` is running: wait until it is done.") from error
    except OSError as error:
        raise explain_os_error(error, root, downloads) from error
    say(f"{spec.name} is in {target}: {checked}.")
    return target
