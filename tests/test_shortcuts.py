"""Shortcut predictors, the finder of local shortcuts, and skin tone: each finds what is planted and is quiet where nothing is."""

import numpy as np
import pandas as pd
import pytest
from planted import planted
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from mpox._core import MpoxError
from mpox.data.changes import UNTOUCHED, cell_recipes
from mpox.data.phantom import read_truths
from mpox.protocols.copies import true_mask_paths
from mpox.protocols.splits import make_splits
from mpox.runs.store import RunStore
from mpox.studies.shortcuts import (
    ALL_BAYES,
    ALL_TREES,
    FACTS,
    cell_name,
    cells_alone,
    cells_blanked,
    columnwise_auroc,
    dealt_labels,
    drawn_forms,
    fact_table,
    measured_facts,
    predictor_table,
    rate_scores,
    single_facts,
    tree_scores,
)
from mpox.studies.tones import STRATA, between_strata, equal_tone_weights, equal_tones, stratum_of, within_strata


def test_rates_are_counted_in_the_training_part_only():
    """Against a slow count, bin by bin, with a missing value."""
    rng = np.random.default_rng(0)
    values, positive, fold = rng.normal(size=(60, 1)), rng.random(60) < 0.4, np.arange(60) % 3
    values[::7] = np.nan
    found = rate_scores(values, positive[:, None], fold)[:, 0]
    for i in range(60):
        train = np.flatnonzero(fold != fold[i])
        known = values[train, 0][~np.isnan(values[train, 0])]
        edges = np.quantile(known, np.arange(1, 8) / 8)
        place = lambda v, edges=edges: 8 if np.isnan(v) else sum(edge <= v for edge in edges)  # noqa: E731
        mates = [j for j in train if place(values[j, 0]) == place(values[i, 0])]
        hits, others = sum(positive[mates]), sum(~positive[mates])
        n_hits, n_others = positive[train].sum(), (~positive[train]).sum()
        assert found[i] == pytest.approx(np.log((hits + 1) / (n_hits + 9)) - np.log((others + 1) / (n_others + 9)))


def test_columns_have_the_auroc_of_the_metrics():
    rng = np.random.default_rng(1)
    positive, scores = rng.random((80, 4)) < 0.3, rng.integers(0, 6, (80, 4))
    assert columnwise_auroc(positive, scores) == pytest.approx([roc_auc_score(positive[:, k], scores[:, k]) for k in range(4)])


def test_labels_are_dealt_to_whole_groups():
    groups, positive = np.repeat([f"g{n}" for n in range(20)], 3), np.repeat(np.arange(20) < 8, 3)
    dealt = dealt_labels(positive, groups, 50, 0)
    assert dealt.shape == (60, 50) and (dealt.sum(axis=0) == 24).all()
    assert (dealt.reshape(20, 3, 50).std(axis=1) == 0).all() and (dealt != positive[:, None]).any()


