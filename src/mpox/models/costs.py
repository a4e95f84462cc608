"""What a model costs: counts from the model itself, time and memory of a prediction measured on this machine.

Each is measured in a process of its own, on one thread: threads that wait for each other, and memory that other models have freed
and that is used again unseen, would be measured too.
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
from mpox.models.config import HANDCRAFTED, HEADS, ModelConfig, default_image_size
from mpox.stats.selection import JOINT

WARM_UP = 3
BATCHES = (1, 16)
MIB = 2**20
MEASURE = "import json, sys; from mpox.models.costs import measure_one; print(json.dumps(measure_one(**json.loads(sys.argv[1]))))"


def measure_costs(configs: list[tuple[str, str, int]], *, n_classes: int = 2, rounds: int = 20) -> pd.DataFrame:
    """Parameters, multiply-adds, file size, latency and memory of models as they predict; weights are random.

    Parameters
    ----------
    configs : list of (backbone, head, image_size)
        A timm model, or one of `HANDCRAFTED`, or several timm models joined as `mpox.stats.selection.ensemble` joins
        them, one run after the other. ``image_size`` in pixels; 0 means each model's own.
    rounds : int
        Timed predictions of each batch size, after `WARM_UP` that are not.

    Returns
    -------
    DataFrame
        A row a configuration: ``backbone``, ``head``, ``image_size``, ``parameters``, ``multiply_adds`` (of an image; NaN for
        hand-crafted features), ``file_mib`` (weights as float32), ``median_ms_1``, ``p95_ms_1``, ``median_ms_16``, ``p95_ms_16``
        (milliseconds an image, by itself and in batches of 16; reading it is left out), ``peak_mib`` (memory that the model and
        one prediction add to a process; NaN where the system does not tell), ``device``. Networks are timed in channels-last
        order with batch norms folded; of hand-crafted features the extraction is timed, the rest is the classifier's.
    """
    for backbone, head, _ in configs:
        if head not in HEADS:
            raise MpoxError(f"Unknown head '{head}': choose one of {', '.join(HEADS)}.")
        for name in set(backbone.split(JOINT)) - set(HANDCRAFTED):
            default_image_size(name)
        if JOINT in backbone and set(backbone.split(JOINT)) & set(HANDCRAFTED):
            raise MpoxError(f"Hand-crafted features in {backbone} have no network to be measured with others: leave them out.")
    rows = []
    for backbone, head, image_size in tqdm(configs, desc="costs of models", delay=3, leave=False):
        asked = {"backbone": backbone, "head": head, "image_size": image_size, "n_classes": n_classes, "rounds": rounds}
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, json.dumps(asked)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["it was stopped"])[-1]
            raise MpoxError(f"The costs of {backbone} could not be measured ({why}): leave it out.")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return pd.DataFrame(rows).astype({"multiply_adds": float, "peak_mib": float})


def latency(once: Callable[[], object], *, images: int = 1, rounds: int = 20) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds an image that a prediction of so many takes, on one thread of torch."""
    import torch

    threads, times = torch.get_num_threads(), []
    try:
        torch.set_num_threads(1)
        for number in range(WARM_UP + rounds):
            started = time.perf_counter()
            once()
            if number >= WARM_UP:
                times.append((time.perf_counter() - started) * 1e3 / images)
    finally:
        torch.set_num_threads(threads)
    return float(np.median(times)), float(np.percentile(times, 95))


def measure_one(backbone: str, head: str, image_size: int, n_classes: int, rounds: int) -> dict:
    """One row of `measure_costs`, measured in this process."""
    import torch

    from mpox.models.hardware import device_name

    torch.set_num_threads(1)
    prepare = _handcrafted if backbone in HANDCRAFTED else _networks
    counts, peak, predict = prepare(backbone, head, image_size, n_classes)
    times = {}
    for batch in BATCHES:
        times[f"median_ms_{batch}"], times[f"p95_ms_{batch}"] = latency(predict(batch), images=batch, rounds=rounds)
    return {"backbone": backbone, "head": head, **counts, **times, "peak_mib": peak, "device": device_name("cpu")}


def _networks(backbone: str, head: str, image_size: int, n_classes: int) -> tuple[dict, float, Callable]:
    """Counts, peak memory, and what makes a prediction of a batch ready to be timed."""
    import timm
    import torch

    from mpox.models.backbones import Classifier, describe_model, feature_width, fold_batch_norm, make_head

    names = backbone.split(JOINT)
    sizes = [image_size or default_image_size(name) for name in names]
    with torch.inference_mode():
        torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))  # what the library sets up once is not the model's
    before = _peak_mib()
    trunks = [timm.create_model(name, pretrained=False, num_classes=0) for name in names]
    models = [Classifier(trunk, make_head(head, feature_width(trunk), n_classes)).eval() for trunk in trunks]
    models = [model.to(memory_format=torch.channels_last) for model in models]

    def predict(batch: int) -> Callable[[], list]:
        pixels = [torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last) for size in sizes]
        return torch.inference_mode()(lambda: [model(part) for model, part in zip(models, pixels, strict=True)])

    predict(1)()
    peak = _peak_mib() - before
    for model, size in zip(models, sizes, strict=True):
        fold_batch_norm(model, torch.zeros(1, 3, size, size).to(memory_format=torch.channels_last))
    cards = [describe_model(name, head, n_classes, image_size=size) for name, size in zip(names, sizes, strict=True)]
    counts = {
        "image_size": image_size if len(set(sizes)) > 1 else sizes[0],
        "parameters": sum(card.parameters for card in cards),
        "multiply_adds": sum(card.multiply_adds for card in cards),
        "file_mib": sum(part.nbytes for model in models for part in model.state_dict().values()) / MIB,
    }
    return counts, peak, predict


def _handcrafted(backbone: str, head: str, image_size: int, n_classes: int) -> tuple[dict, float, Callable]:
    """See `_networks`."""
    from mpox.models.backbones import HIDDEN_UNITS
    from mpox.models.features import EXTRACTORS

    extract, size = EXTRACTORS[backbone], ModelConfig(backbone=backbone, image_size=image_size).image_size
    pixels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), size, size, 3), dtype=np.uint8)
    extract(pixels[0, :64, :64])  # what the library sets up once
    before = _peak_mib()
    n_features = len(extract(pixels[0]))
    peak = _peak_mib() - before
    outputs = 1 if n_classes == 2 else n_classes  # as scikit-learn's classifiers have it
    units = (n_features, outputs) if head == "linear" else (n_features, HIDDEN_UNITS, outputs)
    parameters = sum((wide + 1) * narrow for wide, narrow in pairwise(units))
    counts = {"image_size": size, "parameters": parameters, "multiply_adds": None, "file_mib": 4 * parameters / MIB}
    return counts, peak, lambda batch: lambda: [extract(image) for image in pixels[:batch]]


def _peak_mib() -> float:
    """The most memory that this process has had; `resource.getrusage` would inherit its maximum from the parent on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))
