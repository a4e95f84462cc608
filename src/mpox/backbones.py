"""Models: a timm backbone without its classifier, and a small head of ours."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mpox.config import HEADS
from mpox.errors import MpoxError
from mpox.weights import load_pretrained

HIDDEN_UNITS = 100
HEAD_DROPOUT = 0.2


@dataclass(frozen=True)
class ModelCard:
    """What a model costs, computed from the model itself.

    Parameters
    ----------
    parameters : int
        Weights and biases, batch-norm scales and shifts included.
    multiply_adds : int
        For one picture of ``image_size`` x ``image_size``; additions of biases and activations are not counted.
    image_size : int
        Side of the input in pixels.
    """

    backbone: str
    head: str
    n_classes: int
    image_size: int
    parameters: int
    multiply_adds: int


class Classifier(nn.Module):
    """A backbone that gives one feature vector a picture, and a head that gives one logit a class."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, n_classes) for normalised pictures of shape (n, 3, size, size)."""
        return self.head(self.backbone(pictures))


def make_head(head: str, n_features: int, n_classes: int) -> nn.Module:
    """A ``linear`` head, or a ``hidden`` one (features -> 100 -> classes), both behind dropout.

    Raises
    ------
    MpoxError
        If the head is unknown.
    """
    if head == "linear":
        return nn.Sequential(nn.Dropout(HEAD_DROPOUT), nn.Linear(n_features, n_classes))
    if head == "hidden":
        return nn.Sequential(
            nn.Dropout(HEAD_DROPOUT),
            nn.Linear(n_features, HIDDEN_UNITS),
            nn.ReLU(),
            nn.Linear(HIDDEN_UNITS, n_classes),
        )
    raise MpoxError(f"Unknown head '{head}': choose one of {', '.join(HEADS)}.")


def feature_width(backbone: nn.Module) -> int:
    """Length of a timm backbone's feature vectors.

    Not timm's ``num_features`` where a hidden layer comes between that and the classifier, as in MobileNetV3.
    """
    known: Any = backbone
    return getattr(known, "head_hidden_size", None) or known.num_features


def default_image_size(backbone: str) -> int:
    """Side in pixels of the pictures on which timm's weights of that name were trained."""
    return int(_pretrained_cfg(backbone)["input_size"][-1])


def normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel (on pixels from 0 to 1) that the backbone's weights expect."""
    cfg = _pretrained_cfg(backbone)
    return tuple(cfg["mean"]), tuple(cfg["std"])


def _pretrained_cfg(backbone: str) -> dict:
    import timm

    if not timm.is_model(backbone):
        raise MpoxError(f"timm has no model '{backbone}': see `timm.list_models()`.")
    found = timm.get_pretrained_cfg(backbone)
    if found is None:
        raise MpoxError(
            f"timm does not say what '{backbone}' was trained on: choose another of `timm.list_models(pretrained=True)`."
        )
    return found.to_dict()


def build_backbone(
    backbone: str, *, weights: str = "imagenet", weights_dir: str | os.PathLike | None = None, seed: int = 0
) -> nn.Module:
    """A timm model without classifier: pictures of shape (n, 3, size, size) to features of shape (n, d).

    Parameters
    ----------
    backbone : str
        A timm model name.
    weights : {"imagenet", "random"}
        Transferred, or drawn anew from ``seed``.
    weights_dir : path, optional
        See `mpox.weights.load_pretrained`.
    seed : int
        For random weights.

    Raises
    ------
    MpoxError
        If the model or its weights are not to be had.
    """
    import timm

    _pretrained_cfg(backbone)
    if weights == "imagenet":
        loaded = load_pretrained(backbone, folder=weights_dir)
        model: Any = timm.create_model(backbone, pretrained=False)
        model.load_state_dict(loaded.state, strict=True)
        model.reset_classifier(0)
        return model
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return timm.create_model(backbone, pretrained=False, num_classes=0)
    raise MpoxError(f"Unknown weights '{weights}': choose 'imagenet' or 'random'.")


def build_model(
    backbone: str,
    head: str,
    n_classes: int,
    *,
    weights: str = "imagenet",
    weights_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> Classifier:
    """A backbone with a fresh head; see `build_backbone` and `make_head`."""
    trunk = build_backbone(backbone, weights=weights, weights_dir=weights_dir, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(trunk, make_head(head, feature_width(trunk), n_classes))


def describe_model(backbone: str, head: str, n_classes: int, *, image_size: int | None = None) -> ModelCard:
    """Count a model's parameters and multiply-adds, without weights and without computing anything.

    Examples
    --------
    >>> round(describe_model("tf_efficientnet_lite1", "linear", 2).parameters / 1e6, 2)
    4.14
    """
    import timm
    from torch.utils.flop_counter import FlopCounterMode

    trained_size = default_image_size(backbone)  # refuses unknown names
    size = image_size or trained_size
    with torch.device("meta"):
        trunk = timm.create_model(backbone, pretrained=False, num_classes=0).eval()
        model = Classifier(trunk, make_head(head, feature_width(trunk), n_classes)).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            model(torch.empty(1, 3, size, size))
    return ModelCard(
        backbone=backbone,
        head=head,
        n_classes=n_classes,
        image_size=size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
    )
