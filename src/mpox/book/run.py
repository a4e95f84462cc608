"""Run the notebooks with papermill: a profile's values go in, executed notebooks and a summary of the run come out."""

import ast
import contextlib
import difflib
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import re
import signal
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import joblib
import yaml
from tqdm.auto import tqdm

from mpox._core import TORCH_ENVIRONMENT, MpoxError, atomic_write, expanded, locked, project_root
from mpox.audit.result import hash_of_decisions, read_overrides
from mpox.book.wording import duration
from mpox.models.config import DEVICES, ModelConfig
from mpox.models.hardware import torch_device
from mpox.protocols.splits import get_protocol
from mpox.runs.store import RECORDED

if TYPE_CHECKING:
    from nbformat import NotebookNode

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
#: From where to where a number may go, also each number of a list or mapping. Nothing but a whole number fits whole bounds.
_COUNT, _SIDE, _SHARE = (1, 1_000_000), (32, 4096), (1e-6, 1 - 1e-6)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("REPEATS", "CURVE_REPEATS", "EXTERNAL_REPEATS", "SHORTCUT_REPEATS", "N_REPEATS", "TONE_COPIES"), _COUNT),
    **dict.fromkeys(("SIMULATIONS", "STUDIES", "DRAWS", "LABEL_DEALS", "TIMED_ROUNDS", "N_WORST", "N_EXPLAINED"), _COUNT),
    **dict.fromkeys(("DOSE_REPEATS", "ODDITIES"), _COUNT),
    **dict.fromkeys(("AUGMENTED_VIEWS", "COLOUR_COPIES", "EXPORTED_FOLDS", "REVIEW_PAIRS"), (0, 1_000_000)),
    **dict.fromkeys(("IMAGE_SIZE", "TRAINED_IMAGE_SIZE", "SCRATCH_IMAGE_SIZE", "IMAGE_SIZES", "FACTORIAL_SIZES"), _SIDE),
    **dict.fromkeys(("MARGIN", "PLANTED_SHARE", "CLINIC_PREVALENCE", "OWN_SHARES", "SENSITIVITIES", "CONFIDENCES"), _SHARE),
    **dict.fromkeys(("DOSES", "FINE_TUNED_DOSES", "CROSSING_SHARES"), (0.0, 1.0)),
    **dict.fromkeys(("SEED", "SEEDS"), (0, 2**31 - 1)),
    "FRACTIONS": (1e-6, 1.0), "STRENGTHS": (1, 5), "COSTS": (0.0, 1e12), "N_FOLDS": (2, 1000), "N_CLUSTERS": (2, 1000),
}  # fmt: skip
#: Input sizes for which 0 stands for that of the network's weights.
_OWN_SIZE = ("IMAGE_SIZE", "TRAINED_IMAGE_SIZE", "SCRATCH_IMAGE_SIZE")
_TRAINED = {"TRAINING": "fine_tune", "TAIL_TRAINING": "tail_tune", "SCRATCH_TRAINING": "scratch"}
_NEEDED = {
    ("REPEATS", "linear_probe"): "the regime that is judged",
    ("ALTERATIONS", "covered"): "which is compared with covered_random",
    ("ALTERATIONS", "covered_random"): "with which covered is compared",
}
#: What the items of a list that is empty by default are like.
_ITEMS: dict[str, Any] = {
    "DOSE_FINE_TUNED": "phantom", "TRAINED_BACKBONES": "resnet50", "TAIL_FACTORS": "views", "BLANKED": "phantom",
    "FACTORIAL_SIZES": 224, "OWN_SHARES": 0.5,
}  # fmt: skip
#: Lists of which a chapter needs an item.
_NOT_EMPTY = ("SENSITIVITIES", "CONFIDENCES", "FRACTIONS", "SEEDS", "DOSES", "BACKBONES", "STRENGTHS", "PROTOCOLS")
_SHOWN_LINES = 25
#: Set to 1 where notebooks run side by side.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Profile:
    """A named set of parameter values; `file` is relative to the project, or absolute where it lies outside."""

    name: str
    file: str
    parameters: dict[str, Any]
    about: str = ""  #: the first line of the file, if it is a comment


