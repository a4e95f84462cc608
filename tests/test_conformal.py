"""Conformal sets: crepes' own, and the coverage that is promised."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from crepes import ConformalClassifier
from crepes.extras import hinge
from scipy.special import softmax

from mpox import MpoxError
from mpox.stats.conformal import (
    CERTAIN,
    NOTHING,
    UNSURE,
    ConformalScores,
    conformal_sets,
    coverage_table,
    fit_conformal,
    p_values,
    predict_sets,
)


def drawn(rng: np.random.Generator, n: int, shares=(0.6, 0.3, 0.1)) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a fair but not calibrated model, and classes that are not equally common."""
    y = rng.choice(3, n, p=shares)
    logits = rng.normal(0, 1, (n, 3))
    logits[np.arange(n), y] += 1.5
    return softmax(3 * logits, axis=1), y


@pytest.mark.parametrize("by_class", [True, False])
def test_p_values_and_sets_are_those_of_crepes(by_class):
    rng = np.random.default_rng(0)
    p, y = drawn(rng, 157)
    new, _ = drawn(rng, 80)
    scores = fit_conformal(p, y, by_class=by_class)
    theirs = ConformalClassifier().fit(hinge(p, np.arange(3), y), bins=y if by_class else None)
    if by_class:  # crepes takes one bin a test object: the candidate class is asked column by column
        alphas = hinge(new)
        wanted = np.stack([theirs.predict_p(alphas, bins=np.full(80, k), smoothing=False)[:, k] for k in range(3)], axis=1)
    else:
        wanted = theirs.predict_p(hinge(new), smoothing=False)
    assert np.allclose(p_values(scores, new), wanted)
    assert (predict_sets(scores, new, 0.83) == (wanted > 0.17)).all()


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_coverage_of_every_class_holds_within_monte_carlo_error(confidence):
    """1500 studies: with n held-out pictures of a class the coverage is at least the confidence, at most 1 / (n + 1) more."""
    rng = np.random.default_rng(1)
    y = np.r_[np.repeat([0, 1, 2], 30), np.repeat([0, 1, 2], 10)]
    by_class, pooled = [], []
    for _ in range(1500):
        logits = rng.normal(0, 1, (120, 3))
        logits[np.arange(120), y] += np.array([2.0, 1.2, 0.7])[y]  # the third class is hard
        p = softmax(3 * logits, axis=1)
        for told_apart, found in ((True, by_class), (False, pooled)):
            sets = predict_sets(fit_conformal(p[:90], y[:90], by_class=told_apart), p[90:], confidence)
            found.append(sets[np.arange(30), y[90:]].reshape(3, 10).mean(axis=1))
    mean, error = np.mean(by_class, axis=0), np.std(by_class, axis=0) / np.sqrt(1500)
    assert (mean > confidence - 3 * error).all() and (mean < confidence + 1 / 31 + 3 * error).all()
    pooled = np.mean(pooled, axis=0)
    assert pooled.mean() == pytest.approx(confidence, abs=0.015)
    assert pooled[2] < confidence - 0.02  # on average is not for everyone: what the classes are told apart for


def test_ties_are_kept_and_a_class_that_was_never_seen_cannot_be_excluded():
    scores = fit_conformal(np.array([[0.7, 0.3, 0.0]] * 9), np.zeros(9, dtype=int))
    sets = predict_sets(scores, np.array([[0.7, 0.3, 0.0], [0.69, 0.31, 0.0]]), 0.9)
    assert sets.tolist() == [[True, True, True], [False, True, True]]


def test_scores_survive_json_exactly():
    p, y = drawn(np.random.default_rng(2), 60)
    scores = fit_conformal(p, y)
    back = json.loads(json.dumps(asdict(scores)))
    back = ConformalScores(tuple(map(tuple, back["scores"])), back["by_class"])
    assert back == scores and (predict_sets(back, p, 0.9) == predict_sets(scores, p, 0.9)).all()


def test_what_cannot_be_asked_is_refused():
    p, y = drawn(np.random.default_rng(3), 20)
    scores = fit_conformal(p, y)
    for confidence in (0, 1, 90):
        with pytest.raises(MpoxError, match="between 0 and 1"):
            predict_sets(scores, p, confidence)
    with pytest.raises(MpoxError, match="for 3 classes"):
        predict_sets(scores, p[:, :2])
    with pytest.raises(MpoxError, match="not among the 3 columns"):
        fit_conformal(p, y + 1)
    with pytest.raises(MpoxError, match="at least one picture"):
        fit_conformal(p[:0], y[:0])


def predictions(p, y, groups, start: int) -> pd.DataFrame:
    names = ["Measles", "Mpox", "Normal"]
    frame = pd.DataFrame({"repeat": 0, "fold": 0, "image_id": [f"i{start + k}" for k in range(len(y))]})
    frame = frame.assign(group_id=[f"g{start + g}" for g in groups], label=np.array(names)[y])
    return frame.assign(**{f"p_{label}": p[:, k] for k, label in enumerate(names)})


def test_the_table_counts_what_the_sets_hold():
    rng = np.random.default_rng(4)
    nested, test = (predictions(*drawn(rng, 200), np.arange(200) // 2, start) for start in (0, 10_000))
    sets = conformal_sets(test, nested, confidence=0.9)
    members = sets[["in_Measles", "in_Mpox", "in_Normal"]].to_numpy()
    assert (sets["size"] == members.sum(axis=1)).all()
    assert set(sets.loc[sets["size"] > 1, "answer"]) == {UNSURE} and set(sets.loc[sets["size"] == 1, "answer"]) == {CERTAIN}
    table = coverage_table(sets, n_bootstrap=200).set_index(["class", "measure"])
    measles = sets[sets["label"] == "Measles"]
    assert table.loc[("Measles", "coverage"), "estimate"] == pytest.approx(measles["in_Measles"].mean())
    assert table.loc[("all", "size"), "estimate"] == pytest.approx(sets["size"].mean())
    named = sets[sets["answer"] == CERTAIN]
    assert table.loc[("all", "right if certain"), "estimate"] == pytest.approx(named["covered"].mean())
    assert table.loc[("all", [CERTAIN, UNSURE, NOTHING]), "estimate"].sum() == pytest.approx(1)
    cover = table.xs("coverage", level="measure")
    assert ((cover["low"] <= cover["estimate"]) & (cover["estimate"] <= cover["high"])).all()
