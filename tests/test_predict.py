"""A run asked again says what it said, what goes with it was fitted on held-out training images, and bad input is one line."""

import json
import os
import shutil
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from mpox import ModelConfig, MpoxError, cross_validate, open_store
from mpox.cli import main
from mpox.data.manifest import say_passed_over
from mpox.models.backbones import Deployable
from mpox.models.heads import fit
from mpox.runs import predict
from mpox.runs.cross_validation import fitted_network, fold_configs, network_of_probe, predict_nested, predict_splits
from mpox.runs.listing import find_run, training_data
from mpox.runs.predict import (
    NOTICE,
    Predictor,
    build_predictor,
    honest_performance,
    outputs,
    performance_as_text,
    read_square,
)
from mpox.runs.recorded import RecordedStore
from mpox.stats.calibration import apply_temperature, codes_of, fit_temperature, probabilities_of
from mpox.stats.conformal import ConformalScores, fit_conformal
from mpox.stats.decisions import Aim, choose_threshold


@pytest.fixture
def made(use_study):
    return build_predictor(use_study.store, use_study.run_id[:8], use_study.folder)


@pytest.fixture
def invoke(use_study):
    fixed = ["--store", str(use_study.store.root), "--data-dir", use_study.folder]
    return lambda *words: CliRunner().invoke(main, ["predict", *map(str, words), *fixed])


@pytest.fixture
def tested(use_study):
    """The run's first test rows, and their files."""
    rows = use_study.predictions[use_study.predictions["run_id"] == use_study.run_id].iloc[:3]
    return rows, files_of(use_study.data, rows["image_id"])


def files_of(data, image_ids):
    return data.manifest.set_index("image_id")["path"][image_ids].tolist()


def pixels_of(files, size):
    return np.stack([read_square(file, size) for file in files])


@pytest.mark.parametrize(("regime", "tolerance"), [("linear_probe", 1e-5), ("fine_tune", 1e-5), ("tail_tune", 5e-3)])
@pytest.mark.slow
def test_an_image_file_gets_the_probabilities_of_the_run(use_study, regime, tolerance):
    """Those of tail_tune were made in half precision behind its frozen stages."""
    training = {"epochs": 1, "frozen_stages": 6, "head_steps": 20} if regime != "linear_probe" else None
    model = ModelConfig(regime=regime, backbone="tf_efficientnet_lite0", image_size=64, training=training)
    split, configs = fold_configs(use_study.data, "source", model, n_folds=3)
    rows = split[split["fold"] == 0]
    predictions = predict_splits(use_study.store, use_study.data, "source", rows, model)
    network = fitted_network(use_study.store, use_study.data, configs[0], rows)
    _, found = outputs(Deployable(network, model), pixels_of(files_of(use_study.data, predictions["image_id"]), 64))
    np.testing.assert_allclose(found, probabilities_of(predictions), atol=tolerance)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_scaling_of_a_probe_is_folded_into_its_head(n_classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 90)
    x = rng.normal(3, 2, (90, 1280)) + y[:, None] * 0.2
    fitted, _ = fit(x, y, np.arange(90) % 3, n_classes=n_classes, head="linear", seed=0)
    network = network_of_probe(fitted, "tf_efficientnet_lite0", weights="random", n_classes=n_classes)
    with torch.inference_mode():
        found = network.head(torch.from_numpy(x.astype(np.float32))).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, fitted.predict_proba(x), atol=1e-4)


def test_what_goes_with_the_network_is_fitted_on_held_out_training_images(use_study, made, tested):
    config = find_run(use_study.store, use_study.run_id).config
    data, rows = training_data(use_study.store, config, use_study.folder)
    nested = predict_nested(use_study.store, data, rows, config.model)
    assert not set(nested["image_id"]) & set(tested[0]["image_id"])
    raw, y, k = probabilities_of(nested), codes_of(nested), made.classes.index("Mpox")
    assert made.temperature == pytest.approx(fit_temperature(raw, y)) and made.conformal == fit_conformal(raw, y)
    threshold = choose_threshold(apply_temperature(raw, made.temperature)[:, k], y == k, aim=Aim("sensitivity", 0.95))
    assert made.threshold == pytest.approx(threshold)
    trained = rows.loc[rows["role"] == "train", "image_id"]
    assert len(made.novelty.reference) == made.provenance["trained_on_images"] == len(trained)
    assert made.provenance["trained_on_groups"] == data.groups[trained].nunique()
    size = use_study.model.image_size
    noise = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    assert made.predict(noise)["out_of_distribution"].all()
    assert made.predict(pixels_of(files_of(data, trained.iloc[:16]), size))["out_of_distribution"].mean() < 0.3


