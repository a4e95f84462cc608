"""The command `mpox`."""

import errno
import io
import json
import os
import re
import shlex
import sys
import warnings
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from mpox._core import MpoxError, atomic_write, csv_text, expanded, project_root


class _Path(click.Path):
    """A path of an option or an argument: ``~`` is expanded, as in the variables that name folders."""

    def convert(self, value, parameter, context):
        return super().convert(expanded(value), parameter, context)


_PATH = _Path(path_type=Path)
_FOLDER = _Path(path_type=Path, file_okay=False)
_JOBS = click.IntRange(min=1)
_COLUMNS = ["id", "dataset", "protocol", "regime", "backbone", "image_size", "seconds", "device", "bytes", "date", "damaged"]
_THERE = _Path(path_type=Path, file_okay=False, exists=True)
_data_dir = click.option("--data-dir", type=_THERE, help="Where the data sets lie (default: MPOX_DATA, then the cache folder).")


def _from_here(value: str) -> str:
    """A store's folder, relative to where the command runs, as a whole path; the record and the default keep their names."""
    return value if value in ("", "recorded") or not isinstance(value, str) else str(expanded(value).absolute())


def _folders_from_here(value):
    """The same of data sets, where there is such a folder: other names are looked for in the data roots."""
    if isinstance(value, list):
        return [_folders_from_here(one) for one in value]
    here = isinstance(value, str) and value and expanded(value).is_dir()
    return str(expanded(value).absolute()) if here else value


def _given(pairs) -> dict:
    """The values of ``-p``; a folder among them lies where the command runs, as that of any other option does."""
    from mpox.book.run import parse_overrides

    places = {"RUN_STORE": _from_here} | dict.fromkeys(("DATASETS", "EXTERNAL", "MIXED"), _folders_from_here)
    return {name: places[name](value) if name in places and value else value for name, value in parse_overrides(pairs).items()}


_here: dict[str, Any] = {"callback": lambda _, __, value: _from_here(value), "metavar": "NAME"}
_store = click.option("--store", default="", **_here, help="A run store's folder, or 'recorded'; default: the project's.")
_run_id = click.option("--run", "run_id", required=True, metavar="ID", help="The run; the beginning of its id is enough.")
_pairs = click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="A value, as YAML; wins over the profile."
)
_say = partial(click.echo, err=True)


def _tell(text: str) -> None:
    _say(f"note: {text}")


def _one_line(message: Warning | str, category: type[Warning], *_, **__) -> str:
    """A library's warning, without the path and the source line that mean nothing to who called a command."""
    return f"note: {' '.join(str(message).split())} ({category.__name__})\n"


class _Group(click.Group):
    """Prints an `MpoxError`, or what the system says of a path, as one line, without a traceback, and exits with status 1.

    Names are UTF-8 whatever the locale, and a terminal that cannot show a character of one is given its escape.
    """

    def main(self, *args, **options):
        if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **options)

    def resolve_command(self, context: click.Context, args: list[str]):
        """Refuse an empty value, as an unset variable of a shell gives: it would be the current folder, or the default."""
        for before, word in pairwise(["", *args]):
            if not word or re.fullmatch("--[a-z-]+=", word):
                what = word.rstrip("=") or (before if before.startswith("-") else "A value")
                raise MpoxError(f"{what} is empty (a variable that is not set?): give it a value, or leave it out.")
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context):
        warnings.formatwarning = _one_line
        try:
            return super().invoke(context)
        except MpoxError as error:
            _say(f"mpox: {error}")
        except OSError as error:
            if error.errno is None or error.errno == errno.EPIPE:
                raise
            named = " and ".join(os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes))
            what = f"{named} cannot be used" if named else "The output cannot be written"
            _say(f"mpox: {what} ({error.strerror}): name another path, or mend that one.")
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


@main.command()
@_data_dir
def doctor(data_dir):
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


