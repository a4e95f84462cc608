"""The notebooks: in step with their sources, executed from end to end, and still true."""

import ast
import json
import platform
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from mpox._core import MpoxError, project_root
from mpox.book.chapters import read_chapters, record
from mpox.book.run import declared_parameters, list_notebooks, load_profile, read_notebook, resolve_parameters, run_notebooks
from mpox.book.sources import stale_notebooks
from mpox.data.phantom import PhantomSpec, generate
from mpox.runs.recorded import open_store

NAMES = [
    "01_data_exploration", "02_transfer_learning", "03_cross_validation", "04_power", "05_ablation", "06_error_analysis",
    "07_shortcuts", "08_other_data", "09_use", "10_verdict",
    "A_audit", "B_metrics", "C_intervals", "D_costs", "E_slices", "F_robustness", "G_calibration",
]  # fmt: skip


#: What tells of the machine that executed a notebook, or of something that went wrong on it.
MARKS = (
    r"/(?:home|root|Users|tmp|work)/|[A-Z]:\\\\+Users", r"\b0x[0-9a-fA-F]{6,}\b", r"\b\d{1,3}(?:\.\d{1,3}){3}\b",
    r"https?://(?!doi\.org)", r"[\w.-]+@[\w-]+\.\w+", r"localhost|file://", r"Warning|WARNING|Traceback",
)  # fmt: skip


def machine_marks(text: str) -> list[str]:
    """Paths, addresses of any kind, warnings and, where it is long enough to be one, this machine's name."""
    name = platform.node()
    marks = [*MARKS, rf"\b{re.escape(name)}\b"] if len(name) > 7 and name != "localhost" else MARKS
    return [found for mark in marks for found in re.findall(mark, text)]


def test_marks_of_a_machine_are_found():
    for text in (
        "/home/ann/x.png", r"C:\\Users\\ann", "<Axes at 0x7f3a2c81d0>", "10.0.0.12", "http://mirror.example/simple",
        "ann@example.org", "http://localhost:8888", "UserWarning: old", "Traceback (most recent call last)",
    ):  # fmt: skip
        assert machine_marks(json.dumps(f"before {text} after"))
    assert machine_marks("cpu (8 threads), torch 2.6.0, https://doi.org/10.1007/s10916, 0.87 (0.82 to 0.91)") == []


