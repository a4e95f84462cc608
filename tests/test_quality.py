"""Image quality: borders, text, blur, exposure and compression, on pictures in which they were planted."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_pictures import icc

from mpox._core import MpoxError
from mpox.audit.quality import image_quality, jpeg_quality, measured, plain_borders, quality_of, text_lines
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate, read_truths
from mpox.data.phantom.copies import make_copy


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    images = generate(tmp_path_factory.mktemp("quality") / "phantom", PhantomSpec(n_patients=16, corner_mark=False, copies=0))
    return images, read_truths(images)


def _pixels(images, image_id) -> np.ndarray:
    return np.asarray(Image.open(images / image_id).convert("RGB"))


def _noise(height=120, width=160) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_borders_are_measured_on_each_side_after_jpeg_and_one_within_another(tmp_path):
    picture = _noise()
    picture[:10], picture[-20:], picture[:, :30], picture[:, -5:] = 250, 250, 250, 250
    assert plain_borders(picture) == (30, 10, 5, 20)
    picture = _noise(160, 240)
    picture[:24], picture[-24:], picture[:, :24], picture[:, -24:] = 10, 10, 10, 10
    picture[:8], picture[-8:], picture[:, :8], picture[:, -8:] = 245, 245, 245, 245
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=80)
    found = plain_borders(np.asarray(Image.open(tmp_path / "a.jpg")))
    assert np.abs(np.array(found) - 24).max() <= 1


def test_a_plain_background_and_a_plain_picture_are_no_borders():
    background = np.full((120, 160, 3), 250, np.uint8)
    background[40:80, 50:110] = _noise(40, 60)  # at no side does it end in a straight edge of half the width
    assert plain_borders(background) == (0, 0, 0, 0)
    assert plain_borders(np.full((120, 160, 3), 90, np.uint8)) == (0, 0, 0, 0)


def test_photographs_have_no_borders_and_captioned_copies_do(phantom):
    images, truths = phantom
    rng = np.random.default_rng(1)
    plain, captioned = [], []
    for image_id in truths["image_id"].iloc[::2]:
        pixels = _pixels(images, image_id)
        plain.append(any(plain_borders(pixels)))
        captioned.append(any(plain_borders(make_copy("frame", pixels, np.zeros(pixels.shape[:2], bool), rng)[0])))
    assert np.mean(plain) <= 0.05 and np.mean(captioned) >= 0.8


def test_text_is_found_on_captioned_copies_and_not_on_skin(phantom):
    """Recall and precision of the detector, on copies that the phantom's own generator captioned."""
    images, truths = phantom
    rng = np.random.default_rng(0)
    plain, captioned = [], []
    for image_id in truths["image_id"]:
        pixels = _pixels(images, image_id)
        plain.append(bool(text_lines(pixels)))
        captioned.append(bool(text_lines(make_copy("caption", pixels, np.zeros(pixels.shape[:2], bool), rng)[0])))
    assert np.mean(captioned) >= 0.9
    assert sum(captioned) / (sum(captioned) + sum(plain)) >= 0.95


def test_blur_and_exposure_follow_what_is_done_to_a_picture(phantom, tmp_path):
    from PIL import ImageFilter

    images, truths = phantom
    picture = Image.open(images / truths["image_id"].iloc[0]).convert("RGB")
    picture.save(tmp_path / "sharp.png")
    picture.filter(ImageFilter.GaussianBlur(3)).save(tmp_path / "soft.png")
    picture.point(lambda value: min(value * 4, 255)).save(tmp_path / "bright.png")
    sharp, soft, bright = (quality_of(str(tmp_path / f"{name}.png")) for name in ("sharp", "soft", "bright"))
    assert soft["blur"] > sharp["blur"] + 0.1 and soft["sharpness"] < sharp["sharpness"] / 2
    assert bright["clipped_bright"] > sharp["clipped_bright"] + 0.2
    assert bright["lightness"] > sharp["lightness"] and sharp["clipped_dark"] == 0