def test_the_second_time_no_data_set_is_needed(use_study, made, tested, monkeypatch):
    monkeypatch.setattr(predict, "training_data", None)
    second, pixels = build_predictor(use_study.store, use_study.run_id), pixels_of(tested[1], use_study.model.image_size)
    pd.testing.assert_frame_equal(second.predict(pixels), made.predict(pixels))
    monkeypatch.setattr(predict, "VERSION", 0)
    with pytest.raises(TypeError):
        build_predictor(use_study.store, use_study.run_id)


def test_a_run_that_is_not_its_network_is_refused(use_study, tmp_path):
    store = open_store(shutil.copytree(use_study.store.root, tmp_path / "copy", ignore=shutil.ignore_patterns("predictor-*")))
    path = store.root / "runs" / use_study.run_id / "predictions.csv"
    table = pd.read_csv(path)
    table[["p_Mpox", "p_Measles"]] = table[["p_Measles", "p_Mpox"]]
    path.write_text(table.to_csv(index=False))
    with pytest.raises(MpoxError, match="differs from the run's predictions"):
        build_predictor(store, use_study.run_id, use_study.folder)
    with pytest.raises(MpoxError, match="recorded study keeps predictions, not networks"):
        build_predictor(RecordedStore.__new__(RecordedStore), use_study.run_id)
    with pytest.raises(MpoxError, match="no network"):
        build_predictor(store, use_study.svm_id, use_study.folder)
    trained = ModelConfig(regime="fine_tune", backbone="tf_efficientnet_lite0", image_size=64)
    split, configs = fold_configs(use_study.data, "source", trained, n_folds=3)
    result = find_run(store, use_study.svm_id)
    adopted = type(result)(configs[0], result.predictions, result.history, result.environment)
    store.keep_split(configs[0].split, split[split["fold"] == 0])
    store.run(configs[0], lambda _: adopted)
    with pytest.raises(MpoxError, match="was not kept"):
        build_predictor(store, configs[0].id, use_study.folder)


def test_a_run_of_an_unregistered_folder_finds_it_by_data_dir(tiny_folder, tmp_path):
    store = open_store(tmp_path / "store")
    data = store.dataset(str(tiny_folder))
    run_id = cross_validate(store, data, "source", ModelConfig(image_size=64, mirror=False), n_folds=3)["run_id"].iloc[0]
    with pytest.raises(MpoxError, match="learnt from the folder 'tiny', which is not here"):
        build_predictor(store, run_id)
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    (tmp_path / "tiny" / "Normal" / "00.png").unlink()
    with pytest.raises(MpoxError, match="is not the one of the run"):
        build_predictor(open_store(store.root), run_id, str(tmp_path))
    for folder in (tiny_folder.parent, tiny_folder):
        made = build_predictor(open_store(store.root), run_id, str(folder))
    assert not made.provenance["phantom"] and made.provenance["dataset"] == "tiny"


