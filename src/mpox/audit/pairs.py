"""From candidates to pairs: each is verified once and remembered, and copies of copies are looked at too."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import cv2
import numpy as np
import pandas as pd

from mpox._core import MpoxError, cache_dir, explaining
from mpox.audit import features, verification
from mpox.audit.features import parallel, recent_features
from mpox.audit.verification import Verdict, compare
from mpox.data.groups import connected

#: Raised by one whenever a score changes, or which pairs are compared.
VERSION = 3
#: Pairs whose score reaches this show the same photograph.
ACCEPTED = 0.5
#: Pairs from here up to `ACCEPTED` are reported as doubtful, and link nothing.
WEAK = 0.1
#: Part of the smaller image that must be seen in both: a logo or a ruler is a shared detail, not a shared photograph.
LEAST_OVERLAP = 0.04
_LARGEST_CLOSURE = 60  # images of one group among which every pair is compared
_KEEP_EVERY = 20_000  # pairs
_VERDICT = ["matches", "inliers", "correlation", "agreement", "overlap", "pixels", "transform"]
_KEY = ["a", "b", "mirrored"]


def score(verdict) -> float:
    """How sure it is that two images show the same photograph, 0 to 1, from a `Verdict` or a row of verdicts."""
    if not verdict.pixels:
        return 0.0
    agreement = verdict.agreement if verdict.inliers else min(verdict.agreement, verdict.correlation)
    evidence = 24 * agreement + 1.5 * np.log(max(verdict.inliers, 1)) - 0.3 * np.log(verdict.pixels) - 18.4
    if verdict.overlap < LEAST_OVERLAP:
        evidence = min(evidence, 0.0) - 0.1
    return float(round(1 / (1 + np.exp(-evidence)), 4))


def _compare(a: str, b: str, mirrored: bool) -> Verdict:
    cv2.setNumThreads(1)
    return compare(recent_features(a), recent_features(b), mirrored=mirrored)


class VerdictCache:
    """Verdicts on pairs of images, kept in one SQLite file in the cache; a pair is compared once in its life."""

    def __init__(self):
        name = f"verdicts-{features.VERSION}.{verification.VERSION}-opencv-{cv2.__version__}.sqlite"
        self.path = cache_dir() / "audit" / name
        with explaining(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        columns = ", ".join(_KEY + _VERDICT)
        with self._open() as base:
            base.execute(f"CREATE TABLE IF NOT EXISTS verdicts ({columns}, PRIMARY KEY ({', '.join(_KEY)}))")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as base, base:
                yield base
        except sqlite3.Error as error:
            raise MpoxError(
                f"The cache {self.path} cannot be used ({error}): remove the file, free space, or set MPOX_CACHE."
            ) from error

    def get(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """The rows of `pairs` (``a``, ``b``, ``mirrored``) that are known, with their verdicts."""
        with self._open() as base:
            base.execute("CREATE TEMP TABLE wanted (a, b, mirrored, PRIMARY KEY (a, b, mirrored))")
            rows = zip(pairs["a"], pairs["b"], pairs["mirrored"].astype(int).tolist(), strict=True)
            base.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", rows)
            query = f"SELECT {', '.join(_KEY + _VERDICT)} FROM verdicts NATURAL JOIN wanted"
            found = pd.DataFrame(base.execute(query).fetchall(), columns=_KEY + _VERDICT)
        return found.astype({"mirrored": bool})

    def put(self, rows: list[tuple]) -> None:
        """Keep rows in the order of key and verdict."""
        marks = ", ".join("?" * len(_KEY + _VERDICT))
        with self._open() as base:
            base.executemany(f"INSERT OR REPLACE INTO verdicts VALUES ({marks})", rows)


def _row(key: tuple, verdict: Verdict) -> tuple:
    numbers = (getattr(verdict, name) for name in _VERDICT[:-1])
    return (*key[:2], int(key[2]), *numbers, " ".join(f"{value:.6g}" for value in verdict.transform))


def verify(pairs: pd.DataFrame, *, jobs: int | None = None, progress: bool = True, remember: bool = True) -> pd.DataFrame:
    """Compare pairs of images whose features are in the cache."""
    cache = VerdictCache() if remember else None
    pairs = pairs[_KEY].drop_duplicates()
    known = cache.get(pairs) if cache else pairs.iloc[:0]
    missing = pairs.merge(known[_KEY], how="left", indicator=True) if len(known) else pairs.assign(_merge="left_only")
    missing = missing.loc[missing["_merge"] == "left_only", _KEY].sort_values(_KEY)
    work = list(missing.itertuples(index=False, name=None))
    rows, kept = [], 0
    verdicts = parallel(_compare, work, title="audit 3/3: pairs", jobs=jobs, chunk=64, progress=progress)
    try:
        for key, verdict in zip(work, verdicts, strict=True):
            rows.append(_row(key, verdict))
            if cache and len(rows) - kept >= _KEEP_EVERY:
                cache.put(rows[kept:])
                kept = len(rows)
    finally:  # an interruption costs nothing that was compared
        if cache:
            cache.put(rows[kept:])
    found = pd.DataFrame(rows, columns=_KEY + _VERDICT).astype({"mirrored": bool})
    found = pd.concat([part for part in (known, found) if len(part)] or [found], ignore_index=True)
    return found.assign(score=[score(row) for row in found.itertuples()])


def best_of_both(verified: pd.DataFrame) -> pd.DataFrame:
    """One row a pair: the better of the direct and the mirrored comparison."""
    order = verified.sort_values(["score", "inliers"], ascending=False, kind="stable")
    return order.drop_duplicates(["a", "b"]).sort_values(["a", "b"], ignore_index=True)


def same_photographs(
    keys: list[str], candidates: pd.DataFrame, *, jobs: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Verify the candidates, then every pair of images linked through others, in groups of up to 60 images."""
    verified = verify(candidates, jobs=jobs, progress=progress)
    while True:
        asked = _closure(keys, verified)
        if asked.empty:
            return best_of_both(verified)
        verified = pd.concat([verified, verify(asked, jobs=jobs, progress=progress)], ignore_index=True)


def _closure(keys: list[str], verified: pd.DataFrame) -> pd.DataFrame:
    """Pairs within a linked set of images, directly and mirrored, as far as they were not compared so yet."""
    links = verified[verified["score"] >= ACCEPTED]
    group = connected(keys, links["a"], links["b"])
    members = pd.Series(keys).groupby(group).agg(sorted)
    known = set(zip(*(verified[name] for name in _KEY), strict=True))
    asked = [
        (a, b, mirrored)
        for names in members[members.map(len).between(3, _LARGEST_CLOSURE)]
        for number, a in enumerate(names)
        for b in names[number + 1 :]
        for mirrored in (False, True)
        if (a, b, mirrored) not in known
    ]
    return pd.DataFrame(asked, columns=_KEY)
