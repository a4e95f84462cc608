"""What frozen stages make of augmented pictures, computed once and memory-mapped: the input of the regime ``tail_tune``."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from mpox._core import MpoxError, cache_dir, hash_of, locked, replacing
from mpox.data.manifest import manifest_hash
from mpox.data.pixels import load_pixels
from mpox.models import augmentation
from mpox.models.backbones import build_backbone, fold_batch_norm, normalisation, weights_origin
from mpox.models.batches import PictureBatches
from mpox.models.config import ModelConfig

#: Raised by one whenever the activations of an unchanged configuration change.
VERSION = 1
BATCH = 32
#: Views that every picture has beside the augmented ones: itself and its mirror image.
PLAIN_VIEWS = 2


def split_backbone(backbone: nn.Module, frozen_stages: int, example: torch.Tensor) -> tuple[nn.Module, nn.Module]:
    """Cut a backbone after its first stages."""
    wanted = ("conv_stem", "bn1", "blocks", "conv_head", "bn2", "global_pool")
    if not all(hasattr(backbone, name) for name in wanted):
        raise MpoxError("tail_tune cuts a network between its blocks, which only timm's EfficientNets have here: use fine_tune.")
    parts: Any = backbone  # which of timm's networks it is, no type says
    stages = [nn.Sequential(parts.conv_stem, parts.bn1), *parts.blocks]
    if not 1 <= frozen_stages <= len(stages):
        raise MpoxError(f"frozen_stages must be from 1 to {len(stages)} for tail_tune with this backbone, not {frozen_stages}.")
    last = [parts.conv_head, parts.bn2, parts.global_pool]
    trunk, tail = nn.Sequential(*stages[:frozen_stages]).eval(), nn.Sequential(*stages[frozen_stages:], *last).eval()
    with torch.inference_mode():
        if not torch.allclose(tail(trunk(example)), backbone(example), rtol=1e-3, atol=1e-4):
            raise MpoxError("tail_tune cuts a network between its blocks, and this one is more than a sequence: use fine_tune.")
    return trunk, tail


def activations(manifest: pd.DataFrame, model: ModelConfig) -> np.ndarray:
    """Activations of the frozen stages for all views of all pictures, from the cache where they were computed before.

    They depend on the pictures, the backbone and its weights, the input size, the stage, the augmentation and the number of
    views, but not on fold, repeat or seed: one file serves a whole cross-validation. The views of a picture are drawn from its
    hash.

    Parameters
    ----------
    manifest : DataFrame
    model : ModelConfig
        Of the regime ``tail_tune``.

    Returns
    -------
    ndarray of float16, shape (n, 2 + views, h, w, c)
        Memory-mapped. View 0 is the picture, view 1 its mirror image, the others are augmented.

    Raises
    ------
    MpoxError
        If a value does not fit into half precision, the cache cannot be written, or the pictures are not on this machine.
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


def _write(path, manifest: pd.DataFrame, model: ModelConfig) -> None:
    from mpox.models.hardware import torch_device

    plan, device = model.plan, torch_device(model.device)
    mean, std = normalisation(model.backbone)
    pictures = PictureBatches(load_pixels(manifest, model.image_size), mean=mean, std=std, device=device)
    backbone = build_backbone(model.backbone, weights=model.weights, seed=model.seed)
    backbone = backbone.to(device).to(memory_format=torch.channels_last).eval()
    example = pictures.plain(np.arange(1))
    trunk, _ = split_backbone(backbone, plan.frozen_stages, example)
    fold_batch_norm(trunk, example)
    changes = _changes(manifest, plan.augmentation, plan.views, device)
    n_views = PLAIN_VIEWS + plan.views
    title = f"activations of {model.backbone}, {len(manifest)} pictures in {n_views} views"
    with replacing(path) as stream, torch.inference_mode():  # not mapped into memory: there a full disk is a bus error
        for start in tqdm(range(0, len(manifest), BATCH), desc=title, delay=3, leave=False):
            rows = np.arange(start, min(start + BATCH, len(manifest)))
            shown = [pictures.plain(rows), pictures.plain(rows, mirrored=True)]
            shown += [pictures.changed(torch.tensor(rows, device=device), view[rows]) for view in changes]
            found = torch.stack([trunk(batch).permute(0, 2, 3, 1) for batch in shown], dim=1).to(torch.float16).cpu().numpy()
            if not np.isfinite(found).all():
                raise MpoxError(f"Activations of {model.backbone} do not fit into half precision: use fine_tune.")
            if not start:
                about = {"descr": found.dtype.str, "fortran_order": False, "shape": (len(manifest), *found.shape[1:])}
                np.lib.format.write_array_header_1_0(stream, about)
            stream.write(found.tobytes())


def _changes(manifest: pd.DataFrame, recipe: str, views: int, device: torch.device) -> list[augmentation.Changes]:
    """The changes of every augmented view, each picture's drawn from its own hash."""
    drawn = [
        augmentation.draw(recipe, views, np.random.default_rng(int(sha[:16], 16)), device) for sha in manifest["pixel_sha256"]
    ]

    def stacked(part: str, view: int) -> torch.Tensor | None:
        values = [getattr(one, part) for one in drawn]
        return None if values[0] is None else torch.stack([value[view] for value in values])

    return [augmentation.Changes(stacked("places", view), stacked("colours", view)) for view in range(views)]
