"""What a network is fed: batches of pictures, augmented on the device, or batches of cached activations of its frozen stages."""

from typing import Protocol

import numpy as np
import torch

from mpox.data.pixels import RenderedPixels
from mpox.models import augmentation


class Batches(Protocol):
    """Batches of n pictures by their rows; every tensor is float32, normalised, on the device, in channels-last memory."""

    device: torch.device

    def plain(self, rows: np.ndarray, *, mirrored: bool = False) -> torch.Tensor:
        """The unchanged pictures, or their mirror images."""

    def epoch(self, rows: np.ndarray, rng: np.random.Generator) -> "Epoch":
        """The pictures of one epoch in the order of `rows`, each changed at random."""


class Epoch(Protocol):
    """One epoch, cut into batches."""

    def batch(self, start: int, stop: int) -> torch.Tensor:
        """From position `start` to before `stop` of the epoch's order."""


class PictureBatches:
    """Pictures that lie on the device as uint8 and are changed and normalised there."""

    def __init__(self, pixels, *, mean: tuple, std: tuple, recipe: str = "none", device: torch.device | str = "cpu"):
        self.device, self.recipe = torch.device(device), recipe
        self.pixels: torch.Tensor | RenderedPixels
        if isinstance(pixels, RenderedPixels) and self.device.type == "cpu":
            self.pixels = pixels  # copies are made as they are asked for: there are many, and memory is for training
        else:
            self.pixels = torch.from_numpy(np.array(pixels[:])).to(self.device)
        shape = (1, 3, 1, 1)
        self._scale = torch.tensor([1 / (255 * s) for s in std], device=self.device).view(shape)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=self.device).view(shape)

    def plain(self, rows, *, mirrored: bool = False) -> torch.Tensor:
        batch = self._raw(torch.tensor(rows, device=self.device))
        return self._normalised(batch.flip(3) if mirrored else batch)

    def epoch(self, rows, rng) -> "_PictureEpoch":
        changes = augmentation.draw(self.recipe, len(rows), rng, self.device)
        return _PictureEpoch(self, torch.tensor(rows, device=self.device), changes)

    def changed(self, rows: torch.Tensor, changes: augmentation.Changes) -> torch.Tensor:
        """Pictures changed as drawn."""
        return self._normalised(augmentation.change(self._raw(rows), changes))

    def _raw(self, rows: torch.Tensor) -> torch.Tensor:
        found = self.pixels[rows] if torch.is_tensor(self.pixels) else torch.from_numpy(self.pixels[rows.numpy()])
        return found.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)

    def _normalised(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self._shift, batch, self._scale).contiguous(memory_format=torch.channels_last)


class _PictureEpoch:
    def __init__(self, batches: PictureBatches, rows: torch.Tensor, changes: augmentation.Changes):
        self._batches, self._rows, self._changes = batches, rows, changes

    def batch(self, start: int, stop: int) -> torch.Tensor:
        return self._batches.changed(self._rows[start:stop], self._changes[start:stop])


class ActivationBatches:
    """Activations of frozen stages for several views of each picture, from `mpox.models.activations.activations`."""

    def __init__(self, views: np.ndarray, device: torch.device | str = "cpu"):
        self.device, self.n_views = torch.device(device), views.shape[1]
        on_cpu = self.device.type == "cpu"
        self.views = torch.from_numpy(views if on_cpu else np.array(views)).to(self.device)

    def plain(self, rows, *, mirrored: bool = False) -> torch.Tensor:
        rows = torch.tensor(rows, device=self.device)
        return self.chosen(rows, torch.full_like(rows, int(mirrored)))

    def epoch(self, rows, rng) -> "_ActivationEpoch":
        chosen = torch.from_numpy(rng.integers(0, self.n_views, len(rows))).to(self.device)
        return _ActivationEpoch(self, torch.tensor(rows, device=self.device), chosen)

    def chosen(self, rows: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """One view of each picture."""
        return self.views[rows, views].permute(0, 3, 1, 2).float()


class _ActivationEpoch:
    def __init__(self, batches: ActivationBatches, rows: torch.Tensor, views: torch.Tensor):
        self._batches, self._rows, self._views = batches, rows, views

    def batch(self, start: int, stop: int) -> torch.Tensor:
        return self._batches.chosen(self._rows[start:stop], self._views[start:stop])
