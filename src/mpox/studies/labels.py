"""Labels that the model's out-of-fold probabilities speak against: confident learning, and how far it can be trusted here.

Confident learning (Northcutt, Jiang and Chuang 2021), by cleanlab: an image is suspected when its probability for another class
reaches that class's threshold, the mean probability of the class among the images that bear its label. A suspicion is not a
finding: the model is wrong more often than the labels are.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from mpox.data.dataset import Dataset
from mpox.models import heads
from mpox.models.config import ModelConfig
from mpox.models.features import features
from mpox.protocols.splits import make_splits
from mpox.runs.cross_validation import fold_parts
from mpox.stats.metrics import auroc_of_number, codes_of, groups_of, probabilities_of
from mpox.studies.errors import error_table

#: Raised by one whenever the planted labels of an unchanged specification change.
VERSION = 1
COLUMNS = ["rank", "image_id", "group_id", "label", "suggested", "p_label", "suspected", "in_conflict"]


def label_problems(predictions: pd.DataFrame, conflicts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every image of a cross-validation, its repeats averaged, the least believable label first.

    ``conflicts`` are the audit's (``data.audit.conflicts``): pairs of one photograph under two labels. ``rank`` (from 1),
    ``image_id``, ``group_id``, ``label`` (as given), ``suggested`` (the most probable class), ``p_label`` (mean probability of
    the given label; the order after ``suspected``), ``suspected`` (off the diagonal of the confident joint, method 2 of Northcutt
    et al., table 2), ``in_conflict`` (the audit knows it under another label).
    """
    from cleanlab.filter import find_label_issues

    errors = error_table(predictions)
    known = errors.drop(columns="p_true")
    asked = {"filter_by": "confident_learning", "n_jobs": 1}
    suspected = find_label_issues(labels=codes_of(known), pred_probs=probabilities_of(known), **asked)
    ends = ["image_id_a", "image_id_b"]
    doubtful = [] if conflicts is None else conflicts.loc[conflicts["kind"] == "label", ends].to_numpy().ravel()
    table = errors.rename(columns={"predicted": "suggested", "p_true": "p_label"})
    table = table.assign(suspected=suspected, in_conflict=table["image_id"].isin(doubtful))
    table = table.sort_values(["suspected", "p_label", "image_id"], ascending=[False, True, True], ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[COLUMNS]


def suspicion_by(problems: pd.DataFrame, truth: pd.Series, **resampling) -> dict[str, float]:
    """How well `label_problems` agree with ``truth`` (by ``image_id``: whether the label is known to be wrong).

    ``images``, ``wrong`` (how many are known to be wrong), ``suspected``, ``found`` (both), ``recall`` and ``precision`` (0 to 1;
    NaN where nothing is wrong, or suspected), ``auroc`` of ``p_label`` for the wrong ones with ``low`` and ``high``.
    """
    wrong = problems["image_id"].map(truth).to_numpy(dtype=bool)
    suspected = problems["suspected"].to_numpy(dtype=bool)
    found, n_wrong, n_suspected = (int(chosen.sum()) for chosen in (wrong & suspected, wrong, suspected))
    auroc, low, high = auroc_of_number(-problems["p_label"].to_numpy(), wrong, groups_of(problems), **resampling)
    recall = found / n_wrong if n_wrong else np.nan
    precision = found / n_suspected if n_suspected and n_wrong else np.nan
    counts = {"images": len(problems), "wrong": n_wrong, "suspected": n_suspected, "found": found}
    return {**counts, "recall": recall, "precision": precision, "auroc": auroc, "low": low, "high": high}


def plant_wrong_labels(labels: pd.Series, groups: pd.Series, *, share: float, seed: int) -> pd.Series:
    """Labels of which some are wrong by our own hand: a share of the groups (at least one) is given another class at random."""
    rng = np.random.default_rng(seed)
    names, classes = np.unique(groups), np.unique(labels)
    planted = labels.copy()
    for name in np.sort(rng.choice(names, max(1, round(share * len(names))), replace=False)):
        others = classes[~np.isin(classes, labels[groups == name])]
        if len(others):
            planted[groups == name] = rng.choice(others)
    return planted


def check_suspicion(
    data: Dataset, protocol: str, model: ModelConfig, *, share: float = 0.05, n_folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """How many wrong labels are suspected when they are planted, and the linear probe is trained and tested on them:
    `suspicion_by` of its `label_problems`, as one row."""
    truth = data.manifest.set_index("image_id")["label"]
    planted = plant_wrong_labels(truth, data.groups[truth.index], share=share, seed=seed)
    wrong = replace(data, manifest=data.manifest.assign(label=planted.to_numpy()))
    x, classes = features(data.manifest, model), data.classes
    parts = []
    for fold, rows in make_splits(wrong.manifest, protocol, n_folds=n_folds, seed=seed).groupby("fold"):
        y, train, test, inner = fold_parts(wrong, rows)
        known = (x[train], y[train], inner[train], x[test])
        found, _ = heads.predict_by_probe(*known, n_classes=len(classes), head=model.head, seed=model.seed)
        part = wrong.manifest.iloc[test][["image_id", "label"]].assign(fold=fold, repeat=0)
        parts.append(part.assign(**dict(zip([f"p_{label}" for label in classes], found.T, strict=True))))
    whole = pd.concat(parts, ignore_index=True)
    problems = label_problems(whole.assign(group_id=whole["image_id"].map(data.groups)))
    return pd.DataFrame([suspicion_by(problems, planted != truth, seed=seed)])
