"""The command ``mpox``. Sub-commands live in ``cli_*.py``; heavy imports wait until a command needs them."""

import sys
from importlib.metadata import version

import click

from mpox.cli_audit import audit
from mpox.cli_book import book
from mpox.cli_data import data
from mpox.cli_doctor import doctor
from mpox.cli_exercises import exercises
from mpox.cli_export import export
from mpox.cli_pack import pack
from mpox.cli_predict import predict
from mpox.cli_record import record, sync
from mpox.cli_run import run
from mpox.cli_runs import runs
from mpox.errors import MpoxError


class _Group(click.Group):
    """Prints an `MpoxError` as one line, without a traceback, and exits with status 1."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except MpoxError as error:
            click.echo(f"mpox: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mpox"), prog_name="mpox")
def main():
    """Can deep learning really recognize Mpox? Run the study, record it, and build its book.

    \b
    mpox doctor                    whether this machine is ready
    mpox data list                 which data sets are here
    mpox audit msld-v1 --out DIR   every photograph that appears twice
    mpox run --profile quick       the notebooks on the phantom, trained live
    mpox runs list                 what runs are there, and what they took
    mpox predict IMAGE --run ID    what a run says to a picture
    mpox book                      the book, from the runs of the profiles recorded and quick
    """


for command in (doctor, data, audit, pack, run, runs, predict, export, record, sync, exercises, book):
    main.add_command(command)

if __name__ == "__main__":
    main()
