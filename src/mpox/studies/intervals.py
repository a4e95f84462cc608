"""Intervals that train again: the whole pipeline bootstrapped, and how often intervals hold the truth in simulated studies."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtr

from mpox._core import MpoxError, NotRecorded, hash_of
from mpox.data.dataset import Dataset
from mpox.models import features, heads
from mpox.models.config import ModelConfig
from mpox.protocols.splits import assign_folds, get_protocol
from mpox.runs.parallel import workers_and_threads
from mpox.runs.recorded import Store
from mpox.stats.comparison import corrected_intervals, corrected_t_test
from mpox.stats.metrics import replicates, weighted_auroc, weighted_metrics
from mpox.stats.resample import EXACT, Replicates, group_weights, wilson

VERSION = 1
N_DRAWS, N_DEALS = 300, 3
#: How an interval came about: the column ``interval`` of `headline`.
REFITTED, CORRECTED, FIXED = "pipeline refitted", "folds, corrected", "models held fixed"
#: The same for the caption of a table.
MEANING = {
    REFITTED: "groups drawn again, folds assigned anew and the probe fitted again",
    CORRECTED: "from the folds, with the variance corrected for the training images that they share",
    FIXED: "groups drawn again with the trained models held fixed, which is too narrow",
    EXACT: "exact, where all groups are right or none is",
}


def recentred(estimate: Any, draws: np.ndarray) -> Replicates:
    """Draws of the whole pipeline about the estimate, on the logit scale.

    A drawn sample has fewer different groups to learn from (63 %), so that its cross-validation is too pessimistic; how it varies
    is what is wanted (bias reduction of Jiang, Varma and Simon 2008, Stat. Appl. Genet. Mol. Biol. 7:8, on the logit scale, on
    which a share near 1 varies as one near 1/2). Draws of kappa, which can be below 0, are moved on their own scale.
    """
    if not 0 < estimate < 1 or np.nanmin(draws, initial=1) < 0:
        return Replicates(estimate, np.minimum(draws - np.nanmean(draws) + estimate, 1))
    scores = logit(np.clip(draws, 1e-4, 1 - 1e-4))
    return Replicates(estimate, expit(scores - np.nanmean(scores) + logit(estimate)))


def refitted(
    store: Store,
    data: Dataset,
    protocol: str,
    model: ModelConfig,
    predictions: pd.DataFrame,
    *,
    n_draws: int = N_DRAWS,
    n_deals: int = N_DEALS,
    seed: int = 0,
) -> dict[tuple[str, str], Replicates]:
    """Replicates of every metric of a linear probe that know of its training: the whole pipeline is bootstrapped.

    In each draw the honest groups are drawn with replacement; the copies of a group, under ``random_image`` those of an image,
    stay in one fold; folds are assigned anew ``n_deals`` times, and the probe is fitted in each at the strength that was chosen
    most often in the runs. Kept as a derived table; the recorded study raises `NotRecorded` where it has none.

    Parameters
    ----------
    predictions : DataFrame
        Of the model under the protocol, from `mpox.cross_validate`: the estimates, and the runs whose strengths are used.

    Returns
    -------
    dict of (str, str) to Replicates
        As `mpox.stats.metrics.replicates`, which stand where all groups are right (exact). Protocols and models of a data set
        draw the same groups, so that theirs are paired.
    """
    if model.regime != "linear_probe" or get_protocol(protocol).augmented:
        raise MpoxError(f"The pipeline is refitted for a linear probe on single images, not for {model.regime} under {protocol}.")
    fixed = replicates(predictions, positive=data.positive, n_bootstrap=n_draws, seed=seed)
    chosen = pd.concat([store.history(run_id).query("chosen")["strength"] for run_id in predictions["run_id"].unique()])
    spec = {
        "version": VERSION, "dataset": data.name, "hash": data.hash, "groups": hash_of(data.groups.to_dict()),
        "protocol": protocol, "model": asdict(model), "strength": float(chosen.mode()[0]),
        "folds": int(predictions["fold"].nunique()), "draws": n_draws, "deals": n_deals, "seed": seed,
    }  # fmt: skip
    table = store.table("refitted", spec, lambda: _draws(data, protocol, model, spec))
    return {
        (metric, label): one if one.kind == EXACT else recentred(one.estimate, table[f"{metric} {label}"].to_numpy())
        for (metric, label), one in fixed.items()
    }


def _draws(data: Dataset, protocol: str, model: ModelConfig, spec: dict) -> pd.DataFrame:
    manifest = data.manifest
    kept = get_protocol(protocol).group(manifest).to_numpy(dtype=str)
    drawn = group_weights(manifest["image_id"].map(data.groups).to_numpy(dtype=str), spec["draws"], spec["seed"])[1:].astype(int)
    x, labels = features.features(manifest, model), manifest["label"].to_numpy(dtype=str)
    tasks = (joblib.delayed(_draw)(x, labels, kept, counts, model, spec, number) for number, counts in enumerate(drawn))
    return pd.DataFrame(joblib.Parallel(workers_and_threads()[0])(tasks)).round(6)


def _draw(x, labels, kept, counts, model: ModelConfig, spec: dict, number: int) -> dict[str, float]:
    """The metrics of one draw, of which an image has ``counts`` copies; a mean over the fold assignments."""
    rows, classes = np.repeat(np.arange(len(x)), counts), np.unique(labels)
    y, deals = np.searchsorted(classes, labels), []
    options = {"strength": spec["strength"], "n_classes": len(classes), "head": model.head, "seed": model.seed}
    for deal in range(spec["deals"]):
        fold = assign_folds(labels[rows], kept[rows], spec["folds"], 1000 * (number + 1) + deal + spec["seed"])
        p = np.empty((len(rows), len(classes)))
        for test in (fold == k for k in range(spec["folds"])):
            train = rows[~test]
            p[test] = heads.predict_at(x[train], y[train], x[rows[test]], **options)
        deals.append(pd.DataFrame(p, columns=[f"p_{label}" for label in classes]).assign(label=labels[rows]))
    values = weighted_metrics(deals, np.ones((1, len(rows))))
    return {f"{metric} {label}": float(value[0]) for (metric, label), value in values.items()}


def headline_replicates(
    store: Store, data: Dataset, protocol: str, model: ModelConfig, predictions: pd.DataFrame, **options: Any
) -> tuple[dict[tuple[str, str], Replicates], str]:
    """The replicates of `refitted` (with these ``options``) where there are any, else those of models held fixed; and which."""
    if model.regime == "linear_probe" and not get_protocol(protocol).augmented:
        try:
            return refitted(store, data, protocol, model, predictions, **options), REFITTED
        except NotRecorded:
            pass  # the second value says so, and whoever shows the interval shows that
    return replicates(predictions, positive=data.positive), FIXED


def headline(
    store: Store, data: Dataset, protocol: str, model: ModelConfig, predictions: pd.DataFrame, **options: Any
) -> pd.DataFrame:
    """`mpox.evaluate` with the interval that allows for the training, as far as it can be had; ``interval`` says which it is.

    A linear probe is `refitted` (with these ``options``). Where training is too dear for that, `corrected_intervals` stand in,
    unless the protocol lets groups cross folds. Everything else is from models held fixed: a leaky protocol of other models, and
    a recorded study without the table of draws.
    """
    drawn, kind = headline_replicates(store, data, protocol, model, predictions, **options)
    rows = [
        {"metric": metric, "class": label, **one.row(), "interval": one.kind if one.kind == EXACT else kind}
        for (metric, label), one in drawn.items()
    ]
    table = pd.DataFrame(rows)
    if model.regime == "linear_probe" or get_protocol(protocol).leaks:
        return table
    folds = corrected_intervals(predictions, table, positive=data.positive).assign(interval=CORRECTED)
    return folds.where(table["interval"] != EXACT, table)


def kinds_said(table: pd.DataFrame, by: str = "protocol") -> str:
    """What the intervals of a table of `headline` are, for its caption; where there are several kinds, of which rows each."""
    rows = {kind: ", ".join(part[by].unique()) for kind, part in table.groupby("interval", sort=False)}
    said = [MEANING[kind] + (f" ({names})" if len(rows) > 1 else "") for kind, names in rows.items()]
    return "95 % intervals: " + "; ".join(said)


#: Groups of MSLD v1.0 with so many images: Mpox, others.
SIZES = ({1: 23, 2: 22, 3: 5, 4: 5}, {1: 85, 2: 18, 5: 1})
STRENGTHS = np.logspace(-3, 1, 5)


#: Features of the simulated probe, and how far apart they put the classes: with more features other people make another model.
SETTINGS = {20: 1.7, 40: 2.0}


def coverage(
    n_studies: int, *, settings: Mapping[int, float] = SETTINGS, n_folds: int = 5, n_draws: int = 200, seed: int = 0
) -> pd.DataFrame:
    """How many 95 % intervals hold the truth when every simulated study trains: MSLD's groups, Gaussian features, a linear probe.

    Images of a group share half of the variance of each feature. The truth is what a model that was trained on all folds but one
    is worth on new people, on average over studies; of a linear model it has a closed form.

    Returns
    -------
    DataFrame
        ``features``, ``method``, ``metric``, ``truth``, ``coverage``, ``standard_error`` (of the coverage), ``mean_width``.
    """
    rows = []
    for d, separation in settings.items():
        seeds = np.random.default_rng(seed).integers(2**32, size=n_studies)
        options = {"k": n_folds, "d": d, "separation": separation, "n_draws": n_draws}
        tasks = (joblib.delayed(_study)(np.random.default_rng(one), **options) for one in seeds)
        studies = joblib.Parallel(workers_and_threads()[0])(tasks)
        truth = pd.DataFrame([worth for worth, _ in studies]).mean()
        for method, metric in sorted(studies[0][1], key=lambda key: (key[1], key[0])):
            low, high = np.array([found[method, metric] for _, found in studies]).T
            share = ((low <= truth[metric]) & (truth[metric] <= high)).mean()
            error = np.sqrt(share * (1 - share) / n_studies)
            rows.append((d, method, metric, truth[metric], share, error, np.mean(high - low)))
    columns = ["features", "method", "metric", "truth", "coverage", "standard_error", "mean_width"]
    return pd.DataFrame(rows, columns=columns)


def _study(rng, *, k, d, separation, n_draws, correlation=0.5, n_repeats=10, few=3) -> tuple[dict, dict]:
    """What the models of one study are worth, and the intervals by (method, metric)."""
    sizes = [np.repeat(list(one), list(one.values())) for one in SIZES]
    group = np.repeat(np.arange(sum(map(len, sizes))), np.concatenate(sizes))
    side = np.repeat([1, 0], [len(one) for one in sizes])
    y, n_groups = side[group], len(side)
    shared, own = rng.standard_normal((n_groups, d))[group], rng.standard_normal((len(y), d))
    x = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    x[:, 0] += separation * (y - 0.5)

    def measured(scores, weights):
        right = ((scores > 0) == y) * weights
        areas = [weighted_auroc(y == 1, *row)[0] for row in zip(scores, weights[:, None], strict=True)]
        return {"accuracy": right.sum(axis=1) / weights.sum(axis=1), "auroc": np.array(areas)}

    once = np.ones((n_repeats, len(y)))
    folds = _assigned(rng, side, np.ones((n_repeats, n_groups)), k)[:, group]
    strengths = _chosen(rng, x, y, side, group, [once * (folds != fold) for fold in range(k)])
    scores, models = _out_of_fold(x, y, once, folds, strengths)
    estimate = {metric: values.mean() for metric, values in measured(scores, once).items()}
    slopes, shift = models[..., :-1], models[..., -1] / np.linalg.norm(models[..., :-1], axis=-1)
    apart = separation * slopes[..., 0] / np.linalg.norm(slopes, axis=-1)
    hits, cleared = ndtr(apart / 2 + shift), ndtr(apart / 2 - shift)
    worth = {"accuracy": (y.mean() * hits + (1 - y.mean()) * cleared).mean(), "auroc": ndtr(apart / np.sqrt(2)).mean()}

    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws)
    weights, typical = drawn[:, group].astype(float), np.exp(np.log(strengths).mean())
    fixed = {
        "accuracy": weights @ ((scores > 0) == y).mean(axis=0) / weights.sum(axis=1),
        "auroc": np.mean([weighted_auroc(y == 1, row, weights) for row in scores], axis=0),
    }
    deals = []
    for _ in range(N_DEALS):
        again = _assigned(rng, side, drawn, k)[:, group]
        deals.append(measured(_out_of_fold(x, y, weights, again, np.full((k, n_draws), typical))[0], weights))
    every = np.column_stack([x, np.ones(len(y))]) @ _logistic(x, y, weights, np.full(n_draws, typical)).T
    bag = measured(every.T, (weights == 0).astype(float)), measured(every.T, weights)
    found: dict = {}
    for metric, value in estimate.items():
        whole = np.mean([deal[metric] for deal in deals], axis=0)
        kinds = {
            FIXED: Replicates(value, fixed[metric]), "pipeline refitted, not recentred": Replicates(value, whole),
            REFITTED: recentred(value, whole), f"{REFITTED}, one fold assignment": recentred(value, deals[0][metric]),
            "out of bag": Replicates(value, bag[0][metric]),
            "out of bag, .632": Replicates(value, 0.632 * bag[0][metric] + 0.368 * bag[1][metric]),
        }  # fmt: skip
        found |= {(kind, metric): one.interval() for kind, one in kinds.items()}
        inside = np.array([measured(scores, once * (folds == fold))[metric] for fold in range(k)]).T
        for repeats in (few, n_repeats):
            test = corrected_t_test(inside[:repeats].ravel(), k)
            moved = measured(scores[:repeats], once[:repeats])[metric].mean() - test.estimate
            found[f"{CORRECTED}, {repeats} repeats", metric] = test.low + moved, test.high + moved
    found["images as independent (Wilson)", "accuracy"] = wilson(estimate["accuracy"] * len(y), len(y))[1:]
    return worth, found


def _assigned(rng, side, drawn, k) -> np.ndarray:
    """Fold of each group in many samples, (b, groups), the drawn groups of each side spread evenly."""
    order, folds = rng.random(drawn.shape) + (drawn == 0), np.zeros(drawn.shape, dtype=int)
    for part in (side == 0, side == 1):
        folds[:, part] = order[:, part].argsort(axis=1).argsort(axis=1) % k
    return folds


def _logistic(x, y, weights, strengths) -> np.ndarray:
    """Logistic regressions with an L2 penalty under many weightings (b, n), by Newton's method: slopes, intercept, (b, d + 1)."""
    z = np.column_stack([x, np.ones(len(x))])
    penalty = np.append(np.ones(x.shape[1]), 0) / np.asarray(strengths)[:, None]
    above, found = np.triu_indices(z.shape[1]), np.zeros((len(weights), z.shape[1]))
    squares = (z[:, above[0]] * z[:, above[1]]).astype(np.float32)  # of the curvature half its digits will do, and one triangle
    curvature = np.empty((*found.shape, z.shape[1]))
    for _ in range(20):
        p = expit(found @ z.T)
        slope = (weights * (p - y)) @ z + penalty * found
        curvature[:, above[0], above[1]] = curvature[:, above[1], above[0]] = (weights * p * (1 - p)).astype(np.float32) @ squares
        step = np.linalg.solve(curvature + np.eye(z.shape[1]) * penalty[:, None], slope[..., None])[..., 0]
        found -= step
        if np.abs(step).max() < 1e-5:
            break
    return found


