"""Choosing a configuration: inside the training groups, as it should be, and on the test folds, to see how much that flatters.

A metric that was maximised over configurations on the images it is reported for is too good (Varma and Simon 2006,
doi 10.1186/1471-2105-7-91; Cawley and Talbot 2010, JMLR 11, 2079-2107). In the nested choice each outer fold's configuration is
the one with the lowest loss in that fold's inner validation, which its test images have no part in.
"""

from typing import Any

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, fold_metrics, replicates
from mpox.recorded import RecordedStore
from mpox.store import RunStore

NESTED = "nested: lowest inner validation loss"
BEST_ON_TEST = "on the test folds: best overall"
BEST_PER_FOLD = "on the test folds: best of each fold"


def validation_scores(store: RunStore | RecordedStore, candidates: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The inner validation loss of each run.

    It is the mean log loss of the true class, in nats, unweighted, at the setting or epoch that the run itself chose by it.
    **What it is a mean over differs between regimes.** Probes and nearest neighbours (`mpox.config.FROZEN`): over all inner
    folds, so that every training image is held out once; the best of six or seven settings. Trained networks: over inner fold 0
    alone, a quarter of the training images; the best of all epochs. The latter has more noise and is more flattered by its own
    minimum; and the probe predicts with a model that was fitted again on all training images, the network does not. Losses of
    candidates of one kind are comparable, losses across the two kinds only roughly. A linear probe is fitted with class weights
    and a hidden head without, so that an unweighted loss favours the latter where classes are uneven.

    Parameters
    ----------
    store : RunStore or RecordedStore
        That the predictions came from.
    candidates : dict of str to DataFrame
        Name to predictions from `mpox.cross_validate`.

    Returns
    -------
    DataFrame
        ``candidate``, ``repeat``, ``fold``, ``run_id``, ``loss`` (at least 0, lower is better).

    Raises
    ------
    MpoxError
        If a run is not in the store, or has no validation loss.
    """
    rows = []
    for name, predictions in candidates.items():
        for run in predictions.drop_duplicates("run_id").itertuples():
            history = store.history(run.run_id)
            if "validation_loss" not in history or history["validation_loss"].isna().all():
                raise MpoxError(f"The run {run.run_id} of '{name}' kept no validation loss: leave this candidate out.")
            rows.append((name, run.repeat, run.fold, run.run_id, history["validation_loss"].min()))
    return pd.DataFrame(rows, columns=["candidate", "repeat", "fold", "run_id", "loss"])


def choose_nested(candidates: dict[str, pd.DataFrame], validation: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions of the nested choice: in each repeat and outer fold the candidate with the lowest inner validation loss.

    Parameters
    ----------
    candidates : dict of str to DataFrame
        Name to predictions (see `mpox.cross_validate`), all of the same folds.
    validation : DataFrame
        From `validation_scores`. Where losses are equal, the candidate that comes first in ``candidates`` is chosen.

    Returns
    -------
    predictions : DataFrame
        As the candidates', with ``candidate``.
    choices : DataFrame
        One row a repeat and fold: ``repeat``, ``fold``, ``candidate``, ``loss``, and ``margin``, how much higher the loss of the
        second best is (NaN for one candidate).

    Raises
    ------
    MpoxError
        If the candidates' folds differ, or a loss is missing.
    """
    _check_same_folds(candidates)
    losses = validation.pivot(index=["repeat", "fold"], columns="candidate", values="loss").reindex(columns=list(candidates))
    first = next(iter(candidates.values()))
    folds = pd.MultiIndex.from_frame(first[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"]))
    losses = losses.reindex(folds)
    if losses.isna().any(axis=None):
        raise MpoxError(
            "Some candidates have no validation loss in some folds: take it from `validation_scores` of the same ones."
        )
    ranked = np.sort(losses.to_numpy(), axis=1)
    choices = losses.idxmin(axis=1).rename("candidate").reset_index()
    choices["loss"] = ranked[:, 0]
    choices["margin"] = ranked[:, 1] - ranked[:, 0] if ranked.shape[1] > 1 else np.nan
    return _gather(candidates, choices), choices


def _check_same_folds(candidates: dict[str, pd.DataFrame]) -> None:
    keys = ["repeat", "fold", "image_id"]
    tested = [table[keys].sort_values(keys).to_numpy().tolist() for table in candidates.values()]
    if not tested or any(images != tested[0] for images in tested):
        raise MpoxError("A choice needs candidates tested on the same folds: give the same protocol, folds, repeats and seed.")


def _gather(candidates: dict[str, pd.DataFrame], choices: pd.DataFrame) -> pd.DataFrame:
    named = pd.concat([table.assign(candidate=name) for name, table in candidates.items()], ignore_index=True)
    return named.merge(choices[["repeat", "fold", "candidate"]], on=["repeat", "fold", "candidate"], validate="m:1")


def optimism(
    candidates: dict[str, pd.DataFrame],
    validation: pd.DataFrame,
    metric: str,
    label: str,
    *,
    positive: str = "Mpox",
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = 0,
) -> pd.DataFrame:
    """What choosing on the test folds adds to a metric, against the nested choice.

    Parameters
    ----------
    candidates, validation
        See `choose_nested`.
    metric, label : str
        As in the result of `mpox.evaluate`; more is better. The choices on the test folds are made by it.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a rule (`NESTED`, `BEST_ON_TEST`, `BEST_PER_FOLD`): ``rule``, ``chosen`` (the candidates, most often chosen first,
        with the number of folds), ``estimate``, ``low``, ``high``, and the paired difference to the nested choice ``optimism``,
        ``optimism_low``, ``optimism_high``. The intervals resample groups with the choices as they were made. The metric of all
        predictions is shown: for a metric that is no mean over images, such as AUROC, the best of each fold need not be best
        together. The difference of the best overall holds two things: the flattery, and what the nested choice lost (or won) by
        choosing fold by fold, by a loss and from less data.

    Raises
    ------
    MpoxError
        See `choose_nested`; or there is no such metric, or it is not defined in a fold.
    """
    bootstrap: dict[str, Any] = {"positive": positive, "n_bootstrap": n_bootstrap, "seed": seed}
    nested, choices = choose_nested(candidates, validation)
    keys = ["repeat", "fold"]
    scores = pd.concat([_fold_scores(table, metric, label, positive).rename(name) for name, table in candidates.items()], axis=1)
    pooled = {name: replicates(table, positive=positive, n_bootstrap=0)[metric, label][0] for name, table in candidates.items()}
    chosen = {
        NESTED: choices,
        BEST_ON_TEST: choices[keys].assign(candidate=max(pooled, key=lambda name: pooled[name])),
        BEST_PER_FOLD: scores.idxmax(axis=1).rename("candidate").reset_index(),
    }
    reference = replicates(nested, **bootstrap)[metric, label]
    rows = []
    for rule, choice in chosen.items():
        values = replicates(_gather(candidates, choice), **bootstrap)[metric, label]
        counts = choice["candidate"].value_counts()
        text = ", ".join(f"{name} ({count})" for name, count in counts.items())
        rows.append((rule, text, *with_percentiles(values), *with_percentiles(values - reference)))
    columns = ["rule", "chosen", "estimate", "low", "high", "optimism", "optimism_low", "optimism_high"]
    return pd.DataFrame(rows, columns=columns)


def _fold_scores(predictions: pd.DataFrame, metric: str, label: str, positive: str) -> pd.Series:
    table = fold_metrics(predictions, positive=positive)
    table = table[(table["metric"] == metric) & (table["class"] == label)]
    if table.empty or table["estimate"].isna().any():
        raise MpoxError(f"There is no metric '{metric}' of '{label}' in every fold: see the result of `evaluate`.")
    return table.set_index(["repeat", "fold"])["estimate"]
