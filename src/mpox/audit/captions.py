"""Does a picture bear text? A detector of lines of letters, for flagging pictures, not for reading them."""

import cv2
import numpy as np

#: Long side in pixels to which a picture is brought before letters are sought.
SIDE = 672
_HEIGHTS = (7, 90)  # pixels of a letter at that size
_MIN_LETTERS = 5


def _letters(grey: np.ndarray) -> np.ndarray:
    """Boxes (x, y, width, height) and contrast of the stable regions that could be letters, shape (n, 5)."""
    height, width = grey.shape
    mser = cv2.MSER.create(delta=12, min_area=18, max_area=4000, max_variation=0.35)
    regions, boxes = mser.detectRegions(grey)
    rows = []
    for region, (x, y, w, h) in zip(regions, boxes, strict=True):
        points = np.asarray(region)
        if not (_HEIGHTS[0] <= h <= _HEIGHTS[1]) or not 0.12 <= w / h <= 2.2:
            continue
        fill = len(points) / (w * h)
        if not 0.15 <= fill <= 0.95:
            continue
        inside = grey[points[:, 1], points[:, 0]]
        x0, y0, x1, y1 = max(x - 2, 0), max(y - 2, 0), min(x + w + 2, width), min(y + h + 2, height)
        rim = np.concatenate([grey[y0, x0:x1], grey[y1 - 1, x0:x1], grey[y0:y1, x0], grey[y0:y1, x1 - 1]])
        contrast = float(np.median(inside)) - float(np.median(rim))
        if abs(contrast) < 45 or inside.std() > 30:
            continue
        rows.append((x, y, w, h, contrast))
    return np.array(rows, float).reshape(-1, 5)


def _distinct(letters: np.ndarray) -> np.ndarray:
    """One of each set of nested regions: the same letter is stable at several thresholds."""
    order = np.argsort(-letters[:, 2] * letters[:, 3], kind="stable")
    kept: list[np.ndarray] = []
    for row in letters[order]:
        x, y, w, h, _ = row
        for other in kept:
            across = min(x + w, other[0] + other[2]) - max(x, other[0])
            down = min(y + h, other[1] + other[3]) - max(y, other[1])
            if across > 0 and down > 0 and across * down > 0.5 * w * h:
                break
        else:
            kept.append(row)
    return np.array(kept).reshape(-1, 5)


def text_lines(picture: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Boxes of what looks like a horizontal line of letters.

    Letters are maximally stable extremal regions (Matas et al. 2002, BMVC) that stand out from their surroundings; a line is
    five or more of one polarity and similar height, side by side on one base line. Handwriting, vertical or slanted text and
    faint watermarks are not found.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    list of tuple
        ``(left, top, right, bottom)`` as shares of width and height, 0 to 1.
    """
    height, width = picture.shape[:2]
    factor = SIDE / max(height, width)
    size = (max(round(width * factor), 8), max(round(height * factor), 8))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    letters = _letters(grey)
    lines = []
    for sign in (-1, 1):
        found = _distinct(letters[np.sign(letters[:, 4]) == sign])
        lines += [_box(line, size) for line in _rows_of_letters(found)]
    return lines


def _box(line: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top = line[:, 0].min() / size[0], line[:, 1].min() / size[1]
    return left, top, (line[:, 0] + line[:, 2]).max() / size[0], (line[:, 1] + line[:, 3]).max() / size[1]


def _rows_of_letters(letters: np.ndarray) -> list[np.ndarray]:
    """Chains of neighbouring letters, left to right."""
    letters = letters[np.argsort(letters[:, 0], kind="stable")]
    chain = np.arange(len(letters))
    for i, (x, y, w, h, contrast) in enumerate(letters):
        for j in range(i + 1, len(letters)):
            x2, y2, w2, h2, contrast2 = letters[j]
            gap = x2 - (x + w)
            if gap > 1.4 * max(h, h2):
                continue
            level = min(abs((y + h) - (y2 + h2)), abs(y + h / 2 - y2 - h2 / 2))
            alike = max(h, h2) < 1.9 * min(h, h2) and abs(contrast - contrast2) < 0.5 * max(abs(contrast), abs(contrast2))
            if gap > -0.4 * min(w, w2) and level < 0.22 * max(h, h2) and alike:
                chain[chain == chain[j]] = chain[i]
    lines = []
    for name in np.unique(chain):
        line = letters[chain == name]
        spread = line[:, 0].max() - line[:, 0].min()
        if len(line) >= _MIN_LETTERS and spread > 3.0 * np.median(line[:, 3]) and _is_straight(line):
            lines.append(line)
    return lines


def _is_straight(line: np.ndarray) -> bool:
    """Whether the letters stand on one horizontal line, and are spaced and sized as letters are."""
    bottom = line[:, 1] + line[:, 3]
    height = np.median(line[:, 3])
    return bool(np.median(np.abs(bottom - np.median(bottom))) < 0.15 * height and np.ptp(np.log(line[:, 3])) < np.log(3.2))
