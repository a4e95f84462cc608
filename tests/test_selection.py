"""A choice inside the training groups never looks at the test folds; ensembles are means of the same images, or an error."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from predictions import table
from scipy.stats import binom

from mpox import MpoxError
from mpox.models.config import RunConfig
from mpox.runs.recorded import open_store
from mpox.stats.metrics import difference, fold_metrics, replicates
from mpox.stats.selection import (
    BEST_ON_TEST,
    BEST_PER_FOLD,
    NESTED,
    choose_nested,
    ensemble,
    optimism,
    validation_scores,
)

FOLDS, SIZE = 10, 30


def guesses(rng: np.random.Generator, name: str, accuracy: float = 0.5) -> pd.DataFrame:
    """A candidate that is right with some probability, whatever the image."""
    n = FOLDS * SIZE
    truth, fold = np.arange(n) % 2 == 0, np.arange(n) // SIZE
    p = np.where((rng.random(n) < accuracy) == truth, 0.9, 0.1)
    return table(truth, p, fold=fold).assign(run_id=[f"{name}{k}" for k in fold])


def losses(candidates: dict, values) -> pd.DataFrame:
    rows = [(name, 0, fold, values(number, fold)) for number, name in enumerate(candidates) for fold in range(FOLDS)]
    return pd.DataFrame(rows, columns=["candidate", "repeat", "fold", "loss"])


def test_each_fold_takes_the_candidate_with_the_lowest_loss():
    rng = np.random.default_rng(0)
    candidates = {name: guesses(rng, name) for name in ("a", "b", "c")}
    validation = losses(candidates, lambda number, fold: 1 - 0.1 * (number == fold % 3) if fold else 0.5)
    predictions, choices = choose_nested(candidates, validation.sample(frac=1, random_state=0))
    assert choices["candidate"].tolist() == ["a", "b", "c", "a", "b", "c", "a", "b", "c", "a"]  # fold 0: all alike, the first
    assert choices["margin"].tolist() == pytest.approx([0] + [0.1] * 9) and choices["loss"].tolist() == [0.5] + [0.9] * 9
    assert len(predictions) == FOLDS * SIZE and predictions["image_id"].is_unique
    for row in choices.itertuples():
        part = predictions[predictions["fold"] == row.fold].drop(columns="candidate").reset_index(drop=True)
        source = candidates[row.candidate]
        pd.testing.assert_frame_equal(part, source[source["fold"] == row.fold].reset_index(drop=True))


def test_choosing_on_the_test_folds_flatters_by_the_largest_of_binomials():
    """All candidates guess. The best of five a fold has the expected maximum of five binomials; the nested choice guesses."""
    k = np.arange(SIZE + 1)
    expected = (k * np.diff(np.r_[0, binom.cdf(k, SIZE, 0.5) ** 5])).sum() / SIZE
    rng = np.random.default_rng(1)
    found = []
    for _ in range(8):
        candidates = {name: guesses(rng, name) for name in "abcde"}
        validation = losses(candidates, lambda number, fold: rng.random())
        found.append(optimism(candidates, validation, "accuracy", "all", n_bootstrap=0).set_index("rule")["estimate"])
    mean = pd.DataFrame(found).mean()
    assert mean[BEST_PER_FOLD] == pytest.approx(expected, abs=0.015)
    assert mean[NESTED] == pytest.approx(0.5, abs=0.03)
    assert mean[NESTED] < mean[BEST_ON_TEST] < mean[BEST_PER_FOLD]


def test_an_inner_loss_that_knows_the_truth_finds_the_best():
    rng = np.random.default_rng(2)
    quality = {"poor": 0.6, "good": 0.9, "fair": 0.7}
    candidates = {name: guesses(rng, name, accuracy) for name, accuracy in quality.items()}
    validation = losses(candidates, lambda number, fold: 1 - list(quality.values())[number])
    found = optimism(candidates, validation, "f1", "macro", n_bootstrap=50).set_index("rule")
    assert found.loc[NESTED, "chosen"] == found.loc[BEST_ON_TEST, "chosen"] == "good (10)"
    assert found.loc[BEST_ON_TEST, ["optimism", "optimism_low", "optimism_high"]].tolist() == [0, 0, 0]


def test_the_differences_are_the_paired_ones_of_the_metrics():
    rng = np.random.default_rng(3)
    candidates = {name: guesses(rng, name, 0.7) for name in "abc"}
    validation = losses(candidates, lambda number, fold: rng.random())
    nested, _ = choose_nested(candidates, validation)
    for key in (("auroc", "Mpox"), ("accuracy", "all")):
        found = optimism(candidates, validation, *key, n_bootstrap=100, seed=4).set_index("rule")
        scores = {name: replicates(part, [key], n_bootstrap=0)[key].estimate for name, part in candidates.items()}
        best = max(scores, key=scores.get)
        assert found.loc[BEST_ON_TEST, ["chosen", "estimate"]].tolist() == [f"{best} (10)", scores[best]]
        paired = difference(candidates[best], nested, *key, n_bootstrap=100, seed=4)
        assert tuple(found.loc[BEST_ON_TEST, ["optimism", "optimism_low", "optimism_high"]]) == pytest.approx(paired)
    by_fold = [fold_metrics(part, [("accuracy", "all")])["estimate"].to_numpy() for part in candidates.values()]
    assert found.loc[BEST_PER_FOLD, "estimate"] == pytest.approx(np.max(by_fold, axis=0).mean())  # folds of one size


def test_candidates_of_other_folds_are_refused():
    rng = np.random.default_rng(0)
    candidates = {name: guesses(rng, name) for name in "ab"}
    validation = losses(candidates, lambda number, fold: 1.0)
    other = candidates | {"b": candidates["b"].assign(fold=lambda table: (table["fold"] + 1) % FOLDS)}
    with pytest.raises(MpoxError, match="tested on the same folds"):
        choose_nested(other, validation)
    with pytest.raises(MpoxError, match="tested on the same folds"):
        choose_nested({}, validation)
    with pytest.raises(MpoxError, match="no validation loss in some folds"):
        choose_nested(candidates, validation.iloc[:-1])
    with pytest.raises(MpoxError, match="no metric 'youden'"):
        optimism(candidates, validation, "youden", "all")


def test_losses_are_read_from_the_runs():
    histories = {
        "probe": pd.DataFrame({"strength": [1.0, 2.0], "validation_loss": [0.4, 0.6]}),
        "other": pd.DataFrame({"x": [1.0]}),
    }
    store = SimpleNamespace(history=lambda run: histories[run[:5]])
    candidates = {name: guesses(np.random.default_rng(0), name).query("fold < 2") for name in histories}
    found = validation_scores(store, {"probe": candidates["probe"]})
    assert found.values.tolist() == [["probe", 0, 0, "probe0", 0.4], ["probe", 0, 1, "probe1", 0.4]]
    with pytest.raises(MpoxError, match="'other' kept no validation loss"):
        validation_scores(store, candidates)
    with pytest.raises(MpoxError, match="was not recorded"):
        validation_scores(open_store("recorded"), candidates)


def test_recorded_losses_are_those_of_what_the_runs_chose():
    store = open_store("recorded")
    entries = [entry["config"] for entry in json.loads((store.root / "runs.json").read_text())]
    entries = [entry for entry in entries if (entry["dataset"], entry["protocol"]) == ("msld-v1", "source")]
    tables = {}
    for regime in ("linear_probe", "fine_tune", "nearest_neighbour"):
        run = store.get(RunConfig.from_dict(next(entry for entry in entries if entry["model"]["regime"] == regime)))
        about = {"run_id": run.config.id, "repeat": run.config.repeat, "fold": run.config.fold}
        tables[regime] = (run.predictions.assign(**about), run.history)
    found = validation_scores(store, {name: table for name, (table, _) in tables.items()}).set_index("candidate")["loss"]
    for name, (_, history) in tables.items():
        assert found[name] == history.loc[history["chosen"].astype(bool), "validation_loss"].item() > 0


@pytest.fixture
def models() -> list[pd.DataFrame]:
    """Predictions of two repeats of three folds by three models whose errors are independent."""
    found, truth = [], np.arange(120) % 2 == 0
    for seed, name in enumerate("abc"):
        rng, parts = np.random.default_rng(seed), []
        for repeat in range(2):
            p = 1 / (1 + np.exp(-np.where(truth, 0.7, -0.7) - rng.normal(size=120)))
            fold = (np.arange(120) + repeat) % 3
            about = {"run_id": f"{name}{repeat}", "dataset": "made", "protocol": "source", "regime": "svm", "backbone": name}
            parts.append(table(truth, p, np.arange(120) // 2, fold=fold, repeat=repeat).assign(**about))
        found.append(pd.concat(parts, ignore_index=True))
    return found


def test_an_ensemble_is_the_mean_whatever_the_order_of_the_rows(models):
    found = ensemble([models[0], *(part.sample(frac=1, random_state=3) for part in models[1:])])
    assert np.allclose(found["p_Mpox"], np.mean([part["p_Mpox"] for part in models], axis=0))
    assert np.allclose(found["p_Mpox"] + found["p_Others"], 1) and list(found) == list(models[0])
    assert found.loc[0, ["run_id", "regime", "backbone"]].tolist() == ["a0 + b0 + c0", "svm", "a + b + c"]
    key = ("auroc", "Mpox")
    joint, *alone = (replicates(part, [key], n_bootstrap=0)[key].estimate for part in (found, *models))
    assert joint > max(alone) + 0.03  # independent errors average out
    pd.testing.assert_frame_equal(ensemble([models[0], models[0]]), models[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda part: part[part["repeat"] == 0], "images, repeats or folds"),
        (lambda part: part.assign(fold=(part["fold"] + 1) % 3), "images, repeats or folds"),
        (lambda part: part.assign(image_id="x" + part["image_id"]), "images, repeats or folds"),
        (lambda part: pd.concat([part.iloc[1:], part.iloc[1:2]]), "images, repeats or folds"),
        (lambda part: part.assign(label=part["label"].to_numpy()[::-1]), "in its label"),
        (lambda part: part.assign(group_id="g"), "in its group_id"),
        (lambda part: part.assign(protocol="patient"), "in its protocol"),
        (lambda part: part.rename(columns={"p_Others": "p_Normal"}), "in its classes"),
    ],
)
def test_models_of_other_images_are_refused(models, spoil, message):
    with pytest.raises(MpoxError, match=message):
        ensemble([models[0], spoil(models[1])])
    with pytest.raises(MpoxError, match="at least two models"):
        ensemble(models[:1])
