"""Other data: what a model is worth there, what shifts, and whether a remedy helps."""

import os
from contextlib import suppress
from dataclasses import replace
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
from mpox.protocols.splits import inner_folds, make_external_split, make_splits
from mpox.runs.cross_validation import compute_run, predict_splits, validate_externally
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunResult, RunStore
from mpox.stats.metrics import N_BOOTSTRAP, evaluate, group_weights, matched_repeats, weighted_auroc
from mpox.stats.resample import with_percentiles
from mpox.studies.learning_curve import learning_curve, learning_splits

SUBSETS = ("all images", "without shared", "shared only")


def external_metrics(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Metrics of an external validation three times: on all test images, without those that are shared, and on those only.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.runs.cross_validation.validate_externally`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``subset`` (see `SUBSETS`), ``images``, ``groups``, ``positives``, the columns of `mpox.evaluate`, and ``reason``: why the
        metrics are missing, where a subset lacks one of the two sides; else empty.
    """
    keep = {
        "all images": np.ones(len(predictions), dtype=bool),
        "without shared": ~predictions["shared"].to_numpy(dtype=bool),
        "shared only": predictions["shared"].to_numpy(dtype=bool),
    }
    names = evaluate(predictions, positive=positive, n_bootstrap=0)[["metric", "class"]]
    tables = []
    for subset in SUBSETS:
        part = predictions[keep[subset]]
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
        See `mpox.runs.store.RunStore.dataset`.

    Returns
    -------
    both : Dataset
        See `mpox.protocols.pairs.combine`.
    train, test : str
        The names of the two within it.

    Raises
    ------
    MpoxError
        If a collection is missing, has no Mpox, or nothing else but healthy skin (which the task leaves out).
    """
    names = sorted((str(train), str(test)))
    loaded = {name: store.dataset(name, data_dir=data_dir) for name in names}
    both = combine([loaded[name] for name in names], store.audit(names, data_dir).groups)
    for name in (data.name for data in loaded.values()):
        found = set(both.manifest.loc[both.manifest["source"] == name, "label"])
        if found != set(both.classes):
            raise MpoxError(
                f"'{name}' has pictures of {' and '.join(sorted(found))} only, once healthy skin is left out: it needs both, "
                "Mpox and other rashes, each in a sub-folder of its class."
            )
    return both, loaded[str(train)].name, loaded[str(test)].name


def unshared_part(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions of pictures whose honest group has no picture in the training collection."""
    return predictions[~predictions["shared"].to_numpy(dtype=bool)].reset_index(drop=True)


def auroc_replicates(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> np.ndarray:
    """The AUROC of `mpox.evaluate` and its replicates, without all the other metrics: shape (n_bootstrap + 1,)."""
    _, repeats = matched_repeats(predictions, positive)
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    truth = (repeats[0]["label"] == positive).to_numpy(dtype=bool)
    return np.mean([weighted_auroc(truth, part[f"p_{positive}"].to_numpy(dtype=float), weights) for part in repeats], axis=0)


def changes(tables: dict[str, pd.DataFrame], reference: str, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """The AUROC for Mpox of several ways to predict the same pictures, and the paired difference of each to one of them.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Predictions of the same images in the same groups; the numbers of repeats may differ.
    reference : str
        Key of what the others are compared with.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        ``way``, ``estimate``, ``low``, ``high``, ``change``, ``change_low``, ``change_high`` (way minus reference, the same
        groups resampled) and ``p`` (`two_sided`; not adjusted for the number of ways: `mpox.stats.comparison.holm` does so). The
        reference's own change is missing.

    Raises
    ------
    MpoxError
        If the images or their groups differ.
    """
    values = {way: auroc_replicates(table, n_bootstrap=n_bootstrap, seed=seed) for way, table in tables.items()}
    known = {
        way: matched_repeats(table, "Mpox")[1][0][["image_id", "group_id"]].to_numpy().tolist() for way, table in tables.items()
    }
    rows = []
    for way in tables:
        if known[way] != known[reference]:
            raise MpoxError(f"'{way}' predicts other images, or in other groups, than '{reference}': no paired difference.")
        change = values[way] - values[reference]
        told = (*with_percentiles(change), two_sided(change[1:])) if way != reference else (np.nan,) * 4
        rows.append((way, *with_percentiles(values[way]), *told))
    return pd.DataFrame(rows, columns=["way", "estimate", "low", "high", "change", "change_low", "change_high", "p"])


def two_sided(replicates: np.ndarray) -> float:
    """Two-sided p value of bootstrap replicates of a difference: twice the smaller share on either side of zero.

    Both shares are counted with one replicate more, so that p is never 0 (Davison and Hinkley 1997, section 4.2). It is the level
    at which the percentile interval would just reach zero. Undefined replicates are left out; none at all give NaN.

    Examples
    --------
    >>> two_sided(np.array([0.1, 0.2, 0.3, -0.1] * 25))
    0.5148514851485149
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return float("nan")
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(known))))


def calibration_in_the_large(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Whether the level of the predicted probabilities is right, with 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``measure``, ``estimate``, ``low``, ``high``: ``predicted`` (mean probability), ``observed`` (share of positives),
        ``difference`` (predicted minus observed), ``intercept`` (what must be added to every log odds for the mean to be right; 0
        is right, below 0 the predictions are too high: Cox 1958, Biometrika 45:562-565). Averaged over the repeats.
    """
    rows = [(name, *with_percentiles(values)) for name, values in _level(predictions, positive, n_bootstrap, seed).items()]
    return pd.DataFrame(rows, columns=["measure", "estimate", "low", "high"])


def calibration_shift(
    training: pd.DataFrame, target: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float, float]:
    """How far the intercept of `calibration_in_the_large` moves from one collection to another: target minus training.

    Parameters
    ----------
    training : DataFrame
        Predictions of held-out training images (`mpox.runs.cross_validation.predict_nested`).
    target : DataFrame
        Predictions of the other collection's images that are not shared; the two are resampled independently.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    estimate, low, high : float
        Log odds.
    """
    first, second = (_level(t, positive, n_bootstrap, s)["intercept"] for t, s in ((training, seed), (target, seed + 1)))
    return with_percentiles(second - first)


def _level(predictions: pd.DataFrame, positive: str, n_bootstrap: int, seed: int) -> dict[str, np.ndarray]:
    _, repeats = matched_repeats(predictions, positive)
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    total = weights.sum(axis=1)
    observed = weights @ (repeats[0]["label"] == positive).to_numpy(dtype=float) / total
    scores = [part[f"p_{positive}"].to_numpy(dtype=float) for part in repeats]
    predicted = np.mean([weights @ score / total for score in scores], axis=0)
    intercept = np.mean([_intercept(score, observed, weights) for score in scores], axis=0)
    return {"predicted": predicted, "observed": observed, "difference": predicted - observed, "intercept": intercept}


def _intercept(score: np.ndarray, observed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each weighting the a at which the mean of expit(logit(score) + a) is the observed share; by bisection."""
    odds, total = logit(np.clip(score, 1e-12, 1 - 1e-12)), weights.sum(axis=1)
    low, high = np.full(len(weights), -40.0), np.full(len(weights), 40.0)
    for _ in range(40):
        middle = (low + high) / 2
        above = (weights * expit(odds + middle[:, None])).sum(axis=1) / total > observed
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where((observed > 0) & (observed < 1), (low + high) / 2, np.nan)


#: Mixes the training collection into the denominator of a density ratio, which then stays below 1 / ALPHA; see `density_weights`.
ALPHA = 0.1
#: Single facts of a picture that `fact_differences` is asked about in chapter 6, with their units.
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
    """The same pictures with the name of their collection as the label, without those whose group is in both.

    Parameters
    ----------
    both : Dataset
        Of two collections, from `mpox.protocols.pairs.combine`.
    label : str, optional
        Only this class: then a difference in how common the classes are can tell nothing.
    whole : str, optional
        A collection whose shared pictures stay. Since those of the other are left out, no group is on both sides.

    Returns
    -------
    Dataset

    Raises
    ------
    MpoxError
        If a collection has no picture left.
    """
    manifest = both.manifest
    keep = manifest["image_id"].map(unshared(both)).to_numpy(dtype=bool) | (manifest["source"] == whole).to_numpy()
    keep &= (manifest["label"] == label).to_numpy() if label else True
    left = manifest[keep].assign(label=manifest.loc[keep, "source"]).reset_index(drop=True)
    lost = sorted(set(manifest["source"]) - set(left["source"]))
    if lost:
        raise TooFewImages(
            f"{', '.join(lost)} has no picture{f' of {label}' if label else ''} that is not shared: no comparison."
        )
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
    """Out-of-fold predictions of which collection a picture comes from.

    An AUROC of 0.5 says that this model cannot tell the collections apart, not that they are alike. One near 1 says that they
    differ in something; within one class, in something other than how common the classes are.

    Parameters
    ----------
    store : RunStore or RecordedStore
    both, label, whole
        See `domain_data`.
    model : ModelConfig
    n_folds, seed : int
        See `mpox.protocols.splits.make_splits`; the protocol is ``source``.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, with the collections' names for classes. The runs are kept under ``domain``.

    Raises
    ------
    MpoxError
        See `domain_data`; `TooFewImages` if a collection has fewer groups than folds.
    """
    data = domain_data(both, label=label, whole=whole)
    return predict_splits(store, data, "domain", make_splits(data.manifest, "source", n_folds=n_folds, seed=seed), model)


def density_weights(predictions: pd.DataFrame, train: str, target: str, *, alpha: float = ALPHA) -> pd.Series:
    """Weights that make the training collection's pictures stand for the target's, from out-of-fold domain predictions.

    The ratio of the densities is r = p(target) / p(train), because the probe balances its classes (Bickel et al. 2009, JMLR
    10:2137-2155). Where a classifier is nearly certain, r is nearly 0 or enormous; the relative ratio r / (alpha r + 1 - alpha)
    (Yamada et al. 2013, Neural Computation 25:1324-1370) is at most 1 / alpha, and for ``alpha`` 0 it is r.

    Parameters
    ----------
    predictions : DataFrame
        From `predict_domain`; of one repeat.
    train, target : str
        Names of the collections.
    alpha : float
        From 0 to 1 (then every weight is 1).

    Returns
    -------
    Series of float64
        Mean 1, indexed by the ``image_id`` of the training collection's pictures.

    Raises
    ------
    MpoxError
        If the predictions are of other collections, or ``alpha`` is out of range.
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
    """Single facts of every picture (`FACTS`), from the tables of chapter 1, which are computed where they are missing.

    Returns
    -------
    DataFrame
        ``source``, ``image_id``, and a column a fact; missing where it is not defined.
    """
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
    """``second`` minus ``first`` in each fact, in standard deviations, for pictures that the two do not share.

    The standardised mean difference divides by the root of the mean of both variances (Austin 2009, Statistics in Medicine
    28:3083-3107); above 0.1 is often called an imbalance. Groups of each collection are resampled.

    Parameters
    ----------
    both : Dataset
        From `mpox.protocols.pairs.combine`.
    facts : DataFrame
        ``source``, ``image_id`` (as the collection names it) and a column a fact, for instance `collection_facts` of both.
    first, second : str
        Names of the collections.
    label : str, optional
        Only this class.
    n_bootstrap, seed : int

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
        spread = np.sqrt((moments[0][1] + moments[1][1]) / 2)
        change = moments[1][0] - moments[0][0]
        rows.append((*about, *with_percentiles(np.divide(change, spread, out=np.full(len(spread), np.nan), where=spread > 0))))
    return pd.DataFrame(rows, columns=["fact", "n_first", "n_second", "first", "second", "estimate", "low", "high"])


def _moments(part: pd.DataFrame, fact: str, n_bootstrap: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (with n - 1) of the estimate and the replicates, each of shape (n_bootstrap + 1,)."""
    weights = group_weights(part["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    value, total = part[fact].to_numpy(dtype=float), weights.sum(axis=1)
    mean = weights @ value / total
    square = (weights * (value - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.divide(square, total - 1, out=np.full(len(total), np.nan), where=total > 1)


def label_shares(both: Dataset, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """How common the finding is in each collection, with 95 % intervals from resampling groups.

    Returns
    -------
    DataFrame
        ``source``, ``images``, ``groups``, ``estimate`` (share of positives, 0 to 1), ``low``, ``high``.
    """
    rows = []
    for name, part in both.manifest.groupby("source"):
        weights = group_weights(part["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
        share = weights @ (part["label"] == positive).to_numpy(dtype=float) / weights.sum(axis=1)
        rows.append((name, len(part), part["group_id"].nunique(), *with_percentiles(share)))
    return pd.DataFrame(rows, columns=["source", "images", "groups", "estimate", "low", "high"])


#: Remedy to what it sees of the target collection.
SEES = {
    "no remedy": "nothing",
    "colour copies": "nothing",
    "re-weighted": "pictures without labels",
    "own scale": "pictures without labels",
    "mixed": "labelled pictures of other groups",
    "target alone": "labelled pictures of other groups",
}


def _marked(predictions: pd.DataFrame, both: Dataset, train: str) -> pd.DataFrame:
    """With the honest groups of the combined data set, and ``shared``."""
    known = set(both.manifest.loc[both.manifest["source"] == train, "group_id"])
    groups = predictions["image_id"].map(both.groups)
    return predictions.assign(dataset=both.name, group_id=groups, shared=groups.isin(known))


def no_remedy(
    store: RunStore | RecordedStore, both: Dataset, train: str, test: str, model: ModelConfig, *, seed: int = 0
) -> pd.DataFrame:
    """What everything else is compared with: `mpox.runs.cross_validation.validate_externally`."""
    return validate_externally(store, both, train, test, model, seed=seed)


def colour_copies(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    n_copies: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Train on every picture and copies of it in other colours (`mpox.data.changes.recolour`); test on the pictures as they are.

    Parameters
    ----------
    store : RunStore or RecordedStore
    both : Dataset
        From `mpox.protocols.pairs.combine`.
    train, test : str
        Names of the collections.
    model : ModelConfig
    n_copies : int
        Copies a training picture, at least 1.
    seed : int
        Of the copies and of the inner folds.

    Returns
    -------
    DataFrame
        As `mpox.runs.cross_validation.validate_externally`; the run is kept under ``external_colour``.
    """
    copies = augmented(both, n_copies, seed, recipe="colour")
    manifest = copies.manifest
    manifest = manifest[(manifest["source"] == train) | (manifest["view"] == 0)].reset_index(drop=True)
    data = replace(copies, manifest=manifest, groups=copies.groups[manifest["image_id"]])
    split = make_external_split(manifest, train, test, seed=seed)
    table = predict_splits(store, data, "external_colour", split, model)
    return _marked(table.assign(image_id=table["image_id"].str.removesuffix("#0")), both, train)


def reweighted(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    alpha: float = ALPHA,
    n_folds: int = 5,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.Series]:
    """Let a training picture count the more, the more it looks like one of the target (`mpox.studies.external.density_weights`).

    The weights come from the target's unshared pictures without their labels; that of each training picture from a classifier
    that was not trained on its group.

    Parameters
    ----------
    store, both, train, test, seed
        See `colour_copies`.
    model : ModelConfig
        A linear probe; the classifier behind the weights is of the same kind.
    alpha : float
        See `mpox.studies.external.density_weights`.
    n_folds : int
        Of the classifier.

    Returns
    -------
    predictions : DataFrame
        As `mpox.runs.cross_validation.validate_externally`; the run is kept under ``external_weighted``.
    weights : Series
        Of the training pictures, mean 1.
    """
    domain = predict_domain(store, both, model, whole=train, n_folds=n_folds, seed=seed)
    weights = density_weights(domain, train, test, alpha=alpha).round(4)
    split = make_external_split(both.manifest, train, test, seed=seed)
    split["weight"] = split["image_id"].map(weights).where(split["role"] == "train")
    return _marked(predict_splits(store, both, "external_weighted", split, model), both, train), weights


def standardise_each(x: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Features with mean 0 and standard deviation 1 in the training and in the test part, each by its own figures.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    train, test : ndarray of int
        Rows of either part.
    """
    x = x.copy()
    for rows in (train, test):
        spread = x[rows].std(axis=0)
        x[rows] = (x[rows] - x[rows].mean(axis=0)) / np.where(spread > 0, spread, 1)
    return x


def compute_standardised(config: RunConfig, data: Dataset, split: pd.DataFrame, folder: Path, bar: tqdm) -> RunResult:
    """`mpox.runs.cross_validation.compute_run` after `standardise_each`."""
    return compute_run(config, data, split, folder, bar, adapt=standardise_each)


def own_scale(
    store: RunStore | RecordedStore, both: Dataset, train: str, test: str, model: ModelConfig, *, seed: int = 0
) -> pd.DataFrame:
    """Standardise the frozen features of each collection by its own mean and standard deviation.

    It is transductive: the test pictures, without their labels, are needed together before the first is predicted. That makes it
    a remedy for a collection, not for a person at the door. Where the two collections differ in how common the classes are, it
    moves the classes too.

    Parameters
    ----------
    store, both, train, test, model, seed
        See `colour_copies`; ``model`` works on frozen features.

    Returns
    -------
    DataFrame
        As `mpox.runs.cross_validation.validate_externally`; the run is kept under ``external_own_scale``.
    """
    split = make_external_split(both.manifest, train, test, seed=seed)
    table = predict_splits(store, both, "external_own_scale", split, model, compute=compute_standardised)
    return _marked(table, both, train)


def target_alone(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    fraction: float = 1.0,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """The same task without the other collection: the target cross-validated by itself, groups kept together. The ceiling.

    Parameters
    ----------
    store, both, train, test, model
        See `colour_copies`; ``train`` says which pictures are shared, nothing of it is learnt from.
    fraction : float
        Share of the target's training groups that is used; see `mpox.studies.learning_curve.learning_splits`.
    n_folds, n_repeats, seed
        See `mpox.protocols.splits.make_splits`; the protocol is ``source``.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, with ``shared``; the runs are kept under ``internal``, with a fraction below 1 under
        ``learning_curve``.
    """
    target, options = part_of(both, test), {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    if fraction < 1:
        table = learning_curve(store, target, "source", model, fractions=[fraction], **options)
    else:
        table = predict_splits(store, target, "internal", make_splits(target.manifest, "source", **options), model)
    return _marked(table.assign(image_id=f"{test}/" + table["image_id"]), both, train)


def own_picture_splits(
    both: Dataset, train: str, test: str, *, fraction: float = 1.0, n_folds: int = 5, n_repeats: int = 1, seed: int = 0
) -> pd.DataFrame:
    """The folds of `target_alone`, with the other collection in every training part.

    Left out of it is only what has a sibling in the test fold, so that with ever fewer pictures of the target this becomes
    `no_remedy` on what is not shared. Inner folds are dealt anew among all training pictures, honest groups kept together: with a
    handful of the target's there would be nothing to choose on. (`pairs` has the stricter design: choices on the target
    alone, and no picture of a group that it holds.)

    Parameters
    ----------
    both, train, test, fraction, n_folds, n_repeats, seed
        See `target_alone`.

    Returns
    -------
    DataFrame
        As `mpox.protocols.splits.make_splits` gives it, over the ids of ``both``.
    """
    target, options = part_of(both, test), {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    (split,) = learning_splits(target.manifest, "source", fractions=[fraction], **options).values()
    split["image_id"] = f"{test}/" + split["image_id"]
    labels = both.manifest.set_index("image_id")["label"]
    other = both.manifest.loc[both.manifest["source"] == train, ["image_id", "group_id"]].assign(role="train")
    parts = []
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        tested = rows.loc[rows["role"] == "test", "group_id"]
        rows = pd.concat([rows, other[~other["group_id"].isin(tested)]], ignore_index=True)
        learnt = (rows["role"] == "train").to_numpy()
        chosen = rows.loc[learnt, "image_id"].map(labels).to_numpy(dtype=str), rows.loc[learnt, "group_id"].to_numpy(dtype=str)
        inner = np.full(len(rows), -1)
        inner[learnt] = inner_folds(*chosen, seed * 1000 + repeat)
        parts.append(rows.assign(repeat=repeat, fold=fold, inner_fold=inner))
    return pd.concat(parts, ignore_index=True)


def mixed(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    fraction: float = 1.0,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Train on the other collection and a share of the target's training groups, test on the target's other groups.

    Parameters and result are those of `target_alone`, whose folds it has (`own_picture_splits`); the runs are kept under
    ``external_mixed``.
    """
    split = own_picture_splits(both, train, test, fraction=fraction, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    return _marked(predict_splits(store, both, "external_mixed", split, model), both, train)


def every_way(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    n_copies: int = 3,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The predictions of every way in `SEES`.

    Parameters
    ----------
    store, both, train, test, model, n_copies, n_folds, n_repeats, seed
        See `colour_copies` and `target_alone`. With 0 copies there are no colour copies.

    Returns
    -------
    tables : dict of str to DataFrame
        In the order of `SEES`.
    skipped : dict of str to str
        Why a way was not possible: a collection has too few groups for it.
    """
    once, folds = {"seed": seed}, {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    ask = {
        "no remedy": lambda: no_remedy(store, both, train, test, model, **once),
        "colour copies": lambda: colour_copies(store, both, train, test, model, n_copies=n_copies, **once),
        "re-weighted": lambda: reweighted(store, both, train, test, model, n_folds=n_folds, **once)[0],
        "own scale": lambda: own_scale(store, both, train, test, model, **once),
        "mixed": lambda: mixed(store, both, train, test, model, **folds),
        "target alone": lambda: target_alone(store, both, train, test, model, **folds),
    }
    tables, skipped = {}, {}
    for way in SEES:
        if way == "colour copies" and not n_copies:
            continue
        try:
            tables[way] = ask[way]()
        except TooFewImages as reason:
            skipped[way] = str(reason)
    return tables, skipped


def own_pictures(
    store: RunStore | RecordedStore,
    both: Dataset,
    train: str,
    test: str,
    model: ModelConfig,
    *,
    fractions,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> dict[tuple[str, float], pd.DataFrame]:
    """`mixed` and `target_alone` with more and more of the target's training groups; a fraction that is too small is left out.

    Returns
    -------
    dict of (str, float) to DataFrame
        (way, fraction) to its predictions.
    """
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}
    found = {}
    for fraction in sorted(set(fractions)):
        for way, ask in (("mixed", mixed), ("target alone", target_alone)):
            with suppress(TooFewImages):
                found[way, fraction] = ask(store, both, train, test, model, fraction=fraction, **options)
    return found


def cross_validate_mixed(
    store: RunStore | RecordedStore,
    target: Dataset,
    both: Dataset,
    model: ModelConfig,
    protocol: str = "source",
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Out-of-fold predictions of the target's pictures by models that also learn from another data set.

    Parameters
    ----------
    store : RunStore or RecordedStore
    target, both, protocol, n_folds, n_repeats, seed
        See `mixed_splits`.
    model : ModelConfig

    Returns
    -------
    DataFrame
        As `mpox.cross_validate` gives it for the target: its image ids and honest groups. The runs are kept under ``mixed``.

    Raises
    ------
    MpoxError
        See `mixed_splits`.
    """
    split = mixed_splits(target, both, protocol, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    table = predict_splits(store, both, "mixed", split, model)
    table["image_id"] = table["image_id"].str.removeprefix(f"{target.name}/")
    return table.assign(group_id=table["image_id"].map(target.groups), dataset=target.name)
