"""Corruptions, transforms and another skin tone do what they say, and the tables over them are the metrics."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import as_dataset

from mpox._core import MpoxError
from mpox.data.changes import (
    SEVERITIES,
    STRENGTHS,
    TARGETS,
    TRANSFORMS,
    UNTOUCHED,
    change,
    corruption_recipes,
    render_altered,
    severity_table,
    to_lab,
    transfer,
)
from mpox.data.skintone import tone
from mpox.models.config import ModelConfig
from mpox.protocols.splits import make_splits
from mpox.runs.store import RunStore
from mpox.stats.metrics import difference, evaluate
from mpox.studies.shortcuts import EVERY, consistency, robustness, survival, train_with_copies


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Skin with a lesion before a blue cloth."""
    rng = np.random.default_rng(0)
    picture = rng.normal((190, 145, 120), 4, (112, 112, 3))
    rows, columns = np.mgrid[:112, :112]
    picture[(rows - 50) ** 2 + (columns - 40) ** 2 < 60] = (150, 70, 65)
    picture[:, 90:] = (40, 60, 140)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("family", SEVERITIES)
def test_every_strength_takes_more_away(picture, family):
    copies = [change(picture, f"{family}-{strength}", seed=5) for strength in STRENGTHS]
    away = [np.abs(copy.astype(int) - picture).mean() for copy in copies]
    assert all(copy.shape == picture.shape and copy.dtype == np.uint8 for copy in copies)
    assert away[0] > 0 and away == sorted(away)
    assert np.array_equal(copies[2], change(picture, f"{family}-3", seed=5))


def test_severities_are_what_the_table_says(picture):
    table = severity_table().set_index("family")
    assert list(table.columns) == ["meaning", "1", "2", "3", "4", "5"] and len(table) == 7
    grey = np.full((112, 112, 3), 100, np.uint8)
    noisy = change(grey, "noise-3", seed=1).astype(float)
    assert noisy.std() == pytest.approx(table.loc["noise", "3"], rel=0.05)
    hidden = (change(np.zeros_like(grey), "occlusion-2", seed=1) == 128).all(axis=2).mean()
    assert hidden == pytest.approx(table.loc["occlusion", "2"], rel=0.1)
    light = lambda value: (value / 255 + 0.055) ** 2.4 / 1.055**2.4  # noqa: E731
    stops = {np.log2(light(int(change(grey, "exposure-3", seed=seed)[0, 0, 0])) / light(100)) for seed in range(20)}
    assert sorted({round(value, 1) for value in stops}) == [-1.0, 1.0]
    red, green, blue = (int(value) for value in change(grey, "white_balance-3", seed=0)[0, 0])
    assert abs(np.log2(light(red) / light(blue))) == pytest.approx(table.loc["white_balance", "3"], abs=0.1) and green == 100
    with pytest.raises(MpoxError, match="Unknown recipe 'rain-1'"):
        change(picture, "rain-1")
    with pytest.raises(MpoxError, match="Unknown recipe 'blur-6'"):
        change(picture, "blur-6")


def test_transforms_keep_the_finding(picture):
    assert np.array_equal(change(change(picture, "mirrored"), "mirrored"), picture)
    assert np.array_equal(change(picture, "upside_down")[0], picture[-1])
    whole = np.arange(112 * 112 * 3).reshape(112, 112, 3).astype(np.uint8)
    assert change(whole, "crop_75", seed=1).shape == whole.shape and len(TRANSFORMS) == 4
    assert not np.array_equal(change(picture, "crop_90", seed=1), change(picture, "crop_90", seed=2))
    with pytest.raises(MpoxError, match="Unknown recipe 'turned'"):
        change(picture, "turned")


def test_choices_fall_alike_at_every_strength(picture):
    """Whether a picture gets darker or lighter hangs on the picture, not on the strength."""
    never = lambda: pytest.fail("no map is needed")  # noqa: E731
    sides = set()
    for sha in "abcdefghijkl":
        levels = [render_altered(picture, f"exposure-{strength}", sha, never).mean() for strength in STRENGTHS]
        change = np.sign(np.array(levels) - picture.mean())
        assert abs(change.sum()) == 5
        sides.add(change[0])
    assert sides == {-1.0, 1.0}


@settings(max_examples=8, deadline=None)
@given(st.floats(*TARGETS), st.integers(0, 100))
def test_skin_takes_the_tone_and_lesions_keep_their_contrast(target, seed):
    rng = np.random.default_rng(seed)
    picture = np.full((96, 96, 3), rng.integers((165, 125, 95), (185, 140, 110)), np.uint8)
    picture[40:56, 40:56] = picture[0, 0] - np.array([35, 60, 45], np.uint8)
    picture[:, 80:] = (40, 60, 140)
    changed = transfer(picture, target)
    assert tone(changed)["ita"] == pytest.approx(target, abs=4)
    before, after = to_lab(picture), to_lab(changed)
    contrast = [lab[48, 48] - lab[10, 10] for lab in (before, after)]
    assert np.abs(contrast[0] - contrast[1]).max() < 3
    assert np.array_equal(changed[:, 88:], picture[:, 88:])


