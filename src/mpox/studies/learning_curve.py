"""The learning curve: how good is a model with fewer groups of images? `mpox.stats.growth` says how many a target would take."""

import numpy as np
import pandas as pd

from mpox.data.dataset import Dataset
from mpox.models.config import ModelConfig
from mpox.protocols.sizes import FRACTIONS, learning_splits
from mpox.runs.cross_validation import predict_splits
from mpox.runs.recorded import Store
from mpox.stats.metrics import replicates

#: The columns of `curve_table`.
CURVE_COLUMNS = ("fraction", "n_groups", "n_images", "metric", "class", "estimate", "low", "high", "interval")


def learning_curve(
    store: Store, data: Dataset, protocol: str, model: ModelConfig, *, fractions=FRACTIONS, **folds
) -> pd.DataFrame:
    """Predictions of one model trained on each fraction of the groups; parameters and errors as in `learning_splits`.

    As `mpox.cross_validate`, with ``fraction``, and ``n_groups`` and ``n_images`` in the fold's training. ``protocol`` is the one
    that made the folds; runs of fractions below 1 are kept under ``learning_curve``, those at 1 are the cross-validation's.
    """
    tables = []
    for fraction, split in learning_splits(data.manifest, protocol, fractions=fractions, **folds).items():
        name = protocol if fraction == 1 else "learning_curve"
        table = predict_splits(store, data, name, split, model).assign(protocol=protocol, fraction=fraction)
        train = split[split["role"] == "train"].groupby(["repeat", "fold"])
        sizes = train.agg(n_groups=("group_id", "nunique"), n_images=("image_id", "size")).reset_index()
        tables.append(table.merge(sizes, on=["repeat", "fold"], validate="m:1"))
    return pd.concat(tables, ignore_index=True)


def _sizes(predictions: pd.DataFrame) -> pd.DataFrame:
    """Training groups and images at each fraction, smallest first: means over folds and repeats."""
    folds = predictions.drop_duplicates(["fraction", "repeat", "fold"])
    return folds.groupby("fraction")[["n_groups", "n_images"]].mean()


def curve_table(predictions: pd.DataFrame, **options) -> pd.DataFrame:
    """Every metric of `learning_curve` at each fraction, with 95 % intervals; parameters as in `evaluate`.

    ``fraction``, ``n_groups`` and ``n_images`` (in training, means), and the columns of `mpox.evaluate`. The same groups are
    resampled at each fraction. Which groups a fraction kept is not in the intervals.
    """
    rows = []
    for fraction, size in _sizes(predictions).iterrows():
        for key, values in replicates(predictions[predictions["fraction"] == fraction], **options).items():
            rows.append((fraction, size["n_groups"], size["n_images"], *key, *values.row().values(), values.kind))
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def curve_replicates(
    predictions: pd.DataFrame, metric: str, label: str, *, n_bootstrap: int = 200, **options
) -> tuple[np.ndarray, np.ndarray]:
    """One metric's curve for `mpox.stats.growth.needed_groups`, paired across the fractions; parameters as in `evaluate`.

    Training groups at each fraction, shape (k,), and the estimates, first, with the replicates, shape (n_bootstrap + 1, k).
    """
    sizes, key = _sizes(predictions), (metric, label)
    parts = [predictions[predictions["fraction"] == fraction] for fraction in sizes.index]
    curve = [replicates(part, [key], n_bootstrap=n_bootstrap, **options)[key] for part in parts]
    return sizes["n_groups"].to_numpy(), np.stack(curve, axis=1)
