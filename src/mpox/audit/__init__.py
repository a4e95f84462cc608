"""The audit: which images, in one data set or across several, show the same photograph.

Candidates are retrieved by local features, each is verified by geometry and correlation, what people decided is honoured, and
the rest is tables::

    images -> local_features -> retrieval (codebook) -> pairs (verification) -> overrides -> result (groups, conflicts, overlap)

The steps, and OpenCV with them, are imported by what computes: to read an audit takes neither.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image

from mpox._core import MpoxError
from mpox.audit import result
from mpox.audit.result import EVIDENCE, PAIR_COLUMNS, Audit, read_audit, read_overrides
from mpox.data.pictures import pixel_hash

__all__ = ["Audit", "audit_rules", "audit_version", "brute_force", "decide_again", "read_audit", "run_audit"]

_IDENTITY = "1 0 0 0 1 0"
_NO_EVIDENCE = {
    "mirrored": pd.NA, "matches": pd.NA, "inliers": pd.NA, "correlation": np.nan, "agreement": np.nan, "overlap": np.nan,
}  # fmt: skip


def audit_version() -> str:
    """Changes whenever the audit of unchanged images may: with versions of code and libraries, and with decisions."""
    import cv2
    import sklearn

    steps, decisions = audit_rules().split("-")
    return f"{steps}-opencv-{cv2.__version__}-sklearn-{sklearn.__version__}-{decisions}"


def audit_rules() -> str:
    """What of `audit_version` is ours: the versions of the steps, a hyphen, and the decisions."""
    from mpox.audit import features, pairs, retrieval, verification

    codebook_and_retrieval = retrieval.CODEBOOK_VERSION, retrieval.RETRIEVAL_VERSION
    numbers = features.VERSION, *codebook_and_retrieval, verification.VERSION, pairs.VERSION
    return f"{'.'.join(map(str, numbers))}-{result.hash_of_decisions(read_overrides())}"


def run_audit(
    manifests: list[pd.DataFrame], *, overrides: pd.DataFrame | None = None, jobs: int | None = None, progress: bool = True
) -> Audit:
    """Find every photograph that appears more than once in the data sets together.

    Parameters
    ----------
    manifests : list of DataFrame
        From `mpox.data.manifest.scan` or `build_manifest`; the images must be on this machine. An `MpoxError` if two of them
        have the same name, or there is no image at all.
    overrides : DataFrame, optional
        From `mpox.audit.result.read_overrides`; the package's own decisions if not given.
    jobs : int, optional
        Processes; all cores by default.
    """
    from mpox.audit import features, pairs, retrieval

    images = _together(manifests)
    overrides = read_overrides() if overrides is None else overrides
    distinct = images.drop_duplicates("pixel_sha256")
    features.ensure_features(distinct, jobs=jobs, progress=progress)
    keys = sorted(distinct["pixel_sha256"])
    candidates = retrieval.candidates(keys, jobs=jobs, progress=progress)
    verified = pairs.same_photographs(keys, candidates, jobs=jobs, progress=progress)
    table = pd.concat([_exact(images), _geometric(images, verified[verified["score"] >= pairs.WEAK])], ignore_index=True)
    return _audit(images, result.rejected_files(manifests), _decided(table, overrides, images))


def decide_again(audit: Audit) -> Audit:
    """The same evidence under the decisions of people that are in force now; this takes no images."""
    table = pd.concat([part for part in (audit.pairs, audit.weak) if len(part)] or [audit.pairs], ignore_index=True)
    table = table[table["method"] != "override"].drop(columns=["decision", "reason"]).reset_index(drop=True)
    return _audit(audit.images.drop(columns="group_id"), audit.rejected, _decided(table, read_overrides(), audit.images))


def brute_force(
    manifests: list[pd.DataFrame], *, sample: int | None = None, seed: int = 0, jobs: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Verify all pairs of distinct images, or a random sample of them, both ways round; no verdict is remembered."""
    from mpox.audit import features, pairs

    images = _together(manifests)
    distinct = images.drop_duplicates("pixel_sha256")
    features.ensure_features(distinct, jobs=jobs, progress=progress)
    both = itertools.combinations(sorted(distinct["pixel_sha256"]), 2)
    asked = pd.DataFrame(both, columns=["a", "b"])
    if sample is not None and sample < len(asked):
        asked = asked.sample(sample, random_state=seed)
    asked = pd.concat([asked.assign(mirrored=mirrored) for mirrored in (False, True)], ignore_index=True)
    return pairs.best_of_both(pairs.verify(asked, jobs=jobs, progress=progress, remember=False))


def copies_among(images: pd.DataFrame) -> Callable[[Image.Image], list[str]]:
    """A function from an RGB image to the ``image_id`` of those of ``images`` that show its photograph, the surest first.

    ``images`` has ``image_id``, ``path`` and ``pixel_sha256``. Nothing of the image that is asked about is kept.
    """
    from mpox.audit import features, pairs, retrieval, verification

    features.ensure_features(images)
    names = images.groupby("pixel_sha256")["image_id"].first()
    search = retrieval.searching(list(names.index))

    def copies(picture: Image.Image) -> list[str]:
        exact, found = pixel_hash(picture), features.describe(np.asarray(picture))
        scores = {exact: 1.0} if exact in names.index else {}
        for key, mirrored in search(found):
            verdict = verification.compare(found, features.recent_features(key), mirrored=mirrored)
            scores[key] = max(scores.get(key, 0.0), pairs.score(verdict))
        same = sorted((key for key, value in scores.items() if value >= pairs.ACCEPTED), key=lambda key: -scores[key])
        return [str(names[key]) for key in same]

    return copies