def test_every_form_of_the_answer_says_the_same(invoke, use_study, made, tested):
    rows, files = tested
    done = invoke(*files, "--run", use_study.run_id[:8], "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["notice"] == NOTICE and NOTICE in done.stderr and "phantom, not patients" in done.stderr
    assert said["run"] == made.provenance and said["run"]["phantom"] and said["run"]["data_hash"] == use_study.data.hash
    assert said["classes"] == use_study.data.classes and said["confidence"] == 0.9 and said["errors"] == []
    assert said["threshold"] == {"class": "Mpox", "aim": "sensitivity >= 0.95", "probability": made.threshold}
    np.testing.assert_allclose(
        [list(image["uncalibrated"].values()) for image in said["images"]], probabilities_of(rows), atol=1e-5
    )
    assert [image["file"] for image in said["images"]] == list(map(str, files))
    for image in said["images"]:
        assert sum(image["probabilities"].values()) == pytest.approx(1) and image["heat_map"] is None
        strange = image["out_of_distribution"]
        assert image["finding"] == (None if strange else image["probabilities"]["Mpox"] >= made.threshold)
        assert (image["answer"] is None) == strange and not (strange and image["set"]) and image["in_training"] == []
        assert image["out_of_distribution"] == (image["novelty"] > made.novelty.threshold) == bool(image["warnings"])
    csv = pd.read_csv(StringIO(invoke(*files, "--run", use_study.run_id, "--csv").stdout))
    assert (
        csv["answer"].astype(object).where(csv["answer"].notna(), None).tolist() == [one["answer"] for one in said["images"]]
        and csv["error"].isna().all()
    )
    np.testing.assert_allclose(csv["p_Mpox"], [image["probabilities"]["Mpox"] for image in said["images"]])
    lines = invoke(*files, "--run", use_study.run_id).stdout.splitlines()
    assert len(lines) == 1 + len(files) and lines[0].split()[:2] == ["image", "Chickenpox"] and " %" in lines[1]
    sure = json.loads(invoke(*files, "--run", use_study.run_id, "--json", "--confidence", 0.99).stdout)["images"]
    assert all(
        len(image["set"]) == (0 if image["out_of_distribution"] else 4) for image in sure
    )  # so few images can exclude nothing at 99 %


def test_a_crop_of_a_training_image_is_marked_and_an_image_unlike_them_gets_no_answer(invoke, use_study, tmp_path):
    """The run's worth and the confidence are told in both forms."""
    config = find_run(use_study.store, use_study.run_id).config
    data, rows = training_data(use_study.store, config, use_study.folder)
    trained = rows.loc[rows["role"] == "train", "image_id"].iloc[0]
    image = Image.open(files_of(data, [trained])[0])
    image.crop((8, 8, 90, 90)).resize((180, 180)).save(tmp_path / "crop.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    done = invoke(tmp_path, "--run", use_study.run_id, "--json")
    said = json.loads(done.stdout)
    crop, noise = said["images"]
    assert trained in crop["in_training"] and trained in crop["warnings"][-1]
    assert noise["in_training"] == [] and noise["out_of_distribution"]
    assert noise["answer"] is None and noise["finding"] is None and noise["set"] == []
    worth = said["performance"]
    assert worth["protocol"] == "source" and worth["images"] >= worth["groups"] > 1
    for name in ("sensitivity", "specificity"):
        share = worth[name]
        assert 0 <= share["low"] <= share["estimate"] <= share["high"] <= 1 and share["low"] < share["high"]
        assert f"{name} {share['estimate']:.2f} (" in done.stderr and f"95 % CI {share['low']:.2f} to" in done.stderr
    assert "confidence of 90 %" in done.stderr
    lines = invoke(tmp_path, "--run", use_study.run_id).stdout.splitlines()
    assert trained in lines[1] and "no answer" in lines[2] and "unlike the images" in lines[2]


def test_where_the_training_images_are_not_here_that_is_told(invoke, use_study, made, tested, monkeypatch):
    def absent(*_):
        raise MpoxError("It is not here.")

    monkeypatch.setattr(predict, "training_data", absent)
    done = invoke(tested[1][0], "--run", use_study.run_id, "--json")
    assert done.exit_code == 0 and "is not known. It is not here." in done.stderr
    assert [one["in_training"] for one in json.loads(done.stdout)["images"]] == [None]


def test_a_run_whose_protocol_leaks_has_no_honest_sensitivity(use_study, made):
    split, configs = fold_configs(use_study.data, "random_image", use_study.model, n_folds=3)
    predict_splits(use_study.store, use_study.data, "random_image", split, use_study.model)
    worth = honest_performance(use_study.store, configs[0].id, made)
    assert worth["sensitivity"] is worth["specificity"] is None
    assert "no honest sensitivity" in performance_as_text(worth, made, 0.9)


@pytest.mark.parametrize(
    ("wrong_on", "answer"),
    [((0.0, 0.0), "not sure: no class fits"), ((1.0, 1.0), "not sure: Measles or Mpox"), ((0.0, 1.0), "Mpox")],
)
def test_several_classes_or_none_are_not_sure(wrong_on, answer, monkeypatch):
    monkeypatch.setattr(predict, "outputs", lambda *_, **__: (np.ones((1, 2)), np.array([[0.4, 0.6]])))
    monkeypatch.setattr(predict, "novelty_score", lambda *_: np.zeros(1))
    conformal = ConformalScores(tuple((score,) * 9 for score in wrong_on), True)
    made = Predictor(None, None, ("Measles", "Mpox"), "Mpox", 1.0, 0.5, conformal, SimpleNamespace(threshold=1.0), {})
    assert made.predict(None, confidence=0.8)["answer"].tolist() == [answer]


def test_a_folder_is_its_images_and_a_strange_image_is_marked(invoke, use_study, tmp_path):
    for folder in (".hidden", "@eaDir/a.jpg"):
        (tmp_path / "below" / folder).mkdir(parents=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8))
    for name in ("b.png", "a.jpg", ".hidden/c.png", "@eaDir/a.jpg/thumb.jpg"):
        noise.save(tmp_path / "below" / name)
    (tmp_path / "below" / "notes.txt").write_text("not an image")
    done = invoke(tmp_path, tmp_path / "below" / "b.png", "--run", use_study.run_id)
    assert done.exit_code == 0 and done.stdout.count("unlike the images that the run learnt from") == 2
    assert [os.path.basename(line.split()[0]) for line in done.stdout.splitlines()[1:]] == ["a.jpg", "b.png"]
    assert say_passed_over([str(tmp_path / "below" / "@eaDir")]) in done.stderr
    said = json.loads(invoke(tmp_path / "below", "--run", use_study.run_id, "--json").stdout)
    assert said["passed_over"] == [str(tmp_path / "below" / "@eaDir")] and not said["errors"]


def test_heat_maps_are_drawn_and_never_written_over(invoke, use_study, made, tested, tmp_path):
    files, before = tested[1], made.predict(pixels_of(tested[1], 96))
    twin = tmp_path / "twin" / os.path.basename(files[0])
    twin.parent.mkdir()
    Image.open(files[1]).resize((60, 90)).save(twin)
    maps = tmp_path / "maps"
    done = invoke(files[0], twin, "--run", use_study.run_id, "--json", "--heat-map", maps)
    assert done.exit_code == 0, done.output
    drawn = [image["heat_map"] for image in json.loads(done.stdout)["images"]]
    assert sorted(map(str, maps.iterdir())) == sorted(drawn) and len(set(drawn)) == 2
    assert [Image.open(path).size for path in drawn] == [Image.open(files[0]).size, (60, 90)]
    assert np.abs(np.asarray(Image.open(drawn[0]), float) - np.asarray(Image.open(files[0]), float)).mean() > 5
    again = invoke(*files, "--run", use_study.run_id, "--heat-map", maps)
    assert again.exit_code == 1 and "exists already" in again.stderr and not again.stdout
    pd.testing.assert_frame_equal(made.predict(pixels_of(files, 96)), before)


def test_bad_images_are_named_and_the_others_predicted(invoke, use_study, tested, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (200, 200)).save(tmp_path / "huge.png")
    Image.new("RGB", (31, 90)).save(tmp_path / "small.png")
    monkeypatch.setattr("mpox.data.pictures.MAX_PIXELS", 30_000)
    bad = [tmp_path / "text.png", tmp_path / "gone.png", tmp_path / "empty", tmp_path / "huge.png", tmp_path / "small.png"]
    done = invoke(*bad, tested[1][0], "--run", use_study.run_id, "--json")
    said = json.loads(done.stdout, parse_constant=pytest.fail)
    assert done.exit_code == 1 and [image["file"] for image in said["images"]] == [str(tested[1][0])]
    assert said["images"][0]["heat_map"] is None
    why = {error["file"]: error["error"] for error in said["errors"]}
    assert set(why) == set(map(str, bad))
    reasons = (
        "of no known format",
        "does not exist",
        "without an image",
        "more than 30,000",
        "is too small (31 x 90 pixels): a side",
    )
    for path, words in zip(bad, reasons, strict=True):
        assert words in why[str(path)] and f"mpox: {path} " in done.stderr
    csv = pd.read_csv(StringIO(invoke(*bad, tested[1][0], "--run", use_study.run_id, "--csv").stdout))
    assert csv["error"].notna().sum() == 5 and len(csv) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--run", "0123456789abcdef"], "No run's id begins with"),
        (["--run", "ab"], "too short"),
        (["--confidence", "1.5"], "between 0 and 1"),
        (["--json", "--csv"], "choose one"),
        pytest.param(
            ["--device", "cuda"],
            "no GPU here: use 'cpu' (--device,",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here"),
        ),
    ],
)
def test_wrong_asks_are_one_line(invoke, use_study, tested, words, said):
    run = [] if "--run" in words else ["--run", use_study.run_id]
    done = invoke(tested[1][0], *run, *words)
    assert done.exit_code == 1 and said in done.stderr and "Traceback" not in done.output and not done.stdout
