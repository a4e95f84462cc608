"""Nested predictions: nothing of the outer test fold or of the held-out group is learnt from."""

import pandas as pd
import pytest

from mpox import ModelConfig, MpoxError, open_store
from mpox.protocols.splits import FOLD_STEP, make_splits, nested_splits
from mpox.runs.cross_validation import predict_nested


@pytest.fixture(scope="module")
def manifest() -> pd.DataFrame:
    rows = [(f"{label}/{number:02d}_{k}", label, f"{label}{number}") for label in "ab" for number in range(20) for k in range(2)]
    return pd.DataFrame(rows, columns=["image_id", "label", "patient_id"]).assign(group_id=lambda t: t["patient_id"])


def test_each_training_image_is_held_out_once_a_fold(manifest):
    split = make_splits(manifest, "source", n_folds=4)
    nested = nested_splits(split)
    held_out = nested[nested["role"] == "test"].assign(outer=lambda t: t["fold"] // FOLD_STEP)
    for fold, rows in split.groupby("fold"):
        trained = rows.loc[rows["role"] == "train", "image_id"]
        assert sorted(held_out.loc[held_out["outer"] == fold, "image_id"]) == sorted(trained)


def test_no_group_is_on_both_sides_and_inner_folds_count_from_0(manifest):
    nested = nested_splits(make_splits(manifest, "source", n_folds=4))
    for _, rows in nested.groupby("fold"):
        train, test = rows[rows["role"] == "train"], rows[rows["role"] == "test"]
        assert not set(train["group_id"]) & set(test["group_id"])
        assert sorted(train["inner_fold"].unique()) == [0, 1, 2]
        assert (test["inner_fold"] == -1).all()


def test_an_image_that_is_never_held_out_stays_in_training(manifest):
    split = make_splits(manifest, "source", n_folds=4)
    extra = split["image_id"].isin(["a/00_0"]) & (split["role"] == "train")
    nested = nested_splits(split.assign(inner_fold=split["inner_fold"].where(~extra, -1)))
    assert set(nested.loc[nested["image_id"] == "a/00_0", "role"]) == {"train"}


def test_two_inner_folds_are_too_few(manifest):
    split = make_splits(manifest, "source", n_folds=4)
    with pytest.raises(MpoxError, match="nested predictions need three"):
        nested_splits(split.assign(inner_fold=split["inner_fold"].clip(upper=1)))


def test_predictions_name_outer_and_inner_fold(tiny_folder):
    data = open_store().dataset(str(tiny_folder))
    split = make_splits(data.manifest, "source", n_folds=3)
    model = ModelConfig(backbone="colour_histogram", image_size=64)
    table = predict_nested(open_store(), data, split, model)
    assert len(table) == (split["role"] == "train").sum()
    assert sorted(table["fold"].unique()) == [0, 1, 2] and table["inner_fold"].between(0, 3).all()
