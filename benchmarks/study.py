"""The study's own time: metrics, imports, and the commands that make the book, each beside a reference in the same run."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from measuring import Commands, exponent, machine, out_file, report

from mpox.stats.metrics import evaluate, matched_repeats, weighted_metrics
from mpox.stats.resample import group_weights

ROOT = Path(__file__).resolve().parents[1]
OUT = click.option(
    "--out", type=click.Path(path_type=Path), callback=out_file, help="Also write the table (.csv) or all (.json)."
)
READING = """
from mpox import ModelConfig, cross_validate, open_store
store = open_store("recorded")
cross_validate(store, store.dataset("msld-v1"), "source", ModelConfig("linear_probe", "tf_efficientnet_lite1", image_size=224))
"""


@click.group(cls=Commands)
def main() -> None:
    """Time the study."""


def simulated(n: int, *, n_repeats: int = 10, n_classes: int = 4, seed: int = 0) -> pd.DataFrame:
    """Predictions of n images in groups of 1 to 5."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n), rng.integers(1, 6, n))[:n].astype(str)
    classes = np.array(["Mpox", *(f"class {k}" for k in range(1, n_classes))])
    y = rng.integers(0, n_classes, n)
    about = {"image_id": [f"{k:06d}" for k in range(n)], "group_id": groups, "label": classes[y], "fold": 0}
    tables = []
    for repeat in range(n_repeats):
        scores = np.exp(rng.normal(size=(n, n_classes)) + np.eye(n_classes)[y])
        columns = dict(zip((f"p_{name}" for name in classes), (scores / scores.sum(axis=1, keepdims=True)).T, strict=True))
        tables.append(pd.DataFrame({"repeat": repeat, **about, **columns}))
    return pd.concat(tables, ignore_index=True)


def areas_one_by_one(predictions: pd.DataFrame, n_bootstrap: int) -> dict[tuple[str, str], np.ndarray]:
    """The reference: the areas of each class and repeat by themselves, each from a ranking of all replicates at once."""
    classes, repeats = matched_repeats(predictions, "Mpox")
    weights = group_weights(repeats[0]["group_id"].to_numpy(str), n_bootstrap)
    found: dict[tuple[str, str], list] = {}
    for part in repeats:
        for name in classes:
            is_positive, score = (part["label"] == name).to_numpy(), part[f"p_{name}"].to_numpy()
            for metric in ("auroc", "auprc"):
                order = np.argsort(score, kind="stable")
                starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
                sides = [np.add.reduceat(weights[:, order] * side[order], starts, axis=1) for side in (is_positive, ~is_positive)]
                positive, negative = sides
                if metric == "auroc":
                    below = np.cumsum(negative, axis=1) - negative
                    area = (positive * (below + negative / 2)).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
                else:
                    hits, alarms = (np.cumsum(side[:, ::-1], axis=1) for side in sides)
                    precision = hits / np.maximum(hits + alarms, 1)
                    area = (positive[:, ::-1] * precision).sum(axis=1) / positive.sum(axis=1)
                found.setdefault((metric, name), []).append(area)
    return {key: np.mean(values, axis=0) for key, values in found.items()}


def cpu(work) -> tuple[float, object]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


