"""The leak-dose experiments: one model, the same test images, more and more of their siblings, or copies, in training.

`mpox.protocols.doses` has the design. Only test images that have a sibling in the random split can profit. Their accuracy, beside
that of the others, is the mechanism.
"""

import numpy as np
import pandas as pd

from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.doses import DOSES, check_doses, crossing_splits, dose_splits
from mpox.protocols.splits import has_sibling
from mpox.runs.cross_validation import predict_splits
from mpox.runs.recorded import Store
from mpox.stats.metrics import codes_of, groups_of, probabilities_of, replicates
from mpox.stats.resample import Replicates, bootstrap, ratio

#: The columns of `dose_response`.
DOSE_COLUMNS = (
    "dose", "share", "n_train", "subset", "metric", "class", "estimate", "low", "high", "change", "change_low", "change_high",
)  # fmt: skip
#: What the curve shows: metric and class of `mpox.evaluate`.
MEASURES = (("accuracy", "all"), ("f1", "macro"), ("f1_of_means", "macro"), ("auroc", None), ("sensitivity", None))


def leak_dose(store: Store, data: Dataset, model: ModelConfig, *, doses=DOSES, **folds) -> pd.DataFrame:
    """Predictions of one model at each dose; parameters and errors as in `mpox.protocols.doses.dose_splits`.

    Of an augmented data set a dose is the share of the groups whose copies cross folds (`crossing_splits` there) and the protocol
    is ``copies_cross``; of others it is the share whose siblings stay in training, under ``leak_dose``. As `mpox.cross_validate`,
    with ``dose`` (0 to 1), ``exposed`` (bool: a sibling is in training at this dose), ``has_sibling`` (bool: one is in training
    at dose 1) and ``n_train`` (training images).
    """
    doses = check_doses(doses)
    if "view" in data.manifest:
        protocol, splits = "copies_cross", crossing_splits(data.manifest, doses=[*doses, 1.0], **folds)
    else:
        protocol, splits = "leak_dose", dose_splits(data.manifest, data.groups, doses=[*doses, 1.0], **folds)
    keys = ["repeat", "fold", "image_id"]
    possible = has_sibling(splits[1.0], data.groups).rename(columns={"sibling": "has_sibling"})
    tables = []
    for dose in doses:
        split = splits[dose]
        sizes = split[split["role"] == "train"].groupby(["repeat", "fold"]).size().rename("n_train").reset_index()
        exposed = has_sibling(split, data.groups).rename(columns={"sibling": "exposed"})
        table = predict_splits(store, data, protocol, split, model).assign(dose=dose)
        table = table.merge(exposed, on=keys, validate="1:1").merge(possible, on=keys, validate="1:1")
        tables.append(table.merge(sizes, on=["repeat", "fold"], validate="m:1"))
    return pd.concat(tables, ignore_index=True)


def dose_response(predictions: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """The dose-response curve of `leak_dose`, with 95 % intervals from resampling honest groups; parameters as in `evaluate`.

    One row a dose and measure: ``dose``, ``share`` (of test images with a sibling in training at this dose), ``n_train`` (mean
    over the folds), ``subset`` (``all``; for the accuracy also ``with sibling`` and ``without sibling``: by whether the random
    split has one in training), ``metric``, ``class``, ``estimate``, ``low``, ``high``, and ``change``, ``change_low``,
    ``change_high``: the paired difference to the lowest dose. A subset without images has NaN.
    """
    curve = [(metric, label or positive) for metric, label in MEASURES]
    rows, reference = [], None
    for dose, table in predictions.groupby("dose"):
        about = (dose, table["exposed"].mean(), float(table.drop_duplicates(["repeat", "fold"])["n_train"].mean()))
        scores = replicates(table, keys=curve, positive=positive, **resampling)
        values = {("all", *measure): scores[measure] for measure in curve}
        for kind, name in ((True, "with sibling"), (False, "without sibling")):
            values[name, "accuracy", "all"] = _subset_accuracy(table, kind, **resampling)
        reference = reference or values
        for key, found in values.items():
            rows.append((*about, *key, *found.row().values(), *(found - reference[key]).row().values()))
    return pd.DataFrame(rows, columns=DOSE_COLUMNS)


def needed_share(
    predictions: pd.DataFrame, metric: str, label: str, value: float, *, positive: str = "Mpox", **resampling
) -> tuple[float, float, float]:
    """Which share of test images with a sibling (or copy) in training gives a value of a measure: estimate, low, high (95 %).

    ``predictions`` are of `leak_dose`. The curve over the doses is taken for rising and, between them, for straight; 0 where it
    begins above the value, infinite where it ends below.
    """
    shares, curve = [], []
    for _, table in predictions.groupby("dose"):
        shares.append(table["exposed"].mean())
        curve.append(replicates(table, keys=[(metric, label)], positive=positive, **resampling)[metric, label])
    rising = np.maximum.accumulate(np.column_stack([np.r_[found.estimate, found.draws] for found in curve]), axis=1)
    estimate, *draws = (float(np.interp(value, row, shares, left=0.0, right=np.inf)) for row in rising)
    ordered = np.sort(draws)  # no arithmetic, because draws may be infinite
    low, high = ordered[[round(0.025 * (len(draws) - 1)), round(0.975 * (len(draws) - 1))]]
    return estimate, float(low), float(high)


def _subset_accuracy(table: pd.DataFrame, with_sibling: bool, **resampling) -> Replicates:
    """Accuracy among the test images with, or without, a possible sibling."""
    inside = table["has_sibling"].to_numpy(dtype=bool) == with_sibling
    right = inside & (probabilities_of(table).argmax(axis=1) == codes_of(table))
    counts = table.assign(images=inside.astype(float), hits=right.astype(float))
    counts = counts.groupby(["image_id", "group_id"], sort=True)[["images", "hits"]].sum().reset_index()
    hits, images = counts["hits"].to_numpy(), counts["images"].to_numpy()
    return bootstrap(lambda weights: ratio(weights @ hits, weights @ images), groups_of(counts), among=images > 0, **resampling)