def list_notebooks() -> list[str]:
    """The stems of ``notebooks/NN_name.py``, and of the appendices ``A_name.py``, in the order in which they run."""
    folder = project_root() / "notebooks"
    names = [path.stem for shape in ("[0-9][0-9]_*.py", "[A-Z]_*.py") for path in sorted(folder.glob(shape))]
    if not names:
        raise MpoxError(f"No notebooks in {project_root()}: install a checkout with 'pip install -e .', or set MPOX_PROJECT.")
    return names


def select_notebooks(wanted: Iterable[str] = ()) -> list[str]:
    """Full names of notebooks given as ``03_cross_validation``, ``03``, ``cross_validation`` or a path; all if none is given."""
    names, chosen = list_notebooks(), set()
    for text in wanted:
        name = Path(text).name.removesuffix(".py").removesuffix(".ipynb")
        found = [n for n in names if name in (n, *n.split("_", 1))]
        if not found:
            raise MpoxError(f"There is no notebook {text!r}{_did_you_mean(name, names)}; there are {', '.join(names)}.")
        chosen.update(found)
    return [name for name in names if name in chosen] if chosen else names


def read_notebook(name: str) -> "NotebookNode":
    """The notebook made from ``notebooks/<name>.py``: not executed, without outputs."""
    import jupytext

    path = project_root() / "notebooks" / f"{name}.py"
    try:
        notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except Exception as error:
        raise MpoxError(f"{path} is not a py:percent notebook ({str(error).strip().splitlines()[0]}): correct it.") from error
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


# --------------------------------------------------------------------------------------------------- parameters
def declared_parameters(name: str) -> dict[str, Any]:
    """The parameters that a notebook declares in its cell tagged ``parameters``, with their defaults; the cell is not run."""
    source = (project_root() / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    cell = re.search(r'^# %% tags=\["parameters"\]\n(.*?)(?=^# %%|\Z)', source, re.M | re.S)
    declared: dict[str, Any] = {}
    try:
        for line in ast.parse(cell[1] if cell else "").body:
            if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
                raise ValueError(ast.unparse(line))
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            declared[ast.unparse(target)] = ast.literal_eval(line.value)
    except (SyntaxError, ValueError) as error:
        rest = "NAME = value, each value a literal; move the rest below it"
        raise MpoxError(f"notebooks/{name}.py: the parameters cell may hold only literals, {rest} ({error}).") from error
    return declared


def load_profile(name_or_file: str | Path) -> Profile:
    """Read a profile, as ``papermill -f`` does: ``profiles/<name>.yml`` or a path ending in ``.yml`` or ``.yaml``."""
    from papermill.iorw import read_yaml_file

    path = expanded(name_or_file)
    if path.suffix not in (".yml", ".yaml"):
        path = project_root() / "profiles" / f"{name_or_file}.yml"
    if not path.is_file():
        known = sorted(p.stem for p in (project_root() / "profiles").glob("*.yml"))
        hint = _did_you_mean(str(name_or_file), known)
        raise MpoxError(f"There is no profile {str(name_or_file)!r}{hint}; there are {', '.join(known)}, or name a .yml file.")
    try:
        values = read_yaml_file(str(path)) or {}
    except yaml.YAMLError as error:
        raise MpoxError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) and key.isupper() for key in values):
        raise MpoxError(f"{path}: a profile is a flat mapping, one line 'UPPER_CASE_NAME: value' for each parameter.")
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    about = first.removeprefix("# ") if first.startswith("# ") else ""
    return Profile(path.stem, str(path.resolve()).removeprefix(f"{project_root()}{os.sep}"), values, about)


