"""Other data: what a model is worth there, what shifts, and whether a remedy helps."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from tqdm.auto import tqdm

from mpox._core import MpoxError, TooFewImages
from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig, RunConfig
from mpox.protocols.copies import augmented
from mpox.protocols.pairs import combine, mixed_splits, part_of
from mpox.protocols.sizes import learning_splits
from mpox.protocols.splits import inner_folds, make_external_split, make_splits
from mpox.runs.cross_validation import compute_run, predict_nested, predict_splits, validate_externally
from mpox.runs.recorded import Store
from mpox.runs.store import RunResult
from mpox.stats.metrics import N_BOOTSTRAP, check_paired, evaluate, groups_of, matched_repeats, replicates
from mpox.stats.resample import Replicates, bootstrap, ratio, weighted_mean

SUBSETS = ("all images", "without shared", "shared only")


def external_metrics(predictions: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """Metrics of `validate_externally` three times: on all test images, without those that are shared, and on those only.

    Parameters as in `mpox.evaluate`. ``subset`` (see `SUBSETS`), ``images``, ``groups``, ``positives``, the columns of
    `mpox.evaluate`, and ``reason``: why the metrics are missing, where a subset lacks one of the two sides; else empty.
    """
    shared = predictions["shared"].to_numpy(dtype=bool)
    names = evaluate(predictions, positive=positive, n_bootstrap=0)[["metric", "class"]]
    tables = []
    for subset, keep in zip(SUBSETS, (np.ones(len(predictions), dtype=bool), ~shared, shared), strict=True):
        part = predictions[keep]
        positives = int((part["label"] == positive).sum())
        reason = f"no {positive} image" if not positives else f"only {positive} images" if positives == len(part) else ""
        reason = "no image" if part.empty else reason
        missing = names.assign(estimate=np.nan, low=np.nan, high=np.nan)
        table = missing if reason else evaluate(part, positive=positive, **resampling)
        about = {"subset": subset, "images": len(part), "groups": part["group_id"].nunique(), "positives": positives}
        tables.append(table.assign(**about, reason=reason)[[*about, *table.columns, "reason"]])
    return pd.concat(tables, ignore_index=True)


def external_pair(
    store: Store, train: str, test: str, *, study: Sequence[str] = (), data_dir: str | os.PathLike | None = None
) -> tuple[Dataset, str, str]:
    """Two collections as one, audited together (`mpox.protocols.pairs.combine`), and the names of the two within it.

    ``train`` and ``test`` are registered, or folders with one sub-folder a class, of which one is called Mpox (or Monkeypox);
    ``study`` are the study's data sets, which are audited with them, so that groups are the same ones.
    """
    names = sorted({str(train), str(test), *map(str, study)})
    loaded = dict(zip(names, store.datasets(names, data_dir=data_dir), strict=True))
    pair = [loaded[name] for name in sorted((str(train), str(test)))]
    both = combine(pair)
    for name in (data.name for data in pair):
        found = set(both.manifest.loc[both.manifest["source"] == name, "label"])
        if found != set(both.classes):
            raise MpoxError(
                f"'{name}' has images of {' and '.join(sorted(found))} only, once healthy skin is left out: it needs both, "
                "Mpox and other rashes, each in a sub-folder of its class."
            )
    return both, loaded[str(train)].name, loaded[str(test)].name


def tested_on(
    store: Store,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    study: Sequence[str] = (),
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Predictions of all of ``test`` by a model trained on all of ``train``; see `external_pair`, `validate_externally`."""
    both, trained, tested = external_pair(store, train, test, study=study, data_dir=data_dir)
    return validate_externally(store, both, trained, tested, model, seed=seed)


