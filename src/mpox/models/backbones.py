"""Networks and their pretrained weights."""

import contextlib
import socket
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from timm.layers import Conv2dSame, conv2d_same
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mpox._core import MpoxError, WeightsMissing
from mpox.data.frozen import find_frozen
from mpox.models.config import HEADS, ModelConfig, default_image_size, normalisation, pretrained_cfg
from mpox.models.weights import PYPI_PACKAGES, find_weights, weights_origin


@dataclass(frozen=True)
class PretrainedWeights:
    """A state dict that fits timm's model with its 1000 ImageNet classes, and where it came from."""

    state: dict[str, torch.Tensor]
    origin: str


def map_by_position(state: dict[str, torch.Tensor], target: dict[str, torch.Tensor], *, origin: str) -> dict[str, torch.Tensor]:
    """Give the tensors of one state dict the names of another, by position, checking every shape."""
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


def load_pretrained(backbone: str) -> PretrainedWeights:
    """Load ImageNet weights for a timm model.

    They are looked for in the frozen folder that ``MPOX_DATA`` names, in the folder that ``MPOX_WEIGHTS`` names
    (``<backbone>.safetensors``, ``.pth``, ``.pt`` or ``.bin``), in the PyPI packages for EfficientNet-Lite0 to Lite2, and in
    timm's hub. Where none can be had it is `WeightsMissing`; another `MpoxError` says that a file does not fit.
    """
    pretrained_cfg(backbone)
    path = find_weights(backbone)
    if path is not None:
        target = timm.create_model(backbone, pretrained=False).state_dict()
        origin, state = weights_origin(backbone), _read(path)
        if state.keys() == target.keys():
            state = {name: state[name] for name in target}
        elif path.suffix == ".safetensors":  # this format sorts its tensors, so positions mean nothing
            raise MpoxError(f"The weights from {origin} do not bear timm's names: rename them, or save a .pth.")
        return PretrainedWeights(map_by_position(state, target, origin=origin), origin)
    try:
        with _offline_unless_hub_answers():
            model: Any = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # the hub's clients raise many types
        frozen = find_frozen()
        beside = f"; in {frozen.root} are those of {', '.join(frozen.weights) or 'none'}" if frozen else ""
        raise WeightsMissing(
            f"No ImageNet weights for '{backbone}' ({type(error).__name__}). Three ways: (1) put {backbone}.safetensors or "
            f".pth into a folder and name it with MPOX_WEIGHTS; (2) use one of {', '.join(PYPI_PACKAGES)}, whose weights are "
            f"PyPI packages; (3) run where timm's hub can be reached{beside}."
        ) from error
    return PretrainedWeights(model.state_dict(), f"timm hub ({model.pretrained_cfg.get('tag') or 'default'})")


HIDDEN_UNITS = 100
HEAD_DROPOUT = 0.2


@dataclass(frozen=True)
class ModelCard:
    """What a model costs, computed from the model itself."""

    image_size: int  #: side of the input in pixels
    parameters: int  #: weights and biases, batch-norm scales and shifts included
    multiply_adds: int  #: for one image; additions of biases and activations are not counted


class Classifier(nn.Module):
    """A backbone that gives one feature vector a image, and a head that gives one logit a class."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, n_classes) for normalised images of shape (n, 3, size, size)."""
        return self.head(self.backbone(pictures))


def make_head(head: str, n_features: int, n_classes: int) -> nn.Module:
    """A ``linear`` head, or a ``hidden`` one (features -> 100 -> classes), both behind dropout."""
    if head == "linear":
        return nn.Sequential(nn.Dropout(HEAD_DROPOUT), nn.Linear(n_features, n_classes))
    if head == "hidden":
        hidden = nn.Linear(n_features, HIDDEN_UNITS)
        return nn.Sequential(nn.Dropout(HEAD_DROPOUT), hidden, nn.ReLU(), nn.Linear(HIDDEN_UNITS, n_classes))
    raise MpoxError(f"Unknown head '{head}': choose one of {', '.join(HEADS)}.")


