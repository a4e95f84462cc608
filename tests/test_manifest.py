"""From a folder to the manifest: labels, patients, what is rejected and why, and the cache of a scan."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_pictures import png_header

import mpox.data.manifest
from mpox._core import MpoxError
from mpox.data.groups import connected, patient_groups, same_value_links, source_groups
from mpox.data.manifest import (
    COLUMNS,
    PASSED_OVER,
    UNLABELLED,
    build_manifest,
    manifest_hash,
    match_patients,
    read_patients,
    scan,
)
from mpox.data.registry import REGISTRY, get_spec, locate


def image(seed: int = 0, size: tuple[int, int] = (48, 36)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def save(root: Path, *image_ids: str) -> Path:
    for number, image_id in enumerate(image_ids):
        (root / image_id).parent.mkdir(parents=True, exist_ok=True)
        image(number).save(root / image_id)
    return root


def two_classes(root, names=("Monkeypox", "Normal")):
    return save(root, *(f"{name}/a.png" for name in names))


def patients_of(frame) -> list:
    return [None if pd.isna(patient) else patient for patient in frame["patient_id"]]


def rejected_of(frame: pd.DataFrame) -> dict[str, str]:
    return dict(frame.attrs["rejected"])


def test_rows_tell_what_the_files_are(tiny_folder):
    manifest = build_manifest(tiny_folder)
    assert manifest.columns.tolist() == COLUMNS and len(manifest) == 24
    assert manifest["image_id"].tolist() == sorted(manifest["image_id"]) and manifest["image_id"].iloc[0] == "Monkeypox/00.png"
    assert manifest["label"].value_counts().to_dict() == {"Mpox": 12, "Normal": 12}
    assert manifest["patient_id"].isna().all() and set(manifest["source"]) == {"tiny"} and manifest.attrs["rejected"] == []
    for row in manifest.itertuples():
        file = tiny_folder / row.image_id
        assert row.path == str(file.resolve()) and row.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (row.width, row.height) == Image.open(file).size


@pytest.mark.parametrize(
    ("folder", "label"),
    [("Monkeypox", "Mpox"), ("monkey pox", "Mpox"), ("MKP", "Mpox"), ("HEALTHY", "Normal"), ("Normal_image", "Normal"),
     ("Chickenpox_original", "Chickenpox"), ("hfmd", "HFMD"), ("Eczema", "Eczema")],
)  # fmt: skip
def test_labels_are_canonical(tmp_path, folder, label):
    assert build_manifest(two_classes(tmp_path / "d", (folder, "zz")))["label"].tolist() == [label, "zz"]


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
    save(tmp_path / REGISTRY[name].folder, *files)
    if name == "msld-v2":  # the same images again, in training parts
        save(tmp_path / "msld_v2/Original Images/FOLDS/fold1/Train/MKP", "MKP_18_01.png")
    manifest = build_manifest(name, data_dir=tmp_path)
    assert dict(zip(manifest["image_id"], patients_of(manifest), strict=True)) == files and set(manifest["source"]) == {name}


def test_unusable_files_are_listed_with_a_reason(tmp_path):
    root = two_classes(tmp_path / "d")
    normal, monkeypox = root / "Normal", root / "Monkeypox"
    image(3, (200, 200)).save(normal / "whole.jpg")
    whole = (normal / "whole.jpg").read_bytes()
    (normal / "empty.jpg").write_bytes(b"")
    (normal / "letter.jpg").write_text("Dear colleague")
    (normal / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (normal / "notes.txt").write_text("x")
    (normal / "no_extension").write_bytes(whole)
    (normal / ".hidden.png").write_bytes(b"x")
    save(normal / ".thumbnails", "a.png")
    (monkeypox / "bomb.png").write_bytes(png_header(60_000, 60_000))
    image(5, (31, 400)).save(monkeypox / "icon.png")
    image(6, (32, 32)).save(monkeypox / "large_enough.jpg", format="PNG")  # the content decides, not the extension
    os.mkfifo(monkeypox / "pipe.jpg")
    save(root, "stray.png")
    (root / "README.md").write_text("x")
    (root / "patients.csv").write_text("image_id,patient_id\nNormal/a.png,P1\n")
    manifest = build_manifest(root)
    assert manifest["image_id"].tolist() == ["Monkeypox/a.png", "Monkeypox/large_enough.jpg", "Normal/a.png", "Normal/whole.jpg"]
    reasons = {
        "Monkeypox/bomb.png": "cannot be read as an image (Image size (3600000000 pixels) exceeds",
        "Monkeypox/icon.png": "is too small (31 x 400 pixels)",
        "Monkeypox/pipe.jpg": "cannot be read as an image (no regular file)",
        "Normal/cut.jpg": "cannot be read as an image (image file is truncated",
        "Normal/empty.jpg": "cannot be read as an image (0 bytes",
        "Normal/letter.jpg": "cannot be read as an image (of no known format)",
        "Normal/no_extension": "has the extension (none)",
        "Normal/notes.txt": "has the extension .txt",
        "README.md": "has the extension .md",
        "stray.png": "lies beside the class folders",
    }
    rejected = rejected_of(manifest)
    assert list(rejected) == list(reasons) and all(rejected[image_id].startswith(reasons[image_id]) for image_id in reasons)


def test_links_are_followed_to_images_of_the_same_set_only(tmp_path):
    root = two_classes(tmp_path / "d")
    outside = save(tmp_path / "d2", "secret.png")  # next door, with a longer name
    links = {"inside.png": "../Monkeypox/a.png", "outside.png": outside / "secret.png", "by_dots.png": "../../d2/secret.png",
             "folder_outside": outside, "folder_inside": root / "Monkeypox", "up": root, "itself.png": "itself.png",
             "ping.png": "pong.png", "pong.png": "ping.png", "nothing.png": "gone.png"}  # fmt: skip
    for name, target in links.items():
        (root / "Normal" / name).symlink_to(target)
    (root / "Measles").symlink_to(outside)
    (tmp_path / "alias").symlink_to(root)  # the data set's own folder may be a link
    frame = scan(tmp_path / "alias")
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png", "Normal/inside.png"]
    real = [str((root / name).resolve()) for name in ("Monkeypox/a.png", "Normal/a.png")]
    assert frame["path"].tolist() == [*real, real[0]]
    rejected = rejected_of(frame)
    assert set(rejected) == {"Measles", *(f"Normal/{name}" for name in links if name != "inside.png")}
    assert set(rejected.values()) == {"is a link that leads to no file of this data set: put a copy in its place"}
    assert frame.attrs["empty"] == ["Measles"]
    with pytest.raises(MpoxError, match=r"Measles of .*\(Measles is a link that leads to no file"):
        build_manifest(root)


def test_names_that_are_not_utf8_survive_as_escaped_rows(tmp_path):
    root = two_classes(tmp_path / "d")
    content = (root / "Normal" / "a.png").read_bytes()
    for name in (b"/Normal/caf\xe9.png", b"/Normal/\xff\xfe.png", b"/r\xf6teln/a.png", '/Normal/grün, 麻疹 "1".png'.encode()):
        path = Path(os.fsdecode(os.fsencode(root) + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    frame = scan(root)
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png", 'Normal/grün, 麻疹 "1".png']
    rejected = rejected_of(frame)
    assert list(rejected) == [r"Normal/\xff\xfe.png", r"Normal/caf\xe9.png", r"r\xf6teln/a.png"]
    assert all("not UTF-8" in reason for reason in rejected.values()) and frame.attrs["empty"] == [r"r\xf6teln"]
    pd.DataFrame(frame.attrs["rejected"]).to_csv(tmp_path / "rejected.csv")
    assert len(list(csv.reader((tmp_path / "rejected.csv").open(encoding="utf-8")))) == 4
    with pytest.raises(MpoxError, match="not UTF-8: rename that folder"):
        scan(two_classes(Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9"))))


def test_names_that_look_alike_are_both_kept_and_told(tmp_path):
    names = ["a.PNG", "b.png", "caf\u00e9.png", "cafe\u0301.png"]
    frame = build_manifest(save(two_classes(tmp_path / "d"), *(f"Normal/{name}" for name in names)))
    assert sorted(frame["image_id"])[1:] == sorted(f"Normal/{name}" for name in [*names, "a.png"]) and not frame.attrs["rejected"]
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
    root = save(two_classes(unprivileged / "d"), "Normal/locked.png", "Normal/closed/b.png")
    (root / "Normal" / "locked.png").chmod(0)
    (root / "Normal" / "closed").chmod(0)
    assert rejected_of(build_manifest(root)) == {
        "Normal/closed": "is a folder that cannot be listed (Permission denied): make it readable",
        "Normal/locked.png": "cannot be opened (Permission denied): make it readable, or remove it",
    }
    (root / "Normal" / "locked.png").chmod(0o600)
    (root / "Normal" / "closed").chmod(0o700)
    assert rejected_of(build_manifest(root)) == {}
    root.chmod(0)
    with pytest.raises(MpoxError, match=r"(cannot be listed|nor an existing folder|Permission denied)"):
        scan(root)


def test_a_folder_without_classes_can_be_scanned_but_is_no_data_set_to_learn_from(tmp_path):
    root = save(tmp_path / "phone", "P0_1.png", "P1_1.png")
    (root / "cut.png").write_bytes(b"x")
    frame = scan(root, patient_pattern=r"^(?P<patient>P\d)_")
    assert frame["image_id"].tolist() == ["P0_1.png", "P1_1.png"] and patients_of(frame) == ["P0", "P1"]
    assert set(frame["label"]) == {UNLABELLED} and list(rejected_of(frame)) == ["cut.png"] and frame.attrs["empty"] == []
    with pytest.raises(MpoxError, match="one sub-folder a class"):
        build_manifest(root)
    (tmp_path / "bare").mkdir()
    empty = scan(tmp_path / "bare")
    assert len(empty) == 0 and empty.attrs == {"source": "bare", "rejected": [], "empty": [], "alike": [], "not_known": {}}
    assert empty.dtypes.to_dict() == frame.dtypes.to_dict()


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded while a test runs."""
    names, original = [], mpox.data.manifest.describe
    monkeypatch.setattr(mpox.data.manifest, "describe", lambda path: names.append(os.path.basename(path)) or original(path))
    return names


