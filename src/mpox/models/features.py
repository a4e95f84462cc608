"""Feature vectors of images, computed once and cached: a frozen backbone's, or hand-crafted ones."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, cache_dir, hash_of
from mpox.data.pixels import Pixels, load_pixels, to_batch
from mpox.models.config import HANDCRAFTED, ModelConfig, normalisation
from mpox.models.hardware import torch_device
from mpox.models.weights import weights_origin

#: Raised by one whenever the features of an unchanged configuration change.
VERSION = 1
BATCH = 32
#: Images whose features are computed and kept at a time.
LOT = 128


def network_features(backbone: Any, name: str, pixels: np.ndarray, *, mirror: bool, device: str, stages: int = 0) -> np.ndarray:
    """Pooled features, float32 of shape (n, d), of images (n, size, size, 3), uint8; with their mirror images' if asked.

    Beside them the means of the last ``stages`` feature maps (timm's ``forward_intermediates``).
    """
    import torch

    target = torch_device(device)
    mean, std = normalisation(name)
    backbone = backbone.to(target).to(memory_format=torch.channels_last).eval()
    parts = []

    def pool(batch: Any) -> Any:
        if not stages:
            return backbone(batch)
        last, maps = backbone.forward_intermediates(batch, indices=stages)
        return torch.cat([backbone.forward_head(last, pre_logits=True), *(one.mean((2, 3)) for one in maps)], dim=1)

    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            batch = to_batch(pixels[start : start + BATCH], mean=mean, std=std, device=target)
            pooled = pool(batch)
            if mirror:
                pooled = (pooled + pool(batch.flip(3))) / 2
            parts.append(pooled.float().cpu().numpy())
    return np.concatenate(parts)


def colour_histogram(picture: np.ndarray) -> np.ndarray:
    """Joint histogram over 8 hues, 4 saturations and 4 values, square-rooted (Hellinger)."""
    from skimage.color import rgb2hsv

    counts, _ = np.histogramdd(rgb2hsv(picture).reshape(-1, 3), bins=(8, 4, 4), range=[(0, 1)] * 3)
    return np.sqrt(counts.ravel() / counts.sum())


def hog(picture: np.ndarray) -> np.ndarray:
    """Histogram of oriented gradients of the grey image, 9 orientations in 28 x 28 pixel cells (Dalal and Triggs 2005)."""
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


#: `HANDCRAFTED`: from an image, uint8 of shape (size, size, 3), to a feature vector.
EXTRACTORS = {"colour_histogram": colour_histogram, "hog": hog, "lbp": lbp}


def features(manifest: pd.DataFrame, model: ModelConfig) -> np.ndarray:
    """The frozen features of all images of a manifest, from the cache where they were computed before.

    An image's features are kept under the hash of its pixels, so that data sets that share images share them, a new image costs
    only itself, and what was computed before an interruption stays.

    The manifest is sorted by ``image_id``. Of the model its backbone, weights, input size, mirroring, stages and device
    count, and its seed when the weights are random. The result is float32 of shape (n, d).
    """
    key = {
        "engine": VERSION,
        "backbone": model.backbone,
        "weights": model.weights,
        "size": model.image_size,
        "mirror": model.mirror,
        "device": model.device if model.device == "cpu" else f"{model.device}, single precision",
        "seed": model.seed if model.weights == "random" else None,
        "file": weights_origin(model.backbone) if model.weights == "imagenet" else None,
        **({"stages": model.stages} if model.stages else {}),
    }
    path = cache_dir() / "features" / f"{hash_of(key)}.sqlite"
    shas = manifest["pixel_sha256"].tolist()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as cache:
            with cache:
                cache.execute("CREATE TABLE IF NOT EXISTS features (sha TEXT PRIMARY KEY, vector BLOB)")
            known = _read_vectors(cache, shas)
            missing = manifest[~manifest["pixel_sha256"].isin(list(known))].reset_index(drop=True)
            if len(missing):
                for lot, values in _extract(load_pixels(missing, model.image_size), model):
                    with cache:
                        lines = zip(missing["pixel_sha256"][lot], (vector.tobytes() for vector in values), strict=True)
                        cache.executemany("INSERT OR IGNORE INTO features VALUES (?, ?)", lines)
                known = _read_vectors(cache, shas)
    except (sqlite3.Error, OSError) as error:
        raise MpoxError(
            f"The feature cache {path} cannot be used ({error}): remove the file, free space, or set MPOX_CACHE."
        ) from error
    return np.stack([known[sha] for sha in shas])


def _read_vectors(cache: sqlite3.Connection, shas: list[str]) -> dict[str, np.ndarray]:
    wanted = sorted(set(shas))
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        query = f"SELECT sha, vector FROM features WHERE sha IN ({','.join('?' * len(part))})"
        found |= {sha: np.frombuffer(vector, dtype=np.float32) for sha, vector in cache.execute(query, part)}
    return found


def _extract(pixels: Pixels, model: ModelConfig) -> Iterator[tuple[slice, np.ndarray]]:
    """Features of images, lot by lot: where the lot is, and float32 of shape (lot, d)."""
    lots = [slice(start, start + LOT) for start in range(0, len(pixels), LOT)]
    bar = tqdm(lots, desc=f"features of {model.backbone}, {len(pixels)} images", delay=3, leave=False)
    if model.backbone in HANDCRAFTED:
        extract = EXTRACTORS[model.backbone]
        for lot in bar:
            yield lot, np.stack([extract(image) for image in np.asarray(pixels[lot])]).astype(np.float32)
        return
    from mpox.models.backbones import build_backbone

    backbone = build_backbone(model.backbone, weights=model.weights, seed=model.seed)
    for lot in bar:
        part = pixels[lot]
        yield (
            lot,
            network_features(backbone, model.backbone, part, mirror=model.mirror, device=model.device, stages=model.stages),
        )
