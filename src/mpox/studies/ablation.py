"""The ablation: one thing is changed at a time, the folds stay, so that every difference is paired; and a choice made inside.

Chapter 5 shows the differences; appendix D has every number, and what each variant costs.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pandas as pd

from mpox._core import WeightsMissing
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.splits import make_splits, split_hash
from mpox.runs.cross_validation import cross_validate, predict_nested
from mpox.runs.recorded import Store
from mpox.stats import selection
from mpox.stats.comparison import compare_folds, corrected_intervals, holm
from mpox.stats.growth import RiseAndFall, rise_and_fall
from mpox.stats.metrics import evaluate
from mpox.studies.external import cross_validate_mixed

REFERENCE, SIZE = "reference", "network size"
#: Levels of each factor that is varied about tail-tuning, and what they change in its training.
TAIL_FACTORS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "augmentation": [("none", {"augmentation": "none"}), ("medium", {"augmentation": "medium"})],
    "label smoothing": [("0", {"label_smoothing": 0.0}), ("0.1", {"label_smoothing": 0.1})],
    "class weights": [("none", {"class_weights": False})],
    "views": [(f"{views}", {"views": views}) for views in (0, 16)],
    "frozen stages": [(f"{stages}", {"frozen_stages": stages}) for stages in (5, 7)],
}
#: What features that no network makes know, and what is fitted to features.
KNOWS = {"colour_histogram": "colours", "hog": "edges", "lbp": "texture"}
CLASSIFIERS = {"linear_probe": "logistic", "svm": "support vectors"}
#: What is measured, and metric and class of `mpox.evaluate`.
MEASURES = {"accuracy": ("accuracy", "all"), "f1": ("f1", "macro"), "auroc": ("auroc", "Mpox")}


def variants(asked: Mapping[str, Any]) -> pd.DataFrame:
    """Everything that is varied; ``asked`` are the parameters of chapter 5 or appendix D by name.

    Returns
    -------
    DataFrame
        A row a variant, the reference first: ``factor``, ``level``, ``variant`` (both, its name), ``model`` (a `ModelConfig`),
        ``against`` (the variant that it is compared with; empty for the reference) and ``trained`` (bool: the network itself is).
    """
    shared = {"backbone": asked["BACKBONE"], "seed": asked["SEED"], "device": asked["DEVICE"]}
    probe, side = ModelConfig("linear_probe", image_size=asked["IMAGE_SIZE"], **shared), asked["TRAINED_IMAGE_SIZE"]
    tail = ModelConfig("tail_tune", image_size=side, training=asked["TAIL_TRAINING"], **shared)
    tuned = tail.with_(regime="fine_tune", training=asked["TRAINING"])
    scratch = tuned.with_(regime="scratch", training=asked["SCRATCH_TRAINING"])
    rows: list[tuple] = [(REFERENCE, REFERENCE, probe, "", False)]

    def vary(factor: str, levels: Mapping[str, ModelConfig], against: str = REFERENCE, trained: bool = False) -> None:
        rows.extend((factor, level, model, against, trained) for level, model in levels.items())

    for factor, names in ((SIZE, asked["BACKBONES"]), ("other network", asked["OTHER_BACKBONES"])):
        vary(factor, {short(name): probe.with_(backbone=name) for name in names if name != probe.backbone})
    vary("input size", {f"{size} px": probe.with_(image_size=size) for size in asked["IMAGE_SIZES"] if size != probe.image_size})
    vary("head", {"hidden layer": probe.with_(head="hidden")})
    vary("rival reading", {"B0, hidden layer": probe.with_(backbone="efficientnet_b0", head="hidden")})
    vary("weights", {"random": probe.with_(weights="random")})
    vary("mirror image", {"left out": probe.with_(mirror=False)})
    vary("classifier", {"support vectors": probe.with_(regime="svm"), "1 neighbour": probe.with_(regime="nearest_neighbour")})
    pairs = [(name, regime) for name in asked["BASELINES"] for regime in CLASSIFIERS]
    plain = {f"{KNOWS[name]}, {CLASSIFIERS[regime]}": probe.with_(backbone=name, regime=regime) for name, regime in pairs}
    vary("no network", plain)
    vary("training", {"tail-tuning": tail, "fine-tuning": tuned}, trained=True)
    vary("training", {"from scratch": scratch}, "training: fine-tuning", trained=True)
    if small := asked["SMALL_CNN"]:
        model = scratch.with_(backbone=small, image_size=asked["SCRATCH_IMAGE_SIZE"])
        vary("training", {f"{small} from scratch": model}, "training: fine-tuning", trained=True)
    tails = {short(name): tail.with_(backbone=name, image_size=side) for name in asked["TRAINED_BACKBONES"]}
    vary("tail-tuned network", tails, "training: tail-tuning", trained=True)
    for factor in asked["TAIL_FACTORS"]:
        levels = {level: tail.with_(training={**asked["TAIL_TRAINING"], **change}) for level, change in TAIL_FACTORS[factor]}
        vary(f"tail-tuning, {factor}", levels, "training: tail-tuning", trained=True)
    table = pd.DataFrame(rows, columns=["factor", "level", "model", "against", "trained"])
    named = (table["factor"] + ": " + table["level"]).where(table["factor"] != REFERENCE, REFERENCE)
    table.insert(2, "variant", named)
    return table


def short(backbone: str) -> str:
    """A network's name without the part that those of the study share.

    Examples
    --------
    >>> short("tf_efficientnet_lite1"), short("resnet50")
    ('lite1', 'resnet50')
    """
    return backbone.removeprefix("tf_efficientnet_")


def predict_variants(store: Store, data: Dataset, protocol: str, table: pd.DataFrame, **folds) -> dict[str, pd.DataFrame]:
    """Variant to out-of-fold predictions; those whose pretrained weights are not available are left out.

    ``table`` is from `variants`, ``folds`` are as in `mpox.cross_validate`. Where several network sizes are there, their average
    follows as ``ensemble``.
    """
    found = {}
    for one in table.to_dict("records"):
        with suppress(WeightsMissing):
            found[one["variant"]] = cross_validate(store, data, protocol, one["model"], **folds)
    members = [found[name] for name in table.loc[table["factor"].isin([REFERENCE, SIZE]), "variant"] if name in found]
    return found | ({f"ensemble: {len(members)} sizes": selection.ensemble(members)} if len(members) > 1 else {})


def differences(predictions: Mapping[str, pd.DataFrame], table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """What each variant reaches, and how far its AUROC is from that of the variant that it is compared with.

    Parameters
    ----------
    predictions, table : dict of DataFrame, DataFrame
        From `predict_variants` and `variants`.
    margin : float
        Of equivalence, in AUROC.

    Returns
    -------
    DataFrame
        ``variant``, ``factor``, ``level``, ``against``; ``accuracy``, ``f1`` and ``auroc``, each with ``_low`` and ``_high``
        (`corrected_intervals`); ``change`` with ``change_low`` and ``change_high``, a mean over the folds with the interval of
        the corrected t-test; ``p``, ``p_holm`` (over all rows) and ``equivalent`` (bool). The reference lacks the last six.
    """
    rows, known = [], table.set_index("variant")
    for variant, found in predictions.items():
        factor, _, level = variant.partition(": ")
        row: dict[str, Any] = {"variant": variant, "factor": factor, "level": level or factor}
        row["against"] = known["against"].get(variant, REFERENCE)
        metrics = corrected_intervals(found, evaluate(found, n_bootstrap=0)).set_index(["metric", "class"])
        for name, key in MEASURES.items():
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), metrics.loc[key, ["estimate", "low", "high"]], strict=True))
        if row["against"]:
            one = compare_folds(found, predictions[row["against"]], *MEASURES["auroc"], margin, n_bootstrap=0)
            row |= {"change": one.t_test.estimate, "change_low": one.t_test.low, "change_high": one.t_test.high}
            row |= {"p": one.t_test.p, "equivalent": one.equivalence.verdict == "equivalent"}
        rows.append(row)
    results = pd.DataFrame(rows)
    results.loc[results["p"].notna(), "p_holm"] = holm(results["p"].dropna())
    return results


def by_size(
    store: Store, data: Dataset, protocol: str, model: ModelConfig, backbones: Sequence[str], image_size: int, **folds
) -> dict[str, pd.DataFrame]:
    """Backbone to out-of-fold predictions, in the order of multiply-adds; those whose weights are not available are left out.

    ``image_size`` 0 is each network's own; ``folds`` are as in `mpox.cross_validate`.
    """
    from mpox.models.backbones import describe_model

    found = {}
    for backbone in backbones:
        grown = model.with_(backbone=backbone, image_size=image_size)
        with suppress(WeightsMissing):
            table = cross_validate(store, data, protocol, grown, **folds)
            found[backbone] = (describe_model(backbone, "linear", 2, image_size=grown.image_size).multiply_adds, table)
    return {backbone: table for backbone, (_, table) in sorted(found.items(), key=lambda item: item[1][0])}


def grow(
    store: Store, data: Dataset, protocol: str, model: ModelConfig, backbones: Sequence[str], image_size: int, **folds
) -> RiseAndFall | None:
    """`mpox.stats.growth.rise_and_fall` of `by_size`; None for fewer than three networks."""
    ordered = by_size(store, data, protocol, model, backbones, image_size, **folds)
    return rise_and_fall(ordered) if len(ordered) > 2 else None


#: A candidate of a choice: models whose probabilities are averaged, and both collections as one where the other is learnt from.
Candidate = tuple[Dataset | None, Sequence[ModelConfig]]


def predict_candidate(
    store: Store, data: Dataset, protocol: str, candidate: Candidate, *, nested: bool = False, **folds
) -> pd.DataFrame:
    """A candidate's predictions of the test images, or, `nested`, of the training images by models fitted without them.

    Both collections are from `mpox.studies.external.external_pair`; ``folds`` are as in `mpox.cross_validate`.
    """
    joint, models = candidate
    if joint is not None:
        tables = [cross_validate_mixed(store, data, joint, model, protocol, nested=nested, **folds) for model in models]
    elif nested:
        tables = [predict_nested(store, data, make_splits(data.manifest, protocol, **folds), model) for model in models]
    else:
        tables = [cross_validate(store, data, protocol, model, **folds) for model in models]
    return selection.ensemble(tables) if len(tables) > 1 else tables[0]


def losses(store: Store, data: Dataset, protocol: str, candidates: Mapping[str, Candidate], **folds) -> pd.DataFrame:
    """`mpox.stats.selection.nested_losses` of candidates by name. The losses are kept, and not the predictions behind them."""
    outer = split_hash(make_splits(data.manifest, protocol, **folds))
    spec = {name: ["" if joint is None else joint.hash, *map(asdict, models)] for name, (joint, models) in candidates.items()}

    def compute() -> pd.DataFrame:
        nested = {name: predict_candidate(store, data, protocol, one, nested=True, **folds) for name, one in candidates.items()}
        return selection.nested_losses(nested)

    return store.table("nested-losses", {"split": outer, "candidates": spec}, compute)
