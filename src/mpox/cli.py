"""The command `mpox`."""

import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import click

from mpox._core import MpoxError, atomic_write


@click.command("audit")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the tables.")
@click.option("--data-dir", metavar="DIR", help="Where the registered data sets lie (default: MPOX_DATA, then the cache folder).")
@click.option("--overrides", type=click.Path(path_type=Path), help="CSV of pairs that you confirm or reject, with reasons.")
@click.option("--patients", type=click.Path(path_type=Path), help="CSV with image_id (or file) and patient_id; one DATASET only.")
@click.option("--patient-pattern", metavar="REGEX", help="Patient id in the file's name: group 'patient'; one DATASET only.")
@click.option("--review", is_flag=True, help="Also write review.html, with the pictures: for your eyes only.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; all cores by default.")
def audit(datasets, out, data_dir, overrides, patients, patient_pattern, review, jobs) -> None:
    """Find every photograph that appears twice in the DATASETs (registered names or folders), within one and across them.

    \b
    mpox audit msld-v1 msid --out audit
    mpox audit ./my_pictures --out audit --patient-pattern "(?P<patient>[A-Z]+[0-9]+)_"

    Writes groups.csv (what must stay together), pairs.csv (the same photograph, with the evidence), weak_pairs.csv (doubtful,
    they link nothing), conflicts.csv (one photograph, two labels or two patients), rejected.csv (files that cannot be used),
    quality.csv (blur, exposure, borders, captions, skin tone), summary.csv and a data sheet for each data set.
    """
    from mpox.audit.pages import audit_folder

    if len(datasets) > 1 and (patients or patient_pattern):
        raise MpoxError("--patients and --patient-pattern describe one data set: audit it alone, or put a patients.csv in it.")
    audit_folder(
        datasets, out, data_dir=data_dir, overrides=overrides, patients=patients, patient_pattern=patient_pattern,
        review=review, jobs=jobs, say=click.echo,
    )  # fmt: skip


@click.command("book")
@click.argument("run_folders", nargs=-1, metavar="[RUN_FOLDER]...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the book; default: _site in the project.")
def book(run_folders: tuple[Path, ...], out: Path | None) -> None:
    """Build the book from finished run folders of `mpox run`.

    A run on real images becomes the edition "study", a run on the phantom "instruments". Without RUN_FOLDER both are built,
    from _runs/recorded and _runs/quick.
    """
    from mpox.book.build import build_book

    build_book(run_folders, out=out, echo=click.echo)


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
    from mpox.data.registry import find_here

    where, how = str(find_here(spec, data_dir=data_dir) or "not here"), f"mpox data fetch {spec.name}"
    if spec.is_phantom:
        where, how = "phantom, not patients: generated when it is needed", "nothing to get"
    elif spec.kaggle and not spec.archive:
        how += " (needs mpox[kaggle])"
    patients = "yes" if spec.patient_pattern else "no"
    return spec.name, str(spec.expected_images or "-"), patients, spec.licence, where, how


@data.command("list")
@_DATA_DIR
def list_data(data_dir):
    """The registered data sets, and which of them are on this machine."""
    from mpox.data.registry import REGISTRY

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
    from mpox.data.registry import locate

    click.echo(locate(name, data_dir=data_dir))


