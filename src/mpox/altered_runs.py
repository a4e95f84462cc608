"""What a model makes of altered pictures: trained and tested on them, tested on them only, or trained with altered copies.

The runs are kept under protocols of their own, so that nobody takes them for the model's cross-validation.
"""

import numpy as np
import pandas as pd

from mpox.altered import UNTOUCHED, altered, copies_in_test, copies_in_training, with_copies
from mpox.config import ModelConfig
from mpox.errors import MpoxError
from mpox.experiment import predict_splits
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights, matched_repeats, weighted_auroc
from mpox.recorded import RecordedStore
from mpox.store import Dataset, RunStore

#: Protocols: trained and tested on one alteration; trained on originals and tested on alterations or on corruptions; trained with
#: copies of another tone and tested on originals.
ALTERED, ALTERED_TEST, CORRUPTED, TONE_AUGMENTED = "altered", "altered_test", "corrupted", "tone_augmented"


def train_and_test(
    store: RunStore | RecordedStore, data: Dataset, split: pd.DataFrame, model: ModelConfig, recipe: str
) -> pd.DataFrame:
    """Predictions of altered pictures by models trained on pictures altered alike.

    Parameters
    ----------
    store : RunStore or RecordedStore
    data : Dataset
        The original one.
    split : DataFrame
        Of the original one, from `mpox.splits.make_splits`.
    model : ModelConfig
    recipe : str
        See `mpox.altered`.

    Returns
    -------
    DataFrame
        See `mpox.cross_validate`; with ``recipe``.
    """
    return predict_splits(store, altered(data, recipe), ALTERED, split, model).assign(recipe=recipe)


def only_tested(
    store: RunStore | RecordedStore,
    data: Dataset,
    split: pd.DataFrame,
    model: ModelConfig,
    recipes: list[str],
    *,
    protocol: str = ALTERED_TEST,
) -> pd.DataFrame:
    """Predictions of the untouched and the altered test pictures by models trained on untouched ones; one fit a fold for all.

    Parameters
    ----------
    store, data, split, model
        See `train_and_test`.
    recipes : list of str
    protocol : str
        The name under which the runs are kept.

    Returns
    -------
    DataFrame
        See `mpox.cross_validate`; with ``recipe`` (`mpox.altered.UNTOUCHED` for the pictures as they are), and the original's
        ``image_id`` and ``group_id`` in every row, so that each recipe's rows are predictions of the same images.
    """
    both = with_copies(data, recipes)
    table = predict_splits(store, both, protocol, copies_in_test(split, both.manifest), model)
    about = both.manifest.set_index("image_id")[["recipe", "original_id"]]
    recipe = table["image_id"].map(about["recipe"])
    return table.assign(recipe=recipe, image_id=table["image_id"].map(about["original_id"]))


def train_with_copies(
    store: RunStore | RecordedStore,
    data: Dataset,
    split: pd.DataFrame,
    model: ModelConfig,
    recipes: list[str],
    *,
    protocol: str = TONE_AUGMENTED,
) -> pd.DataFrame:
    """Predictions of untouched pictures by models trained on untouched pictures and an altered copy of each for every recipe.

    Arguments and result as for `only_tested`, without ``recipe``. Copies are in the training part only, in the inner fold of
    their original.
    """
    both = with_copies(data, recipes)
    return predict_splits(store, both, protocol, copies_in_training(split, both.manifest), model)


def recipe_replicates(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """AUROC and accuracy of every recipe, with bootstrap replicates that draw the same groups for all of them.

    Parameters
    ----------
    predictions : DataFrame
        With ``recipe``; every recipe has predictions of the same images.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    dict of str to dict of str to ndarray of float64, shape (n_bootstrap + 1,)
        Recipe to ``auroc`` (of the positive class against the rest) and ``accuracy``: the estimate, then the replicates; averaged
        over the repeats.

    Raises
    ------
    MpoxError
        If the images or their groups differ from recipe to recipe.
    """
    found, weights, images = {}, None, None
    for recipe, table in predictions.groupby("recipe", sort=False):
        classes, repeats = matched_repeats(table, positive)
        identity = repeats[0][["image_id", "group_id"]].to_numpy().tolist()
        if weights is None:
            images, weights = identity, group_weights(repeats[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
        if identity != images:
            raise MpoxError(f"The recipe '{recipe}' has other images or groups than the first one: predict the same images.")
        scores: dict[str, list[np.ndarray]] = {"auroc": [], "accuracy": []}
        for part in repeats:
            truth = part["label"].to_numpy(dtype=str)
            probabilities = part[[f"p_{label}" for label in classes]].to_numpy()
            right = np.array(classes)[probabilities.argmax(axis=1)] == truth
            scores["auroc"].append(weighted_auroc(truth == positive, probabilities[:, classes.index(positive)], weights))
            scores["accuracy"].append(weights @ right / weights.sum(axis=1))
        found[recipe] = {name: np.mean(values, axis=0) for name, values in scores.items()}
    return found


def survival(
    predictions: pd.DataFrame, untouched: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """How much of the AUROC survives each recipe.

    Parameters
    ----------
    predictions : DataFrame
        With ``recipe``.
    untouched : DataFrame
        Of the same images as they are, by the model trained on them as they are.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a recipe, `UNTOUCHED` first: ``recipe``; ``estimate``, ``low``, ``high`` of the AUROC (0 to 1, 0.5 is chance);
        ``change``, ``change_low``, ``change_high``, its paired difference to the untouched pictures; ``survives``,
        ``survives_low``, ``survives_high``: the part of the AUROC above 0.5 that is left (1 all, 0 none; below 0 where the order
        is turned round; NaN where the untouched AUROC is not above 0.5).
    """
    table = predictions[predictions["recipe"] != UNTOUCHED]
    both = pd.concat([untouched.assign(recipe=UNTOUCHED), table], ignore_index=True)
    found = recipe_replicates(both, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    reference = found[UNTOUCHED]["auroc"]
    above = np.where(reference > 0.5, reference - 0.5, np.nan)
    rows = []
    for recipe, scores in found.items():
        area = scores["auroc"]
        rows.append(
            (recipe, *with_percentiles(area), *with_percentiles(area - reference), *with_percentiles((area - 0.5) / above))
        )
    names = [f"{kind}{end}" for kind in ("change", "survives") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["recipe", "estimate", "low", "high", *names])
