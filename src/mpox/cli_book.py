"""``mpox book``: build the browsable report from executed notebooks."""

from pathlib import Path

import click


@click.command("book")
@click.argument("run_folders", nargs=-1, metavar="[RUN_FOLDER]...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the book; default: _site in the project.")
def book(run_folders: tuple[Path, ...], out: Path | None) -> None:
    """Build the book from finished run folders of `mpox run`.

    Chapters on real images become Part I, chapters on the phantom Part II. Without RUN_FOLDER both parts are
    built, from _runs/recorded and _runs/quick; with it, the parts that the named runs have.
    """
    from mpox.book import build_book

    build_book(run_folders, out=out, echo=click.echo)
