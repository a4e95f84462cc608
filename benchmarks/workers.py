"""What it costs to go from one worker to two: see README.md beside this file."""

import json
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
from measuring import MEMORY, Commands, machine, out_file, report, run_phase

from mpox.models.config import ModelConfig, Training
from mpox.runs.scheduling import Resources, map_runs
from mpox.runs.store import RunStore

_SCRIPT = Path(__file__).resolve()
#: Where, workers, threads of torch in each.
WAYS = (("this process", 1, 2), ("this process", 1, 1), ("processes", 2, 1), ("Dask", 1, 2), ("Dask", 2, 1))
REGIMES = ("linear_probe", "fine_tune")


def _model(regime: str, size: int, epochs: int) -> ModelConfig:
    training = Training(epochs=epochs, patience=epochs) if regime == "fine_tune" else None
    return ModelConfig(regime=regime, backbone="tf_efficientnet_lite0", image_size=size, training=training)


@click.group(cls=Commands)
def main() -> None:
    """Measure workers."""


_options = (
    click.option("--size", type=click.IntRange(min=32), default=128, show_default=True, help="Side of the input in pixels."),
    click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True, help="Of fine_tune."),
    click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True),
    click.option("--data-dir", type=click.Path(), help="Where the data sets lie (or set MPOX_DATA)."),
)


def _with(options):
    def decorate(command):
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@main.command()
@click.argument("dataset", default="msld-v1")
@_with(_options)
@click.option("--regimes", default=",".join(REGIMES), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
def scaling(dataset: str, size: int, epochs: int, folds: int, data_dir: str | None, regimes: str, out: Path | None) -> None:
    """The runs of a cross-validation of DATASET on 1 and 2 workers."""
    about = machine()
    shared = [dataset, "--size", str(size), "--epochs", str(epochs), "--folds", str(folds)]
    shared += ["--data-dir", data_dir] if data_dir else []
    rows = []
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-cache-") as cache:
        for regime in regimes.split(","):
            run_phase(_SCRIPT, ["phase-prepare", *shared, "--regime", regime], cache=Path(cache))
            for where, workers, threads in WAYS:
                way = ["--regime", regime, "--where", where, "--workers", str(workers), "--threads", str(threads)]
                found = run_phase(_SCRIPT, ["phase-runs", *shared, *way], cache=Path(cache))
                row = {"regime": regime, "where": where, "workers": workers, "threads": threads}
                rows.append(row | {"first s": found["first"], "again s": found["again"], "peak MiB": found["peak_mib"]})
                click.echo(f"{regime}, {where}, {workers} x {threads}: {found['first']:.1f} and {found['again']:.1f} s", err=True)
    table = pd.DataFrame(rows)
    base = table.groupby("regime", sort=False)["again s"].transform("first")
    table.insert(6, "ratio", base / table["again s"])
    notes = [
        f"{folds} runs of {dataset}, tf_efficientnet_lite0 at {size} px; fine_tune: {epochs} epochs; pictures are decoded and "
        "frozen features computed before",
        "first: the worker processes are started or, of Dask, import torch; again: as many other runs, on the same workers",
        "ratio: seconds again of the regime's first row over the row's",
        "peak memory: " + MEMORY,
    ]
    report("One worker and two", table, notes, about=about, out=out, echo=click.echo)


@main.command("phase-prepare", hidden=True)
@click.argument("dataset")
@_with(_options)
@click.option("--regime", required=True)
@click.option("--result", type=click.Path(path_type=Path), required=True)
def phase_prepare(dataset, size, epochs, folds, data_dir, regime, result) -> None:
    """Fill the caches that all runs share."""
    from mpox.runs.workers import fill_caches

    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-") as folder:
        fill_caches(RunStore(folder).dataset(dataset, data_dir=data_dir), _model(regime, size, epochs))
    result.write_text("{}")


@main.command("phase-runs", hidden=True)
@click.argument("dataset")
@_with(_options)
@click.option("--regime", required=True)
@click.option("--where", required=True)
@click.option("--workers", type=int, required=True)
@click.option("--threads", type=int, required=True)
@click.option("--result", type=click.Path(path_type=Path), required=True)
def phase_runs(dataset, size, epochs, folds, data_dir, regime, where, workers, threads, result) -> None:
    """Two tables of runs: the first starts the workers, the second finds them."""
    import torch

    from mpox.runs.cross_validation import compute_run, fold_configs
    from mpox.runs.workers import Task

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-") as folder:
        store = RunStore(folder)
        data = store.dataset(dataset, data_dir=data_dir)
        cluster, address = None, ""
        if where == "Dask":
            from distributed import LocalCluster

            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
            address = cluster.scheduler_address
        seconds = {}
        for name, seed in (("first", 0), ("again", 1)):
            split, configs = fold_configs(data, "source", _model(regime, size, epochs), n_folds=folds, seed=seed)
            tasks = [Task(config, split[split["fold"] == config.fold]) for config in configs]
            for task in tasks:
                store.keep_split(task.config.split, task.rows)
            began = time.perf_counter()
            table = map_runs(store, data, tasks, compute_run, resources=Resources(workers, threads, address))
            seconds[name] = time.perf_counter() - began
            if set(table["status"]) != {"computed"}:
                raise click.ClickException(f"not all runs were computed: {table['error'].dropna().tolist()}")
        if cluster:
            cluster.close()
    result.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
