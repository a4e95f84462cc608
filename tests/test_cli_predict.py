"""``mpox predict`` as a user meets it: answers, forms of output, and every kind of bad input."""

import json
import os
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from mpox.cli import main
from mpox.runs import predict
from mpox.runs.predict import NOTICE, build_predictor
from mpox.stats.calibration import probabilities_of
from mpox.stats.conformal import ConformalScores


@pytest.fixture
def invoke(use_study):
    fixed = ["--store", str(use_study.store.root), "--data-dir", use_study.folder]
    return lambda *words: CliRunner().invoke(main, ["predict", *map(str, words), *fixed])


@pytest.fixture
def tested(use_study):
    """The run's test rows, and their files."""
    rows = use_study.predictions[use_study.predictions["run_id"] == use_study.run_id].iloc[:3]
    return rows, use_study.data.manifest.set_index("image_id")["path"][rows["image_id"]].tolist()


def test_json_holds_what_the_run_said_and_where_it_comes_from(invoke, use_study, tested):
    rows, files = tested
    done = invoke(*files, "--run", use_study.run_id[:8], "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert list(said) == [
        "notice", "run", "classes", "confidence", "threshold", "temperature", "novelty_threshold", "images", "errors",
    ]  # fmt: skip
    assert said["notice"] == NOTICE and NOTICE in done.stderr and "phantom, not patients" in done.stderr
    assert said["run"]["run_id"] == use_study.run_id and said["run"]["data_hash"] == use_study.data.hash
    assert said["run"]["protocol"] == "source" and said["run"]["fold"] == 1 and said["run"]["phantom"] is True
    assert said["classes"] == use_study.data.classes and said["confidence"] == 0.9 and said["errors"] == []
    assert said["threshold"]["class"] == "Mpox" and said["threshold"]["aim"] == "sensitivity >= 0.95"
    raw = [list(image["uncalibrated"].values()) for image in said["images"]]
    np.testing.assert_allclose(raw, probabilities_of(rows), atol=1e-5)
    for image, file in zip(said["images"], files, strict=True):
        assert image["file"] == str(file) and image["heat_map"] is None
        assert sum(image["probabilities"].values()) == pytest.approx(1)
        assert image["finding"] == (image["probabilities"]["Mpox"] >= said["threshold"]["probability"])
        assert image["out_of_distribution"] == (image["novelty"] > said["novelty_threshold"]) == bool(image["warnings"])
        assert set(image["set"]) <= set(said["classes"])
        assert image["answer"] == image["set"][0] if len(image["set"]) == 1 else image["answer"].startswith("not sure")


def test_the_table_and_the_csv_say_the_same(invoke, use_study, tested):
    _, files = tested
    table = invoke(*files, "--run", use_study.run_id)
    assert table.exit_code == 0 and len(table.stdout.splitlines()) == 1 + len(files)
    assert table.stdout.splitlines()[0].split()[:2] == ["picture", "Chickenpox"] and " %" in table.stdout
    csv = pd.read_csv(StringIO(invoke(*files, "--run", use_study.run_id, "--csv").stdout))
    said = json.loads(invoke(*files, "--run", use_study.run_id, "--json").stdout)["images"]
    assert csv["answer"].tolist() == [image["answer"] for image in said]
    np.testing.assert_allclose(csv["p_Mpox"], [image["probabilities"]["Mpox"] for image in said])
    assert csv["error"].isna().all()


def test_a_higher_confidence_leaves_more_classes(invoke, use_study, tested):
    _, files = tested
    sets = [
        [len(image["set"]) for image in json.loads(invoke(*files, "--run", use_study.run_id, "--json", *more).stdout)["images"]]
        for more in (("--confidence", 0.3), ("--confidence", 0.99))
    ]
    assert (np.array(sets[0]) <= np.array(sets[1])).all() and sets[1] == [4, 4, 4]  # so few pictures can exclude nothing at 99 %


@pytest.mark.parametrize(
    ("scores", "answer"),
    [
        (((0.0,) * 9, (0.0,) * 9), "not sure: no class fits"),
        (((1.0,) * 9, (1.0,) * 9), "not sure: Measles or Mpox"),
        (((0.0,) * 9, (1.0,) * 9), "Mpox"),
    ],
)
def test_several_classes_or_none_are_not_sure(scores, answer):
    from types import SimpleNamespace

    from mpox.stats.conformal import predict_sets

    sets = predict_sets(ConformalScores(scores, True), np.array([[0.4, 0.6]]), 0.8)[0]
    row = {"in_Measles": sets[0], "in_Mpox": sets[1], "p_Measles": 0.4, "p_Mpox": 0.6, "raw_Measles": 0.4, "raw_Mpox": 0.6}
    row |= {"finding": True, "unusual": False, "novelty": 0.1}
    entry = predict._entry(SimpleNamespace(classes=("Measles", "Mpox")), "a.png", row, None)
    assert entry.answer == answer


