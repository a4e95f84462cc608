"""How long a model takes for a picture on this machine."""

import time

import numpy as np
import pandas as pd
import timm
import torch

from mpox.backbones import Classifier, default_image_size, make_head
from mpox.experiment import device_name


def measure_latency(backbones: list[str], *, image_size: int = 0, rounds: int = 20) -> pd.DataFrame:
    """Time the forward pass of one picture on one thread of the CPU, warm; weights do not matter for it and are left random.

    Returns
    -------
    DataFrame
        ``backbone``, ``median_ms``, ``p95_ms`` (milliseconds), ``device``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # how threads wait for each other would be measured too
    rows = []
    for name in backbones:
        size = image_size or default_image_size(name)
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
        model = Classifier(trunk, make_head("linear", trunk.num_features, 2)).eval().to(memory_format=torch.channels_last)
        picture = torch.zeros(1, 3, size, size).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            for _ in range(5):
                model(picture)
            times = []
            for _ in range(rounds):
                started = time.perf_counter()
                model(picture)
                times.append((time.perf_counter() - started) * 1e3)
        rows.append((name, np.median(times), np.percentile(times, 95), device_name("cpu")))
    torch.set_num_threads(threads)
    return pd.DataFrame(rows, columns=["backbone", "median_ms", "p95_ms", "device"])
