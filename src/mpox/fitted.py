"""The network behind a run: a trained one from its checkpoint, or a linear probe fitted anew as the head of its backbone."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.pipeline import Pipeline

from mpox import probe
from mpox.backbones import Classifier, build_model
from mpox.config import ModelConfig, RunConfig
from mpox.errors import MpoxError
from mpox.experiment import load_model
from mpox.features import features
from mpox.recorded import RecordedStore
from mpox.store import Dataset, RunStore


def fitted_network(store: RunStore | RecordedStore, data: Dataset, config: RunConfig, rows: pd.DataFrame) -> Classifier | None:
    """The network that made a run's predictions.

    A linear probe is a linear layer behind a frozen backbone: it is fitted anew on its cached features (seconds, and the same
    numbers), its scaling folded into the layer, so that what can be asked of a trained network can be asked of it too. The logits
    of a probe's mirrored features are the mean of those of the picture and its mirror image.

    Parameters
    ----------
    store : RunStore or RecordedStore
    data : Dataset
    config : RunConfig
        Of the regime ``linear_probe`` with a linear head, or of one that trains a network.
    rows : DataFrame
        The run's part of the split table: ``image_id``, ``role``, ``inner_fold``.

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
    y = pd.Categorical(data.manifest["label"], categories=data.classes).codes.astype(np.int64)
    split = rows.set_index("image_id").reindex(data.manifest["image_id"])
    train = np.flatnonzero(split["role"] == "train")
    inner = split["inner_fold"].fillna(-1).to_numpy(dtype=np.int64)[train]
    fitted, _ = probe.fit(
        features(data.manifest, model)[train], y[train], inner, n_classes=len(data.classes), head="linear", seed=model.seed
    )
    return network_of_probe(fitted, model.backbone, weights=model.weights, n_classes=len(data.classes), seed=model.seed)


def refuse_without_network(model: ModelConfig) -> None:
    """Raise an `MpoxError` if there is no network behind a run of that model, and nothing that can be written as one."""
    if model.training is None and (model.regime != "linear_probe" or model.head != "linear" or model.weights == "none"):
        raise MpoxError(f"A run of {model.regime} with {model.backbone} ({model.head} head) is no network: name another run.")


def network_of_probe(fitted: Pipeline, backbone: str, *, weights: str, n_classes: int, seed: int = 0) -> Classifier:
    """A fitted linear probe (`mpox.probe.fit`) as backbone and linear head with the same probabilities."""
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
