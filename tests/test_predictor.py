"""A predictor says what its run said, and what goes with it was fitted on held-out training pictures only."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from mpox import ModelConfig, MpoxError, cross_validate, open_store
from mpox.runs import predict
from mpox.runs.cross_validation import fold_configs, predict_nested, predict_splits
from mpox.runs.listing import find_run, list_runs, training_data
from mpox.runs.predict import BUNDLE, build_predictor, read_square
from mpox.runs.recorded import RecordedStore
from mpox.stats.calibration import apply_temperature, codes_of, fit_temperature, probabilities_of
from mpox.stats.conformal import fit_conformal
from mpox.stats.decisions import Aim, choose_threshold


def rows_of(study, run_id):
    return study.predictions[study.predictions["run_id"] == run_id].reset_index(drop=True)


def pixels_of(study, image_ids):
    paths = study.data.manifest.set_index("image_id")["path"]
    return np.stack([read_square(paths[image_id], study.model.image_size) for image_id in image_ids])


def test_a_picture_file_gets_the_probabilities_of_the_run(use_study):
    rows = rows_of(use_study, use_study.run_id)
    made = build_predictor(use_study.store, use_study.run_id[:8], use_study.folder)
    table = made.predict(pixels_of(use_study, rows["image_id"]))
    raw = table[[f"raw_{label}" for label in made.classes]].to_numpy()
    np.testing.assert_allclose(raw, probabilities_of(rows), atol=1e-5)
    calibrated = table[[f"p_{label}" for label in made.classes]].to_numpy()
    np.testing.assert_allclose(calibrated, apply_temperature(raw, made.temperature), atol=1e-12)
    assert (calibrated.argmax(axis=1) == raw.argmax(axis=1)).all()


@pytest.mark.parametrize(("regime", "tolerance"), [("fine_tune", 1e-5), ("tail_tune", 5e-3)])
def test_a_trained_network_from_its_checkpoint_says_the_same(use_study, regime, tolerance):
    """That of tail_tune was asked in half precision behind its frozen stages."""
    training = {"epochs": 1, "frozen_stages": 6, "head_steps": 20}
    model = ModelConfig(regime=regime, backbone="tf_efficientnet_lite0", image_size=64, training=training)
    split, configs = fold_configs(use_study.data, "source", model, n_folds=3)
    predictions = predict_splits(use_study.store, use_study.data, "source", split[split["fold"] == 0], model)
    network = predict.load_model(use_study.store, configs[0], len(use_study.data.classes))
    pixels = np.stack(
        [read_square(path, 64) for path in use_study.data.manifest.set_index("image_id")["path"][predictions["image_id"]]]
    )
    _, found = predict.outputs(predict._deployable(network, model), pixels)
    np.testing.assert_allclose(found, probabilities_of(predictions), atol=tolerance)


def test_what_goes_with_the_network_is_fitted_on_held_out_training_pictures(use_study):
    made = build_predictor(use_study.store, use_study.run_id, use_study.folder)
    config = find_run(use_study.store, use_study.run_id).config
    data, rows = training_data(use_study.store, config, use_study.folder)
    nested = predict_nested(use_study.store, data, rows, config.model)
    assert not set(nested["image_id"]) & set(rows_of(use_study, use_study.run_id)["image_id"])
    raw, y = probabilities_of(nested), codes_of(nested)
    assert made.temperature == pytest.approx(fit_temperature(raw, y))
    assert asdict(made.conformal) == asdict(fit_conformal(raw, y))
    k = made.classes.index("Mpox")
    threshold = choose_threshold(apply_temperature(raw, made.temperature)[:, k], y == k, aim=Aim("sensitivity", 0.95))
    assert made.thresholds == {"sensitivity >= 0.95": pytest.approx(threshold)}
    trained = rows.loc[rows["role"] == "train", "image_id"]
    assert len(made.novelty.reference) == made.provenance["trained_on_images"] == len(trained)
    assert made.provenance["trained_on_groups"] == data.groups[trained].nunique()


def test_a_picture_of_nothing_known_is_unusual_and_a_training_picture_is_not(use_study):
    made = build_predictor(use_study.store, use_study.run_id, use_study.folder)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, use_study.model.image_size, use_study.model.image_size, 3), dtype=np.uint8)
    assert made.predict(noise)["unusual"].all()
    _, rows = training_data(use_study.store, find_run(use_study.store, use_study.run_id).config, use_study.folder)
    known = rows.loc[rows["role"] == "train", "image_id"].iloc[:16]
    assert made.predict(pixels_of(use_study, known))["unusual"].mean() < 0.3


def test_the_second_time_no_data_set_is_needed(use_study, monkeypatch):
    first = build_predictor(use_study.store, use_study.run_id, use_study.folder)
    monkeypatch.setattr(predict, "training_data", None)
    second = build_predictor(use_study.store, use_study.run_id)
    assert second.provenance == first.provenance and second.conformal == first.conformal
    pixels = pixels_of(use_study, rows_of(use_study, use_study.run_id)["image_id"].iloc[:3])
    pd.testing.assert_frame_equal(second.predict(pixels), first.predict(pixels))


def test_what_another_version_kept_is_made_anew(use_study, monkeypatch):
    build_predictor(use_study.store, use_study.run_id, use_study.folder)
    path = use_study.store.root / "runs" / use_study.run_id / BUNDLE
    kept = path.read_bytes()
    tensors = load_file(path)
    save_file(tensors, path, metadata={"predictor": json.dumps({"made": {"package": "0.0"}})})
    build_predictor(use_study.store, use_study.run_id, use_study.folder)
    assert path.read_bytes() == kept
    path.write_bytes(b"cut short")
    build_predictor(use_study.store, use_study.run_id, use_study.folder)
    assert path.read_bytes() == kept


def test_the_run_with_its_bundle_is_still_a_whole_run(use_study, monkeypatch, tmp_path):
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))  # whatever the project's run folders refer to
    build_predictor(use_study.store, use_study.run_id, use_study.folder)
    runs = list_runs(use_study.store.root).set_index("id")
    assert not runs.loc[use_study.run_id, "damaged"]
    assert (use_study.store.root / "runs" / use_study.run_id / BUNDLE).is_file()


def test_a_probe_that_cannot_be_fitted_again_is_an_error(use_study, tmp_path):
    store = open_store(copied(use_study.store, tmp_path))
    path = store.root / "runs" / use_study.run_id / "predictions.csv"
    table = pd.read_csv(path)
    table[["p_Mpox", "p_Measles"]] = table[["p_Measles", "p_Mpox"]]
    path.write_text(table.to_csv(index=False))
    with pytest.raises(MpoxError, match="fitted anew, differs from the run's predictions"):
        build_predictor(store, use_study.run_id, use_study.folder)


def copied(store, folder):
    """The folder of a copy of the store, without bundles."""
    return shutil.copytree(store.root, folder / "copy", ignore=shutil.ignore_patterns(BUNDLE))


def test_wrong_asks_are_one_sentence(use_study):
    store, run_id = use_study.store, use_study.run_id
    swapped = run_id[:6] + ("0" if run_id[6] != "0" else "1") + run_id[7:]
    with pytest.raises(MpoxError, match=f"did you mean {run_id}"):
        build_predictor(store, swapped)
    with pytest.raises(MpoxError, match="too short"):
        build_predictor(store, run_id[:2])
    twin = store.root / "runs" / (run_id[:6] + "f" * 10)
    twin.mkdir()
    try:
        with pytest.raises(MpoxError, match="2 runs begin with"):
            build_predictor(store, run_id[:6])
    finally:
        twin.rmdir()
    with pytest.raises(MpoxError, match="recorded study keeps predictions, not networks"):
        build_predictor(RecordedStore.__new__(RecordedStore), run_id)
    with pytest.raises(MpoxError, match="no network"):
        build_predictor(store, use_study.svm_id, use_study.folder)


def test_a_trained_run_that_was_adopted_has_no_network(use_study, tmp_path):
    config = fold_configs(
        use_study.data, "source", ModelConfig(regime="fine_tune", backbone="tf_efficientnet_lite0", image_size=64), n_folds=3
    )[1][0]
    result = find_run(use_study.store, use_study.run_id)
    store = open_store(tmp_path / "adopted")
    store.run(config, lambda _: type(result)(config, result.predictions, result.history, result.environment))
    with pytest.raises(MpoxError, match="was not kept"):
        build_predictor(store, config.id)


def test_a_run_of_an_unregistered_folder_finds_it_by_data_dir(tiny_folder, tmp_path):
    store = open_store(tmp_path / "store")
    data = store.dataset(str(tiny_folder))
    table = cross_validate(store, data, "source", ModelConfig(image_size=64, mirror=False), n_folds=3)
    run_id = table["run_id"].iloc[0]
    with pytest.raises(MpoxError, match="learnt from the folder 'tiny', which is not here"):
        build_predictor(store, run_id)
    for folder in (tiny_folder.parent, tiny_folder):
        config = find_run(store, run_id).config
        assert training_data(store, config, str(folder))[0].hash == data.hash
    shutil.copytree(tiny_folder, tmp_path / "other" / "tiny")
    (tmp_path / "other" / "tiny" / "Normal" / "00.png").unlink()
    with pytest.raises(MpoxError, match="is not the one of the run"):
        build_predictor(open_store(copied(store, tmp_path)), run_id, str(tmp_path / "other"))
    made = build_predictor(store, run_id, str(tiny_folder))
    assert not made.provenance["phantom"] and made.provenance["dataset"] == "tiny"
    spotted = data.manifest.loc[data.manifest["label"] == "Mpox", "path"]
    pixels = np.stack([read_square(path, 64) for path in spotted])
    assert made.heat_maps(pixels, np.zeros(len(pixels), int)).max(axis=(1, 2)).mean() > 0.5  # of the first of two classes, too
    picture = Image.fromarray(np.zeros((80, 40, 3), np.uint8))
    picture.save(tmp_path / "black.png")
    assert len(made.predict(read_square(tmp_path / "black.png", 64)[None])) == 1
