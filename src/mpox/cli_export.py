"""The command ``mpox export``."""

from pathlib import Path

import click


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

    Before the file is written, ONNX Runtime must give the probabilities of torch: on pictures of the run's test fold, or on
    random ones where these are not here. An 8-bit model is calibrated on training pictures and needs them.
    """
    from mpox.errors import MpoxError
    from mpox.onnx_export import INPUT, OPSET, OUTPUT, TOLERANCE, require_onnx
    from mpox.paths import atomic_write
    from mpox.predictor import build_predictor
    from mpox.store import open_store

    require_onnx()
    if out.exists() and not force:
        raise MpoxError(f"{out} exists already: name another file with --out, or say --force.")
    opened = open_store(store)
    predictor = build_predictor(opened, run_id, data_dir, tell=lambda text: click.echo(f"note: {text}", err=True))
    if int8:
        from mpox.deployment import run_forms

        forms = run_forms(opened, run_id, data_dir, calibrated=not raw)
        model, difference, shown = forms.int8, forms.exported.difference, "pictures of the run's test fold"
    else:
        from mpox.onnx_export import export_onnx

        pixels, shown = _pictures(opened, predictor, data_dir)
        exported = export_onnx(predictor, pixels, calibrated=not raw)
        model, difference = exported.model, exported.difference
    atomic_write(out, model)
    size = predictor.model.image_size
    click.echo(f"{out}: ONNX, opset {OPSET}, {len(model) / 1e6:.1f} MB{', convolutions in 8 bits' if int8 else ''}")
    click.echo(f"input '{INPUT}': float32 (n, 3, {size}, {size}), RGB from 0 to 255, the whole picture squashed to a square")
    kind = "as in the run's predictions" if raw else f"calibrated (temperature {predictor.temperature:.3g})"
    click.echo(f"output '{OUTPUT}': {', '.join(predictor.classes)}; {kind}")
    name = "ONNX Runtime in float32" if int8 else "ONNX Runtime"
    click.echo(f"{name} against torch on {shown}: a probability differs by {difference:.1g} at most (allowed {TOLERANCE:g})")
    if int8:
        _tell_losses(forms, click.echo)
    click.echo("Research software, not a medical device.", err=True)


def _pictures(store, predictor, data_dir):
    """Pictures to compare on, and what they are: of the test fold, or random ones, which is said."""
    import numpy as np

    from mpox.errors import MpoxError
    from mpox.images import load_pixels
    from mpox.run_lookup import find_run, training_data

    size = predictor.model.image_size
    try:
        data, rows = training_data(store, find_run(store, predictor.provenance["run_id"]).config, data_dir)
        test = data.manifest["image_id"].isin(rows.loc[rows["role"] == "test", "image_id"])
        return load_pixels(data.manifest[test].reset_index(drop=True), size), "pictures of the run's test fold"
    except MpoxError:
        return np.random.default_rng(0).integers(
            0, 256, (8, size, size, 3), dtype=np.uint8
        ), "random pictures (its own are not here)"


def _tell_losses(forms, echo) -> None:
    from mpox.deployment import losses
    from mpox.report import with_interval

    row = losses(forms.predictions, positive=forms.predictor.positive).set_index("form").loc["onnx int8"]
    echo(
        f"8 bits against torch on the {row['images']:.0f} pictures of the run's test fold: a probability differs by "
        f"{row['max_abs_difference']:.2g} at most"
    )
    for metric, title in (("accuracy", "accuracy"), ("auroc", f"AUROC ({forms.predictor.positive})")):
        value = with_interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"], digits=3)
        loss = with_interval(*(row[f"{metric}_loss{end}"] for end in ("", "_low", "_high")), digits=3)
        echo(f"{title} in 8 bits {value}, loss {loss}")
