"""What a probe costs and loses as an ONNX file, in float32 and in 8 bits, against torch: see README.md beside this file."""

import tempfile
from importlib.metadata import version
from pathlib import Path

import click
from measuring import Commands, machine, out_file, report

from mpox import ModelConfig, cross_validate, open_store
from mpox.book.report import with_interval
from mpox.studies.deployment import deployment


@click.group(cls=Commands)
def main() -> None:
    """Measure the forms in which a model can leave the package."""


@main.command()
@click.argument("dataset", default="phantom")
@click.option("--backbone", default="tf_efficientnet_lite1", show_default=True)
@click.option("--size", type=click.IntRange(min=32), default=224, show_default=True, help="Side of the input in pixels.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--rounds", type=click.IntRange(min=2), default=50, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
def forms(dataset: str, backbone: str, size: int, folds: int, rounds: int, out: Path | None) -> None:
    """Size, latency and loss of torch, ONNX Runtime in float32, and ONNX Runtime in 8 bits, on one thread."""
    about = machine() | {name: version(name) for name in ("torch", "onnxruntime")}
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-") as folder:
        store = open_store(folder)
        data = store.dataset(dataset)
        predictions = cross_validate(store, data, "source", ModelConfig(backbone=backbone, image_size=size), n_folds=folds)
        found = deployment(store, list(dict.fromkeys(predictions["run_id"])), rounds=rounds)
    base = found.iloc[0]
    table = found[["form", "size_mb"]].rename(columns={"size_mb": "MB"}).assign(**{"smaller": base["size_mb"] / found["size_mb"]})
    for batch in (1, 16):
        median = found[f"latency_ms_{batch}"]
        table[f"ms, batch {batch}"], table[f"p95, batch {batch}"] = median, found[f"latency_p95_ms_{batch}"]
        table[f"faster, batch {batch}"] = base[f"latency_ms_{batch}"] / median
    table["largest difference"] = [f"{value:.1e}" for value in found["max_abs_difference"]]
    for metric, title in (("accuracy", "accuracy lost"), ("auroc", "AUROC lost")):
        ends = found[[f"{metric}_loss", f"{metric}_loss_low", f"{metric}_loss_high"]].itertuples(index=False, name=None)
        table[title] = [with_interval(*values, digits=3).replace("95 % CI ", "") for values in ends]
    notes = [
        f"probe on {backbone} at {size} px, every picture and its mirror image; test folds of {folds} source folds of {data.name}"
        + (" (phantom, not patients)" if data.is_phantom else ""),
        "ms: of a picture, one thread, warm, the forms in turn; smaller, faster: torch over the row; MB: 10^6 bytes",
        "largest difference: of a probability from torch's; lost: torch minus the row, with a paired 95 % interval over groups",
    ]
    report(f"{backbone} outside the package", table, notes, about=about, out=out, echo=click.echo)


if __name__ == "__main__":
    main()
