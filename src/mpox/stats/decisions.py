"""What acting at a threshold is worth: sensitivity aimed at, decision curves, predictive values, costs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from mpox._core import MpoxError, TooFewImages
from mpox.stats.metrics import N_BOOTSTRAP, group_weights, matched_repeats, weight_by_score
from mpox.stats.resample import TAILS, with_percentiles

KINDS = ("sensitivity", "specificity", "youden")
#: The measures of `operating_point`.
OPERATING = ("sensitivity", "specificity", "ppv", "npv", "flagged")
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

    Raises
    ------
    MpoxError
        If the kind is unknown, or the level is missing or out of range.

    Examples
    --------
    >>> str(Aim("sensitivity", 0.95)), str(Aim("youden"))
    ('sensitivity >= 0.95', 'largest sensitivity + specificity')
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


def choose_threshold(
    scores: np.ndarray, is_positive: np.ndarray, *, aim: Aim = YOUDEN, weights: np.ndarray | None = None
) -> float:
    """The threshold that meets an aim on these images.

    The candidates are the scores themselves, and infinity (nobody is positive), as in `sklearn.metrics.roc_curve`. For a
    sensitivity it is the highest candidate that reaches it, for a specificity the lowest; of several with the largest sum of both
    the lowest, which misses fewer.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Higher means more likely positive; without missing values.
    is_positive : ndarray of bool, shape (n,)
    aim : Aim
    weights : ndarray of float, shape (n,), optional
        How much each image counts, at least 0; 1 by default.

    Returns
    -------
    float
        An image is positive if its score is at least this.

    Raises
    ------
    MpoxError
        If a score is missing, or there is no positive or no negative image (of some weight).

    Examples
    --------
    >>> scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    >>> choose_threshold(scores, truth, aim=Aim("sensitivity", 0.9)), choose_threshold(scores, truth)
    (0.35, 0.35)
    """
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=float)
    return float(_thresholds(np.asarray(scores, dtype=float), np.asarray(is_positive, dtype=bool), aim, weights[None])[0])


def _thresholds(scores: np.ndarray, is_positive: np.ndarray, aim: Aim, weights: np.ndarray) -> np.ndarray:
    """A threshold for each row of weights, shape (b,)."""
    if np.isnan(scores).any():
        raise MpoxError("A threshold needs a score of every image: leave out the images without one.")
    positive, negative = weight_by_score(is_positive, scores, weights) if len(scores) else (np.zeros((1, 0)),) * 2
    if not (positive.sum(axis=1).all() and negative.sum(axis=1).all()):
        raise MpoxError("A threshold needs positive and negative images to be chosen on: there is only one of the two.")
    candidates = np.append(np.unique(scores), np.inf)
    nothing = np.zeros((len(weights), 1))
    # at candidate k all scores from k on are positive
    missed = np.hstack([nothing, np.cumsum(positive, axis=1)]) / positive.sum(axis=1, keepdims=True)
    cleared = np.hstack([nothing, np.cumsum(negative, axis=1)]) / negative.sum(axis=1, keepdims=True)
    sensitivity = 1 - missed
    if aim.level is None:  # youden
        both = sensitivity + cleared
        place = (both >= both.max(axis=1, keepdims=True) - _SLACK).argmax(axis=1)
    elif aim.kind == "sensitivity":
        place = (sensitivity >= aim.level - _SLACK).sum(axis=1) - 1
    else:
        place = (cleared >= aim.level - _SLACK).argmax(axis=1)
    return candidates[place]


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
    aim : Aim
    positive : str

    Returns
    -------
    DataFrame
        ``predictions`` with ``threshold``, one value a repeat and fold.

    Raises
    ------
    MpoxError
        If a fold has no nested predictions, or one of its test images is among them.
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

    The images are dealt to folds, groups kept together and classes even; the threshold of a fold is chosen on the other folds.
    The models are not trained again: this is what a user gets who keeps the model and re-chooses its threshold on labelled
    pictures of their own. The dealing is repeated, since one of them is a matter of luck.

    Parameters
    ----------
    predictions : DataFrame
        Each repeat has the same images, in ``group_id``.
    aim : Aim
    positive : str
    n_folds, n_repeats, seed : int
        Of the dealing. With fewer groups of a class than folds, as many folds as there are.

    Returns
    -------
    DataFrame
        ``predictions`` with ``threshold``, ``n_repeats`` times, with new numbers in ``repeat``.

    Raises
    ------
    TooFewImages
        If a class has fewer than two groups.
    MpoxError
        If the groups are too large for folds that all leave both classes.
    """
    parts = []
    for number, (_, part) in enumerate(predictions.groupby("repeat")):
        part = part.sort_values("image_id", ignore_index=True)
        scores, truth = _score(part, positive)
        groups = part["group_id"].to_numpy(dtype=str)
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
    predictions: pd.DataFrame,
    threshold: float | None = None,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The measures of `operating_point` with their bootstrap replicates, for differences.

    Predictions of the same images in the same groups are resampled alike: their replicates are paired.

    Parameters
    ----------
    predictions, threshold, positive, n_bootstrap, seed
        See `operating_point`.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_bootstrap + 1,)
        Each of `OPERATING` to the estimate, first, and the replicates, averaged over the repeats. NaN where there is nothing to
        divide by.
    """
    if threshold is None and "threshold" not in predictions:
        raise MpoxError("No threshold: give one, or predictions that went through `carry_thresholds` or `crossfit_thresholds`.")
    predictions = predictions if threshold is None else predictions.assign(threshold=threshold)
    _, repeats = matched_repeats(predictions, positive)
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in OPERATING}
    for part in repeats:
        score, truth = _score(part, positive)
        flagged = score >= part["threshold"].to_numpy(dtype=float)
        sums = {
            (kind, called): weights @ ((truth == kind) & (flagged == called)).astype(float)
            for kind in (True, False)
            for called in (True, False)
        }
        hit, missed, alarm, cleared = (sums[key] for key in ((True, True), (True, False), (False, True), (False, False)))
        ratios = {
            "sensitivity": (hit, hit + missed),
            "specificity": (cleared, cleared + alarm),
            "ppv": (hit, hit + alarm),
            "npv": (cleared, cleared + missed),
            "flagged": (hit + alarm, hit + alarm + cleared + missed),
        }
        for name, (above, below) in ratios.items():
            found[name].append(np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def operating_point(
    predictions: pd.DataFrame,
    threshold: float | None = None,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """What a threshold is worth on test images, with 95 % intervals from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`; with ``threshold`` where it differs between rows (`carry_thresholds`, `crossfit_thresholds`).
    threshold : float, optional
        One for all rows.
    positive : str
    n_bootstrap, seed : int
        See `mpox.evaluate`. The threshold is taken for given: how it came about is not in the intervals.

    Returns
    -------
    DataFrame
        ``metric`` (`OPERATING`: sensitivity, specificity, positive and negative predictive value *at the prevalence of these
        images*, and the share of images that are flagged), ``estimate``, ``low``, ``high``; NaN where undefined.

    Raises
    ------
    MpoxError
        If there is no threshold, or the predictions cannot be evaluated.
    """
    found = operating_replicates(predictions, threshold, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    rows = [(name, *with_percentiles(values)) for name, values in found.items()]
    return pd.DataFrame(rows, columns=["metric", "estimate", "low", "high"])


def operating_difference(
    first: pd.DataFrame, second: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """``first`` minus ``second`` in every measure of `operating_point`, paired: both are resampled with the same groups.

    Parameters
    ----------
    first, second : DataFrame
        Predictions with ``threshold``, of the same images in the same groups; the numbers of repeats may differ.
    positive, n_bootstrap, seed
        See `operating_point`.

    Returns
    -------
    DataFrame
        As `operating_point`.

    Raises
    ------
    MpoxError
        If the images or their groups differ.
    """
    known = [table.drop_duplicates("image_id").set_index("image_id")["group_id"].sort_index() for table in (first, second)]
    if not known[0].astype(str).equals(known[1].astype(str)):
        raise MpoxError("A paired difference needs predictions of the same images in the same groups.")
    one, other = (operating_replicates(table, positive=positive, n_bootstrap=n_bootstrap, seed=seed) for table in (first, second))
    rows = [(name, *with_percentiles(one[name] - other[name])) for name in OPERATING]
    return pd.DataFrame(rows, columns=["metric", "estimate", "low", "high"])


MODEL, EVERYONE, NOBODY, ADVANTAGE = "model", "everyone", "nobody", "model minus the better of both"


def at_prevalence(probability: np.ndarray, before: float, after: float) -> np.ndarray:
    """Probabilities for a place where the finding is more or less common, if it looks the same there (Elkan 2001, theorem 2).

    Parameters
    ----------
    probability : ndarray
        From 0 to 1, calibrated where the prevalence is ``before``.
    before, after : float
        Prevalences, between 0 and 1.

    Examples
    --------
    >>> at_prevalence(np.array([0.5]), before=0.5, after=0.01).round(3).tolist()
    [0.01]
    """
    ratio = after / (1 - after) * (1 - before) / before
    return probability * ratio / (probability * ratio + 1 - probability)


def net_benefit(
    is_positive: np.ndarray, probability: np.ndarray, weights: np.ndarray, thresholds: np.ndarray, prevalence: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Net benefit of acting at or above each threshold, and of acting on everyone, for many weightings (Vickers and Elkin 2006).

    The share of true positives, less the share of false positives times the odds of the threshold: with a threshold of 0.1 one
    finding is worth nine false alarms.

    Parameters
    ----------
    is_positive : ndarray of bool, shape (n,)
    probability : ndarray, shape (n,)
    weights : ndarray, shape (b, n)
    thresholds : ndarray, shape (k,)
        At least 0, below 1.
    prevalence : float, optional
        What the finding's share is held to be; without it that of the weighted pictures.

    Returns
    -------
    model, everyone : ndarray, shape (b, k)
        NaN where a weighting has no positive or no negative.
    """
    order = np.argsort(probability, kind="stable")
    first = np.searchsorted(probability[order], thresholds, side="left")
    rates = []
    for side in (is_positive, ~is_positive):
        mass = (weights * side)[:, order]
        above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
        above = np.concatenate([above, np.zeros((len(mass), 1))], axis=1)[:, first]
        total = mass.sum(axis=1, keepdims=True)
        rates.append((np.divide(above, total, out=np.full_like(above, np.nan), where=total > 0), total))
    (hits, positives), (alarms, negatives) = rates
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
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """Decision curves of the model, of acting on everyone and on nobody, with pointwise 95 % bands from resampling groups.

    Parameters
    ----------
    predictions : DataFrame
        See `mpox.evaluate`. Repeats are averaged.
    positive : str
    thresholds : ndarray, shape (k,), optional
        Probabilities at which someone would act; from 0.01 to 0.99 without it.
    prevalence : float, optional
        Of another place: the probabilities are moved there by `at_prevalence`.
    n_bootstrap, seed : int
        See `mpox.evaluate`; 0 leaves the bands out.

    Returns
    -------
    DataFrame
        ``strategy`` (`MODEL`, `EVERYONE`, `NOBODY`, and `ADVANTAGE`, of which the band is paired), ``threshold``, ``estimate``,
        ``low``, ``high``: net benefit in true positives a person.

    Raises
    ------
    MpoxError
        If a threshold or the prevalence is out of range, or there are not pictures of both sides.
    """
    thresholds = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, dtype=float)
    if not ((thresholds >= 0) & (thresholds < 1)).all() or not (prevalence is None or 0 < prevalence < 1):
        raise MpoxError("A decision curve takes thresholds of at least 0 and below 1, and a prevalence between 0 and 1.")
    _, repeats = matched_repeats(predictions, positive)
    is_positive = repeats[0]["label"].to_numpy() == positive
    if is_positive.all() or not is_positive.any():
        raise MpoxError(f"A decision curve needs images of '{positive}' and others: there is only one of the two.")
    weights = group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    curves = []
    for part in repeats:
        probability = part[f"p_{positive}"].to_numpy()
        if prevalence is not None:
            probability = at_prevalence(probability, is_positive.mean(), prevalence)
        curves.append(net_benefit(is_positive, probability, weights, thresholds, prevalence))
    model, everyone = (np.mean(kind, axis=0) for kind in zip(*curves, strict=True))
    found = {MODEL: model, EVERYONE: everyone, NOBODY: np.zeros_like(model), ADVANTAGE: model - np.maximum(everyone, 0)}
    tables = []
    for strategy, values in found.items():
        low, high = np.nanquantile(values[1:], TAILS, axis=0) if n_bootstrap else (np.nan, np.nan)
        tables.append(
            pd.DataFrame({"strategy": strategy, "threshold": thresholds, "estimate": values[0], "low": low, "high": high})
        )
    return pd.concat(tables, ignore_index=True)


def useful_range(curve: pd.DataFrame) -> tuple[float, float] | None:
    """The widest run of thresholds at which the whole band of `ADVANTAGE` lies above 0; ``None`` if there is none."""
    part = curve[curve["strategy"] == ADVANTAGE].sort_values("threshold")
    runs = (part["low"] > 0).ne((part["low"] > 0).shift()).cumsum()
    spans = [(run["threshold"].min(), run["threshold"].max()) for _, run in part.groupby(runs) if (run["low"] > 0).all()]
    return max(spans, key=lambda span: span[1] - span[0]) if spans else None


MEASURES = ("ppv", "npv", "flagged", "missed", "false_alarms")


def predictive_values(sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float) -> dict[str, np.ndarray]:
    """What a result means at a prevalence, by Bayes' theorem; sensitivity and specificity are held to be the same everywhere.

    Parameters
    ----------
    sensitivity, specificity : float or ndarray
        From 0 to 1.
    prevalence : float
        From 0 to 1.

    Returns
    -------
    dict of str to ndarray
        ``ppv`` (of those flagged, the share who have it), ``npv`` (of those not flagged, the share who do not), both NaN where
        there are none; ``flagged``, ``missed``, ``false_alarms``: shares of all who are looked at.

    Raises
    ------
    MpoxError
        If the prevalence is not from 0 to 1.

    Examples
    --------
    A finding in 1 of 100 people, sensitivity 90 %, specificity 91 %: of eleven flagged, ten are false alarms.

    >>> round(float(predictive_values(0.90, 0.91, 0.01)["ppv"]), 3)
    0.092
    """
    if not 0 <= prevalence <= 1:
        raise MpoxError(f"A prevalence lies from 0 to 1, not at {prevalence}.")
    hits, missed = prevalence * np.asarray(sensitivity, float), prevalence * (1 - np.asarray(sensitivity, float))
    alarms, cleared = (1 - prevalence) * (1 - np.asarray(specificity, float)), (1 - prevalence) * np.asarray(specificity, float)
    flagged, calm = hits + alarms, missed + cleared
    with np.errstate(invalid="ignore", divide="ignore"):
        ppv, npv = np.where(flagged > 0, hits / flagged, np.nan), np.where(calm > 0, cleared / calm, np.nan)
    return {"ppv": ppv, "npv": npv, "flagged": flagged, "missed": missed, "false_alarms": alarms}


def predictive_table(replicates: dict[str, np.ndarray], prevalences: np.ndarray) -> pd.DataFrame:
    """`predictive_values` over prevalences, with 95 % intervals.

    Parameters
    ----------
    replicates : dict
        ``sensitivity`` and ``specificity``, each of shape (b + 1,), the estimate first: `operating_replicates`.
    prevalences : ndarray, shape (k,)

    Returns
    -------
    DataFrame
        ``prevalence``, ``measure`` (`MEASURES`), ``estimate``, ``low``, ``high``.
    """
    rows = []
    for prevalence in prevalences:
        found = predictive_values(replicates["sensitivity"], replicates["specificity"], float(prevalence))
        rows += [(float(prevalence), measure, *with_percentiles(found[measure])) for measure in MEASURES]
    return pd.DataFrame(rows, columns=["prevalence", "measure", "estimate", "low", "high"])


MODEL_FIRST, LABORATORY_FOR_EVERYONE, NO_SCREENING = "the model first", "the laboratory for everyone", "no screening"


@dataclass(frozen=True)
class Costs:
    """What things cost, all in the same unit; at least 0.

    Parameters
    ----------
    picture : float
        Taking and judging a picture of one person.
    false_alarm : float
        A person without Mpox who is sent on: the laboratory test, and the days of waiting.
    missed : float
        A person with Mpox who is sent home.
    """

    picture: float = 1.0
    false_alarm: float = 50.0
    missed: float = 2000.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value >= 0:
                raise MpoxError(f"The cost '{name}' must be at least 0, not {value}.")


def expected_cost(prevalence, sensitivity, specificity, costs: Costs):
    """Expected cost of a person who is screened with the model: picture + false alarms + missed cases; numbers or arrays.

    The laboratory test of a person who does have Mpox is not counted: it is needed on every way.

    Examples
    --------
    >>> round(expected_cost(0.01, 0.9, 0.8, Costs(picture=1, false_alarm=50, missed=2000)), 2)
    12.9
    """
    alarms = (1 - prevalence) * (1 - specificity)
    return costs.picture + alarms * costs.false_alarm + prevalence * (1 - sensitivity) * costs.missed


def strategy_costs(prevalence: float, sensitivity: np.ndarray, specificity: np.ndarray, costs: Costs) -> pd.DataFrame:
    """The expected cost of a person under each strategy.

    Parameters
    ----------
    prevalence : float
        From 0 to 1.
    sensitivity, specificity : ndarray, shape (b + 1,)
        The estimate, then replicates (`mpox.stats.decisions.operating_replicates`).
    costs : Costs

    Returns
    -------
    DataFrame
        ``strategy`` (`MODEL`, `EVERYONE`, `NOBODY`), ``estimate``, ``low``, ``high``; the last two strategies owe nothing to the
        model, so that their limits are the estimate.
    """
    if not 0 <= prevalence <= 1:
        raise MpoxError(f"A prevalence lies from 0 to 1, not at {prevalence}.")
    model = with_percentiles(np.asarray(expected_cost(prevalence, sensitivity, specificity, costs)))
    others = {LABORATORY_FOR_EVERYONE: (1 - prevalence) * costs.false_alarm, NO_SCREENING: prevalence * costs.missed}
    rows = [(MODEL_FIRST, *model), *((name, cost, cost, cost) for name, cost in others.items())]
    return pd.DataFrame(rows, columns=["strategy", "estimate", "low", "high"])


def cost_curve(prevalences: np.ndarray, sensitivity: np.ndarray, specificity: np.ndarray, costs: Costs) -> pd.DataFrame:
    """`strategy_costs` over prevalences, with a column ``prevalence``."""
    tables = [strategy_costs(float(x), sensitivity, specificity, costs).assign(prevalence=float(x)) for x in prevalences]
    return pd.concat(tables, ignore_index=True)


def worthwhile_prevalences(sensitivity: float, specificity: float, costs: Costs) -> tuple[float, float] | None:
    """Between which prevalences the model is the cheapest of the three strategies; ``None`` if it never is.

    Below the first no screening is cheaper, above the second the laboratory for everyone: where `expected_cost` equals
    prevalence x missed, and (1 - prevalence) x false alarm.

    Examples
    --------
    >>> low, high = worthwhile_prevalences(0.9, 0.8, Costs(picture=1, false_alarm=50, missed=2000))
    >>> round(low, 4), round(high, 4)
    (0.0061, 0.1625)
    """
    alarm = (1 - specificity) * costs.false_alarm
    gain, spared = sensitivity * costs.missed + alarm, (1 - sensitivity) * costs.missed + specificity * costs.false_alarm
    if not gain or not spared:
        return None
    low, high = (costs.picture + alarm) / gain, (specificity * costs.false_alarm - costs.picture) / spared
    return (float(low), float(high)) if low < min(high, 1) else None
