"""What the audit compares of an image: local features inside its borders, and thumbnails."""

import functools
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write, cache_dir, explaining
from mpox.data.pictures import pixel_hash, printable, read_rgb

#: Raised by one whenever the features of an unchanged image change.
VERSION = 3
#: Long side in pixels of the image in which keypoints are sought; positions are in these pixels.
SIDE = 448
#: How much smaller the image is that is correlated.
SHRINK = 2
#: Keypoints that are asked for, and how many there may be: OpenCV adds all that are as strong as the weakest.
N_KEYPOINTS, MOST_KEYPOINTS = 600, 1000
_SPREAD = 24  # sigma of the local mean and contrast, pixels
_FLOOR = 3.0  # grey levels: contrast below this is noise, and is not lifted
_ARRAYS = ("points", "poses", "descriptors", "picture")
_SCALE = 512  # RootSIFT values, 0 to 1, are stored as bytes


@dataclass(frozen=True)
class LocalFeatures:
    """What is kept of a image; what is derived from it is kept once it was asked for."""

    width: int  # of the image itself, pixels
    height: int
    points: np.ndarray  # (k, 2) float32: x, y in the image scaled to a long side of `SIDE`, the first pixel's centre at 0.5
    poses: np.ndarray  # (k, 2) float32: size of the keypoint (base-2 logarithm of pixels), direction (degrees, 0 to 360)
    descriptors: np.ndarray  # (k, 128) uint8: RootSIFT, scaled by 512
    picture: np.ndarray  # (h, w) uint8: grey, contrast evened out, long side ``SIDE / SHRINK``

    @functools.cached_property
    def unit(self) -> np.ndarray:
        """The descriptors as unit vectors, float32."""
        values = self.descriptors.astype(np.float32)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)

    @functools.cached_property
    def thumbnails(self) -> np.ndarray:
        """Unit vectors of the whole image and of its parts (`WINDOWS`): float32 of shape (11, 16 * 16)."""
        height, width = self.picture.shape
        rows = []
        for left, top, right, bottom in WINDOWS:
            part = self.picture[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
            small = cv2.resize(part, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
            small -= small.mean()
            rows.append(small / max(float(np.linalg.norm(small)), 1e-6))
        return np.stack(rows)

    @functools.cached_property
    def border(self) -> np.ndarray | None:
        """Where the image shows its plain borders, or the halo of their edges: uint8 (0 or 1) of shape (h, w), or none."""
        borders = plain_border(self.picture)
        left, top, right, bottom = (depth + _HALO if depth else 0 for depth in borders)
        mask = np.ones_like(self.picture)
        mask[top : mask.shape[0] - bottom, left : mask.shape[1] - right] = 0
        return mask if any(borders) and mask.mean() < _MOST else None

    @functools.cached_property
    def mirrored(self) -> "LocalFeatures":
        """What would be kept of the mirror image; left and right are exchanged."""
        points, poses = self.points.copy(), self.poses.copy()
        points[:, 0] = self.picture.shape[1] * SHRINK - points[:, 0]
        poses[:, 1] = (180 - poses[:, 1]) % 360
        picture = np.ascontiguousarray(self.picture[:, ::-1])
        return LocalFeatures(self.width, self.height, points, poses, self.descriptors[:, MIRRORED], picture)

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the scaled image for one pixel of the image itself, along x and y, shape (2,)."""
        return np.array(_scaled_size(self.width, self.height)) / (self.width, self.height)


#: Where each of the 128 values of a descriptor comes from when the image is mirrored: OpenCV's layout is 4 rows, 4 columns
#: and 8 directions in the keypoint's own frame, in which a mirrored patch has its rows and its directions reversed.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1, :, (-np.arange(8)) % 8].ravel()


def _scaled_size(width: int, height: int) -> tuple[int, int]:
    factor = SIDE / max(width, height)
    return max(round(width * factor), 8), max(round(height * factor), 8)


def even_contrast(grey: np.ndarray) -> np.ndarray:
    """Subtract the local mean and divide by the local contrast: uint8 to uint8, mean 128, deviation about 40."""
    values = grey.astype(np.float32)
    values -= cv2.GaussianBlur(values, (0, 0), _SPREAD)
    contrast = np.sqrt(cv2.GaussianBlur(values * values, (0, 0), _SPREAD))
    return np.clip(128 + 40 * values / (contrast + _FLOOR), 0, 255).astype(np.uint8)


def describe(picture: np.ndarray) -> LocalFeatures:
    """The local features of a image, uint8 of shape (height, width, 3).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = describe(cv2.resize(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), (240, 160)))
    >>> found.picture.shape, found.descriptors.shape[1], len(found.points) > 100
    ((150, 224), 128, True)
    """
    height, width = picture.shape[:2]
    size = _scaled_size(width, height)
    shrinks = size[0] < width
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    even = even_contrast(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
    sift = cv2.SIFT.create(nfeatures=N_KEYPOINTS, contrastThreshold=0.02, edgeThreshold=12)
    keypoints, found = sift.detectAndCompute(even, None)
    if found is None:
        found = np.zeros((0, 128), np.float32)
    # on a regular pattern thousands are equally strong
    strongest = np.sort(np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")[:MOST_KEYPOINTS])
    keypoints, found = [keypoints[number] for number in strongest], found[strongest]
    root = np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6))
    return LocalFeatures(
        width=width,
        height=height,
        points=np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2) + 0.5,
        poses=np.array([(np.log2(keypoint.size), keypoint.angle) for keypoint in keypoints], np.float32).reshape(-1, 2),
        descriptors=np.clip(np.rint(root * _SCALE), 0, 255).astype(np.uint8),
        picture=cv2.resize(even, None, fx=1 / SHRINK, fy=1 / SHRINK, interpolation=cv2.INTER_AREA),
    )


def _cached(key: str) -> Path:
    return cache_dir() / "audit" / f"features-{VERSION}-opencv-{cv2.__version__}" / key[:2] / f"{key}.npz"


def read_features(key: str) -> LocalFeatures:
    """Read the features of the image with this ``pixel_sha256``; `ensure_features` has put them there."""
    path = _cached(key)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MpoxError(f"The features {path.name} are not in the cache (any more): run it again.") from error
    except OSError as error:
        reason = f"The cache {path.parent} cannot be used ({error.strerror})"
        raise MpoxError(f"{reason}: make it readable, or set MPOX_CACHE.") from error
    try:
        with np.load(io.BytesIO(content)) as stored:
            width, height = stored["size"].tolist()
            return LocalFeatures(width, height, *(stored[name] for name in _ARRAYS))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        with explaining(path.parent):
            path.unlink(missing_ok=True)
        raise MpoxError(f"The cached features {path.name} were damaged and have been removed: run it again.") from error


@functools.lru_cache(maxsize=120)  # about a megabyte each; joblib replaces workers that grow by 300 megabytes
def recent_features(key: str) -> LocalFeatures:
    """`read_features`, remembering the images asked for last."""
    return read_features(key)


def _write_features(key: str, path: str) -> None:
    cv2.setNumThreads(1)
    picture = read_rgb(path)
    if pixel_hash(picture) != key:
        raise MpoxError(f"{printable(Path(path).name)} was changed since it was scanned: run it again.")
    found = describe(np.asarray(picture))
    buffer = io.BytesIO()
    arrays = {name: getattr(found, name) for name in _ARRAYS}
    np.savez(buffer, size=np.array([found.width, found.height]), **arrays)
    atomic_write(_cached(key), buffer.getvalue())


def ensure_features(images: pd.DataFrame, *, jobs: int | None = None, progress: bool = True) -> int:
    """Compute the features of all images not in the cache yet."""
    distinct = images.drop_duplicates("pixel_sha256")
    missing = distinct[[not _cached(key).is_file() for key in distinct["pixel_sha256"]]]
    work = list(zip(missing["pixel_sha256"], missing["path"], strict=True))
    for _ in parallel(_write_features, work, title="audit 1/3: local features", jobs=jobs, progress=progress):
        pass
    return len(work)


def parallel(function, work: list[tuple], *, title: str, jobs: int | None = None, chunk: int = 8, progress: bool = True):
    """Call ``function(*item)`` for every item, in processes when there is enough to do; results come in order, under a bar."""
    jobs = min(jobs or cpu_count(), -(-len(work) // chunk))
    if jobs <= 1:
        results = (function(*item) for item in work)
    else:
        pool = Parallel(jobs, return_as="generator", batch_size=chunk, pre_dispatch=8 * jobs * chunk)
        results = pool(delayed(function)(*item) for item in work)
    shown = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}]"  # no time left: the first items start processes
    return tqdm(results, total=len(work), desc=title, delay=3, leave=False, disable=not progress, bar_format=shown)


THUMBNAIL_SIDE = 16
#: left, top, right, bottom as parts of the image: the whole, halves, thirds.
WINDOWS = (
    [(0, 0, 1, 1)]
    + [(k / n, 0, (k + 1) / n, 1) for n in (2, 3) for k in range(n)]
    + [(0, k / n, 1, (k + 1) / n) for n in (2, 3) for k in range(n)]
)
_BLOCK = 2048


def alike(tables: list[np.ndarray], n_best: int) -> list[tuple[int, int, bool]]:
    """For every image those that it resembles most, whole against whole or part."""
    parts = np.stack(tables)
    wholes = parts[:, 0]
    mirrored = wholes.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)[:, :, ::-1].reshape(len(parts), -1)
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


_APART = 4  # pixels along a line between which it may not change
_CALM, _SHARE = 10.0, 0.8  # levels, and the share of a line that is as calm as that: a logo may stand in a border
_STEP, _EDGE = 25.0, 0.5  # levels by which a image differs from its border, and the share of a line that does
_LEAST, _DEEPEST = 3, 0.45  # pixels; part of a side
_MOST = 0.9  # part of a image: where hardly more than border is left, the border is what there is to compare
_HALO = 12  # pixels: evening out the contrast darkens or lightens what lies next to an edge, sigma by sigma


def plain_border(picture: np.ndarray) -> tuple[int, int, int, int]:
    """How deep plain borders reach into a image."""
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