def test_only_new_and_changed_files_are_decoded(tmp_path, decoded, monkeypatch):
    root = two_classes(tmp_path / "d")
    (root / "Normal" / "letter.jpg").write_text("Dear colleague")
    first = build_manifest(root)
    assert sorted(decoded) == ["a.png", "a.png", "letter.jpg"]
    decoded.clear()
    second = build_manifest(root)
    pd.testing.assert_frame_equal(first, second)
    assert decoded == [] and second.attrs == first.attrs
    save(root / "Normal", "new.png")
    shutil.copy(root / "Normal" / "new.png", root / "Normal" / "letter.jpg")
    (root / "Monkeypox" / "a.png").rename(root / "Monkeypox" / "moved.png")
    old, when = root / "Normal" / "a.png", (root / "Normal" / "a.png").stat()
    content = bytearray(old.read_bytes())
    content[-1] ^= 1
    old.write_bytes(content)  # of the same size, and said to be of the same time
    os.utime(old, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert len(build_manifest(root)) >= 3 and sorted(decoded) == ["a.png", "letter.jpg", "moved.png", "new.png"]
    monkeypatch.setattr(mpox.data.manifest, "decoder_versions", lambda: "of tomorrow")
    build_manifest(root)
    assert len(decoded) == 8


@pytest.mark.parametrize(
    "damage",
    [lambda text: b"", lambda text: b"\xff" * 100, lambda text: text[: len(text) // 2], lambda text: b"[]", lambda text: b"3",
     lambda text: json.dumps({"Normal/a.png": []}).encode(), lambda text: b"[" * 100_000],
    ids=["empty", "noise", "cut", "list", "number", "entry", "deep"],
)  # fmt: skip
def test_a_damaged_cache_is_rebuilt(tmp_path, monkeypatch, decoded, damage):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    root = two_classes(tmp_path / "d")
    first = build_manifest(root)
    (file,) = (tmp_path / "cache" / "scans").glob("*.json")
    file.write_bytes(damage(file.read_bytes()))
    pd.testing.assert_frame_equal(build_manifest(root), first)
    build_manifest(root)
    assert decoded == ["a.png"] * 4


def test_an_interrupted_scan_keeps_what_it_found(tmp_path, monkeypatch, decoded):
    root = save(two_classes(tmp_path / "d"), *(f"Normal/{number}.png" for number in range(6)))
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
    assert len(scan(root)) == 8 and "5.png" in decoded[before:] and len(decoded) < before + 8


@pytest.mark.parametrize(
    ("folders", "name", "sentence"),
    [
        (["d/Normal"], "d", "fewer than two classes"),
        (["d/Monkeypox", "d/Mpox"], "d", "fewer than two classes"),
        (["d/Monkeypox", "d/Normal", "d/Measles/"], "d", "No readable image in .*Measles"),
        (["d/"], "d", "one sub-folder a class"),
        (["msid/Monkeypox", "msid/Normal"], "msid", "Chickenpox, Measles.*fetch or copy it again"),
        ([], "msld-v1", "mpox data fetch msld-v1.*by hand from http.*--data-dir or MPOX_DATA"),
        ([], "no/such/folder", "neither a registered data set"),
        ([], "", "neither a registered data set"),
    ],
)
def test_data_sets_that_cannot_be_used(tmp_path, folders, name, sentence):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        if not folder.endswith("/"):
            save(tmp_path / folder, "a.png")
    with pytest.raises(MpoxError, match=sentence):
        build_manifest(tmp_path / name if name == "d" else name, data_dir=tmp_path)


def test_data_are_looked_for_in_order(tmp_path, monkeypatch):
    for place in ("argument", "variable", "cache/data"):
        two_classes(tmp_path / place / "msld_v1", ("Monkeypox", "Others"))
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    assert locate("msld-v1") == tmp_path / "cache/data/msld_v1"
    monkeypatch.setenv("MPOX_DATA", str(tmp_path / "variable"))
    assert locate("msld-v1") == tmp_path / "variable/msld_v1"
    assert locate("msld-v1", data_dir=tmp_path / "argument") == tmp_path / "argument/msld_v1"
    shutil.rmtree(tmp_path / "variable")
    assert locate("msld-v1") == tmp_path / "cache/data/msld_v1" and get_spec(tmp_path).name == str(tmp_path)


def test_the_hash_stands_for_the_images_not_for_the_place(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder, tmp_path / "elsewhere")
    here, there = build_manifest(tiny_folder), build_manifest(tmp_path / "elsewhere")
    assert not set(here["path"]) & set(there["path"])
    assert manifest_hash(here) == manifest_hash(there) == manifest_hash(here.sample(frac=1, random_state=0))
    Image.open(tiny_folder / "Normal/01.png").save(tmp_path / "elsewhere/Normal/01.png", compress_level=0)
    assert manifest_hash(build_manifest(tmp_path / "elsewhere")) == manifest_hash(here)  # other bytes, the same pixels
    image(7, (64, 64)).save(tmp_path / "elsewhere/Normal/00.png")
    assert manifest_hash(build_manifest(tmp_path / "elsewhere")) != manifest_hash(here)
    for column in ("label", "patient_id"):
        changed = here.copy()
        changed.loc[3, column] = "other"
        assert manifest_hash(changed) != manifest_hash(here)


def frame(**columns) -> pd.DataFrame:
    ids = [f"i{number}" for number in range(len(next(iter(columns.values()))))]
    base = {"image_id": ids, "patient_id": [None] * len(ids), "pixel_sha256": ids, "source": "x"}
    return pd.DataFrame({**base, **columns}).astype({"patient_id": "string"})


def test_groups_are_chained_over_patients_and_photographs():
    chained = frame(patient_id=["P1", "P1", "P2", None, None, "P3"], pixel_sha256=["a", "b", "b", "c", "c", "d"])
    ids = chained["image_id"]
    by_patient, by_pixels = same_value_links(ids, chained["patient_id"]), same_value_links(ids, chained["pixel_sha256"])
    links = [left + right for left, right in zip(by_patient, by_pixels, strict=True)]
    expected = ["i0", "i0", "i0", "i3", "i3", "i5"]
    assert connected(ids, *links).tolist() == expected and connected(ids[::-1], *links).tolist() == expected[::-1]
    assert patient_groups(chained).tolist() == ["i0", "i0", "i2", "i3", "i4", "i5"]
    assert source_groups(chained.assign(group_id=expected)).tolist() == expected
    with pytest.raises(MpoxError, match="no group_id"):
        source_groups(chained)
    with pytest.raises(MpoxError, match="no patient ids.*'source'"):
        patient_groups(frame(patient_id=[None, None]))


IDS = ["Mpox/a.png", "Mpox/b.png", "Normal/a.png", "Normal/caf\u00e9.png"]


def table(tmp_path, text: str, encoding: str = "utf-8"):
    file = tmp_path / "patients.csv"
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize(
    "text",
    [
        "image_id,patient_id\nMpox/a.png,007\nNormal/a.png,N1\n",
        "patient_id;site;image_id\r\n007;x;Mpox/a.png\r\nN1;;Normal/a.png\r\n;;\r\n ; ;\r\n",
        "\ufeffimage_id\tpatient_id\nMpox/a.png\t007\nNormal/a.png\tN1",
        ' Image_ID , Patient_id \n"Mpox\\a.png", 007 \n./Normal/a.png,N1\n',
        "image_id,patient_id\nMpox/a.png,007\nMpox/a.png,007\nNormal/a.png,N1\nMpox/b.png,\n",
        "file,patient_id\nMpox/a.png,007\nNormal/a.png,N1\nb.png,\n",
        "file,patient_id\nMpox/a.png,007,,\n\nNormal/a.png,N1\ncafe\u0301.png\ncut.png,P2\n",
        "image_id,patient_id\nMpox/a.png,NA\nMpox/a.png,007\nMpox/a.png,?\nNormal/a.png,N1\n",
        '\r\nsep=;\r\n"image_id";"notes";"patient_id";"notes"\r\nMpox/a.png;,,,;007;\r\nNormal/a.png;,;N1\r\n',
        "image_id,patient_id\rMpox/a.png,007\rNormal/a.png,N1\r",
        "image_id,patient_id\nMpox/a.png,\u200b007 \nMpox/a.png,007\nNormal/a.png,N1\n",
    ],
)
def test_tables_as_people_write_them(tmp_path, text):
    assert read_patients(table(tmp_path, text), IDS, rejected=["Mpox/cut.png"]) == {"Mpox/a.png": "007", "Normal/a.png": "N1"}


def test_a_table_in_utf_16_and_one_patient_in_two_unicode_forms_are_read(tmp_path):
    text = "image_id\tpatient_id\nMpox/a.png\tJos\u00e9  B\nNormal/a.png\tJose\u0301 B\n"
    assert set(read_patients(table(tmp_path, text, "utf-16"), IDS).values()) == {"Jos\u00e9 B"}
    root = save(tmp_path / "d", "Mpox/Pe\u0301_1.png", "Mpox/P\u00e9_2.png", "Normal/Q_1.png")
    assert scan(root, patient_pattern=r"^(?P<patient>.+)_\d")["patient_id"].nunique() == 2


QUOTE = '"'
NO_PATIENT = [
    "NA",
    '"NA"',
    "nan",
    "N/A",
    "n.a.",
    "NULL",
    "None",
    "#N/A",
    "NA_character_",
    "not provided",
    "(empty)",
    "#REF!",
    "<NA>",
    "\\N",
    "unknown",
    "Not known",
    "-",
    "?",
    "--",
    "#NV",
    "#N/D",
    "unknown patient",
    "not documented",
    "anonymised",
    "n.d.",
    "-1",
    "-99",
]


def test_markers_of_a_missing_value_are_no_patient_and_told(tmp_path):
    ids = [f"Mpox/P{marker.strip(QUOTE).replace('/', '_')}_{number}.png" for number, marker in enumerate(NO_PATIENT)]
    root = save(tmp_path / "d", *ids, "Normal/a.png", "Normal/b.png")
    rows = [f"{image_id},{marker}" for image_id, marker in zip(ids, NO_PATIENT, strict=True)]
    table(root, "\n".join(["image_id,patient_id", *rows, "Normal/a.png,Nan1", "Normal/b.png,"]))
    frame = scan(root)
    assert frame.set_index("image_id")["patient_id"].dropna().to_dict() == {"Normal/a.png": "Nan1"}
    assert frame.attrs["not_known"] == {"NA": 2} | {marker: 1 for marker in NO_PATIENT[2:]}
    (root / "patients.csv").unlink()
    named = scan(root, patient_pattern=r"^P(?P<patient>.+)_\d+$")  # in names as in tables
    assert named["patient_id"].isna().all() and sum(named.attrs["not_known"].values()) == len(NO_PATIENT)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,patient\na,b\n", "patients.csv needs the columns image_id .or file. and patient_id; it has image, patient"),
        ("", "it has none"),
        ("image_id,patient_id,Patient_ID\na,b,c\n", "patients.csv has the column patient_id more than once: keep one"),
        ("file,file,patient_id\na,b,c\n", "the column file more than once"),
        ("image_id,patient_id\nMpox/a.png,P1\nMpox/a.png,P2\n", r"1 image.*'Mpox/a.png'.*two different patients"),
        ("image_id,patient_id\nMpox/x.png,P1\nb.png,P2\n", r"2 image.s. .'Mpox/x.png', 'b.png'., which are not in"),
        ("file,patient_id\na.png,P1\n", "'a.png'.* more than once: give their path"),
        ("image_id,patient_id\nMpox/a,1.png,P1\n", "more cells than columns, 'Mpox/a'"),
        ('image_id,patient_id\n"Mpox/a.png,P1\n', "cannot be read"),
        ("image_id,patient_id\n" + "".join(f"x{n}.png,P\n" for n in range(9)), r"9 image.*'x4.png', \.\.\.\), .*correct"),
        ("image_id,patient_id\nMpox/a.png,Jos\u00e9\n", "cannot be read .*: save it as 'CSV .UTF-8.'"),
        (None, "cannot be read .*No such file"),
    ],
)
def test_tables_that_are_not_in_order(tmp_path, text, sentence):
    file = tmp_path / "gone.csv" if text is None else table(tmp_path, text, "latin-1")
    with pytest.raises(MpoxError, match=sentence) as raised:
        read_patients(file, IDS)
    assert "\n" not in str(raised.value)


