"""From a folder to the manifest: labels, patients, rejected files, and pictures of every mode."""

import hashlib
import shutil
import struct
import tracemalloc
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mpox.datasets import REGISTRY, get_spec, locate
from mpox.errors import MpoxError
from mpox.groups import exact_pairs, link_groups, patient_groups, source_groups
from mpox.manifest import COLUMNS, build_manifest, manifest_hash, read_rgb


def picture(seed: int = 0, size: tuple[int, int] = (20, 12)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def two_classes(root, names=("Monkeypox", "Normal")):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        picture(number).save(root / name / "a.png")
    return root


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG of that size, its pixels missing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return start + struct.pack(">I", 1000) + b"IDAT" + zlib.compress(bytes(1000))


def test_rows_tell_what_the_files_are(tiny_folder):
    manifest = build_manifest(tiny_folder)
    assert manifest.columns.tolist() == COLUMNS
    assert len(manifest) == 24
    assert manifest["image_id"].tolist() == sorted(manifest["image_id"])
    assert manifest["image_id"].iloc[0] == "Monkeypox/00.png"
    assert manifest["label"].value_counts().to_dict() == {"Mpox": 12, "Normal": 12}
    assert manifest["patient_id"].isna().all()
    assert set(manifest["source"]) == {"tiny"}
    assert manifest.attrs["rejected"] == []
    for row in manifest.itertuples():
        file = tiny_folder / row.image_id
        assert row.path == str(file.resolve())
        assert row.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (row.width, row.height) == Image.open(file).size


def test_the_same_pixels_in_another_format_have_the_same_pixel_hash(tmp_path):
    root = two_classes(tmp_path / "d")
    picture(0).save(root / "Normal" / "b.bmp")
    picture(0, (12, 20)).save(root / "Normal" / "c.png")
    manifest = build_manifest(root).set_index("image_id")
    first, copy = manifest.loc["Monkeypox/a.png"], manifest.loc["Normal/b.bmp"]
    assert first["pixel_sha256"] == copy["pixel_sha256"] and first["sha256"] != copy["sha256"]
    assert manifest["pixel_sha256"].nunique() == 3
    pairs = exact_pairs(manifest.reset_index())
    assert pairs[["image_id_a", "image_id_b", "label_a", "label_b"]].values.tolist() == [
        ["Monkeypox/a.png", "Normal/b.bmp", "Mpox", "Normal"]
    ]


@pytest.mark.parametrize(
    ("folder", "label"),
    [("Monkeypox", "Mpox"), ("monkey pox", "Mpox"), ("MKP", "Mpox"), ("HEALTHY", "Normal"), ("Normal_image", "Normal"),
     ("Chickenpox_original", "Chickenpox"), ("hfmd", "HFMD"), ("Eczema", "Eczema")],
)  # fmt: skip
def test_labels_are_canonical(tmp_path, folder, label):
    manifest = build_manifest(two_classes(tmp_path / "d", (folder, "zz")))
    assert manifest["label"].tolist() == [label, "zz"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("msld-v1", {"Monkeypox/M01_01.png": "M01", "Others/NM101_02.png": "NM101", "Others/odd.png": None}),
        ("msid", {"Chickenpox/c1.png": None, "Measles/m_1.png": None, "Monkeypox/M1_01.png": None, "Normal/n.png": None}),
        ("msld-v2", {"Original Images/FOLDS/fold1/Test/MKP/MKP_17_01.png": "MKP_17",
                     "Original Images/FOLDS/fold2/Test/HEALTHY/HEALTHY_3_02.png": "HEALTHY_3"}),
    ],
)  # fmt: skip
def test_patients_are_parsed_from_the_names(tmp_path, name, files):
    for number, file in enumerate(files):
        path = tmp_path / REGISTRY[name].folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    train = tmp_path / "msld_v2/Original Images/FOLDS/fold1/Train/MKP"  # the same pictures again, in training parts
    if name == "msld-v2":
        train.mkdir(parents=True)
        picture(9).save(train / "MKP_18_01.png")
    manifest = build_manifest(name, data_dir=tmp_path)
    found = [None if pd.isna(patient) else patient for patient in manifest["patient_id"]]
    assert dict(zip(manifest["image_id"], found, strict=True)) == files
    assert set(manifest["source"]) == {name}