def feature_width(backbone: nn.Module) -> int:
    """Length of a timm backbone's feature vectors."""
    known: Any = backbone
    return getattr(known, "head_hidden_size", None) or known.num_features


def build_backbone(backbone: str, *, weights: str = "imagenet", seed: int = 0) -> nn.Module:
    """A timm model without classifier: images of shape (n, 3, size, size) to features of shape (n, d).

    ``weights`` are ``imagenet``, see `load_pretrained`, or ``random``, drawn anew from ``seed``.
    """
    if weights == "imagenet":
        loaded = load_pretrained(backbone)
        model: Any = timm.create_model(backbone, pretrained=False)
        model.load_state_dict(loaded.state, strict=True)
        model.reset_classifier(0)
        return model
    if weights == "random":
        pretrained_cfg(backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return timm.create_model(backbone, pretrained=False, num_classes=0)
    raise MpoxError(f"Unknown weights '{weights}': choose 'imagenet' or 'random'.")


def build_model(backbone: str, head: str, n_classes: int, *, weights: str = "imagenet", seed: int = 0) -> Classifier:
    """A backbone with a fresh head; see `build_backbone` and `make_head`."""
    trunk = build_backbone(backbone, weights=weights, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(trunk, make_head(head, feature_width(trunk), n_classes))


@lru_cache(maxsize=256)  # both data sets and all repeats ask for the same
def describe_model(backbone: str, head: str, n_classes: int, *, image_size: int | None = None) -> ModelCard:
    """Count a model's parameters and multiply-adds, without weights and without computing anything.

    Examples
    --------
    >>> round(describe_model("tf_efficientnet_lite1", "linear", 2).parameters / 1e6, 2)
    4.14
    """
    pretrained_cfg(backbone)
    size = image_size or default_image_size(backbone)
    with torch.device("meta"):
        trunk = timm.create_model(backbone, pretrained=False, num_classes=0).eval()
        model = Classifier(trunk, make_head(head, feature_width(trunk), n_classes)).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            model(torch.empty(1, 3, size, size))
    return ModelCard(size, sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


def split_backbone(backbone: nn.Module, frozen_stages: int, example: torch.Tensor) -> tuple[nn.Module, nn.Module]:
    """Cut a backbone after its first stages."""
    wanted = ("conv_stem", "bn1", "blocks", "conv_head", "bn2", "global_pool")
    if not all(hasattr(backbone, name) for name in wanted):
        raise MpoxError("tail_tune cuts a network between its blocks, which only timm's EfficientNets have here: use fine_tune.")
    parts: Any = backbone  # which of timm's networks it is, no type says
    stages = [nn.Sequential(parts.conv_stem, parts.bn1), *parts.blocks]
    if not 1 <= frozen_stages <= len(stages):
        raise MpoxError(f"frozen_stages must be from 1 to {len(stages)} for tail_tune with this backbone, not {frozen_stages}.")
    last = [parts.conv_head, parts.bn2, parts.global_pool]
    trunk, tail = nn.Sequential(*stages[:frozen_stages]).eval(), nn.Sequential(*stages[frozen_stages:], *last).eval()
    with torch.inference_mode():
        if not torch.allclose(tail(trunk(example)), backbone(example), rtol=1e-3, atol=1e-4):
            raise MpoxError("tail_tune cuts a network between its blocks, and this one is more than a sequence: use fine_tune.")
    return trunk, tail


def fold_batch_norm(model: nn.Module, example: torch.Tensor) -> int:
    """Let every convolution that feeds a batch norm, and nothing else, do that batch norm's work where it is in evaluation mode.

    With fixed statistics a batch norm is a scale and a shift a channel, which the convolution's weights can take up (Jacob et al.
    2018, section 3.2). The weights stay what they are: the product is formed anew in every pass, so that gradients reach the
    convolution and the batch norm alike, and the state dict does not change. A batch norm in training mode works as before.

    The model is changed in place, for inputs like `example`; the number of folded batch norms is given back. It is an `MpoxError`
    if the model's output for the example changes: something else reads what a convolution makes.
    """
    produced: dict[int, nn.Module] = {}  # id of a tensor -> the convolution that made it
    taken: dict[int, int] = {}  # id of a tensor -> how often it is read
    kept: list[torch.Tensor] = []  # ids are unique only as long as the tensors live
    found: list[tuple[nn.Module, int]] = []  # a batch norm, and the id of its input

    def watch(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        for value in inputs:
            taken[id(value)] = taken.get(id(value), 0) + 1
        if type(module) in (nn.Conv2d, Conv2dSame) and module.padding_mode == "zeros":
            produced[id(output)] = module
        elif isinstance(module, nn.BatchNorm2d):
            found.append((module, id(inputs[0])))
        kept.extend([*inputs, output])

    leaves = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    handles = [module.register_forward_hook(watch) for module in leaves]
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            before = model.eval()(example)
    finally:
        for handle in handles:
            handle.remove()
    pairs = [(produced[source], norm) for norm, source in found if source in produced and taken[source] == 1]
    for conv, norm in pairs:
        _fold(conv, norm)
    with torch.no_grad():
        same = torch.allclose(model(example), before, rtol=1e-2, atol=1e-3 * float(before.abs().max()))
    for module, training in modes.items():
        module.training = training
    if not same:
        raise MpoxError(f"{type(model).__name__} reads a convolution behind its batch norm's back: it cannot be folded.")
    return len(pairs)


def _fold(conv: Any, norm: Any) -> None:
    """Give a convolution and the batch norm behind it (timm's may drop and activate, too) new ways forward."""
    plain_conv, plain_norm = conv.forward, norm.forward

    def convolve(x: torch.Tensor) -> torch.Tensor:
        if norm.training:
            return plain_conv(x)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
        same = conv2d_same if isinstance(conv, Conv2dSame) else F.conv2d
        weight = conv.weight * scale[:, None, None, None]
        return same(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def normalise(x: torch.Tensor) -> torch.Tensor:
        if norm.training:
            return plain_norm(x)
        return norm.act(norm.drop(x)) if hasattr(norm, "act") else x

    conv.forward, norm.forward = convolve, normalise


class Deployable(nn.Module):
    """Pixels in, probabilities out: normalisation, backbone, head, the mirror image if the run used it, softmax, temperature.

    A probe averages the logits of an image and its mirror image, which is the same as averaging features; a trained network
    their probabilities. The temperature divides the logarithms of the probabilities (Guo et al. 2017, section 4.2).
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: Classifier, model: ModelConfig, *, temperature: float = 1.0):
        super().__init__()
        self.network, self.temperature = network, temperature
        self.mirror, self.averages_logits = model.mirror, model.training is None
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in normalisation(model.backbone))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features, (n, d), or (2n, d) with those of the mirror images behind the others."""
        batch = images * self.scale + self.shift
        return self.network.backbone(torch.cat([batch, batch.flip(3)]) if self.mirror else batch)

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities, (n, classes), from what `features` gives."""
        logits = self.network.head(features)
        if self.mirror:
            views = logits.reshape(2, -1, logits.shape[1])
            logits = views.mean(0) if self.averages_logits else torch.logsumexp(torch.log_softmax(views, 2), 0)
        return torch.softmax(torch.log_softmax(logits, 1) / self.temperature, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities of RGB images, (n, 3, size, size), 0 to 255; NaN where none is above 1: scaled to 0 to 1."""
        said = self.probabilities(self.features(images))
        return torch.where(images.amax(dim=(1, 2, 3))[:, None] > 1, said, torch.nan)
