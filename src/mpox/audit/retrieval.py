"""Which pairs of pictures are worth a close look: those that share more details, or look more alike as a whole, than others do.

Two cheap searches, each direct and for mirror images. *Details*: local features that fall into the same word of a fixed
vocabulary and have nearly the same signature vote for a pair, together only if they agree on how much larger and how far turned
the copy is (weak geometric consistency: Jegou, Douze and Schmid 2008). *Wholes*: thumbnails of every picture against thumbnails
of every picture and of its halves and thirds, which finds copies too soft or too small for details, and panels of collages.
"""

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox.audit.codebook import Codebook, codebook
from mpox.audit.local_features import MIRRORED, LocalFeatures, read_features
from mpox.audit.thumbnails import alike, thumbnails

#: Raised by one whenever the candidates of unchanged pictures change.
VERSION = 1
#: Signatures (64 bits) that differ in at most so many bits are taken for the same detail.
MAX_BITS = 20
#: Candidates a picture by its details, and by its thumbnail; direct and mirrored together.
N_BY_DETAILS, N_BY_WHOLE = 10, 4
_CROWDED = 1000  # descriptors in a word above which it says nothing
_TURNS, _SIZES = 12, 9  # bins of 30 degrees, and of half an octave from -2 to 2 octaves


def _book_size(n_descriptors: int) -> int:
    return 256 if n_descriptors < 1_500_000 else 512 if n_descriptors < 6_000_000 else 1024


class _Index:
    """An inverted file: for every word, which descriptors are in it."""

    def __init__(self, book: Codebook, pictures: list[LocalFeatures]):
        self.book = book
        owners = np.repeat(np.arange(len(pictures), dtype=np.int32), [len(p.points) for p in pictures])
        parts = [book.words(picture.unit) for picture in pictures]
        words = np.concatenate([part[0].ravel() for part in parts])
        order = np.argsort(words, kind="stable")
        self.signatures = np.concatenate([part[1].ravel() for part in parts])[order]
        self.poses = np.concatenate([picture.poses for picture in pictures])[order]
        self.owners, self.n_images = owners[order], len(pictures)
        counts = np.bincount(words, minlength=book.size**2)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.counts = np.where(counts > _CROWDED, 0, counts)
        # a word that few descriptors are in says more (inverse document frequency)
        self.weights = np.log1p(self.n_images / np.maximum(counts, 1)).astype(np.float32)

    def votes(self, picture: LocalFeatures, *, mirrored: bool) -> np.ndarray:
        """Votes of a picture, or of its mirror image, for every picture: float64 of shape (n_images,)."""
        unit, poses = picture.unit, picture.poses
        if mirrored:
            unit, poses = unit[:, MIRRORED], np.stack([poses[:, 0], 180 - poses[:, 1]], axis=1)
        words, signatures = self.book.words(unit, per_half=2)
        asking = np.repeat(np.arange(len(words)), words.shape[1])
        words, signatures = words.ravel(), signatures.ravel()
        counts = self.counts[words]
        where = np.repeat(np.arange(len(words)), counts)
        found = np.arange(len(where)) + np.repeat(self.starts[words] - np.cumsum(counts) + counts, counts)
        near = np.bitwise_count(signatures[where] ^ self.signatures[found]) <= MAX_BITS
        where, found = where[near], found[near]
        change = self.poses[found] - poses[asking[where]]
        size = np.clip(np.rint(change[:, 0] * 2).astype(int) + _SIZES // 2, 0, _SIZES - 1)
        turn = (change[:, 1] % 360 / (360 / _TURNS)).astype(int) % _TURNS
        cell = (self.owners[found].astype(np.int64) * _SIZES + size) * _TURNS + turn
        # a detail votes for a picture once in a bin, however often the picture repeats it
        _, once = np.unique(asking[where] * (self.n_images * _SIZES * _TURNS) + cell, return_index=True)
        weights = self.weights[words[where[once]]]
        table = np.bincount(cell[once], weights=weights, minlength=self.n_images * _SIZES * _TURNS)
        table = table.reshape(self.n_images, _SIZES, _TURNS)
        table = table + np.roll(table, 1, axis=2)  # neighbouring bins belong together
        table[:, 1:] += table[:, :-1].copy()
        return table.max(axis=(1, 2)) / np.sqrt(max(len(unit), 1))


def candidates(keys: list[str], *, progress: bool = True) -> pd.DataFrame:
    """Pairs of pictures that may show the same photograph, directly or when one is mirrored.

    Parameters
    ----------
    keys : list of str
        ``pixel_sha256`` of distinct pictures whose features are in the cache (`mpox.audit.local_features.ensure_features`).
    progress : bool

    Returns
    -------
    DataFrame
        ``a``, ``b`` (keys, a < b), ``mirrored`` (bool); for every picture its `N_BY_DETAILS` + `N_BY_WHOLE` best.
    """
    keys = sorted(keys)
    pictures = [read_features(key) for key in keys]
    index = _Index(codebook(_book_size(sum(len(picture.points) for picture in pictures))), pictures)
    rows = alike([thumbnails(picture.picture) for picture in pictures], N_BY_WHOLE)
    bar = tqdm(pictures, desc="audit: candidates", unit="picture", delay=3, leave=False, disable=not progress)
    for number, picture in enumerate(bar):
        votes = np.concatenate([index.votes(picture, mirrored=mirrored) for mirrored in (False, True)])
        votes[[number, number + len(keys)]] = 0
        best = np.argpartition(-votes, min(N_BY_DETAILS, len(votes) - 1))[:N_BY_DETAILS]
        rows += [(number, int(b % len(keys)), bool(b >= len(keys))) for b in best if votes[b] > 0]
    table = pd.DataFrame(rows, columns=["a", "b", "mirrored"])
    table = table.assign(a=table[["a", "b"]].min(axis=1), b=table[["a", "b"]].max(axis=1))
    table = table[table["a"] != table["b"]].drop_duplicates()
    names = np.array(keys, dtype=object)
    named = table.assign(a=names[table["a"].astype(int)], b=names[table["b"].astype(int)])
    return named.sort_values(["a", "b", "mirrored"], ignore_index=True)