def test_without_skin_there_is_no_tone_to_change(picture):
    grey = np.full((64, 64, 3), 120, np.uint8)
    assert np.array_equal(transfer(grey, 10.0), grey)
    first, again, other = (change(picture, "tone-1", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_tone_copies_are_learnt_from_and_not_tested(tiny_folder, tmp_path):
    data = as_dataset(tiny_folder)
    model = ModelConfig(backbone="colour_histogram", image_size=64)
    split = make_splits(data.manifest, "source", n_folds=3)
    table = train_with_copies(RunStore(tmp_path), data, split, model, ["tone-1"])
    assert sorted(table["image_id"]) == sorted(data.manifest["image_id"]) and set(table["protocol"]) == {"tone_augmented"}


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Three classes; the higher the strength, the less the scores know."""
    rng = np.random.default_rng(1)
    label = np.array(["Mpox", "Measles", "Normal"])[rng.integers(0, 3, 90)]
    tables = []
    for recipe in (UNTOUCHED, *corruption_recipes(["blur", "jpeg"], [1, 3, 5]), "mirrored", "crop_75"):
        strength = 0.0 if recipe in (UNTOUCHED, "mirrored") else 1.0 if recipe == "crop_75" else float(recipe[-1])
        noise = np.random.default_rng(2).gumbel(size=(90, 3))
        score = (2.5 - 0.45 * strength) * (label[:, None] == ["Measles", "Mpox", "Normal"]) + noise
        p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
        about = {"recipe": recipe, "repeat": 0, "image_id": [f"{n:02d}" for n in range(90)], "label": label}
        tables.append(pd.DataFrame({**about, "p_Measles": p[:, 0], "p_Mpox": p[:, 1], "p_Normal": p[:, 2]}))
    return pd.concat(tables, ignore_index=True).assign(group_id=lambda table: table["image_id"].str[0])


def test_strengths_are_the_metrics_and_means_their_mean(predictions):
    strengths, means = robustness(predictions, n_bootstrap=100, seed=3)
    strengths = strengths.set_index(["family", "strength", "metric"])
    for recipe, key in (("blur-3", ("blur", 3)), (UNTOUCHED, ("jpeg", 0))):
        expected = evaluate(predictions[predictions["recipe"] == recipe], n_bootstrap=100, seed=3)
        for metric, label in (("auroc", "Mpox"), ("accuracy", "all")):
            row = expected[(expected["metric"] == metric) & (expected["class"] == label)].iloc[0]
            found = strengths.loc[(*key, metric)]
            assert found[["estimate", "low", "high"]].tolist() == pytest.approx(row[["estimate", "low", "high"]].tolist())
    means = means.set_index(["family", "metric"])
    of_blur = strengths.loc[("blur", [1, 3, 5], "accuracy"), "estimate"].mean()
    assert means.loc[("blur", "accuracy"), "estimate"] == pytest.approx(of_blur)
    assert means.loc[(EVERY, "accuracy"), "estimate"] == pytest.approx(
        means.loc[[("blur", "accuracy"), ("jpeg", "accuracy")], "estimate"].mean()
    )
    assert means.loc[(EVERY, "auroc"), "change_high"] < 0
    with pytest.raises(MpoxError, match="untouched and corrupted"):
        robustness(predictions[predictions["recipe"] == "mirrored"])


def test_consistency_counts_what_changes(predictions):
    found = consistency(predictions, ["mirrored", "crop_75"], n_bootstrap=100).set_index("recipe")
    assert found.loc["mirrored"].tolist() == [0] * 6
    both = [predictions[predictions["recipe"] == recipe].filter(regex="^p_").to_numpy() for recipe in (UNTOUCHED, "crop_75")]
    assert found.loc["crop_75", "changed"] == pytest.approx((both[0].argmax(axis=1) != both[1].argmax(axis=1)).mean())
    assert found.loc["crop_75", "moved"] == pytest.approx(np.abs(both[0] - both[1])[:, 1].mean())
    assert found.loc["crop_75", "moved_low"] < found.loc["crop_75", "moved"] < found.loc["crop_75", "moved_high"]


def test_survival_is_the_paired_difference_to_untouched(predictions):
    plain = predictions[predictions["recipe"] == UNTOUCHED]
    table = survival(predictions, plain, n_bootstrap=30).set_index("recipe")
    assert table.index[0] == UNTOUCHED and len(table) == 9
    change = difference(predictions[predictions["recipe"] == "blur-5"], plain, "auroc", "Mpox", n_bootstrap=30)
    assert table.loc["blur-5", "change"] == pytest.approx(change[0])
