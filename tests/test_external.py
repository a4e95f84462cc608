"""Other data: what is tested is never learnt from, remedies do what they say, and a user's folder can be the other collection."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from conftest import draw
from PIL import Image
from planted import groups_of
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mpox import ModelConfig, MpoxError, open_store
from mpox._core import TooFewImages
from mpox.data.changes import RENDERERS, recolour, view_hash
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate
from mpox.data.registry import REGISTRY
from mpox.models import heads
from mpox.models.features import features
from mpox.protocols.copies import augmented
from mpox.protocols.pairs import combine, part_of
from mpox.protocols.splits import make_external_split, split_hash
from mpox.stats.metrics import difference
from mpox.studies import external
from mpox.studies.external import (
    FACTS,
    auroc_replicates,
    calibration_shift,
    changes,
    collection_facts,
    external_pair,
    fact_differences,
    predict_domain,
    two_sided,
    unshared_part,
)

MODEL = ModelConfig(backbone="colour_histogram", image_size=32)


def write(root, classes: dict[str, bool], *, n: int, seed: int):
    rng = np.random.default_rng(seed)
    for name, spots in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(n):
            Image.fromarray(draw(rng, spots=spots)).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[Dataset]:
    """Two collections with different class names, grouped by their copies: three photographs of each class are in both."""
    base = tmp_path_factory.mktemp("collections")
    here = write(base / "here", {"Monkeypox": True, "Chickenpox": False, "Normal": False}, n=16, seed=1)
    there = write(base / "there", {"mpox": True, "Eczema": False}, n=16, seed=2)
    for number in range(3):
        shutil.copy(here / "Monkeypox" / f"{number:02d}.png", there / "mpox" / f"copy{number}.png")
        shutil.copy(here / "Chickenpox" / f"{number:02d}.png", there / "Eczema" / f"copy{number}.png")
    manifests = [build_manifest(folder).assign(group_id=lambda table: table["pixel_sha256"]) for folder in (here, there)]
    common = {"is_phantom": False, "has_pictures": True, "audited": ("here", "there")}
    return [Dataset(one["source"].iloc[0], one, groups_of(one), **common) for one in manifests]


@pytest.fixture(scope="module")
def pair(parts, tmp_path_factory):
    return open_store(tmp_path_factory.mktemp("store")), combine(parts), "here", "there"


@pytest.fixture(scope="module")
def ways(pair):
    return external.every_way(*pair, MODEL, n_copies=2, n_folds=3, n_repeats=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    classes = {"Monkeypox": True, "Chickenpox": False, "Normal": False}
    return write(tmp_path_factory.mktemp("few") / "here", classes, n=3, seed=1)


@pytest.mark.slow  # the first audit of a session
def test_a_users_folder_is_the_other_collection_whatever_its_classes_are_called(folder, tmp_path):
    there = write(tmp_path / "there", {"mpox": True, "Eczema": False}, n=3, seed=2)
    shutil.copy(folder / "Monkeypox" / "00.png", there / "mpox" / "copy.png")
    both, train, test = external_pair(open_store(tmp_path / "store"), str(folder), str(there))
    assert (train, test) == ("here", "there") and both.classes == ["Mpox", "Others"]
    counts = both.manifest.groupby(["source", "label"]).size().to_dict()
    assert counts == {("here", "Mpox"): 3, ("here", "Others"): 3, ("there", "Mpox"): 4, ("there", "Others"): 3}
    assert both.groups["there/mpox/copy.png"] == both.groups["here/Monkeypox/00.png"]
    alone = part_of(both, "there")
    assert alone.manifest["image_id"].tolist() == sorted(both.manifest.query("source == 'there'")["original_id"])
    assert (alone.groups.to_numpy() == both.groups["there/" + alone.groups.index].to_numpy()).all()
    with pytest.raises(MpoxError, match="not in here\\+there"):
        part_of(both, "elsewhere")


@pytest.mark.parametrize(
    "classes, match",
    [
        ({"Eczema": False, "Acne": False}, "has no class Mpox"),
        ({"Mpox": True}, "fewer than two classes"),
        ({"Mpox": True, "Healthy": False}, "has images of Mpox only, once healthy skin is left out"),
    ],
)
def test_a_folder_that_cannot_be_tested_on_says_why(folder, tmp_path, classes, match):
    other = write(tmp_path / f"other-{len(classes)}-{'Mpox' in classes}", classes, n=3, seed=5)
    with pytest.raises(MpoxError, match=match):
        external_pair(open_store(tmp_path / "store"), str(folder), str(other))


def test_facts_are_those_of_chapter_1_and_compare_what_is_not_shared(pair, parts):
    store, both, *names = pair
    facts = pd.concat([collection_facts(store, part) for part in parts], ignore_index=True)
    assert {"side", *FACTS} == set(facts.columns[2:]) and len(facts) == 48 + 38
    found = fact_differences(both, facts, *names, n_bootstrap=100).set_index("fact")
    assert (found["n_first"].drop("ita") == 26).all() and (found["n_second"].drop("ita") == 32).all()
    assert np.isnan(found.loc["side", "estimate"]) and found.loc["side", "first"] == 64  # all are of one size
    assert abs(found.loc["lightness", "estimate"]) < 1 and found.loc["lightness", "low"] < found.loc["lightness", "high"]


def splits_of(store, table: pd.DataFrame) -> pd.DataFrame:
    """The split table behind predictions, with ``original``: the id without the number of a copy."""
    configs = [json.loads((store.root / "runs" / run / "config.json").read_text()) for run in table["run_id"].unique()]
    split = pd.concat([pd.read_csv(store.root / "splits" / f"{config['split']}.csv") for config in configs], ignore_index=True)
    return split.assign(original=split["image_id"].str.replace(r"#\d+$", "", regex=True))


def test_every_way_predicts_the_same_pictures_and_learns_from_none_it_is_scored_on(pair, ways):
    store, both, _, test = pair
    tables, skipped = ways
    assert list(tables) == list(external.REMEDIES) and not skipped
    expected = both.manifest[both.manifest["source"] == test].set_index("image_id")["label"].sort_index()
    protocols = {"external", "external_colour", "external_weighted", "external_own_scale", "external_mixed", "internal"}
    assert {table["protocol"].iloc[0] for table in tables.values()} == protocols
    for way, table in tables.items():
        for _, part in table.groupby("repeat"):
            assert part.set_index("image_id")["label"].sort_index().equals(expected), way
        assert table["shared"].sum() == 6 * table["repeat"].nunique()
        for _, rows in splits_of(store, table).groupby(["repeat", "fold"]):
            learnt, tested = (rows.loc[rows["role"] == role, "original"] for role in ("train", "test"))
            assert not set(tested) & set(learnt)
            if way not in ("mixed", "target alone"):
                assert tested.str.startswith("there/").all() and learnt.str.startswith("here/").all()
    copies = splits_of(store, tables["colour copies"])
    views = copies["image_id"].str.extract(r"#(\d)$")[0].groupby(copies["role"]).value_counts()
    assert views.to_dict() == {("train", "0"): 32, ("train", "1"): 32, ("train", "2"): 32, ("test", "0"): 38}
    assert copies[copies["role"] == "train"].groupby("group_id")["inner_fold"].nunique().max() == 1


def test_mixed_training_holds_no_sibling_of_what_is_tested_and_a_fraction_keeps_the_same_groups(pair):
    store, both, train, _ = pair
    parts = external.own_pictures(*pair, MODEL, fractions=[0.5, 1], n_folds=3)
    assert list(parts) == [(way, share) for share in (0.5, 1) for way in ("mixed", "target alone")]
    few, whole = (splits_of(store, parts["mixed", share]) for share in (0.5, 1))
    for split in (few, whole):
        for _, rows in split.groupby("fold"):
            learnt = rows[rows["role"] == "train"]
            assert not set(learnt["group_id"]) & set(rows.loc[rows["role"] == "test", "group_id"])
            assert learnt["inner_fold"].min() == 0 and learnt.groupby("group_id")["inner_fold"].nunique().max() == 1
            others = rows["image_id"].str.startswith(f"{train}/")
            missing = set(both.manifest.query("source == @train")["image_id"]) - set(rows.loc[others, "image_id"])
            assert set(both.groups[sorted(missing)]) <= set(rows.loc[rows["role"] == "test", "group_id"])
    keys = ["fold", "image_id"]
    assert set(map(tuple, few[keys].to_numpy())) < set(map(tuple, whole[keys].to_numpy()))


def test_own_scale_is_what_two_scalers_give(pair, ways):
    _, both, train, test = pair
    split = make_external_split(both.manifest, train, test).set_index("image_id").loc[both.manifest["image_id"]]
    learnt, tested = (np.flatnonzero(split["role"] == role) for role in ("train", "test"))
    x = features(both.manifest, MODEL).astype(float)
    y = (both.manifest["label"] == "Others").to_numpy(dtype=int)
    inner = split["inner_fold"].to_numpy()[learnt]
    scaled = [StandardScaler().fit_transform(x[rows]) for rows in (learnt, tested)]
    expected, _ = heads.predict_by_probe(scaled[0], y[learnt], inner, scaled[1], n_classes=2, head="linear", seed=0)
    found = ways[0]["own scale"].set_index("image_id").loc[both.manifest["image_id"].iloc[tested], "p_Mpox"]
    assert np.allclose(found, expected[:, 0], atol=1e-4)


def test_equal_weights_change_nothing_and_others_do(pair, ways):
    equal, other = (external.with_remedy(*pair, MODEL, "re-weighted", alpha=alpha, n_folds=3) for alpha in (1, 0))
    weights = external.target_weights(*pair, MODEL, alpha=1, n_folds=3)
    assert (weights == 1).all() and len(weights) == 32
    plain = ways[0]["no remedy"].sort_values("image_id")["p_Mpox"].to_numpy()
    assert np.allclose(equal.sort_values("image_id")["p_Mpox"], plain, atol=1e-4)
    assert external.target_weights(*pair, MODEL, alpha=0, n_folds=3).std() > 0.1
    assert not np.allclose(other.sort_values("image_id")["p_Mpox"], plain, atol=1e-3)
    split = make_external_split(pair[1].manifest, *pair[2:])
    assert split_hash(split.assign(weight=1.0)) != split_hash(split)
    with pytest.raises(MpoxError, match="works on the features of a linear probe"):
        external.with_remedy(*pair, MODEL.with_(regime="nearest_neighbour"), "re-weighted", n_folds=3)


def test_a_weighted_probe_is_sklearns_and_an_image_of_no_weight_is_not_there():
    rng = np.random.default_rng(3)
    y = np.tile([0, 1], 40)
    x, inner, weight = rng.normal(size=(80, 4)) + 0.6 * y[:, None], np.arange(80) // 2 % 4, rng.uniform(0.2, 3, 80)
    options = {"n_classes": 2, "head": "linear", "seed": 0}
    fitted, history = heads.fit(x, y, inner, weight=weight, **options)
    losses = []
    for strength in heads.STRENGTHS:
        loss = np.empty(80)
        for fold in range(4):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=500))
            model.fit(x[inner != fold], y[inner != fold], logisticregression__sample_weight=weight[inner != fold])
            loss[inner == fold] = -np.log(model.predict_proba(x[inner == fold])[np.arange(20), y[inner == fold]])
        losses.append((weight * loss).sum() / weight.sum())
    assert np.allclose(history["validation_loss"], losses)
    assert not np.allclose(fitted[-1].coef_, heads.fit(x, y, inner, **options)[0][-1].coef_, atol=1e-3)


def test_another_colour_is_the_same_picture_in_its_place():
    picture = draw(np.random.default_rng(0), spots=True)
    shas = [view_hash("picture", number, 0, "colour") for number in range(20)]
    copies = [recolour(picture, sha) for sha in shas]
    assert (copies[0] == recolour(picture, shas[0])).all() and copies[0].dtype == np.uint8 and copies[0].shape == picture.shape
    grey = picture.mean(axis=2).ravel()
    assert min(np.corrcoef(grey, copy.mean(axis=2).ravel())[0, 1] for copy in copies) > 0.97
    means = np.array([copy.mean(axis=(0, 1)) / picture.mean(axis=(0, 1)) for copy in copies])
    assert means.std(axis=0).min() > 0.1  # each channel moves
    assert view_hash("picture", 1, 0) != shas[1] and set(RENDERERS) == {"published", "colour"}


def test_an_unknown_recipe_of_copies_is_refused(pair):
    with pytest.raises(MpoxError, match="no recipe 'grey'"):
        augmented(pair[1], 1, recipe="grey")


def test_changes_are_paired_differences(ways):
    tables = {way: unshared_part(table) for way, table in ways[0].items()}
    assert {len(table) / table["repeat"].nunique() for table in tables.values()} == {32}
    found = changes(tables, "no remedy", n_bootstrap=200).set_index("way")
    expected = difference(tables["mixed"], tables["no remedy"], "auroc", "Mpox", n_bootstrap=200)
    assert found.loc["mixed", ["change", "change_low", "change_high"]].tolist() == pytest.approx(expected)
    assert found.loc["no remedy", ["change", "p"]].isna().all() and found["p"].dropna().between(0, 1).all()
    assert changes({"a": tables["mixed"], "b": tables["mixed"]}, "a", n_bootstrap=50)["p"].iloc[1] == 1
    with pytest.raises(MpoxError, match="the same images in the same groups"):
        changes({"a": tables["mixed"], "b": ways[0]["mixed"]}, "a")
    assert two_sided(np.full(99, 0.2)) == pytest.approx(0.02) and np.isnan(two_sided(np.array([np.nan])))


def test_too_few_groups_skip_a_way_and_say_so(pair):
    store, both, train, test = pair
    tables, skipped = external.every_way(store, both, train, test, MODEL, n_copies=0, n_folds=33)
    assert list(tables) == ["no remedy", "own scale"] and set(skipped) == {"re-weighted", "mixed", "target alone"}
    assert all("Too few groups" in reason for reason in skipped.values())
    with pytest.raises(TooFewImages):
        external.with_remedy(store, both, train, test, MODEL, "target alone", n_folds=33)


def test_the_intercept_is_that_of_a_logistic_model_with_an_offset():
    rng = np.random.default_rng(0)
    score = rng.uniform(0.05, 0.95, 300)
    label = rng.random(300) < score**2  # fewer than predicted
    table = pd.DataFrame({"repeat": 0, "image_id": [f"{n:03d}" for n in range(300)], "group_id": np.arange(300).astype(str)})
    table = table.assign(label=np.where(label, "Mpox", "Others"), p_Mpox=score, p_Others=1 - score)
    right = table.assign(label=np.where(rng.random(300) < score, "Mpox", "Others"))
    fits = [
        sm.GLM((part["label"] == "Mpox").astype(float), np.ones((300, 1)), sm.families.Binomial(), offset=logit(score)).fit()
        for part in (right, table)
    ]
    estimate, low, high = calibration_shift(right, table, n_bootstrap=300)
    assert estimate == pytest.approx(fits[1].params.iloc[0] - fits[0].params.iloc[0], abs=1e-6)
    half = 1.96 * np.hypot(fits[0].bse.iloc[0], fits[1].bse.iloc[0])
    assert [low, high] == pytest.approx([estimate - half, estimate + half], abs=0.15) and high < 0


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Two small phantoms as one data set: other people, the corner mark on Mpox in one, on the other rashes in the other."""
    base, parts = tmp_path_factory.mktemp("phantoms"), []
    for name, spec in (("here", {"seed": 0}), ("elsewhere", {"seed": 1, "marked": ("Chickenpox", "Measles")})):
        images = generate(base / name, PhantomSpec(n_patients=32, size=64, copies=0, label_conflicts=0, **spec))
        manifest = build_manifest(images).assign(source=name)
        manifest["group_id"] = name + manifest["patient_id"]
        audited = ("here", "elsewhere")
        parts.append(Dataset(name, manifest, groups_of(manifest), is_phantom=True, has_pictures=True, audited=audited))
    return combine(parts)


