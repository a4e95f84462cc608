"""A frozen folder: a data root that brings a study's weights and audits along, for a machine without a network.

::

    FOLDER/msid/Monkeypox/...         the images, as in any other data root
    FOLDER/weights/<backbone>.pth     ImageNet weights
    FOLDER/audits/<key>/*.csv         which images must stay together, as found on the machine where it was frozen
    FOLDER/frozen.json                what is there, and the sha256 of every file
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm.auto import tqdm

from mpox._core import MpoxError, data_roots, explaining, replacing_folder

FORMAT_VERSION = 1
CONTENTS = "frozen.json"
#: A file to be frozen: its size in bytes, and what reads or makes it.
Source = tuple[int, Callable[[], bytes]]


@dataclass(frozen=True)
class Frozen:
    """What a frozen folder holds."""

    datasets: dict[str, str]  # name of a data set -> `mpox.data.manifest.manifest_hash` of its images
    audits: dict[str, str]  # sorted names of data sets, joined by ``+`` -> the key of their common audit in a run store
    weights: dict[str, str]  # backbone -> where its weights came from (`mpox.models.weights.weights_origin`)
    decisions: str  # stands for the decisions about pairs that the audits honour (`mpox.audit.result.hash_of_decisions`)
    versions: dict[str, str]  # of the packages that decode images and compare them
    root: Path

    def check(self, name: str, manifest_hash: str) -> None:
        """Raise an `MpoxError` if a data set of that name was frozen, but other images, labels or patients."""
        if self.datasets.get(name, manifest_hash) != manifest_hash:
            versions = ", ".join(f"{package} {version}" for package, version in self.versions.items())
            raise MpoxError(
                f"The data set '{name}' is not, image by image, the one that was frozen in {self.root}: leave its files as they "
                f"were, install the versions that decoded them ({versions}), or freeze again."
            )

    def audit(self, names: list[str], decisions: str) -> str | None:
        """The key of the frozen audit of these data sets, or ``None``; an `MpoxError` if other decisions are in force."""
        key = self.audits.get("+".join(sorted(names)))
        if key and decisions != self.decisions:
            raise MpoxError(
                f"The audits in {self.root} were made with other decisions about pairs than those in force here: set or unset "
                "MPOX_OVERRIDES as it was, use the same version of mpox, or freeze again."
            )
        return key

    def weights_file(self, backbone: str) -> Path | None:
        """The file of a backbone's weights; ``None`` if it was not frozen."""
        files = (self.root / "weights").glob(f"{backbone}.*") if backbone in self.weights else ()
        return next((path for path in files if path.stem == backbone), None)


def find_frozen(data_dir: str | os.PathLike | None = None) -> Frozen | None:
    """The frozen folder among the data roots (`mpox._core.data_roots`), or ``None``; checked once in a process.

    An `MpoxError` if one of its files is missing or changed, or it is of a newer format.
    """
    contents = next((root / CONTENTS for root in data_roots(data_dir) if (root / CONTENTS).is_file()), None)
    return _open(contents, contents.stat().st_mtime_ns) if contents else None


@functools.lru_cache(maxsize=4)
def _open(contents: Path, changed_ns: int) -> Frozen:
    root, file = contents.parent, CONTENTS
    try:
        about = json.loads(contents.read_bytes())
        if (version := about.pop("format_version")) > FORMAT_VERSION:
            raise MpoxError(f"{root} was frozen in format {version}, this mpox reads {FORMAT_VERSION}: update mpox here.")
        for file, sha in tqdm(about.pop("files").items(), desc=f"check {root.name}", delay=3, leave=False):
            with open(root / file, "rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != sha:
                    raise ValueError("wrong checksum")
        return Frozen(**about, root=root)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MpoxError(
            f"The frozen folder {root} is damaged or incomplete: {file} ({reason}). Copy the folder again, or freeze again with "
            "`mpox data freeze`."
        ) from error


def write_frozen(frozen: Frozen, files: dict[str, Source]) -> None:
    """Write the new folder ``frozen.root``, whole or not at all (an `MpoxError` says why not); git leaves it alone."""
    folder, shas = frozen.root, {}
    with explaining(folder.parent), replacing_folder(folder) as fresh:
        for name, (_, read) in tqdm(files.items(), desc=f"freeze {folder.name}", delay=3, leave=False):
            content = read()
            shas[name] = hashlib.sha256(content).hexdigest()
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_bytes(content)
        about = asdict(frozen) | {"format_version": FORMAT_VERSION, "files": shas}
        del about["root"]
        (fresh / CONTENTS).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
        (fresh / ".gitignore").write_text("*\n")
