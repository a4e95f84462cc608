"""The commands ``mpox data list | path | verify | fetch``."""

import click

_DATA_DIR = click.option(
    "--data-dir",
    metavar="DIR",
    help="The folder that holds the data sets' folders (default: MPOX_DATA, then the cache folder).",
)


@click.group("data")
def data():
    """Find, get and check the data sets."""


def _row(spec, data_dir) -> tuple[str, ...]:
    """One row of `mpox data list`."""
    from mpox.download import find_here

    where, how = str(find_here(spec, data_dir=data_dir) or "not here"), f"mpox data fetch {spec.name}"
    if spec.is_phantom:
        where, how = "phantom, not patients: generated when it is needed", "nothing to get"
    elif spec.kaggle and not spec.archive:
        how += " (needs mpox[kaggle])"
    patients = "yes" if spec.patient_pattern else "no"
    return spec.name, str(spec.expected_images or "-"), patients, spec.licence, where, how


@data.command("list")
@_DATA_DIR
def list_(data_dir):
    """The registered data sets, and which of them are on this machine."""
    from mpox.datasets import REGISTRY

    rows: list[tuple[str, ...]] = [("name", "images", "patient ids", "licence", "where", "how to get it")]
    rows += [_row(spec, data_dir) for spec in REGISTRY.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo("\nAny folder with one sub-folder a class can be named in place of a registered data set.")


@data.command("path")
@click.argument("name")
@_DATA_DIR
def path(name, data_dir):
    """Print the folder of the data set NAME (the phantom is generated if need be)."""
    from mpox.datasets import locate

    click.echo(locate(name, data_dir=data_dir))


@data.command("verify")
@click.argument("name")
@_DATA_DIR
@click.option("--all", "show_all", is_flag=True, help="List the pictures that are in order as well.")
def verify(name, data_dir, show_all):
    """Check every picture of the data set NAME against the committed checksums.

    Prints each picture that is not in order and a summary. Exit status 1 if one is changed or missing.
    """
    from mpox.datasets import get_spec, locate
    from mpox.download import verify as verify_files
    from mpox.errors import MpoxError
    from mpox.integrity import explain_differences

    table = verify_files(name, data_dir=data_dir)
    for row in table.itertuples():
        if show_all or row.status != "ok":
            click.echo(f"{row.status:<8} {row.image_id}")
    counts = table["status"].value_counts()
    root = locate(name, data_dir=data_dir)
    click.echo(
        f"{name} in {root}: "
        + ", ".join(f"{counts.get(status, 0)} {status}" for status in ("ok", "changed", "missing", "unknown"))
    )
    wrong = explain_differences(get_spec(name), root, table)
    if wrong:
        raise MpoxError(wrong)
    if counts.get("unknown", 0):
        click.echo("The unknown pictures are not part of the published data set, but would be used.")


@data.command("fetch")
@click.argument("name")
@click.option(
    "--data-dir",
    metavar="DIR",
    help="Put the data set's folder into this folder (default: the user's cache folder).",
)
def fetch(name, data_dir):
    """Download the data set NAME, check it, and put it in place whole or not at all.

    A good copy that is here already is left alone; a download that was cut short goes on.
    """
    from mpox.download import fetch as fetch_data

    fetch_data(name, data_dir=data_dir, say=click.echo)
