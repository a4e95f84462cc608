"""A run's network with all that lies between a picture's pixels and its probabilities, as one torch module."""

import torch
from torch import nn

from mpox.backbones import Classifier, normalisation


class Deployable(nn.Module):
    """Pixels in, probabilities out: normalisation, backbone, head, the mirror image if the run used it, softmax, temperature.

    Parameters
    ----------
    network : Classifier
        From `mpox.fitted.fitted_network`.
    backbone : str
        Its name in timm, for the normalisation.
    mirror : bool
        Show the network every picture and its mirror image.
    average : {"logits", "probabilities"}
        What of the two is averaged: a probe averages features, which is the same as averaging its logits; a trained network its
        probabilities.
    temperature : float
        The logarithms of the probabilities are divided by it (Guo et al. 2017, section 4.2); 1 leaves them as they are.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: Classifier, backbone: str, *, mirror: bool, average: str, temperature: float = 1.0):
        super().__init__()
        mean, std = normalisation(backbone)
        self.network, self.mirror, self.average, self.temperature = network, mirror, average, temperature
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std]).view(1, 3, 1, 1), persistent=False)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pooled features, (n, d), or (2n, d) with those of the mirror images behind the others."""
        batch = pictures * self.scale + self.shift
        if self.mirror:
            batch = torch.cat([batch, batch.flip(3)])
        return self.network.backbone(batch)

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities, (n, classes), from what `features` gives."""
        logits = self.network.head(features)
        if self.mirror:
            views = logits.reshape(2, -1, logits.shape[1])
            logits = views.mean(0) if self.average == "logits" else torch.logsumexp(torch.log_softmax(views, 2), 0)
        return torch.softmax(torch.log_softmax(logits, 1) / self.temperature, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Probabilities of shape (n, classes) for RGB pictures of shape (n, 3, size, size), float32 from 0 to 255."""
        return self.probabilities(self.features(pictures))
