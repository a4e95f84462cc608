"""How a model bears corrupted pictures, and whether it keeps its opinion of the same picture mirrored or cropped."""

import numpy as np
import pandas as pd

from mpox.altered import UNTOUCHED
from mpox.altered_runs import recipe_replicates
from mpox.errors import MpoxError
from mpox.intervals import with_percentiles
from mpox.metrics import N_BOOTSTRAP, group_weights, matched_repeats

EVERY = "all families"
MEASURES = ("auroc", "accuracy")


def robustness(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUROC and accuracy at each strength of each family, and averaged over strengths.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.altered_runs.only_tested` with `mpox.altered.corruption_recipes`; other recipes are not looked at.
    positive, n_bootstrap, seed
        See `mpox.evaluate`; the same groups are drawn for every recipe.

    Returns
    -------
    strengths : DataFrame
        ``family``, ``strength`` (0 is untouched), ``metric`` (``auroc``, ``accuracy``), ``estimate``, ``low``, ``high``.
    means : DataFrame
        ``family`` and, last, `EVERY`; ``metric``; ``estimate``, ``low``, ``high`` of the mean over the strengths (the mean over
        the families of it: the complement of the mean corruption error of Hendrycks and Dietterich 2019, without their division
        by a reference network's error), and ``change``, ``change_low``, ``change_high``, its paired difference to untouched.

    Raises
    ------
    MpoxError
        If there is no corruption, or the untouched pictures are missing.
    """
    found = recipe_replicates(predictions, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    families: dict[str, dict[int, str]] = {}
    for recipe in found:
        family, _, strength = recipe.rpartition("-")
        if family and strength.isdecimal():
            families.setdefault(family, {})[int(strength)] = recipe
    if not families or UNTOUCHED not in found:
        raise MpoxError("Robustness needs predictions of untouched and corrupted pictures: see `mpox.altered_runs.only_tested`.")
    strengths, means = [], []
    for metric in MEASURES:
        untouched = found[UNTOUCHED][metric]
        of_family = {}
        for family, recipes in families.items():
            strengths.append((family, 0, metric, *with_percentiles(untouched)))
            curve = [(strength, found[recipe][metric]) for strength, recipe in sorted(recipes.items())]
            strengths += [(family, strength, metric, *with_percentiles(values)) for strength, values in curve]
            of_family[family] = np.mean([values for _, values in curve], axis=0)
        of_family[EVERY] = np.mean(list(of_family.values()), axis=0)
        means += [
            (family, metric, *with_percentiles(values), *with_percentiles(values - untouched))
            for family, values in of_family.items()
        ]
    columns = ["family", "strength", "metric", "estimate", "low", "high"]
    changes = ["change", "change_low", "change_high"]
    return pd.DataFrame(strengths, columns=columns), pd.DataFrame(means, columns=["family", *columns[2:], *changes])


def consistency(
    predictions: pd.DataFrame, recipes: list[str], *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """How often the predicted class changes when the same picture is shown otherwise, and by how much the probability does.

    Parameters
    ----------
    predictions : DataFrame
        With ``recipe``, the untouched pictures among them.
    recipes : list of str
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        One row a recipe: ``recipe``; ``changed``, ``changed_low``, ``changed_high`` (share of pictures whose most probable class
        changes, 0 to 1); ``moved``, ``moved_low``, ``moved_high`` (mean absolute change of the positive class's probability).
    """
    classes, before = matched_repeats(predictions[predictions["recipe"] == UNTOUCHED], positive)
    columns = [f"p_{label}" for label in classes]
    weights = group_weights(before[0]["group_id"].to_numpy(dtype=str), n_bootstrap, seed)
    rows = []
    for recipe in recipes:
        _, after = matched_repeats(predictions[predictions["recipe"] == recipe], positive)
        changed, moved = [], []
        for first, second in zip(before, after, strict=True):
            one, other = first[columns].to_numpy(), second[columns].to_numpy()
            changed.append(weights @ (one.argmax(axis=1) != other.argmax(axis=1)) / weights.sum(axis=1))
            moved.append(weights @ np.abs(one - other)[:, classes.index(positive)] / weights.sum(axis=1))
        values = [with_percentiles(np.mean(part, axis=0)) for part in (changed, moved)]
        rows.append((recipe, *values[0], *values[1]))
    names = [f"{kind}{end}" for kind in ("changed", "moved") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["recipe", *names])
