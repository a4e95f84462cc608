"""A probe as a network gives the probabilities of its run."""

import numpy as np
import pytest
import torch

from mpox import ModelConfig, MpoxError, cross_validate, open_store
from mpox.data.pixels import load_pixels, to_batch
from mpox.models.backbones import normalisation
from mpox.models.heads import fit
from mpox.runs.cross_validation import fitted_network, fold_configs, network_of_probe


def test_a_probe_as_a_network_predicts_what_its_run_predicted(tiny_folder):
    store = open_store()
    data = store.dataset(str(tiny_folder))
    model = ModelConfig(image_size=64, mirror=False)
    predictions = cross_validate(store, data, "source", model, n_folds=3)
    split, configs = fold_configs(data, "source", model, n_folds=3)
    network = fitted_network(store, data, configs[1], split[split["fold"] == 1])
    rows = predictions[predictions["fold"] == 1]
    where = data.manifest["image_id"].searchsorted(rows["image_id"])
    mean, std = normalisation(model.backbone)
    with torch.inference_mode():
        found = network(to_batch(load_pixels(data.manifest, 64)[where], mean=mean, std=std)).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, rows[["p_Mpox", "p_Normal"]], atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_scaling_is_folded_into_the_head(n_classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 90)
    x = rng.normal(3, 2, (90, 1280)) + y[:, None] * 0.2
    fitted, _ = fit(x, y, np.arange(90) % 3, n_classes=n_classes, head="linear", seed=0)
    network = network_of_probe(fitted, "tf_efficientnet_lite0", weights="random", n_classes=n_classes)
    with torch.inference_mode():
        found = network.head(torch.from_numpy(x.astype(np.float32))).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, fitted.predict_proba(x), atol=1e-4)


def test_what_is_no_network_is_refused(tiny_folder):
    store = open_store()
    data = store.dataset(str(tiny_folder))
    split, configs = fold_configs(data, "source", ModelConfig(regime="svm", image_size=64), n_folds=3)
    with pytest.raises(MpoxError, match="is no network"):
        fitted_network(store, data, configs[0], split[split["fold"] == 0])
