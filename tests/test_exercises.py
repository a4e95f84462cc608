"""The course: what a chapter offers a learner, notebooks with blanks in step with it, solutions that run by themselves."""

import re

import nbformat
import pytest
from click.testing import CliRunner

from mpox._core import MpoxError, project_root
from mpox.book.explorers import quiz_text, read_quiz
from mpox.book.run import list_notebooks, read_notebook, resolve_parameters
from mpox.book.sources import BLANKS, learner_notebook, stale_exercises
from mpox.cli import main
from mpox.data.phantom import PhantomSpec, generate

CHAPTERS = [name for name in list_notebooks() if name[0].isdigit()]  # appendices have no exercises
FOLDER = project_root() / "notebooks" / "exercises"
SOURCE = """# %% [markdown]
# # A chapter

# %% tags=["parameters"]
SEED = 1

# %% tags=["exercise-setup"]
number = SEED + 1

# %%
raise RuntimeError("the chapter's own work is not part of the exercises")

# %% [markdown] tags=["exercise"]
# ### Exercise 1
#
# Double the number. Why?

# %% tags=["solution"]
double = 2 * number

# %% tags=["solution"]
print(double)

# %% [markdown] tags=["solution"]
# Because.

# %% [markdown]
# The end.
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one chapter."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_one.py").write_text(SOURCE)
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))
    return tmp_path


# ------------------------------------------------------------------------------------------------- derivation
def test_solutions_become_blanks_and_only_what_is_needed_stays(project):
    cells = learner_notebook("01_one").cells
    assert [cell.source for cell in cells[1:]] == [
        "SEED = 1",
        "number = SEED + 1",
        "### Exercise 1\n\nDouble the number. Why?",
        BLANKS["code"],
        BLANKS["markdown"],
    ]
    assert cells[0].source.startswith("# Exercises: A chapter\n")
    text = nbformat.writes(learner_notebook("01_one"))
    assert "double" not in text and "Because" not in text
    assert text == nbformat.writes(learner_notebook("01_one"))
    names: dict = {}
    exec("\n".join(cell.source for cell in learner_notebook("01_one", solved=True).cells if cell.cell_type == "code"), names)
    assert names["double"] == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('# %% tags=["solution"]\ndouble', "# %%\ndouble", "put a cell tagged 'solution' behind the exercise above 'double"),
        ('[markdown] tags=["exercise"]', "[markdown]", "'double = 2 \\* number' follows no exercise"),
    ],
)  # fmt: skip
def test_an_exercise_has_its_solution_right_behind_it(project, old, new, message):
    assert old in SOURCE
    (project / "notebooks" / "01_one.py").write_text(SOURCE.replace(old, new, 1))
    with pytest.raises(MpoxError, match=message):
        learner_notebook("01_one")


def test_the_command_writes_and_checks(project):
    (project / "notebooks" / "02_two.py").write_text("# %% [markdown]\n# # Two, without exercises\n")
    run = CliRunner().invoke(main, ["exercises", "--check"])
    assert run.exit_code == 1 and "01_one. Run `mpox exercises`" in run.stderr
    assert CliRunner().invoke(main, ["exercises"]).exit_code == 0
    assert [path.stem for path in (project / "notebooks/exercises").iterdir()] == ["01_one"]
    assert stale_exercises() == [] and CliRunner().invoke(main, ["exercises", "--check"]).exit_code == 0
    source = project / "notebooks" / "01_one.py"
    source.write_text(source.read_text().replace("Double the", "Treble the"))
    assert stale_exercises() == ["01_one"]


# ------------------------------------------------------------------------------------- the project's own course
def _quiz(name):
    return name[:2]


def test_learner_notebooks_are_in_step_with_their_chapters():
    assert stale_exercises() == []
    assert {path.stem for path in FOLDER.iterdir()} == set(CHAPTERS)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_learner_notebook_is_not_executed_and_holds_no_solution(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any("solution" in cell.metadata.get("tags", []) for cell in notebook.cells)
    assert sum(cell.source in BLANKS.values() for cell in notebook.cells) >= 3
    assert "parameters" in code[0].metadata["tags"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_says_what_it_is_for_and_where_to_go_on(name):
    cells = read_notebook(name).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert "uestion" in prose and re.search(r"^- ", prose, re.M)
    order = ("## What could be wrong", "## Check yourself", "## Exercises", "## What to read next")
    assert [part for part in order if part in prose] == sorted(order, key=prose.find) == list(order)
    assert any(cell.source == f'report.quiz("{_quiz(name)}")' for cell in cells)
    tasks = [cell.source for cell in cells if "exercise" in cell.metadata.get("tags", [])]
    assert 2 <= len(tasks) <= 3 and all("Hint" in task or "(open)" in task for task in tasks)
    assert "(easy)" in tasks[0].splitlines()[0] and "(open)" in tasks[-1].splitlines()[0]
    assert "{term}" not in prose, "JupyterLab would show the role"
    assert [task.split()[2] for task in tasks] == [str(number) for number in range(1, len(tasks) + 1)]
    solved = [cell.source for cell in cells if "solution" in cell.metadata.get("tags", []) and cell.cell_type == "code"]
    assert any(re.search('assert |"Right', source) for source in solved), "a solution says whether it is right"


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_committed_chapter_shows_its_quiz_as_it_is_now(name):
    cells = nbformat.read(project_root() / "notebooks" / f"{name}.ipynb", as_version=4).cells
    (quiz,) = [cell for cell in cells if cell.source.startswith("report.quiz(")]
    assert quiz.outputs[0]["data"]["text/plain"] == quiz_text(read_quiz(_quiz(name)))


# ----------------------------------------------------------------------------- solutions run, and by themselves
def _solve(name, values, monkeypatch):
    """Run a learner notebook with the solutions in place, and return what it showed as text."""
    import matplotlib

    matplotlib.use("Agg")
    shown = []
    as_text = lambda thing, raw=False: shown.append(thing["text/plain"] if raw else thing.data)  # noqa: E731
    monkeypatch.setattr("mpox.book.report.display", as_text)
    names = {"__name__": "__main__"}
    for cell in learner_notebook(name, solved=True).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, {cell.id}", "exec"), names)
            if "parameters" in cell.metadata["tags"]:
                names.update(values)
    return shown


@pytest.fixture(scope="module")
def small_phantom(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("course") / "phantom", PhantomSpec(n_patients=36, size=96, seed=1, copies=4))


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of other people, with the mark on the other rashes; its truths are left behind."""
    about = {"n_patients": 28, "size": 96, "copies": 0, "label_conflicts": 0, "marked": ("Chickenpox", "Measles")}
    return generate(tmp_path / "drawn", PhantomSpec(seed=2, **about)).rename(tmp_path / "elsewhere")


