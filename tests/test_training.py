"""Training: repeatable, stopped by validation, and blind to the test fold."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import draw
from PIL import Image
from tqdm import tqdm

from mpox._core import MpoxError
from mpox.data.manifest import build_manifest
from mpox.data.pixels import load_pixels, to_batch
from mpox.models.backbones import build_model
from mpox.models.batches import ImageBatches
from mpox.models.config import ModelConfig, Training
from mpox.models.hardware import torch_device
from mpox.models.training import Trainer, class_weights
from mpox.runs.cross_validation import compute_run, cross_validate, fitted_network, fold_configs
from mpox.runs.store import RunStore

SIZE = 64
PLAN = Training(epochs=2, batch_size=8, head_steps=50, patience=5)
FINE_TUNE = ModelConfig(regime="fine_tune", backbone="tf_efficientnet_lite0", image_size=SIZE, training=PLAN)
SCRATCH = replace(FINE_TUNE, regime="scratch")
QUIET = tqdm(disable=True)


@pytest.fixture(scope="module")
def pictures(tiny_folder) -> tuple[np.ndarray, np.ndarray]:
    manifest = build_manifest(tiny_folder)
    return np.array(load_pixels(manifest, SIZE)), (manifest["label"] == "Normal").to_numpy(dtype=np.int64)


ROWS = np.random.default_rng(0).permutation(24)
TRAIN, VALID, TEST = ROWS[:12], ROWS[12:18], ROWS[18:]


def fed(config: ModelConfig, pixels: np.ndarray) -> ImageBatches:
    half = (0.5,) * 3
    return ImageBatches(pixels, mean=half, std=half, recipe=config.training.augmentation, device=torch_device(config.device))


def trainer(config: ModelConfig, pictures) -> Trainer:
    pixels, y = pictures
    return Trainer(config, fed(config, pixels), y, TRAIN, VALID, n_classes=2)


def changed(config: ModelConfig, **plan) -> ModelConfig:
    return replace(config, training=replace(config.training, **plan))


def timeless(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns=["seconds", "train_seconds"])


@pytest.fixture(scope="module")
def straight(pictures) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """History and predictions of uninterrupted runs."""
    done = {}
    for config in (FINE_TUNE, SCRATCH):
        one = trainer(config, pictures)
        done[config.regime] = one.fit(), one.predict(TEST)
    return done


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(pictures, straight):
    history, expected = straight["fine_tune"]
    again = trainer(FINE_TUNE, pictures)
    pd.testing.assert_frame_equal(timeless(again.fit()), timeless(history), check_exact=True)
    assert np.array_equal(again.predict(TEST), expected)
    assert expected.shape == (6, 2) and np.allclose(expected.sum(axis=1), 1) and expected.dtype == np.float64
    other = trainer(replace(FINE_TUNE, seed=1), pictures)
    other.fit()
    assert not np.array_equal(other.predict(TEST), expected)


def test_transferred_weights_learn_spots_at_once(pictures):
    """With so few steps the rate must be low, or the first full step undoes what the head has learnt."""
    gentle = trainer(changed(FINE_TUNE, learning_rate=1e-4), pictures)
    gentle.fit()
    assert (gentle.predict(TEST).argmax(axis=1) == pictures[1][TEST]).all()


def test_the_test_fold_is_never_touched(pictures, straight):
    pixels, y = pictures
    poisoned, wrong = pixels.copy(), y.copy()
    poisoned[TEST] = np.random.default_rng(1).integers(0, 256, poisoned[TEST].shape)
    wrong[TEST] = 1 - wrong[TEST]
    one = trainer(FINE_TUNE, (poisoned, wrong))
    pd.testing.assert_frame_equal(timeless(one.fit()), timeless(straight["fine_tune"][0]), check_exact=True)
    assert not np.array_equal(one.predict(TEST), straight["fine_tune"][1])


@pytest.mark.parametrize(
    "model",
    [ModelConfig(backbone="tf_efficientnet_lite0", image_size=SIZE), changed(FINE_TUNE, epochs=1, frozen_stages=6)],
    ids=lambda model: model.regime,
)
@pytest.mark.slow
def test_a_whole_run_is_the_same_whatever_the_test_images_are(model, tiny_folder, tmp_path):
    """From the folder to the run: the images of the test fold are replaced by noise, and no choice changes."""
    store = RunStore(tmp_path / "clean")
    data = store.dataset(tiny_folder)
    split, configs = fold_configs(data, "source", model, n_folds=3)
    rows = split[split["fold"] == 0]
    test = rows.loc[rows["role"] == "test", "image_id"]
    poisoned = shutil.copytree(tiny_folder, tmp_path / "tiny")
    for number, image_id in enumerate(test):
        noise = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(poisoned / image_id)
    other = RunStore(tmp_path / "poisoned").dataset(poisoned)
    clean, noisy = (compute_run(configs[0], one, rows, tmp_path / f"run {one.hash}", QUIET) for one in (data, other))
    assert set(clean.predictions["image_id"]) == set(test)
    columns = clean.history.columns.drop(["seconds", "train_seconds"], errors="ignore")
    pd.testing.assert_frame_equal(clean.history[columns], noisy.history[columns], check_exact=True)
    assert not np.allclose(clean.predictions["p_Mpox"], noisy.predictions["p_Mpox"])


def test_early_stopping_keeps_the_best_epoch(pictures, monkeypatch):
    losses = [1.0, 0.4, 0.5, 0.7]

    def scripted(self, epoch):
        with torch.no_grad():
            self.model.head[1].bias.fill_(epoch)
        return {"epoch": epoch, "train_loss": 0.0, "validation_loss": losses[epoch], "validation_accuracy": 0.0, "seconds": 0.0}

    monkeypatch.setattr(Trainer, "_epoch", scripted)
    one = trainer(changed(FINE_TUNE, epochs=9, patience=2, head_steps=0), pictures)
    assert one.fit()["chosen"].tolist() == [False, True, False, False]
    assert one.model.head[1].bias.tolist() == [1, 1]


def parameters_after(config: ModelConfig, pictures) -> tuple[dict, dict]:
    before = build_model(config.backbone, config.head, 2, weights=config.weights, seed=config.seed).state_dict()
    one = trainer(config, pictures)
    one.fit()
    return before, one.model.state_dict()


def moved(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.slow
def test_frozen_stages_stay_as_they_were(pictures):
    """The stem is one stage, then the blocks; batch-norm statistics are ImageNet's throughout."""
    config = changed(FINE_TUNE, epochs=1, frozen_stages=3)
    asked = [p.requires_grad for p in trainer(config, pictures).model.backbone.blocks[:3].parameters()]
    assert asked[0] is False and asked[-1] is True  # no gradient is computed for what is frozen
    names = moved(*parameters_after(config, pictures))
    kept = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0.", "backbone.blocks.1.")
    assert not [name for name in names if name.startswith(kept) or "running" in name]
    for part in [f"backbone.blocks.{number}." for number in range(2, 7)] + ["backbone.conv_head", "backbone.bn2", "head."]:
        assert any(name.startswith(part) for name in names), part


