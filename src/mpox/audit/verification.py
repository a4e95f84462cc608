"""Do two images show the same photograph? Local features propose how one lies on the other, and the images decide.

Descriptors are matched (mutual nearest neighbours that pass Lowe's ratio test; where that leads nowhere, those that agree on how
much larger and how far turned the copy is), an affine map is fitted to the matches by RANSAC (Fischler and Bolles 1981) and
polished by maximising the correlation (ECC: Evangelidis and Psarakis 2008), and the images are correlated where they overlap.
Matches alone do not decide: captions, logos and rulers match between photographs that have nothing else in common, while the
correlation is taken everywhere but where both images show a plain border: any two frames of one width agree.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mpox.audit.features import SHRINK, WINDOWS, LocalFeatures

#: Raised by one whenever the result for an unchanged pair of features changes.
VERSION = 5
_RATIO, _LOOSE_RATIO = 0.85, 0.97
_REACH = 8.0  # pixels of the scaled image by which a match may miss the fitted map
_MIN_MATCHES = 5
_MIN_INLIERS = 4
_MIN_PIXELS = 500  # of the correlated overlap
_WINDOW = 17  # pixels, of the local correlation
_PLAIN = 64.0  # variance of the evened-out image below which a window shows nothing
_MAX_STRETCH = 2.6  # ratio of the larger to the smaller scale of the map: photographs are squashed, not smeared
_SCALES = (0.12, 8.0)
_POLISH = (0.12, 0.93)  # correlations between which polishing is worth its time
_GOOD = 0.5  # agreement at which no further fit is tried
_OCTAVES, _ANGLES = np.arange(-2.5, 2.51, 0.5), np.arange(0, 360, 15)  # overlapping bins of the changes of size and direction
_ALIKE = 0.5  # correlation of thumbnails from which wholes are laid on each other


@dataclass(frozen=True)
class Verdict:
    """How a image a lies on a image b, and how well they agree.

    Plain borders of both images are left out. `agreement` leaves out windows that are plain in both, too: what a watermark
    cannot lift.
    """

    matches: int  # descriptors that match
    inliers: int  # those that the map explains
    correlation: float  # of the evened-out images over all of the overlap, -1 to 1; 0 where nothing could be compared
    agreement: float  # median of the local correlations in windows of 17 pixels, -1 to 1
    overlap: float  # its area over that of the smaller image, both as they lie on b, 0 to 1
    pixels: int  # that were compared, of the shrunken image
    transform: tuple[float, ...]  # a to f: (x, y) of a lies at (ax + by + c, dx + ey + f) of b, pixels from the corner, or NaN
    mirrored: bool


_NO_MAP = (float("nan"),) * 6
_Borders = tuple[np.ndarray, np.ndarray] | None  # of two images that both have some


def _matches(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of two sets of unit vectors that are each other's nearest, and how far they are compared with the second nearest."""
    if min(len(first), len(second)) < _MIN_MATCHES:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    cosine = first @ second.T
    rows = np.arange(len(first))
    nearest = cosine.argmax(axis=1)
    best = cosine[rows, nearest]
    mutual = cosine.argmax(axis=0)[nearest] == rows
    cosine[rows, nearest] = -1
    rival = cosine.max(axis=1)
    ratio = np.sqrt(np.maximum(1 - best, 0) / np.maximum(1 - rival, 1e-6))
    kept = mutual & (ratio < _LOOSE_RATIO)
    return rows[kept], nearest[kept], ratio[kept]


def _of_one_pose(change: np.ndarray) -> np.ndarray:
    """Which matches agree on the change of size (octaves) and direction (degrees): the fullest of overlapping bins, bool (k,)."""
    sized = np.abs(change[:, :1] - _OCTAVES) <= 0.5
    turned = np.abs((change[:, 1:] - _ANGLES + 180) % 360 - 180) <= 15
    if not len(change):
        return np.zeros(0, bool)
    counts = sized.astype(np.float32).T @ turned.astype(np.float32)
    octave, angle = np.unravel_index(counts.argmax(), counts.shape)
    return sized[:, octave] & turned[:, angle]


def _plausible(matrix: np.ndarray) -> bool:
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    upright = np.linalg.det(matrix[:, :2]) > 0  # a mirror image is compared as such, so the map never mirrors
    return bool(upright and small > _SCALES[0] and large < _SCALES[1] and large / small < _MAX_STRETCH)


def _shift(matrix: np.ndarray, sign: int = 1) -> np.ndarray:
    """From positions counted from the corner to positions counted from the first pixel's centre, as OpenCV warps; -1: back."""
    moved = matrix.copy()
    moved[:, 2] += sign * (matrix[:, :2] @ (0.5, 0.5) - 0.5)
    return moved


