"""The commands ``mpox runs list | show | adopt | gc``."""

import sys

import click

_STORE = click.option("--store", default="", metavar="NAME", help="A run store's folder, or 'recorded'; default: the project's.")
_SORTABLE = ["id", "dataset", "protocol", "regime", "backbone", "image_size", "seconds", "device", "bytes", "date", "state"]


@click.group("runs")
def runs():
    """What runs are there, what they took, and which of them no result needs."""


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def _size(count: float) -> str:
    """Bytes as a person says them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _plain(table) -> str:
    """A table as text; what is missing is blank."""
    return table.astype(object).where(table.notna(), "").to_string(index=False)


def _state(row) -> str:
    if row["state"] == "damaged":
        return f"damaged: {row['problem']}"
    epoch = row.dropna().get("epoch")
    return row["state"] + (f" at epoch {epoch}" if epoch else "")


@runs.command("list")
@_STORE
@click.option("--dataset", metavar="NAME", help="Only runs on this data set.")
@click.option("--protocol", metavar="NAME", help="Only runs under this protocol.")
@click.option("--regime", metavar="NAME", help="Only runs of this regime.")
@click.option("--sort", type=click.Choice(_SORTABLE), help="The column to sort by, least first.")
@click.option("--csv", "as_csv", is_flag=True, help="All columns, as CSV.")
def list_(store, dataset, protocol, regime, sort, as_csv):
    """One row a run, and what all of them took.

    'used by' names the run folders in _runs whose notebooks refer to the run. The recorded study (--store recorded) keeps neither
    a date nor a size for each run.
    """
    from mpox.errors import MpoxError
    from mpox.inventory import list_runs

    table = list_runs(store, tell=_note)
    for column, value in (("dataset", dataset), ("protocol", protocol), ("regime", regime)):
        if value is None:
            continue
        there = ", ".join(sorted(table[column].dropna().unique()))
        table = table[table[column] == value]
        if table.empty:
            raise MpoxError(f"No run has the {column} '{value}': there is {there or 'none'}.")
    if sort:
        table = table.sort_values(sort, kind="stable")
    if as_csv:
        click.echo(table.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    if len(table):
        shown = table.drop(columns=["split", "epoch", "problem"]).rename(columns={"image_size": "size", "used_by": "used by"})
        shown["state"] = table.apply(_state, axis=1)
        shown["bytes"] = table["bytes"].map(_size, na_action="ignore")
        shown["date"] = table["date"].dt.strftime("%Y-%m-%d %H:%M")
        shown["seconds"] = table["seconds"].map("{:.1f}".format, na_action="ignore")
        click.echo(_plain(shown) + "\n")
    click.echo(_totals(table))


def _totals(table) -> str:
    from mpox.book_provenance import duration

    states = table["state"].value_counts()
    parts = [f"{count} {state}" for state, count in states.items() if state != "whole"]
    took = f"{len(table)} runs{' (' + ', '.join(parts) + ')' if parts else ''}; computing them took "
    took += duration(float(table["seconds"].sum()))
    if table["bytes"].notna().any():
        took += f"; {_size(float(table['bytes'].sum()))} on the disk"
    return f"{took}; {(table['used_by'] == '').sum()} used by no run folder."


@runs.command("show")
@click.argument("run_id", metavar="ID")
@_STORE
def show(run_id, store):
    """Everything about one run; the beginning of its ID is enough."""
    import json

    from mpox.inventory import show_run

    run = show_run(run_id, store, tell=_note)
    summary = run.summary
    click.echo(f"run {summary['id']}: {_state(summary)}; used by {summary['used_by'] or 'no run folder'}")
    if "date" in summary.dropna():
        click.echo(f"{summary['date']:%Y-%m-%d %H:%M} UTC")
    for title, content in (("configuration", run.config), ("environment", run.environment)):
        click.echo(f"\n{title}: {'not known' if content is None else json.dumps(content, indent=2)}")
    for title, table in (("history", run.history), ("test fold", run.metrics.round(4)), ("files", run.files)):
        if len(table):
            click.echo(f"\n{title}:\n{_plain(table)}")


@runs.command("adopt")
@_STORE
@click.option("--from", "origin", default="recorded", show_default=True, help="A folder written by 'mpox record'.")
def adopt(store, origin):
    """Put recorded runs into the store, so that a profile computes only what was never recorded.

    Each run keeps its id and says on which machine it was computed. A recorded run has no checkpoint.
    """
    from mpox.adoption import adopt as copy
    from mpox.errors import MpoxError
    from mpox.recorded import RecordedStore
    from mpox.store import RunStore, open_store, store_folder

    target = open_store(store)
    if not isinstance(target, RunStore):
        raise MpoxError("The recorded study cannot adopt runs: name another store, or leave --store out.")
    copied = copy(RecordedStore(store_folder(origin)), target)
    click.echo(f"{', '.join(f'{count} {kind}' for kind, count in copied.items())} copied to {target.root}.")


@runs.command("gc")
@_STORE
@click.option("--keep", multiple=True, metavar="FOLDER", help="A run folder outside _runs whose notebooks count. Repeatable.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Name everything that would go, and remove nothing.")
@click.option("--all", "everything", is_flag=True, help="Go on where no run folder refers to the store: all of it may go.")
def gc(store, keep, yes, dry_run, everything):
    """Remove what no executed notebook refers to, after asking.

    The notebooks in the project's _runs folders count, and those in folders named with --keep: the runs, tables, audits, splits
    and manifests that they used stay. The rest goes, and with it what stopped runs left. A run that is being computed is not
    touched, nor is anything that mpox did not write.
    """
    from mpox.errors import MpoxError
    from mpox.garbage import Garbage, find_garbage, remove_garbage

    found = find_garbage(store, keep=keep, everything=everything)
    click.echo(f"{found.root}, kept for {', '.join(found.folders) or 'no run folder'}")
    for row in found.left.itertuples():
        click.echo(f"left alone: {row.path}: {row.why}")
    if found.remove.empty:
        click.echo("Nothing is to be removed.")
        return
    groups = found.remove.groupby(["kind", "why"], sort=False)["bytes"].agg(["size", "sum"])
    for (kind, why), row in groups.iterrows():
        click.echo(f"{row['size']:>6} x {kind:<15} {_size(row['sum']):>10}  {why}")
    total = f"{len(found.remove)} entries, {_size(float(found.remove['bytes'].sum()))}"
    if dry_run:
        click.echo(_plain(found.remove[["path", "bytes", "why"]]) + f"\nWould be removed: {total}.")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise MpoxError(f"Nothing was removed ({total}), because there is no terminal to ask on: say --yes.")
        click.confirm(f"Remove {total}?", abort=True)
    again = find_garbage(store, keep=keep, everything=everything)  # a run may have ended while the question stood
    still = found.remove[found.remove["path"].isin(again.remove["path"])]
    done = remove_garbage(Garbage(found.root, still, again.left, again.folders))
    gone, kept = done[done["failed"] == ""], done[done["failed"] != ""]
    click.echo(f"Removed {len(gone)} entries, {_size(float(gone['bytes'].sum()))}.")
    if len(kept):
        first = f"{kept['path'].iloc[0]} ({kept['failed'].iloc[0]})"
        raise MpoxError(f"{len(kept)} entries are still there, the first is {first}: try again later.")
