"""From a folder to the manifest: labels, patients, what is rejected and why, and the cache of a scan."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_pictures import png_header

import mpox.data.manifest
from mpox._core import MpoxError
from mpox.data.groups import connected, patient_groups, same_value_links, source_groups
from mpox.data.manifest import COLUMNS, UNLABELLED, build_manifest, manifest_hash, scan
from mpox.data.registry import REGISTRY, get_spec, locate


def picture(seed: int = 0, size: tuple[int, int] = (48, 36)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def two_classes(root, names=("Monkeypox", "Normal")):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        picture(number).save(root / name / "a.png")
    return root


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
    picture(0, (36, 48)).save(root / "Normal" / "c.png")
    manifest = build_manifest(root).set_index("image_id")
    first, copy = manifest.loc["Monkeypox/a.png"], manifest.loc["Normal/b.bmp"]
    assert first["pixel_sha256"] == copy["pixel_sha256"] and first["sha256"] != copy["sha256"]
    assert manifest["pixel_sha256"].nunique() == 3


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


def rejected_of(frame: pd.DataFrame) -> dict[str, str]:
    return dict(frame.attrs["rejected"])


def test_unusable_files_are_listed_with_a_reason(tmp_path):
    root = two_classes(tmp_path / "d")
    (root / "Normal" / "empty.jpg").write_bytes(b"")
    (root / "Normal" / "letter.jpg").write_text("Dear colleague")
    picture(3, (200, 200)).save(root / "Normal" / "whole.jpg")
    whole = (root / "Normal" / "whole.jpg").read_bytes()
    (root / "Normal" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "Normal" / "notes.txt").write_text("x")
    (root / "Normal" / "no_extension").write_bytes(whole)
    (root / "Normal" / ".hidden.png").write_bytes(b"x")
    (root / "Normal" / ".thumbnails").mkdir()
    picture(4).save(root / "Normal" / ".thumbnails" / "a.png")
    (root / "Monkeypox" / "bomb.png").write_bytes(png_header(60_000, 60_000))
    picture(5, (31, 400)).save(root / "Monkeypox" / "icon.png")
    picture(6, (32, 32)).save(root / "Monkeypox" / "large_enough.png")
    os.mkfifo(root / "Monkeypox" / "pipe.jpg")
    manifest = build_manifest(root)
    assert manifest["image_id"].tolist() == ["Monkeypox/a.png", "Monkeypox/large_enough.png", "Normal/a.png", "Normal/whole.jpg"]
    reasons = {
        "Monkeypox/bomb.png": "has more pixels than can be decoded safely",
        "Monkeypox/icon.png": "is too small (31 x 400 pixels)",
        "Monkeypox/pipe.jpg": "is no regular file",
        "Normal/cut.jpg": "cannot be read as a picture (image file is truncated",
        "Normal/empty.jpg": "is empty (0 bytes)",
        "Normal/letter.jpg": "cannot be read as a picture (its content is text)",
        "Normal/no_extension": "has the extension (none)",
        "Normal/notes.txt": "has the extension .txt",
    }
    rejected = rejected_of(manifest)
    assert list(rejected) == list(reasons)
    for image_id, reason in reasons.items():
        assert rejected[image_id].startswith(reason)


@pytest.mark.parametrize("suffix", [".jfif", ".webp", ".tif", ".JPG", ".jp2", ".pcx", ".heic", ".ppm", ".tga", ".gif"])
def test_any_extension_that_can_be_decoded_counts(tmp_path, suffix):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    root = two_classes(tmp_path / "d")
    picture(4, (64, 48)).save(root / "Normal" / f"b{suffix}")
    manifest = build_manifest(root)
    assert manifest["image_id"].tolist()[-1] == f"Normal/b{suffix}"
    assert manifest[["width", "height"]].iloc[-1].tolist() == [64, 48]


def test_the_content_decides_not_the_extension(tmp_path):
    root = two_classes(tmp_path / "d")
    picture(4).save(root / "Normal" / "b.jpg", format="PNG")
    manifest = build_manifest(root).set_index("image_id")
    pixels = hashlib.sha256(repr((48, 36)).encode() + np.asarray(picture(4)).tobytes()).hexdigest()
    assert manifest.loc["Normal/b.jpg", "pixel_sha256"] == pixels


def test_links_are_followed_to_pictures_of_the_same_set_only(tmp_path):
    root = two_classes(tmp_path / "d")
    normal, outside = root / "Normal", tmp_path / "private"
    outside.mkdir()
    picture(9).save(outside / "secret.png")
    (root / "Normal" / "inside.png").symlink_to("../Monkeypox/a.png")
    (root / "Normal" / "outside.png").symlink_to(outside / "secret.png")
    (root / "Normal" / "by_dots.png").symlink_to("../../private/secret.png")
    (root / "Normal" / "folder_outside").symlink_to(outside, target_is_directory=True)
    (root / "Normal" / "folder_inside").symlink_to(root / "Monkeypox", target_is_directory=True)
    (root / "Normal" / "up").symlink_to(root, target_is_directory=True)
    (root / "Normal" / "itself.png").symlink_to("itself.png")
    (root / "Normal" / "ping.png").symlink_to("pong.png")
    (root / "Normal" / "pong.png").symlink_to("ping.png")
    (root / "Normal" / "nothing.png").symlink_to("gone.png")
    (root / "Measles").symlink_to(outside, target_is_directory=True)
    (tmp_path / "alias").symlink_to(root, target_is_directory=True)  # the data set's own folder may be a link
    frame = scan(tmp_path / "alias")
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png", "Normal/inside.png"]
    assert frame["path"].tolist() == [str((root / "Monkeypox/a.png").resolve()), str((normal / "a.png").resolve())] + [
        str((root / "Monkeypox/a.png").resolve())
    ]
    rejected = rejected_of(frame)
    assert {name: reason.split(":")[0] for name, reason in rejected.items()} == {
        "Measles": "is a link to a place outside the data set's folder",
        "Normal/by_dots.png": "is a link to a place outside the data set's folder",
        "Normal/folder_inside": "is a link to a folder of the same data set",
        "Normal/folder_outside": "is a link to a place outside the data set's folder",
        "Normal/itself.png": "is a link that leads back to itself",
        "Normal/nothing.png": "is a link to nothing",
        "Normal/outside.png": "is a link to a place outside the data set's folder",
        "Normal/ping.png": "is a link that leads back to itself",
        "Normal/pong.png": "is a link that leads back to itself",
        "Normal/up": "is a link to a folder of the same data set",
    }
    assert "secret" not in str(rejected) and str(tmp_path) not in str(rejected)
    assert frame.attrs["empty"] == ["Measles"]
    with pytest.raises(MpoxError, match=r"Measles of .*\(Measles is a link to a place outside"):
        build_manifest(root)


def test_a_folder_next_door_with_a_longer_name_is_outside(tmp_path):
    root = two_classes(tmp_path / "d")
    two_classes(tmp_path / "d2")
    (root / "Normal" / "b.png").symlink_to(tmp_path / "d2" / "Normal" / "a.png")
    assert "outside" in rejected_of(scan(root))["Normal/b.png"]


def test_names_that_are_not_utf8_survive_as_escaped_rows(tmp_path):
    root = two_classes(tmp_path / "d")
    content = (root / "Normal" / "a.png").read_bytes()
    for name in (b"Normal/caf\xe9.png", b"Normal/\xff\xfe.png"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(content)
    folder = Path(os.fsdecode(os.fsencode(root) + b"/r\xf6teln"))
    folder.mkdir()
    (folder / "a.png").write_bytes(content)
    (root / "Normal" / 'grün, 麻疹 "1".png').write_bytes(content)
    frame = scan(root)
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png", 'Normal/grün, 麻疹 "1".png']
    rejected = rejected_of(frame)
    assert list(rejected) == [r"Normal/\xff\xfe.png", r"Normal/caf\xe9.png", r"r\xf6teln/a.png"]
    assert all("not UTF-8" in reason for reason in rejected.values())
    assert frame.attrs["empty"] == [r"r\xf6teln"]
    pd.DataFrame(frame.attrs["rejected"]).to_csv(tmp_path / "rejected.csv")
    frame.to_csv(tmp_path / "manifest.csv")
    assert len(list(csv.reader((tmp_path / "rejected.csv").open(encoding="utf-8")))) == 4


def test_a_data_set_whose_own_name_is_not_utf8_is_refused(tmp_path):
    root = two_classes(Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9")))
    with pytest.raises(MpoxError, match="not UTF-8: rename that folder"):
        scan(root)


def test_names_that_look_alike_are_both_kept_and_told(tmp_path):
    root = two_classes(tmp_path / "d")
    names = ["a.PNG", "b.png", "caf\u00e9.png", "cafe\u0301.png"]
    for number, name in enumerate(names):
        picture(number + 5).save(root / "Normal" / name)
    frame = build_manifest(root)
    assert sorted(frame["image_id"])[1:] == sorted(f"Normal/{name}" for name in [*names, "a.png"])
    assert not frame.attrs["rejected"] and frame["image_id"].is_unique
    pairs = [["Normal/a.PNG", "Normal/a.png"], ["Normal/cafe\u0301.png", "Normal/caf\u00e9.png"]]
    assert sorted(frame.attrs["alike"]) == pairs


@pytest.fixture
def unprivileged():
    """A folder that everybody can reach, in a process that may not read everything."""
    folder = Path(tempfile.mkdtemp(prefix="mpox-test-"))
    folder.chmod(0o777)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield folder
    finally:
        os.seteuid(user)
        subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_a_row_and_is_asked_again(unprivileged, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(unprivileged / "cache"))
    root = two_classes(unprivileged / "d")
    picture(3).save(root / "Normal" / "locked.png")
    (root / "Normal" / "closed").mkdir()
    picture(4).save(root / "Normal" / "closed" / "b.png")
    (root / "Normal" / "locked.png").chmod(0)
    (root / "Normal" / "closed").chmod(0)
    rejected = rejected_of(build_manifest(root))
    assert list(rejected) == ["Normal/closed", "Normal/locked.png"]
    assert "cannot be listed (Permission denied): make it readable" in rejected["Normal/closed"]
    assert rejected["Normal/locked.png"] == "cannot be opened (Permission denied): make it readable, or remove it"
    (root / "Normal" / "locked.png").chmod(0o600)
    (root / "Normal" / "closed").chmod(0o700)
    assert rejected_of(build_manifest(root)) == {}
    root.chmod(0)
    with pytest.raises(MpoxError, match=r"(cannot be listed|nor an existing folder|Permission denied)"):
        scan(root)


def test_pictures_beside_the_class_folders(tmp_path):
    root = two_classes(tmp_path / "d")
    picture(2).save(root / "stray.png")
    (root / "README.md").write_text("x")
    (root / "patients.csv").write_text("image_id,patient_id\nNormal/a.png,P1\n")
    (root / ".hidden").write_text("x")
    frame = build_manifest(root)
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png"]
    rejected = rejected_of(frame)
    assert list(rejected) == ["README.md", "stray.png"]
    assert rejected["stray.png"] == "lies beside the class folders: move it into the folder of its class"


def test_a_folder_without_classes_can_be_scanned_but_is_no_data_set_to_learn_from(tmp_path):
    root = tmp_path / "phone"
    root.mkdir()
    for number in range(3):
        picture(number).save(root / f"P{number}_1.png")
    (root / "cut.png").write_bytes(b"x")
    frame = scan(root, patient_pattern=r"^(?P<patient>P\d)_")
    assert frame["image_id"].tolist() == ["P0_1.png", "P1_1.png", "P2_1.png"]
    assert set(frame["label"]) == {UNLABELLED} and frame["patient_id"].tolist() == ["P0", "P1", "P2"]
    assert list(rejected_of(frame)) == ["cut.png"] and frame.attrs["empty"] == []
    with pytest.raises(MpoxError, match="one sub-folder a class"):
        build_manifest(root)


def test_scanning_nothing_gives_an_empty_table_of_the_same_kind(tmp_path):
    (tmp_path / "bare").mkdir()
    (two_classes(tmp_path / "some") / "Measles" / "deep").mkdir(parents=True)
    empty, some = scan(tmp_path / "bare"), scan(tmp_path / "some")
    assert len(empty) == 0 and empty.attrs == {"source": "bare", "rejected": [], "empty": [], "alike": []}
    assert empty.dtypes.to_dict() == some.dtypes.to_dict()
    assert some.attrs["empty"] == ["Measles"]


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded while a test runs."""
    names = []
    original = mpox.data.manifest.describe

    def describe(path):
        names.append(os.path.basename(path))
        return original(path)

    monkeypatch.setattr(mpox.data.manifest, "describe", describe)
    return names


