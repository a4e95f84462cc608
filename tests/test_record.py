"""What is recorded can be read back, number for number, and the README says what the records say."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from mpox import ModelConfig, MpoxError, cross_validate, evaluate, open_store
from mpox._core import project_root
from mpox.audit import accuracy, pairs
from mpox.audit.accuracy import hand_checked
from mpox.audit.result import package_decisions
from mpox.book.record import README_MARKS, _write_tables, recorded_metrics, recorded_readme_table, update_readme
from mpox.runs.recorded import RecordedStore, adopt
from mpox.runs.store import read_run

MODEL = ModelConfig(backbone="colour_histogram", image_size=64)


@pytest.fixture(scope="module")
def recorded(tiny_folder, tmp_path_factory):
    """A live store with one cross-validation, and a recorded study made from it."""
    base = tmp_path_factory.mktemp("recorded")
    store = open_store(base / "store")
    data = store.dataset(tiny_folder)
    live = cross_validate(store, data, "source", MODEL, n_folds=3, n_repeats=2)
    store.table("small", {"a": 1}, lambda: pd.DataFrame({"x": [1.5, 2.5]}))
    results = [read_run(store.root / "runs" / run_id) for run_id in store.used_runs]
    (base / "results").mkdir()
    _write_tables(base / "results", store, results, list(store.used_tables), [data.name], store.used_audits)
    return data, live, RecordedStore(base / "results")


def test_predictions_read_from_the_record_are_the_computed_ones(recorded, monkeypatch):
    data, live, store = recorded
    monkeypatch.setattr("mpox.data.registry.REGISTRY", {data.name: type("Spec", (), {"is_phantom": False})()})
    again = store.dataset(data.name)
    assert not again.has_pictures and again.hash == data.hash
    read = cross_validate(store, again, "source", MODEL, n_folds=3, n_repeats=2)
    pd.testing.assert_frame_equal(read, live)
    pd.testing.assert_frame_equal(evaluate(read, n_bootstrap=50), evaluate(live, n_bootstrap=50))
    metrics = recorded_metrics(store)
    assert metrics["runs"].unique().tolist() == [6]
    accuracy = metrics[metrics["metric"] == "accuracy"].iloc[0]
    assert np.isclose(accuracy["estimate"], evaluate(live, n_bootstrap=0).iloc[0]["estimate"])


def test_no_picture_and_no_path_is_recorded(recorded):
    _, _, store = recorded
    for path in store.root.rglob("*"):
        if path.is_file():
            assert path.suffix in {".csv", ".json", ".parquet"}
            if path.suffix != ".parquet":
                assert str(store.root.parent) not in path.read_text()
    assert "path" not in pd.read_csv(next((store.root / "manifests").glob("*.csv"))).columns


def test_recorded_splits_name_every_image_of_every_run(recorded):
    data, _, store = recorded
    splits = pd.read_parquet(store.root / "splits.parquet")
    for result in store.results():
        rows = splits[splits["split"] == result.config.split]
        assert sorted(rows["image_id"]) == data.manifest["image_id"].tolist()
        assert set(rows.loc[rows["role"] == "test", "image_id"]) == set(result.predictions["image_id"])


def test_a_run_that_was_not_recorded_is_an_error_and_is_not_computed(recorded):
    data, _, store = recorded
    with pytest.raises(MpoxError, match="recorded study has no run"):
        cross_validate(store, data, "source", ModelConfig(backbone="lbp", image_size=64), n_folds=3)
    with pytest.raises(MpoxError, match="no table"):
        store.table("small", {"a": 2}, lambda: pytest.fail("computed"))
    assert store.table("small", {"a": 1}, lambda: pytest.fail("computed"))["x"].tolist() == [1.5, 2.5]


def test_a_folder_without_records_is_an_error(tmp_path):
    with pytest.raises(MpoxError, match="mpox record"):
        RecordedStore(tmp_path)


def test_readme_needs_its_marks(tmp_path):
    (tmp_path / "README.md").write_text("# nothing\n")
    with pytest.raises(MpoxError, match="begin"):
        update_readme(project_root() / "results", tmp_path / "README.md")


class TestTheCommittedStudy:
    """`results/` of this repository."""

    root = project_root() / "results"

    def test_it_has_both_data_sets_under_the_named_protocols(self):
        metrics = pd.read_csv(self.root / "metrics.csv")
        there = set(zip(metrics["dataset"], metrics["protocol"], strict=True))
        assert {("msld-v1", "random_image"), ("msld-v1", "patient"), ("msid", "random_image"), ("msid", "source")} <= there

    def test_ids_are_the_hashes_of_the_configurations(self):
        store = RecordedStore(self.root)
        entries = json.loads((self.root / "runs.json").read_text())
        for entry, result in zip(entries, store.results(), strict=True):
            assert result.config.id == entry["id"]
            assert asdict(result.config) == entry["config"]

    def test_metrics_are_those_of_the_predictions(self):
        stored = pd.read_csv(self.root / "metrics.csv")
        computed = recorded_metrics(RecordedStore(self.root))
        assert np.allclose(stored["estimate"], computed["estimate"], atol=1e-6)
        assert np.allclose(stored["low"], computed["low"], atol=1e-6)

    def test_no_patient_crosses_folds_under_the_honest_protocols(self):
        splits = pd.read_parquet(self.root / "splits.parquet")
        for result in RecordedStore(self.root).results():
            if result.config.protocol not in ("patient", "source"):
                continue
            rows = splits[splits["split"] == result.config.split]
            train, test = (set(rows.loc[rows["role"] == role, "group_id"]) for role in ("train", "test"))
            assert not train & test

    def test_the_readme_says_what_the_records_say(self):
        text = (project_root() / "README.md").read_text()
        between = text.split(README_MARKS[0])[1].split(README_MARKS[1])[0]
        assert between.strip() == recorded_readme_table(self.root).strip()

    def test_it_is_small_and_has_no_picture(self):
        files = [path for path in self.root.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".csv", ".json", ".parquet", ".md"}
        assert sum(path.stat().st_size for path in files) < 10e6


def test_only_augmenting_before_the_split_comes_near_the_published_figures():
    """The introduction says so in words, under a table of numbers that are computed."""
    assert "Only the last column comes near the published F1" in (project_root() / "book" / "intro.md").read_text()
    reference = {"regime": "linear_probe", "backbone": "tf_efficientnet_lite1", "image_size": 224, "head": "linear"}
    reference |= {"mirror": True, "seed": 0}
    tables: dict[tuple[str, str], list] = {}
    for result in RecordedStore(project_root() / "results").results():
        model = asdict(result.config.model)
        if model["weights"] == "imagenet" and all(model[name] == value for name, value in reference.items()):
            key = result.config.dataset, result.config.protocol
            tables.setdefault(key, []).append(result.predictions.assign(repeat=result.config.repeat))
    found = {}
    for key, parts in tables.items():
        if key[1] in ("augment_before_split", "random_image", "source"):
            predictions = pd.concat(parts).assign(group_id=lambda table: table["image_id"])
            scores = evaluate(predictions, n_bootstrap=0).set_index(["metric", "class"])["estimate"]
            found[key] = scores["f1", "macro"], scores["auroc", "Mpox"]
    assert len(found) == 6
    for (_, protocol), (f1, auroc) in found.items():
        assert (f1 > 0.958 - 0.03) == (auroc > 0.99) == (protocol == "augment_before_split"), (protocol, f1, auroc)


def test_the_recorded_audits_know_every_decision_and_the_hand_checked_samples_are_of_them():
    results = project_root() / "results"
    store = RecordedStore(results)
    audit = store.audit(["msid", "msld-v1"])
    sides = ["dataset_a", "image_id_a", "dataset_b", "image_id_b"]
    joined = set(audit.pairs[sides].itertuples(index=False, name=None))
    for row in package_decisions().itertuples():
        pair = (row.dataset_a, row.image_id_a, row.dataset_b, row.image_id_b)
        assert (pair in joined) == (row.decision == "confirm"), pair
    checked = hand_checked().set_index(["dataset", "measures", "by_method"]).sort_index()["checked"]
    for name in ("msid", "msld-v1"):
        data = store.dataset(name)
        spec = {"data": data.hash, "version": accuracy.VERSION, "hamming": accuracy.HAMMING}
        hashed = store.table("hash-pairs", spec, lambda: None)
        accepted = set(zip(data.audit.pairs["image_id_a"], data.audit.pairs["image_id_b"], strict=True))
        other = [pair for pair in zip(hashed["image_id_a"], hashed["image_id_b"], strict=True) if pair not in accepted]
        assert len(other) == checked[name, "missed", "perceptual hashes"]
    machine = pd.concat([audit.pairs, audit.weak])
    machine = machine[(machine["method"] == "geometric") & (machine["score"] >= pairs.ACCEPTED) & (machine["score"] < 0.97)]
    assert len(machine) == checked["msid+msld-v1", "precision"].iloc[0]


def test_a_store_adopts_recorded_runs_and_computes_only_what_was_not_recorded(recorded, tiny_folder, tmp_path, monkeypatch):
    data, live, origin = recorded
    store = open_store(tmp_path / "store")
    again = store.dataset(tiny_folder)
    mine = cross_validate(store, again, "source", MODEL, n_folds=3, n_repeats=1)
    assert adopt(origin, store) == {"runs": 3, "audits": 0, "splits": 3, "tables": 1}
    monkeypatch.setattr("mpox.runs.cross_validation.compute_run", None)
    read = cross_validate(store, again, "source", MODEL, n_folds=3, n_repeats=2)
    pd.testing.assert_frame_equal(read, live)
    pd.testing.assert_frame_equal(read[read["repeat"] == 0].reset_index(drop=True), mine)
    assert adopt(origin, store) == {"runs": 0, "audits": 0, "splits": 0, "tables": 0}
    with pytest.raises(TypeError):
        cross_validate(store, again, "source", MODEL, n_folds=3, n_repeats=3)


def test_times_of_another_machine_are_not_adopted(recorded, tmp_path):
    data, _, origin = recorded
    timed = origin.root / "tables" / "costs-0123456789abcdef.csv"
    timed.write_text("x\n1\n")
    try:
        store = open_store(tmp_path / "store")
        assert adopt(origin, store)["tables"] == 1
        assert [file.stem[:5] for file in (store.root / "tables").glob("*.csv")] == ["small"]
    finally:
        timed.unlink()


def test_an_adopted_audit_is_the_one_that_is_used(recorded, tiny_folder, tmp_path, monkeypatch):
    """Another processor finds a few pairs more or fewer: without the recorded audit the recorded runs would be of other folds."""
    data, _, origin = recorded
    monkeypatch.setattr(origin, "study", {"audits": {data.name: next(iter(store_audits(origin, tiny_folder, tmp_path)))}})
    store = open_store(tmp_path / "store")
    assert adopt(origin, store)["audits"] == 1 and adopt(origin, store)["audits"] == 0
    monkeypatch.setattr("mpox.runs.store.run_audit", None)
    pd.testing.assert_series_equal(store.dataset(tiny_folder).groups, data.groups)


def store_audits(origin, folder, tmp_path):
    """The keys under which a store keeps the audits of a folder here."""
    store = open_store(tmp_path / "other")
    store.dataset(folder)
    return store.used_audits.values()
