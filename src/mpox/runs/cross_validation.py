"""Cross-validation: one run a fold, each looked up in the store or computed; the result is one table of predictions."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write
from mpox.data.dataset import Dataset
from mpox.models import features
from mpox.models.config import FROZEN, ModelConfig, RunConfig
from mpox.models.hardware import environment
from mpox.models.weights import find_weights, weights_origin
from mpox.protocols.splits import (
    FOLD_STEP,
    get_protocol,
    has_sibling,
    make_external_split,
    make_splits,
    nested_splits,
    split_hash,
)
from mpox.runs.parallel import Task, compute_missing
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunResult, RunStore

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mpox.models.backbones import Classifier

CHECKPOINT = "model.safetensors"


def split_runs(data: Dataset, protocol: str, split: pd.DataFrame, model: ModelConfig) -> list[Task]:
    """The configuration of each run of a split table, and its rows."""
    name = (data.name, data.hash, protocol)
    return [(RunConfig(*name, identity, repeat, fold, model), rows) for identity, repeat, fold, rows in _hashed_folds(split)]


#: What was asked for in this process, to its split table, and the folds of that with their hashes.
_SPLITS: dict[tuple, tuple[pd.DataFrame, list[tuple[str, int, int, pd.DataFrame]]]] = {}


def _splits(manifest: pd.DataFrame, protocol: str, n_folds: int, n_repeats: int, seed: int) -> pd.DataFrame:
    """`make_splits`, and the hashes of its folds, once for all models of a chapter; not to be changed."""
    key = (joblib.hash(manifest), protocol, n_folds, n_repeats, seed)
    if key not in _SPLITS:
        split = make_splits(manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
        _SPLITS[key] = split, _hashed_folds(split)
    return _SPLITS[key][0]


def _hashed_folds(split: pd.DataFrame) -> list[tuple[str, int, int, pd.DataFrame]]:
    known = (folds for other, folds in _SPLITS.values() if other is split)
    parts = split.groupby(["repeat", "fold"])
    return next(known, None) or [(split_hash(rows), int(repeat), int(fold), rows) for (repeat, fold), rows in parts]


def fold_configs(
    data: Dataset, protocol: str, model: ModelConfig, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> tuple[pd.DataFrame, list[RunConfig]]:
    """The split table of a cross-validation, and the configuration of each of its runs."""
    split = _splits(data.manifest, protocol, n_folds, n_repeats, seed)
    return split, [config for config, _ in split_runs(data, protocol, split, model)]


def cross_validate(
    store: RunStore | RecordedStore,
    data: Dataset,
    protocol: str,
    model: ModelConfig,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Out-of-fold predictions of a model under a protocol.

    Runs that are in the store are read; the others are computed and kept.

    Parameters
    ----------
    store : RunStore or RecordedStore
        See `mpox.open_store`.
    data : Dataset
        From the store's ``dataset``; for the protocol ``augment_before_split`` made of it by `mpox.protocols.copies.augmented`.
    protocol : str
        See `mpox.protocols.splits.PROTOCOLS`.
    model : ModelConfig
    n_folds, n_repeats, seed : int
        See `mpox.protocols.splits.make_splits`.

    Returns
    -------
    DataFrame
        One row a test image and repeat: ``run_id``, ``dataset``, ``protocol``, ``regime``, ``backbone``, ``repeat``, ``fold``,
        ``image_id``, ``group_id`` (the honest group, whatever the protocol), ``label``, and ``p_<class>`` (0 to 1) for each
        class.
    """
    if get_protocol(protocol).augmented != ("view" in data.manifest):
        raise MpoxError(
            f"The protocol '{protocol}' does not go with these images: 'augment_before_split' takes a data set made by "
            "`mpox.protocols.copies.augmented`, every other protocol the original one."
        )
    split = _splits(data.manifest, protocol, n_folds, n_repeats, seed)
    return predict_splits(store, data, protocol, split, model)


def validate_externally(
    store: RunStore | RecordedStore, data: Dataset, train_source: str, test_source: str, model: ModelConfig, *, seed: int = 0
) -> pd.DataFrame:
    """Train once on all of one data set, predict all of another; `data` is both (`mpox.protocols.pairs.combine`).

    Photographs that both sets hold are predicted too, and marked: to leave them out of the *test* is enough. To remove them from
    the training would test a model of fewer images, and mix that loss with the one that is to be measured.

    Returns
    -------
    DataFrame
        As `cross_validate`, under the protocol ``external``, with a column ``shared`` (bool): the test image's honest group
        has an image in training. `mpox.studies.external.external_metrics` evaluates it.
    """
    split = make_external_split(data.manifest, train_source, test_source, seed=seed)
    predictions = predict_splits(store, data, "external", split, model)
    siblings = has_sibling(split, data.groups).set_index("image_id")["sibling"]
    return predictions.assign(shared=predictions["image_id"].map(siblings).astype(bool))