def test_patterns_are_searched_in_the_stem_only():
    ids = ["Mpox_9/IMG_P12_a.png", "Mpox/P.png", "Normal/P7.P8.png", "Normal/P.P9"]
    assert match_patients(r"(?P<patient>P\d+)?", ids[1:2]) == {}
    assert match_patients(r"(?P<patient>P\d+)", ids) == {"Mpox_9/IMG_P12_a.png": "P12", "Normal/P7.P8.png": "P7"}
    for pattern, sentence in (("(?P<patient>", "no regular expression"), (r"(\d+)", "no group named patient")):
        with pytest.raises(MpoxError, match=sentence):
            match_patients(pattern, IDS)


@settings(max_examples=30)
@given(st.text(max_size=30))
def test_any_pattern_is_used_or_refused_in_one_sentence(pattern):
    try:
        match_patients(pattern, IDS)
    except MpoxError as error:
        assert str(error)


def test_what_the_user_names_wins_over_the_table_beside_the_images_and_that_over_the_registered_pattern(tmp_path):
    root = save(tmp_path / "d", "Mpox/P1_1.png", "Mpox/P1_2.png", "Normal/P2_1.png")
    (root / "Mpox" / "P1_3.png").write_bytes(b"cut")
    pattern = r"^(?P<patient>P\d)_"
    assert patients_of(build_manifest(root)) == [None, None, None]
    (root / "patients.csv").write_text("image_id,patient_id\nMpox/P1_2.png,beside\nMpox/P1_3.png,beside\n")
    assert patients_of(build_manifest(root)) == [None, "beside", None]
    assert patients_of(scan(root, patient_pattern=pattern)) == ["P1", "P1", "P2"]
    (tmp_path / "other.csv").write_text("file,patient_id\nP2_1.png,named\n")
    assert patients_of(scan(root, patients=tmp_path / "other.csv")) == [None, None, "named"]
    with pytest.raises(MpoxError, match="Both a table of patients and a pattern"):
        scan(root, patients=tmp_path / "other.csv", patient_pattern=pattern)
    with pytest.raises(MpoxError, match="matches no image's name, such as 'P1_1'"):
        scan(root, patient_pattern="(?P<patient>X)")
    registered = save(tmp_path / "msld_v1", "Monkeypox/M01_01.png", "Others/NM02_01.png")
    assert patients_of(scan("msld-v1", data_dir=tmp_path)) == ["M01", "NM02"]
    (registered / "patients.csv").write_text("file,patient_id\nM01_01.png,Q\n")
    assert patients_of(scan("msld-v1", data_dir=tmp_path)) == ["Q", None]


