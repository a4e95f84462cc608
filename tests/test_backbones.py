"""Models: what they cost, computed; where they start, decided by name and seed."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from mpox._core import MpoxError
from mpox.models.backbones import build_backbone, build_model, describe_model, make_head
from mpox.models.config import ModelConfig, default_image_size, normalisation
from mpox.models.features import network_features
from mpox.runs.cross_validation import refuse_without_network

LITE0, LITE1, B0 = "tf_efficientnet_lite0", "tf_efficientnet_lite1", "efficientnet_b0"


@pytest.mark.parametrize(
    ("backbone", "head", "n_classes", "millions"),
    [(LITE1, "linear", 2, 4.138), (LITE1, "linear", 4, 4.141), (LITE1, "linear", 6, 4.143),
     (B0, "hidden", 2, 4.136), (B0, "linear", 2, 4.010)],
)  # fmt: skip
def test_the_published_size_and_its_rival_reading(backbone, head, n_classes, millions):
    card = describe_model(backbone, head, n_classes)
    assert round(card.parameters / 1e6, 3) == millions and card.image_size == default_image_size(backbone)


def test_multiply_adds():
    """Lite0 has 407 M (its authors' figure); a head adds one for each weight; a convolution grows with the area."""
    assert describe_model(LITE0, "linear", 1000).multiply_adds == pytest.approx(407e6, rel=0.06)
    linear, hidden = (describe_model(LITE0, head, 2).multiply_adds for head in ("linear", "hidden"))
    assert hidden - linear == 1280 * 100 + 100 * 2 - 1280 * 2
    small, large = (describe_model(LITE0, "linear", 2, image_size=size).multiply_adds - 1280 * 2 for size in (64, 128))
    assert large == 4 * small


def test_multiply_adds_of_a_convolution_counted_by_hand(monkeypatch):
    class Tiny(nn.Module):
        num_features = 5

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)

        def forward(self, images):
            return self.conv(images).mean((2, 3))

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Tiny())
    card = describe_model(LITE0, "linear", 2, image_size=8)
    assert card.multiply_adds == 4 * 4 * 5 * 3 * 3 * 3 + 5 * 2
    assert card.parameters == 5 * 3 * 3 * 3 + 5 + 5 * 2 + 2


def test_where_a_model_starts_is_decided_by_name_and_seed():
    def stem(**options):
        return build_backbone(LITE0, **options).conv_stem.weight

    state = torch.random.get_rng_state()
    assert torch.equal(stem(weights="random", seed=1), stem(weights="random", seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's randomness is used up
    assert not torch.equal(stem(weights="random", seed=1), stem(weights="random", seed=2))
    assert torch.equal(stem(seed=1), stem(seed=2))
    first, again, other = (build_model(LITE0, "linear", 2, seed=seed).head[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_unknown_names_are_refused():
    with pytest.raises(MpoxError, match="Unknown head 'deep': choose one of linear, hidden"):
        make_head("deep", 10, 2)
    with pytest.raises(MpoxError, match="Unknown weights 'jft': choose 'imagenet' or 'random'"):
        build_backbone(LITE0, weights="jft")
    for ask in (build_backbone, default_image_size, normalisation, lambda name: describe_model(name, "linear", 2, image_size=64)):
        with pytest.raises(MpoxError, match="timm has no model 'vgg99'"):
            ask("vgg99")


@pytest.mark.parametrize("name", [LITE0, "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_a_head_fits_networks_of_other_families(name):
    """MobileNetV3 has a hidden layer before the classifier; its features are what comes out of it."""
    size = 224 if "vit" in name else 64
    model = build_model(name, "hidden", 3, weights="random").eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)
    card = describe_model(name, "hidden", 3, image_size=size)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_stage_means_stand_behind_the_pooled_features():
    """Those of the last feature maps of falling size, of a picture and its mirror image, as hooks read them from the blocks."""
    network, read = build_backbone(LITE0, weights="random").eval(), []
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    plain, staged = (network_features(network, LITE0, pixels, mirror=True, device="cpu", stages=stages) for stages in (0, 3))
    for number in (2, 4, 6):
        network.blocks[number].register_forward_hook(lambda module, inputs, output: read.append(output.mean((2, 3)).numpy()))
    network_features(network, LITE0, pixels, mirror=True, device="cpu")
    means = (np.hstack(read[:3]) + np.hstack(read[3:])) / 2
    np.testing.assert_allclose(staged, np.hstack([plain, means]), rtol=1e-4, atol=1e-6)


def test_stage_means_are_of_frozen_networks_and_no_network_by_themselves():
    for wrong in ({"regime": "fine_tune"}, {"backbone": "lbp"}):
        with pytest.raises(MpoxError, match="feature maps of a frozen network"):
            ModelConfig(**wrong, stages=2)
    refuse_without_network(ModelConfig())
    with pytest.raises(MpoxError, match="is no network"):
        refuse_without_network(ModelConfig(stages=2))
