"""A pack in use: one file in place of picture folders, weights and network (`pack_write` makes it, `pack_read` checks it).

It is checked, and unpacked once into the cache, under the hash of its table of contents.
"""

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mpox._core import MpoxError, atomic_write, cache_dir, locked
from mpox.data.manifest import manifest_hash
from mpox.data.pack_read import AUDIT_FILES, Contents, PackedAudit, PackedDataset, is_whole, read_contents, unpack


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack that has been checked and unpacked.

    Parameters
    ----------
    name : str
        Of its file.
    contents : Contents
    folder : Path
        Where its members lie, in the cache.
    """

    name: str
    contents: Contents
    folder: Path

    def find(self, name: str | os.PathLike) -> PackedDataset | None:
        """The data set of that name; a path that is no folder on this machine stands for the name at its end."""
        names = [str(name)] if os.path.isdir(os.path.expanduser(name)) else [str(name), Path(name).name]
        return next((data for wanted in names for data in self.contents.datasets if data.name == wanted), None)

    def manifest(self, name: str | os.PathLike) -> pd.DataFrame:
        """The manifest of a data set that `find` finds, as `mpox.data.manifest.build_manifest` gives it, but ``path`` is missing.

        Raises
        ------
        MpoxError
            If there is none, or it is not the one that was packed.
        """
        data = self.find(name)
        if data is None:
            there = ", ".join(data.name for data in self.contents.datasets) or "no data set"
            raise MpoxError(f"The pack {self.name} has no data set '{name}'; it has {there}.")
        types = dict.fromkeys(["image_id", "sha256", "pixel_sha256", "label", "source"], "str") | {"patient_id": "string"}
        path = self.folder / data.folder / "manifest.csv"
        manifest = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
        if manifest_hash(manifest) != data.hash:
            raise MpoxError(f"The manifest of {data.name} in the pack {self.name} is not the one that was packed: pack again.")
        manifest.insert(1, "path", pd.NA)
        return manifest

    def audit(self, names: list[str]) -> PackedAudit:
        """The audit of these data sets together.

        Raises
        ------
        MpoxError
            If it is not there, or other decisions about pairs are in force here than where it was made.
        """
        from mpox.audit.result import hash_of_decisions, read_overrides

        if self.contents.decisions != hash_of_decisions(read_overrides()):
            raise MpoxError(
                f"The audits in the pack {self.name} were made with other decisions about pairs than those in force here: set or "
                "unset MPOX_OVERRIDES as it was, use the same version of mpox, or pack again."
            )
        for audit in self.contents.audits:
            if sorted(audit.names) == sorted(names):
                return audit
        there = ", ".join("+".join(audit.names) for audit in self.contents.audits)
        raise MpoxError(f"The pack {self.name} has no audit of {'+'.join(names)}, only of {there}: pack these sets together.")

    def copy_audit(self, audit: PackedAudit, folder: Path) -> None:
        """Write the files of an audit into a folder, the summary at last, as `mpox.audit.Audit.write` does."""
        for name in AUDIT_FILES:
            atomic_write(folder / name, (self.folder / audit.folder / name).read_bytes())

    def table(self, key: str) -> bytes | None:
        """A derived table as CSV; ``None`` if it is not there."""
        return (self.folder / "tables" / f"{key}.csv").read_bytes() if key in self.contents.tables else None

    def weights(self, backbone: str) -> Path | None:
        """The file of a backbone's weights; ``None`` if it is not there."""
        return self.folder / "weights" / f"{backbone}.safetensors" if backbone in self.contents.backbones else None

    def whole(self, shas: list[str], image_size: int) -> np.ndarray | None:
        """The pictures of a data set, memory-mapped, if these are the hashes of its pictures in their order; else ``None``.

        Raises
        ------
        MpoxError
            If the pack has no pictures of this size.
        """
        for number, known in enumerate(self._shas):
            if known == shas:
                return self._pixels(number, image_size)
        return None

    def picture(self, sha: str, image_size: int) -> np.ndarray:
        """One picture by the hash of its pixels: uint8 of shape (image_size, image_size, 3).

        Raises
        ------
        MpoxError
            If it is not there at this size.
        """
        if sha not in self._places:
            raise MpoxError(f"A picture is neither on this machine nor in the pack {self.name}: pack its data set too.")
        number, row = self._places[sha]
        return self._pixels(number, image_size)[row]

    @functools.cached_property
    def _shas(self) -> list[list[str]]:
        return [self.manifest(data.name)["pixel_sha256"].tolist() for data in self.contents.datasets]

    @functools.cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return {sha: (number, row) for number, shas in enumerate(self._shas) for row, sha in enumerate(shas)}

    @functools.cached_property
    def _opened(self) -> dict[tuple[int, int], np.ndarray]:
        return {}

    def _pixels(self, number: int, image_size: int) -> np.ndarray:
        if image_size not in self.contents.sizes:
            there = ", ".join(map(str, self.contents.sizes))
            raise MpoxError(
                f"The pack {self.name} has no pictures of {image_size} px, only of {there} px: choose one of these, or pack "
                f"again with --sizes {','.join(map(str, sorted([*self.contents.sizes, image_size])))}."
            )
        data = self.contents.datasets[number]
        if (number, image_size) not in self._opened:
            pixels = np.load(self.folder / data.folder / f"pixels-{image_size}.npy", mmap_mode="r", allow_pickle=False)
            if pixels.shape != (data.images, image_size, image_size, 3) or pixels.dtype != np.uint8:
                raise MpoxError(f"The pictures of {data.name} in the pack {self.name} have a wrong shape: pack again.")
            self._opened[number, image_size] = pixels
        return self._opened[number, image_size]


def named_pack() -> Pack | None:
    """The pack that the environment variable ``MPOX_PACK`` names; ``None`` if it names none."""
    named = os.environ.get("MPOX_PACK")
    return open_pack(named) if named else None


def open_pack(path: str | os.PathLike) -> Pack:
    """Check a pack and unpack it into the cache, once; later calls find it there.

    Parameters
    ----------
    path : path

    Returns
    -------
    Pack

    Raises
    ------
    MpoxError
        If the file is missing, is no pack, is damaged or cut short, or is of a newer format; if the cache cannot be written.
        Nothing half-unpacked stays.
    """
    path = Path(path).expanduser()
    try:
        seen = path.stat()
    except OSError as error:
        raise MpoxError(f"The pack {path} cannot be read ({error.strerror}): name one with --pack or MPOX_PACK.") from error
    return _open(path, seen.st_size, seen.st_mtime_ns, cache_dir())


@functools.lru_cache(maxsize=4)
def _open(path: Path, size: int, changed: int, cache: Path) -> Pack:
    contents, digest = read_contents(path)
    folder = cache / "packs" / digest[:16]
    try:
        with locked(folder.with_name(f".{folder.name}.lock")):
            if not is_whole(folder, contents):
                shutil.rmtree(folder, ignore_errors=True)
                unpack(path, contents, folder)
    except OSError as error:
        raise MpoxError(
            f"The pack {path} cannot be unpacked into {folder.parent} ({error.strerror}): free space, or set MPOX_CACHE."
        ) from error
    return Pack(path.name, contents, folder)
