"""The learning curve keeps the protocol's tests and runs; the power law is the least-squares one; what is needed follows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planted import manifests, twice
from scipy.optimize import least_squares, nnls

from mpox._core import MpoxError, TooFewImages
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.sizes import learning_splits
from mpox.protocols.splits import make_splits, siblings_in_training, split_hash
from mpox.runs.cross_validation import cross_validate
from mpox.runs.store import RunStore, read_run
from mpox.stats.growth import EXPONENTS, PowerLaw, fit_power_law, needed_groups
from mpox.stats.metrics import evaluate, replicates
from mpox.studies.learning_curve import CURVE_COLUMNS, curve_replicates, curve_table, learning_curve

FRACTIONS = (0.2, 0.5, 0.8, 1.0)
NEIGHBOUR = ModelConfig(regime="nearest_neighbour", backbone="colour_histogram", image_size=32)


@settings(max_examples=5, deadline=None)
@given(manifests(20, 36), st.integers(2, 4), st.integers(0, 1000))
def test_fractions_change_the_training_groups_and_nothing_else(manifest, n_folds, seed):
    options = {"n_folds": n_folds, "n_repeats": 2, "seed": seed}
    try:
        splits = learning_splits(manifest, "source", fractions=FRACTIONS, **options)
    except TooFewImages as error:
        assume("20% of the training groups" not in str(error))
        raise
    whole = make_splits(manifest, "source", **options)
    pd.testing.assert_frame_equal(splits[1.0], whole)
    keys = ["repeat", "fold"]
    label_of = manifest.drop_duplicates("group_id").set_index("group_id")["label"]
    before = {key: set() for key in whole.groupby(keys).groups}
    for fraction, split in splits.items():
        assert not split.duplicated([*keys, "image_id"]).any()
        tests, train = split[split["role"] == "test"], split[split["role"] == "train"]
        assert tests.reset_index(drop=True).equals(whole[whole["role"] == "test"].reset_index(drop=True))
        for key, rows in train.groupby(keys):
            full = whole[(whole["repeat"] == key[0]) & (whole["fold"] == key[1]) & (whole["role"] == "train")]
            kept = set(rows["group_id"])
            assert before[key] <= kept  # nested
            before[key] = kept
            assert len(rows) == full["group_id"].isin(kept).sum()  # whole groups
            asked = label_of[full["group_id"].unique()].value_counts() * fraction
            assert (label_of[sorted(kept)].value_counts() - asked).abs().max() <= 0.5
            assert (rows.groupby("group_id")["inner_fold"].nunique() == 1).all() and rows["inner_fold"].min() == 0
            for inner in rows["inner_fold"].unique():
                left = rows.loc[rows["inner_fold"] != inner, "group_id"]
                assert set(label_of[left]) == set(manifest["label"])


def groups_manifest(n_groups: int) -> pd.DataFrame:
    rows = [(f"{k}/{n:02d}_{i}", k, f"{k}{n}") for k in ("Mpox", "Normal") for n in range(n_groups) for i in range(2)]
    return pd.DataFrame(rows, columns=["image_id", "label", "group_id"])


def test_the_seed_and_the_fraction_make_the_split():
    manifest = groups_manifest(20)
    hashes = {f: split_hash(table) for f, table in learning_splits(manifest, "source", fractions=FRACTIONS).items()}
    shuffled = learning_splits(manifest.sample(frac=1, random_state=1), "source", fractions=FRACTIONS)
    assert {f: split_hash(table) for f, table in shuffled.items()} == hashes and len(set(hashes.values())) == 4
    other = learning_splits(manifest, "source", fractions=[0.5], seed=1)
    assert list(other) == [0.5] and split_hash(other[0.5]) != hashes[0.5]
    alone = learning_splits(manifest, "source", fractions=[0.5])  # the others do not matter
    assert split_hash(alone[0.5]) == hashes[0.5]


def test_what_cannot_be_split_says_why():
    manifest = groups_manifest(10)
    with pytest.raises(TooFewImages, match="With 10% of the training groups.*leave this fraction out"):
        learning_splits(manifest, "source", fractions=[0.1, 1])
    with pytest.raises(TooFewImages, match="With 1% of the training groups"):  # no group at all
        learning_splits(manifest, "source", fractions=[0.01])
    for wrong in ([], [0, 1], [0.5, 1.2], [float("nan")]):
        with pytest.raises(MpoxError, match="above 0 and up to 1"):
            learning_splits(manifest, "source", fractions=wrong)
    with pytest.raises(MpoxError, match="original images"):
        learning_splits(manifest, "augment_before_split")


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Dataset:
    return twice(tmp_path_factory.mktemp("planted") / "planted", n=100, size=32)


def test_a_curve_with_a_known_answer(planted, tmp_path):
    """Labels mean nothing: a neighbour is right where the copy was kept, and guesses elsewhere."""
    store = RunStore(tmp_path)
    options = {"n_folds": 4, "n_repeats": 2}
    whole = cross_validate(store, planted, "random_image", NEIGHBOUR, **options)
    known = set(store.used_runs)
    predictions = learning_curve(store, planted, "random_image", NEIGHBOUR, fractions=FRACTIONS, **options)
    at_one = predictions[predictions["fraction"] == 1]
    assert set(at_one["run_id"]) == known == set(whole["run_id"])
    assert len(store.used_runs) == 4 * 8 and set(predictions["protocol"]) == {"random_image"}
    stored = {run: read_run(store.root / "runs" / run).config.protocol for run in store.used_runs}
    assert {run for run, protocol in stored.items() if protocol == "random_image"} == known
    assert {protocol for run, protocol in stored.items() if run not in known} == {"learning_curve"}

    table = curve_table(predictions, n_bootstrap=50)
    assert tuple(table.columns) == CURVE_COLUMNS
    expected = evaluate(whole, n_bootstrap=50)
    found = table.loc[table["fraction"] == 1, expected.columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
    accuracy = table[table["metric"] == "accuracy"].set_index("fraction")
    assert accuracy["n_images"].tolist() == accuracy["n_groups"].tolist() == [30, 76, 120, 150]  # halves up, of 75 a class
    splits = learning_splits(planted.manifest, "random_image", fractions=FRACTIONS, **options)
    for fraction, split in splits.items():
        share = siblings_in_training(split, planted.groups)
        assert abs(share - 0.75 * fraction) < 0.1
        assert abs(accuracy.loc[fraction, "estimate"] - (share + (1 - share) / 2)) < 0.1

    n, values = curve_replicates(predictions, "accuracy", "all", n_bootstrap=20)
    assert n.tolist() == [30, 76, 120, 150] and values.shape == (21, 4)
    half = predictions[predictions["fraction"] == 0.5]
    assert np.array_equal(values[:, 1], replicates(half, n_bootstrap=20)["accuracy", "all"])
    with pytest.raises(MpoxError, match="no metric 'youden'"):
        curve_replicates(predictions, "youden", "all", n_bootstrap=0)


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 0.4), st.floats(0.3, 3), st.floats(0.1, 1.5))
def test_a_law_is_found_again(a, b, c):
    n = np.array([12, 26, 51, 76, 101, 127.0])
    law = PowerLaw(a, b, c)
    found = fit_power_law(n, law.error(n))
    assert np.allclose(found.error(n), law.error(n), atol=1e-5)
    assert found.c == pytest.approx(c, rel=0.02) and found.a == pytest.approx(a, abs=0.01)


def test_no_start_of_a_general_optimiser_does_better():
    rng = np.random.default_rng(0)
    n = np.array([12, 26, 51, 76, 101, 127.0])
    for _ in range(8):
        errors = np.clip(rng.uniform(0, 0.3) + rng.uniform(0, 2) * n ** -rng.uniform(0.1, 1) + rng.normal(0, 0.02, 6), 0, 1)
        law = fit_power_law(n, errors)
        ours = ((law.error(n) - errors) ** 2).sum()
        bounds = ([0, 0, EXPONENTS[0]], [np.inf, np.inf, EXPONENTS[1]])
        loss = lambda p, e=errors: p[0] + p[1] * n ** -p[2] - e  # noqa: E731
        others = [2 * least_squares(loss, [0.1, 0.5, c], bounds=bounds).cost for c in (0.05, 0.3, 1, 3)]
        assert ours <= min(others) * (1 + 1e-6) + 1e-9
        a, b = nnls(np.stack([np.ones(6), n**-law.c], axis=1), errors)[0]
        assert (law.a, law.b) == pytest.approx((a, b), abs=1e-8)


def test_a_curve_that_does_not_fall_has_nothing_to_learn():
    law = fit_power_law(np.array([10, 20, 40, 80]), np.array([0.1, 0.2, 0.25, 0.3]))
    assert law.b == 0 and law.a == pytest.approx(0.2125)
    assert law.needed(0.2) == np.inf and law.needed(0.3) == 1
    for n, errors, message in (
        ([10, 20, 20], [0.3, 0.2, 0.2], "three or more"),
        ([0, 10, 20], [0.3, 0.2, 0.2], "three or more"),
        ([10, 20, 40], [0.3, np.nan, 0.2], "at least 0"),
    ):
        with pytest.raises(MpoxError, match=message):
            fit_power_law(np.array(n), np.array(errors))


def test_what_is_needed_follows_from_the_law():
    n = np.array([10, 20, 40, 80, 160.0])
    low, high = PowerLaw(0.02, 1, 0.5), PowerLaw(0.08, 1, 0.5)
    values = 1 - np.stack([low.error(n)] * 4 + [high.error(n)])
    needed = needed_groups(n, values, 0.95)
    assert needed.estimate == pytest.approx((1 / 0.03) ** 2, rel=0.01)
    assert needed.low == pytest.approx(needed.estimate) and needed.high == np.inf and needed.never == 0.25
    assert needed_groups(n, values, 0.99).estimate == np.inf
    without = needed_groups(n, np.vstack([values, np.full(5, np.nan)]), 0.95)  # a replicate in which the metric is undefined
    assert without == needed
    with pytest.raises(MpoxError, match="not defined at one of the fractions"):
        needed_groups(n, np.full((3, 5), np.nan), 0.9)


def test_the_interval_of_what_is_needed_holds_the_truth():
    rng = np.random.default_rng(1)
    n = np.array([12, 26, 51, 76, 101, 127.0])
    truth, target = PowerLaw(0.1, 1, 0.6), 0.85
    inside = []
    for _ in range(30):
        curve = truth.error(n) + rng.normal(0, 0.01, 6)
        replicated = np.vstack([curve, curve + rng.normal(0, 0.01, (60, 6))])
        needed = needed_groups(n, 1 - replicated, target)
        inside.append(needed.low <= truth.needed(1 - target) <= needed.high)
    assert np.mean(inside) > 0.85