def _together(manifests: list[pd.DataFrame]) -> pd.DataFrame:
    names = [result.source_of(manifest) for manifest in manifests]
    if not sum(len(manifest) for manifest in manifests):
        raise MpoxError(f"There is no usable image in {', '.join(names)}, nothing to audit: see the reasons in rejected.csv.")
    if len(set(names)) < len(names):
        raise MpoxError(f"Two of the data sets have the same name ({', '.join(names)}): name each once, or rename a folder.")
    return result.together(manifests)


def _exact(images: pd.DataFrame) -> pd.DataFrame:
    """Pairs of images with the same decoded pixels; the method says whether even the files are the same."""
    rows = []
    for _, same in images[images.duplicated("pixel_sha256", keep=False)].groupby("pixel_sha256", sort=True):
        for (_, first), (_, second) in itertools.combinations(same.iterrows(), 2):
            method = "file" if first["sha256"] == second["sha256"] else "pixels"
            rows.append({"first": first.name, "second": second.name, "method": method, "score": 1.0, "transform": _IDENTITY})
    table = pd.DataFrame(rows, columns=["first", "second", "method", "score", "transform"])
    return _with_images(table.assign(**_NO_EVIDENCE), images)


def _geometric(images: pd.DataFrame, verified: pd.DataFrame) -> pd.DataFrame:
    """The verified pairs of images as pairs of images, every image that has such a image, in the order of the images."""
    where = images.groupby("pixel_sha256").indices
    rows = []
    for pair in verified.itertuples():
        for first, second in itertools.product(where[pair.a], where[pair.b]):
            turned = first > second
            transform = _inverted(pair.transform) if turned else pair.transform
            row = {"first": min(first, second), "second": max(first, second), "transform": transform}
            rows.append(row | {name: getattr(pair, name) for name in ("score", *_NO_EVIDENCE)})
    table = pd.DataFrame(rows, columns=["first", "second", "transform", "score", *_NO_EVIDENCE])
    return _with_images(table.assign(method="geometric"), images)


def _inverted(transform: str) -> str:
    a, b, c, d, e, f = (float(value) for value in transform.split())
    matrix = np.linalg.inv(np.array([[a, b, c], [d, e, f], [0, 0, 1]]))
    return " ".join(f"{value:.6g}" for value in matrix[:2].ravel())


def _with_images(table: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    for side, position in (("a", "first"), ("b", "second")):
        rows = images.iloc[table[position].to_numpy(dtype=int)].reset_index(drop=True)
        for name in ("dataset", "image_id", "label", "patient_id"):
            table[f"{name}_{side}"] = rows[name]
    return table.drop(columns=["first", "second"])


def _decided(table: pd.DataFrame, overrides: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Add ``decision`` and ``reason``: found or weak by the score, or one of `mpox.audit.result.DECISIONS` by people."""
    from mpox.audit import pairs

    table = table.assign(decision=np.where(table["score"] >= pairs.ACCEPTED, "found", "weak"), reason="")
    overrides = overrides[overrides[["dataset_a", "dataset_b"]].isin(set(images["dataset"])).all(axis=1)]
    pixels = images.set_index(["dataset", "image_id"])["pixel_sha256"]
    asked, found = _pictures(overrides, pixels), _pictures(table, pixels)
    extra = []
    for pictures, row in zip(asked, overrides.itertuples(), strict=True):
        decision = result.DECISIONS[row.decision]
        same = [number for number, known in enumerate(found) if known == pictures]
        if same:
            table.loc[same, ["decision", "reason"]] = [decision, row.reason]
        elif decision != "rejected":
            extra.append({name: getattr(row, name) for name in PAIR_COLUMNS[:4]} | {"decision": decision, "reason": row.reason})
    if extra:
        table = pd.concat([table, _by_hand(pd.DataFrame(extra), images)], ignore_index=True)
    return table


def _pictures(table: pd.DataFrame, pixels: pd.Series) -> list[frozenset]:
    """The two images of each pair of images, as their hashes."""
    ends = [list(zip(table[f"dataset_{side}"], table[f"image_id_{side}"], strict=True)) for side in "ab"]
    unknown = sorted({f"{dataset}: {image}" for side in ends for dataset, image in side if (dataset, image) not in pixels.index})
    if unknown:
        raise MpoxError(f"The overrides name images that are not there, {unknown[0]} for one: correct or remove the line.")
    return [frozenset((pixels[a], pixels[b])) for a, b in zip(*ends, strict=True)]


def _by_hand(extra: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Pairs that only a person found."""
    score = np.where(extra["decision"] == "confirmed", 1.0, np.nan)  # of a person on two photographs it says nothing
    extra = extra.assign(method="override", score=score, transform="", **_NO_EVIDENCE)
    for side in "ab":
        about = images.set_index(["dataset", "image_id"])[["label", "patient_id"]]
        rows = about.loc[list(zip(extra[f"dataset_{side}"], extra[f"image_id_{side}"], strict=True))]
        extra[f"label_{side}"] = rows["label"].to_numpy()
        extra[f"patient_id_{side}"] = rows["patient_id"].to_numpy()
    return extra


def _audit(images: pd.DataFrame, rejected: pd.DataFrame, table: pd.DataFrame) -> Audit:
    types = {"mirrored": "boolean", "matches": "Int64", "inliers": "Int64", "score": float, "transform": "str"}
    table = table[PAIR_COLUMNS + EVIDENCE].astype(types | {f"patient_id_{side}": "string" for side in "ab"})
    table = table.sort_values(PAIR_COLUMNS[:4], ignore_index=True)
    same = table["decision"].isin(["found", "confirmed"])
    accepted, weak = table[same].reset_index(drop=True), table[~same].reset_index(drop=True)
    linked = table[same | (table["decision"] == result.SAME_PERSON)]
    return Audit(result.group(images, linked), accepted, weak, rejected)