def auroc(predictions: pd.DataFrame, positive: str = "Mpox") -> float:
    return float(auroc_replicates(predictions, positive=positive, n_bootstrap=0).estimate)


def test_a_planted_shortcut_does_not_travel_and_the_instruments_see_it(phantoms, tmp_path):
    store, both, pair = open_store(tmp_path), phantoms, ("here", "elsewhere")
    model = ModelConfig(backbone="colour_histogram", image_size=64)
    ways, _ = external.every_way(store, both, *pair, model, n_copies=1, n_folds=3)
    assert auroc(ways["target alone"]) > 0.7 > 0.5 > auroc(ways["no remedy"])  # the mark speaks for the wrong side there
    assert auroc(ways["mixed"]) > auroc(ways["no remedy"]) + 0.15
    told = [auroc(predict_domain(store, both, model, label=label, n_folds=3), pair[1]) for label in both.classes]
    assert min(told) > 0.7


def test_the_second_phantom_is_registered_and_its_key_leaves_the_first_ones_alone():
    spec = PhantomSpec(**dict(REGISTRY["phantom-elsewhere"].planted))
    assert spec.marked == ("Chickenpox", "Measles") and REGISTRY["phantom-elsewhere"].is_phantom
    assert PhantomSpec().key() == "d9587be946" != spec.key()
    with pytest.raises(MpoxError, match="give a sequence of classes"):
        PhantomSpec(marked="Mpox")
