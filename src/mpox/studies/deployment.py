"""What becomes of a model outside this package: size, time and loss of its forms (torch, ONNX, ONNX in 8 bits)."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.data.pixels import load_pixels
from mpox.models.backbones import Deployable, fold_batch_norm
from mpox.models.costs import WARM_UP
from mpox.models.hardware import device_name
from mpox.runs.export import Exported, as_input, export_onnx, quantise, run_onnx, session
from mpox.runs.listing import find_run, training_data
from mpox.runs.predict import Predictor, build_predictor, outputs
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.metrics import N_BOOTSTRAP, replicates
from mpox.stats.resample import with_percentiles

#: Raised by one whenever the table of unchanged runs changes.
VERSION = 1
FORMS = ("torch", "onnx", "onnx int8")
BATCHES = (1, 16)
MB = 1e6


@dataclass(frozen=True, eq=False)
class Forms:
    """One run in three forms, and what they say to its test fold.

    Parameters
    ----------
    predictor : Predictor
    exported : Exported
    int8 : bytes
    predictions : dict of str to DataFrame
        Form to ``repeat``, ``image_id``, ``group_id``, ``label`` and ``p_<class>`` of every test image.
    """

    predictor: Predictor
    exported: Exported
    int8: bytes
    predictions: dict[str, pd.DataFrame]


def run_forms(store: RunStore | RecordedStore, run_id: str, data_dir: str | None = None, *, calibrated: bool = True) -> Forms:
    """Export a run, quantise it on its training pictures, and ask all forms about its test fold.

    Parameters
    ----------
    store : RunStore or RecordedStore
        The recorded study has no networks, and is refused.
    run_id : str
    data_dir : path, optional
    calibrated : bool
        See `mpox.runs.export.export_onnx`.

    Raises
    ------
    MpoxError
        See `mpox.runs.predict.build_predictor` and `mpox.runs.export.export_onnx`; if the pictures are not here.
    """
    predictor = build_predictor(store, run_id, data_dir)
    assert isinstance(store, RunStore), "build_predictor has refused the recorded study"
    config = find_run(store, run_id).config
    data, rows = training_data(store, config, data_dir)
    manifest = data.manifest
    role = manifest["image_id"].map(rows.set_index("image_id")["role"])
    train, test = (manifest[role == name].reset_index(drop=True) for name in ("train", "test"))
    shown = np.random.default_rng(0).permutation(len(train))  # of all classes, whichever are taken
    pixels = load_pixels(test, config.model.image_size)
    exported = export_onnx(predictor, pixels, calibrated=calibrated)
    int8 = quantise(exported, load_pixels(train, config.model.image_size)[shown])
    temperature = predictor.temperature if calibrated else 1.0
    found = {
        "torch": outputs(_with_temperature(predictor, temperature), pixels)[1],
        "onnx": run_onnx(session(exported.model), pixels),
        "onnx int8": run_onnx(session(int8), pixels),
    }
    about = test[["image_id", "label"]].assign(group_id=test["image_id"].map(data.groups), repeat=config.repeat)
    columns = [f"p_{label}" for label in predictor.classes]
    predictions = {form: about.join(pd.DataFrame(part, columns=columns)) for form, part in found.items()}
    return Forms(predictor, exported, int8, predictions)


def _with_temperature(predictor: Predictor, temperature: float) -> Deployable:
    network = copy.deepcopy(predictor.network)
    network.temperature = temperature
    return network


def losses(
    predictions: dict[str, pd.DataFrame], *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """What each form loses against the first one on the same pictures, with paired 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : dict of str to DataFrame
        Form to predictions of the same images, as `mpox.evaluate` takes them.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a form: ``form``, ``images``, ``max_abs_difference`` (of a probability), and for ``accuracy`` and ``auroc`` (of
        the positive class) the estimate, ``<metric>_low``, ``<metric>_high``, and ``<metric>_loss`` with ``<metric>_loss_low``
        and ``<metric>_loss_high``: the first form minus this one, 0 for the first.
    """
    first = next(iter(predictions.values()))
    columns = [column for column in first if column.startswith("p_")]
    found = {
        form: replicates(table, positive=positive, n_bootstrap=n_bootstrap, seed=seed) for form, table in predictions.items()
    }
    rows = []
    for form, table in predictions.items():
        apart = np.abs(table[columns].to_numpy() - first[columns].to_numpy()).max()
        row = {"form": form, "images": len(table), "max_abs_difference": float(apart)}
        for name, key in (("accuracy", ("accuracy", "all")), ("auroc", ("auroc", positive))):
            own, base = found[form][key], next(iter(found.values()))[key]
            for title, values in ((name, own), (f"{name}_loss", base - own)):
                row[title], row[f"{title}_low"], row[f"{title}_high"] = with_percentiles(values)
        rows.append(row)
    return pd.DataFrame(rows)


def latencies(forms: Forms, *, rounds: int = 20) -> pd.DataFrame:
    """Size, and time on one thread, of the three forms; they take turns, so that other programs disturb all of them alike.

    The torch form has its batch norms folded and its memory in channels-last order, as `mpox.models.costs` times it. Reading and
    scaling a picture is left out.

    Parameters
    ----------
    forms : Forms
    rounds : int
        Timed predictions of each form and batch size, after `mpox.models.costs.WARM_UP` that are not.

    Returns
    -------
    DataFrame
        One row a form: ``form``, ``size_mb`` (of the file; of torch the state as float32 in safetensors; 1 MB is 10^6 bytes),
        ``latency_ms_1`` and ``latency_p95_ms_1`` (median and 95th percentile of a picture by itself), ``latency_ms_16`` and
        ``latency_p95_ms_16`` (of a picture in batches of 16), ``device``.
    """
    size = forms.predictor.model.image_size
    state = {name: part.contiguous() for name, part in forms.predictor.network.network.state_dict().items()}
    sizes = dict(zip(FORMS, (len(save(state)), len(forms.exported.model), len(forms.int8)), strict=True))
    rows = {form: {"form": form, "size_mb": count / MB} for form, count in sizes.items()}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        device = device_name("cpu")
        ways = _ways(forms, size)
        for batch in BATCHES:
            pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
            for form, times in _timed({form: make(pixels) for form, make in ways.items()}, rounds).items():
                rows[form] |= {
                    f"latency_ms_{batch}": float(np.median(times)) / batch,
                    f"latency_p95_ms_{batch}": float(np.percentile(times, 95)) / batch,
                }
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(list(rows.values())).assign(device=device)


def _ways(forms: Forms, size: int) -> dict[str, Callable[[np.ndarray], Callable[[], object]]]:
    """Form to what makes a prediction of given pictures ready to be timed."""
    network = _with_temperature(forms.predictor, forms.predictor.temperature).eval().to(memory_format=torch.channels_last)
    fold_batch_norm(network.network, torch.zeros(1, 3, size, size).to(memory_format=torch.channels_last))

    def by_torch(pixels: np.ndarray) -> Callable[[], object]:
        batch = torch.from_numpy(as_input(pixels)).to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def once() -> object:
            return network(batch)

        return once

    def by_onnx(model: bytes) -> Callable[[np.ndarray], Callable[[], object]]:
        ready = session(model, threads=1)

        def made(pixels: np.ndarray) -> Callable[[], object]:
            batch = {ready.get_inputs()[0].name: as_input(pixels)}
            return lambda: ready.run(None, batch)

        return made

    return {"torch": by_torch, "onnx": by_onnx(forms.exported.model), "onnx int8": by_onnx(forms.int8)}


def _timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call; the ways take turns."""
    times: dict[str, list[float]] = {form: [] for form in ways}
    for number in range(WARM_UP + rounds):
        for form, once in ways.items():
            started = time.perf_counter()
            once()
            if number >= WARM_UP:
                times[form].append((time.perf_counter() - started) * 1e3)
    return times


