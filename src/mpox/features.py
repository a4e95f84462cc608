"""Feature vectors of pictures, computed once and cached: a frozen backbone's, or hand-crafted ones."""

import os

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from mpox.backbones import build_backbone, normalisation
from mpox.config import HANDCRAFTED, ModelConfig, hash_of
from mpox.errors import MpoxError
from mpox.images import load_pixels, to_batch
from mpox.manifest import manifest_hash
from mpox.paths import cache_dir
from mpox.weights import weights_origin

BATCH = 32


def torch_device(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    MpoxError
        If CUDA is asked for and not there: nothing falls back to the CPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise MpoxError("The device 'cuda' was asked for, but torch finds no GPU here: use the profile 'cpu', or DEVICE: cpu.")
    return torch.device(name)


@torch.inference_mode()
def network_features(backbone: torch.nn.Module, name: str, pixels: np.ndarray, *, mirror: bool, device: str) -> np.ndarray:
    """Pooled features, float32 of shape (n, d), of pictures (n, size, size, 3), uint8; with their mirror images' if asked."""
    target = torch_device(device)
    mean, std = normalisation(name)
    backbone = backbone.to(target, memory_format=torch.channels_last).eval()
    parts = []
    for start in tqdm(range(0, len(pixels), BATCH), desc=f"features of {name}", delay=3, leave=False):
        batch = to_batch(pixels[start : start + BATCH], mean=mean, std=std, device=target)
        pooled = backbone(batch)
        if mirror:
            pooled = (pooled + backbone(batch.flip(3))) / 2
        parts.append(pooled.float().cpu().numpy())
    return np.concatenate(parts)


def colour_histogram(picture: np.ndarray) -> np.ndarray:
    """Joint histogram over 8 hues, 4 saturations and 4 values, square-rooted (Hellinger)."""
    from skimage.color import rgb2hsv

    counts, _ = np.histogramdd(rgb2hsv(picture).reshape(-1, 3), bins=(8, 4, 4), range=[(0, 1)] * 3)
    return np.sqrt(counts.ravel() / counts.sum())


def hog(picture: np.ndarray) -> np.ndarray:
    """Histogram of oriented gradients of the grey picture, 9 orientations in 28 x 28 pixel cells (Dalal and Triggs 2005)."""
    from skimage.color import rgb2gray
    from skimage.feature import hog as sk_hog

    return sk_hog(rgb2gray(picture), orientations=9, pixels_per_cell=(28, 28), cells_per_block=(2, 2))


def lbp(picture: np.ndarray) -> np.ndarray:
    """Uniform local binary patterns at radii 1, 2 and 4, one histogram each (Ojala et al. 2002)."""
    from skimage.color import rgb2gray
    from skimage.feature import local_binary_pattern

    grey = (rgb2gray(picture) * 255).astype(np.uint8)
    histograms = []
    for radius in (1, 2, 4):
        points = 8 * radius
        codes = local_binary_pattern(grey, points, radius, method="uniform")
        counts = np.bincount(codes.astype(int).ravel(), minlength=points + 2)
        histograms.append(np.sqrt(counts / counts.sum()))
    return np.concatenate(histograms)


_HANDCRAFTED = {"colour_histogram": colour_histogram, "hog": hog, "lbp": lbp}
assert set(_HANDCRAFTED) == set(HANDCRAFTED)


def features(manifest: pd.DataFrame, model: ModelConfig) -> np.ndarray:
    """The frozen features of all pictures of a manifest, from the cache where they were computed before.

    Parameters
    ----------
    manifest : DataFrame
        Sorted by ``image_id``.
    model : ModelConfig
        Its backbone, weights, input size, mirroring and device count; so does its seed when the weights are random.

    Returns
    -------
    ndarray of float32, shape (n, d)
    """
    key = {
        "data": manifest_hash(manifest),
        "backbone": model.backbone,
        "weights": model.weights,
        "size": model.image_size,
        "mirror": model.mirror,
        "device": model.device,
        "seed": model.seed if model.weights == "random" else None,
        "file": weights_origin(model.backbone) if model.weights == "imagenet" else None,
    }
    path = cache_dir() / "features" / f"{hash_of(key)}.npy"
    if path.is_file():
        return np.load(path)
    pixels = load_pixels(manifest, model.image_size)
    if model.backbone in HANDCRAFTED:
        extract = _HANDCRAFTED[model.backbone]
        bar = tqdm(pixels, desc=f"features of {model.backbone}", delay=3, leave=False)
        values = np.stack([extract(np.asarray(picture)) for picture in bar]).astype(np.float32)
    else:
        backbone = build_backbone(model.backbone, weights=model.weights, seed=model.seed)
        values = network_features(backbone, model.backbone, pixels, mirror=model.mirror, device=model.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.npy")
    np.save(temporary, values)
    os.replace(temporary, path)
    return values
