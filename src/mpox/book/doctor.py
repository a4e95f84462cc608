"""Is this machine ready for the notebooks? A row for each check: what was looked at, what was found, what to do."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mpox._core import cache_dir, project_root

OK, WARNING, MISSING = "ok", "warning", "missing"
INSTALL = "pip install --no-deps --require-hashes -r requirements.lock"


class Finding(NamedTuple):
    """A row: `state` is missing where the notebooks do not run, warning where something works less well; `advice` what to do."""

    check: str
    state: str
    found: str
    advice: str = ""


def examine(data_dir: str | os.PathLike | None = None) -> Iterator[Finding]:
    """Python, the packages against the lock, the data sets, room on the disk, and the GPU."""
    wanted, here = metadata("mpox")["Requires-Python"], platform.python_version()
    good = here in SpecifierSet(wanted)
    yield Finding("Python", OK if good else MISSING, here, "" if good else f"install Python {wanted}")

    lock = (project_root() / "requirements.lock").read_text(encoding="utf-8")
    pins = [Requirement(line.rstrip("\\ ")) for line in lock.splitlines() if line[:1].isalnum()]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    needed = {Requirement(line).name for line in requires("mpox") or [] if "extra ==" not in line}
    absent, other = [], []
    for pin in pins:
        try:
            if version(pin.name) not in pin.specifier:
                other.append(f"{pin.name} {version(pin.name)}")
        except PackageNotFoundError:
            absent.append(pin.name)
    if absent or other:
        found = f"absent: {', '.join(absent) or 'none'}; not as locked: {', '.join(other) or 'none'}"
        yield Finding("Packages", MISSING if needed & set(absent) else WARNING, found, INSTALL)
    else:
        yield Finding("Packages", OK, f"{len(pins)} as in requirements.lock")

    from mpox.data.registry import REGISTRY, find_here

    for name in ("msld-v1", "msid"):
        folder = find_here(REGISTRY[name], data_dir=data_dir)
        advice = f"mpox data fetch {name}; only the profiles cpu and gpu need it"
        yield Finding(name, OK if folder else WARNING, str(folder or "not here"), "" if folder else advice)

    free = shutil.disk_usage(next(path for path in (cache_dir(), *cache_dir().parents) if path.exists())).free / 2**30
    advice = f"free space, or set MPOX_CACHE; now it is {cache_dir()}"
    yield Finding("Disk", OK if free > 3 else WARNING, f"{free:.1f} GiB free", "" if free > 3 else advice)

    if "torch" not in absent:
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; only the profile gpu needs one"
        yield Finding("GPU", OK, gpu)
