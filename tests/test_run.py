"""`mpox run`: what is checked before anything runs, what the kernels see, how a run is gone on with; papermill by itself."""

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from mpox._core import MpoxError, locked, project_root
from mpox.book.run import (
    check_parameters,
    declared_parameters,
    list_notebooks,
    load_profile,
    parse_overrides,
    read_notebook,
    read_run_folder,
    resolve_parameters,
    run_notebooks,
    select_notebooks,
)
from mpox.cli import main
from mpox.cli import run as run_command
from mpox.data.phantom import PhantomSpec, generate

ONE = """# %% [markdown]
# # One

# %% tags=["parameters"]
SEED = 1
RATE: float = 0.5
NAMES = [
    "a",
    "b",
]
LIMIT = None
DEVICE = "auto"
STRICT = True

# %%
import os
import sys

names = ["MPOX_PROFILE", "MPOX_DATA", "MPOX_OVERRIDES", "MPOX_WORKERS", "PYTHONHASHSEED", "PYTHONWARNINGS"]
names += ["MALLOC_MMAP_THRESHOLD_"]
print({"env": {n: os.environ.get(n) for n in names}, "python": sys.executable, "cwd": os.getcwd()})

# %%
print([SEED, RATE, NAMES, LIMIT])
"""
TWO = """# %% [markdown]
# # Two

# %% tags=["parameters"]
SEED = 1
EPOCHS = 3

# %%
from pathlib import Path

# %%
print("two", SEED, EPOCHS)
if not Path("mended").exists():
    raise ValueError("the planted mistake\\nhas two lines")
"""
THREE = """# %% tags=["parameters"]
RUN_STORE = ""

# %%
print("three")
"""
HANG = """# %% tags=["parameters"]
WAY = "sleep"

# %%
import os
import time
from pathlib import Path

Path("pid").write_text(str(os.getpid()))
if WAY == "sleep":
    time.sleep(120)
os._exit(3)
"""
HEADER = "dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\n"


def make_project(root: Path, **sources: str) -> Path:
    (root / "notebooks").mkdir(parents=True)
    (root / "profiles").mkdir()
    for name, source in sources.items():
        (root / "notebooks" / f"{name.lstrip('n')}.py").write_text(source)
    (root / "profiles/tiny.yml").write_text("SEED: 5\nRATE: 1.0e-3\n")
    (root / "profiles/quick.yml").write_text("SEED: 6\n")
    return root


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = make_project(tmp_path / "project", n01_one=ONE, n02_two=TWO, n03_three=THREE)
    monkeypatch.setenv("MPOX_PROJECT", str(root))
    return root


