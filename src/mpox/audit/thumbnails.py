"""Pictures as a whole, small: every picture against every picture and against the halves and thirds of it."""

import cv2
import numpy as np

SIDE = 16
#: left, top, right, bottom as parts of the picture: the whole, halves, thirds.
WINDOWS = (
    [(0, 0, 1, 1)]
    + [(k / n, 0, (k + 1) / n, 1) for n in (2, 3) for k in range(n)]
    + [(0, k / n, 1, (k + 1) / n) for n in (2, 3) for k in range(n)]
)
_BLOCK = 2048


def thumbnails(picture: np.ndarray) -> np.ndarray:
    """Unit vectors of the whole picture and of its parts: float32 of shape (11, SIDE * SIDE), from uint8 (height, width)."""
    height, width = picture.shape
    rows = []
    for left, top, right, bottom in WINDOWS:
        part = picture[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        small = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        rows.append(small / max(float(np.linalg.norm(small)), 1e-6))
    return np.stack(rows)


def alike(tables: list[np.ndarray], n_best: int) -> list[tuple[int, int, bool]]:
    """For every picture the pictures that it resembles most, whole against whole or part.

    Parameters
    ----------
    tables : list of ndarray
        From `thumbnails`, one a picture.
    n_best : int
        How many, direct and mirrored together.

    Returns
    -------
    list of (int, int, bool)
        Number of the picture, number of the one it resembles, and whether mirrored.
    """
    parts = np.stack(tables)
    wholes = parts[:, 0]
    mirrored = wholes.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(parts), -1)
    rows = []
    for start in range(0, len(parts), _BLOCK):
        stop = min(start + _BLOCK, len(parts))
        scores = []
        for asked in (wholes[start:stop], mirrored[start:stop]):
            best = np.full((stop - start, len(parts)), -1, np.float32)
            for window in range(len(WINDOWS)):
                np.maximum(best, asked @ parts[:, window].T, out=best)
            best[np.arange(stop - start), np.arange(start, stop)] = -1
            scores.append(best)
        both = np.concatenate(scores, axis=1)
        order = np.argpartition(-both, min(n_best, both.shape[1] - 1), axis=1)[:, :n_best]
        for number, found in enumerate(order, start):
            rows += [(number, int(b % len(parts)), bool(b >= len(parts))) for b in found]
    return rows