def predict_splits(
    store: RunStore | RecordedStore,
    data: Dataset,
    protocol: str,
    split: pd.DataFrame,
    model: ModelConfig,
    *,
    compute: Callable | None = None,
) -> pd.DataFrame:
    """Predictions of the test images of a ready split table; one run a fold, read or computed.

    A run that fails does not stop the others; it is raised when they are kept.

    Parameters
    ----------
    store, data, model
        As in `cross_validate`.
    protocol : str
        The name under which the runs are kept.
    split : DataFrame
        See `make_splits`. Images of the data set without a row in a fold are neither trained on nor tested there. A
        column ``weight`` says how much a training image counts (linear probe only).
    compute : callable, optional
        Instead of `compute_run`, with the same arguments; of a module's top level. The protocol's name must tell its runs apart.
    """
    tasks = split_runs(data, protocol, split, model)
    local = model.weights == "imagenet" and isinstance(store, RunStore) and find_weights(model.backbone)
    origin = weights_origin(model.backbone) if local else None
    if isinstance(store, RunStore):
        for config, rows in tasks:
            store.keep_split(config.split, rows)
        label = f"{model.regime} {model.backbone}, {data.name}, {protocol}"
        compute_missing(store, data, tasks, compute or compute_run, label=label)
    tables = []
    for config, rows in tasks:
        result = store.run(config, _never)
        if sorted(result.predictions["image_id"]) != sorted(rows.loc[rows["role"] == "test", "image_id"]):
            raise MpoxError(f"The run {config.id} in {store.root} lacks predictions of its test fold: remove it and run again.")
        if origin and result.environment.get("weights") != origin:
            raise MpoxError(
                f"The stored run {config.id} began with other weights ({result.environment.get('weights')}) than those found "
                f"now ({origin}): use another RUN_STORE, or the old MPOX_WEIGHTS."
            )
        known = {"run_id": config.id, "repeat": config.repeat, "fold": config.fold}
        tables.append(result.predictions.assign(**known))
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(dataset=data.name, protocol=protocol, regime=model.regime, backbone=model.backbone)
    table["group_id"] = table["image_id"].map(data.groups)
    first = ["run_id", "dataset", "protocol", "regime", "backbone", "repeat", "fold", "image_id", "group_id", "label"]
    return table[first + [f"p_{label}" for label in data.classes]]


def _never(folder: Path):
    raise AssertionError("compute_missing has seen to it that the run is there")


def compute_run(
    config: RunConfig, data: Dataset, split: pd.DataFrame, folder: Path, bar: tqdm, *, adapt: Callable | None = None
) -> RunResult:
    """Fit one model on the training part of one fold and predict its test part.

    The inner folds of the training part make every choice; inner fold 0 says when the training of a network stops.
    ``adapt(x, train, test)`` may change the frozen features, shape (n, d), given the rows of both parts; it does not see labels.
    """
    started = time.perf_counter()
    model, manifest = config.model, data.manifest
    y, train, test, inner = fold_parts(data, split)
    if ("weight" in split and (model.regime, model.head) != ("linear_probe", "linear")) or (adapt and model.regime not in FROZEN):
        raise MpoxError(f"{config.protocol} works on the features of a linear probe, not with {model.regime}, {model.head} head.")
    if model.regime in FROZEN:
        from mpox.models import heads

        x = features.features(manifest, model)
        x = adapt(x, train, test) if adapt else x
        options: dict[str, Any] = {"head": model.head, "seed": model.seed} if model.regime == "linear_probe" else {}
        if "weight" in split:
            weight = split.set_index("image_id")["weight"].reindex(manifest["image_id"])
            options["weight"] = weight.to_numpy(dtype=float)[train]
        predict = heads.PREDICT[model.regime]
        probabilities, history = predict(x[train], y[train], inner[train], x[test], n_classes=len(data.classes), **options)
    else:
        from safetensors.torch import save

        from mpox.models.training import Trainer, load_batches

        fitting, validating = train[inner[train] != 0], train[inner[train] == 0]
        trainer = Trainer(model, load_batches(manifest, model), y, fitting, validating, n_classes=len(data.classes))
        history = trainer.fit(report=bar.set_postfix_str)
        probabilities = trainer.predict(test)
        state = {name: value.cpu().contiguous() for name, value in trainer.model.state_dict().items()}
        atomic_write(folder / CHECKPOINT, save(state))
    predictions = manifest.iloc[test][["image_id", "label"]].reset_index(drop=True)
    predictions[[f"p_{label}" for label in data.classes]] = probabilities
    about = environment(model.device, time.perf_counter() - started)
    about["weights"] = weights_origin(model.backbone) if model.weights == "imagenet" else model.weights
    return RunResult(config, predictions, history, about)


