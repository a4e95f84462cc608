"""The leak-dose experiment: one model, the same test images, more and more of their siblings in training.

`mpox.protocols.doses` has the design. Only test images that have a sibling in the random split can profit. Their accuracy, beside
that of the others, is the mechanism.
"""

import numpy as np
import pandas as pd

from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.doses import DOSES, check_doses, dose_splits
from mpox.protocols.splits import has_sibling
from mpox.runs.cross_validation import predict_splits
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.metrics import groups_of, replicates
from mpox.stats.resample import N_BOOTSTRAP, Replicates, bootstrap, ratio

#: The columns of `dose_response`.
DOSE_COLUMNS = (
    "dose", "share", "n_train", "subset", "metric", "class", "estimate", "low", "high", "change", "change_low", "change_high",
)  # fmt: skip
#: What the curve shows: metric and class of `mpox.evaluate`.
MEASURES = (("accuracy", "all"), ("f1", "macro"), ("auroc", None), ("sensitivity", None))


def leak_dose(
    store: RunStore | RecordedStore,
    data: Dataset,
    model: ModelConfig,
    *,
    doses=DOSES,
    n_folds: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Predictions of one model at each dose; parameters and errors as in `mpox.protocols.doses.dose_splits`.

    Returns
    -------
    DataFrame
        As `mpox.cross_validate`, under the protocol ``leak_dose``, with ``dose`` (0 to 1), ``exposed`` (bool: a sibling is in
        training at this dose), ``has_sibling`` (bool: one is in the random split's training) and ``n_train`` (training images).
    """
    doses = check_doses(doses)
    splits = dose_splits(data.manifest, data.groups, doses=[*doses, 1.0], n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    keys = ["repeat", "fold", "image_id"]
    possible = has_sibling(splits[1.0], data.groups).rename(columns={"sibling": "has_sibling"})
    tables = []
    for dose in doses:
        split = splits[dose]
        sizes = split[split["role"] == "train"].groupby(["repeat", "fold"]).size().rename("n_train").reset_index()
        exposed = has_sibling(split, data.groups).rename(columns={"sibling": "exposed"})
        table = predict_splits(store, data, "leak_dose", split, model).assign(dose=dose)
        table = table.merge(exposed, on=keys, validate="1:1").merge(possible, on=keys, validate="1:1")
        tables.append(table.merge(sizes, on=["repeat", "fold"], validate="m:1"))
    return pd.concat(tables, ignore_index=True)


def dose_response(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """The dose-response curve of `leak_dose`, with 95 % intervals from resampling honest groups; parameters as in `evaluate`.

    Returns
    -------
    DataFrame
        One row a dose and measure: ``dose``, ``share`` (of test images with a sibling in training at this dose), ``n_train``
        (mean over the folds), ``subset`` (``all``; for the accuracy also ``with sibling`` and ``without sibling``: by whether the
        random split has one in training), ``metric``, ``class``, ``estimate``, ``low``, ``high``, and ``change``,
        ``change_low``, ``change_high``: the paired difference to the lowest dose. A subset without images has NaN.
    """
    curve = [(metric, label or positive) for metric, label in MEASURES]
    rows, reference = [], None
    for dose, table in predictions.groupby("dose"):
        n_train = float(table.drop_duplicates(["repeat", "fold"])["n_train"].mean())
        scores = replicates(table, keys=curve, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
        values = {("all", *measure): scores[measure] for measure in curve}
        for kind, name in ((True, "with sibling"), (False, "without sibling")):
            values[name, "accuracy", "all"] = _subset_accuracy(table, kind, n_bootstrap=n_bootstrap, seed=seed)
        reference = reference or values
        for key, found in values.items():
            about = (dose, table["exposed"].mean(), n_train)
            rows.append((*about, *key, *found.row().values(), *(found - reference[key]).row().values()))
    return pd.DataFrame(rows, columns=DOSE_COLUMNS)


def _subset_accuracy(table: pd.DataFrame, with_sibling: bool, *, n_bootstrap: int, seed: int) -> Replicates:
    """Accuracy among the test images with, or without, a possible sibling.

    Which images these are changes from repeat to repeat; hits and images are summed over the repeats before they are divided.
    """
    classes = [column for column in table.columns if column.startswith("p_")]
    chosen = np.array([column.removeprefix("p_") for column in classes])[table[classes].to_numpy().argmax(axis=1)]
    inside = table["has_sibling"].to_numpy(dtype=bool) == with_sibling
    counts = table.assign(images=inside.astype(float), hits=(inside & (chosen == table["label"].to_numpy())).astype(float))
    counts = counts.groupby(["image_id", "group_id"], sort=True)[["images", "hits"]].sum().reset_index()
    hits, images = counts["hits"].to_numpy(), counts["images"].to_numpy()
    return bootstrap(
        lambda weights: ratio(weights @ hits, weights @ images), groups_of(counts), n_bootstrap=n_bootstrap, seed=seed
    )
