"""Which pairs of images are worth comparing: those that share rare local features, or look alike as a whole."""

import contextlib
import functools
import hashlib
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import sklearn
from sklearn.cluster import MiniBatchKMeans

from mpox._core import atomic_write, cache_dir, csv_text, locked
from mpox.audit import features
from mpox.audit.features import SHRINK, LocalFeatures, alike, describe, parallel, read_features

CODEBOOK_VERSION = 1
N_BITS = 64
_HALF = 64


@dataclass(frozen=True)
class Codebook:
    """A vocabulary of ``size ** 2`` words."""

    centroids: np.ndarray  # (2, size, 64) float32, for the first and the second half of a descriptor
    directions: np.ndarray  # (128, 64) float32: the signature's random directions

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
        """Words and signatures of unit descriptors."""
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
    """Noise with a random spectrum, stretched, with a few spots and lines: what images are made of, seen from near."""
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
    return f"codebook-{CODEBOOK_VERSION}-{features.VERSION}-{size}-{made_by}"


@functools.lru_cache(maxsize=2)
def codebook(size: int = 256) -> Codebook:
    """The vocabulary with that many centroids a half; learnt on first use, in seconds, and kept in the cache."""
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


#: Raised by one whenever the candidates of unchanged images change.
RETRIEVAL_VERSION = 2
#: Bits of 64 in which the signatures of the same detail may differ: where the shortlist is made, and where its places are asked.
SURE_BITS, MAX_BITS = 20, 26
#: Candidates a image by its details, and by its thumbnail; direct and mirrored together.
N_BY_DETAILS, N_BY_WHOLE = 20, 4
_SHORTLIST = 200  # images whose details are asked where the copy's middle lies; direct and mirrored each
_CROWDED = 1000  # descriptors in a word above which it says nothing
_SOFTNESS = 20.0  # bits; a detail whose signature differs by so many has a weight of 1/e
_TURN = 40.0  # degrees; bins of direction, which overlap by half, as do those of size (an octave) and place
_PLACE = 150.0  # pixels of the scaled image, times how much larger the copy is
_SHIFTS = (0, 0.5)
_CELL_BITS, _DETAIL_BITS, _WEIGHT_BITS = 5, 12, 8  # of the numbers that are sorted; the image has the rest
_BATCH = 32  # images a call of a process


def _book_size(n_pictures: int) -> int:
    return 256 if n_pictures < 2500 else 512 if n_pictures < 10_000 else 1024


@dataclass(frozen=True)
class _Index:
    """An inverted file: for every word, which descriptors are in it; the descriptors lie in the order of their words."""

    book: Codebook
    starts: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    owners: np.ndarray
    signatures: np.ndarray
    poses: np.ndarray
    points: np.ndarray


def _index(book: Codebook, keys: list[str]) -> tuple[_Index, list[np.ndarray]]:
    """The inverted file of all images, and their thumbnails; only one picture's features are held at a time."""
    words, signatures, poses, points, thumbnails = [], [], [], [], []
    for key in keys:
        picture = read_features(key)
        word, signature = book.words(picture.unit)
        words.append(word.ravel().astype(np.int32))
        signatures.append(signature.ravel())
        poses.append(picture.poses)
        points.append(picture.points)
        thumbnails.append(picture.thumbnails)
    owners = np.repeat(np.arange(len(keys), dtype=np.int32), [len(word) for word in words])
    joined = np.concatenate(words)
    order = np.argsort(joined, kind="stable")
    counts = np.bincount(joined, minlength=book.size**2)
    index = _Index(
        book=book,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        counts=np.where(counts > _CROWDED, 0, counts),
        weights=np.sqrt(np.log1p(len(keys) / np.maximum(counts, 1))).astype(np.float32),
        owners=owners[order],
        signatures=np.concatenate(signatures)[order],
        poses=np.concatenate(poses)[order],
        points=np.concatenate(points)[order],
    )
    return index, thumbnails


