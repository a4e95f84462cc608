"""Skin tone: the formula, the classes, and the estimate against the planted angle and the same picture without lesions."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms
from test_pictures import icc

from mpox.audit.quality import skin_tone
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate, healthy_counterpart, read_truths
from mpox.data.pictures import read_rgb
from mpox.data.skintone import CLASSES, ita_class, ita_degrees, tone

SPEC = PhantomSpec(n_patients=48, corner_mark=False, copies=0, label_conflicts=0)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    images = generate(tmp_path_factory.mktemp("tone") / "phantom", SPEC)
    return images, read_truths(images)


def _pixels(images, image_id) -> np.ndarray:
    return np.asarray(Image.open(images / image_id).convert("RGB"))


def test_the_formula_and_the_classes_of_del_bino():
    assert ita_degrees(np.array([70, 30, 50]), [20, 20, 12]) == pytest.approx([45, -45, 0])
    angles = {60: "very light", 50: "light", 30: "intermediate", 20: "tan", -10: "brown", -60: "dark"}
    assert {angle: ita_class(float(angle)) for angle in angles} == angles
    assert list(CLASSES) == list(angles.values())
    assert ita_class(float("nan")) is None


def test_a_plain_colour_gives_its_own_angle():
    """sRGB (198, 152, 125) is L* 66.8, b* 21.0 in CIELAB for D65."""
    assert tone(np.full((64, 64, 3), (198, 152, 125), np.uint8))["ita"] == pytest.approx(38.6, abs=0.6)


@pytest.mark.parametrize("profile", [icc(), icc(gamma=1.8), icc(red=(0.65, 0.28, 0.0))], ids=["P3", "gamma", "wider"])
def test_the_angle_does_not_move_with_the_colours_of_the_camera(phantom, tmp_path, profile):
    """A photograph as sRGB and the same one written in the colours of a profile, which is embedded."""
    image = Image.open(phantom[0] / phantom[1]["image_id"].iloc[0]).convert("RGB")
    srgb, other = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(BytesIO(profile))
    ImageCms.profileToProfile(image, srgb, other).save(tmp_path / "a.png", icc_profile=profile)
    wanted, ignored = (tone(np.asarray(one))["ita"] for one in (image, Image.open(tmp_path / "a.png")))
    assert tone(np.asarray(read_rgb(tmp_path / "a.png")))["ita"] == pytest.approx(wanted, abs=0.7) != ignored


def test_the_estimate_follows_the_planted_angle(phantom):
    """The error that is left is the light's: pictures vary in exposure and white balance."""
    images, truths = phantom
    found = np.array([tone(_pixels(images, image_id))["ita"] for image_id in truths["image_id"]], float)
    error = found - truths["ita_degrees"]
    assert np.isfinite(found).mean() >= 0.97
    assert error.abs().median() < 12
    assert np.corrcoef(found, truths["ita_degrees"])[0, 1] > 0.9


def test_lesions_are_kept_out(phantom):
    """Against the same photograph with healthy skin; without the step that drops lesions the error is several times as large."""
    images, truths = phantom
    lesioned = truths[(truths["lesion_fraction"] > 0.1) & truths["image_id"].str.endswith("_01.png")]
    assert len(lesioned) >= 15
    kept_out, left_in = [], []
    for row in lesioned.itertuples():
        pixels = _pixels(images, row.image_id)
        healthy = tone(healthy_counterpart(SPEC, int(row.patient_id[1:]), 1))["ita"]
        kept_out.append(abs(tone(pixels)["ita"] - healthy))
        left_in.append(abs(tone(pixels, drop_lesions=False)["ita"] - healthy))
    assert np.median(kept_out) < 1.5
    assert np.median(left_in) > 2 * np.median(kept_out)


def test_no_angle_without_skin_or_colour():
    rng = np.random.default_rng(0)
    blue = np.clip(rng.normal((40, 80, 200), 5, (64, 64, 3)), 0, 255).astype(np.uint8)
    patch = blue.copy()
    patch[:12, :12] = (198, 152, 125)
    grey = np.repeat(rng.integers(60, 200, (64, 64, 1)), 3, axis=2).astype(np.uint8)
    assert tone(blue)["ita"] is None and tone(patch)["ita"] is None
    assert "tenth" in tone(patch)["reason"] and "colour" in tone(grey)["reason"]


def test_one_row_a_picture(phantom):
    manifest = build_manifest(phantom[0].parent / "images").head(6)
    table = skin_tone(manifest, jobs=1)
    assert table["image_id"].tolist() == manifest["image_id"].tolist()
    assert list(table.columns) == ["dataset", "image_id", "label", "skin", "ita", "ita_class", "reason"]
    assert table["ita"].dtype == float and table["skin"].between(0, 1).all()
