"""`mpox run`: what is checked before anything runs, what the kernels see, and how a run is gone on with."""

import ast
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from mpox._core import MpoxError
from mpox.book.execution import run_notebooks
from mpox.book.profiles import (
    declared_parameters,
    list_notebooks,
    load_profile,
    parse_overrides,
    resolve_parameters,
    select_notebooks,
)
from mpox.book.runfolder import read_run_folder
from mpox.cli import run as run_command

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

names = ["MPOX_PROFILE", "MPOX_DATA", "MPOX_OVERRIDES", "PYTHONHASHSEED", "PYTHONWARNINGS"]
names += ["MALLOC_MMAP_THRESHOLD_", "IPYTHONDIR"]
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
THREE = """# %%
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


def make_project(root: Path, **sources: str) -> Path:
    (root / "notebooks").mkdir(parents=True)
    (root / "profiles").mkdir()
    for name, source in sources.items():
        (root / "notebooks" / f"{name.lstrip('n')}.py").write_text(source)
    (root / "profiles/tiny.yml").write_text("SEED: 5\nRATE: 1e-3\n")
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


def test_notebooks_are_listed_and_selected_in_running_order(project):
    assert list_notebooks() == ["01_one", "02_two", "03_three"]
    assert select_notebooks() == list_notebooks()
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
    assert list(resolve_parameters(["02_two"], profile.parameters, {})) == ["02_two"]


def test_a_whole_number_becomes_the_float_that_its_default_is(project):
    rate = resolve_parameters(["01_one"], {"RATE": 1}, {})["01_one"]["RATE"]
    assert (rate, type(rate)) == (1.0, float)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SEED", "many", "SEED must be a number .* 'many' is text"),
        ("SEED", "true", "SEED must be a number .* True is true or false"),
        ("NAMES", "a", "NAMES must be a list .* 'a' is text"),
        ("NAMES", "[a, 1]", "Each item of NAMES must be text .* 1 is a number"),
        ("DEVICE", "null", "DEVICE must be text .* None is nothing"),
        ("STRICT", "1", "STRICT must be true or false .* 1 is a number"),
        ("SEDE", "1", r"-p SEDE is no notebook's parameter \(did you mean SEED\?\); there are .*EPOCHS"),
        ("NAMES", "[a", "-p NAMES, line 1: not valid YAML"),
    ],
)
def test_a_wrong_override_is_an_error_before_anything_is_written(project, name, value, message):
    before = sorted(project.rglob("*"))
    result = CliRunner().invoke(run_command, ["--profile", "tiny", "-p", name, value])
    assert isinstance(result.exception, MpoxError)
    with pytest.raises(MpoxError, match=message):
        raise result.exception
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SEED: 1\nEPOCH: 2\n", r"profile's EPOCH is no notebook's parameter \(did you mean EPOCHS\?\)"),
        ("SEED: 1\nSEED: 2\n", "line 1: not valid YAML .SEED is there twice"),
        ("SEED: [1\n", "not valid YAML"),
        ("- SEED\n", "flat mapping"),
        ("train:\n  SEED: 1\n", "flat mapping"),
    ],
)
def test_a_wrong_profile_is_an_error_before_anything_is_written(project, text, message):
    file = project / "mine.yml"
    file.write_text(text)
    before = sorted(project.rglob("*"))
    with pytest.raises(MpoxError, match=message):
        run_notebooks(profile=file)
    assert sorted(project.rglob("*")) == before


def test_an_unknown_profile_is_named_with_the_nearest_known_one(project):
    with pytest.raises(MpoxError, match=r"'quik' \(did you mean quick\?\); there are quick, tiny"):
        run_notebooks(profile="quik")


@pytest.mark.parametrize("line", ["derived = 2", "DERIVED = SEED * 2", "import os", "A = B = 1", "A ="])
def test_a_parameters_cell_holds_literals_only(project, line):
    (project / "notebooks/01_one.py").write_text(f'# %% tags=["parameters"]\nSEED = 1\n{line}\n')
    with pytest.raises(MpoxError, match="01_one.py: the parameters cell may hold only UPPER_CASE = literal"):
        declared_parameters("01_one")


def test_a_folder_of_something_else_is_not_touched(project):
    folder = project / "precious"
    folder.mkdir()
    (folder / "01_one.ipynb").write_text("mine")
    with pytest.raises(MpoxError, match="was not made by 'mpox run'"):
        run_notebooks(profile="tiny", out=folder)
    assert [p.name for p in folder.iterdir()] == ["01_one.ipynb"]
    with pytest.raises(MpoxError, match="no run folder"):
        read_run_folder(folder)
    with pytest.raises(MpoxError, match="There is no data folder"):
        run_notebooks(profile="tiny", data_dir=project / "nowhere")
    with pytest.raises(MpoxError, match="cannot be read"):
        run_notebooks(profile="tiny", decisions=project / "nowhere.csv")
    with pytest.raises(MpoxError, match="no effect on the recorded study"):
        (project / "mine.csv").write_text("dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\n")
        (project / "notebooks/03_three.py").write_text('# %% tags=["parameters"]\nRUN_STORE = ""\n')
        run_notebooks(profile="tiny", decisions=project / "mine.csv", overrides={"RUN_STORE": "recorded"})


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One run that fails in its second notebook, is mended, resumed, changed and resumed again."""
    base = tmp_path_factory.mktemp("story")
    root = make_project(base / "project", n01_one=ONE, n02_two=TWO, n03_three=THREE)
    bogus = base / "jupyter/kernels/python3"
    bogus.mkdir(parents=True)
    bogus.joinpath("kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "Not this one", "language": "python"})
    )
    (base / "data").mkdir()
    told = {"base": base, "root": root, "folder": root / "_runs/tiny"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPOX_PROJECT", str(root))
        patch.setenv("JUPYTER_PATH", str(base / "jupyter"))
        patch.setenv("MPOX_DATA", "elsewhere")
        patch.chdir(base)
        told["environment"] = dict(os.environ), os.getcwd()
        (base / "mine.csv").write_text("dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\n")
        call = ["--profile", "tiny", "-p", "SEED", "7", "--data-dir", "data", "--overrides", "mine.csv"]

        def step(name, *words):
            result = CliRunner().invoke(run_command, [*call, *words])
            state = json.loads((told["folder"] / "run.json").read_text())
            written = {p.name: p.stat().st_mtime_ns for p in told["folder"].glob("*.ipynb")}
            told[name] = result, state, written

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
        with pytest.raises(MpoxError) as raised:
            run_notebooks(profile="quick", out=told["folder"], resume=True)
        told["other profile"] = str(raised.value)
        result = run_notebooks(["03"], profile="quick", out=told["folder"])
        told["started over"] = result, sorted(p.name for p in told["folder"].iterdir())
        yield told


def test_kernels_get_the_parameters_the_profile_and_this_python(story):
    facts, values = story["printed"]
    assert values == [7, 0.001, ["a", "b"], None]
    assert facts["python"] == sys.executable
    assert facts["cwd"] == str(story["root"] / "notebooks")
    environment = facts["env"]
    assert environment.pop("IPYTHONDIR").startswith(str(story["folder"]))
    assert environment == {
        "MPOX_PROFILE": "tiny",
        "MPOX_DATA": str(story["base"] / "data"),
        "MPOX_OVERRIDES": str(story["base"] / "mine.csv"),
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore:IProgress not found",
        "MALLOC_MMAP_THRESHOLD_": "17179869184",
    }


def test_nothing_of_the_kernels_environment_is_left(story):
    assert story["environment after"] == story["environment"]


def test_a_failing_cell_stops_the_run_and_is_shown(story):
    result, _, written = story["failed"]
    assert result.exit_code == 1
    assert "[2/3] 02_two                       failed" in result.stdout
    for part in (
        "02_two failed in cell 4 of 4 (notebooks/02_two.py, line 12):",
        '    print("two", SEED, EPOCHS)',
        "ValueError: the planted mistake",
        f"The partial notebook: {story['folder'] / '02_two.ipynb'}",
        "mpox run --profile tiny -p SEED 7 --data-dir data --overrides mine.csv --resume",
    ):
        assert part in result.stderr
    assert sorted(written) == ["01_one.ipynb", "02_two.ipynb"]


def test_run_json_tells_the_state_of_every_notebook(story):
    _, state, _ = story["failed"]
    assert set(state) == {*("profile", "profile_file", "parameters", "started", "finished", "package_version", "notebooks")}
    assert (state["profile"], state["profile_file"]) == ("tiny", "profiles/tiny.yml")
    assert (state["parameters"], state["finished"]) == ({"SEED": 7, "RATE": 0.001}, None)
    one, two, three = (state["notebooks"][name] for name in ("01_one", "02_two", "03_three"))
    assert [n["status"] for n in (one, two, three)] == ["done", "failed", "pending"]
    assert two["error"] == "ValueError: the planted mistake"
    assert (one["error"], three["duration_s"]) == (None, None)
    assert 0 < one["duration_s"] < 60
    assert one["parameters"] == {"SEED": 7, "RATE": 0.001}
    assert one["source_sha256"] == hashlib.sha256(ONE.encode()).hexdigest()


def test_resume_goes_on_from_the_failed_notebook(story):
    result, state, written = story["resumed"]
    assert result.exit_code == 0
    assert [n["status"] for n in state["notebooks"].values()] == ["done"] * 3
    assert written["01_one.ipynb"] == story["failed"][2]["01_one.ipynb"]
    assert "[1/3] 01_one                       skipped" in result.stdout
    assert f"executed notebooks are in {story['folder']}" in result.stdout.splitlines()[-1]
    assert state["started"] == story["failed"][1]["started"]
    assert state["finished"] >= state["started"]
    assert state["notebooks"]["02_two"]["error"] is None


def test_resume_runs_again_only_what_changed(story):
    steps = [story[name][2] for name in ("resumed", "source changed", "parameter changed", "decision changed")]
    again = [{name for name in after if after[name] != before[name]} for before, after in zip(steps, steps[1:], strict=False)]
    assert again == [{"03_three.ipynb"}, {"02_two.ipynb"}, {"01_one.ipynb", "02_two.ipynb", "03_three.ipynb"}]


def test_resume_keeps_to_the_profile_of_the_folder(story):
    assert "is a run of the profile tiny (profiles/tiny.yml)" in story["other profile"]


def test_without_resume_a_run_folder_is_started_over(story):
    result, files = story["started over"]
    assert result.ok
    assert files == [".lock", "03_three.ipynb", "run.json", "run.log"]
    assert list(result.notebooks) == ["03_three"]
    assert result == read_run_folder(result.folder)


def test_an_executed_notebook_holds_no_path_of_this_machine(story):
    result, _ = story["started over"]
    notebook = nbformat.read(result.folder / "03_three.ipynb", as_version=4)
    assert notebook.metadata.papermill.input_path == "notebooks/03_three.py"
    assert str(story["base"]) not in nbformat.writes(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    log = (result.folder / "run.log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO three$", log, re.MULTILINE)


@pytest.mark.parametrize(
    ("way", "timeout", "reason"),
    [("die", None, "The kernel died"), ("sleep", 1, "The cell ran longer than --timeout allows (1 s)")],
)
def test_a_dead_kernel_and_an_endless_cell_fail_like_any_other(tmp_path, monkeypatch, way, timeout, reason):
    monkeypatch.setenv("MPOX_PROJECT", str(make_project(tmp_path / "{project}", n01_hang=HANG)))
    (tmp_path / "empty.yml").write_text("")
    result = run_notebooks(profile=tmp_path / "empty.yml", overrides={"WAY": way}, cell_timeout_s=timeout)
    assert not result.ok
    assert result.notebooks["01_hang"].error.startswith(reason)
    assert "01_hang failed in cell 2 of 2" in result.failure


MEET = """# %%
import os
import time
from pathlib import Path

here, there = Path("{here}"), Path("{there}")
here.write_text(str(os.getpid()))
while not there.exists():
    time.sleep(0.05)
print("{here} met", os.environ["MPOX_WORKERS"])
print(os.getcwd())
"""


def test_notebooks_side_by_side_meet_and_a_failure_stops_none(tmp_path, monkeypatch):
    """The first two wait for each other: one after the other they would wait for ever."""
    a, b = MEET.format(here="a", there="b"), MEET.format(here="b", there="a")
    project = make_project(tmp_path / "project", n01_a=a, n02_b=b, n03_two=TWO, n04_three=THREE)
    monkeypatch.setenv("MPOX_PROJECT", str(project))
    (project / "profiles/quick.yml").write_text("")
    before = os.getcwd()
    result = CliRunner().invoke(run_command, ["--jobs", "2", "--workers", "3", "--timeout", "60"])
    assert result.exit_code == 1 and os.getcwd() == before
    assert "the planted mistake" in result.stderr and "mpox run --profile quick --workers 3 --jobs 2 --resume" in result.stderr
    run = read_run_folder(project / "_runs/quick")
    assert [n.status for n in run.notebooks.values()] == ["done", "done", "failed", "done"]
    assert printed(project / "_runs/quick/01_a.ipynb") == [f"a met 3\n{project / 'notebooks'}\n"]
    log = (project / "_runs/quick/run.log").read_text().splitlines()
    assert all(re.match("(01_a|02_b|03_two|04_three): ", line) for line in log)
    assert any(re.fullmatch(r"02_b: \S+ \S+ INFO b met 3", line) for line in log)


def test_ctrl_c_stops_notebooks_side_by_side(tmp_path):
    wait = MEET.format(here="pid%s", there="never")
    project = make_project(tmp_path / "project", n01_a=wait.replace("%s", "1"), n02_b=wait.replace("%s", "2"), n03_three=THREE)
    (project / "profiles/quick.yml").write_text("")
    pids = [project / "notebooks" / f"pid{n}" for n in (1, 2)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from mpox.cli import run; run()", "--jobs", "2"],
        env={**os.environ, "MPOX_PROJECT": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not all(pid.is_file() and pid.read_text() for pid in pids) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and stdout.count("interrupted after") == 2
    assert "Traceback" not in stdout + stderr
    run = read_run_folder(project / "_runs/quick")
    assert [(n.status, n.error) for n in run.notebooks.values()] == [("failed", "interrupted")] * 2 + [("pending", None)]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_ctrl_c_is_noted_and_leaves_no_kernel(tmp_path):
    project = make_project(tmp_path / "project", n01_hang=HANG, n02_three=THREE)
    (project / "profiles/quick.yml").write_text("WAY: sleep\n")
    process = subprocess.Popen(
        [sys.executable, "-c", "from mpox.cli import run; run()"],
        env={**os.environ, "MPOX_PROJECT": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pid = project / "notebooks/pid"
        deadline = time.monotonic() + 60
        while not (pid.is_file() and pid.read_text()) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [n.status for n in read_run_folder(project / "_runs/quick").notebooks.values()] == [
            "running",
            "pending",
        ]
        with (
            pytest.raises(MpoxError, match="Another 'mpox run' is writing"),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("MPOX_PROJECT", str(project))
            run_notebooks(profile="quick", resume=True)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted after" in stdout
    assert "mpox run --profile quick --resume" in stdout
    assert "Traceback" not in stdout + stderr
    run = read_run_folder(project / "_runs/quick")
    assert [(n.status, n.error) for n in run.notebooks.values()] == [
        ("failed", "interrupted"),
        ("pending", None),
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
