"""What a model costs: counts from the model itself, time and memory of a prediction measured on this machine.

Every model is measured in a process of its own, on one thread: how threads wait for each other would be measured too, and the
memory that other models have freed would be used again unseen.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.models.config import HANDCRAFTED, HEADS, ModelConfig
from mpox.stats.selection import JOINT

COLUMNS = [
    "backbone", "head", "image_size", "parameters", "multiply_adds", "file_mib", "median_ms_1", "p95_ms_1", "median_ms_16",
    "p95_ms_16", "peak_mib", "device",
]  # fmt: skip
WARM_UP = 3
BATCH = 16
MIB = 2**20


def measure_costs(configs: list[tuple[str, str, int]], *, n_classes: int = 2, rounds: int = 20) -> pd.DataFrame:
    """Parameters, multiply-adds, file size, latency and memory of models as they predict; weights do not matter and are random.

    Parameters
    ----------
    configs : list of (backbone, head, image_size)
        A timm model, or one of `HANDCRAFTED`, or several timm models joined as `mpox.stats.selection.ensemble` joins
        them, one run after the other. ``image_size`` in pixels; 0 means each model's own.
    n_classes : int
    rounds : int
        Timed predictions of each batch size, after `WARM_UP` that are not.

    Returns
    -------
    DataFrame
        A row a configuration: ``backbone``, ``head``, ``image_size``, and

        - ``parameters``: weights and biases;
        - ``multiply_adds``: of a picture; NaN for hand-crafted features, whose work is not in products;
        - ``file_mib``: the state as float32 in safetensors;
        - ``median_ms_1``, ``p95_ms_1``: milliseconds of a picture by itself;
        - ``median_ms_16``, ``p95_ms_16``: milliseconds a picture in batches of 16;
        - ``peak_mib``: memory that the model and the prediction of one picture add to a process whose libraries are loaded and
          warm, batch norms not folded; NaN where the system does not tell;
        - ``device``.

        Networks are timed in channels-last order with batch norms folded (`backbones`); reading and scaling a picture is left
        out. Of hand-crafted features time and memory are the extraction's, and the rest is the classifier's on top of them.

    Raises
    ------
    MpoxError
        If a model or head is unknown, or its measurement fails.
    """
    for backbone, head, _ in configs:
        _check(backbone, head)
    rows = []
    for backbone, head, image_size in tqdm(configs, desc="costs of models", delay=3, leave=False):
        asked = {"backbone": backbone, "head": head, "image_size": image_size, "n_classes": n_classes, "rounds": rounds}
        done = subprocess.run(
            [sys.executable, "-c", "from mpox.models import costs; costs.main()", json.dumps(asked)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["it was stopped"])[-1]
            raise MpoxError(f"The costs of {backbone} could not be measured ({why}): leave it out.")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"multiply_adds": float, "peak_mib": float})


def _check(backbone: str, head: str) -> None:
    from mpox.models.config import default_image_size

    if head not in HEADS:
        raise MpoxError(f"Unknown head '{head}': choose one of {', '.join(HEADS)}.")
    for name in backbone.split(JOINT):
        if name not in HANDCRAFTED:
            default_image_size(name)
        elif name != backbone:
            raise MpoxError(f"{name} has no network, and the costs of an ensemble are of its networks: measure it by itself.")


def main() -> None:
    """Measure the configuration in the first argument and print its row, both as JSON."""
    asked = json.loads(sys.argv[1])
    measure = _handcrafted_row if asked["backbone"] in HANDCRAFTED else _network_row
    print(json.dumps(measure(**asked)))


def _network_row(backbone: str, head: str, image_size: int, n_classes: int, rounds: int) -> dict:
    import timm
    import torch
    from safetensors.torch import save

    from mpox.models.backbones import Classifier, describe_model, feature_width, fold_batch_norm, make_head
    from mpox.models.config import default_image_size
    from mpox.models.hardware import device_name

    torch.set_num_threads(1)
    names = backbone.split(JOINT)
    sizes = [image_size or default_image_size(name) for name in names]
    with torch.inference_mode():
        torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))  # what the library sets up once is not the model's
    before = _peak_mib()
    models = []
    for name in names:
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
        model = Classifier(trunk, make_head(head, feature_width(trunk), n_classes))
        models.append(model.eval().to(memory_format=torch.channels_last))

    def predict(batch: int) -> Callable[[], None]:
        generator = torch.Generator().manual_seed(0)
        pictures = [torch.randn(batch, 3, size, size, generator=generator) for size in sizes]
        pictures = [part.to(memory_format=torch.channels_last) for part in pictures]

        @torch.inference_mode()
        def once() -> None:
            for model, part in zip(models, pictures, strict=True):
                model(part)

        return once

    predict(1)()
    peak = _peak_mib() - before
    for model, size in zip(models, sizes, strict=True):
        fold_batch_norm(model, torch.zeros(1, 3, size, size).to(memory_format=torch.channels_last))
    cards = [describe_model(name, head, n_classes, image_size=size) for name, size in zip(names, sizes, strict=True)]
    return {
        "backbone": backbone,
        "head": head,
        "image_size": image_size if len(set(sizes)) > 1 else sizes[0],
        "parameters": sum(card.parameters for card in cards),
        "multiply_adds": sum(card.multiply_adds for card in cards),
        "file_mib": sum(len(save({name: part.contiguous() for name, part in model.state_dict().items()})) for model in models)
        / MIB,
        **_times(predict, rounds),
        "peak_mib": peak,
        "device": device_name("cpu"),
    }


def _handcrafted_row(backbone: str, head: str, image_size: int, n_classes: int, rounds: int) -> dict:
    import torch

    from mpox.models.backbones import HIDDEN_UNITS
    from mpox.models.features import EXTRACTORS
    from mpox.models.hardware import device_name

    torch.set_num_threads(1)
    extract, size = EXTRACTORS[backbone], ModelConfig(backbone=backbone, image_size=image_size).image_size
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
    extract(pictures[0, :64, :64])  # what the library sets up once
    before = _peak_mib()
    n_features = len(extract(pictures[0]))
    peak = _peak_mib() - before
    outputs = 1 if n_classes == 2 else n_classes  # as scikit-learn's classifiers have it
    units = (n_features, outputs) if head == "linear" else (n_features, HIDDEN_UNITS, outputs)
    parameters = sum((wide + 1) * narrow for wide, narrow in pairwise(units))

    def predict(batch: int) -> Callable[[], object]:
        return lambda: [extract(picture) for picture in pictures[:batch]]

    return {
        "backbone": backbone,
        "head": head,
        "image_size": size,
        "parameters": parameters,
        "multiply_adds": None,
        "file_mib": 4 * parameters / MIB,
        **_times(predict, rounds),
        "peak_mib": peak,
        "device": device_name("cpu"),
    }


def _times(predict: Callable[[int], Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median and 95th percentile, milliseconds a picture, for batches of 1 and of `BATCH`."""
    found: dict[str, float] = {}
    for batch in (1, BATCH):
        once, times = predict(batch), []
        for number in range(WARM_UP + rounds):
            started = time.perf_counter()
            once()
            if number >= WARM_UP:
                times.append((time.perf_counter() - started) * 1e3 / batch)
        found |= {f"median_ms_{batch}": float(np.median(times)), f"p95_ms_{batch}": float(np.percentile(times, 95))}
    return found


def _peak_mib() -> float:
    """The most memory that this process has had, MiB; NaN where there is no ``/proc``.

    Not `resource.getrusage`: on Linux its maximum is inherited from the process that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))
