"""Explained pictures: which ones, by which networks, and their heat maps, made when they are first asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from mpox import explain
from mpox.backbones import Classifier
from mpox.config import ModelConfig
from mpox.errors import MpoxError
from mpox.experiment import fold_configs
from mpox.fitted import fitted_network
from mpox.images import load_pixels
from mpox.phantom import corner_box, read_truths
from mpox.recorded import RecordedStore
from mpox.store import Dataset, RunStore


@dataclass(frozen=True)
class Case:
    """Pictures of one test fold, with the network that was tested on them.

    Parameters
    ----------
    network : Classifier
    backbone : str
    pixels : ndarray of uint8, shape (n, size, size, 3)
    target : ndarray of int, shape (n,)
        The predicted class of each picture.
    images : DataFrame
        ``image_id``, ``group_id``; n rows.
    """

    network: Classifier
    backbone: str
    pixels: np.ndarray
    target: np.ndarray
    images: pd.DataFrame


def choose_images(errors: pd.DataFrame, n: int, *, seed: int = 0, among: set[str] | None = None) -> pd.DataFrame:
    """Rows of an error table to be explained: correctly recognised pictures, the classes in turn, one a group.

    Parameters
    ----------
    errors : DataFrame
        From `mpox.errortable.error_table`.
    n : int
        At most so many.
    seed : int
        Of the order within a class.
    among : set of str, optional
        Image ids to choose from; all by default.
    """
    right = errors[~errors["wrong"]]
    if among is not None:
        right = right[right["image_id"].isin(among)]
    right = right.sort_values("image_id").sample(frac=1, random_state=seed).drop_duplicates("group_id")
    turn = right.groupby("label").cumcount()
    return (
        right.assign(turn=turn).sort_values(["turn", "label"], kind="stable").head(n).drop(columns="turn").reset_index(drop=True)
    )


def make_cases(
    store: RunStore | RecordedStore,
    data: Dataset,
    protocol: str,
    model: ModelConfig,
    chosen: pd.DataFrame,
    *,
    n_folds: int,
    n_repeats: int = 1,
    seed: int = 0,
) -> list[Case]:
    """The chosen pictures, each with the network of the first repeat that was tested on it.

    Parameters
    ----------
    store, data, protocol, model, n_folds, n_repeats, seed
        As for `mpox.cross_validate`.
    chosen : DataFrame
        Rows of `mpox.errortable.error_table`.

    Raises
    ------
    MpoxError
        If a network is not to be had: the pictures, or a trained network's checkpoint, are not on this machine.
    """
    split, configs = fold_configs(data, protocol, model, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    pixels = load_pixels(data.manifest, model.image_size)
    cases = []
    for config in configs:
        rows = chosen[chosen["fold"] == config.fold] if config.repeat == 0 else chosen.head(0)
        if rows.empty:
            continue
        part = split[(split["repeat"] == 0) & (split["fold"] == config.fold)]
        network = fitted_network(store, data, config, part)
        if network is None:
            raise MpoxError(f"The network of the run {config.id} was not kept: run the chapter where the study is trained.")
        where = data.manifest["image_id"].searchsorted(rows["image_id"])
        target = np.array([data.classes.index(label) for label in rows["predicted"]])
        images = rows[["image_id", "group_id"]].reset_index(drop=True)
        cases.append(Case(network, model.backbone, np.array(pixels[where]), target, images))
    return cases


def heat_maps(cases: list[Case], method: str) -> dict[str, np.ndarray]:
    """Heat map of every picture by its id, float32 of shape (size, size) from 0 to 1; see `mpox.explain.METHODS`."""
    function = explain.get_method(method)
    found: dict[str, np.ndarray] = {}
    with tqdm(total=sum(len(case.images) for case in cases), desc=method.replace("_", " "), delay=3, leave=False) as bar:
        for case in cases:
            for start in range(0, len(case.images), explain.BATCH):
                rows = slice(start, start + explain.BATCH)
                maps = function(case.network, case.backbone, case.pixels[rows], case.target[rows])
                found |= dict(zip(case.images["image_id"][rows], maps, strict=True))
                bar.update(len(maps))
    return found


class Explanations:
    """Chosen pictures of a cross-validation; networks and heat maps are made when they are first asked for.

    Parameters
    ----------
    store, data, protocol, model, n_folds, n_repeats, seed
        As for `mpox.cross_validate`; runs of the first repeat are explained.
    chosen : DataFrame
        Rows of `mpox.errortable.error_table`, for instance from `choose_images`.
    methods : list of str
        Of `mpox.explain.METHODS`.
    """

    def __init__(
        self,
        store: RunStore | RecordedStore,
        data: Dataset,
        protocol: str,
        model: ModelConfig,
        chosen: pd.DataFrame,
        methods: list[str],
        *,
        n_folds: int,
        n_repeats: int = 1,
        seed: int = 0,
    ):
        self.store, self.data, self.chosen, self.methods, self.seed = store, data, chosen, list(methods), seed
        self._asked = (store, data, protocol, model, chosen)
        self._folds: dict[str, Any] = {"n_folds": n_folds, "n_repeats": n_repeats, "seed": seed}

    @cached_property
    def cases(self) -> list[Case]:
        """See `make_cases`."""
        return make_cases(*self._asked, **self._folds)

    @cached_property
    def maps(self) -> dict[str, dict[str, np.ndarray]]:
        """Method to heat maps by image id."""
        return {method: heat_maps(self.cases, method) for method in self.methods}

    def table(self, name: str, version: int, compute: Callable[["Explanations"], pd.DataFrame]) -> pd.DataFrame:
        """A check of the heat maps as a derived table of the store: computed once, and read where the pictures are not.

        Parameters
        ----------
        name : str
            What the table is, for people.
        version : int
            Raised whenever ``compute`` gives something else.
        compute : callable
            Gives the table; only then are networks and maps made.
        """
        _, data, protocol, model, chosen = self._asked
        _, configs = fold_configs(data, protocol, model, **self._folds)
        spec = {
            "runs": [config.id for config in configs if config.repeat == 0],
            "images": chosen["image_id"].tolist(),
            "methods": self.methods,
            "versions": [explain.VERSION, version],
            "seed": self.seed,
        }
        return self.store.table(name, spec, lambda: compute(self))


def lesion_regions(images_folder: str | Path, image_ids: list[str], size: int) -> dict[str, np.ndarray]:
    """Planted lesions of the phantom's pictures by image id, bool of shape (size, size).

    Parameters
    ----------
    images_folder : path
        The folder ``images`` of a phantom.
    image_ids : list of str
    size : int
        Side in pixels to which the pictures were squashed.
    """
    folder = Path(images_folder).parent / "truth" / "masks"
    return {
        name: np.asarray(Image.open(folder / name).resize((size, size), Image.Resampling.BILINEAR)) > 127 for name in image_ids
    }


def mark_regions(images_folder: str | Path, image_ids: list[str], size: int) -> dict[str, np.ndarray]:
    """The corner that bears the planted mark, of those of the phantom's pictures that have one; see `lesion_regions`."""
    truths = read_truths(images_folder).set_index("image_id")
    regions = {}
    for name in image_ids:
        if truths.loc[name, "corner_mark"]:
            with Image.open(Path(images_folder) / name) as picture:
                width, height = picture.size
            left, _, _, bottom = corner_box(width, height)
            region = np.zeros((size, size), dtype=bool)
            region[: round(bottom * size / height), round(left * size / width) :] = True
            regions[name] = region
    return regions
