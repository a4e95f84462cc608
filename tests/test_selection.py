"""A choice inside the training groups never looks at the test folds; choosing on them flatters by what theory says."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from mpox._core import MpoxError
from mpox.models.config import ModelConfig, RunConfig
from mpox.runs.recorded import open_store
from mpox.runs.store import RunResult, RunStore
from mpox.stats.metrics import difference, evaluate, fold_metrics
from mpox.stats.selection import BEST_ON_TEST, BEST_PER_FOLD, NESTED, choose_nested, optimism, validation_scores

FOLDS, SIZE = 10, 30


def guesses(rng: np.random.Generator, name: str, accuracy: float = 0.5) -> pd.DataFrame:
    """A candidate that is right with some probability, whatever the picture."""
    n = FOLDS * SIZE
    label = np.array(["Mpox", "Normal"])[np.arange(n) % 2]
    right = rng.random(n) < accuracy
    p = np.where(right == (label == "Mpox"), 0.9, 0.1)
    fold = np.arange(n) // SIZE
    image = [f"{number:03d}" for number in range(n)]
    table = {"run_id": [f"{name}{k}" for k in fold], "repeat": 0, "fold": fold, "image_id": image, "group_id": image}
    return pd.DataFrame({**table, "label": label, "p_Mpox": p, "p_Normal": 1 - p})


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
    table = optimism(candidates, validation, "f1", "macro", n_bootstrap=50).set_index("rule")
    assert table.loc[NESTED, "chosen"] == table.loc[BEST_ON_TEST, "chosen"] == "good (10)"
    assert table.loc[BEST_ON_TEST, ["optimism", "optimism_low", "optimism_high"]].tolist() == [0, 0, 0]


def test_the_differences_are_the_paired_ones_of_the_metrics():
    rng = np.random.default_rng(3)
    candidates = {name: guesses(rng, name, 0.7) for name in "abc"}
    validation = losses(candidates, lambda number, fold: rng.random())
    for metric, label in (("auroc", "Mpox"), ("accuracy", "all")):
        table = optimism(candidates, validation, metric, label, n_bootstrap=100, seed=4).set_index("rule")
        nested, _ = choose_nested(candidates, validation)
        scores = {
            name: evaluate(part, n_bootstrap=0).set_index(["metric", "class"])["estimate"] for name, part in candidates.items()
        }
        best = max(candidates, key=lambda name: scores[name][metric, label])
        assert table.loc[BEST_ON_TEST, "chosen"] == f"{best} (10)"
        assert table.loc[BEST_ON_TEST, "estimate"] == pytest.approx(scores[best][metric, label])
        paired = difference(candidates[best], nested, metric, label, n_bootstrap=100, seed=4)
        assert tuple(table.loc[BEST_ON_TEST, ["optimism", "optimism_low", "optimism_high"]]) == pytest.approx(paired)
    by_fold = [fold_metrics(part).query("metric == 'accuracy'")["estimate"].to_numpy() for part in candidates.values()]
    assert table.loc[BEST_PER_FOLD, "estimate"] == pytest.approx(np.max(by_fold, axis=0).mean())  # folds of one size


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
    with pytest.raises(MpoxError, match="no metric 'kappa'"):
        optimism(candidates, validation, "kappa", "all")


def test_losses_are_read_from_the_runs(tmp_path):
    store = RunStore(tmp_path)
    histories = {
        "probe": pd.DataFrame({"strength": [1.0, 2.0], "validation_loss": [0.4, 0.6]}),
        "other": pd.DataFrame({"x": [1.0]}),
    }
    candidates = {}
    for number, (name, history) in enumerate(histories.items()):
        config = RunConfig("d", "0" * 16, "source", "0" * 16, 0, number, ModelConfig(image_size=32))
        table = guesses(np.random.default_rng(0), name).query("fold == 0").assign(fold=number, run_id=config.id)
        result = RunResult(config, table[["image_id", "label", "p_Mpox", "p_Normal"]], history, {"seconds": 1.0})
        store.run(config, lambda folder, result=result: result)
        candidates[name] = table
    found = validation_scores(store, {"probe": candidates["probe"]})
    assert found[["candidate", "repeat", "fold", "loss"]].values.tolist() == [["probe", 0, 0, 0.4]]
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
