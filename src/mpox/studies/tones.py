"""Performance by skin tone: within strata of the typology angle, and as if both classes had the same tones.

Where a class is darker than the others in a data set, a model can score by tone. Three looks, from the same predictions: the
metrics of each stratum; the AUROC over pairs of images of one stratum only; and the AUROC with each image weighted so that
the positives and the others have one distribution over the strata (inverse-probability weights, Hirano, Imbens and Ridder 2003;
here with classes in the place of treatments). The weights are computed anew in each bootstrap replicate, because they are
estimates too.
"""

from functools import partial

import numpy as np
import pandas as pd

from mpox._core import TooFewImages
from mpox.stats.metrics import OVERALL, behind, groups_of, matched_repeats, weighted_auroc, weighted_metrics
from mpox.stats.resample import bootstrap
from mpox.studies.external import effective_size

#: Strata and the angle in degrees above which they begin: pairs of Del Bino and Bernerd's classes, so that each has images.
STRATA = {"very light and light": 41.0, "intermediate and tan": 10.0, "brown and dark": -90.0}
METRICS = ("auroc", "accuracy", "sensitivity", "specificity")
#: Groups of each side that a stratum must have to be judged.
LEAST_GROUPS = 5
_MISSING = {"estimate": np.nan, "low": np.nan, "high": np.nan}


def stratum_of(ita: float) -> str | None:
    """The stratum of an angle in degrees; ``None`` where there is no angle."""
    return None if np.isnan(ita) else next(name for name, limit in STRATA.items() if ita > limit or limit == -90.0)


def _prepared(predictions: pd.DataFrame, tones: pd.DataFrame, positive: str) -> tuple[list[pd.DataFrame], list[str]]:
    """The predictions of each repeat with their ``stratum``, where there is one; the strata with enough groups of each side."""
    stratum = predictions["image_id"].map(tones.set_index("image_id")["ita"].map(stratum_of))
    _, repeats = matched_repeats(predictions.assign(stratum=stratum), positive)
    repeats = [part.dropna(subset="stratum").reset_index(drop=True) for part in repeats]
    sides = repeats[0].groupby(["stratum", repeats[0]["label"] == positive])["group_id"].nunique().unstack(fill_value=0)
    return repeats, list(sides.index[(sides >= LEAST_GROUPS).all(axis=1) & (sides.shape[1] == 2)])


def _measures(parts: list[pd.DataFrame], positive: str, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`METRICS` of the positive class, averaged over the repeats."""
    keys = [(metric, OVERALL if metric == "accuracy" else positive) for metric in METRICS]
    found = weighted_metrics(parts, weights, positive=positive, keys=keys)
    return {metric: values for (metric, _), values in found.items()}


def _behind(parts: list[pd.DataFrame], positive: str) -> dict[str, np.ndarray]:
    """The denominators of `METRICS`."""
    return {metric: images for (metric, label), images in behind(parts, positive).items() if label in (OVERALL, positive)}


def within_strata(predictions: pd.DataFrame, tones: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """The `METRICS` of each stratum of skin tone; its groups are resampled, parameters as in `mpox.evaluate`.

    ``tones`` has ``image_id`` and ``ita`` in degrees (NaN: in no stratum). One row a stratum and metric: ``stratum``, ``images``,
    ``groups``, ``positives``, ``metric``, ``estimate``, ``low``, ``high``; NaN where a stratum has fewer than five groups of
    either side.
    """
    repeats, judged = _prepared(predictions, tones, positive)
    rows = []
    for stratum in STRATA:
        parts = [part[part["stratum"] == stratum] for part in repeats]
        first, found = parts[0], dict.fromkeys(METRICS, _MISSING)
        sizes = {"images": len(first), "groups": first["group_id"].nunique(), "positives": (first["label"] == positive).sum()}
        if stratum in judged:
            drawn = bootstrap(partial(_measures, parts, positive), groups_of(first), among=_behind(parts, positive), **resampling)
            found = {metric: values.row() for metric, values in drawn.items()}
        rows += [{"stratum": stratum, **sizes, "metric": metric, **numbers} for metric, numbers in found.items()]
    return pd.DataFrame(rows)


def between_strata(
    predictions: pd.DataFrame, tones: pd.DataFrame, first: str, second: str, *, positive: str = "Mpox", **resampling
) -> pd.DataFrame:
    """The `METRICS` of one stratum of skin tone minus those of another; parameters as in `within_strata`.

    ``metric``, ``estimate``, ``low``, ``high``; NaN where one of the two strata has fewer than five groups of either side. Groups
    of all strata are resampled together, because a group may have images in both.
    """
    repeats, judged = _prepared(predictions, tones, positive)
    if not {first, second} <= set(judged):
        return pd.DataFrame([{"metric": metric, **_MISSING} for metric in METRICS])

    found = []
    for stratum in (first, second):
        inside = (repeats[0]["stratum"] == stratum).to_numpy()
        parts, among = [part[inside] for part in repeats], {}
        for metric, images in _behind(parts, positive).items():
            among[metric] = np.zeros((len(inside), *images.shape[1:]), dtype=bool)
            among[metric][inside] = images

        def measures(weights: np.ndarray, parts=parts, inside=inside) -> dict[str, np.ndarray]:
            return _measures(parts, positive, weights[:, inside])

        found.append(bootstrap(measures, groups_of(repeats[0]), among=among, **resampling))
    return pd.DataFrame([{"metric": metric, **(found[0][metric] - found[1][metric]).row()} for metric in METRICS])


def equal_tone_weights(is_positive: np.ndarray, stratum: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights (b, n) that give positives and others the same distribution over the strata, for many weightings at once."""
    n_strata = stratum.max() + 1
    cells = np.eye(n_strata)[stratum]
    counts = np.stack([weights @ (cells * side[:, None]) for side in (is_positive, ~is_positive)])  # (2, b, strata)
    counts = counts * (counts > 0).all(axis=0)
    pooled = counts.sum(axis=0)
    pooled = pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1e-12)
    own = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1e-12)
    ratio = np.divide(pooled, own, out=np.zeros_like(own), where=own > 0)
    return weights * np.where(is_positive, ratio[0][:, stratum], ratio[1][:, stratum])


