"""Heat maps and what is asked of them: built networks whose answer is known, sums done the slow way, and planted lesions."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from mpox import ModelConfig, cross_validate, open_store
from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate, read_truths
from mpox.data.pixels import to_batch
from mpox.models.backbones import Classifier, normalisation
from mpox.models.explain import METHODS, get_method, grad_cam, integrated_attributions
from mpox.studies import saliency as checks
from mpox.studies.errors import confusion_table, error_table, sibling_errors
from mpox.studies.saliency import Case, Explanations, choose_images, heat_maps, lesion_regions, mark_regions

LITE = "tf_efficientnet_lite0"


def red_network(size: int = 64) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """A network whose only evidence is redness, one logit always 0 as in a probe of two classes; and a red square."""
    convolution = nn.Conv2d(3, 1, 1, bias=False)
    convolution.weight.data = torch.tensor([1.0, -0.5, -0.5]).view(1, 3, 1, 1)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = nn.Sequential(OrderedDict(convolution=convolution, act=nn.ReLU(), global_pool=pool))
    head = nn.Linear(1, 2)
    head.weight.data, head.bias.data = torch.tensor([[0.0], [-30.0]]), torch.tensor([0.0, 2.0])
    pixels = np.full((1, size, size, 3), 90, np.uint8)
    red = np.zeros((size, size), bool)
    red[8:24, 40:56] = True
    pixels[0, red] = (220, 20, 20)
    return Classifier(backbone, head).eval(), pixels, red


def red_case() -> tuple[Case, np.ndarray]:
    network, pixels, red = red_network()
    return Case(network, LITE, pixels, np.array([0]), pd.DataFrame({"image_id": ["a"], "group_id": ["a"]})), red


@pytest.mark.parametrize("method", METHODS)
def test_a_method_points_at_what_a_network_was_built_to_see(method):
    """Also where the explained class's own logit is always 0: its evidence is what lowers the other one."""
    case, red = red_case()
    heat = heat_maps([case], method)["a"]
    assert heat.shape == (64, 64) and heat.dtype == np.float32 and heat.min() == 0 and heat.max() == pytest.approx(1)
    assert red[heat == heat.max()].all()
    assert heat[red].mean() > 5 * heat[~red].mean()
    against = METHODS[method](case.network, LITE, case.pixels, np.array([1]))[0]
    assert against[red].mean() < 0.1


def test_integrated_gradients_sum_to_the_difference_of_the_logits():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    network = Classifier(backbone, nn.Linear(96, 3)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    target = np.array([2, 0])
    found = integrated_attributions(network, LITE, pixels, target, n_steps=16)
    mean, std = normalisation(LITE)
    with torch.no_grad():
        both = [network(to_batch(one, mean=mean, std=std)).numpy() for one in (pixels, np.full_like(pixels, 128))]
    change = [(one - one.mean(axis=1, keepdims=True))[np.arange(2), target] for one in both]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), change[0] - change[1], rtol=1e-3, atol=1e-5)


def test_unknown_methods_and_networks_without_maps_are_refused():
    with pytest.raises(MpoxError, match="no method 'lime'"):
        get_method("lime")
    network, pixels, _ = red_network()
    network.backbone.global_pool = None
    with pytest.raises(MpoxError, match="pools maps"):
        grad_cam(network, LITE, pixels, np.array([0]))


def test_correct_pictures_are_chosen_class_by_class_and_one_a_group():
    errors = pd.DataFrame({"image_id": list("abcdefgh"), "group_id": list("aabbcdef")})
    errors = errors.assign(label=["Mpox"] * 5 + ["Normal"] * 3, wrong=[False] * 7 + [True])
    found = choose_images(errors, 4)
    assert found["label"].tolist() == ["Mpox", "Normal", "Mpox", "Normal"]
    assert found["group_id"].is_unique and not found["wrong"].any() and "h" not in set(found["image_id"])


