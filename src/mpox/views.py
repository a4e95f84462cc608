"""Augmented copies as pictures of their own.

They serve the published malpractice of multiplying a data set before it is divided, and honest training with more colours than
the camera gave.

An augmented data set is an ordinary `Dataset` with several rows a picture. Its pictures are made when they are asked for, always
the same ones for a seed, from the pictures of the original data set; nothing is written.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from mpox.errors import MpoxError
from mpox.store import Dataset

#: The recipe of published studies; see `RENDERERS`.
PUBLISHED = "published"
#: Augmented copies a picture, beside itself: the authors of MSLD v1 publish their set 14-fold.
N_AUGMENTED = 13


def augmented(data: Dataset, n_views: int = N_AUGMENTED, seed: int = 0, *, recipe: str = PUBLISHED) -> Dataset:
    """The data set with every picture multiplied, for the protocol ``augment_before_split``.

    Parameters
    ----------
    data : Dataset
    n_views : int
        Augmented copies a picture, at least 1.
    seed : int
        Of the copies.
    recipe : {"published", "colour"}
        How a copy is made; see `RENDERERS`.

    Returns
    -------
    Dataset
        Of the same name, with ``n_views`` + 1 rows a picture: ``image_id`` is the original's with ``#k``, ``view`` is k (0 is the
        unchanged picture), ``original_id`` and ``original_sha256`` (of the original's pixels) say where it comes from, and
        ``pixel_sha256`` stands for what `mpox.images.load_pixels` will show, ``view_recipe`` is the recipe. Patient and honest
        group are the original's.

    Raises
    ------
    MpoxError
        If ``n_views`` is less than 1, the recipe is unknown, or the data set is augmented already.
    """
    if recipe not in RENDERERS:
        raise MpoxError(f"There is no recipe '{recipe}' for augmented copies: choose one of {', '.join(RENDERERS)}.")
    if n_views < 1:
        raise MpoxError(f"An augmented data set needs at least 1 copy a picture, not {n_views}.")
    if "view" in data.manifest:
        raise MpoxError(f"The data set '{data.name}' is augmented already: start from the original one.")
    original = data.manifest.assign(
        original_id=data.manifest["image_id"],
        original_sha256=data.manifest["pixel_sha256"],
        group_id=data.manifest["image_id"].map(data.groups),
    )
    parts = []
    for view in range(n_views + 1):
        about = {"view": view, "view_seed": seed, "view_recipe": recipe}
        part = original.assign(**about, image_id=original["original_id"] + f"#{view}")
        if view:
            part["pixel_sha256"] = [view_hash(sha, view, seed, recipe) for sha in original["original_sha256"]]
        parts.append(part)
    manifest = pd.concat(parts).sort_values("image_id", ignore_index=True)
    groups = pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return replace(data, manifest=manifest, groups=groups)


def view_hash(sha: str, view: int, seed: int, recipe: str = PUBLISHED) -> str:
    """The sha256 that stands for an augmented copy of the picture with this pixel hash."""
    kind = "view" if recipe == PUBLISHED else f"{recipe} view"
    return hashlib.sha256(f"{sha} {kind} {view} seed {seed}".encode()).hexdigest()


def renderer(manifest: pd.DataFrame) -> Callable[[np.ndarray, int], np.ndarray]:
    """What makes the copies of an augmented manifest: from the original of a row, and the row, the copy."""
    shas = np.where(manifest["view"] > 0, manifest["pixel_sha256"], "")
    copy = RENDERERS[manifest["view_recipe"].iloc[0]]
    return lambda picture, row: copy(picture, shas[row]) if shas[row] else picture


def render(picture: np.ndarray, sha: str) -> np.ndarray:
    """An augmented copy of a picture, by a recipe as published ones are.

    In this order: mirrored (probability 1/2), turned by up to 30 degrees, shifted by up to 10 % of the side and zoomed by 0.8 to
    1.2 (the edge is mirrored outward), brightness and contrast times 0.8 to 1.2.

    Parameters
    ----------
    picture : ndarray of uint8, shape (size, size, 3)
        RGB.
    sha : str
        From `view_hash`; the same gives the same copy.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
    """
    rng = np.random.default_rng(int(sha[:32], 16))
    mirrored, angle, zoom = rng.random() < 0.5, np.deg2rad(rng.uniform(-30, 30)), rng.uniform(0.8, 1.2)
    size = len(picture)
    shift = rng.uniform(-0.1, 0.1, 2) * size
    brightness, contrast = rng.uniform(0.8, 1.2, 2)
    if mirrored:
        picture = picture[:, ::-1]
    margin = size // 2
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    centre = size / 2
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    source = centre + margin - shift  # where the middle of the copy lies in the padded picture
    inverse = (cos, sin, source[0] - (cos + sin) * centre, -sin, cos, source[1] - (cos - sin) * centre)
    image = Image.fromarray(padded).transform((size, size), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(brightness)
    return np.asarray(ImageEnhance.Contrast(image).enhance(contrast))


def recolour(picture: np.ndarray, sha: str) -> np.ndarray:
    """A copy as another camera, in another light, might have taken it; nothing is moved.

    In this order: each of red, green and blue times 0.8 to 1.25 (white balance), brightness, contrast and saturation times 0.6 to
    1.4. The ranges are ours: wide enough to cover what web pictures show, narrow enough that skin stays skin to our eyes.

    Parameters and result are those of `render`.
    """
    rng = np.random.default_rng(int(sha[:32], 16))
    gains = np.exp(rng.uniform(-np.log(1.25), np.log(1.25), 3))
    image = Image.fromarray(np.rint(np.clip(picture * gains, 0, 255)).astype(np.uint8))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.6, 1.4))
    return np.asarray(image)


#: Recipe to what makes a copy: ``published`` turns, shifts, zooms and brightens (`render`), ``colour`` changes colours only.
RENDERERS = {PUBLISHED: render, "colour": recolour}