def test_from_scratch_everything_moves(pictures):
    names = moved(*parameters_after(changed(SCRATCH, epochs=1), pictures))
    for part in ("backbone.conv_stem", "backbone.bn1.running_mean", "backbone.blocks.0.", "backbone.conv_head", "head."):
        assert any(name.startswith(part) for name in names), part


@pytest.mark.slow
def test_the_first_phase_trains_the_head_only(pictures):
    """With a rate of zero afterwards, all that has moved is what the first phase moved."""
    config = changed(FINE_TUNE, epochs=1, learning_rate=0.0)
    before, after = parameters_after(config, pictures)
    assert moved(before, after) == {"head.1.weight", "head.1.bias"}
    before, after = parameters_after(changed(config, head_steps=0), pictures)
    assert moved(before, after) == set()


def test_earlier_stages_learn_more_slowly(pictures):
    def rates(config):
        groups = trainer(config, pictures).optimizer.param_groups
        assert sum(len(group["params"]) for group in groups) == len(
            list(build_model("tf_efficientnet_lite0", "linear", 2).parameters())
        )
        return [group["lr"] / config.training.learning_rate for group in groups]

    expected = [1.0] + [0.3 * 0.7**depth for depth in range(9)]  # the head, then conv_head, seven blocks and the stem
    assert rates(FINE_TUNE) == pytest.approx(expected)
    assert rates(SCRATCH) == [1.0] * 10


