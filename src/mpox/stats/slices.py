"""For whom a model is worse: slices named beforehand, and slices that are searched for."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from mpox._core import MpoxError
from mpox.stats.metrics import groups_of
from mpox.stats.resample import N_BOOTSTRAP, bootstrap

N_PERMUTATIONS = 4999
#: Permutations of the search: fewer than for a single slice, because the maximum over all slices is compared.
N_SEARCHES = 1999
#: Parts of about equal size into which a number is cut.
N_BINS = 4
#: Groups that a slice, and what lies outside it, must have.
MIN_GROUPS = 8
CORRECTIONS = {"holm": "holm", "benjamini-hochberg": "fdr_bh"}
NO_ANGLE = "no angle"
SLICE_COLUMNS = [
    "slice", "n_images", "n_groups", "error_rate", "low", "high", "rest", "difference", "difference_low", "difference_high",
]  # fmt: skip
FOUND_COLUMNS = [*SLICE_COLUMNS, "conditions", "score", "p_corrected", "examined"]
CHECK_COLUMNS = ["mistakes", "planted on", "first found", "p_corrected", "examined"]


def conditions(metadata: pd.DataFrame, *, n_bins: int = N_BINS) -> pd.DataFrame:
    """What can be said of an image in one condition: a class, a skin tone, the darkest quarter.

    Parameters
    ----------
    metadata : DataFrame
        One row an image, indexed by ``image_id``. Numbers are cut at their quantiles, unless they have no more than ``n_bins``
        values; everything else is taken value by value. An image whose value is missing meets no condition of that column.
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
    for name, values in metadata.items():
        if pd.api.types.is_numeric_dtype(values) and values.dtype != bool and values.nunique() > n_bins:
            numbers = values.to_numpy(float)
            edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, n_bins + 1)))
            texts = [[f"{low:.{digits}g} to {high:.{digits}g}" for low, high in pairwise(edges)] for digits in (3, 6)]
            names = texts[0] if len(set(texts[0])) == len(texts[0]) else texts[1]
            places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(names) - 1)
            parts = {text: (places == k) & ~np.isnan(numbers) for k, text in enumerate(names)}
        else:
            present = values.dropna().unique()
            kinds = [kind for kind in values.cat.categories if kind in present] if hasattr(values, "cat") else sorted(present)
            parts = {_word(kind): (values == kind).fillna(False).to_numpy(bool) for kind in kinds}
        if len(parts) > 1:
            found |= {(str(name), text): part for text, part in parts.items()}
    columns = pd.MultiIndex.from_tuples(found, names=["column", "value"]) if found else pd.MultiIndex.from_arrays([[], []])
    return pd.DataFrame(np.array(list(found.values()), dtype=bool).reshape(len(found), -1).T, metadata.index, columns)


def _word(value) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


