"""What a network is fed: batches of images, augmented on the device, or batches of cached activations of its frozen stages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from mpox._core import MpoxError, cache_dir, hash_of, locked, replacing
from mpox.data.manifest import manifest_hash
from mpox.data.pixels import Pixels, RenderedPixels, load_pixels
from mpox.models.backbones import build_backbone, fold_batch_norm, split_backbone
from mpox.models.config import AUGMENTATIONS, ModelConfig, normalisation
from mpox.models.hardware import torch_device
from mpox.models.weights import weights_origin

#: Raised by one whenever the activations of an unchanged configuration change.
VERSION = 1
#: Images whose activations are computed at a time.
LOT = 32
#: One epoch in its order, to be cut into batches: from a position to before another.
Epoch = Callable[[int, int], torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How far an image may be changed; every amount is drawn uniformly."""

    mirror: float = 0.0  #: probability
    area: tuple[float, float] = (1.0, 1.0)  #: least and largest part of the image that is shown, 0 to 1
    ratio: tuple[float, float] = (1.0, 1.0)  #: least and largest ratio of width to height of that part; its logarithm is drawn
    turn: float = 0.0  #: largest angle in degrees, to either side; what lies outside the image is its reflection
    colour: float = 0.0  #: largest change of brightness, contrast and saturation, as a part of each


#: ``light`` mirrors and crops; ``medium`` also turns, and varies brightness, contrast and saturation. Hue is left alone: it is
#: part of the finding.
RECIPES = {
    "none": Recipe(),
    "light": Recipe(mirror=0.5, area=(0.7, 1.0), ratio=(0.8, 1.25)),
    "medium": Recipe(mirror=0.5, area=(0.7, 1.0), ratio=(0.8, 1.25), turn=20.0, colour=0.2),
}


@dataclass(frozen=True)
class Changes:
    """What happens to each of n images."""

    #: From a place in the result to the place in the image, both from -1 to 1 (`torch.nn.functional.affine_grid`): (n, 2, 3).
    places: torch.Tensor | None
    #: Factors of brightness, contrast and saturation: (n, 3).
    colours: torch.Tensor | None

    def __getitem__(self, rows) -> "Changes":
        return Changes(*(None if values is None else values[rows] for values in (self.places, self.colours)))


def draw(name: str, n: int, rng: np.random.Generator, device: torch.device | str = "cpu") -> Changes:
    """Draw the changes of n images, on the CPU whatever the device, so that every device sees the same."""
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
    """Images changed as drawn."""
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


class ImageBatches:
    """Batches of images that lie on the device as uint8 and are changed and normalised there.

    Every tensor is float32, normalised, on the device, in channels-last memory.
    """

    def __init__(self, pixels: Pixels, *, mean: tuple, std: tuple, recipe: str = "none", device: torch.device | str = "cpu"):
        self.device, self.recipe = torch.device(device), recipe
        self.pixels: torch.Tensor | RenderedPixels
        if isinstance(pixels, RenderedPixels) and self.device.type == "cpu":
            self.pixels = pixels  # copies are made as they are asked for: there are many, and memory is for training
        else:
            self.pixels = torch.from_numpy(np.array(pixels[:])).to(self.device)
        shape = (1, 3, 1, 1)
        self._scale = torch.tensor([1 / (255 * s) for s in std], device=self.device).view(shape)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=self.device).view(shape)

    def plain(self, rows: np.ndarray, *, mirrored: bool = False) -> torch.Tensor:
        """The unchanged images, or their mirror images."""
        batch = self._raw(torch.tensor(rows, device=self.device))
        return self._normalised(batch.flip(3) if mirrored else batch)

    def epoch(self, rows: np.ndarray, rng: np.random.Generator) -> Epoch:
        """The images of one epoch in the order of `rows`, each changed at random."""
        order, changes = torch.tensor(rows, device=self.device), draw(self.recipe, len(rows), rng, self.device)
        return lambda start, stop: self.changed(order[start:stop], changes[start:stop])

    def changed(self, rows: torch.Tensor, changes: Changes) -> torch.Tensor:
        """Images changed as drawn."""
        return self._normalised(change(self._raw(rows), changes))

    def _raw(self, rows: torch.Tensor) -> torch.Tensor:
        found = self.pixels[rows] if torch.is_tensor(self.pixels) else torch.from_numpy(self.pixels[rows.numpy()])
        return found.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)

    def _normalised(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self._shift, batch, self._scale).contiguous(memory_format=torch.channels_last)