def _laid_over(
    first: np.ndarray, second: np.ndarray, matrix: np.ndarray, borders: _Borders = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`first` as it lies on `second`, `second`, both equally soft, and where both are known and not both are border."""
    height, width = second.shape
    shrink = 1 / np.sqrt(max(np.linalg.det(matrix[:, :2]), 1e-6))
    soft = cv2.GaussianBlur(first, (0, 0), 0.5 * shrink) if shrink > 1.2 else first
    warped = cv2.warpAffine(soft, matrix, (width, height), flags=cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.ones_like(first), matrix, (width, height), flags=cv2.INTER_NEAREST)
    known = cv2.erode(covered, np.ones((7, 7), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    if borders:
        known &= (cv2.warpAffine(borders[0], matrix, (width, height), flags=cv2.INTER_NEAREST) & borders[1]) == 0
    return cv2.GaussianBlur(warped, (0, 0), 1.2), cv2.GaussianBlur(second, (0, 0), 1.2), known


def _correlations(first: np.ndarray, second: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Correlation over all known pixels, and the median of the local ones."""
    a, b = first[known], second[known]
    a, b = a - a.mean(), b - b.mean()
    whole = float(a @ b / np.sqrt(max(float(a @ a) * float(b @ b), 1e-6)))
    weight = known.astype(np.float32)

    def total(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (_WINDOW, _WINDOW), normalize=False)[4::8, 4::8]

    count = np.maximum(total(weight), 1)
    x, y = first * weight, second * weight
    mean_x, mean_y = total(x) / count, total(y) / count
    covariance = total(x * y) / count - mean_x * mean_y
    variances = [np.maximum(total(v * v) / count - m * m, 4) for v, m in ((x, mean_x), (y, mean_y))]
    local = covariance / np.sqrt(variances[0] * variances[1])
    inside = known[4::8, 4::8] & (count > _WINDOW**2 / 3) & (np.maximum(*variances) > _PLAIN)
    return whole, float(np.median(local[inside])) if inside.any() else 0.0


def _polished(first: np.ndarray, second: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The map that maximises the correlation, from where it is; unchanged where that leads nowhere."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        _, back = cv2.findTransformECC(  # type: ignore[call-overload]  # OpenCV's stubs know no missing mask beside a filter
            second, first, cv2.invertAffineTransform(matrix).astype(np.float32), cv2.MOTION_AFFINE, criteria, None, 5
        )
    except cv2.error:  # it did not converge
        return matrix
    found = cv2.invertAffineTransform(back.astype(np.float64))
    return found if np.isfinite(found).all() and _plausible(found) else matrix


def compare(a: LocalFeatures, b: LocalFeatures, *, mirrored: bool = False) -> Verdict:
    """Hold image a, or its mirror image, against image b."""
    one = a.mirrored if mirrored else a
    borders = None if one.border is None or b.border is None else (one.border, b.border)
    rows, columns, ratio = _matches(one.unit, b.unit)
    if borders:
        within = ~(_on(borders[0], one.points[rows]) & _on(borders[1], b.points[columns]))
        rows, columns, ratio = rows[within], columns[within], ratio[within]
    start, end = one.points[rows].astype(np.float64), b.points[columns].astype(np.float64)
    pictures = one.picture.astype(np.float32), b.picture.astype(np.float32)
    areas = [SHRINK**2 * float(np.sum(mask == 0) if borders else mask.size) for mask in borders or pictures]
    best = Verdict(int((ratio < _RATIO).sum()), 0, 0.0, 0.0, 0.0, 0, _NO_MAP, mirrored)
    for propose in (
        lambda: _fit(start, end, ratio < _RATIO),
        lambda: _fit(start, end, _of_one_pose(b.poses[columns] - one.poses[rows])),
        lambda: _fit_wholes(one, b),
    ):
        matches, inliers, matrix = propose()
        overlay = None if matrix is None else _overlay(*pictures, matrix, borders)
        if overlay is not None and overlay[1] > best.agreement:
            matrix, agreement, correlation, pixels = overlay
            scale = np.linalg.det(matrix[:, :2])
            coarse = 1 / max(float(scale), 1.0)  # the overlap was counted on the coarser image
            overlap = SHRINK**2 * pixels / min(scale * areas[0], areas[1]) / coarse
            transform = _in_own_pixels(matrix, a, b, mirrored=mirrored)
            best = Verdict(
                matches, inliers, round(correlation, 4), round(agreement, 4), round(min(overlap, 1.0), 4), pixels,
                transform, mirrored,
            )  # fmt: skip
        if best.agreement > _GOOD:
            break
    return best


def _on(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points of the scaled image lie on the mask of the shrunken one, bool (k,)."""
    x, y = (np.clip(points / SHRINK, 0, np.array(mask.shape[::-1]) - 1).astype(int)).T
    return mask[y, x] > 0


def _fit(start: np.ndarray, end: np.ndarray, chosen: np.ndarray) -> tuple[int, int, np.ndarray | None]:
    """An affine map of the chosen points on points by RANSAC: how many were chosen, how many it explains, the map or ``None``."""
    count = int(chosen.sum())
    if count < _MIN_MATCHES:
        return count, 0, None
    cv2.setRNGSeed(0)
    matrix, inlier = cv2.estimateAffine2D(
        start[chosen], end[chosen], method=cv2.RANSAC, ransacReprojThreshold=_REACH, maxIters=2000, confidence=0.999
    )
    if matrix is None or inlier.sum() < _MIN_INLIERS or not _plausible(matrix):
        return count, 0, None
    return count, int(inlier.sum()), matrix


def _fit_wholes(a: LocalFeatures, b: LocalFeatures) -> tuple[int, int, np.ndarray | None]:
    """As `_fit`, from the images as wholes: one laid on that part of the other which its thumbnail resembles most, then moved
    by correlation from coarse to fine. For images too soft for details; there are no matches to be counted."""
    inside, around = b.thumbnails @ a.thumbnails[0], a.thumbnails @ b.thumbnails[0]
    turned = around.max() > inside.max()
    likeness = around if turned else inside
    window = int(likeness.argmax())
    if likeness[window] < _ALIKE:
        return 0, 0, None
    first, second = (b.picture, a.picture) if turned else (a.picture, b.picture)
    left, top, right, bottom = WINDOWS[window]
    (height, width), (rows, columns) = second.shape, first.shape
    matrix = np.array(
        [[(right - left) * width / columns, 0, left * width], [0, (bottom - top) * height / rows, top * height]], float
    )
    for level in (4, 2):
        size = [[max(n // level, 16) for n in picture.shape[::-1]] for picture in (first, second)]
        above, below = (
            cv2.resize(picture, wanted, interpolation=cv2.INTER_AREA).astype(np.float32)
            for picture, wanted in zip((first, second), size, strict=True)
        )
        of_first, of_second = (
            np.array(wanted) / picture.shape[::-1] for picture, wanted in zip((first, second), size, strict=True)
        )
        coarse = matrix * of_second[:, None] / [*of_first, 1]
        _, _, known = _laid_over(above, below, _shift(coarse))
        if known.sum() < _MIN_PIXELS / level**2:
            return 0, 0, None
        matrix = _shift(_polished(above, below, _shift(coarse)), -1) / of_second[:, None] * [*of_first, 1]
    matrix = cv2.invertAffineTransform(matrix) if turned else matrix
    matrix[:, 2] *= SHRINK
    return 0, 0, matrix


def _overlay(
    first: np.ndarray, second: np.ndarray, matrix: np.ndarray, borders: _Borders
) -> tuple[np.ndarray, float, float, int] | None:
    """Lay one image on the other by a map of the scaled images: the polished map, agreement, correlation, compared pixels."""
    small = matrix.copy()
    small[:, 2] /= SHRINK
    enlarges = np.linalg.det(small[:, :2]) > 1  # the coarser of the two images is the common ground
    if enlarges:
        first, second, small = second, first, cv2.invertAffineTransform(small)
        borders = borders and borders[::-1]
    laid = _laid_over(first, second, _shift(small), borders)
    if laid[2].sum() < _MIN_PIXELS:
        return None
    whole, local = _correlations(*laid)
    if _POLISH[0] < whole < _POLISH[1]:
        better = _polished(first, second, _shift(small))
        again = _laid_over(first, second, better, borders)
        found = _correlations(*again) if again[2].sum() >= _MIN_PIXELS else (-1.0, -1.0)
        if found[0] > whole:
            (whole, local), laid, small = found, again, _shift(better, -1)
    pixels = int(laid[2].sum())
    small = cv2.invertAffineTransform(small) if enlarges else small
    small[:, 2] *= SHRINK
    return small, local, whole, pixels


def _in_own_pixels(matrix: np.ndarray, a: LocalFeatures, b: LocalFeatures, *, mirrored: bool) -> tuple[float, ...]:
    """The map between the scaled images, of the mirror image of a if `mirrored`, as one between the images themselves."""
    width = a.picture.shape[1] * SHRINK
    turn = np.array([[-1.0, 0, width], [0, 1, 0]]) if mirrored else np.eye(2, 3)
    linear = matrix[:, :2] @ turn[:, :2]
    offset = matrix[:, :2] @ turn[:, 2] + matrix[:, 2]
    linear = linear * a.scale[None, :] / b.scale[:, None]
    offset = offset / b.scale
    return tuple(round(float(v), 5) for v in (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1]))
