"""For whom a model is worse: slices named beforehand, and slices that are searched for."""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from mpox._core import MpoxError
from mpox.stats.metrics import N_BOOTSTRAP, group_weights
from mpox.stats.resample import with_percentiles

N_PERMUTATIONS = 4999
#: Parts of about equal size into which a number is cut.
N_BINS = 4
#: Groups that a slice, and what lies outside it, must have.
MIN_GROUPS = 8
CORRECTIONS = {"holm": "holm", "benjamini-hochberg": "fdr_bh"}
NO_ANGLE = "no angle"
SLICE_COLUMNS = [
    "slice", "n_images", "n_groups", "error_rate", "low", "high", "rest", "difference", "difference_low", "difference_high",
]  # fmt: skip


def conditions(metadata: pd.DataFrame, *, n_bins: int = N_BINS) -> pd.DataFrame:
    """What can be said of a picture in one condition: a class, a skin tone, the darkest quarter.

    Parameters
    ----------
    metadata : DataFrame
        One row a picture, indexed by ``image_id``. Numbers are cut at their quantiles, unless they have no more than ``n_bins``
        values; everything else is taken value by value, in the order of the values or of a categorical's
        categories. A picture whose value is missing meets no condition of that column.
    n_bins : int
        At least 2.

    Returns
    -------
    DataFrame of bool
        Same index; columns are a MultiIndex of ``column`` and ``value``. A column with a single value gives no condition.

    Examples
    --------
    >>> list(conditions(pd.DataFrame({"light": [1.0, 2, 3, 4], "text": [True, False, False, False]}), n_bins=2))
    [('light', '1 to 2.5'), ('light', '2.5 to 4'), ('text', 'no'), ('text', 'yes')]
    """
    found: dict[tuple[str, str], np.ndarray] = {}
    for name in metadata:
        values = metadata[name]
        if pd.api.types.is_numeric_dtype(values) and values.dtype != bool and values.nunique() > n_bins:
            edges = np.unique(np.nanquantile(values.to_numpy(float), np.linspace(0, 1, n_bins + 1)))
            names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
            if len(set(names)) < len(names):
                names = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)]
            if len(names) > 1:
                places = np.clip(np.searchsorted(edges, values.to_numpy(float), side="right") - 1, 0, len(names) - 1)
                found |= {(name, text): (places == k) & values.notna().to_numpy() for k, text in enumerate(names)}
        else:
            present = values.dropna().unique()
            ordered = isinstance(values.dtype, pd.CategoricalDtype)
            kinds = [kind for kind in values.cat.categories if kind in present] if ordered else sorted(present)
            if len(kinds) > 1:
                found |= {(name, _word(kind)): (values == kind).fillna(False).to_numpy(bool) for kind in kinds}
    columns = pd.MultiIndex.from_tuples(found, names=["column", "value"]) if found else pd.MultiIndex.from_arrays([[], []])
    return pd.DataFrame(np.array(list(found.values()), dtype=bool).reshape(len(found), -1).T, metadata.index, columns)


def _word(value) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