def test_only_new_and_changed_files_are_decoded(tmp_path, decoded):
    root = two_classes(tmp_path / "d")
    (root / "Normal" / "letter.jpg").write_text("Dear colleague")
    first = build_manifest(root)
    assert sorted(decoded) == ["a.png", "a.png", "letter.jpg"]
    decoded.clear()
    second = build_manifest(root)
    pd.testing.assert_frame_equal(first, second)
    assert decoded == [] and second.attrs == first.attrs
    picture(5).save(root / "Normal" / "new.png")
    shutil.copy(root / "Normal" / "new.png", root / "Normal" / "letter.jpg")
    (root / "Monkeypox" / "a.png").rename(root / "Monkeypox" / "moved.png")
    third = build_manifest(root)
    assert sorted(decoded) == ["letter.jpg", "moved.png", "new.png"]
    assert not third.attrs["rejected"] and len(third) == 4
    (root / "Monkeypox" / "moved.png").rename(root / "Monkeypox" / "a.png")
    (root / "Normal" / "new.png").unlink()
    (root / "Normal" / "letter.jpg").write_text("Dear colleague")
    pd.testing.assert_frame_equal(build_manifest(root), first)


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    root = two_classes(tmp_path / "d")
    file = root / "Normal" / "b.bmp"
    picture(5).save(file)
    before, when = build_manifest(root), file.stat()
    time.sleep(0.02)
    picture(6).save(file)
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert file.stat().st_size == when.st_size and file.stat().st_mtime_ns == when.st_mtime_ns
    assert manifest_hash(build_manifest(root)) != manifest_hash(before)


