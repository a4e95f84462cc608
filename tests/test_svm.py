"""The support vector machine: what scikit-learn's own pipeline says, choices inside the training groups, ids that stay."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mpox import ModelConfig, cross_validate, open_store
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.models import heads


def clouds(n_classes: int, *, n: int = 240, d: int = 30, distance: float = 0.5, seed: int = 0):
    """Training features, classes and inner folds, and test features: a normal cloud a class, of unequal sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, d)) * distance
    share = np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum()
    y, asked = (rng.choice(n_classes, size, p=share) for size in (n, 4000))
    x, x_test = (centres[labels] + rng.normal(size=(len(labels), d)) for labels in (y, asked))
    scale = rng.uniform(0.1, 10, d)
    return (x * scale).astype(np.float32), y, rng.integers(0, 4, n), (x_test * scale).astype(np.float32), asked


@pytest.mark.parametrize("n_classes", [2, 4])
def test_it_is_scikit_learns_machine_on_standardised_features(n_classes):
    x, y, inner, x_test, _ = clouds(n_classes)
    found, history = heads.predict_by_svm(x, y, inner, x_test, n_classes=n_classes)
    machine = SVC(C=history.loc[history["chosen"], "strength"].item(), class_weight="balanced", gamma="scale")
    scaler = StandardScaler().fit(x)
    known = CalibratedClassifierCV(machine, cv=PredefinedSplit(inner), ensemble=False).fit(scaler.transform(x), y)
    assert np.allclose(found, known.predict_proba(scaler.transform(x_test)), atol=0.01)
    whole = make_pipeline(StandardScaler(), machine).fit(x, y)
    if n_classes == 2:  # with two classes a sigmoid cannot change the order
        assert np.array_equal(found[:, 1].argsort()[-50:], whole.decision_function(x_test).argsort()[-50:])


def test_probabilities_are_calibrated_and_the_best_strength_is_chosen():
    x, y, inner, x_test, asked = clouds(2, n=600, distance=0.25)
    found, history = heads.predict_by_svm(x, y, inner, x_test, n_classes=2)
    sure = found[:, 1]
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        inside = (sure >= low) & (sure < high)
        assert asked[inside].mean() == pytest.approx(sure[inside].mean(), abs=0.08)
    assert history["chosen"].sum() == 1
    assert history.loc[history["chosen"], "validation_loss"].item() == history["validation_loss"].min()


def test_scores_may_be_small(monkeypatch):
    """All images of a weak machine weigh alike and its scores are hundredths: scikit-learn's sigmoids stay flat on them."""
    x, y, inner, x_test, asked = clouds(2, n=600)
    monkeypatch.setattr(heads, "SVM_STRENGTHS", np.array([1e-4]))
    found, _ = heads.predict_by_svm(x, y, inner, x_test, n_classes=2)
    assert found[asked == 1, 1].mean() > found[asked == 0, 1].mean() + 0.4


def test_without_a_signal_it_says_how_frequent_a_class_is():
    x, y, inner, x_test, asked = clouds(2, n=600, distance=0)
    found, _ = heads.predict_by_svm(x, y, inner, x_test, n_classes=2)
    assert np.abs(found[:, 1] - asked.mean()).max() < 0.2  # and not half and half, which the class weights would make of it
    found, _ = heads.predict_by_svm(x, 2 * y, inner, x_test, n_classes=3)  # a class without training images
    assert found[:, 1].max() < 1e-8 and np.allclose(found.sum(axis=1), 1)


def test_as_a_regime(tiny_folder, tmp_path):
    manifest = build_manifest(tiny_folder).assign(group_id=lambda table: table["image_id"])
    groups = manifest.set_index("image_id", drop=False)["group_id"]
    data = Dataset("tiny", manifest, groups, is_phantom=False, has_pictures=True)
    model = ModelConfig(regime="svm", backbone="colour_histogram", image_size=64)
    found = cross_validate(open_store(tmp_path), data, "random_image", model, n_folds=3)
    assert len(found) == 24 and set(found["regime"]) == {"svm"}
    assert roc_auc_score(found["label"] == "Mpox", found["p_Mpox"]) > 0.8
