"""Which pictures a model got wrong, and how sure it was."""

import numpy as np
import pandas as pd


def error_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a picture of the first repeat, the most confident mistakes first.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.cross_validate`.

    Returns
    -------
    DataFrame
        ``image_id``, ``group_id``, ``fold``, ``label``, ``predicted``, ``confidence`` (probability of the predicted class),
        ``p_true`` (probability of the true class), ``wrong``; sorted by ``wrong``, then by ``confidence``, both descending.
    """
    table = predictions[predictions["repeat"] == predictions["repeat"].min()].reset_index(drop=True)
    classes = np.array([column.removeprefix("p_") for column in table.columns if column.startswith("p_")])
    probabilities = table[[f"p_{label}" for label in classes]].to_numpy()
    result = table[["image_id", "group_id", "fold", "label"]].assign(
        predicted=classes[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        p_true=probabilities[np.arange(len(table)), np.searchsorted(classes, table["label"])],
    )
    result["wrong"] = result["label"] != result["predicted"]
    return result.sort_values(["wrong", "confidence", "image_id"], ascending=[False, False, True], ignore_index=True)
