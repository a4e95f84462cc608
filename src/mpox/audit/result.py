"""What an audit found, written and read, and the decisions of people that it honours."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, atomic_write, csv_text
from mpox.data.groups import connected, same_value_links
from mpox.data.manifest import as_posix, no_value, read_user_table, shown

PAIR_COLUMNS = ["dataset_a", "image_id_a", "dataset_b", "image_id_b", "method", "score", "transform"]
EVIDENCE = [
    "label_a", "label_b", "patient_id_a", "patient_id_b",
    "mirrored", "matches", "inliers", "correlation", "agreement", "overlap", "decision", "reason",
]  # fmt: skip
GROUP_COLUMNS = ["dataset", "image_id", "label", "patient_id", "group_id"]
_SIDES = ["dataset_a", "image_id_a", "dataset_b", "image_id_b"]


def full_name(dataset: pd.Series, image_id: pd.Series) -> pd.Series:
    """A name that is one image's in all data sets: ``dataset/image_id``."""
    return dataset.astype(str) + "/" + image_id.astype(str)


@dataclass(frozen=True)
class Audit:
    """The audit of one or several data sets.

    A row of `pairs` has ``dataset_a``, ``image_id_a``, ``dataset_b``, ``image_id_b``; ``method`` (file, pixels, geometric or
    override); ``score`` (0 to 1, see `mpox.audit.pairs.score`); ``transform`` (six numbers a to f: pixel (x, y) of the first lies
    at (ax + by + c, dx + ey + f) of the second, counted from the corner); then the evidence: labels and patients, ``mirrored``,
    ``matches``, ``inliers``, ``correlation``, ``agreement``, ``overlap`` (see `mpox.audit.verification.Verdict`; empty where
    nothing had to be compared), ``decision`` (found or confirmed), ``reason``.
    """

    images: pd.DataFrame  # the manifests below each other, with ``dataset`` and ``group_id``
    pairs: pd.DataFrame  # those that show the same photograph
    weak: pd.DataFrame  # the same columns, no copies: pairs in doubt or rejected, which link nothing, and those of `persons`
    rejected: pd.DataFrame  # files that could not be used: ``dataset``, ``image_id``, ``reason``

    @property
    def datasets(self) -> list[str]:
        """The names of the data sets, sorted."""
        return sorted(self.images["dataset"].unique())

    @property
    def groups(self) -> pd.DataFrame:
        """``dataset``, ``image_id``, ``label``, ``patient_id``, ``group_id``, one row an image."""
        return self.images[GROUP_COLUMNS].reset_index(drop=True)

    @property
    def persons(self) -> pd.DataFrame:
        """Pairs of `weak` that show one person on two photographs, as someone decided: they link, and are no copies."""
        return self.weak[self.weak["decision"] == SAME_PERSON].reset_index(drop=True)

    @property
    def conflicts(self) -> pd.DataFrame:
        """Pairs that cannot both be right: ``kind`` is ``label`` (one photograph, two labels) or ``patient`` (two patients of
        one photograph, or of one person)."""
        pairs = pd.concat([table for table in (self.pairs, self.persons) if len(table)] or [self.pairs], ignore_index=True)
        within = pairs["dataset_a"] == pairs["dataset_b"]
        mpox = (pairs[["label_a", "label_b"]] == "Mpox").sum(axis=1) == 1
        label = (pairs["label_a"] != pairs["label_b"]) & (within | mpox) & (pairs["decision"] != SAME_PERSON)
        known = pairs["patient_id_a"].notna() & pairs["patient_id_b"].notna()
        patient = within & known & (pairs["patient_id_a"] != pairs["patient_id_b"])
        parts = [pairs[mask].assign(kind=kind) for kind, mask in (("label", label), ("patient", patient))]
        table = pd.concat(parts, ignore_index=True)
        return table[["kind", *_SIDES, "label_a", "label_b", "patient_id_a", "patient_id_b", "method", "score"]]

    @property
    def overlap(self) -> pd.DataFrame:
        """Square table: how many images of the row's data set have a copy in the column's (in the diagonal: a further copy)."""
        pairs = self.pairs
        turned = pairs.rename(columns={f"{c}_{s}": f"{c}_{o}" for c in ("dataset", "image_id") for s, o in ("ab", "ba")})
        both = pd.concat([pairs[_SIDES], turned[_SIDES]], ignore_index=True)
        counts = both.drop_duplicates(["dataset_a", "image_id_a", "dataset_b"]).groupby(["dataset_a", "dataset_b"]).size()
        table = counts.unstack(fill_value=0).reindex(index=self.datasets, columns=self.datasets, fill_value=0)
        return table.rename_axis(index="images of", columns="with a copy in")

    @property
    def summary(self) -> pd.DataFrame:
        """One row a data set: counts of images, patients, rejected files, pairs, copies, groups, conflicts."""
        rows = []
        conflicts = self.conflicts
        for name in self.datasets:
            images = self.images[self.images["dataset"] == name]
            inside = [t[(t["dataset_a"] == name) & (t["dataset_b"] == name)] for t in (self.pairs, self.weak, conflicts)]
            sizes = images["group_id"].value_counts()
            rows.append(
                {
                    "data set": name,
                    "images": len(images),
                    "rejected files": int((self.rejected["dataset"] == name).sum()),
                    "patients": images["patient_id"].nunique() or pd.NA,
                    "pairs": len(inside[0]),
                    "exact pairs": int(inside[0]["method"].isin(["file", "pixels"]).sum()),
                    "images with a copy": int(self.overlap.loc[name, name]),
                    "doubtful pairs": int((inside[1]["decision"] == "weak").sum()),
                    "groups": len(sizes),
                    "largest group": int(sizes.max()),
                    "label conflicts": int((inside[2]["kind"] == "label").sum()),
                    "patient conflicts": int((inside[2]["kind"] == "patient").sum()),
                }
            )
        return pd.DataFrame(rows)

    def texts(self) -> dict[str, str]:
        """The tables as CSV by file name: groups, pairs, weak pairs, conflicts, rejected files, and the summary at last."""
        tables = {
            "groups": self.groups, "pairs": self.pairs, "weak_pairs": self.weak, "conflicts": self.conflicts,
            "rejected": self.rejected, "summary": self.summary,
        }  # fmt: skip
        return {f"{name}.csv": csv_text(table) for name, table in tables.items()}

    def write(self, folder: str | os.PathLike) -> Path:
        """Write the files of `texts`, each whole or not at all; the summary comes last."""
        for name, text in self.texts().items():
            atomic_write(Path(folder) / name, text)
        return Path(folder)


