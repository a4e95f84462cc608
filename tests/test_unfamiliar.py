"""Pictures that are no rash, and what a model says to them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from mpox import ModelConfig, MpoxError, cross_validate, open_store
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate
from mpox.data.phantom.oddities import Oddity, draw_oddities
from mpox.protocols.splits import make_splits
from mpox.runs.cross_validation import predict_nested
from mpox.stats.calibration import calibrated, calibration_table, with_temperature
from mpox.stats.conformal import conformal_sets, coverage_table
from mpox.stats.metrics import class_names, codes_of, probabilities_of
from mpox.studies.unfamiliar import (
    ELSEWHERE,
    OWN,
    from_elsewhere,
    kept_table,
    novelty_measures,
    picture_features,
    unfamiliar_table,
)

MODEL = ModelConfig(backbone="colour_histogram", image_size=64)


@pytest.fixture(scope="module")
def oddities() -> list[Oddity]:
    return draw_oddities(64, n=2, seed=3)


def test_the_pictures_are_what_they_were_and_all_different(oddities):
    again, others = draw_oddities(64, n=2, seed=3), draw_oddities(64, n=2, seed=4)
    assert len({oddity.name for oddity in oddities}) == len(oddities)
    for one, two in zip(oddities, again, strict=True):
        assert one.picture.shape == (64, 64, 3) and one.picture.dtype == np.uint8
        assert (one.picture == two.picture).all()
    changed = [(one.picture != two.picture).any() for one, two in zip(oddities, others, strict=True) if one.name[-1].isdigit()]
    assert sum(changed) == 10  # all that are drawn but healthy skin, which follows its number
    assert len({one.picture.tobytes() for one in oddities}) == len(oddities)


def test_a_page_has_print_a_wall_has_none_and_dermoscopy_has_its_frame(oddities):
    of = {oddity.name: oddity.picture.astype(float).mean(axis=2) for oddity in oddities}
    steps = {name: np.abs(np.diff(picture, axis=1)).mean() for name, picture in of.items()}
    assert steps["document 1"] > 2 * steps["plain wall 1"]
    spot = of["dermoscopy-like drawing 1"]
    assert spot[:4, :4].max() < 20 and spot[28:36, 28:36].mean() < 0.75 * spot[8, 28:36].mean()


@pytest.fixture(scope="module")
def asked(tiny_folder, oddities):
    store = open_store()
    data = store.dataset(str(tiny_folder))
    split = make_splits(data.manifest, "source", n_folds=3)
    nested = predict_nested(store, data, split, MODEL)
    table = unfamiliar_table(data, split, nested, MODEL, oddities, data.manifest.head(3))
    return store, data, split, nested, table


def test_own_pictures_meet_the_model_of_their_fold_and_others_all_of_them(asked, oddities):
    store, data, _, _, table = asked
    predictions = cross_validate(store, data, "source", MODEL, n_folds=3).set_index("image_id")
    own = table[table["kind"] == OWN].set_index("name")
    assert sorted(own.index) == sorted(data.manifest["image_id"])
    assert np.allclose(own["p"], predictions["p_Mpox"].reindex(own.index), atol=1e-4)
    assert len(table) == len(data.manifest) + len(oddities) + 3
    assert (table.loc[table["kind"] == ELSEWHERE, "name"] == data.manifest["image_id"].head(3).to_numpy()).all()
    shares = table.loc[table["kind"] != OWN, ["certain", "warned"]].to_numpy() * 3
    assert np.allclose(shares, shares.round(), atol=1e-3)


def test_colours_of_no_skin_raise_a_warning_and_most_test_pictures_none(asked):
    warned = asked[-1].groupby("kind")["warned"].mean()
    assert warned[OWN] < 0.3 and warned["landscape"] > 0.8


def test_the_areas_are_scikit_learns(asked):
    _, data, _, _, table = asked
    areas = novelty_measures(table, data.groups, n_bootstrap=100).set_index(["kind", "score"])
    part = table[table["kind"].isin([OWN, "thing"])]
    strange = part["kind"] == "thing"
    for score, values in (("neighbours", part["neighbours"]), ("mahalanobis", part["mahalanobis"]), ("unsure", -part["top"])):
        row = areas.loc[("thing", score)]
        assert row["estimate"] == pytest.approx(roc_auc_score(strange, values))
        assert row["low"] <= row["estimate"] <= row["high"] and row["pictures"] == strange.sum()


def test_only_a_probe_in_one_repeat_is_asked(asked, oddities):
    _, data, split, nested, _ = asked
    for wrong in ((split, replace(MODEL, regime="nearest_neighbour")), (pd.concat([split, split.assign(repeat=1)]), MODEL)):
        with pytest.raises(MpoxError, match="asked of a linear probe, in one repeat"):
            unfamiliar_table(data, wrong[0], nested, wrong[1], oddities)


def test_a_strange_picture_has_the_features_it_would_have_in_a_data_set(asked):
    from mpox.data.pictures import read_rgb
    from mpox.models.features import features

    _, data, *_ = asked
    rows = data.manifest.head(2)
    pixels = [np.asarray(read_rgb(path)) for path in rows["path"]]
    assert np.allclose(picture_features(pixels, MODEL), features(rows, MODEL), atol=1e-6)


def test_nothing_that_is_shared_comes_from_elsewhere(asked):
    _, data, *_ = asked
    groups = "other/" + data.manifest["image_id"]
    other = replace(data, name="other", manifest=data.manifest.assign(group_id=[data.groups.iloc[0], *groups[1:]]))
    rows = from_elsewhere(data, other, n=100)
    assert sorted(rows["image_id"]) == sorted(data.manifest["image_id"])[1:]
    assert len(from_elsewhere(data, other, n=5)) == 5


def test_a_kept_table_is_of_one_model_only(monkeypatch, tmp_path):
    """Whatever decides what a probe says decides where its table is kept; what was recorded keeps its place."""
    keys = []

    class Store:
        def table(self, name, spec, compute):
            keys.append((name, str(sorted(spec.items()))))

    data = SimpleNamespace(name="d", hash="h")
    plain = ModelConfig(image_size=64)
    changes: list[dict] = [{}, {"mirror": False}, {"seed": 1}, {"weights": "random"}, {"head": "hidden"}]
    models = [plain.with_(**change) for change in changes]
    for model in [*models, plain]:
        kept_table(Store(), data, None, None, model, protocol="source", n_folds=3, seed=0, n_oddities=2)
    assert len(set(keys)) == len(models) and keys[0] == keys[-1] and "mirror" not in keys[0][1]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Test and nested predictions of a small phantom without copies, by a probe that is made eight times too sure."""
    spec = PhantomSpec(n_patients=36, size=96, seed=2, copies=0, label_conflicts=0)
    manifest = build_manifest(str(generate(tmp_path_factory.mktemp("phantom") / "phantom", spec)))
    manifest = manifest.assign(group_id=manifest["patient_id"])
    groups = pd.Series(manifest["patient_id"].to_numpy(), index=manifest["image_id"].to_numpy(), name="group_id")
    data = Dataset("small-phantom", manifest, groups, is_phantom=True, has_pictures=True)
    store, split, model = open_store(), make_splits(manifest, "source", n_folds=3), ModelConfig(image_size=96)
    tables = cross_validate(store, data, "source", model, n_folds=3), predict_nested(store, data, split, model)
    return [with_temperature(table, 1 / 8) for table in tables]


@pytest.mark.slow
def test_the_calibration_error_of_an_over_confident_model_of_the_phantom_falls(phantom):
    predictions, nested = phantom
    after = calibrated(predictions, nested, "temperature")
    tables = [calibration_table(table, "Mpox", n_bootstrap=0).set_index("measure")["estimate"] for table in (predictions, after)]
    assert tables[1]["ece"] < 0.75 * tables[0]["ece"] and tables[1]["brier"] < tables[0]["brier"]
    losses = [log_loss(codes_of(table), probabilities_of(table), labels=range(4)) for table in (predictions, after)]
    assert losses[1] < 0.8 * losses[0] and (after["temperature"] > 2).all()


def test_conformal_sets_of_an_over_confident_model_of_the_phantom_hold_the_truth(phantom):
    table = coverage_table(conformal_sets(*phantom, confidence=0.8), n_bootstrap=200).set_index(["class", "measure"])
    assert table.loc[("all", "coverage"), "high"] > 0.8
    low = [table.loc[(label, "coverage"), "high"] for label in class_names(phantom[0])]
    assert min(low) > 0.7  # a quarter of ten groups a class: no more can be asked
