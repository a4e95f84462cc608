"""Where a trained network looks: Grad-CAM heat maps of its last feature maps."""

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch.nn import functional as F

from mpox.backbones import Classifier, normalisation
from mpox.images import to_batch


def grad_cam(model: Classifier, backbone: str, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) for one class a picture, on the maps that the backbone pools.

    Parameters
    ----------
    model : Classifier
        From `mpox.experiment.load_model`.
    backbone : str
        Its name in timm, for the normalisation.
    pixels : ndarray of uint8, shape (n, size, size, 3)
    target : ndarray of int, shape (n,)
        The class whose evidence is shown, a number from 0.

    Returns
    -------
    ndarray of float32, shape (n, size, size)
        From 0 to 1 within each picture; all 0 where nothing speaks for the class.
    """
    mean, std = normalisation(backbone)
    batch = to_batch(pixels, mean=mean, std=std)
    model = model.eval()
    maps = LayerGradCam(model, model.backbone.global_pool).attribute(
        batch, target=torch.from_numpy(np.asarray(target)), attribute_to_layer_input=True, relu_attributions=True
    )
    maps = F.interpolate(maps.detach(), size=batch.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, maps / highest.clamp_min(1e-12), torch.zeros_like(maps)).numpy()
