"""Simulations of tests on cross-validation: how often they say what is not so, and how often they miss what is.

`fold_test_experiment` asks two readings of the published study's test about a model whose folds really differ; `type_one_error`
asks the t-tests of `mpox.stats.comparison` about two learners that do not.
"""

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mpox._core import MpoxError
from mpox.stats.comparison import ALPHA, corrected_t_test

SPREADS = (0.0, 0.01, 0.02, 0.05, 0.10)
FOLD_TESTS = ("chi-square", "ANOVA")


def _share(hits: int, n: int) -> tuple[float, float, float]:
    """A simulated share with its 95 % Wilson interval."""
    low, high = proportion_confint(hits, n, method="wilson")
    return hits / n, float(low), float(high)


def fold_test_experiment(
    n_images: int,
    accuracy: float,
    n_folds: int,
    *,
    spreads=SPREADS,
    group_sizes=None,
    icc: float = 0.0,
    n_simulations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """How often 'no significant difference between the folds, p > 0.05' is said of a model whose folds really differ.

    The published study reads such a result as robustness. Its abstract does not name the test; two readings of ours are tried on
    the same simulated folds: the chi-square test of homogeneity of right and wrong images over the folds, and the one-way
    analysis of variance of the images' correctness (1 or 0) by fold. For right and wrong they nearly coincide.

    The true accuracies of the folds are evenly spaced around ``accuracy``; each image is right with that of its fold.

    Parameters
    ----------
    n_images : int
        Test images of all folds together, dealt as evenly as they go.
    accuracy : float
        Mean of the folds' true accuracies.
    n_folds : int
    spreads : sequence of float
        The true spread: accuracy of the best fold minus that of the worst (0.05 for five points).
    group_sizes : array-like of int, optional
        Images of each group, ``n_images`` together; groups are dealt whole, the largest first, each to the fold with the fewest
        images. Without it every image is a group.
    icc : float
        Correlation of being right between two images of a group, 0 to below 1 (beta-binomial; Skellam 1948).
    n_simulations : int
        For each spread.
    seed : int

    Returns
    -------
    DataFrame
        One row a spread and test: ``spread``, ``test``, ``share_not_significant`` (of the simulations with p > 0.05), and
        ``low``, ``high``: its 95 % Wilson interval, which says how exact the simulation is.

    Raises
    ------
    MpoxError
        If a fold's accuracy leaves 0 to 1, there are fewer images than folds, the group sizes do not add up, or ``icc`` is out
        of range.

    Examples
    --------
    >>> table = fold_test_experiment(228, 0.85, 5, spreads=[0.05], n_simulations=2000)
    >>> table["test"].tolist(), bool((table["share_not_significant"] > 0.9).all())
    (['chi-square', 'ANOVA'], True)
    """
    sizes = np.ones(n_images, dtype=np.int64) if group_sizes is None else np.sort(np.asarray(group_sizes))[::-1]
    if sizes.sum() != n_images or (sizes < 1).any() or not 2 <= n_folds <= len(sizes):
        raise MpoxError(
            f"Groups that add up to {n_images} images, at least one for each of two or more folds, are needed: "
            f"not {len(sizes)} groups with {sizes.sum()} images for {n_folds} folds."
        )
    if not 0 <= icc < 1:
        raise MpoxError(f"The correlation within a group is from 0 to below 1, not {icc}.")
    folds = _deal(sizes, n_folds)
    rng = np.random.default_rng(seed)
    rows = []
    for spread in spreads:
        rates = accuracy + spread * np.linspace(-0.5, 0.5, n_folds)
        if rates.min() < 0 or rates.max() > 1:
            raise MpoxError(f"Around an accuracy of {accuracy} the folds cannot be {spread} apart: an accuracy is from 0 to 1.")
        right = _right(rates, sizes, folds, icc, n_simulations, rng)
        for test, p in zip(FOLD_TESTS, fold_p_values(right, np.bincount(folds, sizes)), strict=True):
            rows.append((spread, test, *_share(int((p > ALPHA).sum()), n_simulations)))
    return pd.DataFrame(rows, columns=["spread", "test", "share_not_significant", "low", "high"])


def _deal(sizes: np.ndarray, n_folds: int) -> np.ndarray:
    """The fold of each group: in the given order, always to the fold with the fewest images."""
    filled, folds = np.zeros(n_folds, dtype=np.int64), np.empty(len(sizes), dtype=np.int64)
    for number, size in enumerate(sizes):
        folds[number] = filled.argmin()
        filled[folds[number]] += size
    return folds


def _right(rates, sizes, folds, icc: float, n_simulations: int, rng: np.random.Generator) -> np.ndarray:
    """Right images of each fold, shape (n_simulations, folds)."""
    if icc == 0:
        return rng.binomial(np.bincount(folds, sizes).astype(np.int64), rates, size=(n_simulations, len(rates)))
    strength = (1 - icc) / icc
    mean = rates[folds].clip(1e-12, 1 - 1e-12)
    of_group = rng.beta(mean * strength, (1 - mean) * strength, size=(n_simulations, len(sizes)))
    return rng.binomial(sizes, of_group) @ np.eye(len(rates), dtype=np.int64)[folds]


def fold_p_values(right: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P values of two tests of equal accuracy in all folds, for many simulations at once.

    Parameters
    ----------
    right : ndarray of int, shape (s, k)
        Right images in each fold.
    sizes : ndarray, shape (k,)
        Images in each fold.

    Returns
    -------
    chi_square, anova : ndarray of float64, shape (s,)
        Pearson's chi-square test on the 2 x k table, and the F test of the one-way analysis of variance; 1 where all images are
        right, or all wrong.
    """
    n, k = sizes.sum(), len(sizes)
    overall = right.sum(axis=1, keepdims=True) / n
    between = (sizes * (right / sizes - overall) ** 2).sum(axis=1)
    variance = (overall * (1 - overall))[:, 0]
    varies = variance > 0
    chi_square = np.divide(between, variance, out=np.zeros_like(between), where=varies)
    within = (right * (1 - right / sizes)).sum(axis=1)
    with np.errstate(divide="ignore"):  # no variance within the folds: F is infinite
        f = np.divide(between / (k - 1), within / (n - k), out=np.zeros_like(between), where=varies)
    return stats.chi2.sf(chi_square, k - 1), stats.f.sf(f, k - 1, n - k)


def type_one_error(
    n_images: int = 200,
    *,
    n_folds: int = 5,
    n_repeats: int = 5,
    n_features: int = 10,
    separation: float = 2.0,
    n_simulations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How often two tests on fold differences find a difference between two learners that have none.

    Each simulation draws a new data set of two equally large classes. Both learners assign an image to the class with the
    nearest mean; the first sees one half of the features, the second the other half, and both halves have the same distribution:
    their expected accuracies are equal. Both go through the same stratified, repeated k-fold cross-validation, which is really
    done: the class means are those of each fold's training images.

    Parameters
    ----------
    n_images : int
        At least two of each class in each fold's test part.
    n_folds, n_repeats : int
    n_features : int
        For each learner.
    separation : float
        Distance of the two classes' true means, in standard deviations of the features.
    n_simulations : int
    seed : int

    Returns
    -------
    DataFrame
        A row for the ``test`` 'corrected t' and one for 'plain t': ``n_folds``, ``n_repeats``, ``share_significant`` (of the
        simulations with p < 0.05, which should be 0.05), and ``low``, ``high``: its 95 % Wilson interval.

    Raises
    ------
    MpoxError
        If there are too few images for the folds.
    """
    if n_images < 4 * n_folds or n_folds < 2:
        raise MpoxError(f"{n_folds} folds need at least {4 * n_folds} images, two of each class in each fold, not {n_images}.")
    rng = np.random.default_rng(seed)
    hits = {"corrected t": 0, "plain t": 0}
    for _ in range(n_simulations):
        differences = _null_differences(rng, n_images, n_folds, n_repeats, n_features, separation)
        for test, corrected in (("corrected t", True), ("plain t", False)):
            hits[test] += corrected_t_test(differences, n_folds, corrected=corrected).p < ALPHA
    rows = [(test, n_folds, n_repeats, *_share(found, n_simulations)) for test, found in hits.items()]
    return pd.DataFrame(rows, columns=["test", "n_folds", "n_repeats", "share_significant", "low", "high"])


def _null_differences(rng, n_images: int, n_folds: int, n_repeats: int, n_features: int, separation: float) -> np.ndarray:
    """Accuracy of one learner minus that of its twin in each fold, shape (n_repeats * n_folds,)."""
    y = np.arange(n_images) % 2
    x = rng.normal(size=(2, n_images, n_features))
    x[:, y == 1, 0] += separation
    differences = []
    for _ in range(n_repeats):
        fold = np.empty(n_images, dtype=np.int64)
        for label in (0, 1):
            fold[y == label] = rng.permutation(np.arange((y == label).sum()) % n_folds)
        training = fold != np.arange(n_folds)[:, None]  # (k, n)
        means = [(training & (y == label)) @ x / (training & (y == label)).sum(axis=1)[:, None] for label in (0, 1)]
        direction, middle = means[1] - means[0], (means[1] + means[0]) / 2  # (2, k, d)
        score = np.take_along_axis(x @ direction.transpose(0, 2, 1), fold[None, :, None], axis=2)[..., 0]
        chosen = score > (direction * middle).sum(axis=2)[:, fold]
        gain = (chosen[0] == y).astype(float) - (chosen[1] == y)
        differences.append(np.bincount(fold, gain) / np.bincount(fold))
    return np.concatenate(differences)
