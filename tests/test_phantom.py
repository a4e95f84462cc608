"""The phantom must be what its truths say: every instrument of the study is judged by them."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from mpox._core import MpoxError
from mpox.data import phantom
from mpox.data.phantom import CLASSES, COPY_KINDS, PhantomSpec
from mpox.data.phantom.copies import make_copy

SPEC = PhantomSpec(n_patients=28, size=128, copies=22)


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
    stored = json.loads((images.parent / "truth" / "spec.json").read_text())
    assert PhantomSpec(**stored) == SPEC and stored["copies"] == 22


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


@pytest.mark.parametrize("label", CLASSES)
def test_lesions_are_under_the_mask_and_nowhere_else(unmarked, label):
    truths = phantom.read_truths(unmarked)
    rows = truths[(truths["label"] == label) & truths["copy_of"].isna()].head(8)
    for image_id in rows["image_id"]:
        patient, picture = map(int, re.findall(r"\d+", image_id))
        healthy = phantom.healthy_counterpart(SPEC, patient, picture).astype(float)
        change = np.abs(pixels(unmarked / image_id) - healthy).max(axis=2)
        lesion = mask_of(unmarked, image_id) > 0
        assert change[~lesion].max() <= 4, image_id
        assert change[lesion].mean() > 2 if label != "Normal" else not lesion.any(), image_id


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


def test_copies_meet_classes_and_skin_tones_evenly():
    spec = PhantomSpec(n_patients=660, copies=330)
    plan = pd.DataFrame(phantom.plan_copies(spec, [1] * 660)).query("wrong.isna()")
    plan["label"], plan["tone"] = plan["index"] % 4, plan["index"] // 4 % 6
    assert (plan["kind"].value_counts() == 30).all() and plan["index"].is_unique
    for other in ("label", "tone"):
        table = pd.crosstab(plan["kind"], plan[other])
        assert table.to_numpy().max() - table.to_numpy().min() <= 1
    apart = pd.crosstab(plan["kind"], plan["host"] >= 660)
    assert apart.shape == (len(COPY_KINDS), 2) and apart.to_numpy().min() >= 13
    assert np.histogram(plan["index"], bins=6, range=(0, 660))[0].min() > 30
    assert (plan.loc[plan["host"] < 660, "host"] % 4 == plan.loc[plan["host"] < 660, "label"]).all()


def test_copies_are_as_many_and_of_the_kinds_asked_for():
    spec = PhantomSpec()
    n_pictures = [phantom.person(spec, index).n_pictures for index in range(spec.n_patients)]
    plan = phantom.plan_copies(spec, n_pictures)
    kinds = [filing.kind for filing in plan if not filing.wrong]
    assert {kind: kinds.count(kind) for kind in COPY_KINDS} == dict.fromkeys(COPY_KINDS, 3)
    assert len({filing.index for filing in plan}) == len({(filing.host, filing.number) for filing in plan}) == len(plan)
    two = PhantomSpec(n_patients=20, copies=9, copy_kinds=["rotate", "frame"], label_conflicts=0)
    assert two == PhantomSpec(**json.loads(two.to_json()))
    kinds = [filing.kind for filing in phantom.plan_copies(two, [1] * 20)]
    assert kinds.count("rotate") == 5 and kinds.count("frame") == 4
    every = phantom.plan_copies(PhantomSpec(n_patients=26, copies=25), [1] * 26)
    assert sorted(filing.index for filing in every) == list(range(26))
    assert phantom.plan_copies(PhantomSpec(copies=0, label_conflicts=0), [1] * 110) == []
    three = phantom.plan_copies(PhantomSpec(n_patients=12, copies=0, label_conflicts=3), [1] * 12)
    assert len({filing.index for filing in three}) == 3 and all(filing.index < 12 <= filing.host for filing in three)
    assert all(CLASSES[filing.index % 4] != filing.wrong == "Mpox" for filing in three)


def overlap(copy: np.ndarray, original: np.ndarray, transform: str) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the copy lies on the original (row, column), and which of them lie on it at all."""
    a, b, c, d, e, f = map(float, transform.split())
    inverse = np.linalg.inv([[a, b, c], [d, e, f], [0, 0, 1]])
    y, x = np.mgrid[: copy.shape[0], : copy.shape[1]] + 0.5
    source = np.einsum("ij,jhw->ihw", inverse[:2], np.stack([x, y, np.ones_like(x)]))[::-1] - 0.5
    return source, ((source >= 0) & (source <= np.array(original.shape[:2]).reshape(2, 1, 1) - 1)).all(axis=0)


def likeness(copy: np.ndarray, original: np.ndarray, transform: str) -> float:
    """Correlation of the fine detail of the copy with that of the original laid over it."""
    source, inside = overlap(copy, original, transform)
    shrunk = max(1 / np.sqrt(abs(np.linalg.det(np.reshape([float(v) for v in transform.split()], (2, 3))[:, :2]))), 1)
    smooth = ndimage.gaussian_filter(original.mean(axis=2), 0.6 * np.sqrt(shrunk**2 - 1))
    expected = ndimage.map_coordinates(smooth, source, order=1, mode="nearest")
    detail = [g - ndimage.gaussian_filter(g, 8) for g in (ndimage.gaussian_filter(g, 1.0) for g in (copy.mean(axis=2), expected))]
    within = ndimage.binary_erosion(inside, iterations=12)
    return float(np.corrcoef(detail[0][within], detail[1][within])[0, 1])