@pytest.mark.parametrize("setting", [30, 55, 75, 90])
def test_jpeg_quality_is_read_from_the_tables(tmp_path, setting):
    Image.fromarray(_noise()).save(tmp_path / "a.jpg", quality=setting)
    Image.fromarray(_noise()).save(tmp_path / "a.png")
    assert abs(jpeg_quality(tmp_path / "a.jpg") - setting) <= 2
    assert jpeg_quality(tmp_path / "a.png") is None


def test_one_row_a_picture_in_the_manifests_order_and_from_the_cache_the_second_time(tiny_folder, monkeypatch):
    manifest = build_manifest(tiny_folder).iloc[::-1].reset_index(drop=True)
    table = image_quality(manifest, jobs=1)
    assert table["image_id"].tolist() == manifest["image_id"].tolist()
    assert table["jpeg_quality"].isna().all() and table["file_bytes"].gt(0).all()
    assert table["bytes_per_pixel"].round(2).equals((table["file_bytes"] / 64**2).round(2))
    monkeypatch.setattr("mpox.audit.quality.read_rgb", lambda path: pytest.fail("a picture was read again"))
    pd.testing.assert_frame_equal(image_quality(manifest, jobs=1), table)


def test_a_colour_profile_is_named_and_its_image_measured_anew_when_it_is_decoded_otherwise(tiny_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns("*[3-9].png", "1*.png"))
    first, second, *_ = sorted(folder.rglob("*.png"))
    Image.open(first).save(first, icc_profile=icc())
    with monkeypatch.context() as before:  # as it was decoded before profiles were heeded
        before.setattr("mpox.data.pictures._profiles", lambda image, stream: [])
        before.setattr("mpox.data.pictures.DECODER", 2)
        old = build_manifest(folder)
        plain = image_quality(old, jobs=1).set_index("image_id")
    Image.open(second).save(second, icc_profile=b"broken")
    manifest = build_manifest(folder)
    table = image_quality(manifest, jobs=1).set_index("image_id")
    said = table["colour_profile"].dropna()
    assert said.to_dict() == {
        first.relative_to(folder).as_posix(): "ICC profile: converted",
        second.relative_to(folder).as_posix(): "ICC profile ignored: cannot open profile from string",
    }
    changed = (manifest["pixel_sha256"] != old["pixel_sha256"]).to_numpy()
    assert manifest.loc[changed, "path"].tolist() == [str(first)]
    assert ((table["chroma"] != plain["chroma"]).to_numpy() == changed).all()


def test_pictures_that_are_not_here_are_one_sentence(tiny_folder):
    manifest = build_manifest(tiny_folder).assign(path=pd.NA)
    with pytest.raises(MpoxError, match="--data-dir"):
        image_quality(manifest)


def test_a_damaged_entry_of_the_cache_is_measured_anew(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path))
    manifest = build_manifest(tiny_folder).head(2)
    before = measured(manifest, quality_of, "damaged", jobs=1)
    for file in (tmp_path / "audit" / "damaged").rglob("*.json"):
        file.write_text("{")
    pd.testing.assert_frame_equal(measured(manifest, quality_of, "damaged", jobs=1), before)


def test_the_place_of_text_is_given_as_shares(phantom):
    from PIL import ImageDraw

    images, truths = phantom
    picture = Image.open(images / truths["image_id"].iloc[0]).convert("RGB").resize((448, 448))
    ImageDraw.Draw(picture).text((100, 300), "MEASLES VIRUS", fill="white", font_size=30, stroke_width=3, stroke_fill="black")
    left, top, right, bottom = max(text_lines(np.asarray(picture)), key=lambda box: box[2] - box[0])
    assert 0.15 < left < 0.35 and 0.6 < top < bottom < 0.78 and right > left + 0.2
