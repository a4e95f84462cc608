"""The command ``mpox run``."""

import sys

import click


@click.command("run")
@click.argument("notebooks", nargs=-1)
@click.option(
    "--profile",
    default="quick",
    show_default=True,
    metavar="NAME|FILE",
    help="Parameter values: quick, recorded, cpu, gpu, or a .yml.",
)
@click.option(
    "-p",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="One parameter's value, as YAML; wins over the profile. Repeatable.",
)
@click.option("--out", metavar="FOLDER", help="The run folder; _runs/<profile> by default. It is started over.")
@click.option("--resume", is_flag=True, help="Keep what is done with the same parameters and source; do the rest.")
@click.option("--data-dir", metavar="DIR", help="Where the data sets lie (MPOX_DATA for the notebooks).")
@click.option("--overrides", "decisions", metavar="FILE", help="Pairs that you confirm or reject (or set MPOX_OVERRIDES).")
@click.option("--pack", metavar="FILE", help="Pictures and weights from `mpox pack` (MPOX_PACK for the notebooks).")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Limit for a cell; none by default.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes that compute runs (or MPOX_WORKERS).")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers compute runs (or MPOX_SCHEDULER).")
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Notebooks to run side by side; 1 by default.")
def run(notebooks, profile, pairs, out, resume, data_dir, decisions, pack, timeout, workers, scheduler, jobs):
    """Execute the notebooks in order, or just the NOTEBOOKS named (03_cross_validation, or 03).

    \b
    mpox run --profile quick
    mpox run 03 04 --profile cpu -p N_FOLDS 3 -p BACKBONES "[tf_efficientnet_lite0]"
    mpox run --profile quick --resume
    """
    from mpox.execution import run_notebooks
    from mpox.profiles import parse_overrides

    try:
        result = run_notebooks(
            notebooks,
            profile=profile,
            overrides=parse_overrides(pairs),
            out=out,
            resume=resume,
            data_dir=data_dir,
            decisions=decisions,
            pack=pack,
            cell_timeout_s=timeout,
            workers=workers,
            scheduler=scheduler,
            jobs=jobs,
            progress=sys.stderr.isatty(),
            echo=click.echo,
        )
    except KeyboardInterrupt:
        sys.exit(130)
    if result.failure:
        click.echo(f"\n{result.failure}", err=True)
        sys.exit(1)