def test_the_pointing_game_by_hand():
    case, _ = red_case()
    images = pd.DataFrame({"image_id": list("abcd"), "group_id": list("abbd")})
    case = replace(case, images=images)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 1] = 1
    corner = np.zeros((4, 4), bool)
    corner[0, :2] = True
    flat, other = np.zeros((4, 4), np.float32), np.ones((4, 4), bool)
    other[0] = False
    found = checks.pointing(
        [case],
        {"m": {"a": heat, "b": heat, "c": flat, "d": heat}},
        {"a": corner, "b": other, "c": corner, "d": np.zeros((4, 4), bool)},
    )
    assert found["image_id"].tolist() == ["a", "b", "c"], "a picture with nothing to point at takes no part"
    assert found["hit"].tolist() == [1, 0, 0.125], "a flat map hits as chance does"
    assert found["chance"].tolist() == [0.125, 0.75, 0.125] and found["centre"].tolist() == [0, 1, 0]
    summary = checks.summarise(found, ["method"], ["hit", "chance"], n_bootstrap=200).set_index("measure")
    assert summary.loc["hit", "estimate"] == pytest.approx(1.125 / 3) and summary.loc["hit", "images"] == 3
    assert summary.loc["hit", "low"] < summary.loc["hit", "estimate"] < summary.loc["hit", "high"]


