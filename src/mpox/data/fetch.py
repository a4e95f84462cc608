"""Getting a registered data set (by pooch, or Kaggle's client) and checking each image against the lists in ``checksums/``."""

import hashlib
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
import pooch
import requests

from mpox._core import MpoxError, cache_dir, expanded, explaining, locked, replacing_folder
from mpox.data.manifest import is_passed_over
from mpox.data.pictures import EXTENSIONS
from mpox.data.registry import REGISTRY, Archive, DatasetSpec, find_here, get_spec, locate

#: Folder of the lists, one a data set, in the format of ``sha256sum``.
CHECKSUMS = Path(__file__).parent / "checksums"
TIMEOUT = (10, 60)  # seconds to wait for a connection, and for data
_UNLISTED = "no list of checksums to check them against"


def read_checksums(name: str) -> dict[str, str] | None:
    """The list of a data set: posix path below its folder -> sha256 in hex; ``None`` if there is no list."""
    path = CHECKSUMS / f"{name}.sha256"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return {image_id: digest for digest, image_id in (line.split("  ", 1) for line in lines)}


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_images(root: Path) -> list[str]:
    """The images below a folder, as sorted posix paths; hidden files, and what systems put there, are none."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
        and not any(map(is_passed_over, path.relative_to(root).parent.parts))
    )  # fmt: skip


def differences(root: Path, expected: Mapping[str, str]) -> pd.DataFrame:
    """Compare the images in a folder with a list of checksums: a table of ``image_id`` and ``status``, sorted."""
    status = dict.fromkeys(list_images(root), "unknown")
    for image_id, digest in expected.items():
        path = root / image_id
        status[image_id] = "missing" if not path.is_file() else "ok" if sha256(path) == digest else "changed"
    return pd.DataFrame(sorted(status.items()), columns=["image_id", "status"])


def explain_differences(spec: DatasetSpec, root: Path, table: pd.DataFrame) -> str | None:
    """What is wrong and what to do, in one sentence; ``None`` if nothing is changed or missing."""
    parts = []
    for status in ("changed", "missing"):
        names = table.loc[table["status"] == status, "image_id"]
        if len(names):
            parts.append(f"{len(names)} {status} ({_first(names)})")
    if not parts:
        return None
    cure = f"copy these files again from {spec.homepage}, or move that folder away and run `mpox data fetch {spec.name}`"
    if spec.is_phantom:
        cure = "remove that folder, it is drawn again when it is needed"
    return f"{spec.name} in {root} is not as published: {' and '.join(parts)}; {cure}."


def _first(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _drawn_anew(spec: DatasetSpec) -> dict[str, str]:
    """The checksums of a phantom as this version of the package draws it."""
    from mpox.data.phantom import PhantomSpec, generate

    with tempfile.TemporaryDirectory(prefix="mpox-phantom-") as folder:
        images = generate(Path(folder) / "phantom", PhantomSpec(**spec.planted))
        return {image_id: sha256(images / image_id) for image_id in list_images(images)}


def verify(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Check every image of a registered data set on this machine: a table as from `differences`.

    A phantom is compared with one drawn anew. An `MpoxError` if the data set is not here, or there is no list of checksums.
    """
    spec = get_spec(name)
    expected = read_checksums(spec.name) if spec.name in REGISTRY else None
    if expected is None and not spec.is_phantom:
        listed = ", ".join(sorted(path.stem for path in CHECKSUMS.glob("*.sha256")))
        raise MpoxError(f"There is no list of checksums for '{spec.name}': only {listed} and the phantom can be verified.")
    root = locate(name, data_dir=data_dir)
    try:
        return differences(root, _drawn_anew(spec) if expected is None else expected)
    except OSError as error:
        raise MpoxError(f"Cannot read {error.filename or root} ({error.strerror}): make it readable and verify again.") from error


def archive_path(archive: Archive) -> Path:
    """Where a zip archive lies while it is fetched; one put there by hand is used as well."""
    return cache_dir() / "downloads" / archive.file


def _unpack(name: str, archive: Archive, folder: Path) -> None:
    """Download the archive and unpack it into `folder`; no member's path can lead out of it (`zipfile` sees to that)."""
    path = archive_path(archive)
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT, headers={"User-Agent": "mpox"})
    try:
        known = f"md5:{archive.md5}" if archive.md5 else None
        pooch.retrieve(archive.url, known, path.name, path.parent, pooch.Unzip(extract_dir=str(folder)), downloader)
    except requests.RequestException as error:
        answer = getattr(error, "response", None)
        what = f"the server answered {answer.status_code} {answer.reason}" if answer is not None else type(error).__name__
        raise MpoxError(
            f"'{name}' was not downloaded ({what}): try again later, or open {archive.url} in a browser on any machine, "
            f"save the file as {path}, and run this command again, which unpacks and checks it."
        ) from error
    except ValueError as error:  # of pooch, about the checksum
        raise MpoxError(
            f"What {archive.url} delivers is not the published file (md5 {archive.md5}); nothing was changed."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MpoxError(f"{path} is not a whole zip archive ({error}): remove it and run this command again.") from error


def _from_archive(spec: DatasetSpec, archive: Archive, unpacked: Path, images: Path) -> str:
    """Unpack the archive, put its images in their places below `images`; says how many there are and how they were checked."""
    _unpack(spec.name, archive, unpacked)
    expected = read_checksums(spec.name)
    if expected is None:  # GitHub puts all into one folder, `<repository>-<commit>`; elsewhere the class folders lie side by side
        folders = [(unpacked / name).parent for name in list_images(unpacked)]
        base = (
            next(unpacked.iterdir()) / archive.subfolder
            if archive.repository
            else Path(os.path.commonpath(folders or [unpacked]))
        )
        inside = [name for name in list_images(base) if "/" in name]
        places = {name: base / name for name in inside if not spec.folders or name.split("/")[0] in spec.folders}
        absent = [] if places else [*spec.folders] or ["a folder for each class"]
    else:  # found by their content: mirrors name folders freely
        found = {sha256(unpacked / name): unpacked / name for name in list_images(unpacked)}
        places = {image_id: found[digest] for image_id, digest in expected.items() if digest in found}
        absent = sorted(set(expected) - set(places))
    if absent:
        raise MpoxError(
            f"{archive_path(archive)} does not have {_first(absent)} ({len(absent)} missing, or not with the listed checksum): "
            f"remove it and run this command again, or see {spec.homepage}; nothing was changed."
        )
    for name, source in places.items():
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, images / name)
    of_archive = "in an archive with the published checksum" if archive.md5 else _UNLISTED
    return f"{len(places)} images, {'every one with the listed checksum' if expected else of_archive}"