def parse_overrides(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameter values from the command line: pairs ``NAME VALUE``, values in YAML; a later one counts."""
    try:
        return {name: yaml.safe_load(text) for name, text in pairs}
    except yaml.YAMLError as error:
        raise MpoxError(f"A value of -p is not valid YAML ({' '.join(str(error).split())}).") from error


def resolve_parameters(
    notebooks: Iterable[str], profile: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Which values each notebook is given: those, of the profile and the overrides, that it declares; an override wins."""
    declared = {name: declared_parameters(name) for name in list_notebooks()}
    known, values = sorted(set().union(*declared.values())), {**profile, **overrides}
    for key in values:
        if key not in known:
            raise MpoxError(f"No notebook has the parameter {key}{_did_you_mean(key, known)}; there are {', '.join(known)}.")
    resolved = {
        name: {key: _fit(key, values[key], default, name) for key, default in defaults.items() if key in values}
        for name, defaults in declared.items()
    }
    return {name: resolved[name] for name in notebooks}


def check_parameters(name: str, values: Mapping[str, Any]) -> None:
    """Hold what a chapter was given, by whatever route, to the rules of `resolve_parameters`: `values` are its ``globals()``."""
    declared = declared_parameters(name)
    for key, default in declared.items():
        _fit(key, values[key], default, name)
    for key, item in [pair for pair in _NEEDED if pair[0] in declared and pair[1] not in values[pair[0]]]:
        raise MpoxError(f"{key} must have {item}, {_NEEDED[key, item]}; it is {values[key]!r}.")
    require_device(values)


def require_device(values: Mapping[str, Any]) -> None:
    """An `MpoxError` at once where `values` ask for a GPU and there is none; the record needs none, nor does a scheduler here."""
    if values.get("DEVICE") == "cuda" and values.get("RUN_STORE") != RECORDED and not os.environ.get("MPOX_SCHEDULER"):
        torch_device("cuda")


def _fit(key: str, value: Any, default: Any, notebook: str) -> Any:
    """The value of a parameter, or of an item of one, in the type of its default; `MpoxError` where it does not fit."""
    name = key.rpartition(" ")[2]
    low, high = _RANGES.get(name, (-math.inf, math.inf))
    kind, wanted = (_KINDS.get(type(thing), "nothing") for thing in (value, default))
    if isinstance(default, int | float) and type(default) is not bool and name in _RANGES:
        wanted = _KINDS[type(low)]
    if default is not None and kind != wanted and (type(value), wanted) != (int, _KINDS[float]):
        where = "" if name in _ITEMS and key != name else f" in notebooks/{notebook}.py"
        raise MpoxError(f"{key} must be {wanted}, as {default!r}{where}; {value!r} is {kind}.")
    if wanted in (_KINDS[int], _KINDS[float]) and not (low <= value <= high or (value == 0 and name in _OWN_SIZE)):
        own = " (or 0: the network's own)" if name in _OWN_SIZE else ""
        raise MpoxError(f"{key} must be from {low} to {high}{own}, not {value!r}: correct it.")
    if name == "DEVICE" and value not in DEVICES:
        raise MpoxError(f"{key} must be {' or '.join(DEVICES)}, not {value!r}.")
    if name == "PROTOCOLS" and isinstance(value, str):
        get_protocol(value)
    if name in _NOT_EMPTY and value == []:
        raise MpoxError(f"{key} must have at least one item: add one, or leave it out.")
    if key == "DATASETS" and (not value or len(set(map(str, value))) < len(value)):
        raise MpoxError(f"DATASETS must name a data set, and each only once; it is {value!r}.")
    if key in ("EXTERNAL", "MIXED"):
        if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in value):
            raise MpoxError(f"{key} must be a list of pairs of data sets, as [[msld-v1, msid]]; it is {value!r}.")
    elif key in _TRAINED:
        ModelConfig(_TRAINED[key], training=value)
    elif isinstance(default, list) and (item := _alike(default) or _ITEMS.get(key)) is not None:
        return [_fit(f"Each item of {key}", each, item, notebook) for each in value]
    elif isinstance(default, dict) and (item := _alike(default.values())) is not None:
        return {one: _fit(f"Each value of {key}", each, item, notebook) for one, each in value.items()}
    return float(value) if isinstance(default, float) and not key.startswith("Each") else value


def _alike(items: Iterable[Any]) -> Any:
    """The item that stands for all, if they are of one kind; numbers are."""
    items = list(items)
    one_kind = len({float if type(item) is int else type(item) for item in items}) == 1
    return next((item for item in items if isinstance(item, float)), items[0]) if one_kind else None


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    upper = {name.upper(): name for name in known}
    close = difflib.get_close_matches(word.upper(), upper, n=1)
    return f" (did you mean {upper[close[0]]}?)" if close else ""


# ------------------------------------------------------------------------------------------------- one notebook
class NotebookFailure(Exception):
    """A notebook that did not come to its end: the reason in one line, then the failing cell with the error."""


