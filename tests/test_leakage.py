"""The price of leakage: doses, the nearest neighbour, augmented data sets and external validation do what they say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from planted import groups_of, manifests, twice
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

from mpox._core import MpoxError, TooFewImages
from mpox.data.changes import render_view, view_hash
from mpox.data.dataset import Dataset
from mpox.data.manifest import manifest_hash
from mpox.data.pixels import load_pixels
from mpox.models import heads
from mpox.models.config import ModelConfig
from mpox.models.features import features
from mpox.protocols.copies import N_AUGMENTED, augmented
from mpox.protocols.doses import crossing_splits, dose_splits
from mpox.protocols.pairs import combine
from mpox.protocols.splits import PROTOCOLS, make_splits, siblings_in_training, split_hash
from mpox.runs.cross_validation import cross_validate, validate_externally
from mpox.runs.store import RunStore
from mpox.studies.external import SUBSETS, external_metrics
from mpox.studies.leakage import dose_response, leak_dose, needed_share

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)
NEIGHBOUR = ModelConfig(regime="nearest_neighbour", backbone="colour_histogram", image_size=64)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(16, 30), st.integers(2, 5), st.integers(0, 1000))
@pytest.mark.slow
def test_doses_change_the_leak_and_nothing_else(manifest, n_folds, seed):
    groups = groups_of(manifest)
    try:
        splits = dose_splits(manifest, groups, n_folds=n_folds, seed=seed, doses=DOSES)
    except MpoxError as error:
        assume("too few training images" not in str(error) and "inner folds" not in str(error))
        raise
    random = make_splits(manifest, "random_image", n_folds=n_folds, seed=seed)
    labels = manifest.set_index("image_id")["label"]
    tested = lambda table: table[table["role"] == "test"][["fold", "image_id"]].to_numpy().tolist()  # noqa: E731
    shares = []
    for dose in DOSES:
        split = splits[dose]
        assert tested(split) == tested(random)
        assert not split.duplicated(["repeat", "fold", "image_id"]).any()
        crossing = split[split["role"] == "train"].groupby(["fold", "group_id"])["inner_fold"].nunique()
        assert (crossing == 1).all()
        shares.append(siblings_in_training(split, groups))
    assert shares[0] == 0 and shares[-1] == siblings_in_training(random, groups)
    assert shares == sorted(shares)
    for fold in range(n_folds):
        parts = [part[(part["fold"] == fold) & (part["role"] == "train")] for part in splits.values()]
        stopping = [set(part.loc[part["inner_fold"] == 0, "image_id"]) for part in parts]
        assert all(images == stopping[0] for images in stopping) and stopping[0]
        tests = set(random.loc[(random["fold"] == fold) & (random["role"] == "test"), "image_id"])
        assert not {groups[image] for image in stopping[0]} & {groups[image] for image in tests}
        train = [set(part.loc[part["inner_fold"] > 0, "image_id"]) for part in parts]  # what a network learns from
        at_risk = {groups[image] for image in set(manifest["image_id"]) - train[-1]} & {
            groups[image] for image in random.loc[(random["fold"] == fold) & (random["role"] == "test"), "image_id"]
        }
        siblings = [{image for image in images if groups[image] in at_risk} for images in train]
        for smaller, larger in zip(siblings[:-1], siblings[1:], strict=True):
            assert smaller <= larger  # what a dose keeps, a higher dose keeps
        unrelated = [images - kept for images, kept in zip(train, siblings, strict=True)]
        for larger, smaller in zip(unrelated[:-1], unrelated[1:], strict=True):
            assert smaller <= larger
        first = labels[sorted(train[0])].value_counts()
        for images, kept in zip(train[1:], siblings[1:], strict=True):
            counts, added = labels[sorted(images)].value_counts(), labels[sorted(kept)].value_counts()
            for label in first.index:  # equal, but where all unrelated images of the class are gone already
                spent = added.get(label, 0) > first[label]
                assert counts.get(label, 0) == (added[label] if spent else first[label])


def test_the_seed_and_the_dose_make_the_split():
    manifest = pd.DataFrame([(f"{k}/{n}_{i}", k, f"{k}{n}") for k in "AB" for n in range(20) for i in range(2)])
    manifest.columns = ["image_id", "label", "group_id"]

    def hashes(manifest: pd.DataFrame, seed: int = 0) -> list[str]:
        return [split_hash(split) for split in dose_splits(manifest, groups_of(manifest), n_folds=4, seed=seed).values()]

    splits = dose_splits(manifest, groups_of(manifest), n_folds=4)
    assert len({(split["role"] == "train").sum() for split in splits.values()}) == 1
    assert hashes(manifest) == hashes(manifest.sample(frac=1, random_state=1))
    assert len(set(hashes(manifest))) == 5 and not set(hashes(manifest)) & set(hashes(manifest, seed=1))
    assert len(set(hashes(manifest.assign(group_id=manifest["image_id"])))) == 1  # without siblings all doses are one
    with pytest.raises(MpoxError, match="from 0 to 1"):
        dose_splits(manifest, groups_of(manifest), doses=[0, 1.5])
    alone = manifest.assign(group_id=manifest["label"].where(manifest["label"] == "A", manifest["group_id"]))
    with pytest.raises(TooFewImages, match="too few training images of a class are left.*more folds"):
        dose_splits(alone, groups_of(alone), n_folds=4)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Dataset:
    return twice(tmp_path_factory.mktemp("planted") / "planted", n=60, size=64)


def test_a_planted_leak_is_found_and_measured(planted, tmp_path):
    """Labels mean nothing: without siblings the neighbour guesses, with all of them it looks the label up."""
    store = RunStore(tmp_path)
    predictions = leak_dose(store, planted, NEIGHBOUR, doses=(0, 0.5, 1), n_folds=4, n_repeats=2)
    table = dose_response(predictions, n_bootstrap=200)
    accuracy = table[(table["metric"] == "accuracy") & (table["subset"] == "all")].set_index("dose")
    assert 0.3 < accuracy.loc[0, "estimate"] < 0.7
    assert accuracy["estimate"].is_monotonic_increasing and accuracy["share"].is_monotonic_increasing
    assert accuracy.loc[0, "share"] == 0 and accuracy.loc[1, "share"] > 0.6
    assert accuracy.loc[1, "change_low"] > 0 and accuracy.loc[0, "change"] == 0
    assert accuracy["n_train"].nunique() == 1
    with_sibling = table[table["subset"] == "with sibling"].set_index("dose")
    without = table[table["subset"] == "without sibling"].set_index("dose")
    assert with_sibling.loc[1, "estimate"] == 1 and with_sibling.loc[0, "estimate"] < 0.7
    assert abs(without.loc[1, "change"]) < 0.3 and with_sibling.loc[1, "change_low"] > 0.2
    assert set(predictions["protocol"]) == {"leak_dose"} and predictions["run_id"].nunique() == 3 * 4 * 2
    at_half = predictions[predictions["dose"] == 0.5]
    assert at_half.loc[at_half["exposed"], "has_sibling"].all()
    known = set(store.used_runs)
    lowest = leak_dose(store, planted, NEIGHBOUR, doses=[0], n_folds=4, n_repeats=2)
    pd.testing.assert_frame_equal(lowest, predictions[predictions["dose"] == 0])
    assert len(known) == len(store.used_runs) == 3 * 4 * 2 and not lowest["exposed"].any() and lowest["has_sibling"].any()


@pytest.fixture(scope="module")
def views(planted) -> Dataset:
    return augmented(planted, 3, 0)


def test_the_share_of_copies_that_cross_runs_from_the_honest_division_to_augmenting_before_it(views):
    folds = {"n_folds": 4, "n_repeats": 2, "seed": 3}
    splits = crossing_splits(views.manifest, doses=DOSES, **folds)
    shown = set(views.manifest.loc[views.manifest["view"] == 0, "image_id"])
    for dose, protocol in ((0.0, "source"), (1.0, "augment_before_split")):
        whole = make_splits(views.manifest, protocol, **folds).assign(group_id=lambda table: table["image_id"].map(views.groups))
        assert split_hash(splits[dose]) == split_hash(whole[(whole["role"] == "train") | whole["image_id"].isin(shown)])
    crossing: set = set()
    for dose, split in splits.items():
        tested = split[split["role"] == "test"]
        assert set(tested["image_id"]) == shown and not tested.duplicated(["repeat", "image_id"]).any()
        groups = split.assign(honest=split["image_id"].map(views.groups))
        parts = groups.groupby(["repeat", "fold", "honest"])[["role", "inner_fold"]].nunique().max(axis=1)
        apart = set(parts[parts > 1].index.get_level_values("honest"))
        assert crossing <= apart and len(apart) == round(dose * views.groups.nunique())  # nested; others stay whole, inside too
        crossing = apart
        assert siblings_in_training(split, views.groups) == pytest.approx(dose, abs=0.05)


def test_the_share_that_gives_a_value_is_read_off_the_curve(views, tmp_path):
    """Labels mean nothing: without copies in training the neighbour guesses, with all of them it is nearly always right."""
    predictions = leak_dose(RunStore(tmp_path), views, NEIGHBOUR, doses=(0, 0.5, 1), n_folds=4)
    assert set(predictions["protocol"]) == {"copies_cross"} and predictions["run_id"].nunique() == 3 * 4
    curve = dose_response(predictions, n_bootstrap=200).query("metric == 'f1_of_means'").set_index("share")["estimate"]
    assert curve.iloc[0] < 0.7 and curve.iloc[-1] > 0.9 and curve.is_monotonic_increasing
    for target in (0.75, 0.85):
        estimate, low, high = needed_share(predictions, "f1_of_means", "macro", target, n_bootstrap=200)
        assert low <= estimate <= high and np.interp(estimate, curve.index, curve) == pytest.approx(target)
    assert needed_share(predictions, "f1_of_means", "macro", 0.1, n_bootstrap=200) == (0, 0, 0)
    assert needed_share(predictions, "f1_of_means", "macro", 1.1, n_bootstrap=200) == (np.inf,) * 3


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_the_neighbour_is_sklearns(seed, n_classes):
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(40, 6)) * rng.uniform(0.1, 10, 6), rng.normal(size=(15, 6))
    y = np.r_[np.arange(n_classes), rng.integers(0, n_classes, 40 - n_classes)]
    found, history = heads.predict_by_neighbour(x, y, rng.integers(0, 4, 40), x_test, n_classes=n_classes)
    scale = StandardScaler().fit(x)
    reference = KNeighborsClassifier(1, metric="cosine").fit(normalize(scale.transform(x)), y)
    assert found.argmax(axis=1).tolist() == reference.predict(normalize(scale.transform(x_test))).tolist()
    assert np.allclose(found.sum(axis=1), 1) and history["chosen"].sum() == 1
    assert history.loc[history["chosen"], "validation_loss"].item() == history["validation_loss"].min()


def test_a_copy_in_training_is_recognised_with_certainty():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 20)), np.arange(30) % 2
    probabilities, _ = heads.predict_by_neighbour(x, y, np.arange(30) % 3, x, n_classes=3)
    assert (probabilities.argmax(axis=1) == y).all()
    assert (probabilities[:, 2] < probabilities[:, :2].min(axis=1)).all()  # a class without training images is farthest


def test_a_neighbour_has_no_head_and_no_training():
    assert ModelConfig(regime="nearest_neighbour").training is None
    assert ModelConfig(backbone="hog").with_(regime="nearest_neighbour").weights == "none"
    with pytest.raises(MpoxError, match="has no head"):
        ModelConfig(regime="nearest_neighbour", head="hidden")


def test_augmented_views_are_always_the_same(planted):
    first, again, other = augmented(planted, 3, 7), augmented(planted, 3, 7), augmented(planted, 3, 8)
    assert len(first.manifest) == 4 * len(planted.manifest)
    assert first.hash == again.hash != other.hash != planted.hash
    assert first.manifest["image_id"].is_unique
    assert first.groups[first.manifest["image_id"]].tolist() == first.manifest["original_id"].map(planted.groups).tolist()
    pixels, original = load_pixels(first.manifest, 48), load_pixels(planted.manifest, 48)
    row = int(np.flatnonzero(first.manifest["original_id"] == planted.manifest["image_id"][5])[0])
    views = pixels[row : row + 4]
    assert np.array_equal(views[0], original[5])
    assert all(not np.array_equal(a, b) for n, a in enumerate(views) for b in views[:n])
    assert np.array_equal(pixels[np.array([row + 2])][0], load_pixels(again.manifest, 48)[row + 2])
    assert not np.array_equal(views[1], load_pixels(other.manifest, 48)[row + 1])
    assert views.shape == (4, 48, 48, 3) and views.dtype == np.uint8 and len(pixels) == len(first.manifest)
    assert N_AUGMENTED + 1 == 14
    with pytest.raises(MpoxError, match="at least 1 copy"):
        augmented(planted, 0)
    with pytest.raises(MpoxError, match="augmented or altered already"):
        augmented(first, 2)


def test_a_view_is_the_picture_still(planted):
    """Turned, shifted and brightened by little: the middle of the picture stays, and nothing black comes in from outside."""
    size = 65
    rows, columns = np.mgrid[:size, :size]
    picture = np.full((size, size, 3), 120, np.uint8)
    picture[(rows - 32) ** 2 + (columns - 32) ** 2 < 100] = 240
    for number in range(20):
        view = render_view(picture, view_hash("picture", number, 0))
        assert view.shape == picture.shape and view.min() > 60
        bright = np.argwhere(view[..., 0] > (int(view.max()) + int(view.min())) / 2)
        assert np.abs(bright.mean(axis=0) - 32).max() < 0.1 * size + 3


def test_augmentation_before_the_split_leaks_nearly_always(planted, tmp_path):
    data = augmented(planted, 5, 0)
    split = make_splits(data.manifest, "augment_before_split", n_folds=4)
    assert PROTOCOLS["augment_before_split"].leaks
    assert siblings_in_training(split, data.groups) > 0.99
    store = RunStore(tmp_path)
    table = cross_validate(store, data, "augment_before_split", NEIGHBOUR, n_folds=4)
    honest = cross_validate(store, planted, "source", NEIGHBOUR, n_folds=4)
    right = [(part["p_Mpox"] > 0.5).eq(part["label"] == "Mpox").mean() for part in (table, honest)]
    assert right[0] > 0.8 > 0.7 > right[1]
    assert table["group_id"].nunique() == planted.groups.nunique()
    for wrong, protocol in ((data, "random_image"), (planted, "augment_before_split")):
        with pytest.raises(MpoxError, match="does not go with these images"):
            cross_validate(store, wrong, protocol, NEIGHBOUR)


@pytest.mark.slow
def test_a_network_is_trained_on_augmented_views_too(planted, tmp_path):
    plan = {"epochs": 1, "frozen_stages": 7, "head_steps": 2}
    model = ModelConfig(regime="fine_tune", backbone="tf_efficientnet_lite0", image_size=32, training=plan)
    few = planted.manifest[planted.manifest["image_id"].str.contains(r"/[01]\d_")].reset_index(drop=True)
    data = augmented(replace(planted, manifest=few), 1, 0)
    table = cross_validate(RunStore(tmp_path), data, "augment_before_split", model, n_folds=2)
    assert len(table) == 80 and table["p_Mpox"].between(0, 1).all()


def test_features_are_shared_by_data_sets_that_share_pictures(planted, monkeypatch):
    whole = features(planted.manifest, NEIGHBOUR)
    monkeypatch.setattr("mpox.models.features.load_pixels", lambda *_: pytest.fail("was computed before"))
    part = planted.manifest.iloc[10:30].reset_index(drop=True)
    assert manifest_hash(part) != planted.hash
    assert np.array_equal(features(part, NEIGHBOUR), whole[10:30])
    with pytest.raises(pytest.fail.Exception):
        features(augmented(planted, 1, 99).manifest, NEIGHBOUR)


@pytest.fixture(scope="module")
def two_sets(planted) -> list[Dataset]:
    """The planted set's even photographs, and another set with its first 20 photographs, ten Normal ones and two patients."""
    manifest = planted.manifest
    one = manifest.assign(source="one")
    two = manifest[manifest["image_id"].str.contains(r"/[01]\d_")].assign(source="two").reset_index(drop=True)
    two.loc[two["label"] == "Others", "label"] = ["Chickenpox", "Measles"] * 10
    normal = two.head(4).assign(label="Normal", image_id=[f"Normal/{n}" for n in range(4)])
    two = pd.concat([two, normal], ignore_index=True)
    return [replace(planted, name=name, manifest=part, groups=groups_of(part)) for name, part in (("one", one), ("two", two))]


