"""Plain borders of a picture whose contrast was evened out: what two framed pictures share without sharing a photograph."""

import numpy as np

_APART = 4  # pixels along a line between which it may not change
_CALM, _SHARE = 10.0, 0.8  # levels, and the share of a line that is as calm as that: a logo may stand in a border
_STEP, _EDGE = 25.0, 0.5  # levels by which a picture differs from its border, and the share of a line that does
_LEAST, _DEEPEST = 3, 0.45  # pixels; part of a side
_MOST = 0.9  # part of a picture: where hardly more than border is left, the border is what there is to compare
_HALO = 12  # pixels: evening out the contrast darkens or lightens what lies next to an edge, sigma by sigma


def plain_border(picture: np.ndarray) -> tuple[int, int, int, int]:
    """How deep plain borders reach into a picture.

    The lines of a border, parallel to its side, are calm: nearly nowhere does one change within a few pixels. (Across its lines a
    border may change: evened-out contrast has a halo there, and some frames have lines in them.) It ends in a straight edge.

    Parameters
    ----------
    picture : ndarray of uint8, shape (h, w)
        See `mpox.audit.local_features.LocalFeatures`.

    Returns
    -------
    tuple of int
        Pixels of the left, top, right and bottom border; 0 where there is none.
    """
    values = picture.astype(np.int16)
    return _depth(values.T), _depth(values), _depth(values.T[::-1]), _depth(values[::-1])


def _depth(lines: np.ndarray) -> int:
    """How many of the first lines, shape (n, length), are a border."""
    n = len(lines)
    if n < 16 or lines.shape[1] < 16:
        return 0
    calm = (np.abs(lines[:, _APART:] - lines[:, :-_APART]) <= _CALM).mean(axis=1) >= _SHARE
    run = n if calm.all() else int(calm.argmin())
    edge = (np.abs(lines[3:] - lines[:-3]) > _STEP).mean(axis=1) >= _EDGE  # between line d - 1 and line d + 2
    last = min(run + 2, int(_DEEPEST * n), n - 3)
    found = np.flatnonzero(edge[:last])
    if run < _LEAST or not len(found):
        return 0
    depth = int(found[-1]) + 2
    return depth if depth >= _LEAST else 0


def border_mask(picture: np.ndarray) -> np.ndarray | None:
    """Where a picture shows its plain borders, or the halo of their edges: uint8 (0 or 1) of shape (h, w).

    ``None`` where there is none, or hardly anything else.
    """
    borders = plain_border(picture)
    if not any(borders):
        return None
    left, top, right, bottom = (depth + _HALO if depth else 0 for depth in borders)
    mask = np.ones_like(picture)
    mask[top : picture.shape[0] - bottom, left : picture.shape[1] - right] = 0
    return mask if mask.mean() < _MOST else None