@dataclass(frozen=True)
class Slices:
    """Slices of a table of errors: ``member`` is bool of shape (n, slices), ``error`` 0 to 1 and ``groups`` int of shape (n,)."""

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
        """Some of the slices, by number."""
        return replace(self, names=[self.names[k] for k in which], member=self.member[:, which])

    def rates(self, errors: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Error rate within each slice and in the rest, for many tables of errors or many weightings, both (b, n_slices)."""
        member, weighted = self.member.astype(float), weights * errors
        inside, size = weighted @ member, weights @ member
        total, whole = weighted.sum(axis=1, keepdims=True), weights.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"inside": inside / size, "rest": (total - inside) / (whole - size)}

    def describe(self, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
        """`SLICE_COLUMNS` of every slice, with intervals from resampling groups."""
        if not self.names:
            return pd.DataFrame(columns=SLICE_COLUMNS)
        among = {"inside": self.member, "rest": ~self.member}
        statistic = partial(self.rates, self.error)
        found = bootstrap(statistic, self.groups, n_bootstrap=n_bootstrap, seed=seed, among=among)
        rate, apart = found["inside"].row(), (found["inside"] - found["rest"]).row()
        columns = (self.names, self.member.sum(axis=0), self.n_groups, *rate.values(), found["rest"].estimate, *apart.values())
        return pd.DataFrame(dict(zip(SLICE_COLUMNS, columns, strict=True)))

    def permuted(self, *, n_permutations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Differences to the rest as they are, shape (n_slices,), and under permutation, shape (n_permutations, n_slices)."""
        shuffled = permute_errors(self.error, self.groups, n_permutations=n_permutations, seed=seed)
        seen, drawn = (self.rates(errors, np.ones((1, len(self.error)))) for errors in (self.error[None], shuffled))
        return (seen["inside"] - seen["rest"])[0], drawn["inside"] - drawn["rest"]


def _groups_of(member: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many groups have an image in each column."""
    counts = np.zeros((groups.max() + 1, member.shape[1]))
    np.add.at(counts, groups, member)
    return (counts > 0).sum(axis=0)


def _make_slices(errors: pd.DataFrame, member: pd.DataFrame, names: list[str]) -> Slices:
    """Slices of `mpox.studies.errors.error_table`, of a table of conditions that is indexed by ``image_id``."""
    unknown = sorted(set(errors["image_id"]) - set(member.index))
    if unknown:
        raise MpoxError(f"Nothing is known of {len(unknown)} images, {unknown[0]} among them: give metadata of every image.")
    _, groups = np.unique(groups_of(errors), return_inverse=True)
    return Slices(names, member.loc[errors["image_id"]].to_numpy(dtype=bool), errors["error"].to_numpy(dtype=float), groups)


def permute_errors(error: np.ndarray, groups: np.ndarray, *, n_permutations: int, seed: int) -> np.ndarray:
    """Errors after whole groups have exchanged them, (n_permutations, n): as if errors had nothing to do with any slice."""
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
    """The error rate of every slice of one condition against the rest of the images.

    Parameters
    ----------
    errors : DataFrame
        From `mpox.studies.errors.error_table`.
    metadata, n_bins
        See `conditions`; any column that is known of the images.
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
    """
    if correction not in CORRECTIONS:
        raise MpoxError(f"There is no correction '{correction}': choose one of {', '.join(CORRECTIONS)}.")
    member = conditions(metadata, n_bins=n_bins)
    slices = _make_slices(errors, member, [value for _, value in member.columns])
    enough = np.flatnonzero(slices.large_enough(min_groups))
    slices = slices.keep(enough)
    table = slices.describe(n_bootstrap=n_bootstrap, seed=seed)
    table.insert(0, "column", member.columns.get_level_values(0)[enough])
    if table.empty:
        return table.assign(p=np.nan, p_corrected=np.nan)
    seen, permuted = slices.permuted(n_permutations=n_permutations, seed=seed)
    table["p"] = (1 + (np.abs(permuted) >= np.abs(seen) - 1e-12).sum(axis=0)) / (1 + n_permutations)
    table["p_corrected"] = multipletests(table["p"], method=CORRECTIONS[correction])[1]
    return table


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
    errors, metadata, n_bins, min_groups, n_bootstrap, n_permutations, seed
        See `slice_errors`.
    max_conditions : {1, 2}
        Conditions that are joined by 'and'; two conditions of one slice are on different columns.
    n_shown : int
        Rows of the result, at most.

    Returns
    -------
    DataFrame
        Best first: the columns of `SLICE_COLUMNS` (``slice`` is ``column: value and column: value``), ``conditions``
        (how many), ``score`` (the difference in units of its standard deviation under permutation), ``p_corrected`` (the share
        of searches, this one included, whose best score is as high), ``examined`` (slices looked at). A pair of conditions
        that scores no higher than one of its conditions alone is not shown, but was examined. The intervals are those of a slice
        that was chosen before; the rate of one that was chosen for being high is too high on average.
    """
    if max_conditions not in (1, 2):
        raise MpoxError(f"Slices have one or two conditions, not {max_conditions}: more would leave too few groups in each.")
    slices, parts = _candidates(errors, conditions(metadata, n_bins=n_bins), min_groups, max_conditions)
    if not slices.names:
        return pd.DataFrame(columns=FOUND_COLUMNS)
    seen, permuted = slices.permuted(n_permutations=n_permutations, seed=seed)
    middle, spread = permuted.mean(axis=0), permuted.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(spread > 0, (seen - middle) / spread, 0.0)
        best = np.where(spread > 0, (permuted - middle) / spread, 0.0).max(axis=1)
    alone = {part[0]: score[k] for k, part in enumerate(parts) if len(part) == 1}
    worth = np.array([len(part) == 1 or score[k] > max(alone.get(one, -np.inf) for one in part) for k, part in enumerate(parts)])
    order = np.argsort(-score, kind="stable")
    order = order[(worth & (seen > 0))[order]][:n_shown]
    return slices.keep(order).describe(n_bootstrap=n_bootstrap, seed=seed).assign(
        conditions=[len(parts[k]) for k in order],
        score=score[order],
        p_corrected=[(1 + (best >= score[k] - 1e-12).sum()) / (1 + n_permutations) for k in order],
        examined=len(slices.names),
    )  # fmt: skip


def check_finder(
    errors: pd.DataFrame,
    metadata: pd.DataFrame,
    *,
    n_bins: int = N_BINS,
    min_groups: int = MIN_GROUPS,
    n_permutations: int = 499,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether the finder can be trusted on these images: it is given mistakes whose cause is known.

    Parameters
    ----------
    errors, metadata, n_bins, min_groups, n_permutations, seed
        See `find_slices`. A mistake is planted on nine in ten images of the pair of conditions with a middling number of groups,
        and on one in ten elsewhere.

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
        return pd.DataFrame(columns=CHECK_COLUMNS)
    k = pairs[np.argsort(slices.n_groups[pairs], kind="stable")[len(pairs) // 2]]
    planted = np.random.default_rng(seed).random(len(slices.error)) < np.where(slices.member[:, k], 0.9, 0.1)
    dealt = permute_errors(slices.error, slices.groups, n_permutations=1, seed=seed)[0]
    options = {"n_bins": n_bins, "min_groups": min_groups, "n_permutations": n_permutations, "seed": seed}
    rows = []
    for kind, name, error in (("dealt", None, dealt), ("planted", slices.names[k], planted.astype(float))):
        found = find_slices(errors.assign(error=error), metadata, n_shown=1, n_bootstrap=0, **options)
        first = found.iloc[0] if len(found) else {"slice": None, "p_corrected": 1.0}
        rows.append((kind, name, first["slice"], first["p_corrected"], len(slices.names)))
    return pd.DataFrame(rows, columns=CHECK_COLUMNS)


def _candidates(
    errors: pd.DataFrame, single: pd.DataFrame, min_groups: int, max_conditions: int
) -> tuple[Slices, list[tuple[int, ...]]]:
    """All slices with enough groups, each set of images once (in its simplest words), and the conditions each is made of."""
    names = [f"{column}: {value}" for column, value in single.columns]
    first = _make_slices(errors, single, names)
    usable = np.flatnonzero(first.large_enough(min_groups)).tolist()
    parts: list[tuple[int, ...]] = [(k,) for k in usable]
    if max_conditions == 2:
        columns = single.columns.get_level_values(0)
        parts += [pair for pair in combinations(usable, 2) if columns[pair[0]] != columns[pair[1]]]
    member = np.stack([first.member[:, list(part)].all(axis=1) for part in parts], axis=1) if parts else first.member[:, :0]
    slices = replace(first, names=[" and ".join(names[k] for k in part) for part in parts], member=member)
    fresh: dict[bytes, int] = {}
    for k in np.flatnonzero(slices.large_enough(min_groups)):
        fresh.setdefault(member[:, k].tobytes(), int(k))
    kept = list(fresh.values())
    return slices.keep(np.array(kept, dtype=int)), [parts[k] for k in kept]