def joint(datasets: list[Dataset]) -> pd.DataFrame:
    table = pd.concat([data.manifest for data in datasets]).rename(columns={"source": "dataset"})
    return table[["dataset", "image_id"]].assign(group_id=table["pixel_sha256"])


def test_data_sets_are_combined_into_one(two_sets):
    both = combine(two_sets, joint(two_sets))
    assert both.name == "one+two" and both.classes == ["Mpox", "Others"]
    assert len(both.manifest) == len(two_sets[0].manifest) + len(two_sets[1].manifest) - 4
    assert both.manifest["image_id"].is_unique and both.manifest["image_id"].is_monotonic_increasing
    row = both.manifest.set_index("image_id").loc["two/Mpox/00_1.png"]
    assert row["original_id"] == "Mpox/00_1.png" and row["source"] == "two"
    assert both.groups["two/Mpox/00_1.png"] == both.groups["one/Mpox/00_0.png"]
    assert make_splits(both.manifest, "source", n_folds=3)["group_id"].nunique() == 60
    with pytest.raises(MpoxError, match="different names"):
        combine(two_sets[:1] * 2, joint(two_sets))
    with pytest.raises(MpoxError, match="44 images have no group|40 images have no group"):
        combine(two_sets, joint(two_sets[:1]))


@pytest.fixture(scope="module")
def back(two_sets, tmp_path_factory) -> pd.DataFrame:
    """Predictions of the larger set by a model of the smaller one, whose photographs it shares."""
    both = combine(two_sets, joint(two_sets))
    store = RunStore(tmp_path_factory.mktemp("external"))
    forth = validate_externally(store, both, "one", "two", NEIGHBOUR)
    assert forth["shared"].all() and len(forth) == 40  # every photograph of two is in one
    return validate_externally(store, both, "two", "one", NEIGHBOUR)