def together(manifests: list[pd.DataFrame]) -> pd.DataFrame:
    """Manifests below each other, with ``dataset``, sorted by it and ``image_id``."""
    images = pd.concat([manifest.assign(dataset=manifest["source"]) for manifest in manifests], ignore_index=True)
    return images.sort_values(["dataset", "image_id"], ignore_index=True)


def source_of(manifest: pd.DataFrame) -> str:
    """The name of a manifest's data set; one without a row has it in its ``attrs``."""
    return manifest.attrs.get("source") or manifest["source"].iloc[0]


def rejected_files(manifests: list[pd.DataFrame]) -> pd.DataFrame:
    """The files of several data sets that could not be used: ``dataset``, ``image_id``, ``reason``."""
    rows = [(source_of(manifest), *entry) for manifest in manifests for entry in manifest.attrs.get("rejected", [])]
    return pd.DataFrame(rows, columns=["dataset", "image_id", "reason"], dtype="str")


def read_audit(folder: str | os.PathLike, manifests: list[pd.DataFrame]) -> Audit:
    """Read what `Audit.write` wrote, for the manifests it was made of."""
    folder = Path(folder)
    names = [*_SIDES, "method", "transform", "label_a", "label_b", "decision", "dataset", "image_id", "group_id"]
    types = dict.fromkeys(names, "str") | dict.fromkeys(["patient_id_a", "patient_id_b", "reason"], "string")
    types |= {"mirrored": "boolean", "matches": "Int64", "inliers": "Int64"}
    try:
        tables = {
            name: pd.read_csv(folder / f"{name}.csv", dtype=types, keep_default_na=False, na_values=[""])
            for name in ("groups", "pairs", "weak_pairs", "rejected")
        }
        for name in ("pairs", "weak_pairs"):
            tables[name]["reason"] = tables[name]["reason"].fillna("")
        groups = tables["groups"][["dataset", "image_id", "group_id"]]
        images = together(manifests).merge(groups, on=["dataset", "image_id"], how="left", validate="1:1")
    except (OSError, ValueError, KeyError) as error:
        raise MpoxError(f"The audit {folder} is damaged ({error}): remove the folder, and it will be made again.") from error
    if images["group_id"].isna().any():
        raise MpoxError(f"The audit {folder} lacks some of the images: remove the folder, and it will be made again.")
    return Audit(images, tables["pairs"], tables["weak_pairs"], tables["rejected"])


