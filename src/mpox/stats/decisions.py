"""What acting at a threshold is worth: sensitivity aimed at, decision curves, predictive values, costs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from mpox._core import MpoxError, TooFewImages
from mpox.stats.metrics import (
    class_names,
    denominators,
    groups_of,
    matched_repeats,
    rates,
    two_sides,
    weight_by_score,
)
from mpox.stats.resample import Replicates, bootstrap, ratio

KINDS = ("sensitivity", "specificity", "youden")
#: The measures of `operating_point`.
OPERATING = ("sensitivity", "specificity", "ppv", "npv", "flagged")
MODEL, EVERYONE, NOBODY, ADVANTAGE = "model", "everyone", "nobody", "model minus the better of both"
MEASURES = ("ppv", "npv", "flagged", "missed", "false_alarms")
MODEL_FIRST, LABORATORY_FOR_EVERYONE, NO_SCREENING = "the model first", "the laboratory for everyone", "no screening"
_SLACK = 1e-12  # of a share, for sums of weights


@dataclass(frozen=True)
class Aim:
    """What a threshold is to achieve.

    Parameters
    ----------
    kind : {"sensitivity", "specificity", "youden"}
        At least ``level`` of the positives found, with as few false alarms as that allows; at least ``level`` of the negatives
        cleared, with as few misses as that allows; or the largest sum of both (Youden 1950, Cancer 3:32-35).
    level : float, optional
        From 0 to 1, for the first two kinds.
    """

    kind: str
    level: float | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise MpoxError(f"There is no aim '{self.kind}': choose one of {', '.join(KINDS)}.")
        if self.kind == "youden" and self.level is not None:
            raise MpoxError("The aim 'youden' has no level: leave it out.")
        if self.kind != "youden" and not (isinstance(self.level, int | float) and 0 <= self.level <= 1):
            raise MpoxError(f"The aim '{self.kind}' needs a level from 0 to 1, not {self.level!r}.")

    def __str__(self) -> str:
        return "largest sensitivity + specificity" if self.kind == "youden" else f"{self.kind} >= {self.level:g}"


YOUDEN = Aim("youden")


def choose_threshold(scores: np.ndarray, is_positive: np.ndarray, *, aim: Aim = YOUDEN) -> float:
    """The threshold that meets an aim on these images; an image is positive if its score is at least this.

    The candidates are the scores themselves, and infinity (nobody is positive), as in `sklearn.metrics.roc_curve`. For a
    sensitivity it is the highest candidate that reaches it, for a specificity the lowest; of several with the largest sum of both
    the lowest, which misses fewer.
    """
    scores, is_positive = np.asarray(scores, dtype=float), np.asarray(is_positive, dtype=bool)
    if np.isnan(scores).any():
        raise MpoxError("A threshold needs a score of every image: leave out the images without one.")
    if not is_positive.any() or is_positive.all():
        raise MpoxError("A threshold needs positive and negative images to be chosen on: there is only one of the two.")
    counts = [np.r_[0, np.cumsum(side[0])] for side in weight_by_score(is_positive, scores, np.ones((1, len(scores))))]
    missed, cleared = (side / side[-1] for side in counts)  # at candidate k all scores from k on are positive
    sensitivity = 1 - missed
    if aim.level is None:  # youden
        place = (sensitivity + cleared >= (sensitivity + cleared).max() - _SLACK).argmax()
    elif aim.kind == "sensitivity":
        place = (sensitivity >= aim.level - _SLACK).sum() - 1
    else:
        place = (cleared >= aim.level - _SLACK).argmax()
    return float(np.append(np.unique(scores), np.inf)[place])


def _score(predictions: pd.DataFrame, positive: str) -> tuple[np.ndarray, np.ndarray]:
    if f"p_{positive}" not in predictions:
        raise MpoxError(f"These predictions have no column 'p_{positive}': name the positive class they have.")
    return predictions[f"p_{positive}"].to_numpy(dtype=float), (predictions["label"] == positive).to_numpy(dtype=bool)


def carry_thresholds(predictions: pd.DataFrame, nested: pd.DataFrame, aim: Aim, *, positive: str = "Mpox") -> pd.DataFrame:
    """Choose a threshold for each fold on held-out images of its training part, and carry it to the fold's test images.

    Parameters
    ----------
    predictions : DataFrame
        Of test images: from `mpox.cross_validate` or `mpox.runs.cross_validation.validate_externally`.
    nested : DataFrame
        Of the training images of the same repeats and folds: from `mpox.runs.cross_validation.predict_nested`.

    Returns
    -------
    DataFrame
        ``predictions`` with ``threshold``, one value a repeat and fold.
    """
    inside = {key: part for key, part in nested.groupby(["repeat", "fold"])}
    parts = []
    for (repeat, fold), test in predictions.groupby(["repeat", "fold"], sort=False):
        if (repeat, fold) not in inside:
            raise MpoxError(f"Fold {fold} of repeat {repeat} has no nested predictions: make them of the same split.")
        known = inside[repeat, fold]
        if set(known["image_id"]) & set(test["image_id"]):
            raise MpoxError(f"Fold {fold} of repeat {repeat} tests images that its nested predictions hold: make them anew.")
        parts.append(test.assign(threshold=choose_threshold(*_score(known, positive), aim=aim)))
    return pd.concat(parts).loc[predictions.index]


def crossfit_thresholds(
    predictions: pd.DataFrame, aim: Aim, *, positive: str = "Mpox", n_folds: int = 5, n_repeats: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Choose thresholds on the test images themselves, but never on the group that is scored.

    The threshold of a fold is chosen on the other folds; groups are kept together, classes even. The models are not trained
    again: this is what a user gets who keeps the model and re-chooses its threshold on labelled images of their own. The
    assignment to folds is repeated, since one of them is a matter of luck.

    Parameters
    ----------
    predictions, aim, positive
        As in `mpox.evaluate` and `choose_threshold`.
    n_folds, n_repeats, seed : int
        Of the fold assignment. With fewer groups of a class than folds, as many folds as there are.

    Returns
    -------
    DataFrame
        ``predictions`` with ``threshold``, ``n_repeats`` times, with new numbers in ``repeat``.

    Raises
    ------
    TooFewImages
        If a class has fewer than two groups.
    """
    parts = []
    for number, (_, part) in enumerate(predictions.groupby("repeat")):
        part = part.sort_values("image_id", ignore_index=True)
        scores, truth = _score(part, positive)
        groups = groups_of(part)
        fewest = min((len(set(groups[truth == kind])) for kind in (True, False)), default=0)
        if fewest < 2:
            raise TooFewImages("A threshold cannot be re-chosen here: it takes two groups with, and two without, a finding.")
        for again in range(n_repeats):
            dealer = StratifiedGroupKFold(min(n_folds, fewest), shuffle=True, random_state=seed * 1000 + again)
            threshold = np.full(len(part), np.nan)
            for rest, held_out in dealer.split(scores, truth, groups):
                threshold[held_out] = choose_threshold(scores[rest], truth[rest], aim=aim)
            parts.append(part.assign(threshold=threshold, repeat=number * n_repeats + again))
    return pd.concat(parts, ignore_index=True)