def test_shared_photographs_are_told_from_the_others(back):
    assert back["shared"].tolist() == back["image_id"].str.contains(r"/[01]\d_").tolist()
    assert set(back["protocol"]) == {"external"} and back["run_id"].nunique() == 1
    table = external_metrics(back, n_bootstrap=100)
    accuracy = table[table["metric"] == "accuracy"].set_index("subset")
    assert accuracy.index.tolist() == list(SUBSETS)
    assert accuracy["images"].tolist() == [120, 80, 40] and accuracy["positives"].tolist() == [60, 40, 20]
    assert accuracy.loc["shared only", "estimate"] == 1 and accuracy.loc["without shared", "estimate"] < 0.75
    assert accuracy["low"].le(accuracy["estimate"]).all() and accuracy["reason"].eq("").all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        (lambda table: table["label"] == "Mpox", "only Mpox images"),
        (lambda table: table["label"] != "Mpox", "no Mpox image"),
        (lambda table: False, "no image"),
        (lambda table: table.index.isin(table.groupby("label").head(1).index), ""),  # two images still get an interval
    ],
)
def test_a_subset_without_a_side_has_a_reason_and_no_metric(back, shares, reason):
    found = external_metrics(back.assign(shared=shares), n_bootstrap=100)
    only = found[found["subset"] == "shared only"]
    assert set(only["reason"]) == {reason} and only["estimate"].isna().all() == bool(reason)
    assert found.loc[found["subset"] == "all images", "estimate"].notna().all()
    accuracy = only[only["metric"] == "accuracy"].iloc[0]
    assert reason or accuracy["images"] == 2 and accuracy["low"] <= accuracy["estimate"] <= accuracy["high"]