def _from_kaggle(spec: DatasetSpec, images: Path) -> str:
    """Download through kagglehub, which resumes by itself, and copy the original images."""
    by_hand = f"unpack what {spec.homepage} offers into a folder '{spec.folder}' in your data folder"
    try:
        import kagglehub
    except ImportError as error:
        raise MpoxError(
            f"'{spec.name}' is only at Kaggle, whose client is not installed: run `pip install kagglehub` "
            f"(the extra mpox[kaggle]) and fetch again, or {by_hand}."
        ) from error
    try:
        source = Path(kagglehub.dataset_download(spec.kaggle))
    except Exception as error:  # kagglehub raises types of its own, of requests and of the system
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise MpoxError(f"Kaggle did not deliver '{spec.name}' ({reason}): log in or try again later, or {by_hand}.") from error
    folds = next(source.glob("**/FOLDS"), None)
    if folds is None:
        raise MpoxError(f"What Kaggle delivered in {source} has no folder 'FOLDS': look there, or {by_hand}.")
    shutil.copytree(folds, images / "Original Images" / "FOLDS")
    count = len({path.name for path in folds.glob("fold*/Test/*/*") if path.suffix.lower() in EXTENSIONS})
    published = f" (published: {spec.expected_images})" if count != spec.expected_images else ""
    return f"{count} images{published}, {_UNLISTED}"


def _good_copy(spec: DatasetSpec, target: Path, data_dir: str | os.PathLike | None) -> Path | None:
    """Where a good copy is; ``None`` if there is none; an error if a damaged one would hide a fresh one."""
    found, expected = find_here(spec, data_dir=data_dir), read_checksums(spec.name)
    if found is None or (data_dir and found != target):
        return None
    wrong = explain_differences(spec, found, differences(found, expected)) if expected else None
    if wrong and found != target:
        raise MpoxError(f"{wrong} Until then a fresh copy in {target.parent} would not be found.")
    return None if wrong else found


def fetch(
    name: str, *, data_dir: str | os.PathLike | None = None, licence_read: bool = False, say: Callable[[str], None] = print
) -> Path:
    """Download a registered data set, check it, and put it in place whole or not at all.

    The folder of images goes below `data_dir`, or else the user's cache, and is returned; `say` is told, sentence by sentence,
    what happens. A good copy that is there already is left alone; a damaged one is kept under another name. An `MpoxError` if
    the data set could not be had, or its licence is to be read and nobody says that it was (`licence_read`); nothing is lost.
    """
    spec = get_spec(name)
    if spec.is_phantom:
        raise MpoxError("The phantom is not fetched but generated when it is needed: `mpox data path phantom` does so.")
    if spec.archive is None and spec.kaggle is None:
        raise MpoxError(f"{spec.name} is a folder of your own: there is nothing to fetch, use it as it is.")
    root = expanded(data_dir).resolve() if data_dir else cache_dir() / "data"
    target = root / spec.folder
    here = _good_copy(spec, target, data_dir)
    if here is not None:
        checked = "verified" if read_checksums(spec.name) else _UNLISTED
        say(f"{spec.name} is already in {here} ({len(list_images(here))} images, {checked}): nothing to do.")
        return here
    if spec.read_licence and not licence_read:
        raise MpoxError(
            f"Before {spec.name} is fetched its licence has to be read: open {spec.homepage}, and if your use is allowed run "
            f"`mpox data fetch {spec.name} --licence-read`."
        )
    busy = f"Another `mpox data fetch {spec.name}` is running: wait until it is done."
    with locked(cache_dir() / "downloads" / f"{spec.name}.lock", otherwise=busy), explaining(root):
        with replacing_folder(target) as images, tempfile.TemporaryDirectory(dir=root, prefix=f".{spec.folder}-") as scratch:
            say(f"Fetching {spec.archive.url if spec.archive else spec.kaggle}")
            checked = _from_archive(spec, spec.archive, Path(scratch), images) if spec.archive else _from_kaggle(spec, images)
            if target.exists():
                aside = target.with_name(f"{target.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
                os.replace(target, aside)
                say(f"The damaged copy that was there is kept as {aside}.")
        if spec.archive:
            archive_path(spec.archive).unlink()
    say(f"{spec.name} is in {target}: {checked}.")
    return target