def operating_replicates(
    predictions: pd.DataFrame, threshold: float | None = None, *, positive: str = "Mpox", **resampling: Any
) -> dict[str, Replicates]:
    """The measures of `operating_point` with their replicates, averaged over the repeats, for differences and other formulas."""
    if threshold is None and "threshold" not in predictions:
        raise MpoxError("No threshold: give one, or predictions that went through `carry_thresholds` or `crossfit_thresholds`.")
    _, repeats = matched_repeats(predictions if threshold is None else predictions.assign(threshold=threshold), positive)
    truth = (repeats[0]["label"] == positive).to_numpy(dtype=bool)
    answers = [(part[f"p_{positive}"] >= part["threshold"]).to_numpy(dtype=bool) for part in repeats]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        actual, total = weights @ truth, weights.sum(axis=1)
        found = [rates(weights @ (truth & called), actual, weights @ called, total) for called in answers]
        return {name: np.mean([one[name] for one in found], axis=0) for name in OPERATING}

    return bootstrap(statistic, groups_of(repeats[0]), among=denominators(truth, np.stack(answers)), **resampling)


def operating_point(
    predictions: pd.DataFrame, threshold: float | None = None, *, positive: str = "Mpox", **resampling: Any
) -> pd.DataFrame:
    """What a threshold is worth on test images, with 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`; with ``threshold`` where it differs between rows (`carry_thresholds`, `crossfit_thresholds`).
    threshold : float, optional
        One for all rows. How it came about is not in the intervals.
    positive, **resampling
        As in `mpox.evaluate`.

    Returns
    -------
    DataFrame
        ``metric`` (`OPERATING`: sensitivity, specificity, positive and negative predictive value *at the prevalence of these
        images*, and the share of images that are flagged), ``estimate``, ``low``, ``high`` and ``interval``
        (see `mpox.evaluate`); NaN where undefined.
    """
    found = operating_replicates(predictions, threshold, positive=positive, **resampling)
    return pd.DataFrame([{"metric": name, **values.row(), "interval": values.kind} for name, values in found.items()])


