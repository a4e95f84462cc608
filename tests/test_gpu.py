"""On a machine with a GPU: the same bits twice, interruptions that leave no trace, the CPU's features up to rounding."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mpox.data.manifest import build_manifest
from mpox.data.pixels import load_pixels, to_batch
from mpox.models.backbones import build_model
from mpox.models.batches import ImageBatches
from mpox.models.config import ModelConfig, Training, normalisation
from mpox.models.features import network_features
from mpox.models.hardware import torch_device
from mpox.models.training import Trainer
from mpox.runs.cross_validation import cross_validate, fitted_network, fold_configs
from mpox.runs.store import RunStore

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

BACKBONE, SIZE = "tf_efficientnet_lite1", 64
PLAN = Training(epochs=3, batch_size=8, head_steps=50, patience=5, learning_rate=3e-4)
FINE_TUNE = ModelConfig(regime="fine_tune", backbone=BACKBONE, image_size=SIZE, device="cuda", training=PLAN)
SCRATCH = replace(FINE_TUNE, regime="scratch")
HALF = replace(FINE_TUNE, training=replace(PLAN, precision="bfloat16"))
TAIL = ModelConfig(
    regime="tail_tune", backbone=BACKBONE, image_size=SIZE, device="cuda", training=replace(PLAN, frozen_stages=6, views=2)
)
ROWS = np.random.default_rng(0).permutation(24)
TRAIN, VALID, TEST = ROWS[:12], ROWS[12:18], ROWS[18:]


@pytest.fixture(scope="module")
def pictures(tiny_folder) -> tuple[np.ndarray, np.ndarray]:
    manifest = build_manifest(tiny_folder)
    return np.array(load_pixels(manifest, SIZE)), (manifest["label"] == "Normal").to_numpy(dtype=np.int64)


def trainer(config: ModelConfig, pictures) -> Trainer:
    pixels, y = pictures
    half = (0.5,) * 3
    fed = ImageBatches(pixels, mean=half, std=half, recipe=config.plan.augmentation, device=torch_device(config.device))
    return Trainer(config, fed, y, TRAIN, VALID, n_classes=2)


def timeless(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns=["seconds", "train_seconds"])


@pytest.mark.parametrize("config", [FINE_TUNE, HALF, SCRATCH], ids=["fine_tune", "bfloat16", "scratch"])
def test_the_same_run_gives_the_same_bits(config, pictures):
    straight = trainer(config, pictures)
    history, expected = straight.fit(), straight.predict(TEST)
    again = trainer(config, pictures)
    pd.testing.assert_frame_equal(timeless(again.fit()), timeless(history), check_exact=True)
    assert np.array_equal(again.predict(TEST), expected)


def test_frozen_features_are_those_of_the_cpu_up_to_rounding(pictures):
    found = {
        device: network_features(build_model(BACKBONE, "linear", 2).backbone, BACKBONE, pictures[0], mirror=True, device=device)
        for device in ("cpu", "cuda")
    }
    error = np.linalg.norm(found["cuda"] - found["cpu"]) / np.linalg.norm(found["cpu"])
    assert 0 < error < 1e-4  # a TF32 convolution, torch's default on CUDA, would be off by more


def test_two_processes_share_a_gpu_and_change_nothing(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_THREADS", "1")
    found = {}
    for workers in ("1", "2"):
        monkeypatch.setenv("MPOX_WORKERS", workers)
        store = RunStore(tmp_path / workers)
        data = store.dataset(tiny_folder)
        found[workers] = [cross_validate(store, data, "source", model, n_folds=3) for model in (TAIL, HALF)]
    for one, two in zip(found["1"], found["2"], strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    run = store.get(fold_configs(data, "source", HALF, n_folds=3)[1][0])
    assert run.environment["device"].startswith("cuda (")


def test_a_network_trained_on_a_gpu_is_read_without_one(tiny_folder, tmp_path):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    predictions = cross_validate(store, data, "source", FINE_TUNE, n_folds=3)
    config = fold_configs(data, "source", FINE_TUNE, n_folds=3)[1][0]
    model = fitted_network(store, data, config, None)
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}
    rows = data.manifest[data.manifest["image_id"].isin(predictions.loc[predictions["fold"] == 0, "image_id"])]
    mean, std = normalisation(BACKBONE)
    batch = to_batch(np.array(load_pixels(rows, SIZE)), mean=mean, std=std, device=torch.device("cpu"))
    with torch.inference_mode():
        shown = torch.stack([torch.softmax(model(one).double(), 1) for one in (batch, batch.flip(3))]).mean(0).numpy()
    expected = predictions[predictions["fold"] == 0].set_index("image_id").loc[rows["image_id"], "p_Mpox"]
    assert np.abs(shown[:, data.classes.index("Mpox")] - expected.to_numpy()).max() < 0.01
