"""Checking every picture of a data set against the lists in ``checksums/``."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError
from mpox.data.pictures import EXTENSIONS
from mpox.data.registry import REGISTRY, DatasetSpec, get_spec, locate

#: Folder of the lists, one a data set, in the format of ``sha256sum``.
CHECKSUMS = Path(__file__).parent / "checksums"


def read_checksums(name: str) -> dict[str, str] | None:
    """The list of a data set: posix path below its folder -> sha256 in hex; ``None`` if there is no list."""
    path = CHECKSUMS / f"{name}.sha256"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return {image_id: digest for digest, image_id in (line.split("  ", 1) for line in lines)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_pictures(root: Path) -> list[str]:
    """The pictures below a folder, as sorted posix paths; hidden files are none."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )


def differences(root: Path, expected: Mapping[str, str]) -> pd.DataFrame:
    """Compare the pictures in a folder with a list of checksums.

    Parameters
    ----------
    root : path
        The data set's folder.
    expected : mapping
        Posix path below ``root`` -> sha256 in hex.

    Returns
    -------
    DataFrame
        ``image_id`` and ``status``, sorted by ``image_id``: 'ok', 'changed' (other content), 'missing' (on
        the list, not in the folder), 'unknown' (a picture in the folder that is not on the list).
    """
    status = dict.fromkeys(list_pictures(root), "unknown")
    for image_id, digest in expected.items():
        path = root / image_id
        status[image_id] = "missing" if not path.is_file() else "ok" if _sha256(path) == digest else "changed"
    return pd.DataFrame(sorted(status.items()), columns=["image_id", "status"])


def explain_differences(spec: DatasetSpec, root: Path, table: pd.DataFrame) -> str | None:
    """What is wrong and what to do, in one sentence; ``None`` if nothing is changed or missing."""
    parts = []
    for status in ("changed", "missing"):
        names = table.loc[table["status"] == status, "image_id"]
        if len(names):
            parts.append(f"{len(names)} {status} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    if not parts:
        return None
    cure = (
        "remove that folder, it is drawn again when it is needed"
        if spec.is_phantom
        else f"copy these files again from {spec.homepage}, or move that folder away and run `mpox data fetch {spec.name}`"
    )
    return f"{spec.name} in {root} is not as published: {' and '.join(parts)}; {cure}."


def _drawn_anew(spec: DatasetSpec) -> dict[str, str]:
    """The checksums of a phantom as this version of the package draws it, into a temporary folder."""
    from mpox.data.phantom import PhantomSpec, generate

    with tempfile.TemporaryDirectory(prefix="mpox-phantom-") as folder:
        images = generate(Path(folder) / "phantom", PhantomSpec(**dict(spec.planted)))
        return {image_id: _sha256(images / image_id) for image_id in list_pictures(images)}


def verify(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Check every picture of a data set on this machine.

    Parameters
    ----------
    name : str
        A registered data set. The phantom is drawn a second time and compared with that.
    data_dir : path, optional
        Where it is looked for first (see `mpox._core.data_roots`).

    Returns
    -------
    DataFrame
        One row a picture, see `differences`.

    Raises
    ------
    MpoxError
        If the data set is not here, or there is no list to check it against.
    """
    spec = get_spec(name)
    expected = read_checksums(spec.name) if spec.name in REGISTRY else None
    if expected is None and not spec.is_phantom:
        what = "its pictures were not at hand when the lists were made" if spec.name in REGISTRY else "it is a folder of your own"
        listed = ", ".join(sorted(path.stem for path in CHECKSUMS.glob("*.sha256")))
        raise MpoxError(
            f"'{spec.name}' cannot be checked, there is no list of checksums for it ({what}): only {listed} and the phantom can."
        )
    root = locate(name, data_dir=data_dir)
    try:
        return differences(root, _drawn_anew(spec) if expected is None else expected)
    except OSError as error:
        raise MpoxError(f"Cannot read {error.filename or root} ({error.strerror}): make it readable and verify again.") from error