@dataclass(frozen=True)
class Slices:
    """Slices of a table of errors, with what is needed to ask many questions of all of them at once.

    Parameters
    ----------
    names : list of str
    member : ndarray of bool, shape (n_images, n_slices)
    error : ndarray of float64, shape (n_images,)
        0 to 1.
    groups : ndarray of int, shape (n_images,)
        Group number of each image.
    """

    names: list[str]
    member: np.ndarray
    error: np.ndarray
    groups: np.ndarray

    @property
    def n_groups(self) -> np.ndarray:
        """How many groups have an image in each slice."""
        return _groups_of(self.member, self.groups)

    def large_enough(self, min_groups: int) -> np.ndarray:
        """Which slices, and their complements, have at least so many groups."""
        return (self.n_groups >= min_groups) & (_groups_of(~self.member, self.groups) >= min_groups)

    def keep(self, which: np.ndarray) -> "Slices":
        """Some of the slices."""
        return Slices([self.names[k] for k in np.flatnonzero(which)], self.member[:, which], self.error, self.groups)

    def differences(self, errors: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Error rate within each slice and in the rest, for many tables of errors or many weightings, both (b, n_slices)."""
        weights = np.ones((1, len(self.error))) if weights is None else weights
        member, weighted = self.member.astype(float), weights * errors
        inside, size = weighted @ member, weights @ member
        total, whole = weighted.sum(axis=1, keepdims=True), weights.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return inside / size, (total - inside) / (whole - size)

    def describe(self, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
        """`SLICE_COLUMNS` of every slice, with intervals from resampling groups."""
        weights = group_weights(self.groups, n_bootstrap, seed)
        rates, rest = self.differences(self.error, weights)
        rows = [
            (name, int(self.member[:, k].sum()), int(n), *with_percentiles(rates[:, k]), rest[0, k],
             *with_percentiles(rates[:, k] - rest[:, k]))
            for k, (name, n) in enumerate(zip(self.names, self.n_groups, strict=True))
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=SLICE_COLUMNS)

    def permuted(self, *, n_permutations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Differences to the rest as they are, shape (n_slices,), and under permutation, shape (n_permutations, n_slices)."""
        inside, rest = self.differences(self.error[None])
        shuffled = permute_errors(self.error, self.groups, n_permutations=n_permutations, seed=seed)
        inside_permuted, rest_permuted = self.differences(shuffled)
        return (inside - rest)[0], inside_permuted - rest_permuted


def _groups_of(member: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many groups have an image in each column."""
    counts = np.zeros((groups.max() + 1, member.shape[1]))
    np.add.at(counts, groups, member)
    return (counts > 0).sum(axis=0)


def make_slices(errors: pd.DataFrame, member: pd.DataFrame, names: list[str]) -> Slices:
    """Slices of `mpox.studies.errors.error_table`, of a table of conditions that is indexed by ``image_id``.

    Raises
    ------
    MpoxError
        If nothing is known of an image.
    """
    unknown = sorted(set(errors["image_id"]) - set(member.index))
    if unknown:
        raise MpoxError(f"Nothing is known of {len(unknown)} images, {unknown[0]} among them: give metadata of every image.")
    _, groups = np.unique(errors["group_id"].to_numpy(dtype=str), return_inverse=True)
    rows = member.loc[errors["image_id"]].to_numpy(dtype=bool)
    return Slices(names, rows, errors["error"].to_numpy(dtype=float), groups)


def permute_errors(error: np.ndarray, groups: np.ndarray, *, n_permutations: int, seed: int) -> np.ndarray:
    """Errors after whole groups have exchanged them: what would be seen if errors had nothing to do with any slice.

    Every group gets another group's errors. Where both have as many images this is an ordinary permutation of blocks, which keeps
    how alike the errors of a group are. A larger group goes through the donor's errors in turn, a smaller one takes some of them;
    the first makes a large group's errors more alike than they were, which makes the test more cautious, not less.

    Parameters
    ----------
    error : ndarray of float, shape (n,)
    groups : ndarray of int, shape (n,)
    n_permutations, seed : int

    Returns
    -------
    ndarray of float64, shape (n_permutations, n)
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    place = np.empty(len(groups), dtype=np.int64)  # of an image within its group
    place[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    values = error[order]
    donor = rng.random((n_permutations, len(sizes))).argsort(axis=1)[:, groups]
    turn = rng.integers(0, 1 << 30, (n_permutations, len(sizes)))[:, groups]  # where in the donor a group begins
    return values[starts[donor] + (place + turn) % sizes[donor]]


def slice_errors(
    errors: pd.DataFrame,
    metadata: pd.DataFrame,
    *,
    n_bins: int = N_BINS,
    min_groups: int = MIN_GROUPS,
    correction: str = "holm",
    n_bootstrap: int = N_BOOTSTRAP,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """The error rate of every slice of one condition against the rest of the pictures.

    Parameters
    ----------
    errors : DataFrame
        From `mpox.studies.errors.error_table`.
    metadata : DataFrame
        See `conditions`; any column that is known of the pictures.
    n_bins : int
        See `conditions`.
    min_groups : int
        Slices with fewer groups, inside or outside, are left out; they are not tested.
    correction : {"holm", "benjamini-hochberg"}
        For all slices of the table: Holm bounds the chance of any false alarm, Benjamini and Hochberg the share of false alarms.
    n_bootstrap, n_permutations, seed : int

    Returns
    -------
    DataFrame
        ``column``, ``slice`` (its value), ``n_images``, ``n_groups``, ``error_rate`` with ``low`` and ``high``, ``rest`` (error
        rate outside), ``difference`` with ``difference_low`` and ``difference_high``, ``p`` (two-sided, `permute_errors`),
        ``p_corrected``; in the order of the columns of ``metadata``.

    Raises
    ------
    MpoxError
        If the correction is unknown, or nothing is known of an image.
    """
    from statsmodels.stats.multitest import multipletests

    if correction not in CORRECTIONS:
        raise MpoxError(f"There is no correction '{correction}': choose one of {', '.join(CORRECTIONS)}.")
    member = conditions(metadata, n_bins=n_bins)
    slices = make_slices(errors, member, [value for _, value in member.columns])
    enough = slices.large_enough(min_groups)
    slices = slices.keep(enough)
    table = slices.describe(n_bootstrap=n_bootstrap, seed=seed)
    table.insert(0, "column", [column for column, _ in member.columns[enough]])
    if table.empty:
        return table.assign(p=np.nan, p_corrected=np.nan)
    seen, permuted = slices.permuted(n_permutations=n_permutations, seed=seed)
    reached = (np.abs(permuted) >= np.abs(seen) - 1e-12).sum(axis=0)
    table["p"] = (1 + reached) / (1 + n_permutations)
    table["p_corrected"] = multipletests(table["p"], method=CORRECTIONS[correction])[1]
    return table


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
        From `mpox.studies.errors.error_table`.
    metadata, n_bins
        See `mpox.stats.slices.conditions`.
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
        Best first: the columns of `SLICE_COLUMNS` (``slice`` is ``column: value and column: value``), ``conditions``
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
