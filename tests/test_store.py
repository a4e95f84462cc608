"""Runs are named by what defines them, computed once, and whole or absent; a cross-validation is read from them."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mpox._core import MpoxError, hash_of
from mpox.audit import Audit
from mpox.audit.result import EVIDENCE, PAIR_COLUMNS
from mpox.models.config import ENGINES, ModelConfig, RunConfig, Training, current_engine
from mpox.protocols.splits import make_splits
from mpox.runs import cross_validation
from mpox.runs.cross_validation import cross_validate, fold_configs, predict_nested
from mpox.runs.recorded import RecordedStore, open_store
from mpox.runs.store import RunResult, RunStore, read_run

CONFIG = RunConfig("tiny", "0" * 16, "source", "1" * 16, 0, 0, ModelConfig(image_size=64))
HISTOGRAM = ModelConfig(backbone="colour_histogram", image_size=64)


def result(config: RunConfig = CONFIG, labels=("Mpox", "Normal")) -> RunResult:
    p = np.random.default_rng(0).random(2)
    predictions = pd.DataFrame({"image_id": ["a", "b"], "label": labels, "p_Mpox": p, "p_Normal": 1 - p})
    history = pd.DataFrame({"strength": [1e-5, 1 / 3], "validation_loss": [0.7, np.nan], "chosen": [True, False]})
    return RunResult(config, predictions, history, {"seconds": 0.1})


def refuse(*_, **__):
    raise AssertionError("this should have been read, not computed")


def test_a_run_on_a_gpu_is_of_a_later_engine():
    """Convolutions there were TF32 once: what was computed so must not be read as a run of today."""
    here, there = (ModelConfig(image_size=64, device=device) for device in ("cpu", "cuda"))
    assert current_engine(here) == ENGINES["linear_probe"] and current_engine(there) == ENGINES["linear_probe"] + 1
    runs = [RunConfig("d", "h", "source", "s", 0, 0, model) for model in (here, there)]
    assert [run.engine for run in runs] == [1, 2]


def test_a_run_is_computed_once_and_read_exactly(tmp_path):
    store = RunStore(tmp_path / "deep" / "store")
    assert store.get(CONFIG) is None and store.used_runs == {}
    computed = store.run(CONFIG, lambda folder: result())
    assert list(store.used_runs) == [CONFIG.id]
    assert [path.name for path in (store.root / "runs").iterdir() if path.is_dir()] == [CONFIG.id]
    read = RunStore(store.root).run(CONFIG, refuse)
    for found in (computed, read):
        assert found.config == CONFIG and found.environment == {"seconds": 0.1}
        pd.testing.assert_frame_equal(found.predictions, result().predictions, check_exact=True)
        pd.testing.assert_frame_equal(found.history, result().history, check_exact=True)
    with pytest.raises(AssertionError):
        store.run(replace(CONFIG, fold=1), refuse)


def test_labels_are_text_whatever_they_look_like(tmp_path):
    store = RunStore(tmp_path)
    for fold, labels in enumerate([("Mpox", "None"), ("NA", "null"), ("1", "2")]):
        config = replace(CONFIG, fold=fold)
        found = store.run(config, lambda folder, c=config, names=labels: result(c, names))
        assert found.predictions["label"].tolist() == list(labels)


def test_a_failed_computation_leaves_nothing(tmp_path):
    store = RunStore(tmp_path)

    def fail(folder: Path):
        (folder / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(CONFIG, fail)
    assert store.get(CONFIG) is None and not [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    store.run(CONFIG, lambda folder: result())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [CONFIG.id]
    files = sorted(path.name for path in store.run_folder(CONFIG).iterdir())
    assert files == ["config.json", "environment.json", "history.csv", "predictions.csv"]


def test_a_run_that_lost_its_configuration_is_computed_again_and_one_of_an_unknown_kind_refused(tmp_path):
    store = RunStore(tmp_path)
    store.run(CONFIG, lambda folder: result())
    file = store.run_folder(CONFIG) / "config.json"
    file.unlink()
    assert store.get(CONFIG) is None and store.run(CONFIG, lambda folder: result()).config == CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), "colour": "blue"}))
    with pytest.raises(MpoxError, match="RunConfig has no colour"):
        read_run(store.run_folder(CONFIG))


def test_tables_are_computed_once_for_a_specification(tmp_path):
    store = RunStore(tmp_path)
    made = pd.DataFrame({"label": ["None", "NA"], "value": [0.1 + 0.2, 1 / 3], "gap": [np.nan, 1.0]})
    first = store.table("audit", {"a": 1, "b": [2]}, lambda: made)
    again = RunStore(tmp_path).table("audit", {"b": [2], "a": 1}, refuse)
    for found in (first, again):
        pd.testing.assert_frame_equal(found, made, check_exact=True)
    with pytest.raises(AssertionError):
        store.table("audit", {"a": 2, "b": [2]}, refuse)
    assert list(store.used_tables) == [f"audit-{hash_of({'a': 1, 'b': [2]})}"]
    assert [path.name for path in (tmp_path / "tables").iterdir()] == [f"{next(iter(store.used_tables))}.csv"]


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r\nb", 'x"\r"y', "a\nb", "a,b", " a ", "\u2028"])
def test_any_text_in_a_table_comes_back(tmp_path, text):
    made = pd.DataFrame({"x": [text, "NA", None], "n": [1, 2, 3], "f": [0.1 + 0.2, np.nan, 1.0], "b": [True, False, True]})
    pd.testing.assert_frame_equal(RunStore(tmp_path).table("t", {}, lambda: made), made, check_exact=True)


def test_the_id_is_the_content_of_the_configuration():
    values = CONFIG.to_dict()
    turned = json.loads(json.dumps(dict(reversed(values.items()))))
    turned["model"] = dict(reversed(turned["model"].items()))
    assert RunConfig.from_dict(turned) == CONFIG and RunConfig.from_dict(turned).id == CONFIG.id
    tuned = replace(CONFIG, model=ModelConfig(regime="fine_tune", image_size=64, training=Training(epochs=3)))
    assert RunConfig.from_dict(json.loads(json.dumps(tuned.to_dict()))) == tuned
    assert len(CONFIG.id) == 16 and set(CONFIG.id) <= set("0123456789abcdef")
    assert hash_of(values) == CONFIG.id and "stages" not in values["model"]  # as in runs that were made before there were any
    staged = replace(CONFIG, model=CONFIG.model.with_(stages=2))
    assert RunConfig.from_dict(staged.to_dict()) == staged and staged.id != CONFIG.id


def test_every_field_counts():
    network = {
        "regime": "scratch", "backbone": "tf_efficientnet_lite0", "head": "hidden", "weights": "random", "image_size": 96,
        "mirror": False, "seed": 1, "device": "cuda",
    }  # fmt: skip
    base = replace(CONFIG, model=ModelConfig(regime="fine_tune", image_size=64))
    tail = replace(CONFIG, model=ModelConfig(regime="tail_tune", image_size=64))
    run = {"dataset": "msid", "data": "f", "protocol": "patient", "split": "f", "repeat": 1, "fold": 1, "engine": 99}
    plan = asdict(Training())
    chosen = {"augmentation": "medium", "precision": "bfloat16"}
    other = chosen | {
        name: not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1
        for name, value in plan.items()
        if name not in chosen
    }
    assert set(run) | {"model"} == set(asdict(base)) and set(network) | {"training", "stages"} == set(asdict(base.model))
    ids = {base.id}
    ids |= {replace(base, **{name: value}).id for name, value in run.items()}
    ids |= {replace(base, model=replace(base.model, **{name: value})).id for name, value in network.items()}
    ids |= {tail.id} | {
        replace(tail, model=replace(tail.model, training=replace(tail.model.training, **{name: value}))).id
        for name, value in other.items()
    }
    assert len(ids) == 2 + len(run) + len(network) + len(plan)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"regime": "fine_tune", "training": {"epoch": 3}}, "Training has no epoch: it takes .*epochs"),
        ({"regime": "magic"}, "Unknown regime 'magic'"),
        ({"device": "tpu"}, "Unknown device 'tpu'"),
        ({"regime": "fine_tune", "backbone": "hog"}, "hog has nothing to train"),
        ({"backbone": "vgg99"}, "no model 'vgg99'"),
        ({"regime": "svm", "head": "hidden"}, "The regime 'svm' has no head"),
        ({"regime": "tail_tune", "training": {"frozen_stages": 0}}, "frozen_stages must be at least 1"),
        ({"regime": "fine_tune", "training": {"views": 2}}, "'views' belongs to the regime 'tail_tune', not to 'fine_tune'"),
    ],
)
def test_models_refuse_what_they_do_not_know(given, said):
    with pytest.raises(MpoxError, match=said):
        ModelConfig(**given)


def test_models_fill_in_what_follows():
    assert ModelConfig().image_size == 240 and ModelConfig(training={"epochs": 3}).training is None
    assert ModelConfig().with_(backbone="tf_efficientnet_lite0").image_size == 224
    assert ModelConfig(regime="fine_tune", training={"epochs": 3}).training == Training(epochs=3)
    assert ModelConfig(regime="scratch").weights == "random"
    assert (HISTOGRAM.weights, HISTOGRAM.mirror, HISTOGRAM.training) == ("none", False, None)
    assert ModelConfig(regime="tail_tune").training == Training(frozen_stages=6, views=8)
    plan = {"epochs": 3, "learning_rate": 0.5}
    tail, whole = ModelConfig(regime="tail_tune", training=plan), ModelConfig(regime="fine_tune", training=plan)
    assert tail.with_(regime="fine_tune") == whole and whole.with_(regime="tail_tune") == tail
    assert tail.with_(regime="linear_probe").training is None


def test_run_ids_do_not_depend_on_where_the_data_lie(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder, tmp_path / "elsewhere" / "tiny")
    ids, hashes = [], []
    for root, folder in (("a", tiny_folder), ("b", tmp_path / "elsewhere" / "tiny")):
        data = RunStore(tmp_path / root).dataset(folder)
        assert data.has_pictures and not data.is_phantom and data.classes == ["Mpox", "Normal"]
        ids.append([config.id for config in fold_configs(data, "source", HISTOGRAM, n_folds=3)[1]])
        hashes.append(data.hash)
    assert ids[0] == ids[1] and len(set(ids[0])) == 3
    assert hashes[0] == hashes[1]
    written = (tmp_path / "a/manifests/tiny.csv").read_text()
    assert str(tmp_path) not in written and str(tiny_folder) not in written


def test_cross_validation_predicts_every_image_once_a_repeat_and_is_read_next_time(tmp_path, tiny_folder, monkeypatch):
    store = RunStore(tmp_path)
    data = store.dataset(tiny_folder)
    options = {"n_folds": 3, "n_repeats": 2, "seed": 4}
    found = cross_validate(store, data, "source", HISTOGRAM, **options)
    assert found.columns.tolist() == [
        "run_id", "dataset", "protocol", "regime", "backbone", "repeat", "fold",
        "image_id", "group_id", "label", "p_Mpox", "p_Normal",
    ]  # fmt: skip
    for _, part in found.groupby("repeat"):
        assert sorted(part["image_id"]) == data.manifest["image_id"].tolist()
    assert np.allclose(found[["p_Mpox", "p_Normal"]].sum(axis=1), 1)
    assert found["label"].equals(found["image_id"].map(data.manifest.set_index("image_id")["label"]).rename("label"))
    assert found["group_id"].notna().all() and found["run_id"].nunique() == 6
    monkeypatch.setattr(cross_validation, "compute_run", refuse)
    again = cross_validate(RunStore(tmp_path), data, "source", HISTOGRAM, **options)
    pd.testing.assert_frame_equal(again, found, check_exact=True)
    with pytest.raises(AssertionError):
        cross_validate(store, data, "source", HISTOGRAM, **{**options, "seed": 5})


def test_nested_predictions_name_outer_and_inner_fold(tmp_path, tiny_folder):
    data = RunStore(tmp_path).dataset(tiny_folder)
    split = make_splits(data.manifest, "source", n_folds=3)
    table = predict_nested(RunStore(tmp_path), data, split, HISTOGRAM)
    assert len(table) == (split["role"] == "train").sum()
    assert sorted(table["fold"].unique()) == [0, 1, 2] and table["inner_fold"].between(0, 3).all()


def test_the_audit_is_made_again_when_a_file_is_added_that_cannot_be_used(tmp_path, tiny_folder):
    root = tmp_path / "mine"
    shutil.copytree(tiny_folder, root)
    store = RunStore(tmp_path / "store")
    assert store.dataset(root).audit.rejected.empty
    (root / "Normal" / "cut.png").write_bytes((root / "Normal" / "00.png").read_bytes()[:100])
    assert store.dataset(root).audit.rejected["image_id"].tolist() == ["Normal/cut.png"]
    again = RunStore(tmp_path / "store").dataset(root)
    assert again.audit.rejected["image_id"].tolist() == ["Normal/cut.png"]
    groups = next((tmp_path / "store" / "audits").glob("*/groups.csv"))
    for path in groups.parent.parent.glob("*/groups.csv"):
        path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(MpoxError, match="lacks some of the images"):
        RunStore(tmp_path / "store").dataset(root)


def test_stores_are_opened_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))
    monkeypatch.setenv("MPOX_RUN_STORE", "named/by variable")
    assert open_store().root == tmp_path / "named/by variable"
    assert open_store("mine").root == tmp_path / "mine"
    assert open_store(tmp_path / "absolute").root == tmp_path / "absolute"
    monkeypatch.delenv("MPOX_RUN_STORE")
    assert open_store().root == tmp_path / ".mpox/store"
    with pytest.raises(MpoxError, match="no recorded study .*mpox record"):
        open_store("recorded")


@pytest.fixture
def recorded(tmp_path) -> RecordedStore:
    """A recorded study of one run, written by hand in the format of `mpox record`."""
    run = result()
    (tmp_path / "manifests").mkdir()
    (tmp_path / "tables").mkdir()
    rows = [["Mpox/a.png", "s1", "p1", 8, 8, "Mpox", None, "mine"], ["None/b.png", "s2", "p2", 8, 8, "None", "P1", "mine"]]
    columns = ["image_id", "sha256", "pixel_sha256", "width", "height", "label", "patient_id", "source"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "manifests/mine.csv", index=False)
    audited = pd.DataFrame(rows, columns=columns).assign(path=pd.NA, dataset="mine", group_id=["Mpox/a.png", "None/b.png"])
    nothing = pd.DataFrame(columns=PAIR_COLUMNS + EVIDENCE)
    Audit(audited, nothing, nothing, pd.DataFrame(columns=["dataset", "image_id", "reason"])).write(tmp_path / "audits/mine")
    pd.DataFrame({"x": [1 / 3]}).to_csv(tmp_path / f"tables/audit-{hash_of({'a': 1})}.csv", index=False)
    (tmp_path / "runs.json").write_text(
        json.dumps([{"id": CONFIG.id, "environment": "e", "seconds": 2.5, "config": CONFIG.to_dict()}])
    )
    (tmp_path / "environments.json").write_text(json.dumps({"e": {"device": "cpu"}}))
    others = pd.DataFrame({"run_id": ["other"], "image_id": ["c"], "label": ["HFMD"], "p_HFMD": [1.0]})
    pd.concat([run.predictions.assign(run_id=CONFIG.id), others]).to_parquet(tmp_path / "predictions.parquet")
    run.history.assign(run_id=CONFIG.id).to_parquet(tmp_path / "history.parquet")
    return RecordedStore(tmp_path)


def test_the_recorded_study_is_read_and_never_computed(recorded):
    found = recorded.run(CONFIG, refuse)
    pd.testing.assert_frame_equal(found.predictions, result().predictions)
    assert found.environment == {"device": "cpu", "seconds": 2.5}
    assert recorded.table("audit", {"a": 1}, refuse)["x"].tolist() == [1 / 3]
    with pytest.raises(MpoxError, match="no run linear_probe/tf_efficientnet_lite1 on tiny, source, fold 3"):
        recorded.run(replace(CONFIG, fold=3), refuse)
    with pytest.raises(MpoxError, match="no table 'audit-"):
        recorded.table("audit", {"a": 2}, refuse)
    with pytest.raises(MpoxError, match="'msid' is not in the recorded study; it has mine"):
        recorded.dataset("msid")
    data = recorded.dataset("mine")
    assert data.classes == ["Mpox", "None"] and not data.has_pictures and not data.is_phantom
    assert data.manifest["path"].isna().all()
    assert data.manifest["patient_id"].isna().tolist() == [True, False]
