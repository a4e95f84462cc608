"""Data sets of changed copies: augmented views, covered lesions, corruptions."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError
from mpox.data.changes import PUBLISHED, RENDERERS, TRUE, UNTOUCHED, recipe_hash, view_hash
from mpox.data.dataset import Dataset

#: Augmented copies of an image, beside itself: the authors of MSLD v1 publish their set 14-fold.
N_AUGMENTED = 13


def augmented(data: Dataset, n_views: int = N_AUGMENTED, seed: int = 0, *, recipe: str = PUBLISHED) -> Dataset:
    """The data set with every image multiplied, for the protocol ``augment_before_split``.

    There are ``n_views`` copies of an image beside itself, made by a recipe of `mpox.data.changes.RENDERERS`.

    Returns
    -------
    Dataset
        Of the same name, with ``n_views`` + 1 rows an image: ``image_id`` is the original's with ``#k``, ``view`` is k (0 is the
        unchanged image), ``original_id`` and ``original_sha256`` (of the original's pixels) say where it comes from, and
        ``pixel_sha256`` stands for what `load_pixels` will show. Patient and honest group are the original's.
    """
    if recipe not in RENDERERS:
        raise MpoxError(f"There is no recipe '{recipe}' for augmented copies: choose one of {', '.join(RENDERERS)}.")
    if n_views < 1:
        raise MpoxError(f"An augmented data set needs at least 1 copy of an image, not {n_views}.")
    original = _originals(data).assign(group_id=data.manifest["image_id"].map(data.groups))
    parts = []
    for view in range(n_views + 1):
        about = {"view": view, "view_seed": seed, "view_recipe": recipe}
        part = original.assign(**about, image_id=original["original_id"] + f"#{view}")
        if view:
            part["pixel_sha256"] = [view_hash(sha, view, seed, recipe) for sha in original["original_sha256"]]
        parts.append(part)
    manifest = pd.concat(parts).sort_values("image_id", ignore_index=True)
    return replace(data, manifest=manifest, groups=manifest.set_index("image_id")["group_id"].rename_axis(None))


def altered(data: Dataset, recipe: str) -> Dataset:
    """The data set with every image altered by a recipe of `mpox.data.changes`, under the same ids.

    ``recipe``, ``original_id`` and ``original_sha256`` say where a row comes from, ``pixel_sha256`` stands for what `load_pixels`
    will show, and ``mask`` is the path of the true lesion mask where the recipe takes one.
    """
    return replace(data, manifest=_copies(data, recipe, _originals(data)))


def with_copies(data: Dataset, recipes: list[str]) -> Dataset:
    """The data set and an altered copy of every image for each recipe (at least one, none twice), as `altered` makes them.

    Untouched images (recipe `UNTOUCHED`) keep their ids; a copy's is the original's with ``#`` and the recipe. Groups are the
    originals'.
    """
    if not recipes or len(set(recipes)) < len(recipes):
        raise MpoxError(f"Name at least one recipe, and none twice, not {recipes}.")
    original = _originals(data)
    parts = [original.assign(recipe=UNTOUCHED)]
    for recipe in recipes:
        copies = _copies(data, recipe, original)
        parts.append(copies.assign(image_id=copies["original_id"] + f"#{recipe}"))
    manifest = pd.concat(parts).sort_values("image_id", ignore_index=True)
    groups = manifest.set_index("image_id")["original_id"].map(data.groups).rename("group_id").rename_axis(None)
    return replace(data, manifest=manifest, groups=groups)


def _originals(data: Dataset) -> pd.DataFrame:
    if "view" in data.manifest or "recipe" in data.manifest:
        raise MpoxError(f"The data set '{data.name}' is augmented or altered already: start from the original one.")
    return data.manifest.assign(original_id=data.manifest["image_id"], original_sha256=data.manifest["pixel_sha256"])


def _copies(data: Dataset, recipe: str, original: pd.DataFrame) -> pd.DataFrame:
    shas = [recipe_hash(sha, recipe) for sha in original["original_sha256"]]
    copies = original.assign(recipe=recipe, pixel_sha256=shas)
    if recipe.endswith(TRUE):
        if not has_true_masks(data):
            raise MpoxError(f"'{recipe}' needs to know where the lesions are, which only a phantom with its truths does.")
        copies["mask"] = true_mask_paths(data.manifest)
    return copies


def true_mask_paths(manifest: pd.DataFrame) -> list[str]:
    """Where the true lesion mask of each image of a phantom lies, or would lie."""
    return [
        str(Path(path).parents[image_id.count("/") + 1] / "truth" / "masks" / image_id)
        for path, image_id in zip(manifest["path"], manifest["image_id"], strict=True)
    ]


def has_true_masks(data: Dataset) -> bool:
    """Whether the true lesion mask of every image is available: on a phantom that lies here with its truths."""
    if not (data.is_phantom and data.has_pictures):
        return False
    return all(Path(path).is_file() for path in true_mask_paths(data.manifest))


def copies_in_test(split: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """The split with every copy in ``manifest`` (of `with_copies`) tested beside its original: one fit serves every recipe."""
    return _multiplied(split, manifest, "test")


def copies_in_training(split: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """The split with every copy learnt from beside its original, in the original's inner fold."""
    return _multiplied(split, manifest, "train")


def _multiplied(split: pd.DataFrame, manifest: pd.DataFrame, role: str) -> pd.DataFrame:
    chosen = split["role"] == role
    copies = split[chosen].rename(columns={"image_id": "original_id"})
    copies = copies.merge(manifest[["image_id", "original_id"]], on="original_id", validate="m:m")[split.columns]
    both = pd.concat([split[~chosen], copies])
    return both.sort_values(["repeat", "fold", "image_id"], ignore_index=True)
