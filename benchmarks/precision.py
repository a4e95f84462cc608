"""Whether torch.compile and bfloat16 pay for themselves on this device: see README.md beside this file."""

import json
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from measuring import Commands, machine, out_file, report, run_phase

from mpox._core import TORCH_ENVIRONMENT

_SCRIPT = Path(__file__).resolve()
#: What torch.compile is asked for, and whether the network computes in bfloat16.
WAYS = {
    "eager float32": (None, False),
    "compiled float32": ("default", False),
    "eager bfloat16": (None, True),
    "compiled bfloat16": ("default", True),
    "CUDA graphs bfloat16": ("reduce-overhead", True),
}
ON_CUDA = ("CUDA graphs bfloat16",)


@click.group(cls=Commands)
def main() -> None:
    """Measure what the network is computed with."""


@main.command()
@click.option("--backbone", default="tf_efficientnet_lite1", show_default=True)
@click.option("--size", type=click.IntRange(min=32), default=160, show_default=True, help="Side of the input in pixels.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rounds", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
def ways(backbone: str, size: int, device: str, rounds: int, out: Path | None) -> None:
    """A training step and a forward pass of 16 pictures, eager, compiled, and in bfloat16."""
    about = machine()
    rows = []
    for way in [way for way in WAYS if device == "cuda" or way not in ON_CUDA]:
        options = ["--backbone", backbone, "--size", str(size), "--device", device, "--rounds", str(rounds)]
        found = run_phase(_SCRIPT, ["phase-way", way, *options], cache=Path("."), environment=TORCH_ENVIRONMENT)
        base = rows[0] if rows else {"step ms": found["step"], "forward ms": found["forward"]}
        rows.append(
            {"way": way, "step ms": found["step"], "step ratio": base["step ms"] / found["step"], "first step s": found["first"],
             "forward ms": found["forward"], "forward ratio": base["forward ms"] / found["forward"],
             "largest difference": found["difference"], "peak MiB": found["peak_mib"]}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table["pays after steps"] = [_pays_after(table.iloc[0], row) for _, row in table.iterrows()]
    notes = [
        f"step: gradient step of 16 pictures of {size} px with AdamW, median; first: with what is compiled for it",
        "pays after steps: as many as have saved the first one's seconds against eager float32; a run of this study "
        "has 70 to 700, each of a new model",
        "forward: batch norm folded, no gradients, median; largest difference: of a class probability from eager float32's",
    ]
    report(f"{backbone} at {size} px on {device}", table, notes, about=about, out=out, echo=click.echo)


def _pays_after(eager: pd.Series, row: pd.Series) -> float:
    saved = (eager["step ms"] - row["step ms"]) / 1e3
    return np.ceil((row["first step s"] - eager["first step s"]) / saved) if saved > 0 else np.nan


@main.command("phase-way", hidden=True)
@click.argument("way", type=click.Choice(list(WAYS)))
@click.option("--backbone", required=True)
@click.option("--size", type=int, required=True)
@click.option("--device", required=True)
@click.option("--rounds", type=int, required=True)
@click.option("--result", type=click.Path(path_type=Path), required=True)
def phase_way(way: str, backbone: str, size: int, device: str, rounds: int, result: Path) -> None:
    """One way, in a process of its own."""
    import torch

    from mpox.models.backbones import build_model, fold_batch_norm
    from mpox.models.hardware import torch_device

    mode, half = WAYS[way]
    torch_device(device)  # as the package computes there: in single precision, not in TF32
    torch.manual_seed(0)
    x = torch.randn(16, 3, size, size, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(16, device=device) % 2

    def fresh():
        model = build_model(backbone, "linear", 2, weights="random", seed=0).to(device, memory_format=torch.channels_last)
        model.eval()
        fold_batch_norm(model.backbone, x[:1])
        return model

    def autocast():
        return torch.autocast(device, dtype=torch.bfloat16, enabled=half)

    def timed(work) -> tuple[float, float]:
        times = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return times[0], float(np.median(times[1:]) * 1e3)

    with torch.inference_mode():
        expected = torch.softmax(fresh()(x).float(), 1)
    model = fresh()
    shown = torch.compile(model, mode=mode) if mode else model
    with torch.inference_mode(), autocast():
        difference = float((torch.softmax(shown(x).float(), 1) - expected).abs().max())
        _, forward = timed(lambda: shown(x))
    model = fresh()
    shown = torch.compile(model, mode=mode) if mode else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with autocast():
            loss = torch.nn.functional.cross_entropy(shown(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    first, median = timed(step)
    result.write_text(json.dumps({"step": median, "first": first, "forward": forward, "difference": difference}))


if __name__ == "__main__":
    main()
