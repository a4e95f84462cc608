"""The named ways to change an image: cover, crop, blur, degrade, recolour; and the map of lesions that guides them."""

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

from mpox._core import MpoxError
from mpox.data.skintone import tone_of_skin

#: Raised by one whenever the map of an unchanged image changes.
LESION_MAP_VERSION = 1
#: Seed of the phantom on which weights and heights were set; results are reported on another.
SET_ON = 0
#: Blurs in shares of the picture's side: pairs of a difference, and where its square is averaged.
_REDNESS_BAND, _LIGHTNESS_BAND, _AROUND = (0.012, 0.024), (0.006, 0.012), 0.018
_SMOOTH = 0.009
#: Weight of each measure in the response.
_WEIGHTS = {"uneven_redness": 3.0, "uneven_lightness": 1.9, "above_skin": 0.45}
#: Usual levels in CIELAB units: the median unevenness of redness, and the robust deviation of the redness of a picture's skin.
_USUAL_UNEVENNESS, _USUAL_DEVIATION = 0.35, 2.5
#: A pixel is lesion from the first height on if it is linked to one of the second.
HEIGHTS = (3.4, 4.4)
_MAIN_SKIN = 0.35  # quantile of a*
_SMALLEST = 0.0004  # of the area
_HUES, _CHROMA = (-25.0, 100.0), 5.0  # what may be skin or rash: degrees and least chroma, CIELAB


def to_lab(picture: np.ndarray) -> np.ndarray:
    """CIELAB (D65), float32 of the same shape, of an RGB image of uint8, read as sRGB."""
    return cv2.cvtColor(np.ascontiguousarray(picture, dtype=np.float32) / 255, cv2.COLOR_RGB2LAB)


def skin_coloured(lab: np.ndarray) -> np.ndarray:
    """Pixels with the hue of skin or of a rash upon it, bool of shape (height, width): smoothed, and small gaps closed."""
    side = max(lab.shape[:2])
    smooth = cv2.GaussianBlur(lab, (0, 0), max(0.006 * side, 0.5))
    hue = np.degrees(np.arctan2(smooth[..., 2], smooth[..., 1]))
    found = (hue >= _HUES[0]) & (hue <= _HUES[1]) & (np.hypot(smooth[..., 1], smooth[..., 2]) >= _CHROMA)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(round(0.02 * side), 1) + 1,) * 2)
    return cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)


def _lesion_response(picture: np.ndarray) -> np.ndarray:
    """How much each pixel looks like part of a lesion: float32 of shape (height, width), 0 where there is no skin."""
    lab = to_lab(picture)
    skin = skin_coloured(lab)
    if not skin.any():
        return np.zeros(skin.shape, np.float32)
    side = max(skin.shape)
    redness, lightness, weight = lab[..., 1], lab[..., 0], skin.astype(np.float32)
    smooth = _mean_over(redness, weight, _SMOOTH * side)
    uneven_redness = _unevenness(redness, weight, _REDNESS_BAND, side)
    uneven_lightness = _unevenness(lightness, weight, _LIGHTNESS_BAND, side)
    above_skin = smooth - np.quantile(smooth[skin], _MAIN_SKIN)
    deviation = 1.4826 * np.median(np.abs(smooth[skin] - np.median(smooth[skin])))
    measures = {
        "uneven_redness": uneven_redness / max(np.median(uneven_redness[skin]) / _USUAL_UNEVENNESS, 1),
        "uneven_lightness": uneven_lightness / max(np.median(uneven_lightness[skin]), 0.1),
        "above_skin": above_skin / max(deviation / _USUAL_DEVIATION, 1),
    }
    response = sum(_WEIGHTS[name] * values for name, values in measures.items())
    return np.where(skin, response, 0).astype(np.float32)