@pytest.mark.parametrize("name", ["Patients.csv", "patients.CSV", "PATIENTS.CSV"])
def test_the_case_of_the_table_of_patients_does_not_matter(tmp_path, name):
    root = two_classes(tmp_path / "d")
    (root / name).write_text("image_id,patient_id\nNormal/a.png,P1\n")
    assert patients_of(build_manifest(root)) == [None, "P1"] and build_manifest(root).attrs["rejected"] == []
    (root / "patients.csv").write_text("image_id,patient_id\n")
    with pytest.raises(MpoxError, match="2 tables of patients.*keep one"):
        build_manifest(root)


@pytest.mark.parametrize(
    "name",
    ["patient.csv", "patients.csv.txt", "patients.txt", "patients", "patients.xlsx", "Patients (1).csv", "pateints.csv",
     " patients.csv", "patient_ids.tsv", "Copy of patients.csv", "patient_data.csv", "subjects.csv", "patients.cvs",
     "Normal/patients.csv", "Monkeypox/sub/Patient.csv"],
)  # fmt: skip
def test_a_table_of_patients_that_would_not_be_read_is_an_error(tmp_path, name):
    root = save(two_classes(tmp_path / "d"), "Monkeypox/sub/patient.png", "patient/patient_1.png")
    (root / "Normal" / "patient_1.txt").write_text("notes on one image")
    assert len(build_manifest(root)) == 4
    (root / name).write_text("image_id,patient_id\nNormal/a.png,P1\n")
    with pytest.raises(MpoxError, match="looks like the table of patients and would not be read") as raised:
        build_manifest(root)
    assert str(root / name) in str(raised.value)
    assert patients_of(scan(root, patients=root / name))[2] == "P1"  # whoever names a table means that one
    if "/" not in name:
        (root / "patients.csv").write_text("image_id,patient_id\nNormal/a.png,P2\n")
        assert patients_of(scan(root))[2] == "P2"  # what lies beside the one that is read is only rejected