def test_unusable_files_are_listed_with_a_reason(tmp_path):
    root = two_classes(tmp_path / "d")
    (root / "Normal" / "empty.jpg").write_bytes(b"")
    (root / "Normal" / "letter.jpg").write_text("Dear colleague")
    picture(3, (200, 200)).save(root / "Normal" / "whole.jpg")
    whole = (root / "Normal" / "whole.jpg").read_bytes()
    (root / "Normal" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "Normal" / "notes.txt").write_text("x")
    (root / "Normal" / ".hidden.png").write_bytes(b"x")
    (root / "Monkeypox" / "bomb.png").write_bytes(png_header(60_000, 60_000))
    manifest = build_manifest(root)
    assert manifest["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png", "Normal/whole.jpg"]
    rejected = dict(manifest.attrs["rejected"])
    assert sorted(rejected) == [
        "Monkeypox/bomb.png",
        "Normal/cut.jpg",
        "Normal/empty.jpg",
        "Normal/letter.jpg",
        "Normal/notes.txt",
    ]
    assert "truncated" in rejected["Normal/cut.jpg"]
    assert ".txt" in rejected["Normal/notes.txt"]
    assert "cannot be read as a picture" in rejected["Normal/letter.jpg"]


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 9_000)])
def test_a_decompression_bomb_is_refused_before_it_takes_memory(tmp_path, size):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_header(*size))
    tracemalloc.start()
    try:
        with pytest.raises(MpoxError, match="bomb.png .*reduce it"):
            read_rgb(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("orientation", "method"), [(3, "ROTATE_180"), (6, "ROTATE_270"), (8, "ROTATE_90"), (2, "FLIP_LEFT_RIGHT")]
)
def test_exif_orientation_is_applied(tmp_path, orientation, method):
    original = picture(1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    original.save(tmp_path / "turned.png", exif=exif)
    upright = original.transpose(getattr(Image.Transpose, method))
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "turned.png")), np.asarray(upright))


def test_every_mode_becomes_rgb(tmp_path):
    def read(image: Image.Image, suffix: str) -> np.ndarray:
        file = tmp_path / f"{image.mode.replace(';', '')}{suffix}"
        image.save(file)
        result = read_rgb(file)
        assert result.mode == "RGB"
        return np.asarray(result).astype(int)

    flat = Image.new("RGB", (16, 16), (200, 40, 40))
    assert np.abs(read(flat.quantize(8), ".png") - (200, 40, 40)).max() <= 8
    assert np.abs(read(flat.convert("CMYK"), ".jpg") - (200, 40, 40)).max() <= 8
    assert (read(flat.convert("L"), ".png") == np.asarray(flat.convert("L"))[..., None]).all()
    assert set(np.unique(read(flat.convert("1", dither=Image.Dither.NONE), ".png"))) <= {0, 255}

    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    assert np.abs(read(Image.fromarray(ramp), ".png")[..., 0] - ramp / 257).max() <= 1

    clear = Image.new("RGBA", (16, 16), (200, 40, 40, 0))
    assert (read(clear, ".png") == 255).all()
    half = np.asarray(read(Image.new("LA", (16, 16), (0, 128)), ".png"))
    assert np.abs(half - 127).max() <= 1
    palette = flat.quantize(2)
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(tmp_path / "clear.png", transparency=palette.getpixel((0, 0)))
    assert (np.asarray(read_rgb(tmp_path / "clear.png")) == 255).all()


