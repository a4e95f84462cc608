"""Choosing among models inside the training folds, and averaging them."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.stats.metrics import fold_metrics, replicates

NESTED = "nested: lowest loss inside the training part"
BEST_ON_TEST = "on the test folds: best overall"
BEST_PER_FOLD = "on the test folds: best of each fold"


def nested_losses(nested: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The mean log loss of each candidate inside the training part of each outer fold, in nats, unweighted.

    One loss for all that a choice is made between, whatever they are: probes, trained networks, averages of several (`ensemble`).
    Each image is predicted by a model that was fitted without its inner fold and without the outer fold.

    Parameters
    ----------
    nested : dict of str to DataFrame
        Name to predictions from `mpox.runs.cross_validation.predict_nested`.

    Returns
    -------
    DataFrame
        ``candidate``, ``repeat``, ``fold``, ``loss`` (at least 0, lower is better).
    """
    rows = []
    for name, table in nested.items():
        scores = table.filter(regex="^p_")
        truth = scores.to_numpy()[np.arange(len(table)), scores.columns.get_indexer("p_" + table["label"])]
        loss = pd.Series(-np.log(np.maximum(truth, 1e-12)), index=table.index)
        rows.append(loss.groupby([table["repeat"], table["fold"]]).mean().rename("loss").reset_index().assign(candidate=name))
    return pd.concat(rows, ignore_index=True)[["candidate", "repeat", "fold", "loss"]]


def choose_nested(candidates: dict[str, pd.DataFrame], losses: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions of the nested choice: in each repeat and outer fold the candidate with the lowest nested loss.

    Parameters
    ----------
    candidates : dict of str to DataFrame
        Name to predictions, all of the same folds.
    losses : DataFrame
        From `nested_losses`. Where losses are equal, the candidate that comes first in ``candidates`` is chosen.

    Returns
    -------
    predictions : DataFrame
        As the candidates', with ``candidate``.
    choices : DataFrame
        One row a repeat and fold: ``repeat``, ``fold``, ``candidate``, ``loss``, and ``margin``, how much higher the loss of the
        second best is (NaN for one candidate).
    """
    _check_same_folds(candidates)
    table = losses.pivot(index=["repeat", "fold"], columns="candidate", values="loss").reindex(columns=list(candidates))
    first = next(iter(candidates.values()))
    folds = pd.MultiIndex.from_frame(first[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"]))
    table = table.reindex(folds)
    if table.isna().any(axis=None):
        raise MpoxError("Some candidates have no loss in some folds: take it from `nested_losses` of the same ones.")
    ranked = np.sort(table.to_numpy(), axis=1)
    choices = table.idxmin(axis=1).rename("candidate").reset_index()
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
    losses: pd.DataFrame,
    metric: str,
    label: str,
    *,
    positive: str = "Mpox",
    **resampling: Any,
) -> pd.DataFrame:
    """What choosing on the test folds adds to a metric, against the nested choice.

    Parameters
    ----------
    candidates, losses
        See `choose_nested`.
    metric, label, positive, **resampling
        As in `mpox.evaluate`; more is better. The choices on the test folds are made by this metric.

    Returns
    -------
    DataFrame
        One row a rule (`NESTED`, `BEST_ON_TEST`, `BEST_PER_FOLD`): ``rule``, ``chosen`` (the candidates, most often chosen first,
        with the number of folds), ``estimate``, ``low``, ``high``, and the paired difference to the nested choice ``optimism``,
        ``optimism_low``, ``optimism_high``. The intervals resample groups with the choices as they were made. The metric of all
        predictions is shown: for a metric that is no mean over images, such as AUROC, the best of each fold need not be best
        together. The difference of the best overall holds two things: the flattery, and what the nested choice lost (or won) by
        choosing fold by fold, by a loss and from less data.
    """
    key, folds = (metric, label), ["repeat", "fold"]
    nested, choices = choose_nested(candidates, losses)
    tables = {name: fold_metrics(table, [key], positive=positive) for name, table in candidates.items()}
    scores = pd.concat([table.set_index(folds)["estimate"].rename(name) for name, table in tables.items()], axis=1)
    if scores.isna().any(axis=None):
        raise MpoxError(f"The metric '{metric}' of '{label}' is not defined in every fold: choose by another one.")
    draw = partial(replicates, keys=[key], positive=positive)
    pooled = {name: draw(table, n_bootstrap=0)[key].estimate for name, table in candidates.items()}
    chosen = {
        NESTED: choices,
        BEST_ON_TEST: choices[folds].assign(candidate=max(pooled, key=pooled.__getitem__)),
        BEST_PER_FOLD: scores.idxmax(axis=1).rename("candidate").reset_index(),
    }
    reference = draw(nested, **resampling)[key]
    rows = []
    for rule, choice in chosen.items():
        values = draw(_gather(candidates, choice), **resampling)[key]
        counts = choice["candidate"].value_counts()
        text = ", ".join(f"{name} ({count})" for name, count in counts.items())
        change = dict(zip(("optimism", "optimism_low", "optimism_high"), (values - reference).row().values(), strict=True))
        rows.append({"rule": rule, "chosen": text, **values.row(), **change})
    return pd.DataFrame(rows)


_KEYS = ["repeat", "fold", "image_id"]
_SHARED = ["dataset", "protocol", "group_id", "label"]
_JOINED = ["run_id", "regime", "backbone"]
JOINT = " + "


def ensemble(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The mean of several models' class probabilities, image by image.

    The arithmetic mean, every model counting alike: the sum rule of Kittler et al. (1998), which is the least sensitive of the
    fixed rules to one model that is wrong and sure of it; a geometric mean would let that one decide.

    Parameters
    ----------
    tables : list of DataFrame
        From `mpox.cross_validate`, at least two, of the same images in the same repeats and folds.

    Returns
    -------
    DataFrame
        As one of the tables, in the first one's order. ``run_id``, ``regime`` and ``backbone`` join the models' own with `JOINT`,
        each named once.
    """
    if len(tables) < 2:
        raise MpoxError("An ensemble needs the predictions of at least two models.")
    first = tables[0].reset_index(drop=True)
    columns = [column for column in first if column.startswith("p_")]
    joined = {name: [first[name]] for name in _JOINED}
    total = first[columns].copy()
    for number, table in enumerate(tables[1:], start=2):
        if sorted(column for column in table if column.startswith("p_")) != sorted(columns):
            raise _other(number, "classes")
        if table.duplicated(_KEYS).any() or len(table) != len(first):
            raise _other(number, "images, repeats or folds")
        found = first[_KEYS].merge(table, on=_KEYS, how="left", validate="1:1", indicator=True)
        if (found["_merge"] != "both").any():
            raise _other(number, "images, repeats or folds")
        differs = [name for name in _SHARED if not found[name].equals(first[name])]
        if differs:
            raise _other(number, " and ".join(differs))
        total += found[columns]
        for name in _JOINED:
            joined[name].append(found[name])
    names = {name: [JOINT.join(dict.fromkeys(values)) for values in zip(*parts, strict=True)] for name, parts in joined.items()}
    return first.assign(**(total / len(tables)), **names)


def _other(number: int, what: str) -> MpoxError:
    return MpoxError(
        f"Table {number} of the ensemble differs from the first in its {what}: average models of one data set under one "
        "protocol, with the same repeats."
    )
