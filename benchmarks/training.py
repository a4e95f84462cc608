"""How fast networks are trained, and what it costs in quality: see README.md beside this file."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from measuring import MEMORY, Commands, machine, out_file, report, run_phase

from mpox._core import TORCH_ENVIRONMENT

_SCRIPT = Path(__file__).resolve()
MARGIN = 0.01
_OURS = TORCH_ENVIRONMENT | {"MPOX_WORKERS": "1"}  # one run after the other, as the reference
_PLAIN = dict.fromkeys(TORCH_ENVIRONMENT)  # the reference runs as Python is started by everybody: without our settings


@click.group(cls=Commands)
def main() -> None:
    """Measure training."""


def _options(command):
    for option in (
        click.option("--backbone", default="tf_efficientnet_lite1", show_default=True),
        click.option("--size", type=click.IntRange(min=32), default=224, show_default=True, help="Side of the input in pixels."),
        click.option("--epochs", type=click.IntRange(min=1), default=8, show_default=True),
        click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
        click.option("--data-dir", type=click.Path(), help="Where the data sets lie (or set MPOX_DATA)."),
        click.option("--training", default="{}", help="JSON with values of mpox.models.config.Training for our regimes."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("dataset", default="msld-v1")
@_options
@click.option("--protocol", default="source", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Of tail_tune.")
@click.option("--fine-tune-repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--reference-repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), help="Of the reference's DataLoader; as many as cores, 8 at most.")
@click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
def regimes(dataset, protocol, repeats, fine_tune_repeats, reference_repeats, workers, out, **common) -> None:
    """The naive reference, fine_tune and tail_tune on the same folds of DATASET."""
    about = machine()
    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    shared = [dataset, "--protocol", protocol, *_arguments(common)]
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-cache-") as cache:
        _phase(["phase-regime", "audit", *shared], Path(cache), {})  # the folds need the groups, and no regime pays for them
        plan = {"reference": reference_repeats, "fine_tune": fine_tune_repeats, "tail_tune": repeats}
        found = {
            name: _phase(
                ["phase-regime", name, *shared, "--repeats", str(n), "--workers", str(workers)],
                Path(cache),
                _PLAIN if name == "reference" else _OURS,
            )
            for name, n in plan.items()
        }
        peak = _phase(["phase-peak", *_arguments({name: common[name] for name in ("device",)})], Path(cache), TORCH_ENVIRONMENT)
    table, notes = _judge(found, workers, plan, peak, repeats=repeats, folds=common["folds"])
    title = f"Training {common['backbone']} at {common['size']} px on {dataset} ({protocol}), {common['device']}"
    about |= {name: found["fine_tune"][name] for name in ("torch", "device")}
    report(title, table, notes, about=about, out=out, more={"peak": peak}, echo=click.echo)


@main.command()
@click.argument("dataset", default="msld-v1")
@_options
@click.option("--protocol", default="source", show_default=True)
@click.option("--stages", default="3,4,5,6,7", show_default=True, help="Frozen stages to try, with --at-views views.")
@click.option("--views", default="0,2,8,24", show_default=True, help="Augmented views to try, with --at-stage frozen stages.")
@click.option("--at-stage", type=int, default=5, show_default=True)
@click.option("--at-views", type=int, default=8, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
def stages(dataset, protocol, stages, views, at_stage, at_views, out, **common) -> None:
    """What tail_tune loses by the stage and the number of views, judged by the inner validation folds of DATASET."""
    about = machine()
    shared = [dataset, "--protocol", protocol, *_arguments({**common, "training": None})]
    tried = dict.fromkeys([(int(s), at_views) for s in stages.split(",")] + [(at_stage, int(v)) for v in views.split(",")])
    plans = [("fine_tune", {"frozen_stages": 3})] + [("tail_tune", {"frozen_stages": s, "views": v}) for s, v in tried]
    rows, losses = [], {}
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-cache-") as cache:
        _phase(["phase-regime", "audit", *shared], Path(cache), {})
        for name, plan in plans:
            plan = {**json.loads(common["training"]), **plan}
            done = _phase(["phase-regime", name, *shared, "--training", json.dumps(plan)], Path(cache), _OURS)
            losses[len(rows)] = np.array(done["validation_loss"])
            change = losses[len(rows)] - losses[0]
            rows.append(
                {"regime": name, "frozen stages": plan["frozen_stages"], "views": plan.get("views", ""),
                 "validation loss": losses[len(rows)].mean(), "minus fine_tune": change.mean(),
                 "standard error": change.std(ddof=1) / len(change) ** 0.5,
                 "images/s": done["train_images"] / done["train_s"], "made once, s": done["setup_s"]}
            )  # fmt: skip
    notes = [
        "validation loss: nats, the best epoch's, mean over the inner validation folds of all outer folds; no test "
        "fold was looked at",
        "minus fine_tune: paired by fold; the standard error is that of the mean over the folds, which share training pictures "
        "and so make it too small",
    ]
    report(f"tail_tune by stage and views, {dataset}, {common['size']} px", pd.DataFrame(rows), notes, about=about, out=out)


def _arguments(options: dict) -> list[str]:
    return [text for name, value in options.items() if value for text in (f"--{name.replace('_', '-')}", str(value))]


def _phase(arguments: list[str], cache: Path, environment: dict) -> dict:
    """One phase, which decodes pictures for itself: only the audit is kept from the phases before."""
    shutil.rmtree(cache / "pixels", ignore_errors=True)
    return run_phase(_SCRIPT, arguments, cache=cache, environment=environment)


def _judge(found: dict, workers: int, plan: dict, peak: dict, *, repeats: int, folds: int) -> tuple[pd.DataFrame, list[str]]:
    from mpox.stats.metrics import difference, evaluate

    predictions = {name: pd.DataFrame(result["predictions"]) for name, result in found.items()}
    rows = []
    reference_s = found["reference"]["seconds"] * repeats / plan["reference"]
    for name, result in found.items():
        metric = evaluate(predictions[name]).set_index(["metric", "class"]).loc[("auroc", "Mpox")]
        common = min(plan[name], plan["reference"])
        pair = [predictions[one][predictions[one]["repeat"] < common] for one in (name, "reference")]
        change = difference(*pair, "auroc", "Mpox") if name != "reference" else (np.nan,) * 3
        speed = result["train_images"] / result["train_s"]
        whole_s = result["setup_s"] + (result["seconds"] - result["setup_s"]) * repeats / plan[name]
        rows.append(
            {
                "regime": name,
                "images/s": speed,
                "ratio": speed / (found["reference"]["train_images"] / found["reference"]["train_s"]),
                "s a fold": (result["seconds"] - result["setup_s"]) / (plan[name] * folds),
                f"s for {repeats} x {folds} folds": whole_s,
                "cheaper": reference_s / whole_s,
                "peak MiB": result["peak_mib"],
                "GFLOP/s": speed * result["flop_a_picture"] / 1e9,
                "of peak": speed * result["flop_a_picture"] / 1e9 / peak["best"],
                "AUROC": metric["estimate"],
                "low": metric["low"],
                "high": metric["high"],
                "minus reference": change[0],
                "from": change[1],
                "to": change[2],
            }
        )
    notes = [
        "images/s: training pictures through a gradient step, validation left out; ratio: over the reference's",
        "s a fold: everything from the model to the predictions; cheaper: the reference's whole time over the row's",
        f"repeats measured: {', '.join(f'{name} {n}' for name, n in plan.items())}; the others are scaled up from them. "
        f"Made once: {', '.join(f'{name} ' + format(result['setup_s'], '.1f') + ' s' for name, result in found.items())}",
        "AUROC of Mpox, out of fold, and the paired difference on the repeats that both have; 95 % intervals from resampling "
        f"groups. Not inferior means that the difference's lower end is above -{MARGIN}",
        "GFLOP/s: operations of a gradient step, the backward pass counted as twice the forward one; of peak: over the best of "
        + ", ".join(f"{name} {value:.0f}" for name, value in peak.items() if name not in ("best", "peak_mib")),
        f"reference: timm model, PIL transforms in a DataLoader with {workers} workers, everything trained, no settings of the "
        "allocator; float32 NCHW on a CPU, bfloat16 channels-last on CUDA. Ours also weigh the classes and average a picture's "
        "prediction with that of its mirror image, which costs time and may help",
        "peak memory: " + MEMORY,
    ]
    return pd.DataFrame(rows), notes


@main.command("phase-regime", hidden=True)
@click.argument("name", type=click.Choice(["audit", "reference", "fine_tune", "tail_tune"]))
@click.argument("dataset")
@_options
@click.option("--protocol", required=True)
@click.option("--repeats", type=int, default=1)
@click.option("--workers", type=int, default=0)
@click.option("--result", type=click.Path(path_type=Path), required=True)
def phase_regime(name, dataset, backbone, size, epochs, folds, device, data_dir, training, protocol, repeats, workers, result):
    """One regime: predictions, seconds, pictures."""
    import torch

    from mpox import ModelConfig, cross_validate
    from mpox.models.hardware import device_name
    from mpox.protocols.splits import make_splits
    from mpox.runs.store import RunStore

    store = RunStore(Path(os.environ["MPOX_CACHE"]) / "store")
    data = store.dataset(dataset, data_dir=data_dir)
    if name == "audit":
        result.write_text("{}")
        return
    split = make_splits(data.manifest, protocol, n_folds=folds, n_repeats=repeats)
    started = time.perf_counter()
    if name == "reference":
        from reference import cross_validate_naively

        setup_s = 0.0
        options = {"backbone": backbone, "size": size, "epochs": epochs, "workers": workers, "device": device}
        predictions, cost = cross_validate_naively(data, split, **options)
        frozen = None
    else:
        from mpox.models.training import load_batches

        precision = "bfloat16" if device == "cuda" else "float32"
        plan = {"epochs": epochs, "patience": epochs, "precision": precision, **json.loads(training)}
        model = ModelConfig(regime=name, backbone=backbone, image_size=size, device=device, training=plan)
        load_batches(data.manifest, model)
        setup_s = time.perf_counter() - started
        predictions = cross_validate(store, data, protocol, model, n_folds=folds, n_repeats=repeats)
        cost = _cost(store, predictions, split)
        frozen = model
    seconds = time.perf_counter() - started
    kept = ["repeat", "fold", "image_id", "group_id", "label", *(f"p_{label}" for label in data.classes)]
    found = {
        "seconds": seconds,
        "setup_s": setup_s,
        **cost,
        "flop_a_picture": _flop_a_picture(backbone, size, len(data.classes), frozen),
        "torch": torch.__version__,
        "device": device_name(device),
        "predictions": predictions[kept].to_dict("list"),
    }
    result.write_text(json.dumps(found))


def _cost(store, predictions: pd.DataFrame, split: pd.DataFrame) -> dict:
    from mpox.runs.store import read_run

    images, seconds, losses = 0, 0.0, []
    for (repeat, fold), rows in predictions.groupby(["repeat", "fold"]):
        history = read_run(store.root / "runs" / rows["run_id"].iloc[0]).history
        of_fold = split[(split["repeat"] == repeat) & (split["fold"] == fold)]
        losses.append(history["validation_loss"].min())
        images += len(history) * int(((of_fold["role"] == "train") & (of_fold["inner_fold"] != 0)).sum())
        seconds += history["train_seconds"].sum()
    return {"train_images": images, "train_s": seconds, "validation_loss": losses}


def _flop_a_picture(backbone: str, size: int, n_classes: int, model) -> float:
    """Operations of a gradient step a picture, two a multiply-add: the frozen part once, the trained part three times, once
    forward and twice backward (for its input and for its weights); what ``tail_tune`` has cached not at all."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mpox.models.backbones import build_model, split_backbone

    def count(part, batch) -> tuple[float, torch.Tensor]:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            made = part(batch)
        return counter.get_total_flops(), made

    network = build_model(backbone, "linear", n_classes, weights="random").eval()
    batch = torch.zeros(1, 3, size, size)
    if model is None or not model.training.frozen_stages:
        return 3 * count(network, batch)[0]
    trunk, tail = split_backbone(network.backbone, model.training.frozen_stages, batch)
    frozen, between = count(trunk, batch)
    return 3 * count(torch.nn.Sequential(tail, network.head), between)[0] + (frozen if model.regime == "fine_tune" else 0)


