"""The device that models run on, and how a run remembers it."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mpox._core import MpoxError

if TYPE_CHECKING:
    import torch


def device_name(device: str, *, threads: int | None = None) -> str:
    """The device as a reader knows it, for instance ``cpu (AMD EPYC 7B13, 2 threads)``; torch's threads unless told otherwise."""
    import torch

    if device == "cuda" and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name(0)})"
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"cpu ({model}, {threads or torch.get_num_threads()} threads)"


def environment(device: str, seconds: float) -> dict:
    """Versions, device and duration, as they are stored with a run."""
    packages = ("mpox", "torch", "timm", "scikit-learn", "numpy")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "device": device_name(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "seconds": round(seconds, 3),
    }


def torch_device(name: str) -> "torch.device":
    """The device of that name; on a GPU convolutions are repeatable, and in full single precision where that is asked for.

    Where CUDA is asked for and not there, nothing falls back to the CPU.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise MpoxError("'cuda' was asked for, but torch finds no GPU here: use 'cpu' (--device, DEVICE or --profile).")
    if name == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa are not float32: features would differ by 0.1 %
    return torch.device(name)
