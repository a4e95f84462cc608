"""Wrong labels: cleanlab's suspicion is confident learning, and it finds what was planted."""

import numpy as np
import pandas as pd
import pytest

from mpox import ModelConfig, cross_validate, open_store
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate, read_truths
from mpox.studies.labels import COLUMNS, check_suspicion, label_problems, plant_wrong_labels, suspicion_by


def predictions_of(probabilities: np.ndarray, labels: list[str], classes: list[str]) -> pd.DataFrame:
    names = [f"{k:03d}" for k in range(len(labels))]
    table = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in classes])
    return table.assign(image_id=names, group_id=names, label=labels, fold=0, repeat=0)


def noisy(rng: np.random.Generator, n: int = 300) -> tuple[pd.DataFrame, pd.Series]:
    """Three classes, a model that is mostly right, and 10 % wrong labels."""
    classes = ["Chickenpox", "Measles", "Mpox"]
    truth = rng.integers(0, 3, n)
    logits = rng.normal(0, 1, (n, 3)) + 3 * np.eye(3)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = np.where(rng.random(n) < 0.1, (truth + 1) % 3, truth)
    table = predictions_of(probabilities, [classes[k] for k in given], classes)
    return table, pd.Series(given != truth, index=table["image_id"])


def confident_learning(table: pd.DataFrame) -> set[str]:
    """Off the diagonal of the confident joint, from Northcutt et al. 2021, equations 1 and 2, one picture after the other."""
    classes = ["Chickenpox", "Measles", "Mpox"]
    threshold = {j: table.loc[table["label"] == j, f"p_{j}"].mean() for j in classes}
    found = set()
    for row in table.to_dict("records"):
        above = [j for j in classes if row[f"p_{j}"] >= threshold[j]]
        if above and max(above, key=lambda j: row[f"p_{j}"]) != row["label"]:
            found.add(row["image_id"])
    return found


def test_the_suspected_are_those_of_confident_learning():
    table, _ = noisy(np.random.default_rng(0))
    found = label_problems(table)
    assert found.columns.tolist() == COLUMNS and found["rank"].tolist() == list(range(1, 301))
    expected = confident_learning(table)
    assert 10 < len(expected) < 60
    suspected = set(found.loc[found["suspected"], "image_id"])
    # cleanlab also leaves out a picture whose given label is the most probable one
    certain = {row.image_id for row in found.itertuples() if row.label == row.suggested}
    assert suspected == expected - certain


def test_planted_labels_are_found_in_a_good_models_probabilities():
    table, wrong = noisy(np.random.default_rng(1))
    conflicts = pd.DataFrame({"kind": ["label", "patient"], "image_id_a": ["003", "010"], "image_id_b": ["007", "011"]})
    problems = label_problems(table, conflicts)
    found = suspicion_by(problems, wrong, n_bootstrap=100)
    assert found["recall"] > 0.8 and found["precision"] > 0.6 and found["auroc"] > 0.95
    assert found["low"] <= found["auroc"] <= found["high"] and found["wrong"] == wrong.sum()
    assert set(problems.loc[problems["in_conflict"], "image_id"]) == {"003", "007"}, "the audit knows these"


def test_counts_by_hand():
    names, suspected = list("abcde"), [True, True, True, False, False]
    problems = pd.DataFrame({"image_id": names, "group_id": names, "p_label": [0.1, 0.2, 0.3, 0.8, 0.9], "suspected": suspected})
    found = suspicion_by(problems, pd.Series([True, False, False, True, False], index=names), n_bootstrap=0)
    assert (found["suspected"], found["wrong"], found["found"]) == (3, 2, 1)
    assert found["recall"] == 0.5 and found["precision"] == pytest.approx(1 / 3) and found["auroc"] == pytest.approx(4 / 6)
    nothing = suspicion_by(problems, pd.Series(False, index=names), n_bootstrap=0)
    assert nothing["found"] == 0 and np.isnan(nothing["recall"]) and np.isnan(nothing["auroc"])


def test_whole_groups_are_given_another_class():
    rng = np.random.default_rng(0)
    groups = pd.Series([f"g{k}" for k in np.sort(rng.integers(0, 100, 300))], index=[f"{k:03d}" for k in range(300)])
    labels = groups.map(dict(zip(groups.unique(), rng.choice(["a", "b", "c"], groups.nunique()), strict=True)))
    planted = plant_wrong_labels(labels, groups, share=0.1, seed=3)
    changed = groups[planted != labels]
    assert changed.nunique() == round(0.1 * groups.nunique())
    assert (planted[groups.isin(changed)] != labels[groups.isin(changed)]).all()
    assert planted.groupby(groups).nunique().max() == 1
    assert planted.equals(plant_wrong_labels(labels, groups, share=0.1, seed=3))
    assert not planted.equals(plant_wrong_labels(labels, groups, share=0.1, seed=4))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> tuple[Dataset, pd.DataFrame]:
    """A phantom some of whose photographs are filed a second time under a wrong class; grouped by its truths, not by an audit."""
    spec = PhantomSpec(n_patients=60, size=64, copies=0, label_conflicts=8)
    images = generate(tmp_path_factory.mktemp("labels") / "phantom", spec)
    truths = read_truths(images).set_index("image_id")
    manifest = build_manifest(str(images))
    original = truths["copy_of"].fillna(truths.index.to_series())
    manifest = manifest.assign(group_id=manifest["image_id"].map(original.map(truths["patient_id"])))
    groups = manifest.set_index("image_id")["group_id"]
    return Dataset("phantom-labels", manifest, groups, is_phantom=True, has_pictures=True), truths


def features_of_the_truth(truths: pd.DataFrame):
    """Features of a network that sees what is really on a picture, if not clearly."""

    def features(manifest: pd.DataFrame, model: ModelConfig) -> np.ndarray:
        classes = sorted(truths["true_label"].unique())
        centres = 3.5 * np.eye(len(classes))[pd.Categorical(truths.loc[manifest["image_id"], "true_label"], classes).codes]
        noise = np.random.default_rng(0).normal(size=(len(manifest), 12))
        return np.hstack([centres, np.zeros((len(manifest), 12 - len(classes)))]) + noise

    return features


def test_wrong_labels_of_the_phantom_are_found_by_a_model_that_sees(phantom, tmp_path, monkeypatch):
    """Through the runs of a cross-validation on the labels as they were filed."""
    data, truths = phantom
    monkeypatch.setattr("mpox.models.features.features", features_of_the_truth(truths))
    predictions = cross_validate(open_store(tmp_path), data, "source", ModelConfig(image_size=64, mirror=False), n_folds=3)
    wrong = truths["true_label"] != truths["label"]
    problems = label_problems(predictions)
    found = suspicion_by(problems, wrong, n_bootstrap=200)
    assert found["wrong"] == 8 and found["found"] >= 6 and found["precision"] > 0.3 and found["low"] > 0.8
    known = problems.set_index("image_id").loc[wrong.index[wrong]]
    right = known["suggested"] == truths.loc[known.index, "true_label"]
    assert right.sum() >= 6, "the suggestion is the true class"


def test_labels_planted_by_hand_are_found(phantom, monkeypatch):
    data, truths = phantom
    monkeypatch.setattr("mpox.studies.labels.features", features_of_the_truth(truths))
    found = check_suspicion(data, "source", ModelConfig(image_size=64, mirror=False), share=0.08, n_folds=3).iloc[0]
    assert found["images"] == len(data.manifest) and 0 < found["wrong"] < 40
    assert found["recall"] > 0.7 and found["auroc"] > 0.85