def test_the_planted_fact_is_found_and_noise_is_not():
    """One fact among twelve tells the class, up and down again; the others are noise that is the same within a group."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(90), 2).astype(str)
    positive, fold = np.repeat(rng.random(90) < 0.4, 2), np.repeat(np.arange(90) % 5, 2)
    facts = {f"noise {n}": np.repeat(rng.normal(size=90), 2)[:, None] for n in range(11)}
    facts["planted"] = (np.where(positive, rng.choice([-2, 2], 180), 0) + rng.normal(0, 0.7, 180))[:, None]
    found = predictor_table(facts, positive, groups, fold, n_deals=60, n_bootstrap=200).set_index("fact")
    assert found.loc["planted", "p"] < 0.05 and found.loc["planted", "low"] > found.loc["planted", "chance"]
    noise = found.drop(index="planted")
    assert (noise["p"] > 0.05).all() and (noise["estimate"] < noise["chance"]).all()
    assert noise["chance"].nunique() == 1 and 0.55 < noise["chance"].iloc[0] < 0.75
    with pytest.raises(MpoxError, match="images of two kinds"):
        predictor_table(facts, np.zeros(180, bool), groups, fold)


def test_all_facts_of_a_data_set(tmp_path):
    """A file size that gives the class away is the best of them, and what never differs is left out."""
    data = planted(corner_mark=False)
    rng, ids = np.random.default_rng(0), data.manifest[["image_id", "label"]].assign(dataset="phantom")
    of_quality = [name for name in FACTS if name not in ("width", "height", "aspect", "ita")]
    quality = ids.assign(**{name: rng.normal(size=len(ids)) for name in of_quality})
    quality["file_bytes"] = rng.normal(size=len(ids)) + 2 * (ids["label"] == "Mpox")
    quality["jpeg_quality"] = np.nan
    table = fact_table(data.manifest, quality, ids.assign(ita=rng.normal(size=len(ids))))
    split = make_splits(data.manifest, "source", n_folds=3)
    found = single_facts(table, data.groups, split, n_deals=40).set_index("fact")
    assert "width" not in found.index and "jpeg_quality" not in found.index and "ita" in found.index
    assert found["estimate"].drop(index=[ALL_BAYES, ALL_TREES]).idxmax() == "file_bytes" and found.loc["file_bytes", "p"] < 0.05
    assert found.loc[ALL_TREES, "low"] > 0.5 and np.isnan(found.loc[ALL_TREES, "p"])


def test_facts_are_measured_once_and_then_read(tmp_path, monkeypatch):
    data, store = planted(corner_mark=False, n_patients=12), RunStore(tmp_path)
    facts = measured_facts(store, data)
    assert list(facts) == ["image_id", "label", *FACTS] and facts["image_id"].equals(data.manifest["image_id"])
    assert facts["lightness"].between(0, 100).all() and facts["ita"].notna().any() and len(store.used_tables) == 2
    for measure in ("image_quality", "skin_tone"):
        monkeypatch.setattr(f"mpox.audit.quality.{measure}", lambda manifest: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(measured_facts(store, data), facts)


def test_a_drawn_image_takes_every_form():
    whole, covered, mask, frame, blurred = drawn_forms([UNTOUCHED, "covered", "mask_only", "border_only", "blur-5"], size=96)
    assert all(form.shape == (96, 96, 3) and form.dtype == np.uint8 for form in (whole, covered, mask, frame, blurred))
    assert set(np.unique(mask)) == {0, 255} and (frame[48, 48] == 128).all() and (frame[0] == whole[0]).all()
    lesions = mask[..., 0] == 255
    assert (covered[lesions] != whole[lesions]).any(axis=1).mean() > 0.9 and not (blurred == whole).all()


@pytest.mark.parametrize("corner_mark", [True, False])
def test_the_finder_flags_the_marked_corner_and_nothing_else(corner_mark):
    data = planted(corner_mark=corner_mark)
    found = cells_alone(data, make_splits(data.manifest, "source", n_folds=3), 96, n_bootstrap=500)
    flagged = found.loc[found["flagged"], ["row", "column"]].to_numpy().tolist()
    assert flagged == ([[0, 3]] if corner_mark else [])
    assert found["low"].le(found["estimate"]).all() and (found["at_least"] < found["more"]).all()
    assert cell_name(0, 3) == "row 1, column 4 (upper right)" and cell_name(1, 0) == "row 2, column 1"


@pytest.mark.parametrize("leans", [True, False])
def test_a_blanked_cell_that_the_model_leans_on_is_flagged(leans):
    """Predictions of a model that knows the class a little; without the upper right cell it knows nothing, or as much."""
    rng = np.random.default_rng(3)
    label = np.array(["Mpox", "Others"])[np.arange(240) % 2]
    tables = []
    for recipe in (UNTOUCHED, *cell_recipes()):
        told = 0 if leans and recipe == "cell-0-3" else 1.5
        noise = np.random.default_rng(9).normal(size=240) + rng.normal(0, 0.3, 240)
        score = expit(told * (label == "Mpox") + noise)
        about = {"recipe": recipe, "repeat": 0, "image_id": [f"{n:03d}" for n in range(240)], "label": label}
        tables.append(pd.DataFrame({**about, "p_Mpox": score, "p_Others": 1 - score}))
    predictions = pd.concat(tables, ignore_index=True).assign(group_id=lambda table: table["image_id"].str[:2])
    found = cells_blanked(predictions, n_bootstrap=150)
    assert found.loc[found["flagged"], ["row", "column"]].to_numpy().tolist() == ([[0, 3]] if leans else [])
    other = predictions.assign(image_id=predictions["image_id"] + np.where(predictions["recipe"] == "cell-0-0", "x", ""))
    with pytest.raises(MpoxError, match="the same images in the same groups"):
        cells_blanked(other, n_bootstrap=10)


def by_tone(rng, n_groups: int, *, confounded: bool, knows: float, reads_tone: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions whose score knows the class, reads the tone, or both; the class is darker, or not. Two pictures a group."""
    positive = rng.random(n_groups) < 0.5
    dark = rng.random(n_groups) < (np.where(positive, 0.8, 0.2) if confounded else 0.5)
    ita = np.where(dark, rng.uniform(-60, 5, n_groups), rng.uniform(42, 60, n_groups))
    score = np.repeat(knows * positive + reads_tone * dark, 2) + rng.normal(size=2 * n_groups)
    probability = 1 / (1 + np.exp(-score + (knows + reads_tone) / 2))
    groups = np.repeat([f"g{n:04d}" for n in range(n_groups)], 2)
    ids = [f"{group}_{k % 2}" for k, group in enumerate(groups)]
    label = np.where(np.repeat(positive, 2), "Mpox", "Others")
    about = {"repeat": 0, "image_id": ids, "group_id": groups, "label": label}
    predictions = pd.DataFrame({**about, "p_Mpox": probability, "p_Others": 1 - probability})
    return predictions, pd.DataFrame({"image_id": ids, "ita": np.repeat(ita, 2)})