def unshared_part(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions of images whose honest group has no image in the training collection."""
    return predictions[~predictions["shared"].to_numpy(dtype=bool)].reset_index(drop=True)


def auroc_replicates(predictions: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> Replicates:
    """The AUROC of `mpox.evaluate` and its replicates, without all the other metrics."""
    key = ("auroc", positive)
    return replicates(predictions, [key], positive=positive, **resampling)[key]


def changes(tables: dict[str, pd.DataFrame], reference: str, **resampling) -> pd.DataFrame:
    """The AUROC for Mpox of several ways to predict the same images in the same groups, each against ``reference``, one of them.

    ``way``, ``estimate``, ``low``, ``high``, ``change``, ``change_low``, ``change_high`` (way minus reference, the same groups
    resampled; missing for the reference itself) and ``p`` (`two_sided`, not adjusted). The numbers of repeats may differ.
    """
    values = {way: auroc_replicates(table, **resampling) for way, table in tables.items()}
    rows = []
    for way, table in tables.items():
        check_paired(table, tables[reference])
        change = values[way] - values[reference]
        told = (*change.row().values(), two_sided(change.draws)) if way != reference else (np.nan,) * 4
        rows.append((way, *values[way].row().values(), *told))
    return pd.DataFrame(rows, columns=["way", "estimate", "low", "high", "change", "change_low", "change_high", "p"])


def two_sided(draws: np.ndarray) -> float:
    """Two-sided p value of bootstrap draws of a difference: twice the smaller share on either side of zero. Both shares
    are counted with one draw more, so that p is never 0 (Davison and Hinkley 1997, section 4.2)."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan")
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(known))))


def calibration_shift(
    training: pd.DataFrame, target: pd.DataFrame, *, positive: str = "Mpox", seed: int = 0, **resampling
) -> tuple[float, float, float]:
    """How far the level of the probabilities moves from held-out training images to another collection.

    The intercept is what must be added to every log odds for the mean prediction to be right; 0 is right, below 0 the predictions
    are too high (Cox 1958, Biometrika 45:562-565). The two are resampled independently; parameters as in `mpox.evaluate`. Target
    minus training with its 95 % interval, in log odds.
    """
    first, second = (_level(part, positive, seed=seed + n, **resampling) for n, part in enumerate((training, target)))
    return tuple((second - first).row().values())


def _level(predictions: pd.DataFrame, positive: str, **resampling) -> Replicates:
    _, repeats = matched_repeats(predictions, positive)
    scores = [part[f"p_{positive}"].to_numpy(dtype=float) for part in repeats]

    def level(weights: np.ndarray) -> np.ndarray:
        observed = weighted_mean(repeats[0]["label"] == positive, weights)
        return np.mean([_intercept(score, observed, weights) for score in scores], axis=0)

    return bootstrap(level, groups_of(repeats[0]), **resampling)


