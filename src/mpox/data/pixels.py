"""Images as tensors: decoded once into a cache, normalised as the backbone expects."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from mpox._core import MpoxError, cache_dir, replacing
from mpox.data.manifest import manifest_hash
from mpox.data.pictures import read_rgb

if TYPE_CHECKING:
    import torch


class RenderedPixels:
    """Changed copies of images, made as they are asked for: an array to read from, indexed along its first axis.

    `pixels` are the originals, uint8 of shape (m, size, size, 3), `origin` the row of the original of each copy;
    ``render(image, row)`` gives the copy of that row.
    """

    def __init__(self, pixels: "Pixels", origin: np.ndarray, render: Callable[[np.ndarray, int], np.ndarray]):
        self.pixels, self.origin, self.render = pixels, origin, render
        self.shape: tuple[int, ...] = (len(origin), *pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.origin)

    def __getitem__(self, rows) -> np.ndarray:
        rows = np.arange(len(self))[rows]
        if rows.ndim == 0:
            return self._one(int(rows))
        return np.stack([self._one(row) for row in rows]) if len(rows) else np.empty((0, *self.shape[1:]), np.uint8)

    def _one(self, row: int) -> np.ndarray:
        return self.render(np.asarray(self.pixels[self.origin[row]]), int(row))


#: Images to read from by their rows.
Pixels = np.ndarray | RenderedPixels


def load_pixels(manifest: pd.DataFrame, image_size: int) -> Pixels:
    """All images of a manifest, squashed to a square, decoded once and kept in the cache.

    Parameters
    ----------
    manifest : DataFrame
        With ``path``; the rows give the order. Of an augmented or altered data set (`mpox.protocols.copies`) the originals are
        cached; copies are made from them, at this size, whenever they are read.
    image_size : int
        Side in pixels.

    Returns
    -------
    ndarray of uint8, shape (n, image_size, image_size, 3)
        RGB, memory-mapped and read-only; for such a data set `RenderedPixels`, which is indexed like it.
    """
    for column in ("view", "recipe"):
        if column in manifest:
            return _rendered(manifest, image_size, column)
    path = cache_dir() / "pixels" / f"{manifest_hash(manifest)}-{image_size}.npy"
    order = np.argsort(manifest["image_id"].to_numpy(dtype=str))
    if not path.is_file():
        _write_pixels(path, manifest.iloc[order], image_size)
    pixels = np.load(path, mmap_mode="r")
    return pixels if (order == np.arange(len(order))).all() else pixels[np.argsort(order)]


def _rendered(manifest: pd.DataFrame, image_size: int, column: str) -> RenderedPixels:
    from mpox.data import changes

    renderer = {"view": changes.view_renderer, "recipe": changes.alteration_renderer}[column]
    known = manifest.drop_duplicates("original_id").drop(columns=column)
    known = known.assign(image_id=known["original_id"], pixel_sha256=known["original_sha256"])
    known = known.sort_values("image_id", ignore_index=True)
    origin = pd.Index(known["image_id"]).get_indexer(manifest["original_id"])
    return RenderedPixels(load_pixels(known, image_size), origin, renderer(manifest))


def _write_pixels(path, manifest: pd.DataFrame, image_size: int) -> None:
    if (lacking := manifest["path"].isna()).any():
        sources = ", ".join(sorted(manifest.loc[lacking, "source"].unique()))
        raise MpoxError(f"The images of {sources} are not on this machine: get them, or name their folder with MPOX_DATA.")
    about = {"descr": "|u1", "fortran_order": False, "shape": (len(manifest), image_size, image_size, 3)}
    bar = tqdm(manifest["path"], desc=f"decode to {image_size} px", delay=3, leave=False)
    with replacing(path) as stream:  # not mapped into memory: there a full disk is a bus error
        np.lib.format.write_array_header_1_0(stream, about)
        for file in bar:
            stream.write(read_rgb(file).resize((image_size, image_size), Image.Resampling.BICUBIC).tobytes())


def to_batch(
    pixels: np.ndarray, *, mean: tuple[float, ...], std: tuple[float, ...], device: "torch.device | str" = "cpu"
) -> "torch.Tensor":
    """Images of shape (n, size, size, 3), uint8, to a normalised float32 tensor (n, 3, size, size) in channels-last memory."""
    import torch

    tensor = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    tensor = tensor.to(device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
    centre = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1)
    return (tensor / 255 - centre) / scale
