"""The file of a pack: checked against its table of contents before anything is used, and unpacked whole or not at all.

A pack is a zip archive of plain members, none of them compressed or pickled: tables (csv), pictures decoded at fixed sizes (npy
of uint8), weights (safetensors), and ``contents.json``, which names every other member with its size and sha256.
"""

import hashlib
import json
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from mpox._core import MpoxError

FORMAT, FORMAT_VERSION = "mpox pack", 1
CONTENTS = "contents.json"
SUFFIX = ".mpoxpack"
AUDIT_FILES = ("groups.csv", "pairs.csv", "weak_pairs.csv", "conflicts.csv", "rejected.csv", "summary.csv")

_MEMBER = re.compile(r"(datasets|audits|tables|weights)(/[A-Za-z0-9][A-Za-z0-9_.+-]*){1,2}")
_MAX_CONTENTS = 16 * 2**20
_CHUNK = 2**20
#: What the zip and json readers raise on bytes that are not what they claim to be.
_DAMAGED = (zipfile.BadZipFile, EOFError, RuntimeError, struct.error, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class PackedDataset:
    """A data set in a pack.

    Parameters
    ----------
    name : str
    folder : str
        Where its members are in the archive.
    is_phantom : bool
    images : int
    classes : dict of str to int
        Label to the number of its images.
    hash : str
        See `mpox.data.manifest.manifest_hash`.
    """

    name: str
    folder: str
    is_phantom: bool
    images: int
    classes: dict[str, int]
    hash: str


@dataclass(frozen=True)
class PackedAudit:
    """The audit of some of the data sets together, under the key that it has in the run store of the machine that packed it."""

    names: list[str]
    folder: str
    key: str


@dataclass(frozen=True)
class Contents:
    """A pack's table of contents.

    Parameters
    ----------
    environment : dict of str to str
        Versions of what packed it.
    decisions : str
        Stands for the decisions about pairs that its audits honour (`mpox.audit.result.hash_of_decisions`).
    sizes : list of int
        Sides in pixels at which every data set's pictures are there.
    datasets : list of PackedDataset
    audits : list of PackedAudit
    tables : list of str
        Keys of derived tables (`mpox.runs.store.RunStore.table`).
    backbones : dict of str to str
        Backbone to the origin of its weights (`mpox.models.backbones.weights_origin`) where they were packed.
    members : dict of str to (str, int)
        sha256 and bytes of every other member of the archive.
    """

    environment: dict[str, str]
    decisions: str
    sizes: list[int]
    datasets: list[PackedDataset]
    audits: list[PackedAudit]
    tables: list[str]
    backbones: dict[str, str]
    members: dict[str, tuple[str, int]]

    @property
    def size_mb(self) -> float:
        """Size of all members."""
        return sum(size for _, size in self.members.values()) / 1e6


def read_contents(path: str | os.PathLike) -> tuple[Contents, str]:
    """A pack's table of contents, checked against the archive's, and its sha256; nothing is unpacked.

    Raises
    ------
    MpoxError
        If the file is missing, is no pack, is damaged or cut short, or is of a newer format.
    """
    path = Path(path).expanduser()
    with _archive(path) as archive:
        if CONTENTS not in archive.namelist() or archive.getinfo(CONTENTS).file_size > _MAX_CONTENTS:
            raise MpoxError(f"{path} is not a pack: make one with `mpox pack`.")
        text = archive.read(CONTENTS)
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise MpoxError(f"{path} is not a pack: make one with `mpox pack`.")
        if (version := content.pop("format_version")) > FORMAT_VERSION:
            raise MpoxError(f"The pack {path} has the format {version}, this mpox reads {FORMAT_VERSION}: update mpox here.")
        content["datasets"] = [PackedDataset(**entry) for entry in content["datasets"]]
        content["audits"] = [PackedAudit(**entry) for entry in content["audits"]]
        content["members"] = {name: (str(sha), int(size)) for name, (sha, size) in content["members"].items()}
        contents = Contents(**content)
        _check(path, archive, contents)
    return contents, hashlib.sha256(text).hexdigest()


def _check(path: Path, archive: zipfile.ZipFile, contents: Contents) -> None:
    """Refuse an archive that is not what its table of contents says, before anything of it is unpacked."""

    def refuse(reason: str) -> None:
        raise MpoxError(f"The pack {path} is refused, because {reason}: nothing was unpacked, get or make it again.")

    infos = archive.infolist()
    names = [info.orig_filename for info in infos if info.orig_filename != CONTENTS]
    for name in [*names, *contents.members]:
        if not _MEMBER.fullmatch(name):
            refuse(f"its member {name!r} has a name that no pack has")
    if sorted(names) != sorted(contents.members):
        refuse("its members are not those of its table of contents")
    for info in infos:
        size = contents.members.get(info.filename, (None, info.file_size))[1]
        if info.compress_type != zipfile.ZIP_STORED or not size == info.file_size == info.compress_size:
            refuse(f"its member {info.filename} does not have the size that the table of contents says")
    if sum(info.file_size for info in infos) > path.stat().st_size:
        refuse("its members are larger than the file")
    needed = {f"{data.folder}/manifest.csv" for data in contents.datasets}
    needed |= {f"{data.folder}/pixels-{size}.npy" for data in contents.datasets for size in contents.sizes}
    needed |= {f"{audit.folder}/{name}" for audit in contents.audits for name in AUDIT_FILES}
    needed |= {f"tables/{key}.csv" for key in contents.tables}
    needed |= {f"weights/{backbone}.safetensors" for backbone in contents.backbones}
    if lacking := sorted(needed - set(names)):
        refuse(f"it lacks its member {lacking[0]}")


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open; what goes wrong in reading it is said in one sentence."""
    try:
        with open(path, "rb") as stream:
            begins_as_zip = stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise MpoxError(f"The pack {path} cannot be read ({error.strerror}): name one with --pack or MPOX_PACK.") from error
    if not begins_as_zip:
        raise MpoxError(f"{path} is not a pack: make one with `mpox pack`.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED as error:
        raise MpoxError(f"The pack {path} is damaged or cut short ({error}): copy it again.") from error


def is_whole(folder: Path, contents: Contents) -> bool:
    """Whether every member is there at its full size; their hashes were checked when they were unpacked."""
    try:
        return all((folder / name).stat().st_size == size for name, (_, size) in contents.members.items())
    except OSError:
        return False


def unpack(path: Path, contents: Contents, folder: Path) -> None:
    """Write every member below a folder, which appears when all of them are there and have the right checksums.

    Raises
    ------
    MpoxError
        If the archive is damaged, or the disk has too little room.
    OSError
        If the disk cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    total = sum(size for _, size in contents.members.values())
    free = shutil.disk_usage(folder.parent).free
    if total > free:
        raise MpoxError(
            f"The pack {path} needs {total / 1e6:,.0f} MB in {folder.parent}, where {free / 1e6:,.0f} MB are free: free space, "
            "or set MPOX_CACHE."
        )
    try:
        with _archive(path) as archive, tqdm(total=total, desc=f"unpack {path.name}", unit="B", unit_scale=True, delay=3) as bar:
            for name, (sha, size) in contents.members.items():
                if _copy(archive, name, size, partial / name, bar) != sha:
                    raise MpoxError(f"The pack {path} is damaged: its member {name} has a wrong checksum; copy it again.")
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy(archive: zipfile.ZipFile, name: str, size: int, target: Path, bar: tqdm) -> str:
    """Write one member, no longer than it says, to the disk, and give its sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(name) as member, open(target, "wb") as stream:
        while size > 0 and (chunk := member.read(min(_CHUNK, size))):
            stream.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
            size -= len(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()
