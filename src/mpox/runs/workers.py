"""What happens inside a worker, whatever it is: a run is computed into the shared run store, and how it went is told."""

import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from os import getpid
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, cache_dir, locked
from mpox.data.dataset import Dataset
from mpox.models.backbones import weights_origin
from mpox.models.config import ENGINES, FROZEN, ModelConfig, RunConfig
from mpox.runs.store import RunResult, RunStore

#: A run sets torch's threads and its random generator, which belong to the process: one run at a time.
_ONE_RUN = threading.Lock()


@dataclass(frozen=True)
class Task:
    """One run that is asked for.

    Parameters
    ----------
    config : RunConfig
    rows : DataFrame
        Its part of the split table (`mpox.protocols.splits.make_splits`): ``image_id``, ``role``, ``inner_fold``.
    """

    config: RunConfig
    rows: pd.DataFrame

    def run(self, store: RunStore, data: Dataset, compute: Callable, bar: tqdm) -> bool:
        """Compute the run into the store; False if somebody else has meanwhile."""
        computed = []

        def begin(folder: Path) -> RunResult:
            computed.append(True)
            return compute(self.config, data, self.rows, folder, bar)

        store.run(self.config, begin)
        return bool(computed)


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Parameters
    ----------
    status : {"read", "computed", "failed"}
    seconds : float
        Of the computation; NaN where there was none.
    worker : str
        Host and process; empty where nobody computed, or the worker was lost.
    attempts : int
        How often it was begun.
    error : Exception or None
    """

    status: str
    seconds: float = float("nan")
    worker: str = ""
    attempts: int = 1
    error: Exception | None = None


def here() -> str:
    """This process, as ``host/number``."""
    return f"{socket.gethostname()}/{getpid()}"


def versions() -> dict[str, str]:
    """What must be the same wherever runs of one study are computed."""
    engines = ", ".join(f"{regime} {number}" for regime, number in ENGINES.items())
    return {"mpox": version("mpox"), "torch": version("torch"), "engines": engines}


def facts(model: ModelConfig, *, weights: bool) -> dict[str, str]:
    """`versions`, and from which weights the model would begin here."""
    return versions() | ({"weights": weights_origin(model.backbone)} if weights else {})


def failed(error: Exception) -> Outcome:
    """The outcome of a run that raised."""
    return Outcome("failed", worker=here(), error=error)


def fill_caches(data: Dataset, model: ModelConfig) -> None:
    """Decode the pictures, or compute features or activations, that all runs of a model share; one process at a time."""
    from mpox.data.pixels import load_pixels
    from mpox.models.activations import activations
    from mpox.models.features import features

    with locked(cache_dir() / ".workers.lock"):
        if model.regime in FROZEN:
            features(data.manifest, model)
        elif model.regime == "tail_tune":
            activations(data.manifest, model)
        else:
            load_pixels(data.manifest, model.image_size)


def work(root: Path, data: Dataset, task: Task, compute: Callable) -> Outcome:
    """Compute one run in a worker process of this machine; errors are told, not raised."""
    began = time.perf_counter()
    try:
        computed = task.run(RunStore(root), data, compute, tqdm(disable=True))
    except Exception as error:
        return failed(_portable(error))
    return Outcome("computed" if computed else "read", round(time.perf_counter() - began, 3), here())


def work_on_cluster(
    root: Path, data: Dataset, task: Task, compute: Callable, threads: int, expected: dict[str, str], patience_s: float
) -> Outcome:
    """Compute one run on another machine, perhaps: `work`, after a look at what can be different there."""
    import torch

    with _ONE_RUN:
        try:
            found = facts(task.config.model, weights="weights" in expected)
            if found != expected:
                raise MpoxError(other_versions({here(): found}, expected))
            _wait_for_split(root, task, patience_s)
            torch.set_num_threads(threads)
            fill_caches(data, task.config.model)
        except Exception as error:
            return failed(_portable(_without_pictures(error, data)))
        outcome = work(root, data, task, compute)
        return replace(outcome, error=outcome.error and _without_pictures(outcome.error, data))


def other_versions(found: dict[str, dict[str, str]], expected: dict[str, str]) -> str:
    """A sentence about workers that run something else."""
    text = lambda facts: ", ".join(f"{name} {facts.get(name)}" for name in expected)  # noqa: E731
    listed = "; ".join(f"{where} has {text(facts)}" for where, facts in sorted(found.items())[:3])
    return f"{listed}; here it is {text(expected)}: install the same versions on all workers, and start them again."


def _wait_for_split(root: Path, task: Task, patience_s: float) -> None:
    """Whoever asks has written the split into the store: where it cannot be seen, this is another folder, or none."""
    path = root / "splits" / f"{task.config.split}.csv"
    deadline = time.monotonic() + patience_s
    while not path.is_file():
        if time.monotonic() > deadline:
            raise MpoxError(
                f"The worker {here()} does not see the run store {root}: put it where all machines see the same folder, and name "
                "it with RUN_STORE or MPOX_RUN_STORE."
            )
        time.sleep(0.2)


def _without_pictures(error: Exception, data: Dataset) -> Exception:
    """The error, or a better one if the pictures are not where the worker looks for them."""
    lost = next((path for path in data.manifest["path"].dropna() if not Path(path).is_file()), None)
    if lost is None or not isinstance(error, MpoxError | OSError):
        return error
    return MpoxError(
        f"The worker {here()} does not see the pictures, for instance {lost}: put the data where all machines see the same "
        f"folder, or MPOX_CACHE where the pictures are decoded already ({error})"
    )


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with the place where it was raised as a note unless it explains itself."""
    if not isinstance(error, MpoxError):
        error.add_note("In the worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return MpoxError(f"{type(error).__name__}: {error}")
    return error
