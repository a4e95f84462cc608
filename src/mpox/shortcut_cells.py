"""Where in the picture a shortcut lies: cells of a grid that tell the class although no lesion need be there.

Two ways to look. *Blanked*: one cell of each test picture in the picture's mean colour; a cell that the model leans on costs
AUROC. *Alone*: a classifier that sees nothing but the mean and deviation of L*, a*, b* in one cell. Lesions lie anywhere, so that
every cell may cost or tell a little; a local shortcut is a cell that does so **more than the other cells**. Each cell is held
against the median of the others, and one bound holds for all cells at once: from the bootstrap of groups, by the largest
studentised deviation (the maximum statistic; Romano and Wolf 2005).
"""

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mpox.alterations import GRID
from mpox.altered import UNTOUCHED
from mpox.altered_runs import recipe_replicates
from mpox.images import load_pixels
from mpox.intervals import percentile_interval
from mpox.lesionmap import to_lab
from mpox.metrics import N_BOOTSTRAP, group_weights, weighted_auroc
from mpox.shortcut_predictors import fold_of, rate_scores
from mpox.store import Dataset

#: Raised by one whenever the numbers of an unchanged data set change.
VERSION = 1
#: Of the bound that holds for all cells at once: stricter than usual, because a flag is an alarm that somebody must look into.
LEVEL = 0.99
#: A cell that stands out by less than this is no finding, however sure.
LEAST = 0.05


def cell_colours(data: Dataset, size: int) -> np.ndarray:
    """Mean and standard deviation of L*, a*, b* in each cell, float64 of shape (n, cells, 6), row by row of the grid.

    Parameters
    ----------
    data : Dataset
    size : int
        Side in pixels to which the pictures are squashed first.
    """
    pixels = load_pixels(data.manifest, size)
    edges = np.round(np.linspace(0, size, GRID + 1)).astype(int)
    rows = []
    for row in tqdm(range(len(data.manifest)), desc="colours of cells", delay=3, leave=False):
        lab = to_lab(np.asarray(pixels[row])).astype(float)
        cells = [
            lab[edges[i] : edges[i + 1], edges[j] : edges[j + 1]].reshape(-1, 3) for i in range(GRID) for j in range(GRID)
        ]  # fmt: skip
        rows.append([np.concatenate([cell.mean(axis=0), cell.std(axis=0)]) for cell in cells])
    return np.array(rows)


def cells_alone(data: Dataset, split: pd.DataFrame, size: int, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """What each cell tells by its colours alone, out-of-fold.

    Parameters
    ----------
    data : Dataset
    split : DataFrame
        From `mpox.splits.make_splits`; its first repeat is used.
    size : int
        See `cell_colours`.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        See `against_others`; ``estimate`` is the cell's AUROC.
    """
    colours = cell_colours(data, size)
    positive = (data.manifest["label"] == data.positive).to_numpy()
    fold = fold_of(split, data.manifest["image_id"])
    weights = group_weights(data.manifest["image_id"].map(data.groups).to_numpy(dtype=str), n_bootstrap, seed)
    areas = [
        weighted_auroc(positive, rate_scores(colours[:, cell], positive[:, None], fold)[:, 0], weights)
        for cell in range(colours.shape[1])
    ]
    return against_others(np.array(areas))


def cells_blanked(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """What each cell costs when it is blanked in the test pictures.

    Parameters
    ----------
    predictions : DataFrame
        From `mpox.altered_runs.only_tested` with `mpox.altered.cell_recipes`.
    positive, n_bootstrap, seed
        See `mpox.evaluate`.

    Returns
    -------
    DataFrame
        See `against_others`; ``estimate`` is the AUROC of the untouched pictures minus that with the cell blanked.
    """
    found = recipe_replicates(predictions, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    names = [f"cell-{row}-{column}" for row in range(GRID) for column in range(GRID)]
    return against_others(np.array([found[UNTOUCHED]["auroc"] - found[name]["auroc"] for name in names]))


def against_others(values: np.ndarray) -> pd.DataFrame:
    """Each cell by itself, and against the median of the other cells.

    Parameters
    ----------
    values : ndarray, shape (cells, n_bootstrap + 1)
        A measure of each cell, row by row of the grid: the estimate, then the replicates.

    Returns
    -------
    DataFrame
        One row a cell: ``row``, ``column`` (from the upper left, from 0), ``estimate``, ``low``, ``high`` (95 %, of this cell
        alone), ``more`` (estimate minus the median of the other cells), ``at_least`` (99 % lower bound of it, for all cells
        together) and ``flagged`` (the bound is above 0, and ``more`` is not below `LEAST`).
    """
    others = np.stack([np.median(np.delete(values, cell, axis=0), axis=0) for cell in range(len(values))])
    more = values - others
    spread = np.maximum(np.nanstd(more[:, 1:], axis=1), 1e-9)
    largest = ((more[:, 1:] - more[:, :1]) / spread[:, None]).max(axis=0)
    at_least = more[:, 0] - np.nanquantile(largest, LEVEL) * spread
    row, column = np.divmod(np.arange(len(values)), GRID)
    table = pd.DataFrame({"row": row, "column": column, "estimate": values[:, 0]})
    table[["low", "high"]] = [percentile_interval(line) for line in values]
    return table.assign(more=more[:, 0], at_least=at_least, flagged=(at_least > 0) & (more[:, 0] >= LEAST))


def cell_name(row: int, column: int) -> str:
    """A cell in words, for instance ``row 1, column 4 (upper right)``."""
    corner = {
        (0, 0): "upper left",
        (0, GRID - 1): "upper right",
        (GRID - 1, 0): "lower left",
        (GRID - 1, GRID - 1): "lower right",
    }
    words = f"row {row + 1}, column {column + 1}"
    return f"{words} ({corner[row, column]})" if (row, column) in corner else words
