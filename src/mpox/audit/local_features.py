"""Local features of pictures: what is compared when two pictures are held against each other. Computed once a picture.

A picture is made grey, brought to one size, and its contrast is evened out locally, so that colour, exposure and soft dark skin
do not decide how much of it can be recognised. Keypoints and descriptors are SIFT's (Lowe 2004, IJCV 60), the descriptors in
their Hellinger form (RootSIFT: Arandjelovic and Zisserman 2012, CVPR).
"""

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

from mpox.audit.borders import border_mask
from mpox.audit.thumbnails import thumbnails
from mpox.errors import MpoxError
from mpox.paths import atomic_write, cache_dir, explaining
from mpox.pictures import pixel_hash, printable, read_rgb

#: Raised by one whenever the features of an unchanged picture change.
VERSION = 3
#: Long side in pixels of the picture in which keypoints are sought; positions are in these pixels.
SIDE = 448
#: How much smaller the picture is that is correlated.
SHRINK = 2
#: Keypoints that are asked for, and how many there may be: OpenCV adds all that are as strong as the weakest.
N_KEYPOINTS, MOST_KEYPOINTS = 600, 1000
_SPREAD = 24  # sigma of the local mean and contrast, pixels
_FLOOR = 3.0  # grey levels: contrast below this is noise, and is not lifted
_ARRAYS = ("points", "poses", "descriptors", "picture")
_SCALE = 512  # RootSIFT values, 0 to 1, are stored as bytes


@dataclass(frozen=True)
class LocalFeatures:
    """What is kept of a picture.

    Parameters
    ----------
    width, height : int
        Of the picture itself, pixels.
    points : ndarray of float32, shape (k, 2)
        Positions x, y in the picture scaled to a long side of `SIDE` pixels, the first pixel's centre at 0.5.
    poses : ndarray of float32, shape (k, 2)
        Size of the keypoint (base-2 logarithm of pixels) and direction (degrees, 0 to 360).
    descriptors : ndarray of uint8, shape (k, 128)
        RootSIFT, scaled by 512.
    picture : ndarray of uint8, shape (h, w)
        Grey, contrast evened out, long side ``SIDE / SHRINK``.
    """

    width: int
    height: int
    points: np.ndarray
    poses: np.ndarray
    descriptors: np.ndarray
    picture: np.ndarray

    @functools.cached_property
    def unit(self) -> np.ndarray:
        """The descriptors as unit vectors, see `as_unit`; kept, once asked for."""
        return as_unit(self.descriptors)

    @functools.cached_property
    def thumbnails(self) -> np.ndarray:
        """See `mpox.audit.thumbnails.thumbnails`; kept, once asked for."""
        return thumbnails(self.picture)

    @functools.cached_property
    def border(self) -> np.ndarray | None:
        """See `mpox.audit.borders.border_mask`; kept, once asked for."""
        return border_mask(self.picture)

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
        """Pixels of the scaled picture for one pixel of the picture itself, along x and y, shape (2,)."""
        return np.array(_scaled_size(self.width, self.height)) / (self.width, self.height)


#: Where each of the 128 values of a descriptor comes from when the picture is mirrored: OpenCV's layout is 4 rows, 4 columns
#: and 8 directions in the keypoint's own frame, in which a mirrored patch has its rows and its directions reversed.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1, :, (-np.arange(8)) % 8].ravel()


def as_unit(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors, uint8 of shape (k, 128), as unit vectors, float32."""
    values = descriptors.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


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
    """The local features of a picture, uint8 of shape (height, width, 3).

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
    """Read the features of the picture with this ``pixel_sha256``; `ensure_features` has put them there.

    Raises
    ------
    MpoxError
        If the file is not there, or damaged; then it is removed, so that the next run makes it anew. If it cannot be read.
    """
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
    """`read_features`, remembering the pictures that were asked for last."""
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
    """Compute the features of all pictures that are not in the cache yet.

    Parameters
    ----------
    images : DataFrame
        With ``pixel_sha256`` and ``path``.
    jobs : int, optional
        Processes; all cores by default.
    progress : bool

    Returns
    -------
    int
        How many had to be computed.

    Raises
    ------
    MpoxError
        If a picture is not the one any more that was scanned, or the cache cannot be used; `UnusablePicture` if it cannot be
        read any more.
    """
    distinct = images.drop_duplicates("pixel_sha256")
    missing = distinct[[not _cached(key).is_file() for key in distinct["pixel_sha256"]]]
    work = list(zip(missing["pixel_sha256"], missing["path"], strict=True))
    bar = tqdm(total=len(work), desc="audit: local features", unit="picture", delay=3, leave=False, disable=not progress)
    with bar:
        for _ in parallel(_write_features, work, jobs=jobs):
            bar.update()
    return len(work)


def parallel(function, work: list[tuple], *, jobs: int | None = None, chunk: int = 8):
    """Call ``function(*item)`` for every item, in processes when there is enough to do; results come in order."""
    jobs = min(jobs or cpu_count(), -(-len(work) // chunk))
    if jobs <= 1:
        return (function(*item) for item in work)
    pool = Parallel(jobs, return_as="generator", batch_size=chunk, pre_dispatch=8 * jobs * chunk)
    return pool(delayed(function)(*item) for item in work)
