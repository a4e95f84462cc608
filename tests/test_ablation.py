"""The ablation: what is varied, how far it is from what it is compared with, and a choice that sees no test image."""

import numpy as np
import pandas as pd
import pytest

from mpox import ModelConfig, cross_validate, make_splits, predict_nested
from mpox.book.run import declared_parameters
from mpox.stats.comparison import compare_folds
from mpox.stats.selection import ensemble, nested_losses
from mpox.studies import ablation

FOLDS = {"n_folds": 3, "n_repeats": 1, "seed": 0}
ASKED = declared_parameters("05_ablation") | {
    "BACKBONE": "tf_efficientnet_lite0", "BACKBONES": ["tf_efficientnet_lite0"], "IMAGE_SIZE": 96,
    "BASELINES": ["colour_histogram"],
}  # fmt: skip


def test_a_variant_is_compared_with_one_that_differs_in_a_single_factor():
    asked = declared_parameters("05_ablation") | {
        "TAIL_FACTORS": list(ablation.TAIL_FACTORS), "TRAINED_BACKBONES": ["tf_efficientnet_lite0"], "SMALL_CNN": "lcnet_035",
    }  # fmt: skip
    table = ablation.variants(asked).set_index("variant")
    assert table.index.is_unique and table.index[0] == table["against"].iloc[1] == "reference" and not table["against"].iloc[0]
    assert set(table["against"].iloc[1:]) == {"reference", "training: fine-tuning", "training: tail-tuning"} < set(table.index)
    models = table["model"]
    for name, level in (("views: 16", {"views": 16}), ("class weights: none", {"class_weights": False})):
        one = f"tail-tuning, {name}"
        assert models[one] == models["training: tail-tuning"].with_(training={**asked["TAIL_TRAINING"], **level})
        assert table.loc[one, "against"] == "training: tail-tuning"
    assert models["training: lcnet_035 from scratch"].weights == models["training: from scratch"].weights == "random"
    assert table["trained"].equals(models.map(lambda model: model.training is not None))
    assert not any("lcnet" in name for name in ablation.variants({**asked, "SMALL_CNN": ""})["variant"])


def test_differences_are_those_of_the_folds_and_missing_weights_leave_a_variant_out(use_study):
    table = ablation.variants({**ASKED, "OTHER_BACKBONES": ["tf_efficientnet_lite4"]})
    table = table[table["factor"].isin(["reference", "other network", "classifier", "no network"])]
    predictions = ablation.predict_variants(use_study.store, use_study.data, "source", table, **FOLDS)
    assert set(table["variant"]) - set(predictions) == {"other network: lite4"}
    found = ablation.differences(predictions, table, 0.02).set_index("variant")
    for variant in found.index.drop("reference"):
        one = compare_folds(predictions[variant], predictions["reference"], "auroc", "Mpox", 0.02, n_bootstrap=0)
        assert found.loc[variant, ["change", "p"]].tolist() == [one.t_test.estimate, one.t_test.p]
        assert found.loc[variant, "p"] <= found.loc[variant, "p_holm"] <= 1
    assert found.loc["reference", ["change", "p", "p_holm"]].isna().all() and (found["auroc_low"] <= found["auroc"]).all()


def test_growth_takes_three_networks(use_study):
    model = ModelConfig(backbone="tf_efficientnet_lite0", image_size=96)
    grown = ["tf_efficientnet_lite0", "tf_efficientnet_lite4"]
    assert ablation.grow(use_study.store, use_study.data, "source", model, grown, 96, **FOLDS) is None


def test_a_candidate_is_an_average_and_its_loss_is_of_training_images_kept_under_its_name(use_study):
    store, data = use_study.store, use_study.data
    colours = [ModelConfig(regime, "colour_histogram", image_size=96) for regime in ("linear_probe", "svm")]
    candidates = {"both": (None, colours), "one": (None, colours[:1])}
    both = ablation.predict_candidate(store, data, "source", candidates["both"], **FOLDS)
    pd.testing.assert_frame_equal(both, ensemble([cross_validate(store, data, "source", model, **FOLDS) for model in colours]))
    losses = ablation.losses(store, data, "source", candidates, **FOLDS)
    split = make_splits(data.manifest, "source", **FOLDS)
    wanted = nested_losses({"one": predict_nested(store, data, split, colours[0])})
    assert losses.query("candidate == 'one'")["loss"].to_numpy() == pytest.approx(wanted["loss"].to_numpy())
    before = len(list((store.root / "tables").glob("nested-losses-*")))
    again = ablation.losses(store, data, "source", candidates, **FOLDS)
    np.testing.assert_allclose(again["loss"], losses["loss"])
    ablation.losses(store, data, "source", {"one": candidates["one"]}, **FOLDS)
    assert len(list((store.root / "tables").glob("nested-losses-*"))) == before + 1