def fold_parts(data: Dataset, split: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Class numbers of all images, the rows of the training and of the test part, and the inner fold of each image or -1."""
    y = pd.Categorical(data.manifest["label"], categories=data.classes).codes.astype(np.int64)
    split = split.set_index("image_id").reindex(data.manifest["image_id"])
    inner = split["inner_fold"].fillna(-1).to_numpy(dtype=np.int64)
    return y, np.flatnonzero(split["role"] == "train"), np.flatnonzero(split["role"] == "test"), inner


def fitted_network(store: RunStore | RecordedStore, data: Dataset, config: RunConfig, rows: pd.DataFrame) -> "Classifier | None":
    """The network that made a run's predictions, on the CPU, in evaluation mode.

    ``None`` where a trained network was not kept (the recorded study), or the images for a probe's features are not on this
    machine. An `MpoxError` if the regime has no network (see `refuse_without_network`).

    A linear probe is a linear layer behind a frozen backbone: it is fitted anew on its cached features (seconds, and the same
    numbers), its scaling folded into the layer. Logits of mirrored features are the mean of those of the image and its mirror.
    """
    model = config.model
    if model.training is not None:
        path = store.root / "runs" / config.id / CHECKPOINT
        if not path.is_file():
            return None
        from safetensors.torch import load_file

        from mpox.models.backbones import build_model

        network = build_model(model.backbone, model.head, len(data.classes), weights="random")
        network.load_state_dict(load_file(path))
        return network.eval()
    refuse_without_network(model)
    if not data.has_pictures:
        return None
    from mpox.models import heads

    y, train, _, inner = fold_parts(data, rows)
    x = features.features(data.manifest, model)[train]
    fitted, _ = heads.fit(x, y[train], inner[train], n_classes=len(data.classes), head="linear", seed=model.seed)
    return network_of_probe(fitted, model.backbone, weights=model.weights, n_classes=len(data.classes), seed=model.seed)


def refuse_without_network(model: ModelConfig) -> None:
    """Raise an `MpoxError` if there is no network behind a run of that model, and nothing that can be written as one."""
    other = model.regime != "linear_probe" or model.head != "linear" or model.weights == "none" or model.stages
    if model.training is None and other:
        raise MpoxError(f"A run of {model.regime} with {model.backbone} ({model.head} head) is no network: name another run.")


def network_of_probe(fitted: "Pipeline", backbone: str, *, weights: str, n_classes: int, seed: int = 0) -> "Classifier":
    """A fitted linear probe (`mpox.models.heads.fit`) as backbone and linear head with the same probabilities."""
    import torch

    from mpox.models.backbones import build_model

    scaler, classifier = fitted[0], fitted[-1]
    weight = np.full((n_classes, scaler.n_features_in_), 0.0)
    bias = np.full(n_classes, -20.0)  # a class that was not in training: probability 2e-9
    slopes, intercepts = classifier.coef_, classifier.intercept_
    if len(classifier.classes_) == 2:  # one logit; the other class's is 0
        slopes, intercepts = np.vstack([np.zeros_like(slopes), slopes]), np.concatenate([[0.0], intercepts])
    weight[classifier.classes_] = slopes / scaler.scale_
    bias[classifier.classes_] = intercepts - weight[classifier.classes_] @ scaler.mean_
    network = build_model(backbone, "linear", n_classes, weights=weights, seed=seed)
    with torch.no_grad():
        head: Any = network.head
        head[-1].weight.copy_(torch.from_numpy(weight))
        head[-1].bias.copy_(torch.from_numpy(bias))
    return network.eval()


def predict_nested(store: RunStore | RecordedStore, data: Dataset, split: pd.DataFrame, model: ModelConfig) -> pd.DataFrame:
    """Predictions of the training images of each fold, by models trained without their groups and without the test fold.

    Calibration, thresholds and conformal scores are fitted on these, never on a test fold. The models behind them see three
    quarters of the training part and are a little weaker than the one that is tested, as in Platt (1999, section 2.2).

    Returns
    -------
    DataFrame
        As `cross_validate`, under the protocol ``nested``, with ``fold`` the *outer* fold of `split` and ``inner_fold`` what was
        held out: one row a repeat, outer fold and training image.
    """
    table = predict_splits(store, data, "nested", nested_splits(split), model)
    return table.assign(inner_fold=table["fold"] % FOLD_STEP, fold=table["fold"] // FOLD_STEP)
