"""Models: what they cost, computed; where they start, decided by name and seed."""

import pytest
import torch

from mpox._core import MpoxError
from mpox.models.backbones import build_backbone, build_model, describe_model, make_head, normalisation
from mpox.models.config import default_image_size

LITE0 = "tf_efficientnet_lite0"


@pytest.mark.parametrize(("n_classes", "millions"), [(2, 4.138), (4, 4.141), (6, 4.143)])
def test_the_reference_model_has_the_published_size(n_classes, millions):
    card = describe_model("tf_efficientnet_lite1", "linear", n_classes)
    assert round(card.parameters / 1e6, 3) == millions
    assert round(card.parameters / 1e6, 2) == 4.14
    assert card.image_size == default_image_size("tf_efficientnet_lite1") == 240


def test_the_rival_reading_has_it_too():
    assert round(describe_model("efficientnet_b0", "hidden", 2).parameters / 1e6, 3) == 4.136
    assert round(describe_model("efficientnet_b0", "linear", 2).parameters / 1e6, 2) == 4.01


def test_a_card_counts_the_model_that_is_built():
    model = build_model(LITE0, "hidden", 3, weights="random")
    card = describe_model(LITE0, "hidden", 3)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert sum(p.numel() for p in model.head.parameters()) == 1280 * 100 + 100 + 100 * 3 + 3
    assert (card.backbone, card.head, card.n_classes, card.image_size) == (LITE0, "hidden", 3, 224)


def test_multiply_adds():
    """Lite0 has 407 M (its authors' figure); a head adds one for each weight; a convolution grows with the area."""
    lite0 = describe_model(LITE0, "linear", 1000)
    assert lite0.multiply_adds == pytest.approx(407e6, rel=0.06)
    assert describe_model(LITE0, "linear", 6).multiply_adds - describe_model(LITE0, "linear", 2).multiply_adds == 4 * 1280
    hidden = describe_model(LITE0, "hidden", 2).multiply_adds - describe_model(LITE0, "linear", 2).multiply_adds
    assert hidden == 1280 * 100 + 100 * 2 - 1280 * 2
    head = 1280 * 2
    small, large = (describe_model(LITE0, "linear", 2, image_size=size).multiply_adds - head for size in (64, 128))
    assert large == 4 * small


def test_multiply_adds_of_a_convolution_counted_by_hand(monkeypatch):
    import timm
    from torch import nn

    class Tiny(nn.Module):
        num_features = 5

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)

        def forward(self, pictures):
            return self.conv(pictures).mean((2, 3))

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Tiny())
    card = describe_model(LITE0, "linear", 2, image_size=8)
    assert card.multiply_adds == 4 * 4 * 5 * 3 * 3 * 3 + 5 * 2
    assert card.parameters == 5 * 3 * 3 * 3 + 5 + 5 * 2 + 2


def test_features_and_logits_have_the_right_shape():
    model = build_model(LITE0, "linear", 4, weights="random").eval()
    pictures = torch.zeros(2, 3, 64, 64)
    assert model.backbone(pictures).shape == (2, 1280)
    assert model(pictures).shape == (2, 4)


def test_where_a_model_starts_is_decided_by_name_and_seed():
    def stem(**options):
        return build_backbone(LITE0, **options).conv_stem.weight

    state = torch.random.get_rng_state()
    assert torch.equal(stem(weights="random", seed=1), stem(weights="random", seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's randomness is used up
    assert not torch.equal(stem(weights="random", seed=1), stem(weights="random", seed=2))
    assert torch.equal(stem(seed=1), stem(seed=2))
    assert not torch.equal(stem(weights="random"), stem())
    first, again, other = (build_model(LITE0, "linear", 2, seed=seed).head[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_unknown_names_are_refused():
    with pytest.raises(MpoxError, match="Unknown head 'deep': choose one of linear, hidden"):
        make_head("deep", 10, 2)
    with pytest.raises(MpoxError, match="Unknown weights 'jft': choose 'imagenet' or 'random'"):
        build_backbone(LITE0, weights="jft")
    for ask in (build_backbone, default_image_size, normalisation):
        with pytest.raises(MpoxError, match="timm has no model 'vgg99'"):
            ask("vgg99")


def test_unknown_backbones_are_not_described():
    with pytest.raises(MpoxError, match="timm has no model 'vgg99'"):
        describe_model("vgg99", "linear", 2, image_size=64)


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "lcnet_035", "resnet18", "densenet121", "convnext_atto", "vit_tiny_patch16_224"]
)
def test_a_head_fits_networks_of_other_families(name):
    """MobileNetV3 and LCNet have a hidden layer before the classifier; their features are what comes out of it."""
    size = 224 if "vit" in name else 64
    model = build_model(name, "linear", 3, weights="random").eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, size, size)).shape == (1, 3)
    card = describe_model(name, "linear", 3, image_size=size)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