def test_a_score_that_reads_tone_only_falls_to_chance_when_tones_are_equal():
    predictions, tones = by_tone(np.random.default_rng(5), 400, confounded=True, knows=0, reads_tone=3)
    found = equal_tones(predictions, tones, n_bootstrap=200).set_index("how")
    assert found.loc["as they are", "low"] > 0.65 and found.loc["as they are", "tone_alone"] > 0.7
    for how in ("re-weighted", "pairs of one stratum"):
        assert found.loc[how, "low"] < 0.5 < found.loc[how, "high"] and found.loc[how, "tone_alone"] == pytest.approx(0.5)
    assert found.loc["re-weighted minus as they are", "high"] < 0
    assert found.loc["re-weighted", "effective_positives"] < found.loc["as they are", "effective_positives"]


def test_where_tone_is_independent_of_the_class_reweighting_changes_nothing():
    predictions, tones = by_tone(np.random.default_rng(6), 400, confounded=False, knows=1.5, reads_tone=0)
    found = equal_tones(predictions, tones, n_bootstrap=200).set_index("how")
    assert abs(found.loc["re-weighted minus as they are", "estimate"]) < 0.01
    assert found.loc["re-weighted", "low"] > 0.75
    within = within_strata(predictions, tones, n_bootstrap=200)
    area = within[within["metric"] == "auroc"].set_index("stratum")
    assert area.loc["intermediate and tan", "images"] == 0 and np.isnan(area.loc["intermediate and tan", "estimate"])
    part = predictions[predictions["image_id"].map(tones.set_index("image_id")["ita"]) > 41]
    assert area.loc["very light and light", "estimate"] == pytest.approx(roc_auc_score(part["label"] == "Mpox", part["p_Mpox"]))
    sensitivity = within[within["metric"] == "sensitivity"].set_index("stratum").loc["very light and light", "estimate"]
    assert sensitivity == pytest.approx((part.loc[part["label"] == "Mpox", "p_Mpox"] > 0.5).mean())


