"""Labels that the model's out-of-fold probabilities speak against: confident learning, and how far it can be trusted here.

Confident learning (Northcutt, Jiang and Chuang 2021), by cleanlab: an image is suspected when its probability for another class
reaches that class's threshold, the mean probability of the class among the images that bear its label. A suspicion is not a
finding: the model is wrong more often than the labels are.
"""

import numpy as np
import pandas as pd

from mpox.data.dataset import Dataset
from mpox.models import heads
from mpox.models.config import ModelConfig
from mpox.models.features import features
from mpox.protocols.splits import make_splits
from mpox.stats.metrics import N_BOOTSTRAP, auroc_of_number
from mpox.studies.errors import error_table

#: Raised by one whenever the planted labels of an unchanged specification change.
VERSION = 1
COLUMNS = ["rank", "image_id", "group_id", "label", "suggested", "p_label", "suspected", "in_conflict"]


def label_problems(predictions: pd.DataFrame, conflicts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every image, the least believable label first.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`; probabilities are averaged over the repeats.
    conflicts : DataFrame, optional
        The audit's (``data.audit.conflicts``): pairs of one photograph under two labels.

    Returns
    -------
    DataFrame
        ``rank`` (from 1), ``image_id``, ``group_id``, ``label`` (as given), ``suggested`` (the most probable class),
        ``p_label`` (mean probability of the given label; the order after ``suspected``), ``suspected`` (off the diagonal of the
        confident joint, method 2 of Northcutt et al., table 2), ``in_conflict`` (the audit knows it under another label).
    """
    from cleanlab.filter import find_label_issues

    errors = error_table(predictions)
    columns = [column for column in errors if column.startswith("p_") and column != "p_true"]
    classes = [column.removeprefix("p_") for column in columns]
    suspected = find_label_issues(
        labels=pd.Categorical(errors["label"], categories=classes).codes.astype(int),
        pred_probs=errors[columns].to_numpy(),
        filter_by="confident_learning",
        n_jobs=1,
    )
    ends = ["image_id_a", "image_id_b"]
    known = [] if conflicts is None else conflicts.loc[conflicts["kind"] == "label", ends].to_numpy().ravel()
    table = errors.rename(columns={"predicted": "suggested", "p_true": "p_label"})
    table = table.assign(suspected=suspected, in_conflict=table["image_id"].isin(known))
    table = table.sort_values(["suspected", "p_label", "image_id"], ascending=[False, True, True], ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[COLUMNS]


def suspicion_by(problems: pd.DataFrame, truth: pd.Series, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> dict[str, float]:
    """How well `label_problems` agree with ``truth`` (by ``image_id``: whether the label is known to be wrong).

    ``images``, ``wrong`` (how many are known to be wrong), ``suspected``, ``found`` (both), ``recall`` and ``precision`` (0 to 1;
    NaN where nothing is wrong, or suspected), ``auroc`` of ``p_label`` for the wrong ones with ``low`` and ``high``.
    """
    wrong = problems["image_id"].map(truth).to_numpy(dtype=bool)
    suspected = problems["suspected"].to_numpy(dtype=bool)
    found = int((wrong & suspected).sum())
    area = auroc_of_number(
        -problems["p_label"].to_numpy(), wrong, problems["group_id"].to_numpy(dtype=str), n_bootstrap=n_bootstrap, seed=seed
    )
    return {
        "images": len(problems),
        "wrong": int(wrong.sum()),
        "suspected": int(suspected.sum()),
        "found": found,
        "recall": found / int(wrong.sum()) if wrong.any() else np.nan,
        "precision": found / int(suspected.sum()) if suspected.any() and wrong.any() else np.nan,
        **dict(zip(("auroc", "low", "high"), area, strict=True)),
    }


def plant_wrong_labels(labels: pd.Series, groups: pd.Series, *, share: float, seed: int) -> pd.Series:
    """Labels of which some are wrong by our own hand: a share of the groups (at least one) is given another class at random."""
    rng = np.random.default_rng(seed)
    names = np.unique(groups)
    chosen = rng.choice(names, max(1, round(share * len(names))), replace=False)
    classes = np.unique(labels)
    planted = labels.copy()
    for name in np.sort(chosen):
        inside = groups == name
        others = classes[~np.isin(classes, labels[inside])]
        if len(others):
            planted[inside] = rng.choice(others)
    return planted


def planted_problems(
    data: Dataset, protocol: str, model: ModelConfig, *, share: float = 0.05, n_folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """What `label_problems` says when wrong labels are planted, and the linear probe is trained and tested on them.

    With ``true_label``: the data set's own, taken for right here; where it is not, precision comes out too low.
    """
    manifest = data.manifest
    groups = manifest["image_id"].map(data.groups).set_axis(manifest["image_id"])
    truth = manifest.set_index("image_id")["label"]
    planted = plant_wrong_labels(truth, groups, share=share, seed=seed)
    x = features(manifest, model)
    y = pd.Categorical(planted, categories=data.classes).codes.astype(np.int64)
    split = make_splits(manifest.assign(label=planted.to_numpy()), protocol, n_folds=n_folds, seed=seed)
    parts = []
    for fold, rows in split.groupby("fold"):
        rows = rows.set_index("image_id").reindex(manifest["image_id"])
        train, test = (np.flatnonzero(rows["role"] == role) for role in ("train", "test"))
        inner = rows["inner_fold"].to_numpy()[train].astype(np.int64)
        found, _ = heads.predict_by_probe(
            x[train], y[train], inner, x[test], n_classes=len(data.classes), head=model.head, seed=model.seed
        )
        part = pd.DataFrame(found, columns=[f"p_{label}" for label in data.classes])
        names = manifest["image_id"].to_numpy()[test]
        parts.append(
            part.assign(image_id=names, group_id=groups[names].to_numpy(), label=planted[names].to_numpy(), fold=fold, repeat=0)
        )
    table = label_problems(pd.concat(parts, ignore_index=True))
    return table.assign(true_label=table["image_id"].map(truth))


def check_suspicion(
    data: Dataset, protocol: str, model: ModelConfig, *, share: float = 0.05, n_folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """How many planted wrong labels are suspected: `suspicion_by` of `planted_problems` (same parameters), as one row."""
    problems = planted_problems(data, protocol, model, share=share, n_folds=n_folds, seed=seed)
    wrong = problems.set_index("image_id").eval("label != true_label")
    return pd.DataFrame([suspicion_by(problems, wrong, seed=seed)])
