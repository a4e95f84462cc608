"""The command ``mpox predict``."""

import json
import sys
from pathlib import Path

import click


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
@click.option("--csv", "as_csv", is_flag=True, help="One line a picture, as CSV.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def predict(images, run_id, store, data_dir, confidence, heat_maps, as_json, as_csv, device) -> None:
    """Ask a run about pictures: each IMAGE is a file, or a folder of them. Research software, not a medical device.

    \b
    mpox predict picture.jpg --run 3f2a --heat-map maps
    mpox predict ./pictures --run 3f2a --json

    Probabilities are calibrated on pictures that were held out inside the run's training part. From the same pictures comes the
    set of classes that cannot be excluded at the stated confidence: with one class it is the answer, otherwise the run is not
    sure. A picture unlike the training pictures is marked. Those that cannot be read are named, the others predicted all the
    same, and the exit status is 1.
    """
    from mpox.errors import MpoxError
    from mpox.prediction_list import PHANTOM, list_predictions
    from mpox.predictor import NOTICE, build_predictor
    from mpox.store import open_store

    def complain(file: str, reason: str) -> None:
        click.echo(f"mpox: {file} {reason}", err=True)

    if as_json and as_csv:
        raise MpoxError("--json and --csv are two forms of one answer: choose one.")
    predictor = build_predictor(open_store(store), run_id, data_dir, tell=lambda text: click.echo(f"note: {text}", err=True))
    click.echo(NOTICE, err=True)
    if predictor.provenance["phantom"]:
        click.echo(PHANTOM, err=True)
    options = {"confidence": confidence, "device": device, "heat_maps": heat_maps}
    listing = list_predictions(predictor, list(images), **options, tell=complain)
    if as_json:
        click.echo(json.dumps(listing.as_dict(), indent=1))
    elif as_csv:
        click.echo(listing.as_table().to_csv(index=False, lineterminator="\n"), nl=False)
    elif listing.entries:
        click.echo(listing.as_text())
    if listing.errors:
        sys.exit(1)
