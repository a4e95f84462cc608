"""The random change made to each training picture, for a whole batch at once and on its device."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from mpox._core import MpoxError
from mpox.models.config import AUGMENTATIONS


@dataclass(frozen=True)
class Recipe:
    """How far a picture may be changed; every amount is drawn uniformly.

    Parameters
    ----------
    mirror : float
        Probability, 0 to 1.
    area : tuple of float
        Least and largest part of the picture that is shown, 0 to 1.
    ratio : tuple of float
        Least and largest ratio of width to height of that part; its logarithm is drawn.
    turn : float
        Largest angle in degrees, to either side. What lies outside the picture is its reflection.
    colour : float
        Largest change of brightness, contrast and saturation, as a part of each.
    """

    mirror: float = 0.0
    area: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    turn: float = 0.0
    colour: float = 0.0


#: ``light`` mirrors and crops; ``medium`` also turns, and varies brightness, contrast and saturation. Hue is left alone: it is
#: part of the finding.
RECIPES = {
    "none": Recipe(),
    "light": Recipe(mirror=0.5, area=(0.7, 1.0), ratio=(0.8, 1.25)),
    "medium": Recipe(mirror=0.5, area=(0.7, 1.0), ratio=(0.8, 1.25), turn=20.0, colour=0.2),
}
assert set(RECIPES) == set(AUGMENTATIONS)


@dataclass(frozen=True)
class Changes:
    """What happens to each of n pictures.

    Parameters
    ----------
    places : Tensor of float32, shape (n, 2, 3)
        From a place in the result to the place in the picture, both from -1 to 1 (`torch.nn.functional.affine_grid`).
    colours : Tensor of float32, shape (n, 3), or None
        Factors of brightness, contrast and saturation.
    """

    places: torch.Tensor | None
    colours: torch.Tensor | None

    def __getitem__(self, rows) -> "Changes":
        return Changes(*(None if values is None else values[rows] for values in (self.places, self.colours)))


def draw(name: str, n: int, rng: np.random.Generator, device: torch.device | str = "cpu") -> Changes:
    """Draw the changes of n pictures, on the CPU whatever the device, so that every device sees the same."""
    if name not in RECIPES:
        raise MpoxError(f"Unknown augmentation '{name}': choose one of {', '.join(AUGMENTATIONS)}.")
    recipe = RECIPES[name]
    if recipe == Recipe():
        return Changes(None, None)
    mirrored = np.where(rng.random(n) < recipe.mirror, -1.0, 1.0)
    area, (narrow, wide) = rng.uniform(*recipe.area, n), np.log(recipe.ratio)
    ratio = np.exp(rng.uniform(narrow, wide, n))
    shown = np.minimum(np.sqrt(area * np.stack([ratio, 1 / ratio])), 1.0)
    middle = (1 - shown) * rng.uniform(-1, 1, (2, n))
    angle = np.deg2rad(rng.uniform(-recipe.turn, recipe.turn, n))
    turned = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turned * np.stack([shown[0] * mirrored, shown[1]])[None]
    places = np.concatenate([linear, np.einsum("ijn,jn->in", turned, middle)[:, None]], axis=1).transpose(2, 0, 1)
    colours = rng.uniform(1 - recipe.colour, 1 + recipe.colour, (n, 3)) if recipe.colour else None
    as_tensor = lambda values: None if values is None else torch.from_numpy(values.astype(np.float32)).to(device)  # noqa: E731
    return Changes(as_tensor(places), as_tensor(colours))


def change(batch: torch.Tensor, changes: Changes) -> torch.Tensor:
    """Pictures changed as drawn."""
    if changes.places is not None:
        grid = F.affine_grid(changes.places, list(batch.shape), align_corners=False)
        batch = F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if changes.colours is not None:
        brightness, contrast, saturation = changes.colours.T[:, :, None, None, None]
        batch = (batch * brightness).clamp(0, 255)
        batch = torch.lerp(_grey(batch).mean(dim=(1, 2, 3), keepdim=True), batch, contrast).clamp(0, 255)
        batch = torch.lerp(_grey(batch), batch, saturation).clamp(0, 255)
    return batch


def _grey(batch: torch.Tensor) -> torch.Tensor:
    """Luma by ITU-R BT.601, shape (n, 1, size, size)."""
    return (batch * batch.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
