"""A search for slices in which a model errs more: all conditions and pairs of conditions, one test for all that was looked at.

After Slice Finder (Chung et al. 2019) and SliceLine (Sagadeeva and Boehm 2021): conjunctions over binned metadata with a minimal
support. Here support is counted in groups, and the correction is exact for the search: a permutation of whole groups' errors is
searched just as thoroughly as the real ones, and a slice counts as found when its score beats the best of nearly all permutations
(the single-step max-T procedure of Westfall and Young 1993).
"""

from itertools import combinations

import numpy as np
import pandas as pd

from mpox.errors import MpoxError
from mpox.metrics import N_BOOTSTRAP
from mpox.slices import MIN_GROUPS, N_BINS, SLICE_COLUMNS, Slices, conditions, make_slices, permute_errors

#: Permutations of the search: fewer than for a single slice, because the maximum over all slices is compared.
N_SEARCHES = 1999
FOUND_COLUMNS = [*SLICE_COLUMNS, "conditions", "score", "p_corrected", "examined"]


def find_slices(
    errors: pd.DataFrame,
    metadata: pd.DataFrame,
    *,
    n_bins: int = N_BINS,
    min_groups: int = MIN_GROUPS,
    max_conditions: int = 2,
    n_shown: int = 10,
    n_bootstrap: int = N_BOOTSTRAP,
    n_permutations: int = N_SEARCHES,
    seed: int = 0,
) -> pd.DataFrame:
    """The slices with the clearest excess of errors, however small the excess; ``p_corrected`` says which ones count as found.

    Parameters
    ----------
    errors : DataFrame
        From `mpox.errortable.error_table`.
    metadata, n_bins
        See `mpox.slices.conditions`.
    min_groups : int
        Least number of groups within a slice, and outside.
    max_conditions : {1, 2}
        Conditions that are joined by 'and'; two conditions of one slice are on different columns.
    n_shown : int
        Rows of the result, at most.
    n_bootstrap, n_permutations, seed : int

    Returns
    -------
    DataFrame
        Best first: the columns of `mpox.slices.SLICE_COLUMNS` (``slice`` is ``column: value and column: value``), ``conditions``
        (how many), ``score`` (the difference in units of its standard deviation under permutation), ``p_corrected`` (the share
        of searches, this one included, whose best score is as high), ``examined`` (slices looked at). A pair of conditions
        that scores no higher than one of its conditions alone is not shown, but was examined. The intervals are those of a slice
        that was chosen before; the rate of one that was chosen for being high is too high on average.

    Raises
    ------
    MpoxError
        If ``max_conditions`` is not 1 or 2, or nothing is known of an image.
    """
    if max_conditions not in (1, 2):
        raise MpoxError(f"Slices have one or two conditions, not {max_conditions}: more would leave too few groups in each.")
    slices, parts = _candidates(errors, conditions(metadata, n_bins=n_bins), min_groups, max_conditions)
    if not slices.names:
        return pd.DataFrame(columns=FOUND_COLUMNS)
    seen, permuted = slices.permuted(n_permutations=n_permutations, seed=seed)
    spread = permuted.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(spread > 0, (seen - permuted.mean(axis=0)) / spread, 0.0)
        best = np.where(spread > 0, (permuted - permuted.mean(axis=0)) / spread, 0.0).max(axis=1)
    alone = {part[0]: score[k] for k, part in enumerate(parts) if len(part) == 1}
    worth = np.array([len(part) == 1 or score[k] > max(alone.get(one, -np.inf) for one in part) for k, part in enumerate(parts)])
    order = np.argsort(-score, kind="stable")
    order = order[(worth & (seen > 0))[order]][:n_shown]
    shown = Slices([slices.names[k] for k in order], slices.member[:, order], slices.error, slices.groups)
    return shown.describe(n_bootstrap=n_bootstrap, seed=seed).assign(
        conditions=[len(parts[k]) for k in order],
        score=score[order],
        p_corrected=[(1 + (best >= score[k] - 1e-12).sum()) / (1 + n_permutations) for k in order],
        examined=len(slices.names),
    )


def check_finder(
    errors: pd.DataFrame,
    metadata: pd.DataFrame,
    *,
    inside: float = 0.9,
    outside: float = 0.1,
    n_bins: int = N_BINS,
    min_groups: int = MIN_GROUPS,
    n_permutations: int = 499,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether the finder can be trusted on these pictures: it is given mistakes whose cause is known.

    Parameters
    ----------
    errors, metadata, n_bins, min_groups
        See `find_slices`.
    inside, outside : float
        Chance of a mistake within the planted slice, and elsewhere (0 to 1). The slice is the pair of conditions with a middling
        number of groups.
    n_permutations, seed : int

    Returns
    -------
    DataFrame
        Two rows: ``mistakes`` (``dealt``: the model's own, handed to other groups, so that there is nothing to find;
        ``planted``), ``planted on`` (the slice, or missing), ``first found`` (the slice of the highest score), ``p_corrected``,
        ``examined``. Empty where no pair of conditions has enough groups.
    """
    slices, parts = _candidates(errors, conditions(metadata, n_bins=n_bins), min_groups, 2)
    pairs = np.array([k for k, part in enumerate(parts) if len(part) == 2], dtype=int)
    if not len(pairs):
        return pd.DataFrame(columns=["mistakes", "planted on", "first found", "p_corrected", "examined"])
    k = pairs[np.argsort(slices.n_groups[pairs], kind="stable")[len(pairs) // 2]]
    chance = np.where(slices.member[:, k], inside, outside)
    planted = (np.random.default_rng(seed).random(len(chance)) < chance).astype(float)
    dealt = permute_errors(slices.error, slices.groups, n_permutations=1, seed=seed)[0]
    rows = []
    for kind, name, error in (("dealt", None, dealt), ("planted", slices.names[k], planted)):
        found = find_slices(
            errors.assign(error=error), metadata, n_bins=n_bins, min_groups=min_groups, n_shown=1, n_bootstrap=0,
            n_permutations=n_permutations, seed=seed,
        )  # fmt: skip
        first = found.iloc[0] if len(found) else {"slice": None, "p_corrected": 1.0}
        rows.append((kind, name, first["slice"], first["p_corrected"], len(slices.names)))
    return pd.DataFrame(rows, columns=["mistakes", "planted on", "first found", "p_corrected", "examined"])


def _candidates(
    errors: pd.DataFrame, single: pd.DataFrame, min_groups: int, max_conditions: int
) -> tuple[Slices, list[tuple[int, ...]]]:
    """All slices with enough groups, each set of pictures once (in its simplest words), and the conditions each is made of."""
    names = [f"{column}: {value}" for column, value in single.columns]
    first = make_slices(errors, single, names)
    usable = np.flatnonzero(first.large_enough(min_groups))
    parts: list[tuple[int, ...]] = [(int(k),) for k in usable]
    if max_conditions == 2:
        columns = single.columns.get_level_values(0)
        parts += [(int(a), int(b)) for a, b in combinations(usable, 2) if columns[a] != columns[b]]
    member = np.stack([first.member[:, list(part)].all(axis=1) for part in parts], axis=1) if parts else first.member[:, :0]
    slices = Slices([" and ".join(names[k] for k in part) for part in parts], member, first.error, first.groups)
    known: set[bytes] = set()
    fresh = np.zeros(len(parts), dtype=bool)
    for k in np.flatnonzero(slices.large_enough(min_groups)) if parts else []:
        key = member[:, k].tobytes()
        fresh[k] = key not in known
        known.add(key)
    return slices.keep(fresh), [part for part, new in zip(parts, fresh, strict=True) if new]