FOUND = {
    "01": ["In no pair: cat corner.png, cup corner.png."],
    "02": ["espresso", "B0 rounds to 4.14 M with 100 to 107 hidden units."],
    "03": ["always naming", "resampling groups makes the interval"],
    "04": ["498 patients", "p, corrected", "Right."],
    "05": ["most accuracy is lost with", "points of accuracy by luck", "network and texture averaged"],
    "06": ["confident mistakes", "what is permuted", "Mean rank correlation over six images"],
    "07_shortcuts": ["painted over minus boxes", "at the threshold 0.50: sensitivity"],
    "08_other_data": ["sensitivity minus 0.95", "effective size"],
    "09": ["prevalence at which half are right", "all together", "prevalences at which the model is the cheapest"],
    "10": ["published minus upper end", "sensitivity and specificity from"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_solutions_run_with_nothing_but_the_set_up(name, small_phantom, monkeypatch, request):
    overrides = {
        "DATASETS": [str(small_phantom)],
        "RUN_STORE": str(small_phantom.parent / "store"),
        "N_FOLDS": 3,
        "IMAGE_SIZE": 96,
        "TRAINED_IMAGE_SIZE": 64,
        "REPEATS": {"linear_probe": 1},
        "AUGMENTED_VIEWS": 0,
        "CORRUPTIONS": ["blur", "jpeg"],
        "STRENGTHS": [2],
        "TRANSFORMS": [],
        "ODDITIES": 2,
    }
    if name == "08_other_data":
        overrides["EXTERNAL"] = [[str(small_phantom), str(request.getfixturevalue("elsewhere"))]]
    values = resolve_parameters([name], {}, overrides)[name]
    shown = "\n".join(_solve(name, values, monkeypatch))
    assert [text for text in FOUND.get(name, FOUND.get(name[:2], [])) if text not in shown] == []
