"""Other data: what a model is worth there, what shifts, and whether a remedy helps."""

import os
from collections.abc import Callable
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
from mpox.runs.cross_validation import compute_run, predict_splits
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunResult, RunStore
from mpox.stats.metrics import N_BOOTSTRAP, check_paired, evaluate, groups_of, matched_repeats, replicates
from mpox.stats.resample import Replicates, bootstrap, ratio, weighted_mean

SUBSETS = ("all images", "without shared", "shared only")


def external_metrics(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Metrics of `validate_externally` three times: on all test images, without those that are shared, and on those only.

    Parameters as in `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``subset`` (see `SUBSETS`), ``images``, ``groups``, ``positives``, the columns of `mpox.evaluate`, and ``reason``: why the
        metrics are missing, where a subset lacks one of the two sides; else empty.
    """
    shared = predictions["shared"].to_numpy(dtype=bool)
    names = evaluate(predictions, positive=positive, n_bootstrap=0)[["metric", "class"]]
    tables = []
    for subset, keep in zip(SUBSETS, (np.ones(len(predictions), dtype=bool), ~shared, shared), strict=True):
        part = predictions[keep]
        positives = int((part["label"] == positive).sum())
        reason = f"no {positive} image" if not positives else f"only {positive} images" if positives == len(part) else ""
        reason = "no image" if part.empty else reason
        if reason:
            table = names.assign(estimate=np.nan, low=np.nan, high=np.nan)
        else:
            table = evaluate(part, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
        about = {"subset": subset, "images": len(part), "groups": part["group_id"].nunique(), "positives": positives}
        tables.append(table.assign(**about, reason=reason)[[*about, *table.columns, "reason"]])
    return pd.concat(tables, ignore_index=True)


def external_pair(
    store: RunStore | RecordedStore, train: str, test: str, *, data_dir: str | os.PathLike | None = None
) -> tuple[Dataset, str, str]:
    """Two collections as one, audited together, with the classes Mpox and Others; either may be a folder of the user's.

    Parameters
    ----------
    store : RunStore or RecordedStore
    train, test : str
        Registered names, or folders with one sub-folder a class, of which one is called Mpox (or Monkeypox).
    data_dir : path, optional

    Returns
    -------
    both : Dataset
        See `mpox.protocols.pairs.combine`.
    train, test : str
        The names of the two within it.
    """
    names = sorted((str(train), str(test)))
    loaded = {name: store.dataset(name, data_dir=data_dir) for name in names}
    both = combine([loaded[name] for name in names], store.audit(names, data_dir).groups)
    for name in (data.name for data in loaded.values()):
        found = set(both.manifest.loc[both.manifest["source"] == name, "label"])
        if found != set(both.classes):
            raise MpoxError(
                f"'{name}' has images of {' and '.join(sorted(found))} only, once healthy skin is left out: it needs both, "
                "Mpox and other rashes, each in a sub-folder of its class."
            )
    return both, loaded[str(train)].name, loaded[str(test)].name


def unshared_part(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions of images whose honest group has no image in the training collection."""
    return predictions[~predictions["shared"].to_numpy(dtype=bool)].reset_index(drop=True)


def auroc_replicates(predictions: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> Replicates:
    """The AUROC of `mpox.evaluate` and its replicates, without all the other metrics."""
    key = ("auroc", positive)
    return replicates(predictions, [key], positive=positive, **resampling)[key]


def changes(tables: dict[str, pd.DataFrame], reference: str, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """The AUROC for Mpox of several ways to predict the same images, and the paired difference of each to one of them.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Predictions of the same images in the same groups; the numbers of repeats may differ.
    reference : str
        Key of what the others are compared with.

    Returns
    -------
    DataFrame
        ``way``, ``estimate``, ``low``, ``high``, ``change``, ``change_low``, ``change_high`` (way minus reference, the same
        groups resampled) and ``p`` (`two_sided`, not adjusted). The reference's own change is missing.

    Raises
    ------
    MpoxError
        If the images or their groups differ.
    """
    values = {way: auroc_replicates(table, n_bootstrap=n_bootstrap, seed=seed) for way, table in tables.items()}
    rows = []
    for way, table in tables.items():
        check_paired(table, tables[reference])
        change = values[way] - values[reference]
        told = (*change.row().values(), two_sided(change.draws)) if way != reference else (np.nan,) * 4
        rows.append((way, *values[way].row().values(), *told))
    return pd.DataFrame(rows, columns=["way", "estimate", "low", "high", "change", "change_low", "change_high", "p"])


def two_sided(draws: np.ndarray) -> float:
    """Two-sided p value of bootstrap draws of a difference: twice the smaller share on either side of zero. Both shares
    are counted with one draw more, so that p is never 0 (Davison and Hinkley 1997, section 4.2).

    Examples
    --------
    >>> two_sided(np.array([0.1, 0.2, 0.3, -0.1] * 25))
    0.5148514851485149
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan")
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(known))))


def calibration_in_the_large(predictions: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """Whether the level of the predicted probabilities is right; parameters as in `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``measure``, ``estimate``, ``low``, ``high``: ``predicted`` (mean probability), ``observed`` (share of positives),
        ``difference`` (predicted minus observed), ``intercept`` (what must be added to every log odds for the mean to be right; 0
        is right, below 0 the predictions are too high: Cox 1958, Biometrika 45:562-565). Averaged over the repeats.
    """
    found = _level(predictions, positive, **resampling)
    return pd.DataFrame([{"measure": measure, **one.row()} for measure, one in found.items()])


def calibration_shift(
    training: pd.DataFrame, target: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float, float]:
    """How far the intercept of `calibration_in_the_large` moves from held-out training images to another collection.

    The two are resampled independently. Target minus training with its 95 % interval, in log odds.
    """
    sides = ((training, seed), (target, seed + 1))
    first, second = (_level(table, positive, n_bootstrap=n_bootstrap, seed=own)["intercept"] for table, own in sides)
    return tuple((second - first).row().values())


def _level(predictions: pd.DataFrame, positive: str, **resampling) -> dict[str, Replicates]:
    _, repeats = matched_repeats(predictions, positive)
    scores = [part[f"p_{positive}"].to_numpy(dtype=float) for part in repeats]

    def level(weights: np.ndarray) -> dict[str, np.ndarray]:
        observed = weighted_mean(repeats[0]["label"] == positive, weights)
        predicted = np.mean([weighted_mean(score, weights) for score in scores], axis=0)
        intercept = np.mean([_intercept(score, observed, weights) for score in scores], axis=0)
        return {"predicted": predicted, "observed": observed, "difference": predicted - observed, "intercept": intercept}

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


#: Single facts of an image that `fact_differences` is asked about in chapter 6, with their units.
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


def unshared(both: Dataset) -> pd.Series:
    """Whether an image's honest group lies in one of the collections only: bool, indexed by ``image_id``."""
    manifest = both.manifest
    alone = manifest.groupby("group_id")["source"].transform("nunique") == 1
    return pd.Series(alone.to_numpy(), index=manifest["image_id"].to_numpy(), name="unshared")


def domain_data(both: Dataset, *, label: str | None = None, whole: str | None = None) -> Dataset:
    """The same images with the name of their collection as the label, without those whose group is in both."""
    manifest = both.manifest
    keep = manifest["image_id"].map(unshared(both)).to_numpy(dtype=bool) | (manifest["source"] == whole).to_numpy()
    keep &= (manifest["label"] == label).to_numpy() if label else True
    left = manifest[keep].assign(label=manifest.loc[keep, "source"]).reset_index(drop=True)
    lost = sorted(set(manifest["source"]) - set(left["source"]))
    if lost:
        raise TooFewImages(f"{', '.join(lost)} has no image{f' of {label}' if label else ''} that is not shared: no comparison.")
    return replace(both, manifest=left, groups=both.groups[left["image_id"]], positive=left["label"].max())


def predict_domain(
    store: RunStore | RecordedStore,
    both: Dataset,
    model: ModelConfig,
    *,
    label: str | None = None,
    whole: str | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Out-of-fold predictions of which collection an image comes from.

    An AUROC of 0.5 says that this model cannot tell the collections apart, not that they are alike. One near 1 says that they
    differ in something; within one class, in something other than how common the classes are. Parameters as in `domain_data` and
    `mpox.cross_validate`; the protocol is ``source``, and the runs are kept under ``domain``.
    """
    data = domain_data(both, label=label, whole=whole)
    return predict_splits(store, data, "domain", make_splits(data.manifest, "source", n_folds=n_folds, seed=seed), model)


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
    """Kish's effective sample size: how many equally weighted images are worth as much, (sum w)^2 / sum w^2; 0 for none.

    Examples
    --------
    >>> effective_size(np.array([1.0, 1.0, 1.0, 1.0])), effective_size(np.array([4.0, 0.0, 0.0, 0.0]))
    (4.0, 1.0)
    """
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def collection_facts(store: RunStore | RecordedStore, data: Dataset) -> pd.DataFrame:
    """``source``, ``image_id`` and a column for each of `FACTS`, from the tables of chapter 1, computed where missing."""
    from mpox.audit import quality
    from mpox.data import skintone

    measured = {
        "image-quality": (quality.QUALITY_VERSION, lambda: quality.image_quality(data.manifest)),
        "skin-tone": (skintone.SKIN_TONE_VERSION, lambda: quality.skin_tone(data.manifest)),
    }
    found = data.manifest[["source", "image_id"]].assign(side=np.sqrt(data.manifest["width"] * data.manifest["height"]))
    for name, (version, compute) in measured.items():
        table = store.table(name, {"data": data.hash, "version": version}, compute)
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
    """``second`` minus ``first`` in each fact, in standard deviations, for images that the two do not share.

    The standardised mean difference divides by the root of the mean of both variances (Austin 2009, Statistics in Medicine
    28:3083-3107); above 0.1 is often called an imbalance. Groups of each collection are resampled.

    Parameters
    ----------
    both : Dataset
        From `mpox.protocols.pairs.combine`.
    facts : DataFrame
        ``source``, ``image_id`` (as the collection names it) and a column a fact: `collection_facts` of both.
    first, second : str
        Names of the collections.
    label : str, optional
        Only this class.

    Returns
    -------
    DataFrame
        One row a fact: ``fact``, ``n_first``, ``n_second`` (images that have it), ``first``, ``second`` (means), ``estimate``,
        ``low``, ``high`` (standard deviations); NaN where a collection has fewer than two images with that fact.
    """
    manifest = both.manifest[both.manifest["image_id"].map(unshared(both)).to_numpy(dtype=bool)]
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
        moments = [_moments(part, fact, n_bootstrap, seed + side) for side, part in enumerate(parts)]
        spread = np.sqrt((moments[0]["variance"] + moments[1]["variance"]) / 2)
        change = moments[1]["mean"] - moments[0]["mean"]
        rows.append((*about, *Replicates.of(ratio(change, spread)).row().values()))
    return pd.DataFrame(rows, columns=["fact", "n_first", "n_second", "first", "second", "estimate", "low", "high"])


def _moments(part: pd.DataFrame, fact: str, n_bootstrap: int, seed: int) -> dict[str, Replicates]:
    """``mean`` and ``variance`` (with n - 1) of one fact."""
    value = part[fact].to_numpy(dtype=float)

    def moments(weights: np.ndarray) -> dict[str, np.ndarray]:
        mean = weighted_mean(value, weights)
        square = (weights * (value - mean[:, None]) ** 2).sum(axis=1)
        return {"mean": mean, "variance": ratio(square, weights.sum(axis=1) - 1)}

    return bootstrap(moments, groups_of(part), n_bootstrap=n_bootstrap, seed=seed)


def label_shares(both: Dataset, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """Share of positives in each collection: ``source``, ``images``, ``groups``, ``estimate``, ``low``, ``high``."""
    rows = []
    for name, part in both.manifest.groupby("source"):
        share = bootstrap(partial(weighted_mean, part["label"] == positive), groups_of(part), **resampling)
        rows.append({"source": name, "images": len(part), "groups": part["group_id"].nunique(), **share.row()})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Asked:
    """What `with_remedy` was asked for; each remedy takes from it what it needs."""

    store: RunStore | RecordedStore
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

    @property
    def folds(self) -> dict[str, int]:
        return {"n_folds": self.n_folds, "n_repeats": self.n_repeats, "seed": self.seed}


def _as_it_is(asked: _Asked) -> tuple[Dataset, pd.DataFrame]:
    return asked.both, make_external_split(asked.both.manifest, asked.train, asked.test, seed=asked.seed)


def _with_colour_copies(asked: _Asked) -> tuple[Dataset, pd.DataFrame]:
    copies = augmented(asked.both, asked.n_copies, asked.seed, recipe="colour")
    manifest = copies.manifest
    manifest = manifest[(manifest["source"] == asked.train) | (manifest["view"] == 0)].reset_index(drop=True)
    data = replace(copies, manifest=manifest, groups=copies.groups[manifest["image_id"]])
    return data, make_external_split(manifest, asked.train, asked.test, seed=asked.seed)


def target_weights(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    alpha: float = ALPHA,
    n_folds: int = 5,
    seed: int = 0,
) -> pd.Series:
    """How much each training image counts if it is re-weighted: `density_weights` of a classifier not trained on its group."""
    domain = predict_domain(store, both, model, whole=train, n_folds=n_folds, seed=seed)
    return density_weights(domain, train, test, alpha=alpha).round(4)


def _weighted(asked: _Asked) -> tuple[Dataset, pd.DataFrame]:
    pair = asked.both, asked.train, asked.test, asked.model
    weights = target_weights(asked.store, *pair, alpha=asked.alpha, n_folds=asked.n_folds, seed=asked.seed)
    data, split = _as_it_is(asked)
    return data, split.assign(weight=split["image_id"].map(weights).where(split["role"] == "train"))


def _target_alone(asked: _Asked) -> tuple[Dataset, pd.DataFrame]:
    target = part_of(asked.both, asked.test)
    (split,) = learning_splits(target.manifest, "source", fractions=[asked.fraction], **asked.folds).values()
    return target, split


def _mixed(asked: _Asked) -> tuple[Dataset, pd.DataFrame]:
    """The folds of `_target_alone`, with the other collection in every training part."""
    both, split = asked.both, _target_alone(asked)[1]
    split["image_id"] = f"{asked.test}/" + split["image_id"]
    labels = both.manifest.set_index("image_id")["label"]
    other = both.manifest.loc[both.manifest["source"] == asked.train, ["image_id", "group_id"]].assign(role="train")
    parts = []
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        tested = rows.loc[rows["role"] == "test", "group_id"]
        rows = pd.concat([rows, other[~other["group_id"].isin(tested)]], ignore_index=True)
        learnt = (rows["role"] == "train").to_numpy()
        chosen = rows.loc[learnt, "image_id"].map(labels).to_numpy(dtype=str), rows.loc[learnt, "group_id"].to_numpy(dtype=str)
        inner = np.full(len(rows), -1)
        inner[learnt] = inner_folds(*chosen, asked.seed * 1000 + repeat)
        parts.append(rows.assign(repeat=repeat, fold=fold, inner_fold=inner))
    return both, pd.concat(parts, ignore_index=True)


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
    prepare: Callable[[_Asked], tuple[Dataset, pd.DataFrame]]
    compute: Callable | None = None


#: *own scale* is transductive: the test images, without their labels, are needed together before the first is predicted.
REMEDIES = {
    "no remedy": Remedy("nothing", "external", _as_it_is),
    "colour copies": Remedy("nothing", "external_colour", _with_colour_copies),
    "re-weighted": Remedy("pictures without labels", "external_weighted", _weighted),
    "own scale": Remedy("pictures without labels", "external_own_scale", _as_it_is, compute_standardised),
    "mixed": Remedy("labelled pictures of other groups", "external_mixed", _mixed),
    "target alone": Remedy("labelled pictures of other groups", "internal", _target_alone),
}


def with_remedy(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    remedy: str = "no remedy",
    **how,
) -> pd.DataFrame:
    """Predictions of the target collection by a model trained with one of `REMEDIES`.

    Parameters
    ----------
    store : RunStore or RecordedStore
    both : Dataset
        From `mpox.protocols.pairs.combine`.
    train, test : str
        Names of the collections.
    model : ModelConfig
        A linear probe for *re-weighted*; on frozen features for *own scale*.
    remedy : str
    **how
        ``n_copies`` (of a training image in other colours), ``alpha`` (`density_weights`), ``fraction`` (of the target's training
        groups, for *mixed* and *target alone*), ``n_folds``, ``n_repeats``, ``seed``.

    Returns
    -------
    DataFrame
        As `mpox.runs.cross_validation.validate_externally`, with ``shared``: the honest group is in the training collection too.

    Raises
    ------
    TooFewImages
        If a collection has too few groups for it.
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
    store: RunStore | RecordedStore, both: Dataset, train: str, test: str, model: ModelConfig, **how
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
    store: RunStore | RecordedStore, both: Dataset, train: str, test: str, model: ModelConfig, *, fractions, **how
) -> dict[tuple[str, float], pd.DataFrame]:
    """(remedy, fraction) to predictions, for *mixed* and *target alone*; a fraction that is too small is left out."""
    found = {}
    for fraction in sorted(set(fractions)):
        for remedy in ("mixed", "target alone"):
            with suppress(TooFewImages):
                found[remedy, fraction] = with_remedy(store, both, train, test, model, remedy, fraction=fraction, **how)
    return found


def cross_validate_mixed(
    store: RunStore | RecordedStore, target: Dataset, both: Dataset, model: ModelConfig, protocol: str = "source", **folds
) -> pd.DataFrame:
    """Out-of-fold predictions of the target's images by models that also learn from another data set.

    Parameters as in `mpox.protocols.pairs.mixed_splits`. The result is as `mpox.cross_validate` gives it for the target; the runs
    are kept under ``mixed``.
    """
    table = predict_splits(store, both, "mixed", mixed_splits(target, both, protocol, **folds), model)
    table["image_id"] = table["image_id"].str.removeprefix(f"{target.name}/")
    return table.assign(group_id=table["image_id"].map(target.groups), dataset=target.name)