def _pairs_within(is_positive: np.ndarray, score: np.ndarray, stratum: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC over the pairs of images that are of one stratum, for many weightings, shape (b,)."""
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for code in np.unique(stratum):
        inside = stratum == code
        if np.unique(is_positive[inside]).size < 2:
            continue
        part = weights[:, inside]
        n_pairs = (part @ is_positive[inside]) * (part @ ~is_positive[inside])
        wins += np.nan_to_num(weighted_auroc(is_positive[inside], score[inside], part)) * n_pairs
        pairs += n_pairs
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def equal_tones(predictions: pd.DataFrame, tones: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """AUROC as it is, over pairs of one stratum, and with equal tone distributions, each beside that of the tone alone.

    Parameters as in `within_strata`. Images without an angle, and strata without five groups of each side, are left out. One row
    for ``as they are``, ``pairs of one stratum``, ``re-weighted`` and ``re-weighted minus as they are`` (paired): ``how``,
    ``images``, ``effective_positives`` and ``effective_others`` (`effective_size`), ``estimate``, ``low``, ``high`` of the AUROC,
    and ``tone_alone``: the AUROC of darkness by stratum under the same weights, 0.5 where tone tells nothing.
    """
    repeats, judged = _prepared(predictions, tones, positive)
    if not judged:
        raise TooFewImages(f"No stratum of skin tone has {LEAST_GROUPS} groups of {positive} and of others: nothing to compare.")
    repeats = [part[part["stratum"].isin(judged)].reset_index(drop=True) for part in repeats]
    first = repeats[0]
    is_positive = (first["label"] == positive).to_numpy()
    stratum = first["stratum"].map(list(STRATA).index).to_numpy(dtype=np.int64)

    def areas_of(scores: list[np.ndarray], plain: np.ndarray) -> dict[str, np.ndarray]:
        equal = equal_tone_weights(is_positive, stratum, plain)
        return {
            "as they are": np.mean([weighted_auroc(is_positive, score, plain) for score in scores], axis=0),
            "pairs of one stratum": np.mean([_pairs_within(is_positive, score, stratum, plain) for score in scores], axis=0),
            "re-weighted": np.mean([weighted_auroc(is_positive, score, equal) for score in scores], axis=0),
        }

    scores = [part[f"p_{positive}"].to_numpy() for part in repeats]
    areas = bootstrap(partial(areas_of, scores), groups_of(first), **resampling)
    areas["re-weighted minus as they are"] = areas["re-weighted"] - areas["as they are"]
    plain = np.ones((1, len(first)))
    equal, alone = equal_tone_weights(is_positive, stratum, plain), areas_of([stratum], plain)
    rows = []
    for how, values in areas.items():
        used = equal[0] if how == "re-weighted" else plain[0]
        sizes = [effective_size(used[side]) for side in (is_positive, ~is_positive)]
        rows.append((how, len(first), *sizes, *values.row().values(), alone.get(how, [np.nan])[0]))
    names = ["how", "images", "effective_positives", "effective_others", "estimate", "low", "high", "tone_alone"]
    return pd.DataFrame(rows, columns=names)