@main.command("phase-peak", hidden=True)
@click.option("--device", default="cpu")
@click.option("--result", type=click.Path(path_type=Path), required=True)
def phase_peak(device: str, result: Path) -> None:
    """What the machine can do at best, in GFLOP/s."""
    import torch

    def rate(work, flop: float) -> float:
        times = []
        with torch.inference_mode():
            for _ in range(8):
                started = time.perf_counter()
                work()
                if device == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - started)
        return flop / min(times) / 1e9

    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        side = 8192 if device == "cuda" else 2048
        a = torch.randn(side, side, device=device, dtype=dtype)
        found[f"matrix product {dtype}".replace("torch.", "")] = rate(lambda: a @ a, 2 * side**3)  # noqa: B023
        conv = torch.nn.Conv2d(256, 256, 3, padding=1).to(device, dtype=dtype, memory_format=torch.channels_last)
        x = torch.randn(16, 256, 56, 56, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        found[f"convolution {dtype}".replace("torch.", "")] = rate(lambda: conv(x), 2 * 16 * 56 * 56 * 256 * 256 * 9)  # noqa: B023
    if device == "cuda":
        big = torch.empty(2**28, device=device)
        found["copy GB/s"] = rate(lambda: big.clone(), 2 * 4 * 2**28)
    kinds = ("float32",) if device == "cpu" else ("float32", "bfloat16")
    found["best"] = max(value for name, value in found.items() if name.endswith(kinds))
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
