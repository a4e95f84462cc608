"""How good the audit is: against what was planted, against what a person saw, and against perceptual hashes."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from mpox.audit.quality import measured
from mpox.data.groups import connected
from mpox.data.pictures import read_rgb
from mpox.stats.resample import wilson

#: Raised by one whenever the hashes of an unchanged image change.
VERSION = 1
#: Bits of 64 in which two perceptual hashes may differ, for two images to count as alike.
HAMMING = 8
#: What was found when samples of pairs were looked at, by the people who wrote this package.
HAND_CHECKED = Path(__file__).with_name("hand_checked.csv")


def hand_checked() -> pd.DataFrame:
    """Samples of pairs that a person looked at: counts ``checked`` and ``right``, and ``share``, ``low``, ``high`` (Wilson).

    What ``right`` counts is in ``measures``. *precision*: accepted pairs that show the same photograph, by eye. *recall*: pairs
    accepted when all are compared that the audit accepts, too; by program. *missed*: pairs that the audit does not accept and
    that do show the same photograph, by eye.
    """
    table = pd.read_csv(HAND_CHECKED)
    bounds = [wilson(row.right, row.checked) for row in table.itertuples()]
    return table.join(pd.DataFrame(bounds, columns=["share", "low", "high"], dtype=float))


def accuracy_by_kind(pairs: pd.DataFrame, truths: pd.DataFrame) -> pd.DataFrame:
    """Recall and precision of the accepted pairs of a phantom's audit by the kind of copy (`mpox.data.phantom.read_truths`).

    A pair is right when both images come from one photograph. Recall counts copies: found is a copy that the pairs link to its
    original, directly or through other right pairs. Precision counts pairs, each under the kind of every copy in it.

    Returns ``kind``, ``copies``, ``found``, ``recall``, ``pairs``, ``right``, ``precision`` (missing without a pair); one row a
    kind, those between originals as ``(no copy)``, and ``all``.
    """
    source = truths["copy_of"].fillna(truths["image_id"]).set_axis(truths["image_id"])
    kinds = truths.set_index("image_id")["copy_kind"]
    right = (pairs["image_id_a"].map(source) == pairs["image_id_b"].map(source)).to_numpy(dtype=bool)
    sides = pd.DataFrame({side: pairs[f"image_id_{side}"].map(kinds) for side in "ab"}).reset_index(drop=True)
    group = pd.Series(
        connected(truths["image_id"], pairs.loc[right, "image_id_a"], pairs.loc[right, "image_id_b"]), index=truths["image_id"]
    )
    copies = truths[truths["copy_of"].notna()]
    found = (copies["image_id"].map(group) == copies["copy_of"].map(group)).to_numpy(dtype=bool)
    rows = []
    for kind in [*sorted(copies["copy_kind"].unique()), "(no copy)", "all"]:
        if kind == "all":
            of_kind, in_pair = np.ones(len(copies), bool), np.ones(len(pairs), bool)
        elif kind == "(no copy)":
            of_kind, in_pair = np.zeros(len(copies), bool), sides.isna().all(axis=1).to_numpy()
        else:
            of_kind, in_pair = (copies["copy_kind"] == kind).to_numpy(bool), (sides == kind).any(axis=1).to_numpy(bool)
        rows.append((kind, of_kind.sum(), found[of_kind].sum(), in_pair.sum(), right[in_pair].sum()))
    table = pd.DataFrame(rows, columns=["kind", "copies", "found", "pairs", "right"])
    table.insert(3, "recall", table["found"] / table["copies"].where(table["copies"] > 0))
    return table.assign(precision=table["right"] / table["pairs"].where(table["pairs"] > 0))


def hash_pairs(manifest: pd.DataFrame, *, jobs: int | None = None, progress: bool = True) -> pd.DataFrame:
    """Pairs that perceptual hashes take for the same photograph: what the audit is compared with.

    Two hashes of 64 bits: dHash (signs of horizontal differences of the image at 9 x 8 pixels) and pHash (signs of the 8 x 8
    lowest cosine coefficients of the image at 32 x 32 pixels about their median, without the mean: Zauner 2010). ``image_id_a``,
    ``image_id_b``, ``dhash``, ``phash`` (differing bits), every pair for which one of them is at most `HAMMING`.
    """
    table = measured(manifest, _hashes, f"perceptual-hashes-{VERSION}", jobs=jobs, progress=progress)
    distances = {}
    for name in ("dhash", "phash"):
        codes = np.array([int(text, 16) for text in table[name]], dtype=np.uint64)
        distances[name] = np.bitwise_count(codes[:, None] ^ codes[None, :])
    first, second = np.nonzero(np.triu(np.minimum(distances["dhash"], distances["phash"]) <= HAMMING, 1))
    ids = table["image_id"].to_numpy()
    found = {"image_id_a": ids[first], "image_id_b": ids[second]}
    return pd.DataFrame(found | {name: bits[first, second].astype(int) for name, bits in distances.items()})


def _hashes(path: str) -> dict:
    grey = cv2.cvtColor(np.asarray(read_rgb(path)), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    low = cv2.dct(cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8].ravel()
    bits = {"dhash": (small[:, 1:] > small[:, :-1]).ravel(), "phash": low > np.median(low[1:])}
    return {name: np.packbits(values).tobytes().hex() for name, values in bits.items()}
