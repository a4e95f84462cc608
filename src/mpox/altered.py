"""Data sets of altered pictures: covered, corrupted, cut, of another tone. Nothing is written; copies are made as they are read.

A *recipe* names one change of a picture: an alteration (``covered``, or ``covered_true`` with the phantom's own mask), a
corruption and its strength (``blur-3``), a harmless transform (``mirrored``), a blanked cell of the grid (``cell-0-3``: row,
column), or a drawn skin tone (``tone-1``, ``tone-2``, ... are different draws). An altered data set is an ordinary `Dataset`; its
manifest says which recipe made each row, and everything that takes a data set takes it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mpox import alterations, corruptions, lesionmap, tone_transfer
from mpox.alterations import ALTERATIONS, GRID, TRUE, WITH_TRUTH
from mpox.errors import MpoxError
from mpox.store import Dataset

#: The recipe of a picture as it is.
UNTOUCHED = "untouched"


def corruption_recipes(families=tuple(corruptions.SEVERITIES), strengths=corruptions.STRENGTHS) -> list[str]:
    """The recipes of families at strengths, for instance ``['blur-1', 'blur-2']``."""
    return [f"{family}-{strength}" for family in families for strength in strengths]


def cell_recipes() -> list[str]:
    """The recipes that blank each cell of the grid in turn, row by row."""
    return [f"cell-{row}-{column}" for row in range(GRID) for column in range(GRID)]


def check_recipe(recipe: str) -> str:
    """The version of the code behind a recipe.

    Raises
    ------
    MpoxError
        If there is no such recipe; the sentence lists the known ones.
    """
    name, *numbers = recipe.split("-")
    counted = [int(number) for number in numbers if number.isdecimal()]
    if recipe in ALTERATIONS or (recipe.removesuffix(TRUE) in WITH_TRUTH and recipe.endswith(TRUE)):
        drawn = ALTERATIONS[recipe.removesuffix(TRUE)].needs_mask and not recipe.endswith(TRUE)
        return f"alteration {alterations.VERSION}" + (f" map {lesionmap.VERSION}" if drawn else "")
    if recipe in corruptions.TRANSFORMS or (
        name in corruptions.SEVERITIES and len(counted) == len(numbers) == 1 and counted[0] in corruptions.STRENGTHS
    ):
        return f"corruption {corruptions.VERSION}"
    if name == "cell" and len(counted) == len(numbers) == 2 and max(counted) < GRID:
        return f"alteration {alterations.VERSION}"
    if name == "tone" and len(counted) == len(numbers) == 1:
        return f"tone {tone_transfer.VERSION}"
    known = [*ALTERATIONS, *(f"{plain}{TRUE}" for plain in WITH_TRUTH), *corruptions.TRANSFORMS]
    known += [f"{family}-1 to -5" for family in corruptions.SEVERITIES]
    raise MpoxError(f"Unknown recipe '{recipe}': choose one of {', '.join(known)}, cell-ROW-COLUMN or tone-NUMBER.")


def recipe_hash(sha: str, recipe: str) -> str:
    """The sha256 that stands for the altered copy of the picture with this pixel hash."""
    return hashlib.sha256(f"{sha} {recipe} {check_recipe(recipe)}".encode()).hexdigest()


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
        from, ``pixel_sha256`` stands for what `mpox.images.load_pixels` will show, and ``mask`` is the path of the true lesion
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


def true_mask(path: str, size: int) -> np.ndarray:
    """A phantom's lesion mask at this size, bool of shape (size, size): what is lesion by more than half."""
    with Image.open(path) as mask:
        return np.asarray(mask.convert("L").resize((size, size), Image.Resampling.BOX)) > 127


def renderer(manifest: pd.DataFrame) -> Callable[[np.ndarray, int], np.ndarray]:
    """What makes the copies of an altered manifest: from the original of a row, and the row, the copy.

    The lesion map of the last picture is kept: in the order of the manifest the copies of one picture follow each other.
    """
    recipes, shas = manifest["recipe"].to_numpy(), manifest["original_sha256"].to_numpy()
    last: dict[str, np.ndarray] = {}

    def mapped(picture: np.ndarray, row: int) -> np.ndarray:
        if recipes[row].endswith(TRUE):
            return true_mask(manifest["mask"].iloc[row], len(picture))
        if shas[row] not in last:
            last.clear()
            last[shas[row]] = lesionmap.lesion_map(picture)
        return last[shas[row]]

    return lambda picture, row: render(picture, recipes[row], shas[row], lambda: mapped(picture, row))


def render(picture: np.ndarray, recipe: str, sha: str, mask: Callable[[], np.ndarray]) -> np.ndarray:
    """An altered copy of a picture.

    Parameters
    ----------
    picture : ndarray of uint8, shape (size, size, 3)
        RGB.
    recipe : str
    sha : str
        The original's pixel hash, which decides what the recipe leaves open: the same for all strengths of a corruption.
    mask : callable
        Gives the lesion map, bool of shape (size, size); called only where it is needed.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
    """
    check_recipe(recipe) if recipe != UNTOUCHED else None
    name, *numbers = recipe.split("-")
    about = recipe if name == "tone" else name.removesuffix(TRUE)
    seed = int(hashlib.sha256(f"{sha} {about}".encode()).hexdigest()[:16], 16)
    if recipe == UNTOUCHED:
        return picture
    if name == "cell":
        return alterations.blank_cell(picture, *map(int, numbers))
    if name == "tone":
        return tone_transfer.drawn_transfer(picture, seed=seed)
    if name in corruptions.SEVERITIES:
        return corruptions.corrupt(picture, name, int(numbers[0]), seed=seed)
    if name in corruptions.TRANSFORMS:
        return corruptions.transform(picture, name, seed=seed)
    needed = ALTERATIONS[name.removesuffix(TRUE)].needs_mask
    return alterations.alter(picture, name, mask=mask() if needed else None, seed=seed)


def copies_in_test(split: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """A split that trains on the originals and tests on the originals and all their copies: one fit serves every recipe.

    Parameters
    ----------
    split : DataFrame
        Of the original data set (`mpox.splits.make_splits`).
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
