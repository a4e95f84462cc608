"""What a network is fed: augmented on its device, or cached activations; and batch norm folded into the convolution before it."""

import numpy as np
import pytest
import torch
from torch import nn

from mpox._core import MpoxError, cache_dir
from mpox.data.manifest import build_manifest
from mpox.data.pixels import load_pixels
from mpox.models import batches as batches_module
from mpox.models.backbones import build_backbone, fold_batch_norm, split_backbone
from mpox.models.batches import ActivationBatches, Changes, ImageBatches, activations, change, draw
from mpox.models.config import AUGMENTATIONS, ModelConfig, Training
from mpox.models.training import Trainer
from mpox.runs.cross_validation import cross_validate, fitted_network, fold_configs
from mpox.runs.store import RunStore

SIZE = 64
HALF = (0.5,) * 3
ROWS = np.arange(6)
TAIL = ModelConfig(
    regime="tail_tune",
    backbone="tf_efficientnet_lite0",
    image_size=SIZE,
    training={"epochs": 1, "batch_size": 8, "views": 3, "frozen_stages": 5},
)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)


def floats(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_follows_the_seed_and_keeps_shape_and_range(name, noise):
    first, again, other = (change(floats(noise), draw(name, 6, np.random.default_rng(seed))) for seed in (0, 0, 1))
    assert first.shape == (6, 3, SIZE, SIZE) and first.min() >= 0 and first.max() <= 255
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "none")
    assert torch.equal(first, floats(noise)) == (name == "none")
    with pytest.raises(MpoxError, match="Unknown augmentation 'wild': choose one of none, light, medium"):
        draw("wild", 1, np.random.default_rng(0))


def test_places_do_what_they_say():
    """A bright square in the upper left: mirrored it lies in the upper right, and a crop of that quarter is all bright."""
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., :32, :32] = 255
    mirrored = change(picture, Changes(torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]]), None))
    assert mirrored[0, 0, 5, 60] == 255 and mirrored[0, 0, 5, 5] == 0
    quarter = change(picture, Changes(torch.tensor([[[0.4, 0, -0.5], [0, 0.4, -0.5]]]), None))
    assert quarter.min() > 254.9


def test_light_shows_what_it_promises():
    """Sides from the square root of 0.7 x 0.8 upwards, never beyond the edge, half of the images mirrored, nothing turned."""
    places = draw("light", 4000, np.random.default_rng(0)).places.numpy()
    width, height = np.abs(places[:, 0, 0]), places[:, 1, 1]
    assert (places[:, [0, 1], [1, 0]] == 0).all()
    assert np.sqrt(0.56) - 1e-6 < width.min() < 0.78 and width.max() <= 1 and (width * height).min() > 0.66
    assert (np.abs(places[:, 0, 2]) <= 1 - width + 1e-6).all() and (np.abs(places[:, 1, 2]) <= 1 - height + 1e-6).all()
    assert 0.46 < (places[:, 0, 0] < 0).mean() < 0.54
    turned = draw("medium", 4000, np.random.default_rng(0)).places.numpy()
    angle = np.rad2deg(np.arctan2(turned[:, 1, 0] * np.sign(turned[:, 0, 0]), np.abs(turned[:, 0, 0])))
    assert 15 < np.abs(angle).max() < 26  # 20 degrees, a little more or less where the crop is not square


def test_colours_change_brightness_contrast_and_saturation(noise):
    picture = floats(noise[:1])
    one = lambda *factors: change(picture, Changes(None, torch.tensor([factors])))  # noqa: E731
    assert torch.allclose(one(1.0, 1.0, 1.0), picture, atol=1e-3)
    assert torch.allclose(one(0.5, 1.0, 1.0), picture / 2)
    assert one(1.0, 0.0, 1.0).std() < 1e-3
    grey = one(1.0, 1.0, 0.0)
    assert torch.allclose(grey[:, 0], grey[:, 1], atol=1e-3) and grey.std() > 10


