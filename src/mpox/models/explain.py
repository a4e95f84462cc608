"""Where a network looks: heat maps by Grad-CAM, integrated gradients and occlusion, of any `mpox.models.backbones.Classifier`.

What is explained is a logit less the mean of all logits. The softmax knows nothing but such differences: a probe of two classes
has its whole evidence in one logit, and the other's gradient is zero.
"""

from collections.abc import Callable

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from torch import nn
from torch.nn import functional as F

from mpox._core import MpoxError
from mpox.data.pixels import to_batch
from mpox.models.backbones import Classifier, normalisation

#: Raised by one whenever the maps of an unchanged network and image change.
VERSION = 1
IG_STEPS = 10
#: Side of the covering square and its step, as shares of the image's side.
WINDOW, STRIDE = 1 / 4, 1 / 6
BATCH = 8


def _contrast(model: Classifier) -> Callable[[torch.Tensor], torch.Tensor]:
    def logits_less_their_mean(images: torch.Tensor) -> torch.Tensor:
        logits = model(images)
        return logits - logits.mean(dim=1, keepdim=True)

    model.eval()
    return logits_less_their_mean


def grad_cam(model: Classifier, backbone: str, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) for one class an image, on the maps that the backbone (its name in timm) pools.

    ``pixels`` are uint8 of shape (n, size, size, 3), ``target`` numbers of classes. As all `METHODS` it gives float32 of shape
    (n, size, size), from 0 to 1 within each image, and all 0 where nothing speaks for the class.
    """
    layer = getattr(model.backbone, "global_pool", None)
    if not isinstance(layer, nn.Module):
        raise MpoxError(
            f"Grad-CAM needs a network that pools maps, which {backbone} is not: use integrated gradients or occlusion."
        )
    maps = LayerGradCam(_contrast(model), layer).attribute(
        as_batch(backbone, pixels), target=torch.as_tensor(target), attribute_to_layer_input=True, relu_attributions=True
    )
    return _scaled(F.interpolate(maps.detach(), size=pixels.shape[1:3], mode="bilinear", align_corners=False)[:, 0])


def integrated_gradients(model: Classifier, backbone: str, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Integrated gradients (Sundararajan et al. 2017) from a mid-grey image, what speaks for the class, smoothed."""
    signed = torch.from_numpy(integrated_attributions(model, backbone, pixels, target))
    return _scaled(_blurred(signed, pixels.shape[1] / 32).clamp_min(0))


def integrated_attributions(
    model: Classifier, backbone: str, pixels: np.ndarray, target: np.ndarray, *, n_steps: int = IG_STEPS
) -> np.ndarray:
    """What each pixel adds to the logit (less the mean logit), summed over the colours: float32 of shape (n, size, size)."""
    found = IntegratedGradients(_contrast(model)).attribute(
        as_batch(backbone, pixels), baselines=as_batch(backbone, np.full_like(pixels, 128)), target=torch.as_tensor(target),
        n_steps=n_steps, internal_batch_size=BATCH,
    )  # fmt: skip
    return found.detach().sum(dim=1).float().numpy()


def occlusion(model: Classifier, backbone: str, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What covering a part takes from the class (Zeiler and Fergus 2014): a mid-grey square slides over the image."""
    size = pixels.shape[1]
    window, stride = max(2, round(size * WINDOW)), max(1, round(size * STRIDE))
    grey = as_batch(backbone, np.full_like(pixels[:1], 128))[:1]
    with torch.inference_mode():
        found = Occlusion(_contrast(model)).attribute(
            as_batch(backbone, pixels), sliding_window_shapes=(3, window, window), strides=(3, stride, stride), baselines=grey,
            target=torch.as_tensor(target),
        )  # fmt: skip
    return _scaled(found.mean(dim=1).clamp_min(0))


#: Name of a method to a function of a model, its backbone's name, pixels and target classes.
METHODS: dict[str, Callable[..., np.ndarray]] = {
    "grad_cam": grad_cam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
}
#: What a reader calls them.
TITLES = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients", "occlusion": "occlusion"}


def get_method(name: str) -> Callable[..., np.ndarray]:
    """The method of that name; an `MpoxError` if there is none."""
    if name not in METHODS:
        raise MpoxError(f"There is no method '{name}': choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def as_batch(backbone: str, pixels: np.ndarray) -> torch.Tensor:
    """Images of shape (n, size, size, 3), uint8, as a backbone expects them; see `mpox.data.pixels.to_batch`."""
    mean, std = normalisation(backbone)
    return to_batch(pixels, mean=mean, std=std)


def _scaled(maps: torch.Tensor) -> np.ndarray:
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, maps / highest.clamp_min(1e-12), torch.zeros_like(maps)).float().numpy()


def _blurred(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    from torchvision.transforms.functional import gaussian_blur

    width = 2 * round(2 * sigma) + 1
    return gaussian_blur(maps[:, None], [width, width], [sigma, sigma])[:, 0]