def printed(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [o.text for c in cells if c.cell_type == "code" for o in c.outputs if o.get("name") == "stdout"]


# ------------------------------------------------------------------------------------------ before anything runs
def test_notebooks_are_listed_and_selected_in_running_order(project):
    assert list_notebooks() == select_notebooks() == ["01_one", "02_two", "03_three"]
    assert select_notebooks(["notebooks/03_three.ipynb", "one", "01"]) == ["01_one", "03_three"]
    with pytest.raises(MpoxError, match=r"'thre' \(did you mean 03_three\?\)"):
        select_notebooks(["thre"])


def test_parameters_go_to_the_notebooks_that_declare_them_and_overrides_win(project):
    profile = load_profile("tiny")
    assert (profile.name, profile.file) == ("tiny", "profiles/tiny.yml")
    overrides = parse_overrides([("SEED", "7"), ("EPOCHS", "1"), ("EPOCHS", "2"), ("LIMIT", "[1, 2]")])
    assert resolve_parameters(list_notebooks(), profile.parameters, overrides) == {
        "01_one": {"SEED": 7, "RATE": 0.001, "LIMIT": [1, 2]},
        "02_two": {"SEED": 7, "EPOCHS": 2},
        "03_three": {},
    }
    rate = resolve_parameters(["01_one"], {"RATE": 1}, {})["01_one"]["RATE"]
    assert (rate, type(rate)) == (1.0, float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": {"SEED": "many"}}, "SEED must be a whole number.* 'many' is text"),
        ({"overrides": {"SEED": True}}, "SEED must be a whole number.* True is true or false"),
        ({"overrides": {"NAMES": "a"}}, "NAMES must be a list.* 'a' is text"),
        ({"overrides": {"NAMES": ["a", 1]}}, "Each item of NAMES must be text.* 1 is a whole number"),
        ({"overrides": {"DEVICE": None}}, "DEVICE must be text.* None is nothing"),
        ({"overrides": {"SEDE": 1}}, r"No notebook has the parameter SEDE \(did you mean SEED\?\); there are .*EPOCHS"),
        ({"profile": "quik"}, r"'quik' \(did you mean quick\?\); there are quick, tiny"),
        ({"profile": "SEED: 1\nEPOCH: 2\n"}, r"the parameter EPOCH \(did you mean EPOCHS\?\)"),
        ({"profile": "SEED: [1\n"}, "not valid YAML"),
        ({"profile": "- SEED\n"}, "flat mapping"),
        ({"profile": "train:\n  SEED: 1\n"}, "flat mapping"),
        ({"out": "precious"}, "was not made by 'mpox run'"),
        ({"data_dir": "nowhere"}, "There is no data folder"),
        ({"decisions": "nowhere.csv"}, "cannot be read"),
        ({"decisions": "mine.csv", "overrides": {"RUN_STORE": "recorded"}}, "no effect on the recorded study"),
    ],
)
def test_what_a_run_cannot_use_is_an_error_before_anything_is_written(project, monkeypatch, options, message):
    (project / "precious").mkdir()
    (project / "precious/01_one.ipynb").write_text("mine")
    (project / "mine.csv").write_text(HEADER)
    if ":" in (text := options.get("profile", "")) or "-" in text:
        (project / "mine.yml").write_text(text)
        options = {"profile": "mine.yml"}
    monkeypatch.chdir(project)
    before = sorted(project.rglob("*"))
    with pytest.raises(MpoxError, match=message):
        run_notebooks(**{"profile": "tiny", **options})
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("chapter", "values", "message"),
    [
        ("01", {"DATASETS": "phantom"}, "DATASETS must be a list"),
        ("01", {"DATASETS": []}, "DATASETS must name a data set"),
        ("01", {"DATASETS": ["phantom", "phantom"]}, "each only once"),
        ("01", {"DATASETS": [1]}, "Each item of DATASETS must be text"),
        ("01", {"N_FOLDS": 2.5}, r"N_FOLDS must be a whole number.* 2\.5 is a number"),
        ("01", {"N_FOLDS": "three"}, "N_FOLDS must be a whole number.* 'three' is text"),
        ("02", {"N_FOLDS": 1}, "N_FOLDS must be from 2 to 1000, not 1"),
        ("02", {"N_FOLDS": None}, "None is nothing"),
        ("03", {"SEED": -1}, "SEED must be from 0"),
        ("04", {"SIMULATIONS": 0}, "SIMULATIONS must be from 1"),
        ("06", {"IMAGE_SIZE": -5}, r"IMAGE_SIZE must be from 32 to 4096 \(or 0"),
        ("05", {"IMAGE_SIZES": [0]}, "Each item of IMAGE_SIZES must be from 32"),
        ("03", {"REPEATS": {"linear_probe": "two"}}, "Each value of REPEATS must be a whole number"),
        ("06", {"REPEATS": {"tail_tune": 1}}, "REPEATS must have linear_probe,"),
        ("07_shortcuts", {"ALTERATIONS": ["covered", "grey"]}, "ALTERATIONS must have covered_random, with which"),
        ("03", {"DOSES": [0, 2]}, "Each item of DOSES must be from 0.0 to 1.0, not 2"),
        ("04", {"MARGIN": float("nan")}, "MARGIN must be from"),
        ("03", {"PROTOCOLS": {"phantom": "source"}}, "Each value of PROTOCOLS must be a list"),
        ("05", {"TRAINING": {"epochs": 0}}, "epochs must be a whole number"),
        ("03", {"PROTOCOLS": {"phantom": ["source", "sauce"]}}, "Unknown protocol 'sauce': choose one of random_image"),
        ("03", {"PROTOCOLS": {"phantom": []}}, "Each value of PROTOCOLS must have at least one item"),
        ("03", {"DOSE_FINE_TUNED": [None]}, "Each item of DOSE_FINE_TUNED must be text, as 'phantom'; None is nothing"),
        ("05", {"TRAINED_BACKBONES": [1]}, "Each item of TRAINED_BACKBONES must be text"),
        ("05", {"TAIL_FACTORS": [None]}, "Each item of TAIL_FACTORS must be text"),
        ("05", {"FACTORIAL_SIZES": ["x"]}, "Each item of FACTORIAL_SIZES must be a whole number"),
        ("08_other_data", {"OWN_SHARES": [float("nan")]}, "Each item of OWN_SHARES must be from"),
        ("F_robustness", {"BLANKED": [None]}, "Each item of BLANKED must be text"),
        *[
            (chapter, {name: []}, f"{name} must have at least one item")
            for chapter, names in {
                "03": ("DOSES",),
                "04": ("FRACTIONS",),
                "C": ("SEEDS",),
                "05": ("BACKBONES",),
                "09": ("SENSITIVITIES", "CONFIDENCES"),
                "F_robustness": ("STRENGTHS",),
            }.items()
            for name in names
        ],
        ("05", {"TRAINING": {1: 2}}, "Training has no 1: it takes"),
        ("05", {"TAIL_TRAINING": {"epoch": 3}}, "Training has no epoch"),
        ("05", {"MIXED": ["phantom"]}, "MIXED must be a list of pairs"),
        ("09", {"EXTERNAL": [["phantom"]]}, "EXTERNAL must be a list of pairs"),
        ("10", {"DEVICE": "tpu"}, "DEVICE must be cpu or cuda"),
        ("10", {"DEVICE": "cuda"}, "torch finds no GPU here"),
    ],
)
def test_a_chapter_holds_its_parameters_to_the_rules_of_the_command(chapter, values, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (name,) = select_notebooks([chapter])
    with pytest.raises(MpoxError, match=message):
        check_parameters(name, {**declared_parameters(name), **values})
    if "must have" not in message and "GPU" not in message:  # of a machine, and of a chapter that may not be asked for
        with pytest.raises(MpoxError, match=message):
            resolve_parameters([name], {}, values)


@pytest.mark.parametrize("name", list_notebooks())
def test_the_first_cell_of_a_chapter_checks_its_parameters(name):
    check_parameters(name, declared_parameters(name))
    code = [cell for cell in read_notebook(name).cells if cell.cell_type == "code"]
    first = next(cell for cell in code if "parameters" not in cell.metadata.get("tags", []))
    lines = ast.parse(first.source).body
    done = next(line for line in lines if not isinstance(line, ast.Import | ast.ImportFrom))
    assert ast.unparse(done).removeprefix("run.") == f"check_parameters({name!r}, globals())"


def test_a_gpu_that_is_not_here_is_missed_at_once_and_only_by_what_needs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MpoxError, match="torch finds no GPU here"):
        run_notebooks(profile="gpu", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    values = declared_parameters("10_verdict") | {"DEVICE": "cuda"}
    check_parameters("10_verdict", values | {"RUN_STORE": "recorded"})
    monkeypatch.setenv("MPOX_SCHEDULER", "tcp://there:8786")
    check_parameters("10_verdict", values)


def test_overrides_are_yaml_and_a_folder_of_something_else_is_no_run_folder(project):
    with pytest.raises(MpoxError, match="not valid YAML"):
        parse_overrides([("NAMES", "[a")])
    with pytest.raises(MpoxError, match="no run folder"):
        read_run_folder(project)


@pytest.mark.parametrize("line", ["DERIVED = SEED * 2", "import os", "A ="])
def test_a_parameters_cell_holds_literals_only(project, line):
    (project / "notebooks/01_one.py").write_text(f'# %% tags=["parameters"]\nSEED = 1\n{line}\n')
    with pytest.raises(MpoxError, match="01_one.py: the parameters cell may hold only literals"):
        declared_parameters("01_one")


# ------------------------------------------------------------------------- a run that fails, is mended, and resumed
@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One run that fails in its second notebook, is mended, resumed, changed and resumed again."""
    base = tmp_path_factory.mktemp("story")
    root = make_project(base / "project", n01_one=ONE, n02_two=TWO, n03_three=THREE)
    (base / "data").mkdir()
    (base / "mine.csv").write_text(HEADER)
    told = {"base": base, "root": root, "folder": root / "_runs/tiny"}
    call = ["--profile", "tiny", "-p", "SEED", "7", "--data-dir", "data", "--overrides", "mine.csv", "--workers", "3"]

    def step(name, *words):
        result = CliRunner().invoke(run_command, [*call, *words])
        state = json.loads((told["folder"] / "run.json").read_text())
        written = {p.name: p.stat().st_mtime_ns for p in told["folder"].glob("*.ipynb")}
        told[name] = result, state, written

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPOX_PROJECT", str(root))
        patch.setenv("MPOX_DATA", "elsewhere")
        patch.chdir(base)
        told["environment"] = dict(os.environ), os.getcwd()
        patch.setattr(sys, "argv", ["mpox", "run", *call])
        step("failed")
        told["environment after"] = dict(os.environ), os.getcwd()
        told["printed"] = [ast.literal_eval(text) for text in printed(told["folder"] / "01_one.ipynb")]
        (root / "notebooks/mended").touch()
        step("resumed", "--resume")
        (root / "notebooks/03_three.py").write_text(THREE + "\n# %%\nprint('changed')\n")
        step("source changed", "--resume")
        step("parameter changed", "-p", "EPOCHS", "9", "--resume")
        with (base / "mine.csv").open("a") as decisions:
            decisions.write("web,a.png,web,b.png,reject,seen\n")
        step("decision changed", "-p", "EPOCHS", "9", "--resume")
        with pytest.raises(MpoxError, match="is a run of the profile tiny"):
            run_notebooks(profile="quick", out=told["folder"], resume=True)
        result = run_notebooks(["03"], profile="quick", out=told["folder"])
        told["started over"] = result, sorted(p.name for p in told["folder"].iterdir())
    return told


def test_kernels_get_the_parameters_the_profile_and_this_python_and_nothing_is_left(story):
    facts, values = story["printed"]
    assert values == [7, 0.001, ["a", "b"], None]
    assert facts["python"] == sys.executable
    assert facts["cwd"] == str(story["root"] / "notebooks")
    assert facts["env"] == {
        "MPOX_PROFILE": "tiny",
        "MPOX_DATA": str(story["base"] / "data"),
        "MPOX_OVERRIDES": str(story["base"] / "mine.csv"),
        "MPOX_WORKERS": "3",
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "MALLOC_MMAP_THRESHOLD_": "17179869184",
    }
    assert story["environment after"] == story["environment"]


def test_a_failing_cell_stops_the_run_and_is_shown_and_noted(story):
    result, state, written = story["failed"]
    assert result.exit_code == 1
    assert "[2/3] 02_two                       failed" in result.stdout
    for part in (
        "02_two failed in this cell:",
        '    print("two", SEED, EPOCHS)',
        "ValueError: the planted mistake",
        f"The partial notebook: {story['folder'] / '02_two.ipynb'}",
        "mpox run --profile tiny -p SEED 7 --data-dir data --overrides mine.csv --workers 3 --resume",
    ):
        assert part in result.stderr
    assert sorted(written) == ["01_one.ipynb", "02_two.ipynb"]
    assert (state["profile"], state["profile_file"]) == ("tiny", "profiles/tiny.yml")
    assert (state["parameters"], state["finished"]) == ({"SEED": 7, "RATE": 0.001}, None)
    one, two, three = (state["notebooks"][name] for name in ("01_one", "02_two", "03_three"))
    assert [n["status"] for n in (one, two, three)] == ["done", "failed", "pending"]
    assert (one["error"], two["error"], three["duration_s"]) == (None, "ValueError: the planted mistake", None)
    assert 0 < one["duration_s"] < 60
    assert one["source_sha256"] == hashlib.sha256(ONE.encode()).hexdigest()


def test_resume_goes_on_from_the_failed_notebook(story):
    result, state, written = story["resumed"]
    assert result.exit_code == 0
    assert [n["status"] for n in state["notebooks"].values()] == ["done"] * 3
    assert written["01_one.ipynb"] == story["failed"][2]["01_one.ipynb"]
    assert "[1/3] 01_one                       skipped" in result.stdout
    assert state["finished"] >= state["started"] == story["failed"][1]["started"]
    assert state["notebooks"]["02_two"]["error"] is None


def test_resume_runs_again_only_what_changed(story):
    steps = [story[name][2] for name in ("resumed", "source changed", "parameter changed", "decision changed")]
    again = [{name for name in after if after[name] != before[name]} for before, after in zip(steps, steps[1:], strict=False)]
    assert again == [{"03_three.ipynb"}, {"02_two.ipynb"}, {"01_one.ipynb", "02_two.ipynb", "03_three.ipynb"}]


def test_without_resume_a_run_folder_is_started_over_and_holds_no_path_of_this_machine(story):
    result, files = story["started over"]
    assert result.ok and list(result.notebooks) == ["03_three"] and result == read_run_folder(result.folder)
    assert files == [".lock", "03_three.ipynb", "run.json", "run.log"]
    notebook = nbformat.read(result.folder / "03_three.ipynb", as_version=4)
    assert notebook.metadata.papermill.input_path == "notebooks/03_three.py"
    assert str(story["base"]) not in nbformat.writes(notebook)
    assert (result.folder / "run.log").read_text() == "three\nchanged\n"


MEETS = """# %% tags=["parameters"]
RUN_STORE = ""
FAIL = False

# %%
import os
import time
from pathlib import Path

Path("OWN").touch()
deadline = time.monotonic() + 60
while not Path("OTHER").exists():
    assert time.monotonic() < deadline
    time.sleep(0.02)
print(os.environ["OMP_NUM_THREADS"])
assert not FAIL or "OWN" != "b"
"""


def test_chapters_that_only_read_the_record_run_side_by_side(tmp_path, monkeypatch):
    """Each of the two waits until the other has begun; what has not begun when one fails is not begun."""
    first, second = (MEETS.replace("OWN", own).replace("OTHER", other) for own, other in (("a", "b"), ("b", "a")))
    project = make_project(tmp_path / "project", n01_first=first, n02_second=second, n03_third=THREE)
    monkeypatch.setenv("MPOX_PROJECT", str(project))
    (project / "profiles/recorded.yml").write_text("# A minute.\nRUN_STORE: recorded\n")
    lines: list[str] = []
    run = run_notebooks(profile="recorded", workers=2, echo=lines.append)
    assert lines.pop(1) == "3 to execute, 2 at a time. A minute."
    assert run.ok and printed(run.folder / "01_first.ipynb") == printed(run.folder / "02_second.ipynb") == ["1\n"]
    assert [line[:6] for line in lines[1:-1]] == ["[1/3] ", "[2/3] ", "[3/3] "]
    failed = run_notebooks(["01", "02"], profile="recorded", overrides={"FAIL": True}, workers=2, echo=lines.append)
    assert any(line.startswith("2 to execute, 2 at a time. The last time this took about ") for line in lines)
    states = {name: notebook.status for name, notebook in read_run_folder(failed.folder).notebooks.items()}
    assert states == {"01_first": "done", "02_second": "failed"} and "AssertionError" in failed.failure
    mended = run_notebooks(profile="recorded", workers=2, resume=True)
    assert mended.ok and mended.notebooks["01_first"].duration_s


def test_a_second_run_in_one_folder_is_refused_and_nothing_is_lost(project):
    """Also when the first has begun just now, and the folder is not yet known as its own."""
    folder = project / "_runs/tiny"
    folder.mkdir(parents=True)
    with locked(folder / ".lock"):
        (folder / "run.log").write_text("begun")
        for resume in (False, True):
            with pytest.raises(MpoxError, match=f"Another 'mpox run' is writing to {folder}: wait for it, or name another --out"):
                run_notebooks(profile="tiny", resume=resume)
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "run.log"]
    with pytest.raises(MpoxError, match="was not made by 'mpox run'"):
        run_notebooks(profile="tiny")


REFUSES = """# %%
from mpox import MpoxError

raise MpoxError("Do this instead.")
"""


def test_what_a_user_can_solve_is_one_sentence_without_the_cell_and_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_PROJECT", str(make_project(tmp_path / "project", n01_one=REFUSES)))
    (tmp_path / "empty.yml").write_text("")
    run = run_notebooks(profile=tmp_path / "empty.yml")
    notebook = run.folder / "01_one.ipynb"
    assert run.failure == f"01_one failed. MpoxError: Do this instead.\n\nThe partial notebook: {notebook}"
    (output,) = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", [])[:1]
                 if output.output_type == "error"]  # fmt: skip
    assert output.traceback == ["MpoxError: Do this instead."]


# ------------------------------------------------------------------------------------------- kernels that do not end
def test_a_dead_kernel_fails_like_any_other_cell_and_is_not_done(tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_PROJECT", str(make_project(tmp_path / "{project}", n01_hang=HANG)))
    (tmp_path / "empty.yml").write_text("")
    for resume in (False, True):
        result = run_notebooks(profile=tmp_path / "empty.yml", overrides={"WAY": "die"}, resume=resume)
        assert not result.ok and result.notebooks["01_hang"].error.startswith("The kernel died")
        assert "os._exit(3)" in result.failure


@pytest.fixture(params=[["--workers", "1"], []], ids=["in order", "side by side"])
def hanging(request, tmp_path, monkeypatch):
    """A run whose first chapter sleeps: the process, its project, the kernel's number, the options."""
    project = make_project(tmp_path / "project", n01_hang=HANG, n02_three=THREE)
    monkeypatch.setenv("MPOX_PROJECT", str(project))
    (project / "profiles/quick.yml").write_text("WAY: sleep\n")
    command = [sys.executable, "-c", "from mpox.cli import main; main()", "run", *request.param]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kernel, deadline = project / "notebooks/pid", time.monotonic() + 60
    while not (kernel.is_file() and kernel.read_text()) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process, project, int(kernel.read_text()), request.param
    process.kill()


@pytest.mark.slow
def test_ctrl_c_is_noted_and_leaves_no_kernel(hanging):
    process, project, kernel, options = hanging
    first, other = read_run_folder(project / "_runs/quick").notebooks.values()
    assert first.status == "running" and (other.status == "pending") == bool(options)
    with pytest.raises(MpoxError, match="Another 'mpox run' is writing"):
        run_notebooks(profile="quick", resume=True)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Interrupted. Go on from it with: {' '.join(['mpox run', *options])} --resume" in stderr
    assert "Traceback" not in stdout + stderr
    first, other = read_run_folder(project / "_runs/quick").notebooks.values()
    assert (first.status, first.error) == ("failed", "interrupted") and (other.status == "pending" or not options)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


@pytest.mark.slow
def test_a_killed_run_leaves_no_kernel_and_can_be_gone_on_with(hanging):
    process, project, kernel, _ = hanging
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{kernel}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{kernel}").exists()
    assert run_notebooks(["02"], profile="quick", resume=True).notebooks["02_three"].status == "done"


# ------------------------------------------------------------------------------------------------------------ sync
def test_sync_writes_executed_notebooks_with_their_texts_and_without_images_and_times(project):
    drawn = """# %%
import sys
from IPython.display import HTML, display
from IPython.display import Image

print("text")
print("a bar", file=sys.stderr)
display(HTML("<img src='data:image/png;base64,'>"), Image(b"", format="png"))
"""
    (project / "notebooks/03_three.py").write_text(drawn)
    result = CliRunner().invoke(main, ["sync", "03"])
    assert (result.exit_code, result.output) == (0, "wrote 03_three.ipynb\n")
    notebook = nbformat.read(project / "notebooks/03_three.ipynb", as_version=4)
    (cell,) = notebook.cells
    assert "papermill" not in notebook.metadata and cell.metadata == {} and cell.id == "cell-00"
    assert [output.get("text") or list(output.data) for output in cell.outputs] == ["text\n", ["text/plain"], ["text/plain"]]
    result = CliRunner().invoke(main, ["sync", "--check"])
    assert result.exit_code == 1 and "Not in step with their sources: 01_one, 02_two. Run `mpox sync`" in result.stderr
    result = CliRunner().invoke(main, ["sync"])
    assert result.exit_code == 1 and "02_two failed in this cell" in result.stderr


# -------------------------------------------------------------------------------------------------- papermill alone
@pytest.mark.slow
def test_papermill_by_itself_runs_a_chapter_with_a_profile_from_any_folder(tmp_path):
    """The profile holds parameters of other chapters, too; papermill says so and goes on."""
    images = generate(tmp_path / "phantom", PhantomSpec(n_patients=24, size=96, seed=1, copies=2))
    root, chapter = project_root(), "notebooks/01_data_exploration.ipynb"
    values = {"DATASETS": [str(images)], "RUN_STORE": str(tmp_path / "store"), "BACKBONE": "colour_histogram"}
    values |= {"IMAGE_SIZE": 64, "N_FOLDS": 2, "REPEATS": {"linear_probe": 1}}
    profile, notebook = (os.path.relpath(root / name, tmp_path) for name in ("profiles/quick.yml", chapter))
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "-f", profile, "-y", json.dumps(values)]
    command += [notebook, "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Passed unknown parameter: TRAINING" in done.stderr
    about = nbformat.read(tmp_path / "out.ipynb", as_version=4).metadata.papermill
    assert about.exception is None and about.parameters.N_FOLDS == 2