def execute(
    name: str, parameters: Mapping[str, Any], result: Path, *, mark: Any = None, log: TextIO | None = None, **options: Any
) -> None:
    """Execute ``notebooks/<name>.py`` within `kernel_environment` and write `result`, a partial notebook if it fails."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError, strip_color

    nbformat.write(read_notebook(name), result)
    literal = str(result).replace("{", "{{").replace("}", "}}")  # papermill takes paths for format strings
    options |= {"stdout_file": log, "stderr_file": log, "extra_arguments": ["--IPKernelApp.log_level=50"], "start_timeout": 300}
    try:
        executed = papermill.execute_notebook(
            literal, literal, dict(parameters), kernel_name="python3", cwd=project_root() / "notebooks", **options
        )
    except Exception as error:
        reason = trace = f"{type(error).__name__}: {error}"
        if isinstance(error, PapermillExecutionError):
            reason, trace = f"{error.ename}: {error.evalue}", strip_color("\n".join(error.traceback))
        elif isinstance(error, DeadKernelError):
            reason = trace = "The kernel died; most often the machine ran out of memory."
        cells = nbformat.read(result, as_version=4).cells
        started = [cell.source for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
        cell = textwrap.indent("\n".join("".join(started[-1:]).splitlines()[:_SHOWN_LINES]), "    ")
        lines = "\n".join(trace.rstrip().splitlines()[-_SHOWN_LINES:])
        sentence = len(getattr(error, "traceback", [])) == 1  # an `MpoxError` says enough
        where = f"{name} failed. {reason}" if sentence else f"{name} failed in this cell:\n\n{cell}\n\n{lines}"
        description = f"{where}\n\nThe partial notebook: {result}"
        raise NotebookFailure(reason.splitlines()[0], description) from error
    # the book offers this file for download: no path of this machine in it
    executed.metadata.papermill.update(input_path=f"notebooks/{name}.py", output_path=result.name, mpox=mark)
    atomic_write(result, nbformat.writes(executed))


@contextlib.contextmanager
def kernel_environment(profile: str, **settings: Any) -> Iterator[None]:
    """Set, and restore afterwards, what kernels inherit: what torch needs, ``MPOX_PROFILE``, and settings that have a value."""
    before = dict(os.environ)
    changes = TORCH_ENVIRONMENT | {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore:IProgress not found", "MPOX_PROFILE": profile}
    changes |= {name: str(value) for name, value in settings.items() if value}
    for name in ("MPOX_DATA", "MPOX_CACHE", "MPOX_PROJECT", "MPOX_OVERRIDES", "MPOX_WEIGHTS"):
        if path := changes.get(name) or before.get(name):  # kernels work in notebooks/: relative to here is not relative to there
            changes[name] = str(expanded(path).resolve())
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# ------------------------------------------------------------------------------------------------- a run folder
@dataclass(frozen=True)
class NotebookRun:
    """What became of one notebook: `status` is pending, running, done or failed; `error` is its last line."""

    status: str
    duration_s: float | None
    source_sha256: str
    error: str | None = None


@dataclass
class NotebookRuns:
    """A run folder, as in its ``run.json``; times are ISO 8601, UTC; `failure`, for a person, is not kept there."""

    folder: Path
    profile: str
    profile_file: str
    parameters: dict[str, Any]
    started: str
    finished: str | None
    package_version: str
    notebooks: dict[str, NotebookRun]
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every notebook is done."""
        return all(notebook.status == "done" for notebook in self.notebooks.values())

    def note(self, name: str, **changes: Any) -> None:
        """Change what is known of one notebook, here and on the disk."""
        self.notebooks[name] = replace(self.notebooks[name], **changes)
        self.finished = _now() if self.ok else None
        content = {key: value for key, value in asdict(self).items() if key not in ("folder", "failure")}
        atomic_write(self.folder / "run.json", json.dumps(content, indent=2) + "\n")