def at_prevalence(probability: np.ndarray, before: float, after: float) -> np.ndarray:
    """Probabilities for a place where the finding is more or less common, if it looks the same there (Elkan 2001, theorem 2)."""
    factor = after / (1 - after) * (1 - before) / before
    return probability * factor / (probability * factor + 1 - probability)


def net_benefit(
    is_positive: np.ndarray, probability: np.ndarray, weights: np.ndarray, thresholds: np.ndarray, prevalence: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Net benefit of acting at or above each threshold, and of acting on everyone (Vickers and Elkin 2006), both (b, k)."""
    order = np.argsort(probability, kind="stable")
    first = np.searchsorted(probability[order], thresholds, side="left")
    found = []
    for side in (is_positive, ~is_positive):
        mass = (weights * side)[:, order]
        above = np.pad(np.cumsum(mass[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))[:, first]
        total = mass.sum(axis=1, keepdims=True)
        found.append((ratio(above, total), total))
    (hits, positives), (alarms, negatives) = found
    share = positives / (positives + negatives) if prevalence is None else prevalence
    odds = thresholds / (1 - thresholds)
    everyone = np.broadcast_to(share - (1 - share) * odds, hits.shape)
    return share * hits - (1 - share) * alarms * odds, np.where(np.isnan(hits + alarms), np.nan, everyone)


def decision_curve(
    predictions: pd.DataFrame,
    *,
    positive: str = "Mpox",
    thresholds: np.ndarray | None = None,
    prevalence: float | None = None,
    **resampling: Any,
) -> pd.DataFrame:
    """Decision curves of the model, of acting on everyone and on nobody, with pointwise 95 % bands from resampling groups.

    Parameters
    ----------
    predictions, positive, **resampling
        As in `mpox.evaluate`. Repeats are averaged.
    thresholds : ndarray, shape (k,), optional
        Probabilities at which someone would act, at least 0 and below 1; from 0.01 to 0.99 without it.
    prevalence : float, optional
        Of another place: the probabilities are moved there by `at_prevalence`. They start from 1 / K for K classes, not from the
        share in the sample: models here weigh their classes alike in training, however common they are.

    Returns
    -------
    DataFrame
        ``strategy`` (`MODEL`, `EVERYONE`, `NOBODY`, and `ADVANTAGE`, of which the band is paired), ``threshold``, ``estimate``,
        ``low``, ``high``: net benefit in true positives a person.
    """
    thresholds = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, dtype=float)
    if not ((thresholds >= 0) & (thresholds < 1)).all() or not (prevalence is None or 0 < prevalence < 1):
        raise MpoxError("A decision curve takes thresholds of at least 0 and below 1, and a prevalence between 0 and 1.")
    _, repeats = matched_repeats(predictions, positive)
    is_positive = two_sides(repeats, positive)
    scores = [part[f"p_{positive}"].to_numpy() for part in repeats]
    if prevalence is not None:
        scores = [at_prevalence(score, 1 / len(class_names(predictions)), prevalence) for score in scores]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        curves = [net_benefit(is_positive, score, weights, thresholds, prevalence) for score in scores]
        model, everyone = (np.mean(kind, axis=0) for kind in zip(*curves, strict=True))
        return {MODEL: model, EVERYONE: everyone, NOBODY: np.zeros_like(model), ADVANTAGE: model - np.maximum(everyone, 0)}

    found = bootstrap(statistic, groups_of(repeats[0]), **resampling)
    tables = [pd.DataFrame({"strategy": name, "threshold": thresholds, **values.row()}) for name, values in found.items()]
    return pd.concat(tables, ignore_index=True)


def useful_range(curve: pd.DataFrame) -> tuple[float, float] | None:
    """The widest run of thresholds at which the band of `ADVANTAGE` lies above 0; ``None`` if there is none.

    The band is pointwise: 95 % hold at each threshold by itself, and less than that for the run as a whole.
    """
    part = curve[curve["strategy"] == ADVANTAGE].sort_values("threshold")
    runs = (part["low"] > 0).ne((part["low"] > 0).shift()).cumsum()
    spans = [(run["threshold"].min(), run["threshold"].max()) for _, run in part.groupby(runs) if (run["low"] > 0).all()]
    return max(spans, key=lambda span: span[1] - span[0]) if spans else None


def predictive_values(sensitivity, specificity, prevalence: float) -> dict[str, Any]:
    """What a result means at a prevalence, by Bayes' theorem; sensitivity and specificity are held to be the same everywhere."""
    if not 0 <= prevalence <= 1:
        raise MpoxError(f"A prevalence lies from 0 to 1, not at {prevalence}.")
    hits, missed = prevalence * sensitivity, prevalence * (1 - sensitivity)
    alarms, cleared = (1 - prevalence) * (1 - specificity), (1 - prevalence) * specificity
    flagged = hits + alarms
    with np.errstate(invalid="ignore"):
        ppv, npv = np.divide(hits, flagged), np.divide(cleared, missed + cleared)
    return {"ppv": ppv, "npv": npv, "flagged": flagged, "missed": missed, "false_alarms": alarms}


def predictive_table(replicates: dict[str, Replicates], prevalences: np.ndarray) -> pd.DataFrame:
    """`predictive_values` over prevalences: ``prevalence``, ``measure`` (`MEASURES`), ``estimate``, ``low``, ``high``.

    The ``replicates`` of the sensitivity and the specificity are those of `operating_replicates`.
    """
    sensitivity, specificity = Replicates.of(replicates["sensitivity"]), Replicates.of(replicates["specificity"])
    rows = [
        {"prevalence": float(prevalence), "measure": measure, **values.row()}
        for prevalence in prevalences
        for measure, values in predictive_values(sensitivity, specificity, float(prevalence)).items()
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Costs:
    """What things cost, in one unit: an image of a person; a false alarm (laboratory test, days of waiting); a missed case."""

    picture: float = 1.0
    false_alarm: float = 50.0
    missed: float = 2000.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value >= 0:
                raise MpoxError(f"The cost '{name}' must be at least 0, not {value}.")


def expected_cost(prevalence, sensitivity, specificity, costs: Costs):
    """Expected cost of a person who is screened with the model: image + false alarms + missed cases."""
    alarms = (1 - prevalence) * (1 - specificity)
    return costs.picture + alarms * costs.false_alarm + prevalence * (1 - sensitivity) * costs.missed


def strategy_costs(prevalence: float, sensitivity, specificity, costs: Costs) -> pd.DataFrame:
    """The expected cost of a person under each strategy: ``strategy``, ``estimate``, ``low``, ``high``.

    Sensitivity and specificity are `Replicates`, or arrays with the estimate first. `LABORATORY_FOR_EVERYONE` and `NO_SCREENING`
    owe nothing to the model, so that their limits are the estimate.
    """
    if not 0 <= prevalence <= 1:
        raise MpoxError(f"A prevalence lies from 0 to 1, not at {prevalence}.")
    model = Replicates.of(expected_cost(prevalence, sensitivity, specificity, costs))
    others = {LABORATORY_FOR_EVERYONE: (1 - prevalence) * costs.false_alarm, NO_SCREENING: prevalence * costs.missed}
    rows = [{"strategy": name, "estimate": cost, "low": cost, "high": cost} for name, cost in others.items()]
    return pd.DataFrame([{"strategy": MODEL_FIRST, **model.row()}, *rows])


def worthwhile_prevalences(sensitivity: float, specificity: float, costs: Costs) -> tuple[float, float] | None:
    """Between which prevalences the model is the cheapest of the three strategies; ``None`` if it never is.

    Below the first no screening is cheaper, above the second the laboratory for everyone: where `expected_cost` equals
    prevalence x missed, and (1 - prevalence) x false alarm.
    """
    alarm = (1 - specificity) * costs.false_alarm
    gain, spared = sensitivity * costs.missed + alarm, (1 - sensitivity) * costs.missed + specificity * costs.false_alarm
    if not gain or not spared:
        return None
    low, high = (costs.picture + alarm) / gain, (specificity * costs.false_alarm - costs.picture) / spared
    return (float(low), float(high)) if low < min(high, 1) else None