# ----------------------------------------------------------------------------------------------------------- data
@main.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--out", required=True, type=_FOLDER, help="Folder for the tables.")
@_data_dir
@click.option("--overrides", type=_PATH, help="CSV of your decisions on pairs: confirm, reject or same person.")
@click.option("--patients", type=_PATH, help="CSV with image_id (or file) and patient_id; one DATASET only.")
@click.option("--patient-pattern", metavar="REGEX", help="Patient id in the file's name: group 'patient'; one DATASET only.")
@click.option("--review", is_flag=True, help="Also write review.html, with the images: for your eyes only.")
@click.option("--jobs", type=_JOBS, help="Processes; all cores by default.")
def audit(datasets, out, **options):
    """Find every photograph that appears twice in the DATASETs (registered names or folders), within one and across them.

    \b
    mpox audit msld-v1 msid --out audit
    mpox audit ./my_pictures --out audit --patient-pattern "(?P<patient>[A-Z]+[0-9]+)_"

    Writes groups.csv (what must stay together), pairs.csv (the same photograph, with the evidence), weak_pairs.csv (doubtful,
    they link nothing, or of one person on two photographs), conflicts.csv (two labels or patients), rejected.csv (not usable),
    quality.csv (blur, exposure, borders, captions, colour profile, skin tone), summary.csv and a data sheet for each data set.
    """
    from mpox.audit.pages import audit_folder

    if len(datasets) > 1 and (options["patients"] or options["patient_pattern"]):
        raise MpoxError("--patients and --patient-pattern describe one data set: audit it alone, or put a patients.csv in it.")
    said: list[str] = []
    try:
        audit_folder(datasets, out, say=said.append, **options)
    finally:  # only now: a terminal that takes no more would cost the tables
        click.echo("\n".join(said), nl=bool(said))


@main.group()
def data():
    """Find, get and check the data sets."""


@data.command("list")
@_data_dir
def list_data(data_dir):
    """The registered data sets, and which of them are on this machine."""
    from mpox.data.registry import REGISTRY, find_here

    rows = [("name", "images", "patient ids", "licence", "where", "how to get it")]
    for name, spec in REGISTRY.items():
        here = find_here(spec, data_dir=data_dir)
        where, how = str(here or "not here"), f"by hand: {spec.homepage or 'its authors'}"
        if spec.is_phantom:
            where, how = "phantom, not patients: generated when it is needed", "nothing to get"
        elif here:
            how = "nothing to get"
        elif spec.archive or spec.kaggle:
            how = f"mpox data fetch {name}{'' if spec.archive else ' (needs mpox[kaggle])'}"
        rows.append((name, str(spec.expected_images or "-"), "yes" if spec.patient_pattern else "no", spec.licence, where, how))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    click.echo("\nAny folder with one sub-folder a class can be named in place of a registered data set.")


@data.command("path")
@click.argument("name")
@_data_dir
def path(name, data_dir):
    """Print the folder of the data set NAME (the phantom is generated if need be)."""
    from mpox.data.registry import locate

    click.echo(locate(name, data_dir=data_dir))