def test_rare_classes_weigh_more(pictures):
    assert class_weights(np.array([0, 0, 0, 1]), 2).tolist() == pytest.approx([4 / 6, 2])
    assert torch.isfinite(class_weights(np.array([0, 0]), 2)).all()
    pixels, y = pictures
    rows = np.r_[np.flatnonzero(y == 0)[:8], np.flatnonzero(y == 1)[:2]]
    found = [
        Trainer(config, fed(config, pixels), y, rows, VALID, n_classes=2).loss.weight
        for config in (changed(FINE_TUNE, class_weights=use) for use in (True, False))
    ]
    assert found[0].tolist() == pytest.approx([10 / 16, 10 / 4]) and found[1] is None


@pytest.mark.slow
def test_a_mirrored_picture_is_the_same_finding(pictures, straight):
    pixels, y = pictures
    both = trainer(changed(FINE_TUNE, epochs=1), (np.concatenate([pixels, pixels[:, :, ::-1]]), np.tile(y, 2)))
    both.fit()
    assert np.allclose(both.predict(TEST), both.predict(TEST + 24), atol=1e-6)


def test_cuda_is_refused_where_there_is_none(pictures, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MpoxError, match="'cuda' was asked for, but torch finds no GPU"):
        trainer(replace(FINE_TUNE, device="cuda"), pictures)


@pytest.mark.slow
def test_a_cross_validation_that_was_interrupted_goes_on(tmp_path, tiny_folder, monkeypatch):
    """Stop in an epoch of the second fold, ask again, and get what an undisturbed store gets; the first fold is read."""
    model = changed(FINE_TUNE, frozen_stages=7, head_steps=5)
    quiet = RunStore(tmp_path / "quiet")
    data = quiet.dataset(tiny_folder)
    expected = cross_validate(quiet, data, "source", model, n_folds=2)

    broken = RunStore(tmp_path / "broken")
    epoch = Trainer._epoch
    done = []

    def interrupted(self, number):
        if len(done) == 3:
            done.append("stop")
            raise KeyboardInterrupt
        done.append(number)
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(broken, data, "source", model, n_folds=2)
    assert [path.is_dir() for path in (tmp_path / "broken/runs").glob("[!.]*")] == [True]
    found = cross_validate(broken, data, "source", model, n_folds=2)
    assert done == [0, 1, 0, "stop", 0, 1]
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    folder = next(path for path in (tmp_path / "broken/runs").iterdir() if not path.name.startswith("."))
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "environment.json", "history.csv", "model.safetensors", "predictions.csv",
    ]  # fmt: skip

    split, configs = fold_configs(data, "source", model, n_folds=2)
    network, table = fitted_network(broken, data, configs[0], split), expected[expected["run_id"] == configs[0].id]
    rows = data.manifest["image_id"].searchsorted(table["image_id"])
    batch = to_batch(load_pixels(data.manifest, SIZE)[rows], mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.inference_mode():
        views = [torch.softmax(network(view), dim=1) for view in (batch, batch.flip(3))]
    assert np.allclose((sum(views) / 2)[:, 0].numpy(), table["p_Mpox"], atol=1e-5)


def test_pixels_follow_the_rows_of_the_manifest(tiny_folder):
    manifest = build_manifest(tiny_folder)
    pixels = load_pixels(manifest, 64)
    for row in (0, 13):
        assert np.array_equal(pixels[row], np.asarray(Image.open(manifest["path"][row])))
    shuffled = manifest.sample(frac=1, random_state=0)
    assert np.array_equal(load_pixels(shuffled, 64), pixels[shuffled.index])


@pytest.mark.slow
def test_a_small_network_learns_from_nothing():
    """The small network of chapter 5's comparison; it has no ``blocks``, as the EfficientNets have."""
    rng = np.random.default_rng(5)
    y = np.tile([0, 1], 100)
    pixels = np.stack([draw(rng, spots=label == 0) for label in y])
    plan = Training(epochs=6, batch_size=8, learning_rate=3e-3)
    config = ModelConfig(regime="scratch", backbone="test_resnet", image_size=SIZE, training=plan)
    one = Trainer(config, fed(config, pixels), y, np.arange(80), np.arange(80, 120), n_classes=2)
    history = one.fit()
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2
    assert ((one.predict(np.arange(120, 200))[:, 1] > 0.5) == y[120:]).mean() > 0.9
    assert sum(parameter.numel() for parameter in one.model.parameters()) < 0.5e6
