"""The phantom must be what its truths say: every instrument of the study is judged by them."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from mpox import phantom
from mpox.errors import MpoxError
from mpox.phantom import CLASSES, COPY_KINDS, PhantomSpec

SPEC = PhantomSpec(n_patients=28, size=128)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def mask_of(images: Path, image_id: str) -> np.ndarray:
    return np.asarray(Image.open(images.parent / "truth" / "masks" / image_id))


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return phantom.generate(tmp_path_factory.mktemp("phantom") / "p", SPEC)


@pytest.fixture(scope="module")
def truths(images) -> pd.DataFrame:
    return phantom.read_truths(images)


@pytest.fixture(scope="module")
def unmarked(tmp_path_factory) -> Path:
    spec = dataclasses.replace(SPEC, corner_mark=False)
    return phantom.generate(tmp_path_factory.mktemp("phantom") / "unmarked", spec)


def test_files_are_those_of_the_truths(images, truths):
    on_disk = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    assert on_disk == truths["image_id"].tolist()
    masks = images.parent / "truth" / "masks"
    assert sorted(p.relative_to(masks).as_posix() for p in masks.rglob("*.png")) == on_disk
    assert sorted(p.name for p in images.iterdir()) == sorted(CLASSES)
    for row in truths.itertuples():
        folder, name = row.image_id.split("/")
        assert folder == row.label
        assert re.match(r"^(?P<patient>[A-Za-z]+\d+)_\d+", name)["patient"] == row.patient_id
    assert json.loads((images.parent / "truth" / "spec.json").read_text()) == dataclasses.asdict(SPEC)


def test_every_class_and_every_skin_type_is_there(truths):
    photographed = truths[truths["copy_of"].isna()]
    assert set(photographed["label"]) == set(CLASSES)
    for _, group in photographed.groupby("label"):
        assert set(group["fitzpatrick"]) == {1, 2, 3, 4, 5, 6}
    for row in photographed.itertuples():
        low, high = phantom.ITA_RANGES[row.fitzpatrick]
        assert low <= row.ita_degrees <= high
    a_patient = photographed.groupby("patient_id")
    assert a_patient.size().between(1, 4).all() and a_patient.size().nunique() > 1
    assert (a_patient[["label", "ita_degrees"]].nunique() == 1).all(axis=None)


def test_planted_skin_tone_shows_in_the_pixels(images, truths):
    healthy = truths[(truths["label"] == "Normal") & truths["copy_of"].isna()]
    lightness = [np.median(pixels(images / i).sum(axis=2)) for i in healthy["image_id"]]
    assert np.corrcoef(lightness, healthy["ita_degrees"])[0, 1] > 0.7


def test_masks_agree_with_the_truths(images, truths):
    for row in truths.itertuples():
        mask = mask_of(images, row.image_id)
        with Image.open(images / row.image_id) as picture:
            assert picture.size == mask.shape[::-1]
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(row.lesion_fraction, abs=1e-6)
        assert (row.lesion_fraction == 0) == (row.lesion_count == 0) == (row.true_label == "Normal")
    counts = truths.groupby("true_label")["lesion_count"]
    assert counts.min()["Mpox"] >= 1 and counts.max()["Mpox"] <= 14
    assert counts.min()["Chickenpox"] >= 1 and counts.max()["Chickenpox"] <= 40


@pytest.mark.parametrize("label", ["Mpox", "Chickenpox", "Measles"])
def test_lesions_are_under_the_mask_and_nowhere_else(unmarked, label):
    truths = phantom.read_truths(unmarked)
    rows = truths[(truths["label"] == label) & truths["copy_of"].isna()].head(8)
    for image_id in rows["image_id"]:
        patient, picture = map(int, re.findall(r"\d+", image_id))
        healthy = phantom.healthy_counterpart(SPEC, patient, picture).astype(float)
        change = np.abs(pixels(unmarked / image_id) - healthy).max(axis=2)
        lesion = mask_of(unmarked, image_id) > 0
        assert change[~lesion].max() <= 4, image_id
        assert change[lesion].mean() > 2, image_id


def test_normal_pictures_are_their_own_healthy_counterparts(unmarked):
    normal = next((unmarked / "Normal").glob("*_01.png"))
    patient, picture = map(int, re.findall(r"\d+", normal.name)[:2])
    assert np.array_equal(pixels(normal), phantom.healthy_counterpart(SPEC, patient, picture))


def test_every_kind_of_copy_is_filed_under_another_patient(truths):
    copies = truths[truths["copy_of"].notna()]
    assert set(copies["copy_kind"]) == set(COPY_KINDS)
    originals = truths.set_index("image_id").loc[copies["copy_of"]]
    assert (originals["patient_id"].to_numpy() != copies["patient_id"].to_numpy()).all()
    assert originals["copy_of"].isna().all()
    for column in ("true_label", "fitzpatrick", "ita_degrees", "lesion_count"):
        assert (originals[column].to_numpy() == copies[column].to_numpy()).all()
    shared = copies["patient_id"].isin(truths.loc[truths["copy_of"].isna(), "patient_id"])
    assert shared.any() and not shared.all()


def test_default_phantom_has_five_copies_of_each_kind():
    kinds = [kind for _, kind, _ in phantom._copies_of(PhantomSpec())]
    assert min(kinds.count(kind) for kind in COPY_KINDS) >= 5


def test_copies_are_the_originals_transformed(unmarked):
    truths = phantom.read_truths(unmarked)
    for row in truths[truths["copy_of"].notna()].itertuples():
        copy, original = pixels(unmarked / row.image_id), pixels(unmarked / row.copy_of)
        a, b, c, d, e, f = map(float, row.copy_transform.split())
        inverse = np.linalg.inv([[a, b, c], [d, e, f], [0, 0, 1]])
        y, x = np.mgrid[: copy.shape[0], : copy.shape[1]] + 0.5
        source = np.einsum("ij,jhw->ihw", inverse[:2], np.stack([x, y, np.ones_like(x)]))[::-1] - 0.5
        inside = ((source >= 0) & (source <= np.array(original.shape[:2]).reshape(2, 1, 1) - 1)).all(axis=0)
        grey_copy, grey = copy.mean(axis=2), original.mean(axis=2)
        expected = ndimage.map_coordinates(grey, source, order=1, mode="nearest")
        smooth = [ndimage.gaussian_filter(g, 1.0)[4:-4, 4:-4] for g in (grey_copy, expected)]
        within = ndimage.binary_erosion(inside, iterations=4)[4:-4, 4:-4]
        assert within.mean() > 0.6
        assert np.corrcoef(smooth[0][within], smooth[1][within])[0, 1] > 0.97, row
        assert np.allclose(copy[..., 0], copy[..., 2], atol=2) == (row.copy_kind == "grey")
        mask = mask_of(unmarked, row.copy_of).astype(float)
        moved = ndimage.map_coordinates(mask, source, order=0, mode="constant") > 0
        assert (moved[inside] == (mask_of(unmarked, row.image_id)[inside] > 0)).mean() > 0.97


def test_mirrored_copy_flipped_is_the_original(unmarked):
    truths = phantom.read_truths(unmarked)
    mirrored = truths[truths["copy_kind"] == "mirror"].iloc[0]
    difference = pixels(unmarked / mirrored["image_id"])[:, ::-1] - pixels(unmarked / mirrored["copy_of"])
    assert 0 < np.abs(difference).mean() < 5


def test_captioned_and_squashed_copies_change_the_frame(images, truths):
    shapes = {
        kind: pixels(images / i).shape[:2]
        for i, kind in truths.loc[truths["copy_of"].notna(), ["image_id", "copy_kind"]].itertuples(index=False)
    }
    assert shapes["caption"][0] > SPEC.size and shapes["caption"][1] == SPEC.size
    assert shapes["squash"][0] == SPEC.size and shapes["squash"][1] < SPEC.size


def test_one_photograph_has_two_labels(truths):
    wrong = truths[truths["label"] != truths["true_label"]]
    assert len(wrong) == 1
    pair = truths[truths["conflict"]]
    assert set(pair["image_id"]) == {wrong["image_id"].iloc[0], wrong["copy_of"].iloc[0]}
    assert pair["label"].nunique() == 2 and pair["patient_id"].nunique() == 2


def test_label_conflicts_and_copies_can_be_left_out_or_multiplied():
    assert list(phantom._copies_of(PhantomSpec(copies=False, label_conflicts=0))) == []
    three = list(phantom._copies_of(PhantomSpec(n_patients=12, copies=False, label_conflicts=3)))
    assert len({index for index, _, _ in three}) == 3 and all(index < 12 for index, _, _ in three)
    assert all(CLASSES[index % 4] != wrong for index, _, wrong in three)


def test_corner_mark_is_where_the_truths_say_and_changes_nothing_else(images, truths, unmarked):
    without = phantom.read_truths(unmarked)
    assert not without["corner_mark"].any()
    pd.testing.assert_frame_equal(without.drop(columns="corner_mark"), truths.drop(columns="corner_mark"))
    for row in truths.itertuples():
        marked, plain = pixels(images / row.image_id), pixels(unmarked / row.image_id)
        left, top, right, bottom = phantom.corner_box(marked.shape[1], marked.shape[0])
        corner = np.zeros(marked.shape[:2], bool)
        corner[top:bottom, left:right] = True
        assert np.array_equal(marked[~corner], plain[~corner])
        assert ((marked - plain)[corner] != 0).any() == row.corner_mark
    share = truths.groupby(truths["label"] == "Mpox")["corner_mark"].mean()
    assert share[True] > 0.4 and share[False] < 0.2


def test_same_specification_same_bytes_in_another_process(images, tmp_path):
    code = "import sys; from mpox.phantom import *; generate(sys.argv[1], PhantomSpec(n_patients=28, size=128))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, capture_output=True)
    assert bytes_below(tmp_path / "again") == bytes_below(images.parent)


def test_a_photograph_does_not_depend_on_how_many_others_there_are(unmarked, tmp_path):
    few = phantom.generate(tmp_path / "few", PhantomSpec(n_patients=5, size=128, corner_mark=False))
    many = bytes_below(unmarked)
    photographed = phantom.read_truths(few).query("copy_of.isna()")["image_id"]
    assert len(photographed) >= 5
    for image_id in photographed:
        assert (few / image_id).read_bytes() == many[image_id]


def test_seeds_differ(images, tmp_path):
    other = phantom.generate(tmp_path / "other", PhantomSpec(seed=1, n_patients=2, size=128, label_conflicts=0))
    one, two = (pixels(folder / "Mpox" / "P001_01.png") for folder in (images, other))
    assert np.abs(one - two).mean() > 5


def test_key_names_the_specification():
    assert PhantomSpec().key() == PhantomSpec(seed=0).key() != PhantomSpec(seed=1).key()
    assert re.fullmatch("[0-9a-f]{10}", PhantomSpec().key())


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"n_patients": 0},
        {"size": 32},
        {"n_patients": 10, "label_conflicts": 9},
        {"n_patients": 6, "label_conflicts": 2},
        {"version": 2},
    ],
)
def test_impossible_specifications_are_refused(wrong):
    with pytest.raises(MpoxError):
        PhantomSpec(**wrong)


def test_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    real, calls = phantom.take, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(phantom, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phantom.generate(tmp_path / "p", PhantomSpec(n_patients=4, size=64))
    assert len(calls) == 3 and list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(MpoxError, match="exists already"):
        phantom.generate(tmp_path, PhantomSpec(n_patients=2, size=64))
    assert os.listdir(tmp_path) == ["mine"]
    assert phantom.generate(tmp_path / "new" / "p", PhantomSpec(n_patients=2, size=64)).is_dir()


def test_ensure_phantom_makes_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path))
    spec = PhantomSpec(n_patients=2, size=64)
    remains = tmp_path / "data" / f".phantom-{spec.key()}.partial-killed"
    remains.mkdir(parents=True)
    first = phantom.ensure_phantom(spec)
    assert not remains.exists()
    assert first == tmp_path / "data" / f"phantom-{spec.key()}" / "images"
    before = bytes_below(first.parent)
    monkeypatch.setattr(phantom, "take", None)  # making it anew would fail
    assert phantom.ensure_phantom(spec) == first and bytes_below(first.parent) == before


def test_truths_of_another_folder_are_a_clear_error(tmp_path):
    with pytest.raises(MpoxError, match="no planted truths"):
        phantom.read_truths(tmp_path)
