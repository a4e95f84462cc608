"""``mpox audit`` as a user meets it: a folder of pictures in, tables and plain sentences out, never a traceback."""

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from mpox.audit import read_audit
from mpox.cli import main
from mpox.data.manifest import scan


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = sum(cv2.resize(rng.standard_normal((n, n, 3)).astype(np.float32), (200, 200)) * 22 for n in (8, 25, 60))
    return (field + 120).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes; a crop filed under the other class, a broken file, a text called picture, an odd format, patients."""
    root = tmp_path / "pictures"
    for name in ("Mpox", "Other"):
        (root / name).mkdir(parents=True)
    for number in range(4):
        Image.fromarray(texture(number)).save(root / "Mpox" / f"P{number}_1.png")
    Image.fromarray(texture(0)[30:170, 30:170]).resize((220, 220)).save(root / "Other" / "P9_1.jfif", "JPEG")
    Image.fromarray(texture(7)).convert("CMYK").save(root / "Other" / "P8_1.tif")
    (root / "Other" / "zero.jpg").write_bytes(b"")
    (root / "Other" / "notes.jpg").write_text("not a picture")
    return root


def audit(*arguments) -> object:
    return CliRunner().invoke(main, ["audit", *map(str, arguments), "--jobs", "1"])


def test_a_folder_is_audited(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("review.html", "review-2.html", "review-3.html", "review-of-mine.html"):  # of an earlier, longer audit
        (out / name).write_text("of before")
    result = audit(folder, "--out", out, "--review", "--patient-pattern", r"(?P<patient>P\d+)_")
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.glob("review*")} == {"review.html", "review-of-mine.html"}
    assert "of before" not in (out / "review.html").read_text()
    assert "6 images (Mpox 4, Other 2), 2 files rejected; patients known: 6 of 6." in result.output
    assert "1 pairs show the same photograph" in result.output and "1 of labels, 1 of patients" in result.output
    pairs = pd.read_csv(out / "pairs.csv")
    assert pairs[["image_id_a", "image_id_b", "method"]].values.tolist() == [["Mpox/P0_1.png", "Other/P9_1.jfif", "geometric"]]
    groups = pd.read_csv(out / "groups.csv")
    assert list(groups.columns) == ["dataset", "image_id", "label", "patient_id", "group_id"]
    assert groups.set_index("image_id")["group_id"].nunique() == 5
    rejected = pd.read_csv(out / "rejected.csv").set_index("image_id")["reason"]
    assert set(rejected.index) == {"Other/zero.jpg", "Other/notes.jpg"}
    assert len(pd.read_csv(out / "quality.csv")) == 6
    assert (out / "datasheet-pictures.md").read_text().startswith("# Data sheet")
    page = (out / "review.html").read_text()
    assert "data:image/jpeg" in page and "http" not in page.replace("http://www.w3.org", "")
    decisions = tmp_path / "overrides.csv"
    decisions.write_text(
        "dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\n"
        "pictures,Other/P9_1.jfif,pictures,Mpox/P0_1.png,reject,looked at it\nPictures,a.png,Pictures,b.png,reject,\n"
    )
    again = audit(folder, "--out", tmp_path / "again", "--overrides", decisions)
    assert again.exit_code == 0 and "no data set of that name is audited: Pictures." in again.output
    inside = audit(folder, "--out", folder / "Mpox" / "out")
    assert inside.exit_code == 1 and "lies in the folder of the data set" in inside.output
    assert pd.read_csv(tmp_path / "again" / "pairs.csv").empty
    assert pd.read_csv(tmp_path / "again" / "weak_pairs.csv")["reason"].tolist() == ["looked at it"]
    (tmp_path / "file").write_text("")
    result = audit(folder, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 1 and "name another folder with" in result.output and "--out" in result.output


def test_a_folder_without_classes_or_with_an_empty_one_is_audited_all_the_same(folder, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(folder / "Mpox", flat)
    result = audit(flat, "--out", tmp_path / "out")
    assert result.exit_code == 0 and "There is one class only (unlabelled)" in result.output
    (folder / "Empty").mkdir()
    result = audit(folder, "--out", tmp_path / "out2")
    assert result.exit_code == 0 and "The folder Empty has no usable image" in result.output


def test_two_folders_together(folder, tmp_path):
    other = tmp_path / "others"
    (other / "Mpox").mkdir(parents=True)
    Image.fromarray(texture(2)[:, ::-1]).save(other / "Mpox" / "mirror.png")
    result = audit(folder, other, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    pairs = pd.read_csv(tmp_path / "out" / "pairs.csv")
    across = pairs[pairs["dataset_a"] != pairs["dataset_b"]]
    assert len(across) == 1 and bool(across["mirrored"].iloc[0]) is True
    assert "with a copy in" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "neither a registered data set"),
        (("{folder}", "--overrides", "missing.csv"), "cannot be read"),
        (("{folder}", "--patient-pattern", "P("), "pattern"),
        (("{folder}", "phantom", "--patient-pattern", "P"), "describe one data set"),
        (("{folder}", "{folder}"), "same name"),
    ],
)
def test_a_mistake_is_one_sentence(folder, tmp_path, arguments, message):
    result = audit(*[argument.format(folder=folder) for argument in arguments], "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output and result.output.count("mpox: ") == 1
    assert "Traceback" not in result.output


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_terminal_is_named_and_costs_no_table(folder, tmp_path):
    words = [sys.executable, "-m", "mpox.cli", "audit", str(folder), "--out", str(tmp_path / "out"), "--jobs", "1"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "mpox: The output cannot be written (No space left on device)" in done.stderr
    assert (tmp_path / "out" / "pairs.csv").is_file()


def test_a_folder_with_nothing_usable_leaves_the_reasons(tmp_path):
    (tmp_path / "bad" / "Mpox").mkdir(parents=True)
    (tmp_path / "bad" / "Mpox" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    result = audit(tmp_path / "bad", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "no usable image" in result.output
    assert pd.read_csv(tmp_path / "out" / "rejected.csv")["image_id"].tolist() == ["Mpox/a.jpg"]


def test_what_is_known_of_patients_and_what_is_passed_over_is_said(folder, tmp_path):
    (folder / "Mpox" / "@eaDir").mkdir()
    rows = ["Mpox/P0_1.png,A", "Other/P8_1.tif,A", "Mpox/P1_1.png,NA", "Mpox/P2_1.png,?", 'Mpox/P3_1.png,"B\r1"']
    (folder / "Patients.csv").write_bytes("\n".join(["image_id,patient_id", *rows]).encode())
    result = audit(folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "patients known: 3 of 6" in result.output and "'NA' (1), '?' (1)" in result.output
    assert "more than one class, which may be a mistake: A (Mpox, Other)." in result.output
    assert "passed over: Mpox/@eaDir." in result.output
    manifests = [scan(folder)]
    read = read_audit(tmp_path / "out", manifests)  # the carriage return is quoted in every table
    assert read.groups["patient_id"].dropna().tolist() == ["A", "B\r1", "A"]
    assert len(pd.read_csv(tmp_path / "out" / "rejected.csv")) == len(manifests[0].attrs["rejected"]) == 3
    assert "3 of them are filed under 2 patient numbers" in (tmp_path / "out" / "datasheet-pictures.md").read_text()
