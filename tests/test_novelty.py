"""Novelty: the scores against slow ones, a threshold that keeps its word, and images that are no rash."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from mpox import MpoxError
from mpox.stats.novelty import METHODS, fit_novelty, novelty_score


@pytest.fixture(scope="module")
def usual() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and groups: 60 groups of 3 siblings in two classes, more features than images."""
    rng = np.random.default_rng(0)
    centre = np.repeat(rng.normal(1, 1, (60, 300)) + np.repeat([[0.0], [1.0]], 30, axis=0), 3, axis=0)
    return centre + rng.normal(0, 0.1, (180, 300)), np.repeat(["a", "b"], 90), np.repeat(np.arange(60), 3)


def test_the_distance_to_the_fifth_neighbour_is_scikit_learns(usual):
    x, _, groups = usual
    new = np.random.default_rng(1).normal(1, 1, (20, 300))
    unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)  # noqa: E731
    wanted = NearestNeighbors(n_neighbors=5).fit(unit(x)).kneighbors(unit(new))[0][:, -1]
    assert np.allclose(novelty_score(fit_novelty(x, groups=groups), new), wanted, atol=1e-4)


def test_mahalanobis_is_the_one_of_scikit_learns_shrunk_covariance(usual):
    x, labels, groups = usual
    new = np.random.default_rng(2).normal(1, 1, (20, 300))
    means = np.stack([x[labels == label].mean(axis=0) for label in "ab"])
    covariance = LedoitWolf(assume_centered=True).fit(x - means[np.repeat([0, 1], 90)])
    wanted = np.sqrt([min((z - m) @ covariance.precision_ @ (z - m) for m in means) for z in new])
    found = novelty_score(fit_novelty(x, labels, groups=groups, method="mahalanobis"), new)
    assert np.allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_about_the_stated_share_of_new_images_of_the_same_kind_is_warned_of(method):
    rng = np.random.default_rng(3)
    x, new = rng.normal(1, 1, (2, 1000, 40))
    labels = np.repeat([0, 1], 500)
    fitted = fit_novelty(x, labels, method=method, quantile=0.9)
    assert (novelty_score(fitted, new) > fitted.threshold).mean() == pytest.approx(0.1, abs=0.035)
    assert (novelty_score(fitted, -new) > fitted.threshold).all()


def test_siblings_in_training_do_not_make_the_threshold_small(usual):
    x, _, groups = usual
    by_group, by_image = fit_novelty(x, groups=groups, neighbours=1), fit_novelty(x, neighbours=1)
    assert by_image.threshold < 0.3 * by_group.threshold


def test_what_cannot_be_fitted_or_scored_is_refused(usual):
    x, _, groups = usual
    wrong = (
        ({"method": "mahalanobis"}, "needs the labels"),
        ({"method": "nearest"}, "no novelty score 'nearest'"),
        ({"quantile": 1.0}, "quantile between 0 and 1"),
        ({"neighbours": 0}, "at least 1 neighbour"),
        ({"groups": np.zeros(180)}, "at least two groups"),
    )
    for options, sentence in wrong:
        with pytest.raises(MpoxError, match=sentence):
            fit_novelty(x, **options)
    with pytest.raises(MpoxError, match="fitted on 300 features"):
        novelty_score(fit_novelty(x, groups=groups), x[:, :10])