def off_by(transform: str, pixels: float) -> str:
    """The same transform, its place in the copy wrong by some pixels to the right."""
    a, b, c, d, e, f = transform.split()
    return f"{a} {b} {float(c) + pixels} {d} {e} {f}"


@pytest.mark.parametrize("kind", COPY_KINDS)
def test_copies_are_the_originals_transformed(unmarked, kind):
    truths = phantom.read_truths(unmarked)
    for row in truths[truths["copy_kind"] == kind].itertuples():
        copy, original = pixels(unmarked / row.image_id), pixels(unmarked / row.copy_of)
        source, inside = overlap(copy, original, row.copy_transform)
        # a rounded corner and a watermark hide some of it; what is left must fit to a pixel
        assert inside.mean() > {"collage": 0.3, "frame": 0.55}.get(kind, 0.6)
        found = likeness(copy, original, row.copy_transform)
        assert found > (0.5 if kind == "frame" else 0.85), row
        assert all(found > likeness(copy, original, off_by(row.copy_transform, error)) for error in (-1.5, 1.5)), row
        mask = mask_of(unmarked, row.copy_of).astype(float)
        moved = ndimage.map_coordinates(mask, source, order=0, mode="constant") > 0
        assert (moved[inside] == (mask_of(unmarked, row.image_id)[inside] > 0)).mean() > 0.96
        if kind != "collage":
            assert not mask_of(unmarked, row.image_id)[~ndimage.binary_dilation(inside, iterations=2)].any()


def make(kind: str, n: int = 40) -> list[tuple[np.ndarray, tuple[float, ...], np.ndarray]]:
    """Copies of one smooth picture of 80 x 80 pixels: image, transform, mask."""
    y, x = np.mgrid[:80, :80]
    image = np.stack([60 + 2 * x, 200 - 2 * y, 100 + x], axis=2).astype(np.uint8)
    other = (np.full((80, 80, 3), (255, 0, 255), np.uint8), np.ones((80, 80), bool))
    mask = np.hypot(x - 30, y - 40) < 9
    made = [make_copy(kind, image, mask, np.random.default_rng(i), others=[other, other]) for i in range(n)]
    return [(copy, transform, stencil) for copy, stencil, transform in made]


@pytest.mark.parametrize("kind", ["crop", "mirror", "squash", "caption", "rescale", "rotate", "frame", "collage"])
def test_transform_is_right_to_a_fraction_of_a_pixel(kind):
    columns, rows = np.meshgrid(np.arange(80), np.arange(80))
    ramp = np.stack([60 + 2 * columns, 200 - 2 * rows], axis=2).astype(float)  # the colour tells the place
    for copy, transform, _ in make(kind):
        source, inside = overlap(copy, ramp, " ".join(map(str, transform)))
        within = ndimage.binary_erosion(inside, iterations=4)
        expected = np.stack([60 + 2 * source[1], 200 - 2 * source[0]], axis=2)
        error = np.median((copy[..., :2] - expected)[within] / 2, axis=0)  # original pixels
        assert np.abs(error).max() < 0.5, transform


def test_grey_copies_have_no_colour_recoloured_ones_another_and_rescaled_ones_their_aspect():
    assert all(np.ptp(copy.astype(int), axis=2).max() == 0 for copy, _, _ in make("grey", 3))
    original = np.array([139.0, 121, 139.5])  # the mean of the smooth image
    for copy, _, _ in make("recolour", 8):
        assert np.abs(copy.mean(axis=(0, 1)) - original).max() > 5 and np.ptp(copy.astype(int), axis=2).mean() > 3
    assert 8 < sum(np.ptp(copy.astype(int), axis=2).max() == 0 for copy, _, _ in make("combined")) < 32
    widths = [copy.shape[1] / 80 for copy, _, _ in make("rescale")]
    assert all(copy.shape[0] == copy.shape[1] for copy, _, _ in make("rescale"))
    assert all(0.39 < w < 0.81 or 1.29 < w < 2.01 for w in widths) and min(widths) < 0.6 and max(widths) > 1.5


def test_rotated_copies_are_turned_by_quarters_or_by_a_little():
    turned = make("rotate", 80)
    degrees = np.array([np.degrees(np.arctan2(d, a)) for _, (a, _, _, d, _, _), _ in turned])
    assert np.allclose([np.hypot(t[0], t[3]) for _, t, _ in turned], 1)
    quarters = np.isclose(degrees % 90, 0, atol=1e-6) | np.isclose(degrees % 90, 90, atol=1e-6)
    assert {round(d) % 360 for d in degrees[quarters]} == {90, 180, 270}
    small = np.abs(degrees[~quarters])
    assert 3 <= small.min() < 8 and 18 < small.max() <= 25 and 20 < len(small) < 60
    sides = [copy.shape[0] for (copy, _, _), quarter in zip(turned, quarters, strict=True) if not quarter]
    assert min(sides) < 80 < max(sides)  # corners cropped away, or filled around the whole picture


