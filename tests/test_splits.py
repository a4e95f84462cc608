"""Splits: what must stay together stays together, whatever the data look like."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mpox._core import MpoxError
from mpox.data.groups import connected, patient_groups, same_value_links, source_groups
from mpox.protocols.splits import (
    FOLD_STEP,
    PROTOCOLS,
    assign_folds,
    make_external_split,
    make_splits,
    nested_splits,
    siblings_in_training,
    split_hash,
)

HONEST = sorted(name for name, protocol in PROTOCOLS.items() if not protocol.leaks)
PLAIN = sorted(name for name, protocol in PROTOCOLS.items() if not protocol.augmented)
SEEDS = st.integers(0, 10_000)


def link_groups(manifest: pd.DataFrame, keys: list[str]) -> np.ndarray:
    """Honest groups as an audit would give them: the same value in one of these columns."""
    links = [same_value_links(manifest["image_id"], manifest[key]) for key in keys]
    return connected(manifest["image_id"], *(sum(ends, []) for ends in zip(*links, strict=True)))


def make_manifest(labels, patients, photographs) -> pd.DataFrame:
    ids = [f"{label}/{number:03d}.png" for number, label in enumerate(labels)]
    manifest = pd.DataFrame({"image_id": ids, "label": labels, "source": "random"})
    manifest["patient_id"] = pd.array(patients, dtype="string")
    manifest["sha256"] = [f"file {number}" for number in range(len(ids))]
    manifest["pixel_sha256"] = [f"photograph {number}" for number in photographs]
    manifest["group_id"] = link_groups(manifest, ["patient_id", "pixel_sha256"])
    return manifest.sort_values("image_id", ignore_index=True)


@st.composite
def manifests(draw) -> pd.DataFrame:
    """Patients with 1 to 4 pictures, some without an id, and photographs filed again under any patient and label."""
    labels, patients = [], []
    for name in ["Mpox", "Normal", "Measles"][: draw(st.integers(2, 3))]:
        for number, count in enumerate(draw(st.lists(st.integers(1, 4), min_size=11, max_size=16))):
            known = number == 0 or draw(st.integers(0, 9)) > 0
            labels += [name] * count
            patients += [f"{name}{number}" if known else None] * count
    photographs = list(range(len(labels)))
    rows = st.integers(0, len(labels) - 1)
    for copy, original in draw(st.lists(st.tuples(rows, rows), max_size=6)):
        photographs[copy] = photographs[original]
    return make_manifest(labels, patients, photographs)


def crossing(split: pd.DataFrame, groups: pd.Series) -> int:
    """How many groups lie on both sides of an outer fold, or in two inner folds."""
    keyed = split.assign(honest=split["image_id"].map(groups))
    parts = keyed.groupby(["repeat", "fold", "honest"])["inner_fold"].nunique()  # the test fold is inner fold -1
    return int((parts > 1).sum())


def by_image(manifest: pd.DataFrame, groups: pd.Series | None = None) -> pd.Series:
    return pd.Series((manifest["group_id"] if groups is None else groups).to_numpy(), index=manifest["image_id"].to_numpy())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(), st.sampled_from(HONEST), st.integers(2, 4), SEEDS)
def test_no_honest_protocol_lets_a_group_cross_folds(manifest, protocol, n_folds, seed):
    split = make_splits(manifest, protocol, n_folds=n_folds, seed=seed)
    patients = by_image(manifest, patient_groups(manifest))
    kept = patients if protocol == "patient" else by_image(manifest, source_groups(manifest))
    assert crossing(split, kept) == crossing(split, patients) == 0
    assert split["group_id"].tolist() == split["image_id"].map(kept).tolist()
    assert siblings_in_training(split, kept) == 0


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(), st.sampled_from(PLAIN), st.integers(2, 4), st.integers(1, 2), SEEDS)
def test_every_image_is_tested_once_a_repeat_and_never_chosen_by(manifest, protocol, n_folds, n_repeats, seed):
    split = make_splits(manifest, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    assert len(split) == len(manifest) * n_folds * n_repeats
    tested = split[split["role"] == "test"]
    for repeat in range(n_repeats):
        assert sorted(tested.loc[tested["repeat"] == repeat, "image_id"]) == manifest["image_id"].tolist()
    assert set(split["role"]) == {"train", "test"}
    assert (split["inner_fold"].eq(-1) == split["role"].eq("test")).all()
    for _, rows in split.groupby(["repeat", "fold"]):
        train = rows[rows["role"] == "train"]
        labels = train["image_id"].str.split("/").str[0]
        assert set(labels) == set(manifest["label"])
        assert {0, 1} <= set(train["inner_fold"]) <= {0, 1, 2, 3}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(manifests(), st.sampled_from(PLAIN), SEEDS)
def test_the_seed_decides(manifest, protocol, seed):
    first = make_splits(manifest, protocol, n_folds=3, seed=seed)
    turned = manifest.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(make_splits(turned, protocol, n_folds=3, seed=seed), first)
    digest = split_hash(first)
    assert split_hash(first.sample(frac=1, random_state=seed)) == digest
    assert split_hash(make_splits(manifest, protocol, n_folds=3, seed=seed + 1)) != digest
    swapped = first.copy()
    swapped.loc[0, "inner_fold"] += 5
    assert split_hash(swapped) != digest


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_data_give_a_split_or_one_sentence(data):
    """However few and however tangled: no other error, and no empty fold."""
    n = data.draw(st.integers(2, 25))
    labels = data.draw(st.lists(st.sampled_from("ABC"), min_size=n, max_size=n))
    patients = data.draw(st.lists(st.sampled_from(["P1", "P2", "P3", "P4", "P5", "P6", None]), min_size=n, max_size=n))
    photographs = data.draw(st.lists(st.integers(0, 2 * n), min_size=n, max_size=n))
    manifest = make_manifest(labels, patients, photographs)
    n_folds = data.draw(st.integers(2, 4))
    try:
        split = make_splits(manifest, data.draw(st.sampled_from(PLAIN)), n_folds=n_folds)
    except MpoxError:
        return
    for _, rows in split.groupby(["repeat", "fold"]):
        assert set(rows["role"]) == {"train", "test"}
        train = rows[rows["role"] == "train"]
        assert set(train["image_id"].str.split("/").str[0]) == set(labels)


def test_no_inner_fold_takes_a_class_away():
    """Two groups of a class, of which one has another class's only images beside it: one sentence, no error of the probe's."""
    labels = ["A"] * 12 + ["B"] * 6
    patients = [f"P{number}" for number in range(12)] + ["Q0", "Q0", "Q0", "Q1", "Q1", "Q2"]
    manifest = make_manifest(labels, patients, range(18))
    for seed in range(20):
        try:
            split = make_splits(manifest, "source", n_folds=2, seed=seed)
        except MpoxError as error:
            assert "groups" in str(error)
            continue
        for _, rows in split[split["role"] == "train"].groupby("fold"):
            for number in set(rows["inner_fold"]):
                assert set(rows.loc[rows["inner_fold"] != number, "image_id"].str[0]) == {"A", "B"}


def test_one_data_set_trains_and_another_tests():
    first = make_manifest(["A", "B"] * 10, [f"P{number // 2}" for number in range(20)], range(20)).assign(source="one")
    second = make_manifest(["A", "B"] * 5, [None] * 10, range(10)).assign(source="two")
    third = second.assign(source="three")
    manifest = pd.concat([table.assign(image_id=table["source"] + "/" + table["image_id"]) for table in (first, second, third)])
    manifest["group_id"] = link_groups(manifest, ["pixel_sha256"])
    split = make_external_split(manifest, "one", "two")
    assert set(split.loc[split["role"] == "train", "image_id"]) == set("one/" + first["image_id"])
    assert set(split.loc[split["role"] == "test", "image_id"]) == set("two/" + second["image_id"])
    assert set(split["repeat"]) == set(split["fold"]) == {0}
    train = split[split["role"] == "train"]
    assert (train.groupby("group_id")["inner_fold"].nunique() == 1).all() and train["inner_fold"].min() == 0
    groups = by_image(manifest)
    assert siblings_in_training(split, groups) == 1
    assert siblings_in_training(make_external_split(manifest, "two", "one"), groups) == 0.5
    with pytest.raises(MpoxError, match="'four' is not in this manifest, which has one, three, two"):
        make_external_split(manifest, "one", "four")
    with pytest.raises(MpoxError, match="needs two data sets"):
        make_external_split(manifest, "one", "one")
    with pytest.raises(MpoxError, match="'one' has no images of C"):
        make_external_split(manifest.assign(label=manifest["label"].where(manifest["source"] == "one", "C")), "one", "two")


def test_a_group_over_several_data_sets_stays_together():
    parts = [make_manifest(["A", "B"] * 12, [None] * 24, range(24)).assign(source=name) for name in ("one", "two")]
    manifest = pd.concat([part.assign(image_id=part["source"] + "/" + part["image_id"]) for part in parts], ignore_index=True)
    manifest["group_id"] = link_groups(manifest, ["pixel_sha256"])
    assert crossing(make_splits(manifest, "source", n_folds=4), by_image(manifest)) == 0
    assert siblings_in_training(make_splits(manifest, "random_image", n_folds=4), by_image(manifest)) > 0.5


def test_classes_are_spread_evenly_and_repeats_shuffled_anew():
    manifest = make_manifest(["A"] * 30 + ["B"] * 60, [f"P{number}" for number in range(90)], range(90))
    split = make_splits(manifest, "source", n_folds=3, n_repeats=2)
    tested = split[split["role"] == "test"].assign(label=lambda table: table["image_id"].str[0])
    assert tested.groupby(["repeat", "fold", "label"]).size().unstack().values.tolist() == [[10, 20]] * 6
    first, second = (tested[tested["repeat"] == repeat].set_index("image_id")["fold"] for repeat in (0, 1))
    assert not first.equals(second.loc[first.index])


#: Patients of five images: nearly every test image has a sibling in training, if images are assigned one by one.
FIVES = [f"P{number // 5}" for number in range(100)], range(100)
#: Photographs that are filed under two patients, which the protocol `patient` does not see.
TWICE = [f"P{number}" for number in range(100)], [number - 50 * (number >= 50 and number % 2) for number in range(100)]


@pytest.mark.parametrize(("known", "protocol", "least"), [(FIVES, "random_image", 0.9), (TWICE, "patient", 0.2)])
def test_leaks_are_measured(known, protocol, least):
    manifest = make_manifest(["A", "B"] * 50, *known)
    groups = by_image(manifest, source_groups(manifest))
    assert siblings_in_training(make_splits(manifest, protocol), groups) > least
    assert siblings_in_training(make_splits(manifest, "source"), groups) == 0


@pytest.mark.parametrize(
    ("changes", "protocol", "options", "said"),
    [
        ({}, "patient", {}, r"Too few groups for 5 folds: A \(1\)"),
        ({}, "patient", {"n_folds": 2}, r"for 2 folds: A \(1\). A class needs three groups at least .* add images of others"),
        ({}, "random_image", {"n_folds": 10}, r"for 10 folds: A \(9\), B \(9\). Use fewer folds, or leave these classes out"),
        ({}, "fair", {}, "Unknown protocol 'fair': choose one of"),
        ({}, "random_image", {"n_folds": 1}, "at least 2 folds"),
        ({}, "random_image", {"n_repeats": 0}, "at least 2 folds and 1 repeat"),
        ({}, "augment_before_split", {}, "make them first with `mpox.protocols.copies.augmented`"),
        ({"label": "A"}, "random_image", {}, "at least two classes"),
        ({"patient_id": pd.array([None] * 18, dtype="string")}, "patient", {}, "no patient ids"),
    ],
)
def test_impossible_splits_are_refused_in_one_sentence(changes, protocol, options, said):
    manifest = make_manifest(["A"] * 9 + ["B"] * 9, ["P0"] * 9 + [f"P{number}" for number in range(1, 10)], range(18))
    with pytest.raises(MpoxError, match=said):
        make_splits(manifest.assign(**changes), protocol, **options)


def test_nested_splits_hold_out_each_training_image_once_a_fold_and_divide_no_group():
    labels = [label for label in "AB" for _ in range(40)]
    split = make_splits(make_manifest(labels, [f"P{number // 2}" for number in range(80)], range(80)), "source", n_folds=4)
    nested = nested_splits(split)
    held_out = nested[nested["role"] == "test"].assign(outer=lambda table: table["fold"] // FOLD_STEP)
    for fold, rows in split[split["role"] == "train"].groupby("fold"):
        assert sorted(held_out.loc[held_out["outer"] == fold, "image_id"]) == sorted(rows["image_id"])
    for _, rows in nested.groupby("fold"):
        train, test = rows[rows["role"] == "train"], rows[rows["role"] == "test"]
        assert not set(train["group_id"]) & set(test["group_id"]) and (test["inner_fold"] == -1).all()
        assert sorted(train["inner_fold"].unique()) == [0, 1, 2]
    extra = split["image_id"].eq("A/000.png") & split["role"].eq("train")
    never = nested_splits(split.assign(inner_fold=split["inner_fold"].where(~extra, -1)))
    assert set(never.loc[never["image_id"] == "A/000.png", "role"]) == {"train"}
    with pytest.raises(MpoxError, match="nested predictions need three"):
        nested_splits(split.assign(inner_fold=split["inner_fold"].clip(upper=1)))


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_folds_are_those_of_scikit_learn(n_classes):
    rng = np.random.default_rng(n_classes)
    for seed in range(8):
        n, k = int(rng.integers(60, 300)), int(rng.integers(2, 6))
        labels, groups = rng.integers(0, n_classes, n), rng.integers(0, n // 2, n)
        expected = np.empty(n, dtype=np.int64)
        folds = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(np.zeros(n), labels, groups)
        for number, (_, test) in enumerate(folds):
            expected[test] = number
        assert assign_folds(labels, groups, k, seed).tolist() == expected.tolist()
