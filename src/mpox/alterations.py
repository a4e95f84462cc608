"""Named ways to take something away from a picture, so that what a model still reads can be seen.

After Vega et al. (2023), who covered the lesions of Mpox pictures with boxes and found that a network still told the classes
apart. Every function takes and gives a square picture of uint8, shape (size, size, 3), RGB; what is dealt at random is dealt by a
seed. What covers a lesion also draws it: number, place and size of boxes can tell the class by themselves. ``mask_only`` shows
nothing else, and ``covered_random`` puts the same boxes elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from mpox.errors import MpoxError
from mpox.lesionmap import skin_coloured, to_lab

#: Raised by one whenever the altered copy of an unchanged picture changes.
VERSION = 1
#: Patches a side of ``shuffled``, and cells a side where single places are blanked (`blank_cell`).
GRID = 4
#: Depth of the frame that ``border_only`` leaves, as a share of the side.
FRAME = 0.125
#: What stands where something was taken away and nothing around it may show.
GREY = 128
_DILATE, _RING = 0.012, 0.04  # shares of the side: what a box is larger than its lesion, and where its colour is taken from
_LARGEST_BOX = 1 / 6  # of the side: larger components are covered piece by piece
_INPAINT_RADIUS = 3  # pixels


@dataclass(frozen=True)
class Alteration:
    """One way to alter a picture.

    Parameters
    ----------
    name : str
    meaning : str
        What is taken away, and what is left; for people.
    change : callable
        ``change(picture, mask, rng)`` gives the altered picture; ``mask`` is bool, shape (size, size), or None.
    needs_mask : bool
        Whether it needs to know where the lesions are.
    """

    name: str
    meaning: str
    change: Callable[[np.ndarray, np.ndarray | None, np.random.Generator], np.ndarray]
    needs_mask: bool = False


def lesion_boxes(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes over the components of a lesion map: top, left, bottom, right (open) in pixels, a little larger than the lesions.

    A component that is larger than a sixth of the side, such as a blotch of merged spots, is cut along a grid of that width, so
    that its boxes follow its form.

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


def _covered(picture, mask, rng):
    return fill_boxes(picture, lesion_boxes(mask))


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


def _mask_only(picture, mask, rng):
    return np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)


def _background_only(picture, mask, rng):
    kept = picture.copy()
    kept[skin_coloured(to_lab(picture)) | mask] = GREY
    return kept


def _border_only(picture, mask, rng):
    depth = max(round(FRAME * len(picture)), 1)
    kept = picture.copy()
    kept[depth:-depth, depth:-depth] = GREY
    return kept


def _tiny(picture, mask, rng):
    small = Image.fromarray(picture).resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.shape[:2], Image.Resampling.BILINEAR))


def _colour_only(picture, mask, rng):
    return rng.permutation(picture.reshape(-1, 3)).reshape(picture.shape)


def _shuffled(picture, mask, rng):
    side = len(picture) // GRID
    patches = [(row * side, column * side) for row in range(GRID) for column in range(GRID)]
    shuffled = picture.copy()
    for (row, column), place in zip(patches, rng.permutation(len(patches)), strict=True):
        from_row, from_column = patches[place]
        patch = picture[from_row : from_row + side, from_column : from_column + side]
        shuffled[row : row + side, column : column + side] = patch
    return shuffled


def _grey(picture, mask, rng):
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


ALTERATIONS = {
    alteration.name: alteration
    for alteration in (
        Alteration("covered", "the lesions under boxes of the colour around them", _covered, True),
        Alteration("covered_random", "the same boxes at random places: what boxes cost as such", _covered_random, True),
        Alteration("inpainted", "the lesions painted over from their edges (Telea 2004)", _inpainted, True),
        Alteration("mask_only", "nothing but the lesion map, white on black", _mask_only, True),
        Alteration("background_only", "all of the colour of skin in grey: cloth, walls, lettering and the outline are left",
                   _background_only, True),
        Alteration("border_only", f"all but a frame of {FRAME:.1%} of the side in grey", _border_only),
        Alteration("tiny", "8 x 8 pixels, blown up", _tiny),
        Alteration("colour_only", "all pixels dealt anew: the colours are left, and no form", _colour_only),
        Alteration("shuffled", f"{GRID} x {GRID} patches dealt anew: lesions are left, their arrangement is not", _shuffled),
        Alteration("grey", "no colour", _grey),
    )
}  # fmt: skip
#: The alterations that can be made with a known lesion mask too, under their name and this ending.
TRUE = "_true"
WITH_TRUTH = ("covered", "covered_random", "inpainted", "mask_only")


def get_alteration(name: str) -> Alteration:
    """The alteration of that name; ``covered_true`` and the like are ``covered`` with a known mask.

    Raises
    ------
    MpoxError
        If there is none; the sentence lists the known ones.
    """
    known = [*ALTERATIONS, *(f"{plain}{TRUE}" for plain in WITH_TRUTH)]
    if name not in known:
        raise MpoxError(f"Unknown alteration '{name}': choose one of {', '.join(known)}.")
    return ALTERATIONS[name.removesuffix(TRUE)]


def alter(picture: np.ndarray, name: str, *, mask: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """A picture altered.

    Parameters
    ----------
    picture : ndarray of uint8, shape (size, size, 3)
        RGB.
    name : str
        See `ALTERATIONS`.
    mask : ndarray of bool, shape (size, size), optional
        The lesions, for alterations that need them: `mpox.lesionmap.lesion_map`, or the truth where it is known.
    seed : int
        Of what is dealt at random; the same gives the same copy.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    MpoxError
        If the alteration is unknown, or it needs a mask and has none.

    Examples
    --------
    >>> alter(np.full((32, 32, 3), 200, np.uint8), "border_only")[16, 16].tolist()
    [128, 128, 128]
    """
    alteration = get_alteration(name)
    if alteration.needs_mask and mask is None:
        raise MpoxError(f"The alteration '{name}' needs to know where the lesions are: pass mask=lesion_map(picture).")
    return alteration.change(picture, mask, np.random.default_rng(seed))


def blank_cell(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """One cell of a `GRID` x `GRID` grid in the picture's mean colour; rows count from the top, columns from the left."""
    edges = np.round(np.linspace(0, len(picture), GRID + 1)).astype(int)
    blanked = picture.copy()
    window = slice(edges[row], edges[row + 1]), slice(edges[column], edges[column + 1])
    blanked[window] = np.round(picture.reshape(-1, 3).mean(axis=0))
    return blanked