def read_run_folder(folder: str | os.PathLike) -> NotebookRuns:
    """Read the ``run.json`` of a folder that `run_notebooks` made."""
    path = Path(folder) / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kept = ("status", "duration_s", "source_sha256", "error")
        notebooks = {name: NotebookRun(*(entry[key] for key in kept)) for name, entry in content.pop("notebooks").items()}
        return NotebookRuns(folder=Path(folder), notebooks=notebooks, **content)
    except FileNotFoundError:
        raise MpoxError(f"{folder} is no run folder (it has no run.json): make one with 'mpox run'.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MpoxError(f"{path} is damaged: delete the folder and run again.") from error


def run_notebooks(
    notebooks: Iterable[str] = (),
    *,
    profile: str | Path = "quick",
    overrides: Mapping[str, Any] | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
    decisions: str | os.PathLike | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> NotebookRuns:
    """Execute notebooks, each in a fresh kernel, up to the first failure: in order, or several at once (`_side_by_side`).

    `notebooks`, `profile` and `overrides` are as in `select_notebooks`, `load_profile` and `resolve_parameters`. The run folder
    `out`, ``_runs/<profile>`` of the project by default, is started over, unless `resume`: then what is done with the same
    parameters, source and decisions is skipped, and what was not named is kept. `data_dir`, `decisions`, `workers` and
    `scheduler` become ``MPOX_DATA``, ``MPOX_OVERRIDES``, ``MPOX_WORKERS`` and ``MPOX_SCHEDULER`` of the kernels. `progress` shows
    papermill's bar over the cells, `echo` is given each line.
    """
    chosen, asked, overrides = select_notebooks(notebooks), load_profile(profile), dict(overrides or {})
    parameters = resolve_parameters(chosen, asked.parameters, overrides)
    for key in overrides.keys() - set().union(*parameters.values()):
        echo(f"note: -p {key} changes nothing here, it belongs to other notebooks")
    for values in [] if scheduler else parameters.values():
        require_device(values)
    if data_dir and not expanded(data_dir).is_dir():
        raise MpoxError(f"There is no data folder {data_dir}: name one that exists with --data-dir.")
    in_force = hash_of_decisions(read_overrides(expanded(decisions) if decisions else None))
    if decisions and any(values.get("RUN_STORE") == RECORDED for values in parameters.values()):
        raise MpoxError("--overrides has no effect on the recorded study, whose audit is made: leave it out.")
    folder = (expanded(out) if out else project_root() / "_runs" / asked.name).resolve()
    if not (folder / ".lock").exists():  # it would stay there
        _refuse_foreign(folder)
    with contextlib.ExitStack() as stack:
        busy = f"Another 'mpox run' is writing to {folder}: wait for it, or name another --out."
        stack.enter_context(locked(folder / ".lock", otherwise=busy))
        _refuse_foreign(folder)
        before = earlier = read_run_folder(folder) if (folder / "run.json").is_file() else None
        if before and resume and before.profile_file != asked.file:
            was = f"{before.profile} ({before.profile_file})"
            raise MpoxError(f"{folder} is a run of the profile {was}: resume it with that --profile.")
        if before and not resume:
            for file in ("run.log", *(f"{Path(name).name}.ipynb" for name in before.notebooks)):
                (folder / file).unlink(missing_ok=True)
            before = None
        sources = {name: (project_root() / "notebooks" / f"{name}.py").read_bytes() for name in chosen}
        marks = {name: {"source_sha256": hashlib.sha256(sources[name]).hexdigest(), "decisions": in_force} for name in chosen}
        entries = before.notebooks if before else {}
        entries |= {name: NotebookRun("pending", None, marks[name]["source_sha256"]) for name in chosen}
        run = NotebookRuns(
            folder, asked.name, asked.file, {**asked.parameters, **overrides}, before.started if before else _now(), None,
            importlib.metadata.version("mpox"), dict(sorted(entries.items())),
        )  # fmt: skip
        echo(f"profile {asked.name} -> {folder} (log: run.log)")
        settings = {"MPOX_DATA": data_dir, "MPOX_OVERRIDES": decisions, "MPOX_WORKERS": workers, "MPOX_SCHEDULER": scheduler}
        known = {name: _done_before(folder / f"{name}.ipynb", parameters[name], marks[name]) for name in chosen if resume}
        skipped, todo = [name for name in chosen if known.get(name)], [name for name in chosen if not known.get(name)]
        for number, name in enumerate(skipped, start=1):
            run.note(name, status="done", duration_s=known[name])
            echo(f"[{number}/{len(chosen)}] {name:<28} skipped (done before)")
        jobs = _side_by_side(parameters, len(todo), workers=workers, scheduler=scheduler)
        echo(f"{len(todo)} to execute, {max(jobs, 1)} at a time. {_about_how_long(earlier, todo, jobs) or asked.about}".rstrip())
        if jobs > 1:
            settings |= {"MPOX_WORKERS": max(1, joblib.cpu_count() // jobs), **dict.fromkeys(_THREADS, 1)}
        settings["MPOX_REMEMBERED"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="mpox-"))
        stack.enter_context(kernel_environment(asked.name, **settings))
        tasks = {name: (name, parameters[name], folder / f"{name}.ipynb", marks[name], folder / "run.log") for name in todo}
        for number, (name, took, failure) in enumerate(_outcomes(run, tasks, jobs, progress=progress), start=1 + len(skipped)):
            status, (reason, description) = ("failed", failure) if failure else ("done", (None, None))
            run.note(name, status=status, duration_s=took, error=reason)
            run.failure = run.failure or description
            echo(f"[{number}/{len(chosen)}] {name:<28} {status:<7} {took:8.1f} s")
        if run.failure:
            return run
    echo(f"executed notebooks are in {folder}")
    return run


def _refuse_foreign(folder: Path) -> None:
    if not (folder / "run.json").is_file() and folder.exists() and any(entry.name != ".lock" for entry in folder.iterdir()):
        raise MpoxError(f"{folder} is not empty and was not made by 'mpox run': name another folder with --out.")


def _about_how_long(earlier: NotebookRuns | None, names: Sequence[str], jobs: int) -> str:
    """What the last run of these notebooks into the same folder took, if there was one."""
    took = [earlier.notebooks[name].duration_s for name in names if name in earlier.notebooks] if earlier else []
    if not took or len(took) < len(names) or None in took:
        return ""
    return f"The last time this took about {duration(sum(filter(None, took)) / max(jobs, 1))}."


def _side_by_side(parameters: dict[str, dict], n_chapters: int, *, workers: int | None, scheduler: str | None) -> int:
    """How many notebooks run at once: those that only read the record one a core, or as many as there are workers; else two,
    unless the workers, a cluster or a GPU have their own way."""
    cores = joblib.cpu_count()
    if all(values.get("RUN_STORE") == RECORDED for values in parameters.values()):
        return min(n_chapters, workers or cores)
    alone = workers or scheduler or os.environ.get("MPOX_WORKERS") or os.environ.get("MPOX_SCHEDULER")
    return 1 if alone or any(values.get("DEVICE") == "cuda" for values in parameters.values()) else min(n_chapters, cores, 2)


def _outcomes(run: NotebookRuns, tasks: dict[str, tuple], jobs: int, *, progress: bool) -> Iterator[tuple[str, float, Any]]:
    """Execute notebooks up to the first failure: each name, its seconds, and the failure's reason and description."""
    if jobs <= 1:
        for name, task in tasks.items():
            run.note(name, status="running")
            try:
                took, failure = _attempt(*task, progress_bar={"desc": name, "leave": False} if progress else False)
            except BaseException:
                run.note(name, status="failed", error="interrupted")
                raise
            yield name, took, failure
            if failure:
                return
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)) as pool:
        futures = {pool.submit(_attempt, *task): name for name, task in tasks.items()}
        names = iter(tasks)
        for name in itertools.islice(names, jobs):
            run.note(name, status="running")
        try:
            for future in tqdm(as_completed(futures), total=len(tasks), desc="chapters", leave=False, disable=not progress):
                if future.cancelled():
                    continue
                took, failure = future.result()
                if failure:
                    pool.shutdown(wait=False, cancel_futures=True)
                elif (following := next(names, None)) and not run.failure:
                    run.note(following, status="running")
                yield futures[future], took, failure
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process_id in [child.pid for child in active_children() if child.pid]:
                os.kill(process_id, signal.SIGINT)  # it ends its kernel
            for name in [name for name, notebook in run.notebooks.items() if notebook.status == "running"]:
                run.note(name, status="failed", error="interrupted")
            raise


def _end_with(parent: int) -> None:
    """End this process, and its kernel with it, soon after the one that started it, which may have been killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(name: str, parameters: dict, result: Path, mark: dict, log: Path, *, progress_bar: Any = False) -> tuple[float, Any]:
    """Execute one notebook, here or in a process of its own."""
    start, failure = time.monotonic(), None
    with log.open("a", encoding="utf-8") as stream:
        try:
            execute(name, parameters, result, mark=mark, log=stream, progress_bar=progress_bar)
        except NotebookFailure as error:
            failure = error.args
    return round(time.monotonic() - start, 1), failure


def _done_before(path: Path, parameters: dict[str, Any], mark: dict[str, str]) -> float | None:
    """Seconds that an executed notebook took, if papermill's metadata say that it is the result of just this."""
    import nbformat

    about = nbformat.read(path, as_version=4).metadata.get("papermill", {}) if path.is_file() else {}
    return about["duration"] if (about.get("parameters"), about.get("mpox")) == (parameters, mark) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