def test_batches_are_normalised_and_cut_from_one_epoch(noise):
    batches = ImageBatches(noise, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), recipe="light")
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    expected = (floats(noise[[2]]) / 255 - mean) / std
    assert torch.allclose(batches.plain(np.array([2])), expected, atol=1e-5)
    assert torch.allclose(batches.plain(np.array([2]), mirrored=True), expected.flip(3), atol=1e-5)
    rows = np.array([4, 0, 3, 1])
    whole, parts = (batches.epoch(rows, np.random.default_rng(3)) for _ in range(2))
    assert torch.allclose(whole(0, 4), torch.cat([parts(0, 3), parts(3, 4)]), atol=1e-6)
    assert whole(0, 2).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet10t"])
def test_folded_batch_norm_gives_the_same_outputs_and_gradients(name):
    plain, folded = (build_backbone(name, weights="random", seed=0) for _ in range(2))
    for model in (plain, folded):
        generator = torch.Generator().manual_seed(1)
        for module in model.modules():  # statistics that are not 0 and 1
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    n_norms = sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert fold_batch_norm(folded, x[:1]) == n_norms > 5
    outputs = [model.eval()(x) for model in (plain, folded)]
    assert torch.allclose(*outputs, rtol=1e-3, atol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    gradients = [dict(model.named_parameters()) for model in (plain, folded)]
    for key, parameter in gradients[0].items():
        scale = parameter.grad.abs().max()
        assert torch.allclose(parameter.grad, gradients[1][key].grad, rtol=0, atol=float(scale) * 2e-3 + 1e-6), key
    assert folded.state_dict().keys() == plain.state_dict().keys()
    for model in (plain, folded):  # in training mode nothing is folded
        torch.manual_seed(0)
        model.train()(x)
    statistics = [[value for name, value in model.state_dict().items() if "running" in name] for model in (plain, folded)]
    assert all(torch.allclose(one, other) for one, other in zip(*statistics, strict=True))


def test_a_convolution_with_two_readers_is_left_alone():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            made = self.conv(x)
            return self.norm(made) + self.other(made)

    fork, x = Fork().eval(), torch.randn(1, 3, 4, 4)
    before = fork(x)
    assert fold_batch_norm(fork, x) == 0 and torch.equal(fork(x), before)


def test_a_backbone_is_cut_where_it_was_asked():
    backbone, x = build_backbone("tf_efficientnet_lite0").eval(), torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        for stages in (1, 5, 8):
            trunk, tail = split_backbone(backbone, stages, x[:1])
            assert torch.allclose(tail(trunk(x)), backbone(x), rtol=1e-4, atol=1e-5)
            assert len(trunk) == stages
    with pytest.raises(MpoxError, match="frozen_stages must be from 1 to 8 .* not 9"):
        split_backbone(backbone, 9, x[:1])
    with pytest.raises(MpoxError, match="only timm's EfficientNets"):
        split_backbone(build_backbone("resnet10t", weights="random").eval(), 2, x[:1])


def test_activations_are_those_of_the_views_and_are_computed_once(tiny_folder, monkeypatch):
    manifest = build_manifest(tiny_folder)
    found = activations(manifest, TAIL)
    assert found.dtype == np.float16 and found.shape[:2] == (len(manifest), 2 + 3)
    images = ImageBatches(load_pixels(manifest, SIZE), mean=HALF, std=HALF)
    backbone = build_backbone("tf_efficientnet_lite0").eval()
    trunk, tail = split_backbone(backbone, 5, images.plain(np.arange(1)))
    rows, batches = np.array([3, 7]), ActivationBatches(found)
    with torch.inference_mode():
        for mirrored in (False, True):
            expected = trunk(images.plain(rows, mirrored=mirrored))
            assert torch.allclose(batches.plain(rows, mirrored=mirrored), expected, rtol=5e-3, atol=5e-3)
    assert all(not np.array_equal(found[3, a], found[3, b]) for a in range(5) for b in range(a))

    monkeypatch.setattr(batches_module, "_write", lambda *_: pytest.fail("computed again"))
    for other in (TAIL.with_(seed=5), TAIL.with_(head="hidden")):  # neither the seed nor the head is part of it
        assert np.array_equal(activations(manifest, other), found)
    with pytest.raises(pytest.fail.Exception):
        activations(manifest, TAIL.with_(training={"views": 2, "frozen_stages": 5}))
    assert not list((cache_dir() / "activations").glob(".*.tmp"))


def test_the_views_of_an_image_depend_neither_on_its_neighbours_nor_on_the_order_of_rows(tiny_folder):
    manifest = build_manifest(tiny_folder)
    found = activations(manifest, TAIL)
    few = manifest.iloc[4:9].reset_index(drop=True)
    assert np.allclose(activations(few, TAIL), found[4:9], rtol=1e-2, atol=1e-2)
    shuffled = manifest.sample(frac=1, random_state=0)
    assert np.array_equal(activations(shuffled.reset_index(drop=True), TAIL), found[shuffled.index])


def test_an_epoch_of_activations_shows_views_at_random():
    views = np.arange(12, dtype=np.float16).reshape(3, 4, 1, 1, 1)
    batches = ActivationBatches(views)
    rows = np.repeat([0, 1, 2], 200)
    shown = batches.epoch(rows, np.random.default_rng(0))(0, 600).flatten().numpy()
    assert (shown // 4 == rows).all() and (np.bincount(shown.astype(int) % 4) > 100).all()
    assert batches.plain(np.array([1]), mirrored=True).item() == 5


@pytest.mark.slow
def test_tail_tune_trains_the_tail_only_and_is_repeatable(tiny_folder, tmp_path):
    stores = [RunStore(tmp_path / name) for name in "ab"]
    data = stores[0].dataset(tiny_folder)
    tables = [cross_validate(store, data, "source", TAIL, n_folds=2) for store in stores]
    assert tables[0].equals(tables[1])
    config = fold_configs(data, "source", TAIL, n_folds=2)[1][0]
    network, before = fitted_network(stores[0], data, config, None), build_backbone("tf_efficientnet_lite0").state_dict()
    moved = {name for name, value in network.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith(("blocks.4", "blocks.5", "blocks.6", "conv_head", "bn2")) for name in moved)
    assert not [name for name in moved if "running" in name]
    tested = tables[0][tables[0]["fold"] == 0]
    pixels = load_pixels(data.manifest, SIZE)[data.manifest["image_id"].searchsorted(tested["image_id"])]
    images = ImageBatches(pixels, mean=HALF, std=HALF)
    with torch.inference_mode():
        views = [network(images.plain(np.arange(len(tested)), mirrored=mirrored)).softmax(1) for mirrored in (False, True)]
    assert np.allclose((sum(views) / 2)[:, 0].numpy(), tested["p_Mpox"], atol=0.01)  # half precision in between


def test_places_are_drawn_in_full_precision(noise, monkeypatch):
    """Mixed precision is for the network: the images that it sees are the same."""
    seen = []
    changed = ImageBatches.changed

    def watch(self, rows, changes):
        seen.append(torch.is_autocast_enabled("cpu"))
        return changed(self, rows, changes)

    monkeypatch.setattr(ImageBatches, "changed", watch)
    plan = Training(epochs=1, batch_size=4, head_steps=0, precision="bfloat16")
    config = ModelConfig(regime="fine_tune", backbone="tf_efficientnet_lite0", image_size=SIZE, training=plan)
    trainer = Trainer(
        config, ImageBatches(noise, mean=HALF, std=HALF, recipe="light"), np.tile([0, 1], 3), ROWS[:4], ROWS[4:], n_classes=2
    )
    assert np.isfinite(trainer.fit()["validation_loss"]).all() and np.isfinite(trainer.predict(ROWS)).all()
    assert set(seen) == {False}
