"""Words for descriptors: a fixed vocabulary that depends on no data set, so that a new picture does not change the others' words.

It is learnt from synthetic textures. A word is a pair of centroids, one for each half of the descriptor (the inverted
multi-index of Babenko and Lempitsky 2012); within a word, descriptors are told apart by a 64-bit signature of where they lie
around its centre (Hamming embedding: Jegou, Douze and Schmid 2008).
"""

import functools
import io
import zipfile
from dataclasses import dataclass

import cv2
import numpy as np
import sklearn
from sklearn.cluster import MiniBatchKMeans

from mpox.audit import local_features
from mpox.audit.local_features import describe
from mpox.paths import atomic_write, cache_dir, locked

VERSION = 1
N_BITS = 64
_HALF = 64


@dataclass(frozen=True)
class Codebook:
    """A vocabulary of ``size ** 2`` words.

    Parameters
    ----------
    centroids : ndarray of float32, shape (2, size, 64)
        For the first and the second half of a descriptor.
    directions : ndarray of float32, shape (128, 64)
        The signature's random directions.
    """

    centroids: np.ndarray
    directions: np.ndarray

    @property
    def size(self) -> int:
        """Centroids a half."""
        return self.centroids.shape[1]

    def nearest(self, unit: np.ndarray, n: int) -> np.ndarray:
        """The n nearest centroids of each half, int of shape (2, k, n), for unit descriptors of shape (k, 128)."""
        found = []
        for half, centroids in zip((unit[:, :_HALF], unit[:, _HALF:]), self.centroids, strict=True):
            distance = (centroids**2).sum(axis=1)[None, :] - 2 * half @ centroids.T
            order = np.argpartition(distance, n - 1, axis=1)[:, :n] if n > 1 else distance.argmin(axis=1)[:, None]
            rows = np.arange(len(order))[:, None]
            found.append(order[rows, distance[rows, order].argsort(axis=1)])
        return np.stack(found)

    @functools.cached_property
    def _centres(self) -> list[np.ndarray]:
        return [c @ d for c, d in zip(self.centroids, (self.directions[:_HALF], self.directions[_HALF:]), strict=True)]

    def words(self, unit: np.ndarray, *, per_half: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Words and signatures of unit descriptors.

        Parameters
        ----------
        unit : ndarray, shape (k, 128)
        per_half : int
            Nearest centroids a half that are combined: 2 gives four words a descriptor.

        Returns
        -------
        words : ndarray of int64, shape (k, per_half ** 2)
        signatures : ndarray of uint64, the same shape
        """
        near = self.nearest(unit, per_half)
        projected = unit @ self.directions
        words, signatures = [], []
        for i in range(per_half):
            for j in range(per_half):
                first, second = near[0, :, i], near[1, :, j]
                residual = projected - self._centres[0][first] - self._centres[1][second]
                words.append(first * self.size + second)
                signatures.append(np.packbits(residual > 0, axis=1, bitorder="little").view(np.uint64).ravel())
        return np.stack(words, axis=1), np.stack(signatures, axis=1)


def _texture(rng: np.random.Generator, side: int = 224) -> np.ndarray:
    """Noise with a random spectrum, stretched, with a few spots and lines: what pictures are made of, seen from near."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side) * rng.uniform(0.5, 2), np.fft.rfftfreq(side), indexing="ij"))
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / np.maximum(frequency, 1 / side) ** rng.uniform(0.6, 1.8)
    field = np.fft.irfft2(spectrum, (side, side))
    picture = np.clip(128 + 40 * field / field.std(), 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 25)):
        centre, far = (tuple(int(v) for v in rng.integers(0, side, 2)) for _ in range(2))
        shade = int(rng.integers(0, 256))
        if rng.random() < 0.6:
            cv2.circle(picture, centre, int(rng.integers(2, 14)), shade, -1, cv2.LINE_AA)
        else:
            cv2.line(picture, centre, far, shade, int(rng.integers(1, 4)), cv2.LINE_AA)
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)


def _learn(size: int) -> Codebook:
    rng = np.random.default_rng(0)
    unit = np.concatenate([describe(_texture(rng)).unit for _ in range(60 if size <= 256 else 160)])
    halves = [
        MiniBatchKMeans(size, random_state=0, n_init=1, batch_size=4096, max_iter=30).fit(half).cluster_centers_
        for half in (unit[:, :_HALF], unit[:, _HALF:])
    ]
    directions = np.linalg.qr(rng.standard_normal((2 * _HALF, 2 * _HALF)))[0][:, :N_BITS]
    return Codebook(np.stack(halves).astype(np.float32), directions.astype(np.float32))


def vocabulary_name(size: int) -> str:
    """Names a vocabulary with all that it depends on: code, features and libraries."""
    made_by = f"opencv-{cv2.__version__}-sklearn-{sklearn.__version__}"
    return f"codebook-{VERSION}-{local_features.VERSION}-{size}-{made_by}"


@functools.lru_cache(maxsize=2)
def codebook(size: int = 256) -> Codebook:
    """The vocabulary with that many centroids a half; learnt on first use, in seconds, and kept in the cache.

    Raises
    ------
    MpoxError
        If the cache cannot be used.
    """
    path = cache_dir() / "audit" / f"{vocabulary_name(size)}.npz"
    with locked(f"{path}.lock"):
        try:
            with np.load(path) as stored:
                return Codebook(stored["centroids"], stored["directions"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or damaged: learnt anew
            found = _learn(size)
            buffer = io.BytesIO()
            np.savez(buffer, centroids=found.centroids, directions=found.directions)
            atomic_write(path, buffer.getvalue())
            return found
