"""What the benchmarks share: phases in processes of their own, their time and memory, and how results are printed and kept."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import joblib
import numpy as np
import pandas as pd
import PIL

from mpox._core import MpoxError, atomic_write
from mpox.audit import audit_version

MEMORY = (
    "proportional set size (PSS, from /proc) of the process and all its children together, read five times a second, "
    "or as seldom as keeps the reading below a fortieth of a core"
)


class Commands(click.Group):
    """Errors that the package explains end the command with that sentence."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except MpoxError as error:
            raise click.ClickException(str(error)) from error


def machine() -> dict[str, str | int]:
    """What the figures depend on: processor, cores, the load that others put on them (last minute), versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores used by default": joblib.cpu_count(),
        "load average": round(os.getloadavg()[0], 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "audit": audit_version(),
    }


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_children(child)]
    return found


def _pss(pid: int) -> int:
    """Kilobytes of one process; shared pages count in part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def tree_memory(pid: int) -> float | None:
    """MiB of a process and its children now; None where the system has no /proc, or the process has ended."""
    if not Path("/proc/self/smaps_rollup").is_file():
        return None
    total = 0
    try:
        for one in [pid, *_children(pid)]:
            try:
                total += _pss(one)
            except OSError:  # that one has ended in the meantime
                continue
    except OSError:
        return None
    return total / 1024


def run_phase(script: Path, arguments: list[str], *, cache: Path, environment: dict | None = None) -> dict:
    """Run ``python script arguments... --result FILE`` with its own cache folder; return its result with `peak_mib` added.

    `environment` is added to what this process has; a value of None takes the variable away.

    Raises
    ------
    MpoxError
        If the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-") as folder:
        result = Path(folder) / "result.json"
        merged = os.environ | (environment or {}) | {"MPOX_CACHE": str(cache)}
        merged = {name: value for name, value in merged.items() if value is not None}
        process = subprocess.Popen([sys.executable, str(script), *arguments, "--result", str(result)], env=merged)
        peak, done = [], threading.Event()

        def watch() -> None:
            while not done.is_set():
                started = time.perf_counter()
                now = tree_memory(process.pid)
                if now is not None:
                    peak.append(now)
                done.wait(max(0.2, 40 * (time.perf_counter() - started)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            code = process.wait()
        finally:
            done.set()
            watcher.join()
            if process.poll() is None:
                process.terminate()
                process.wait()
        if code:
            raise MpoxError(f"The benchmark's phase '{' '.join(arguments[:2])}' failed (exit code {code}): see its output above.")
        return json.loads(result.read_text()) | {"peak_mib": round(max(peak)) if peak else None}


def exponent(sizes: list[float], seconds: list[float]) -> tuple[float, list[float]]:
    """The exponent of a power law through the points (least squares of the logarithms), and the slopes between neighbours."""
    x, y = np.log(sizes), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0]), [float(s) for s in np.diff(y) / np.diff(x)]


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; numbers as they are, floats with three digits after the point."""

    def text(value) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}"
        return "" if value is None or value is pd.NA else str(value)

    lines = [list(map(str, table.columns)), ["---"] * table.shape[1]]
    lines += [[text(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def out_file(ctx, parameter, value: Path | None) -> Path | None:
    """The callback of the option ``--out``, whose file `report` writes."""
    if value is not None and value.suffix not in (".csv", ".json"):
        raise click.BadParameter("name a file that ends in .csv (the table) or .json (all of it).")
    return value


def report(
    title: str,
    table: pd.DataFrame,
    notes: list[str],
    *,
    about: dict,
    out: Path | None,
    more: dict | None = None,
    echo: Callable = print,
) -> None:
    """Print the table, its notes and the machine (`about`); write the table to `out` if that is a .csv, all of it if a .json."""
    echo(f"\n## {title}\n\n{markdown(table)}\n")
    for note in notes:
        echo(f"- {note}")
    echo("- " + ", ".join(f"{name} {value}" for name, value in about.items()))
    if out is None:
        return
    if out.suffix == ".csv":
        atomic_write(out, table.to_csv(index=False, lineterminator="\n"))
    else:
        content = {"title": title, "table": table.to_dict("records"), "notes": notes, "machine": about, **(more or {})}
        atomic_write(out, json.dumps(content, indent=1, default=_plain) + "\n")


def _plain(value):
    if value is pd.NA:
        return None
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