def group(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Give every image its ``group_id``: connected over 'same patient of one data set' and the ``pairs`` that link."""
    several = images["dataset"].nunique() > 1
    names = full_name(images["dataset"], images["image_id"]) if several else images["image_id"].astype(str)
    patients = (images["dataset"].astype("string") + "/" + images["patient_id"]).where(images["patient_id"].notna())
    left, right = same_value_links(names, patients)
    for side, ends in (("a", left), ("b", right)):
        ids = pairs[f"image_id_{side}"].astype(str)
        ends.extend(full_name(pairs[f"dataset_{side}"], ids) if several else ids)
    return images.assign(group_id=connected(names, left, right))


COLUMNS = ["dataset_a", "image_id_a", "dataset_b", "image_id_b", "decision", "reason"]
SAME_PERSON = "same person"
#: What a person can decide of a pair, and how the audit's tables say it.
DECISIONS = {"confirm": "confirmed", "reject": "rejected", SAME_PERSON: SAME_PERSON}
#: The decisions on the registered data sets that come with this package.
OURS = Path(__file__).with_name("overrides.csv")


def read_overrides(path: str | os.PathLike | None = None) -> pd.DataFrame:
    """Read the package's decisions, and those of a file, which win: `COLUMNS`, the first image sorting before the second.

    The file is a CSV with these columns (``decision`` is one of `DECISIONS`; the order of the two images does not matter), or an
    `MpoxError` says what is wrong with it. So that a study honours what ``mpox audit`` does, ``MPOX_OVERRIDES`` may name it.
    """
    path = path or os.environ.get("MPOX_OVERRIDES")
    return _joined([_read(OURS), *([_read(Path(path))] if path else [])])


def hash_of_decisions(table: pd.DataFrame) -> str:
    """Eight hex digits that stand for the decisions of `read_overrides`."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:8]


def package_decisions() -> pd.DataFrame:
    """The decisions that come with this package, as `read_overrides` gives them."""
    return _joined([_read(OURS)])


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    sides = ["dataset_a", "image_id_a"], ["dataset_b", "image_id_b"]
    ends = [list(table[side].itertuples(index=False, name=None)) for side in sides]
    turned = pd.Series([first > second for first, second in zip(*ends, strict=True)], index=table.index, dtype=bool)
    table.loc[turned, sides[0] + sides[1]] = table.loc[turned, sides[1] + sides[0]].to_numpy()
    return table.drop_duplicates(COLUMNS[:4], keep="last", ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    table = read_user_table(path, COLUMNS)
    table["decision"] = table["decision"].str.split().str.join(" ").str.casefold()
    for side in "ab":
        table[f"dataset_{side}"] = table[f"dataset_{side}"].str.strip()
        table[f"image_id_{side}"] = table[f"image_id_{side}"].map(as_posix)
    table["reason"] = table["reason"].where(~table["reason"].map(no_value), "")
    if ((table["dataset_a"] == table["dataset_b"]) & (table["image_id_a"] == table["image_id_b"])).any():
        raise MpoxError(f"The overrides {path} have a pair of an image with itself: remove that line.")
    unknown = sorted(set(table["decision"]) - set(DECISIONS))
    if unknown:
        raise MpoxError(f"The overrides {path} have the decision '{unknown[0]}': write confirm, reject or {SAME_PERSON}.")
    pairs = pd.Series(
        [frozenset(ends) for ends in zip(*(full_name(table[f"dataset_{s}"], table[f"image_id_{s}"]) for s in "ab"), strict=True)]
    )
    if (both := table["decision"].groupby(pairs).nunique() > 1).any():
        pair = " and ".join(map(shown, sorted(both.index[both][0])))
        raise MpoxError(f"The overrides {path} decide twice, and differently, on {pair}: keep one of the lines.")
    return table