def test_folders_of_the_system_are_passed_over_and_named(tmp_path):
    root = two_classes(tmp_path / "d")
    system = [
        "@eaDir",
        "Normal/@eaDir/a.png",
        "__MACOSX",
        "$RECYCLE.BIN",
        "Normal/#recycle",
        "lost+found",
        "Normal/System Volume Information",
        "Thumbs",
        "Normal/_thumbnails",
        "Normal/Thumbnail",
        "Recycle Bin",
        "Normal/Lightroom.lrdata",
        "#recycle.bin",
    ]
    save(root, *(f"{folder}/thumb.png" for folder in system), "Normal/.thumbnails/a.png", "Normal/#1/b.png")
    frame = build_manifest(root)
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/#1/b.png", "Normal/a.png"] and frame.attrs["empty"] == []
    named = {"Normal/@eaDir" if "a.png" in folder else folder for folder in system}
    assert rejected_of(frame) == dict.fromkeys(named, PASSED_OVER)


def test_names_with_control_characters_are_refused_by_name(tmp_path):
    root = save(two_classes(tmp_path / "d"), "Normal/p\r0.png", "Normal/p\n1.png", "Normal/sub\t/c.png", "Mp\rox/a.png")
    (root / "Normal" / "Icon\r").write_bytes(b"")
    frame = scan(root)
    assert frame["image_id"].tolist() == ["Monkeypox/a.png", "Normal/a.png"] and frame.attrs["empty"] == [r"Mp\rox"]
    assert list(rejected_of(frame)) == [
        r"Mp\rox/a.png",
        r"Normal/Icon\r",
        r"Normal/p\n1.png",
        r"Normal/p\r0.png",
        r"Normal/sub\t/c.png",
    ]
    assert all("no single line" in reason or "(none)" in reason for reason in rejected_of(frame).values())
    table(root, 'image_id,patient_id\n"Normal/p\r0.png",P1\nNormal/a.png,"P\r2"\n')  # a rejected file may be named
    assert patients_of(scan(root)) == [None, "P\r2"]
    with pytest.raises(MpoxError, match="no single line"):
        scan(two_classes(tmp_path / "d\r"))
