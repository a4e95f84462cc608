"""The registered data sets: what they are (``datasets.toml``), how their names are read, and where they are on this machine."""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpox._core import MpoxError, data_roots, expanded


@dataclass(frozen=True)
class Archive:
    """A zip archive: of a GitHub repository at a pinned commit, with the folder in it that holds the class folders; or at an
    address of its own, with the checksum that its publisher states."""

    repository: str = ""
    commit: str = ""
    subfolder: str = ""
    address: str = ""
    md5: str = ""

    @property
    def url(self) -> str:
        """Address of the zip file."""
        return self.address or f"https://github.com/{self.repository}/archive/{self.commit}.zip"

    @property
    def file(self) -> str:
        """Its name on this machine."""
        return f"{self.repository.split('/')[-1]}-{self.commit[:12]}.zip" if self.repository else self.address.split("/")[-1]


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read: its names, how file names are read, and where it comes from."""

    name: str  # the registered name, or the path of a folder of the user's
    title: str
    folder: str  # its folder under a data root
    folders: Sequence[str] = ()  # the class folders; empty: every sub-folder is a class
    patient_pattern: str | None = None  # on the file's stem; its group ``patient`` is the patient id
    licence: str = "unknown"  # licence, citation and homepage as the authors give them
    citation: str = ""
    homepage: str = ""
    read_licence: bool = False  # it is fetched only by who says that its licence has been read
    archive: Archive | None = None  # where ``mpox data fetch`` gets it
    kaggle: str | None = None  # Kaggle handle, for sets that only Kaggle has
    expected_images: int | None = None  # the published number of images
    is_phantom: bool = False  # generated, not photographs of patients
    planted: Mapping[str, Any] = field(default_factory=dict)  # what of a phantom's `PhantomSpec` is not the default
    motivation: str = ""  # for the data sheet; empty where nothing is known
    collection: str = ""
    preprocessing: str = ""
    maintenance: str = ""


_TABLES = tomllib.loads(Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
#: Folder names that mean the same class in different data sets, in lower case -> the class.
LABEL_ALIASES = {alias: label for label, aliases in _TABLES.pop("labels").items() for alias in aliases}
REGISTRY = {
    name: DatasetSpec(name, **about | ({"archive": Archive(**about["archive"])} if "archive" in about else {}))
    for name, about in _TABLES.items()
}


def get_spec(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> DatasetSpec:
    """The registered data set of that name, or a description of the user's own folder (one sub-folder a class).

    A path that is no folder here stands for the folder of that name in a data root: so a study finds its data on another machine.
    An `MpoxError` if it is neither.

    Examples
    --------
    >>> get_spec("msld-v1").expected_images
    228
    """
    if str(name) in REGISTRY:
        return REGISTRY[str(name)]
    places = [expanded(name), *(root / Path(name).name for root in data_roots(data_dir))]
    folder = next((place for place in places if str(name) and place.is_dir()), None)
    if folder is None:
        raise MpoxError(
            f"'{name}' is neither a registered data set ({', '.join(REGISTRY)}) nor an existing folder: "
            "give one of these names, or the path of a folder that has one sub-folder a class."
        )
    planted = (folder.resolve().parent / "truth" / "spec.json").is_file()
    return DatasetSpec(
        name=str(folder.resolve()),
        title=REGISTRY["phantom"].title if planted else f"Folder {folder.name}",
        folder=folder.name,
        patient_pattern=REGISTRY["phantom"].patient_pattern if planted else None,
        is_phantom=planted,
    )


def find_here(spec: DatasetSpec, *, data_dir: str | os.PathLike | None = None) -> Path | None:
    """The folder of a registered data set on this machine, or ``None``; nothing is generated."""
    folders = (root / spec.folder for root in data_roots(data_dir))
    return next((folder for folder in folders if folder.is_dir() and any(child.is_dir() for child in folder.iterdir())), None)


def refuse_inside(out: Path, names: Iterable[str], *, data_dir: str | os.PathLike | None = None) -> None:
    """An `MpoxError` if `out` lies in the folder of one of these data sets, of which it would become a part."""
    for name in names:
        if out.resolve().is_relative_to(locate(name, data_dir=data_dir).resolve()):
            raise MpoxError(
                f"{out} lies in the folder of the data set {name}, and would become a part of it: name another --out."
            )


def locate(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> Path:
    """The folder that holds a data set's class folders, looked for in `mpox._core.data_roots`; a phantom is generated if need be.

    An `MpoxError` tells how to get a data set that is not on this machine.
    """
    spec = get_spec(name, data_dir=data_dir)
    if spec.name not in REGISTRY:
        return Path(spec.name)
    if spec.is_phantom:
        from mpox.data.phantom import PhantomSpec, ensure_phantom

        return ensure_phantom(PhantomSpec(**spec.planted))
    folder = find_here(spec, data_dir=data_dir)
    if folder is None:
        places = " and ".join(str(root) for root in data_roots(data_dir))
        raise MpoxError(
            f"The data set '{spec.name}' is not here (looked for a folder '{spec.folder}' in {places}): run `mpox data fetch "
            f"{spec.name}`, or put it there by hand from {spec.homepage}, or name its folder with --data-dir or MPOX_DATA."
        )
    return folder
