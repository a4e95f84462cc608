"""Patient ids from a table or from names, and which of them counts."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mpox._core import MpoxError
from mpox.data.manifest import build_manifest, match_patients, read_patients, scan

IDS = ["Mpox/a.png", "Mpox/b.png", "Normal/a.png", "Normal/caf\u00e9.png"]


def table(tmp_path, text: str, encoding: str = "utf-8"):
    file = tmp_path / "patients.csv"
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize(
    "text",
    [
        "image_id,patient_id\nMpox/a.png,007\nNormal/a.png,NA\n",
        "patient_id;site;image_id\r\n007;x;Mpox/a.png\r\nNA;;Normal/a.png\r\n",
        "\ufeffimage_id\tpatient_id\nMpox/a.png\t007\nNormal/a.png\tNA",
        ' image_id , patient_id \n"Mpox\\a.png", 007 \n./Normal/a.png,NA\n',
        "image_id,patient_id\nMpox/a.png,007\nMpox/a.png,007\nNormal/a.png,NA\nMpox/b.png,\n",
        "file,patient_id\nMpox/a.png,007\nNormal/a.png,NA\nb.png,\n",
    ],
)
def test_tables_as_people_write_them(tmp_path, text):
    assert read_patients(table(tmp_path, text), IDS) == {"Mpox/a.png": "007", "Normal/a.png": "NA"}


def test_a_bare_name_finds_its_only_picture_in_either_unicode_form(tmp_path):
    file = table(tmp_path, "file,patient_id\ncafe\u0301.png,P1\nb.png,P2\n")
    assert read_patients(file, IDS) == {"Normal/caf\u00e9.png": "P1", "Mpox/b.png": "P2"}
    frame = pd.DataFrame({"image_id": ["Mpox/b.png", "Mpox/a.png"], "patient_id": [12, None]}, dtype="object")
    assert read_patients(frame, IDS) == {"Mpox/b.png": "12"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,patient\na,b\n", "patients.csv needs the columns image_id .or file. and patient_id; it has image, patient"),
        ("", "it has none"),
        ("image_id,patient_id\nMpox/a.png,P1\nMpox/a.png,P2\n", "two different patients to 1 picture.*'Mpox/a.png'"),
        (
            "image_id,patient_id\nMpox/x.png,P1\nb.png,P2\n",
            r"2 picture\(s\) that are not .* \('Mpox/x.png', 'b.png'\)",
        ),
        ("file,patient_id\na.png,P1\n", "more than once .'a.png'.: give their path"),
        ("image_id,patient_id\nMpox/a,1.png,P1\n", "more cells than columns .'Mpox/a'"),
        ('image_id,patient_id\n"Mpox/a.png,P1\n', "no table with commas, near line"),
        ("image_id,patient_id\n" + "".join(f"x{n}.png,P\n" for n in range(9)), r"9 picture.*'x4.png', \.\.\.\): correct"),
    ],
)
def test_tables_that_are_not_in_order(tmp_path, text, sentence):
    with pytest.raises(MpoxError, match=sentence) as raised:
        read_patients(table(tmp_path, text), IDS)
    assert "\n" not in str(raised.value)


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(MpoxError, match="not in UTF-8 .*: save it as"):
        read_patients(table(tmp_path, "image_id,patient_id\nMpox/a.png,Jos\u00e9\n", "latin-1"), IDS)
    with pytest.raises(MpoxError, match="cannot be read .No such file"):
        read_patients(tmp_path / "gone.csv", IDS)


def test_the_table_may_name_files_that_were_rejected(tmp_path):
    file = table(tmp_path, "image_id,patient_id\nMpox/a.png,P1\nMpox/cut.png,P2\n")
    assert read_patients(file, IDS, rejected=["Mpox/cut.png"]) == {"Mpox/a.png": "P1"}


@pytest.mark.parametrize(
    ("pattern", "sentence"), [("(?P<patient>", "no regular expression"), (r"(\d+)", "no group named patient")]
)
def test_patterns_that_cannot_be_used(pattern, sentence):
    with pytest.raises(MpoxError, match=sentence):
        match_patients(pattern, IDS)


def test_patterns_are_searched_in_the_stem_only():
    ids = ["Mpox_9/IMG_P12_a.png", "Mpox/P.png", "Normal/P7.P8.png", "Normal/P.P9"]
    assert match_patients(r"(?P<patient>P\d+)?", ids[1:2]) == {}
    assert match_patients(r"(?P<patient>P\d+)", ids) == {"Mpox_9/IMG_P12_a.png": "P12", "Normal/P7.P8.png": "P7"}


@given(st.text(max_size=30))
def test_any_pattern_is_used_or_refused_in_one_sentence(pattern):
    try:
        match_patients(pattern, IDS)
    except MpoxError as error:
        assert str(error)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "d"
    for number, image_id in enumerate(["Mpox/P1_1.png", "Mpox/P1_2.png", "Normal/P2_1.png"]):
        (root / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number, 0, 0)).save(root / image_id)
    (root / "Mpox" / "P1_3.png").write_bytes(b"cut")
    return root


def patients_of(frame) -> list:
    return [None if pd.isna(patient) else patient for patient in frame["patient_id"]]


def test_what_the_user_names_wins_over_the_table_beside_the_pictures(folder, tmp_path):
    assert patients_of(build_manifest(folder)) == [None, None, None]
    by_name = build_manifest(folder, patient_pattern=r"^(?P<patient>P\d)_")
    assert patients_of(by_name) == ["P1", "P1", "P2"] and by_name["patient_id"].dtype == "string"
    (folder / "patients.csv").write_text("image_id,patient_id\nMpox/P1_2.png,beside\nMpox/P1_3.png,beside\n")
    assert patients_of(build_manifest(folder)) == [None, "beside", None]
    assert patients_of(build_manifest(folder, patient_pattern=r"^(?P<patient>P\d)_")) == ["P1", "P1", "P2"]
    other = tmp_path / "other.csv"
    other.write_text("file,patient_id\nP2_1.png,named\n")
    assert patients_of(build_manifest(folder, patients=other)) == [None, None, "named"]
    assert patients_of(scan(folder, patients=pd.read_csv(other))) == [None, None, "named"]
    with pytest.raises(MpoxError, match="Both a table of patients and a pattern"):
        scan(folder, patients=other, patient_pattern="(?P<patient>P)")
    with pytest.raises(MpoxError, match="matches no picture's name, such as 'P1_1'"):
        scan(folder, patient_pattern="(?P<patient>X)")
    assert [image_id for image_id, _ in build_manifest(folder).attrs["rejected"]] == ["Mpox/P1_3.png"]


def test_the_table_beside_the_pictures_wins_over_the_registered_pattern(tmp_path):
    root = tmp_path / "msld_v1"
    for image_id in ("Monkeypox/M01_01.png", "Others/NM02_01.png"):
        (root / image_id).parent.mkdir(parents=True)
        Image.new("RGB", (40, 40), (len(image_id), 0, 0)).save(root / image_id)
    assert patients_of(scan("msld-v1", data_dir=tmp_path)) == ["M01", "NM02"]
    (root / "patients.csv").write_text("file,patient_id\nM01_01.png,Q\n")
    assert patients_of(scan("msld-v1", data_dir=tmp_path)) == ["Q", None]