def test_committed_notebooks_are_in_step_and_executed():
    assert list_notebooks() == NAMES and stale_notebooks() == []


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebooks_have_text_outputs_and_no_picture_path_or_warning(name):
    notebook = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len(outputs) >= 5
    assert not any(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))
    assert machine_marks(json.dumps(outputs)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_says_what_could_be_wrong_and_describes_its_figures(name):
    assert "## What could be wrong" in (source := (project_root() / "notebooks" / f"{name}.py").read_text())
    about = [cell.metadata["mystnb"] for cell in read_notebook(name).cells if "mystnb" in cell.metadata]
    assert (about or not name[0].isdigit()) and all(one["image"]["alt"] and one["figure"]["caption"] for one in about)
    assert "PROFILE" not in source, "a notebook must not branch on the profile"


def test_profiles_name_only_parameters_that_exist():
    for profile in ("quick", "recorded", "cpu", "gpu"):
        resolved = resolve_parameters(NAMES, load_profile(profile).parameters, {})
        assert all(resolved[name]["DATASETS"] for name in NAMES)
    recorded, cpu = load_profile("recorded").parameters, load_profile("cpu").parameters
    assert recorded == {**cpu, "RUN_STORE": "recorded"}, "it reads what cpu computed"


def test_profile_quick_is_the_notebooks_default():
    """So that what the committed notebooks show is what `mpox run --profile quick` shows."""
    for name, values in resolve_parameters(NAMES, load_profile("quick").parameters, {}).items():
        assert values.items() <= declared_parameters(name).items()


def test_a_parameters_cell_holds_only_upper_case_literals():
    """papermill injects its values after this cell: anything derived in it would keep the default."""
    for name in NAMES:
        (cell,) = [cell for cell in read_notebook(name).cells if "parameters" in cell.metadata.get("tags", [])]
        lines = ast.parse(cell.source).body
        assert [line.targets[0].id for line in lines] == list(declared_parameters(name))
        assert all(key.isupper() for key in declared_parameters(name))


@pytest.mark.slow
def test_an_executed_chapter_names_its_runs_and_one_on_the_phantom_cannot_be_recorded(tmp_path):
    """That every chapter runs on a small data set is told by the test of a frozen folder."""
    images = generate(tmp_path / "phantom", PhantomSpec(n_patients=30, size=96, seed=1, copies=4))
    overrides = {"DATASETS": [str(images)], "RUN_STORE": str(tmp_path / "store"), "N_FOLDS": 3, "IMAGE_SIZE": 96}
    overrides |= {"BACKBONE": "tf_efficientnet_lite0", "REPEATS": {"linear_probe": 1}}
    result = run_notebooks(["01"], profile="quick", overrides=overrides, out=tmp_path / "run", echo=print)
    assert result.ok, result.failure
    (chapter,) = read_chapters(tmp_path / "run")
    assert chapter.name == NAMES[0] and chapter.findings
    assert chapter.provenance["phantom"] is True and chapter.provenance["profile"] == "quick"
    named = set(chapter.provenance["run_ids"])
    runs = open_store(tmp_path / "store").root / "runs"
    assert named == {folder.name for folder in runs.iterdir() if not folder.name.startswith(".")} != set()
    with pytest.raises(MpoxError, match="phantom"):
        record(tmp_path / "run", out=tmp_path / "results")
    assert not (tmp_path / "results").exists()


FEW = {"BACKBONE": "colour_histogram", "IMAGE_SIZE": 64, "N_FOLDS": 3, "REPEATS": {"linear_probe": 1}}


def _clinic(folder, label="Rare", few=3):
    """A folder of the phantom's images in which a class has so few, each of another patient."""
    images = generate(folder.with_name("phantom"), PhantomSpec(n_patients=24, size=96, seed=1, copies=2))
    shutil.copytree(images, folder)
    (folder / label).mkdir(exist_ok=True)
    source = folder / ("Mpox" if label == "Mpox" else "Normal")
    patients = {path.name[:4]: path for path in sorted(source.iterdir(), reverse=True)}
    chosen = sorted(patients.values())[:few]
    for path in sorted(source.iterdir()) if label == "Mpox" else chosen:
        path.unlink() if label == "Mpox" and path not in chosen else path.rename(folder / label / path.name)
    return folder


@pytest.mark.parametrize(
    ("chapter", "label", "few"),
    [("01", "Rare", 2), ("09", "Mpox", 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("01", "Rare", 1), ("01", "Mpox", 2), ("01", "Mpox", 3), ("06", "Rare", 1), ("09", "Mpox", 2), ("09", "Mpox", 3),
    ))],
)  # fmt: skip
def test_a_chapter_on_a_class_of_few_images_runs_or_says_in_one_sentence_what_it_needs(tmp_path, chapter, label, few):
    """What is only shown, samples of each class, takes as many as there are."""
    folder = _clinic(tmp_path / "clinic", label, few)
    overrides = {**FEW, "DATASETS": [str(folder)], "RUN_STORE": str(tmp_path / "store")}
    result = run_notebooks([chapter], profile="quick", overrides=overrides, out=tmp_path / "run")
    (name,) = result.notebooks
    said = f"Too few groups for 3 folds: {label} ({few}). A class needs three groups at least"
    if few == 3:
        said = "" if chapter == "01" else "A class has 2 groups to train on in fold 0, and nested predictions need three"
    assert result.ok is not bool(said), result.failure
    assert not said or result.failure.startswith(f"{name} failed. TooFewImages: {said}")


@pytest.mark.slow
def test_a_folder_that_was_renamed_has_its_new_name_in_what_the_store_kept_of_it(tmp_path):
    folder = _clinic(tmp_path / "before")
    for name in ("before", "after"):
        folder = folder.rename(tmp_path / name)
        overrides = {**FEW, "DATASETS": [str(folder)], "RUN_STORE": str(tmp_path / "store")}
        result = run_notebooks(["01"], profile="quick", overrides=overrides, out=tmp_path / "run")
        assert result.ok, result.failure


def test_no_cell_samples_a_fixed_number_of_each_group():
    for name in NAMES:
        source = (project_root() / "notebooks" / f"{name}.py").read_text()
        assert not re.search(r"groupby\([^\n]*\)\.sample\((n=)?[\dA-Z]", source), name


def _nbval(environment, *arguments, **options):
    environment = {**environment, "PYTHONWARNINGS": "ignore:IProgress not found", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


@pytest.mark.slow
def test_committed_notebooks_still_hold(users_environment):
    """nbval executes them anew with their defaults and compares the cells that are tagged for it."""
    done = _nbval(users_environment, "--nbval", "notebooks", cwd=project_root())  # as the README says
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:]


def test_nbval_notices_a_wrong_number(tmp_path, users_environment):
    """The check above can fail."""
    tagged = {"tags": ["nbval-check-output"]}
    told = [new_output("stream", text=f"{number}\n") for number in (1, 3)]
    cells = [new_code_cell(f"print({k})", execution_count=k, outputs=[told[k - 1]], metadata=tagged) for k in (1, 2)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "wrong.ipynb")
    shutil.copy(project_root() / "notebooks" / "conftest.py", tmp_path)
    sanitized = project_root() / "tests" / "nbval_sanitize.cfg"
    (tmp_path.parent / "tests").mkdir(exist_ok=True)
    shutil.copy(sanitized, tmp_path.parent / "tests")
    done = _nbval(users_environment, "--nbval", tmp_path, cwd=tmp_path)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