def _mean_over(channel: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean of a channel over the pixels that have weight."""
    return cv2.GaussianBlur(channel * weight, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)


def _unevenness(channel: np.ndarray, weight: np.ndarray, band: tuple[float, float], side: int) -> np.ndarray:
    change = _mean_over(channel, weight, band[0] * side) - _mean_over(channel, weight, band[1] * side)
    return np.sqrt(_mean_over(change**2, weight, _AROUND * side))


def lesion_map(picture: np.ndarray) -> np.ndarray:
    """The pixels that may be lesion, bool of shape (height, width), of an RGB image of uint8: holes filled, specks removed.

    Examples
    --------
    >>> picture = np.full((64, 64, 3), (214, 170, 145), np.uint8)
    >>> picture[28:36, 28:36] = (170, 80, 80)
    >>> found = lesion_map(picture)
    >>> bool(found[32, 32]), bool(found[4, 4])
    (True, False)
    """
    cv2.setNumThreads(1)
    found = apply_hysteresis_threshold(_lesion_response(picture), *HEIGHTS)
    found = ndimage.binary_fill_holes(found)
    pieces, n_pieces = ndimage.label(found, np.ones((3, 3)))
    large = np.bincount(pieces.ravel(), minlength=n_pieces + 1) >= max(_SMALLEST * found.size, 4)
    large[0] = False
    return large[pieces]


#: Raised by one whenever the altered, corrupted or re-toned copy of an unchanged image changes.
ALTERATIONS_VERSION = 1
CORRUPTIONS_VERSION = 1
TONE_TRANSFER_VERSION = 1
#: Patches a side of ``shuffled``, and cells a side where single places are blanked (``cell-ROW-COLUMN``).
GRID = 4
#: Depth of the frame that ``border_only`` leaves, as a share of the side.
FRAME = 0.125
#: What stands where something was taken away and nothing around it may show.
GREY = 128
#: Angles in degrees among which the target of ``tone-NUMBER`` is drawn, all alike: from dark to very light skin.
TARGETS = (-45.0, 60.0)
_DILATE, _RING = 0.012, 0.04  # shares of the side: what a box is larger than its lesion, and where its colour is taken from
_LARGEST_BOX = 1 / 6  # of the side: larger components are covered piece by piece
_INPAINT_RADIUS = 3  # pixels
_FEATHER = 0.01  # of the side


def lesion_boxes(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes over the components of a lesion map: top, left, bottom, right (open) in pixels, a little larger than the lesions.

    A component larger than a sixth of the side is cut along a grid of that width, so that its boxes follow its form.

    Examples
    --------
    >>> mask = np.zeros((100, 100), bool)
    >>> mask[40:46, 20:30] = True
    >>> lesion_boxes(mask)
    [(39, 19, 47, 31)]
    """
    size = len(mask)
    margin, largest = max(round(_DILATE * size), 1), max(round(_LARGEST_BOX * size), 4)
    boxes = []
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
        for top in range(rows.start, rows.stop, largest):
            for left in range(columns.start, columns.stop, largest):
                window = slice(top, min(top + largest, rows.stop)), slice(left, min(left + largest, columns.stop))
                inside = pieces[window] == number
                if inside.any():
                    down, across = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
                    box = top + down[0] - margin, left + across[0] - margin, top + down[-1] + 1, left + across[-1] + 1
                    boxes.append((max(box[0], 0), max(box[1], 0), min(box[2] + margin, size), min(box[3] + margin, size)))
    return [(int(top), int(left), int(bottom), int(right)) for top, left, bottom, right in boxes]


def fill_boxes(picture: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Each box in the mean colour of what surrounds it and lies in no box (of all that lies in no box, where there is none)."""
    size = len(picture)
    ring = max(round(_RING * size), 2)
    free = np.ones((size, size), bool)
    for top, left, bottom, right in boxes:
        free[top:bottom, left:right] = False
    usual = picture[free].mean(axis=0) if free.any() else np.full(3, GREY)
    filled = picture.copy()
    for top, left, bottom, right in boxes:
        window = slice(max(top - ring, 0), bottom + ring), slice(max(left - ring, 0), right + ring)
        around = picture[window][free[window]]
        filled[top:bottom, left:right] = np.round(around.mean(axis=0) if len(around) else usual)
    return filled


def _covered_random(picture, mask, rng):
    size, boxes = len(picture), []
    for top, left, bottom, right in lesion_boxes(mask):
        height, width = bottom - top, right - left
        row, column = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        boxes.append((int(row), int(column), int(row + height), int(column + width)))
    return fill_boxes(picture, boxes)


def _inpainted(picture, mask, rng):
    width = 2 * max(round(_DILATE * len(picture)), 1) + 1
    wider = cv2.dilate(mask.astype(np.uint8), np.ones((width, width), np.uint8))
    return cv2.inpaint(np.ascontiguousarray(picture), wider, _INPAINT_RADIUS, cv2.INPAINT_TELEA)


def _background_only(picture, mask, rng):
    kept = picture.copy()
    kept[skin_coloured(to_lab(picture)) | mask] = GREY
    return kept


def _border_only(picture, mask, rng):
    kept, depth = picture.copy(), max(round(FRAME * len(picture)), 1)
    kept[depth:-depth, depth:-depth] = GREY
    return kept


def _through(side, picture, *_):
    """The image as side x side pixels, blown up."""
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.shape[:2], Image.Resampling.BILINEAR))


def _shuffled(picture, mask, rng):
    side = len(picture) // GRID
    starts = range(0, GRID * side, side)
    patches = [(slice(row, row + side), slice(column, column + side)) for row in starts for column in starts]
    shuffled = picture.copy()
    for patch, place in zip(patches, rng.permutation(len(patches)), strict=True):
        shuffled[patch] = picture[patches[place]]
    return shuffled


def _blank_cell(picture, mask, rng, row, column):
    """One cell in the mean colour of the image; rows count from the top, columns from the left."""
    blanked, edges = picture.copy(), np.round(np.linspace(0, len(picture), GRID + 1)).astype(int)
    window = slice(edges[row], edges[row + 1]), slice(edges[column], edges[column + 1])
    blanked[window] = np.round(picture.reshape(-1, 3).mean(axis=0))
    return blanked


def _decode(picture: np.ndarray) -> np.ndarray:
    """sRGB levels to linear light from 0 to 1 (IEC 61966-2-1)."""
    value = picture / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(np.uint8)


def _jpeg(picture, mask, rng, number):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=number)
    return np.asarray(Image.open(stream).convert("RGB"))


def _white_balance(picture, mask, rng, number):
    red = number / 2 * rng.choice([-1, 1])
    return _encode(_decode(picture) * 2.0 ** np.array([red, 0, -red]))


def _occlusion(picture, mask, rng, number):
    side = round(len(picture) * number**0.5)
    row, column = rng.integers(0, len(picture) - side + 1, 2)
    covered = picture.copy()
    covered[row : row + side, column : column + side] = GREY
    return covered


def _crop(picture, mask, rng, percent):
    size = len(picture)
    side = round(size * percent / 100)
    row, column = rng.integers(0, size - side + 1, 2)
    part = Image.fromarray(picture[row : row + side, column : column + side])
    return np.asarray(part.resize((size, size), Image.Resampling.BICUBIC))


def transfer(picture: np.ndarray, target: float) -> np.ndarray:
    """An RGB image of uint8 whose skin has the typology angle `target`, in degrees; unchanged where its skin has no angle."""
    usual = tone_of_skin(picture)
    if usual is None:
        return picture
    lightness, _, b = usual
    radius, turn = np.hypot(lightness - 50, b), np.radians(target)
    lab = to_lab(picture)
    where = cv2.GaussianBlur(skin_coloured(lab).astype(np.float32), (0, 0), _FEATHER * max(picture.shape[:2]))
    lab[..., 0] = np.clip(lab[..., 0] + where * np.float32(50 + radius * np.sin(turn) - lightness), 0, 100)
    lab[..., 2] += where * np.float32(radius * np.cos(turn) - b)
    return np.round(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Change:
    """One way to change an image: `make(picture, mask, rng)`, with the lesions as bool of shape (size, size), or None."""

    make: Callable[..., np.ndarray]
    meaning: str  # what is taken away, and what is left; for people
    version: str = f"corruption {CORRUPTIONS_VERSION}"
    needs_mask: bool = False


_ALTERED, _MAPPED = f"alteration {ALTERATIONS_VERSION}", f"alteration {ALTERATIONS_VERSION} map {LESION_MAP_VERSION}"
#: Alterations take the lesions away, or all but something else.
ALTERATIONS = {
    name: Change(make, meaning, _MAPPED if needs_mask else _ALTERED, needs_mask)
    for name, needs_mask, make, meaning in (
        ("covered", True, lambda picture, mask, rng: fill_boxes(picture, lesion_boxes(mask)),
         "the lesions under boxes of the colour around them"),
        ("covered_random", True, _covered_random, "the same boxes at random places: what boxes cost as such"),
        ("inpainted", True, _inpainted, "the lesions painted over from their edges (Telea 2004)"),
        ("mask_only", True, lambda picture, mask, rng: np.repeat(mask[..., None] * np.uint8(255), 3, axis=2),
         "nothing but the lesion map, white on black"),
        ("background_only", True, _background_only,
         "all of the colour of skin in grey: cloth, walls, lettering and the outline are left"),
        ("border_only", False, _border_only, f"all but a frame of {FRAME:.1%} of the side in grey"),
        ("tiny", False, partial(_through, 8), "8 x 8 pixels, blown up"),
        ("colour_only", False, lambda picture, mask, rng: rng.permutation(picture.reshape(-1, 3)).reshape(picture.shape),
         "all pixels shuffled: the colours are left, and no form"),
        ("shuffled", False, _shuffled, f"{GRID} x {GRID} patches shuffled: lesions are left, their arrangement is not"),
        ("grey", False, lambda picture, mask, rng: np.asarray(Image.fromarray(picture).convert("L").convert("RGB")), "no colour"),
    )
}  # fmt: skip
#: The alterations that can be made with a known lesion mask too, under their name and this ending.
TRUE = "_true"
WITH_TRUTH = ("covered", "covered_random", "inpainted", "mask_only")
STRENGTHS = (1, 2, 3, 4, 5)
#: Corruptions: family to its function, what its number means, and the number at each strength.
SEVERITIES: dict[str, tuple[Callable, str, tuple[float, ...]]] = {
    "blur": (
        lambda picture, mask, rng, number: cv2.GaussianBlur(picture, (0, 0), number * len(picture) / 224),
        "standard deviation of a Gaussian, pixels at a side of 224",
        (0.7, 1.2, 2.0, 3.2, 5.0),
    ),
    "noise": (
        lambda picture, mask, rng, number: np.clip(np.round(picture + rng.normal(0, number, picture.shape)), 0, 255).astype(
            np.uint8
        ),
        "standard deviation of Gaussian noise, grey levels",
        (6, 12, 20, 32, 48),
    ),
    "jpeg": (_jpeg, "JPEG quality", (50, 30, 18, 10, 5)),
    "exposure": (
        lambda picture, mask, rng, number: _encode(_decode(picture) * 2.0 ** (number * rng.choice([-1, 1]))),
        "stops of light, more or less",
        (0.3, 0.6, 1.0, 1.5, 2.0),
    ),
    "white_balance": (_white_balance, "stops between red and blue, either way", (0.2, 0.4, 0.7, 1.0, 1.4)),
    "occlusion": (_occlusion, "share of the area under one grey square", (0.05, 0.1, 0.2, 0.3, 0.4)),
    "downscaling": (
        lambda picture, mask, rng, number: _through(max(round(len(picture) / number), 1), picture),
        "factor by which width and height are reduced",
        (2, 3, 4.5, 7, 10),
    ),
}
#: Transforms that leave the finding what it is.
TRANSFORMS = {
    "mirrored": Change(lambda picture, *_: np.ascontiguousarray(picture[:, ::-1]), "left and right exchanged"),
    "upside_down": Change(lambda picture, *_: np.ascontiguousarray(picture[::-1]), "top and bottom exchanged"),
    "crop_90": Change(partial(_crop, percent=90), "a square of 90 % of the side at a random place, blown up"),
    "crop_75": Change(partial(_crop, percent=75), "a square of 75 % of the side at a random place, blown up"),
}
#: Recipe to what it does: all that is named, each family at each strength (``blur-1``), each cell of the grid (``cell-0-3``).
CHANGES = (
    ALTERATIONS
    | {f"{name}{TRUE}": replace(ALTERATIONS[name], version=_ALTERED) for name in WITH_TRUTH}
    | TRANSFORMS
    | {
        f"{family}-{strength}": Change(partial(make, number=number), meaning)
        for family, (make, meaning, numbers) in SEVERITIES.items()
        for strength, number in zip(STRENGTHS, numbers, strict=True)
    }
    | {
        f"cell-{row}-{column}": Change(partial(_blank_cell, row=row, column=column), "one cell in the mean colour", _ALTERED)
        for row in range(GRID)
        for column in range(GRID)
    }
)


def find_change(recipe: str) -> Change:
    """What is behind a recipe: one of `CHANGES`, or ``tone-NUMBER``; an `MpoxError` that lists them if there is nothing."""
    if re.fullmatch(r"tone-\d+", recipe):
        make = lambda picture, mask, rng: transfer(picture, rng.uniform(*TARGETS))  # noqa: E731
        return Change(make, "skin of another tone", f"tone {TONE_TRANSFER_VERSION}")
    if recipe not in CHANGES:
        known = [*(name for name in CHANGES if "-" not in name), *(f"{family}-1 to -5" for family in SEVERITIES)]
        raise MpoxError(f"Unknown recipe '{recipe}': choose one of {', '.join(known)}, cell-ROW-COLUMN or tone-NUMBER.")
    return CHANGES[recipe]


def change(picture: np.ndarray, recipe: str, *, mask: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """A changed copy of an image.

    Examples
    --------
    >>> change(np.full((32, 32, 3), 200, np.uint8), "border_only")[16, 16].tolist()
    [128, 128, 128]
    >>> int((change(np.zeros((32, 32, 3), np.uint8), "occlusion-3") == 128).all(axis=2).sum())
    196
    """
    found = find_change(recipe)
    if found.needs_mask and mask is None:
        raise MpoxError(f"The alteration '{recipe}' needs to know where the lesions are: pass mask=lesion_map(picture).")
    return found.make(picture, mask, np.random.default_rng(seed))


def severity_table() -> pd.DataFrame:
    """The number behind each family and strength: ``family``, ``meaning``, one column a strength."""
    rows = [(name, meaning, *numbers) for name, (_, meaning, numbers) in SEVERITIES.items()]
    return pd.DataFrame(rows, columns=["family", "meaning", *map(str, STRENGTHS)])


#: The recipe of a image as it is.
UNTOUCHED = "untouched"


def corruption_recipes(families=tuple(SEVERITIES), strengths=STRENGTHS) -> list[str]:
    """The recipes of families at strengths, for instance ``['blur-1', 'blur-2']``."""
    return [f"{family}-{strength}" for family in families for strength in strengths]


def cell_recipes() -> list[str]:
    """The recipes that blank each cell of the grid in turn, row by row."""
    return [f"cell-{row}-{column}" for row in range(GRID) for column in range(GRID)]


def recipe_hash(sha: str, recipe: str) -> str:
    """The sha256 that stands for the altered copy of the image with this pixel hash."""
    return hashlib.sha256(f"{sha} {recipe} {find_change(recipe).version}".encode()).hexdigest()


def true_mask(path: str, size: int) -> np.ndarray:
    """A phantom's lesion mask at this size, bool of shape (size, size): what is lesion by more than half."""
    with Image.open(path) as mask:
        return np.asarray(mask.convert("L").resize((size, size), Image.Resampling.BOX)) > 127


def alteration_renderer(manifest: pd.DataFrame) -> Callable[[np.ndarray, int], np.ndarray]:
    """What makes the copies of an altered manifest: from the original of a row, and the row, the copy."""
    recipes, shas = manifest["recipe"].to_numpy(), manifest["original_sha256"].to_numpy()
    last: dict[str, np.ndarray] = {}  # the copies of one image follow each other

    def mapped(picture: np.ndarray, row: int) -> np.ndarray:
        if recipes[row].endswith(TRUE):
            return true_mask(manifest["mask"].iloc[row], len(picture))
        if shas[row] not in last:
            last.clear()
            last[shas[row]] = lesion_map(picture)
        return last[shas[row]]

    return lambda picture, row: render_altered(picture, recipes[row], shas[row], lambda: mapped(picture, row))


def render_altered(picture: np.ndarray, recipe: str, sha: str, mask: Callable[[], np.ndarray]) -> np.ndarray:
    """An altered copy of an RGB image of uint8, shape (size, size, 3)."""
    if recipe == UNTOUCHED:
        return picture
    name = recipe.split("-")[0]
    about = recipe if name == "tone" else name.removesuffix(TRUE)
    seed = int(hashlib.sha256(f"{sha} {about}".encode()).hexdigest()[:16], 16)
    return change(picture, recipe, mask=mask() if find_change(recipe).needs_mask else None, seed=seed)


#: The recipe of published studies; see `RENDERERS`.
PUBLISHED = "published"


def view_hash(sha: str, view: int, seed: int, recipe: str = PUBLISHED) -> str:
    """The sha256 that stands for an augmented copy of the image with this pixel hash."""
    kind = "view" if recipe == PUBLISHED else f"{recipe} view"
    return hashlib.sha256(f"{sha} {kind} {view} seed {seed}".encode()).hexdigest()


def view_renderer(manifest: pd.DataFrame) -> Callable[[np.ndarray, int], np.ndarray]:
    """What makes the copies of an augmented manifest: from the original of a row, and the row, the copy."""
    shas = np.where(manifest["view"] > 0, manifest["pixel_sha256"], "")
    copy = RENDERERS[manifest["view_recipe"].iloc[0]]
    return lambda picture, row: copy(picture, shas[row]) if shas[row] else picture


def render_view(picture: np.ndarray, sha: str) -> np.ndarray:
    """An augmented copy of an RGB image, by a recipe as published ones are; `sha`, from `view_hash`, decides what is open."""
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
    source = centre + margin - shift  # where the middle of the copy lies in the padded image
    inverse = (cos, sin, source[0] - (cos + sin) * centre, -sin, cos, source[1] - (cos - sin) * centre)
    image = Image.fromarray(padded).transform((size, size), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(brightness)
    return np.asarray(ImageEnhance.Contrast(image).enhance(contrast))


def recolour(picture: np.ndarray, sha: str) -> np.ndarray:
    """A copy as another camera, in another light, might have taken it; nothing is moved. Arguments as for `render_view`."""
    rng = np.random.default_rng(int(sha[:32], 16))
    gains = np.exp(rng.uniform(-np.log(1.25), np.log(1.25), 3))
    image = Image.fromarray(np.rint(np.clip(picture * gains, 0, 255)).astype(np.uint8))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.6, 1.4))
    return np.asarray(image)


#: Recipe to what makes a copy: ``published`` turns, shifts, zooms and brightens, ``colour`` changes colours only.
RENDERERS = {PUBLISHED: render_view, "colour": recolour}