@data.command("verify")
@click.argument("name")
@_DATA_DIR
@click.option("--all", "show_all", is_flag=True, help="List the pictures that are in order as well.")
def verify(name, data_dir, show_all):
    """Check every picture of the data set NAME against the committed checksums.

    Prints each picture that is not in order and a summary. Exit status 1 if one is changed or missing.
    """
    from mpox._core import MpoxError
    from mpox.data.fetch import explain_differences
    from mpox.data.fetch import verify as verify_files
    from mpox.data.registry import get_spec, locate

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

    A good copy that is there already is left alone; a damaged one is kept under another name.
    """
    from mpox.data.fetch import fetch as fetch_data

    fetch_data(name, data_dir=data_dir, say=click.echo)


@data.command("freeze")
@click.option("--profile", required=True, metavar="NAME|FILE", help="Freeze what a run of this profile asks for.")
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="One parameter's value, as in `mpox run`.")
@click.option("--out", required=True, metavar="FOLDER", help="The new folder.")
@_DATA_DIR
def freeze(profile, pairs, out, data_dir):
    """Write what a profile's run asks for into one FOLDER, for a machine without a network.

    \b
    mpox data freeze --profile gpu --out frozen     # here; then: tar -cf frozen.tar frozen
    mpox run --profile gpu --data-dir frozen        # there

    It holds the images, the audits, the weights of the networks, and a checksum of every file. It contains pictures of patients:
    do not publish it.
    """
    from mpox.book.freeze import freeze as freeze_study
    from mpox.book.run import parse_overrides

    frozen = freeze_study(out, profile, overrides=parse_overrides(pairs), data_dir=data_dir, say=click.echo)
    if frozen.datasets:
        click.echo(f"{out} contains pictures of patients: do not publish it.")


@click.command("record")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to; default: results/ in the project.")
def record(run_folder: Path, out: Path | None) -> None:
    """Keep the tables of a finished RUN_FOLDER on real images as the recorded study, and bring the README in step.

    No picture and no model is kept.
    """
    from mpox._core import project_root
    from mpox.book.record import record as record_run
    from mpox.book.record import update_readme

    target = record_run(run_folder, out=out, say=click.echo)
    if out is None:
        update_readme(target, project_root() / "README.md")


@click.command("sync")
@click.argument("notebooks", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; fail if a notebook is not in step with its source.")
def sync(notebooks: tuple[str, ...], check: bool) -> None:
    """Execute the NOTEBOOKS (all by default) with their default parameters and write the paired .ipynb files."""
    from mpox.book.sync import stale_notebooks
    from mpox.book.sync import sync as sync_notebooks

    if not check:
        sync_notebooks(notebooks, say=click.echo)
    elif stale := stale_notebooks():
        raise MpoxError(f"Not in step with their sources: {', '.join(stale)}. Run `mpox sync`.")


@click.command("run")
@click.argument("notebooks", nargs=-1)
@click.option("--profile", default="quick", show_default=True, metavar="NAME|FILE", help="quick, recorded, cpu, gpu, or a .yml.")
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="A value, as YAML; wins over the profile.")
@click.option("--out", metavar="FOLDER", help="The run folder; _runs/<profile> by default. It is started over.")
@click.option("--resume", is_flag=True, help="Keep what is done with the same parameters and source; do the rest.")
@click.option("--data-dir", metavar="DIR", help="Where the data sets lie, or a frozen folder (MPOX_DATA for the notebooks).")
@click.option("--overrides", "decisions", metavar="FILE", help="Pairs that you confirm or reject (or set MPOX_OVERRIDES).")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes that compute runs (or MPOX_WORKERS).")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers compute runs (or MPOX_SCHEDULER).")
def run(notebooks, pairs, **options):
    """Execute the notebooks in order, or just the NOTEBOOKS named (03_cross_validation, or 03), up to the first failure.

    \b
    mpox run --profile quick
    mpox run 03 04 --profile cpu -p N_FOLDS 3 -p BACKBONES "[tf_efficientnet_lite0]"
    mpox run --profile quick --resume
    """
    from mpox.book.run import parse_overrides, run_notebooks

    go_on = "Go on from it with: " + shlex.join(["mpox", *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    bar, overrides = sys.stderr.isatty(), parse_overrides(pairs)
    try:
        result = run_notebooks(notebooks, overrides=overrides, progress=bar, echo=click.echo, **options)
    except KeyboardInterrupt:
        click.echo(f"Interrupted. {go_on}", err=True)
        sys.exit(130)
    if result.failure:
        click.echo(f"\n{result.failure}\n{go_on}", err=True)
        sys.exit(1)


_STORE = click.option("--store", default="", metavar="NAME", help="A run store's folder, or 'recorded'; default: the project's.")
_SORTABLE = ["id", "dataset", "protocol", "regime", "backbone", "image_size", "seconds", "device", "bytes", "date", "damaged"]


@click.group("runs")
def runs():
    """What runs are there, and what they took."""


@runs.command("list")
@_STORE
@click.option("--dataset", metavar="NAME", help="Only runs on this data set.")
@click.option("--protocol", metavar="NAME", help="Only runs under this protocol.")
@click.option("--regime", metavar="NAME", help="Only runs of this regime.")
@click.option("--sort", type=click.Choice(_SORTABLE), help="The column to sort by, least first.")
@click.option("--csv", "as_csv", is_flag=True, help="All columns, as CSV.")
def list_(store, dataset, protocol, regime, sort, as_csv):
    """One row a run, and what all of them took.

    The recorded study (--store recorded) keeps neither a date nor a size for each run.
    """
    from mpox.book.chapters import duration
    from mpox.runs.listing import list_runs

    table = list_runs(store)
    for column, value in (("dataset", dataset), ("protocol", protocol), ("regime", regime)):
        there = ", ".join(sorted(table[column].dropna().unique()))
        table = table if value is None else table[table[column] == value]
        if value is not None and table.empty:
            raise MpoxError(f"No run has the {column} '{value}': there is {there or 'none'}.")
    table = table.sort_values(sort, kind="stable") if sort else table
    if as_csv:
        click.echo(table.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    if len(table):
        shown = table.assign(date=table["date"].dt.strftime("%Y-%m-%d %H:%M"), seconds=table["seconds"].round(1))
        shown["damaged"] = table["damaged"].map({True: "damaged", False: ""})
        click.echo(shown.astype(object).where(shown.notna(), "").to_string(index=False) + "\n")
    size = f"; {table['bytes'].sum() / 1e6:.1f} MB on the disk" if table["bytes"].notna().any() else ""
    click.echo(f"{len(table)} runs; computing them took {duration(float(table['seconds'].sum()))}{size}.")


@runs.command("adopt")
@_STORE
@click.option("--from", "origin", default="recorded", show_default=True, help="A folder written by 'mpox record'.")
def adopt(store, origin):
    """Put recorded runs into the store, so that a profile computes only what was never recorded.

    Each run keeps its id and says on which machine it was computed. A recorded run has no checkpoint.
    """
    from mpox._core import MpoxError
    from mpox.runs.recorded import RecordedStore, open_store
    from mpox.runs.recorded import adopt as copy
    from mpox.runs.store import RunStore, store_folder

    target = open_store(store)
    if not isinstance(target, RunStore):
        raise MpoxError("The recorded study cannot adopt runs: name another store, or leave --store out.")
    copied = copy(RecordedStore(store_folder(origin)), target)
    click.echo(f"{', '.join(f'{count} {kind}' for kind, count in copied.items())} copied to {target.root}.")


@click.command("predict")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option("--run", "run_id", required=True, metavar="ID", help="The run to ask; the beginning of its id is enough.")
@click.option("--store", default="", metavar="NAME", help="A run store's folder; default: the project's.")
@click.option("--data-dir", metavar="DIR", help="Where the run's data set lies; needed once, the first time a run is asked.")
@click.option("--confidence", default=0.9, show_default=True, help="Of the sets of classes, between 0 and 1.")
@click.option(
    "--heat-map", "heat_maps", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False),
    help="Draw into this folder where the network looks (Grad-CAM of the most probable class).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="One line an image, as CSV.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def predict(images, run_id, store, data_dir, confidence, heat_maps, as_json, as_csv, device) -> None:
    """Ask a run about images: each IMAGE is a file, or a folder of them. Research software, not a medical device.

    \b
    mpox predict image.jpg --run 3f2a --heat-map maps
    mpox predict ./images --run 3f2a --json

    Probabilities are calibrated on images that were held out inside the run's training part. From the same images comes the
    set of classes that cannot be excluded at the stated confidence: with one class it is the answer, otherwise the run is not
    sure. An image unlike the training images is marked. Those that cannot be read are named, the others predicted all the
    same, and the exit status is 1.
    """
    from mpox.runs.predict import NOTICE, PHANTOM, as_dict, as_text, build_predictor, predict_files
    from mpox.runs.recorded import open_store

    if as_json and as_csv:
        raise MpoxError("--json and --csv are two forms of one answer: choose one.")
    predictor = build_predictor(open_store(store), run_id, data_dir, tell=lambda text: click.echo(f"note: {text}", err=True))
    click.echo(NOTICE, err=True)
    if predictor.provenance["phantom"]:
        click.echo(PHANTOM, err=True)
    table = predict_files(predictor, list(images), confidence=confidence, device=device, heat_maps=heat_maps)
    failed = table[table["error"].notna()]
    for row in failed.itertuples():
        click.echo(f"mpox: {row.file} {row.error}", err=True)
    if as_json:
        click.echo(json.dumps(as_dict(predictor, table, confidence), indent=1))
    elif as_csv:
        click.echo(table.assign(set=table["set"].str.join(" | ")).to_csv(index=False, lineterminator="\n"), nl=False)
    elif text := as_text(table, predictor.classes):
        click.echo(text)
    if len(failed):
        sys.exit(1)


@click.command("export")
@click.option("--run", "run_id", required=True, metavar="ID", help="The run to export; the beginning of its id is enough.")
@click.option("--format", "form", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file.")
@click.option("--int8", is_flag=True, help="Write convolutions in 8 bits; what that loses on the run's test fold is told.")
@click.option("--raw", is_flag=True, help="Leave out the temperature: the probabilities of the run's own predictions.")
@click.option("--store", default="", metavar="NAME", help="A run store's folder; default: the project's.")
@click.option("--data-dir", metavar="DIR", help="Where the run's data set lies (default: MPOX_DATA, then the cache folder).")
@click.option("--force", is_flag=True, help="Write over a file that exists.")
def export(run_id, form, out, int8, raw, store, data_dir, force) -> None:
    """Write a run's network, from pixels to probabilities, as a file for other programs. Research software, not a medical device.

    \b
    mpox export --run 3f2a --out mpox.onnx
    mpox export --run 3f2a --out mpox-int8.onnx --int8

    Before the file is written, ONNX Runtime must give the probabilities of torch: on images of the run's test fold, or on
    random ones where these are not here. An 8-bit model is calibrated on training images and needs them.
    """
    from mpox.book.report import with_interval
    from mpox.runs.export import INPUT, OPSET, OUTPUT, TOLERANCE, export_run, require_onnx
    from mpox.runs.predict import NOTICE
    from mpox.runs.recorded import open_store
    from mpox.stats.metrics import difference

    require_onnx()
    if out.exists() and not force:
        raise MpoxError(f"{out} exists already: name another file with --out, or say --force.")
    exported = export_run(
        open_store(store),
        run_id,
        data_dir,
        int8=int8,
        calibrated=not raw,
        tell=lambda text: click.echo(f"note: {text}", err=True),
    )
    predictor, model = exported.predictor, exported.models["onnx int8" if int8 else "onnx"]
    atomic_write(out, model)
    size = predictor.model.image_size
    click.echo(f"{out}: ONNX, opset {OPSET}, {len(model) / 1e6:.1f} MB{', convolutions in 8 bits' if int8 else ''}")
    click.echo(f"input '{INPUT}': float32 (n, 3, {size}, {size}), RGB from 0 to 255, the whole image squashed to a square")
    kind = "as in the run's predictions" if raw else f"calibrated (temperature {predictor.temperature:.3g})"
    click.echo(f"output '{OUTPUT}': {', '.join(predictor.classes)}; {kind}")
    shown = "images of the run's test fold" if exported.predictions else "random images (its own are not here)"
    click.echo(
        f"ONNX Runtime in float32 against torch on {shown}: a probability differs by {exported.difference:.1g} at most (allowed "
        f"{TOLERANCE:g})"
    )
    if int8:
        both = exported.predictions["torch"], exported.predictions["onnx int8"]
        for metric, label in (("accuracy", "all"), ("auroc", predictor.positive)):
            lost = with_interval(*difference(*both, metric, label, positive=predictor.positive), digits=3)
            click.echo(f"{metric} ({label}) lost in 8 bits on {len(both[0])} {shown}: {lost}")
    click.echo(NOTICE, err=True)


@click.command("exercises")
@click.option("--check", is_flag=True, help="Write nothing; fail if a learner notebook is not in step with its chapter.")
def exercises(check: bool) -> None:
    """Derive the learner notebooks in notebooks/exercises from the chapters: solutions become blanks."""
    from mpox.book.exercises import exercise_files, stale_exercises

    if not check:
        for path, text in exercise_files().items():
            click.echo(f"wrote {atomic_write(path, text)}")
    elif stale := stale_exercises():
        raise MpoxError(f"Exercises not in step with their chapters: {', '.join(stale)}. Run `mpox exercises`.")


@click.command("doctor")
@click.option("--data-dir", metavar="DIR", help="Where the data sets lie (or set MPOX_DATA).")
def doctor(data_dir: str | None) -> None:
    """Say whether this machine is ready for the notebooks, and what to do where it is not.

    Exit status 1 if something is missing that they need.
    """
    from mpox.book.doctor import MISSING, examine

    missing = []
    for row in examine(data_dir):
        click.echo(f"{row.state:<8} {row.check:<9} {row.found}" + (f"\n{'':<18} -> {row.advice}" if row.advice else ""))
        missing += [row.check] if row.state == MISSING else []
    click.echo(f"\nNot ready: {', '.join(missing)}." if missing else "\nReady.")
    sys.exit(1 if missing else 0)


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
    mpox predict IMAGE --run ID    what a run says of an image
    mpox book                      the book, from the runs of the profiles recorded and quick
    """


for command in (doctor, data, audit, run, runs, predict, export, record, sync, exercises, book):
    main.add_command(command)

if __name__ == "__main__":
    main()