def _intercept(score: np.ndarray, observed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each weighting the a at which the mean of expit(logit(score) + a) is the observed share; by bisection."""
    odds, total = logit(np.clip(score, 1e-12, 1 - 1e-12)), weights.sum(axis=1)
    low, high = np.full(len(weights), -40.0), np.full(len(weights), 40.0)
    for _ in range(40):
        middle = (low + high) / 2
        above = (weights * expit(odds + middle[:, None])).sum(axis=1) / total > observed
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where((observed > 0) & (observed < 1), (low + high) / 2, np.nan)


#: Single facts of an image that `fact_differences` is asked about in chapter 7, with their units.
FACTS = {
    "lightness": "lightness (CIELAB L*)",
    "contrast": "contrast (SD of L*)",
    "chroma": "chroma (CIELAB C*)",
    "sharpness": "sharpness (SD of the Laplacian)",
    "blur": "blur (0 sharp, 1 blurred)",
    "ita": "skin tone (ITA, degrees)",
    "side": "size (square root of the pixels)",
    "bytes_per_pixel": "file size (bytes a pixel)",
}


def _unshared(manifest: pd.DataFrame) -> pd.Series:
    """Whether an image's honest group lies in one of the collections only."""
    return manifest.groupby("group_id")["source"].transform("nunique") == 1


def predict_domain(
    store: Store, both: Dataset, model: ModelConfig, *, label: str | None = None, whole: str | None = None, **folds
) -> pd.DataFrame:
    """Out-of-fold predictions of which collection an image comes from, without the images whose group is in both.

    An AUROC of 0.5 says that this model cannot tell the collections apart, not that they are alike. One near 1 says that they
    differ in something; within one class (``label``), in something other than how common the classes are. Shared images of the
    collection ``whole`` stay in. Parameters else as in `mpox.cross_validate`; the protocol is ``source``, and the runs are kept
    under ``domain``.
    """
    manifest = both.manifest
    keep = _unshared(manifest) | (manifest["source"] == whole)
    keep &= manifest["label"] == label if label else True
    left = manifest[keep].assign(label=manifest.loc[keep, "source"]).reset_index(drop=True)
    if lost := sorted(set(manifest["source"]) - set(left["source"])):
        raise TooFewImages(f"{', '.join(lost)} has no image{f' of {label}' if label else ''} that is not shared: no comparison.")
    data = replace(both, manifest=left, groups=both.groups[left["image_id"]], positive=left["label"].max())
    return predict_splits(store, data, "domain", make_splits(left, "source", **folds), model)


#: Mixes the training collection into the denominator of a density ratio, which then stays below 1 / ALPHA; see `density_weights`.
ALPHA = 0.1


def density_weights(predictions: pd.DataFrame, train: str, target: str, *, alpha: float = ALPHA) -> pd.Series:
    """Weights that make the training collection's images stand for the target's, from out-of-fold domain predictions.

    The ratio of the densities is r = p(target) / p(train), because the probe balances its classes (Bickel et al. 2009, JMLR
    10:2137-2155). Where a classifier is nearly certain, r is nearly 0 or enormous; the relative ratio r / (alpha r + 1 - alpha)
    (Yamada et al. 2013, Neural Computation 25:1324-1370) is at most 1 / alpha, and for ``alpha`` 0 it is r.

    Float64 of mean 1, by the ``image_id`` of the training collection's images; for ``alpha`` 1 every weight is 1.
    """
    if not {f"p_{train}", f"p_{target}"} <= set(predictions) or not 0 <= alpha <= 1:
        raise MpoxError(f"Weights need predictions of {train} and {target}, and alpha from 0 to 1, not {alpha:g}.")
    own = predictions[predictions["label"] == train].set_index("image_id").sort_index()
    p, q = own[f"p_{target}"].clip(1e-9, 1), own[f"p_{train}"].clip(1e-9, 1)
    weight = p / (alpha * p + (1 - alpha) * q)
    return (weight / weight.mean()).rename("weight")


def effective_size(weights: np.ndarray) -> float:
    """Kish's effective sample size: how many equally weighted images are worth as much, (sum w)^2 / sum w^2; 0 for none."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def collection_facts(store: Store, data: Dataset) -> pd.DataFrame:
    """``source``, ``image_id`` and a column for each of `FACTS`, from the tables of chapter 1, computed where missing."""
    from mpox.audit import quality
    from mpox.data import skintone

    measured = {
        "image-quality": (quality.QUALITY_VERSION, quality.image_quality),
        "skin-tone": (skintone.SKIN_TONE_VERSION, quality.skin_tone),
    }
    found = data.manifest[["source", "image_id"]].assign(side=np.sqrt(data.manifest["width"] * data.manifest["height"]))
    for name, (version, compute) in measured.items():
        table = store.table(name, {"data": data.hash, "version": version}, partial(compute, data.manifest))
        found = found.merge(table[["image_id", *(fact for fact in FACTS if fact in table)]], on="image_id", validate="1:1")
    return found


def fact_differences(
    both: Dataset,
    facts: pd.DataFrame,
    first: str,
    second: str,
    *,
    label: str | None = None,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """``second`` minus ``first`` in each fact, in standard deviations, for images that the two collections do not share.

    The standardised mean difference divides by the root of the mean of both variances (Austin 2009, Statistics in Medicine
    28:3083-3107); above 0.1 is often called an imbalance. Groups of each collection are resampled.

    Parameters
    ----------
    facts : DataFrame
        ``source``, ``image_id`` (as the collection names it) and a column a fact: `collection_facts` of both.
    label : str, optional
        Only this class.

    Returns
    -------
    DataFrame
        One row a fact: ``fact``, ``n_first``, ``n_second`` (images that have it), ``first``, ``second`` (means), ``estimate``,
        ``low``, ``high`` (standard deviations); NaN where a collection has fewer than two images with that fact.
    """
    manifest = both.manifest[_unshared(both.manifest)]
    manifest = manifest[manifest["label"] == label] if label else manifest
    own = facts.assign(image_id=facts["source"] + "/" + facts["image_id"]).drop(columns="source")
    table = manifest[["image_id", "source", "group_id"]].merge(own, on="image_id", validate="1:1")
    rows = []
    for fact in own.columns.drop("image_id"):
        known = table.dropna(subset=[fact])
        parts = [known[known["source"] == name] for name in (first, second)]
        about = (fact, len(parts[0]), len(parts[1]), parts[0][fact].mean(), parts[1][fact].mean())
        if min(len(part) for part in parts) < 2:
            rows.append((*about, np.nan, np.nan, np.nan))
            continue
        (one, one_spread), (other, other_spread) = (
            bootstrap(partial(_moments, part[fact]), groups_of(part), n_bootstrap=n_bootstrap, seed=seed + side).values()
            for side, part in enumerate(parts)
        )
        change = Replicates.of(ratio(other - one, np.sqrt((one_spread + other_spread) / 2)))
        rows.append((*about, *change.row().values()))
    return pd.DataFrame(rows, columns=["fact", "n_first", "n_second", "first", "second", "estimate", "low", "high"])


def _moments(values: pd.Series, weights: np.ndarray) -> dict[str, np.ndarray]:
    value = values.to_numpy(dtype=float)
    mean = weighted_mean(value, weights)
    square = (weights * (value - mean[:, None]) ** 2).sum(axis=1)
    return {"mean": mean, "variance": ratio(square, weights.sum(axis=1) - 1)}


@dataclass(frozen=True)
class _Asked:
    """What `with_remedy` was asked for; each remedy takes from it what it needs."""

    store: Store
    both: Dataset
    train: str
    test: str
    model: ModelConfig
    n_copies: int = 3
    alpha: float = ALPHA
    fraction: float = 1.0
    n_folds: int = 5
    n_repeats: int = 1
    seed: int = 0


Prepared = tuple[Dataset, pd.DataFrame]  # the data set and the split table of a remedy


def _as_it_is(asked: _Asked) -> Prepared:
    return asked.both, make_external_split(asked.both.manifest, asked.train, asked.test, seed=asked.seed)


def _with_colour_copies(asked: _Asked) -> Prepared:
    copies = augmented(asked.both, asked.n_copies, asked.seed, recipe="colour")
    manifest = copies.manifest
    manifest = manifest[(manifest["source"] == asked.train) | (manifest["view"] == 0)].reset_index(drop=True)
    return _as_it_is(replace(asked, both=replace(copies, manifest=manifest, groups=copies.groups[manifest["image_id"]])))


def target_weights(
    store: Store, both: Dataset, train: str, test: str, model: ModelConfig, *, alpha: float = ALPHA, **folds
) -> pd.Series:
    """How much each training image counts if it is re-weighted: `density_weights` of a classifier not trained on its group."""
    return density_weights(predict_domain(store, both, model, whole=train, **folds), train, test, alpha=alpha).round(4)


def _weighted(asked: _Asked) -> Prepared:
    pair = asked.both, asked.train, asked.test, asked.model
    weights = target_weights(asked.store, *pair, alpha=asked.alpha, n_folds=asked.n_folds, seed=asked.seed)
    data, split = _as_it_is(asked)
    return data, split.assign(weight=split["image_id"].map(weights).where(split["role"] == "train"))


def _target_alone(asked: _Asked) -> Prepared:
    target = part_of(asked.both, asked.test)
    folds = {"n_folds": asked.n_folds, "n_repeats": asked.n_repeats, "seed": asked.seed}
    (split,) = learning_splits(target.manifest, "source", fractions=[asked.fraction], **folds).values()
    return target, split


def _mixed(asked: _Asked) -> Prepared:
    """The folds of `_target_alone`, with the other collection in every training part."""
    manifest, split = asked.both.manifest, _target_alone(asked)[1]
    split["image_id"] = f"{asked.test}/" + split["image_id"]
    labels = manifest.set_index("image_id")["label"]
    other = manifest.loc[manifest["source"] == asked.train, ["image_id", "group_id"]].assign(role="train")
    parts = []
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        added = other[~other["group_id"].isin(rows.loc[rows["role"] == "test", "group_id"])]
        rows = pd.concat([rows, added.assign(repeat=repeat, fold=fold, inner_fold=-1)], ignore_index=True)
        learnt = rows[rows["role"] == "train"]
        chosen = learnt["image_id"].map(labels).to_numpy(dtype=str), learnt["group_id"].to_numpy(dtype=str)
        rows.loc[learnt.index, "inner_fold"] = inner_folds(*chosen, asked.seed * 1000 + repeat)
        parts.append(rows)
    return asked.both, pd.concat(parts, ignore_index=True)


def standardise_each(x: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Features, shape (n, d), with mean 0 and standard deviation 1 among the rows of either part, each by its own figures."""
    x = x.copy()
    for rows in (train, test):
        spread = x[rows].std(axis=0)
        x[rows] = (x[rows] - x[rows].mean(axis=0)) / np.where(spread > 0, spread, 1)
    return x


def compute_standardised(config: RunConfig, data: Dataset, split: pd.DataFrame, folder: Path, bar: tqdm) -> RunResult:
    """`mpox.runs.cross_validation.compute_run` after `standardise_each`."""
    return compute_run(config, data, split, folder, bar, adapt=standardise_each)


@dataclass(frozen=True)
class Remedy:
    """A way to predict another collection: what it sees of that, the name of its runs, its split, and how a run is computed."""

    sees: str
    protocol: str
    prepare: Callable[[_Asked], Prepared]
    compute: Callable | None = None


#: *own scale* is transductive: the test images, without their labels, are needed together before the first is predicted.
REMEDIES = {
    "no remedy": Remedy("nothing", "external", _as_it_is),
    "colour copies": Remedy("nothing", "external_colour", _with_colour_copies),
    "re-weighted": Remedy("images without labels", "external_weighted", _weighted),
    "own scale": Remedy("images without labels", "external_own_scale", _as_it_is, compute_standardised),
    "mixed": Remedy("labelled images of other groups", "external_mixed", _mixed),
    "target alone": Remedy("labelled images of other groups", "internal", _target_alone),
}


def with_remedy(
    store: Store, both: Dataset, train: str, test: str, model: ModelConfig, remedy: str = "no remedy", **how
) -> pd.DataFrame:
    """Predictions of the collection ``test`` of a pair (`external_pair`) by a model trained with one of `REMEDIES`.

    *re-weighted* takes a linear probe, *own scale* a model on frozen features. ``how``: ``n_copies`` (of a training image in
    other colours), ``alpha`` (`density_weights`), ``fraction`` (of the target's training groups, for *mixed* and *target alone*),
    ``n_folds``, ``n_repeats``, ``seed``. As `mpox.runs.cross_validation.validate_externally`, with ``shared``: the honest group
    is in the training collection too. `TooFewImages` if a collection has too few groups for it.
    """
    asked, recipe = _Asked(store, both, train, test, model, **how), REMEDIES[remedy]
    data, split = recipe.prepare(asked)
    protocol = "learning_curve" if remedy == "target alone" and asked.fraction < 1 else recipe.protocol
    table = predict_splits(store, data, protocol, split, model, compute=recipe.compute)
    images = f"{test}/" + table["image_id"] if data.name == test else table["image_id"]
    images = images.str.removesuffix("#0") if "view" in data.manifest else images
    groups = images.map(both.groups)
    known = set(both.manifest.loc[both.manifest["source"] == train, "group_id"])
    return table.assign(image_id=images, dataset=both.name, group_id=groups, shared=groups.isin(known))


def every_way(
    store: Store, both: Dataset, train: str, test: str, model: ModelConfig, **how
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Predictions by remedy, `with_remedy` of all `REMEDIES`, and, by remedy, why one was not possible: too few groups.

    Parameters as there; ``n_copies=0`` leaves the colour copies out.
    """
    tables, skipped = {}, {}
    for remedy in REMEDIES:
        if remedy == "colour copies" and not how.get("n_copies", True):
            continue
        try:
            tables[remedy] = with_remedy(store, both, train, test, model, remedy, **how)
        except TooFewImages as reason:
            skipped[remedy] = str(reason)
    return tables, skipped


def own_pictures(
    store: Store, both: Dataset, train: str, test: str, model: ModelConfig, *, fractions, **how
) -> dict[tuple[str, float], pd.DataFrame]:
    """(remedy, fraction) to predictions, for *mixed* and *target alone*; a fraction that is too small is left out."""
    found = {}
    for fraction in sorted(set(fractions)):
        for remedy in ("mixed", "target alone"):
            with suppress(TooFewImages):
                found[remedy, fraction] = with_remedy(store, both, train, test, model, remedy, fraction=fraction, **how)
    return found


def cross_validate_mixed(
    store: Store, target: Dataset, both: Dataset, model: ModelConfig, protocol: str = "source", *, nested: bool = False, **folds
) -> pd.DataFrame:
    """Out-of-fold predictions of the target's images by models that also learn from another data set.

    Parameters as in `mpox.protocols.pairs.mixed_splits`. The result is as `mpox.cross_validate` gives it for the target; the runs
    are kept under ``mixed``. ``nested``: as `mpox.runs.cross_validation.predict_nested` gives it, of the target's images alone.
    """
    split = mixed_splits(target, both, protocol, **folds)
    table = predict_nested(store, both, split, model) if nested else predict_splits(store, both, "mixed", split, model)
    table["image_id"] = table["image_id"].str.removeprefix(f"{target.name}/")
    return table.assign(group_id=table["image_id"].map(target.groups), dataset=target.name)