class ActivationBatches:
    """The same of the `activations` of frozen stages: views of shape (n, views, h, w, c) take the place of images."""

    def __init__(self, views: np.ndarray, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        self.views = torch.from_numpy(views if on_cpu else np.array(views)).to(self.device)

    def plain(self, rows: np.ndarray, *, mirrored: bool = False) -> torch.Tensor:
        """As `ImageBatches.plain`."""
        return self._chosen(torch.tensor(rows, device=self.device), int(mirrored))

    def epoch(self, rows: np.ndarray, rng: np.random.Generator) -> Epoch:
        """As `ImageBatches.epoch`."""
        views = torch.from_numpy(rng.integers(0, self.views.shape[1], len(rows))).to(self.device)
        order = torch.tensor(rows, device=self.device)
        return lambda start, stop: self._chosen(order[start:stop], views[start:stop])

    def _chosen(self, rows: torch.Tensor, views: torch.Tensor | int) -> torch.Tensor:
        return self.views[rows, views].permute(0, 3, 1, 2).float()


def activations(manifest: pd.DataFrame, model: ModelConfig) -> np.ndarray:
    """Activations of the frozen stages for all views of all images, from the cache where they were computed before.

    One file serves a whole cross-validation: they depend neither on fold, repeat nor seed (of transferred weights). The views of
    an image are drawn from its hash.

    Returns
    -------
    ndarray of float16, shape (n, 2 + views, h, w, c)
        Memory-mapped. View 0 is the image, view 1 its mirror image, the others are augmented.
    """
    plan = model.plan
    key = {
        "version": VERSION,
        "data": manifest_hash(manifest),
        "backbone": model.backbone,
        "weights": weights_origin(model.backbone) if model.weights == "imagenet" else [model.weights, model.seed],
        "size": model.image_size,
        "stages": plan.frozen_stages,
        "views": plan.views,
        "augmentation": plan.augmentation,
        "device": model.device,
    }
    path = cache_dir() / "activations" / f"{hash_of(key)}.npy"
    order = np.argsort(manifest["image_id"].to_numpy(dtype=str))  # the key does not know the order of the rows
    if not path.is_file():
        with locked(f"{path}.lock"):
            if not path.is_file():
                _write(path, manifest.iloc[order].reset_index(drop=True), model)
    found = np.load(path, mmap_mode="c")
    return found if (order == np.arange(len(order))).all() else found[np.argsort(order)]


def _write(path: Path, manifest: pd.DataFrame, model: ModelConfig) -> None:
    plan, device = model.plan, torch_device(model.device)
    mean, std = normalisation(model.backbone)
    images = ImageBatches(load_pixels(manifest, model.image_size), mean=mean, std=std, device=device)
    backbone = build_backbone(model.backbone, weights=model.weights, seed=model.seed)
    backbone = backbone.to(device).to(memory_format=torch.channels_last).eval()
    example = images.plain(np.arange(1))
    trunk, _ = split_backbone(backbone, plan.frozen_stages, example)
    fold_batch_norm(trunk, example)
    changes = _changes(manifest, plan.augmentation, plan.views, device)
    title = f"activations of {model.backbone}, {len(manifest)} images in {2 + plan.views} views"
    with replacing(path) as stream, torch.inference_mode():  # not mapped into memory: there a full disk is a bus error
        for start in tqdm(range(0, len(manifest), LOT), desc=title, delay=3, leave=False):
            rows = np.arange(start, min(start + LOT, len(manifest)))
            shown = [images.plain(rows), images.plain(rows, mirrored=True)]
            shown += [images.changed(torch.tensor(rows, device=device), view[rows]) for view in changes]
            found = torch.stack([trunk(batch).permute(0, 2, 3, 1) for batch in shown], dim=1).to(torch.float16).cpu().numpy()
            if not np.isfinite(found).all():
                raise MpoxError(f"Activations of {model.backbone} do not fit into half precision: use fine_tune.")
            if not start:
                about = {"descr": found.dtype.str, "fortran_order": False, "shape": (len(manifest), *found.shape[1:])}
                np.lib.format.write_array_header_1_0(stream, about)
            stream.write(found.tobytes())


def _changes(manifest: pd.DataFrame, recipe: str, views: int, device: torch.device) -> list[Changes]:
    """The changes of every augmented view, each image's drawn from its own hash."""
    drawn = [draw(recipe, views, np.random.default_rng(int(sha[:16], 16)), device) for sha in manifest["pixel_sha256"]]

    def stacked(part: str, view: int) -> torch.Tensor | None:
        values = [getattr(one, part) for one in drawn]
        return None if values[0] is None else torch.stack([value[view] for value in values])

    return [Changes(stacked("places", view), stacked("colours", view)) for view in range(views)]
