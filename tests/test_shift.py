"""Two collections compared: alike where they are halves of one, told apart where a shift is planted; weights undo a known one."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mpox import ModelConfig, MpoxError, evaluate, open_store
from mpox.data.dataset import Dataset
from mpox.studies.external import density_weights, effective_size, fact_differences, predict_domain

MODEL = ModelConfig(backbone="colour_histogram", image_size=32)


def make_both(n: int = 80, *, shared: int = 4, seed: int = 0, mpox: tuple[float, float] = (0.5, 0.5)) -> Dataset:
    """Two collections 'one' and 'two' of n pictures in pairs; the first `shared` pairs of each are of the same groups."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, share in zip(("one", "two"), mpox, strict=True):
        pair = np.arange(n) // 2
        ids = [f"{number:04d}" for number in range(n)]
        label = np.where(rng.random(n // 2)[pair] < share, "Mpox", "Others")
        groups = [f"both{k}" if k < shared else f"{name}{k}" for k in pair]
        part = pd.DataFrame({"original_id": ids, "label": label, "source": name, "group_id": groups})
        parts.append(part.assign(image_id=f"{name}/" + part["original_id"]))
    manifest = pd.concat(parts, ignore_index=True)
    manifest["patient_id"] = pd.array([None] * len(manifest), "string")
    manifest["pixel_sha256"] = manifest["image_id"]
    groups = pd.Series(manifest["group_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    return Dataset("one+two", manifest, groups, False, False)


def plant(monkeypatch, shift: float, *, among: set[str] | None = None, d: int = 5):
    """Features: noise that a group has in common, and a shift of collection 'two' along the first of them."""

    def features(manifest, model):
        group = pd.factorize(manifest["group_id"])[0]
        rng = np.random.default_rng(7)
        x = rng.normal(size=(group.max() + 1, d))[group] + 0.3 * rng.normal(size=(len(manifest), d))
        hit = manifest["image_id"].str.startswith("two/").to_numpy(copy=True)
        if among is not None:
            hit &= manifest["image_id"].isin(among).to_numpy()
        x[:, 0] += shift * hit
        return x.astype(np.float32)

    monkeypatch.setattr("mpox.models.features.features", features)
    monkeypatch.setattr("mpox.runs.parallel.fill_caches", lambda data, model: None)


def auroc(predictions: pd.DataFrame) -> tuple[float, float, float]:
    table = evaluate(predictions, positive="two", n_bootstrap=300)
    return tuple(table[(table["metric"] == "auroc") & (table["class"] == "two")].iloc[0][["estimate", "low", "high"]])


def test_what_both_hold_is_left_out_and_groups_are_kept_together(monkeypatch, tmp_path):
    both, store = make_both(), open_store(tmp_path)
    plant(monkeypatch, 0)
    found = predict_domain(store, both, MODEL, n_folds=4)
    assert not found["group_id"].str.startswith("both").any() and found["label"].value_counts().to_dict() == {
        "one": 72,
        "two": 72,
    }
    assert found.groupby("group_id")["fold"].nunique().max() == 1 and set(found["protocol"]) == {"domain"}
    whole = predict_domain(store, both, MODEL, whole="one", n_folds=3)
    assert whole["label"].value_counts().to_dict() == {"one": 80, "two": 72}
    only = predict_domain(store, both, MODEL, label="Mpox", n_folds=3)["image_id"]
    assert set(both.manifest.set_index("image_id").loc[only, "label"]) == {"Mpox"}
    with pytest.raises(MpoxError, match="has no image of Cowpox that is not shared"):
        predict_domain(store, both, MODEL, label="Cowpox")
    with pytest.raises(MpoxError, match="Too few groups"):
        predict_domain(store, make_both(8, shared=0), MODEL, n_folds=5)


def test_halves_of_one_collection_are_not_told_apart_and_shifted_ones_are(monkeypatch, tmp_path):
    both = make_both(200)
    plant(monkeypatch, 0)
    _, low, high = auroc(predict_domain(open_store(tmp_path / "a"), both, MODEL, n_folds=3))
    assert low < 0.5 < high and high - low < 0.3
    plant(monkeypatch, 3)
    estimate, low, high = auroc(predict_domain(open_store(tmp_path / "b"), both, MODEL, n_folds=3))
    expected = stats.norm.cdf(3 / np.sqrt(2 * (1 + 0.3**2)))  # of the best linear score
    assert low < expected < high and estimate > 0.93


def test_a_shift_in_one_class_is_found_in_that_class_only(monkeypatch, tmp_path):
    both = make_both(240)
    plant(monkeypatch, 3, among=set(both.manifest.loc[both.manifest["label"] == "Mpox", "image_id"]))
    store = open_store(tmp_path)
    assert auroc(predict_domain(store, both, MODEL, label="Mpox", n_folds=3))[1] > 0.85
    assert abs(auroc(predict_domain(store, both, MODEL, label="Others", n_folds=3))[0] - 0.5) < 0.15


def test_weights_undo_a_known_shift(monkeypatch, tmp_path):
    """Normal densities a distance of 1 apart: the ratio is exp(x - 1/2), and weighted pictures have the target's mean."""
    both = make_both(1000, shared=0)
    plant(monkeypatch, 1, d=2)
    from mpox.models import features

    predictions = predict_domain(open_store(tmp_path), both, MODEL, n_folds=2)
    weights = density_weights(predictions, "one", "two", alpha=0)
    own = both.manifest[both.manifest["source"] == "one"]
    x = features.features(both.manifest, MODEL)[own.index, 0]
    variance = 1 + 0.3**2
    truth = np.exp((x - 0.5) / variance)
    assert np.isclose(weights.mean(), 1) and weights.index.tolist() == own["image_id"].tolist()
    assert np.corrcoef(np.log(weights), np.log(truth))[0, 1] > 0.97
    assert abs(np.average(x, weights=weights) - x.mean() - 1) < 0.2
    expected = len(x) * np.exp(-1 / variance)  # n E[r]^2 / E[r^2], r log-normal
    assert 0.75 < effective_size(weights.to_numpy()) / expected < 1.3
    relative = density_weights(predictions, "one", "two", alpha=0.5)
    assert effective_size(relative.to_numpy()) > effective_size(weights.to_numpy()) and relative.max() <= 3
    assert effective_size(np.array([1.0, 1, 1, 0])) == 3 and effective_size(np.array([3.0, 1])) == 1.6
    assert np.allclose(density_weights(predictions, "one", "two", alpha=1), 1)
    with pytest.raises(MpoxError, match="predictions of one and three"):
        density_weights(predictions, "one", "three")


def test_a_standardised_difference_is_the_textbooks_and_knows_groups():
    both = make_both(60, shared=3)
    rng = np.random.default_rng(1)
    facts = both.manifest[["source", "original_id"]].rename(columns={"original_id": "image_id"})
    facts["light"] = rng.normal(size=len(facts)) + (facts["source"] == "two") * 1.0
    facts["tone"] = np.where(facts["source"] == "one", np.nan, 1.0)
    found = fact_differences(both, facts, "one", "two", n_bootstrap=400).set_index("fact")
    keep = ~both.manifest["group_id"].str.startswith("both").to_numpy()
    one, two = (facts.loc[keep & (facts["source"] == name).to_numpy(), "light"] for name in ("one", "two"))
    expected = (two.mean() - one.mean()) / np.sqrt((one.var() + two.var()) / 2)
    row = found.loc["light"]
    assert row["estimate"] == pytest.approx(expected) and row["low"] < expected < row["high"]
    assert (row["n_first"], row["n_second"]) == (54, 54)
    assert np.isnan(found.loc["tone", "estimate"]) and found.loc["tone", "n_first"] == 0
    back = fact_differences(both, facts, "two", "one", n_bootstrap=50).set_index("fact")
    assert back.loc["light", "estimate"] == pytest.approx(-expected)
