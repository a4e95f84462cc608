"""Training with another set's pictures: the folds stay, no copy of a target's picture comes in, and nothing added is held out."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mpox import ModelConfig, MpoxError, cross_validate, open_store
from mpox.data.dataset import Dataset
from mpox.models import heads
from mpox.protocols.pairs import mixed_splits
from mpox.protocols.splits import make_splits, split_hash
from mpox.studies.external import cross_validate_mixed


def _dataset(name: str, labels: list[str], groups: list[str]) -> Dataset:
    ids = [f"{name[0]}{number:03d}" for number in range(len(labels))]
    manifest = pd.DataFrame({"image_id": ids, "label": labels, "source": name, "group_id": groups})
    manifest["patient_id"] = pd.array([None] * len(ids), "string")
    manifest["sha256"] = manifest["pixel_sha256"] = [f"{name}-{number}" for number in range(len(ids))]
    return Dataset(name, manifest, pd.Series(groups, index=ids, name="group_id"), False, False)


@pytest.fixture
def sets():
    """A target of 40 pictures in 30 groups, another of 20, five of which share a group with the target; both as one."""
    rng = np.random.default_rng(0)
    labels = list(np.where(np.arange(40) % 2, "Mpox", "Others"))
    target = _dataset("target", labels, [f"t{number % 30}" for number in range(40)])
    other = _dataset("other", list(rng.permutation(labels[:20])), [f"t{n}" if n < 5 else f"o{n}" for n in range(20)])
    parts = [one.manifest.assign(original_id=one.manifest["image_id"]) for one in (target, other)]
    manifest = pd.concat(parts, ignore_index=True)
    manifest["image_id"] = manifest["source"] + "/" + manifest["image_id"]
    manifest = manifest.sort_values("image_id", ignore_index=True)
    groups = pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return target, Dataset("target+other", manifest, groups, False, False)


def test_the_folds_are_the_targets_own(sets):
    target, both = sets
    mixed = mixed_splits(target, both, n_folds=3, n_repeats=2, seed=4)
    own = mixed[mixed["image_id"].str.startswith("target/")].copy()
    own["image_id"] = own["image_id"].str.removeprefix("target/")
    assert split_hash(own) == split_hash(make_splits(target.manifest, "source", n_folds=3, n_repeats=2, seed=4))


def test_what_is_added_is_learnt_from_never_held_out_and_no_copy(sets):
    target, both = sets
    mixed = mixed_splits(target, both, n_folds=3)
    added = mixed[mixed["image_id"].str.startswith("other/")]
    assert added.groupby("fold")["image_id"].nunique().tolist() == [15, 15, 15]
    assert set(added["role"]) == {"train"} and set(added["inner_fold"]) == {-1}
    assert not set(added["group_id"]) & set(target.groups)


def test_a_set_without_the_target_or_without_anything_new_is_refused(sets):
    target, both = sets
    less = both.manifest[both.manifest["original_id"] != "t000"].reset_index(drop=True)
    with pytest.raises(MpoxError, match="does not hold all images"):
        mixed_splits(target, Dataset(both.name, less, both.groups, False, False))
    shared = both.manifest[(both.manifest["source"] == "target") | both.manifest["group_id"].str.startswith("t")]
    with pytest.raises(MpoxError, match="nothing to add"):
        mixed_splits(target, Dataset(both.name, shared.reset_index(drop=True), both.groups, False, False))


def test_predictions_come_back_under_the_targets_names_and_pair_with_its_own(sets, tmp_path, monkeypatch):
    target, both = sets
    strong = {"target": 0.2, "other": 2.0}  # the class shows more clearly in the added pictures

    def features(manifest, model):
        rng = np.random.default_rng(1)
        sign = np.where(manifest["label"] == "Mpox", 1, -1)
        weight = manifest["source"].map(strong).to_numpy()
        return (rng.normal(size=(len(manifest), 5)) + (sign * weight)[:, None]).astype(np.float32)

    monkeypatch.setattr("mpox.models.features.features", features)
    monkeypatch.setattr("mpox.runs.parallel.fill_caches", lambda data, model: None)
    store = open_store(tmp_path / "store")
    model = ModelConfig(backbone="colour_histogram", image_size=32)
    alone = cross_validate(store, target, "source", model, n_folds=3)
    mixed = cross_validate_mixed(store, target, both, model, n_folds=3)
    key = ["repeat", "fold", "image_id", "group_id", "label"]
    pd.testing.assert_frame_equal(
        mixed[key].sort_values(key, ignore_index=True), alone[key].sort_values(key, ignore_index=True), check_dtype=False
    )
    assert set(mixed["protocol"]) == {"mixed"} and not np.allclose(mixed["p_Mpox"].mean(), alone["p_Mpox"].mean(), atol=1e-6)
    nested = cross_validate_mixed(store, target, both, model, n_folds=3, nested=True)
    split = make_splits(target.manifest, "source", n_folds=3)
    learnt = split[split["role"] == "train"].sort_values(["fold", "image_id"], ignore_index=True)
    nested = nested.sort_values(["fold", "image_id"], ignore_index=True)
    assert nested[["fold", "image_id", "inner_fold"]].equals(learnt[["fold", "image_id", "inner_fold"]])
    assert set(nested["group_id"]) <= set(target.groups) and set(nested["dataset"]) == {"target"}


def _half_extra(rng):
    x = rng.normal(size=(90, 4)) + np.tile([[0.0], [0.9]], (45, 1))
    y, inner = np.tile([0, 1], 45), np.r_[np.arange(60) // 2 % 4, np.full(30, -1)]
    return x, y, inner


def test_the_loss_of_a_probe_is_over_the_images_held_out_each_by_a_model_that_knew_all_added_ones():
    x, y, inner = _half_extra(np.random.default_rng(3))
    _, history = heads.predict_by_probe(x, y, inner, x[:5], n_classes=2, head="linear", seed=0)
    strength, losses = heads.STRENGTHS[3], []
    for fold in range(4):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=500))
        model.fit(x[inner != fold], y[inner != fold])
        out = inner == fold
        losses.extend(-np.log(model.predict_proba(x[out])[np.arange(out.sum()), y[out]]))
    assert np.isclose(history["validation_loss"][3], np.mean(losses))


@pytest.mark.parametrize("predict", [heads.predict_by_probe, heads.predict_by_svm, heads.predict_by_neighbour])
def test_every_frozen_regime_learns_from_images_that_are_never_held_out(predict):
    x, y, inner = _half_extra(np.random.default_rng(3))
    options = {"head": "linear", "seed": 0} if predict is heads.predict_by_probe else {}
    asked = np.random.default_rng(4).normal(size=(20, 4))
    with_extra, history = predict(x, y, inner, asked, n_classes=2, **options)
    known = inner >= 0
    without, _ = predict(x[known], y[known], inner[known], asked, n_classes=2, **options)
    turned, changed = predict(x, np.where(known, y, 1 - y), inner, asked, n_classes=2, **options)
    assert np.isfinite(history["validation_loss"]).all() and history["chosen"].sum() == 1
    assert not np.allclose(with_extra, without, atol=1e-4) and not np.allclose(with_extra, turned, atol=1e-4)
    assert changed["validation_loss"].min() > history["validation_loss"].min()  # wrong labels added do harm where it is measured