def cache_file() -> Path:
    (file,) = (mpox._core.cache_dir() / "scans").glob("*.json")
    return file


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: b"\xff" * 100,
        lambda text: text[: len(text) // 2],
        lambda text: b"[]",
        lambda text: json.dumps({**json.loads(text), "files": {"Normal/a.png": [[1, 2, 3]]}}).encode(),
        lambda text: json.dumps({**json.loads(text), "files": 3}).encode(),
        lambda text: text.replace(b"Pillow", b"Willow"),
        lambda text: b"[" * 100_000,
    ],
    ids=["empty", "noise", "cut", "other", "entry", "files", "version", "deep"],
)
def test_a_damaged_cache_is_rebuilt(tmp_path, monkeypatch, decoded, damage):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    root = two_classes(tmp_path / "d")
    first = build_manifest(root)
    cache_file().write_bytes(damage(cache_file().read_bytes()))
    decoded.clear()
    pd.testing.assert_frame_equal(build_manifest(root), first)
    assert decoded == ["a.png", "a.png"]
    build_manifest(root)
    assert len(decoded) == 2


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "file"))
    with pytest.raises(MpoxError, match="cannot be written .*: make it writable, or set MPOX_CACHE"):
        build_manifest(two_classes(tmp_path / "d"))


def test_an_interrupted_scan_keeps_what_it_found(tmp_path, monkeypatch, decoded):
    root = two_classes(tmp_path / "d")
    for number in range(6):
        picture(number).save(root / "Normal" / f"{number}.png")
    examine = mpox.data.manifest._examine

    def interrupted(path):
        if path.endswith("5.png"):
            raise KeyboardInterrupt
        return examine(path)

    monkeypatch.setattr(mpox.data.manifest, "_examine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan(root, jobs=1)
    monkeypatch.setattr(mpox.data.manifest, "_examine", examine)
    before = len(decoded)
    assert before == 7 and len(scan(root)) == 8
    assert "5.png" in decoded[before:] and len(decoded) < before + 8


def test_processes_and_threads_share_one_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    root = two_classes(tmp_path / "d")
    for number in range(40):
        picture(number).save(root / "Normal" / f"{number}.png")
    code = f"from mpox.data.manifest import scan, manifest_hash; print(manifest_hash(scan({str(root)!r})))"
    others = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        hashes = {manifest_hash(frame) for frame in pool.map(lambda _: scan(root), range(6))}
    hashes |= {process.communicate()[0].strip() for process in others}
    assert len(hashes) == 1
    assert len(json.loads(cache_file().read_text())["files"]) == 42


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
    ids = chained["image_id"]
    by_patient, by_pixels = same_value_links(ids, chained["patient_id"]), same_value_links(ids, chained["pixel_sha256"])
    links = [left + right for left, right in zip(by_patient, by_pixels, strict=True)]
    expected = ["i0", "i0", "i0", "i3", "i3", "i5"]
    assert connected(ids, *links).tolist() == expected
    assert connected(ids[::-1], *links).tolist() == expected[::-1]
    assert patient_groups(chained).tolist() == ["i0", "i0", "i2", "i3", "i4", "i5"]
    assert source_groups(chained.assign(group_id=expected)).tolist() == expected
    with pytest.raises(MpoxError, match="no group_id"):
        source_groups(chained)


def test_no_patients_no_patient_groups():
    with pytest.raises(MpoxError, match="no patient ids.*'source'"):
        patient_groups(frame(patient_id=[None, None]))