@data.command("verify")
@click.argument("name")
@_data_dir
def verify(name, data_dir):
    """Check every image of the data set NAME against the committed checksums.

    Prints each image that is not in order and a summary. Exit status 1 if one is changed or missing.
    """
    from mpox.data import fetch
    from mpox.data.registry import get_spec, locate

    table, root = fetch.verify(name, data_dir=data_dir), locate(name, data_dir=data_dir)
    for row in table[table["status"] != "ok"].itertuples():
        click.echo(f"{row.status:<8} {row.image_id}")
    counts = table["status"].value_counts().reindex(["ok", "changed", "missing", "unknown"], fill_value=0)
    click.echo(f"{name} in {root}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    if wrong := fetch.explain_differences(get_spec(name), root, table):
        raise MpoxError(wrong)
    if counts["unknown"]:
        click.echo("The unknown images are not part of the published data set, but would be used.")


@data.command("fetch")
@click.argument("name")
@click.option("--data-dir", type=_PATH, help="The folder to put the data set's into (default: the user's cache folder).")
@click.option("--licence-read", is_flag=True, help="You have read the licence of a data set that wants it read, and may use it.")
def fetch_data(name, data_dir, licence_read):
    """Download the data set NAME, check it, and put it in place whole or not at all.

    A good copy that is there already is left alone; a damaged one is kept under another name.
    """
    from mpox.data.fetch import fetch

    fetch(name, data_dir=data_dir, licence_read=licence_read, say=click.echo)


@data.command("freeze")
@click.option("--profile", required=True, metavar="NAME|FILE", help="Freeze what a run of this profile asks for.")
@_pairs
@click.option("--out", required=True, type=_PATH, metavar="FOLDER", help="The new folder.")
@_data_dir
def freeze_data(profile, pairs, out, data_dir):
    """Write what a profile's run asks for into one FOLDER, for a machine without a network.

    \b
    mpox data freeze --profile gpu --out frozen     # here; then: tar -cf frozen.tar frozen
    mpox run --profile gpu --data-dir frozen        # there

    It holds the images, the audits, the weights of the networks, and a checksum of every file. It contains images of patients:
    do not publish it.
    """
    from mpox.book.freeze import freeze

    if freeze(out, profile, overrides=_given(pairs), data_dir=data_dir, say=click.echo).datasets:
        click.echo(f"{out} contains images of patients: do not publish it.")


# ----------------------------------------------------------------------------------------------------------- runs
@main.command()
@click.argument("notebooks", nargs=-1)
@click.option("--profile", default="quick", show_default=True, metavar="NAME|FILE", help="quick, recorded, cpu, gpu, or a .yml.")
@_pairs
@click.option("--out", type=_PATH, metavar="FOLDER", help="The run folder; _runs/<profile> by default. It is started over.")
@click.option("--resume", is_flag=True, help="Keep what is done with the same parameters and source; do the rest.")
@click.option("--data-dir", type=_PATH, help="Where the data sets lie, or a frozen folder (MPOX_DATA for the notebooks).")
@click.option("--overrides", "decisions", type=_PATH, help="Your decisions on pairs (or set MPOX_OVERRIDES).")
@click.option("--workers", type=_JOBS, metavar="N", help="Processes that compute runs, or read the record.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers compute runs (or MPOX_SCHEDULER).")
def run(notebooks, pairs, **options):
    """Execute the notebooks in order, or just the NOTEBOOKS named (03_cross_validation, or 03), up to the first failure.

    \b
    mpox run --profile quick
    mpox run 03 04 --profile cpu -p N_FOLDS 3 -p BACKBONES "[tf_efficientnet_lite0]"
    mpox run --profile quick --resume
    """
    from mpox.book.run import run_notebooks

    go_on = "Go on from it with: " + shlex.join(["mpox", *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    bar, overrides = sys.stderr.isatty(), _given(pairs)
    try:
        result = run_notebooks(notebooks, overrides=overrides, progress=bar, echo=click.echo, **options)
    except KeyboardInterrupt:
        _say(f"Interrupted. {go_on}")
        sys.exit(130)
    if result.failure:
        _say(f"\n{result.failure}\n{go_on}")
        sys.exit(1)


@main.group()
def runs():
    """What runs are there, and what they took."""


@runs.command("list")
@_store
@click.option("--dataset", metavar="NAME", help="Only runs on this data set.")
@click.option("--protocol", metavar="NAME", help="Only runs under this protocol.")
@click.option("--regime", metavar="NAME", help="Only runs of this regime.")
@click.option("--sort", type=click.Choice(_COLUMNS), help="The column to sort by, least first.")
@click.option("--csv", "as_csv", is_flag=True, help="All columns, as CSV.")
def list_runs(store, sort, as_csv, **wanted):
    """One row a run, and what all of them took.

    The recorded study (--store recorded) keeps neither a date nor a size for each run.
    """
    from mpox.book.wording import duration
    from mpox.runs import listing

    table = listing.list_runs(store)
    for column, value in wanted.items():
        there = ", ".join(sorted(table[column].dropna().unique()))
        table = table if value is None else table[table[column] == value]
        if value is not None and table.empty:
            raise MpoxError(f"No run has the {column} '{value}': there is {there or 'none'}.")
    table = table.sort_values(sort, kind="stable") if sort else table
    if as_csv:
        click.echo(csv_text(table), nl=False)
        return
    if len(table):
        shown = table.assign(date=table["date"].dt.strftime("%Y-%m-%d %H:%M"), seconds=table["seconds"].round(1))
        shown["damaged"] = table["damaged"].map({True: "damaged", False: ""})
        click.echo(shown.astype(object).where(shown.notna(), "").to_string(index=False) + "\n")
    size = f"; {table['bytes'].sum() / 1e6:.1f} MB on the disk" if table["bytes"].notna().any() else ""
    click.echo(f"{len(table)} runs; computing them took {duration(float(table['seconds'].sum()))}{size}.")


@runs.command("adopt")
@_store
@click.option("--from", "origin", default="recorded", show_default=True, **_here, help="A folder written by 'mpox record'.")
def adopt_runs(store, origin):
    """Put recorded runs into the store, so that a profile computes only what was never recorded.

    Each run keeps its id and says on which machine it was computed. A recorded run has no checkpoint.
    """
    from mpox.runs.recorded import RecordedStore, adopt, open_store
    from mpox.runs.store import store_folder

    target = open_store(store)
    if isinstance(target, RecordedStore):
        raise MpoxError("The recorded study cannot adopt runs: name another store, or leave --store out.")
    copied = adopt(RecordedStore(store_folder(origin)), target)
    click.echo(f"{', '.join(f'{count} {kind}' for kind, count in copied.items())} copied to {target.root}.")


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=_PATH)
@_run_id
@_store
@_data_dir
@click.option("--confidence", default=0.9, show_default=True, help="Of the sets of classes, between 0 and 1.")
@click.option("--heat-map", "heat_maps", metavar="FOLDER", type=_FOLDER, help="Draw into this folder where the network looks.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="One line an image, as CSV.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def predict(images, run_id, store, data_dir, confidence, heat_maps, as_json, as_csv, device):
    """Ask a run about images: each IMAGE is a file, or a folder of them. Research software, not a medical device.

    \b
    mpox predict image.jpg --run 3f2a --heat-map maps
    mpox predict ./images --run 3f2a --json

    Probabilities are calibrated on images that were held out inside the run's training part. From the same images comes the
    set of classes that cannot be excluded at the stated confidence: with one class it is the answer, otherwise the run is not
    sure. An image unlike the training images gets no answer; one that shows the photograph of a training image (a crop of it,
    say) is marked, where the run's data set is here. Those that cannot be read are named, the others predicted all the same, and
    the exit status is 1. The data set is needed the first time the run is asked. A heat map is the Grad-CAM of the most probable
    class.
    """
    from mpox.data.manifest import say_passed_over
    from mpox.runs import predict as asked
    from mpox.runs.predict import NOTICE, PHANTOM, as_dict, as_text, build_predictor, predict_files
    from mpox.runs.recorded import open_store
    from mpox.runs.store import RunStore

    if as_json and as_csv:
        raise MpoxError("--json and --csv are two forms of one answer: choose one.")
    opened = open_store(store)
    predictor = build_predictor(opened, run_id, data_dir, tell=_tell)
    assert isinstance(opened, RunStore), "build_predictor has refused the recorded study"
    performance = asked.honest_performance(opened, run_id, predictor)
    try:
        training = asked.training_images(opened, run_id, data_dir)
    except MpoxError as error:
        training = None
        _tell(f"Whether the run learnt from an image of yours is not known. {error}")
    _say(NOTICE)
    if predictor.provenance["phantom"]:
        _say(PHANTOM)
    table = predict_files(predictor, list(images), confidence=confidence, device=device, heat_maps=heat_maps, training=training)
    _say(asked.performance_as_text(performance, predictor, confidence))
    if passed_over := table.attrs["passed_over"]:
        _say(say_passed_over(passed_over))
    failed = table[table["error"].notna()]
    for row in failed.itertuples():
        _say(f"mpox: {row.file} {row.error}")
    if as_json:
        click.echo(json.dumps(as_dict(predictor, table, confidence, performance), indent=1, allow_nan=False))
    elif as_csv:
        joined = {name: table[name].str.join(" | ") for name in ("set", "in_training")}
        click.echo(csv_text(table.assign(**joined)), nl=False)
    elif text := as_text(table, predictor.classes):
        click.echo(text)
    sys.exit(1 if len(failed) else 0)


@main.command()
@_run_id
@click.option("--out", required=True, type=_Path(path_type=Path, dir_okay=False), help="The file.")
@click.option("--int8", is_flag=True, help="Write convolutions in 8 bits; and say what that loses on the run's test fold.")
@click.option("--raw", is_flag=True, help="Leave out the temperature: the probabilities of the run's own predictions.")
@_store
@_data_dir
@click.option("--force", is_flag=True, help="Write over a file that exists.")
def export(run_id, out, int8, raw, store, data_dir, force):
    """Write a run's network as ONNX: pixels from 0 to 255, upright (EXIF rotation is the caller's). Not a medical device.

    \b
    mpox export --run 3f2a --out mpox.onnx
    mpox export --run 3f2a --out mpox-int8.onnx --int8

    Before the file is written, ONNX Runtime must give the probabilities of torch: on images of the run's test fold, or on
    random ones where these are not here. An 8-bit model is calibrated on training images and needs them.
    """
    from mpox.book.report import with_interval
    from mpox.runs.export import INPUT, INPUT_SAYS, OPSET, OUTPUT, TOLERANCE, export_run, require_onnx
    from mpox.runs.predict import NOTICE
    from mpox.runs.recorded import open_store
    from mpox.stats.metrics import difference

    require_onnx()
    if out.exists() and not force:
        raise MpoxError(f"{out} exists already: name another file with --out, or say --force.")
    exported = export_run(open_store(store), run_id, data_dir, int8=int8, calibrated=not raw, tell=_tell)
    predictor, model = exported.predictor, exported.models["onnx int8" if int8 else "onnx"]
    atomic_write(out, model)
    size = predictor.model.image_size
    kind = "as in the run's predictions" if raw else f"calibrated (temperature {predictor.temperature:.3g})"
    shown = "images of the run's test fold" if exported.predictions else "random images (its own are not here)"
    click.echo(
        f"{out}: ONNX, opset {OPSET}, {len(model) / 1e6:.1f} MB{', convolutions in 8 bits' if int8 else ''}\n"
        f"input '{INPUT}': float32 (n, 3, {size}, {size}), {INPUT_SAYS}\n"
        f"output '{OUTPUT}': {', '.join(predictor.classes)}; {kind}\n"
        f"ONNX Runtime in float32 against torch on {shown}: a probability differs by {exported.difference:.1g} at most (allowed "
        f"{TOLERANCE:g})"
    )
    if int8:
        both = exported.predictions["torch"], exported.predictions["onnx int8"]
        for metric, label in (("accuracy", "all"), ("auroc", predictor.positive)):
            lost = with_interval(*difference(*both, metric, label, positive=predictor.positive), digits=3)
            click.echo(f"{metric} ({label}) lost in 8 bits on {len(both[0])} {shown}: {lost}")
    _say(NOTICE)


# --------------------------------------------------------------------------------------- what is made of the study
@main.command("record")
@click.argument("run_folder", type=_PATH, required=False)
@click.option("--out", type=_PATH, help="Where to; default: results/ in the project.")
def record_study(run_folder, out):
    """Keep the tables of a finished RUN_FOLDER on real images as the recorded study, and bring the README in step.

    No image is kept. Without RUN_FOLDER the README's table and croissant.json are made anew from the record.
    """
    from mpox.book.chapters import draw_answer, record, update_readme
    from mpox.runs.croissant import write_description
    from mpox.runs.recorded import RecordedStore

    if run_folder:
        target = record(run_folder, out=out, say=click.echo)
    else:
        target = RecordedStore(out or project_root() / "results").root
        write_description(target)
    if out is None:
        update_readme(target, project_root() / "README.md")
        draw_answer(target, project_root() / "book" / "_static_mpox" / "answer.svg")


@main.command("sync")
@click.argument("notebooks", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; fail if a notebook is not in step with its source.")
def sync_notebooks(notebooks, check):
    """Execute the NOTEBOOKS (all by default) with their default parameters and write the paired .ipynb files."""
    from mpox.book.sources import stale_notebooks, sync

    if not check:
        sync(notebooks, say=click.echo)
    elif stale := stale_notebooks():
        raise MpoxError(f"Not in step with their sources: {', '.join(stale)}. Run `mpox sync`.")


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a learner notebook is not in step with its chapter.")
def exercises(check):
    """Derive the learner notebooks in notebooks/exercises from the chapters: solutions become blanks."""
    from mpox.book.sources import exercise_files, stale_exercises

    if not check:
        for file, text in exercise_files().items():
            click.echo(f"wrote {atomic_write(file, text)}")
    elif stale := stale_exercises():
        raise MpoxError(f"Exercises not in step with their chapters: {', '.join(stale)}. Run `mpox exercises`.")


@main.command()
@click.argument("run_folders", nargs=-1, metavar="[RUN_FOLDER]...", type=_PATH)
@click.option("--out", type=_PATH, help="Folder for the book; default: _site in the project.")
def book(run_folders, out):
    """Build the book from finished run folders of `mpox run`.

    A run on real images becomes the edition "study", a run on the phantom "instruments". Without RUN_FOLDER both are built,
    from _runs/recorded and _runs/quick.
    """
    from mpox.book.build import build_book

    build_book(run_folders, out=out, echo=click.echo)


if __name__ == "__main__":
    main()