def deployment(
    store: RunStore | RecordedStore, run_ids: list[str], *, rounds: int = 20, data_dir: str | None = None
) -> pd.DataFrame:
    """Size, latency and loss of the forms of one model, kept as a table of the store.

    Parameters
    ----------
    store : RunStore or RecordedStore
    run_ids : list of str
        Whole ids of runs of one model that test different images, as the ``run_id`` of one repeat of a cross-validation: the
        losses are over the test folds of all, size and latency are of the first.
    rounds : int
        See `latencies`.
    data_dir : path, optional

    Returns
    -------
    DataFrame
        One row a form: the columns of `latencies` and of `losses`.

    Raises
    ------
    MpoxError
        If no run is named; see `run_forms`.
    """
    if not run_ids:
        raise MpoxError("A table of the forms of a model needs a run: name one at least.")
    spec = {"runs": list(run_ids), "rounds": rounds, "version": VERSION}
    return store.table("latency-deployment", spec, lambda: _deployment(store, run_ids, rounds, data_dir))


def _deployment(store: RunStore | RecordedStore, run_ids: list[str], rounds: int, data_dir: str | None) -> pd.DataFrame:
    found, first = [], None
    for run_id in tqdm(run_ids, desc="export", unit="run", delay=3, leave=False):
        forms = run_forms(store, run_id, data_dir)
        first = first or forms
        found.append(forms.predictions)
    assert first is not None, "deployment has seen to it that a run is named"
    pooled = {form: pd.concat([part[form] for part in found], ignore_index=True) for form in FORMS}
    return latencies(first, rounds=rounds).merge(losses(pooled, positive=first.predictor.positive), on="form", validate="1:1")