def test_a_folder_is_its_pictures_and_a_strange_picture_is_marked(invoke, use_study, tmp_path):
    (tmp_path / "below" / ".hidden").mkdir(parents=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8))
    for name in ("b.png", "a.jpg", ".hidden/c.png"):
        noise.save(tmp_path / "below" / name)
    (tmp_path / "below" / "notes.txt").write_text("not a picture")
    done = invoke(tmp_path, tmp_path / "below" / "b.png", "--run", use_study.run_id, "--json")
    assert done.exit_code == 0, done.output
    images = json.loads(done.stdout)["images"]
    assert [os.path.basename(image["file"]) for image in images] == ["a.jpg", "b.png"]
    assert all(image["out_of_distribution"] for image in images)
    table = invoke(tmp_path, "--run", use_study.run_id).stdout
    assert table.count("unlike the pictures that the run learnt from") == 2


def test_heat_maps_are_drawn_and_never_written_over(invoke, use_study, tested, tmp_path):
    _, files = tested
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
    before = {path: path.read_bytes() for path in maps.iterdir()}
    again = invoke(*files, "--run", use_study.run_id, "--heat-map", maps)
    assert again.exit_code == 1 and "exists already" in again.stderr and not again.stdout
    assert {path: path.read_bytes() for path in maps.iterdir()} == before


def test_bad_pictures_are_named_and_the_others_predicted(invoke, use_study, tested, tmp_path, monkeypatch):
    _, files = tested
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (200, 200)).save(tmp_path / "huge.png")
    monkeypatch.setattr("mpox.data.pictures.MAX_PIXELS", 30_000)
    bad = [tmp_path / "text.png", tmp_path / "gone.png", tmp_path / "empty", tmp_path / "huge.png"]
    done = invoke(*bad, files[0], "--run", use_study.run_id, "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert [image["file"] for image in said["images"]] == [str(files[0])]
    why = {error["file"]: error["error"] for error in said["errors"]}
    assert set(why) == set(map(str, bad))
    for path, words in zip(bad, ("of no known format", "does not exist", "without a picture", "more than 30,000"), strict=True):
        assert words in why[str(path)] and f"mpox: {path} " in done.stderr
    only = invoke(tmp_path / "gone.png", "--run", use_study.run_id)
    assert only.exit_code == 1 and not only.stdout and "does not exist" in only.stderr
    csv = pd.read_csv(StringIO(invoke(*bad, files[0], "--run", use_study.run_id, "--csv").stdout))
    assert csv["error"].notna().sum() == 4 and len(csv) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--run", "0123456789abcdef"], "No run's id begins with"),
        (["--run", "ab"], "too short"),
        (["--confidence", "1.5"], "between 0 and 1"),
        (["--json", "--csv"], "choose one"),
    ],
)
def test_wrong_asks_are_one_line(invoke, use_study, tested, words, said):
    run = [] if "--run" in words else ["--run", use_study.run_id]
    done = invoke(tested[1][0], *run, *words)
    assert done.exit_code == 1 and said in done.stderr and "Traceback" not in done.output
    assert not done.stdout


def test_a_run_without_a_network_and_the_recorded_study_say_so(invoke, use_study, tested):
    done = invoke(tested[1][0], "--run", use_study.svm_id)
    assert done.exit_code == 1 and "is no network" in done.stderr
    done = CliRunner().invoke(main, ["predict", str(tested[1][0]), "--run", use_study.run_id, "--store", "recorded"])
    assert done.exit_code == 1 and "recorded study" in done.stderr


def test_a_missing_gpu_is_said(invoke, use_study, tested):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = invoke(tested[1][0], "--run", use_study.run_id, "--device", "cuda")
    assert done.exit_code == 1 and "finds no GPU" in done.stderr


def test_the_heat_map_is_of_the_class_that_is_shown(use_study, tested, monkeypatch):
    """Grad-CAM leaves the predictor as it was."""
    made = build_predictor(use_study.store, use_study.run_id, use_study.folder)
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((96, 96))) for path in tested[1]])
    before = made.predict(pixels)
    heat = made.heat_maps(pixels, np.array([0, 1, 2]))
    assert heat.shape == (3, 96, 96) and heat.min() >= 0 and heat.max() <= 1
    pd.testing.assert_frame_equal(made.predict(pixels), before)
