"""Cross-validation: one run a fold, each looked up in the store or computed; the result is one table of predictions."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save
from sklearn.pipeline import Pipeline
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write
from mpox.data.dataset import Dataset
from mpox.models import features, heads
from mpox.models.backbones import Classifier, build_model, find_weights, weights_origin
from mpox.models.config import FROZEN, ModelConfig, RunConfig
from mpox.models.hardware import environment
from mpox.protocols.nested import FOLD_STEP, nested_splits
from mpox.protocols.splits import get_protocol, has_sibling, make_external_split, make_splits, split_hash
from mpox.runs.parallel import Task, compute_missing
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunResult, RunStore

CHECKPOINT = "model.safetensors"


def split_runs(data: Dataset, protocol: str, split: pd.DataFrame, model: ModelConfig) -> list[Task]:
    """The configuration of each run of a split table, and its rows."""
    parts = split.groupby(["repeat", "fold"])
    name = (data.name, data.hash, protocol)
    return [(RunConfig(*name, split_hash(rows), int(repeat), int(fold), model), rows) for (repeat, fold), rows in parts]


def fold_configs(
    data: Dataset, protocol: str, model: ModelConfig, *, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> tuple[pd.DataFrame, list[RunConfig]]:
    """The split table of a cross-validation, and the configuration of each of its runs."""
    split = make_splits(data.manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
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

    Raises
    ------
    MpoxError
        If the split is not possible, or a stored run is damaged.
    """
    if get_protocol(protocol).augmented != ("view" in data.manifest):
        raise MpoxError(
            f"The protocol '{protocol}' does not go with these images: 'augment_before_split' takes a data set made by "
            "`mpox.protocols.copies.augmented`, every other protocol the original one."
        )
    split = make_splits(data.manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    return predict_splits(store, data, protocol, split, model)


def validate_externally(
    store: RunStore | RecordedStore, data: Dataset, train_source: str, test_source: str, model: ModelConfig, *, seed: int = 0
) -> pd.DataFrame:
    """Train once on all of one data set, predict all of another.

    Photographs that both sets hold are predicted too, and marked: to leave them out of the *test* is enough. To remove them from
    the training would test a model of fewer images, and mix that loss with the one that is to be measured.

    Parameters
    ----------
    store, model
        As in `cross_validate`.
    data : Dataset
        From `mpox.protocols.pairs.combine`, with both data sets.
    train_source, test_source : str
        Names of the data sets.
    seed : int
        Of the inner folds.

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

    `mpox.runs.parallel` decides where. A run that fails does not stop the others; it is raised when they are kept.

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

    Returns
    -------
    DataFrame
        See `cross_validate`.

    Raises
    ------
    MpoxError
        If runs failed, a stored run is damaged, or one began with other weights than those found now.
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

    The inner folds of the training part make every choice: the strength of a probe's penalty or of a support vector machine, the
    scale of a neighbour's distance; when training stops (inner fold 0). Images without a row in the split take no part.

    ``adapt(x, train, test)`` may change the frozen features, shape (n, d), given the rows of both parts; it does not see labels.
    """
    started = time.perf_counter()
    model, manifest = config.model, data.manifest
    y, train, test, inner = fold_parts(data, split)
    weighted = "weight" in split
    if (weighted and (model.regime, model.head) != ("linear_probe", "linear")) or (adapt and model.regime not in FROZEN):
        raise MpoxError(f"{config.protocol} works on the features of a linear probe, not with {model.regime}, {model.head} head.")
    if model.regime in FROZEN:
        x = features.features(manifest, model)
        x = adapt(x, train, test) if adapt else x
        known = (x[train], y[train], inner[train], x[test])
        if model.regime == "nearest_neighbour":
            probabilities, history = heads.predict_by_neighbour(*known, n_classes=len(data.classes))
        elif model.regime == "svm":
            probabilities, history = heads.predict_by_svm(*known, n_classes=len(data.classes))
        else:
            weights = split.set_index("image_id")["weight"].reindex(manifest["image_id"]) if weighted else None
            weight = weights.to_numpy(dtype=float)[train] if weights is not None else None
            probabilities, history = heads.predict_by_probe(
                *known, n_classes=len(data.classes), head=model.head, seed=model.seed, weight=weight
            )
    else:
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


def load_model(store: RunStore | RecordedStore, config: RunConfig, n_classes: int):
    """The trained network of a run, or ``None`` where the store keeps no checkpoint (probes, the recorded study)."""
    if not isinstance(store, RunStore) or not (store.run_folder(config) / CHECKPOINT).is_file():
        return None
    model = build_model(config.model.backbone, config.model.head, n_classes, weights="random")
    model.load_state_dict(load_file(store.run_folder(config) / CHECKPOINT))
    return model.eval()


def fitted_network(store: RunStore | RecordedStore, data: Dataset, config: RunConfig, rows: pd.DataFrame) -> Classifier | None:
    """The network that made a run's predictions.

    A linear probe is a linear layer behind a frozen backbone: it is fitted anew on its cached features (seconds, and the same
    numbers), its scaling folded into the layer. Logits of mirrored features are the mean of those of the image and its mirror.

    Parameters
    ----------
    store, data, config, rows
        A run of the regime ``linear_probe`` with a linear head or of one that trains a network, and its part of the split table.

    Returns
    -------
    Classifier or None
        On the CPU, in evaluation mode; ``None`` where a trained network was not kept, or the pictures for a probe's features are
        not on this machine.

    Raises
    ------
    MpoxError
        If the regime has no network (``svm``, ``nearest_neighbour``, hand-crafted features, a probe with a hidden head).
    """
    model = config.model
    if model.training is not None:
        return load_model(store, config, len(data.classes))
    refuse_without_network(model)
    if isinstance(store, RecordedStore) or not data.has_pictures:
        return None
    y, train, _, inner = fold_parts(data, rows)
    x = features.features(data.manifest, model)[train]
    fitted, _ = heads.fit(x, y[train], inner[train], n_classes=len(data.classes), head="linear", seed=model.seed)
    return network_of_probe(fitted, model.backbone, weights=model.weights, n_classes=len(data.classes), seed=model.seed)


def refuse_without_network(model: ModelConfig) -> None:
    """Raise an `MpoxError` if there is no network behind a run of that model, and nothing that can be written as one."""
    if model.training is None and (model.regime != "linear_probe" or model.head != "linear" or model.weights == "none"):
        raise MpoxError(f"A run of {model.regime} with {model.backbone} ({model.head} head) is no network: name another run.")


def network_of_probe(fitted: Pipeline, backbone: str, *, weights: str, n_classes: int, seed: int = 0) -> Classifier:
    """A fitted linear probe (`mpox.models.heads.fit`) as backbone and linear head with the same probabilities."""
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

    Parameters
    ----------
    store, data, model
        As in `cross_validate`.
    split : DataFrame
        The outer folds; see `nested_splits`.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate` gives it, under the protocol ``nested``, with ``fold`` the *outer* fold and ``inner_fold`` what
        was held out: one row a repeat, outer fold and training image.
    """
    table = predict_splits(store, data, "nested", nested_splits(split), model)
    return table.assign(inner_fold=table["fold"] % FOLD_STEP, fold=table["fold"] // FOLD_STEP)
