"""Data sets of changed copies: augmented views, covered lesions, corruptions."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError
from mpox.data.changes import PUBLISHED, RENDERERS, TRUE, UNTOUCHED, recipe_hash, view_hash
from mpox.data.dataset import Dataset

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
        ``pixel_sha256`` stands for what `load_pixels` will show, ``view_recipe`` is the recipe. Patient and honest
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


def altered(data: Dataset, recipe: str) -> Dataset:
    """The data set with every picture altered, under the same ids, so that predictions can be compared picture by picture.

    Parameters
    ----------
    data : Dataset
    recipe : str
        See the module's docstring.

    Returns
    -------
    Dataset
        Of the same name. ``recipe``, ``original_id`` and ``original_sha256`` (of the original's pixels) say where a row comes
        from, ``pixel_sha256`` stands for what `load_pixels` will show, and ``mask`` is the path of the true lesion
        mask where the recipe takes one.

    Raises
    ------
    MpoxError
        If there is no such recipe, the data set is altered or augmented already, or the true masks are not at hand.
    """
    return replace(data, manifest=_copies(data, recipe, _originals(data)))


def with_copies(data: Dataset, recipes: list[str]) -> Dataset:
    """The data set and an altered copy of every picture for each recipe.

    Parameters
    ----------
    data : Dataset
    recipes : list of str
        At least one, none twice.

    Returns
    -------
    Dataset
        As `altered` gives it, with the untouched pictures (recipe `UNTOUCHED`, their own ids) and the copies, whose ids are the
        original's with ``#`` and the recipe. Groups are the originals'.

    Raises
    ------
    MpoxError
        See `altered`; also if no recipe is named, or one twice.
    """
    if not recipes or len(set(recipes)) < len(recipes):
        raise MpoxError(f"Name at least one recipe, and none twice, not {recipes}.")
    original = _originals(data)
    parts = [original.assign(recipe=UNTOUCHED)]
    for recipe in recipes:
        copies = _copies(data, recipe, original)
        parts.append(copies.assign(image_id=copies["original_id"] + f"#{recipe}"))
    manifest = pd.concat(parts).sort_values("image_id", ignore_index=True)
    groups = pd.Series(
        manifest["original_id"].map(data.groups).to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id"
    )
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
    """Where the true lesion mask of each picture of a phantom lies, or would lie."""
    return [
        str(Path(path).parents[image_id.count("/") + 1] / "truth" / "masks" / image_id)
        for path, image_id in zip(manifest["path"], manifest["image_id"], strict=True)
    ]


def has_true_masks(data: Dataset) -> bool:
    """Whether the true lesion mask of every picture is at hand: on a phantom that lies here with its truths."""
    if not (data.is_phantom and data.has_pictures):
        return False
    return all(Path(path).is_file() for path in true_mask_paths(data.manifest))


def copies_in_test(split: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """A split that trains on the originals and tests on the originals and all their copies: one fit serves every recipe.

    Parameters
    ----------
    split : DataFrame
        Of the original data set (`mpox.protocols.splits.make_splits`).
    manifest : DataFrame
        Of `with_copies`.

    Returns
    -------
    DataFrame
        Of the same form.
    """
    return _multiplied(split, manifest, "test")


def copies_in_training(split: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """A split that trains on the originals and all their copies, in the originals' inner folds, and tests on the originals."""
    return _multiplied(split, manifest, "train")


def _multiplied(split: pd.DataFrame, manifest: pd.DataFrame, role: str) -> pd.DataFrame:
    chosen = split["role"] == role
    copies = split[chosen].rename(columns={"image_id": "original_id"})
    copies = copies.merge(manifest[["image_id", "original_id"]], on="original_id", validate="m:m")[split.columns]
    both = pd.concat([split[~chosen], copies])
    return both.sort_values(["repeat", "fold", "image_id"], ignore_index=True)