def _out_of_fold(x, y, weights, folds, strengths) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the images by the models of the other folds, (b, n), and those models, (k, b, d + 1); strengths are (k, b)."""
    models = np.array([_logistic(x, y, weights * (folds != fold), strengths[fold]) for fold in range(len(strengths))])
    scores = models @ np.column_stack([x, np.ones(len(x))]).T
    return np.take_along_axis(scores, folds[None], axis=0)[0], models


def _chosen(rng, x, y, side, group, training, n_inner=4) -> np.ndarray:
    """The strength with the least log loss over inner folds, (k, b), for the weights of each training part, k of (b, n)."""
    z, found = np.column_stack([x, np.ones(len(x))]), []
    for weights in training:
        inner = _assigned(rng, side, np.ones((len(weights), len(side))), n_inner)[:, group]
        loss = np.zeros((len(STRENGTHS), len(weights)))
        for number, strength in enumerate(STRENGTHS):
            for part in range(n_inner):
                fitted = _logistic(x, y, weights * (inner != part), np.full(len(weights), strength))
                loss[number] += (weights * (inner == part) * np.logaddexp(0, (1 - 2 * y) * (fitted @ z.T))).sum(axis=1)
        found.append(STRENGTHS[loss.argmin(axis=0)])
    return np.array(found)
