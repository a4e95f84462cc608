"""The command ``mpox doctor``."""

import json
import sys
from dataclasses import asdict

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--data-dir", metavar="DIR", help="Where the data sets lie (or set MPOX_DATA).")
def doctor(as_json: bool, data_dir: str | None) -> None:
    """Say whether this machine is ready for the notebooks, and what to do where it is not.

    Exit status 1 if something is missing that they need.
    """
    from mpox.doctor import as_text, examine, is_ready

    rows = examine(data_dir)
    click.echo(json.dumps([asdict(row) for row in rows], indent=1) if as_json else as_text(rows))
    sys.exit(0 if is_ready(rows) else 1)