def test_deletion_and_insertion_the_slow_way():
    """The area of a map against a loop over single pixels; and a map that knows beats maps that do not."""
    case, red = red_case()
    maps = {"true": {"a": red.astype(np.float32)}, "false": {"a": (~red).astype(np.float32)}}
    found = checks.deletion_insertion([case], maps, n_steps=8).set_index(["method", "kind"])["area"]
    for kind, better in (("deletion", -1), ("insertion", 1)):
        for rival in ("random", "false"):
            assert better * (found["true", kind] - found[rival, kind]) > 0.02
    mean, std = normalisation(LITE)
    flat = np.broadcast_to(case.pixels[0].mean(axis=(0, 1)).round().astype(np.uint8), (64, 64, 3))
    heights = []
    for step in range(9):
        shown = case.pixels[0].copy()
        hottest = sorted(range(64 * 64), key=lambda k: -float(red.ravel()[k]))[: step * 512]
        hottest = [k for k in hottest if red.ravel()[k]]  # the rest is the same grey, whichever is taken
        for k in hottest:
            shown[k // 64, k % 64] = flat[k // 64, k % 64]
        if step * 512 > red.sum():  # then grey is replaced by the mean colour as well: as many pixels, wherever
            others = np.flatnonzero(~red.ravel())[: step * 512 - red.sum()]
            shown.reshape(-1, 3)[others] = flat[0, 0]
        with torch.no_grad():
            heights.append(case.network(to_batch(shown[None], mean=mean, std=std)).softmax(1)[0, 0].item())
    expected = sum((a + b) / 16 for a, b in zip(heights, heights[1:], strict=False))
    assert found["true", "deletion"] == pytest.approx(expected, abs=0.002)


def test_gain_is_paired_with_the_baseline():
    table = pd.DataFrame({"image_id": list("aaabbb"), "group_id": list("aaabbb"), "kind": "deletion"})
    table = table.assign(method=["m", "random", "centre"] * 2, area=[0.2, 0.5, 0.4, 0.3, 0.4, 0.1])
    for baseline, gain in (("random", -0.2), ("centre", 0.0)):
        assert checks.gain_over(table, baseline, n_bootstrap=10)["estimate"].iloc[0] == pytest.approx(gain)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[pd.DataFrame, list[Case], pd.DataFrame]:
    """A probe on a small phantom, grouped by patient; pictures that it recognises, and their networks."""
    base = tmp_path_factory.mktemp("saliency")
    images = generate(base / "phantom", PhantomSpec(n_patients=28, size=96, copies=0, label_conflicts=0))
    manifest = build_manifest(str(images))
    manifest = manifest.assign(group_id=manifest["patient_id"].astype(str))
    groups = manifest.set_index("image_id")["group_id"]
    data = Dataset("phantom-saliency", manifest, groups, is_phantom=True, has_pictures=True)
    model, store = ModelConfig(image_size=96, mirror=False, backbone=LITE), open_store(base / "store")
    errors = error_table(cross_validate(store, data, "source", model, n_folds=3))
    chosen = choose_images(errors, 10)
    cases = Explanations(store, data, "source", model, chosen, [], n_folds=3).cases
    return errors, cases, chosen


def test_a_case_is_the_network_that_predicted_the_picture(study):
    errors, cases, chosen = study
    assert sum(len(case.images) for case in cases) == len(chosen) == 10
    mean, std = normalisation(LITE)
    confidence = errors.set_index("image_id")["confidence"]
    for case in cases:
        with torch.inference_mode():
            found = case.network(to_batch(case.pixels, mean=mean, std=std)).softmax(dim=1).numpy()
        np.testing.assert_allclose(found[np.arange(len(found)), case.target], confidence[case.images["image_id"]], atol=1e-4)


def test_maps_follow_the_weights(study):
    """With everything drawn anew the maps are other maps: the check would show a method that only finds edges."""
    _, cases, _ = study
    maps = {"grad_cam": heat_maps(cases, "grad_cam")}
    found = checks.randomisation(cases, maps, seed=0)
    assert set(found["compared"]) == {"head", "everything", checks.OTHER} and len(found) == 30
    means = found.groupby("compared")["spearman"].mean()
    assert means["everything"] < 0.6 and means["head"] < 0.9
    one = maps["grad_cam"][cases[0].images["image_id"][0]]
    assert checks._alike(one, one) == pytest.approx((1, 1))


def test_the_marked_corner_is_where_the_mark_was_drawn(tmp_path):
    specs = [PhantomSpec(n_patients=8, size=96, copies=0, label_conflicts=0, corner_mark=mark) for mark in (True, False)]
    marked, plain = (generate(tmp_path / str(k), spec) for k, spec in enumerate(specs))
    names = read_truths(marked)["image_id"].tolist()
    regions = mark_regions(marked, names, 96)
    assert 0 < len(regions) < len(names) and mark_regions(plain, names, 96) == {}
    for name, region in regions.items():
        one, other = (np.array(Image.open(folder / name).convert("RGB")).astype(int) for folder in (marked, plain))
        changed = np.abs(one - other).max(axis=2) > 0
        assert changed.any() and not changed[~region].any()


def test_a_table_is_read_without_any_network(study, tmp_path):
    errors, _, chosen = study
    store, model = open_store(tmp_path), ModelConfig(image_size=96, mirror=False, backbone=LITE)
    manifest = errors[["image_id", "label", "group_id"]].sort_values("image_id")
    manifest = manifest.assign(sha256="", pixel_sha256="", patient_id="", source="s")
    data = Dataset("s", manifest, manifest.set_index("image_id")["group_id"], is_phantom=True, has_pictures=False)
    asked = []

    def ask(rows, version=1):
        one = Explanations(store, data, "source", model, rows, ["grad_cam"], n_folds=3)
        compute = lambda explained: asked.append(version) or pd.DataFrame({"n": [len(explained.chosen)]})  # noqa: E731
        return one.table("checked", version, compute)["n"].item()

    assert ask(chosen) == 10 and ask(chosen.head(4)) == 4
    assert ask(chosen) == 10 and asked == [1, 1], "the table is there"
    assert ask(chosen, version=2) == 10 and asked == [1, 1, 2]


def test_randomising_the_head_leaves_the_backbone(study):
    case = study[1][0]
    head = checks.randomised(case.network, LITE, "head", case.pixels)
    everything = checks.randomised(case.network, LITE, "everything", case.pixels)
    assert all(torch.equal(a, b) for a, b in zip(head.backbone.parameters(), case.network.backbone.parameters(), strict=True))
    assert not torch.equal(head.head[-1].weight, case.network.head[-1].weight)
    spread = [float(network.head[-1].weight.detach().std()) for network in (head, case.network)]
    assert spread[0] == pytest.approx(spread[1], rel=0.2)
    first = next(everything.backbone.parameters())
    assert not torch.equal(first, next(case.network.backbone.parameters())) and not everything.training
    with pytest.raises(MpoxError, match="head, everything"):
        checks.randomised(case.network, LITE, "tail", case.pixels)


class Redder(nn.Module):
    """How much redder a place is than the picture around it."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        red = pictures[:, :1] - pictures[:, 1:].mean(dim=1, keepdim=True)
        around = nn.functional.avg_pool2d(red, 33, 1, 16, count_include_pad=False)
        return nn.functional.avg_pool2d((red - around).relu(), 4)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory) -> tuple[list[Case], dict[str, np.ndarray]]:
    """Pictures of the phantom with lesions, their masks, and a network that was built to see what is redder than the skin."""
    spec = PhantomSpec(n_patients=24, size=96, copies=0, label_conflicts=0, corner_mark=False)
    images = generate(tmp_path_factory.mktemp("lesions") / "phantom", spec)
    truths = read_truths(images)
    shown = truths[truths["lesion_count"] > 0].drop_duplicates("patient_id")
    pixels = np.stack([np.array(Image.open(images / name).convert("RGB")) for name in shown["image_id"]])
    masks = lesion_regions(images, shown["image_id"].tolist(), 96)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Linear(1, 2)
    head.weight.data = torch.tensor([[30.0], [0.0]])
    network = Classifier(nn.Sequential(OrderedDict(redder=Redder(), global_pool=pool)), head).eval()
    about = shown[["image_id"]].assign(group_id=shown["patient_id"]).reset_index(drop=True)
    return [Case(network, LITE, pixels, np.zeros(len(shown), int), about)], masks


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients"])
@pytest.mark.slow
def test_maps_of_a_network_that_sees_lesions_point_at_planted_lesions(lesions, method):
    cases, masks = lesions
    found = checks.pointing(cases, {method: heat_maps(cases, method)}, masks)
    hit, chance = (found[name] for name in ("hit", "chance"))
    assert len(found) == 18 and 0.02 < chance.mean() < 0.3
    excess = checks.summarise(found.assign(excess=hit - chance), ["method"], ["excess"], n_bootstrap=500).iloc[0]
    assert hit.mean() > 0.6 and excess["low"] > 0.2


def test_maps_that_know_nothing_hit_as_chance_does(lesions):
    cases, masks = lesions
    rng = np.random.default_rng(0)
    maps = [{"m": {name: rng.random((96, 96)) for name in masks}} for _ in range(40)]
    found = pd.concat([checks.pointing(cases, one, masks) for one in maps])
    assert found["hit"].mean() == pytest.approx(found["chance"].mean(), abs=0.04)


def test_errors_are_averaged_over_the_repeats():
    names, groups = list("abc"), ["g", "g", "h"]
    probabilities = {0: [0.9, 0.4, 0.2], 1: [0.8, 0.7, 0.1]}
    parts = [
        pd.DataFrame({"repeat": repeat, "fold": [0, 1, 2], "image_id": names, "group_id": groups,
                      "label": ["Mpox", "Mpox", "Mpox"], "p_Mpox": p, "p_Normal": 1 - np.array(p)})
        for repeat, p in probabilities.items()
    ]  # fmt: skip
    table = error_table(pd.concat(parts)).set_index("image_id")
    assert table["error"].to_dict() == {"c": 1.0, "a": 0.0, "b": 0.5}
    assert table["predicted"].to_dict() == {"c": "Normal", "a": "Mpox", "b": "Mpox"}
    assert table["p_true"].to_numpy() == pytest.approx([0.15, 0.85, 0.55]) and table.index[0] == "c"
    cells = confusion_table(pd.concat(parts), n_bootstrap=500).set_index(["true", "predicted"])
    assert cells.loc[("Mpox", "Normal"), "images"] == 1.5 and cells.loc[("Mpox", "Normal"), "share"] == 0.5
    assert cells.loc[("Mpox", "Normal"), ["low", "high"]].tolist() == [0.25, 1.0], "two groups: one of the two, or both"
    assert cells.loc["Normal", "share"].isna().all()
    assert sibling_errors(table.reset_index()).to_numpy().tolist() == [["right", 2, 0.0]]
