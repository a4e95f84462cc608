"""The audit of a phantom held against what was planted in it."""

import numpy as np
import pandas as pd

from mpox.audit import Audit
from mpox.audit.accuracy import accuracy_by_kind
from mpox.stats.resample import wilson


def _matrix(transform: str) -> np.ndarray:
    return np.array([*map(float, transform.split()), 0, 0, 1]).reshape(3, 3)


def corner_error(found: str, planted: str, width: int, height: int, *, turned: bool) -> float:
    """Mean distance, in pixels of the copy, between where two maps put the original's four corners.

    `planted` goes from the original to the copy; so does `found`, or the other way round if `turned`.
    """
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], float)
    direct = np.linalg.inv(_matrix(found)) if turned else _matrix(found)
    return float(np.linalg.norm((direct @ corners - _matrix(planted) @ corners)[:2], axis=0).mean())


def corner_errors(audit: Audit, truths: pd.DataFrame) -> pd.Series:
    """The `corner_error` of every accepted pair of a copy and its original, by the copy's image_id."""
    about = truths.set_index("image_id")
    size = audit.images.set_index("image_id")[["width", "height"]]
    errors = {}
    for pair in audit.pairs.itertuples():
        for copy, original in ((pair.image_id_a, pair.image_id_b), (pair.image_id_b, pair.image_id_a)):
            if about.at[copy, "copy_of"] is not pd.NA and about.at[copy, "copy_of"] == original:
                planted, turned = about.at[copy, "copy_transform"], copy == pair.image_id_a
                errors[copy] = corner_error(pair.transform, planted, *size.loc[original], turned=turned)
    return pd.Series(errors, dtype=float)


def judge(audit: Audit, truths: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list]]:
    """Recall, precision and error of the transforms, by kind of copy and over all.

    Parameters
    ----------
    audit : Audit
        Of one phantom alone.
    truths : DataFrame
        From `mpox.data.phantom.read_truths`; no photograph with more than one copy.

    Returns
    -------
    table : DataFrame
        ``kind``, ``copies``, ``found`` and ``recall`` (an accepted pair joins the copy and its original) with Wilson's interval
        ``low``, ``high``; ``in group`` (share of the copies with the original's group_id); ``in doubt`` (copies that were not
        found, but whose pair is reported as weak); ``pairs``, ``right`` and ``precision`` of the accepted pairs with such a
        copy in them; ``error px`` (median `corner_error`) and ``error p90``.
    lists : dict
        ``missed`` copies (with their originals and kinds) and ``wrong`` pairs (with their scores).
    """
    table = accuracy_by_kind(audit.pairs, truths)
    copies = truths[truths["copy_of"].notna()].set_index("image_id")
    group = audit.images.set_index("image_id")["group_id"]
    root = truths["copy_of"].fillna(truths["image_id"]).set_axis(truths["image_id"])
    weak = {frozenset(ends) for ends in zip(audit.weak["image_id_a"], audit.weak["image_id_b"], strict=True)}
    errors = corner_errors(audit, truths).reindex(copies.index)
    more = []
    for row in table.itertuples():
        these = copies if row.kind == "all" else copies[copies["copy_kind"] == row.kind]
        together = [group[copy] == group[original] for copy, original in these["copy_of"].items()]
        missed = these[errors[these.index].isna()]
        more.append(
            {
                "low": wilson(row.found, row.copies)[1] if row.copies else np.nan,
                "high": wilson(row.found, row.copies)[2] if row.copies else np.nan,
                "in group": float(np.mean(together)) if together else np.nan,
                "in doubt": sum(frozenset(ends) in weak for ends in missed["copy_of"].items()),
                "error px": float(errors[these.index].median()),
                "error p90": float(errors[these.index].quantile(0.9)),
            }
        )
    table = table.join(pd.DataFrame(more))
    order = ["kind", "copies", "found", "recall", "low", "high", "in group", "in doubt", "pairs", "right", "precision"]
    missed = copies[errors.isna()].reset_index()[["image_id", "copy_of", "copy_kind"]].to_dict("records")
    is_wrong = (audit.pairs["image_id_a"].map(root) != audit.pairs["image_id_b"].map(root)).to_numpy(dtype=bool)
    wrong = audit.pairs.loc[is_wrong, ["image_id_a", "image_id_b", "score"]].to_dict("records")
    return table[[*order, "error px", "error p90"]], {"missed": missed, "wrong": wrong}