def test_a_model_that_misses_the_finding_on_light_skin_is_told_by_the_difference():
    rng = np.random.default_rng(4)
    n = 240
    label = np.where(np.arange(n) % 2 == 0, "Mpox", "Normal")
    light = np.arange(n) % 4 < 2
    missed = light & (label == "Mpox") & (rng.random(n) < 0.6)
    p_mpox = np.where((label == "Mpox") & ~missed, 0.9, 0.1)
    names = [f"{k:03d}" for k in range(n)]
    predictions = pd.DataFrame({"repeat": 0, "image_id": names, "group_id": [f"g{k // 3}" for k in range(n)], "label": label})
    predictions = predictions.assign(p_Mpox=p_mpox, p_Normal=1 - p_mpox)
    tones = pd.DataFrame({"image_id": names, "ita": np.where(light, 50.0, -40.0)})
    first, second = "very light and light", "brown and dark"
    found = between_strata(predictions, tones, first, second, n_bootstrap=300).set_index("metric")
    parts = within_strata(predictions, tones, n_bootstrap=300).set_index(["stratum", "metric"])["estimate"]
    for metric in found.index:
        assert found.loc[metric, "estimate"] == pytest.approx(parts[first, metric] - parts[second, metric])
    assert found.loc["sensitivity", "high"] < -0.3 and found.loc["specificity", "estimate"] == 0
    other = between_strata(predictions, tones, second, first, n_bootstrap=300).set_index("metric")
    assert other.loc["sensitivity", "low"] == pytest.approx(-found.loc["sensitivity", "high"])
    few = between_strata(predictions, tones.assign(ita=np.where(np.arange(n) < 9, -40.0, 50.0)), first, second, n_bootstrap=50)
    assert few["estimate"].isna().all() and few["metric"].tolist() == list(found.index)


def test_the_phantoms_tone_is_independent_of_its_class():
    """Measured by the planted angle: the weights move little, whatever the score is."""
    data = planted(corner_mark=False)
    truths = read_truths(str(true_mask_paths(data.manifest)[0]).split("/truth/")[0] + "/images")
    score = np.random.default_rng(0).random(len(data.manifest))
    predictions = data.manifest[["image_id", "label", "group_id"]].assign(repeat=0, p_Mpox=score)
    predictions["label"] = predictions["label"].where(predictions["label"] == "Mpox", "Others")
    predictions["p_Others"] = 1 - score
    found = equal_tones(predictions, truths.rename(columns={"ita_degrees": "ita"}), n_bootstrap=100).set_index("how")
    assert abs(found.loc["as they are", "tone_alone"] - 0.5) < 0.1
    assert abs(found.loc["re-weighted minus as they are", "estimate"]) < 0.03
    assert found.loc["re-weighted", "effective_others"] > 0.9 * (predictions["label"] == "Others").sum()


def test_weights_make_the_distributions_equal():
    rng = np.random.default_rng(7)
    positive, stratum = rng.random(200) < 0.4, rng.integers(0, 3, 200)
    stratum[positive & (stratum == 2)] = 1  # the positives lack the last stratum
    for line in equal_tone_weights(positive, stratum, rng.integers(0, 3, (5, 200)).astype(float)):
        shares = [np.bincount(stratum[side], line[side], minlength=3) / line[side].sum() for side in (positive, ~positive)]
        assert shares[0] == pytest.approx(shares[1]) and shares[0][2] == 0


def test_strata_are_ordered_and_need_groups_of_both_sides():
    assert [stratum_of(angle) for angle in (41.1, 41, 10, -30.5)] == [*list(STRATA)[:2], list(STRATA)[2], list(STRATA)[2]]
    predictions, tones = by_tone(np.random.default_rng(8), 60, confounded=True, knows=1, reads_tone=0)
    for ita in (np.where(predictions["label"] == "Mpox", -50.0, 50.0), np.nan):
        with pytest.raises(MpoxError, match="No stratum of skin tone has 5 groups"):
            equal_tones(predictions, tones.assign(ita=ita))
        assert within_strata(predictions, tones.assign(ita=ita))["estimate"].isna().all()


def test_a_fact_that_no_training_image_has_tells_the_trees_nothing():
    rng = np.random.default_rng(0)
    values, positive, fold = rng.normal(size=(60, 2)), rng.random(60) < 0.4, np.arange(60) % 3
    alone = tree_scores(values, positive, fold)
    missing = np.where(fold == 0, 1.0, np.nan)  # known in one fold only
    assert tree_scores(np.column_stack([values, missing]), positive, fold).tolist() == alone.tolist()
