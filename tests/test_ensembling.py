"""Ensembles: the mean of the same images' probabilities, or an error."""

import numpy as np
import pandas as pd
import pytest

from mpox import MpoxError, evaluate
from mpox.stats.selection import ensemble


def predictions(name: str, *, seed: int, noise: float = 1.0, n: int = 120) -> pd.DataFrame:
    """A model's predictions of two repeats of three folds; the models' errors are independent."""
    rng = np.random.default_rng(seed)
    parts = []
    for repeat in range(2):
        label = np.tile(["Mpox", "Normal"], n // 2)
        score = np.where(label == "Mpox", 0.7, -0.7) + noise * rng.normal(size=n)
        chance = 1 / (1 + np.exp(-score))
        parts.append(
            pd.DataFrame(
                {
                    "run_id": [f"{name}{repeat}{number % 3}" for number in range(n)],
                    "dataset": "made", "protocol": "source", "regime": "linear_probe", "backbone": name, "repeat": repeat,
                    "fold": (np.arange(n) + repeat) % 3, "image_id": [f"{number:03d}.png" for number in range(n)],
                    "group_id": [f"g{number // 2}" for number in range(n)], "label": label,
                    "p_Mpox": chance, "p_Normal": 1 - chance,
                }
            )
        )  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    return table.assign(run_id=[f"{name}{repeat}{fold}" for repeat, fold in zip(table["repeat"], table["fold"], strict=True)])


@pytest.fixture
def models() -> list[pd.DataFrame]:
    return [predictions(name, seed=seed) for seed, name in enumerate(("a", "b", "c"))]


def test_it_is_the_mean_whatever_the_order_of_the_rows(models):
    shuffled = [models[0], *(table.sample(frac=1, random_state=3) for table in models[1:])]
    found = ensemble(shuffled)
    assert np.allclose(found["p_Mpox"], np.mean([table["p_Mpox"] for table in models], axis=0))
    assert np.allclose(found["p_Mpox"] + found["p_Normal"], 1)
    assert list(found) == list(models[0])
    row = found.iloc[0]
    assert (row["run_id"], row["regime"], row["backbone"]) == ("a00 + b00 + c00", "linear_probe", "a + b + c")
    assert found["run_id"].nunique() == 6


def test_independent_errors_average_out(models):
    def auroc(table):
        metrics = evaluate(table, n_bootstrap=0)
        return metrics[(metrics["metric"] == "auroc") & (metrics["class"] == "Mpox")]["estimate"].item()

    assert auroc(ensemble(models)) > max(auroc(table) for table in models) + 0.03


def test_a_model_with_itself_is_itself(models):
    found = ensemble([models[0], models[0]])
    pd.testing.assert_frame_equal(found, models[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table[table["repeat"] == 0], "images, repeats or folds"),
        (lambda table: table.assign(fold=(table["fold"] + 1) % 3), "images, repeats or folds"),
        (lambda table: table.assign(image_id="x" + table["image_id"]), "images, repeats or folds"),
        (lambda table: pd.concat([table.iloc[1:], table.iloc[1:2]]), "images, repeats or folds"),
        (lambda table: table.assign(label=table["label"].to_numpy()[::-1]), "in its label"),
        (lambda table: table.assign(group_id="g"), "in its group_id"),
        (lambda table: table.assign(protocol="patient"), "in its protocol"),
        (lambda table: table.rename(columns={"p_Normal": "p_Others"}), "other classes"),
    ],
)
def test_models_of_other_images_are_refused(models, spoil, message):
    with pytest.raises(MpoxError, match=message):
        ensemble([models[0], spoil(models[1])])


def test_one_model_is_no_ensemble(models):
    with pytest.raises(MpoxError, match="at least two models"):
        ensemble(models[:1])
