"""The registered data sets: what they are, how their names are read, and where they are found on this machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpox._core import MpoxError, data_roots

#: Folder names that mean the same class in different data sets, in lower case.
LABEL_ALIASES = {
    alias: label
    for label, aliases in {
        "Mpox": ("monkeypox", "monkey pox", "mpox", "mkp"),
        "Chickenpox": ("chickenpox", "chickenpox_original", "chp"),
        "Measles": ("measles", "msl"),
        "Cowpox": ("cowpox", "cwp"),
        "HFMD": ("hfmd",),
        "Normal": ("normal", "normal_image", "healthy"),
        "Others": ("others",),
    }.items()
    for alias in aliases
}


@dataclass(frozen=True)
class Archive:
    """A GitHub archive at a pinned commit, and the folder in it that holds the class folders."""

    repository: str
    commit: str
    subfolder: str

    @property
    def url(self) -> str:
        """Address of the zip file."""
        return f"https://github.com/{self.repository}/archive/{self.commit}.zip"


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read: its names, how file names are read, and where it comes from."""

    name: str  # the registered name, or the path of a folder of the user's
    title: str
    folder: str  # its folder under a data root
    folders: tuple[str, ...] = ()  # the class folders; empty: every sub-folder is a class
    patient_pattern: str | None = None  # on the file's stem; its group ``patient`` is the patient id
    licence: str = "unknown"  # licence, citation and homepage as the authors give them
    citation: str = ""
    homepage: str = ""
    archive: Archive | None = None  # where ``mpox data fetch`` gets it
    kaggle: str | None = None  # Kaggle handle, for sets that only Kaggle has
    expected_images: int | None = None  # the published number of images
    is_phantom: bool = False  # generated, not photographs of patients
    planted: tuple[tuple[str, Any], ...] = ()  # what of a phantom's `mpox.data.phantom.PhantomSpec` is not the default


REGISTRY = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="msld-v1",
            title="Monkeypox Skin Lesion Dataset v1.0",
            folder="msld_v1",
            folders=("Monkeypox", "Others"),
            patient_pattern=r"^(?P<patient>N?M\d+)_\d+$",
            licence="CC BY-NC (badge of the authors' README)",
            citation="Ali et al. 2022, arXiv:2207.03342",
            homepage="https://www.kaggle.com/datasets/nafin59/monkeypox-skin-lesion-dataset",
            archive=Archive(
                "atlan-antillia/EfficientNet-MonkeyPox",
                "c7b335b2a1efd7aa7c7389909f9bc9c129d457e3",
                "projects/MonkeyPox/MonkeyPox-Images",
            ),
            expected_images=228,
        ),
        DatasetSpec(
            name="msid",
            title="Monkeypox Skin Images Dataset",
            folder="msid",
            folders=("Chickenpox", "Measles", "Monkeypox", "Normal"),
            licence="CC BY 4.0 (stated second-hand)",
            citation="Bala et al. 2023, Neural Networks 161, 757-775",
            homepage="https://doi.org/10.17632/r9bfpnvyxr.6",
            archive=Archive("TheMVS/Orthopox", "1553369b827869b49abffee8cdc57e9fc13df147", "data"),
            expected_images=770,
        ),
        DatasetSpec(
            name="msld-v2",
            title="Mpox Skin Lesion Dataset v2.0",
            folder="msld_v2",
            patient_pattern=r"^(?P<patient>[A-Z]+_\d+)_\d+$",
            licence="see the Kaggle page",
            citation="Ali et al. 2024, Biomedical Signal Processing and Control 98, 106742",
            homepage="https://www.kaggle.com/datasets/joydippaul/mpox-skin-lesion-dataset-version-20-msld-v20",
            kaggle="joydippaul/mpox-skin-lesion-dataset-version-20-msld-v20",
            expected_images=755,
        ),
        DatasetSpec(
            name="ahsan-2022",
            title="Monkeypox data set of Ahsan et al.",
            folder="ahsan_2022",
            folders=("Monkeypox", "Measles", "Normal_image", "Chickenpox"),  # all four are in the pinned commit
            licence="none stated; 'not for commercial purposes'",
            citation="Ahsan et al. 2022",
            homepage="https://github.com/mahsan2/Monkeypox-dataset-2022",
            archive=Archive("mahsan2/Monkeypox-dataset-2022", "ef48482caa3d4e6ca8f4a355cfd02aee8f96473d", ""),
        ),
        DatasetSpec(
            name="phantom",
            title="Phantom, not patients: procedural pictures with planted truths",
            folder="phantom",
            folders=("Chickenpox", "Measles", "Mpox", "Normal"),
            patient_pattern=r"^(?P<patient>P\d+)_\d+$",
            licence="made by this package",
            is_phantom=True,
        ),
        DatasetSpec(
            name="phantom-elsewhere",
            title="Second phantom, not patients: other people, and the mark in the corner of the other rashes",
            folder="phantom-elsewhere",
            folders=("Chickenpox", "Measles", "Mpox", "Normal"),
            patient_pattern=r"^(?P<patient>P\d+)_\d+$",
            licence="made by this package",
            is_phantom=True,
            planted=(
                ("seed", 1),
                ("n_patients", 60),
                ("marked", ("Chickenpox", "Measles")),
                ("copies", 0),
                ("label_conflicts", 0),
            ),  # fmt: skip
        ),
    )
}


def get_spec(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> DatasetSpec:
    """The registered data set of that name, or a description of the user's own folder (one sub-folder a class).

    A path that is no folder here stands for the folder of that name in a data root: so a study finds its data on another machine.

    Raises
    ------
    MpoxError
        If it is neither.

    Examples
    --------
    >>> get_spec("msld-v1").expected_images
    228
    """
    if str(name) in REGISTRY:
        return REGISTRY[str(name)]
    places = [Path(name).expanduser(), *(root / Path(name).name for root in data_roots(data_dir))]
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


def locate(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> Path:
    """The folder that holds a data set's class folders.

    Looked for under ``data_dir``, or else ``MPOX_DATA``, then the user's cache folder. The phantom is generated when it is
    not there yet.

    Raises
    ------
    MpoxError
        If the data set is not on this machine; the sentence tells how to get it.
    """
    spec = get_spec(name, data_dir=data_dir)
    if spec.name not in REGISTRY:
        return Path(spec.name)
    if spec.is_phantom:
        from mpox.data.phantom import PhantomSpec, ensure_phantom

        return ensure_phantom(PhantomSpec(**dict(spec.planted)))
    folder = find_here(spec, data_dir=data_dir)
    if folder is None:
        places = " and ".join(str(root) for root in data_roots(data_dir))
        raise MpoxError(
            f"The data set '{spec.name}' is not here (looked for a folder '{spec.folder}' in {places}): run `mpox data fetch "
            f"{spec.name}`, or put it there by hand from {spec.homepage}, or name its folder with --data-dir or MPOX_DATA."
        )
    return folder