def test_mirrored_kinds_turn_the_picture_over():
    for kind in COPY_KINDS:
        signs = {np.sign(a * e - b * d) for _, (a, b, _, d, e, _), _ in make(kind, 8)}
        assert signs == ({-1.0} if kind in ("mirror", "combined") else {1.0}), kind


def test_frames_surround_the_whole_picture():
    for copy, (a, _, side, _, _, top), mask in make("frame"):
        assert a == 1 and side == top and 0.03 * 80 <= side <= 0.15 * 80 + 0.5
        assert copy.shape[1] == 80 + 2 * side and copy.shape[0] >= 80 + 2 * side
        border = copy[:, : int(side) - 1].reshape(-1, 3).astype(int)
        assert (np.abs(border - np.median(border, axis=0)).max(axis=1) < 60).mean() > 0.7
        assert mask.sum() == pytest.approx(np.pi * 81, rel=0.1)


def test_collages_have_two_or_three_panels_side_by_side_or_above_each_other():
    places, shapes = set(), set()
    for copy, (a, b, c, d, e, f), mask in make("collage", 60):
        assert b == d == 0 and a == pytest.approx(e) and 0.49 < a <= 1.01
        long, short = max(copy.shape[:2]), min(copy.shape[:2])
        n = round(long / short - 0.04)
        shapes.add((n, copy.shape[0] > copy.shape[1]))
        places.add((n, round(max(c, f) / (long / n))))
        purple = (copy[..., 0] > 180) & (copy[..., 1] < 70) & (copy[..., 2] > 180)
        assert purple.mean() > 0.8 * (n - 1) / n - 0.03 and mask.mean() > 0.85 * (n - 1) / n
    assert shapes == {(2, False), (2, True), (3, False), (3, True)}
    assert places == {(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}


def test_unknown_kind_of_copy_and_lonely_collage_are_refused():
    for kind in ("blur", "collage"):
        with pytest.raises(ValueError):
            make_copy(kind, np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool), np.random.default_rng(0))


def test_one_photograph_has_two_labels(truths):
    wrong = truths[truths["label"] != truths["true_label"]]
    assert len(wrong) == 1
    pair = truths[truths["conflict"]]
    assert set(pair["image_id"]) == {wrong["image_id"].iloc[0], wrong["copy_of"].iloc[0]}
    assert pair["label"].nunique() == 2 and pair["patient_id"].nunique() == 2


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


def test_same_specification_same_bytes_in_any_number_of_processes(images, tmp_path):
    phantom.generate(tmp_path / "two", SPEC, jobs=2)
    assert bytes_below(tmp_path / "two") == bytes_below(images.parent)


def test_a_photograph_does_not_depend_on_how_many_others_there_are(unmarked, tmp_path):
    few = phantom.generate(tmp_path / "few", PhantomSpec(n_patients=5, size=128, corner_mark=False, copies=2))
    many = bytes_below(unmarked)
    photographed = phantom.read_truths(few).query("copy_of.isna()")["image_id"]
    assert len(photographed) >= 5
    for image_id in photographed:
        assert (few / image_id).read_bytes() == many[image_id]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1}, {"n_patients": 0}, {"size": 32}, {"version": 1}, {"n_patients": 6, "label_conflicts": 2, "copies": 0},
        {"copies": -1}, {"copies": 110}, {"copies": 111, "label_conflicts": 0}, {"copies": True}, {"copies": 2.0},
        {"copy_kinds": ()}, {"copy_kinds": ("crop", "crop")}, {"copy_kinds": ("crop", "blur")}, {"copy_kinds": "crop"},
        {"marked": "Mpox"}, {"marked": ("Cowpox",)},
    ],
)  # fmt: skip
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
        phantom.generate(tmp_path / "p", PhantomSpec(n_patients=4, size=64, copies=2))
    assert len(calls) == 3 and list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(MpoxError, match="exists already"):
        phantom.generate(tmp_path, PhantomSpec(n_patients=2, size=64, copies=1))
    assert os.listdir(tmp_path) == ["mine"]
    with pytest.raises(MpoxError, match="no planted truths"):
        phantom.read_truths(tmp_path)


def test_ensure_phantom_makes_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path))
    spec = PhantomSpec(n_patients=2, size=64, copies=1)
    remains = tmp_path / "data" / f".phantom-{spec.key()}.tmp"
    (remains / "of a process that was killed").mkdir(parents=True)
    first = phantom.ensure_phantom(spec)
    assert not remains.exists()
    assert first == tmp_path / "data" / f"phantom-{spec.key()}" / "images"
    before = bytes_below(first.parent)
    monkeypatch.setattr(phantom, "take", None)  # making it anew would fail
    assert phantom.ensure_phantom(spec) == first and bytes_below(first.parent) == before