def test_data_sets_that_cannot_be_used(tmp_path):
    with pytest.raises(MpoxError, match="fewer than two classes"):
        build_manifest(two_classes(tmp_path / "one", ("Normal",)))
    with pytest.raises(MpoxError, match="fewer than two classes"):
        build_manifest(two_classes(tmp_path / "same", ("Monkeypox", "Mpox")))
    (two_classes(tmp_path / "empty") / "Measles").mkdir()
    with pytest.raises(MpoxError, match="No readable picture in .*Measles"):
        build_manifest(tmp_path / "empty")
    (tmp_path / "bare").mkdir()
    with pytest.raises(MpoxError, match="one sub-folder a class"):
        build_manifest(tmp_path / "bare")
    two_classes(tmp_path / "msid", ("Monkeypox", "Normal"))
    with pytest.raises(MpoxError, match="Chickenpox, Measles.*fetch or copy it again"):
        build_manifest("msid", data_dir=tmp_path)


def test_a_missing_data_set_names_the_ways_to_get_it(tmp_path):
    with pytest.raises(MpoxError) as raised:
        build_manifest("msld-v1", data_dir=tmp_path)
    for way in ("mpox data fetch msld-v1", REGISTRY["msld-v1"].homepage, "--data-dir", "MPOX_DATA", str(tmp_path)):
        assert way in str(raised.value)


@pytest.mark.parametrize("name", ["msld", "no/such/folder", ""])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(MpoxError, match="neither a registered data set"):
        get_spec(name)


def test_data_are_looked_for_in_order(tmp_path, monkeypatch):
    for place in ("argument", "variable", "cache/data"):
        two_classes(tmp_path / place / "msld_v1", ("Monkeypox", "Others"))
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    assert locate("msld-v1") == tmp_path / "cache/data/msld_v1"
    monkeypatch.setenv("MPOX_DATA", str(tmp_path / "variable"))
    assert locate("msld-v1") == tmp_path / "variable/msld_v1"
    assert locate("msld-v1", data_dir=tmp_path / "argument") == tmp_path / "argument/msld_v1"
    shutil.rmtree(tmp_path / "variable")
    assert locate("msld-v1") == tmp_path / "cache/data/msld_v1"


def test_the_hash_stands_for_the_pictures_not_for_the_place(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder, tmp_path / "elsewhere")
    here, there = build_manifest(tiny_folder), build_manifest(tmp_path / "elsewhere")
    assert not set(here["path"]) & set(there["path"])
    assert manifest_hash(here) == manifest_hash(there) == manifest_hash(here.sample(frac=1, random_state=0))
    picture(7, (64, 64)).save(tmp_path / "elsewhere/Normal/00.png")
    assert manifest_hash(build_manifest(tmp_path / "elsewhere")) != manifest_hash(here)
    for column in ("label", "patient_id"):
        changed = here.copy()
        changed.loc[3, column] = "other"
        assert manifest_hash(changed) != manifest_hash(here)


def frame(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    ids = [f"i{number}" for number in range(n)]
    base = {"image_id": ids, "patient_id": [None] * n, "sha256": ids, "pixel_sha256": ids, "source": "x"}
    return pd.DataFrame({**base, **columns}).astype({"patient_id": "string"})


def test_groups_are_chained_over_patients_and_photographs():
    chained = frame(patient_id=["P1", "P1", "P2", None, None, "P3"], pixel_sha256=["a", "b", "b", "c", "c", "d"])
    assert source_groups(chained).tolist() == ["i0", "i0", "i0", "i3", "i3", "i5"]
    assert patient_groups(chained).tolist() == ["i0", "i0", "i2", "i3", "i4", "i5"]
    turned = chained.iloc[::-1]
    assert source_groups(turned).loc[chained.index].tolist() == source_groups(chained).tolist()
    assert link_groups(frame(patient_id=[None, None]), ["patient_id"]).tolist() == ["i0", "i1"]


def test_no_patients_no_patient_groups():
    with pytest.raises(MpoxError, match="no patient ids.*'source'"):
        patient_groups(frame(patient_id=[None, None]))
