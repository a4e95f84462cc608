"""Altered pictures: the lesion map finds planted lesions, alterations take away what they say, and runs on them are honest."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted import planted

from mpox._core import MpoxError
from mpox.data.changes import (
    ALTERATIONS,
    GREY,
    UNTOUCHED,
    cell_recipes,
    change,
    corruption_recipes,
    fill_boxes,
    find_change,
    lesion_boxes,
    lesion_map,
    recipe_hash,
)
from mpox.data.dataset import Dataset
from mpox.data.pixels import load_pixels
from mpox.models.config import ModelConfig
from mpox.protocols.copies import altered, copies_in_test, copies_in_training, has_true_masks, true_mask_paths, with_copies
from mpox.protocols.splits import make_splits
from mpox.runs.cross_validation import predict_splits
from mpox.runs.store import RunStore
from mpox.stats.metrics import difference, evaluate
from mpox.studies.shortcuts import lesion_table, map_accuracy, only_tested, survival, train_and_test

#: Reads colours, cheaply: enough to see the corner mark and the redness of lesions.
COLOURS = ModelConfig(backbone="colour_histogram", image_size=96)
#: Sees lesions too.
PROBE = ModelConfig(backbone="tf_efficientnet_lite0", image_size=96, mirror=False)


@pytest.fixture(scope="module")
def unmarked() -> Dataset:
    return planted(corner_mark=False)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = rng.normal((200, 160, 140), 3, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    picture[30:38, 50:58] = (150, 60, 60)
    return picture


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    mask = np.zeros((96, 96), bool)
    mask[30:38, 50:58] = True
    return mask


def test_the_lesion_map_finds_planted_lesions(unmarked):
    """Constants were set on a phantom of another seed and size."""
    table = lesion_table(unmarked, 96)
    found = map_accuracy(table, "label").set_index("label")
    assert found.loc["all", "recall"] > 0.85 and found.loc["all", "healthy covered"] < 0.3
    assert found.loc["all", "lesions found"] > 0.8 and found.loc["all", "covered"] < 0.45
    assert found.loc["Normal", "covered"] < found.loc["Measles", "covered"] and np.isnan(found.loc["Normal", "recall"])
    paths = true_mask_paths(unmarked.manifest)
    row = int(table["lesion"].argmax())
    with Image.open(paths[row]) as image:
        truth = np.asarray(image) > 127
    mapped = lesion_map(np.asarray(load_pixels(unmarked.manifest, 96)[row]))
    assert table.loc[row, "hit"] == pytest.approx((truth & mapped).mean(), abs=1e-5)
    assert table.loc[row, "covered"] == pytest.approx(mapped.mean(), abs=1e-5)
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (64, 64, 1)).astype(np.uint8), 3, axis=2)
    assert not lesion_map(grey).any()


def test_counts_over_all_pictures_make_the_accuracy():
    table = pd.DataFrame(
        [("a", 0.5, 0.4, 0.2, 4, 1), ("a", 0.1, 0.0, 0.0, 0, 0)],
        columns=["label", "covered", "lesion", "hit", "lesions", "found"],
    )
    found = map_accuracy(table, "label").iloc[0]
    assert found["recall"] == pytest.approx(0.5) and found["healthy covered"] == pytest.approx(0.4 / 1.6)
    assert found["iou"] == pytest.approx(0.2 / 0.8) and found["lesions found"] == 0.25


def test_boxes_cover_every_lesion_and_large_ones_piece_by_piece():
    mask = np.zeros((96, 96), bool)
    mask[5, 5], mask[40, 10:90], mask[20:90, 50] = True, True, True
    covered = np.zeros_like(mask)
    for top, left, bottom, right in lesion_boxes(mask):
        assert 0 <= top < bottom <= 96 and 0 <= left < right <= 96 and max(bottom - top, right - left) <= 16 + 2
        covered[top:bottom, left:right] = True
    assert covered[mask].all() and covered.mean() < 0.15
    assert lesion_boxes(np.zeros((96, 96), bool)) == []


def test_a_box_takes_the_colour_around_it(picture):
    filled = fill_boxes(picture, [(28, 48, 40, 60)])
    assert np.abs(filled[28:40, 48:60].astype(int) - (200, 160, 140)).max() <= 3
    outside = np.ones((96, 96), bool)
    outside[28:40, 48:60] = False
    assert np.array_equal(filled[outside], picture[outside])
    assert (fill_boxes(picture, [(0, 0, 96, 96)]) == GREY).all()


def test_alterations_take_away_what_they_say(picture, mask):
    seen = {name: change(picture, name, mask=mask, seed=3) for name in ALTERATIONS}
    assert all(copy.shape == picture.shape and copy.dtype == np.uint8 for copy in seen.values())
    assert all(np.array_equal(change(picture, name, mask=mask, seed=3), copy) for name, copy in seen.items())
    lesion_red = picture[mask].astype(int)[:, 0].mean()
    for name in ("covered", "inpainted"):
        assert seen[name][mask].astype(int)[:, 0].mean() > lesion_red + 40
        assert np.array_equal(seen[name][60:], picture[60:])
    changed = (seen["covered_random"] != picture).any(axis=2).sum()
    boxes = lesion_boxes(mask)
    assert 0 < changed <= sum((b - t) * (r - x) for t, x, b, r in boxes)
    assert set(np.unique(seen["mask_only"])) == {0, 255} and np.array_equal(seen["mask_only"][..., 0] == 255, mask)
    assert (seen["border_only"][12:-12, 12:-12] == GREY).all() and np.array_equal(seen["border_only"][:12], picture[:12])
    rows = lambda copy: np.sort(copy.reshape(-1, 3).view("u1,u1,u1").ravel())  # noqa: E731
    for name in ("colour_only", "shuffled"):
        assert np.array_equal(rows(seen[name]), rows(picture)) and not np.array_equal(seen[name], picture)
    assert (np.ptp(seen["grey"], axis=2) == 0).all()
    detail = lambda copy: np.abs(np.diff(copy.astype(int), axis=1)).mean()  # noqa: E731
    assert detail(seen["tiny"]) < 0.2 * detail(picture)
    teal = picture.copy()
    teal[:10, -10:] = (20, 150, 140)
    left = change(teal, "background_only", mask=mask)
    assert (left[2:8, -8:-2] == (20, 150, 140)).all() and (left[50:, :50] == GREY).all()
    blanked = change(picture, "cell-0-3")
    assert (blanked[:24, 72:] == np.round(picture.reshape(-1, 3).mean(axis=0))).all()
    assert np.array_equal(blanked[24:], picture[24:]) and np.array_equal(blanked[:, :72], picture[:, :72])
    with pytest.raises(MpoxError, match="needs to know where the lesions are"):
        change(picture, "covered")
    with pytest.raises(MpoxError, match="Unknown recipe 'blinded': choose one of covered"):
        change(picture, "blinded")


def test_an_altered_data_set_is_a_data_set(unmarked):
    one, other = altered(unmarked, "grey"), altered(unmarked, "tiny")
    assert one.manifest["image_id"].tolist() == unmarked.manifest["image_id"].tolist()
    assert len({one.hash, other.hash, unmarked.hash, altered(unmarked, "tone-1").hash, altered(unmarked, "tone-2").hash}) == 5
    assert altered(unmarked, "grey").hash == one.hash
    pixels, original = load_pixels(one.manifest, 48), load_pixels(unmarked.manifest, 48)
    assert np.array_equal(pixels[7], change(np.asarray(original[7]), "grey"))
    with pytest.raises(MpoxError, match="altered already"):
        altered(one, "tiny")
    with pytest.raises(MpoxError, match="only a phantom"):
        altered(Dataset("real", unmarked.manifest, unmarked.groups, False, True), "covered_true")
    with pytest.raises(MpoxError, match="none twice"):
        with_copies(unmarked, ["grey", "grey"])


def test_true_masks_and_found_ones_go_through_the_same_function(unmarked):
    assert has_true_masks(unmarked)
    both = with_copies(unmarked, ["mask_only", "mask_only_true", "covered_true"])
    pixels = load_pixels(both.manifest, 96)
    rows = both.manifest.reset_index().set_index(["original_id", "recipe"])["index"]
    image = unmarked.manifest["image_id"].iloc[0]
    original = np.asarray(load_pixels(unmarked.manifest, 96)[0])
    with Image.open(true_mask_paths(unmarked.manifest)[0]) as mask:
        truth = np.asarray(mask) > 127
    assert np.array_equal(pixels[rows[image, UNTOUCHED]], original)
    assert np.array_equal(pixels[rows[image, "mask_only"]][..., 0] > 0, lesion_map(original))
    assert np.array_equal(pixels[rows[image, "mask_only_true"]][..., 0] > 0, truth)
    assert np.array_equal(pixels[rows[image, "covered_true"]], change(original, "covered", mask=truth))


def test_recipes_are_checked_and_versioned():
    for recipe in ["covered", "covered_true", "mirrored", "tone-3", *corruption_recipes(), *cell_recipes()]:
        assert find_change(recipe)
    assert "map" in find_change("covered").version and "map" not in find_change("covered_true").version
    for recipe in ("blur", "blur-6", "blur-x", "cell-4-0", "tone", "grey_true", "covered-1", ""):
        with pytest.raises(MpoxError, match="Unknown recipe"):
            find_change(recipe)
    assert recipe_hash("a", "grey") != recipe_hash("b", "grey") != recipe_hash("b", "tiny")


def test_copies_stay_on_their_side_of_the_split(unmarked):
    split = make_splits(unmarked.manifest, "source", n_folds=3)
    both = with_copies(unmarked, ["grey", "tiny"])
    original = both.manifest.set_index("image_id")["original_id"]
    tested, trained = copies_in_test(split, both.manifest), copies_in_training(split, both.manifest)
    n_train, n_test = (split["role"] == "train").sum(), (split["role"] == "test").sum()
    for table, sizes in ((tested, (n_train, 3 * n_test)), (trained, (3 * n_train, n_test))):
        assert tuple((table["role"] == role).sum() for role in ("train", "test")) == sizes
        for _, rows in table.groupby("fold"):
            sides = rows.groupby("role")["image_id"].agg(lambda ids: set(original[ids].map(unmarked.groups)))
            assert not sides["train"] & sides["test"]
    inner = trained[trained["role"] == "train"].assign(original=lambda rows: rows["image_id"].map(original))
    assert (inner.groupby(["fold", "original"])["inner_fold"].nunique() == 1).all()


def test_one_fit_serves_all_recipes(unmarked, tmp_path):
    """The untouched pictures get what the model's own cross-validation gives them."""
    store, split = RunStore(tmp_path), make_splits(unmarked.manifest, "source", n_folds=3)
    table = only_tested(store, unmarked, split, COLOURS, ["grey", "mirrored"])
    assert len(store.used_runs) == 3 and set(table["protocol"]) == {"altered_test"}
    plain = predict_splits(store, unmarked, "source", split, COLOURS).sort_values("image_id")
    again = table[table["recipe"] == UNTOUCHED].sort_values("image_id")
    assert np.allclose(plain["p_Mpox"], again["p_Mpox"]) and (plain["group_id"].to_numpy() == again["group_id"].to_numpy()).all()
    mirrored = table[table["recipe"] == "mirrored"].sort_values("image_id")
    assert np.allclose(plain["p_Mpox"], mirrored["p_Mpox"])  # a histogram does not know left from right
    found = survival(table, plain, n_bootstrap=50).set_index("recipe")
    expected = evaluate(plain, n_bootstrap=0)
    area = expected[(expected["metric"] == "auroc") & (expected["class"] == "Mpox")]["estimate"].item()
    assert found.loc[UNTOUCHED, "estimate"] == pytest.approx(area)
    assert found.loc["mirrored", "change"] == 0 and found.loc["mirrored", "estimate"] == found.loc[UNTOUCHED, "estimate"]
    change = difference(table[table["recipe"] == "grey"], plain, "auroc", "Mpox", n_bootstrap=50)
    assert found.loc["grey", ["change", "change_low", "change_high"]].tolist() == pytest.approx(list(change))


@pytest.mark.slow
def test_covering_lesions_leaves_chance_unless_a_mark_is_planted(unmarked, tmp_path):
    """Trained and tested on covered pictures: without the corner mark nothing is left of the class, with it much is."""
    areas = {}
    for name, data in (("marked", planted(corner_mark=True)), ("unmarked", unmarked)):
        store, split = RunStore(tmp_path / name), make_splits(data.manifest, "source", n_folds=3)
        plain = predict_splits(store, data, "source", split, PROBE)
        covered = train_and_test(store, data, split, PROBE, "covered_true")
        assert set(covered["protocol"]) == {"altered"}
        areas[name] = survival(covered, plain, n_bootstrap=200).set_index("recipe")
        assert areas[name].loc[UNTOUCHED, "low"] > 0.55
    left = areas["unmarked"].loc["covered_true"]
    assert left["low"] < 0.5 and left["estimate"] < 0.65 and left["change_high"] < 0
    assert areas["marked"].loc["covered_true", "low"] > 0.57
