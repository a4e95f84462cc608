"""The commands ``mpox record`` and ``mpox sync``."""

from pathlib import Path

import click


@click.command("record")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to; default: results/ in the project.")
def record(run_folder: Path, out: Path | None) -> None:
    """Keep the tables of a finished RUN_FOLDER on real images as the recorded study, and bring the README in step.

    No picture and no model is kept.
    """
    from mpox.paths import project_root
    from mpox.record import record as record_run
    from mpox.record import update_readme

    target = record_run(run_folder, out=out, say=click.echo)
    if out is None:
        update_readme(target, project_root() / "README.md")


@click.command("sync")
@click.argument("notebooks", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; fail if a notebook is not in step with its source.")
def sync(notebooks: tuple[str, ...], check: bool) -> None:
    """Execute the NOTEBOOKS (all by default) with their default parameters and write the paired .ipynb files."""
    from mpox.errors import MpoxError
    from mpox.sync import stale_notebooks
    from mpox.sync import sync as sync_notebooks

    if not check:
        sync_notebooks(notebooks, say=click.echo)
    elif stale := stale_notebooks():
        raise MpoxError(f"Not in step with their sources: {', '.join(stale)}. Run `mpox sync`.")