@main.command()
@click.argument("sizes", type=int, nargs=-1)
@click.option("--draws", default=2000, show_default=True)
@OUT
def metrics(sizes: tuple[int, ...], draws: int, out: Path | None) -> None:
    """Areas of 770 images x 10 repeats against the reference, then how `evaluate` grows with the SIZES (one repeat)."""
    table = simulated(770)
    _, repeats = matched_repeats(table, "Mpox")
    keys = [(metric, name) for metric in ("auroc", "auprc") for name in table["label"].unique()]
    reference, old = cpu(lambda: areas_one_by_one(table, draws))
    weights = group_weights(repeats[0]["group_id"].to_numpy(str), draws)
    fused, new = cpu(lambda: weighted_metrics(repeats, weights, keys=keys))
    apart = max(np.nanmax(np.abs(old[key] - new[key])) for key in keys)
    rows = [("areas, one by one", 770, 10, reference, 1.0), ("areas, from one ranking", 770, 10, fused, reference / fused)]
    rows.append(("all of evaluate", 770, 10, cpu(lambda: evaluate(table, n_bootstrap=draws))[0], np.nan))
    growth = [(size, cpu(lambda size=size: evaluate(simulated(size, n_repeats=1), n_bootstrap=draws))[0]) for size in sizes]
    rows += [("all of evaluate", size, 1, seconds, np.nan) for size, seconds in growth]
    notes = [f"Largest difference of a replicate: {apart:.1e}."]
    if len(growth) > 1:
        fitted, slopes = exponent(*map(list, zip(*growth, strict=True)))
        notes.append(f"Growth: exponent {fitted:.2f}, between neighbours {', '.join(f'{slope:.2f}' for slope in slopes)}.")
    notes.append(f"Peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB.")
    columns = ["what", "images", "repeats", "CPU s", "ratio"]
    report("Metrics", pd.DataFrame(rows, columns=columns), notes, about=machine(), out=out)


@main.command()
@click.option("--rounds", default=5, show_default=True)
@OUT
def imports(rounds: int, out: Path | None) -> None:
    """CPU time of ``import mpox`` and of reading recorded predictions, in processes of their own, against ``import pandas``."""
    codes = {"import pandas": "import pandas", "import mpox": "import mpox", "read 5 recorded runs": READING}
    spent = {name: min(_child_cpu([sys.executable, "-c", code]) for _ in range(rounds)) for name, code in codes.items()}
    rows = [(name, seconds, seconds / spent["import pandas"]) for name, seconds in spent.items()]
    report(
        "Imports", pd.DataFrame(rows, columns=["what", "CPU s", "ratio"]), [f"The least of {rounds}."], about=machine(), out=out
    )


def _child_cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@main.command()
@click.option("--before", metavar="COMMIT", help="Time the same commands with the package of that commit, too.")
@click.option("--profiles", default="recorded,quick", show_default=True)
@OUT
def commands(before: str | None, profiles: str, out: Path | None) -> None:
    """Seconds of ``mpox run`` of each profile, with an empty store, and of the book of those runs."""
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-") as folder:
        trees = {"now": ROOT}
        if before:
            trees = {"before": Path(folder) / "before"} | trees
            subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", trees["before"], before], check=True)
        try:
            spent = {name: _commands(tree, Path(folder) / f"made-{name}", profiles.split(",")) for name, tree in trees.items()}
        finally:
            if before:
                subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", trees["before"]], check=True)
    table = pd.DataFrame(spent).rename_axis("command").reset_index()
    if before:
        table["now / before"] = table["now"] / table["before"]
    report("Commands", table, [f"before: {before}" if before else "now alone"], about=machine(), out=out)


def _commands(tree: Path, folder: Path, profiles: list[str]) -> dict[str, float]:
    """Seconds of each command with the package of a tree; runs, stores and pages go into the folder."""
    runs = [folder / profile for profile in profiles]
    steps = {f"run {run.name}": ["run", "--profile", run.name, "--out", str(run)] for run in runs}
    steps["book"] = ["book", *map(str, runs), "--out", str(folder / "site")]
    environment = {"PYTHONPATH": str(tree / "src"), "MPOX_PROJECT": str(tree), "MPOX_RUN_STORE": str(folder / "store")}
    spent = {}
    for name, arguments in steps.items():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mpox.cli", *arguments], check=True, cwd=tree, env=os.environ | environment)
        spent[name] = round(time.perf_counter() - started, 1)
        click.echo(json.dumps({"tree": str(tree.name), name: spent[name]}), err=True)
    return spent


if __name__ == "__main__":
    main()
