"""The map of the pictures: reproducible, with the clusters that are there; its page answers mouse and keyboard, offline."""

import numpy as np
import pandas as pd
import pytest

from mpox._core import MpoxError
from mpox.studies.errors import embedding_map, map_table

EVIL = "</script><script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(0, 0.5, (60, 20)) + 8 * np.eye(20)[np.repeat([0, 1, 2], [30, 20, 10])]).astype(np.float32)


def test_like_lies_by_like_and_the_largest_cluster_is_the_first(blobs):
    found = embedding_map(blobs, n_clusters=3, seed=0)
    assert found["cluster"].tolist() == [1] * 30 + [2] * 20 + [3] * 10
    places = found[["x", "y"]].to_numpy()
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(away, np.inf)
    truth = found["cluster"].to_numpy()
    assert (truth[away.argmin(axis=1)] == truth).all()


def test_the_same_features_give_the_same_map(blobs):
    assert embedding_map(blobs, n_clusters=3, seed=1).equals(embedding_map(blobs, n_clusters=3, seed=1))


def test_too_few_pictures_are_refused(blobs):
    with pytest.raises(MpoxError, match="3 images in 8 clusters"):
        embedding_map(blobs[:3])


def table() -> pd.DataFrame:
    place = pd.DataFrame(
        {"dataset": ["s", "s", "t", "t"], "image_id": ["a", "b", "a", EVIL], "x": [0.0, 10, 0, 10], "y": [0.0, 0, 10, 10]}
    )
    errors = place[["dataset", "image_id"]].assign(
        label=["Mpox", "Normal", "Mpox", "Mpox"],
        predicted=["Mpox", "Mpox", "Mpox", "Normal"],
        confidence=[0.9, 0.8, 0.7, 0.6],
        wrong=[False, True, False, True],
    )
    return map_table(place, errors.iloc[::-1])


def test_mistakes_are_drawn_on_top():
    found = table()
    assert found["image_id"].tolist() == ["a", "a", "b", EVIL] and found["outcome"].tolist() == [
        "right",
        "right",
        "wrong",
        "wrong",
    ]
    assert found["source"].tolist() == ["s", "t", "s", "t"] and found["probability"].tolist() == [0.9, 0.7, 0.8, 0.6]