def _votes(index: _Index, picture: LocalFeatures, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images other than `number` that share details with this one, and how much speaks for each."""
    words, signatures = index.book.words(picture.unit, per_half=2)
    asking = np.repeat(np.arange(len(words)), words.shape[1])
    words, signatures = words.ravel(), signatures.ravel()
    counts = index.counts[words]
    where = np.repeat(np.arange(len(words)), counts)
    found = np.arange(len(where)) + np.repeat(index.starts[words] - np.cumsum(counts) + counts, counts)
    bits = np.bitwise_count(signatures[where] ^ index.signatures[found])
    near = (bits <= MAX_BITS) & (index.owners[found] != number)
    where, found = where[near], found[near]
    asked, owners = asking[where], index.owners[found]
    weights = index.weights[words[where]] * np.exp(-((bits[near] / _SOFTNESS) ** 2))
    weights = np.minimum(weights * 80, (1 << _WEIGHT_BITS) - 1).astype(np.int64)
    pose = index.poses[found] - picture.poses[asked]
    sure = bits[near] <= SURE_BITS
    pictures, votes = _fullest(owners[sure], asked[sure], weights[sure], pose[sure])
    kept = np.isin(owners, pictures[np.argsort(-votes, kind="stable")[:_SHORTLIST]])
    asked, found, pose = asked[kept], found[kept], pose[kept]
    return _fullest(owners[kept], asked, weights[kept], pose, _middles(index, picture, asked, found, pose))


def _middles(index: _Index, picture: LocalFeatures, asked: np.ndarray, found: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Where each pair of details puts the middle of the asking image, in the found one: shape (k, 2)."""
    middle = np.array(picture.picture.shape[::-1]) * (SHRINK / 2)
    away = (middle - picture.points[asked]) * np.exp2(pose[:, :1])
    cos, sin = np.cos(np.deg2rad(pose[:, 1])), np.sin(np.deg2rad(pose[:, 1]))
    turned = np.stack([cos * away[:, 0] - sin * away[:, 1], sin * away[:, 0] + cos * away[:, 1]], axis=1)
    return index.points[found] + turned


def _bins(owners: np.ndarray, pose: np.ndarray, middles: np.ndarray | None) -> Iterator[np.ndarray]:
    """The bin of each pair of details, as one number under which its image comes first; one array a shift of the bins."""

    def within(key: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return key << _CELL_BITS | np.clip(np.floor(cell).astype(np.int64) + 16, 0, 31)

    for size_shift, turn_shift in itertools.product(_SHIFTS, repeat=2):
        size = np.floor(pose[:, 0] + size_shift)
        posed = within(within(owners.astype(np.int64), size), (pose[:, 1] % 360 / _TURN + turn_shift) % (360 / _TURN))
        if middles is None:
            yield posed
            continue
        width = _PLACE * np.exp2(np.clip(size - size_shift + 0.5, -2.5, 2.5))
        x, y = middles[:, 0] / width, middles[:, 1] / width
        for x_shift in _SHIFTS:
            placed = within(posed, x + x_shift)
            for y_shift in _SHIFTS:
                yield within(placed, y + y_shift)


def _fullest(
    owners: np.ndarray, asked: np.ndarray, weights: np.ndarray, pose: np.ndarray, middles: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The votes in the fullest bin of each image; bins are of size, direction and, if given, place, and overlap by half."""
    assert asked.max(initial=0) < 1 << _DETAIL_BITS  # a image has `MOST_KEYPOINTS` details at most
    best = np.zeros(int(owners.max(initial=-1)) + 1, np.int64)
    n_bits = _CELL_BITS * (2 if middles is None else 4)
    vote = asked << _WEIGHT_BITS | weights
    for key in _bins(owners, pose, middles):
        # bin, detail and weight in one number: that sorts fastest, and of a detail's votes in a bin the heaviest is the last
        votes = np.sort(key << (_DETAIL_BITS + _WEIGHT_BITS) | vote)
        votes = votes[np.diff(votes >> _WEIGHT_BITS, append=-1) != 0]
        bins = votes >> (_DETAIL_BITS + _WEIGHT_BITS)
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        if len(starts):
            totals = np.add.reduceat(votes & ((1 << _WEIGHT_BITS) - 1), starts)
            np.maximum.at(best, bins[starts] >> n_bits, totals)
    pictures = np.flatnonzero(best)
    return pictures, best[pictures]


def _by_details(index: _Index, start: int, keys: list[str]) -> list[tuple[int, int, bool]]:
    """For each of these images, numbered from `start`, those that share most details with it, or with its mirror image."""
    rows = []
    for number, key in enumerate(keys, start):
        rows += [(number, *found) for found in _of_details(index, read_features(key), number)]
    return rows


def _of_details(index: _Index, picture: LocalFeatures, number: int) -> list[tuple[int, bool]]:
    (direct, speaks), (mirrored, speaks_too) = (_votes(index, p, number) for p in (picture, picture.mirrored))
    order = np.argsort(-np.concatenate([speaks, speaks_too]), kind="stable")[:N_BY_DETAILS]
    both = np.concatenate([direct, mirrored])
    return [(int(both[place]), bool(place >= len(direct))) for place in order]


def searching(keys: list[str]) -> Callable[[LocalFeatures], list[tuple[str, bool]]]:
    """A function from an image that need not be among the ``keys`` to those that may show its photograph, and if mirrored."""
    index, thumbnails = _index(codebook(_book_size(len(keys))), keys)
    parts = np.stack(thumbnails)

    def whole(picture: LocalFeatures) -> np.ndarray:
        table = picture.thumbnails
        return np.maximum((parts @ table[0]).max(axis=1), (parts[:, 0] @ table.T).max(axis=1))

    def search(picture: LocalFeatures) -> list[tuple[str, bool]]:
        likeness = np.concatenate([whole(picture), whole(picture.mirrored)])
        places = [(int(place % len(keys)), bool(place >= len(keys))) for place in np.argsort(-likeness)[: 2 * N_BY_WHOLE]]
        return [(keys[place], mirrored) for place, mirrored in dict.fromkeys(_of_details(index, picture, -1) + places)]

    return search


def _kept(keys: list[str]) -> Path:
    versions = f"{RETRIEVAL_VERSION}.{features.VERSION}-{vocabulary_name(_book_size(len(keys)))}"
    asked = f"{N_BY_DETAILS} {N_BY_WHOLE} {' '.join(keys)}"
    return cache_dir() / "audit" / f"candidates-{versions}" / f"{hashlib.sha256(asked.encode()).hexdigest()}.csv"


def candidates(keys: list[str], *, jobs: int | None = None, progress: bool = True) -> pd.DataFrame:
    """Pairs of images that may show the same photograph, directly or when one is mirrored; for known sets from the cache."""
    keys = sorted(keys)
    if len(keys) < 2:
        return pd.DataFrame({"a": [], "b": [], "mirrored": []}).astype({"a": str, "b": str, "mirrored": bool})
    kept = _kept(keys)
    with contextlib.suppress(OSError, ValueError, KeyError):  # absent or damaged: searched anew
        known = pd.read_csv(kept, dtype={"a": str, "b": str, "mirrored": bool})[["a", "b", "mirrored"]]
        if set(known["a"]) | set(known["b"]) == set(keys):  # every image has candidates
            return known
    index, thumbnails = _index(codebook(_book_size(len(keys))), keys)
    rows = alike(thumbnails, N_BY_WHOLE)
    work = [(index, start, keys[start : start + _BATCH]) for start in range(0, len(keys), _BATCH)]
    for found in parallel(_by_details, work, title="audit 2/3: candidates", jobs=jobs, chunk=1, progress=progress):
        rows += found
    table = pd.DataFrame(rows, columns=["a", "b", "mirrored"])
    table = table.assign(a=table[["a", "b"]].min(axis=1), b=table[["a", "b"]].max(axis=1))
    table = table[table["a"] != table["b"]].drop_duplicates()
    found = table.assign(**{side: table[side].map(dict(enumerate(keys))).astype(str) for side in "ab"})
    found = found.sort_values(["a", "b", "mirrored"], ignore_index=True)
    atomic_write(kept, csv_text(found))
    return found
