"""Phantoms as data sets, for tests of what a planted truth must do to a model: with the corner mark, and without."""

import functools
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from hypothesis import strategies as st
from PIL import Image
from scipy.special import expit, ndtri

from mpox.data.dataset import Dataset
from mpox.data.groups import connected, same_value_links
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, ensure_phantom


@functools.cache
def planted(*, corner_mark: bool, n_patients: int = 100, seed: int = 4, size: int = 96) -> Dataset:
    """A phantom without copies, grouped by patient; drawn once a session, into its cache."""
    spec = PhantomSpec(n_patients=n_patients, seed=seed, size=size, copies=0, label_conflicts=0, corner_mark=corner_mark)
    return as_dataset(ensure_phantom(spec, jobs=1), patient=r"/(P\d+)_")


def texture(seed: int, width: int = 240, height: int = 200) -> np.ndarray:
    """A picture unlike any other: smooth noise of a few scales, in colour."""
    rng = np.random.default_rng(seed)
    field = np.zeros((height, width, 3), np.float32)
    for cells in (8, 25, 60):
        grid = rng.standard_normal((cells * height // width + 2, cells + 2, 3)).astype(np.float32)
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 22
    return (field + rng.uniform(90, 160, 3)).clip(0, 255).astype(np.uint8)


def as_dataset(folder: Path, *, patient: str = "(.*)") -> Dataset:
    """A folder of pictures as a data set, grouped by what the pattern finds in the image's id; it counts as a phantom."""
    manifest = build_manifest(str(folder)).assign(source="phantom")
    patients = manifest["image_id"].str.extract(patient, expand=False)
    manifest["group_id"] = connected(manifest["image_id"], *same_value_links(manifest["image_id"], patients))
    groups = pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return Dataset("phantom", manifest, groups, is_phantom=True, has_pictures=True)


def twice(root: Path, *, n: int, size: int) -> Dataset:
    """Images of noise in one of many colours, with labels at random; every photograph is there twice."""
    rng = np.random.default_rng(3)
    for number in range(n):
        folder = root / ("Mpox", "Others")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = rng.normal(rng.uniform(40, 220, 3), 30, (size, size, 3)).clip(0, 255).astype(np.uint8)
        for copy in range(2):
            Image.fromarray(picture).save(folder / f"{number:02d}_{copy}.png")
    manifest = build_manifest(root)
    manifest["group_id"] = connected(manifest["image_id"], *same_value_links(manifest["image_id"], manifest["pixel_sha256"]))
    return Dataset("planted", manifest, groups_of(manifest), is_phantom=False, has_pictures=True)


def groups_of(manifest: pd.DataFrame) -> pd.Series:
    return pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy())


@st.composite
def manifests(draw, fewest: int, most: int) -> pd.DataFrame:
    """Two or three classes of groups of one to three images; a class has so many groups."""
    rows = []
    for label in ["Mpox", "Normal", "Measles"][: draw(st.integers(2, 3))]:
        for number, size in enumerate(draw(st.lists(st.integers(1, 3), min_size=fewest, max_size=most))):
            rows += [(f"{label}/{number:02d}_{k}", label, f"{label}{number}") for k in range(size)]
    return pd.DataFrame(rows, columns=["image_id", "label", "group_id"]).sort_values("image_id", ignore_index=True)


def simulate_clustered(
    n_groups: int, images_per_group: int, *, auroc: float, intraclass_correlation: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Predictions of images that come in groups, as `mpox.cross_validate` gives them; every second group is Mpox.

    A score is a constant for Mpox, plus normal noise of variance 1, of which the group shares as much as the correlation.
    """
    codes = np.repeat(np.arange(n_groups), images_per_group)
    positive = codes % 2 == 0
    shared, own = rng.standard_normal(n_groups)[codes], rng.standard_normal(len(codes))
    noise = np.sqrt(intraclass_correlation) * shared + np.sqrt(1 - intraclass_correlation) * own
    p = expit(float(np.sqrt(2) * ndtri(auroc)) * (positive - 0.5) + noise)
    names = {"image_id": [f"i{number:06d}" for number in range(len(codes))], "group_id": np.char.mod("g%06d", codes)}
    return pd.DataFrame(
        {"repeat": 0, "fold": 0, **names, "label": np.where(positive, "Mpox", "Others"), "p_Mpox": p, "p_Others": 1 - p}
    )
